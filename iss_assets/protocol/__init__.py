"""The study's vocabulary as data: cohorts, pain levels, items, timeframes, flags and their advice, published figures."""
