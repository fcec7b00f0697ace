"""The command line, ``iss``.

Belongs here: options, printing, exit statuses. Does not belong here: work (every command calls one function).
Everything heavy is imported inside the command that needs it, so that ``iss --help`` answers at once.

Exit status: 0 all is well, 1 something failed (and the rest was done), 2 wrong use or nothing could be started.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from iss_assets.settings import Settings
    from iss_assets.warehouse.database import Warehouse

app = typer.Typer(
    name="iss",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Study = Annotated[
    Path | None,
    typer.Option("--study", help="Study folder (ISS_STUDY).", show_default="ISS_STUDY or ./study"),
]
Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Warehouse, Dagster home, models, reports (ISS_HOME).",
        show_default="ISS_HOME or ./iss_home",
    ),
]


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"


class FileFormat(StrEnum):
    """Kinds of files that tables are exported to."""

    parquet = "parquet"
    csv = "csv"


def load_settings(study: Path | None, home: Path | None) -> Settings:
    """Read the settings; options win over the environment. Ends the program with status 2 if one is wrong."""
    from pydantic import ValidationError

    # not above: pydantic takes longer to load than all else that `iss --help` needs
    from pydantic_settings.exceptions import SettingsError

    from iss_assets.settings import Settings

    for name, value in (("ISS_STUDY", study), ("ISS_HOME", home)):
        if value is not None:
            os.environ[name] = str(value.resolve())
    try:
        return Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "ISS_" + "__".join(str(part) for part in fault["loc"]).upper()
            typer.secho(f"setting {name}: {fault['msg']}", fg="red", err=True)
    except (SettingsError, ValueError) as error:
        typer.secho(f"settings: {error}", fg="red", err=True)
    raise typer.Exit(2)


def open_warehouse(settings: Settings) -> Warehouse:
    """Give the warehouse of the home.

    Raises
    ------
    ValueError
        If there is none yet: a question must not make an empty one.
    """
    from iss_assets.warehouse.database import Warehouse

    if not settings.warehouse_path.exists():
        raise ValueError(
            f"there is no warehouse in the home {settings.home.name!r} yet; make it with: iss run"
        )
    return Warehouse(settings.warehouse_path, settings.warehouse)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Turn the errors that a person can mend into one line and status 2."""
    from iss_assets.intake.records import StudyFolderError
    from iss_assets.warehouse.database import WarehouseError
    from iss_assets.warehouse.locking import LockTimeout

    try:
        yield
    except (StudyFolderError, WarehouseError, LockTimeout, ValueError, OSError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from error


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"iss-assets {metadata.version('iss-assets')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Clinical face-and-voice studies as a Dagster asset graph: study folder in, DuckDB tables and reports out."""


@app.command("sample-study")
def sample_study(
    directory: Annotated[Path, typer.Argument(help="Folder to make; it must not hold another study.")],
    patients: Annotated[int, typer.Option(min=1, max=999, help="How many invented patients.")] = 12,
    seed: Annotated[int, typer.Option(help="Another seed, other people.")] = 0,
) -> None:
    """Make a study of invented patients, one for every trouble that the paper lists."""
    from iss_assets.synthetic.sample import write_sample_study

    with told_plainly(), _bar("inventing patients") as progress:
        write_sample_study(directory, patients=patients, seed=seed, progress=progress)
    typer.echo(f"{patients} invented patients in {directory}. Next: iss run --study {directory}")


@app.command()
def run(
    study: Study = None,
    home: Home = None,
    patient: Annotated[
        list[str] | None, typer.Option("--patient", help="Only this patient; may be given again.")
    ] = None,
    models: Annotated[
        bool, typer.Option(help="Also fit the experiments that take seconds (`run.train_on_run`).")
    ] = True,
    retry: Annotated[
        bool,
        typer.Option("--retry", help="Read again the videos that failed, say after adding memory."),
    ] = False,
) -> None:
    """Register new patients and bring every stale artifact up to date.

    The runs stand in Dagster's UI like any other (`iss ui`). Exit status: 0 everything is up to date, 1 a run failed
    and the rest was done, 2 the study folder or a setting is unusable and nothing was done.
    """
    from iss_assets.cli.location import load
    from iss_assets.pipeline.launcher import run_study

    settings = load_settings(study, home)
    with told_plainly(), _bar("bringing up to date") as progress:
        summary = run_study(
            settings, patient or (), load=load, tell=typer.echo, progress=progress, models=models, retry=retry
        )
    for line in summary.lines():
        typer.echo(line)
    for outcome in summary.failed:
        typer.secho(f"failed: {outcome.subject}: {outcome.problem}", fg="red", err=True)
    raise typer.Exit(1 if summary.failed else 0)


@app.command()
def train(
    experiment: Annotated[
        list[str] | None, typer.Argument(help="Experiments by name; all of them if none is named.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="paper (as published) or demo (small).", show_default="the setting")
    ] = None,
    study: Study = None,
    home: Home = None,
) -> None:
    """Fit experiments whose folds are stale, evaluate all, and write the reports."""
    from iss_assets.cli.location import load
    from iss_assets.pipeline.launcher import train_models

    if profile is not None:
        os.environ["ISS_TRAINING__PROFILE"] = profile
    settings = load_settings(study, home)
    with told_plainly(), _bar("training") as progress:
        summary = train_models(
            settings, tuple(experiment or ()), load=load, tell=typer.echo, progress=progress
        )
    for line in summary.lines():
        typer.echo(line)
    for outcome in summary.failed:
        typer.secho(f"failed: {outcome.subject}: {outcome.problem}", fg="red", err=True)
    raise typer.Exit(1 if summary.failed else 0)


@app.command()
def status(study: Study = None, home: Home = None) -> None:
    """Say, a line a patient, what was submitted, extracted, is stale, and which checks fail."""
    from iss_assets.pipeline.status import study_status

    with told_plainly():
        report = study_status(load_settings(study, home))
    _print_rows(report.rows, Format.table)
    for line in report.notes:
        typer.echo(line)


@app.command()
def quality(
    patient: Annotated[list[str] | None, typer.Option("--patient", help="Only this patient.")] = None,
    home: Home = None,
) -> None:
    """Print what to do about the data's quality, the most costly first."""
    from iss_assets.reports.quality_report import quality_report
    from iss_assets.reports.quality_text import format_quality

    settings = load_settings(None, home)
    with told_plainly():
        typer.echo(format_quality(quality_report(open_warehouse(settings), patient or ())))


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", help="Folder; files of the same names are replaced.")],
    tables: Annotated[
        str, typer.Option("--tables", help="Names with commas between them; all if left out.")
    ] = "",
    format: Annotated[FileFormat, typer.Option("--format", help="Kind of file.")] = FileFormat.parquet,
    with_media: Annotated[
        bool, typer.Option("--with-media", help="Also face crops, voices and spectrograms (parquet only).")
    ] = False,
    home: Home = None,
) -> None:
    """Write tables and marts to files, with a data dictionary (datapackage.json)."""
    from iss_assets.warehouse.export import export_tables, exportable_tables

    settings = load_settings(None, home)
    with told_plainly():
        warehouse = open_warehouse(settings)
        names = [n.strip() for n in tables.split(",") if n.strip()] or exportable_tables(warehouse)
        for written in export_tables(warehouse, names, format.value, to, with_media=with_media):
            left = f" without {', '.join(written.left_out)}" if written.left_out else ""
            typer.echo(f"{written.path.name}: {written.rows} rows{left}")


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT.")],
    home: Home = None,
    format: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.table,
) -> None:
    """Ask the warehouse, read-only."""
    import duckdb

    settings = load_settings(None, home)
    with told_plainly():
        try:
            with open_warehouse(settings).read() as connection:
                connection.execute("set enable_external_access = false")
                rows = connection.execute(query).to_arrow_table()
        except duckdb.Error as error:
            raise ValueError(str(error)) from error
    _print_rows(rows.to_pylist(), format, rows.column_names)


@app.command()
def ui(
    study: Study = None,
    home: Home = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
) -> None:
    """Serve Dagster's UI and daemon (sensors, schedules, the run queue)."""
    from iss_assets.pipeline.home import prepare_home

    settings = load_settings(study, home)
    workspace = prepare_home(settings) / "workspace.yaml"
    settings.reports_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    pages = [sys.executable, "-m", "http.server", str(settings.run.reports_port), "--bind", "127.0.0.1"]
    dagster = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace)]
    typer.echo(f"Dagster UI on http://{host}:{port}, reports on http://127.0.0.1:{settings.run.reports_port}")
    typer.echo("Ctrl-C stops both")
    quiet = subprocess.DEVNULL
    server = subprocess.Popen([*pages, "--directory", str(settings.reports_dir)], stdout=quiet, stderr=quiet)
    try:
        status = subprocess.call([*dagster, "-h", host, "-p", str(port)])
    except KeyboardInterrupt:
        status = 0
    finally:
        server.terminate()
    raise typer.Exit(status)


@app.command()
def doctor(study: Study = None, home: Home = None) -> None:
    """Say what is missing or wrong on this machine, and how to mend it."""
    from iss_assets.cli.doctor import examine

    findings = examine(load_settings(study, home))
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for finding in findings:
        typer.secho(f"{finding.state:4} ", fg=colours[finding.state], nl=False)
        typer.echo(f"{finding.subject}: {finding.text}")
        if finding.mend:
            typer.echo(f"     -> {finding.mend}")
    raise typer.Exit(1 if any(f.state == "fail" for f in findings) else 0)


@app.command()
def docs(
    check: Annotated[bool, typer.Option("--check", help="Only say whether docs/ is current.")] = False,
    directory: Annotated[Path, typer.Option(help="Folder of the docs.")] = Path("docs"),
) -> None:
    """Write the data dictionary and the page of settings from the code."""
    from iss_assets.reports.settings_page import settings_page
    from iss_assets.schemas.dictionary import data_dictionary

    pages = {"data_dictionary.md": data_dictionary(), "settings.md": settings_page()}
    stale = []
    for name, text in pages.items():
        path = directory / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        typer.secho(f"not current: {', '.join(stale)}; run: iss docs", fg="red", err=True)
        raise typer.Exit(1)
    typer.echo(f"written: {', '.join(stale)}" if stale else "current")


@app.command()
def guide(
    page: Annotated[str, typer.Argument(help="Page to print; none lists them.")] = "",
) -> None:
    """Print a page of the documentation: what a study folder holds, what each check, table and setting means."""
    from iss_assets.shipped import shipped_folder

    pages = {path.stem: path for path in sorted(shipped_folder("docs").glob("*.md"))}
    with told_plainly():
        if page and page not in pages:
            raise ValueError(f"there is no page {page!r}; there are: {', '.join(pages)}")
    text = pages[page].read_text(encoding="utf-8") if page else "\n".join(pages)
    typer.echo(text.rstrip())


@app.command()
def snapshot(
    file: Annotated[Path, typer.Argument(help="File to write.")],
    home: Home = None,
) -> None:
    """Copy the warehouse, consistent, for work of any length (notebooks, DuckDB's own shell)."""
    settings = load_settings(None, home)
    with told_plainly():
        if file.exists():
            raise ValueError(f"{file.name} is there already")
        open_warehouse(settings).snapshot(file)
    file.chmod(0o600)
    typer.echo(f"{file}: faces and voices are in it; keep it as safe as the warehouse")


def _print_rows(rows: list[dict[str, Any]], format: Format, names: list[str] | None = None) -> None:
    import csv
    import datetime as dt
    import json

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return f"<{len(value)} bytes>"
        return value.isoformat() if isinstance(value, dt.date | dt.datetime | dt.time) else value

    names = names or (list(rows[0]) if rows else [])
    if format is Format.json:
        json.dump(
            [{n: plain(r[n]) for n in names} for r in rows], sys.stdout, default=str, ensure_ascii=False
        )
        sys.stdout.write("\n")
    elif format is Format.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([["" if r[n] is None else plain(r[n]) for n in names] for r in rows])
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in names:
            numbers = all(isinstance(r[name], int | float) for r in rows if r[name] is not None)
            table.add_column(name, justify="right" if numbers and rows else "left", overflow="fold")
        for row in rows:
            table.add_row(*("" if row[n] is None else _short(plain(row[n])) for n in names))
        Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


@contextmanager
def _bar(title: str) -> Iterator[Any]:
    """Give a function (done, of, what) that draws a bar on a terminal and writes lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, of, what: typer.echo(f"{title}: {done}/{of} {what}", err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, what="")
        yield lambda done, of, what: bar.update(task, completed=done, total=of, what=what)


if __name__ == "__main__":
    app()
