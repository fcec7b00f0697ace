"""The study report: one self-contained page that says what was run on whom and what may be concluded.

The page makes no requests and holds ids and numbers only: no face, no words of a patient, no file name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from iss_assets.evaluation.baselines import published_rule_accuracy
from iss_assets.evaluation.comparable import comparable_folds
from iss_assets.evaluation.frames import number_or_none, rows_of
from iss_assets.evaluation.intervals import COVERAGE
from iss_assets.protocol import published as paper
from iss_assets.protocol.flags import FLAGS
from iss_assets.protocol.terms import AGE_GROUPS, COHORT_GOAL, COHORTS
from iss_assets.reports import charts, conclusions, probast, report_tables, tripod
from iss_assets.reports.further_targets import model_card
from iss_assets.reports.quality_text import flag_rows, reviews_in_words
from iss_assets.reports.report_answers import associations_reach, checklist_answers, flow, missing_tables
from iss_assets.reports.report_inputs import StudyReportInputs
from iss_assets.reports.report_settings import models_table, settings_tables, training_settings_table
from iss_assets.reports.run_facts import facts_of_study
from iss_assets.reports.templating import Frame, write_page


def write_study_report(inputs: StudyReportInputs, path: Path) -> Path:
    """Write the study report as one HTML file.

    Parameters
    ----------
    inputs : StudyReportInputs
        Tables, settings, names.
    path : pathlib.Path
        The file; its folder is created.

    Returns
    -------
    pathlib.Path
        `path`.
    """
    compared, left_out = comparable_folds(
        inputs.frame("fold_models"), inputs.frame("cv_splits"), inputs.relabelled
    )
    inputs = replace(inputs, fold_models=compared)
    frame = Frame(
        inputs.study_name,
        "Study report · research use, not for clinical decisions",
        inputs.made_at,
        inputs.study_name,
        [f"{name} {version}" for name, version in inputs.versions.items()],
        conclusions.banners(
            inputs.frame("experiment_results"),
            compared,
            inputs.frame("canary_results"),
            inputs.invented,
            _cohort_hash(inputs.frame("cv_splits")),
            left_out,
        ),
    )
    return write_page("study_report.html.jinja", frame, _context(inputs), path)


def _cohort_hash(splits: pd.DataFrame) -> str | None:
    return str(splits["cohort_hash"].iloc[0]) if len(splits) else None


def _context(inputs: StudyReportInputs) -> dict[str, Any]:
    frame = inputs.frame
    settings = inputs.evaluation_settings
    results, accuracies, models = frame("experiment_results"), frame("patient_accuracy"), frame("fold_models")
    metrics, groups, pairs = (
        frame("experiment_metrics"),
        frame("subgroup_results"),
        frame("paired_differences"),
    )
    splits, canaries, bins = frame("cv_splits"), frame("canary_results"), frame("calibration")
    experiments = paper.order(sorted(set(accuracies["experiment"])))
    lead, points = conclusions.conclusion(
        results, frame("permutation_results"), accuracies["patient_id"].nunique(), settings
    )
    steps = flow(inputs)
    t = report_tables
    trained = {_label(r.experiment): t.training_words(r.profile, r.weights_origin) for r in rows_of(results)}
    context = {
        "lead": lead,
        "points": points,
        "summary": _facts(results, models, splits, accuracies),
        "people_flow": steps["patients"],
        "data_flow": steps["data"],
        "cohorts": _cohorts(frame("patients")),
        "study_figures": inputs.study_figures,
        "table_5": [t.table_5(results, metrics, c) for c in (2, 4)],
        "bars": [
            (
                paper.describe(e)[1],
                f"{paper.describe(e)[0]}, {(group['accuracy'] > 0.5).mean():.1%} of patients above 0.5",
                charts.accuracy_bars(group, f"{paper.describe(e)[1]}, accuracy by patient"),
            )
            for e in experiments
            for group in [accuracies[accuracies["experiment"] == e]]
        ],
        "per_patient": t.per_patient(accuracies),
        "interval_plots": [p for c in (2, 4) if (p := _interval_plot(results, frame("baseline_results"), c))],
        "baseline_tables": [t.baselines(frame("baseline_results"), c) for c in (2, 4)],
        "published_rule": f"{published_rule_accuracy():.1%}",
        "published_rule_validated": f"{paper.RULE_CROSS_VALIDATED:.0%}",
        "published_best": f"{max(p.figures['all_classes'] for p in paper.TABLE_5 if p.classes == 2):.1%}",
        "against_baselines": t.differences(pairs, results, "baseline"),
        "against_each_other": t.differences(pairs, results, "experiment"),
        "chance": t.chance(frame("permutation_results"), settings),
        "patient_metrics": t.patient_metrics(metrics),
        "calibration_plots": [
            (
                paper.describe(e)[1],
                charts.calibration_plot(bins[bins["experiment"] == e], paper.describe(e)[1]),
            )
            for e in experiments
            if (bins["experiment"] == e).any()
        ],
        "confusions": [
            _confusion(frame("confusion_counts"), e) for e in experiments if len(frame("confusion_counts"))
        ],
        "gaps": t.gaps(groups),
        "subgroups": [
            t.subgroups(groups, e, settings.small_cell)
            for e in experiments
            if (groups["experiment"] == e).any()
        ],
        "small_cell": settings.small_cell,
        "canaries": t.simple(
            "Alarms.",
            ["Alarm", "On", "Found", "Limit", "Verdict", "In words"],
            [
                (
                    c.canary,
                    _label(c.subject),
                    t.number(c.value),
                    t.number(c.limit_value),
                    t.Cell("for information")
                    if c.passed is None or pd.isna(c.passed)
                    else t.Cell("as expected" if c.passed else "ALARM", css="good" if c.passed else "bad"),
                    c.detail,
                )
                for c in rows_of(canaries)
            ],
            "No alarm has been tested yet: nothing here shows that the answer did not leak into the models.",
        ),
        "quality_associations": t.simple(
            "Quality of the recordings against pain, patients' means.",
            ["Measure", "n", "AUROC", "p", "p (Holm)"],
            [
                (
                    q.measure,
                    int(q.patients),
                    t.number(q.auroc, 2),
                    t.p_value(q.p_value),
                    t.p_value(q.p_value_holm),
                )
                for q in rows_of(frame("quality_associations").sort_values("p_value"))
            ],
            "No quality measures have been compared with pain yet.",
            "0.5 is no association. Where light or sound is associated with pain, a model can learn the room and not the patient."
            + associations_reach(inputs),
        ),
        "shortcuts": t.simple(
            "Attention to flagged stretches of videos, beside chance.",
            [
                "Model",
                "Flag",
                "Patients",
                "Attention",
                "Chance",
                "Difference",
                "p (Holm)",
                "More than chance?",
            ],
            [
                (
                    t.name_cell(r.experiment),
                    FLAGS[r.flag],
                    t.number(r.patients, 0, small=f"{r.videos} videos"),
                    float(r.attention),
                    float(r.chance),
                    t.with_interval(r.difference, r.difference_low, r.difference_high, signed=True),
                    t.p_value(r.p_value_holm),
                    t.Cell(r.verdict, css="bad" if r.verdict == "yes" else ""),
                )
                for r in rows_of(t.in_order(frame("attention_shortcuts")))
            ],
            "No model on whole videos has been tested on a video that is flagged in part.",
            "Shares, means over patients. Chance is the share of the video that is flagged. A model that looks at glare or lettering "
            "may have learned the room and not the patient. Each patient’s page shows where in the videos the models looked.",
        ),
        "stability": t.simple(
            "Mean accuracy under other assignments of patients to splits.",
            ["Model", "Seeds", "Lowest", "Mean", "Highest"],
            [
                (
                    t.name_cell(str(e)),
                    len(g),
                    *(float(g["all_classes"].agg(f)) for f in ("min", "mean", "max")),
                )
                for e, g in t.in_order(frame("split_stability")).groupby("experiment", sort=False)
            ],
            "No other assignment of patients to splits has been tried.",
        ),
        "missing": missing_tables(inputs),
        "reviews": reviews_in_words(inputs.reviews, names=False) if inputs.reviews else [],
        "reviewed_flags": t.simple(
            "Reviewed flags.",
            ["Flag", "Reviewed", "Rejected", "Patients", "Precision", "95% interval"],
            [
                (t.Cell(r.name, r.says), r.reviewed, r.rejected, r.patients, r.precision, r.interval)
                for r in flag_rows(inputs.reviews)
            ],
            "Nobody has reviewed a flag yet.",
            "Precision is the share of reviewed flags that a person confirmed; intervals are over patients.",
        ),
        "settings_tables": settings_tables(inputs.settings),
        "models_tables": [models_table(models), training_settings_table(models)],
        "confidence": f"{settings.confidence:.0%}",
        "samples": f"{settings.bootstrap_samples:,}",
        "coverage": COVERAGE,
        "checklist": tripod.checklist(checklist_answers(inputs)),
        "probast": probast.summary(facts_of_study(inputs)),
        "more_card": model_card(inputs),
        "has_results": bool(len(results)),
    }
    return {name: t.with_training(made, trained) for name, made in context.items()}


def _label(subject: str) -> str:
    return paper.describe(subject)[1]


def _facts(
    results: pd.DataFrame, models: pd.DataFrame, splits: pd.DataFrame, accuracies: pd.DataFrame
) -> list[tuple[str, str, str]]:
    def words(column: str, frame: pd.DataFrame) -> str:
        return (
            ", ".join(sorted({w for v in frame[column] for w in str(v).split(", ")})) if len(frame) else "–"
        )

    trained = models["trained_at"].max() if len(models) else None
    return [
        ("Experiments", str(len(results)), f"{len(models)} trained folds"),
        ("Test patients", str(accuracies["patient_id"].nunique()), f"{splits['split'].nunique()} splits"),
        ("Training profile", words("profile", results), "paper: as published; demo: small"),
        ("First weights", words("weights_origin", results), "none: nothing pretrained (forests)"),
        ("Last training", f"{trained:%-d %b %Y}" if trained is not None else "–", ""),
        (
            "Cohort",
            (_cohort_hash(splits) or "–")[:12],
            "hash of patients and splits",
        ),
    ]


def _cohorts(patients: pd.DataFrame) -> report_tables.DataTable:
    counts = patients["cohort"].value_counts()
    ages = AGE_GROUPS if patients["age_group"].notna().any() else ()
    of_age = {age: patients.loc[patients["age_group"] == age, "cohort"].value_counts() for age in ages}
    return report_tables.simple(
        "Patients by cohort, beside the paper's Table 2.",
        ["Cohort", "Pain", "Skin", "Sex", "Enrolled", "Goal", "Paper", *(age.capitalize() for age in ages)],
        [
            (
                c.number,
                report_tables.Cell(c.pain_level, c.number),
                c.skin_group,
                c.sex,
                int(counts.get(c.number, 0)),
                COHORT_GOAL,
                int(paper.TABLE_2[c.number]),
                *(int(of_age[age].get(c.number, 0)) for age in ages),
            )
            for c in COHORTS
        ],
        "No patients.",
    )


def _interval_plot(results: pd.DataFrame, baselines: pd.DataFrame, classes: int) -> dict[str, Any] | None:
    chosen = report_tables.in_order(results[results["classes"] == classes])
    if chosen.empty:
        return None

    rows = []
    for r in rows_of(chosen):
        known = paper.BY_NAME.get(r.experiment)
        rows.append(
            charts.IntervalRow(
                paper.describe(r.experiment)[1] + ("" if known else " (ours)"),
                float(r.all_classes),
                number_or_none(r.all_classes_low),
                number_or_none(r.all_classes_high),
                known.figures["all_classes"] if known else None,
            )
        )
    rules = baselines[baselines["classes"] == classes]
    for b in rows_of(rules):
        label = conclusions.baseline_label(b.baseline)
        rows.append(
            charts.IntervalRow(
                label,
                float(b.all_classes),
                number_or_none(b.all_classes_low),
                number_or_none(b.all_classes_high),
                None,
                "baseline",
            )
        )
    best = float(rules["all_classes"].max()) if len(rules) else None
    title = f"Mean accuracy over patients, {'two' if classes == 2 else 'four'} classes"
    return {"title": title, "svg": charts.interval_plot(rows, title, best)}


def _confusion(counts: pd.DataFrame, experiment: str) -> report_tables.DataTable:
    cells = {(r.target, r.predicted): r.patients for r in rows_of(counts[counts["experiment"] == experiment])}
    names = list(dict.fromkeys(target for target, _ in cells))
    table = report_tables.simple(
        _label(experiment),
        ["True class", *names],
        [(t, *(int(cells[t, p]) for p in names)) for t in names],
        "",
    )
    return replace(table, sortable=False)
