"""Converts copies of a home and is killed at every point, each time in a process of its own.

    python -m iss_assets_tests.warehouse.killed_conversion HOME OLD NEW FOLDER

OLD and NEW are key files or "none". FOLDER gets one home per point, named by its number; the last one was not killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from iss_assets.warehouse import swap
from iss_assets.warehouse.conversion import convert
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.keys import configured_key
from iss_assets_tests.warehouse.encrypted_homes import settings_with


def convert_and_die(home: Path, old: Path | None, new: Path | None, last: int) -> None:
    """Convert a home, and kill this process at a point, counted from 1."""
    passed = 0

    def reached(point: str) -> None:
        nonlocal passed
        passed += 1
        if passed == last:
            home.with_suffix(".point").write_text(point)
            os.kill(os.getpid(), signal.SIGKILL)

    swap.reached = reached
    convert(Warehouse(home / "warehouse.duckdb", settings_with(old)), configured_key(settings_with(new)))


def main() -> None:
    template, old, new, folder = sys.argv[1:]
    old_key, new_key = (None if key == "none" else Path(key) for key in (old, new))
    killed, number = True, 0
    while killed:
        number += 1
        home = Path(folder) / str(number)
        shutil.copytree(template, home)
        # no DuckDB runs in this process, so its threads are not missed in the child
        child = os.fork()
        if not child:
            try:
                convert_and_die(home, old_key, new_key, number)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        if not killed and os.waitstatus_to_exitcode(status):
            sys.exit("the conversion failed")


if __name__ == "__main__":
    main()
