"""Fixtures that every test may use: a fresh warehouse, settings that point nowhere else, the folder of real clips.

And the order in which two workers share the tests: what shares a fixture stays together, the longest goes first.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse

# a shell starts background jobs with SIGINT ignored; Dagster then ignores SIGTERM as well, and so do all children
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
TOGETHER = {"test_study_page.py": "test_marts.py"}
"""Files that go to the worker of another one, whose study they use."""
EACH_ALONE = ("test_benchmarks.py",)
"""Files without fixtures to share, whose tests go to any worker."""
LONG_FOLDERS = ("modeling", "media", "evaluation")
"""Folders whose files take long as a whole; they come before the others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let begin first what takes longest: files with slow tests, then those of the long folders."""
    with_slow = {item.path for item in items if item.get_closest_marker("slow")}

    def place(item: pytest.Item) -> int:
        folder = item.path.parent.name
        if item.path in with_slow:
            return 0
        return 1 + (LONG_FOLDERS.index(folder) if folder in LONG_FOLDERS else len(LONG_FOLDERS))

    # within a worker's file the order stays, so that a fixture of the file is made once
    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file on one worker, which makes the file's fixtures once.

    For ``--dist loadgroup --no-loadscope-reorder``, as the Makefile says. The marks that pytest-xdist itself goes by
    are not seen with this pytest: it reads them from a node id that can no longer be changed.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder, _, name = nodeid.partition("::")[0].rpartition("/")
            return nodeid if name in EACH_ALONE else f"{folder}/{TOGETHER.get(name, name)}"

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test sees the defaults and what it sets itself, never the developer's own study."""
    for name in list(os.environ):
        if name.startswith("ISS_") and name != "ISS_REAL_CLIPS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("ISS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ISS_STUDY", str(tmp_path / "study"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(study=tmp_path / "study", home=tmp_path / "home")


@pytest.fixture(scope="session")
def empty_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every table and no row; making one takes ten times as long as copying it."""
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
    """The commands of an environment with the wheel in it, which sees this one's packages but not the checkout."""
    root = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    (place,) = (root / "lib").glob("python*/site-packages")
    # a folder that a .pth file names is searched, but the .pth files in it, the checkout's among them, are not read
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
