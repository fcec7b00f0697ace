"""Question 10, end to end: the readings that are submitted with narratives, processed like them into tables of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from iss_assets.build import build_defs
from iss_assets.intake.inventory import sha256_of
from iss_assets.intake.withdrawn import read_withdrawn
from iss_assets.media.errors import BrokenFile
from iss_assets.media.journal import Journal, Reading
from iss_assets.pipeline import launcher as runner
from iss_assets.pipeline.staleness import folder_is_stale, stale_patients
from iss_assets.privacy.register import open_study
from iss_assets.privacy.release.columns import Tier, columns_of, tables_of
from iss_assets.privacy.withdrawal import withdraw
from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.prompts import PromptReadings
from iss_assets.schemas.registry import BY_NAME, OF_A_RECORDING
from iss_assets.settings import PromptSettings, Settings
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.export import export_tables
from iss_assets.warehouse.ledger import code_versions, ledger_entry, video_tables
from iss_assets.warehouse.verdicts import Verdict, valid_verdicts, verdict_from
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER
from iss_assets_tests.media.films import portrait, write_film
from iss_assets_tests.this_process import work_in_this_process

PATIENT = "0001"
BY_RECORDING = [table.__table__ for table in OF_A_RECORDING]
"""Tables that both recordings have, by the narratives' names."""


def made_of(recording: Recording) -> tuple[str, ...]:
    """Return the tables that are made of a recording in tests, where speech is not recognized."""
    made = code_versions(Settings(prompt=PromptSettings(enabled=True)))
    return tuple(name for name in video_tables(recording) if name in made)


def survey(submission: str, prompt_id: str = "") -> str:
    return f"{submission},{PATIENT},2021-01-{int(submission[1:]) + 4:02}T09:05:00-05:00,home,0,no,0,1,0,0,1,2,0,{prompt_id}"


HEADER = f"{SURVEY_HEADER},prompt_id"


def film(path: Path, seconds: float) -> None:
    """Write a face with sound, of another length than every other film."""
    write_film(path, (portrait(i / 10) for i in range(round(seconds * 10))), fps=10, sound=True)


def write_study(root: Path) -> None:
    """Write three submissions: with a reading of 1.8 s, without one, and with one that cannot be played."""
    videos = root / "videos" / PATIENT
    videos.mkdir(parents=True)
    (root / "enrollment.csv").write_text(
        f"{ENROLLMENT_HEADER}\n{PATIENT},1A,M,II,0,2021-01-04,-05:00\n0002,1A,M,II,0,2021-01-04,-05:00\n"
    )
    (root / "surveys.csv").write_text(
        "\n".join([HEADER, survey("s1", "dog"), survey("s2"), survey("s3", "dog"), ""])
    )
    (root / "prompts.csv").write_text("prompt_id,text\ndog,The dog came running around the corner.\n")
    for number, seconds in enumerate((1.2, 1.3, 1.4), start=1):
        film(videos / f"s{number}.mp4", seconds)
    film(videos / "s1_prompt.mp4", 1.8)
    (videos / "s3_prompt.mp4").write_bytes((videos / "s1_prompt.mp4").read_bytes()[:900])


def query(settings: Settings, sql: str) -> list[dict]:
    return Warehouse(settings.warehouse_path, settings.warehouse).query(sql).to_pylist()


def run(settings: Settings, *, pages: bool = False) -> None:
    """Bring the patients' tables up to date, and with `pages` what follows from them."""
    # not `iss_assets.definitions`, which reads the settings once a process
    definitions = build_defs()
    summary = runner.run_study(
        settings,
        (),
        load=lambda: definitions,
        log=lambda *_: None,
        progress=lambda *_: None,
        models=False,
        pages=pages,
    )
    assert not summary.failed


def stale(settings: Settings) -> dict[str, list[str]]:
    folder = open_study(settings)
    assert not folder_is_stale(folder, settings)
    return stale_patients(folder, settings)


def videos_in(settings: Settings, recording: Recording) -> dict[str, set[str]]:
    """Return the videos that each table of a recording has rows of."""
    return {
        name: {
            r["video_id"] for r in query(settings, f"select distinct video_id from {recording.named(name)}")
        }
        for name in BY_RECORDING
    }


def ledger(settings: Settings) -> dict[tuple[str, str], object]:
    """Return when each table's rows of each video were made."""
    rows = query(settings, "select subject, table_name, made_at from extractions where subject <> '*'")
    return {(r["subject"], r["table_name"]): r["made_at"] for r in rows}


@pytest.fixture(scope="module")
def made_without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study that was run without Question 10."""
    root = tmp_path_factory.mktemp("without")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISS_HOME", str(root / "home"))
        patch.setenv("ISS_STUDY", str(root / "study"))
        work_in_this_process(patch)
        write_study(root / "study")
        run(Settings())
        yield root


@pytest.fixture(scope="module")
def made_with(made_without: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same, after it was run once more with Question 10."""
    root = tmp_path_factory.mktemp("with") / "copy"
    shutil.copytree(made_without, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISS_HOME", str(root / "home"))
        patch.setenv("ISS_STUDY", str(root / "study"))
        patch.setenv("ISS_PROMPT__ENABLED", "true")
        work_in_this_process(patch)
        run(Settings())
        yield root


def copied(root: Path, to: Path, monkeypatch: pytest.MonkeyPatch, *, enabled: bool) -> Settings:
    to = to / root.parent.name
    shutil.copytree(root, to)
    monkeypatch.setenv("ISS_HOME", str(to / "home"))
    monkeypatch.setenv("ISS_STUDY", str(to / "study"))
    monkeypatch.setenv("ISS_PROMPT__ENABLED", str(enabled))
    work_in_this_process(monkeypatch)
    return Settings()


@pytest.fixture
def without(made_without: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return copied(made_without, tmp_path, monkeypatch, enabled=False)


@pytest.fixture
def with_readings(made_with: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return copied(made_with, tmp_path, monkeypatch, enabled=True)


def asset_names(settings: Settings) -> set[str]:
    graph = build_defs(settings).resolve_asset_graph()
    return {key.to_user_string() for key in graph.materializable_asset_keys}


def test_switched_off_there_are_no_assets_no_rows_and_nothing_is_stale(without: Settings) -> None:
    assert not [name for name in asset_names(without) if "prompt" in name]
    assert stale(without) == {}
    assert query(without, "select * from prompt_videos") == []
    assert not any(videos_in(without, Recording.PROMPT).values())
    assert query(without, "select video_id, has_prompt from videos order by 1") == [
        {"video_id": "s1", "has_prompt": True},
        {"video_id": "s2", "has_prompt": False},
        {"video_id": "s3", "has_prompt": True},
    ]


def test_switching_it_on_makes_only_what_is_missing_of_patients_with_readings(without: Settings) -> None:
    settings = Settings(study=without.study, home=without.home, prompt=PromptSettings(enabled=True))
    assert stale_patients(open_study(settings), settings) == {PATIENT: ["prompt_videos"]}


def test_narratives_stay_as_they_are_when_readings_are_processed(
    without: Settings, with_readings: Settings
) -> None:
    assert {name for name in asset_names(with_readings) if "prompt" in name} == {
        "prompts",
        "prompt_videos",
        *made_of(Recording.PROMPT),
    }
    assert stale(with_readings) == {}
    narratives, both = ledger(without), ledger(with_readings)
    assert {key: both[key] for key in narratives} == narratives
    assert {key for key in both if key not in narratives} == {
        ("s1", name) for name in made_of(Recording.PROMPT)
    }


def test_readings_are_extracted_like_narratives_into_their_own_tables(with_readings: Settings) -> None:
    assert query(with_readings, "select * from prompts") == [
        {"prompt_id": "dog", "text": "The dog came running around the corner."}
    ]
    files = query(
        with_readings, "select video_id, file, status, duration_s, problem from prompt_videos order by 1"
    )
    assert [(f["video_id"], f["file"], f["status"]) for f in files] == [
        ("s1", "videos/0001/s1_prompt.mp4", "ok"),
        ("s3", "videos/0001/s3_prompt.mp4", "unreadable"),
    ]
    assert files[0]["duration_s"] == pytest.approx(1.8, abs=0.05)
    assert files[1]["problem"]
    (one,) = {*map(frozenset, videos_in(with_readings, Recording.PROMPT).values())} - {frozenset()}
    assert one == {"s1"}
    # the broken reading costs only itself
    assert videos_in(with_readings, Recording.NARRATIVE)["faces"] == {"s1", "s2", "s3"}
    counted = "select video_id, count(*) as n from {} group by all order by all"
    assert query(with_readings, counted.format("prompt_frames")) == [{"video_id": "s1", "n": 18}]
    assert query(with_readings, counted.format("frames")) == [
        {"video_id": f"s{i}", "n": n} for i, n in ((1, 12), (2, 13), (3, 14))
    ]
    landmarks = query(with_readings, "select count(*) as n, count(points) as p from prompt_landmarks")
    assert landmarks[0]["n"] == landmarks[0]["p"] == 18
    assert query(with_readings, "select duration_s from prompt_audio")[0]["duration_s"] == pytest.approx(
        1.8, abs=0.1
    )
    checks = query(
        with_readings,
        "select asset, bool_and(passed) as passed from check_results where asset like 'prompt%' group by all",
    )
    assert {r["asset"] for r in checks} == {"prompts", "prompt_videos", *made_of(Recording.PROMPT)}
    assert all(r["passed"] for r in checks)


def test_of_a_reading_that_was_replaced_only_the_reading_is_read_again(with_readings: Settings) -> None:
    before = ledger(with_readings)
    film(with_readings.study / "videos" / PATIENT / "s1_prompt.mp4", 0.9)
    assert stale(with_readings) == {PATIENT: ["prompt_videos"]}
    run(with_readings)
    after = ledger(with_readings)
    assert {key for key in after if after[key] != before[key]} == {
        ("s1", name) for name in made_of(Recording.PROMPT)
    }
    assert query(with_readings, "select count(*) as n from prompt_frames") == [{"n": 9}]
    assert stale(with_readings) == {}


def test_of_a_narrative_that_was_replaced_the_reading_is_not_read_again(with_readings: Settings) -> None:
    before = ledger(with_readings)
    film(with_readings.study / "videos" / PATIENT / "s1.mp4", 0.9)
    run(with_readings)
    after = ledger(with_readings)
    assert {key for key in after if after[key] != before[key]} == {
        ("s1", name) for name in made_of(Recording.NARRATIVE) if ("s1", name) in before
    }


def test_a_reading_that_was_removed_leaves_nothing(with_readings: Settings) -> None:
    (with_readings.study / "videos" / PATIENT / "s1_prompt.mp4").unlink()
    assert stale_patients(open_study(with_readings), with_readings) == {PATIENT: ["prompt_videos", "videos"]}
    run(with_readings)
    assert query(with_readings, "select video_id from prompt_videos") == [{"video_id": "s3"}]
    assert not any(videos_in(with_readings, Recording.PROMPT).values())
    assert not [key for key in ledger(with_readings) if key[1].startswith("prompt_")]
    assert stale(with_readings) == {}


def test_switched_off_again_readings_stay_until_their_files_are_removed(
    made_with: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = copied(made_with, tmp_path, monkeypatch, enabled=False)
    assert stale(settings) == {}
    assert videos_in(settings, Recording.PROMPT)["faces"] == {"s1"}
    (settings.study / "videos" / PATIENT / "s1_prompt.mp4").unlink()
    assert stale_patients(open_study(settings), settings) == {PATIENT: ["videos"]}
    run(settings)
    assert query(settings, "select video_id from prompt_videos") == [{"video_id": "s3"}]
    assert not any(videos_in(settings, Recording.PROMPT).values())
    assert stale(settings) == {}
    monkeypatch.setenv("ISS_PROMPT__ENABLED", "true")
    assert "prompt_videos" in stale_patients(open_study(Settings()), Settings())[PATIENT]
    run(Settings())
    assert stale(Settings()) == {}


def test_without_speech_recognition_an_assessment_goes_with_its_reading(with_readings: Settings) -> None:
    rows = [
        {"video_id": name, "patient_id": PATIENT, "prompt_id": "dog", "read": True, "fingerprint": "earlier"}
        for name in ("s1", "s3")
    ]
    store = Warehouse(with_readings.warehouse_path, with_readings.warehouse)
    store.replace_all(
        [
            Replacement(PromptReadings, PromptReadings.from_rows(rows), {"patient_id": PATIENT}),
            ledger_entry(PATIENT, PromptReadings, "earlier", 2),
        ]
    )
    assert stale(with_readings) == {}
    (with_readings.study / "videos" / PATIENT / "s1_prompt.mp4").unlink()
    run(with_readings)
    assert query(with_readings, "select video_id, fingerprint from prompt_readings") == [
        {"video_id": "s3", "fingerprint": "earlier"}
    ]
    # nothing passes for current should words be recognized again
    (entry,) = query(
        with_readings, "select fingerprint, rows from extractions where table_name = 'prompt_readings'"
    )
    assert entry["fingerprint"] != "earlier" and entry["rows"] == 1
    assert stale(with_readings) == {}


def test_what_is_known_of_a_narrative_is_not_forgotten_with_its_reading(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    readings = [Reading(PATIENT, "s1", stage, "a" * 64, 1.0) for stage in ("picture", "prompt_picture")]
    for reading in readings:
        with journal.entry(reading) as entry:
            # as after a crash
            entry.keep = True
    journal.forget(PATIENT, {"s1": "b" * 64}, Recording.PROMPT)
    assert [suspect.stage for suspect in journal.suspects(PATIENT)] == ["picture"]
    journal.forget(PATIENT, {"s1": "a" * 64})
    assert [suspect.stage for suspect in journal.suspects(PATIENT)] == ["picture"]


def test_a_verdict_about_a_reading_is_none_about_the_narrative() -> None:
    verdicts = [
        Verdict("s1", PATIENT, stage, "a" * 64, "v", "unreadable", "IndexError", "Reading it fails.")
        for stage in ("picture", "prompt_picture")
    ]
    versions = {"picture": "v", "prompt_picture": "v"}
    for recording, verdict in zip(Recording, verdicts, strict=True):
        assert valid_verdicts(verdicts, {"s1": "a" * 64}, versions, recording) == [verdict]
    error = BrokenFile("IndexError", "Reading it fails.")
    reading = Reading(PATIENT, "s1", "prompt_sound", "a" * 64, 1.0)
    assert verdict_from(reading, error, {"prompt_sound": "v"}).status == "ok"
    assert verdict_from(replace(reading, stage="prompt_picture"), error, versions).status == "unreadable"


def test_every_feature_of_both_recordings_has_a_table_for_each() -> None:
    """If this fails, list the feature's tables in `schemas.registry.OF_A_RECORDING`, or its recordings in its entry."""
    for recording in Recording:
        assert {*video_tables(recording)} <= {*BY_NAME}


def test_who_withdraws_leaves_no_reading_behind_and_none_comes_back(with_readings: Settings) -> None:
    reading = with_readings.study / "videos" / PATIENT / "s1_prompt.mp4"
    sha256, content = sha256_of(reading), reading.read_bytes()
    certificate = withdraw(with_readings, PATIENT, reason="asked", who="ana", log=lambda _: None, source=True)
    assert {"prompt_frames", "prompt_faces", "prompt_audio", "prompt_videos"} <= {*certificate.rows}
    for name in ("prompt_videos", *video_tables(Recording.PROMPT)):
        assert query(with_readings, f"select * from {name}") == []
    assert not reading.exists()
    assert read_withdrawn(with_readings.home).file(sha256)
    # the same pictures under another patient's name
    other = with_readings.study / "videos" / "0002"
    other.mkdir()
    film(other / "x1.mp4", 1.0)
    (other / "x1_prompt.mp4").write_bytes(content)
    run(with_readings)
    (row,) = query(with_readings, "select video_id, status, problem from prompt_videos")
    assert (row["video_id"], row["status"]) == ("x1", "unreadable")
    assert "withdrawn" in row["problem"]


def test_an_export_without_media_shows_no_face_and_holds_no_voice_of_a_reading(
    with_readings: Settings, tmp_path: Path
) -> None:
    tables = ["prompt_faces", "prompt_audio", "prompt_mel_spectrograms", "prompt_transcripts"]
    store = Warehouse(with_readings.warehouse_path, with_readings.warehouse)
    made = export_tables(store, tables, "parquet", tmp_path / "out")
    assert [table.left_out for table in made] == [("crop",), ("waveform",), ("mel",), ("text",)]
    with_media = export_tables(store, tables[:2], "parquet", tmp_path / "media", with_media=True)
    assert [table.left_out for table in with_media] == [(), ()]


def test_a_release_treats_readings_as_narratives() -> None:
    for tier in Tier:
        released = {t.__table__: [c.name for c in columns_of(t, tier, False)] for t in tables_of(tier, False)}
        for table in OF_A_RECORDING:
            name = table.__table__
            assert released.get(Recording.PROMPT.named(name)) == released.get(name)
        assert "text" not in released.get("prompts", [])
