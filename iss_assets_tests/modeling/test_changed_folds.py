"""Splits that change between two trainings, through Dagster: no figure silently includes old folds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from iss_assets.cli.location import load
from iss_assets.pipeline import launcher as runner
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.job_runs import run_job
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse

pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.xdist_group("changed_folds"),  # they share a home
]

PAIN, MESH = "forest_pain", "forest_landmarks"
PAPER = {"PROFILE": "paper", "FOLDS": "3"}
DEMO = {"PROFILE": "demo", "FOLDS": "2"}


RESULTS = "select experiment, patients, models, profile from experiment_results order by all"


@pytest.fixture(scope="module")
def trained(made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which two experiments were trained on three splits."""
    folder = tmp_path_factory.mktemp("trained") / "home"
    folder.mkdir()
    Warehouse(made_once).snapshot(folder / "warehouse.duckdb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISS_STUDY", str(folder.parent / "study"))
        train(folder, patch, PAPER, PAIN, MESH)
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "home")


def train(home: Path, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], *experiments: str) -> str:
    """Do what `iss train` does, without the marts; return the study report."""
    monkeypatch.delenv("ISS_TRAINING__SPLIT_FILE", raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(f"ISS_TRAINING__{name}", value)
    monkeypatch.setenv("ISS_HOME", str(home))
    monkeypatch.setenv("ISS_EVALUATION__BOOTSTRAP_SAMPLES", "199")
    monkeypatch.setenv("ISS_EVALUATION__PERMUTATIONS", "99")
    settings, summary = Settings(), runner.Summary()
    with open_instance(settings, many_runs=True) as instance:
        instance.add_dynamic_partitions("patients", [f"{p:04d}" for p in range(1, 7)])
        runner.evaluate_experiments(
            instance, settings, experiments, summary, lambda _: None, thorough=False, load=load
        )
        summary.outcomes.append(run_job(load, instance, "report", "the report"))
    assert not summary.failed, summary.failed
    return (home / "reports" / "study_report.html").read_text(encoding="utf-8")


def rows(home: Path, sql: str) -> list[tuple]:
    return [tuple(r.values()) for r in Warehouse(home / "warehouse.duckdb").query(sql).to_pylist()]


def test_folds_of_other_splits_are_removed_or_reported_as_left_out_and_count_again_later(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    both = [(MESH, 3, 3, "paper"), (PAIN, 3, 3, "paper")]
    assert rows(home, RESULTS) == both
    forest = "select split, trained_at from fold_models where experiment = 'forest_pain' order by all"
    made = rows(home, forest)

    file = tmp_path / "splits.csv"
    file.write_text("patient_id,split\n0001,4\n0002,1\n0003,1\n")  # four is more than the settings ask for
    page = train(home, monkeypatch, {**DEMO, "SPLIT_FILE": str(file)}, MESH)
    # of the experiment that was trained again nothing old is left, in no table and in no folder
    folds = "select split, profile from fold_models where experiment = 'forest_landmarks' order by all"
    assert rows(home, folds) == [(1, "demo"), (4, "demo")]
    twice = "select video_id from frame_predictions group by experiment, video_id, frame_index having count(*) > 1"
    assert rows(home, twice) == []
    assert sorted(f.name for f in (home / "models" / MESH).iterdir()) == ["01", "04"]
    # the other keeps its folds for the day its settings return, but they are in no figure, and the report says so
    assert rows(home, RESULTS) == [(MESH, 3, 2, "demo")]
    assert rows(home, "select distinct experiment from patient_accuracy") == [(MESH,)]
    assert (
        "3 folds of Random Forest Pain, profile paper: the assignment of patients to splits has changed."
        in page
    )
    assert "older than the cohort" not in page
    # a model of the old splits has trained on patients of today's test sides, which is no leak: it is not evaluated
    leak = "select detail from canary_results where canary = 'shared patients, files, frames'"
    assert "trained_on_test" not in rows(home, leak)[0][0]

    page = train(home, monkeypatch, PAPER, PAIN, MESH)
    assert rows(home, RESULTS) == both
    assert rows(home, forest) == made
    assert "left out of every figure" not in page


def test_a_fold_retrained_with_other_settings_is_not_averaged_with_the_others(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**PAPER, "SEED": "5"}.items():
        monkeypatch.setenv(f"ISS_TRAINING__{name}", value)
    quick = {"ops": {"evaluate_experiments": {"config": {"retrain": False}}}}
    with open_instance(Settings(home=home), many_runs=True) as instance:
        for job, more in (
            ("train", {"partitions": ("forest_pain|02",) * 2}),
            ("accuracy", {"partitions": ("0001", "0006")}),
            ("evaluate", {"config": quick}),
            ("report", {}),
        ):
            assert run_job(load, instance, job, job, **more).success
    assert rows(home, RESULTS) == [(MESH, 3, 3, "paper"), (PAIN, 1, 1, "paper")]
    page = (home / "reports" / "study_report.html").read_text(encoding="utf-8")
    assert (
        "2 folds of Random Forest Pain, profile paper: trained with other settings or code than the newest fold"
        in page
    )


def test_a_split_file_with_too_many_splits_is_rejected_before_anything_changes(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = rows(home, "select * from cv_splits order by all")
    file = tmp_path / "splits.csv"
    file.write_text("patient_id,split\n0001,4\n0002,11\n0003,9\n")
    with pytest.raises(ValueError, match=r"names split 11, and there are 10.*ISS_TRAINING__FOLDS"):
        train(home, monkeypatch, {**DEMO, "SPLIT_FILE": str(file)}, PAIN)
    assert rows(home, "select * from cv_splits order by all") == before
