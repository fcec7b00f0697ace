"""The shared warehouse's engine: a DuckDB with the lake attached, which a process keeps running.

The lake is DuckLake, DuckDB's own format: data in Parquet files, in a place that every host reaches (``data_place``), and a
catalog in Postgres. Its extensions come from packages (``pip install iss-assets[cluster]``); nothing is downloaded.

Starting DuckDB with its extensions takes a tenth of a second and attaching another one, reading what the catalog says takes
milliseconds: so a process starts it once. A query that somebody typed gets a DuckDB of its own.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Final

import duckdb

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.data_place import DataPlace, problems
from iss_assets.warehouse.data_places import place_of
from iss_assets.warehouse.engine import DATABASE, default_threads, pin
from iss_assets.warehouse.errors import WarehouseAway, WarehouseError
from iss_assets.warehouse.spilling import spill_folder

INSTALL: Final = "pip install 'iss-assets[cluster]'"
_LEAST_MEMORY_MB: Final = 1024
"""Parquet files are written and read by the row group, which takes more memory than DuckDB's own file."""
_EXTENSIONS: Final = ("postgres_scanner", "ducklake")

KEEPALIVE: Final = {
    "connect_timeout": "15",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "5",
}
"""Of every connection to Postgres, from this side: it outlives a cut of half a minute, and is given up soon after."""
SERVER_KEEPALIVE: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "5",
    "tcp_user_timeout": "35000",
}
"""The same from the server's side. By its default it keeps the session of a host that is gone, and what it had locked, for two
hours."""


@dataclass
class LakeEngine:
    """A running DuckDB with the lake attached, and what it was told last."""

    connection: duckdb.DuckDBPyConnection
    memory_mb: int = 0

    def configure(self, memory_mb: int) -> None:
        """Limit its memory, for all of this process's connections."""
        memory_mb = max(_LEAST_MEMORY_MB, memory_mb)
        if memory_mb != self.memory_mb:
            self.connection.execute(f"set memory_limit = '{memory_mb}MB'")
            self.memory_mb = memory_mb


_verified: set[tuple[str, int]] = set()
"""Extensions, by path and time, whose signature DuckDB has verified in this process."""
_engines: dict[tuple[str, str], LakeEngine] = {}
_spare: dict[tuple[str, str], LakeEngine] = {}
"""Those for one writer each, while nobody writes."""
_lent: list[LakeEngine] = []
"""And while somebody does."""
_of_the_parent: list[LakeEngine] = []
"""Kept so that they are not closed."""
_guard = Lock()


def _forget() -> None:
    """Leave the parent's DuckDB alone in a forked process, which does not have its threads.

    It must not be closed either: closing waits for those threads, forever.
    """
    global _guard
    _guard = Lock()
    for engines in (_engines, _spare):
        _of_the_parent.extend(engines.values())
        engines.clear()
    _of_the_parent.extend(_lent)
    _lent.clear()


os.register_at_fork(after_in_child=_forget)


def dsn(catalog: str) -> str:
    """Return the connection string for libpq, with what keeps a connection from outliving its host."""
    text = catalog.removeprefix("postgres:")
    given = set(re.findall(r"(\w+)\s*=", text))
    server = " ".join(f"-c {name}={value}" for name, value in SERVER_KEEPALIVE.items())
    more = {**KEEPALIVE, "options": f"'{server}'", "application_name": "iss"}
    return " ".join([text, *(f"{name}={value}" for name, value in more.items() if name not in given)])


def kept_engine(settings: WarehouseSettings, *, anew: bool = False) -> LakeEngine:
    """Return the DuckDB that this process keeps running for the lake; start it, or start it `anew`."""
    place = (settings.catalog or "", settings.data_path or "")
    with _guard:
        if anew and place in _engines:
            # not closed: others may be reading from it, and it ends with the last of them
            _engines.pop(place)
        if place not in _engines:
            _engines[place] = LakeEngine(start(settings))
        engine = _engines[place]
    renew_access(engine.connection, settings)
    return engine


def engine_for_one(settings: WarehouseSettings, *, anew: bool = False) -> LakeEngine:
    """Return a DuckDB for the lake that nobody else uses until `give_back`; the one that was given back, or one that starts `anew`."""
    with _guard:
        engine = _spare.pop((settings.catalog or "", settings.data_path or ""), None)
    if anew and engine is not None:
        engine.connection.close()
        engine = None
    if engine is None:
        engine = LakeEngine(start(settings))
    else:
        try:
            renew_access(engine.connection, settings)
        except BaseException:
            engine.connection.close()
            raise
    with _guard:
        _lent.append(engine)
    return engine


def give_back(settings: WarehouseSettings, engine: LakeEngine, *, usable: bool) -> None:
    """Keep a DuckDB of `engine_for_one` for the next writer, or close it."""
    with _guard:
        _lent.remove(engine)
        place = settings.catalog or "", settings.data_path or ""
        if usable and place not in _spare:
            _spare[place] = engine
            return
    engine.connection.close()


def renew_access(connection: duckdb.DuckDBPyConnection, settings: WarehouseSettings) -> None:
    """Let a DuckDB that was started before reach the data with today's credentials; a folder needs none.

    Raises
    ------
    WarehouseAway
        If there are none.
    """
    place = place_of(settings)
    with problems(place, "nothing was read or written"):
        place.connect(connection)


def start(
    settings: WarehouseSettings, *, read_only: bool = False, create: bool = False
) -> duckdb.DuckDBPyConnection:
    """Start a DuckDB and attach the lake.

    Raises
    ------
    WarehouseError
        If an extension is missing, or the lake cannot be opened. The message has no connection string.
    """
    place = place_of(settings)
    paths = [extension(name) for name in (*place.extensions(), *_EXTENSIONS)]
    versions = {(str(path), path.stat().st_mtime_ns) for path in paths}
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            # an empty one: a secret that this user keeps for other work could lead elsewhere
            "secret_directory": str(spill_folder() / "secrets"),
            # a signature takes most of an extension's loading; once per process is enough
            "allow_unsigned_extensions": versions <= _verified,
            "temp_directory": str(spill_folder()),
        }
    )
    try:
        pin(connection)
        connection.execute(f"set threads = {default_threads()}")
        for path in paths:
            connection.execute(f"load {_quoted(str(path))}")
        connection.execute("set allow_unsigned_extensions = false")
        # of two writers without our lock, both would be told that they have written
        connection.execute("set ducklake_max_retry_count = 0")
        connection.execute("set enable_progress_bar = false")
        renew_access(connection, settings)
        options = [f"data_path {_quoted(settings.data_path or '')}", "data_inlining_row_limit 0"]
        options += ["read_only"] if read_only else []
        options += [] if create else ["create_if_not_exists false"]
        lake = _quoted(f"ducklake:postgres:{dsn(settings.catalog or '')}")
        connection.execute(f"attach {lake} as {DATABASE} ({', '.join(options)})")
        _require_data(connection, place)
    except duckdb.Error as error:
        connection.close()
        text = explained(error, settings)
        if "catalog version mismatch" in text:
            text = f"its catalog is of another version of DuckLake; install the same version of iss-assets on every host. {text}"
            text = text.partition(" To automatically migrate")[0]
            raise WarehouseError(f"the shared warehouse cannot be opened: {text}") from None
        raise WarehouseAway(f"the shared warehouse cannot be opened: {text}") from None
    except WarehouseError:
        connection.close()
        raise
    _verified.update(versions)
    return connection


def _require_data(connection: duckdb.DuckDBPyConnection, place: DataPlace) -> None:
    """Refuse a place without files where there should be some: writing into it would hide them from the other hosts."""
    with problems(place, "nothing was read or written"):
        if place.has_entries():
            return
    named = connection.execute(f"select coalesce(sum(file_count), 0) from ducklake_table_info('{DATABASE}')")
    if named.fetchall() != [(0,)]:
        raise WarehouseAway(place.gone)


def explained(error: Exception, settings: WarehouseSettings) -> str:
    """Return the first line of an error, without the connection string and the address of the data that DuckDB quotes in it."""
    text = str(error).strip()
    if settings.data_path:
        text = place_of(settings).explained(text)
    for secret in (dsn(settings.catalog or ""), (settings.catalog or "").removeprefix("postgres:")):
        text = text.replace(secret, "the catalog")
    text = re.sub(r"password\s*=\s*('[^']*'|\S+)", "password=...", text)
    return text.partition("\n")[0]


def extension(name: str) -> Path:
    """Return the file of an extension, from its package.

    Raises
    ------
    WarehouseError
        If it is not installed in the version of this DuckDB.
    """
    package = f"duckdb_extension_{name}"
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if path.is_file():
            return path
    raise WarehouseError(
        f"a shared warehouse needs the package {package.replace('_', '-')}=={duckdb.__version__}; install it with: {INSTALL}"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
