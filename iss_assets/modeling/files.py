"""Read and write named arrays and their description in safetensors files, atomically; hash files by content."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file


def write_arrays(path: Path, arrays: dict[str, np.ndarray], described: dict[str, str]) -> None:
    """Write arrays and a description to a safetensors file; an interrupted call leaves the old file or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # a single sorted entry, because the library writes several entries in random order
        metadata = {"described": json.dumps(described, sort_keys=True)}
        save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, partial, metadata=metadata)
        partial.chmod(0o600)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read arrays and description from a file written by `write_arrays`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or not a safetensors file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            description = json.loads((file.metadata() or {}).get("described", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is damaged or not a safetensors file: train this fold again"
        ) from error


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file (64 hexadecimal digits); it is read again only if its size or mtime changed.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    stat = path.stat()
    return _content_hash(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _content_hash(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
