"""The base of every table model: a pandera model that also knows its SQL types, key and grain.

The base class of every table model and what is derived from one (DDL, column names, validation of an Arrow table). The
tables themselves are defined in one module per stage and listed in ``registry``.

Columns come in two kinds. *Plain* columns (numbers, text, times) are checked by pandera. *Packed* columns (pictures,
points, spectrograms, waveforms) would cost one Python object per value in pandas, so they stay in Arrow, and only
their type and nulls are checked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd
import pyarrow as arrow

from iss_assets.imports import environment_kept
from iss_assets.protocol import terms

with environment_kept():
    # pandera makes pyarrow drop the offsets of datetimes, for the whole process
    import pandera.pandas as pa

_ARROW_OF_SQL = {
    "VARCHAR": arrow.string(),
    "BOOLEAN": arrow.bool_(),
    "INTEGER": arrow.int32(),
    "BIGINT": arrow.int64(),
    "FLOAT": arrow.float32(),
    "DOUBLE": arrow.float64(),
    "DATE": arrow.date32(),
    "TIMESTAMP": arrow.timestamp("us"),
    "TIMESTAMP WITH TIME ZONE": arrow.timestamp("us", tz="UTC"),
    "BLOB": arrow.binary(),
    "VARCHAR[]": arrow.list_(arrow.string()),
    "FLOAT[]": arrow.list_(arrow.float32()),
    "FLOAT[][]": arrow.list_(arrow.list_(arrow.float32())),
    "FLOAT[384]": arrow.list_(arrow.float32(), 384),
    "FLOAT[1404]": arrow.list_(arrow.float32(), 1404),
}

_PLAIN = {
    "VARCHAR",
    "BOOLEAN",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
}
PATIENT_ID: dict[str, Any] = {"str_matches": terms.PATIENT_ID.pattern}
"""Check of a column that holds patient ids."""
SUBMISSION_ID: dict[str, Any] = {"str_matches": terms.SUBMISSION_ID.pattern}
"""Check of a column that holds submission or video ids."""
SHARE: dict[str, Any] = {"ge": 0, "le": 1}
"""Check of a column that holds a share or a probability."""
VIDEO_CONSTANTS: Final = ("video_id", "patient_id", "fingerprint")
"""Columns that are the same in all rows of a video: what measures one leaves them out, and what stores the rows adds them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class InvalidTable(ValueError):
    """Rows that do not fit their table's model; `failures` lists every fault with counts and example keys."""

    def __init__(self, table: str, failures: list[dict[str, Any]]):
        self.table = table
        self.failures = failures
        lines = "; ".join(
            f"{f['column'] or 'table'}: {f['check']} ({f['rows']} rows, e.g. {f['examples']})"
            for f in failures[:10]
        )
        super().__init__(f"table {table}: {lines}")


@dataclass(frozen=True)
class Column:
    """One column of the public contract."""

    name: str
    sql: str
    description: str
    nullable: bool
    unit: str | None

    @property
    def packed(self) -> bool:
        """Whether the column stays in Arrow and is not checked value by value."""
        return self.sql not in _PLAIN

    @property
    def arrow_type(self) -> arrow.DataType:
        """The Arrow type of the column's values."""
        return _ARROW_OF_SQL[self.sql]


_FIXED_SIZE = re.compile(r"\[\d+\]")


def shared_type(sql: str) -> str:
    """Return the type that a column has in the shared warehouse, which has no arrays of a fixed size."""
    return _FIXED_SIZE.sub("[]", sql)


def column(sql: str, description: str, *, unit: str | None = None, **checks: Any) -> Any:
    """Declare a column: SQL type, meaning and pandera's own field checks (``ge``, ``isin``, ``nullable``, ...)."""
    return pa.Field(coerce=True, description=description, metadata={"sql": sql, "unit": unit}, **checks)


class Table(pa.DataFrameModel):
    """Base of every table model.

    The first line of the class docstring says what one row is.

    Attributes
    ----------
    __table__ : str
        The table's name.
    __key__ : tuple of str
        The columns that identify a row.
    __partition__ : tuple of str
        The columns by which a writer replaces rows, often ``patient_id``; empty for a table that is replaced as a whole.
    __references__ : tuple of (str, str)
        Columns whose values must exist in another table, with that table's name.
    """

    __table__: ClassVar[str]
    __key__: ClassVar[tuple[str, ...]]
    __partition__: ClassVar[tuple[str, ...]] = ()
    __references__: ClassVar[tuple[tuple[str, str], ...]] = ()

    class Config:
        """Treat extra columns as faults."""

        strict = True

    @classmethod
    @cache
    def columns(cls) -> tuple[Column, ...]:
        """Return the columns in order."""
        schema = cls.to_schema()
        return tuple(
            Column(
                name,
                c.metadata["sql"],
                c.description or "",
                bool(c.nullable),
                c.metadata["unit"],
            )
            for name, c in schema.columns.items()
        )

    @classmethod
    @cache
    def arrow_schema(cls) -> arrow.Schema:
        """Return the Arrow schema in which rows are written."""
        return arrow.schema([(c.name, c.arrow_type) for c in cls.columns()])

    @classmethod
    @cache
    def measured_schema(cls) -> arrow.Schema:
        """Return the Arrow schema of rows that are measured in one video: without `VIDEO_CONSTANTS`."""
        return arrow.schema([field for field in cls.arrow_schema() if field.name not in VIDEO_CONSTANTS])

    @classmethod
    def ddl(cls, name: str | None = None, *, shared: bool = False) -> str:
        """Return the ``create table`` statement, without comments on columns, for a file or for the `shared` warehouse.

        Pictures and sound are compressed already (JPEG, FLAC): DuckDB's own compression takes twice as long as writing
        them, and saves at most 5 %. In the shared warehouse Parquet decides.
        """

        def stored(column: Column) -> str:
            if shared:
                return shared_type(column.sql)
            return f"{column.sql} using compression uncompressed" if column.sql == "BLOB" else column.sql

        body = ",\n  ".join(f"{c.name} {stored(c)}{'' if c.nullable else ' not null'}" for c in cls.columns())
        return f"create table if not exists {name or cls.__table__} (\n  {body}\n)"

    @classmethod
    def grain(cls) -> str:
        """Return what one row is: the docstring's first line, or the table's name where Python drops docstrings."""
        return (cls.__doc__ or cls.__table__).strip().splitlines()[0]

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, Any]]) -> arrow.Table:
        """Build an Arrow table in this schema from dictionaries; missing keys become nulls.

        Raises
        ------
        InvalidTable
            If a moment has no UTC offset, or a clock time or a day has one: Arrow would assume UTC, or drop the offset
            where an environment variable says so.
        """
        columns = [_array(cls, c, [row.get(c.name) for row in rows]) for c in cls.columns()]
        return arrow.Table.from_arrays(columns, schema=cls.arrow_schema())

    @classmethod
    def check_rows(cls, rows: arrow.Table) -> arrow.Table:
        """Validate rows against this model and return them in the model's column order.

        Raises
        ------
        InvalidTable
            With every fault: missing and extra columns, types, ranges, nulls, repeated keys. Values are never
            quoted, only keys and counts.
        """
        faults = find_faults(cls, rows)
        if faults:
            raise InvalidTable(cls.__table__, faults)
        return rows.select(cls.arrow_schema().names).cast(cls.arrow_schema())


def _array(table: type[Table], column: Column, values: list[Any]) -> arrow.Array:
    """Convert one column's Python values to Arrow; moments as numbers, so that their offset cannot get lost."""
    if column.sql not in ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        return arrow.array(values, column.arrow_type)
    values = [None if value is None or value is pd.NaT else value for value in values]
    fits = {"DATE": _is_day, "TIMESTAMP": _is_clock_time, "TIMESTAMP WITH TIME ZONE": _is_moment}[column.sql]
    wrong = sum(value is not None and not fits(value) for value in values)
    if wrong:
        check = f"is no {column.sql}: {_WANTED[column.sql]}"
        raise InvalidTable(
            table.__table__, [{"column": column.name, "check": check, "rows": wrong, "examples": []}]
        )
    if column.sql != "TIMESTAMP WITH TIME ZONE":
        return arrow.array(values, column.arrow_type)
    numbers = [None if value is None else (value - _EPOCH) // timedelta(microseconds=1) for value in values]
    return arrow.array(numbers, arrow.int64()).cast(column.arrow_type)


_WANTED = {
    "DATE": "a day without a time is wanted",
    "TIMESTAMP": "a time without an offset from UTC is wanted",
    "TIMESTAMP WITH TIME ZONE": "a time with an offset from UTC is wanted",
}


def _is_day(value: object) -> bool:
    return isinstance(value, date) and not isinstance(value, datetime)


def _is_clock_time(value: object) -> bool:
    return isinstance(value, datetime) and value.utcoffset() is None


def _is_moment(value: object) -> bool:
    return isinstance(value, datetime) and value.utcoffset() is not None


def find_faults(table: type[Table], rows: arrow.Table) -> list[dict[str, Any]]:
    """List every fault of `rows` against a model: column, check, number of rows, up to five example keys."""
    columns = {c.name: c for c in table.columns()}
    faults: list[dict[str, Any]] = []

    def fault(column: str | None, check: str, rows: int, examples: list[str] | None = None) -> None:
        faults.append({"column": column, "check": check, "rows": rows, "examples": examples or []})

    for name in columns.keys() - set(rows.column_names):
        fault(name, "column is missing", rows.num_rows)
    for name in set(rows.column_names) - columns.keys():
        fault(name, "column is not in the model", rows.num_rows)
    present = [n for n in columns if n in rows.column_names]
    misfits: set[str] = set()
    for name in present:
        found, wanted = rows.schema.field(name).type, columns[name].arrow_type
        if found != wanted and (columns[name].packed or not _fits(rows[name], wanted)):
            fault(name, f"type is {found}, not {wanted}", rows.num_rows)
            misfits.add(name)
        if columns[name].packed and not columns[name].nullable and rows[name].null_count:
            fault(name, "is empty", rows[name].null_count)
        if "patient_id" in table.__partition__ and arrow.types.is_floating(found):
            infinite = int(np.isinf(rows[name].to_numpy()).sum())
            if infinite:
                fault(name, "is infinite", infinite)
    plain = [n for n in present if not columns[n].packed and n not in misfits]
    keys = [k for k in table.__key__ if k in plain]
    to_check = [n for n in plain if _may_be_faulty(table, columns[n], rows[n])]
    frame = _to_pandas(rows.select(list(dict.fromkeys([*to_check, *keys]))))

    def examples(index: pd.Index) -> list[str]:
        return ["|".join(str(v) for v in row) for row in frame.loc[index[:5], keys].itertuples(index=False)]

    try:
        _schema_of(table, tuple(to_check)).validate(frame[to_check], lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        for (where, check), group in cases.groupby(["column", "check"], dropna=False, sort=False):
            index = pd.Index([i for i in group["index"].dropna() if i in frame.index])
            fault(None if pd.isna(where) else where, str(check), len(group), examples(index))
    if len(keys) == len(table.__key__) and keys:
        repeated = frame[keys].duplicated(keep="first")
        if repeated.any():
            fault(
                None, f"key {', '.join(keys)} repeats", int(repeated.sum()), examples(frame.index[repeated])
            )
    return faults


def _may_be_faulty(table: type[Table], column: Column, values: arrow.ChunkedArray) -> bool:
    """Return whether pandera must check a column: one without rules, whose type Arrow has checked, can only have nulls."""
    if column.name in _with_rules(table):
        return True
    if column.nullable:
        return False
    # pandas treats NaN as missing
    floating = arrow.types.is_floating(values.type)
    return bool(values.null_count or (floating and np.isnan(values.to_numpy()).any()))


@cache
def _with_rules(table: type[Table]) -> frozenset[str]:
    """Return the columns that have rules of their own."""
    return frozenset(n for n, c in table.to_schema().columns.items() if c.checks or c.unique)


@cache
def _schema_of(table: type[Table], columns: tuple[str, ...]) -> pa.DataFrameSchema:
    """Return a table's schema for some of its columns, without type conversion: Arrow has checked the types.

    Cached, because pandera takes longer to drop columns than to check them.
    """
    schema = table.to_schema()
    some = schema.remove_columns([n for n in schema.columns if n not in columns])
    return some.update_columns({n: {"dtype": None, "coerce": False} for n in columns})


def _fits(values: arrow.ChunkedArray, wanted: arrow.DataType) -> bool:
    if not arrow.types.is_null(values.type) and _kind_of_time(values.type) != _kind_of_time(wanted):
        # Arrow would cast one to the other as if every clock showed UTC
        return False
    try:
        values.cast(wanted)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
        # a value out of range, or no cast between the two types: the caller reports a fault
        return False
    return True


def _kind_of_time(type: arrow.DataType) -> str:
    if arrow.types.is_timestamp(type):
        return "moment" if type.tz else "clock"
    return "day" if arrow.types.is_date(type) else "other"


# floating-point numbers have NaN for missing values, and a NaN in Arrow counts as missing too
_NULLABLE = {
    arrow.int32(): pd.Int32Dtype(),
    arrow.int64(): pd.Int64Dtype(),
    arrow.bool_(): pd.BooleanDtype(),
}


def _to_pandas(rows: arrow.Table) -> pd.DataFrame:
    return rows.to_pandas(types_mapper=_NULLABLE.get, date_as_object=False)
