"""What a run has recorded that an assessment of its models asks for."""

from __future__ import annotations

from typing import Any

import pandas as pd

from iss_assets.evaluation.frames import analyzed_patients
from iss_assets.modeling.experiments import BY_NAME, Experiment
from iss_assets.modeling.items import MEASURES, SCORE_COLUMNS
from iss_assets.reports.probast import RunFacts
from iss_assets.reports.report_inputs import StudyReportInputs
from iss_assets.schemas.audio import AUDIO_FEATURES

_COLUMNS = {
    "scores": len(SCORE_COLUMNS),
    "audio_features": len(AUDIO_FEATURES),
    "landmarks": 1404,
    **{name: len(columns) for name, (_, columns) in MEASURES.items()},
}
"""Predictors of each input that is a row of numbers; pictures, spectrograms and series have more."""
_PICTURE = 10_000


def predictors(experiment: Experiment) -> int:
    """Return how many numbers a model reads of one item, at least."""
    return sum(_COLUMNS.get(name, _PICTURE) for name in experiment.inputs)


def facts_of_study(inputs: StudyReportInputs) -> RunFacts:
    """Collect the facts of a study's own models."""
    patients, scores = inputs.frame("patients"), inputs.frame("bpi_scores")
    models, results = inputs.frame("fold_models"), inputs.frame("experiment_results")
    accuracies, splits = inputs.frame("patient_accuracy"), inputs.frame("cv_splits")
    canaries, groups = inputs.frame("canary_results"), inputs.frame("subgroup_results")
    quality, metrics = inputs.frame("quality_associations"), inputs.frame("experiment_metrics")
    trained = [BY_NAME[name] for name in sorted(set(models["experiment"])) if name in BY_NAME]
    training: dict[str, Any] = dict(inputs.settings.get("training", {}))
    analyzed = analyzed_patients(inputs.frame("video_quality")) - set(inputs.without_consent)
    levels = accuracies.drop_duplicates("patient_id")["pain_level"]
    evaluated = len(results) > 0
    gaps = _gaps(patients, scores)
    tested = canaries[canaries["passed"].notna()]
    return RunFacts(
        invented=inputs.invented,
        enrolled=len(patients) or None,
        analyzed=len(analyzed) if len(patients) else None,
        events=int((levels != "None").sum()) if evaluated else None,
        others=int((levels == "None").sum()) if evaluated else None,
        reads_answers=any("scores" in e.inputs for e in trained) if trained else None,
        fewest_columns=min(map(predictors, trained)) if trained else None,
        quality_differs=bool((quality["p_value_holm"] <= inputs.evaluation_settings.alpha).any())
        if len(quality)
        else None,
        missing_share=float((scores["missing_scores"] > 0).mean()) if len(scores) else None,
        missing_scores=training.get("missing_scores"),
        gap_days=float(gaps.median()) if len(gaps) else None,
        first_gap_days=float(gaps.min()) if len(gaps) else None,
        splits=int(splits["split"].nunique()) if evaluated else None,
        canaries_run=len(tested) or None,
        canaries_failed=int(tested["passed"].eq(False).sum()),
        class_weights=training.get("class_weights") if trained else None,
        intervals=bool(metrics["low"].notna().any()) if evaluated else None,
        calibrated=bool((metrics["metric"] == "calibration_in_the_large").any()) if evaluated else None,
        rules=len(inputs.frame("baseline_results")) > 0 if evaluated else None,
        small_groups=int(groups["small"].astype(bool).sum()) if len(groups) else None,
        groups=len(groups) or None,
    )


def facts_of_external(
    results: pd.DataFrame,
    metrics: pd.DataFrame,
    patients: pd.DataFrame,
    rules: pd.DataFrame,
    *,
    invented: bool,
) -> RunFacts:
    """Collect the facts of another study's models on this study's patients, from the tables of one source."""
    levels = patients.drop_duplicates("patient_id")["pain_level"]
    there = len(results) > 0
    left = int((results["in_training_study"] + results["without_items"]).min()) if there else 0
    known = [BY_NAME[name] for name in results["experiment"] if name in BY_NAME]
    return RunFacts(
        invented=invented,
        enrolled=len(levels) + left if there else None,
        analyzed=len(levels) if there else None,
        events=int((levels != "None").sum()) if there else None,
        others=int((levels == "None").sum()) if there else None,
        reads_answers=any("scores" in e.inputs for e in known) if known else None,
        intervals=bool(metrics["low"].notna().any()) if there else None,
        calibrated=bool((metrics["metric"] == "calibration_in_the_large").any()) if there else None,
        rules=len(rules) > 0 if there else None,
        trained_here=False,
    )


def _gaps(patients: pd.DataFrame, scores: pd.DataFrame) -> pd.Series:
    """Return the days from enrollment to each check-in, where both days are known."""
    both = scores[["patient_id", "submitted_on"]].merge(
        patients[["patient_id", "enrolled_on"]], on="patient_id"
    )
    days = pd.to_datetime(both["submitted_on"]) - pd.to_datetime(both["enrolled_on"])
    return days.dropna().dt.days
