"""What the study report says about patients and data: the flow, what is missing, answers to the checklist."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import pandas as pd

from iss_assets.evaluation.frames import analyzed_patients, as_frame
from iss_assets.evaluation.intervals import share_interval
from iss_assets.protocol import published, terms
from iss_assets.protocol.consent import left_out_words
from iss_assets.reports import report_tables
from iss_assets.reports.further_targets import with_further_targets
from iss_assets.reports.report_inputs import StudyReportInputs


@dataclass(frozen=True)
class Step:
    """One box of a flow: how many, of what, what was lost on the way, the paper's count."""

    count: str
    what: str
    lost: str = ""
    paper: str = ""


def flow(inputs: StudyReportInputs) -> dict[str, list[Step]]:
    """Count patients from enrollment to evaluation, and data from videos to landmarks (paper, section 3.3)."""
    patients, videos = inputs.frame("patients"), inputs.frame("videos")
    quality, extracted = inputs.frame("video_quality"), _extracted(inputs)
    accuracies, splits = inputs.frame("patient_accuracy"), inputs.frame("cv_splits")
    usable = quality[quality["usable"].astype(bool)]
    paper = published.FLOW

    def step(
        now: int, before: int | None, what: str, published_count: int | None = None, share: bool = False
    ) -> Step:
        lost = "" if before is None or now == before else f"{before - now:,} fewer"
        if share and before:
            lost = f"{now / before:.1%} of those before"
        return Step(f"{now:,}", what, lost, f"paper: {published_count:,}" if published_count else "")

    enrolled = len(patients)
    submitted, analyzed = videos["patient_id"].nunique(), len(analyzed_patients(quality))
    without = analyzed_patients(quality) & set(inputs.without_consent)
    consented = Step(
        f"{analyzed - len(without):,}", "with consent to research", left_out_words(sorted(without), ids=False)
    )
    people = [
        step(enrolled, None, f"enrolled, of {terms.ENROLLMENT_GOAL} wanted", paper["patients_enrolled"]),
        step(submitted, enrolled, "submitted a video"),
        step(analyzed, submitted, "with a usable video: analyzed", paper["patients"]),
        *([consented] if inputs.without_consent else []),
        step(len(splits), None, "in a split"),
        step(accuracies["patient_id"].nunique(), None, "evaluated", paper["patients"]),
    ]
    extracted = extracted[extracted["patient_id"].isin(analyzed_patients(quality))]
    frames, faces, meshes = (int(extracted[c].sum()) for c in ("frames", "faces", "landmarks"))
    data = [
        step(len(videos), None, "videos submitted", paper["videos"]),
        step(int((videos["status"] == "ok").sum()), len(videos), "videos readable"),
        step(len(usable), int((videos["status"] == "ok").sum()), "videos usable"),
        step(frames, None, "frames of analyzed patients", paper["frames"]),
        step(faces, frames, "faces", paper["faces"], share=True),
        step(meshes, faces, "with landmarks", paper["landmarks"], share=True),
    ]
    return {"patients": people, "data": data}


def associations_reach(inputs: StudyReportInputs) -> str:
    """Return a note where no quality measure could have been distinguished from chance, however strongly it is associated with pain.

    The smallest p of a two-sided rank test is reached by groups that do not overlap: 2 / (n choose k) for k of n
    patients without pain. Holm multiplies it by the number of measures.
    """
    rows, patients = inputs.frame("quality_associations"), inputs.frame("patients")
    analyzed = patients[patients["patient_id"].isin(analyzed_patients(inputs.frame("video_quality")))]
    tests = int(rows["p_value"].notna().sum()) if len(rows) else 0
    free = int(analyzed["pain_level"].eq("None").sum())
    if not tests or free in (0, len(analyzed)):
        return ""
    least = min(1.0, 2 / math.comb(len(analyzed), free))
    if least * tests <= inputs.evaluation_settings.alpha:
        return ""
    return (
        f" With {free} of {len(analyzed)} patients free of pain no p can be below {least:.2g}, which is "
        f"{min(1.0, least * tests):.2g} after Holm over {tests} measures: no association, however strong, could have been "
        "distinguished from chance."
    )


def _extracted(inputs: StudyReportInputs) -> pd.DataFrame:
    return as_frame(inputs.extracted)


def missing_tables(inputs: StudyReportInputs) -> list[report_tables.DataTable]:
    """List what is missing and what was left out, and why."""
    patients, scores = inputs.frame("patients"), inputs.frame("bpi_scores")
    videos, quality = inputs.frame("videos"), inputs.frame("video_quality")
    splits, accuracies = inputs.frame("cv_splits"), inputs.frame("patient_accuracy")
    usable = analyzed_patients(quality)
    answered = set(scores.loc[scores["missing_scores"] < len(terms.SCORES), "patient_id"])
    rows: list[tuple[object, ...]] = []
    for patient in sorted(patients["patient_id"]):
        lacks = ["no consent to research: left out"] if patient in set(inputs.without_consent) else []
        if patient not in set(scores["patient_id"]):
            lacks.append("no survey")
        elif patient not in answered:
            lacks.append("no pain scores")
        if patient not in set(videos["patient_id"]):
            lacks.append("no video")
        elif patient not in usable:
            lacks.append("no usable video")
        if len(splits) and patient not in set(splits["patient_id"]):
            lacks.append("in no split")
        out = [
            published.describe(str(e))[1]
            for e, group in report_tables.in_order(accuracies).groupby("experiment", sort=False)
            if patient not in set(group["patient_id"])
        ]
        if out:
            lacks.append("not evaluated in " + ", ".join(out))
        if lacks:
            rows.append((patient, "; ".join(lacks)))
    reasons = Counter(quality.loc[~quality["usable"].astype(bool), "unusable_reason"].fillna("unknown"))
    flags = Counter(flag for flags in quality["flags"] for flag in flags)
    flagged = {
        flag: quality.loc[[flag in flags for flags in quality["flags"]], "patient_id"].nunique()
        for flag in flags
    }
    filmed, confidence = quality["patient_id"].nunique(), inputs.evaluation_settings.confidence
    tables = [
        report_tables.simple(
            "Patients with something missing.",
            ["Patient", "What"],
            rows,
            "Every patient has pain scores and a usable video.",
        ),
        report_tables.simple(
            "Experiments that were not trained.",
            ["Model", "Why"],
            [(report_tables.name_cell(name), why) for name, why in inputs.not_trained.items()],
            "For every experiment there are enough patients.",
        ),
        report_tables.simple(
            "Videos left out of training.",
            ["Reason", "Videos"],
            reasons.most_common(),
            "No video was left out of training.",
        ),
        report_tables.simple(
            "Quality flags of videos, used or not.",
            ["Flag", "Videos", "Patients", "Share of patients"],
            [
                (flag, n, int(flagged[flag]), _share(flagged[flag], filmed, confidence))
                for flag, n in flags.most_common()
            ],
            "No video has a quality flag.",
            f"Of {filmed} patients with a video; {confidence:.0%} intervals are exact.",
        ),
    ]
    for name, caption, absent in (
        (
            "rejected_rows",
            "Rows and files of the study folder that could not be used.",
            "Every row and file of the study folder was used.",
        ),
        (
            "study_problems",
            "Rows that were used although something is odd about them.",
            "Nothing is odd about any row of the study folder.",
        ),
    ):
        counts = Counter(inputs.frame(name)["code"])
        tables.append(report_tables.simple(caption, ["Kind", "Rows"], counts.most_common(), absent))
    return tables


def _share(yes: int, patients: int, confidence: float) -> report_tables.Cell:
    found = share_interval(int(yes), patients, confidence=confidence)
    return report_tables.with_interval(found.estimate, found.low, found.high, 2)


def checklist_answers(inputs: StudyReportInputs) -> dict[str, str]:
    """Answer the parts of the TRIPOD+AI checklist that the tables can answer."""
    patients, scores = inputs.frame("patients"), inputs.frame("bpi_scores")
    models, results = inputs.frame("fold_models"), inputs.frame("experiment_results")
    accuracies, splits = inputs.frame("patient_accuracy"), inputs.frame("cv_splits")
    settings = inputs.evaluation_settings
    analyzed = patients[patients["patient_id"].isin(analyzed_patients(inputs.frame("video_quality")))]
    levels = analyzed["pain_level"].value_counts()
    invented = " The patients are invented." if inputs.invented else ""
    answers = {
        "objectives": "Development with internal validation; no external evaluation of these models is recorded here.",
        "data": f"One study folder: {len(patients)} patients, {len(inputs.frame('videos'))} videos, {len(scores)} "
        f"questionnaires; the same for development and evaluation, by cross-validation.{invented}",
        "preparation": "Frames, faces, landmarks and sound are extracted by the same code and settings for every patient; "
        "quality is measured for each video (sections 10 and 11).",
        "outcome": "Worst pain of the thirty days before enrollment, 0 to 10, reported by the patient once, at enrollment; "
        "levels 0, 1–3, 4–6, 7–10, or none versus any.",
        "assessors": "Reported by the patient; nobody else assesses it.",
        "predictors": "As published: face, landmarks, nine pain scores with sex, skin group and time of day, sound.",
        "predictors_defined": "In the project's data dictionary; settings in section 11.",
        "predictor_assessors": "None by others: measured by software or reported by the patient.",
        "sample_size": f"{len(patients)} enrolled of {terms.ENROLLMENT_GOAL} planned by the protocol, {len(analyzed)} analyzed; no calculation.",
        "missing": f"{int((scores['missing_scores'] > 0).sum())} of {len(scores)} questionnaires lack an answer; "
        "section 10 lists who and what was left out.",
        "handling": "Scalers, imputation and class weights are fitted on the training side of each split.",
        "calculation": "One prediction per item (frame, chunk or submission), averaged over a patient's items.",
        "measures": f"Table 5's means, balanced accuracy, AUROC, sensitivity, specificity, Brier score, calibration; "
        f"{settings.confidence:.0%} intervals over patients, BCa for means and exact for shares.",
        "updating": "No model was updated.",
        "imbalance": "Analyzed patients by level: "
        + ", ".join(f"{level} {levels.get(level, 0)}" for level in terms.PAIN_LEVELS)
        + ". Splits are stratified; majority and always-pain baselines are shown.",
        "fairness": "Accuracy, sensitivity and specificity by sex, skin group, both, and cohort (section 8).",
        "output": "Class and probability of pain; a patient counts as in pain if most items are predicted to be in pain.",
        "difference": "None: internal cross-validation over the same patients.",
        "code": "The package iss-assets; version at the head of this report.",
        "flow": "Section 1.",
        "characteristics": "Section 1 (cohorts) and section 10 (missing).",
        "limitations": f"{len(analyzed)} analyzed patients at one site; one label per patient for all videos; the label precedes "
        "the videos; recordings differ by patient in light, place and device, which a model can learn. The authors may "
        "know of more.",
        "poor_input": "Videos are flagged and left out by fixed rules (section 10); a video without a face gives no "
        "prediction.",
        "setting": "Home and clinic, as each submission says: "
        + (
            ", ".join(f"{k} {v}" for k, v in scores["setting"].fillna("not stated").value_counts().items())
            or "none"
        )
        + ". Number and place of centers: for the authors.",
    }
    when = pd.to_datetime(scores["submitted_on"]).dropna()
    if len(when):
        answers["dates"] = f"Submissions from {when.min():%-d %B %Y} to {when.max():%-d %B %Y}."
    if len(splits):
        answers["partition"] = (
            f"Cross-validation over whole patients, {splits['split'].nunique()} splits, stratified by pain level."
        )
    if len(models):
        answers["models"] = (
            f"{models['experiment'].nunique()} experiments, {len(models)} trained folds; profile "
            f"{', '.join(sorted(set(models['profile'])))}; no tuning inside the folds. Section 11."
        )
        answers["specification"] = (
            "Weights are kept with the warehouse, one file per fold; settings in section 11."
        )
    if len(results):
        answers["performance"] = "Sections 2 to 8."
        answers["clusters"] = "The patient is the cluster: accuracy of each patient in section 3."
        answers["events"] = (
            f"{accuracies['patient_id'].nunique()} patients evaluated, "
            f"{accuracies.loc[accuracies['pain_level'] != 'None', 'patient_id'].nunique()} in pain. Predictions by model: "
            + "; ".join(
                f"{published.describe(str(e))[1]} {int(group['items'].sum()):,} of {len(group)} patients"
                for e, group in report_tables.in_order(accuracies).groupby("experiment", sort=False)
            )
            + "."
        )
    return with_further_targets(answers, inputs)
