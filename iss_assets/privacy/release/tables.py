"""The tables of a release as Parquet files: ids replaced, dates shifted, quasi-identifiers generalized."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from iss_assets.privacy.release.anonymity import STEPS, Generalized, generalize
from iss_assets.privacy.release.columns import (
    OF_THE_STUDY,
    RELEASED_IN,
    Kind,
    Tier,
    columns_of,
    kind_of,
    tables_of,
)
from iss_assets.privacy.release.errors import ReleaseError
from iss_assets.privacy.release.pseudonyms import Pseudonyms
from iss_assets.privacy.release.small_cells import Disclosure, without_small_cells
from iss_assets.privacy.sharing import Sharing
from iss_assets.protocol import terms
from iss_assets.schemas.base import Column, Table
from iss_assets.settings import ReleaseSettings
from iss_assets.warehouse.wide_rows import is_wide_table, rows_of_video

_TELLS_THE_LEVEL: Final = frozenset({"patient_accuracy", "baseline_accuracy"})

WHOLE_STUDY: Final = "*"
"""Patient id of rows about the whole study."""


@dataclass(frozen=True)
class Withheld:
    """Something that is not in the release, and why: a row of the table ``withheld``."""

    table: str
    what: str
    why: str


@dataclass(frozen=True)
class WrittenTable:
    """One file of a release.

    Attributes
    ----------
    table : type of Table
        What it is.
    path : Path
        The Parquet file.
    columns : tuple of Column
        Those in the file.
    left_out : tuple of str
        Columns of the table that are not.
    rows : int
        Rows in it.
    may_be_empty : frozenset of str
        Columns with empty cells that the study's own table does not have.
    """

    table: type[Table]
    path: Path
    columns: tuple[Column, ...]
    left_out: tuple[str, ...]
    rows: int
    may_be_empty: frozenset[str]


@dataclass
class Release:
    """Writes the tables of one release.

    Attributes
    ----------
    connection : DuckDBPyConnection
        A copy of the warehouse that nobody changes.
    """

    connection: duckdb.DuckDBPyConnection
    tier: Tier
    settings: ReleaseSettings
    pseudonyms: Pseudonyms
    sharing: Sharing
    generalized: Generalized
    levels: dict[str, int]
    withheld: list[Withheld] = field(default_factory=list)

    @classmethod
    def prepare(
        cls,
        connection: duckdb.DuckDBPyConnection,
        tier: Tier,
        settings: ReleaseSettings,
        pseudonyms: Pseudonyms,
        sharing: Sharing,
    ) -> Release:
        """Decide what is left of the quasi-identifiers of the patients who may be shared.

        Raises
        ------
        ReleaseError
            If two patients would get one pseudonym.
        TooFewPatients
            If no generalization can hide them among each other.
        """
        rows = connection.execute("select * from patients").to_arrow_table().to_pylist()
        people = {r["patient_id"]: r for r in rows if r["patient_id"] in set(sharing.patients)}
        # a column that the study does not fill is not withheld
        there = {c for p in people.values() for c, value in p.items() if value is not None}
        quasi = [c for c in STEPS if c in there and (c != "pain_level" or tier is Tier.open)]
        found = generalize(people, quasi, settings.k)
        levels = {
            level: sum(p["pain_level"] == level for p in people.values()) for level in terms.PAIN_LEVELS
        }
        if len({pseudonyms.patient(p) for p in people}) < len(people):
            raise ReleaseError("two patients would get the same pseudonym; choose another agreement number")
        return cls(connection, tier, settings, pseudonyms, sharing, found, levels, _told(found, settings.k))

    def tables(self) -> list[type[Table]]:
        """Return the tables that the tier may have and that this study can give."""
        chosen = []
        for table in tables_of(self.tier, self.settings.landmarks):
            if why := self._why_not(table.__table__):
                self.withheld.append(Withheld(table.__table__, "the whole table", why))
            else:
                chosen.append(table)
        return chosen

    def _why_not(self, name: str) -> str | None:
        if name in OF_THE_STUDY and self.sharing.left_out:
            return "computed over all patients, some of whom may not be shared"
        hidden = "pain_level" in self.generalized.withheld or self.generalized.emptied
        if name in _TELLS_THE_LEVEL and self.tier is Tier.open and hidden:
            return "accuracies would give withheld pain levels away"
        return None

    def write(self, table: type[Table], folder: Path) -> WrittenTable | None:
        """Write one table and return what was written; None if there is no row."""
        columns = columns_of(table, self.tier, self.settings.landmarks)
        schema = _schema(columns)
        path = folder / f"{table.__table__}.parquet"
        rows, empty = 0, set()
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for part in self._parts(table, columns, schema):
                empty |= {c.name for c in columns if not c.nullable and part[c.name].null_count}
                self._refuse_ids(table, columns, part)
                writer.write_table(part)
                rows += part.num_rows
        if not rows:
            path.unlink()
            return None
        left_out = [c for c in table.columns() if c not in columns]
        for column in left_out:
            kind = kind_of(table.__table__, column.name)
            self.withheld.append(Withheld(table.__table__, column.name, self._why(kind)))
        names = tuple(c.name for c in left_out)
        return WrittenTable(table, path, tuple(columns), names, rows, frozenset(empty))

    def _why(self, kind: Kind | None) -> str:
        if kind is None:
            return "nobody has decided what it is"
        return (
            kind.value
            if not RELEASED_IN[kind]
            else f"{kind.value.partition(':')[0]}: not in the {self.tier} tier"
        )

    def _parts(self, table: type[Table], columns: Sequence[Column], schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the rows of each patient, in the order of the pseudonyms; or all rows of a table about no patient."""
        name = table.__table__
        chosen = ", ".join(f'"{c.name}"' for c in columns)
        # rows of patients are put in order by `_sorted`: they are too wide for DuckDB to sort
        sql = f'select {chosen} from "{name}" where {{condition}}'
        if "patient_id" not in {c.name for c in table.columns()}:
            ordered = ", ".join(f'"{key}" nulls first' for key in table.__key__)
            rows = self._read(f"{sql.format(condition='true')} order by {ordered}", [])
            yield self._sorted(table, self._summary(name, self._changed(table, columns, rows, None), schema))
            return
        only_videos = "chunk_index = -1" if self._only_whole_videos(columns, name) else "true"
        if is_wide_table(table) and only_videos == "true":
            yield from self._wide_parts(table, columns)
            return
        nobody = self._read(sql.format(condition="patient_id is null or patient_id = ?"), [WHOLE_STUDY])
        if nobody.num_rows:
            yield self._sorted(table, self._changed(table, columns, nobody, None))
        for patient in sorted(self.sharing.patients, key=self.pseudonyms.patient):
            rows = self._read(sql.format(condition=f"patient_id = ? and {only_videos}"), [patient])
            if rows.num_rows:
                yield self._sorted(table, self._changed(table, columns, rows, patient))

    def _wide_parts(self, table: type[Table], columns: Sequence[Column]) -> Iterator[pa.Table]:
        """Yield the rows of each video, in the order of the pseudonyms."""
        name, names = table.__table__, [c.name for c in columns]
        for patient in sorted(self.sharing.patients, key=self.pseudonyms.patient):
            videos = self._read(f'select distinct video_id from "{name}" where patient_id = ?', [patient])
            for video in sorted(videos["video_id"].to_pylist(), key=self.pseudonyms.submission):
                yield self._changed(
                    table, columns, rows_of_video(self.connection, name, names, video), patient
                )

    def _only_whole_videos(self, columns: Sequence[Column], name: str) -> bool:
        voice = any(kind_of(name, c.name) in (Kind.VOICE, Kind.BEHAVIOR) for c in columns)
        return voice and self.tier is not Tier.controlled

    def _read(self, sql: str, params: list[object]) -> pa.Table:
        return self.connection.execute(sql, params).to_arrow_table()

    def _summary(self, name: str, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        hidden = set(self.generalized.withheld)
        if self.generalized.emptied:
            hidden |= set(STEPS)
        allowed = Disclosure(self.settings.k, hidden, self.levels, merge=self.tier is Tier.open)
        kept, told = without_small_cells(name, rows.to_pylist(), allowed)
        if told:
            what, _, why = told.partition(": ")
            self.withheld.append(Withheld(name, what, why))
        return pa.Table.from_pylist(kept, schema=schema)

    def _changed(
        self, table: type[Table], columns: Sequence[Column], rows: pa.Table, patient: str | None
    ) -> pa.Table:
        """Return the rows as they are released; `patient` is theirs, None for rows about nobody."""
        arrays = []
        for column in columns:
            values = rows[column.name]
            kind = kind_of(table.__table__, column.name)
            change = self._changes().get(kind) if kind else None
            if change is not None:
                changed = change(values.to_pylist(), column, patient)
                values = pa.chunked_array([pa.array(changed, column.arrow_type)])
            arrays.append(values.cast(_type(column)))
        return pa.table(arrays, schema=_schema(columns))

    def _changes(self) -> Mapping[Kind, Callable[[list[Any], Column, str | None], list[Any]]]:
        return {
            Kind.PATIENT: lambda values, *_: [_each(self._patient, v) for v in values],
            Kind.SUBMISSION: lambda values, *_: [_each(self.pseudonyms.submission, v) for v in values],
            Kind.PATIENTS: lambda values, *_: [self._shared(v) for v in values],
            Kind.SUBMISSIONS: lambda values, *_: [
                None if v is None else sorted(self.pseudonyms.submission(s) for s in v) for v in values
            ],
            Kind.QUASI: self._quasi,
            Kind.LEVEL: self._level,
            Kind.DAY: self._moved,
            Kind.MOMENT: self._moved,
            Kind.NUMBERS: lambda values, *_: [_each(self._numbers, v) for v in values],
        }

    def _patient(self, patient_id: str) -> str:
        return patient_id if patient_id == WHOLE_STUDY else self.pseudonyms.patient(patient_id)

    def _shared(self, patients: list[str] | None) -> list[str] | None:
        if patients is None:
            return None
        may = set(self.sharing.patients)
        return sorted(self.pseudonyms.patient(p) for p in patients if p in may)

    def _quasi(self, values: list[Any], column: Column, patient: str | None) -> list[Any]:
        known = self.generalized.patients[patient] if patient is not None else {}
        return [known.get(column.name)] * len(values)

    def _level(self, values: list[Any], column: Column, patient: str | None) -> list[Any]:
        if self.tier is not Tier.open or patient is None:
            return values
        hidden = self.generalized.patients[patient]["pain_level"] is None
        return [None] * len(values) if hidden else values

    def _moved(self, values: list[Any], column: Column, patient: str | None) -> list[Any]:
        if patient is None:  # a date without a patient has no shift
            return [None] * len(values)
        by: timedelta = self.pseudonyms.shift(patient)
        return [None if v is None else v + by for v in values]

    def _numbers(self, text: str) -> str | None:
        """Return JSON with numbers only. What cannot be read is withheld."""
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return json.dumps(_only_numbers(found), sort_keys=True)

    def _sorted(self, table: type[Table], rows: pa.Table) -> pa.Table:
        """Sort by the table's key as it is released: the old order would tell which id came first."""
        keys = [k for k in table.__key__ if k in rows.column_names]
        if not keys or not rows.num_rows:
            return rows
        return rows.sort_by([(k, "ascending") for k in keys]).combine_chunks()

    def _refuse_ids(self, table: type[Table], columns: Sequence[Column], rows: pa.Table) -> None:
        """Stop if an id of the study is in a column of words: nothing may get past the list of columns."""
        own = self._own_ids
        for column in columns:
            if column.sql not in ("VARCHAR", "VARCHAR[]"):
                continue
            values = rows[column.name].combine_chunks()
            if column.sql == "VARCHAR[]":
                values = values.flatten()
            words = set(values.unique().to_pylist())
            if any(word in own for word in words):
                raise ReleaseError(
                    f"the column {column.name} of {table.__table__} holds an id of the study; nothing was released"
                )

    @property
    def _own_ids(self) -> frozenset[str]:
        if not hasattr(self, "_ids"):
            rows = self.connection.execute(
                "select patient_id from patients union select submission_id from bpi_scores union select video_id from videos"
            ).fetchall()
            # an id that is also one of the study's words (a cohort, a split) cannot be told from it
            self._ids = frozenset(str(r[0]) for r in rows) - _WORDS
        return self._ids


_WORDS: Final = frozenset(
    {*terms.SEXES, *terms.SKIN_TYPES, *terms.SKIN_GROUPS, *terms.PAIN_LEVELS, *terms.PAIN_CLASSES}
    | {c.number for c in terms.COHORTS}
)


def _type(column: Column) -> pa.DataType:
    """Return how a column is stored: Parquet has no lists of a fixed size that may be missing."""
    stored = column.arrow_type
    return pa.list_(stored.value_type) if pa.types.is_fixed_size_list(stored) else stored


def _schema(columns: Sequence[Column]) -> pa.Schema:
    return pa.schema([(c.name, _type(c)) for c in columns])


def _each(change: Callable[[str], str | None], value: str | None) -> str | None:
    return None if value is None else change(value)


def _only_numbers(value: Any) -> Any:
    """Drop text from JSON; names of fields stay if they are plain words, so that no id and no sentence can be one."""
    if isinstance(value, dict):
        return {n: _only_numbers(v) for n, v in value.items() if _is_name(n) and not isinstance(v, str)}
    if isinstance(value, list):
        return [_only_numbers(v) for v in value if not isinstance(v, str)]
    return value


def _is_name(text: str) -> bool:
    return text in terms.PAIN_LEVELS or text in terms.PAIN_CLASSES or (text.isidentifier() and text.islower())


def _told(found: Generalized, k: int) -> list[Withheld]:
    why = f"fewer than {k} patients would share a combination of quasi-identifiers"
    rows = [Withheld("patients", f"{column} of every patient", why) for column in found.withheld]
    if found.emptied:
        what = f"every quasi-identifier of {len(found.emptied)} patients"
        rows.append(Withheld("patients", what, why))
    return rows
