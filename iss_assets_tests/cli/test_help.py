"""``iss --help`` lists every command at once, without importing one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from iss_assets.cli import main
from iss_assets_tests.cli.processes import ROOT


def test_the_list_shows_every_command_with_its_own_help() -> None:
    shown = CliRunner().invoke(main.app, ["--help"], env={"COLUMNS": "300"})
    assert shown.exit_code == 0
    positions = []
    for name in main.COMMANDS:
        first_line = main._load(name).help.partition("\n")[0]
        assert first_line.endswith(".")
        (line,) = (n for n in shown.output.splitlines() if n.startswith(f"│ {name} "))
        assert first_line in line
        positions.append(shown.output.index(line))
    assert positions == sorted(positions)


def test_every_module_of_a_command_is_listed() -> None:
    shared = {"__init__", "__main__", "main", "options", "output", "location", "converting"}
    modules = {path.stem for path in (ROOT / "iss_assets" / "cli").glob("*.py")} - shared
    assert modules == {name.replace("-", "_") for name in main.COMMANDS}


def test_listing_the_commands_imports_none_of_them() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from iss_assets.cli import app; "
        "shown = CliRunner().invoke(app, ['--help']); assert 'snapshot' in shown.output; "
        "print([m for m in sys.modules if m in ('dagster', 'duckdb', 'pandas', 'pydantic', 'iss_assets.settings')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nonsense"], "No such command 'nonsense'"), (["stats"], "Did you mean 'status'?"), (["sql"], "query")],
)
def test_wrong_usage_is_status_two_with_a_hint(arguments: list[str], says: str) -> None:
    shown = CliRunner().invoke(main.app, arguments, env={"COLUMNS": "200"})
    assert shown.exit_code == 2
    assert says in shown.output


def test_options_of_a_command_are_those_of_its_function() -> None:
    command = typer.main.get_command(main.app)
    context = command.make_context("iss", ["status"])
    name, status, rest = command.resolve_command(context, ["status", "--study", "x"])  # type: ignore[attr-defined]  # typer's group, whose class is private
    assert (name, rest) == ("status", ["--study", "x"])
    assert {parameter.name for parameter in status.params} == {"study", "home"}
