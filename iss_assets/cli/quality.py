"""``iss quality``."""

from __future__ import annotations

import typer

from iss_assets.cli.options import Home, Patients, load_settings, open_warehouse, user_errors
from iss_assets.reports.quality_report import quality_report
from iss_assets.reports.quality_text import format_quality


def quality(patient: Patients = None, home: Home = None) -> None:
    """Print what to do about the quality of the data, the most costly problem first."""
    settings = load_settings(None, home)
    with user_errors():
        warehouse = open_warehouse(settings)
        known = warehouse.query("select patient_id from patients")["patient_id"].to_pylist()
        if unknown := sorted({*(patient or ())} - {*known}):
            raise ValueError(f"not in the warehouse: {', '.join(unknown)}")
        typer.echo(format_quality(quality_report(warehouse, patient or ())))
