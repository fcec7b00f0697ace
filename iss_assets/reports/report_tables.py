"""Tables of the study report: choice and order of columns, number formats, captions, notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from iss_assets.evaluation.baselines import BASELINES
from iss_assets.evaluation.frames import rows_of
from iss_assets.evaluation.intervals import COVERAGE_OF_FOUR
from iss_assets.protocol import terms
from iss_assets.protocol.published import BY_NAME, describe, order
from iss_assets.reports.conclusions import baseline_label
from iss_assets.settings import EvaluationSettings


@dataclass(frozen=True)
class Cell:
    """A cell: text, what it sorts by if not its text, a small second line, a css class, the paper's figure."""

    text: str
    sort: float | str | None = None
    small: str = ""
    css: str = ""
    paper: str = ""


@dataclass(frozen=True)
class DataTable:
    """A table of a page.

    `texts` are the numbers of the columns that are aligned left, `absent` is shown where there are no rows, and
    `hints` explain the columns to a reader who points at their headings.
    """

    caption: str
    head: list[str]
    rows: list[list[Cell]]
    note: str = ""
    absent: str = "Nothing yet."
    texts: frozenset[int] = field(default_factory=lambda: frozenset({0}))
    sortable: bool = True
    hints: tuple[str, ...] = ()


def number(value: Any, digits: int = 3, signed: bool = False, css: str = "", small: str = "") -> Cell:
    """Return a cell with a rounded number, or a dash where there is none."""
    if value is None or pd.isna(value):
        return Cell("–", "", small, css)
    return Cell(_rounded(float(value), digits, signed), float(value), small, css)


def _rounded(value: float, digits: int, signed: bool) -> str:
    """Write a rounded number; one that rounds to zero has no sign."""
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text.lstrip("+-") if not text.strip("+-0.") else text.replace("-", "−")


def with_interval(
    value: Any, low: Any, high: Any, digits: int = 3, signed: bool = False, css: str = ""
) -> Cell:
    """Return a cell with an estimate and its interval below."""
    cell = number(value, digits, signed, css)
    if low is None or pd.isna(low):
        return cell
    text = " to ".join(_rounded(float(end), min(2, digits), signed) for end in (low, high))
    return Cell(cell.text, cell.sort, text, css)


def p_value(value: Any, small: str = "") -> Cell:
    """Return a cell with a p-value to three decimal places."""
    if value is None or pd.isna(value):
        return Cell("–", "")
    return Cell("< 0.001" if float(value) < 0.001 else f"{float(value):.3f}", float(value), small)


def count(value: Any) -> Cell:
    """Return a cell with a whole number."""
    return Cell(f"{int(value):,}", int(value))


def name_cell(experiment: str, trained: str = "") -> Cell:
    """Return an experiment's name with its number, data and training below, to be sorted like Table 5."""
    title, label, data = describe(experiment)
    place = order([*BY_NAME, experiment]).index(experiment)
    return Cell(label, place, " · ".join(filter(None, (title, data, trained))))


def training_words(profile: Any, origin: Any) -> str:
    """Return in which profile a model was trained and from which first weights."""
    if profile is None or pd.isna(profile):
        return ""
    return f"profile {profile}, " + ("not pretrained" if origin == "none" else f"first weights {origin}")


def with_training(made: Any, words: Mapping[str, str]) -> Any:
    """Add how a model was trained to its name, wherever it is in a table, a list of tables, or deeper.

    Parameters
    ----------
    made : DataTable, list, tuple or anything else
        Anything that is or contains no table is returned unchanged.
    words : mapping of str to str
        What to say about a model, by its label: below the label in a cell, in the note if it is in the caption or head.
    """
    if isinstance(made, list | tuple):
        return type(made)(with_training(part, words) for part in made)
    if not isinstance(made, DataTable):
        return made

    def annotated(cell: Cell) -> Cell:
        if cell.text not in words:
            return cell
        return replace(cell, small=" · ".join(filter(None, (cell.small, words[cell.text]))))

    named = [label for label in words if label in made.head or made.caption.startswith(label)]
    note = " ".join(filter(None, (made.note, *(f"{label}: {words[label]}." for label in named))))
    return replace(made, rows=[[annotated(cell) for cell in row] for row in made.rows], note=note)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort rows of any table with the column ``experiment`` as Table 5 does."""
    rank = {e: i for i, e in enumerate(order(sorted(set(frame["experiment"]))))}
    return frame.sort_values("experiment", key=lambda s: s.map(rank), kind="stable")


FEW = 5
"""Patients under which an interval by resampling covers too seldom: `intervals.COVERAGE`."""


def table_5(results: pd.DataFrame, metrics: pd.DataFrame, classes: int) -> DataTable:
    """Return Table 5 beside the paper's, for two or four classes; mark means over fewer than `FEW` patients."""
    of_classes = results[results["classes"] == classes]
    columns = {"all_classes": "All classes"}
    columns |= (
        {level.lower(): level for level in terms.PAIN_LEVELS}
        if classes == 4
        else {"no_pain": "No pain", "pain": "Pain"}
    )
    columns |= {"above_half": "Patients above 0.5", "above_three_quarters": "Patients above 0.75"}
    bounds = metrics.set_index(["experiment", "metric"]) if len(metrics) else None
    rows = []
    for row in in_order(of_classes).to_dict("records"):
        paper = BY_NAME.get(row["experiment"])
        cells = [name_cell(row["experiment"]), count(row["patients"])]
        for column in columns:
            low = high = None
            few = ""
            if bounds is not None and (row["experiment"], column) in bounds.index:
                found = bounds.loc[(row["experiment"], column)]
                low, high, patients = found["low"], found["high"], int(found["patients"])
                few = f"n = {patients}" if 0 < patients < FEW else ""
            published = None
            if paper is not None:
                published = paper.figures.get(column, getattr(paper, column, None))
            cell = with_interval(row[column], low, high)
            if few:
                cell = replace(cell, small=" · ".join(filter(None, (cell.small, few))), css="flag")
            cells.append(cell if published is None else replace(cell, paper=f"{published:.3f}"))
        rows.append(cells)
    return DataTable(
        f"{'Two' if classes == 2 else 'Four'} classes: accuracy by pain level, plain means over test patients. Below, "
        "small: interval over patients; ◇ the paper's figure.",
        ["Model", "n", *columns.values()],
        rows,
        "Exp. 1 to 7 are the paper's; “Ours” are this project's. “All classes” is the mean over patients, as in the paper. "
        "The paper's figures come from other patients: "
        f"beside, not against. No ◇: not published. Marked: fewer than {FEW} patients, whose intervals are too narrow to "
        f"be relied on ({COVERAGE_OF_FOUR}).",
        f"No experiment with {'two' if classes == 2 else 'four'} classes has been evaluated yet.",
    )


def per_patient(accuracies: pd.DataFrame) -> DataTable:
    """Return every patient's accuracy in every experiment."""
    experiments = order(sorted(set(accuracies["experiment"])))
    wide = accuracies.pivot(index="patient_id", columns="experiment", values="accuracy")
    level = dict(zip(accuracies["patient_id"], accuracies["pain_level"], strict=True))
    rows = [
        [
            Cell(str(patient)),
            Cell(level[str(patient)], terms.PAIN_LEVELS.index(level[str(patient)])),
            *(number(row[e], 2) for e in experiments),
        ]
        for patient, row in wide.sort_index().iterrows()
    ]
    return DataTable(
        "Accuracy of every test patient.",
        ["Patient", "Level", *(describe(e)[1] for e in experiments)],
        rows,
        texts=frozenset({0, 1}),
    )


def baselines(results: pd.DataFrame, classes: int) -> DataTable:
    """Return the baselines of two or four classes."""
    rows = [
        [
            Cell(baseline_label(r.baseline), list(BASELINES).index(r.baseline)),
            Cell(BASELINES[r.baseline]),
            count(r.patients),
            with_interval(r.all_classes, r.all_classes_low, r.all_classes_high),
            number(r.no_pain),
            number(r.pain),
            with_interval(r.above_half, r.above_half_low, r.above_half_high),
            count(r.fallbacks),
        ]
        for r in rows_of(results[results["classes"] == classes])
    ]
    return DataTable(
        f"Baselines in the same folds, {'two' if classes == 2 else 'four'} classes.",
        [
            "Baseline",
            "Predicts",
            "n",
            "All classes",
            "No pain",
            "Pain",
            "Patients above 0.5",
            "Unknown patients",
        ],
        rows,
        "Fitted on the training side of each split; always pain, never pain and pain now need no fit. Unknown: patients "
        "without a submission or video, for whom the "
        "most common class of the training side is predicted.",
        "No baseline has been evaluated yet, so no model can be said to have learned anything.",
        frozenset({0, 1}),
    )


def differences(pairs: pd.DataFrame, results: pd.DataFrame, kind: str) -> DataTable:
    """Return paired differences between experiments, or of each experiment from its best baseline."""
    chosen = pairs[pairs["second_kind"] == kind]
    corrected: dict[tuple[str, str], float] = {}
    if kind == "baseline" and len(chosen):
        best = dict(zip(results["experiment"], results["best_baseline"], strict=True))
        chosen = chosen[[best.get(f) == s for f, s in zip(chosen["first"], chosen["second"], strict=True)]]
        corrected = {(r.experiment, r.best_baseline): r.baseline_p_holm for r in rows_of(results)}
    rows = [
        [
            name_cell(r.first),
            Cell(describe(r.second)[1] if kind == "experiment" else baseline_label(r.second)),
            count(r.patients),
            with_interval(r.difference, r.low, r.high, signed=True),
            p_value(r.p_value),
            p_value(corrected.get((r.first, r.second), r.p_value_holm)),
        ]
        for r in rows_of(chosen)
    ]
    against = "their best baselines" if kind == "baseline" else "one another"
    return DataTable(
        f"Experiments against {against}: mean difference over the same patients.",
        ["Model", "Against", "n", "Difference", "p", "p (Holm)"],
        rows,
        "Intervals by bootstrap over patients, p by flipping signs of patients' differences, two-sided; Holm's "
        f"correction over {'all pairs of experiments' if kind == 'experiment' else 'the experiments, as the verdict'}.",
        "There is nothing to compare yet.",
        frozenset({0, 1}),
    )


_METHODS = {
    "retrained": "model trained again each time",
    "retrained, smaller": "smaller model (fewer trees or items) trained again each time, also for the observed figure",
    "fixed predictions": "predictions kept as they are",
}


def chance(tests: pd.DataFrame, settings: EvaluationSettings) -> DataTable:
    """Return the tests against chance; mark a p that could not have been small."""

    def corrected(row: Any) -> Cell:
        if row.p_least_holm <= settings.alpha:
            return p_value(row.p_value_holm)
        return replace(p_value(row.p_value_holm, f"never below {row.p_least_holm:.3f}"), css="flag")

    rows = [
        [
            name_cell(r.experiment),
            number(r.observed),
            number(r.chance_mean),
            number(r.chance_high),
            p_value(r.p_value),
            corrected(r),
            Cell(_METHODS[r.method]),
            replace(
                count(r.permutations),
                small=f"of {int(r.most_permutations):,}; stopped" if r.stopped else "",
            ),
        ]
        for r in rows_of(in_order(tests))
    ]
    return DataTable(
        "Accuracy against chance: pain labels permuted among patients.",
        [
            "Model",
            "Observed",
            "Chance, mean",
            f"Chance, {settings.confidence * 100:g}th percentile",
            "p",
            "p (Holm)",
            "Method",
            "Permutations",
        ],
        rows,
        "One-sided. Training again asks whether the whole pipeline from data to result finds more than chance; fixed "
        "predictions ask only whether these predictions fit these patients better than other labels would. Training "
        f"stops as soon as p can no longer be {settings.alpha:.2g} or less; p is then the share of permutations that were "
        "at least as good among those made (Besag and Clifford 1991), which is as valid as with all of them. Marked: so "
        "few permutations, or patients, for so many tests that p could not have been small enough.",
        "No test against chance has been made yet.",
        frozenset({0, 6}),
    )


METRICS = {
    "balanced_accuracy": "Balanced accuracy",
    "auroc": "AUROC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "brier": "Brier score",
    "scaled_brier": "Scaled Brier score",
    "calibration_in_the_large": "Calibration in the large",
}


def with_reference(cell: Cell, reference: Any, metric: str) -> Cell:
    """Add to a figure what a model that has learned nothing would reach."""
    if metric not in ("auroc", "brier"):
        return cell
    known = reference is not None and not pd.isna(reference)
    text = f"no skill: {float(reference):.2f}" if known else "no skill: unknown"
    return replace(cell, small=" · ".join(filter(None, (cell.small, text))))


def patient_metrics(metrics: pd.DataFrame) -> DataTable:
    """Return the figures per patient, with caveats about their intervals below."""
    caveats = in_order(metrics[metrics["metric"].isin(METRICS.keys()) & metrics["note"].notna()])
    notes = " ".join(f"{describe(r.experiment)[1]}, {METRICS[r.metric]}: {r.note}." for r in rows_of(caveats))
    rows = []
    if len(metrics):
        for experiment, group in in_order(metrics).groupby("experiment", sort=False):
            of = group.set_index("metric")
            cells = [
                with_reference(
                    with_interval(
                        r["estimate"],
                        r["low"],
                        r["high"],
                        signed=m in ("calibration_in_the_large", "scaled_brier"),
                    ),
                    r["reference"],
                    m,
                )
                for m in METRICS
                for r in [of.loc[m]]
            ]
            rows.append([name_cell(str(experiment)), count(of.at["all_classes", "patients"]), *cells])
    return DataTable(
        "Discrimination and calibration with the patient as the unit.",
        ["Model", "n", *METRICS.values()],
        rows,
        "Balanced accuracy: mean over classes of patients' accuracies. AUROC, Brier score and calibration: a patient's "
        "mean predicted probability of pain. Sensitivity and specificity: the class predicted for most of a patient's "
        f"items. Calibration in the large: mean predicted probability minus share of patients in pain. “No skill” is "
        "the figure of a model without skill: for the AUROC the mean of models trained on permuted labels, which is often below "
        "0.5 when whole patients are left out, since the training side then leans away from them (known only where models "
        "are trained again, section 5); for the Brier score that of predicting the share of patients in pain for every patient. "
        f"Scaled Brier score: 1 is perfect, 0 is that, below 0 is worse. {notes}",
        "No experiment has been evaluated yet.",
    )


def subgroups(groups: pd.DataFrame, experiment: str, small_cell: int) -> DataTable:
    """Return one experiment's subgroups."""
    names = {
        "sex": "Sex",
        "skin_group": "Skin",
        "sex_and_skin": "Sex × skin",
        "cohort": "Cohort",
        "age_group": "Age",
    }
    rows = [
        [
            Cell(names.get(r.attribute, r.attribute), list(names).index(r.attribute)),
            Cell(
                r.group_name,
                small=f"fewer than {small_cell}" if r.small else "",
                css="flag" if r.small else "",
            ),
            count(r.patients),
            with_interval(r.accuracy, r.low, r.high),
            with_interval(r.sensitivity, r.sensitivity_low, r.sensitivity_high, 2),
            with_interval(r.specificity, r.specificity_low, r.specificity_high, 2),
            number(r.pain_share, 2),
            number(r.predicted_pain_share, 2),
        ]
        for r in rows_of(groups[groups["experiment"] == experiment])
    ]
    return DataTable(
        f"{describe(experiment)[1]} by group of patients.",
        ["Attribute", "Group", "n", "Accuracy", "Sensitivity", "Specificity", "In pain", "Predicted in pain"],
        rows,
        texts=frozenset({0, 1}),
    )


def gaps(groups: pd.DataFrame) -> DataTable:
    """Return the differences between two groups at the same mix of patients, one row per experiment."""
    wanted = {"sex": "Women minus men", "skin_group": "Dark minus light skin"}
    rows = []
    if len(groups):
        for experiment, group in in_order(groups).groupby("experiment", sort=False):
            first = group.drop_duplicates("attribute").set_index("attribute")
            cells = []
            for attribute in wanted:
                if attribute not in first.index:
                    cells.append(Cell("–", ""))
                    continue
                r = first.loc[attribute]
                cell = with_interval(r["gap"], r["gap_low"], r["gap_high"], signed=True)
                note = r["gap_note"] if isinstance(r["gap_note"], str) else ""
                cells.append(replace(cell, small=" · ".join(filter(None, (cell.small, note)))))
            rows.append([name_cell(str(experiment)), *cells])
    return DataTable(
        "Difference of mean accuracy between groups, with equal weights for patients with and without pain in both.",
        ["Model", *wanted.values()],
        rows,
        "An interval that contains 0 shows no difference, and with few patients it can hide a large one. Groups differ in "
        "how many of their patients have pain, and models do better on one class than on the other: a plain difference "
        "would show that.",
        absent="No subgroup has been evaluated yet.",
    )


def simple(
    caption: str, head: list[str], rows: Iterable[Iterable[object]], absent: str, note: str = ""
) -> DataTable:
    """Return a table of plain values: whole numbers as counts, other numbers rounded, the rest as text on the left."""
    made = []
    texts = {0}
    for row in rows:
        cells = []
        for place, value in enumerate(row):
            if isinstance(value, Cell):
                cells.append(value)
                if not isinstance(value.sort, float | int) and value.sort != "":
                    texts.add(place)
            elif isinstance(value, float):
                cells.append(number(value))
            elif isinstance(value, int) and not isinstance(value, bool):
                cells.append(count(value))
            else:
                cells.append(Cell("" if value is None else str(value)))
                texts.add(place)
        made.append(cells)
    return DataTable(caption, head, made, note, absent, frozenset(texts))
