"""The DuckDB file of a home as a place of tables: the turns of its readers and its writer, opening it, copying it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.engine import Opened, is_encrypted
from iss_assets.warehouse.errors import KeyProblem, WarehouseError
from iss_assets.warehouse.keys import Key, configured_key, forget_keys
from iss_assets.warehouse.locking import LockTimeout, hold
from iss_assets.warehouse.room import require_room_in
from iss_assets.warehouse.swap import SwapFiles, settle

HOME: Final = "the home, ISS_HOME"


@dataclass
class _Reader:
    """The turn of a thread that reads a file, and the blocks in which it does."""

    turn: ExitStack
    blocks: int = 0


class _Readers(threading.local):
    """What a thread reads at the moment, by file."""

    def __init__(self) -> None:
        self.readers: dict[Path, _Reader] = {}


_MINE: Final = _Readers()
# a forked process has turns of its own
os.register_at_fork(after_in_child=lambda: _MINE.readers.clear())


def lock_path(path: Path) -> Path:
    """Return the lock of a warehouse's file."""
    return path.with_name(path.name + ".lock")


class FileStore:
    """A DuckDB file.

    Parameters
    ----------
    path : Path
        The file.
    settings : WarehouseSettings
        Lock timeout, and where the key of an encrypted file is.
    """

    shared = False

    def __init__(self, path: Path, settings: WarehouseSettings):
        self.path, self.settings = path, settings
        self.name = path.name

    def exists(self) -> bool:
        """Return whether the file exists."""
        return self.path.exists()

    def prepare(self) -> None:
        """Make the file's folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def identity(self) -> Hashable | None:
        """Return path and inode."""
        try:
            return str(self.path), self.path.stat().st_ino
        except FileNotFoundError:
            return None

    def stamp(self) -> Hashable:
        """Return inode, time and size of the file and its log."""
        found = []
        for path in self._files():
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)

    def size(self) -> int:
        """Return the file's size."""
        return self.path.stat().st_size

    def require_room(self) -> None:
        """Check that the home can be written to, and has room for a patient's rows."""
        if self.path.parent.is_dir():
            require_room_in(self.path.parent, HOME)

    @contextmanager
    def turn(self, *, exclusive: bool) -> Iterator[None]:
        """Hold the lock; a thread that reads may read within that, and may not write.

        The inner reader waits for nobody: a writer that waits for the outer one goes before readers that come later, and
        they would wait for each other.

        Raises
        ------
        RuntimeError
            If this thread reads, and wants to write: it would wait for itself.
        """
        mine, path = _MINE.readers, self.path.absolute()
        reader = mine.get(path)
        if exclusive:
            if reader is not None:
                raise RuntimeError(f"a thread that reads {self.name} cannot write to it")
            with self._turn(exclusive=True):
                yield
            return
        if reader is None:
            turn = ExitStack()
            turn.enter_context(self._turn(exclusive=False))
            reader = mine[path] = _Reader(turn)
        reader.blocks += 1
        try:
            yield
        finally:
            reader.blocks -= 1
            if not reader.blocks:
                mine.pop(path, None)
                reader.turn.close()

    @contextmanager
    def _turn(self, *, exclusive: bool) -> Iterator[None]:
        """Hold the lock, after completing or undoing what a process that was killed while it converted the home has left."""
        files, timeout = SwapFiles(self.path), self.settings.lock_timeout_s
        while True:
            with hold(lock_path(self.path), exclusive=exclusive, timeout_s=timeout):
                if not files.left_over():
                    yield
                    return
            with hold(lock_path(self.path), exclusive=True, timeout_s=timeout):
                settle(files)

    @contextmanager
    def lock(self, name: str, *, timeout_s: float) -> Iterator[None]:
        """Hold a lock file in the spool, next to what is guarded by it."""
        folder = self.path.with_name("spool")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with hold(folder / f"{name}.lock", exclusive=True, timeout_s=timeout_s):
            yield

    def open(self, *, read_only: bool, apart: bool = False) -> Opened:
        """Open the file, in one's turn, so that only a program that opened it without a turn can be in the way.

        `apart` opens it in a DuckDB of its own.
        """
        deadline = time.monotonic() + self.settings.lock_timeout_s
        asked_again, new = False, not self.path.exists()
        while True:
            try:
                opened = Opened(self.path, read_only, self._key(), apart=apart)
                if new:
                    self.path.chmod(0o600)
                return opened
            except KeyProblem:
                # a key store may hold a new key since this process asked; one that gives a wrong key does so again
                if asked_again or not forget_keys():
                    raise
                asked_again = True
            except (duckdb.IOException, duckdb.InvalidInputException) as error:
                # the second one is an encrypted file whose parts do not fit their tags
                if "lock" not in str(error).lower():
                    raise WarehouseError(
                        f"{self.name} cannot be opened: it is damaged, unreadable, or not a DuckDB file"
                    ) from error
                if time.monotonic() > deadline:
                    raise LockTimeout(
                        f"another program has {self.name} open (a notebook, a DuckDB shell?). "
                        "Close it there, or work on a snapshot: iss snapshot FILE."
                    ) from error
                time.sleep(0.05)

    def open_for(self, query: str) -> Opened:
        """Open the file, in a DuckDB of its own, without access to any other."""
        opened = self.open(read_only=True, apart=True)
        opened.connection.execute("set enable_external_access = false")
        return opened

    def copy_to(self, path: Path) -> None:
        """Copy the file as it is, with its log and its key."""
        # a wrong key is reported now, not to whoever opens the copy
        self.open(read_only=True).close()
        for source in self._files():
            if source.exists():
                shutil.copyfile(source, path.with_name(source.name.replace(self.name, path.name)))

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Commit; the turn ends with the process and not before."""
        connection.execute("commit")

    def key(self) -> Key | None:
        """Return the file's key, or the one that it will have.

        Raises
        ------
        KeyProblem
            If the settings name no key for an encrypted file, or one for a file that is not.
        """
        if not self.path.parent.exists():
            return configured_key(self.settings)
        with self.turn(exclusive=False):
            return self._key()

    def _key(self) -> Key | None:
        key, encrypted = configured_key(self.settings), is_encrypted(self.path)
        if encrypted and key is None:
            raise KeyProblem(
                f"{self.name} is encrypted: name its key with ISS_WAREHOUSE__KEY_FILE or ISS_WAREHOUSE__KEY_COMMAND"
            )
        if encrypted is False and key is not None:
            raise KeyProblem(
                f"the settings name a key, but {self.name} is not encrypted: encrypt it with iss encrypt, or remove "
                "ISS_WAREHOUSE__KEY_FILE and ISS_WAREHOUSE__KEY_COMMAND"
            )
        return key

    def _files(self) -> tuple[Path, Path]:
        return self.path, self.path.with_name(self.name + ".wal")
