"""What commands print: rows as a table, CSV or JSON; progress; the summary of what was run."""

from __future__ import annotations

import csv
import datetime as dt
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from iss_assets.cli.options import print_error

if TYPE_CHECKING:
    from iss_assets.pipeline.launcher import Summary

LONGEST_CELL = 120
"""Characters of a table's cell; longer text is cut, and CSV and JSON have all of it."""


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"


def print_rows(rows: list[dict[str, Any]], format: Format, names: list[str] | None = None) -> None:
    """Print rows in a format; `names` are the columns, for when there may be no row."""
    names = names or (list(rows[0]) if rows else [])
    if format is Format.json:
        records = [{n: _plain(r[n]) for n in names} for r in rows]
        json.dump(records, sys.stdout, default=str, ensure_ascii=False)
        sys.stdout.write("\n")
    elif format is Format.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([["" if r[n] is None else _plain(r[n]) for n in names] for r in rows])
    else:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in names:
            numbers = all(isinstance(r[name], int | float) for r in rows if r[name] is not None)
            table.add_column(name, justify="right" if numbers and rows else "left", overflow="fold")
        for row in rows:
            table.add_row(*("" if row[n] is None else _short(_plain(row[n])) for n in names))
        Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, Decimal):  # a number in JSON, too
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, dt.date | dt.datetime | dt.time) else value


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 3] + "..."


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a function (done, total, what) that draws a bar on a terminal and prints lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total, what: typer.echo(f"{title}: {done}/{total} {what}", err=True)
        return
    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, what="")
        yield lambda done, total, what: bar.update(task, completed=done, total=total, what=what)


def exit_with_summary(summary: Summary) -> NoReturn:
    """Print what was run and what failed, and exit: status 1 if a run failed, else 0."""
    for line in summary.lines():
        typer.echo(line)
    for outcome in summary.failed:
        print_error(f"failed: {outcome.subject}: {outcome.problem}")
    raise typer.Exit(1 if summary.failed else 0)
