"""A process that sends messages through apprise and says on its output which were taken.

Belongs here: what runs as ``python -m iss_assets.alerting.sender``. Does not belong here: what is sent (``alerting.rules``),
to whom and how often (``alerts``).

It is a process of its own because nothing else can end a receiver that answers one byte a minute: whoever started it
kills it at its deadline. Addresses hold passwords, so they come in through a pipe and never stand in a command line,
an environment or a log.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

KEY_HEADER: Final = "Idempotency-Key"
"""As in the IETF's draft "The Idempotency-Key HTTP Header Field"."""
KEY_FIELD: Final = "idempotency_key"
_SAYING = threading.Lock()
"""`print` writes a line and its end one after the other, and threads would mix them up."""


def send_all(job: Mapping[str, Any]) -> None:
    """Send every message, the addresses side by side, each one's messages in order.

    Parameters
    ----------
    job : mapping
        ``read_timeout`` in seconds, and ``addresses``: a list of mappings with ``url`` and ``messages``, each with
        ``number``, ``title``, ``body``, ``kind`` and ``key``. A line ``{"number": ..., "taken": ...}`` is printed for each
        message as soon as its fate is known. After a failure the address's other messages are not tried.
    """
    threads = [
        threading.Thread(target=_send_to, args=(a["url"], a["messages"], job["read_timeout"]), daemon=True)
        for a in job["addresses"]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send_to(url: str, messages: Sequence[Mapping[str, Any]], read_timeout: float) -> None:
    import apprise

    sender = apprise.Apprise()
    usable = bool(sender.add(url))
    for plugin in sender:
        if plugin.socket_read_timeout == type(plugin).socket_read_timeout:
            plugin.socket_read_timeout = read_timeout
    for message in messages:
        taken = False
        if usable:
            for plugin in sender:
                _mark(plugin, message["key"])
            try:
                taken = bool(
                    sender.notify(
                        body=message["body"],
                        title=message["title"],
                        notify_type=apprise.NotifyType(message["kind"]),
                        body_format=apprise.NotifyFormat.TEXT,
                    )
                )
            except Exception:
                # a plugin's own failure is a message not taken; what it says could hold the address
                taken = False
        with _SAYING:
            print(json.dumps({"number": message["number"], "taken": taken}), flush=True)
        if not taken:
            return


def _mark(plugin: Any, key: str) -> None:
    """Send the key along where a receiver of this kind can be told: webhooks and mail, in a header and a field."""
    for name, entry in (("headers", KEY_HEADER), ("payload_extras", KEY_FIELD)):
        more = getattr(plugin, name, None)
        if isinstance(more, dict):
            more[entry] = key


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    send_all(json.load(sys.stdin))
    sys.stdout.flush()
    # threads of a plugin must not keep the process
    os._exit(0)
