"""What a submitted file is: its hash and what its container says."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from iss_assets.intake.records import ThermalFile, VideoFile
from iss_assets.intake.withdrawn import Withdrawn
from iss_assets.media.errors import BrokenFile, ChangedFile, UnreadableVideo
from iss_assets.media.journal import open_file
from iss_assets.settings import VideoSettings

if TYPE_CHECKING:
    from iss_assets.media.video import VideoInfo

INVENTORY_CODE_VERSION = "4"

_PROBED = (
    "container",
    "codec",
    "width",
    "height",
    "rotation",
    "transfer",
    "source_fps",
    "duration_s",
    "has_audio",
    "audio_codec",
    "status",
    "file_problem",
)


_NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM)
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ELOOP)


class Described(NamedTuple):
    """A video's row; not `settled` if the file could not be read now, so that the next run tries again."""

    row: dict[str, Any]
    settled: bool


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, reading it in pieces.

    Raises
    ------
    OSError
        If it cannot be read, or is not a regular file.
    """
    with open(open_file(path), "rb") as file:  # noqa: PTH123 - it is open already
        return hashlib.file_digest(file, "sha256").hexdigest()


class Content(NamedTuple):
    """What a submitted file is, or why it is not used; not `settled` if the next run tries again."""

    sha256: str
    problem: str | None = None
    settled: bool = True


def identify(file: VideoFile | ThermalFile, withdrawn: Withdrawn | None, known: str | None = None) -> Content:
    """Hash a submitted file, and refuse one that changes meanwhile or whose content was withdrawn.

    Parameters
    ----------
    file : VideoFile or ThermalFile
        The file as the study folder's reader found it.
    withdrawn : Withdrawn, optional
        The register; a file of a content that was withdrawn is refused, whatever its name.
    known : str, optional
        The hash of the file, if it is known; it is not read then.

    Returns
    -------
    Content
        With a placeholder for the hash of a file that is not used.
    """
    placeholder = placeholder_hash(file.name, file.size, file.mtime_ns)
    sha256 = known
    if sha256 is None:
        try:
            sha256 = sha256_of(file.path)
            after = file.path.stat()
        except OSError as error:
            return Content(placeholder, why_unread(error), settled=False)
        if (after.st_size, after.st_mtime_ns) != (file.size, file.mtime_ns):
            why = "The file changed while it was read; the next run reads it again."
            return Content(placeholder, why, settled=False)
    if withdrawn is not None and withdrawn.file(sha256):
        return Content(placeholder, "This file was withdrawn under another name; delete it.")
    return Content(sha256)


def describe_video(
    video: VideoFile,
    known: Mapping[str, Any] | None,
    settings: VideoSettings,
    *,
    trust_probe: bool,
    prober: Callable[[str], VideoInfo] | None = None,
    withdrawn: Withdrawn | None = None,
) -> Described:
    """Return a video's row of the table ``videos``.

    Parameters
    ----------
    video : VideoFile
        The file as the study folder's reader found it.
    known : mapping, optional
        The row of an earlier run. If size and modification time are unchanged, its hash is reused, and with
        `trust_probe` the rest as well.
    settings : VideoSettings
        Limits on what is decoded.
    trust_probe : bool
        Whether `known` was made by the current code and settings.
    prober : callable, optional
        Takes the file's hash and returns what `probe` returns for the file, or raises `BrokenFile` or `ChangedFile`;
        `probe` itself by default.
    withdrawn : Withdrawn, optional
        The register; a file of a content that was withdrawn is refused, whatever its name.
    """
    from iss_assets.media.video import probe

    row: dict[str, Any] = {
        "video_id": video.submission_id,
        "patient_id": video.patient_id,
        "file": video.name,
        "sha256": placeholder_hash(video.name, video.size, video.mtime_ns),
        "bytes": video.size,
        "modified_ns": video.mtime_ns,
        "has_prompt": video.prompt is not None,
    }

    def unread(problem: str, *, settled: bool = False) -> Described:
        placeholder = placeholder_hash(video.name, video.size, video.mtime_ns)
        return Described(
            {**row, "sha256": placeholder, "status": "unreadable", "file_problem": problem}, settled
        )

    same = known is not None and (known["bytes"], known["modified_ns"]) == (video.size, video.mtime_ns)
    kept = known["sha256"] if known is not None and same and known["sha256"] != row["sha256"] else None
    content = identify(video, withdrawn, kept)
    if content.problem is not None:
        return unread(content.problem, settled=content.settled)
    row["sha256"] = content.sha256
    if known is not None and trust_probe and known["sha256"] == row["sha256"]:
        return Described({**row, **{name: known[name] for name in _PROBED}}, True)
    try:
        info = prober(row["sha256"]) if prober else probe(video.path, settings)
    except (UnreadableVideo, BrokenFile) as error:
        return Described({**row, "status": error.status, "file_problem": str(error)}, True)
    except ChangedFile as error:
        return unread(str(error))
    probed = {name: getattr(info, name) for name in _PROBED if hasattr(info, name)}
    return Described({**row, **probed, "status": "ok", "file_problem": info.problem}, True)


def without_probe(row: Mapping[str, Any], problem: str) -> dict[str, Any]:
    """Return a video's row without anything that the probe found."""
    return {
        **row,
        **dict.fromkeys(_PROBED),
        "status": "unreadable",
        "problem": problem,
        "file_problem": problem,
    }


def placeholder_hash(name: str, size: int, mtime_ns: int) -> str:
    """Compute a placeholder for the hash of a file that cannot be read.

    It differs from every other file's hash, and from this file's own once it can be read.
    """
    return hashlib.sha256(b"unread|" + os.fsencode(f"{name}|{size}|{mtime_ns}")).hexdigest()


def why_unread(error: OSError) -> str:
    """Return in words why a file cannot be read now, and what to do."""
    if error.errno in _NOT_ALLOWED:
        return "Permission to read the file is denied; grant it to the account that runs this project."
    if error.errno in _GONE:
        return "The file disappeared before it was read; put it back."
    return (
        f"The file cannot be read ({error.strerror or 'not a regular file'}); check the disk that it is on."
    )
