"""Summaries without small groups: what a table of counts or means would tell about one or two patients."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from iss_assets.protocol import terms

Row = dict[str, Any]

OTHER: Final = "other"
"""What merged cells are called."""

_COLUMNS_OF_ATTRIBUTE: Final = {
    "sex": {"sex"},
    "skin_group": {"skin_group"},
    "sex_and_skin": {"sex", "skin_group"},
    "cohort": {"cohort"},
    "age_group": {"age_group"},
}


@dataclass(frozen=True)
class Disclosure:
    """What a release may say about groups.

    Attributes
    ----------
    k : int
        Fewest patients of a group.
    hidden : collection of str
        Quasi-identifiers that are withheld, or empty for some patients.
    level_sizes : dict of str to int
        Patients of each pain level among those shared.
    merge : bool
        Whether small counts are merged (open tier). Elsewhere the patients' own rows are released anyway.
    """

    k: int
    hidden: Collection[str]
    level_sizes: dict[str, int]
    merge: bool


def without_small_cells(table: str, rows: list[Row], allowed: Disclosure) -> tuple[list[Row], str | None]:
    """Return the rows of a summary that may be released, and what was withheld in words, or None."""
    # in every tier: means by a withheld attribute, next to the patients' own figures, would give it away
    if table == "subgroup_results":
        kept = [r for r in rows if not _COLUMNS_OF_ATTRIBUTE.get(r["attribute"], {""}) - _known(allowed)]
        if allowed.merge:
            small = {(r["experiment"], r["attribute"]) for r in kept if r["patients"] < allowed.k}
            kept = [r for r in kept if (r["experiment"], r["attribute"]) not in small]
        return kept, _told(rows, kept, "groups whose attribute is withheld, or that are small")
    if not allowed.merge:
        return rows, None
    return _OPEN.get(table, _few_patients)(rows, allowed)


def _known(allowed: Disclosure) -> set[str]:
    return {"sex", "skin_group", "cohort", "age_group"} - set(allowed.hidden)


def _told(before: list[Row], after: list[Row], what: str) -> str | None:
    return f"{len(before) - len(after)} rows: {what}" if len(after) < len(before) else None


def _few_patients(rows: list[Row], allowed: Disclosure) -> tuple[list[Row], str | None]:
    kept = [r for r in rows if "patients" not in r or r["patients"] >= allowed.k]
    return kept, _told(rows, kept, f"fewer than {allowed.k} patients behind them")


def _merged_confusions(rows: list[Row], allowed: Disclosure) -> tuple[list[Row], str | None]:
    """Merge the small cells of each experiment, and the next smallest while the merged cell is still small."""
    kept: list[Row] = []
    merged = 0
    for experiment in sorted({r["experiment"] for r in rows}):
        cells = sorted(
            (r for r in rows if r["experiment"] == experiment and r["patients"]),
            key=lambda r: (r["patients"], r["target"], r["predicted"]),
        )
        other = 0
        while cells and (cells[0]["patients"] < allowed.k or 0 < other < allowed.k):
            other += cells.pop(0)["patients"]
            merged += 1
        kept += cells
        if other >= allowed.k:
            kept.append({"experiment": experiment, "target": OTHER, "predicted": OTHER, "patients": other})
    return kept, f"{merged} cells merged: fewer than {allowed.k} patients" if merged else None


def _whole_calibrations(rows: list[Row], allowed: Disclosure) -> tuple[list[Row], str | None]:
    """Keep an experiment's bins if none of them is small: a missing bin could be computed from the others."""
    small = {r["experiment"] for r in rows if 0 < r["patients"] < allowed.k}
    kept = [r for r in rows if r["experiment"] not in small]
    return kept, _told(rows, kept, f"experiments with a bin of fewer than {allowed.k} patients")


def _without_small_levels(rows: list[Row], allowed: Disclosure) -> tuple[list[Row], str | None]:
    """Empty the means of pain levels, and of the two classes, that have few patients."""
    sizes = allowed.level_sizes
    few = [level.lower() for level in terms.PAIN_LEVELS if sizes.get(level, 0) < allowed.k]
    pain = sum(n for level, n in sizes.items() if level != terms.PAIN_LEVELS[0])
    few += ["no_pain"] * ("none" in few) + ["pain"] * (pain < allowed.k)
    # the mean over all patients minus those of the other levels would give a single small level away
    if len(few) == 1:
        few += [level.lower() for level in terms.PAIN_LEVELS if level.lower() not in few]
    changed = [{name: None if name in few else value for name, value in r.items()} for r in rows]
    kept, _ = _few_patients(changed, allowed)
    return kept, f"means of {', '.join(few)}: fewer than {allowed.k} patients" if few else None


_OPEN: Final[dict[str, Callable[[list[Row], Disclosure], tuple[list[Row], str | None]]]] = {
    "confusion_counts": _merged_confusions,
    "calibration": _whole_calibrations,
    "experiment_results": _without_small_levels,
    "baseline_results": _without_small_levels,
}
