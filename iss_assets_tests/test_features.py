"""Features, end to end: what is measured from stored rows is made, kept, made again, and removed video by video."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from iss_assets.build import build_defs
from iss_assets.features import registry
from iss_assets.features.self_test import run_feature_self_test, stages_for
from iss_assets.features.words.availability import SPEECH
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.staleness import stale_patients
from iss_assets.privacy.register import open_study
from iss_assets.schemas.audio import Audio
from iss_assets.schemas.behavior import FaceBehavior
from iss_assets.schemas.voice import VoiceFeatures
from iss_assets.settings import Settings, VoiceSettings, WordSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER
from iss_assets_tests.test_question_10 import HEADER, PATIENT, film, ledger, query, run, survey
from iss_assets_tests.this_process import work_in_this_process

FEATURE = "voice"
"""The feature that stands for all of them; it reads the sound."""
TABLE = "voice_features"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study of two submissions, run once."""
    root = tmp_path_factory.mktemp("features")
    videos = root / "study" / "videos" / PATIENT
    videos.mkdir(parents=True)
    (root / "study" / "enrollment.csv").write_text(
        f"{ENROLLMENT_HEADER}\n{PATIENT},1A,M,II,0,2021-01-04,-05:00\n"
    )
    (root / "study" / "surveys.csv").write_text("\n".join([HEADER, survey("s1"), survey("s2"), ""]))
    film(videos / "s1.mp4", 1.2)
    film(videos / "s2.mp4", 1.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISS_HOME", str(root / "home"))
        patch.setenv("ISS_STUDY", str(root / "study"))
        work_in_this_process(patch)
        run(Settings())
        yield root


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of it to change."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.setenv("ISS_HOME", str(tmp_path / "copy" / "home"))
    monkeypatch.setenv("ISS_STUDY", str(tmp_path / "copy" / "study"))
    work_in_this_process(monkeypatch)
    return Settings()


def test_quality_that_comes_out_the_same_is_not_newer_than_what_was_checked_with_it(study: Settings) -> None:
    made = "select made_at from extractions where table_name = 'video_quality'"
    before = query(study, made)
    surveys = study.study / "surveys.csv"
    surveys.write_text(surveys.read_text().replace(",home,0,no,", ",home,3,no,"))
    assert stale(study) == {PATIENT: ["bpi_scores"]}
    run(study)
    assert (query(study, made), stale(study)) == (before, {})


def test_checks_that_also_read_the_quality_are_evaluated_again_when_it_is_newer(study: Settings) -> None:
    with Warehouse(study.warehouse_path).write() as writer:
        writer.execute("update extractions set made_at = now() where table_name = 'video_quality'", None)
    assert stale(study) == {PATIENT: ["checks of video_quality", "checks of voice_features"]}


def stale(settings: Settings) -> dict[str, list[str]]:
    return stale_patients(open_study(settings), settings)


def videos_in(settings: Settings, table: str = TABLE) -> set[str]:
    return {row["video_id"] for row in query(settings, f"select distinct video_id from {table}")}


def materializable(settings: Settings) -> set[dg.AssetKey]:
    """Return the assets that can be made; a table that only SQL models name is not among them."""
    return set(build_defs(settings).resolve_asset_graph().materializable_asset_keys)


def changed(before: dict[tuple[str, str], object], after: dict[tuple[str, str], object]) -> set[str]:
    """Return the tables of which some video's rows were made anew."""
    return {table for (_, table), made_at in (after.items() - before.items()) if made_at}


def test_every_feature_has_rows_of_every_video_and_is_current(study: Settings) -> None:
    for feature in registry.enabled_features(study):
        for table in feature.table_names:
            made = {video for video, name in ledger(study) if name == table}
            assert made == {"s1", "s2"}, table
    assert videos_in(study) == {"s1", "s2"}
    assert stale(study) == {}


def test_another_setting_makes_this_feature_again_and_nothing_that_it_reads(
    study: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_VOICE__MIN_PAUSE_S", "0.31")
    settings, before = Settings(), ledger(study)
    assert stale(settings) == {PATIENT: [TABLE]}
    run(settings)
    assert stale(settings) == {}
    assert changed(before, ledger(settings)) == {TABLE}


def test_switched_off_a_feature_has_no_asset_and_is_not_stale(
    study: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dg.AssetKey(TABLE) in materializable(study)
    monkeypatch.setenv("ISS_VOICE__ENABLED", "false")
    settings = Settings()
    assert dg.AssetKey(TABLE) not in materializable(settings)
    assert stale(settings) == {}


def test_rows_of_a_feature_that_is_switched_off_go_with_their_video(
    study: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_VOICE__ENABLED", "false")
    (study.study / "videos" / PATIENT / "s1.mp4").unlink()
    run(Settings())
    assert videos_in(study) == {"s2"}
    assert ("s1", TABLE) not in ledger(study) and ("s2", TABLE) in ledger(study)


def test_a_new_video_and_a_replaced_one_are_measured_and_no_other(study: Settings) -> None:
    folder, before = study.study / "videos" / PATIENT, ledger(study)
    film(folder / "s2.mp4", 1.7)
    film(folder / "s3.mp4", 1.6)
    (study.study / "surveys.csv").write_text("\n".join([HEADER, *map(survey, ("s1", "s2", "s3")), ""]))
    run(study)
    after = ledger(study)
    assert after["s1", TABLE] == before["s1", TABLE]
    assert after["s2", TABLE] != before["s2", TABLE]
    assert videos_in(study) == {"s1", "s2", "s3"}


def test_a_feature_is_not_made_from_rows_that_are_stale(study: Settings) -> None:
    with Warehouse(study.warehouse_path, study.warehouse).write() as writer:
        writer.execute(
            "update extractions set fingerprint = 'old' where table_name in ('audio', ?) and subject = 's1'",
            [TABLE],
        )
    before = ledger(study)
    with open_instance(study) as instance:
        result = (
            build_defs(study)
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance,
                partition_key=PATIENT,
                asset_selection=[dg.AssetKey(TABLE)],
                raise_on_error=False,
            )
        )
    assert not result.success
    (failure,) = (e for e in result.all_events if e.is_step_failure)
    assert "materialize audio first" in str(failure.step_failure_data.error)
    assert ledger(study) == before  # it does not pass for current
    run(study)
    assert stale(study) == {}


def test_a_video_that_a_feature_cannot_measure_costs_the_others_nothing(
    study: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iss_assets.media import isolation

    whole = registry.feature_named(FEATURE).load_measure()

    def breaks(video: Any, rows: Any, settings: Settings) -> Any:
        if video["video_id"] == "s1":
            raise ZeroDivisionError("a secret of the patient")
        return whole(video, rows, settings)

    class SameProcess:
        """Stands for the process in which a video is read again: this one, so that it is broken in the same way."""

        alive = True

        def __init__(self, *_: object) -> None: ...

        def ask(self, work: Any, args: Any, seconds: float, memory_gb: float) -> Any:
            try:
                return isolation._Done(work(*args))
            except ArithmeticError as error:
                return isolation._classified(error, ())

        def close(self) -> None: ...

    monkeypatch.setenv("ISS_VOICE__MIN_PAUSE_S", "0.31")
    with monkeypatch.context() as patch:
        patch.setattr("iss_assets.features.voice.measure_video", breaks)
        patch.setattr(isolation, "_Reader", SameProcess)
        run(Settings())
    assert videos_in(study) == {"s2"}
    (verdict,) = query(study, "select video_id, stage, status, error from video_problems")
    assert verdict == {"video_id": "s1", "stage": FEATURE, "status": "ok", "error": "ZeroDivisionError"}
    (row,) = query(study, "select status, problem from videos where video_id = 's1'")
    assert row["status"] == "ok" and "secret" not in row["problem"] and FEATURE in row["problem"]
    assert stale(Settings()) == {}  # the same file and code are not tried again
    monkeypatch.setenv("ISS_VOICE__MIN_PAUSE_S", "0.32")
    run(Settings())
    assert videos_in(study) == {"s1", "s2"}
    assert query(study, "select * from video_problems") == []
    assert query(study, "select problem from videos where video_id = 's1'") == [{"problem": None}]


@pytest.mark.parametrize("feature", registry.FEATURES, ids=lambda feature: feature.name)
def test_the_generated_video_can_be_measured(feature: registry.FeatureStage) -> None:
    if feature.name == "words" and SPEECH.missing():
        pytest.skip(f"the extra speech is not installed: {SPEECH.remedy}")
    settings = Settings(words=WordSettings(enabled=True))
    assert feature.enabled(settings)
    run_feature_self_test(feature.name, settings)


def test_a_broken_model_of_another_feature_does_not_make_a_bad_file_the_machine_s_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise OSError("half a model")

    monkeypatch.setattr("iss_assets.features.identity.measure_video", broken)
    monkeypatch.setattr("iss_assets.media.visual.extract_visual", broken)
    run_feature_self_test(FEATURE, Settings())  # it reads the sound only
    with pytest.raises(OSError, match="half a model"):
        run_feature_self_test("identity", Settings())


def test_the_self_test_runs_those_features_first_whose_tables_are_read_even_indirectly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    identity, voice, behavior, words = registry.FEATURES
    behavior = replace(behavior, sources=(*behavior.sources, VoiceFeatures))
    words = replace(words, sources=(Audio, FaceBehavior))
    features = (identity, voice, behavior, words)
    monkeypatch.setattr("iss_assets.features.self_test.FEATURES", features)
    assert [feature.name for feature in stages_for(words)] == ["voice", "behavior", "words"]
    assert [feature.name for feature in stages_for(behavior)] == ["voice", "behavior"]
    assert stages_for(identity) == [identity]


def test_no_two_features_make_the_same_table_and_each_reads_what_is_made_before_it() -> None:
    made = ["videos", "frames", "faces", "landmarks", "audio", "mel_spectrograms", "audio_features"]
    for feature in registry.FEATURES:
        assert set(feature.source_names) <= set(made), feature.name
        assert not set(feature.table_names) & set(made), feature.name
        made += feature.table_names


def test_a_setting_of_a_feature_is_part_of_its_version() -> None:
    feature = registry.feature_named(FEATURE)
    assert feature.version(Settings()) == feature.version(Settings(voice=VoiceSettings()))
    assert feature.version(Settings()) != feature.version(Settings(voice=VoiceSettings(min_pause_s=0.4)))
