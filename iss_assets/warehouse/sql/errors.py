"""The error of SQL models: where it is, and what to do about it."""

from __future__ import annotations

from pathlib import Path


class SqlModelError(ValueError):
    """A SQL model cannot be used.

    Attributes
    ----------
    file : str
        File relative to the folder of the models.
    line : int
        Line in the file, from 1.
    problem : str
        What is wrong, and what to do about it.
    """

    def __init__(self, file: Path | str, line: int, problem: str):
        self.file = str(file)
        self.line = line
        self.problem = problem
        super().__init__(f"{self.file}:{line}: {problem}")
