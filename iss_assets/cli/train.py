"""``iss train``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from iss_assets.cli.location import load
from iss_assets.cli.options import Home, Study, load_settings, user_errors
from iss_assets.cli.output import exit_with_summary, progress_bar
from iss_assets.pipeline.launcher import train_models


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
    """Train experiments whose folds are stale, evaluate all of them, and write the reports."""
    if profile is not None:
        os.environ["ISS_TRAINING__PROFILE"] = profile
    settings = load_settings(study, home)
    with user_errors(), progress_bar("training") as progress:
        summary = train_models(
            settings, tuple(experiment or ()), load=load, log=typer.echo, progress=progress
        )
    exit_with_summary(summary)
