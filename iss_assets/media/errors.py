"""The exceptions by which reading a video fails: whether the file, the machine or nobody is at fault."""

from __future__ import annotations


class UnreadableVideo(Exception):
    """The file has no picture that can be used.

    Attributes
    ----------
    status : str
        ``unreadable``, ``no_video``, ``too_short`` or ``too_large``.
    """

    def __init__(self, status: str, message: str):
        self.status = status
        super().__init__(message)


class UnreadableSound(ValueError):
    """The file cannot be opened as media at all."""


class BrokenFile(Exception):
    """Reading the file failed twice, the second time in a separate process. The message is for coordinators.

    Attributes
    ----------
    status : str
        For the table of videos.
    error : str
        Class of the last error, or ``died``, ``time`` or ``memory``.
    """

    status = "unreadable"

    def __init__(self, error: str, message: str):
        self.error = error
        super().__init__(message)


class RefusedFile(BrokenFile):
    """The reader itself reports what is wrong with the file (`UnreadableVideo` or `UnreadableSound`)."""

    def __init__(self, status: str, error: str, message: str):
        super().__init__(error, message)
        self.status = status


class ChangedFile(Exception):
    """The file disappeared or changed while it was read, so the result is discarded; the next run reads it again."""


class MachineError(RuntimeError):
    """Something failed that is not the file's fault; the next run tries again."""
