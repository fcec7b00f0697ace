"""Training items from the warehouse: items as arrays, what was left out, and a hash of the data.

Chooses the rows that an experiment uses and converts them from DuckDB through Arrow to numpy, without creating a Python
object per value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa

from iss_assets.datasets.ahead import read_ahead
from iss_assets.datasets.series import IN_VIDEOS, load_series
from iss_assets.modeling.experiments import Experiment, experiment
from iss_assets.modeling.folds import PatientLevel
from iss_assets.modeling.items import (
    ANSWERS,
    MEASURES,
    SCORE_COLUMNS,
    SERIES,
    InputArray,
    Items,
    evenly_spaced,
    make_items,
)
from iss_assets.modeling.pictures import EncodedFaces, SharedPictures, StoredFiles
from iss_assets.protocol import terms
from iss_assets.schemas.audio import AUDIO_FEATURES
from iss_assets.schemas.registry import whole_videos
from iss_assets.settings import FaceSettings, TrainingSettings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.wide_rows import read_videos

LEFT_OUT_SCHEMA = pa.schema([("patient_id", pa.string()), ("video_id", pa.string()), ("reason", pa.string())])
"""Columns of `left_out`: patient; video or submission, empty where the patient has none; the reason, a fixed word."""


def load_items(
    warehouse: Warehouse,
    experiment: Experiment,
    settings: TrainingSettings,
    faces: FaceSettings,
    patients: Sequence[str] | None = None,
) -> Items:
    """Load an experiment's items, ordered by patient, video and position in the video.

    Parameters
    ----------
    warehouse : Warehouse
        The study's tables.
    experiment : Experiment
        Says which inputs are needed; an item is used if all of them exist.
    settings : TrainingSettings
        Whether unusable videos are used, how many frames or chunks per patient, how large faces are.
    faces : FaceSettings
        How the study's crops were cut.
    patients : sequence of str, optional
        Only these; all by default.

    Returns
    -------
    Items
        Faces decoded; kept encoded if they would take more than ``decoded_faces_gb``; left in the warehouse, to be read
        on demand, if even that would take more than ``encoded_faces_gb``.
    """
    with warehouse.read() as connection:
        # the default limit of 2 GB per column of an Arrow batch is less than a study's crops; for this connection only, since
        # others of the same DuckDB hash what they read, types included
        connection.execute("set session arrow_large_buffer_size = true")
        keys = _choose(connection, experiment, settings, _requested(connection, patients))
        connection.register("_chosen", keys)
        stored = "faces" in experiment.inputs and _too_many(connection, keys.num_rows, settings)
        with _ahead(warehouse, connection, experiment, keys.num_rows, stored):
            arrays = [n for n in experiment.inputs if n not in SERIES and not (stored and n == "faces")]
            payload = {n: _fetch(connection, n) for n in arrays}
        over_time = [n for n in experiment.inputs if n in SERIES]
        series = load_series(connection, over_time, keys, settings, faces)
        marked = _rows(connection, _MARKED) if stored else None
    inputs: dict[str, InputArray] = {name: _to_array(name, rows, settings) for name, rows in payload.items()}
    if marked is not None:
        files = StoredFiles(partial(_stored_crops, warehouse, marked), marked.num_rows)
        inputs["faces"] = EncodedFaces(files, settings.image_side)
    item = keys["item"].to_numpy()
    return make_items(
        experiment,
        patient_id=_strings(keys["patient_id"]),
        video_id=_strings(keys["video_id"]),
        level=_strings(keys["pain_level"]),
        inputs=inputs,
        frame_index=item if experiment.item == "frame" else None,
        chunk_index=item if experiment.item == "chunk" else None,
        weight=keys["weight"].to_numpy(),
        series=series,
    )


def load_crops(
    warehouse: Warehouse, settings: TrainingSettings, patient_id: str, side: int
) -> tuple[pa.Table, np.ndarray]:
    """Load the face crops from which one patient's embeddings are computed, resized to `side` pixels.

    Returns
    -------
    keys : pyarrow.Table
        ``video_id`` and ``frame_index``, one row per crop.
    crops : ndarray of uint8, (n, side, side, 3)
        RGB, n possibly 0.
    """
    with warehouse.read() as connection:
        connection.execute("set session arrow_large_buffer_size = true")
        keys = _choose(connection, _FACES_ONLY, settings, [patient_id])
        connection.register("_chosen", keys)
        files = _fetch(connection, "faces")
    crops = EncodedFaces(files["crop"], side).decode()
    return keys.select(["video_id", "item"]).rename_columns(["video_id", "frame_index"]), crops


def trainable_patients(warehouse: Warehouse, settings: TrainingSettings) -> list[PatientLevel]:
    """Return the patients of the cross-validation: those with a video that training may use, and consent to research.

    This gives the 29 of 30 patients that the paper analyzes: "data from one patient (0009) in Cohort 2B was unusable".
    """
    rows = warehouse.query(
        "select distinct p.patient_id, p.pain_level from patients p join videos v using (patient_id) "
        f"where {_USABLE if settings.only_usable else 'true'} and v.video_id in (select video_id from frames) "
        f"and {_CONSENTING} "
        "order by all"
    )
    pairs = zip(rows["patient_id"].to_pylist(), rows["pain_level"].to_pylist(), strict=True)
    return [PatientLevel(patient, level) for patient, level in pairs]


def patients_with_items(
    warehouse: Warehouse, experiment: Experiment, settings: TrainingSettings
) -> list[str]:
    """Return the patients who give an experiment at least one item."""
    with warehouse.read() as connection:
        keys = _choose(connection, experiment, settings, _requested(connection, None))
    return sorted(set(keys["patient_id"].to_pylist()))


def without_consent(warehouse: Warehouse) -> list[str]:
    """Return the enrolled patients whose data are left out because they have not consented to research.

    In a study that has recorded anybody's consent to research, these are the patients who withdrew it or never gave it.
    """
    rows = warehouse.query(f"select patient_id from patients p where not ({_CONSENTING}) order by all")
    return list(rows["patient_id"].to_pylist())


def left_out(
    warehouse: Warehouse,
    experiment: Experiment,
    settings: TrainingSettings,
    patients: Sequence[str] | None = None,
) -> pa.Table:
    """List the submissions that give an experiment no item, with the reason.

    Returns
    -------
    pyarrow.Table
        With the schema `LEFT_OUT_SCHEMA`, ordered. A reason is ``no_consent``, ``no_submission``, ``no_video``, the status of
        ``videos``, ``not_assessed`` (no quality yet), the reason of ``video_quality``, ``no_survey``, ``no_answers``
        (left out by setting), ``no_frames``, ``no_faces``, ``no_landmarks``, ``no_embeddings``, ``no_full_chunk``, or one such as
        ``no_voice`` for each of the `MEASURES` and ``no_mesh_series`` for each of the `SERIES`.
    """
    reasons = [
        (f"not ({_CONSENTING})", "'no_consent'"),
        ("submitted.video_id is null", "'no_submission'"),
        ("v.video_id is null", "'no_video'"),
        ("v.status <> 'ok'", "v.status"),
    ]
    if settings.only_usable:
        reasons.append(("q.video_id is null", "'not_assessed'"))
        reasons.append(("not q.usable", "coalesce(q.unusable_reason, 'unusable')"))
    if experiment.item == "submission":
        reasons.append(("b.submission_id is null", "'no_survey'"))
    if "scores" in experiment.inputs and settings.missing_scores == "leave_out":
        reasons.append((f"coalesce(b.missing_scores, {ANSWERS}) = {ANSWERS}", "'no_answers'"))
    reasons.append(("v.video_id not in (select video_id from frames)", "'no_frames'"))
    if experiment.item == "frame":
        reasons.append(("v.video_id not in (select video_id from faces)", "'no_faces'"))
    if "landmarks" in experiment.inputs:
        reasons.append(
            ("v.video_id not in (select video_id from landmarks where detected)", "'no_landmarks'")
        )
    measured = [name for name in experiment.inputs if name in MEASURES or name in SERIES]
    for name in measured:
        reasons.append((f"v.video_id not in ({_videos_with(name)})", f"'no_{name}'"))
    last = "'no_full_chunk'" if experiment.item == "chunk" else "'no_embeddings'"
    case = "\n".join(f"    when {condition} then {reason}" for condition, reason in reasons)
    everything = settings.model_copy(update={"frames_per_patient": None, "chunks_per_patient": None})
    with warehouse.read() as connection:
        requested = _requested(connection, patients)
        connection.register("_chosen", _choose(connection, experiment, everything, requested))
        return _rows(connection, _LEFT_OUT.format(case=case, last=last), [requested]).cast(LEFT_OUT_SCHEMA)


def data_hash(
    warehouse: Warehouse,
    experiment: Experiment,
    settings: TrainingSettings,
    patients: Sequence[str] | None = None,
) -> str:
    """Hash the data that an experiment would learn from: its items, their rows' fingerprints, scores and labels.

    Pixels and sound are not read: rows with the same fingerprint come from the same file, settings and code.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(experiment.name.encode())
    with warehouse.read() as connection:
        keys = _choose(connection, experiment, settings, _requested(connection, patients))
        connection.register("_chosen", keys)
        digest.update(_bytes(keys))
        for name in experiment.inputs:
            if name == "scores":
                digest.update(_bytes(_fetch(connection, name)))
            else:
                digest.update(_bytes(_rows(connection, _FINGERPRINTS.format(table=COLUMN_OF_INPUT[name][0]))))
    return digest.hexdigest()[:16]


def _ahead(
    warehouse: Warehouse, connection: duckdb.DuckDBPyConnection, experiment: Experiment, n: int, stored: bool
) -> AbstractContextManager[None]:
    """Read the whole file ahead if most of it is needed: crops are four fifths of it."""
    # a shared warehouse is many files, on a disk that is not here
    if stored or "faces" not in experiment.inputs or warehouse.shared:
        return nullcontext()
    every = _rows(connection, "select count(*) as n from faces")["n"][0].as_py()
    return read_ahead(warehouse.path) if n > every / 2 else nullcontext()


_BATCH_ROWS = 2048
"""Rows of packed values that DuckDB returns at a time: 30 MB of crops."""

_FACES_ONLY = experiment("resnet50_2_static")

COLUMN_OF_INPUT = {
    "faces": ("faces", "crop"),
    "landmarks": ("landmarks", "points"),
    "scores": ("bpi_scores", "pain_now"),
    "mel": ("mel_spectrograms", "mel"),
    "audio_features": ("audio_features", AUDIO_FEATURES[0]),
    "embeddings": ("embeddings", "embedding"),
    **{name: (table, columns[0]) for name, (table, columns) in {**MEASURES, **SERIES}.items()},
}
"""Table and column of each input of an experiment; of several columns, the first."""

_FINGERPRINTS = """
select distinct video_id, fingerprint from {table} semi join _chosen using (video_id) order by all
"""

_ITEMS = """
select p.patient_id, p.pain_level, v.video_id, {item}::integer as item, {weight}::double as weight
from videos v join patients p using (patient_id) {joins}
where list_contains(?, p.patient_id) and {condition}
order by p.patient_id, v.video_id, item
"""

_USABLE = "v.video_id in (select video_id from video_quality where usable)"

_CONSENTING = """(
    p.patient_id in (select patient_id from consent where scope = 'research' and state = 'given')
    or not exists (from consent where scope = 'research')
)"""
"""Where nothing was recorded of anybody, as in a study without ``consent.csv``, everybody counts."""

_LEFT_OUT = """
with submitted as (
    select patient_id, video_id from videos
    union
    select patient_id, submission_id from bpi_scores
)
select p.patient_id, submitted.video_id, case
{case}
    else {last}
end as reason
from patients p
left join submitted using (patient_id)
left join videos v on v.video_id = submitted.video_id
left join video_quality q on q.video_id = submitted.video_id
left join bpi_scores b on b.submission_id = submitted.video_id
where list_contains(?, p.patient_id) and not exists (from _chosen where _chosen.video_id = submitted.video_id)
order by p.patient_id, submitted.video_id
"""


def _requested(connection: duckdb.DuckDBPyConnection, patients: Sequence[str] | None) -> list[str]:
    if patients is not None:
        return list(patients)
    return _rows(connection, "select patient_id from patients order by all")["patient_id"].to_pylist()


def _choose(
    connection: duckdb.DuckDBPyConnection,
    experiment: Experiment,
    settings: TrainingSettings,
    patients: Sequence[str],
) -> pa.Table:
    """Choose an experiment's items: patient_id, pain_level, video_id, item, weight, place (0, 1, ...)."""
    joins, item, weight = "", "-1", "1"
    conditions = [_CONSENTING, *([_USABLE] if settings.only_usable else [])]
    if experiment.item == "frame":
        joins, item = "join faces f using (video_id)", "f.frame_index"
        for table, alias in (("landmarks", "l"), ("embeddings", "e")):
            if table in experiment.inputs:
                on = f"{alias}.video_id = v.video_id and {alias}.frame_index = f.frame_index"
                joins += f" join {table} {alias} on {on}" + (" and l.detected" if alias == "l" else "")
    elif experiment.item == "chunk":
        joins = "join mel_spectrograms m using (video_id) join audio_features a using (video_id, chunk_index)"
        item = "m.chunk_index"
        # a short last chunk may have been kept; the network needs full ones
        conditions.append("m.steps = (select max(steps) from mel_spectrograms)")
    elif experiment.item == "video":
        joins = " ".join(f"semi join ({_videos_with(name)}) using (video_id)" for name in experiment.inputs)
    else:
        joins = "join (select video_id, count(*) as n from frames group by all) using (video_id)"
        joins += " join bpi_scores s on s.submission_id = v.video_id"
        weight = "n"
    if "scores" in experiment.inputs and settings.missing_scores == "leave_out":
        answered = f"select submission_id from bpi_scores where missing_scores < {ANSWERS}"
        conditions.append(f"v.video_id in ({answered})")
    condition = " and ".join(conditions)
    sql = _ITEMS.format(item=item, weight=weight, joins=joins, condition=condition)
    rows = _rows(connection, sql, [list(patients)])
    limit = {"frame": settings.frames_per_patient, "chunk": settings.chunks_per_patient}.get(experiment.item)
    _, first, count = np.unique(_strings(rows["patient_id"]), return_index=True, return_counts=True)
    places = [start + evenly_spaced(n, limit) for start, n in zip(first, count, strict=True)]
    chosen = rows.take(pa.array(np.concatenate(places) if places else np.zeros(0, np.int64)))
    return chosen.append_column("place", pa.array(np.arange(chosen.num_rows)))


def _fetch(connection: duckdb.DuckDBPyConnection, name: str) -> pa.Table:
    """Fetch one input of the chosen items, in their order."""
    if name == "scores":
        return _rows(connection, _SCORES)
    if name in MEASURES:
        columns = ", ".join(f"t.{column}::float as {column}" for column in MEASURES[name][1])
        joined = f"join (select * {_of_whole_videos(name)}) t on t.video_id = c.video_id"
        return in_order(connection, f"select c.place, {columns} from _chosen c {joined}")
    if name == "mel":
        return chosen_spectrograms(connection, ["mel"])
    columns, table = {
        "faces": ("crop", "faces"),
        "landmarks": ("points", "landmarks"),
        "embeddings": ("embedding", "embeddings"),
        "audio_features": (", ".join(AUDIO_FEATURES), "audio_features"),
    }[name]
    index = "chunk_index" if name == "audio_features" else "frame_index"
    return in_order(
        connection,
        f"select c.place, {columns} from _chosen c join {table} t on t.video_id = c.video_id and t.{index} = c.item",
    )


def _videos_with(name: str) -> str:
    """Return the query for the videos that have one of the `MEASURES` or `SERIES`."""
    return IN_VIDEOS.get(name) or f"select video_id {_of_whole_videos(name)}"


def _of_whole_videos(name: str) -> str:
    """Return the ``from`` clause for the rows of one of the `MEASURES` that describe whole videos."""
    table = MEASURES[name][0]
    return f"from {table} where {whole_videos(table)}"


def in_order(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """Fetch rows by their column ``place`` (0, 1, ... in any order) and drop it.

    Rows arrive in sorted runs, about one per video, as they were written. The runs are put in order without a copy.
    Sorting in DuckDB would move every picture through its own memory, which takes five times as long; Arrow would copy
    them twice.
    """
    # a relation converts rows to Arrow directly; `execute` would copy them into a buffer of its own first
    return _by_place(connection.sql(sql).to_arrow_table(_BATCH_ROWS))


def chosen_spectrograms(connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> pa.Table:
    """Fetch columns of ``mel_spectrograms`` of the chosen items, in their order.

    Parameters
    ----------
    connection : DuckDBPyConnection
        Has the items as ``_chosen``: video_id, item, and place (0, 1, ... in any order).
    columns : sequence of str
        Names of columns.
    """
    chosen = _rows(connection, "select video_id, item, place from _chosen")
    items, places = (chosen[name].to_numpy() for name in ("item", "place"))
    videos, codes = np.unique(_strings(chosen["video_id"]), return_inverse=True)
    most = int(items.max(initial=0)) + 1
    wanted = codes.astype(np.int64) * most + items
    order = np.argsort(wanted)
    wanted, places = wanted[order], places[order]
    parts = [_rows(connection, f"select {', '.join(columns)}, 0 as place from mel_spectrograms limit 0")]
    read = list(dict.fromkeys([*columns, "video_id", "chunk_index"]))
    for rows in read_videos(connection, "mel_spectrograms", read, videos.tolist()):
        names, chunks = _strings(rows["video_id"]), rows["chunk_index"].to_numpy()
        code = np.searchsorted(videos, names)
        known = (code < len(videos)) & (chunks < most)
        known[known] = videos[code[known]] == names[known]
        key = np.where(known, code * most + chunks, -1)
        at = np.searchsorted(wanted, key)
        known &= at < len(wanted)
        known[known] = wanted[at[known]] == key[known]
        own = (rows if known.all() else rows.filter(pa.array(known))).select(list(columns))
        parts.append(own.append_column("place", pa.array(places[at[known]])).cast(parts[0].schema))
    return _by_place(pa.concat_tables(parts))


def _by_place(rows: pa.Table) -> pa.Table:
    """Put runs of rows in the order of their column ``place`` and drop it."""
    places = rows["place"].to_numpy()
    rows = rows.drop_columns(["place"])
    starts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    ends = np.append(starts[1:], len(places))
    order = np.argsort(places[starts])
    if (np.diff(order) == 1).all():
        return rows
    return pa.concat_tables([rows.slice(starts[k], ends[k] - starts[k]) for k in order])


_SCORES = f"""
select
    {", ".join(f"b.{name}::integer::float as {name}" for name in terms.SCORES)},
    -- halfway where a release withholds them
    coalesce((p.sex = 'F')::integer::float, 0.5) as sex_female,
    coalesce((p.skin_group = 'dark')::integer::float, 0.5) as skin_dark,
    {", ".join(f"coalesce(b.timeframe = '{name}', false)::integer::float as {column}"
               for name, column in zip(terms.TIMEFRAMES, SCORE_COLUMNS[-4:], strict=True))}
from _chosen c join patients p using (patient_id) left join bpi_scores b on b.submission_id = c.video_id
order by c.place
"""  # fmt: skip


_MARKED = """
select c.place, c.video_id, c.item, t.fingerprint
from _chosen c join faces t on t.video_id = c.video_id and t.frame_index = c.item
order by c.place
"""

_STORED_CROPS = """
select t.crop
from _wanted w join faces t on t.video_id = w.video_id and t.frame_index = w.item and t.fingerprint = w.fingerprint
order by w.place
"""


def _too_many(connection: duckdb.DuckDBPyConnection, n: int, settings: TrainingSettings) -> bool:
    """Return whether the chosen crops would take too much memory, both decoded and encoded."""
    if n * settings.image_side**2 * 3 <= settings.decoded_faces_gb * 1e9:
        return False
    size = "select coalesce(sum(octet_length(t.crop)), 0) as n from _chosen c join faces t"
    on = "on t.video_id = c.video_id and t.frame_index = c.item"
    return bool(_rows(connection, f"{size} {on}")["n"][0].as_py() > settings.encoded_faces_gb * 1e9)


def _stored_crops(warehouse: Warehouse, keys: pa.Table, places: np.ndarray) -> pa.ChunkedArray:
    """Read the crops at some places of `keys`, in that order.

    Raises
    ------
    WarehouseError
        If some have changed since training began.
    """
    wanted = keys.take(pa.array(places)).set_column(0, "place", pa.array(np.arange(len(places))))
    with warehouse.read() as connection:
        connection.register("_wanted", wanted)
        crops = _rows(connection, _STORED_CROPS)["crop"]
    if len(crops) != len(places):
        raise WarehouseError(
            "faces were extracted again while a model was training on them: restart the training"
        )
    return crops


def _to_array(name: str, rows: pa.Table, settings: TrainingSettings) -> InputArray:
    """Convert one input's rows to an array, without creating a Python object per value."""
    if name == "faces":
        faces = EncodedFaces(rows["crop"], settings.image_side)
        fits = faces.decoded_bytes <= settings.decoded_faces_gb * 1e9
        return SharedPictures(faces.decode()) if fits else faces
    if name in ("scores", "audio_features", *MEASURES):
        columns = {"scores": SCORE_COLUMNS, "audio_features": AUDIO_FEATURES}.get(name) or MEASURES[name][1]
        arrays = [rows[c].to_numpy() for c in columns]
        return (
            np.column_stack(arrays).astype(np.float32)
            if rows.num_rows
            else np.zeros((0, len(columns)), np.float32)
        )
    shape: tuple[int, ...] = (rows.num_rows, -1)
    values = rows[0].combine_chunks()
    if name == "mel":
        bands = values.flatten()
        shape = (rows.num_rows, len(bands) // max(rows.num_rows, 1), -1)
        values = bands
    if rows.num_rows == 0:
        return np.zeros((0,) * len(shape), np.float32)
    numbers = values.flatten().to_numpy(zero_copy_only=False)
    if name == "mel":
        return SharedPictures(np.array(numbers, np.float32).reshape(shape))
    return numbers.astype(np.float32, copy=False).reshape(shape)


def _rows(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[object] | None = None
) -> pa.Table:
    return connection.execute(sql, params).to_arrow_table()


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    encoded = column.combine_chunks().dictionary_encode()
    names = np.asarray(encoded.dictionary.to_pylist(), dtype=str)
    return names[encoded.indices.to_numpy()] if len(column) else np.zeros(0, dtype=str)


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()
