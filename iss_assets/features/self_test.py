"""A feature's self-test on a generated video: if it fails on that too, the machine is at fault and not the file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as arrow

from iss_assets.features.registry import FEATURES, feature_named
from iss_assets.features.stages import FeatureStage
from iss_assets.media.self_test import write_test_video
from iss_assets.media.timeline import read_timeline
from iss_assets.schemas.audio import Audio, AudioFeatures, MelSpectrograms
from iss_assets.schemas.base import Table
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.settings import Settings

_PICTURES: Final = {table.__table__ for table in (Frames, Faces, Landmarks)}
_SOUND: Final = {table.__table__ for table in (Audio, MelSpectrograms, AudioFeatures)}


class RowsInMemory:
    """The rows of one video, kept in memory; a table without rows is empty.

    Parameters
    ----------
    tables : mapping of str to pyarrow.Table
        Rows by table, in the order of the table's key.
    """

    def __init__(self, tables: Mapping[str, arrow.Table]) -> None:
        self._tables = tables

    def of(
        self, table: type[Table], columns: Sequence[str], frames: Sequence[int] | None = None
    ) -> arrow.Table:
        """Return columns of a table's rows, see `stages.SourceRows`."""
        rows = self._tables.get(table.__table__)
        if rows is None:
            rows = table.arrow_schema().empty_table()
        if frames is not None:
            rows = rows.filter(arrow.array(np.isin(rows["frame_index"].to_numpy(), frames)))
        return rows.select(list(columns))


def run_feature_self_test(name: str, settings: Settings) -> None:
    """Extract what a feature reads from a one-second video, and measure it with that feature.

    Nothing that it does not read is made: another feature's broken model would make this one's bad files look like the
    machine's fault.

    Parameters
    ----------
    name : str
        Name of the feature.
    settings : Settings
        Settings of extraction and of the feature.

    Raises
    ------
    Exception
        Whatever a stage raises.
    """
    from iss_assets.media.audio import extract_audio
    from iss_assets.media.visual import extract_visual

    stages = stages_for(feature_named(name))
    read = {table for feature in stages for table in feature.source_names}
    found: dict[str, arrow.Table] = {}
    with tempfile.TemporaryDirectory(prefix="iss-") as folder:
        film = write_test_video(Path(folder) / "film.mkv")
        if read & _PICTURES:
            seen = extract_visual(film, settings.video, settings.faces, settings.landmarks, threads=1)
            found |= {"frames": seen.frames, "faces": seen.faces, "landmarks": seen.landmarks}
        if read & _SOUND:
            heard = extract_audio(film, settings.audio, None, read_timeline(film, settings.video))
            if heard is not None:
                found |= {
                    "audio": heard.audio,
                    "mel_spectrograms": heard.mel_spectrograms,
                    "audio_features": heard.audio_features,
                }
    video = {"video_id": "0000-00", "patient_id": "0000", "duration_s": 1.2, "has_audio": True}
    for feature in stages:
        found |= feature.load_measure()(video, RowsInMemory(found), settings)


def stages_for(wanted: FeatureStage) -> list[FeatureStage]:
    """Return a feature after those whose tables it reads, directly or through another one, in the order of running."""
    needed = {wanted.name}
    read = {*wanted.source_names}
    for feature in reversed(FEATURES):
        if read & {*feature.table_names}:
            needed.add(feature.name)
            read |= {*feature.source_names}
    return [feature for feature in FEATURES if feature.name in needed]
