"""``iss user``: who may sign in to ``iss serve``."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from iss_assets.cli.options import Home, load_settings, user_errors
from iss_assets.cli.output import Format, print_rows
from iss_assets.privacy.audit import Action, AuditLog, system_user
from iss_assets.server.accounts import Accounts, Role
from iss_assets.settings import Settings

group = typer.Typer(no_args_is_help=True, add_completion=False)
Name = Annotated[str, typer.Argument(help="What is typed to sign in.")]


@group.callback()
def user() -> None:
    """Manage who may sign in to `iss serve`."""


@group.command()
def add(
    name: Name,
    role: Annotated[
        Role,
        typer.Option(
            help="researcher: numbers and reports; coordinator: also faces, voices, reviews, and runs; "
            "admin: also accounts and the audit log."
        ),
    ],
    home: Home = None,
) -> None:
    """Add an account. The password is asked for, or read from standard input."""
    settings = load_settings(None, home)
    with user_errors():
        accounts = Accounts(settings.accounts_path)
        accounts.require_free(name)
        password = _new_password()
        _audit(settings).record(system_user(), Action.ACCOUNT_ADDED, None, account=name, role=role.value)
        accounts.add(name, role, password)
    typer.echo(f"{name} may sign in as {role.value}")


@group.command("list")
def list_accounts(
    home: Home = None,
    format: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.table,
) -> None:
    """List the accounts."""
    settings = load_settings(None, home)
    with user_errors():
        found = Accounts(settings.accounts_path).all().values()
    rows = [{"name": a.name, "role": a.role.value, "created_at": a.created_at} for a in found]
    print_rows(rows, format, ["name", "role", "created_at"])


@group.command()
def remove(name: Name, home: Home = None) -> None:
    """Remove an account. It is signed out with its next request."""
    settings = load_settings(None, home)
    with user_errors():
        Accounts(settings.accounts_path).remove(name)
        _audit(settings).record(system_user(), Action.ACCOUNT_REMOVED, None, account=name)
    typer.echo(f"{name} may no longer sign in")


@group.command()
def passwd(name: Name, home: Home = None) -> None:
    """Change a password. The account is signed out with its next request."""
    settings = load_settings(None, home)
    with user_errors():
        accounts = Accounts(settings.accounts_path)
        accounts.require_existing(name)
        accounts.set_password(name, _new_password())
        _audit(settings).record(system_user(), Action.PASSWORD_CHANGED, None, account=name)
    typer.echo(f"{name} has a new password")


def _audit(settings: Settings) -> AuditLog:
    return AuditLog.of(settings)


def _new_password() -> str:
    """Ask twice at a terminal, else read one line: a password in an argument would be seen by everybody."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise ValueError("the two passwords differ")
    return first
