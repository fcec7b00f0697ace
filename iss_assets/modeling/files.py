"""Arrays in files that are safe to open and whole or absent.

Belongs here: writing and reading named arrays with a few words beside them, telling files apart by content. Does not
belong here: what they mean.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np


def write_arrays(path: Path, arrays: dict[str, np.ndarray], described: dict[str, str]) -> None:
    """Write arrays and words to a safetensors file; a killed process leaves the old file or the new one."""
    from safetensors.numpy import save_file

    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # one entry, sorted by us: the library writes several in an order that changes from run to run
        words = {"described": json.dumps(described, sort_keys=True)}
        save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, waiting, metadata=words)
        waiting.chmod(0o600)
        waiting.replace(path)
    finally:
        waiting.unlink(missing_ok=True)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            words = json.loads((file.metadata() or {}).get("described", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, words  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path.name} is damaged or no safetensors file: train this fold again") from error


def content_hash(path: Path) -> str:
    """Hash a file's content (64 hexadecimal digits), read once as long as its size and time of change stay the same.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    found = path.stat()
    return _content_hash(path.resolve(), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=64)
def _content_hash(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
