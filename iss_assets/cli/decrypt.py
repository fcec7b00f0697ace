"""``iss decrypt``."""

from __future__ import annotations

import typer

from iss_assets.cli.converting import carry_out, prepared
from iss_assets.cli.options import Home, user_errors
from iss_assets.privacy.audit import Action
from iss_assets.warehouse.database import Warehouse


def decrypt(home: Home = None) -> None:
    """Decrypt the warehouse and what waits to be stored: they are in the clear then.

    Killed at any moment, it has done nothing or everything, and the next command cleans up.
    """
    with user_errors():
        settings = prepared(home)
        warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
        carry_out(settings, warehouse, None, Action.DECRYPTED, "decrypting")
    typer.echo(
        "The home is no longer encrypted. Remove ISS_WAREHOUSE__KEY_FILE or ISS_WAREHOUSE__KEY_COMMAND now."
    )
