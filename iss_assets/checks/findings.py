"""What a check found, apart from Dagster: passed or not, which submissions, which numbers.

Belongs here: the one type that every rule gives back, and the shape of a rule.
Does not belong here: rules, words about checks (``catalogue``), telling Dagster (``defs.checks``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from iss_assets.protocol.catalogue import Severity
from iss_assets.settings import Settings

_WORD: Final = re.compile(r"[A-Za-z0-9_.*-]{0,64}")

Row = dict[str, Any]
Data = Mapping[str, list[Row]]
"""Query name to its rows, of one patient."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    passed : bool
        Whether all is well.
    affected : tuple of str
        Video or submission ids, sorted.
    numbers : mapping
        Numbers and ids by name, as JSON can say them; never an answer, a name or a file's path.
    threshold : str
        What the numbers are held against, in words.
    severity : str, optional
        Takes the place of the catalogue's severity, where everything is affected.
    broken : bool
        Whether the check itself could not be made.
    lost : bool
        Whether nothing of the patient is left for training because of it.
    """

    passed: bool
    affected: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    threshold: str = ""
    severity: Severity | None = None
    broken: bool = False
    lost: bool = False


Rule = Callable[[Data, Settings], Finding]
"""A pure function from a patient's rows and the settings to a finding."""


def found_in(
    affected: Iterable[str],
    of: int,
    threshold: str,
    numbers: Mapping[str, Any] | None = None,
    *,
    severity: Severity | None = None,
    lost: bool = False,
) -> Finding:
    """Return the finding of a rule that fails for each submission or video in `affected`, of `of` looked at."""
    ids = tuple(sorted(set(affected)))
    return Finding(
        not ids,
        ids,
        {"affected": len(ids), "checked": of, **(numbers or {})},
        threshold,
        severity,
        lost=lost,
    )


def masked(word: str) -> str:
    """Return an id or a fixed word as it is, and nothing of any other text, which could say who somebody is."""
    return word if _WORD.fullmatch(word) else "(not an id)"
