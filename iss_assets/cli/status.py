"""``iss status``."""

from __future__ import annotations

import typer

from iss_assets.cli.options import Home, Study, load_settings, user_errors
from iss_assets.cli.output import Format, print_rows
from iss_assets.pipeline.status import study_status


def status(study: Study = None, home: Home = None) -> None:
    """Print one line per patient: what was submitted and extracted, what is stale, which checks fail."""
    with user_errors():
        report = study_status(load_settings(study, home))
    print_rows(report.rows, Format.table)
    for line in report.notes:
        typer.echo(line)
