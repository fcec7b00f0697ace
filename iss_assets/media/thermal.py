"""A radiometric thermal picture of a face: temperatures in degrees Celsius, where the face is, and when it was taken.

The files are JPEG pictures of FLIR cameras, which carry the sensor's raw values and the camera's constants in segments of
their own. ``flyr`` turns these into temperatures; it is the extra ``thermal``, because its license (EUPL) is not permissive.
The emissivity is ours: cameras are delivered with that of other materials, and skin has 0.98.

Only the two records with raw values and constants are given to ``flyr``, after a look at the sizes that they claim; palettes,
photographs and measuring marks in the file are never decoded.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from iss_assets.media.container import open_container
from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.journal import open_file
from iss_assets.settings import ThermalSettings

THERMAL_CODE_VERSION: Final = "2"
"""Raised when the same file and settings yield another row."""

MOST_BYTES: Final = 64_000_000
"""Larger files are not read: pictures of the largest cameras have a tenth of this."""
MOST_PIXELS: Final = 4_000_000
"""More are not decoded: the largest sensors have 1.3 million, their interpolated pictures 3.1 million."""
_MOST_RECORDS: Final = 256

_SHORTEST_CONSTANTS: Final = 0x384 + 10
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_YEARS: Final = (2000, 2100)
_COLDEST_C, _WARMEST_C = -60.0, 150.0
"""No room or face has a median outside of this: the constants are wrong."""
_COLDEST_FACE_C: Final = 25.0
"""No face is searched for below this."""
_FACE_SHARE: Final = 0.02
"""Smallest share of the picture that a face covers."""
_FACE_HEIGHT: Final = 1.3
"""Height of a face from the hairline to the chin, in widths: the region below is neck (Farkas 1994: 1.3 to 1.4)."""
_LEAST_HEIGHT: Final = 1.0
"""Height in widths that must be in the picture where its lower edge cuts the face off: forehead and nose are then still where
they are looked for, within a tenth of the face."""


class UnreadableThermal(UnreadableVideo):
    """The file holds no temperatures that can be used; the message is for coordinators."""

    def __init__(self, message: str):
        super().__init__("unreadable", message)


@dataclass(frozen=True)
class ThermalPicture:
    """What a thermal picture says.

    Attributes
    ----------
    celsius : ndarray of float64, (rows, columns)
        Temperatures, with the emissivity of the settings; NaN where the constants give none.
    camera_emissivity : float
        The emissivity that the camera was set to.
    taken_at : datetime or None
        When it was taken, by the camera's clock, in UTC; None if the file does not say.
    """

    celsius: NDArray[np.float64]
    camera_emissivity: float
    taken_at: datetime | None


class Box(NamedTuple):
    """A region in pixels: the first column and row, and those after the last."""

    x1: int
    y1: int
    x2: int
    y2: int


def flyr_version() -> str | None:
    """Return the version of ``flyr``; None if the extra is not installed."""
    try:
        return metadata.version("flyr")
    except metadata.PackageNotFoundError:
        return None


def measure_thermal(path: Path, settings: ThermalSettings) -> dict[str, Any]:
    """Return what one thermal picture says, as columns of the table ``thermal``.

    Raises
    ------
    UnreadableThermal
        If the file holds no temperatures that can be used.
    OSError
        If the file cannot be read.
    """
    picture = read_thermal(path, settings)
    found: dict[str, Any] = {
        "width": picture.celsius.shape[1],
        "height": picture.celsius.shape[0],
        "taken_at": picture.taken_at,
        "emissivity": settings.emissivity,
        "camera_emissivity": picture.camera_emissivity,
    }
    box = find_face(picture.celsius)
    found["face_found"] = box is not None
    return found | (face_temperatures(picture.celsius, box) if box else {})


def read_thermal(path: Path, settings: ThermalSettings) -> ThermalPicture:
    """Read the temperatures of a radiometric picture.

    Raises
    ------
    UnreadableThermal
        If it is not one, or is damaged, or claims what cannot be right.
    OSError
        If the file cannot be read.
    """
    with open(open_file(path), "rb") as file:  # noqa: PTH123 - it is open already
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UnreadableThermal(
            f"The file is larger than {MOST_BYTES // 1_000_000} MB; submit the camera's own file."
        )
    if not content.startswith(b"\xff\xd8"):
        raise UnreadableThermal("The file is not a JPEG picture; submit the camera's own file.")
    try:
        return _decode(content, settings)
    except (UnreadableThermal, MemoryError, ImportError):
        raise
    except Exception as error:  # bytes in memory are decoded: whatever goes wrong is about them
        raise UnreadableThermal(
            "The file's temperatures are damaged; copy it from the camera again."
        ) from error


def _decode(content: bytes, settings: ThermalSettings) -> ThermalPicture:
    """Decode a file's content; any exception but an `ImportError` or `MemoryError` means that it is damaged."""
    from flyr.records import RecordIndex, extract_flir_app1, parse_flir_records
    from flyr.thermal import parse_camera_info, parse_raw_data
    from flyr.thermogram import FlyrThermogram

    begin = content.find(b"FLIR\x00")
    if begin < 0:
        raise UnreadableThermal(
            "The picture holds no temperatures: it is an ordinary photograph, or a program has saved it again. Submit the "
            "camera's own file (radiometric JPEG)."
        )
    # flyr looks at every byte before the first segment
    stream = extract_flir_app1(BytesIO(content[:2] + content[max(2, begin - 4) :]))
    records = stream.getbuffer()
    if bytes(records[:4]) not in (b"FFF\x00", b"AFF\x00") or not 0 < _big(records, 28) <= _MOST_RECORDS:
        raise ValueError("no list of records")
    index = parse_flir_records(stream)
    if RecordIndex.RAW_DATA.value not in index or RecordIndex.CAMERA_INFO.value not in index:
        raise ValueError("records are missing")
    raw, info = index[RecordIndex.RAW_DATA.value], index[RecordIndex.CAMERA_INFO.value]
    _require_sane_size(records, raw[2])
    constants = bytes(records[info[2] : info[2] + _SHORTEST_CONSTANTS])
    if len(constants) < _SHORTEST_CONSTANTS:
        raise ValueError("constants break off")
    camera = parse_camera_info(stream, info)
    _require_sane_constants(camera)
    _, _, values = parse_raw_data(stream, raw)
    with np.errstate(all="ignore"):
        celsius = FlyrThermogram(values, camera).adjust_metadata(emissivity=settings.emissivity).celsius
    celsius = np.where(np.isfinite(celsius), celsius, np.nan)
    if np.isnan(celsius).mean() > 0.5 or not _COLDEST_C < float(np.nanmedian(celsius)) < _WARMEST_C:
        raise ValueError("no temperatures")
    return ThermalPicture(celsius, float(camera["emissivity"]), _taken_at(constants))


def _big(records: memoryview, at: int) -> int:
    return int.from_bytes(records[at : at + 4], "big")


def _require_sane_size(records: memoryview, offset: int) -> None:
    """Raise if the record of raw values claims a size that no camera has, or more than the file holds."""
    width, height = struct.unpack_from("<HH", records, offset + 2)
    data = offset + 32
    if not 0 < width * height <= MOST_PIXELS:
        raise ValueError("absurd size")
    if bytes(records[data : data + 8]) == _PNG:
        if struct.unpack_from(">IIBB", records, data + 16) != (width, height, 16, 0):
            raise ValueError("another picture than announced")
    elif len(records) < data + 2 * width * height:
        raise ValueError("raw values break off")


def _require_sane_constants(camera: Mapping[str, float]) -> None:
    """Raise if the camera's constants cannot be right: the temperatures would be numbers without meaning."""
    limits = {
        "emissivity": (0.01, 1.0),
        "object_distance": (0.0, 1000.0),
        "reflected_apparent_temperature": (150.0, 500.0),
        "atmospheric_temperature": (150.0, 500.0),
        "ir_window_temperature": (150.0, 500.0),
        "ir_window_transmission": (0.01, 1.0),
        "relative_humidity": (0.0, 1.0),
        "planck_r1": (1.0, 1e9),
        "planck_r2": (1e-6, 1e3),
        "planck_b": (100.0, 10_000.0),
        "planck_f": (0.0, 100.0),
    }
    for name, (least, most) in limits.items():
        if not least <= camera[name] <= most:
            raise ValueError(f"absurd {name}")


def _taken_at(constants: bytes) -> datetime | None:
    """Return when the camera says that it took the picture: seconds since 1970 in UTC, and milliseconds."""
    seconds, milliseconds = struct.unpack_from("<II", constants, 0x384)
    taken = datetime.fromtimestamp(seconds, UTC) + timedelta(milliseconds=milliseconds & 0xFFFF)
    return taken if _YEARS[0] <= taken.year < _YEARS[1] else None


def find_face(celsius: NDArray[np.float64]) -> Box | None:
    """Find the face: the largest region warmer than its surroundings, from its top down to the chin.

    Warm and cool are told apart by Otsu's threshold (1979) between 15 and 42 degrees. Holes are filled: glasses are cold.
    The width of what is warm grows from the hairline to the cheeks; the chin is 1.3 widths below the top.

    Returns
    -------
    Box or None
        None if nothing warm covers 2 % of the picture, or if the picture's edge cuts it off: a wall, a hand, half a face.
    """
    scaled = np.clip((np.nan_to_num(celsius, nan=15.0) - 15.0) / 27.0, 0, 1)
    levels = (scaled * 255).round().astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    least = max(float(threshold), (_COLDEST_FACE_C - 15.0) / 27.0 * 255)
    _, regions, stats, _ = cv2.connectedComponentsWithStats((levels > least).astype(np.uint8), connectivity=4)
    if len(stats) < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if stats[largest, cv2.CC_STAT_AREA] < _FACE_SHARE * celsius.size:
        return None
    warm = _filled(regions == largest)
    rows = np.flatnonzero(warm.any(axis=1))
    top, bottom, width = int(rows[0]), int(rows[-1]) + 1, 0
    for row in rows:
        columns = np.flatnonzero(warm[row])
        width = max(width, int(columns[-1] - columns[0] + 1))
        if row + 1 - top >= _FACE_HEIGHT * width:
            bottom = int(row) + 1
            break
    columns = np.flatnonzero(warm[top:bottom].any(axis=0))
    box = Box(int(columns[0]), top, int(columns[-1]) + 1, bottom)
    beyond_sides = box.x1 == 0 or box.x2 == celsius.shape[1]
    beyond_chin = box.y2 == celsius.shape[0] and box.y2 - box.y1 < _LEAST_HEIGHT * (box.x2 - box.x1)
    return None if beyond_sides or beyond_chin else box


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the holes of a region: whatever the outside does not reach."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    cv2.floodFill(outside, None, (0, 0), (2.0,))
    return outside[1:-1, 1:-1] != 2


def face_temperatures(celsius: NDArray[np.float64], box: Box) -> dict[str, Any]:
    """Return the temperatures of a face as columns of the table ``thermal``.

    Forehead and nose are parts of the region by their usual places: rows from 10 to 25 % and columns from 30 to 70 %;
    rows from 50 to 65 % and columns from 42 to 58 %. Each is a median; the least and the greatest are over the region.
    """

    def part(y1: float, y2: float, x1: float, x2: float) -> float | None:
        height, width = box.y2 - box.y1, box.x2 - box.x1
        inner = celsius[
            box.y1 + int(y1 * height) : box.y1 + max(int(y2 * height), int(y1 * height) + 1),
            box.x1 + int(x1 * width) : box.x1 + max(int(x2 * width), int(x1 * width) + 1),
        ]
        return None if np.isnan(inner).all() else float(np.nanmedian(inner))

    face = celsius[box.y1 : box.y2, box.x1 : box.x2]
    return {
        **{f"face_{name}": value for name, value in box._asdict().items()},
        "forehead_c": part(0.10, 0.25, 0.30, 0.70),
        "nose_c": part(0.50, 0.65, 0.42, 0.58),
        "min_c": float(np.nanmin(face)),
        "max_c": float(np.nanmax(face)),
    }


def recording_start(path: Path) -> datetime | None:
    """Return when a video says that it was recorded, in UTC; None if it does not say.

    Apple's own entry, which has the offset from UTC, comes first. The other one is the container's creation time, which
    some phones write when recording begins and others when it ends.

    Raises
    ------
    UnreadableVideo
        If the file is not a video.
    """
    container = open_container(path)
    try:
        for name in ("com.apple.quicktime.creationdate", "creation_time"):
            started = _moment(container.metadata.get(name))
            if started is not None:
                return started
    finally:
        container.close()
    return None


def _moment(text: str | None) -> datetime | None:
    """Return a time with its offset from UTC; None if it has none, or is what clocks show that were never set."""
    try:
        moment = datetime.fromisoformat(text or "")
        if moment.tzinfo is None:
            return None
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if _YEARS[0] <= moment.year < _YEARS[1] else None


class Pairing(NamedTuple):
    """The frame of the video that is nearest in time to a thermal picture, as columns of the table ``thermal``."""

    pairing: str
    """``clocks`` if there is one, or why there is none."""
    paired_frame: int | None = None
    pair_gap_s: float | None = None


def pair_with_frame(
    taken_at: datetime | None,
    started_at: datetime | None,
    frames: tuple[NDArray[Any], NDArray[Any]] | None,
    settings: ThermalSettings,
) -> Pairing:
    """Find the frame nearest in time, by the clocks of camera and phone.

    Parameters
    ----------
    taken_at : datetime or None
        When the thermal picture was taken.
    started_at : datetime or None
        When the recording of the video started.
    frames : pair of ndarray, or None
        Index and time in seconds of every sampled frame; None if there is no usable video.
    settings : ThermalSettings
        The greatest gap.
    """
    if frames is None or not len(frames[0]):
        return Pairing("no_video")
    if taken_at is None:
        return Pairing("no_time_in_picture")
    if started_at is None:
        return Pairing("no_time_in_video")
    offset = (taken_at - started_at).total_seconds()
    nearest = int(np.abs(frames[1] - offset).argmin())
    gap = offset - float(frames[1][nearest])
    if not math.isfinite(gap) or abs(gap) > settings.pair_within_s:
        return Pairing("too_far_apart")
    return Pairing("clocks", int(frames[0][nearest]), gap)
