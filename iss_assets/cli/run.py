"""``iss run``."""

from __future__ import annotations

from typing import Annotated

import typer

from iss_assets.cli.location import load
from iss_assets.cli.options import Home, Patients, Study, load_settings, user_errors
from iss_assets.cli.output import exit_with_summary, progress_bar
from iss_assets.media.face_networks import comparison_missing
from iss_assets.pipeline.launcher import run_study
from iss_assets.privacy.own_folder import accept


def run(
    study: Study = None,
    home: Home = None,
    patient: Patients = None,
    models: Annotated[
        bool, typer.Option(help="Also fit the experiments that take seconds (`run.train_on_run`).")
    ] = True,
    retry: Annotated[
        bool,
        typer.Option("--retry", help="Read videos that failed again, for example after adding memory."),
    ] = False,
    same_study: Annotated[
        bool,
        typer.Option(
            "--same-study",
            help="The folder is this home's study, though nearly everything in it was replaced.",
        ),
    ] = False,
) -> None:
    """Register new patients and bring every stale artifact up to date.

    The runs appear in Dagster's UI (`iss serve`) like any others. Exit status: 0 everything is up to date, 1 a run failed
    and everything else was done, 2 the study folder or a setting is unusable and nothing was done.
    """
    settings = load_settings(study, home)
    if why := comparison_missing(settings.identity):
        typer.secho(f"warning: faces are not compared. {why}", fg="yellow", err=True)
    with user_errors(), progress_bar("bringing up to date") as progress:
        if same_study:
            accept(settings.home)
        summary = run_study(
            settings, patient or (), load=load, log=typer.echo, progress=progress, models=models, retry=retry
        )
    exit_with_summary(summary)
