"""The definitions that commands run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import Definitions


def load() -> Definitions:
    """Return the definitions of the code location; worker processes call it by name.

    They are loaded on the first call: it takes a second, reads the settings, and raises if one is invalid.
    """
    definitions: Definitions = import_module("iss_assets.definitions").defs
    return definitions
