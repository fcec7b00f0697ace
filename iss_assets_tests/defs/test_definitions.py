"""What every asset, check and run of the code location has in common."""

from __future__ import annotations

import re
from pathlib import Path

import dagster as dg
import pytest

from iss_assets.build import build_defs
from iss_assets.defs.assets.common import metadata_key
from iss_assets.features.registry import is_on
from iss_assets.pipeline.staleness import SCORES_CODE_VERSION, WORD_TABLES
from iss_assets.settings import PromptSettings, Settings, VideoSettings, WarehouseSettings

SNAKE_CASE = re.compile(r"(dagster/)?[a-z0-9]+(_[a-z0-9]+)*")


def keys_that_are_not_snake_case(instance: dg.DagsterInstance) -> set[str]:
    """Return metadata keys of every materialization and check of an instance's runs that are not snake_case."""
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
    found: set[str] = set()
    seen = 0
    for run in instance.get_runs():
        for record in instance.get_records_for_run(run.run_id, of_type=kinds).records:
            event = record.event_log_entry.dagster_event
            assert event is not None
            if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
                found |= set(event.step_materialization_data.materialization.metadata)
            else:
                found |= set(event.asset_check_evaluation_data.metadata)
            seen += 1
    assert seen, "nothing was made"
    return {key for key in found if not SNAKE_CASE.fullmatch(key)}


def versions(settings: Settings) -> dict[str, str | None]:
    graph = build_defs(settings).resolve_asset_graph()
    return {
        node.key.to_user_string(): node.code_version for node in graph.asset_nodes if not node.is_external
    }


def test_every_asset_has_a_code_version(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "sql" / "marts").mkdir(parents=True)
    (tmp_path / "sql" / "marts" / "broken.sql").write_text("select from where\n")
    broken = settings.model_copy(update={"warehouse": WarehouseSettings(sql_dir=tmp_path / "sql")})
    for chosen in (settings, broken):
        found = versions(chosen)
        assert len(found) > 25
        assert [name for name, version in found.items() if not version] == []


def test_a_setting_changes_the_code_versions_of_what_is_made_with_it_and_of_no_other(
    settings: Settings,
) -> None:
    shorter = settings.model_copy(update={"video": VideoSettings(max_seconds=600.0)})
    before, after = versions(settings), versions(shorter)
    changed = {name for name in before if before[name] != after[name]}
    assert {"videos", "frames", "faces", "landmarks", "audio", "video_quality"} <= changed
    assert not {"patients", "bpi_scores", "cv_splits", "experiment_results", "study_report"} & changed
    assert before["bpi_scores"] == SCORES_CODE_VERSION


def test_words_have_a_job_of_their_own_where_they_are_recognized_and_nothing_of_a_patient_waits_for_them(
    settings: Settings,
) -> None:
    def jobs(*, enabled: bool) -> dict[str, set[str]]:
        words = settings.words.model_copy(update={"enabled": enabled})
        chosen = settings.model_copy(update={"words": words, "prompt": PromptSettings(enabled=True)})
        graph = build_defs(chosen)
        return {
            name: {
                key.to_user_string() for key in graph.resolve_job_def(name).asset_layer.executable_asset_keys
            }
            for name in ("patient", *(job.name for job in graph.jobs or () if job.name == "words"))
        }

    without, having = jobs(enabled=False), jobs(enabled=True)
    assert without.keys() == {"patient"}
    assert having["words"] == set(WORD_TABLES)
    assert having["patient"] == without["patient"] >= {"voice_features", "prompt_audio", "video_quality"}


def inputs(name: str, settings: Settings) -> set[str]:
    graph = build_defs(settings).resolve_asset_graph()
    return {key.to_user_string() for key in graph.get(dg.AssetKey(name)).parent_keys}


def test_what_is_read_is_what_an_asset_depends_on_as_far_as_the_settings_have_it_on(
    settings: Settings,
) -> None:
    less = settings.model_copy(
        update={
            "voice": settings.voice.model_copy(update={"enabled": False}),
            "identity": settings.identity.model_copy(update={"enabled": False}),
        }
    )
    more = settings.model_copy(update={"prompt": PromptSettings(enabled=True)})
    always = {"cv_splits", "patients", "bpi_scores", "video_quality", "audio_features"}
    always |= {"frames", "faces", "landmarks", "embeddings"}
    narrative = {"voice_features", "face_behavior_summary"}
    words = {"text_features"} if is_on("words", settings) else set()
    assert inputs("check_in_claims", settings) == always | narrative | words
    assert inputs("check_in_claims", less) == always | words | {"face_behavior_summary"}
    readings = {f"prompt_{name}" for name in narrative} | ({"prompt_readings"} if words else set())
    assert inputs("check_in_claims", more) == always | narrative | words | readings
    faces = {"videos", "face_identity"}
    assert faces <= inputs("study_expectations", settings)
    assert not faces & inputs("study_expectations", less)


@pytest.mark.parametrize(
    ("name", "key"),
    [("short weeks", "short_weeks"), ("told, not failed", "told_not_failed"), ("by_flag", "by_flag")],
)
def test_words_become_keys(name: str, key: str) -> None:
    assert metadata_key(name) == key
    assert SNAKE_CASE.fullmatch(metadata_key(name))
    assert not SNAKE_CASE.fullmatch(f"{name} of all")


def test_steps_are_named_for_what_they_do(settings: Settings) -> None:
    nodes = build_defs(settings).resolve_implicit_global_asset_job_def().nodes
    assert {"extract_visual", "extract_audio", "train_folds", "evaluate_experiments", "build_sql_models"} <= {
        node.name for node in nodes
    }
