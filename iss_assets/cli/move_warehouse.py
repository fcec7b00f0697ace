"""``iss move-warehouse``."""

from __future__ import annotations

from typing import Annotated

import typer

from iss_assets.cli.converting import require_quiet
from iss_assets.cli.options import Home, load_settings, user_errors
from iss_assets.cli.output import progress_bar
from iss_assets.privacy.audit import Action, AuditLog, system_user
from iss_assets.privacy.one_study import require_one_study
from iss_assets.privacy.register import keep_in_home, share_register
from iss_assets.warehouse.moving import move_to_file, move_to_shared


def move_warehouse(
    to_file: Annotated[
        bool, typer.Option("--to-file", help="From the shared warehouse into a file of the home.")
    ] = False,
    home: Home = None,
) -> None:
    """Move the tables of the home into the shared warehouse that the settings name, or back.

    Every table is compared with what it was. Killed at any moment, it has moved nothing or everything.
    """
    settings = load_settings(None, home)
    with user_errors():
        require_quiet(settings)
        AuditLog.of(settings).record(
            system_user(), Action.MOVED, None, to="file" if to_file else "shared warehouse"
        )
        require_one_study(settings)
        # whoever withdrew is refused in either place
        (keep_in_home if to_file else share_register)(settings)
        with progress_bar("moving") as progress:
            done = (move_to_file if to_file else move_to_shared)(settings, progress)
    typer.echo(f"{done.tables} tables with {done.rows:,} rows, each compared with what it was")
    if to_file:
        typer.echo(
            f"They are in {done.file.name} now. Remove ISS_WAREHOUSE__CATALOG and ISS_WAREHOUSE__DATA_PATH on every host, "
            "then delete the database and the data, in a bucket with all versions: they still hold faces and voices."
        )
    else:
        typer.echo(
            f"The file is kept as {done.file.name}. It still holds faces and voices, and no withdrawal reaches it: delete it "
            "as soon as the shared warehouse is in use."
        )
