"""Radiometric JPEG pictures as FLIR cameras write them, made here: no picture of a real camera is among the tests.

The format is ExifTool's description of it (https://exiftool.org/TagNames/FLIR.html). Raw values follow from temperatures by
Planck's law with the camera's constants, as the formula in every FLIR manual has it, at no distance and without a window:

    raw of a body = R1 / (R2 (exp(B / T) - F)) - O
    raw of the sensor = emissivity * raw of the skin + (1 - emissivity) * raw of what it reflects
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from PIL import Image

ZERO_C = 273.15
SEGMENT = 65_000
"""Bytes of records in one segment of the JPEG picture."""


@dataclass(frozen=True)
class Camera:
    """A camera's constants and settings; what a real one (E series) has."""

    r1: float = 15_000.0
    r2: float = 0.0125
    b: float = 1430.0
    f: float = 1.0
    o: int = -7000
    emissivity: float = 0.95
    reflected_c: float = 20.0
    distance: float = 0.0
    taken_at: datetime | None = datetime(2021, 1, 13, 1, 6, 30, 250_000, tzinfo=UTC)
    zone_minutes: int = 300
    png: bool = True

    def raw(self, celsius: Any) -> Any:
        """Return what the sensor reads of a black body of a temperature."""
        return self.r1 / (self.r2 * (np.exp(self.b / (np.asarray(celsius) + ZERO_C)) - self.f)) - self.o

    def seen(self, celsius: Any, emissivity: float = 0.98) -> np.ndarray:
        """Return what the sensor reads of skin, which reflects a little of the room."""
        own, room = self.raw(celsius), self.raw(self.reflected_c)
        return np.rint(emissivity * own + (1 - emissivity) * room).astype(np.uint16)

    def constants(self) -> bytes:
        """Return the record of constants (CameraInfo)."""
        record = bytearray(0x4A0)

        def put(at: int, form: str, *values: float) -> None:
            struct.pack_into("<" + form, record, at, *values)

        put(0, "H", 2)
        reflected = self.reflected_c + ZERO_C
        put(0x20, "6f", self.emissivity, self.distance, reflected, 295.15, 295.15, 1.0)
        put(0x3C, "f", 0.5)
        put(0x58, "3f", self.r1, self.b, self.f)
        put(0x70, "5f", 0.006569, 0.01262, -0.002276, -0.00667, 1.9)
        put(0x308, "if", self.o, self.r2)
        if self.taken_at is not None:
            moment = self.taken_at.timestamp()
            put(0x384, "IIh", int(moment), round(moment % 1 * 1000), self.zone_minutes)
        return bytes(record)

    def with_(self, **changed: Any) -> Camera:
        """Return the camera with other constants."""
        return replace(self, **changed)


def raw_record(raw: np.ndarray, png: bool) -> bytes:
    """Return the record of raw values (RawData): as a PNG picture with its bytes swapped, or plain."""
    height, width = raw.shape
    head = struct.pack("<HHH", 2, width, height).ljust(32, b"\0")
    if not png:
        return head + raw.astype("<u2").tobytes()
    file = io.BytesIO()
    Image.fromarray(raw.astype("<u2").byteswap()).save(file, "PNG")
    return head + file.getvalue()


def records(*parts: tuple[int, int, bytes]) -> bytes:
    """Return a file of records (FFF) from type, subtype and content of each; cameras leave places in the list empty."""
    places = len(parts) + 4
    at = 64 + 32 * places
    listed, body = b"", b""
    for kind, subtype, content in parts:
        listed += struct.pack(">HHIIIIIII", kind, subtype, 100, 1, at + len(body), len(content), 0, 0, 0)
        body += content
    head = b"FFF\0" + b"CAMCTRL".ljust(16, b"\0") + struct.pack(">III", 101, 64, places)
    return head.ljust(64, b"\0") + listed.ljust(32 * places, b"\0") + body


def jpeg(fff: bytes | None, size: tuple[int, int] = (160, 120)) -> bytes:
    """Return a JPEG picture that carries records in its segments, as many as they need."""
    file = io.BytesIO()
    Image.new("L", size, 90).save(file, "JPEG")
    plain = file.getvalue()
    if fff is None:
        return plain
    pieces = [fff[i : i + SEGMENT] for i in range(0, len(fff), SEGMENT)]
    segments = b"".join(
        b"\xff\xe1"
        + struct.pack(">H", len(piece) + 10)
        + b"FLIR\0\x01"
        + bytes([number, len(pieces) - 1])
        + piece
        for number, piece in enumerate(pieces)
    )
    return plain[:2] + segments + plain[2:]


def thermal_jpeg(celsius: np.ndarray, camera: Camera | None = None) -> bytes:
    """Return a radiometric picture in which every body is skin of the given temperature."""
    camera = camera or Camera()
    raw = raw_record(camera.seen(celsius), camera.png)
    height, width = celsius.shape
    return jpeg(records((1, 3 if camera.png else 2, raw), (32, 1, camera.constants())), (width, height))


def head(
    shape: tuple[int, int] = (240, 320), forehead: float = 34.0, nose: float = 30.0, room: float = 21.0
) -> np.ndarray:
    """Return the temperatures of a head on a bare neck, in clothes: face 100 columns wide and 130 rows high, top at row 40."""
    celsius = np.full(shape, room)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    celsius[(rows >= 210) & (np.abs(columns - 160) < 110)] = 27.0  # clothes
    celsius[(rows >= 150) & (rows < 210) & (np.abs(columns - 160) < 30)] = 34.5  # neck
    celsius[((rows - 105) / 65) ** 2 + ((columns - 160) / 50) ** 2 < 1] = 33.5  # face
    celsius[(rows >= 50) & (rows < 76) & (np.abs(columns - 160) < 24)] = forehead
    celsius[(rows >= 100) & (rows < 128) & (np.abs(columns - 160) < 10)] = nose
    celsius[(rows >= 82) & (rows < 94) & (np.abs(np.abs(columns - 160) - 22) < 12)] = 24.0  # glasses
    celsius[(rows >= 86) & (rows < 88) & (columns == 158)] = 36.5  # the inner corner of an eye
    return celsius
