"""The process that sends messages through apprise (``python -m iss_assets.alerting.sender``) and reports each outcome.

It is a separate process because nothing else can stop a receiver that answers one byte per minute: the process that
started it kills it at the deadline. Addresses hold passwords, so they arrive through a pipe and never appear on a command
line, in an environment variable or in a log.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

KEY_HEADER: Final = "Idempotency-Key"
"""As in the IETF's draft "The Idempotency-Key HTTP Header Field"."""
KEY_FIELD: Final = "idempotency_key"
_PRINTING = threading.Lock()
"""`print` writes a line and its end separately, and threads would mix them up."""


def send_all(job: Mapping[str, Any]) -> None:
    """Send every message: addresses in parallel, the messages of each in order.

    Parameters
    ----------
    job : mapping
        ``read_timeout`` in seconds, and ``addresses``: a list of mappings with ``url`` and ``messages``, each with
        ``number``, ``title``, ``body``, ``kind`` and ``key``. A line ``{"number": ..., "taken": ...}`` is printed
        for each message as soon as its outcome is known. After a failure the address's other messages are not tried.
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
                _add_key(plugin, message["key"])
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
                # an error of a plugin is a message not accepted; its text could hold the address
                taken = False
        with _PRINTING:
            print(json.dumps({"number": message["number"], "taken": taken}), flush=True)
        if not taken:
            return


def _add_key(plugin: Any, key: str) -> None:
    """Add the key for receivers that have a place for it: webhooks and mail, in a header and a field."""
    for name, entry in (("headers", KEY_HEADER), ("payload_extras", KEY_FIELD)):
        more = getattr(plugin, name, None)
        if isinstance(more, dict):
            more[entry] = key


def _end_with(parent: int) -> None:
    """End when the process that waits for the outcomes has; it would send the same messages again."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    send_all(json.load(sys.stdin))
    sys.stdout.flush()
    # a plugin's threads must not keep the process alive
    os._exit(0)
