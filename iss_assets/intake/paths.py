"""File names and links of a study folder, which anybody may have made.

Belongs here: showing a name, telling a link that leads out. Does not belong here: what a file is for.
"""

from __future__ import annotations

import os
from pathlib import Path


def leads_out(root: Path, path: Path) -> bool:
    """Say whether `path`, with all links followed, lies outside of the folder `root`."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def printable(name: str) -> str:
    """Return a file name that can stand in a table: bytes that are no text and control characters are escaped."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
