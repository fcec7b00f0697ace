"""Reading the warehouse's file ahead of DuckDB.

Belongs here: bringing a file into the page cache from beginning to end while something else picks from it.
Does not belong here: what is picked (``items``).

DuckDB asks for its blocks one after the other and waits for each. A disk gives several times as much to somebody who
reads on and on.
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
"""A file larger than this share of the memory would push out what it brought in before that is wanted."""


@contextmanager
def read_ahead(path: Path) -> Iterator[None]:
    """Read a file ahead while the block runs, if the memory has room for it; nothing is kept of what is read."""
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
    """Read until the end of the file or until `done`; give the number of bytes read."""
    piece, read = bytearray(_PIECE), 0
    with path.open("rb", buffering=0) as file:
        while not done.is_set() and (some := file.readinto(piece)):
            read += some
    return read
