"""Pictures come out upright and with square pixels, also where a recording changes midway."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.faces import FaceFinder, shrink
from iss_assets.media.upright import UprightRgb
from iss_assets.media.video import probe, sample_frames
from iss_assets.media.visual import extract_visual
from iss_assets.settings import FaceSettings, LandmarkSettings, VideoSettings
from iss_assets_tests.media.films import portrait

Picture = NDArray[np.uint8]


def write_segments(
    path: Path,
    segments: Sequence[tuple[Picture, Fraction | None, str]],
    *,
    codec: str = "libx264",
    rotation: int = 0,
    each: int = 10,
    fps: int = 10,
) -> Path:
    """Write one video track whose encoder starts anew with every segment: (picture, shape of pixels, pixel format).

    Every segment describes itself in its first packet.
    """
    with av.open(str(path), "w") as out:
        stream: Any = None
        encoder: Any
        at = 0
        for picture, shape, pixels in segments:
            height, width = picture.shape[:2]
            if stream is None:
                stream = encoder = out.add_stream(codec, rate=fps)
                if rotation:
                    stream.set_display_rotation(rotation)
            else:
                encoder = av.CodecContext.create(codec, "w")
                encoder.time_base, encoder.framerate = Fraction(1, fps), Fraction(fps)
            encoder.width, encoder.height, encoder.pix_fmt = width, height, pixels
            context = encoder.codec_context if encoder is stream else encoder
            if shape:
                context.sample_aspect_ratio = shape
            encoder.options = {"crf": "12", "preset": "veryfast"} if codec == "libx264" else {}
            if codec != "libx264":
                encoder.bit_rate = 3_000_000
            for _ in range(each):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts, frame.time_base = at, Fraction(1, fps)
                at += 1
                _mux(out, stream, encoder.encode(frame))
            _mux(out, stream, encoder.encode(None))
    return path


def _mux(out: Any, stream: Any, packets: list[Any]) -> None:
    for packet in packets:
        packet.stream = stream
        out.mux(packet)


def squeezed(picture: Picture, shape: Fraction) -> Picture:
    """Store a picture with pixels of this shape: its stored width is even."""
    height, width = picture.shape[:2]
    stored = 2 * round(width / shape / 2)
    return cv2.resize(picture, (stored, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def shown(path: Path) -> list[Picture]:
    upright = UprightRgb()
    return [upright(s.frame) for batch in sample_frames(path, VideoSettings()) for s in batch]


def _circle(size: tuple[int, int] = (192, 144)) -> Picture:
    picture = np.full((size[1], size[0], 3), 30, np.uint8)
    return cv2.circle(picture, (size[0] // 3, size[1] // 2), 40, (230, 230, 230), -1)  # type: ignore[return-value]


def _extent(picture: Picture) -> tuple[int, int]:
    """Width and height of what is bright."""
    bright = picture.mean(axis=2) > 128
    return int(bright.any(axis=0).sum()), int(bright.any(axis=1).sum())


@pytest.mark.parametrize("rotation", [0, 90, 180])
@pytest.mark.parametrize("shape", ["4/3", "16/15", "64/45", "8/9", "2"])
def test_anamorphic_pixels_are_squared(tmp_path: Path, shape: str, rotation: int) -> None:
    stored = squeezed(_circle(), Fraction(shape))
    path = write_segments(
        tmp_path / "film.mp4", [(stored, Fraction(shape), "yuv420p")] * 1, rotation=rotation
    )
    info = probe(path, VideoSettings())
    across = round(stored.shape[1] * Fraction(shape))
    assert (info.width, info.height) == ((144, across) if rotation == 90 else (across, 144))
    assert info.problem is None
    for picture in shown(path)[:3]:
        assert picture.shape == (info.height, info.width, 3)
        assert _extent(picture) == pytest.approx((81, 81), abs=3)


def test_dv_and_mpeg_pixels_are_squared(tmp_path: Path) -> None:
    picture = _circle((768, 576))
    for name, codec, pixels in (("a.mpg", "mpeg2video", "yuv420p"), ("b.dv", "dvvideo", "yuv420p")):
        stored = cv2.resize(picture, (720, 576), interpolation=cv2.INTER_AREA)
        path = write_segments(
            tmp_path / name,
            [(stored, Fraction(16, 15), pixels)],  # type: ignore[list-item]
            codec=codec,
            each=25,
            fps=25,
        )
        info = probe(path, VideoSettings())
        assert info.height == 576 and info.width == pytest.approx(768, abs=20)
        wide, tall = _extent(shown(path)[0])
        assert wide / tall == pytest.approx(1, abs=0.04)


def _with_container_shape(path: Path, across: int, down: int) -> Path:
    """Overwrite the shape of pixels that an MP4's header names, and leave the coded stream's."""
    data = path.read_bytes()
    at = data.index(b"pasp") + 4
    path.write_bytes(data[:at] + across.to_bytes(4, "big") + down.to_bytes(4, "big") + data[at + 8 :])
    return path


def test_the_containers_shape_wins_over_the_coded_one(tmp_path: Path) -> None:
    path = write_segments(tmp_path / "film.mp4", [(_circle(), Fraction(2), "yuv420p")])
    assert probe(path, VideoSettings()).width == 384
    assert probe(_with_container_shape(path, 3, 2), VideoSettings()).width == 288


@pytest.mark.parametrize(("across", "down"), [(1, 1000), (1000, 1), (9, 2)])
def test_an_absurd_shape_is_ignored_and_reported(tmp_path: Path, across: int, down: int) -> None:
    path = write_segments(tmp_path / "film.mp4", [(_circle(), Fraction(2), "yuv420p")])
    info = probe(_with_container_shape(path, across, down), VideoSettings())
    assert (info.width, info.height) == (192, 144)
    assert info.problem is not None and f"{across}:{down}" in info.problem


def test_pixels_that_are_square_but_for_rounding_are_not_resampled(tmp_path: Path) -> None:
    path = write_segments(tmp_path / "film.mp4", [(_circle(), Fraction(135, 136), "yuv420p")])
    assert (probe(path, VideoSettings()).width, shown(path)[0].shape) == (192, (144, 192, 3))


def test_a_picture_that_is_too_large_once_squared_is_refused(tmp_path: Path) -> None:
    path = write_segments(tmp_path / "film.mp4", [(_circle(), Fraction(2), "yuv420p")])
    with pytest.raises(UnreadableVideo) as error:
        probe(path, VideoSettings(max_pixels=192 * 144))
    assert error.value.status == "too_large"


def test_a_shape_that_changes_midway_is_followed(tmp_path: Path) -> None:
    picture = _circle()
    segments = [
        (squeezed(picture, Fraction(4, 3)), Fraction(4, 3), "yuv420p"),
        (picture, Fraction(1), "yuv420p"),
    ]
    pictures = shown(write_segments(tmp_path / "film.ts", segments))
    assert len(pictures) == 20
    for before, after in zip(pictures[:9], pictures[11:], strict=True):
        assert _extent(before) == pytest.approx((81, 81), abs=3)
        assert _extent(after) == pytest.approx((81, 81), abs=3)


def test_a_pixel_format_that_changes_midway_is_followed(tmp_path: Path) -> None:
    picture = portrait(0.4, (160, 120))
    segments = [(picture, None, "yuv420p"), (picture, None, "yuv444p"), (picture, None, "yuv420p10le")]
    pictures = shown(write_segments(tmp_path / "film.ts", segments))
    assert len(pictures) == 30
    assert max(np.abs(p.astype(int) - picture).mean() for p in pictures) < 4


def test_a_rotation_that_changes_from_one_frame_to_the_next_is_followed(tmp_path: Path) -> None:
    picture, upright = _circle(), UprightRgb()
    plain = write_segments(tmp_path / "plain.mp4", [(picture, None, "yuv420p")])
    turned = write_segments(tmp_path / "turned.mp4", [(picture, None, "yuv420p")], rotation=90)
    for path, turns in ((plain, 0), (turned, 1), (plain, 0)):
        with av.open(str(path)) as container:
            pictures = [upright(frame) for frame in container.decode(video=0)]
        assert len(pictures) == 10
        # counterclockwise, as FFmpeg counts
        assert max(np.abs(p.astype(int) - np.rot90(picture, turns)).mean() for p in pictures) < 3


def test_boxes_keep_their_shape_where_the_recording_turns(tmp_path: Path) -> None:
    wide, tall = portrait(0.0, (320, 240)), portrait(0.0, (240, 320))
    path = write_segments(
        tmp_path / "film.webm", [(wide, None, "yuv420p"), (tall, None, "yuv420p")], codec="libvpx"
    )
    made = extract_visual(path, VideoSettings(), FaceSettings(), LandmarkSettings(), threads=1)
    frames, faces = made.frames.to_pydict(), made.faces.to_pydict()
    assert list(zip(frames["width"], frames["height"], strict=True)) == [(320, 240)] * 10 + [(240, 320)] * 10
    assert faces["frame_index"] == list(range(20))
    for half, picture in ((slice(0, 10), wide), (slice(10, 20), tall)):
        # what the same detector says of the picture itself
        found = FaceFinder(FaceSettings()).find(*shrink(picture, FaceSettings().detection_side))
        assert found is not None
        boxes = np.array([faces[n][half] for n in ("x1", "y1", "x2", "y2")]).T
        assert np.abs(boxes - found.box).max() < 8
        shape = (boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1])
        assert ((shape > 0.6) & (shape < 0.95)).all()
