"""Errors of the warehouse that a person can fix."""

from __future__ import annotations


class WarehouseError(RuntimeError):
    """The warehouse cannot be used; the message says what to do."""


class WarehouseAway(WarehouseError):
    """The warehouse does not answer, the connection to it was lost, or its folder cannot be written to: the same may succeed later."""


class KeyProblem(WarehouseError):
    """The key is missing, wrong, or not safe to use; nothing was changed. The message never holds the key."""
