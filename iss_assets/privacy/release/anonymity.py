"""Quasi-identifiers are generalized until every combination of them is shared by at least k patients (k-anonymity).

References
----------
L. Sweeney, "Achieving k-anonymity privacy protection using generalization and suppression", International Journal of
Uncertainty, Fuzziness and Knowledge-Based Systems 10 (5), 2002.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Patient = Mapping[str, object]

STEPS: Final = ("skin_type", "cohort", "age_group", "skin_group", "sex", "pain_level")
"""Quasi-identifiers in the order in which they are given up. Skin types become skin groups first; a cohort is only pain
level, skin group and sex in one word. The pain level counts in the open tier only: elsewhere it is the outcome."""

MOST_EMPTIED: Final = 0.1
"""Share of patients whose own values may be emptied so that all others keep theirs."""


class TooFewPatients(ValueError):
    """The study has fewer patients to share than any combination needs."""


@dataclass(frozen=True)
class Generalized:
    """What is left of the quasi-identifiers.

    Attributes
    ----------
    patients : dict of str to dict
        Patient id to column to value, None where it is withheld.
    withheld : tuple of str
        Columns that are empty for every patient.
    emptied : frozenset of str
        Patients whose combination was too rare: their quasi-identifiers are all empty.
    smallest : int
        Patients who share the rarest combination.
    """

    patients: Mapping[str, Mapping[str, object]]
    withheld: tuple[str, ...]
    emptied: frozenset[str]
    smallest: int


def generalize(patients: Mapping[str, Patient], quasi: Sequence[str], k: int) -> Generalized:
    """Withhold quasi-identifiers, in the order of `STEPS`, until every combination has at least `k` patients.

    Parameters
    ----------
    patients : mapping of str to mapping
        Patient id to its values.
    quasi : sequence of str
        The quasi-identifiers, all of them in `STEPS`.
    k : int
        Patients that must share a combination.

    Raises
    ------
    TooFewPatients
        If there are fewer than `k` patients.

    Examples
    --------
    >>> people = {str(n): {"sex": "FM"[n % 2], "skin_type": "I" if n else "VI"} for n in range(10)}
    >>> found = generalize(people, ["skin_type", "sex"], k=5)
    >>> found.withheld, found.smallest
    (('skin_type',), 5)
    """
    if len(patients) < k:
        raise TooFewPatients(
            f"{len(patients)} patients may be shared, and every combination of sex, skin type and cohort must have {k} "
            "(setting ISS_RELEASE__K): no release can hide them among each other"
        )
    given_up = [name for name in STEPS if name in quasi]
    for step in range(len(given_up) + 1):
        withheld, kept = given_up[:step], given_up[step:]
        combination = {p: tuple(values.get(c) for c in kept) for p, values in patients.items()}
        sizes = Counter(combination.values())
        rare = {p for p, values in combination.items() if sizes[values] < k}
        if rare and not k <= len(rare) <= MOST_EMPTIED * len(patients):
            continue
        released: dict[str, dict[str, object]] = {
            p: {c: values.get(c) if c in kept and p not in rare else None for c in given_up}
            for p, values in patients.items()
        }
        smallest = min(Counter(tuple(v.values()) for v in released.values()).values())
        return Generalized(released, tuple(withheld), frozenset(rare), smallest)
    raise AssertionError("without any column all patients share one combination")
