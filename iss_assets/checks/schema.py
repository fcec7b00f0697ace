"""Schema checks, from the pandera models: columns, types, ranges, keys and references of the stored rows.

Packed columns (pictures, points, spectrograms) are checked by type and nulls only, and never leave the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as arrow

from iss_assets.checks.findings import Finding, masked
from iss_assets.schemas.base import Table, find_faults


@dataclass(frozen=True)
class Stored:
    """The stored rows of a table, as far as they are checked.

    Attributes
    ----------
    types : dict
        Column to its SQL type.
    rows : pyarrow.Table
        Every column that is not packed.
    empty : dict
        Packed column to its number of nulls.
    orphans : dict
        (column, referenced table) to the values that do not exist there, with their number of rows.
    """

    types: dict[str, str]
    rows: arrow.Table
    empty: dict[str, int]
    orphans: dict[tuple[str, str], dict[str, int]]


def _count(connection: duckdb.DuckDBPyConnection, sql: str, values: list[object]) -> int:
    found = connection.execute(sql, values).fetchone()
    return int(found[0]) if found else 0


def read_stored(
    connection: duckdb.DuckDBPyConnection, table: type[Table], where: Mapping[str, object]
) -> Stored:
    """Read the rows of a table whose columns equal the values in `where`."""
    name = table.__table__
    described = connection.execute(f"select * from {name} limit 0").description or []
    types = {column: str(kind) for column, kind, *_ in described}
    packed = [c.name for c in table.columns() if c.packed and c.name in types]
    plain = ", ".join(f'"{c}"' for c in types if c not in packed)
    condition = " and ".join(f"t.{c} = ?" for c in where) or "true"
    values = list(where.values())
    rows = connection.execute(f"select {plain} from {name} t where {condition}", values).to_arrow_table()
    # one query per column: DuckDB answers it from its statistics and reads no picture
    empty = {
        c: _count(connection, f'select count(*) from {name} t where {condition} and "{c}" is null', values)
        for c in packed
    }
    orphans = {
        (column, other): dict(
            connection.execute(
                f"select t.{column}, count(*) from {name} t where {condition} and t.{column} is not null "
                f"and not exists (select 1 from {other} o where o.{column} = t.{column}) group by 1 order by 1",
                values,
            ).fetchall()
        )
        for column, other in table.__references__
        if column in types
    }
    return Stored(types, rows, empty, orphans)


def find_stored_faults(table: type[Table], stored: Stored) -> Finding:
    """List every fault of the stored rows, with row counts and a few keys."""
    columns = {c.name: c for c in table.columns()}
    packed = stored.empty.keys()
    faults = [
        f
        for f in find_faults(table, stored.rows)
        if not (f["check"] == "column is missing" and f["column"] in packed)
    ]
    reported = {f["column"] for f in faults if f["check"].startswith("type is")}
    for name, kind in stored.types.items():
        if name in columns and kind != columns[name].sql and name not in reported:
            faults.append(_fault(name, f"type is {kind}, not {columns[name].sql}", stored.rows.num_rows))
    for name, nulls in stored.empty.items():
        if nulls and not columns[name].nullable:
            faults.append(_fault(name, "is empty", nulls))
    for (name, other), missing in stored.orphans.items():
        if missing:
            faults.append(
                _fault(name, f"is not in {other}", sum(missing.values()), [str(v) for v in list(missing)[:5]])
            )
    for fault in faults:
        fault["examples"] = ["|".join(masked(part) for part in key.split("|")) for key in fault["examples"]]
    numbers = {"rows": stored.rows.num_rows, "faults": len(faults), "list of faults": faults}
    ids = {v for f in faults if f["column"] != "patient_id" for v in _ids(table, f["examples"])}
    return Finding(not faults, tuple(sorted(ids)), numbers, "no fault")


def _fault(column: str, check: str, rows: int, examples: list[str] | None = None) -> dict[str, Any]:
    return {"column": column, "check": check, "rows": rows, "examples": examples or []}


def _ids(table: type[Table], keys: list[str]) -> list[str]:
    """Return the video or submission ids among example keys."""
    if table.__key__[0] not in ("video_id", "submission_id"):
        return []
    return [key.split("|")[0] for key in keys if not key.startswith("(")]
