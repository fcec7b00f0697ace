"""Tables as parquet or csv files with a data dictionary, for people who do not use DuckDB.

The data dictionary is a frictionless ``datapackage.json``. Face crops, voices and spectrograms (speech can be reconstructed
from them) are exported only on request, and what was said is never exported.
"""

from __future__ import annotations

import codecs
import difflib
import hashlib
import json
import re
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
from pyarrow import parquet

from iss_assets.protocol.recordings import recording_of
from iss_assets.schemas.registry import BY_NAME
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.export_readers import reader_scripts
from iss_assets.warehouse.row_order import in_key_order
from iss_assets.warehouse.sql.build import built_models
from iss_assets.warehouse.sql.models import SqlModels, load_models
from iss_assets.warehouse.wide_rows import is_wide, rows_of_video

MEDIA: Final = {
    "faces": ("crop",),
    "face_identity": ("vector",),
    "audio": ("waveform",),
    "mel_spectrograms": ("mel",),
}
"""Columns that show a face, recognize one, or hold a voice, in the tables of either recording."""

WORDS: Final = {
    "transcripts": ("text",),
    "transcript_words": ("word",),
    "transcript_spans": ("first_word", "last_word", "kind"),
    "text_features": ("embedding",),
}
"""Columns that hold what was said, or tell it: in no export, whatever is asked for. `iss release` puts them into the controlled
tier."""

_FIELD_TYPES: Final = {
    "VARCHAR": "string",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "FLOAT": "number",
    "DOUBLE": "number",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "datetime",
    "TIMESTAMP WITH TIME ZONE": "datetime",
}

TAKEN_FOR_MISSING: Final = (
    "#N/A",
    "#N/A N/A",
    "#NA",
    "-1.#IND",
    "-1.#QNAN",
    "-NaN",
    "-nan",
    "1.#IND",
    "1.#QNAN",
    "<NA>",
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "None",
    "n/a",
    "nan",
    "null",
)
"""Text that pandas reads as a missing value, quoted or not; R does so with ``NA``."""

PAIN_LEVEL_NONE: Final = "None (0)"
"""How the pain level None (pain target 0) is written in csv files."""

_FORMULA: Final = "^[=+@\\-\\t\\r\\n]"
"""First characters that make a spreadsheet read text as a formula (OWASP, CSV injection)."""


@dataclass(frozen=True)
class ExportedTable:
    """One file that was written.

    Attributes
    ----------
    path : Path
        The file.
    rows : int
        Rows in it.
    left_out : tuple of str
        Columns that were left out.
    """

    path: Path
    rows: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class SourceColumn:
    """One column as a data dictionary describes it."""

    name: str
    sql: str
    description: str
    nullable: bool
    unit: str | None


@dataclass(frozen=True)
class TableSource:
    """What is known about a table, from a pandera model or a SQL model."""

    name: str
    description: str
    columns: tuple[SourceColumn, ...]
    key: tuple[str, ...] = ()
    references: tuple[tuple[str, str], ...] = ()


def exportable_tables(warehouse: Warehouse, models: SqlModels | None = None) -> list[str]:
    """Return the tables that can be exported: those of the warehouse and the SQL models that are built."""
    models = models or load_models(warehouse.settings.sql_dir)
    return [*BY_NAME, *built_models(warehouse, models)]


def export_tables(
    warehouse: Warehouse,
    tables: Sequence[str],
    format: Literal["parquet", "csv"],
    to: Path,
    *,
    with_media: bool = False,
    models: SqlModels | None = None,
    leave_out: Collection[str] = (),
) -> list[ExportedTable]:
    """Write tables to files, all from one consistent state, with a data dictionary.

    Parameters
    ----------
    warehouse : Warehouse
        The study's tables. The file is copied first, so that no writer waits for the export.
    tables : sequence of str
        Tables and built SQL models by name; see `exportable_tables`.
    format : {"parquet", "csv"}
        A csv file has single values only: arrays (``points``, ``mel``) and files (``crop``, ``waveform``) are left out,
        and lists of words are joined by ``;``. Text that a reader would take for a missing value or a formula is
        written so that none does: see `docs/exports.md`.
    to : Path
        Folder; files of the same names are replaced.
    with_media : bool
        Whether parquet files include face crops, voices and spectrograms.
    models : SqlModels, optional
        The SQL models; by default those of the settings.
    leave_out : collection of str
        Patients of whom no row is exported. SQL models that summarize all patients include them.

    Returns
    -------
    list of ExportedTable
        One entry per table, in the requested order. ``datapackage.json`` next to the files describes every column;
        ``read_export.py`` and ``read_export.R`` read csv files with their types.

    Raises
    ------
    WarehouseError
        If a table is unknown, or a model is not built or was built by an earlier version; nothing is written then.
    ValueError
        If the format is neither of the two, or no table is named.
    """
    if format not in ("parquet", "csv"):
        raise ValueError(f"the format is parquet or csv, not {format}")
    wanted = list(dict.fromkeys(tables))
    if not wanted:
        raise ValueError("name at least one table")
    models = models or load_models(warehouse.settings.sql_dir)
    sources = [_find(name, exportable_tables(warehouse, models), models) for name in wanted]
    to.mkdir(parents=True, exist_ok=True, mode=0o700)
    exported, resources = [], []
    with tempfile.TemporaryDirectory(dir=to, prefix=".export-") as scratch:
        copy = warehouse.copied(Path(scratch) / "snapshot.duckdb")
        if leave_out:
            _leave_out_patients(copy, leave_out)
        with copy.read() as connection:
            for source in sources:
                _check_columns(connection, source)
                left_out = _left_out(source, format, with_media)
                kept = [c for c in source.columns if c.name not in left_out]
                path = Path(scratch) / f"{source.name}.{format}"
                if is_wide([c.sql for c in kept], source.key):
                    _write_by_video(connection, source, kept, path)
                else:
                    options = "format csv, header" if format == "csv" else "format parquet, compression zstd"
                    connection.execute(
                        f"copy ({_select(source, kept, format)}) to '{_quoted(str(path))}' ({options})"
                    )
                if format == "csv":
                    _add_byte_order_mark(path)
                counted = connection.execute(f'select count(*) from "{source.name}"').fetchone()
                rows = int(counted[0]) if counted else 0
                exported.append(ExportedTable(to / path.name, rows, tuple(left_out)))
                blank = _blank(connection, source, kept) if format == "csv" else set()
                resources.append(describe_resource(source, kept, left_out, path, rows, wanted, blank))
        package = Path(scratch) / "datapackage.json"
        package.write_text(json.dumps(_package(resources), indent=2) + "\n", encoding="utf-8")
        scripts = reader_scripts(resources, PAIN_LEVEL_NONE) if format == "csv" else {}
        for name, script in scripts.items():
            (Path(scratch) / name).write_text(script, encoding="utf-8")
        # everything is complete: move it into place, the dictionary last
        for path in [*(Path(scratch) / n for n in (*(e.path.name for e in exported), *scripts)), package]:
            path.chmod(0o600)
            path.replace(to / path.name)
    return exported


def _write_by_video(
    connection: duckdb.DuckDBPyConnection, source: TableSource, kept: Sequence[SourceColumn], path: Path
) -> None:
    """Write a table to a Parquet file, a video at a time and in the order of its key."""

    def value(column: SourceColumn) -> str:
        # lists as DuckDB writes them, whatever their length
        plain = re.sub(r"\[\d+\]$", "[]", column.sql)
        return f'"{column.name}"' if plain == column.sql else f'"{column.name}"::{plain} as "{column.name}"'

    columns = ", ".join(value(c) for c in kept)
    videos = connection.execute(f'select distinct video_id from "{source.name}" order by video_id').fetchall()
    schema = connection.execute(f'select {columns} from "{source.name}" limit 0').to_arrow_table().schema
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for (video,) in videos:
            found = rows_of_video(connection, source.name, schema.names, video)
            writer.write_table(in_key_order(found, source.key).cast(schema))


def _leave_out_patients(copy: Warehouse, patients: Collection[str]) -> None:
    """Delete patients' rows from every table and from the tables of SQL models that have a row for each patient."""
    with copy.write() as writer:
        tables = writer.query(
            "select distinct table_name as name from duckdb_columns() where database_name = current_database() "
            "and column_name = 'patient_id' and table_name in (select table_name from duckdb_tables())"
        )["name"].to_pylist()
        for table in tables:
            writer.execute(f'delete from "{table}" where list_contains(?, patient_id)', [list(patients)])


def _check_columns(connection: duckdb.DuckDBPyConnection, source: TableSource) -> None:
    there = {row[0] for row in connection.execute(f'describe "{source.name}"').fetchall()}
    missing = [c.name for c in source.columns if c.name not in there]
    if missing:
        raise WarehouseError(
            f"the table {source.name} was made by an earlier version and lacks {', '.join(missing)}; bring it up to date "
            "with: iss run"
        )


def _find(name: str, known: list[str], models: SqlModels) -> TableSource:
    if name not in known:
        if name in models.models:
            raise WarehouseError(f"the model {name} is not built yet; build it first")
        guess = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {guess[0]}?)" if guess else ""
        raise WarehouseError(f"there is no table {name}{hint}; there are {', '.join(known)}")
    if name in BY_NAME:
        table = BY_NAME[name]
        columns = tuple(
            SourceColumn(c.name, c.sql, c.description, c.nullable, c.unit) for c in table.columns()
        )
        return TableSource(name, table.grain(), columns, table.__key__, table.__references__)
    model = models.models[name]
    required = model.columns_promised("not_null")
    return TableSource(
        name,
        model.description,
        tuple(
            SourceColumn(c.name, c.type, c.description, c.name not in required, None) for c in model.columns
        ),
    )


def _left_out(source: TableSource, format: str, with_media: bool) -> list[str]:
    of = recording_of(source.name)[1]
    media = (*WORDS.get(of, ()), *(() if with_media else MEDIA.get(of, ())))
    return [
        c.name
        for c in source.columns
        if c.name in media or (format == "csv" and c.sql not in _FIELD_TYPES and c.sql != "VARCHAR[]")
    ]


def _add_byte_order_mark(path: Path) -> None:
    """Add a byte order mark to a csv file that is not plain ASCII: without it Excel assumes another encoding.

    A plain file gets none, because some readers make it part of the first column's name.
    """
    content = path.read_bytes()
    if not content.isascii():
        path.write_bytes(codecs.BOM_UTF8 + content)


def _select(source: TableSource, kept: list[SourceColumn], format: str) -> str:
    def value(column: SourceColumn) -> str:
        quoted = f'"{column.name}"'
        if format != "csv":
            return quoted
        if column.sql == "VARCHAR":
            return f"{_as_text(quoted)} as {quoted}"
        if column.sql == "VARCHAR[]":
            joined = f"array_to_string({quoted}, ';')"
            return f"{_as_text(joined)} as {quoted}"
        if column.sql == "TIMESTAMP WITH TIME ZONE":
            return f"strftime({quoted} at time zone 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ') as {quoted}"
        if column.sql == "BOOLEAN":
            # R reads lower case as text
            return f"case when {quoted} then 'TRUE' when not {quoted} then 'FALSE' end as {quoted}"
        if column.sql == "TIMESTAMP":
            return f"strftime({quoted}, '%Y-%m-%dT%H:%M:%S.%f') as {quoted}"
        return quoted

    order = f" order by {', '.join(source.key)}" if source.key else ""
    return f'select {", ".join(value(c) for c in kept)} from "{source.name}"{order}'


def _as_text(value: str) -> str:
    """Return SQL for text that no reader takes for a missing value, and no spreadsheet for a formula."""
    words = ", ".join(f"'{word}'" for word in TAKEN_FOR_MISSING)
    return (
        f"case when {value} = 'None' then '{PAIN_LEVEL_NONE}' when {value} in ({words}) then '(' || {value} || ')' "
        f"when regexp_matches({value}, '{_FORMULA}') then '''' || {value} else {value} end"
    )


def _blank(connection: duckdb.DuckDBPyConnection, source: TableSource, kept: list[SourceColumn]) -> set[str]:
    """Return the columns with empty text or lists; in csv these are empty cells, like missing values."""
    tests = {"VARCHAR": "\"{}\" = ''", "VARCHAR[]": 'len("{}") = 0'}
    texts = [c for c in kept if c.sql in tests]
    if not texts:
        return set()
    sums = ", ".join(f"count(*) filter ({tests[c.sql].format(c.name)})" for c in texts)
    counts = connection.execute(f'select {sums} from "{source.name}"').fetchone() or ()
    return {c.name for c, count in zip(texts, counts, strict=True) if count}


def describe_resource(
    source: TableSource,
    kept: list[SourceColumn],
    left_out: list[str],
    path: Path,
    rows: int,
    exported: list[str],
    blank: set[str],
) -> dict[str, Any]:
    """Describe one file as a frictionless resource, with its size and checksum."""
    csv = path.suffix == ".csv"
    schema: dict[str, Any] = {
        "fields": [_field(c, csv, c.name in blank) for c in kept],
        "missingValues": [""],
    }
    keys = [c for c in kept if c.name in source.key]
    # a key of which a column is left out tells rows apart no longer
    whole = len(keys) == len(source.key) and not any(c.nullable or c.name in blank for c in keys)
    if source.key and whole:
        schema["primaryKey"] = list(source.key)
    foreign = [
        {"fields": [column], "reference": {"resource": table, "fields": [BY_NAME[table].__key__[0]]}}
        for column, table in source.references
        if table in exported
    ]
    if foreign:
        schema["foreignKeys"] = foreign
    description = source.description
    if left_out:
        description += f" Not in this file: {', '.join(left_out)}."
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "name": source.name.replace("_", "-"),
        "title": source.name,
        "type": "table" if csv else "file",
        "path": path.name,
        "format": path.suffix[1:],
        "mediatype": "text/csv" if csv else "application/vnd.apache.parquet",
        **({"encoding": "utf-8" if _is_plain(path) else "utf-8-sig"} if csv else {}),
        "description": description,
        "hash": f"sha256:{digest}",
        "bytes": path.stat().st_size,
        "rows": rows,
        "schema": schema,
    }


def _is_plain(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(3) != codecs.BOM_UTF8


def _field(column: SourceColumn, csv: bool, blank: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"name": column.name, "description": column.description}
    if column.sql in _FIELD_TYPES:
        described["type"] = _FIELD_TYPES[column.sql]
    else:
        described["type"] = "string" if csv or column.sql == "BLOB" else "array"
        if csv:
            described["description"] += " Several words are joined by ';'."
    if column.unit:
        described["unit"] = column.unit
    if not column.nullable and not blank:
        described["constraints"] = {"required": True}
    return described


def link_resources(resources: list[dict[str, Any]]) -> None:
    """Let foreign keys name resources as the data dictionary does, not tables."""
    names = {r["title"]: r["name"] for r in resources}
    for resource in resources:
        for key in resource["schema"].get("foreignKeys", []):
            key["reference"]["resource"] = names[key["reference"]["resource"]]


def _package(resources: list[dict[str, Any]]) -> dict[str, Any]:
    link_resources(resources)
    return {
        "name": "iss-export",
        "title": "Tables of a clinical face-and-voice study",
        "description": (
            "Protected health information of patients of a clinical study. Keep it where the study's protocol allows, "
            "and delete it when a patient withdraws. Read ids as text: they may begin with zeros. In csv files the pain "
            f"level None is written as {PAIN_LEVEL_NONE}, since many readers take None for missing."
        ),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "resources": resources,
    }


def _quoted(text: str) -> str:
    return text.replace("'", "''")
