"""Which text was read, end to end: spoken by a synthetic voice, recognized, compared, checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from iss_assets import load
from iss_assets.build import build_defs
from iss_assets.defs.assets.prompts import assess_readings
from iss_assets.defs.resources import WarehouseResource
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.job_runs import run_job
from iss_assets.pipeline.run_history import PARTITION_TAG
from iss_assets.pipeline.staleness import stale_by_job, stale_patients
from iss_assets.privacy.register import open_study
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.features.words.speech import RATE, needs_speech, say
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER
from iss_assets_tests.media.sounds import write_media
from iss_assets_tests.test_question_10 import HEADER, PATIENT, copied, query, run, survey
from iss_assets_tests.this_process import work_in_this_process

pytestmark = needs_speech

GARDEN = "On Monday we planted twenty five seeds in the garden. By Friday the first green leaves had come up."
WRITTEN = '"On Monday, we planted 25 seeds in the garden. By Friday, the first green leaves had come up."'
LAKE = "The lake was still. A small boat lay at the end of the pier."
TOLD = "My back hurts a lot today, and I could not sleep because of it."
PROMPTS = f"prompt_id,text\ngarden,{WRITTEN}\nlake,{LAKE}\n"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A study whose patient read a text, told something instead, stopped halfway, and read another text."""
    root = tmp_path_factory.mktemp("readings")
    videos = root / "study" / "videos" / PATIENT
    videos.mkdir(parents=True)
    half = "On Monday we planted twenty five seeds in the garden."
    spoken = {"s1": (GARDEN, "garden"), "s2": (TOLD, "garden"), "s3": (half, "lost"), "s4": (LAKE, "garden")}
    surveys = [HEADER]
    for name, (text, prompt_id) in spoken.items():
        sound = say(text)
        write_media(videos / f"{name}_prompt.mp4", sound, RATE, video_s=len(sound) / RATE)
        surveys.append(survey(name, prompt_id))
    told = say(TOLD)
    for name in spoken:
        write_media(videos / f"{name}.mp4", told, RATE, video_s=len(told) / RATE)
    (root / "study" / "surveys.csv").write_text("\n".join([*surveys, ""]))
    (root / "study" / "enrollment.csv").write_text(
        f"{ENROLLMENT_HEADER}\n{PATIENT},1A,M,II,0,2021-01-04,-05:00\n"
    )
    (root / "study" / "prompts.csv").write_text(PROMPTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISS_HOME", str(root / "home"))
        patch.setenv("ISS_STUDY", str(root / "study"))
        patch.setenv("ISS_PROMPT__ENABLED", "true")
        patch.setenv("ISS_WORDS__ENABLED", "true")
        work_in_this_process(patch)
        made = Settings()
        run(made, pages=True)
        yield made


def test_the_text_that_was_read_is_found_and_everything_else_said_of_it(settings: Settings) -> None:
    rows = {
        r.pop("video_id"): r
        for r in query(settings, "select * exclude (fingerprint, patient_id) from prompt_readings")
    }
    told = ("prompt_id", "prompt_known", "text_read", "read", "cut_short")
    assert {name: tuple(row[c] for c in told) for name, row in rows.items()} == {
        "s1": ("garden", True, "garden", True, False),
        "s2": ("garden", True, None, False, None),
        "s3": ("lost", False, "garden", True, True),
        "s4": ("garden", True, "lake", True, False),
    }
    # the figures that the threshold is based on: 0.18 or less, 0.87 or more
    assert rows["s1"]["word_error_rate"] <= 0.18
    assert rows["s4"]["word_error_rate"] <= 0.18
    assert rows["s2"]["word_error_rate"] >= 0.87
    assert 0.4 < rows["s3"]["share_read"] < 0.6


def test_the_checks_say_which_readings_are_none_and_which_are_not_whole(settings: Settings) -> None:
    checks = query(
        settings,
        "select check_name, passed, affected from check_results where asset = 'prompt_readings' "
        "and check_name like 'prompt%' order by 1",
    )
    assert [(c["check_name"], c["passed"], c["affected"]) for c in checks] == [
        ("prompt_cut_short", False, ["s3"]),
        ("prompt_not_assessed", True, []),
        ("prompt_not_read", False, ["s2"]),
        ("prompt_unknown", False, ["s3", "s4"]),
    ]
    hints = query(settings, "select hint from check_results where check_name = 'prompt_not_read'")
    assert "explain Question 10 to them again" in hints[0]["hint"]


def test_no_spoken_word_is_in_the_readings_the_checks_or_the_run_s_record(settings: Settings) -> None:
    rows = query(settings, "select * from prompt_readings")
    rows += query(settings, "select * from check_results")
    written = repr(rows).casefold()
    assert "garden" in written  # the id of a text, and no word of it or of anything else
    texts = [
        row["text"]
        for table in ("transcripts", "prompt_transcripts")
        for row in query(settings, f"select text from {table}")
    ]
    for word in ("planted", "seeds", "friday", "hurts", "boat"):
        assert any(word in text.casefold() for text in texts)
        assert word not in written
    record = b"".join(p.read_bytes() for p in settings.dagster_home.rglob("*") if p.is_file())
    assert b"prompt_transcripts" in record and b"prompt_readings" in record
    for text in texts:
        said = text.split()
        assert len(said) > 8
        # four words may stand in the text of a check as well: "at the end of"
        for first in range(len(said) - 4):
            assert " ".join(said[first : first + 5]).encode() not in record


def test_narratives_hold_nothing_of_the_readings(settings: Settings) -> None:
    assert {r["text"].casefold()[:7] for r in query(settings, "select text from transcripts")} == {"my back"}
    assert len(query(settings, "select * from prompt_transcripts where text ilike '%garden%'")) == 2


def test_each_feature_is_there_as_narrative_minus_reading(settings: Settings) -> None:
    rows = query(settings, "select * from reference_differences where video_id = 's1'")
    found = {(r["feature"], r["measure"]): r for r in rows}
    words = found["text", "words"]
    assert (words["narrative"], words["reading"]) == (14, pytest.approx(19, abs=1))
    assert words["difference"] == words["narrative"] - words["reading"]
    pitch = found["voice", "f0_median_hz"]
    assert abs(pitch["difference"]) < 30  # the same voice
    assert pitch["read"] is True
    wide = load.reference_differences(home=settings.home).set_index("video_id")
    assert list(wide.index) == ["s1", "s3", "s4"]  # in s2 nothing was read
    assert wide.loc["s1", "text.words"] == words["difference"]
    assert {"speech_rate", "loudness", "hnr_db"} <= {
        measure for feature, measure in found if feature == "voice"
    }
    read = query(settings, "select distinct video_id, read from reference_differences order by 1")
    assert [(r["video_id"], r["read"]) for r in read] == [
        ("s1", True),
        ("s2", False),
        ("s3", True),
        ("s4", True),
    ]


def test_words_are_recognized_in_a_run_of_their_own_after_the_rest(settings: Settings) -> None:
    with open_instance(settings) as instance:
        runs = [
            run
            for run in instance.get_runs()
            if PARTITION_TAG in run.tags and run.job_name != "patient_reports"
        ]
        made = {run.job_name: steps_of(instance, run.run_id) for run in runs}
    assert [run.job_name for run in reversed(runs)] == ["patient", "words"]
    assert made["words"] == {
        *("extract_words", "extract_prompt_words", "prompt_readings"),
        *("check_words", "check_prompt_words", "check_prompt_readings"),
    }
    assert not made["words"] & made["patient"]
    assert {"extract_audio", "extract_voice", "video_quality", "check_quality"} <= made["patient"]


def steps_of(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    """Return the steps of a run, all of which succeeded."""
    found = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_SUCCESS).records
    return {str(record.event_log_entry.step_key) for record in found}


def test_until_its_words_follow_a_new_submission_lacks_nothing_else(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_WORDS__ENABLED", "true")
    settings = copied(settings.home.parent, tmp_path, monkeypatch, enabled=True)
    surveys = settings.study / "surveys.csv"
    surveys.write_text(f"{surveys.read_text()}{survey('s5')}\n")
    sound = say(LAKE)
    write_media(settings.study / "videos" / PATIENT / "s5.mp4", sound, RATE, video_s=len(sound) / RATE)
    folder = open_study(settings)
    first, later = stale_by_job(stale_patients(folder, settings))
    assert (first.keys(), later) == ({PATIENT}, {})
    with open_instance(settings) as instance:
        assert run_job(build_defs, instance, "patient", PATIENT, partitions=(PATIENT, PATIENT)).success
    failed = query(
        settings, "select check_name from check_results where asset = 'transcripts' and not passed"
    )
    assert failed == []
    assert len(query(settings, "select * from video_quality where video_id = 's5'")) == 1
    narratives = ["text_features", "transcript_spans", "transcript_words", "transcripts"]
    first, later = stale_by_job(stale_patients(folder, settings))
    # a check of words compares them with the quality, which is newer now
    assert (first, later) == ({}, {PATIENT: [*narratives, *(f"checks of {table}" for table in narratives)]})
    made = "select subject, made_at from extractions where table_name = 'transcripts'"
    before = {r["subject"]: r["made_at"] for r in query(settings, made)}
    run(settings)
    after = {r["subject"]: r["made_at"] for r in query(settings, made)}
    assert after.keys() - before.keys() == {"s5"}
    assert before.items() <= after.items()
    assert "boat" in query(settings, "select text from transcripts where video_id = 's5'")[0]["text"]
    assert stale_patients(folder, settings) == {}


def test_words_wait_for_the_sound_that_they_are_recognized_in() -> None:
    assert stale_by_job({"0001": ["audio", "transcripts"], "0002": ["video_quality", "transcripts"]}) == (
        {"0001": ["audio"], "0002": ["video_quality"]},
        {"0002": ["transcripts"]},
    )
    prompt = ["checks of prompt_readings", "prompt_audio", "prompt_transcripts"]
    assert stale_by_job({"0001": prompt}) == ({"0001": ["prompt_audio"]}, {})


def test_readings_are_not_assessed_by_transcripts_that_are_stale(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_HOME", str(settings.home))
    monkeypatch.setenv("ISS_STUDY", str(settings.study))
    for name, value in (("PROMPT__ENABLED", "true"), ("WORDS__ENABLED", "true"), ("WORDS__BEAM_SIZE", "3")):
        monkeypatch.setenv(f"ISS_{name}", value)
    rows = "select * from prompt_readings order by video_id"
    entry = "select fingerprint, made_at from extractions where table_name = 'prompt_readings'"
    before = query(settings, rows), query(settings, entry)
    resource = WarehouseResource(study=str(settings.study), home=str(settings.home))
    with pytest.raises(dg.Failure, match="materialize prompt_transcripts first") as caught:
        assess_readings(resource, PATIENT)
    assert caught.value.metadata["videos"].value == ["s1", "s2", "s3", "s4"]
    assert (query(settings, rows), query(settings, entry)) == before


def test_readings_with_much_speech_without_words_are_left_open_and_somebody_is_told(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_WORDS__ENABLED", "true")
    settings = copied(settings.home.parent, tmp_path, monkeypatch, enabled=True)
    with Warehouse(settings.warehouse_path, settings.warehouse).write() as writer:
        # less than the tenth of the speech that is too much from now on, and more
        writer.execute(
            "update prompt_transcripts set wordless_s = (case video_id when 's1' then 0.09 else 0.11 end) * speech_s"
        )
    monkeypatch.setenv("ISS_CHECKS__WORDLESS_SHARE", "0.1")
    settings = Settings()
    found = stale_patients(open_study(settings), settings)[PATIENT]
    assert "prompt_readings" in found and "prompt_transcripts" not in found
    run(settings, pages=True)
    rows = query(settings, "select video_id, text_read, read, cut_short from prompt_readings order by 1")
    assert [tuple(row.values()) for row in rows] == [
        ("s1", "garden", True, False),
        ("s2", None, None, None),
        ("s3", "garden", True, None),
        ("s4", "lake", True, False),
    ]
    checks = query(
        settings,
        "select check_name, affected from check_results where asset = 'prompt_readings' and not passed order by 1",
    )
    assert [tuple(check.values()) for check in checks] == [
        ("prompt_not_assessed", ["s2", "s3"]),
        ("prompt_unknown", ["s3", "s4"]),
    ]
    page = (settings.reports_dir / "patients" / f"{PATIENT}.html").read_text()
    assert "could not be assessed" in page
    assert "garden, read; whether all of it is unknown" in page


def test_with_other_texts_readings_are_assessed_again_and_nothing_else(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_WORDS__ENABLED", "true")
    settings = copied(settings.home.parent, tmp_path, monkeypatch, enabled=True)
    before = query(
        settings, "select made_at from extractions where table_name = 'prompt_transcripts' order by 1"
    )
    texts = settings.study / "prompts.csv"
    texts.write_text(f"{PROMPTS}back,{TOLD!r}\n".replace("'", '"'))
    assert stale_patients(open_study(settings), settings) == {PATIENT: ["prompt_readings"]}
    run(settings)
    assert query(settings, "select text_read, read from prompt_readings where video_id = 's2'") == [
        {"text_read": "back", "read": True}
    ]
    after = query(
        settings, "select made_at from extractions where table_name = 'prompt_transcripts' order by 1"
    )
    assert after == before
    assert stale_patients(open_study(settings), settings) == {}
