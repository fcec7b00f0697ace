"""What a long video takes of memory beyond its rows and its result, counted by Python's own allocator."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as arrow
import pytest
import soundfile

from iss_assets.features.behavior import measure_behavior
from iss_assets.features.voice import decode_for_voice
from iss_assets.features.voice_frames import RATE
from iss_assets.media.geometry import MeshFindings, examine_meshes
from iss_assets.media.landmarks import POINT_VALUES
from iss_assets.media.meshes import StoredMeshes
from iss_assets.media.speech import gain_for
from iss_assets.settings import BehaviorSettings, FaceSettings, QualitySettings
from iss_assets_tests.features.synthetic_head import film, head, turned

Peak = Callable[[Callable[[], object]], float]


@pytest.fixture
def peak_mb() -> Iterator[Peak]:
    """Return a function that runs another one and returns how many megabytes its arrays took at most."""

    def measured(work: Callable[[], object]) -> float:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()

    yield measured


@pytest.fixture(scope="module")
def long_film() -> tuple[arrow.Table, arrow.Table, arrow.Table]:
    """Half an hour of a moving head at ten pictures a second: 101 MB of meshes."""
    frames, faces, landmarks = film([turned(head(), 20 * np.sin(n / 9), 0, 0) for n in range(100)])
    times = 180
    values = landmarks["points"].combine_chunks().values.to_numpy().reshape(-1, POINT_VALUES)
    points = arrow.FixedSizeListArray.from_arrays(
        arrow.array(np.tile(values, (times, 1)).ravel()), POINT_VALUES
    )
    count = len(values) * times
    index = arrow.array(np.arange(count), arrow.int32())

    def repeated(table: arrow.Table, **own: object) -> arrow.Table:
        whole = arrow.concat_tables([table] * times)
        for name, column in {"frame_index": index, **own}.items():
            whole = whole.set_column(whole.column_names.index(name), name, [column])
        return whole

    time_s = np.arange(count) / 10
    return (
        repeated(
            frames,
            time_s=arrow.array(time_s),
            chunk_index=arrow.array((time_s // 4).astype(np.int32)),
            picture_hash=arrow.array(np.arange(count)),
        ),
        repeated(faces),
        repeated(landmarks, points=points),
    )


def test_behavior_copies_only_a_part_of_the_meshes(
    long_film: tuple[arrow.Table, arrow.Table, arrow.Table], peak_mb: Peak
) -> None:
    found: dict[str, arrow.Table] = {}
    assert (
        peak_mb(lambda: found.update(measure_behavior(*long_film, BehaviorSettings(), FaceSettings()))) < 130
    )
    yaw = found["face_behavior"]["yaw_deg"].to_numpy()
    assert len(yaw) == 18_000 and np.allclose(yaw[:100], yaw[-100:], atol=1e-3) and np.ptp(yaw) > 35


def test_quality_copies_only_a_part_of_the_meshes(
    long_film: tuple[arrow.Table, arrow.Table, arrow.Table], peak_mb: Peak
) -> None:
    found: list[MeshFindings] = []

    def examine() -> None:
        meshes = StoredMeshes(long_film[2])
        heights = np.full(len(meshes), 1.3)
        found.append(examine_meshes(meshes, heights, meshes.frame_index, QualitySettings()))

    assert peak_mb(examine) < 80
    assert len(found[0].not_a_face) == 18_000 and found[0].turned == 0


def test_sound_is_decoded_into_its_result_alone(peak_mb: Peak) -> None:
    file = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal(300 * 22_050)
    soundfile.write(file, noise, 22_050, format="FLAC", subtype="PCM_16")
    stored, result = file.getvalue(), 300 * RATE * 4 / 1e6
    # a block of 30 s in single and double precision besides
    assert peak_mb(lambda: decode_for_voice(stored)) < result + 15
    samples = decode_for_voice(stored)
    assert peak_mb(lambda: gain_for(samples)) < 1.1 * result
