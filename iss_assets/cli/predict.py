"""``iss predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iss_assets.cli.options import Home, Study, load_settings, user_errors
from iss_assets.pipeline.external import open_models, validate_externally
from iss_assets.privacy.at_work import at_work
from iss_assets.warehouse.engine import keep_running


def predict(
    models: Annotated[
        Path, typer.Option("--models", help="Home of the study that trained the models; it is only read.")
    ],
    experiment: Annotated[
        list[str] | None,
        typer.Argument(help="Experiments by name; all that can be applied if none is named."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="paper or demo: how the models were trained.", show_default="the setting"),
    ] = None,
    models_key: Annotated[
        Path | None, typer.Option("--models-key", help="Key file of the models' home, if it is encrypted.")
    ] = None,
    study: Study = None,
    home: Home = None,
) -> None:
    """Apply another study's models to this study without training, and report whether they carry over.

    Two pages are written: on the experiments, and, if none is named, the clinic's report on the answers of check-ins.

    This study is brought into its own home first (`iss run`), with the settings of the other one. Patients whom the training
    study has, too, are left out and counted. With nothing changed since the last call, nothing is done. Exit status: 0 the
    report is up to date, 2 the models cannot be applied, and the message says why.
    """
    settings = load_settings(study, home)
    # both homes are opened dozens of times
    keep_running()
    with user_errors(), at_work(settings.home):
        opened = open_models(models, settings, models_key)
        done = validate_externally(settings, opened, experiment or (), profile, typer.echo)
    for note in done.notes:
        typer.echo(note)
    said = "written" if done.made else "nothing has changed"
    for page in (done.page, done.clinic_page):
        if page is not None:
            typer.echo(f"{said}: {page}")
