"""Packages that only some features need, and that are installed on request: the extras of ``pyproject.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec


@dataclass(frozen=True, eq=False)
class Extra:
    """One extra.

    Attributes
    ----------
    name : str
        Its name in ``pyproject.toml``.
    modules : mapping of str to str
        Modules that a feature imports from it, each with the name of its package.
    without : str
        What there is not without it, for people: "words are not recognized".
    """

    name: str
    modules: Mapping[str, str]
    without: str

    def missing(self) -> tuple[str, ...]:
        """Return the packages that are not installed; none of them is loaded to find out."""
        return tuple(package for module, package in self.modules.items() if not is_installed(module))

    @property
    def remedy(self) -> str:
        """How to install it."""
        return f"pip install 'iss-assets[{self.name}]'"


@cache
def is_installed(module: str) -> bool:
    """Return whether a module can be found; the answer is kept, because staleness asks for every video."""
    return find_spec(module) is not None
