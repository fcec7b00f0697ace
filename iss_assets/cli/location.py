"""The definitions that commands run, loaded when they are first needed: that takes a second, and may fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import Definitions


def load() -> Definitions:
    """Return the definitions of the code location; worker processes call it by name."""
    from iss_assets.definitions import defs

    return defs
