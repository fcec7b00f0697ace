"""``iss encrypt``."""

from __future__ import annotations

import typer

from iss_assets.cli.converting import carry_out, prepared
from iss_assets.cli.options import Home, user_errors
from iss_assets.privacy.audit import Action
from iss_assets.warehouse.database import KeyProblem, Warehouse
from iss_assets.warehouse.engine import is_encrypted
from iss_assets.warehouse.keys import configured_key


def encrypt(home: Home = None) -> None:
    """Encrypt the warehouse and what waits to be stored, with the key of the settings.

    Killed at any moment, it has done nothing or everything, and the next command cleans up.
    """
    with user_errors():
        settings = prepared(home)
        key = configured_key(settings.warehouse)
        if key is None:
            raise KeyProblem(
                "no key: make one with `iss key new FILE`, and name it with ISS_WAREHOUSE__KEY_FILE=FILE"
            )
        if is_encrypted(settings.warehouse_path):
            raise KeyProblem("the home is already encrypted; give it another key with: iss rekey")
        plain = settings.warehouse.model_copy(update={"key_file": None, "key_command": None})
        carry_out(settings, Warehouse(settings.warehouse_path, plain), key, Action.ENCRYPTED, "encrypting")
    typer.echo(
        "Not encrypted: the study folder, Dagster's history, reports, models, earlier snapshots, exports, and "
        "backups. What to do about each: iss doctor"
    )
