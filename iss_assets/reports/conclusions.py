"""The first lines of the study report: what may be concluded, in sentences made from the tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from iss_assets.evaluation.attention import CANARY as ATTENTION_CANARY
from iss_assets.evaluation.comparable import LeftOut
from iss_assets.evaluation.frames import rows_of
from iss_assets.protocol.published import describe, sees_face_or_voice
from iss_assets.reports.templating import Banner, count
from iss_assets.settings import EvaluationSettings


def banners(
    results: pd.DataFrame,
    fold_models: pd.DataFrame,
    canaries: pd.DataFrame,
    invented: bool,
    cohort_hash: str | None,
    left_out: Sequence[LeftOut] = (),
) -> list[Banner]:
    """Return the warnings above a report: failed alarms, invented patients, how the models were trained and on whom.

    Parameters
    ----------
    results, fold_models, canaries : pandas.DataFrame
        ``experiment_results``, the evaluated rows of ``fold_models``, ``canary_results``.
    invented : bool
        Whether the patients are invented.
    cohort_hash : str or None
        The current hash in ``cv_splits``.
    left_out : sequence of LeftOut
        Folds that are not evaluated.
    """
    found = []
    failed = canaries[canaries["passed"].eq(False)] if len(canaries) else canaries
    # one model that looks at glare says nothing about the others
    looks = (
        failed["canary"].str.startswith(ATTENTION_CANARY)
        if len(failed)
        else failed["canary"].eq(ATTENTION_CANARY)
    )
    failed, shortcuts = failed[~looks], failed[looks]
    if len(failed):
        found.append(
            Banner(
                "A leakage alarm has gone off: no figure of this report can be trusted.",
                " ".join(f"{r.canary} ({r.subject}): {r.detail}" for r in rows_of(failed)),
                "bad",
            )
        )
    if len(shortcuts):
        models = _and(sorted({_label(e) for e in shortcuts["subject"]}))
        found.append(
            Banner(
                f"{models}: attention goes to flagged parts of the videos, so these figures may be about the room and not the "
                "patient.",
                " ".join(f"{_label(r.subject)}, {r.canary}: {r.detail}" for r in rows_of(shortcuts)),
                "bad",
            )
        )
    meaningless = []
    if invented:
        meaningless.append("the patients are invented")
    if (results["profile"] != "paper").any():
        meaningless.append("models were trained in the demo profile (small, few frames)")
    networks = results[results["weights_origin"] != "none"]
    random = networks[networks["weights_origin"].str.contains("random")]
    if len(random):
        which = (
            "networks" if len(random) == len(networks) else _and([_label(e) for e in random["experiment"]])
        )
        meaningless.append(f"{which} started from random weights")
    if meaningless:
        found.append(
            Banner(
                "These figures mean nothing clinically.",
                f"Here {_and(meaningless)}. The page shows that the pipeline works from video to result, and no more.",
            )
        )
    stale = fold_models[fold_models["cohort_hash"] != cohort_hash] if cohort_hash else fold_models.iloc[:0]
    if len(stale):
        found.append(
            Banner(
                "Some models are older than the cohort.",
                f"{len(stale)} of {len(fold_models)} trained folds were not trained on the patients as they are split now; "
                "train them again before comparing models.",
            )
        )
    if len(set(results["profile"])) > 1:
        by_profile = results.groupby("profile")["experiment"]
        said = [f"{profile} ({_and([_label(e) for e in names])})" for profile, names in by_profile]
        found.append(
            Banner(
                "Experiments were trained in different profiles.",
                f"{_and(said)}: differences between them also come from the training.",
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
                " ".join(said) + " Train them again, or go back to the settings they were trained with.",
            )
        )
    return found


def conclusion(
    results: pd.DataFrame, permutations: pd.DataFrame, patients: int, settings: EvaluationSettings
) -> tuple[str, list[str]]:
    """Return the leading sentence of a report and the points below it.

    Parameters
    ----------
    results, permutations : pandas.DataFrame
        ``experiment_results`` and ``permutation_results``; either may be empty.
    patients : int
        Patients in the study.
    settings : EvaluationSettings
        Coverage of the intervals, level of the tests.
    """
    if results.empty:
        return "No experiment has been evaluated yet; this page shows what has been collected.", []
    label = {e: _label(e) for e in results["experiment"]}
    tested = results[results["beats_baseline"].notna()]
    losing = tested[tested["beats_baseline"] == "no"]
    unclear = tested[tested["beats_baseline"] == "not shown"]
    too_few = tested[tested["beats_baseline"] == "cannot be shown"]
    winning = tested[tested["beats_baseline"] == "yes"]
    rule = _best_rule(list(tested["experiment"]))
    points = [
        f"Best baseline with {_classes(classes)} classes: “{baseline_label(first['best_baseline'])}”, "
        f"{first['best_baseline_accuracy']:.3f}."
        for classes, group in tested.groupby("classes")
        for first in [group.sort_values("patients").iloc[-1]]
    ]
    if tested.empty:
        lead = "No baseline has been evaluated, so nothing can be said about whether any model has learned something."
    elif winning.empty:
        lead = (
            f"{'The model is not' if len(tested) == 1 else f'None of the {len(tested)} models is'} shown to beat the "
            f"{rule}."
        )
    elif len(winning) == len(tested):
        lead = f"{'The model beats' if len(tested) == 1 else f'All {len(tested)} models beat'} the {rule}."
    else:
        lead = (
            f"{len(winning)} of {len(tested)} models {'beats' if len(winning) == 1 else 'beat'} the {rule}: "
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
            "Higher than the best baseline, but too few patients differ to distinguish this from chance, whatever the figures: "
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
            f"{best['all_classes']:.3f}{interval}, {count(best['patients'], 'patient')}."
        )
    points += _chance(permutations, settings.alpha)
    if patients < 100:
        points.append(
            f"{patients} patients are few: the patient is the unit, however many frames there are, and intervals are "
            "wide."
        )
    return lead, points


def _chance(permutations: pd.DataFrame, alpha: float) -> list[str]:
    """Return sentences on which models do better than chance, and for which that could not have been shown."""
    if permutations.empty:
        return ["No test against chance has been made."]
    head = (
        f"Against chance (labels permuted among patients, Holm over {len(permutations)} "
        f"experiment{'s' if len(permutations) > 1 else ''}, level {alpha:.2g})"
    )
    conclusive = permutations["p_least_holm"] <= alpha
    points = []
    if conclusive.any():
        above = permutations[conclusive & (permutations["p_value_holm"] <= alpha)]
        better = [f"{_label(r.experiment)} (p = {r.p_value_holm:.3g})" for r in rows_of(above)]
        points.append(
            f"{head}: "
            + (f"better than chance are {_and(better)}" if better else "none is shown to be better")
            + "."
        )
    if not conclusive.all():
        points.append(f"{head}: {_inconclusive(permutations[~conclusive], len(permutations), alpha)}")
    return points


def _inconclusive(permutations: pd.DataFrame, tests: int, alpha: float) -> str:
    """Return one sentence per reason, for all models that it concerns, on why no result could have been distinguished from chance."""
    reasons: dict[str, list[str]] = {}
    helped: list[str] = []
    needed = math.ceil(tests / alpha) - 1
    for row in rows_of(permutations):
        reason = (
            f"{row.most_permutations:,} permutations of these patients' labels give no p below {row.p_least:.3g}, "
            f"which is {row.p_least_holm:.3g} after Holm"
        )
        reasons.setdefault(reason, []).append(_label(row.experiment))
        limited_by_patients = row.p_least > 1 / (row.most_permutations + 1) + 1e-12
        if not limited_by_patients and row.most_permutations < needed:
            helped.append(_label(row.experiment))
    models = [name for names in reasons.values() for name in names]
    said = "; ".join(
        reason if len(reasons) == 1 else f"{reason} ({_and(names)})" for reason, names in reasons.items()
    )
    enough = ""
    if helped:
        enough = f" {needed:,} permutations would do{'' if len(helped) == len(models) else f' for {_and(helped)}'}."
    return (
        f"nothing can be said about {_and(models)}. {said}: no result, however good, could have been distinguished from "
        f"chance.{enough}"
    )


def _classes(classes: Any) -> str:
    return "two" if classes == 2 else "four"


def _best_rule(experiments: Sequence[str]) -> str:
    """Name what models are compared with; say that it uses neither face nor voice only where the models use them."""
    if experiments and all(sees_face_or_voice(e) for e in experiments):
        return "best rule that sees neither face nor voice"
    return "best simple rule"


def _against(row: Any) -> str:
    low, high = row.baseline_difference_low, row.baseline_difference_high
    figures = f"{row.baseline_difference:+.2f}" + ("" if pd.isna(low) else f", {low:+.2f} to {high:+.2f}")
    return f"{_label(row.experiment)} ({figures.replace('-', '−')})"


def baseline_label(baseline: str) -> str:
    """Return a baseline's name as a reader would write it."""
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
