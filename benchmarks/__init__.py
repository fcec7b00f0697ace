"""Speed and sameness: the project's extraction against the naive baseline, in one run.

The figures depend on the machine, so they are not tests.
"""

from __future__ import annotations

import signal
import sys


def end_on_sigterm() -> None:
    """Let a benchmark that is told to end, by a time limit for example, end the servers and workers that it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
