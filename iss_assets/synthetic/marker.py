"""The file by which a sample study is recognized."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MARKER: Final = "sample_study.json"
"""Name of the file, in the study folder; it holds the arguments that the sample study was created with."""


def is_sample_study(root: Path) -> bool:
    """Return whether a study folder has invented patients, so that every page can say so."""
    return (Path(root) / MARKER).exists()
