"""What a query that somebody typed may reach on a shared warehouse: its tables, and nothing else.

On a DuckDB file, switching off access to other files is enough. Here the folder of the data must stay open, and the same
DuckDB is connected to the catalog's database, can delete files of the lake, and can connect to other databases. So a query is
parsed by DuckDB, and only what is known to be harmless passes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import duckdb

from iss_assets.warehouse.engine import DATABASE
from iss_assets.warehouse.errors import WarehouseError

_TABLE_FUNCTIONS: Final = frozenset(
    {"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"}
)
"""Functions in a FROM that make rows of what they are given. Others read files, delete them, or list other databases."""
_REFUSED: Final = re.compile(r"query|getenv|current_setting|(postgres|ducklake|pg)_\w*")
"""Other functions, which a SELECT list can call, too."""
_PLAIN_NAME: Final = re.compile(r"\w+")
"""Of a table. DuckDB takes a name with a period or a slash for a file."""
_OF_DUCKDB: Final = re.compile(r"(duckdb|pragma|sqlite)_\w*|__ducklake\w*")
"""DuckDB's own lists, of all databases."""


def require_harmless(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Check that a query is one SELECT of the warehouse's tables.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        With the lake attached; it parses, and knows the schemas of the lake.
    query : str
        What somebody typed.

    Raises
    ------
    WarehouseError
        If it is anything else; the message names what cannot be used.
    """
    row = connection.execute("select json_serialize_sql(?)", [query]).fetchone()
    parsed = json.loads(row[0]) if row else {}
    if parsed.get("error"):
        raise WarehouseError(f"one SELECT is wanted: {parsed.get('error_message')}")
    found = connection.execute(
        "select schema_name from duckdb_schemas() where database_name = ?", [DATABASE]
    ).fetchall()
    schemas = {"", DATABASE, *(name.lower() for (name,) in found)}
    for node in _nodes(parsed):
        kind = node.get("type")
        if kind == "BASE_TABLE":
            catalog, schema, name = (
                str(node.get(part) or "").lower() for part in ("catalog_name", "schema_name", "table_name")
            )
            if (
                catalog not in ("", DATABASE)
                or schema not in schemas
                or not _PLAIN_NAME.fullmatch(name)
                or _OF_DUCKDB.fullmatch(name)
            ):
                written = ".".join(part for part in (catalog, schema, name) if part)
                raise WarehouseError(f"{written} is no table of the warehouse and cannot be used here")
        elif kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name") or "").lower()
            if name not in _TABLE_FUNCTIONS:
                raise WarehouseError(f"the function {name} cannot be used here")
        if "function_name" in node and _REFUSED.fullmatch(str(node["function_name"]).lower()):
            raise WarehouseError(f"the function {node['function_name']} cannot be used here")


def _nodes(parsed: object) -> Iterator[dict[str, Any]]:
    """Yield every node of a statement that DuckDB has parsed."""
    if isinstance(parsed, dict):
        yield parsed
        for value in parsed.values():
            yield from _nodes(value)
    elif isinstance(parsed, list):
        for value in parsed:
            yield from _nodes(value)
