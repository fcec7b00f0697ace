"""``iss rekey``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iss_assets.cli.converting import carry_out, prepared
from iss_assets.cli.options import Home, user_errors
from iss_assets.privacy.audit import Action
from iss_assets.warehouse.database import KeyProblem, Warehouse
from iss_assets.warehouse.keys import configured_key


def rekey(
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="File with the new key, from `iss key new`.")
    ] = None,
    key_command: Annotated[
        str | None, typer.Option("--key-command", help="Command that prints the new key.")
    ] = None,
    home: Home = None,
) -> None:
    """Encrypt the home with another key. The old key is that of the settings.

    Killed at any moment, the home opens with exactly one of the two keys, and the next command cleans up.
    """
    with user_errors():
        settings = prepared(home)
        if (key_file is None) == (key_command is None):
            raise ValueError("name the new key with --key-file or --key-command")
        warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
        if warehouse.key() is None:
            raise KeyProblem("the home is not encrypted: iss encrypt")
        new = configured_key(
            settings.warehouse.model_copy(update={"key_file": key_file, "key_command": key_command})
        )
        carry_out(settings, warehouse, new, Action.REKEYED, "encrypting again")
    typer.echo(
        "Name the new key in the settings now. Keep the old one as long as there are snapshots or backups that it opens."
    )
