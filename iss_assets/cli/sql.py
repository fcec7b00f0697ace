"""``iss sql``."""

from __future__ import annotations

from typing import Annotated

import duckdb
import typer

from iss_assets.cli.options import Home, load_settings, open_warehouse, user_errors
from iss_assets.cli.output import Format, print_rows
from iss_assets.privacy.audit import Action, AuditLog, system_user


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT.")],
    home: Home = None,
    format: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.table,
) -> None:
    """Query the warehouse, read-only."""
    settings = load_settings(None, home)
    with user_errors():
        warehouse = open_warehouse(settings)
        AuditLog.of(settings).record(system_user(), Action.QUERIED, None, query=query)
        try:
            rows = warehouse.answer(query)
        except duckdb.Error as error:
            raise ValueError(str(error)) from error
    print_rows(rows.to_pylist(), format, rows.column_names)
