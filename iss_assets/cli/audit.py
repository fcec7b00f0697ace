"""``iss audit``: who did what, and whether the log is intact."""

from __future__ import annotations

from typing import Annotated

import typer

from iss_assets.cli.options import Home, load_settings, print_error, user_errors
from iss_assets.cli.output import Format, print_rows
from iss_assets.privacy.audit import AuditLog

group = typer.Typer(invoke_without_command=True, add_completion=False)
COLUMNS = ["number", "at", "who", "action", "subject", "detail"]


@group.callback()
def audit(
    context: typer.Context,
    home: Home = None,
    last: Annotated[int, typer.Option("--last", min=1, help="Only the last lines.")] = 50,
    format: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.table,
) -> None:
    """Show the audit log: sign-ins, views of faces and voices, decisions, exports."""
    if context.invoked_subcommand:
        return
    settings = load_settings(None, home)
    with user_errors():
        lines = AuditLog.of(settings).newest(last)[::-1]
    rows = [
        {
            "number": line.number,
            "at": line.at.isoformat(timespec="seconds"),
            "who": line.who,
            "action": line.action,
            "subject": "erased by a withdrawal" if line.redacted else line.subject or "",
            "detail": ", ".join(f"{name}: {value}" for name, value in line.detail.items()),
        }
        for line in lines
    ]
    print_rows(rows, format, COLUMNS)


@group.command()
def verify(home: Home = None) -> None:
    """Check that no line was changed, removed, or moved. Exit status 1 if one was."""
    settings = load_settings(None, home)
    with user_errors():
        found = AuditLog.of(settings).verify()
    for problem in found.problems:
        print_error(problem)
    if found.problems:
        raise typer.Exit(1)
    typer.echo(f"{found.lines} lines, intact. Keep this elsewhere to compare with later: {found.head}")
