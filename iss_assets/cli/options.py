"""What several commands need before they start: shared options, settings, the warehouse, and clear errors."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_settings.exceptions import SettingsError

from iss_assets.intake.records import StudyFolderError
from iss_assets.privacy.audit import AuditError
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse, WarehouseError

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
Patients = Annotated[
    list[str] | None, typer.Option("--patient", help="Only this patient; repeat it for more.")
]

Purpose = Annotated[str, typer.Option("--purpose", help="What the copy is for; kept in the audit log.")]


def load_settings(study: Path | None, home: Path | None) -> Settings:
    """Return the settings, in which options win over the environment.

    Raises
    ------
    typer.Exit
        With status 2 if a setting is invalid, after one line per invalid setting.
    """
    for name, value in (("ISS_STUDY", study), ("ISS_HOME", home)):
        if value is not None:
            os.environ[name] = str(value.resolve())
    try:
        settings = Settings()
        if settings.home.exists() and not settings.home.is_dir():
            raise ValueError(
                f"the home {settings.home.name!r} is not a folder; name the right one with --home or ISS_HOME"
            )
        return settings
    except ValidationError as error:
        for fault in error.errors():
            name = "ISS_" + "__".join(str(part) for part in fault["loc"]).upper()
            print_error(f"setting {name}: {fault['msg']}")
    except tomllib.TOMLDecodeError as error:
        print_error(f"iss.toml in the home: {error}")
    except (SettingsError, ValueError) as error:
        print_error(f"settings: {error}")
    raise typer.Exit(2)


def open_warehouse(settings: Settings) -> Warehouse:
    """Return the warehouse of the home.

    Raises
    ------
    ValueError
        If there is none yet: reading must not create an empty one.
    """
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    if not warehouse.exists():
        where = "shared warehouse" if warehouse.shared else f"warehouse in the home {settings.home.name!r}"
        raise ValueError(f"there is no {where} yet; create it with: iss run")
    return warehouse


@contextmanager
def user_errors(*more: type[Exception]) -> Iterator[None]:
    """Turn errors that the user can fix, those of `more` included, into one line on stderr and exit status 2."""
    fixable: tuple[type[Exception], ...] = (StudyFolderError, WarehouseError, AuditError, ValueError, *more)
    try:
        yield
    except OSError as error:  # a lock that timed out is one, too
        # the file's name without its folders: they may say who and where somebody is
        name = f": {Path(os.fsdecode(error.filename)).name}" if error.filename else ""
        print_error(f"{error.strerror}{name}" if error.strerror else str(error))
        raise typer.Exit(2) from error
    except fixable as error:
        print_error(str(error))
        raise typer.Exit(2) from error


def print_error(message: str) -> None:
    """Print a message to stderr, in red on a terminal."""
    typer.secho(message, fg="red", err=True)
