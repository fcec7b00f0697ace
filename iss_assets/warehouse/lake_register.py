"""The register of withdrawals of a shared warehouse, in its catalog, and the homes that use the warehouse.

Every host asks here, whatever home it has. The register holds keyed hashes and their keys (``intake.withdrawn``), as that of a
home does. Each change has a number, so that whoever began before it can tell, and a home can note up to which one it has removed
what it keeps outside of the warehouse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from iss_assets.intake.withdrawn import Scope, Withdrawn
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.lake_catalog import LakeCatalog, rows, value

_LOCK: Final = "register of withdrawals"
_TABLES: Final = """\
create table if not exists iss_register_key (number serial primary key, key text not null unique);
create table if not exists iss_register (
    number integer not null references iss_register_key,
    kind text not null check (kind in ('patient', 'submission', 'file')),
    hash text not null,
    scope text,
    primary key (number, kind, hash)
);
create table if not exists iss_register_change (number bigint not null);
insert into iss_register_change select 0 where not exists (select from iss_register_change);
create table if not exists iss_home (
    home text primary key, host text not null, seen timestamptz not null, cleaned_to bigint not null
);
"""
_ORDER: Final = "array_position(array['sharing', 'media', 'all'], "
_EXISTS: Final = "select to_regclass('iss_home') is not null"


@dataclass(frozen=True)
class OtherHome:
    """A home on another host, or another one on this host, that has not removed what it may keep of who withdrew.

    Attributes
    ----------
    host : str
        The host that used it last.
    seen : str
        The day on which that was (UTC).
    """

    host: str
    seen: str


class LakeRegister:
    """The register in the catalog.

    Parameters
    ----------
    settings : WarehouseSettings
        Where the catalog is.
    """

    def __init__(self, settings: WarehouseSettings):
        self._settings = settings
        self._catalog = LakeCatalog(settings, "the shared warehouse")

    def read(self) -> tuple[Withdrawn, int]:
        """Return the register, and the number of its last change; empty and 0 if nobody withdrew."""
        with self._catalog.asking() as session:
            if not value(session, _EXISTS):
                return Withdrawn(), 0
            # one statement: one state of it
            found = rows(
                session,
                "select c.number, k.number, k.key, r.kind, r.hash, r.scope from iss_register_change as c "
                "left join iss_register_key as k on true left join iss_register as r on r.number = k.number order by k.number",
            )
        keys: dict[str, list[tuple[str, str, str]]] = {}
        for _, _, key, kind, name, scope in found:
            if key is not None:
                keys.setdefault(key, []).extend([(kind, name, scope)] if kind else [])
        register = Withdrawn()
        for key, entries in keys.items():
            register = register.joined_with(
                Withdrawn(
                    {name: Scope(scope) for kind, name, scope in entries if kind == "patient"},
                    frozenset(name for kind, name, _ in entries if kind == "submission"),
                    frozenset(name for kind, name, _ in entries if kind == "file"),
                    bytes.fromhex(key),
                )
            )
        return register, int(found[0][0])

    def change(self) -> int:
        """Return the number of the last change."""
        with self._catalog.asking() as session:
            return int(
                value(session, "select number from iss_register_change") if value(session, _EXISTS) else 0
            )

    def add(self, register: Withdrawn) -> int:
        """Add what is not in it yet, and return the number of the last change; nothing is ever taken out."""
        locked = self._catalog.locked(_LOCK, self._settings.lock_timeout_s)
        with self._catalog.explaining(), locked as session:
            with session.cursor() as cursor:
                cursor.execute(_TABLES)
                cursor.execute("begin")
                changed = 0
                for part in register.parts():
                    if not part.key:
                        continue
                    cursor.execute(
                        "insert into iss_register_key (key) values (%s) on conflict do nothing",
                        [part.key.hex()],
                    )
                    cursor.execute("select number from iss_register_key where key = %s", [part.key.hex()])
                    (number,) = cursor.fetchone()
                    for entry in _entries(part):
                        cursor.execute(
                            f"insert into iss_register values (%s, %s, %s, %s) on conflict (number, kind, hash) do update "
                            f"set scope = excluded.scope where {_ORDER}iss_register.scope) < {_ORDER}excluded.scope)",
                            [number, *entry],
                        )
                        changed += cursor.rowcount
                if changed:
                    cursor.execute("update iss_register_change set number = number + 1")
                cursor.execute("select number from iss_register_change")
                (last,) = cursor.fetchone()
                cursor.execute("commit")
            return int(last)

    def note_home(self, home: str, host: str, cleaned_to: int | None = None) -> None:
        """Note that a home uses the warehouse, and up to which change it has removed what it keeps of who withdrew.

        A home that is new has seen nobody who withdrew before.
        """
        with self._catalog.asking() as session:
            if not value(session, _EXISTS):
                with self._catalog.locked(_LOCK, self._settings.lock_timeout_s) as alone:
                    rows(alone, _TABLES)
            rows(
                session,
                "insert into iss_home select %s, %s, now(), coalesce(%s, 0) on conflict (home) do update "
                "set host = excluded.host, seen = now(), cleaned_to = greatest(iss_home.cleaned_to, excluded.cleaned_to)",
                [home, host, cleaned_to],
            )

    def homes(self) -> set[str]:
        """Return the homes that have used the warehouse."""
        with self._catalog.asking() as session:
            found = rows(session, "select home from iss_home") if value(session, _EXISTS) else []
        return {home for (home,) in found}

    def cleaned_to(self, home: str) -> int:
        """Return up to which change a home has removed what it keeps; 0 if it has not been noted."""
        with self._catalog.asking() as session:
            if not value(session, _EXISTS):
                return 0
            return int(value(session, "select cleaned_to from iss_home where home = %s", [home]) or 0)

    def others(self, home: str) -> list[OtherHome]:
        """Return the other homes that have not followed the last change."""
        with self._catalog.asking() as session:
            if not value(session, _EXISTS):
                return []
            found = rows(
                session,
                "select host, to_char(seen at time zone 'UTC', 'YYYY-MM-DD') from iss_home, iss_register_change as c "
                "where home <> %s and cleaned_to < c.number order by host, home",
                [home],
            )
        return [OtherHome(host, seen) for host, seen in found]


def _entries(part: Withdrawn) -> Iterator[tuple[str, str, str | None]]:
    for name, scope in part.patients.items():
        yield "patient", name, str(scope)
    for kind, names in (("submission", part.submissions), ("file", part.files)):
        for name in sorted(names):
            yield kind, name, None
