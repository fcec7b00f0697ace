"""Fixtures that every test may use: a fresh warehouse, settings that point nowhere else, the folder of real clips."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from importlib import metadata
from pathlib import Path

import hypothesis
import pytest

from iss_assets.media import face_networks
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse import engine
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.lakes import copy_lake, lake_settings, password_file, stop_engines
from iss_assets_tests.postgres import PostgresServer, running_postgres
from iss_assets_tests.redis_server import RedisServer, running_redis
from iss_assets_tests.reports.browser import NO_BROWSER
from iss_assets_tests.s3_server import S3Server, running_s3

# a shell starts background jobs with SIGINT ignored; Dagster then ignores SIGTERM as well, and so do all children
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# how long inputs take to make says how busy the machine is, and nothing of what is tested
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start files with slow tests first, so that no worker is left with a long one at the end.

    `make test` keeps a file on one worker (``--dist loadfile``) and in this order (``--no-loadscope-reorder``).
    """
    with_slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in with_slow)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Report in the last lines of the output that tests were skipped for want of a browser."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker of pytest-xdist, which prints nothing
        return
    skipped = reporter.stats.get("skipped", [])
    if without := [report.nodeid for report in skipped if NO_BROWSER in str(report.longrepr)]:
        reporter.write_line(f"{len(without)} TESTS DID NOT RUN: {NO_BROWSER}", red=True, bold=True)
        for test in without:
            reporter.write_line(f"  {test}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Take the developer's settings and cached weights away before any module and fixture sees them.

    DuckDB is kept running, as in workers and in the server. Speech is left unrecognized: that takes longer than
    everything else together. Tests of words switch it on.
    """
    for name in list(os.environ):
        if name.startswith("ISS_") and name != "ISS_REAL_CLIPS":
            del os.environ[name]
    os.environ["ISS_WORDS__ENABLED"] = "false"
    empty = tempfile.TemporaryDirectory(prefix="torch-home-")
    config.add_cleanup(empty.cleanup)
    os.environ["TORCH_HOME"] = empty.name
    # starting one costs more than most queries here; the tests of the warehouse also start one for each use
    engine.keep_running()


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test sees the defaults and what it sets itself, never the developer's own study."""
    for name in list(os.environ):
        if name.startswith("ISS_") and name not in ("ISS_REAL_CLIPS", "ISS_WORDS__ENABLED"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ISS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ISS_STUDY", str(tmp_path / "study"))


@pytest.fixture(autouse=True)
def no_duckdb_from_another_test() -> Iterator[None]:
    """A DuckDB that is kept running ends with the test that started it."""
    yield
    engine.end_idle()


@pytest.fixture
def remove_sface(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that makes the machine one without the package that contains SFace."""
    return lambda: monkeypatch.setattr(face_networks, "SFACE_PACKAGE", "a_package_that_nobody_has")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(study=tmp_path / "study", home=tmp_path / "home")


@pytest.fixture(scope="session")
def empty_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every table and no row; creating one takes ten times as long as copying it."""
    path = tmp_path_factory.mktemp("empty") / "warehouse.duckdb"
    Warehouse(path).create()
    return path


@pytest.fixture
def warehouse(tmp_path: Path, empty_warehouse: Path) -> Warehouse:
    path = tmp_path / "home" / "warehouse.duckdb"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(empty_warehouse, path)
    return Warehouse(path, WarehouseSettings(lock_timeout_s=60))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server with a password; tests are skipped where it is not installed."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The address of an empty database."""
    return postgres.new_database()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis server with a password; tests are skipped where it is not installed."""
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_url(redis: RedisServer) -> str:
    """The address of an empty database."""
    return redis.new_database()


@pytest.fixture(scope="session")
def empty_lake(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WarehouseSettings]:
    """A shared warehouse with every table and no row, as a database to copy and a folder."""
    folder = tmp_path_factory.mktemp("empty_lake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSFILE", str(password_file(postgres, folder)))
        settings = lake_settings(postgres, postgres.new_database(), folder / "data")
        Warehouse(folder / "warehouse.duckdb", settings).create()
        # a database with users cannot be copied
        stop_engines()
    yield settings


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server of object storage; tests are skipped where moto is not installed."""
    with running_s3() as server:
        yield server


@pytest.fixture
def data_place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path | tuple[S3Server, str]]:
    """A new place for the data of a shared warehouse: a folder, or a bucket where the test is for both."""
    if getattr(request, "param", "folder") == "folder":
        yield tmp_path / "lake"
        return
    server: S3Server = request.getfixturevalue("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server, server.new_bucket()
    server.refuse()


@pytest.fixture
def shared(
    postgres: PostgresServer,
    empty_lake: WarehouseSettings,
    data_place: Path | tuple[S3Server, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[WarehouseSettings]:
    """The settings of an empty shared warehouse, in a database and a place of its own."""
    monkeypatch.setenv("PGPASSFILE", str(password_file(postgres, tmp_path)))
    settings = copy_lake(postgres, empty_lake, data_place)
    monkeypatch.setenv("ISS_WAREHOUSE__CATALOG", str(settings.catalog))
    monkeypatch.setenv("ISS_WAREHOUSE__DATA_PATH", str(settings.data_path))
    yield settings
    stop_engines()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive, with the locked tools and without a network."""
    folder = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run([*build, "-t", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    subprocess.run([*build, "-t", "wheel"], cwd=unpacked, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with the wheel installed, which sees this one's packages but not the checkout."""
    root = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    (place,) = (root / "lib").glob("python*/site-packages")
    # the folder named by a .pth file is searched, but .pth files in it (one of them the checkout's) are not read
    (place / "packages.pth").write_text(f"{metadata.distribution('dagster').locate_file('')}\n")
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--offline", "--no-deps"]
    subprocess.run([*uv, "--python", str(root / "bin/python"), str(wheel)], check=True)
    return root / "bin"


@pytest.fixture(scope="session")
def real_clips() -> Path:
    folder = os.environ.get("ISS_REAL_CLIPS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ISS_REAL_CLIPS names no folder of real clips")
    return Path(folder)
