"""File names and links of a study folder, which are not trusted."""

from __future__ import annotations

import os
from pathlib import Path


def leads_out(root: Path, path: Path) -> bool:
    """Return whether `path`, after following all links, is outside the folder `root`."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def printable(name: str) -> str:
    """Return a file name that can be stored in a table: invalid bytes and control characters are escaped."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
