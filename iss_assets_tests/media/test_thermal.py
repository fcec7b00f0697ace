"""Thermal pictures: temperatures that follow from Planck's law by hand, faces, clocks, and files that are not what they claim."""

from __future__ import annotations

import random
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from iss_assets.media.thermal import (
    MOST_BYTES,
    Pairing,
    UnreadableThermal,
    find_face,
    measure_thermal,
    pair_with_frame,
    read_thermal,
    recording_start,
)
from iss_assets.schemas.thermal import PAIRINGS
from iss_assets.settings import ThermalSettings
from iss_assets_tests.media.flir import Camera, head, jpeg, raw_record, records, thermal_jpeg

SETTINGS = ThermalSettings()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "0007-01_thermal.jpg"


def test_a_temperature_is_what_a_page_of_arithmetic_gives(file: Path) -> None:
    """B = 1500, F = 1, O = 0 and R1 / R2 = 10,000 (e^5 - 1) give 10,000 at 1500 / 5 = 300 K, which is 26.85 degrees.

    A room of 300 K reflects as much as skin of 300 K emits, so 10,000 means 300 K whatever the emissivity. Skin of
    1500 / 4.8 = 312.5 K (39.35 degrees) emits 1,474,131.59 / (e^4.8 - 1) = 12,232.28; of that 98 % arrives, and 2 % of the
    room's 10,000: 11,987.63 + 200 = 12,187.63.
    """
    camera = Camera(r1=14_741.3159, r2=0.01, b=1500.0, f=1.0, o=0, reflected_c=26.85, emissivity=0.8)
    raw = np.full((40, 60), 10_000, np.uint16)
    raw[:20] = 12_188
    file.write_bytes(jpeg(records((1, 3, raw_record(raw, png=True)), (32, 1, camera.constants()))))
    picture = read_thermal(file, SETTINGS)
    assert picture.celsius.shape == (40, 60)
    assert picture.celsius[30, 5] == pytest.approx(26.85, abs=0.005)
    assert picture.celsius[5, 5] == pytest.approx(39.35, abs=0.02)
    assert picture.camera_emissivity == pytest.approx(0.8)


@pytest.mark.parametrize("png", [True, False], ids=["as PNG", "plain"])
@pytest.mark.parametrize("distance", [0.0, 1.0])
def test_temperatures_come_back_from_the_sensors_raw_values(file: Path, png: bool, distance: float) -> None:
    expected = np.linspace(15, 42, 80 * 60).reshape(60, 80)
    file.write_bytes(thermal_jpeg(expected, Camera(png=png, distance=distance)))
    # a meter of air takes a tenth of a degree, which the constants give back
    assert np.abs(read_thermal(file, SETTINGS).celsius - expected).max() < (0.02 if distance == 0 else 0.5)


def test_the_emissivity_of_skin_counts_and_not_what_the_camera_was_set_to(file: Path) -> None:
    file.write_bytes(thermal_jpeg(np.full((20, 20), 34.0), Camera(emissivity=0.80)))
    assert read_thermal(file, SETTINGS).celsius.mean() == pytest.approx(34.0, abs=0.02)
    misled = read_thermal(file, ThermalSettings(emissivity=0.80)).celsius.mean()
    assert 36.5 < misled < 38.0


def test_records_may_span_many_segments_as_those_of_large_sensors_do(file: Path) -> None:
    expected = np.full((480, 640), 33.0)
    content = thermal_jpeg(expected, Camera(png=False))
    assert content.count(b"FLIR\0") == 10
    file.write_bytes(content)
    assert np.abs(read_thermal(file, SETTINGS).celsius - expected).max() < 0.02


def test_forehead_and_nose_are_measured_in_the_face_and_neither_neck_clothes_nor_glasses(file: Path) -> None:
    file.write_bytes(thermal_jpeg(head(forehead=34.6, nose=29.5)))
    found = measure_thermal(file, SETTINGS)
    assert found["face_found"] and (found["width"], found["height"]) == (320, 240)
    box = [found[f"face_{name}"] for name in ("x1", "y1", "x2", "y2")]
    assert np.abs(np.array(box) - [110, 40, 210, 170]).max() <= 3
    assert found["forehead_c"] == pytest.approx(34.6, abs=0.03)
    assert found["nose_c"] == pytest.approx(29.5, abs=0.03)
    assert found["max_c"] == pytest.approx(36.5, abs=0.03)
    assert found["min_c"] < 25
    assert found["taken_at"] == datetime(2021, 1, 13, 1, 6, 30, 250_000, tzinfo=UTC)
    assert (found["emissivity"], found["camera_emissivity"]) == (0.98, pytest.approx(0.95))


@pytest.mark.parametrize(
    "scene",
    [
        np.full((120, 160), 21.0),
        np.full((120, 160), -15.0),
        np.where(np.eye(120, 160) > 0, 36.0, 20.0),
        np.full((120, 160), 35.0),
        np.linspace(15, 42, 120 * 160).reshape(120, 160),
        np.linspace(15, 42, 120 * 160).reshape(160, 120).T,
        head()[:, 150:],
        head()[:130],
    ],
    ids=[
        "a wall",
        "outside",
        "a warm wire",
        "a warm wall",
        "a gradient",
        "a gradient aside",
        "half a face",
        "no chin",
    ],
)
def test_where_nothing_warm_is_a_whole_face_there_is_none(file: Path, scene: np.ndarray) -> None:
    file.write_bytes(thermal_jpeg(scene))
    found = measure_thermal(file, SETTINGS)
    assert found["face_found"] is False and "forehead_c" not in found
    assert find_face(scene) is None


@pytest.mark.parametrize("shape", [(60, 80), (240, 320), (480, 640)])
def test_the_face_is_found_at_any_resolution_and_in_a_warm_room(file: Path, shape: tuple[int, int]) -> None:
    rows, columns = (np.arange(n) * m // n for n, m in zip(shape, (240, 320), strict=True))
    file.write_bytes(thermal_jpeg(head(room=28.0)[np.ix_(rows, columns)]))
    found = measure_thermal(file, SETTINGS)
    assert found["forehead_c"] == pytest.approx(34.0, abs=0.05)
    assert found["nose_c"] == pytest.approx(30.0, abs=0.05)


def unusable() -> dict[str, tuple[bytes, str]]:
    """Return files that hold no temperatures, each with words of what is said about it."""
    good = head()
    camera = Camera()
    raw, constants = raw_record(camera.seen(good), png=True), camera.constants()
    plain = raw_record(camera.seen(good), png=False)

    def huge(content: bytes, width: int, height: int) -> bytes:
        return content[:2] + struct.pack("<HH", width, height) + content[6:]

    def announced(content: bytes, width: int, height: int) -> bytes:
        """Return raw values whose PNG picture says that it is larger than it is."""
        return content[:48] + struct.pack(">II", width, height) + content[56:]

    def made(*parts: tuple[int, int, bytes]) -> bytes:
        return jpeg(records(*parts))

    def set_to(**changed: Any) -> bytes:
        return made((1, 3, raw), (32, 1, camera.with_(**changed).constants()))

    damaged, ordinary = "damaged", "ordinary photograph"
    return {
        "empty": (b"", "not a JPEG"),
        "text": (b"temperature;34.1\n", "not a JPEG"),
        "a spreadsheet formula": (b"=HYPERLINK(1)", "not a JPEG"),
        "a photograph": (jpeg(None), ordinary),
        "too large": (b"\xff\xd8" + bytes(MOST_BYTES), "larger than"),
        "no records": (jpeg(b"FFF\0" + bytes(60)), damaged),
        "not records": (jpeg(b"\0" * 400), damaged),
        "no raw values": (made((32, 1, constants)), damaged),
        "no constants": (made((1, 3, raw)), damaged),
        "half the constants": (made((1, 3, raw), (32, 1, constants[:400])), damaged),
        "half the raw values": (made((32, 1, constants), (1, 2, plain[:9000])), damaged),
        "half a PNG": (made((32, 1, constants), (1, 3, raw[:900])), damaged),
        "absurd size": (made((1, 2, huge(plain, 65_535, 65_535)), (32, 1, constants)), damaged),
        "no size": (made((1, 2, huge(plain, 0, 240)), (32, 1, constants)), damaged),
        "a PNG bomb": (made((1, 3, announced(raw, 50_000, 50_000)), (32, 1, constants)), damaged),
        "four billion records": (jpeg(records((1, 3, raw), (32, 1, constants))).replace(
            struct.pack(">III", 101, 64, 6), struct.pack(">III", 101, 64, 2**32 - 1)), damaged),
        "no emissivity": (set_to(emissivity=0.0), damaged),
        "not a number": (set_to(b=float("nan")), damaged),
        "no Planck constants": (set_to(r1=0.0, r2=0.0, b=0.0), damaged),
        "absurd temperatures": (set_to(o=10**8), damaged),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(unusable()))
def test_a_file_without_temperatures_is_refused_in_words(file: Path, name: str) -> None:
    content, words = unusable()[name]
    file.write_bytes(content)
    with pytest.raises(UnreadableThermal, match=words) as caught:
        measure_thermal(file, SETTINGS)
    assert str(file.parent) not in str(caught.value) and caught.value.status == "unreadable"


def test_broken_bytes_give_a_refusal_or_temperatures_and_nothing_else(file: Path) -> None:
    """Fuzz the segments: bytes changed, cut out, repeated, and files that break off."""
    chance = random.Random(17)
    whole = thermal_jpeg(head()[::4, ::4], Camera(png=False))
    outcomes = {"refused": 0, "read": 0}
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(content)) if chance.random() < 0.3 else chance.randrange(1500)
            kind = chance.randrange(4)
            if kind == 0:
                content[at] = chance.randrange(256)
            elif kind == 1:
                content[at : at + chance.randint(1, 64)] = b""
            elif kind == 2:
                content[at:at] = content[at : at + chance.randint(1, 64)]
            else:
                content[at : at + 4] = chance.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
        if chance.random() < 0.2:
            del content[chance.randrange(len(content)) :]
        file.write_bytes(content)
        try:
            found = measure_thermal(file, SETTINGS)
        except UnreadableThermal:
            outcomes["refused"] += 1
        else:
            assert found["width"] * found["height"] <= 4_000_000
            outcomes["read"] += 1
    assert min(outcomes.values()) > 40, outcomes


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        (Camera(), datetime(2021, 1, 13, 1, 6, 30, 250_000, tzinfo=UTC)),
        (Camera(zone_minutes=-120), datetime(2021, 1, 13, 1, 6, 30, 250_000, tzinfo=UTC)),
        (Camera(taken_at=None), None),
        (Camera(taken_at=datetime(1980, 1, 1, tzinfo=UTC)), None),
    ],
)
def test_a_picture_knows_when_it_was_taken_unless_its_clock_was_never_set(
    file: Path, camera: Camera, expected: datetime | None
) -> None:
    file.write_bytes(thermal_jpeg(np.full((8, 8), 30.0), camera))
    assert read_thermal(file, SETTINGS).taken_at == expected


def film(path: Path, **entries: str) -> Path:
    """Write a short video with entries of metadata."""
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(path), "w", options=options) as container:
        container.metadata.update({name.replace("__", "."): value for name, value in entries.items()})
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shade in range(5):
            picture = np.full((48, 64, 3), 40 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"creation_time": "2021-01-13T01:05:00.000000Z"}, datetime(2021, 1, 13, 1, 5, tzinfo=UTC)),
        (
            {
                "creation_time": "2021-01-13T01:09:00.000000Z",
                "com__apple__quicktime__creationdate": "2021-01-12T20:05:00-0500",
            },
            datetime(2021, 1, 13, 1, 5, tzinfo=UTC),
        ),
        ({}, None),
        ({"com__apple__quicktime__creationdate": "yesterday"}, None),
        ({"com__apple__quicktime__creationdate": "2021-01-12T20:05:00"}, None),
        ({"creation_time": "1970-01-01T00:00:00.000000Z"}, None),
    ],
    ids=["container", "Apple", "nothing", "words", "no offset", "clock never set"],
)
def test_a_video_knows_when_it_was_recorded_by_what_phones_write(
    tmp_path: Path, entries: dict[str, str], expected: datetime | None
) -> None:
    assert recording_start(film(tmp_path / "film.mov", **entries)) == expected


START = datetime(2021, 1, 13, 1, 5, tzinfo=UTC)
FRAMES = np.arange(200), np.arange(200) / 10


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (7.34, Pairing("clocks", 73, 0.04)),
        (0.0, Pairing("clocks", 0, 0.0)),
        (-90.0, Pairing("clocks", 0, -90.0)),
        (19.9 + 600, Pairing("clocks", 199, 600.0)),
        (19.9 + 600.1, Pairing("too_far_apart")),
        (-3600.0, Pairing("too_far_apart")),
    ],
)
def test_a_picture_is_paired_with_the_frame_nearest_in_time_within_one_sitting(
    seconds: float, expected: Pairing
) -> None:
    found = pair_with_frame(START + timedelta(seconds=seconds), START, FRAMES, SETTINGS)
    assert (found.pairing, found.paired_frame) == expected[:2]
    assert found.pair_gap_s == (None if expected.pair_gap_s is None else pytest.approx(expected.pair_gap_s))


def test_without_a_clock_or_a_video_nothing_is_paired_and_the_reason_is_named() -> None:
    nothing = np.zeros(0), np.zeros(0)
    assert pair_with_frame(START, START, None, SETTINGS) == Pairing("no_video")
    assert pair_with_frame(START, START, nothing, SETTINGS) == Pairing("no_video")
    assert pair_with_frame(None, START, FRAMES, SETTINGS) == Pairing("no_time_in_picture")
    assert pair_with_frame(START, None, FRAMES, SETTINGS) == Pairing("no_time_in_video")
    assert set(PAIRINGS) == {"clocks", "no_video", "no_time_in_picture", "no_time_in_video", "too_far_apart"}
