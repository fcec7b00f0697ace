"""The result of a check, without Dagster: passed or not, which submissions, which numbers.

`Finding` is what every rule returns; `Rule` is the signature of a rule.
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
"""Query name to its rows, for one patient."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    passed : bool
        Whether the check passed.
    affected : tuple of str
        Video or submission ids, sorted.
    numbers : mapping
        Numbers and ids by name, in JSON types; never an answer, a name or a file path.
    threshold : str
        What the numbers are compared with, in words.
    severity : str, optional
        Replaces the severity in the catalogue where everything is affected.
    broken : bool
        Whether the check itself could not run.
    lost : bool
        Whether, because of it, none of the patient's data is left for training.
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
    """Return a finding that fails if any submission or video is `affected`, of the `of` that were checked."""
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
    """Return an id or a fixed word unchanged, and mask any other text, which could identify a person."""
    return word if _WORD.fullmatch(word) else "(not an id)"
