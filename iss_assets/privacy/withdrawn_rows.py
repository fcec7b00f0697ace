"""Removing a patient's rows from the warehouse, and whatever was made with them.

Rows of the patient go. So do models that learned from the patient, what these predicted, and results over all patients:
the next run makes them again without. What is left of other patients stays as it is, unless it names this one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from iss_assets.intake.withdrawn import Scope
from iss_assets.modeling.folds import fold_subject
from iss_assets.privacy.traces import Query, Traces, columns_with, quoted, texts_of
from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.intake import Consent
from iss_assets.schemas.registry import BY_NAME, MADE_AGAIN
from iss_assets.warehouse.database import Warehouse, Writer
from iss_assets.warehouse.ledger import STUDY

ANSWERS: Final = ("patients", "bpi_scores", "consent")
"""Tables that stay if only media are withdrawn."""
_SUBMISSION_COLUMNS: Final = ("video_id", "submission_id", "subject")
_SAMPLED: Final = tuple(
    (recording, table, column)
    for recording in Recording
    for table, column in (("faces", "crop"), ("audio", "waveform"))
)
FILES: Final = " union ".join(
    f"select patient_id, sha256 from {table}"
    for table in (*(recording.inventory for recording in Recording), "thermal")
)
"""A query of every submitted file, narratives, readings and thermal pictures: whose it is, and its hash."""
_SAMPLES: Final = 12
_SAMPLE_BYTES: Final = 24
_DIFFERENT: Final = 12
"""Different bytes that a sample must have: less is a black picture or silence, which others have too."""


@dataclass
class Removed:
    """What was removed.

    Attributes
    ----------
    rows : dict
        Table to the number of its rows that were the patient's or named the patient.
    made_again : dict
        Table to the number of its rows that were made from everybody's data; the next run makes them again.
    folds : list of list
        Experiment and split of every model that had learned from the patient.
    """

    rows: dict[str, int] = field(default_factory=dict)
    made_again: dict[str, int] = field(default_factory=dict)
    folds: list[list[Any]] = field(default_factory=list)


def traces_in(warehouse: Warehouse, patient: str) -> Traces:
    """Return what the warehouse knows a patient by: submission ids, hashes of files, samples of faces and sound."""
    with warehouse.read() as connection:

        def query(sql: str, *params: object) -> list[tuple[Any, ...]]:
            return connection.execute(sql, list(params)).fetchall()

        submissions = {
            name
            for table, column in (
                ("bpi_scores", "submission_id"),
                ("rejected_rows", "submission_id"),
                ("study_problems", "submission_id"),
                ("video_problems", "video_id"),
                ("thermal", "submission_id"),
                *((r.named(table), "video_id") for r in Recording for table in ("videos", "frames", "audio")),
                ("frame_predictions", "video_id"),
                ("extractions", "subject"),
            )
            for (name,) in query(f"select distinct {column} from {table} where patient_id = ?", patient)
            if name and name != "*"
        }
        # an id that two patients' rows have is no proof of either
        taken = {
            name
            for (name,) in query(
                "select submission_id from bpi_scores where patient_id <> ? "
                "union select video_id from videos where patient_id <> ?",
                patient,
                patient,
            )
        }
        hashes = [h for (h,) in query(f"select sha256 from ({FILES}) where patient_id = ?", patient)]
        shared = {h for (h,) in query(f"select sha256 from ({FILES}) where patient_id <> ?", patient)}
        samples = [
            sample
            for recording, table, column in _SAMPLED
            for value in _media(query, recording, table, column, patient, list(shared))
            if (sample := _sample(value))
        ]
        known = {p for (p,) in query("select patient_id from patients")} | taken
    own = tuple(sorted(submissions - taken))
    mine = tuple(sorted(set(hashes) - shared))
    return Traces(patient, own, mine, tuple(dict.fromkeys(samples))).with_others(known)


def _media(
    query: Callable[..., list[tuple[Any, ...]]],
    recording: Recording,
    table: str,
    column: str,
    patient: str,
    shared: list[str],
) -> Iterator[bytes | None]:
    """Yield some of a patient's pictures or sounds, none of a file that others submitted, too."""
    name, keys = recording.named(table), BY_NAME[table].__key__
    chosen = query(
        f"select {', '.join(keys)} from {name} where patient_id = ? and video_id not in "
        f"(select video_id from {recording.inventory} where list_contains(?, sha256)) "
        f"order by hash(video_id) limit {_SAMPLES}",
        patient,
        shared,
    )
    for key in chosen:
        # one at a time: the sound of twelve long videos is more than DuckDB's memory
        for (value,) in query(
            f"select {column} from {name} where {' and '.join(f'{k} = ?' for k in keys)}", *key
        ):
            yield value


def _sample(value: bytes | None) -> str | None:
    """Return some bytes from the middle of a picture or a sound, hexadecimal; None if nothing in it stands out."""
    if not value:
        return None
    for share in (0.5, 0.4, 0.6, 0.3, 0.7):
        begin = int(len(value) * share)
        piece = value[begin : begin + _SAMPLE_BYTES]
        if len(piece) == _SAMPLE_BYTES and len(set(piece)) >= _DIFFERENT:
            return piece.hex()
    return None


def remove_rows(
    warehouse: Warehouse, traces: Traces, scope: Scope, before_commit: Callable[[Removed], None]
) -> None:
    """Remove the patient's rows in one transaction; the file still holds their bytes until it is written anew.

    Parameters
    ----------
    warehouse : Warehouse
        The tables.
    traces : Traces
        The patient.
    scope : Scope
        `Scope.ALL`, or `Scope.MEDIA` for everything but the answers.
    before_commit : callable
        Takes what is about to be removed.
    """
    removed = Removed()
    with warehouse.write() as writer:
        _drop_made_by_sql(writer, removed)
        _remove_models(writer, traces.patient, removed)
        rows: Counter[str] = Counter()
        for table, model in BY_NAME.items():
            columns = {column.name for column in model.columns()}
            if model in MADE_AGAIN:
                removed.made_again[table] = _delete(writer, table, "true")
            elif scope is Scope.MEDIA and table in ANSWERS:
                continue
            elif "patient_id" in columns:
                named = [c for c in _SUBMISSION_COLUMNS if c in columns]
                terms = ["patient_id = ?", *(f"list_contains(?, {c})" for c in named)]
                condition, params = (
                    " or ".join(terms),
                    [traces.patient, *[list(traces.submissions)] * len(named)],
                )
                if scope is Scope.MEDIA and table == "extractions":
                    condition = f"({condition}) and not list_contains(?, table_name)"
                    params.append(list(ANSWERS))
                rows[table] += _delete(writer, table, condition, params)
        if scope is Scope.ALL:
            _remove_mentions(writer, traces, rows)
        writer.execute(
            "delete from extractions where patient_id = ? and list_contains(?, table_name)",
            [STUDY, [*(m.__table__ for m in MADE_AGAIN), "cv_splits", "rejected_rows", "study_problems"]],
        )
        removed.rows = {table: count for table, count in rows.items() if count}
        removed.made_again = {table: count for table, count in removed.made_again.items() if count}
        before_commit(removed)


def ask_again(warehouse: Warehouse, patient: str) -> None:
    """Remove the results of the checks of consent, so that the patient's next run looks whether anything is still to be done."""
    with warehouse.write() as writer:
        writer.execute(
            "delete from check_results where patient_id = ? and asset = ?", [patient, Consent.__table__]
        )


def _drop_made_by_sql(writer: Writer, removed: Removed) -> None:
    """Drop every table and view that SQL models made: each is a summary of all patients, and made in a second."""
    there = {
        name
        for (name,) in _query(writer)("select table_name from duckdb_tables() where schema_name = 'loader'")
    }
    if "models_made" not in there:
        return
    for name, kind in _query(writer)("select name, kind from loader.models_made"):
        found = "duckdb_views" if kind == "view" else "duckdb_tables"
        column = "view_name" if kind == "view" else "table_name"
        exists = writer.query(f"select 1 from {found}() where {column} = ? and schema_name = 'main'", [name])
        if exists.num_rows and name not in BY_NAME:
            if kind != "view":
                removed.made_again[name] = _count(writer, quoted(name))
            writer.execute(f"drop {'view' if kind == 'view' else 'table'} main.{quoted(name)}")
    writer.execute("delete from loader.models_made")


def _remove_models(writer: Writer, patient: str, removed: Removed) -> None:
    """Remove every model that learned from the patient, and what it predicted of anybody."""
    removed.folds = [
        [experiment, split]
        for experiment, split in _query(writer)(
            "select experiment, split from fold_models where list_contains(train_patients, ?) order by all",
            patient,
        )
    ]
    removed.made_again["fold_models"] = _delete(
        writer, "fold_models", "list_contains(train_patients, ?)", [patient]
    )
    writer.execute(
        "update fold_models set test_patients = list_filter(test_patients, lambda p: p <> ?) "
        "where list_contains(test_patients, ?)",
        [patient, patient],
    )
    made: Counter[str] = Counter()
    for experiment, split in removed.folds:
        for table in ("frame_predictions", "video_attention"):
            made[table] += _delete(
                writer,
                table,
                "experiment = ? and split = ? and patient_id <> ?",
                [experiment, split, patient],
            )
        writer.execute(
            "delete from extractions where patient_id = ? and subject = ?",
            [STUDY, fold_subject(experiment, split)],
        )
    removed.made_again |= made
    if removed.folds:
        removed.made_again["patient_accuracy"] = _delete(
            writer, "patient_accuracy", "patient_id <> ?", [patient]
        )
        writer.execute("delete from extractions where table_name = 'patient_accuracy'")


def _remove_mentions(writer: Writer, traces: Traces, rows: Counter[str]) -> None:
    """Remove rows of others, or of the study, that name the patient; what is in the ledger is made again."""
    query = _query(writer)
    for schema, table, column in columns_with(query, traces):
        # anew: a row goes with what another one of its columns said
        mentions = [text for text in texts_of(query, schema, table, column) if traces.in_text(text)]
        place = f"{quoted(schema)}.{quoted(table)}"
        condition = f"list_contains(?, {quoted(column)}::varchar)"
        if table in BY_NAME and table != "extractions":
            owner = "patient_id" if any(c.name == "patient_id" for c in BY_NAME[table].columns()) else None
            owners = (
                [
                    o
                    for (o,) in query(f"select distinct {owner} from {place} where {condition}", mentions)
                    if o
                ]
                if owner and table not in ("rejected_rows", "study_problems")
                else [STUDY]
            )
            writer.execute(
                "delete from extractions where table_name = ? and list_contains(?, patient_id)",
                [table, owners],
            )
        rows[table] += _delete(writer, place, condition, [mentions])


def _query(writer: Writer) -> Query:
    def query(sql: str, *params: object) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in writer.query(sql, list(params)).to_pylist()]

    return query


def _count(writer: Writer, place: str, condition: str = "true", params: list[Any] | None = None) -> int:
    found = writer.query(f"select count(*) as n from {place} where {condition}", params)
    return int(found["n"][0].as_py())


def _delete(writer: Writer, place: str, condition: str, params: list[Any] | None = None) -> int:
    count = _count(writer, place, condition, params)
    if count:
        writer.execute(f"delete from {place} where {condition}", params)
    return count
