"""What a report may honestly say, in sentences made from the tables.

Belongs here: the first lines of the study report. Does not belong here: how they look (``templates``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from iss_assets.evaluation.comparable import LeftOut
from iss_assets.evaluation.frames import rows_of
from iss_assets.protocol.published import describe, sees_face_or_voice
from iss_assets.settings import EvaluationSettings


@dataclass(frozen=True)
class Banner:
    """A warning above everything else; `kind` is empty or ``bad``."""

    head: str
    text: str
    kind: str = ""


def banners(
    results: pd.DataFrame,
    fold_models: pd.DataFrame,
    canaries: pd.DataFrame,
    invented: bool,
    cohort_hash: str | None,
    left_out: Sequence[LeftOut] = (),
) -> list[Banner]:
    """Give the warnings that stand above a report: failed alarms, invented patients, how and on whom was trained.

    Parameters
    ----------
    results, fold_models, canaries : pandas.DataFrame
        ``experiment_results``, the rows of ``fold_models`` that are judged, ``canary_results``.
    invented : bool
        Whether the patients are invented.
    cohort_hash : str or None
        Today's, of ``cv_splits``.
    left_out : sequence of LeftOut
        Folds that are not judged.
    """
    found = []
    failed = canaries[canaries["passed"].eq(False)] if len(canaries) else canaries
    if len(failed):
        found.append(
            Banner(
                "A leakage alarm has gone off: no figure of this report can be trusted.",
                " ".join(f"{r.canary} ({r.subject}): {r.detail}" for r in rows_of(failed)),
                "bad",
            )
        )
    meaningless = []
    if invented:
        meaningless.append("the patients are invented")
    if (results["profile"] != "paper").any():
        meaningless.append("models were trained in the demo profile (small, few frames)")
    if results["weights_origin"].str.contains("random").any():
        meaningless.append("networks started from random weights")
    if meaningless:
        found.append(
            Banner(
                "These figures mean nothing clinically.",
                f"Here {_and(meaningless)}. The page shows that the way from video to result works, and no more.",
            )
        )
    stale = fold_models[fold_models["cohort_hash"] != cohort_hash] if cohort_hash else fold_models.iloc[:0]
    if len(stale):
        found.append(
            Banner(
                "Some models are older than the cohort.",
                f"{len(stale)} of {len(fold_models)} trained folds have not seen the patients as they are split now; "
                "train them again before reading differences.",
            )
        )
    if len(set(results["profile"])) > 1:
        by_profile = results.groupby("profile")["experiment"]
        said = [f"{profile} ({_and([_label(e) for e in names])})" for profile, names in by_profile]
        found.append(
            Banner(
                "Experiments were trained in different profiles.",
                f"{_and(said)}: differences between them are also differences of the training.",
            )
        )
    if left_out:
        alike: dict[tuple[str, str], list[str]] = {}
        for one in left_out:
            many = f"{len(one.splits)} fold{'s' if len(one.splits) > 1 else ''} of {_label(one.experiment)}"
            alike.setdefault((one.reason, one.profile), []).append(many)
        said = [f"{_and(folds)}, profile {profile}: {reason}." for (reason, profile), folds in alike.items()]
        found.append(
            Banner(
                "Some trained folds are left out of every figure here.",
                " ".join(said) + " Train them again, or go back to the settings that they were trained with.",
            )
        )
    return found


def conclusion(
    results: pd.DataFrame, permutations: pd.DataFrame, patients: int, settings: EvaluationSettings
) -> tuple[str, list[str]]:
    """Give the leading sentence of a report and the points under it.

    Parameters
    ----------
    results, permutations : pandas.DataFrame
        ``experiment_results`` and ``permutation_results``, either may be empty.
    patients : int
        Patients in the study.
    settings : EvaluationSettings
        Coverage of the intervals, level of the tests.
    """
    if results.empty:
        return "No experiment has been evaluated yet; this page shows what has been collected.", []
    label = {e: _label(e) for e in results["experiment"]}
    judged = results[results["beats_baseline"].notna()]
    losing = judged[judged["beats_baseline"] == "no"]
    unclear = judged[judged["beats_baseline"] == "not shown"]
    too_few = judged[judged["beats_baseline"] == "cannot be shown"]
    winning = judged[judged["beats_baseline"] == "yes"]
    rule = _best_rule(list(judged["experiment"]))
    points = [
        f"Best baseline with {_classes(classes)} classes: “{baseline_label(first['best_baseline'])}”, "
        f"{first['best_baseline_accuracy']:.3f}."
        for classes, group in judged.groupby("classes")
        for first in [group.sort_values("patients").iloc[-1]]
    ]
    if judged.empty:
        lead = "No baseline has been evaluated, so it cannot be said whether any model has learned something."
    elif winning.empty:
        lead = (
            f"{'The model is not' if len(judged) == 1 else f'None of the {len(judged)} models is'} shown to beat the "
            f"{rule}."
        )
    elif len(winning) == len(judged):
        lead = f"{'The model beats' if len(judged) == 1 else f'All {len(judged)} models beat'} the {rule}."
    else:
        lead = (
            f"{len(winning)} of {len(judged)} models {'beats' if len(winning) == 1 else 'beat'} the {rule}: "
            f"{_and([label[e] for e in winning['experiment']])}."
        )
    if len(losing):
        points.append(
            "Not better than the best baseline (difference of mean accuracy, interval): "
            + "; ".join(map(_against, rows_of(losing)))
            + "."
        )
    if len(unclear):
        points.append(
            "Higher than the best baseline, but the difference may be chance: "
            + "; ".join(map(_against, rows_of(unclear)))
            + "."
        )
    if len(too_few):
        points.append(
            "Higher than the best baseline, but too few patients differ to tell this from chance, whatever the figures: "
            + "; ".join(map(_against, rows_of(too_few)))
            + "."
        )
    if len(winning):
        points.append("Better than the best baseline: " + "; ".join(map(_against, rows_of(winning))) + ".")
    # two and four classes are different tasks: guessing reaches 1/2 in one and 1/4 in the other
    for classes, group in results.groupby("classes"):
        best = group.sort_values("all_classes").iloc[-1]
        interval = (
            ""
            if pd.isna(best["all_classes_low"])
            else f" ({settings.confidence:.0%} interval {best['all_classes_low']:.3f} to {best['all_classes_high']:.3f})"
        )
        points.append(
            f"Highest mean accuracy over patients with {_classes(classes)} classes: {label[best['experiment']]}, "
            f"{best['all_classes']:.3f}{interval}, {best['patients']} patients."
        )
    points += _chance(permutations, settings.alpha)
    if patients < 100:
        points.append(
            f"{patients} patients are few: the patient is the unit, however many frames there are, and intervals are "
            "wide."
        )
    return lead, points


def _chance(permutations: pd.DataFrame, alpha: float) -> list[str]:
    """Say which models do better than chance, and of which that could not have come out."""
    if permutations.empty:
        return ["No test against chance has been made."]
    head = (
        f"Against chance (labels permuted among patients, Holm over {len(permutations)} "
        f"experiment{'s' if len(permutations) > 1 else ''}, level {alpha:.2g})"
    )
    able = permutations["p_least_holm"] <= alpha
    said = []
    if able.any():
        above = permutations[able & (permutations["p_value_holm"] <= alpha)]
        better = [f"{_label(r.experiment)} (p = {r.p_value_holm:.3g})" for r in rows_of(above)]
        said.append(
            f"{head}: "
            + (f"better than chance are {_and(better)}" if better else "none is shown to be better")
            + "."
        )
    for row in rows_of(permutations[~able]):
        said.append(
            f"{head}: nothing can be said about {_label(row.experiment)}. {row.most_permutations:,} permutations of "
            f"these patients' labels give no p below {row.p_least:.3g}, which is {row.p_least_holm:.3g} after Holm: no "
            f"result, however good, could have been told from chance.{_more(row, len(permutations), alpha)}"
        )
    return said


def _more(row: Any, tests: int, alpha: float) -> str:
    """Say how many permutations would do, where the number of patients does not forbid it."""
    wanted = math.ceil(tests / alpha) - 1
    limited = row.p_least > 1 / (row.most_permutations + 1) + 1e-12
    return "" if limited or row.most_permutations >= wanted else f" {wanted:,} permutations would do."


def _classes(classes: Any) -> str:
    return "two" if classes == 2 else "four"


def _best_rule(experiments: Sequence[str]) -> str:
    """Name what models are held against; what the rule lacks is only worth a word where the models have it."""
    if experiments and all(sees_face_or_voice(e) for e in experiments):
        return "best rule that sees neither face nor voice"
    return "best simple rule"


def _against(row: Any) -> str:
    low, high = row.baseline_difference_low, row.baseline_difference_high
    figures = f"{row.baseline_difference:+.2f}" + ("" if pd.isna(low) else f", {low:+.2f} to {high:+.2f}")
    return f"{_label(row.experiment)} ({figures.replace('-', '−')})"


def baseline_label(baseline: str) -> str:
    """Give a baseline's name as a reader would write it."""
    return {
        "sex_and_skin": "sex × skin",
        "always_none": "never pain",
        "always_pain": "always pain",
        "quality": "quality measures only",
        "pain_now": "pain now above 0",
    }.get(baseline, baseline if baseline in ("majority", "timeframe") else f"{baseline} only")


def _label(experiment: str) -> str:
    return describe(experiment)[1]


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
