"""``iss sample-study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iss_assets.cli.options import user_errors
from iss_assets.cli.output import progress_bar
from iss_assets.synthetic.sample import SampleStudyError, write_sample_study


def sample_study(
    directory: Annotated[Path, typer.Argument(help="Folder to create; it must not hold another study.")],
    patients: Annotated[int, typer.Option(min=1, max=999, help="Number of invented patients.")] = 12,
    seed: Annotated[int, typer.Option(help="A different seed gives different people.")] = 0,
    check_ins: Annotated[
        int | None, typer.Option(min=1, max=99, help="Check-ins of each patient, instead of one to four.")
    ] = None,
    effect: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="Plant a sign of pain in face and voice: its correlation with the patient's own ups and downs.",
        ),
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="The patients tell stories in English, for speech recognition.")
    ] = False,
) -> None:
    """Create a study of invented patients, one for every data problem that the paper lists."""
    with user_errors(SampleStudyError), progress_bar("inventing patients") as progress:
        write_sample_study(
            directory,
            patients=patients,
            seed=seed,
            progress=progress,
            submissions_per_patient=check_ins,
            effect=effect,
            words=words,
        )
    typer.echo(f"{patients} invented patients in {directory}. Next: iss run --study {directory}")
