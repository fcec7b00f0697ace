"""The command ``iss`` and the list of its subcommands.

A subcommand is a module in this folder with a function of the same name; one with subcommands of its own also has a
``typer.Typer`` named ``group``. To add one, write the module and add its name to `COMMANDS`. The module is imported when the subcommand is called, so that ``iss --help`` answers at once; its line in
that list is read from the source.

Exit status: 0 success, 1 something failed and everything else was done, 2 wrong usage or nothing could be started.
"""

from __future__ import annotations

import ast
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from iss_assets.loading import quick_loading
from iss_assets.version import installed_version

COMMANDS = (
    "sample-study",
    "run",
    "train",
    "predict",
    "status",
    "quality",
    "export",
    "release",
    "pseudonym",
    "withdraw",
    "sql",
    "serve",
    "ui",
    "worker",
    "user",
    "audit",
    "key",
    "encrypt",
    "decrypt",
    "rekey",
    "move-warehouse",
    "doctor",
    "docs",
    "guide",
    "snapshot",
)
"""The subcommands, in the order in which ``iss --help`` lists them."""


class LazyGroup(TyperGroup):
    """A group that lists its commands without importing them."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = {name: TyperCommand(name, help=_docstring(name)) for name in COMMANDS}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command to run, from its module."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name else command, rest


def _function_name(command: str) -> str:
    return command.replace("-", "_")


def _docstring(command: str) -> str:
    name = _function_name(command)
    module = ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))
    (function,) = (node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return ast.get_docstring(function) or ""


def _load(command: str) -> Any:
    name = _function_name(command)
    path = f"iss_assets.cli.{name}"
    with nullcontext() if path in sys.modules else quick_loading():
        module = import_module(path)
    if hasattr(module, "group"):
        return typer.main.get_command(module.group)
    single = typer.Typer(add_completion=False)
    single.command(command)(getattr(module, name))
    return typer.main.get_command(single)


app = typer.Typer(
    name="iss",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"iss-assets {installed_version()}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Clinical face-and-voice studies as a Dagster asset graph: study folder in, DuckDB tables and reports out."""
