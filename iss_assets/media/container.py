"""Opening a media file that may be hostile, and reading its packets: the first step for both picture and sound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import av.error

from iss_assets.media.errors import UnreadableVideo

_PLAYLISTS: Final = frozenset({"concat", "dash", "hls", "imf", "sdp", "rtsp"})
"""Demuxers that open other files or addresses named inside the file."""
_UNANNOUNCED: Final = frozenset({"flv", "mpeg", "mpegts"})
"""Containers that do not list their tracks: each is discovered by its first packet."""
_FAR_AHEAD: Final = {"analyzeduration": "60000000", "probesize": "500000000"}
"""One minute, in microseconds, and 500 MB: a sound track may begin that late."""
WITHOUT_EDITS: Final = {"ignore_editlist": "1"}

_SUBFILE: Final = "subfile,,"
"""FFmpeg's protocol for a part of a file. An absolute path never starts like this."""


def open_container(path: Path, start: int = 0) -> Any:
    """Open a media file for reading, but no other file or address that it may name.

    Parameters
    ----------
    path : Path
        The file.
    start : int
        Byte offset to read from, as if nothing came before.

    Raises
    ------
    UnreadableVideo
        If FFmpeg does not recognize the file.
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
    """Return whether a broken edit list hides a whole video track: an edit of zero length, or after the end."""
    if "mov" not in container.format.name.split(","):
        return False
    moving = [s for s in container.streams.video if s.frames > 1 and len(s.index_entries)]
    return any(all(entry.is_discard for entry in s.index_entries) for s in moving)


def reopen(container: Any) -> Any:
    """Open the file of an open container again, from the same byte offset."""
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
    """Yield the packets of some streams; where the container is broken, one None replaces all that follow."""
    try:
        yield from container.demux(*streams)
    except IndexError:
        # at the end of the file, if streams were added midway, which PyAV does not know about
        return
    except (av.error.FFmpegError, OSError):
        yield None
