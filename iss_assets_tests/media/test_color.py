"""HDR and wide gamut become the SDR picture that they were made from; ordinary video is decoded as it is tagged.

The tests code HDR with formulas of their own, from light to signal; the code goes the other way.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from iss_assets.media.color import roll_off, transfer_name
from iss_assets.media.upright import UprightRgb
from iss_assets.media.video import probe, sample_frames
from iss_assets.settings import VideoSettings
from iss_assets_tests.media.films import portrait

PQ, HLG = 16, 18
Picture = NDArray[Any]


def _linear(srgb: Picture) -> Picture:
    """IEC 61966-2-1, from 8 bits to light."""
    signal = srgb / 255.0
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _in_bt2020(linear: Picture) -> Picture:
    """Light in BT.709 to BT.2020 primaries (ITU-R BT.2087-0, table 2)."""
    matrix = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    return linear @ np.array(matrix).T


def _pq(nits: Picture) -> Picture:
    """ITU-R BT.2100-2, table 4: reference PQ inverse EOTF."""
    y = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def _hlg(nits: Picture) -> Picture:
    """ITU-R BT.2100-2, table 5: inverse OOTF of a display of 1000 cd/m2, then the OETF."""
    display = nits / 1000
    luminance = np.maximum(display @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
    scene = display * luminance ** ((1 - 1.2) / 1.2)
    logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)


def _as_hdr(srgb: Picture, transfer: int) -> Picture:
    """An SDR picture in HDR, its white at 203 cd/m2 (ITU-R BT.2408): the signal, 0 to 1."""
    nits = 203 * _in_bt2020(_linear(srgb))
    return _pq(nits) if transfer == PQ else _hlg(nits)


def _yuv(signal: Picture, red: float, blue: float, *, bits: int = 10, full: bool = False) -> Picture:
    """Code R'G'B' as Y'CbCr with a matrix of these weights: an array (3, height, width) of whole numbers."""
    luma = signal @ [red, 1 - red - blue, blue]
    cb, cr = (signal[..., 2] - luma) / (2 * (1 - blue)), (signal[..., 0] - luma) / (2 * (1 - red))
    unit = 2 ** (bits - 8)
    scale, offset, chroma = (255, 0, 255) if full else (219, 16, 224)
    middle = 128 * unit
    planes = [unit * (offset + scale * luma), middle + unit * chroma * cb, middle + unit * chroma * cr]
    return np.clip(np.round(planes), 0, 2**bits - 1).astype(np.uint16)


def _write(
    path: Path, planes: Picture, tags: dict[str, int], *, codec: str = "ffv1", bits: int = 10, count: int = 10
) -> Path:
    """Write a film of one picture over and over, in 4:4:4."""
    _, height, width = planes.shape
    pixels = "yuv444p10le" if bits == 10 else "yuv444p"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.options = {"x265-params": "log-level=none:crf=4"} if codec == "libx265" else {}
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for i in range(count):
            frame = av.VideoFrame(width, height, pixels)
            for plane, values in zip(frame.planes, planes, strict=True):
                rows = np.zeros((height, plane.line_size // (2 if bits == 10 else 1)), np.uint16)
                rows[:, :width] = values
                plane.update((rows if bits == 10 else rows.astype(np.uint8)).tobytes())
            for name, value in tags.items():
                setattr(frame, name, value)
            frame.pts, frame.time_base = i, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def _hdr_tags(transfer: int) -> dict[str, int]:
    return {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}


def _shown(path: Path) -> NDArray[np.uint8]:
    batch = next(iter(sample_frames(path, VideoSettings())))
    return UprightRgb()(batch[0].frame)


@pytest.mark.parametrize("codec", ["ffv1", "libx265"])
@pytest.mark.parametrize(("transfer", "name"), [(PQ, "smpte2084"), (HLG, "arib-std-b67")])
def test_hdr_comes_out_as_the_sdr_picture_it_was_made_from(
    tmp_path: Path, transfer: int, name: str, codec: str
) -> None:
    original = portrait(0.5, (160, 120))
    planes = _yuv(_as_hdr(original, transfer), 0.2627, 0.0593)
    suffix = ".mkv" if codec == "ffv1" else ".mov"
    path = _write(tmp_path / f"film{suffix}", planes, _hdr_tags(transfer), codec=codec)
    assert probe(path, VideoSettings()).transfer == name
    shown = _shown(path).astype(int)
    difference = np.abs(shown - original)
    # below the knee nothing changes but by rounding; above it white keeps 249 of 255
    dark = original.max(axis=2) < 225
    assert np.percentile(difference[dark], 99) <= (1 if codec == "ffv1" else 5)
    assert difference.max() <= (8 if codec == "ffv1" else 30)
    assert abs(shown.mean() - original.mean()) < 0.005 * 255
    # without tone mapping it is far from that
    plain = VideoReformatter().reformat(_first_frame(path), format="rgb24").to_ndarray()
    assert abs(np.percentile(plain, 99) - np.percentile(original, 99)) > 50


def _first_frame(path: Path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def test_what_is_blown_out_in_sdr_is_blown_out_in_hdr() -> None:
    # 247 is the value from which the measures count a pixel as blown out
    for transfer in (PQ, HLG):
        white = np.full((48, 64, 3), 255, np.uint8)
        shown = UprightRgb()(_frame(_as_hdr(white, transfer), transfer))
        assert (shown >= 248).all()


def test_highlights_roll_off_without_a_step_and_never_turn_back() -> None:
    nits = np.linspace(0, 1000, 4001)
    light = roll_off(nits / 203)
    assert (np.diff(light) >= 0).all() and light[-1] == pytest.approx(1)
    assert np.diff(light).max() < 1.01 * (nits[1] / 203)
    knee = nits[np.argmax(np.abs(light - nits / 203) > 1e-6)]
    assert 160 < knee < 175
    # ITU-R BT.2390-11, section 5.4.1, by hand for 203 of 304.5 cd/m2: t is a third, the spline is
    # 20/27 of the knee, 4/27 of what is above it and 7/27 of the most
    top = _pq(np.array(203 * 1.5))
    most = _pq(np.array(203.0)) / top
    start = 1.5 * most - 0.5
    by_hand = 20 / 27 * start + 4 / 27 * (1 - start) + 7 / 27 * most
    assert _pq(roll_off(np.array([1.0])) * 203)[0] / top == pytest.approx(by_hand, abs=1e-9)


def _frame(signal: Picture, transfer: int, primaries: int = 9) -> av.VideoFrame:
    values = np.ascontiguousarray(np.round(np.clip(signal, 0, 1) * 65535).astype(np.uint16))
    frame = av.VideoFrame.from_ndarray(values, format="rgb48le")
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, primaries, 0, 2
    return frame


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_every_color_below_the_knee_comes_back(transfer: int) -> None:
    colors = np.random.default_rng(1).integers(0, 220, (30, 40, 3)).astype(np.uint8)
    shown = UprightRgb()(_frame(_as_hdr(colors, transfer), transfer)).astype(int)
    difference = np.abs(shown - colors)
    assert np.percentile(difference, 99) <= 1 and difference.max() <= 4


@pytest.mark.parametrize("transfer", [1, 14, 2])
def test_a_wide_gamut_in_sdr_is_brought_to_bt709(transfer: int) -> None:
    rng = np.random.default_rng(2)
    colors = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    linear = _in_bt2020(_linear(colors))
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    shown = UprightRgb()(_frame(coded, transfer)).astype(int)
    assert np.percentile(np.abs(shown - colors), 99) <= 1 and np.abs(shown - colors).max() <= 4
    grays = np.repeat(np.arange(256)[None, :, None], 3, axis=2).repeat(2, axis=0) / 255
    assert np.abs(UprightRgb()(_frame(grays, transfer))[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("matrix", "red", "blue"),
    [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (5, 0.299, 0.114), (2, 0.299, 0.114)],
)
def test_sdr_is_decoded_by_the_matrix_and_range_of_its_tags(
    tmp_path: Path, matrix: int, red: float, blue: float, full: bool
) -> None:
    original = np.random.default_rng(3).integers(20, 236, (12, 16, 3)).astype(np.uint8)
    original = original.repeat(8, axis=0).repeat(8, axis=1)
    planes = _yuv(original / 255.0, red, blue, bits=8, full=full)
    tags = {"colorspace": matrix, "color_range": 2 if full else 1, "color_trc": 1}
    path = _write(tmp_path / "film.mkv", planes, tags, bits=8)
    assert np.abs(_shown(path).astype(int) - original).max() <= 3
    assert probe(path, VideoSettings()).transfer == "bt709"


def test_ordinary_pictures_are_exactly_what_ffmpeg_gives(tmp_path: Path) -> None:
    planes = _yuv(portrait(0.2, (160, 120)) / 255.0, 0.299, 0.114, bits=8)
    frame = _first_frame(_write(tmp_path / "film.mkv", planes, {}, bits=8))
    plain = VideoReformatter().reformat(frame, format="rgb24", threads=1).to_ndarray()
    assert np.array_equal(UprightRgb()(frame), plain)


def test_the_containers_tags_count_where_the_stream_has_none() -> None:
    # FFV1 in Matroska carries its colors in the container only, and the test above proves that they are obeyed
    frame = _frame(_as_hdr(np.full((48, 64, 3), 128, np.uint8), PQ), PQ, primaries=2)
    assert np.abs(UprightRgb()(frame).astype(int) - 128).max() <= 1


@pytest.mark.parametrize("matrix", [3, 8, 10, 13, 14])
def test_a_matrix_that_ffmpeg_cannot_convert_stops_nothing(tmp_path: Path, matrix: int) -> None:
    planes = _yuv(np.full((48, 64, 3), 0.5), 0.2627, 0.0593, bits=8)
    path = _write(tmp_path / "film.mkv", planes, {"colorspace": matrix}, bits=8)
    assert np.abs(_shown(path).astype(int) - 128).max() <= 3


def test_transfer_characteristics_have_ffmpegs_names() -> None:
    assert [transfer_name(n) for n in (1, 16, 18, 13, 2, 0, 99)] == [
        "bt709", "smpte2084", "arib-std-b67", "iec61966-2-1", "unknown", "unknown", "unknown",
    ]  # fmt: skip
