"""Reading the warehouse's file into the page cache ahead of DuckDB.

DuckDB requests its blocks one by one and waits for each; sequential reading is several times as fast.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Final

_PIECE: Final = 4 * 2**20
_MEMORY_SHARE: Final = 0.5
"""A file larger than this share of the memory would be evicted from the cache before it is used."""


@contextmanager
def read_ahead(path: Path) -> Iterator[None]:
    """Read a file into the page cache while the block runs, if it fits in memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if path.stat().st_size > _MEMORY_SHARE * memory:
        yield
        return
    done = Event()
    reader = Thread(target=_read, args=(path, done), name="read ahead", daemon=True)
    reader.start()
    try:
        yield
    finally:
        done.set()
        reader.join()


def _read(path: Path, done: Event) -> int:
    """Read until the end of the file or until `done`; return the number of bytes read."""
    piece, read = bytearray(_PIECE), 0
    with path.open("rb", buffering=0) as file:
        while not done.is_set() and (some := file.readinto(piece)):
            read += some
    return read
