"""Edits in mp4 and mov files that FFmpeg does not follow.

FFmpeg leaves out what an edit list hides and joins its segments. It ignores two kinds of edits and plays the media
instead: an empty edit after the first segment (nothing is shown for its length), and a dwell (media rate 0: one
picture is held for its length). ISO/IEC 14496-12, 8.6.6. They are read here from the file's movie box.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

_MAX_BYTES: Final = 64 * 2**20
"""A larger movie box is not read; three hours of video need two megabytes."""
_MAX_BOXES: Final = 10_000


class Edit(NamedTuple):
    """An edit that FFmpeg does not follow.

    Attributes
    ----------
    start_s, end_s : float
        Start and end in the presentation, in seconds.
    media_s : float or None
        The time in the media that it shows, in seconds; None for an empty edit.
    rate : float
        1 plays, 0 holds a picture.
    """

    start_s: float
    end_s: float
    media_s: float | None
    rate: float

    @property
    def is_blank(self) -> bool:
        """Whether the edit plays no new picture or sound."""
        return self.media_s is None or self.rate == 0


def unfollowed_edits(path: Path) -> dict[int, list[Edit]]:
    """Return, by track id, the edits that FFmpeg does not follow: empty ones midway, and rates other than 1.

    Parameters
    ----------
    path : Path
        An mp4 or mov file. If its boxes are broken, the result is empty.
    """
    try:
        with path.open("rb") as file:
            movie = _movie(file)
        return dict(_of_tracks(movie))
    except (struct.error, OSError, ZeroDivisionError):
        return {}


def _movie(file: BinaryIO) -> bytes:
    """Return the content of the movie box; empty if there is none or it is too large."""
    for _ in range(_MAX_BOXES):
        head = file.read(16)
        if len(head) < 8:
            break
        size, kind, header = int.from_bytes(head[:4]), head[4:8], 8
        if size == 1:
            size, header = int.from_bytes(head[8:16]), 16
        if kind == b"moov":
            file.seek(header - len(head), 1)
            return file.read(size - header) if header < size <= _MAX_BYTES else b""
        if size < header:
            break
        file.seek(size - len(head), 1)
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the boxes inside a box."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _of_tracks(movie: bytes) -> Iterator[tuple[int, list[Edit]]]:
    movie_scale = 0
    for kind, content in _boxes(movie):
        if kind == b"mvhd":
            movie_scale = _after_times(content)
        if kind != b"trak":
            continue
        number = media_scale = 0
        entries: list[tuple[int, int, float]] = []
        for part, inner in _boxes(content):
            if part == b"tkhd":
                number = _after_times(inner)
            elif part == b"edts":
                entries = [e for name, box in _boxes(inner) if name == b"elst" for e in _entries(box)]
            elif part == b"mdia":
                media_scale = next((_after_times(box) for name, box in _boxes(inner) if name == b"mdhd"), 0)
        if movie_scale and media_scale:
            edits = list(_unfollowed(entries, movie_scale, media_scale))
            if edits:
                yield number, edits


def _after_times(box: bytes) -> int:
    """Return the number after the creation and modification times: a header's time scale, or a track's id."""
    return int(struct.unpack_from(">I", box, 20 if box[:1] == b"\1" else 12)[0])


def _entries(box: bytes) -> Iterator[tuple[int, int, float]]:
    wide = box[:1] == b"\1"
    form = struct.Struct(">Qqi" if wide else ">Iii")
    (count,) = struct.unpack_from(">I", box, 4)
    for i in range(min(count, (len(box) - 8) // form.size)):
        length, media, rate = form.unpack_from(box, 8 + i * form.size)
        yield length, media, rate / 65536


def _unfollowed(entries: list[tuple[int, int, float]], movie_scale: int, media_scale: int) -> Iterator[Edit]:
    at = 0
    begun = False
    for length, media, rate in entries:
        begun |= media >= 0
        if begun and (media < 0 or rate != 1):
            shows = None if media < 0 else media / media_scale
            yield Edit(at / movie_scale, (at + length) / movie_scale, shows, rate)
        at += length
