"""Finding faces in batches, as a GPU does it: the same faces as one by one. Computed on the processor here."""

from __future__ import annotations

import numpy as np
import pytest

from iss_assets.media import visual
from iss_assets.media.batch_faces import BatchFinder, device_of
from iss_assets.media.faces import FaceFinder, shrink
from iss_assets.settings import FaceSettings, LandmarkSettings, VideoSettings
from iss_assets_tests.media.films import portrait

SETTINGS = FaceSettings()
EMPTY = np.full((360, 640, 3), 120, np.uint8)


@pytest.mark.parametrize(("size", "share"), [((640, 360), 0.3), ((1280, 720), 0.12), ((480, 848), 0.06)])
def test_a_batch_gives_every_picture_the_face_that_a_full_search_of_it_alone_gives(size, share):
    pictures = [portrait(k / 10, size, share) for k in range(3)]
    pictures.insert(1, np.full_like(pictures[0], 120))
    small = [shrink(p, SETTINGS.detection_side) for p in pictures]
    together = BatchFinder(SETTINGS, "cpu").find([s for s, _ in small], small[0][1])
    alone = [FaceFinder(SETTINGS).find(*s) for s in small]
    assert together[1] is None and alone[1] is None
    for one, other in zip(together, alone, strict=True):
        if other is not None:
            assert one is not None and one.faces_seen == other.faces_seen
            assert (
                np.allclose(one.box, other.box, atol=1.0) and abs(one.probability - other.probability) < 0.01
            )


def test_a_batch_in_which_nothing_looks_like_a_face_gives_nothing():
    assert BatchFinder(SETTINGS, "cpu").find([EMPTY, EMPTY]) == [None, None]


def test_the_device_is_a_matter_of_speed_and_not_of_fingerprints():
    assert FaceSettings(device="auto").digest() == FaceSettings().digest()


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of(FaceSettings(device="auto")) == device_of(FaceSettings()) == "cpu"
    with pytest.raises(RuntimeError, match="no GPU here"):
        device_of(FaceSettings(device="cuda"))


def test_a_video_searched_in_batches_gives_the_tables_of_one_that_is_followed(tmp_path, monkeypatch):
    from benchmarks.extraction import make_clips

    make_clips(tmp_path, [(480, 360)], 1.5)
    (path,) = tmp_path.iterdir()

    def extract():
        return visual.extract_visual(path, VideoSettings(), SETTINGS, LandmarkSettings(), threads=1)

    followed = extract()
    monkeypatch.setattr(visual, "device_of", lambda settings: "cpu in batches")
    monkeypatch.setattr(visual, "BatchFinder", lambda settings, device: BatchFinder(settings, "cpu"))
    batched = extract()
    assert batched.frames["time_s"] == followed.frames["time_s"]
    assert batched.faces["frame_index"] == followed.faces["frame_index"]
    for side in ("x1", "y1", "x2", "y2"):
        difference = batched.faces[side].to_numpy() - followed.faces[side].to_numpy()
        assert np.abs(difference).max() < 12
    assert batched.landmarks["detected"] == followed.landmarks["detected"]
