"""One read of the study folder, handed to the runs that are made from it.

`iss run` reads the folder once and decides from that read what is stale. The runs that follow work on the same read, so
that all their rows speak of one moment and no run reads the folder again. Only the videos themselves are opened later:
one whose size or modification time is no longer the listed one is recorded as changed, and the next `iss run` extracts
it. A run that nobody prepared a read for (launched from the UI or by the daemon) reads the folder itself.

In a cluster the run is on another host, and what the read held of its patient waits in a file of the home, one per patient. A
tag on the run says which content was meant: if the file holds another one by then, the run reads the folder itself.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError

from iss_assets.intake.folder import StudyFolder
from iss_assets.privacy.register import open_study
from iss_assets.settings import Settings

_PREPARED: ContextVar[StudyFolder | None] = ContextVar("prepared_read", default=None)


READ_TAG: Final = "iss/read"
"""On a run of a cluster: the hash of what it is to be made from."""
_PART: Final = TypeAdapter(StudyFolder)


def hand_over(folder: StudyFolder, settings: Settings, patient_id: str) -> dict[str, str]:
    """Store what a read holds of a patient, and return the tag of the run that is to work on it.

    Parameters
    ----------
    folder : StudyFolder
        The read.
    settings : Settings
        Where the home is. Without a cluster nothing is stored.
    patient_id : str
        A patient of the folder.

    Returns
    -------
    dict
        Empty where nothing is stored: the run then reads the folder itself.
    """
    if settings.cluster.broker is None:
        return {}
    try:
        content = _PART.dump_json(folder.part_of(patient_id))
    except PydanticSerializationError:  # the name of a file is no text
        return {}
    path = _place(settings, patient_id)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_suffix(f".{socket.gethostname()}.{os.getpid()}.part")
    with open(partial, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(content)
    partial.replace(path)
    return {READ_TAG: _digest(content)}


def handed_over(tags: Mapping[str, str], patient_id: str, settings: Settings) -> StudyFolder | None:
    """Return the read that a run is to work on; None if there is none, or a later one has taken its place."""
    if READ_TAG not in tags:
        return None
    try:
        content = _place(settings, patient_id).read_bytes()
    except OSError:
        return None
    if _digest(content) != tags[READ_TAG]:
        return None
    return _PART.validate_json(content)


def _place(settings: Settings, patient_id: str) -> Path:
    return settings.reads_dir / f"{patient_id}.json"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


@contextmanager
def prepared(folder: StudyFolder | None) -> Iterator[None]:
    """Hand a read to the runs that this thread executes; None changes nothing.

    Parameters
    ----------
    folder : StudyFolder, optional
        The whole folder, or the part of the patient whose run it is.
    """
    token = _PREPARED.set(folder)
    try:
        yield
    finally:
        _PREPARED.reset(token)


def study_folder(settings: Settings) -> StudyFolder:
    """Return the read that was prepared for this run, or read the study folder now.

    Raises
    ------
    StudyFolderError
        If nothing was prepared and the folder cannot be read.
    """
    folder = _PREPARED.get()
    if folder is not None and folder.root.resolve() == settings.study.resolve():
        return folder
    return open_study(settings)
