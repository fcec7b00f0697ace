"""The study report and the patient's page, read as a browser would."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from markupsafe import escape

from iss_assets.evaluation.comparable import OTHER_SPLITS, LeftOut
from iss_assets.reports.conclusions import banners, conclusion
from iss_assets.reports.gallery import mart_figures
from iss_assets.reports.patient_report import PatientReportInputs, write_patient_report
from iss_assets.reports.report_answers import associations_reach
from iss_assets.reports.report_inputs import StudyReportInputs
from iss_assets.reports.report_settings import models_table, training_settings_table
from iss_assets.reports.review_summary import summarize_reviews
from iss_assets.reports.study_report import write_study_report
from iss_assets.reports.tripod import AUTHORS, checklist
from iss_assets.schemas.evaluation import CanaryResults, PermutationResults, QualityAssociations
from iss_assets.schemas.modeling import FoldModels
from iss_assets.schemas.voice import VoiceFeatures
from iss_assets.settings import EvaluationSettings, Settings
from iss_assets_tests.evaluation.invented import fold_models

Evaluated: TypeAlias = dict[str, pa.Table]

WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Page(HTMLParser):
    """Collects what a test asks of a page: tags with attributes, text, ids, and whether tags are closed in order."""

    VOID = frozenset({"meta", "br", "img", "line", "rect", "circle", "path"})

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def extracted(study: SimpleNamespace) -> pd.DataFrame:
    quality = study.quality.to_pandas()
    faces = (quality["frames"] * quality["face_rate"].fillna(0)).astype(int)
    return quality[["video_id", "patient_id", "frames"]].assign(faces=faces, landmarks=faces - 1)


def inputs(study: SimpleNamespace, evaluated: Evaluated | None = None, **more: Any) -> StudyReportInputs:
    given: dict[str, Any] = {}
    if evaluated is not None:
        given = {
            "cv_splits": study.splits,
            "fold_models": study.models,
            "patient_accuracy": study.accuracy,
            "experiment_results": evaluated["experiment_results"],
            "evaluation": evaluated,
            "settings": Settings().model_dump(mode="json"),
        }
    return StudyReportInputs(
        study.patients,
        study.scores,
        study.videos,
        study.quality,
        extracted(study),
        made_at=WHEN,
        **{**given, **more},
    )


@pytest.fixture(scope="module")
def full(study: SimpleNamespace, evaluated: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = write_study_report(
        inputs(study, evaluated, invented=True), tmp_path_factory.mktemp("r") / "study.html"
    )
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_says_how_often_flags_were_right_and_reviewers_agreed(
    study: SimpleNamespace, tmp_path: Path
) -> None:
    decisions = [
        {"reviewed_at": WHEN, "reviewer": who, "patient_id": "0001", "video_id": f"0001-0{n}", "flag": "glare",
         "decision": "confirm" if right else "reject"}
        for who, answers in (("maria", (True, True, False)), ("ben", (True, True, True)))
        for n, right in enumerate(answers, start=1)
    ]  # fmt: skip
    summary = summarize_reviews(decisions, [{"video_id": "0001-09", "decision": "exclude"}], 40)
    page = write_study_report(inputs(study, reviews=summary), tmp_path / "page.html").read_text("utf-8")
    for said in (
        "3 of 40 flags were reviewed, 0 of them rejected.",
        "Excluded by a person: 0001-09.",
        "Reviewer 1 and reviewer 2 agree on 2 of 3 flags that both reviewed, Cohen’s kappa 0.00.",
        "Reviewed flags.",
        "glare",
    ):
        assert said in page
    assert "maria" not in page
    without = write_study_report(inputs(study), tmp_path / "without.html").read_text("utf-8")
    assert "Nobody has reviewed a flag yet." in without


def test_the_page_shows_what_the_study_looks_like(study: SimpleNamespace, tmp_path: Path) -> None:
    patients = [
        {
            "analyzed": True,
            "videos": 3 + i,
            "frames": 100 * i,
            "seconds": 10.0 * i,
            "seconds_per_video": 4.0,
            "pain_level": "Low",
            "pain_class": "Pain",
            "sex": "F",
            "skin_group": "dark",
        }
        for i in range(1, 6)
    ]
    drawn = mart_figures("patient_summary", patients)
    given = inputs(study, study_figures=[("Figure 2", drawn)])
    page = write_study_report(given, tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(drawn) == 8 and all(f.svg in page for f in drawn)
    assert all(f"<figcaption>{escape(f.caption)}</figcaption>" in page for f in drawn)
    assert "<h3>Figure 2</h3>" in page
    without = write_study_report(inputs(study), tmp_path / "without.html").read_text(encoding="utf-8")
    assert "Figure 2</h3>" not in without


def test_the_page_makes_no_requests(full: Page) -> None:
    for tag, attributes in full.tags:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith("#"), (tag, value)
    policies = [a["content"] or "" for t, a in full.tags if t == "meta" and a.get("http-equiv")]
    assert policies and policies[0].startswith("default-src 'none'")


def test_the_first_lines_say_what_the_figures_are_worth(full: Page) -> None:
    head = full.text[: full.text.index("What was run on whom")]
    assert "mean nothing clinically" in head and "random weights" in head and "invented" in head
    assert "best baseline" in head.lower() and "research use, not for clinical decisions" in head.lower()


def test_every_picture_is_described_and_every_table_has_a_caption(full: Page) -> None:
    pictures = [a for t, a in full.tags if t == "svg" and a.get("aria-hidden") != "true"]
    assert len(pictures) > 15 and all(a.get("role") == "img" and a.get("aria-label") for a in pictures)
    names = [t for t, _ in full.tags]
    assert names.count("table") == names.count("caption") > 15
    assert all(a.get("scope") for t, a in full.tags if t == "th")


def test_the_page_reads_on_a_phone_in_the_dark_and_on_paper(
    study: SimpleNamespace, evaluated: Evaluated, tmp_path: Path
) -> None:
    html = write_study_report(inputs(study, evaluated), tmp_path / "s.html").read_text()
    assert "width=device-width" in html and "prefers-color-scheme: dark" in html and "@media print" in html
    assert '<html lang="en">' in html


def test_bars_differ_by_hatch_and_letter_and_not_by_color_alone(full: Page) -> None:
    ids = {a.get("id") for t, a in full.tags if t == "pattern"}
    assert {"hatch-low", "hatch-moderate", "hatch-severe"} <= ids
    bars = [
        a["class"]
        for t, a in full.tags
        if t == "rect" and "bar" in (a.get("class") or "") and a.get("x") != ".5"
    ]
    assert len(bars) == 9 * 29


def test_table_5_is_beside_the_papers_figures(full: Page, evaluated: Evaluated) -> None:
    row = next(r for r in evaluated["experiment_results"].to_pylist() if r["experiment"] == "fusion_3")
    section = full.text[full.text.index("Accuracy beside the paper") :]
    line = section[section.index("Fusion 3") :][:240]
    assert f"{row['all_classes']:.3f}" in line and "0.657" in line


def test_profile_and_first_weights_are_in_every_table_that_names_a_model(
    study: SimpleNamespace, evaluated: Evaluated, tmp_path: Path
) -> None:
    html = write_study_report(inputs(study, evaluated), tmp_path / "s.html").read_text()
    words = {
        "Fusion 3": "profile demo, first weights random",
        "Random Forest Pain": "profile demo, not pretrained",
    }
    found = re.findall(r"<table.*?</table>\s*</div>(?:\s*<p class=\"note\">.*?</p>)?", html, re.DOTALL)
    for label, said in words.items():
        naming = [table for table in found if f">{label}<" in table or f"<span>{label}" in table]
        assert len(naming) > 8
        assert all(said in table for table in naming)


def test_the_flow_counts_patients_and_frames(full: Page, study: SimpleNamespace) -> None:
    frames = int(extracted(study)["frames"].sum())
    assert f"{frames:,}" in full.text and "paper: 189,999" in full.text and "paper: 168,063" in full.text


def test_quality_that_cannot_be_distinguished_from_chance_is_said_so_and_only_then(
    study: SimpleNamespace,
) -> None:
    patients = study.patients.to_pandas()
    usable = study.quality.to_pandas().query("usable")["patient_id"].unique()
    patients = patients[patients["patient_id"].isin(usable)].head(9)
    measures = [
        {"measure": f"m{i}", "patients": 9, "auroc": 1.0, "p_value": 2 / 36, "p_value_holm": 1.0}
        for i in range(3)
    ]

    def said(free: int, alpha: float) -> str:
        levels = ["None"] * free + ["Low"] * (len(patients) - free)
        given = inputs(
            study,
            evaluation_settings=EvaluationSettings(confidence=1 - alpha),
            evaluation={"quality_associations": QualityAssociations.from_rows(measures)},
        )
        return associations_reach(replace(given, patients=patients.assign(pain_level=levels)))

    # two of 9: no p below 2/36, 1/6 over three measures; four of 9: 2/126, 1/21
    assert "no p can be below 0.056, which is 0.17 after Holm over 3 measures" in said(2, 0.05)
    assert said(2, 0.2) == "" and said(4, 0.05) == "" and "0.016, which is 0.048" in said(4, 0.01)


def test_methods_against_chance_are_described(full: Page) -> None:
    assert "predictions kept as they are" in full.text


def test_what_authors_must_say_is_marked_and_not_guessed(full: Page) -> None:
    items = checklist({"outcome": "reported by patients"})
    assert len(items) == 52 and sum(i.open for i in items) == 51
    assert next(i for i in items if i.number == "8a").answer == "reported by patients"
    assert full.text.count(AUTHORS) > 10


def test_no_path_file_name_or_video_id_is_in_the_study_report(full: Page, study: SimpleNamespace) -> None:
    assert "/" + "videos" not in full.text and ".mp4" not in full.text
    assert study.videos["video_id"].to_pylist()[0] not in full.text


def test_settings_are_printed_without_paths_and_addresses(
    study: SimpleNamespace, evaluated: Evaluated, tmp_path: Path
) -> None:
    settings = Settings().model_dump(mode="json")
    settings["training"]["split_file"] = "/home/somebody/secret/splits.csv"
    settings["identity"]["weights"] = "/home/somebody/secret/vggface2.pt"
    settings["words"] |= {"model": "/home/somebody/secret/whisper-small", "hotwords": ["Pregabalin", "Adams"]}
    settings["alerts"] = {"urls": "mailto://user:password@example.org"}
    html = write_study_report(inputs(study, evaluated, settings=settings), tmp_path / "s.html").read_text()
    assert all(name in html for name in ("splits.csv", "vggface2.pt", "whisper-small"))
    assert "somebody" not in html and "password" not in html
    page = Page(html).text
    assert "hotwords 2 words" in page and "Adams" not in page and "Pregabalin" not in page
    for section in ("identity", "behavior", "prompt", "thermal", "words", "check_ins"):
        assert f"Settings: {section}." in page


def test_settings_stored_with_models_are_listed_apart_where_they_differ(study: SimpleNamespace) -> None:
    rows = study.models.to_pylist()
    for row in rows:
        epochs = 2 if row["experiment"] == "fusion_3" else 10
        row["settings"] = f'{{"epochs": {epochs}, "seed": 0, "where": {{"weights": "/root/me/w.pt"}}}}'
    table = training_settings_table(pd.DataFrame(rows))
    said = {row[0].text: row[1].text for row in table.rows}
    assert said["seed"] == "0" and "2 (Fusion 3)" in said["epochs"] and "10 (" in said["epochs"]
    assert "w.pt" in said["where"] and "root" not in said["where"]


def test_hostile_text_is_escaped(study: SimpleNamespace, tmp_path: Path) -> None:
    html = write_study_report(
        inputs(study, study_name="<script>alert(1)</script>"), tmp_path / "s.html"
    ).read_text()
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html


def test_a_study_without_any_training_says_so_in_every_section(
    study: SimpleNamespace, tmp_path: Path
) -> None:
    page = Page(write_study_report(inputs(study), tmp_path / "s.html").read_text())
    assert "No experiment has been evaluated yet; this page shows what has been collected." in page.text
    assert page.text.count(" yet") >= 8


def test_a_study_without_any_patient_can_be_reported(study: SimpleNamespace, tmp_path: Path) -> None:
    empty = StudyReportInputs(
        study.patients.slice(0, 0),
        study.scores.slice(0, 0),
        study.videos.slice(0, 0),
        study.quality.slice(0, 0),
        extracted(study).iloc[:0],
    )
    assert "No experiment" in Page(write_study_report(empty, tmp_path / "s.html").read_text()).text


def test_one_experiment_alone_makes_a_whole_report(
    study: SimpleNamespace, one_evaluated: SimpleNamespace, tmp_path: Path
) -> None:
    given = inputs(
        study, one_evaluated.tables, fold_models=one_evaluated.models, patient_accuracy=one_evaluated.accuracy
    )
    page = Page(write_study_report(given, tmp_path / "s.html").read_text())
    assert (
        "The model " in page.text and "No experiment with four classes has been evaluated yet." in page.text
    )


def test_patients_and_videos_left_out_are_listed(full: Page) -> None:
    part = full.text[full.text.rindex("Missing and left out") :]
    assert re.search(r"0015 no pain scores", part) and re.search(r"unreadable 1", part) and "grainy" in part


def results(**columns: object) -> pd.DataFrame:
    base = {
        "experiment": ["fusion_3", "audio_static"],
        "classes": 2,
        "patients": 29,
        "all_classes": [0.8, 0.5],
        "all_classes_low": 0.4,
        "all_classes_high": 0.9,
        "best_baseline": "sex_and_skin",
        "best_baseline_accuracy": 0.65,
        "baseline_difference": [0.15, -0.15],
        "baseline_difference_low": [0.02, -0.3],
        "baseline_difference_high": [0.3, 0.1],
        "beats_baseline": ["yes", "no"],
        "profile": "paper",
        "weights_origin": "imagenet",
    }
    return pd.DataFrame({**base, **columns})


NO_TESTS = PermutationResults.from_rows([]).to_pandas()


@pytest.mark.parametrize(
    ("verdicts", "lead"),
    [
        (["yes", "no"], "1 of 2 models beats the best rule that sees neither face nor voice: Fusion 3."),
        (
            ["not shown", "no"],
            "None of the 2 models is shown to beat the best rule that sees neither face nor voice.",
        ),
        (["yes", "yes"], "All 2 models beat the best rule that sees neither face nor voice."),
    ],
)
def test_the_leading_sentence_follows_the_verdicts(verdicts: list[str], lead: str) -> None:
    said, _ = conclusion(results(beats_baseline=verdicts), NO_TESTS, 29, EvaluationSettings())
    assert said == lead


def test_a_model_that_uses_no_face_either_is_compared_with_the_best_simple_rule() -> None:
    said, _ = conclusion(
        results(experiment=["forest_pain", "audio_static"]), NO_TESTS, 29, EvaluationSettings()
    )
    assert said == "1 of 2 models beats the best simple rule: Random Forest Pain."


def test_models_with_two_and_with_four_classes_are_not_ranked_together() -> None:
    rows = results(experiment=["resnet50_4_static", "audio_static"], classes=[4, 2], all_classes=[0.45, 0.5])
    _, points = conclusion(rows, NO_TESTS, 29, EvaluationSettings())
    highest = [p for p in points if p.startswith("Highest")]
    assert len(highest) == 2
    assert "with two classes: Static Audio, 0.500" in highest[0]
    assert "with four classes: ResNet50-4-static, 0.450" in highest[1]


def test_too_few_patients_to_tell_a_difference_is_said_as_such() -> None:
    _, points = conclusion(
        results(beats_baseline=["cannot be shown", "no"]), NO_TESTS, 29, EvaluationSettings()
    )
    assert any("too few patients differ" in p and "Fusion 3 (+0.15" in p for p in points)


@pytest.mark.parametrize(
    ("p", "least", "confidence", "said"),
    [
        (0.005, 0.005, 0.95, "better than chance are Fusion 3 (p = 0.005)"),
        (0.03, 0.005, 0.95, "better than chance are Fusion 3 (p = 0.03)"),
        (0.03, 0.005, 0.99, "none is shown to be better"),
        (0.2, 0.005, 0.95, "none is shown to be better"),
        (0.2, 0.1, 0.95, "nothing can be said about Fusion 3. 9 permutations of"),
        (0.005, 0.02, 0.99, "nothing can be said about Fusion 3. 9 permutations of"),
    ],
)
def test_a_verdict_about_chance_is_given_only_where_it_could_have_been_positive(
    p: float, least: float, confidence: float, said: str
) -> None:
    tests = pd.DataFrame(
        {
            "experiment": ["fusion_3"],
            "p_value_holm": [p],
            "p_least": [0.1],
            "p_least_holm": [least],
            "most_permutations": [9],
        }
    )
    _, points = conclusion(results(), tests, 29, EvaluationSettings(confidence=confidence))
    (chance,) = [point for point in points if point.startswith("Against chance")]
    assert said in chance and f"level {1 - confidence:.2g}" in chance
    assert ("permutations would do" in chance) == ("nothing" in said)


def test_all_models_about_which_nothing_can_be_said_share_one_sentence() -> None:
    tests = pd.DataFrame(
        {
            "experiment": ["fusion_1", "fusion_2", "forest_pain"],
            "p_value_holm": [0.2, 0.2, 0.4],
            "p_least": [0.1, 0.1, 0.05],
            "p_least_holm": [0.3, 0.3, 0.15],
            "most_permutations": [9, 9, 19],
        }
    )
    _, points = conclusion(results(), tests, 29, EvaluationSettings())
    (said,) = [point for point in points if "nothing can be said" in point]
    assert "about Fusion 1, Fusion 2 and Random Forest Pain. 9 permutations of" in said
    assert "0.1, which is 0.3 after Holm (Fusion 1 and Fusion 2); 19 permutations of" in said
    assert "0.05, which is 0.15 after Holm (Random Forest Pain): no result" in said
    assert said.count("59 permutations would do.") == 1


def test_models_that_do_not_beat_the_baseline_are_named_with_their_difference() -> None:
    _, points = conclusion(results(), NO_TESTS, 29, EvaluationSettings())
    assert any("Not better" in p and "Static Audio (−0.15, −0.30 to +0.10)" in p for p in points)
    assert any("“sex × skin”, 0.650" in p for p in points)


def test_a_paper_run_with_real_weights_carries_no_warning() -> None:
    models = pd.DataFrame({"cohort_hash": ["c"]})
    none = CanaryResults.from_rows([]).to_pandas()
    assert banners(results(), models, none, False, "c") == []


@pytest.mark.parametrize(
    ("origins", "said"),
    [
        (["random", "random"], "Here networks started from random weights."),
        (["random", "none"], "Here networks started from random weights."),
        (["imagenet", "random"], "Here Static Audio started from random weights."),
        (["file", "imagenet, random"], "Here Static Audio started from random weights."),
    ],
)
def test_only_networks_that_started_from_random_weights_are_said_to(origins: list[str], said: str) -> None:
    none = CanaryResults.from_rows([]).to_pandas()
    (found,) = banners(
        results(weights_origin=origins), pd.DataFrame({"cohort_hash": ["c"]}), none, False, "c"
    )
    assert found.text.startswith(said)


def test_a_failed_alarm_comes_first() -> None:
    alarm = CanaryResults.from_rows(
        [{"canary": "shuffled labels", "subject": "m", "passed": False, "detail": "stayed right."}]
    ).to_pandas()
    found = banners(results(profile="demo"), pd.DataFrame({"cohort_hash": ["c"]}), alarm, True, "c")
    assert found[0].kind == "bad" and "no figure of this report can be trusted" in found[0].head
    assert len(found) == 2


def test_a_model_that_looks_at_flagged_parts_is_named_and_the_others_are_not_accused() -> None:
    alarm = CanaryResults.from_rows(
        [
            {"canary": "attention to: glare", "subject": "mil_mesh", "passed": False, "detail": "Difference +30."},
            {"canary": "attention to: lettering", "subject": "mil_behavior", "passed": True, "detail": "None."},
        ]
    ).to_pandas()  # fmt: skip
    found = banners(results(), pd.DataFrame({"cohort_hash": ["c"]}), alarm, False, "c")
    assert [b.kind for b in found] == ["bad"]
    assert found[0].head.startswith("Attention Mesh: attention goes to flagged parts of the videos")
    assert "Attention Mesh, attention to: glare: Difference +30." in found[0].text
    assert "Behavior" not in found[0].text and "no figure" not in found[0].head


def test_models_older_than_the_cohort_are_reported() -> None:
    none = CanaryResults.from_rows([]).to_pandas()
    found = banners(results(), pd.DataFrame({"cohort_hash": ["old", "c"]}), none, False, "c")
    assert "1 of 2 trained folds" in found[0].text


def test_experiments_of_different_profiles_and_folds_that_are_left_out_are_reported() -> None:
    none = CanaryResults.from_rows([]).to_pandas()
    both = results(profile=["demo", "paper"])
    left_out = [LeftOut(e, (1, 2), "paper", OTHER_SPLITS) for e in ("fusion_2", "fusion_3")]
    found = banners(both, pd.DataFrame({"cohort_hash": ["c"]}), none, False, "c", left_out)
    assert "demo (Fusion 3) and paper (Static Audio)" in found[1].text
    assert (
        "2 folds of Fusion 2 and 2 folds of Fusion 3, profile paper: the assignment of patients"
        in found[2].text
    )


def patient(study: SimpleNamespace, patient_id: str, **more: Any) -> PatientReportInputs:
    return PatientReportInputs(
        patient_id, study.patients, study.scores, study.videos, study.quality, made_at=WHEN, **more
    )


def test_a_patients_page_shows_scores_quality_and_accuracy_and_no_picture(
    study: SimpleNamespace, tmp_path: Path
) -> None:
    path = write_patient_report(patient(study, "0007", patient_accuracy=study.accuracy), tmp_path / "p.html")
    page = Page(path.read_text())
    assert "Patient 0007" in page.text and "Fusion 3" in page.text and "dark, grainy" in page.text
    assert page.text.count("profile demo, first weights random") == 7  # two of nine are forests
    assert not any(t == "img" for t, _ in page.tags)
    drawn = [label for t, a in page.tags if t == "svg" and (label := a.get("aria-label"))]
    assert len(drawn) == 8 + 2 and drawn[0].startswith("Pain now: 6 values")
    assert "0008" not in page.text


def test_a_patients_page_draws_the_voice_over_time_and_leaves_out_what_was_never_measured(
    study: SimpleNamespace, tmp_path: Path
) -> None:
    own = study.videos.filter(pc.field("patient_id") == "0007")["video_id"].to_pylist()
    voices = [
        {
            "video_id": v,
            "patient_id": "0007",
            "chunk_index": -1,
            "speech_s": 9,
            "voiced_s": 5,
            "fingerprint": "f",
        }
        | ({"f0_median_hz": 118.0 + n, "pause_median_s": 0.5} if n else {})
        for n, v in enumerate(own)
    ]
    given = patient(study, "0007", measured={"voice_features": VoiceFeatures.from_rows(voices)})
    page = Page(write_patient_report(given, tmp_path / "p.html").read_text())
    drawn = [label for t, a in page.tags if t == "svg" and (label := a.get("aria-label"))]

    assert f"Pitch: {len(own) - 1} values between 119 and {117 + len(own)}, the last" in " ".join(drawn)
    assert not any(label.startswith("Pace") for label in drawn)
    assert "Measures of the recording, not of pain." in page.text
    assert (
        "Measures over time Nothing has been measured of this patient."
        in Page(write_patient_report(patient(study, "0007"), tmp_path / "q.html").read_text()).text
    )


def test_a_patient_without_scores_or_training_says_so(study: SimpleNamespace, tmp_path: Path) -> None:
    page = Page(write_patient_report(patient(study, "0015"), tmp_path / "p.html").read_text())
    assert "This patient has given no pain scores." in page.text
    assert "has not been evaluated in any experiment yet" in page.text


def test_a_patient_without_anything_still_has_a_page(study: SimpleNamespace, tmp_path: Path) -> None:
    given = PatientReportInputs(
        "0001", study.patients, study.scores.slice(0, 0), study.videos.slice(0, 0), study.quality.slice(0, 0)
    )
    assert (
        "No video was submitted." in Page(write_patient_report(given, tmp_path / "p.html").read_text()).text
    )


def test_a_patient_who_is_not_enrolled_has_no_page(study: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="not enrolled"):
        write_patient_report(patient(study, "9999"), tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_an_older_report_is_replaced_whole(study: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s.html"
    write_study_report(inputs(study), path)
    write_study_report(inputs(study, study_name="Second"), path)
    assert "Second" in path.read_text() and list(path.parent.iterdir()) == [path]


def test_the_list_of_models_says_what_each_was_actually_computed_with() -> None:
    splits = pa.table({"patient_id": ["a", "b", "c"], "split": [1, 2, 3]})
    rows = fold_models(["fusion_1", "forest_pain"], splits).to_pylist()
    gpu = {
        "device": "NVIDIA H100 80GB HBM3",
        "precision": "bfloat16",
        "execution": "captured",
        "library": "torch 2",
    }
    cpu = {
        "device": "cpu (AVX512)",
        "precision": "float32",
        "threads": 1,
        "execution": "eager",
        "library": "torch 2",
    }
    rows[0], rows[1] = rows[0] | gpu, rows[1] | cpu
    table = models_table(FoldModels.from_rows(rows).to_pandas())
    said = {row[0].text: row[-1].text for row in table.rows}
    assert said["Random Forest Pain"] == "not recorded"
    assert sorted(said["Fusion 1"].split("; ")) == sorted(
        [
            "bfloat16 on NVIDIA H100 80GB HBM3, captured",
            "torch 2",
            "float32 on cpu (AVX512), 1 thread, eager",
            "torch 2",
            "not recorded",
        ]
    )
