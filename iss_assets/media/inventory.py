"""What a submitted video file is: its hash and what its container says.

Belongs here: hashing, and calling the probe. Does not belong here: decoding pictures or sound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iss_assets.settings import VideoSettings
from iss_assets.study.records import VideoFile

INVENTORY_CODE_VERSION = "3"

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
    "problem",
)


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file, read in pieces of 1 MiB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_video(
    video: VideoFile, known: Mapping[str, Any] | None, settings: VideoSettings, *, trust_probe: bool
) -> dict[str, Any]:
    """Give a video's row of the table ``videos``.

    Parameters
    ----------
    video : VideoFile
        The file as the study folder's reader found it.
    known : mapping, optional
        The row of an earlier run. Where size and modification time are still the same, its hash is taken over,
        and with `trust_probe` the rest too.
    settings : VideoSettings
        Limits of what is decoded.
    trust_probe : bool
        Whether `known` was made by the present code and settings.
    """
    from iss_assets.media.video import UnreadableVideo, probe

    unchanged = known is not None and (known["bytes"], known["modified_ns"]) == (video.size, video.mtime_ns)
    row: dict[str, Any] = {
        "video_id": video.submission_id,
        "patient_id": video.patient_id,
        "file": video.name,
        "sha256": known["sha256"] if known is not None and unchanged else sha256_of(video.path),
        "bytes": video.size,
        "modified_ns": video.mtime_ns,
        "has_prompt": video.prompt_path is not None,
    }
    if known is not None and trust_probe and known["sha256"] == row["sha256"]:
        return {**row, **{name: known[name] for name in _PROBED}}
    try:
        info = probe(video.path, settings)
    except UnreadableVideo as error:
        return {**row, "status": error.status, "problem": str(error)}
    return {
        **row,
        **{name: getattr(info, name) for name in _PROBED if hasattr(info, name)},
        "status": "ok",
    }
