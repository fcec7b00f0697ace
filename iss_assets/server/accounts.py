"""Accounts and roles: who may sign in, and what each may see.

Passwords are hashed with argon2id (RFC 9106's second recommended option, argon2-cffi's default) and never appear in
arguments, logs, or messages.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from iss_assets.warehouse.locking import hold

SHORTEST_PASSWORD: Final = 12
"""Characters; NIST SP 800-63B asks for 8 at least and 15 without a second factor, and for no composition rules."""
LONGEST_PASSWORD: Final = 1024
"""Characters; hashing something longer only costs time."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_LOCK_TIMEOUT_S: Final = 30.0


class Role(StrEnum):
    """What an account may do; each role may do what the ones before it may."""

    RESEARCHER = "researcher"
    """Numbers, reports, Dagster read-only. Never a face or a voice."""
    COORDINATOR = "coordinator"
    """Also pictures, sound, reviews, and launching runs."""
    ADMIN = "admin"
    """Also accounts, the audit log, and all of Dagster."""

    def includes(self, other: Role) -> bool:
        """Return whether this role may do what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class AccountError(ValueError):
    """An account cannot be made or changed as asked."""


@dataclass(frozen=True)
class Account:
    """One account.

    Attributes
    ----------
    name : str
        What is typed to sign in, and what the audit log says.
    role : Role
        What it may do.
    password_hash : str
        Argon2id, with its parameters and salt.
    created_at : str
        ISO 8601, UTC.
    """

    name: str
    role: Role
    password_hash: str
    created_at: str


class Accounts:
    """The accounts of one home.

    Parameters
    ----------
    path : Path
        ``accounts.json``; made with the first account, readable by its owner only.
    hasher : PasswordHasher, optional
        For tests: the default takes some 30 ms and 64 MB per password, on purpose.
    """

    def __init__(self, path: Path, hasher: PasswordHasher | None = None) -> None:
        self.path = path
        self._hasher = hasher or PasswordHasher()
        self._decoy = self._hasher.hash("decoy")
        """Verified for unknown names, so that the time an answer takes does not tell which names exist."""

    def all(self) -> dict[str, Account]:
        """Read every account, by name.

        Raises
        ------
        AccountError
            If the file is damaged: nobody is let in then.
        """
        try:
            rows = json.loads(self.path.read_text("utf-8"))["accounts"]
            found = [Account(**{**row, "role": Role(row["role"])}) for row in rows]
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise AccountError(f"{self.path.name} is damaged: {error}") from None
        return {account.name: account for account in found}

    def add(self, name: str, role: Role, password: str) -> Account:
        """Make an account.

        Raises
        ------
        AccountError
            If the name is taken or malformed, or the password too short.
        """
        _check_password(password)
        with self._changing() as accounts:
            self._require_free(accounts, name)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            accounts[name] = Account(name, role, self._hasher.hash(password), now)
            return accounts[name]

    def require_free(self, name: str) -> None:
        """Raise `AccountError` if an account of this name cannot be added."""
        self._require_free(self.all(), name)

    def require_existing(self, name: str) -> None:
        """Raise `AccountError` if there is no such account."""
        self._existing(self.all(), name)

    def remove(self, name: str) -> None:
        """Remove an account; its sessions end with its next request."""
        with self._changing() as accounts:
            self._existing(accounts, name)
            if accounts[name].role is Role.ADMIN and len(accounts) > 1:
                others = [a for a in accounts.values() if a.role is Role.ADMIN and a.name != name]
                if not others:
                    raise AccountError(f"{name} is the last admin; make another one first")
            del accounts[name]

    def set_password(self, name: str, password: str) -> None:
        """Change a password; the account's sessions end with their next request."""
        _check_password(password)
        with self._changing() as accounts:
            old = self._existing(accounts, name)
            accounts[name] = Account(name, old.role, self._hasher.hash(password), old.created_at)

    def check(self, name: str, password: str) -> Account | None:
        """Return the account if the password is right, else None, after the same time."""
        account = self.all().get(name)
        try:
            self._hasher.verify(
                account.password_hash if account else self._decoy, password[:LONGEST_PASSWORD]
            )
        except (VerificationError, InvalidHashError):
            return None
        return account

    @staticmethod
    def _require_free(accounts: dict[str, Account], name: str) -> None:
        if not _NAME.fullmatch(name):
            raise AccountError(
                "a name has up to 64 of a-z, 0-9, '.', '_', '@', '-' and begins with a letter or digit"
            )
        if name in accounts:
            raise AccountError(f"the account {name} exists already")

    @staticmethod
    def _existing(accounts: dict[str, Account], name: str) -> Account:
        if name not in accounts:
            raise AccountError(f"there is no account {name}")
        return accounts[name]

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Account]]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with hold(self.path.with_suffix(".lock"), exclusive=True, timeout_s=_LOCK_TIMEOUT_S):
            accounts = self.all()
            yield accounts
            partial = self.path.with_name(f".{self.path.name}.tmp")
            text = json.dumps({"accounts": [asdict(a) for a in accounts.values()]}, indent=1)
            with open(partial, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as file:
                file.write(text + "\n")
            partial.replace(self.path)


def _check_password(password: str) -> None:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise AccountError(f"a password has at least {SHORTEST_PASSWORD} characters")
