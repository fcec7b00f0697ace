"""``iss export``."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from iss_assets.cli.options import Home, Purpose, load_settings, open_warehouse, user_errors
from iss_assets.intake.withdrawn import Withdrawn
from iss_assets.privacy.at_work import at_work
from iss_assets.privacy.audit import Action, AuditLog, sha256_of, system_user
from iss_assets.privacy.register import read_register
from iss_assets.privacy.sharing import may_share
from iss_assets.protocol.consent import Scope
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.export import export_tables, exportable_tables


class FileFormat(StrEnum):
    """The kinds of files that tables are exported to."""

    parquet = "parquet"
    csv = "csv"


def export(
    to: Annotated[Path, typer.Option("--to", help="Folder; files of the same names are replaced.")],
    tables: Annotated[
        str, typer.Option("--tables", help="Names, separated by commas; all tables by default.")
    ] = "",
    format: Annotated[FileFormat, typer.Option("--format", help="Kind of file.")] = FileFormat.parquet,
    with_media: Annotated[
        bool,
        typer.Option("--with-media", help="Also face crops, voices and spectrograms (Parquet only)."),
    ] = False,
    purpose: Purpose = "",
    home: Home = None,
) -> None:
    """Write tables and marts to files, with a data dictionary (datapackage.json)."""
    settings = load_settings(None, home)
    with user_errors(), at_work(settings.home):
        warehouse = open_warehouse(settings)
        names = [n.strip() for n in tables.split(",") if n.strip()] or exportable_tables(warehouse)
        audit, who = AuditLog.of(settings), system_user()
        where = {"to": str(to.resolve()), "purpose": purpose, "with_media": with_media}
        audit.record(who, Action.EXPORT_BEGUN, None, **where, tables=names)
        register = read_register(settings) if with_media else Withdrawn()
        not_shared = [
            p
            for p in warehouse.query("select patient_id from patients")["patient_id"].to_pylist()
            if not register.may_be_shared(p)
        ]
        if with_media:
            warn_of_media(warehouse, not_shared)
        if not_shared:
            who_is = "1 patient is" if len(not_shared) == 1 else f"{len(not_shared)} patients are"
            typer.echo(f"{who_is} left out: faces and sound are not to be passed on")
        checksums = {}
        for written in export_tables(
            warehouse, names, format.value, to, with_media=with_media, leave_out=not_shared
        ):
            left_out = f" without {', '.join(written.left_out)}" if written.left_out else ""
            typer.echo(f"{written.path.name}: {written.rows} rows{left_out}")
            checksums[written.path.name] = sha256_of(written.path)
        audit.record(who, Action.EXPORTED, None, **where, sha256=checksums)


def warn_of_media(warehouse: Warehouse, left_out: Collection[str]) -> None:
    """Say, before faces and voices leave the home, whose are among them without consent; not of patients left out."""
    with warehouse.read() as connection:
        sharing = may_share(connection, Scope.SHARE_MEDIA)
    without = [patient for patient in sharing.withheld if patient not in left_out]
    if not sharing.recorded:
        typer.echo(
            "Warning: faces and voices are exported, and nothing is known of the patients' consent to it "
            "(no consent.csv). Keep the files inside the study team.",
            err=True,
        )
    elif without:
        typer.echo(
            f"Warning: the files hold faces or voices of {len(without)} "
            f"{'patient' if len(without) == 1 else 'patients'} without consent to sharing them: "
            f"{', '.join(without)}. Do not give them to anybody outside the study team.",
            err=True,
        )
