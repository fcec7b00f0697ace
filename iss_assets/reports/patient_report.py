"""One patient's page: scores, quality and behavior over time, accuracy in each experiment, where models looked. No face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from iss_assets.evaluation.baselines import quality_measures
from iss_assets.evaluation.check_in_order import local_times, sent
from iss_assets.evaluation.frames import Rows, as_frame, number_or_none, rows_of
from iss_assets.protocol import terms
from iss_assets.reports import charts, report_tables
from iss_assets.reports.attention import answers_drawn, attention_curves
from iss_assets.reports.behavior import behavior_curves
from iss_assets.reports.clinic_lines import join
from iss_assets.reports.comparisons import Comparisons, beside_first_face, beside_readings
from iss_assets.reports.measures import over_time
from iss_assets.reports.readings import ReadingInWords, readings_table
from iss_assets.reports.templating import INVENTED, STUDY, Frame, count, write_page
from iss_assets.settings import QualitySettings

MEASURES = {"face_rate": "Frames with a face", "landmark_rate": "Faces with landmarks"}
"""Shares drawn over time besides the scores, with their titles."""

SCORE_HEADS = ("Now", "Chronic", "Activity", "Mood", "Walking", "Work", "Relations", "Sleep", "Enjoyment")
"""Short headings of the nine answers, in the order of `terms.SCORES`."""


@dataclass(frozen=True)
class PatientReportInputs:
    """The tables and facts that a patient's page is made from.

    Attributes
    ----------
    patient_id
        Whose page.
    patients, bpi_scores, videos, video_quality
        The tables of those names; rows of other patients are ignored.
    patient_accuracy
        All patients' rows, so that others of the same pain level can be shown; None where nothing has been trained.
    measured
        Rows of the tables of `measures.SHOWN` by name, one per video.
    behavior
        The patient's rows of `behavior.read_newest`; None where behavior was not measured.
    attention
        The patient's rows of `attention.read_attention`; None where no model on whole videos has been trained.
    comparisons
        The patient's rows of `comparisons.read_comparisons`.
    readings
        The patient's readings of Question 10, as of `readings.read_readings`.
    quality_settings
        The limit of distances between faces.
    study_name, invented, made_at
        As in `StudyReportInputs`.
    """

    patient_id: str
    patients: Rows
    bpi_scores: Rows
    videos: Rows
    video_quality: Rows
    patient_accuracy: Rows | None = None
    measured: Mapping[str, Rows] = field(default_factory=dict)
    behavior: Rows | None = None
    attention: Rows | None = None
    comparisons: Comparisons = field(default_factory=Comparisons)
    readings: Mapping[str, ReadingInWords] = field(default_factory=dict)
    quality_settings: QualitySettings = field(default_factory=QualitySettings)
    study_name: str = STUDY
    invented: bool = False
    made_at: datetime | None = None

    def own(self, name: str) -> pd.DataFrame:
        """Return the patient's own rows of a table."""
        frame = as_frame(self.measured[name] if name in self.measured else getattr(self, name))
        return frame[frame["patient_id"] == self.patient_id].reset_index(drop=True)


def write_patient_report(inputs: PatientReportInputs, path: Path) -> Path:
    """Write a patient's page as one HTML file.

    Raises
    ------
    KeyError
        If ``patients`` does not hold the patient.
    """
    frame = Frame(
        f"Patient {inputs.patient_id}",
        "Patient report · research use, not for clinical decisions",
        inputs.made_at,
        inputs.study_name,
        banners=[INVENTED] if inputs.invented else [],
    )
    return write_page("patient_report.html.jinja", frame, _context(inputs), path)


def _context(inputs: PatientReportInputs) -> dict[str, Any]:
    scores = _with_clock(inputs.own("bpi_scores"))
    when = dict(zip(scores["submission_id"], scores["clock"], strict=True))
    looks = attention_curves(inputs.attention, when, inputs.own("videos"), inputs.own("video_quality"))
    answers, known = answers_drawn(inputs.attention)
    return {
        **scores_and_quality(inputs),
        "accuracy": _accuracy(inputs),
        "looks": looks,
        "looks_for": join(answers) if answers else "",
        "looks_known": known,
    }


def scores_and_quality(inputs: PatientReportInputs) -> dict[str, Any]:
    """Return the facts, charts, and tables of a patient's page, all but the models' accuracy.

    Returns
    -------
    dict
        ``summary``: (name, value, hint); ``pain_now``: chart or None; ``interference``, ``quality_plots``: (title, chart);
        ``chronic``: sentence; ``score_table``, ``video_table``; ``measures``: see `measures.over_time`; ``faces``, ``readings``:
        see `comparisons`, each None where there is nothing to compare; ``reading_table``: see `readings.readings_table`; ``curves``: see `behavior.behavior_curves`.

    Raises
    ------
    KeyError
        If ``patients`` does not hold the patient.
    """
    known = inputs.own("patients")
    if known.empty:
        raise KeyError(f"patient {inputs.patient_id} is not enrolled")
    person = next(rows_of(known))
    scores = _with_clock(inputs.own("bpi_scores"))
    videos, quality = inputs.own("videos"), inputs.own("video_quality")
    usable = int(quality["usable"].astype(bool).sum())
    when = dict(zip(scores["submission_id"], scores["clock"], strict=True))
    return {
        "summary": [
            ("Cohort", str(person.cohort), ""),
            (
                "Pain target",
                f"{int(person.pain_target)} of 10",
                f"level {person.pain_level}, fixed at enrollment",
            ),
            ("Sex, skin", f"{person.sex}, {person.skin_type}", f"{person.skin_group} (Fitzpatrick)"),
            ("Enrolled", f"{person.enrolled_on:%-d %b %Y}" if pd.notna(person.enrolled_on) else "–", ""),
            (
                "Questionnaires",
                str(len(scores)),
                f"{int((scores['missing_scores'] > 0).sum())} lack an answer",
            ),
            ("Videos", str(len(videos)), f"{usable} usable"),
        ],
        **_scores(scores),
        **_quality(scores, videos, quality),
        "measures": over_time({name: inputs.own(name) for name in inputs.measured}, when),
        "faces": beside_first_face(inputs.comparisons.faces, when, inputs.quality_settings),
        "readings": beside_readings(inputs.comparisons.readings),
        "reading_table": readings_table(inputs.readings, when),
        "curves": behavior_curves(inputs.behavior, when, videos, quality),
    }


def _with_clock(scores: pd.DataFrame) -> pd.DataFrame:
    """Add ``clock``, the patient's local time, and sort the questionnaires by time.

    Where the offset from UTC is unknown, the time is kept as it was written.
    """
    keys = scores.assign(clock=local_times(scores), _sent=sent(scores))
    return keys.sort_values(["_sent", "submission_id"], ignore_index=True).drop(columns="_sent")


def _clock_words(clock: datetime, offset: float | None) -> str:
    """Write a local time with its offset: ``2021-03-31 09:05 −05:00``."""
    if offset is None or pd.isna(offset):
        return f"{clock:%Y-%m-%d %H:%M}, offset unknown"
    hours, minutes = divmod(abs(int(offset)), 60)
    return f"{clock:%Y-%m-%d %H:%M} {'−' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"


def _scores(scores: pd.DataFrame) -> dict[str, Any]:
    """Draw the answers over time, the first one large."""
    times = list(scores["clock"])
    drawn = {
        name: charts.time_line(
            times, [number_or_none(v) for v in scores[name]], title, 0, 10, name == "pain_now"
        )
        for name in terms.SCORES
        if name != "chronic_pain" and scores[name].notna().any()
        for title in [name.replace("_", " ").capitalize()]
    }
    chronic = scores["chronic_pain"].dropna()
    return {
        "pain_now": drawn.pop("pain_now", None),
        "interference": [(name.replace("_", " ").capitalize(), svg) for name, svg in drawn.items()],
        "chronic": f"Chronic pain: answered {count(len(chronic), 'time')}, {count(int(chronic.astype(bool).sum()), 'time')} with yes."
        if len(chronic)
        else "",
        "score_table": report_tables.simple(
            "Every questionnaire.",
            ["Submitted (local time)", "Time of day", *SCORE_HEADS, "Missing"],
            [
                (
                    report_tables.Cell(_clock_words(r.clock, r.utc_offset_minutes)),
                    r.timeframe or "unknown",
                    *(
                        report_tables.Cell(("no", "yes")[bool(getattr(r, s))])
                        if s == "chronic_pain" and pd.notna(getattr(r, s))
                        else report_tables.number(None if s == "chronic_pain" else getattr(r, s), 0)
                        for s in terms.SCORES
                    ),
                    int(r.missing_scores),
                )
                for r in rows_of(scores)
            ],
            "No questionnaire.",
        ),
    }


def _quality(scores: pd.DataFrame, videos: pd.DataFrame, quality: pd.DataFrame) -> dict[str, Any]:
    """Draw quality over time; a video without a questionnaire has no time and is in the table only."""
    when = dict(zip(scores["submission_id"], scores["clock"], strict=True))
    measured = quality_measures(quality)
    measured["at"] = measured["video_id"].map(when)
    timed = measured.dropna(subset=["at"]).sort_values("at")
    plots = [
        (title, charts.time_line(list(timed["at"]), [number_or_none(v) for v in timed[name]], title, 0, 1))
        for name, title in MEASURES.items()
        if timed[name].notna().any()
    ]
    flags = {r.video_id: r for r in rows_of(quality)}
    rows = []
    for video in sorted(rows_of(videos), key=lambda v: (str(when.get(v.video_id, "9999")), v.video_id)):
        found = flags.get(video.video_id)
        at = when.get(video.video_id)
        rows.append(
            (
                video.video_id,
                report_tables.Cell(f"{at:%Y-%m-%d}" if at is not None else "no questionnaire"),
                report_tables.number(video.duration_s, 1),
                report_tables.number(found.face_rate if found else None, 2),
                report_tables.number(found.landmark_rate if found else None, 2),
                ", ".join(found.flags) if found else video.status,
                report_tables.Cell("yes") if found and found.usable else report_tables.Cell("no", css="flag"),
            )
        )
    return {
        "quality_plots": plots,
        "video_table": report_tables.simple(
            "Every video.",
            ["Video", "Day", "Seconds", "Face", "Landmarks", "Flags", "Usable"],
            rows,
            "No video was submitted.",
        ),
    }


def _accuracy(inputs: PatientReportInputs) -> report_tables.DataTable:
    rows: list[tuple[object, ...]] = []
    if inputs.patient_accuracy is not None:
        everybody = as_frame(inputs.patient_accuracy)
        mine = everybody[everybody["patient_id"] == inputs.patient_id]
        for r in rows_of(report_tables.in_order(mine)):
            peers = everybody[
                (everybody["experiment"] == r.experiment) & (everybody["patient_id"] != inputs.patient_id)
            ]
            level = peers[peers["pain_level"] == r.pain_level]["accuracy"]
            rows.append(
                (
                    report_tables.name_cell(
                        r.experiment, report_tables.training_words(r.profile, r.weights_origin)
                    ),
                    int(r.split),
                    int(r.items),
                    float(r.accuracy),
                    report_tables.number(
                        level.mean() if len(level) else None, small=f"{len(level)} patients"
                    ),
                    report_tables.Cell(r.predicted),
                    float(r.pain_probability),
                )
            )
    return report_tables.simple(
        "Accuracy of the models that were not trained on this patient.",
        [
            "Model",
            "Split",
            "Items",
            "Accuracy",
            "Others at this level",
            "Mostly predicted",
            "Mean pain probability",
        ],
        rows,
        "The patient has not been evaluated in any experiment yet.",
        "One patient's accuracy says how well a model did on one person, not how well it does in general.",
    )
