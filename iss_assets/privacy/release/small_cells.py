"""Summaries without small groups: what a table of counts or means would tell about one or two patients."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from iss_assets.protocol import terms

Row = dict[str, Any]

OTHER: Final = "other"
"""What merged cells are called."""
_FEW: Final = "fewer than {k} patients behind them, or giving such figures away"

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
    """Empty the means of pain levels, and of the two classes, that have few patients, and what would give them away."""
    levels, classes = _few_levels(allowed), _few_classes(allowed)
    changed, emptied = list[Row](), set[str]()
    for row in rows:
        hidden = _hidden(levels, classes, row.get("classes"))
        changed.append({name: _emptied(name, value, hidden) for name, value in row.items()})
        emptied |= hidden & row.keys()
    kept, _ = _few_patients(changed, allowed)
    what = f"values of {', '.join(sorted(emptied))}"
    return kept, f"{what}: {_FEW.format(k=allowed.k)}" if emptied else None


def _without_metrics_of_small_levels(rows: list[Row], allowed: Disclosure) -> tuple[list[Row], str | None]:
    """Drop the rows of figures that `_without_small_levels` empties where they are columns."""
    hidden = _hidden(_few_levels(allowed), _few_classes(allowed), None)
    kept, _ = _few_patients([r for r in rows if r["metric"] not in hidden], allowed)
    return kept, _told(rows, kept, _FEW.format(k=allowed.k))


def _few_levels(allowed: Disclosure) -> list[str]:
    sizes = {level.lower(): allowed.level_sizes.get(level, 0) for level in terms.PAIN_LEVELS}
    return _too_small(sizes, allowed.k)


def _few_classes(allowed: Disclosure) -> list[str]:
    none = allowed.level_sizes.get(terms.PAIN_LEVELS[0], 0)
    return _too_small({"no_pain": none, "pain": sum(allowed.level_sizes.values()) - none}, allowed.k)


def _too_small(parts: Mapping[str, int], k: int) -> list[str]:
    """Return the parts of all patients whose means are withheld.

    The mean over all patients minus the means that are shown is that of the withheld parts together: if these are few
    patients as well, no part is shown.
    """
    few = [name for name, patients in parts.items() if patients < k]
    return list(parts) if 0 < sum(parts[name] for name in few) < k else few


def _hidden(levels: list[str], classes: list[str], number_of_classes: int | None) -> set[str]:
    """Return the figures that are withheld in a row; with the unweighted mean, two withheld ones could be computed."""
    hidden = {*levels, *classes}
    if classes:
        hidden |= {"sensitivity", "specificity"}
    if classes or (levels and number_of_classes != 2):
        hidden.add("balanced_accuracy")
    return hidden


def _emptied(name: str, value: Any, hidden: Collection[str]) -> Any:
    if name in hidden:
        return None
    if name == "intervals" and value is not None:
        return json.dumps(
            {figure: found for figure, found in json.loads(value).items() if figure not in hidden}
        )
    return value


_OPEN: Final[dict[str, Callable[[list[Row], Disclosure], tuple[list[Row], str | None]]]] = {
    "confusion_counts": _merged_confusions,
    "calibration": _whole_calibrations,
    "experiment_results": _without_small_levels,
    "experiment_metrics": _without_metrics_of_small_levels,
    "baseline_results": _without_small_levels,
}
