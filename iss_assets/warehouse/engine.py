"""Opening the warehouse's file, in a DuckDB that keeps running in processes that open it many times per second.

Everything that opens the file, encrypted or not, does so through `attach`. Starting DuckDB takes ten milliseconds or more,
opening a file in a running one takes a few. A patient's run opens the warehouse about twenty times, because it must not keep
other processes out. Processes that load the definitions, execute runs, or serve call `keep_running`; in all others DuckDB ends
with the last of the uses that overlap. ``set`` holds for all uses of a DuckDB: what is meant for one connection is ``set session``,
and what must not reach another use gets a DuckDB of its own (`apart`). ``locking`` decides whose turn it is.

An encrypted file is AES-256-GCM, its log and what does not fit into memory included. DuckDB writes it with OpenSSL, which
is in its extension httpfs; the package ``duckdb-extension-httpfs`` holds it, so nothing is downloaded. Loading it takes a
twentieth of a second, for its signature, and only once per process. That it could also read from the network is switched off.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Final

import duckdb

from iss_assets.warehouse.errors import KeyProblem
from iss_assets.warehouse.keys import Key


@dataclass
class _Engine:
    """A DuckDB without a file of its own, and the number of connections that use the warehouse in it."""

    connection: duckdb.DuckDBPyConnection
    encrypts: bool = False
    users: int = 0
    threads: int = 0
    memory_mb: int = 0


DATABASE: Final = "warehouse"
"""Name of the file in every DuckDB here, the one that DuckDB gives ``warehouse.duckdb`` if it is opened directly."""

STORAGE_VERSION: Final = "v1.4.0"
"""The oldest DuckDB that can open the file, with the "v". Files of an older format are converted when they are written to.

With it DuckDB writes only what changed in a table's metadata: a transaction on a table of a thousand row groups takes
0.05 s instead of 0.3 s, and opening takes a third of the time.
"""

_PACKAGE: Final = "duckdb_extension_httpfs"
_HEAD_BYTES: Final = 28
"""DuckDB's main header: a checksum (8 bytes), the magic bytes (4), a version (8), flags (8)."""
_MAGIC: Final = b"DUCK"
_ENCRYPTED: Final = 1
"""The flag of an encrypted file."""

_MUCH_READ: Final = 32 * 2**20
"""Rows of five minutes with a face are that large."""

_verified: set[tuple[str, int, int]] = set()
"""Extensions, by path, inode, and time, whose signature DuckDB has verified in this process."""

_engines: dict[Path, _Engine] = {}
_of_the_parent: list[_Engine] = []
"""Kept so that they are not closed."""
_guard = Lock()
_keeping = False
_threads: int | None = None


def keep_running(threads: int | None = None) -> None:
    """Keep DuckDB running in this process from now on, with this default number of threads or the one before."""
    global _keeping, _threads
    _keeping, _threads = True, threads or _threads


def end_idle() -> None:
    """End every DuckDB that is kept running and that nobody uses at the moment."""
    with _guard:
        for path in [path for path, engine in _engines.items() if not engine.users]:
            _engines.pop(path).connection.close()


def end_after(read_bytes: int) -> None:
    """End what `end_idle` ends if so much was read that its memory counts.

    DuckDB keeps what it took from the system: 130 MB after meshes, 230 MB after sound of half an hour, whose rows are 104 and
    75 MB, although it reports a megabyte. Starting it again takes ten milliseconds.

    Parameters
    ----------
    read_bytes : int
        Size of the rows that were read.
    """
    if read_bytes > _MUCH_READ:
        end_idle()


def default_threads() -> int:
    """Return the threads of a use that names no number: those of `keep_running`, or one per processor."""
    return _threads or os.cpu_count() or 1


def _forget() -> None:
    """Leave the parent's DuckDB alone in a forked process, which does not have its threads.

    It must not be closed either: closing waits for those threads, forever.
    """
    global _guard, _keeping, _threads
    _guard, _keeping, _threads = Lock(), False, None
    _of_the_parent.extend(_engines.values())
    _engines.clear()


os.register_at_fork(after_in_child=_forget)


class Opened:
    """A warehouse file that is open.

    Parameters
    ----------
    path : Path
        The file. The caller holds its lock (``locking``).
    read_only : bool
        Whether others may read it at the same time.
    key : Key, optional
        The key of an encrypted file, or of one that is created.
    encrypts : bool
        Whether DuckDB can encrypt although this file is not encrypted.
    apart : bool
        Whether it is a DuckDB of its own, even where one is kept running: its settings may be changed.

    Raises
    ------
    duckdb.IOException
        If another program has it open, or it is not a DuckDB file.
    KeyProblem
        If the key is wrong.
    """

    def __init__(
        self,
        path: Path,
        read_only: bool,
        key: Key | None = None,
        *,
        encrypts: bool = False,
        apart: bool = False,
    ):
        self._path = path.absolute()
        self._apart = apart
        encrypts = encrypts or key is not None
        with _guard:
            self._engine = self._running(encrypts) or _started(self._path, encrypts)
            try:
                if not self._engine.users:
                    attach(self._engine.connection, self._path, DATABASE, key, read_only=read_only)
                self.connection = self._engine.connection.cursor()
                self.connection.execute(f"use {DATABASE}")
            except (duckdb.Error, KeyProblem):
                if not self._engine.users:
                    self._end()
                raise
            if not apart:
                _engines[self._path] = self._engine
            self._engine.users += 1

    def _running(self, encrypts: bool) -> _Engine | None:
        """Return the DuckDB that runs for this file; end it if the file was encrypted or decrypted since."""
        running = None if self._apart else _engines.get(self._path)
        if running is None or running.users or running.encrypts == encrypts:
            return running
        _engines.pop(self._path).connection.close()
        return None

    def configure(self, threads: int | None, memory_mb_per_thread: int, extra_mb: int = 0) -> None:
        """Set threads (default: those of `keep_running`, or one per processor) and memory, if they differ."""
        threads = threads or default_threads()
        memory = memory_mb_per_thread * threads + extra_mb
        # DuckDB stops and restarts all threads even if their number stays the same
        if self._engine.threads != threads:
            self.connection.execute(f"set threads = {threads}")
        if self._engine.memory_mb != memory:
            self.connection.execute(f"set memory_limit = '{memory}MB'")
        self._engine.threads, self._engine.memory_mb = threads, memory

    def begin(self) -> None:
        """Begin the one writer's transaction."""
        self.connection.execute("begin transaction")

    def commit(self) -> None:
        """Commit it."""
        self.connection.execute("commit")

    def undo(self) -> None:
        """Undo what was not committed."""
        # after an internal error DuckDB refuses this, too; closing undoes it
        with suppress(duckdb.Error):
            self.connection.execute("rollback")

    def explained(self, error: duckdb.Error) -> Exception:
        """Return the same error: nothing but the file is behind it."""
        return error

    def close(self) -> None:
        """Close it; everything written is in the file then."""
        self.connection.close()
        with _guard:
            self._engine.users -= 1
            if self._engine.users:
                return
            try:
                self._engine.connection.execute(f"detach {DATABASE}")
                clean = not spilled(self._path).exists()
            except duckdb.Error:
                # a DuckDB with an internal error refuses everything; closing it releases the file
                clean = False
            if self._apart or not _keeping or not clean:
                # closing also removes what did not fit into memory and was written next to the file
                self._end()

    def _end(self) -> None:
        if _engines.get(self._path) is self._engine:
            _engines.pop(self._path)
        self._engine.connection.close()


def attach(
    connection: duckdb.DuckDBPyConnection, path: Path, name: str, key: Key | None, *, read_only: bool
) -> None:
    """Open a warehouse file, or create it, as a database of this name.

    Raises
    ------
    KeyProblem
        If the key is not the file's.
    duckdb.Error
        If the file cannot be opened for another reason.
    """
    options = ["read_only"] if read_only else ["read_write", f"storage_version '{STORAGE_VERSION}'"]
    if key is not None:
        # as a parameter: no statement, and so no error or log of statements, holds the key
        options += ["encryption_cipher 'GCM'", "encryption_key ?"]
    statement = f"attach {_quoted(str(path))} as {name} ({', '.join(options)})"
    try:
        connection.execute(statement, [key.text] if key is not None else None)
        return
    except duckdb.InvalidInputException as error:
        if "Wrong encryption key" not in str(error):
            raise
    raise KeyProblem(f"the key is not the one that {path.name} is encrypted with; nothing was changed")


def is_encrypted(path: Path) -> bool | None:
    """Return whether a DuckDB file is encrypted, by its header; None if there is none yet, or it is something else."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return None
    if len(head) < _HEAD_BYTES or head[8:12] != _MAGIC:
        return None
    return bool(int.from_bytes(head[20:28], "little") & _ENCRYPTED)


def _started(path: Path, encrypts: bool) -> _Engine:
    """Start a DuckDB without a file that puts what does not fit into memory next to the warehouse."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(spilled(path)),
        # it would rewrite tables of large values again and again: see ``row_groups``
        "max_vacuum_tasks": "0",
        # commits go directly into the file, not into the log first: the file is closed soon after anyway
        "checkpoint_threshold": "1KB",
        "auto_checkpoint_skip_wal_threshold": "0",
    }
    if not encrypts:
        connection = duckdb.connect(config=settings)
        pin(connection)
    else:
        extension = encryption_library()
        status = extension.stat()
        version = (str(extension), status.st_ino, status.st_mtime_ns)
        # the signature takes all of the loading's time; once per process is enough
        settings["allow_unsigned_extensions"] = version in _verified
        connection = duckdb.connect(config=settings)
        pin(connection)
        connection.execute(f"load {_quoted(str(extension))}")
        connection.execute("set allow_unsigned_extensions = false")
        _verified.add(version)
        connection.execute("set disabled_filesystems = 'HTTPFileSystem,S3FileSystem,HuggingFaceFileSystem'")
        connection.execute("set temp_file_encryption = true")
    return _Engine(connection, encrypts)


def encryption_library() -> Path:
    """Return DuckDB's extension with OpenSSL, from its package.

    Raises
    ------
    KeyProblem
        If it is not installed in the version of this DuckDB.
    """
    spec = find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "extensions" / f"v{duckdb.__version__}" / "httpfs.duckdb_extension"
        if path.is_file():
            return path
    raise KeyProblem(
        f"encryption needs the package {_PACKAGE.replace('_', '-')}=={duckdb.__version__}: install it with pip"
    )


def pin(connection: duckdb.DuckDBPyConnection) -> None:
    """Make DuckDB read times the same way on every machine.

    Otherwise it uses the machine's time zone and the calendar of its language: with Thai settings (``LC_ALL``,
    ``LANG``) the year 2021 is 2564, and ``date_trunc`` and casts of timestamps to dates give other days.
    """
    connection.execute("set global timezone = 'UTC'")
    connection.execute("set global calendar = 'gregorian'")


def spilled(path: Path) -> Path:
    """Return the folder for what does not fit into memory, DuckDB's default for a file that is opened directly."""
    return path.with_name(path.name + ".tmp")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
