"""The notebook API: tables, pictures and training arrays, read-only.

>>> from iss_assets import load                                       # doctest: +SKIP
>>> train, test = load.training_set("fusion_1").fold(split=1)         # doctest: +SKIP
>>> pictures, targets = train.inputs["faces"], train.target           # doctest: +SKIP

Every function reads the warehouse of ``ISS_HOME``, or of the folder given as `home`: a home, or a release that
`iss release` wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iss_assets.datasets.items import COLUMN_OF_INPUT, chosen_spectrograms, in_order, load_items
from iss_assets.evaluation.frames import rows_of
from iss_assets.modeling.experiments import experiment as find
from iss_assets.modeling.items import MEASURES, SCORE_COLUMNS, EncodedFaces, Items
from iss_assets.modeling.series import Series
from iss_assets.schemas.audio import AUDIO_FEATURES
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.released import ReleasedTables, is_release

if TYPE_CHECKING:
    from torch.utils.data import Dataset

Home = Path | str | None


def warehouse(home: Home = None) -> Warehouse:
    """Open the study's warehouse.

    Raises
    ------
    WarehouseError
        If there is none in the home folder.
    """
    settings = _settings(home)
    tables = Warehouse(settings.warehouse_path, settings.warehouse)
    if is_release(settings.home) and (tables.shared or not tables.exists()):
        return ReleasedTables(settings.home)
    if not tables.exists():
        raise WarehouseError(
            "there is nothing in the shared warehouse yet; fill it first: iss run"
            if tables.shared
            else f"there is no {tables.name} in the home folder; name it with home=... or ISS_HOME, "
            "or fill it first: iss run"
        )
    return tables


def query(sql: str, home: Home = None) -> pd.DataFrame:
    """Run a read-only query, for example ``select * from study_summary``."""
    return warehouse(home).query(sql).to_pandas()


def table(
    name: str,
    *,
    patients: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    home: Home = None,
) -> pd.DataFrame:
    """Load a table or a built SQL model.

    Parameters
    ----------
    name : str
        For example ``bpi_scores`` or ``patient_timeline``.
    patients : sequence of str, optional
        Only their rows, for tables with a ``patient_id``.
    columns : sequence of str, optional
        Only these. By default, all except packed ones (pictures, points, spectrograms, waveforms), which would cost one
        Python object per value: `faces`, `landmarks` and `spectrograms` return those as arrays.
    home : Path or str, optional
        The home folder.

    Raises
    ------
    WarehouseError
        If there is no such table or column.
    """
    source = warehouse(home)
    found = source.query(
        "select column_name as name from information_schema.columns "
        "where table_schema = 'main' and table_name = ? "
        # of an older home's table and today's view of it, the view
        "qualify rank() over (order by table_catalog <> 'temp') = 1 order by ordinal_position",
        [name],
    )["name"].to_pylist()
    if not found:
        raise WarehouseError(f"there is no table {name}; if it is a SQL model, build it first")
    packed = (
        {c.name for c in BY_NAME[name].columns() if c.packed and c.sql != "VARCHAR[]"}
        if name in BY_NAME
        else set()
    )
    wanted = list(columns) if columns is not None else [c for c in found if c not in packed]
    if unknown := [c for c in [*wanted, *(["patient_id"] if patients is not None else [])] if c not in found]:
        raise WarehouseError(f"table {name} has no column {', '.join(unknown)}; it has {', '.join(found)}")
    quoted = ", ".join(f'"{c}"' for c in wanted)
    if patients is None:
        return source.query(f'select {quoted} from "{name}"').to_pandas()
    return source.query(
        f'select {quoted} from "{name}" where list_contains(?, patient_id)', [list(patients)]
    ).to_pandas()


def splits(home: Home = None) -> pd.DataFrame:
    """Load the folds: patient_id, pain_level and the split in which the patient is tested."""
    return table("cv_splits", columns=["patient_id", "pain_level", "split"], home=home).sort_values(
        ["split", "patient_id"], ignore_index=True
    )


def analyzed_patients(home: Home = None) -> list[str]:
    """Load the ids of the analyzed patients: those with at least one usable video, 29 of 30 in the paper."""
    rows = table("stg_patients", columns=["patient_id", "analyzed"], home=home)
    return sorted(rows.loc[rows["analyzed"], "patient_id"])


@dataclass(frozen=True)
class Faces:
    """Face crops with their keys, in the same order.

    Attributes
    ----------
    keys : pandas.DataFrame, n rows
        patient_id, video_id, frame_index.
    files : EncodedFaces, n crops
        Decoded when indexed by an array of positions: a whole study would not fit in memory.
    """

    keys: pd.DataFrame
    files: EncodedFaces

    def __len__(self) -> int:
        return len(self.keys)

    def to_numpy(self, places: np.ndarray | None = None) -> np.ndarray:
        """Decode the crops at some positions, by default all: uint8 (n, side, side, 3), RGB."""
        return self.files[np.arange(len(self)) if places is None else places]


def faces(patients: Sequence[str] | None = None, *, limit: int | None = None, home: Home = None) -> Faces:
    """Load face crops.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    limit : int, optional
        At most this many per patient, evenly spaced.
    home : Path or str, optional
        The home folder.
    """
    settings = _settings(home)
    rows = _keyed_rows("faces", "frame_index", "crop", "true", patients, limit, home)
    return Faces(
        rows.select(["patient_id", "video_id", "frame_index"]).to_pandas(),
        EncodedFaces(rows["crop"], settings.faces.image_size),
    )


def landmarks(
    patients: Sequence[str] | None = None, *, limit: int | None = None, home: Home = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Load face meshes.

    Returns
    -------
    keys : pandas.DataFrame, n rows
        patient_id, video_id, frame_index.
    points : ndarray of float32, (n, 468, 3)
        x, y and z of each point; x and y as shares of the crop's side, from its upper left corner.
    """
    rows = _keyed_rows("landmarks", "frame_index", "points", "detected", patients, limit, home)
    points = rows["points"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    keys = rows.select(["patient_id", "video_id", "frame_index"]).to_pandas()
    return keys, points.astype(np.float32, copy=False).reshape(-1, 468, 3)


def spectrograms(
    patients: Sequence[str] | None = None, *, limit: int | None = None, home: Home = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Load the Mel spectrograms of full chunks.

    Returns
    -------
    keys : pandas.DataFrame, n rows
        patient_id, video_id, chunk_index.
    mel : ndarray of float32, (n, bands, steps)
        In dB relative to the chunk's maximum.
    """
    whole = "steps = (select max(steps) from mel_spectrograms)"
    rows = _keyed_rows("mel_spectrograms", "chunk_index", "mel", whole, patients, limit, home)
    bands = rows["mel"].combine_chunks().flatten()
    values = bands.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    n = rows.num_rows
    keys = rows.select(["patient_id", "video_id", "chunk_index"]).to_pandas()
    if n == 0:
        return keys, np.zeros((0, _settings(home).audio.n_mels, 0), np.float32)
    return keys, values.reshape(n, len(bands) // n, -1)


def voice(patients: Sequence[str] | None = None, *, chunks: bool = False, home: Home = None) -> pd.DataFrame:
    """Load how patients speak: pauses, pace, pitch, loudness, voice quality; what could not be measured is NaN.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    chunks : bool
        One row per 4-second chunk; by default one per video.
    home : Path or str, optional
        The home folder.
    """
    return _measures("voice_features", patients, chunks, home)


def behavior(
    patients: Sequence[str] | None = None, *, chunks: bool = False, home: Home = None
) -> pd.DataFrame:
    """Load how head and face move: geometric proxies of ``face_behavior_summary``; what could not be measured is NaN.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    chunks : bool
        One row per 4-second chunk; by default one per video.
    home : Path or str, optional
        The home folder.
    """
    return _measures("face_behavior_summary", patients, chunks, home)


def behavior_frames(patients: Sequence[str] | None = None, *, home: Home = None) -> pd.DataFrame:
    """Load pose and proxies of every sampled frame with a mesh, from ``face_behavior``.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    home : Path or str, optional
        The home folder.
    """
    return _in_order("face_behavior", patients, home)


def text_features(patients: Sequence[str] | None = None, *, home: Home = None) -> pd.DataFrame:
    """Load figures about what is said, one row per video; their embeddings are a column of ``text_features``.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    home : Path or str, optional
        The home folder.
    """
    return _in_order("text_features", patients, home)


def transcripts(patients: Sequence[str] | None = None, *, home: Home = None) -> pd.DataFrame:
    """Load what is said, one row per video: the most private data of the study, in no release but a controlled one.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    home : Path or str, optional
        The home folder.
    """
    return _in_order("transcripts", patients, home)


def transcript_words(patients: Sequence[str] | None = None, *, home: Home = None) -> pd.DataFrame:
    """Load every recognized word with its times and the kind of span that it is in: a name, a place, a number, or none.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    home : Path or str, optional
        The home folder.
    """
    words = _in_order("transcript_words", patients, home)
    place = {key: n for n, key in enumerate(zip(words["video_id"], words["word_index"], strict=True))}
    kinds: list[str | None] = [None] * len(words)
    for span in rows_of(table("transcript_spans", patients=patients, home=home)):
        for index in range(span.first_word, span.last_word + 1):
            kinds[place[span.video_id, index]] = span.kind
    return words.assign(span=pd.Series(kinds, index=words.index, dtype=object))


def thermal(patients: Sequence[str] | None = None, *, home: Home = None) -> pd.DataFrame:
    """Load the temperatures of the face in every readable thermal picture, one row per submission.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    home : Path or str, optional
        The home folder.
    """
    rows = _in_order("thermal", patients, home)
    return rows[rows["status"] == "ok"].reset_index(drop=True)


def face_identity(patients: Sequence[str] | None = None, *, home: Home = None) -> pd.DataFrame:
    """Load how alike the faces of each video are, one row per moment; how alike a patient's videos are is in
    ``table("face_distances")``, and summed up per video in ``table("identity_over_time")``.

    The vectors themselves recognize a person as a picture does; name the column ``vector`` in `table` to read them.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    home : Path or str, optional
        The home folder.
    """
    return _in_order("face_identity", patients, home)


def prompt_readings(patients: Sequence[str] | None = None, *, home: Home = None) -> pd.DataFrame:
    """Load which text was read in each Question 10 video, and how much of it, one row per reading; no word of it.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    home : Path or str, optional
        The home folder.
    """
    return _in_order("prompt_readings", patients, home)


def _in_order(name: str, patients: Sequence[str] | None, home: Home) -> pd.DataFrame:
    """Load a table by patient, and then by its key."""
    rows = table(name, patients=patients, home=home)
    return rows.sort_values(["patient_id", *BY_NAME[name].__key__], ignore_index=True)


def _measures(name: str, patients: Sequence[str] | None, chunks: bool, home: Home) -> pd.DataFrame:
    """Load a table of measures by video, or by chunk, in order."""
    rows = _in_order(name, patients, home)
    chosen = rows[(rows["chunk_index"] >= 0) == chunks].reset_index(drop=True)
    return chosen if chunks else chosen.drop(columns="chunk_index")


@dataclass(frozen=True)
class TrainingSet:
    """An experiment's training data with its folds.

    Attributes
    ----------
    items : Items
        All arrays in one order; see `iss_assets.modeling.items.Items`.
    class_names : tuple of str
        Names of the classes.
    split_of : dict of str to int
        Patient id to the split in which the patient is tested.
    """

    items: Items
    class_names: tuple[str, ...]
    split_of: dict[str, int]

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def inputs(self) -> dict[str, np.ndarray | EncodedFaces]:
        """Arrays by name: ``faces``, ``landmarks``, ``scores``, ``mel``, ``audio_features``, ``embeddings``, ``voice``,
        ``behavior``, ``text``.

        Faces that would not fit in memory stay encoded and are decoded when indexed by an array of positions.
        """
        kept = self.items.inputs.items()
        return {name: v if isinstance(v, EncodedFaces) else np.asarray(v) for name, v in kept}

    @property
    def series(self) -> dict[str, Series]:
        """Series over the time of each video, of an experiment that reads whole videos; see `iss_assets.modeling.series`."""
        return self.items.series

    @property
    def target(self) -> np.ndarray:
        """Classes, int64 (n,): indices into `class_names`."""
        return self.items.target

    @property
    def splits(self) -> list[int]:
        """The splits that have items."""
        return sorted({self.split_of[p] for p in self.items.patients if p in self.split_of})

    def fold(self, split: int) -> tuple[TrainingSet, TrainingSet]:
        """Return the training side and the test side of one split; no patient is on both sides.

        Raises
        ------
        ValueError
            If no patient with items is tested in this split.
        """
        if split not in self.splits:
            raise ValueError(f"no patient with items is in split {split}; splits are {self.splits}")
        sides = (
            [p for p, s in self.split_of.items() if s != split],
            [p for p, s in self.split_of.items() if s == split],
        )
        train, test = (TrainingSet(self.items.of(side), self.class_names, self.split_of) for side in sides)
        return train, test

    def to_numpy(self) -> tuple[np.ndarray, np.ndarray]:
        """Return one row of numbers per item, and the targets: float32 (n, k) and int64 (n,).

        Raises
        ------
        ValueError
            If the experiment uses pictures, spectrograms or series, which are not rows of numbers.
        """
        if self.series:
            raise ValueError("series differ in length from video to video: use series or to_torch()")
        flat = [np.asarray(a) for name, a in self.inputs.items() if name not in ("faces", "mel")]
        if len(flat) < len(self.inputs):
            raise ValueError(
                "pictures and spectrograms are not rows of numbers: use inputs['faces'] or to_torch()"
            )
        return np.concatenate(flat, axis=1), self.target

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per item: its keys, its target, and the named columns (scores, audio features, measures)."""

        items = self.items
        columns: dict[str, Any] = {
            "patient_id": items.patient_id,
            "video_id": items.video_id,
            "frame_index": items.frame_index,
            "chunk_index": items.chunk_index,
            "pain_level": items.level,
            "target": np.asarray(self.class_names, dtype=object)[items.target],
            "weight": items.weight,
            "split": [self.split_of.get(p) for p in items.patient_id],
        }
        measures = ((name, labels) for name, (_, labels) in MEASURES.items())
        for name, labels in (("scores", SCORE_COLUMNS), ("audio_features", AUDIO_FEATURES), *measures):
            if name in self.inputs:
                columns |= dict(zip(labels, np.asarray(self.inputs[name]).T, strict=True))
        return pd.DataFrame(columns)

    def to_torch(self) -> Dataset[Any]:
        """Return a map-style dataset of (inputs by name, target); pictures as float32 (3, side, side) from 0 to 1."""
        return _torch_dataset(self)


def reference_differences(
    patients: Sequence[str] | None = None, *, only_read: bool = True, home: Home = None
) -> pd.DataFrame:
    """Load narrative minus reading (Question 11 minus Question 10): a row per submission, a column per measure.

    Parameters
    ----------
    patients : sequence of str, optional
        Only theirs.
    only_read : bool
        Only submissions in which one of the study's texts was read; without it a reading is no reference.
    home : Path or str, optional
        The home folder.

    Returns
    -------
    pandas.DataFrame
        Keys, then columns such as ``voice.f0_median_hz``; NaN where one of the two could not be measured.
    """
    rows = table("reference_differences", patients=patients, home=home)
    if only_read:
        rows = rows[rows["read"].eq(True)]
    rows = rows.assign(column=rows["feature"] + "." + rows["measure"])
    wide = rows.pivot(index=["patient_id", "video_id"], columns="column", values="difference")
    return wide.rename_axis(columns=None).reset_index()


def training_set(experiment: str, *, patients: Sequence[str] | None = None, home: Home = None) -> TrainingSet:
    """Load an experiment's training data, exactly as its own training does.

    Parameters
    ----------
    experiment : str
        For example ``fusion_1``; `iss_assets.modeling.experiments` has them all.
    patients : sequence of str, optional
        Only these.
    home : Path or str, optional
        The home folder.

    Raises
    ------
    ValueError
        If there is no such experiment.
    WarehouseError
        If there are no folds yet, or a release does not have an input of the experiment.
    """
    chosen = find(experiment)
    for name in chosen.inputs:
        _require(*COLUMN_OF_INPUT[name], home)
    folds = splits(home)
    if folds.empty:
        raise WarehouseError("there are no folds yet: materialize cv_splits first")
    settings = _settings(home)
    items = load_items(warehouse(home), chosen, settings.training, settings.faces, patients)
    pairs = zip(folds["patient_id"], folds["split"], strict=True)
    return TrainingSet(items, tuple(chosen.class_names), {str(p): int(s) for p, s in pairs})


def _settings(home: Home) -> Settings:
    return Settings() if home is None else Settings(home=Path(home))


def _require(name: str, column: str, home: Home) -> None:
    """Check that a column is there: a release may withhold it."""
    source = warehouse(home)
    if isinstance(source, ReleasedTables):
        source.require(name, column)


def _keyed_rows(
    name: str,
    index: str,
    payload: str,
    condition: str,
    patients: Sequence[str] | None,
    limit: int | None,
    home: Home,
) -> Any:
    """Read one packed column with its keys, evenly thinned to `limit` rows per patient."""
    _require(name, payload, home)
    params: list[object] = []
    if patients is not None:
        condition += " and list_contains(?, patient_id)"
        params.append(list(patients))
    # row k of n is taken where k * limit // n increases: evenly spaced, and exactly `limit` of them
    taken = (
        "true"
        if limit is None
        else f"n <= {int(limit)} or (k + 1) * {int(limit)} // n > k * {int(limit)} // n"
    )
    keys = f"""
        with numbered as (
            select patient_id, video_id, {index} as item, count(*) over (partition by patient_id) as n,
                row_number() over (partition by patient_id order by video_id, {index}) - 1 as k
            from {name} where {condition}
        )
        select video_id, item, row_number() over (order by patient_id, video_id, item) as place
        from numbered
        where {taken}
        order by place
    """
    with warehouse(home).read() as connection:
        connection.execute("set session arrow_large_buffer_size = true")
        connection.register("_chosen", connection.execute(keys, params).to_arrow_table())
        if name == "mel_spectrograms":
            return chosen_spectrograms(connection, ["patient_id", "video_id", index, payload])
        return in_order(
            connection,
            f"select c.place, t.patient_id, t.video_id, t.{index}, t.{payload} "
            f"from _chosen as c join {name} as t on t.video_id = c.video_id and t.{index} = c.item",
        )


def _torch_dataset(data: TrainingSet) -> Dataset[Any]:
    import torch
    from torch.utils.data import Dataset

    class _Items(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, place: int) -> tuple[dict[str, torch.Tensor], int]:
            tensors = {}
            for name, values in data.inputs.items():
                value = torch.as_tensor(np.asarray(values[np.array([place])])[0])
                tensors[name] = value.permute(2, 0, 1).float() / 255 if name == "faces" else value
            for name, series in data.series.items():
                tensors[name] = torch.from_numpy(series.select(np.array([place])).values)
            return tensors, int(data.target[place])

    return _Items()
