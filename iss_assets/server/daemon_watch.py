"""Whether the daemon is alive, and the alert when it is not.

The daemon's sensors send every other alert. This one the web application finds and sends itself, and while the daemon is
silent whatever else waits to be sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from dagster import DagsterInstance

from iss_assets.alerting.rules import Observation
from iss_assets.alerting.store import deliver, record
from iss_assets.pipeline.dagster_private import last_heartbeat
from iss_assets.protocol.catalogue import DAEMON_SILENT
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse

_LAST_MESSAGE_S: Final = 4.0
"""Seconds for the message about a crash: everything must have ended within ten."""


@dataclass(frozen=True)
class DaemonState:
    """Whether new submissions are being picked up.

    Attributes
    ----------
    alive : bool
        Whether every part of the daemon has reported lately, or may still be starting.
    last : datetime or None
        When the part that has been silent longest did.
    heard : bool
        Whether it has reported since this server started.
    """

    alive: bool
    last: datetime | None
    heard: bool = True


class DaemonWatch:
    """Watches the daemon that was started with this server.

    Parameters
    ----------
    settings : Settings
        Home, addresses, and how long the daemon may be silent.
    instance : DagsterInstance
        Where the daemon reports.
    say : callable
        Prints a line for the person at the terminal.
    """

    def __init__(self, settings: Settings, instance: DagsterInstance, say: Callable[[str], None]) -> None:
        self._settings, self._instance, self._say = settings, instance, say
        self._warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
        self._began = time.time()
        self._recorded: bool | None = None
        self._lock = threading.Lock()
        self._trouble = ""

    def state(self) -> DaemonState:
        """Return whether the daemon is alive; it has as long for its first report as for any."""
        last = last_heartbeat(self._instance)
        silent_s = time.time() - max(last or 0.0, self._began)
        return DaemonState(
            alive=silent_s < self._settings.server.daemon_silent_s,
            last=None if last is None else datetime.fromtimestamp(last, UTC),
            heard=last is not None and last >= self._began,
        )

    def run(self, stop: threading.Event) -> None:
        """Look until stopped, as often as the daemon itself would look for alerts."""
        while not stop.wait(self._settings.alerts.interval_s):
            self.look()

    def look(self) -> None:
        """Raise the alert, or resolve it, and send what waits while nobody else does."""
        with self._lock:
            try:
                self._look()
                self._trouble = ""
            except Exception as error:
                # whatever is wrong with the warehouse now, the next look may find it in order; said once
                if self._trouble != type(error).__name__:
                    self._trouble = type(error).__name__
                    self._say(f"Whether the daemon is alive could not be recorded: {self._trouble}.")

    def report_end(self) -> None:
        """Raise the alert because a part has crashed and everything ends with it; nothing is looked at afterwards."""
        self._lock.acquire()
        alerts = self._settings.alerts
        seconds = min(alerts.timeout_s, _LAST_MESSAGE_S)
        quick = self._settings.model_copy(update={"alerts": alerts.model_copy(update={"timeout_s": seconds})})
        try:
            self._record(alive=False)
            deliver(self._warehouse, quick)
        except Exception as error:
            self._say(f"The alert about this could not be sent: {type(error).__name__}.")

    def _look(self) -> None:
        state = self.state()
        if state.alive and not state.heard:
            return
        changed = state.alive is not self._recorded and self._record(state.alive)
        self._recorded = state.alive
        if changed or not state.alive:
            deliver(self._warehouse, self._settings)

    def _record(self, alive: bool) -> bool:
        observation = Observation.of_program(DAEMON_SILENT, passed=alive, at=datetime.now(UTC))
        return bool(record(self._warehouse, [observation]))
