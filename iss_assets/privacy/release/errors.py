"""Why a release stopped."""

from __future__ import annotations


class ReleaseError(ValueError):
    """A release cannot be made; the message says what to do, and nothing was written."""
