"""Importing libraries that have side effects on the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def environment_kept() -> Iterator[None]:
    """Restore the environment variables that imports in this block change.

    Examples
    --------
    >>> with environment_kept():
    ...     os.environ["PYARROW_IGNORE_TIMEZONE"] = "1"
    >>> "PYARROW_IGNORE_TIMEZONE" in os.environ
    False
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
