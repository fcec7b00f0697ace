"""Opening a media file that may be hostile, and reading its packets.

Belongs here: what every reader of a file has to do first, picture and sound alike.
Does not belong here: which of its streams counts (``streams``), decoding (``video``, ``audio``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import av.error

_PLAYLISTS: Final = frozenset({"concat", "dash", "hls", "imf", "sdp", "rtsp"})
"""Demuxers that open other files or addresses named inside the file."""


_UNANNOUNCED: Final = frozenset({"flv", "mpeg", "mpegts"})
"""Containers whose tracks become known by their first packet only."""
_FAR_AHEAD: Final = {"analyzeduration": "60000000", "probesize": "500000000"}
"""A minute, in microseconds, and 500 MB: a track of sound may begin that late."""
WITHOUT_EDITS: Final = {"ignore_editlist": "1"}

_SUBFILE: Final = "subfile,,"
"""FFmpeg's protocol for a part of a file; a path never begins so, as it begins at the root."""


class UnreadableVideo(Exception):
    """Nothing can be seen in this file.

    Attributes
    ----------
    status : str
        ``unreadable``, ``no_video``, ``too_short`` or ``too_large``.
    """

    def __init__(self, status: str, message: str):
        self.status = status
        super().__init__(message)


def open_container(path: Path, start: int = 0) -> Any:
    """Open a media file for reading, and no other file or address that it may name.

    Parameters
    ----------
    path : Path
        The file.
    start : int
        Byte from which on it is read, as if nothing came before.

    Raises
    ------
    UnreadableVideo
        If FFmpeg finds nothing that it knows.
    """
    try:
        container = _open(path, start)
        if not container.streams.audio and _UNANNOUNCED & set(container.format.name.split(",")):
            container.close()
            container = _open(path, start, **_FAR_AHEAD)
        if hides_everything(container):
            container.close()
            container = _open(path, start, **WITHOUT_EDITS)
    except (av.error.FFmpegError, OSError, ValueError):
        empty = path.is_file() and path.stat().st_size == 0
        raise UnreadableVideo(
            "unreadable",
            "The file is empty; submit it again."
            if empty
            else "The file is no video, or it broke off before its table of contents; submit it again.",
        ) from None
    if _PLAYLISTS & set(container.format.name.split(",")):
        container.close()
        raise UnreadableVideo("unreadable", "The file is a list of other files and holds no video itself.")
    return container


def hides_everything(container: Any) -> bool:
    """Say whether a broken edit list leaves nothing of a moving picture: an edit of no length, or after the end."""
    if "mov" not in container.format.name.split(","):
        return False
    moving = [s for s in container.streams.video if s.frames > 1 and len(s.index_entries)]
    return any(all(entry.is_discard for entry in s.index_entries) for s in moving)


def reopen(container: Any) -> Any:
    """Open the file of an open container once more, from where that one begins."""
    start, path = 0, container.name
    if path.startswith(_SUBFILE):
        start, path = int(path.split(",")[3]), path.split(":", 1)[1]
    return open_container(Path(path), start)


def _open(path: Path, start: int, **options: str) -> Any:
    name = os.path.abspath(path)  # noqa: PTH100 - a name like "http:x.mp4" must stay a file's name
    return av.open(
        f"{_SUBFILE}start,{start},end,0,,:{name}" if start else name,
        metadata_errors="replace",
        options={"protocol_whitelist": "file,subfile" if start else "file", **options},
    )


def packets_of(container: Any, *streams: Any) -> Iterator[Any]:
    """Give the packets of some streams, and one None in place of all that follow where the container is broken."""
    try:
        yield from container.demux(*streams)
    except IndexError:
        # at the end, where other streams than those of the beginning came midway, which PyAV does not know
        return
    except (av.error.FFmpegError, OSError):
        yield None
