"""Dagster's private parts are imported in a few documented modules, and nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "iss_assets"
DOCUMENTED = (
    "pipeline/cluster_launcher.py",
    "pipeline/dagster_private.py",
    "pipeline/event_log.py",
    "pipeline/queued_runs.py",
    "pipeline/run_task.py",
    "server/dagster_private.py",
)


def private_imports(source: str) -> Iterator[str]:
    """Yield the names that a module imports from private modules of Dagster's packages."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dagster"):
            if "._" in node.module:
                yield from (alias.name for alias in node.names)
            else:
                yield from (alias.name for alias in node.names if alias.name.startswith("_"))
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("dagster") and "._" in a.name)


def test_no_other_module_imports_private_parts_of_dagster() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if list(private_imports(path.read_text("utf-8")))
    }
    assert found == set(DOCUMENTED)


def test_no_setting_names_a_private_module_of_dagster() -> None:
    for path in PACKAGE.rglob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            assert not re.search(r"module: +dagster\S*\._", line), path


@pytest.mark.parametrize("name", DOCUMENTED)
def test_each_private_import_has_its_reason_at_the_head_of_the_module(name: str) -> None:
    source = (PACKAGE / name).read_text("utf-8")
    head = ast.get_docstring(ast.parse(source)) or ""
    for imported in private_imports(source):
        assert f"`{imported}`" in head, imported


@pytest.mark.parametrize(
    "source",
    [
        "from dagster._core.x import Y",
        "import dagster._core.x",
        "from dagster import _core",
        "def f():\n    from dagster_webserver._x import Y",
    ],
)
def test_every_way_to_import_a_private_part_is_found(source: str) -> None:
    assert list(private_imports(source))
    assert not list(private_imports("import dagster as dg\nfrom dagster import RunsFilter\nimport os._x"))
