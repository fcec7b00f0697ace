"""Whether the warehouse can be used, and the alert when it cannot.

Alerts are kept in the warehouse. This one is kept here until the warehouse is back, and is sent past it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import duckdb

from iss_assets.alerting.rules import Alert, Observation, is_due, update
from iss_assets.alerting.store import deliver_apart, keep
from iss_assets.protocol.catalogue import WAREHOUSE_AWAY
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.locking import LockTimeout

LOOKS: Final = 2
"""Looks in a row that find it away before it is an alert: a restart of Postgres takes seconds."""
_LOCK_S: Final = 10.0


class WarehouseWatch:
    """Watches the warehouse of a server.

    Parameters
    ----------
    settings : Settings
        Where it is, and addresses.
    say : callable
        Prints a line for the person at the terminal.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings, self._say = settings, say
        quick = settings.warehouse.model_copy(update={"lock_timeout_s": _LOCK_S})
        self._warehouse = Warehouse(settings.warehouse_path, quick)
        self._alert: Alert | None = None
        self._away = 0
        self._trouble = ""

    def run(self, stop: threading.Event) -> None:
        """Look until stopped, as often as the daemon looks for alerts."""
        while not stop.wait(self._settings.alerts.interval_s):
            try:
                self.look()
            except Exception as error:
                # looking goes on, whatever the matter is; said once
                if self._trouble != type(error).__name__:
                    self._trouble = type(error).__name__
                    self._say(
                        f"Whether the warehouse can be used could not be found out or told: {self._trouble}."
                    )

    def look(self) -> None:
        """Raise the alert, or resolve it and store it, and send it as often as it takes."""
        reason = self._reason()
        self._away = self._away + 1 if reason else 0
        if reason and self._away < LOOKS:
            return
        if reason and self._away == LOOKS:
            self._say(f"The warehouse cannot be used: {reason}.")
        now_is = Observation.of_program(WAREHOUSE_AWAY, passed=reason is None, at=datetime.now(UTC))
        latest = {} if self._alert is None else {self._alert.key: self._alert}
        for changed in update(latest, [now_is]):
            self._alert = changed
        if self._alert is None:
            return
        if self._alert.delivery == "waiting" and is_due(self._alert, datetime.now(UTC)):
            self._alert = deliver_apart(self._alert, self._settings)
        if reason is None:
            try:
                keep(self._warehouse, self._alert)
            except (WarehouseError, duckdb.Error, OSError):
                # away again, or busy: the next look keeps it
                return
            self._say("The warehouse can be used again.")
            self._alert = None

    def _reason(self) -> str | None:
        """Return why it can be read or written no more, without a path; None if it can, or is only busy."""
        try:
            self._warehouse.require_room()
            if self._warehouse.exists():
                self._warehouse.query("select 1")
        except LockTimeout:
            return None
        except WarehouseError as error:
            return str(error)
        except (duckdb.Error, OSError) as error:
            return f"it cannot be read ({type(error).__name__})"
        return None
