"""One read of the study folder, handed to the runs that are made from it.

`iss run` reads the folder once and decides from that read what is stale. The runs that follow work on the same read, so
that all their rows speak of one moment and no run reads the folder again. Only the videos themselves are opened later:
one whose size or modification time is no longer the listed one is recorded as changed, and the next `iss run` extracts
it. A run that nobody prepared a read for (launched from the UI or by the daemon) reads the folder itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from iss_assets.intake.folder import StudyFolder, open_study
from iss_assets.settings import Settings

_PREPARED: ContextVar[StudyFolder | None] = ContextVar("prepared_read", default=None)


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
