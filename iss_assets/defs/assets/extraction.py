"""The assets that open a patient's videos: frames, faces, landmarks; audio, spectrograms, audio features.

There is one pass for pictures and one for sound, over the narratives and, if the settings say so, over the Question 10
readings; how either is measured is decided in ``iss_assets.media``, how a pass goes over the videos in ``video_work``.
"""

from collections.abc import Iterator, Mapping

import dagster as dg
import pyarrow as arrow

from iss_assets.defs.assets.common import asset_group, describe
from iss_assets.defs.assets.video_work import Extracted, Pass, Video, extract
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.protocol.recordings import Recording, enabled_recordings
from iss_assets.schemas.audio import Audio, AudioFeatures, MelSpectrograms
from iss_assets.schemas.base import Table
from iss_assets.schemas.registry import BY_NAME
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.ledger import SOUND_TABLES, VISUAL_TABLES, code_versions
from iss_assets.warehouse.source_rows import StoredRows
from iss_assets.warehouse.spool import Spool


def extraction_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the assets; their code versions come from the settings, so a changed setting shows as stale."""
    versions = code_versions(settings)
    return [
        assets for recording in enabled_recordings(settings) for assets in _assets_of(recording, versions)
    ]


def _assets_of(recording: Recording, versions: Mapping[str, str]) -> list[dg.AssetsDefinition]:
    def spec(table: type[Table], text: str, group: str, kinds: set[str], deps: list[str]) -> dg.AssetSpec:
        stored = BY_NAME[recording.named(table.__table__)]
        return dg.AssetSpec(
            **describe(stored, text, group=asset_group(group, recording), kinds=kinds),
            deps=[recording.named(name) for name in deps],
            code_version=versions[stored.__table__],
            skippable=True,
        )

    @dg.multi_asset(
        name=f"extract_{recording.named('visual')}",
        specs=[
            spec(
                Frames,
                "Ten frames per second by presentation time, each measured; the pixels stay in the submitted video.",
                "vision",
                {"python", "duckdb"},
                ["videos"],
            ),
            spec(
                Faces,
                "MTCNN's box and the 160x160 crop from the full-size frame.",
                "vision",
                {"torch", "duckdb"},
                ["frames"],
            ),
            spec(
                Landmarks,
                "MediaPipe Face Mesh on the crop: 468 points, or the fact that none were found.",
                "vision",
                {"python", "duckdb"},
                ["faces"],
            ),
        ],
        partitions_def=patients_partitions,
        can_subset=True,
    )
    def visual(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult]:
        """Extract frames, faces and landmarks in one pass over each video."""
        yield from extract(
            context,
            warehouse,
            Pass(
                VISUAL_TABLES,
                "picture",
                read_visual,
                from_rows={frozenset({"landmarks"}): "landmarks"},
                noting="frames",
                recording=recording,
            ),
        )

    @dg.multi_asset(
        name=f"extract_{recording.named('audio')}",
        specs=[
            spec(
                Audio,
                "Mono, 22,050 Hz, lossless, with loudness, noise, clipping and the share of speech.",
                "sound",
                {"python", "duckdb"},
                ["videos"],
            ),
            spec(
                MelSpectrograms,
                "librosa, n_fft 2048, hop 512, 128 bands.",
                "sound",
                {"python", "duckdb"},
                ["audio"],
            ),
            spec(
                AudioFeatures,
                "Means of 20 MFCC, chroma, centroid, bandwidth, roll-off and zero-crossing rate.",
                "sound",
                {"python", "duckdb"},
                ["audio"],
            ),
        ],
        partitions_def=patients_partitions,
        can_subset=True,
    )
    def sound(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult]:
        """Extract the sound track, its spectrograms and features in one pass over each video."""
        a_pass = Pass(SOUND_TABLES, "sound", read_sound, noting="audio", recording=recording)
        yield from extract(context, warehouse, a_pass)

    return [visual, sound]


def read_visual(
    video: Video, wanted: set[str], settings: Settings, warehouse: Warehouse, spool: Spool
) -> Extracted:
    """Extract frames, faces and landmarks of one video in one pass."""
    from iss_assets.media.visual import extract_visual

    if wanted == {"landmarks"}:
        return landmarks_again(video, settings, warehouse, spool)
    scratch = spool.scratch()
    made = extract_visual(
        video.path,
        settings.video,
        settings.faces,
        settings.landmarks,
        threads=settings.run.threads,
        scratch=scratch,
    )
    return Extracted(
        {n: scratch / f"{n}.arrow" if scratch else getattr(made, n) for n in VISUAL_TABLES}, made.problem
    )


def landmarks_again(video: Video, settings: Settings, warehouse: Warehouse, spool: Spool) -> Extracted:
    """Find landmarks in the stored face crops, without opening the video."""
    from iss_assets.media.visual import landmarks_from_crops

    stored = video.stored("faces")
    faces = spool.get(video.video_id, stored, video.fingerprints[stored])
    if faces is None:
        faces = StoredRows(warehouse, video.video_id, video.recording).of(Faces, ["frame_index", "crop"])
    detected, points = landmarks_from_crops(faces["crop"], settings.landmarks)
    rows = arrow.table({"frame_index": faces["frame_index"], "detected": detected, "points": points})
    return Extracted({"landmarks": rows})


def read_sound(
    video: Video, wanted: set[str], settings: Settings, warehouse: Warehouse, spool: Spool
) -> Extracted:
    """Extract sound, spectrograms and features of one video; nothing where there is no sound track."""
    from iss_assets.media.audio import extract_audio
    from iss_assets.media.timeline import read_timeline

    scratch = spool.scratch()
    made = extract_audio(video.path, settings.audio, scratch, read_timeline(video.path, settings.video))
    if made is None:
        return Extracted({})
    waiting = {
        n: scratch / f"{n}.arrow" if scratch else getattr(made, n) for n in ("audio", "mel_spectrograms")
    }
    return Extracted({**waiting, "audio_features": made.audio_features}, made.problem)
