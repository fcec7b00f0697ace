"""The clinic's report: whether face and voice follow the answers of check-ins, in words for people who treat patients.

The page makes no requests and holds ids and numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd

from iss_assets.evaluation.check_ins.added_value import FORWARD, QUESTION, REVERSE
from iss_assets.evaluation.check_ins.claims import FOLLOWS
from iss_assets.evaluation.check_ins.learned import METRIC as SIZE_OF_SIGN
from iss_assets.evaluation.check_ins.metrics import METRICS
from iss_assets.evaluation.check_ins.protocols import LAST_ANSWER, ROOM
from iss_assets.evaluation.frames import Rows, frame_or_empty, number_or_none, rows_of
from iss_assets.evaluation.intervals import COVERAGE_OF_FOUR
from iss_assets.modeling.check_ins import GROUPS, SENSORS
from iss_assets.protocol.flags import FLAGS
from iss_assets.protocol.targets import BY_NAME as TARGETS
from iss_assets.reports import charts
from iss_assets.reports import report_tables as t
from iss_assets.reports.clinic_lines import (
    answer,
    first_lines,
    model_title,
    sensors,
    shortcut_lines,
    situation,
    verb,
)
from iss_assets.reports.clinic_questions import questions
from iss_assets.reports.templating import INVENTED, STUDY, Frame, count, write_page
from iss_assets.settings import CheckInSettings

_ASKED = (
    "check_in_calibration",
    "check_in_benefits",
    "check_in_usefulness",
    "check_in_patients_needed",
    "check_in_interval_reach",
)


@dataclass(frozen=True)
class ClinicReportInputs:
    """What the clinic's report is made from.

    Attributes
    ----------
    tables : mapping
        The tables of ``schemas.check_ins.CHECK_INS`` by name; what is missing is taken for empty.
    settings : CheckInSettings
        Targets, important change, coverage of the intervals.
    study_name : str
        Name of the study.
    learned_from : int or None
        Patients of another study from whom the models learned; None if they learned from this one's.
    invented : bool
        Whether the patients are invented.
    made_at : datetime, optional
        When the page was made; now if None.
    versions : mapping
        Name to version of the software behind the figures.
    """

    tables: Mapping[str, Rows]
    settings: CheckInSettings = field(default_factory=CheckInSettings)
    study_name: str = STUDY
    learned_from: int | None = None
    invented: bool = False
    made_at: datetime | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def frame(self, name: str) -> pd.DataFrame:
        """Return a table as a pandas frame, without rows where it was not provided."""
        return frame_or_empty(self.tables, name)


def write_clinic_report(inputs: ClinicReportInputs, path: Path) -> Path:
    """Write the clinic's report as one HTML file and return its path."""
    frame = Frame(
        "Does pain change, and do face and voice show it?",
        f"The clinic’s report{'' if inputs.learned_from is None else ' · another study’s models'} · research use, not for clinical "
        "decisions",
        inputs.made_at,
        inputs.study_name,
        [f"{name} {version}" for name, version in inputs.versions.items()],
        [INVENTED] if inputs.invented else [],
    )
    return write_page("clinic_report.html.jinja", frame, _context(inputs), path)


def _context(inputs: ClinicReportInputs) -> dict[str, Any]:
    settings = inputs.settings
    claims, effects = inputs.frame("check_in_claims"), inputs.frame("check_in_effects")
    metrics, patients = inputs.frame("check_in_metrics"), inputs.frame("check_in_patients")
    added, shortcuts = inputs.frame("check_in_added_value"), inputs.frame("check_in_shortcuts")
    names = list(dict.fromkeys(metrics["target"]))
    known = sorted(set(metrics["known"]))
    shown = max((k for k in known if k <= 3), default=0)
    lead, points = first_lines(claims, effects, settings, metrics)
    asked = questions(
        {"check_in_metrics": metrics} | {name: inputs.frame(name) for name in _ASKED}, shown, settings
    )
    seen = sensors(effects)
    return {
        "lead": lead,
        "learned_from": inputs.learned_from,
        "points": [*points, *shortcut_lines(shortcuts), *asked["useful"]],
        "answers": answer(added, effects),
        "question": f"What {verb(seen, 'do', 'does')} {seen} add to the questionnaire?",
        "gains": _gains(added, effects),
        "steps": [_steps(added, name) for name in names],
        "ups_and_downs": _ups_and_downs(claims, metrics),
        "effects": [_effects(effects, name, settings) for name in names],
        "errors": [
            {
                "title": _title(name),
                "plots": [_errors(metrics, name, shown)],
                "more": [_errors(metrics, name, k) for k in known if k != shown],
            }
            for name in names
        ],
        "metrics": [_metrics(metrics, name) for name in names],
        "patients": [_patients(patients, name, min((k for k in known if k), default=0)) for name in names],
        "claims": _claims(claims),
        "shortcuts": _shortcuts(shortcuts),
        "few": _few(claims),
        "sized": bool((metrics["metric"] == SIZE_OF_SIGN).any()),
        **asked,
        "confidence": f"{settings.confidence:.0%}",
        "important": f"{settings.important_change:g}",
        "samples": f"{settings.bootstrap_samples:,}",
    }


def _few(claims: pd.DataFrame) -> str:
    """Say that intervals over very few patients are too short, where there are any."""
    fewest = claims.loc[claims["estimate"].notna(), "patients"].min() if len(claims) else t.FEW
    if pd.isna(fewest) or fewest >= t.FEW:
        return ""
    return f"Intervals over fewer than {t.FEW} patients, as here in places, are too short to be relied on: {COVERAGE_OF_FOUR}."


def _title(target: str) -> str:
    return TARGETS[target].title.capitalize()


def _gains(added: pd.DataFrame, effects: pd.DataFrame) -> Any:
    """Draw what each group adds to those before it, for the first target and known patients where there are any."""
    if added.empty:
        return None
    rows = added[added["target"] == added["target"].iloc[0]]
    rows = rows[rows["known"] == rows["known"].max()]
    known = int(rows["known"].iloc[0])
    forward = rows[rows["ordering"] == FORWARD]
    lines = [
        charts.IntervalRow(
            f"{'first:' if r.step == forward['step'].min() else '+'} {GROUPS[r.added].split(' (')[0]}",
            float(r.gain),
            number_or_none(r.gain_low),
            number_or_none(r.gain_high),
            kind="model" if r.added in SENSORS else "baseline",
        )
        for r in rows_of(forward)
    ]
    lines += [
        charts.IntervalRow(
            "all of these sensors at once",
            float(r.gain),
            number_or_none(r.gain_low),
            number_or_none(r.gain_high),
        )
        for r in rows_of(rows[rows["ordering"] == QUESTION])
    ]
    far = max(
        [0.5, *(abs(v) for line in lines for v in (line.low, line.high, line.estimate) if v is not None)]
    )
    end = float(-(-far // 0.5) * 0.5)
    title = f"{_title(str(rows['target'].iloc[0]))}, {situation(known)}: points by which the mean error gets smaller"
    return {
        "title": title,
        "svg": charts.interval_plot(lines, title, extent=(-end, end), middle=0.0, digits=2),
    }


def _steps(added: pd.DataFrame, target: str) -> t.DataTable:
    words = {FORWARD: "forward", REVERSE: "backward", QUESTION: "all at once"}
    return t.simple(
        f"{_title(target)}: what each group of predictors adds to those before it.",
        [
            "Order",
            "Situation",
            "Step",
            "Added",
            "n",
            "Mean error, points",
            "Smaller by",
            "p",
            "p (Holm)",
            "Adds something",
        ],
        [
            (
                t.Cell(words[r.ordering]),
                situation(r.known),
                int(r.step),
                GROUPS.get(r.added, r.added),
                int(r.patients),
                t.with_interval(r.error, r.error_low, r.error_high, 2),
                t.with_interval(r.gain, r.gain_low, r.gain_high, 2, signed=True),
                t.p_value(r.p_value),
                t.p_value(r.p_value_holm),
                t.Cell(r.verdict, css="good" if r.verdict == "yes" else ""),
            )
            for r in rows_of(
                added[added["target"] == target].sort_values(["known", "ordering", "step"], kind="stable")
            )
        ],
        f"{_title(target)}: nothing could be compared.",
        "Linear models on the same patients left out. Backward, sensors come first: what is then left for the questionnaire shows "
        "what they could not replace. Answers that define the target are never among the questionnaire. Holm’s correction over all "
        "steps of all answers.",
    )


def _ups_and_downs(claims: pd.DataFrame, metrics: pd.DataFrame) -> Any:
    rows: list[charts.IntervalRow] = []
    for name, own in claims[(claims["claim"] == FOLLOWS) & claims["estimate"].notna()].groupby(
        "target", sort=False
    ):
        of_sign = metrics[
            (metrics["target"] == name) & (metrics["metric"] == SIZE_OF_SIGN) & metrics["estimate"].notna()
        ]
        lines = [
            (r, model_title(r.model).lower(), "baseline" if r.model == ROOM else "model")
            for r in rows_of(own)
        ]
        lines += [(r, "the sign itself", "baseline") for r in rows_of(of_sign)]
        rows += [
            charts.IntervalRow(
                f"{_title(str(name))}: {words}, {count(r.patients, 'patient')}",
                float(r.estimate),
                number_or_none(r.low),
                number_or_none(r.high),
                kind=kind,
            )
            for r, words, kind in lines
        ]
    if not rows:
        return None
    title = "Correlation of predictions and answers within patients"
    return charts.interval_plot(rows, title, extent=(-1.0, 1.0), middle=0.0, digits=2)


def _errors(metrics: pd.DataFrame, target: str, known: int) -> dict[str, Any]:
    chosen = metrics[
        (metrics["target"] == target)
        & (metrics["known"] == known)
        & (metrics["metric"] == "mean_error")
        & metrics["estimate"].notna()
    ]
    rows = [
        charts.IntervalRow(
            model_title(r.model),
            float(r.estimate),
            number_or_none(r.low),
            number_or_none(r.high),
            kind="model" if r.kind == "model" else "baseline",
        )
        for r in rows_of(chosen)
    ]
    largest = max([2.0, *(row.high if row.high is not None else row.estimate for row in rows)])
    last = chosen.loc[chosen["model"] == LAST_ANSWER, "estimate"]
    title = f"{_title(target)}, {situation(known)}: mean error in points"
    return {
        "title": title,
        "svg": charts.interval_plot(
            rows,
            title,
            float(last.iloc[0]) if len(last) else None,
            extent=(0.0, float(2 * -(-largest // 2))),
            middle=None,
            reference_words="last answer",
            digits=2,
        ),
    }


def _effects(effects: pd.DataFrame, target: str, settings: CheckInSettings) -> t.DataTable:
    chosen = effects[effects["target"] == target].sort_values("p_value")
    return t.simple(
        f"{_title(target)}: measures that go up and down with it within patients.",
        ["Measure", "n", "Check-ins", "Points per usual change", "Correlation", "p", "p (Holm)"],
        [
            (
                r.measure.replace("_", " "),
                int(r.patients),
                int(r.check_ins),
                t.with_interval(r.points, r.low, r.high, 2, signed=True),
                t.number(r.correlation, 2, signed=True),
                t.p_value(r.p_value),
                t.p_value(r.p_value_holm),
            )
            for r in rows_of(chosen)
        ],
        f"{_title(target)}: no measure could be compared within patients; at least five patients with two or more check-ins "
        "are needed.",
        "A mixed model with a level of its own for each patient. A usual change is the standard deviation of the measure from "
        f"day to day within patients. Intervals: {settings.confidence:.0%}; Holm’s correction over the measures.",
    )


def _metrics(metrics: pd.DataFrame, target: str) -> t.DataTable:
    rows = []
    for key, group in metrics[metrics["target"] == target].groupby(["known", "model"], sort=False):
        known, model = cast(tuple[int, str], key)
        of = group.set_index("metric")
        rows.append(
            (
                known,
                group["kind"].iloc[0] != "model",
                [
                    t.Cell(situation(known).removeprefix("for ").capitalize(), known),
                    t.Cell(model_title(model)),
                    t.count(of.at["mean_error", "patients"]),
                    t.count(of.at["mean_error", "check_ins"]),
                    *(
                        t.with_interval(of.at[m, "estimate"], of.at[m, "low"], of.at[m, "high"], 2)
                        for m in METRICS
                    ),
                ],
            )
        )
    return t.DataTable(
        f"{_title(target)}: models and simple rules.",
        ["Situation", "Predicted by", "n", "Check-ins", *METRICS.values()],
        [cells for _, _, cells in sorted(rows, key=lambda row: row[:2])],
        "Every patient counts the same. A dash: not defined, for instance because nobody’s answers change.",
        f"{_title(target)}: nothing has been predicted.",
        frozenset({0, 1}),
    )


def _patients(patients: pd.DataFrame, target: str, known: int) -> t.DataTable:
    chosen = patients[(patients["target"] == target) & (patients["known"] == known)]
    return t.simple(
        f"{_title(target)} by patient, {situation(known)}.",
        [
            "Patient",
            "Predicted by",
            "Check-ins",
            "Mean error, points",
            "Kappa",
            "ICC",
            "Rank correlation",
            "Changes",
            "Detected",
            "False alarms",
        ],
        [
            (
                r.patient_id,
                model_title(r.model),
                int(r.check_ins),
                t.number(r.mean_error, 2),
                t.number(r.kappa, 2),
                t.number(r.icc, 2),
                t.number(r.within_correlation, 2),
                int(r.changes),
                int(r.changes_detected),
                int(r.false_alarms),
            )
            for r in rows_of(chosen.sort_values(["patient_id"], kind="stable"))
        ],
        f"{_title(target)}: no patient has been predicted.",
    )


def _claims(claims: pd.DataFrame) -> t.DataTable:
    return t.simple(
        "Every claim that was tested.",
        ["Answer", "Model", "Situation", "Claim", "Against", "Supported", "n", "Found", "p", "p (Holm)"],
        [
            (
                _title(r.target),
                model_title(r.model),
                situation(r.known),
                r.claim,
                model_title(r.against).lower() if r.against else "",
                t.Cell(r.verdict, css="good" if r.verdict == "yes" else ""),
                int(r.patients),
                t.with_interval(r.estimate, r.low, r.high, 2, signed=True),
                t.p_value(r.p_value),
                t.p_value(r.p_value_holm),
            )
            for r in rows_of(claims)
        ],
        "No claim has been tested yet.",
        "Found: the correlation within patients, or by how many points the mean error is smaller than the simple rule’s. p: by "
        "flipping the signs of patients’ values; Holm’s correction over all claims of this table. Supported: in favor, with an "
        "interval above 0 and p (Holm) small enough. What room, phone and time of day explain of a model’s ups and downs has been taken out of it. Cannot be shown: no result could have been clear with so few patients.",
    )


def _shortcuts(shortcuts: pd.DataFrame) -> t.DataTable:
    return t.simple(
        "Attention of networks to flagged stretches of videos, beside chance.",
        [
            "Answer",
            "Model",
            "Situation",
            "Flag",
            "n",
            "Attention",
            "Chance",
            "Difference",
            "p (Holm)",
            "More than chance?",
        ],
        [
            (
                _title(r.target),
                model_title(r.model),
                t.Cell(f"{r.protocol}s"),
                FLAGS[r.flag],
                t.number(r.patients, 0, small=f"{r.videos} videos"),
                t.number(r.attention, 2),
                t.number(r.chance, 2),
                t.with_interval(r.difference, r.difference_low, r.difference_high, 2, signed=True),
                t.p_value(r.p_value_holm),
                t.Cell(r.verdict, css="bad" if r.verdict == "yes" else ""),
            )
            for r in rows_of(shortcuts)
        ],
        "No network has predicted a check-in whose video is flagged in part.",
        "Shares, means over patients. Chance is the share of the video that is flagged. A network that looks at glare or lettering may "
        "have learned the room and not the patient. Each patient’s page shows where in the videos the networks looked.",
    )
