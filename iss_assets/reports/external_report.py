"""The report of an external validation: do another study's models hold for this study's patients?

The page makes no requests and holds ids and numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

from iss_assets.evaluation.frames import Rows, frame_or_empty, number_or_none, rows_of
from iss_assets.evaluation.results import calibration, confusion_counts
from iss_assets.protocol.published import describe
from iss_assets.reports import charts, probast, tripod
from iss_assets.reports import report_tables as t
from iss_assets.reports.conclusions import baseline_label
from iss_assets.reports.probast import EVENTS
from iss_assets.reports.run_facts import facts_of_external
from iss_assets.reports.templating import INVENTED, STUDY, Banner, Frame, count, write_page
from iss_assets.schemas.external import SAME_ANSWERS, SAME_FILE
from iss_assets.settings import EvaluationSettings

APART: Final = 0.1
"""Standard deviation between folds from which the page says that they disagree: then their probabilities of one patient
typically lie on both sides of a fifth of the scale."""

CARRIES_OVER: Final = {
    "yes": "carries over",
    "not shown": "is not shown to carry over",
    "cannot be shown": "was applied to too few patients to show whether it carries over",
    "no": "is no better here than the best simple rule",
}
"""What is said of a model, by ``external_results.carries_over``."""


@dataclass(frozen=True)
class ExternalReportInputs:
    """What the report of an external validation is made from.

    Attributes
    ----------
    tables : mapping
        The tables of ``schemas.external.EXTERNAL`` by name, of one source.
    not_applied : mapping
        Experiments of the training study that could not be applied, each with the reason.
    settings : EvaluationSettings
        Coverage of the intervals, bins.
    study_name : str
        Name of the study.
    clinic_page : str
        File of the clinic's report of the other study's models of check-ins, beside this page; empty if there is none.
    invented : bool
        Whether this study's patients are invented.
    made_at : datetime, optional
        When the page was made; now if None.
    versions : mapping
        Name to version of the software behind the figures.
    """

    tables: Mapping[str, Rows]
    not_applied: Mapping[str, str] = field(default_factory=dict)
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)
    clinic_page: str = ""
    study_name: str = STUDY
    invented: bool = False
    made_at: datetime | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def frame(self, name: str) -> pd.DataFrame:
        """Return a table as a pandas frame, without rows where it was not provided."""
        return frame_or_empty(self.tables, name)


def write_external_report(inputs: ExternalReportInputs, path: Path) -> Path:
    """Write the report as one HTML file and return its path."""
    results = inputs.frame("external_results")
    frame = Frame(
        "Do the models hold in this study?",
        "External validation · research use, not for clinical decisions",
        inputs.made_at,
        inputs.study_name,
        [f"{name} {version}" for name, version in inputs.versions.items()],
        _banners(inputs, results),
    )
    return write_page("external_report.html.jinja", frame, _context(inputs), path)


def first_lines(
    results: pd.DataFrame, metrics: pd.DataFrame, settings: EvaluationSettings
) -> tuple[str, list[str]]:
    """Return the leading sentence of the report and the points below it.

    Parameters
    ----------
    results, metrics : pandas.DataFrame
        ``external_results`` and ``external_metrics`` of one source.
    settings : EvaluationSettings
        Coverage of the intervals.

    Returns
    -------
    str
        Whether the models carry over: only where ``carries_over`` is yes.
    list of str
        One sentence on each model, on how sure its probabilities are, and on how many patients there are.
    """
    if results.empty:
        return "No model of another study has been applied yet.", []
    results = t.in_order(results)
    names = {e: describe(e)[1] for e in results["experiment"]}
    carrying = [names[e] for e in results.loc[results["carries_over"] == "yes", "experiment"]]
    verdicts = set(results["carries_over"])
    many = len(results)
    if carrying and len(carrying) == many:
        lead = (
            "The model carries over: it predicts these patients, whom it has never seen, better than the best simple rule."
            if many == 1
            else f"All {many} models carry over: they predict these patients, whom they have never seen, better than the best "
            "simple rule."
        )
    elif carrying:
        lead = (
            f"{len(carrying)} of {many} models {'carries' if len(carrying) == 1 else 'carry'} over: {_and(carrying)} "
            f"{'predicts' if len(carrying) == 1 else 'predict'} these patients better than the best simple rule."
        )
    elif "cannot be shown" in verdicts and verdicts <= {"cannot be shown", "no"}:
        lead = (
            "Nothing could have been shown: there are too few patients to say whether any model carries over."
        )
    else:
        lead = (
            f"{'The model is not' if many == 1 else f'None of the {many} models is'} shown to carry over, that is, to predict "
            "these patients better than the best simple rule."
        )
    points = [_model(r, names[r.experiment], settings) for r in rows_of(results)]
    points += [line for r in rows_of(results) for line in _probabilities(r, names[r.experiment], metrics)]
    first = results.sort_values("patients").iloc[-1]
    points += _patients(first, metrics[metrics["experiment"] == first["experiment"]])
    return lead, points


def _model(row: Any, name: str, settings: EvaluationSettings) -> str:
    """Say of one model whether it carries over, with the difference to the best rule, and how it did where it was trained."""
    low, high = row.baseline_difference_low, row.baseline_difference_high
    interval = "" if pd.isna(low) else f", {settings.confidence:.0%} interval {low:+.2f} to {high:+.2f}"
    found = f"{row.baseline_difference:+.2f}{interval}".replace("-", "−")
    said = (
        f"{name} {CARRIES_OVER[row.carries_over]}: mean accuracy {row.all_classes:.2f}, against {row.best_baseline_accuracy:.2f} "
        f"of the rule “{rule_label(row.best_baseline)}” (difference {found})"
    )
    if row.trained_accuracy is None or pd.isna(row.trained_accuracy):
        return f"{said}. It was not evaluated in the study that trained it."
    return f"{said}. In the study that trained it, on patients left out: {row.trained_accuracy:.2f}."


def _probabilities(row: Any, name: str, metrics: pd.DataFrame) -> list[str]:
    """Say whether pain is predicted too often or too rarely, and whether the folds disagree."""
    found = metrics[
        (metrics["experiment"] == row.experiment) & (metrics["metric"] == "calibration_in_the_large")
    ]
    lines = []
    # several patients without an interval are all alike
    for m in rows_of(found[found["low"].notna() | (found["patients"] > 1)]):
        low, high = (round(m.estimate, 9),) * 2 if pd.isna(m.low) else (m.low, m.high)
        if low > 0 or high < 0:
            near, far = sorted((abs(low), abs(high)))
            between = "the same for all" if pd.isna(m.low) else f"{near:.0%} to {far:.0%}"
            lines.append(
                f"{name} expects pain {'more often' if low > 0 else 'more rarely'} than it occurs here: by {abs(m.estimate):.0%} "
                f"of patients ({between}). Its probabilities must not be read as they are."
            )
    if row.fold_spread is not None and not pd.isna(row.fold_spread) and row.fold_spread > APART:
        lines.append(
            f"The {row.models} folds of {name} disagree: the standard deviation of their probabilities for a patient is "
            f"{row.fold_spread:.2f} on average. What it says of a patient depends on who happened to be trained on."
        )
    return lines


def _patients(row: pd.Series, metrics: pd.DataFrame) -> list[str]:
    """Say on how many patients all this rests, and who was left out."""
    of = dict(zip(metrics["metric"], metrics["patients"], strict=True))
    pain, free = int(of.get("pain", 0)), int(of.get("no_pain", 0))
    lines = [
        f"{count(row['patients'], 'patient')}, {pain} with and {free} without pain, predicted by the mean of "
        f"{count(row['models'], 'fold')} that learned from {count(row['train_patients'], 'other patient')}."
    ]
    if min(pain, free) < EVENTS:
        lines.append(
            f"That is few: an external validation should have at least {EVENTS} patients with and {EVENTS} without pain."
        )
    if out := int(row["in_training_study"]):
        lines.append(
            f"{out} patient{'s' if out > 1 else ''} of this study {'are' if out > 1 else 'is'} in the training study, too, and "
            f"{'were' if out > 1 else 'was'} left out (section 7)."
        )
    return lines


def rule_label(baseline: str) -> str:
    """Return the name of a simple rule as a reader would write it."""
    if baseline.startswith("always_") and baseline not in ("always_none", "always_pain"):
        return f"always {baseline.removeprefix('always_')}"
    return baseline_label(baseline)


def _banners(inputs: ExternalReportInputs, results: pd.DataFrame) -> list[Banner]:
    found = [INVENTED] if inputs.invented else []
    meaning = []
    if (results["profile"] != "paper").any():
        meaning.append("models were trained in the demo profile (small, few frames)")
    if results["weights_origin"].str.contains("random").any():
        meaning.append("networks started from random weights")
    if meaning:
        found.append(Banner("These models were not trained as published.", f"{_and(meaning).capitalize()}."))
    return found


def _context(inputs: ExternalReportInputs) -> dict[str, Any]:
    results, metrics = t.in_order(inputs.frame("external_results")), inputs.frame("external_metrics")
    patients, rules = inputs.frame("external_patients"), inputs.frame("external_baselines")
    settings = inputs.settings
    lead, points = first_lines(results, metrics, settings)
    bins = calibration(patients, settings.calibration_bins).to_pandas()
    counts = confusion_counts(patients).to_pandas()
    of_each = [(e, describe(e)[1], patients[patients["experiment"] == e]) for e in results["experiment"]]
    metric_table = t.patient_metrics(metrics)
    return {
        "lead": lead,
        "clinic_page": inputs.clinic_page,
        "points": points,
        "facts": _facts(results),
        "verdicts": _verdict_table(results),
        "table_5": [
            (
                f"{'Two' if c == 2 else 'Four'} classes by pain level, beside the paper’s figures",
                t.table_5(results, metrics, c),
            )
            for c in (2, 4)
            if (results["classes"] == c).any()
        ],
        "plots": [p for c in (2, 4) if (p := _interval_plot(results, rules, c))],
        "bars": [
            (name, charts.accuracy_bars(group, f"{name}, accuracy by patient")) for _, name, group in of_each
        ],
        "per_patient": _per_patient(patients),
        "rules": [_rules(rules, c) for c in (2, 4) if (rules["classes"] == c).any()],
        "patient_metrics": replace(
            metric_table,
            note="Balanced accuracy: mean over classes of patients’ accuracies. AUROC, Brier score and calibration: a patient’s "
            "mean predicted probability of pain. Calibration in the large: mean predicted probability minus share of patients in "
            "pain; 0 is right. Scaled Brier score: 1 is perfect, 0 is that of predicting the share of patients in pain for "
            "everybody, below 0 is worse.",
        ),
        "calibration_plots": [
            (name, charts.calibration_plot(bins[bins["experiment"] == e], name)) for e, name, _ in of_each
        ],
        "confusions": [_confusion(counts, e, name) for e, name, _ in of_each],
        "left_out": _left_out(inputs.frame("external_left_out"), len(results)),
        "not_applied": t.simple(
            "Models of the training study that were not applied.",
            ["Model", "Why"],
            [(t.name_cell(name), why) for name, why in inputs.not_applied.items()],
            "All models of the training study were applied.",
        ),
        "confidence": f"{settings.confidence:.0%}",
        "samples": f"{settings.bootstrap_samples:,}",
        "training": _training_words(results),
        "probast": probast.summary(
            facts_of_external(results, metrics, patients, rules, invented=inputs.invented)
        ),
        "checklist": tripod.checklist(_checklist(inputs, results, metrics)),
    }


def _checklist(inputs: ExternalReportInputs, results: pd.DataFrame, metrics: pd.DataFrame) -> dict[str, str]:
    """Answer the parts of the TRIPOD+AI checklist that an external validation can answer."""
    if results.empty:
        return {}
    first = results.sort_values("patients").iloc[-1]
    of = metrics[metrics["experiment"] == first["experiment"]].set_index("metric")["patients"]
    pain, free = int(of.get("pain", 0)), int(of.get("no_pain", 0))
    left = inputs.frame("external_left_out")
    invented = " The patients are invented." if inputs.invented else ""
    confidence = f"{inputs.settings.confidence:.0%}"
    return {
        "objectives": "External evaluation of models of another study, without any change to them.",
        "data": f"Development: {count(first['train_patients'], 'patient')} of another study. Evaluation: "
        f"{count(first['patients'], 'patient')} of this one.{invented}",
        "preparation": "The same code, settings and model files as in the training study, which the program compares; quality is "
        "measured for each video.",
        "outcome": "Worst pain of the thirty days before enrollment, 0 to 10, reported by the patient once, at enrollment, in both "
        "studies; levels 0, 1–3, 4–6, 7–10, or none versus any.",
        "assessors": "Reported by the patient; nobody else assesses it.",
        "predictors": "Those of the training study; none was chosen here.",
        "predictors_defined": "In the project’s data dictionary; the same settings as in the training study.",
        "predictor_assessors": "None by others: measured by software or reported by the patient.",
        "sample_size": f"{count(first['patients'], 'patient')}, {pain} with and {free} without pain; at least {EVENTS} of each are asked for. No "
        "calculation.",
        "missing": f"Left out: {count(left['patient_id'].nunique(), 'patient')} (section 7); missing answers are replaced by the medians of "
        "the training study, with a flag, or left out, as the models were trained.",
        "partition": "No patient is in both studies, as far as files, ids and answers tell.",
        "handling": "Scalers and imputation are those of the training study.",
        "models": f"{count(len(results), 'experiment')}, {count(int(results['models'].sum()), 'trained fold')} of the training study; the mean of the "
        "folds’ probabilities.",
        "clusters": "The patient is the cluster: accuracy of each patient in section 3.",
        "measures": f"Accuracy by level, AUROC, sensitivity, specificity, Brier score, calibration; {confidence} intervals over patients.",
        "updating": "No model was updated or recalibrated.",
        "calculation": "Mean over the folds, then over a patient’s items, weighted as in training.",
        "imbalance": "Rules that predict one class for everybody are shown beside the models.",
        "output": "Class and probability of pain; a patient counts as in pain if most items are predicted to be in pain.",
        "difference": f"Of the training study’s {first['train_patients']} patients {first['train_events']} are in pain "
        f"({first['train_events'] / first['train_patients']:.0%}), here {pain} of {pain + free} ({pain / (pain + free):.0%}). Other "
        "differences: for the authors.",
        "code": "The package iss-assets; version at the head of this report.",
        "flow": f"{count(first['patients'] + first['in_training_study'] + first['without_items'], 'patient')}, "
        f"{first['in_training_study']} left out because the training study has them, {first['without_items']} without data.",
        "events": f"{count(first['patients'], 'patient')} predicted, {pain} in pain.",
        "specification": "The model files of the training study, one per fold.",
        "performance": "Sections 2 to 6.",
        "limitations": f"{count(first['patients'], 'patient')} at one site; one label per patient for all videos; the label precedes the videos; "
        "a person who is in both studies under different ids and with different files is not recognized. The authors may know of "
        "more.",
        "poor_input": "Videos are flagged and left out by the same rules as in training; a video without a face gives no prediction.",
    }


def _facts(results: pd.DataFrame) -> list[tuple[str, str, str]]:
    def common(column: str) -> str:
        return ", ".join(sorted({str(v) for v in results[column]})) or "–"

    return [
        ("Models", str(len(results)), count(int(results["models"].sum()), "trained fold")),
        ("Trained on", common("train_patients"), "patients of the other study"),
        ("Training study", common("source")[:12], "hash of its patients and splits, as in its own report"),
        ("Patients predicted here", common("patients"), "whom the models have never seen"),
        ("Training profile", common("profile"), "paper: as published; demo: small"),
        ("First weights", common("weights_origin"), "none: nothing pretrained (forests)"),
    ]


def _training_words(results: pd.DataFrame) -> str:
    if results.empty:
        return "No models."
    row = results.sort_values("train_patients").iloc[-1]
    return (
        f"{count(row['train_patients'], 'patient')} of another study, {row['train_events']} of them with pain; code version "
        f"{row['code_version']}, profile {row['profile']}."
    )


def _verdict_table(results: pd.DataFrame) -> t.DataTable:
    return t.simple(
        "Does what was learned hold here?",
        [
            "Model",
            "n",
            "Accuracy here",
            "Where it was trained",
            "Best simple rule",
            "Its accuracy",
            "Difference",
            "p (Holm)",
            "Between folds",
            "Carries over",
        ],
        [
            (
                t.name_cell(r.experiment),
                int(r.patients),
                t.with_interval(r.all_classes, r.all_classes_low, r.all_classes_high),
                t.with_interval(r.trained_accuracy, r.trained_accuracy_low, r.trained_accuracy_high),
                rule_label(r.best_baseline),
                float(r.best_baseline_accuracy),
                t.with_interval(
                    r.baseline_difference, r.baseline_difference_low, r.baseline_difference_high, signed=True
                ),
                t.p_value(r.baseline_p_holm),
                t.number(r.fold_spread, 2),
                t.Cell(r.carries_over, css="good" if r.carries_over == "yes" else ""),
            )
            for r in rows_of(results)
        ],
        "No model has been applied.",
        "Accuracy: mean over patients, as in the paper. Yes: the interval of the difference is above 0, and p, from flipping the "
        "signs of patients’ differences, is small enough after Holm’s correction over all models of this page. Between folds: "
        "standard deviation of the folds’ probabilities for a patient, averaged over patients.",
    )


def _interval_plot(results: pd.DataFrame, rules: pd.DataFrame, classes: int) -> dict[str, Any] | None:
    chosen = results[results["classes"] == classes]
    if chosen.empty:
        return None
    lines = [
        charts.IntervalRow(name, float(estimate), number_or_none(low), number_or_none(high), kind=kind)
        for r in rows_of(chosen)
        for name, estimate, low, high, kind in (
            (
                f"{describe(r.experiment)[1]}, here",
                r.all_classes,
                r.all_classes_low,
                r.all_classes_high,
                "model",
            ),
            (
                "where it was trained",
                r.trained_accuracy,
                r.trained_accuracy_low,
                r.trained_accuracy_high,
                "baseline",
            ),
        )
        if not pd.isna(estimate)
    ]
    best = float(rules.loc[rules["classes"] == classes, "all_classes"].max())
    title = f"Mean accuracy over patients, {'two' if classes == 2 else 'four'} classes"
    return {
        "title": title,
        "svg": charts.interval_plot(lines, title, best, reference_words="best simple rule here"),
    }


def _rules(rules: pd.DataFrame, classes: int) -> t.DataTable:
    says = {
        "majority": "the most common class in the training study",
        "sex": "the most common class of the sex there",
        "skin": "the most common class of the skin group there",
        "sex_and_skin": "the most common class of sex and skin group combined there",
    }
    return t.simple(
        f"Simple rules on this study’s patients, {'two' if classes == 2 else 'four'} classes.",
        ["Rule", "Predicts", "n", "All classes", "No pain", "Pain"],
        [
            (
                rule_label(r.baseline),
                says.get(r.baseline, "the same class for every patient"),
                int(r.patients),
                t.with_interval(r.all_classes, r.all_classes_low, r.all_classes_high),
                t.number(r.no_pain),
                t.number(r.pain),
            )
            for r in rows_of(rules[rules["classes"] == classes])
        ],
        "No rule has been evaluated.",
        "None of them looks at a video or at an answer. The best one is picked after the fact, which is strict on purpose. "
        "Intervals of shares of patients are exact.",
    )


def _per_patient(patients: pd.DataFrame) -> t.DataTable:
    return t.simple(
        "Every patient and model.",
        [
            "Patient",
            "Level",
            "Model",
            "Predicted",
            "Items",
            "Accuracy",
            "Probability of pain",
            "Lowest fold",
            "Highest fold",
        ],
        [
            (
                r.patient_id,
                r.pain_level,
                describe(r.experiment)[1],
                r.predicted,
                int(r.items),
                t.number(r.accuracy, 2),
                t.number(r.pain_probability, 2),
                t.number(r.lowest_probability, 2),
                t.number(r.highest_probability, 2),
            )
            for r in rows_of(t.in_order(patients).sort_values("patient_id", kind="stable"))
        ],
        "Nobody has been predicted.",
    )


def _confusion(counts: pd.DataFrame, experiment: str, name: str) -> t.DataTable:
    cells = {(r.target, r.predicted): r.patients for r in rows_of(counts[counts["experiment"] == experiment])}
    names = list(dict.fromkeys(target for target, _ in cells))
    rows = [(target, *(int(cells[target, p]) for p in names)) for target in names]
    return replace(t.simple(name, ["True class", *names], rows, ""), sortable=False)


_WORDS = {
    SAME_FILE: "in the training study, too: the same file",
    SAME_ANSWERS: "in the training study, too: the same id with the same answers on the same day",
}


def _left_out(rows: pd.DataFrame, models: int) -> t.DataTable:
    """Show who was left out by which of the models that were applied, of which there are so many."""
    alike: dict[tuple[str, str], list[str]] = {}
    for row in rows_of(rows.sort_values("patient_id", kind="stable")):
        alike.setdefault((row.patient_id, row.reason), []).append(describe(row.experiment)[1])
    return t.simple(
        "Patients who were not predicted.",
        ["Patient", "Why", "Models"],
        [
            (
                patient,
                _WORDS.get(why, why.replace("_", " ")),
                "all" if len(of) == models else ", ".join(of),
            )
            for (patient, why), of in alike.items()
        ],
        "Every patient of this study was predicted by every model.",
    )


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
