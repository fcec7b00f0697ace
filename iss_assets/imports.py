"""Importing libraries that change more than their own names.

Belongs here: what keeps an import from changing what data mean for the rest of the process.
Does not belong here: what is imported late to save time (each module does that by itself).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def environment_kept() -> Iterator[None]:
    """Undo what the imports in this block do to the environment variables.

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
