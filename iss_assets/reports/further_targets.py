"""What checklist and model card say beyond the paper's target: the answers of check-ins, and other studies' models."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from iss_assets.modeling.check_ins import SERIES_TITLES, experiment_named
from iss_assets.protocol.published import describe
from iss_assets.protocol.targets import BY_NAME as TARGETS
from iss_assets.reports.clinic_lines import first_lines, join, situations
from iss_assets.reports.external_report import CARRIES_OVER
from iss_assets.reports.report_inputs import StudyReportInputs
from iss_assets.reports.templating import count
from iss_assets.settings import CheckInSettings


def with_further_targets(answers: Mapping[str, str], inputs: StudyReportInputs) -> dict[str, str]:
    """Extend the answers to the TRIPOD+AI checklist by the targets of check-ins and by external validation.

    Parameters
    ----------
    answers : mapping
        What `report_answers.checklist_answers` says of the paper's target.
    inputs : StudyReportInputs
        Tables of the study; ``check_in_...`` and ``external_results`` may be missing.
    """
    more: dict[str, list[str]] = {}

    def add(key: str, text: str) -> None:
        more.setdefault(key, []).append(text)

    metrics, external = inputs.frame("check_in_metrics"), inputs.frame("external_results")
    if len(metrics):
        titles = join([TARGETS[str(n)].title for n in dict.fromkeys(metrics["target"])])
        known = [int(k) for k in sorted(set(metrics["known"]))]
        add("objectives", f"Answers that change are predicted as well: {titles} of each check-in.")
        add(
            "outcome",
            f"Of each check-in: {titles}, 0 to 10, answered by the patient on the same day as the video.",
        )
        add(
            "predictors",
            "For check-ins: measures of the same day’s video, and answers that are no part of the target.",
        )
        add(
            "partition",
            f"Check-ins are predicted {situations(known)}, always by models that have never seen the patient.",
        )
        tested = [str(m) for m in metrics.loc[metrics["kind"] == "model", "model"].unique()]
        known_models = {name: experiment_named(name) for name in tested}
        models = [(e.title if e is not None else name).lower() for name, e in known_models.items()]
        series = [
            SERIES_TITLES[e.series] for e in known_models.values() if e is not None and e.series is not None
        ]
        if series:
            add("predictors", f"A network reads {join(list(dict.fromkeys(series)))}, instead of measures.")
        if models:
            # each target has models of the same names
            add(
                "models",
                f"For check-ins: {join(list(dict.fromkeys(models)))}; the clinic’s report has them.",
            )
        add(
            "measures", "Of check-ins: mean error, kappa, ICC, correlation within patients, changes detected."
        )
        if any(known):
            add(
                "updating",
                "Models of check-ins are shifted to a known patient’s own level by the first answers.",
            )
        add("performance", "Of check-ins: the clinic’s report.")
        check_ins = inputs.frame("check_in_predictions")
        if len(check_ins):
            add(
                "events",
                f"Check-ins: {check_ins['submission_id'].nunique()} of {count(check_ins['patient_id'].nunique(), 'patient')}.",
            )
    if len(external):
        add(
            "objectives",
            f"Models of another study were evaluated on these patients, without any change: {_others(external)}.",
        )
        add(
            "difference",
            "Another study’s models are compared with simple rules, and with their accuracy there, in the report of the external "
            "validation.",
        )
    return {key: " ".join([text, *more.get(key, [])]) for key, text in answers.items()} | {
        key: " ".join(texts) for key, texts in more.items() if key not in answers
    }


def model_card(inputs: StudyReportInputs) -> list[tuple[str, str]]:
    """Return further lines of the model card: name and text."""
    lines = []
    claims, effects = inputs.frame("check_in_claims"), inputs.frame("check_in_effects")
    if len(claims):
        titles = join([TARGETS[str(n)].title for n in dict.fromkeys(claims["target"])])
        lead, _ = first_lines(claims, effects, CheckInSettings())
        lines.append(
            (
                "Further labels",
                f"{titles} of each check-in, answered on the day of the video (the clinic’s report). {lead}",
            )
        )
    external = inputs.frame("external_results")
    if len(external):
        lines.append(("Other studies’ models", f"On these patients: {_others(external)}."))
    return lines


def _others(external: pd.DataFrame) -> str:
    return "; ".join(
        f"{describe(str(r['experiment']))[1]} of study {str(r['source'])[:8]} {CARRIES_OVER[str(r['carries_over'])]}"
        for r in external.to_dict("records")
    )
