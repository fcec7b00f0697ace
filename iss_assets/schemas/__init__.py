"""One pandera model per table: columns, SQL types, key, grain, and the data dictionary made from them."""
