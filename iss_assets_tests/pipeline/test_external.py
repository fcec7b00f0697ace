"""`iss predict`: models of one study on the patients of another, whom they have never seen."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from iss_assets.cli import main
from iss_assets.datasets.items import load_items
from iss_assets.intake.withdrawn import Scope
from iss_assets.modeling.fitting import predict_fold
from iss_assets.pipeline.external import NotApplicable, Validation, open_models, validate_externally
from iss_assets.privacy.traces import Traces
from iss_assets.privacy.withdrawn_rows import Removed, remove_rows
from iss_assets.schemas.intake import BpiScores
from iss_assets.schemas.operations import Extractions
from iss_assets.schemas.registry import PROMPT_VIDEOS
from iss_assets.settings import (
    AudioSettings,
    CheckInSettings,
    EvaluationSettings,
    FaceSettings,
    PromptSettings,
    Settings,
    TrainingSettings,
    VideoSettings,
    WarehouseSettings,
)
from iss_assets.warehouse.database import KeyProblem, Replacement, Warehouse
from iss_assets.warehouse.keys import new_key, write_key
from iss_assets.warehouse.ledger import code_versions, fingerprint, ledger_rows
from iss_assets_tests.cli.processes import ISS, Iss
from iss_assets_tests.pipeline.invented_homes import EXPERIMENT, fill_home, train, write_folder

THERE = [f"T{n:03d}" for n in range(16)]
HERE = [f"H{n:03d}" for n in range(14)]


def settings_of(folder: Path, name: str, **more: Any) -> Settings:
    """Settings of a study of this name, with few resamples."""
    return Settings(
        study=folder / f"{name}_study",
        home=folder / name,
        training=TrainingSettings(folds=4),
        evaluation=EvaluationSettings(bootstrap_samples=499, permutations=499),
        check_ins=CheckInSettings(
            targets=("pain_now",), calibration=(1,), bootstrap_samples=499, permutations=999, trees=5
        ),
        **more,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A study with a forest that has learned that high answers mean pain."""
    settings = settings_of(tmp_path_factory.mktemp("there"), "there")
    fill_home(settings, THERE, seed=1)
    train(settings)
    return settings


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """Another study, whose answers tell the same."""
    settings = settings_of(tmp_path, "here")
    write_folder(settings, HERE)
    fill_home(settings, HERE, seed=2)
    return settings


def predict(settings: Settings, trained: Settings, *names: str, **more: Any) -> Validation:
    return validate_externally(settings, open_models(trained.home, settings), names, **more)


def rows(settings: Settings, sql: str) -> list[dict[str, Any]]:
    return Warehouse(settings.warehouse_path, settings.warehouse).query(sql).to_pylist()


def content(home: Path) -> dict[str, tuple[str, int]]:
    """Return every file of a home with its hash and modification time."""
    return {
        str(path.relative_to(home)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in home.rglob("*")
        if path.is_file()
    }


def text(page: Path) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page.read_text("utf-8")))


def test_models_whose_signal_is_here_too_carry_over_and_their_home_stays_as_it_was(
    trained: Settings, here: Settings
) -> None:
    before = content(trained.home)
    done = predict(here, trained)
    assert content(trained.home) == before
    (row,) = rows(here, "select * from external_results")
    assert (row["carries_over"], row["all_classes"], row["patients"]) == ("yes", 1.0, len(HERE))
    # half of the patients are in pain: a constant is right for half of them, and so are rules by sex and skin
    assert row["best_baseline_accuracy"] == pytest.approx(0.5, abs=0.15)
    assert (row["models"], row["train_patients"], row["train_events"]) == (4, len(THERE), len(THERE) // 2)
    said = text(done.page)
    assert "The model carries over: it predicts these patients, whom it has never seen" in said
    assert (
        "7 with and 7 without pain, predicted by the mean of 4 folds that learned from 16 other patients"
        in said
    )
    assert "at least 100 patients with and 100 without pain" in said


def test_models_whose_signal_is_the_other_way_round_here_do_not(trained: Settings, here: Settings) -> None:
    fill_home(here, HERE, seed=2, flipped=True)
    said = text(predict(here, trained).page)
    (row,) = rows(here, "select carries_over, all_classes from external_results")
    assert (row["carries_over"], row["all_classes"]) == ("no", 0.0)
    assert "The model is not shown to carry over" in said
    assert "The model carries over" not in said


def test_answers_that_say_nothing_here_are_not_taken_for_a_model_that_carries_over(
    trained: Settings, here: Settings
) -> None:
    fill_home(here, HERE, seed=3, shares=False)
    predict(here, trained)
    (row,) = rows(here, "select carries_over, baseline_difference_low from external_results")
    assert row["carries_over"] in ("no", "not shown")
    assert row["baseline_difference_low"] <= 0


def test_with_three_patients_nothing_can_be_shown_however_good_the_model(
    trained: Settings, here: Settings
) -> None:
    Warehouse(here.warehouse_path).create()
    with Warehouse(here.warehouse_path).write() as writer:
        for table in ("patients", "bpi_scores", "videos", "frames", "video_quality", "extractions"):
            writer.execute(f"delete from {table} where patient_id > 'H003'")
    said = text(predict(here, trained).page)
    assert rows(here, "select carries_over from external_results") == [{"carries_over": "cannot be shown"}]
    assert "there are too few patients to say whether any model carries over" in said


def test_the_mean_of_the_folds_probabilities_counts_and_their_spread_is_kept(
    trained: Settings, here: Settings
) -> None:
    predict(here, trained)
    items = load_items(Warehouse(here.warehouse_path), EXPERIMENT, trained.training, FaceSettings())
    of_folds = [
        predict_fold(EXPERIMENT, path, items, trained.training)
        .to_pandas()
        .groupby("patient_id")["pain_probability"]
        .mean()
        for path in sorted(trained.models_dir.rglob("model.safetensors"))
    ]
    assert len(of_folds) == 4
    for row in rows(here, "select * from external_patients"):
        folds = np.array([fold[row["patient_id"]] for fold in of_folds])
        assert row["pain_probability"] == pytest.approx(folds.mean())
        assert (row["lowest_probability"], row["highest_probability"]) == pytest.approx(
            (folds.min(), folds.max())
        )
        assert row["fold_spread"] == pytest.approx(folds.std(ddof=1))


def test_a_second_call_does_nothing_until_something_changes(trained: Settings, here: Settings) -> None:
    first = predict(here, trained)
    written = first.page.stat().st_mtime_ns
    again = predict(here, trained)
    assert (first.made, again.made) == (True, False)
    assert again.page.stat().st_mtime_ns == written
    with Warehouse(here.warehouse_path).write() as writer:
        writer.execute("update bpi_scores set mood = 10 where submission_id = 'H000-2-0'")
    assert predict(here, trained).made
    fewer = here.model_copy(
        update={"evaluation": EvaluationSettings(bootstrap_samples=299, permutations=499)}
    )
    assert predict(fewer, trained).made
    assert not predict(fewer, trained).made


def test_patients_of_the_training_study_are_left_out_and_counted(trained: Settings, here: Settings) -> None:
    theirs = Warehouse(trained.warehouse_path)
    (file,) = rows(trained, "select sha256 from videos where video_id = 'T003-1-0'")
    (answers,) = rows(trained, "select * from bpi_scores where submission_id = 'T005-1-1'")
    with Warehouse(here.warehouse_path).write() as writer:
        # a copy of a film under another id, and the same id with the same answers but other films
        writer.execute("update videos set sha256 = ? where video_id = 'H002-2-1'", [file["sha256"]])
        writer.execute(
            "delete from extractions where subject = 'H002-2-1'",
        )
        for table in ("patients", "bpi_scores", "videos", "frames", "video_quality", "extractions"):
            writer.execute(f"update {table} set patient_id = 'T005' where patient_id = 'H007'")
        # two empty uploads are alike, and nobody's
        writer.execute(
            "update videos set sha256 = ?, status = 'unreadable' where video_id = 'H003-2-1'",
            [file["sha256"]],
        )
        # the same id alone is no evidence: sites number their patients alike
        for table in ("patients", "bpi_scores", "videos", "frames", "video_quality", "extractions"):
            writer.execute(f"update {table} set patient_id = 'T006' where patient_id = 'H008'")
        writer.append(BpiScores, BpiScores.from_rows([{**answers, "submission_id": "other"}]))
    assert theirs.query("select 1 from patients where patient_id = 'T006'").num_rows == 1
    done = predict(here, trained)
    left = rows(here, "select patient_id, reason from external_left_out order by all")
    assert left == [
        {"patient_id": "H002", "reason": "same_file"},
        {"patient_id": "T005", "reason": "same_answers"},
    ]
    predicted = {row["patient_id"] for row in rows(here, "select patient_id from external_patients")}
    assert predicted == {*HERE, "T006"} - {"H002", "H007", "H008"}
    assert "2 patients of this study are in the training study, too, and were left out" in text(done.page)
    assert any("in the training study, too, and left out: 2 of 14 patients" in note for note in done.notes)


def test_a_study_that_is_the_training_study_under_another_name_is_refused(
    trained: Settings, tmp_path: Path
) -> None:
    copy = settings_of(tmp_path, "copy")
    write_folder(copy, THERE)
    fill_home(copy, THERE, seed=1)
    with pytest.raises(
        NotApplicable, match=r"in the training study, too, and left out: 16 of 16 patients.*nobody is left"
    ):
        predict(copy, trained)
    with pytest.raises(NotApplicable, match="no study is external to itself"):
        open_models(trained.home, trained)


def test_pictures_made_with_other_settings_are_refused_by_the_name_of_the_setting(
    trained: Settings, tmp_path: Path
) -> None:
    other = settings_of(tmp_path, "other", video=VideoSettings(fps=5.0))
    write_folder(other, HERE)
    fill_home(other, HERE, seed=2)
    with pytest.raises(
        NotApplicable, match=r"frames of the training study.*video\.fps is 10\.0 there and 5\.0 here"
    ):
        predict(other, trained)
    # rows that are older than this study's own settings are not compared with anything
    changed = other.model_copy(update={"video": VideoSettings()})
    with pytest.raises(
        NotApplicable, match=r"this study were made with other settings than it has now.*iss run"
    ):
        predict(changed, trained)
    assert not (other.home / "reports").exists()


def test_each_nonsense_has_an_error_of_its_own(trained: Settings, here: Settings, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no experiment 'forest_tea'"):
        predict(here, trained, "forest_tea")
    with pytest.raises(
        NotApplicable, match="not trained in the home of the models: fusion_1; trained there: forest_pain"
    ):
        predict(here, trained, "fusion_1")
    with pytest.raises(
        NotApplicable, match="trained in the profile paper, not demo: ask for them with --profile paper"
    ):
        predict(here, trained, profile="demo")
    untrained = settings_of(tmp_path, "untrained")
    fill_home(untrained, THERE, seed=5)
    with pytest.raises(NotApplicable, match=r"has no trained models.*iss train"):
        predict(here, untrained)
    with pytest.raises(NotApplicable, match="is not the home of a study"):
        open_models(tmp_path / "nowhere", here)
    empty = settings_of(tmp_path, "empty")
    with pytest.raises(NotApplicable, match=r"no patients yet.*iss run"):
        predict(empty, trained)
    assert not empty.home.exists()
    with Warehouse(here.warehouse_path).write() as writer:
        writer.execute("delete from bpi_scores")
    with pytest.raises(
        NotApplicable, match=r"forest_pain: this study has nothing that it reads: .* no survey"
    ):
        predict(here, trained)


def test_a_study_in_a_shared_warehouse_reads_the_models_from_their_own_file(
    trained: Settings, here: Settings
) -> None:
    shared = here.warehouse.model_copy(update={"catalog": "postgres:host=db dbname=iss", "data_path": "/mnt"})
    opened = open_models(trained.home, here.model_copy(update={"warehouse": shared}))
    assert not opened.warehouse.shared
    found = opened.warehouse.query("select count(*) n from cv_splits")["n"].to_pylist()
    assert (
        found
        == Warehouse(trained.warehouse_path).query("select count(*) n from cv_splits")["n"].to_pylist()
        != [0]
    )


def test_the_clinics_questions_are_asked_of_the_other_studys_models_too(
    trained: Settings, here: Settings
) -> None:
    done = predict(here, trained)
    assert done.clinic_page is not None
    said = text(done.clinic_page)
    assert "The models learned from 16 patients of another study and were not changed for this one." in said
    assert "Voice follows the ups and downs of pain now" in said
    assert "Pain now: calibration." in said and "Slope of the answer" in said
    assert "net benefit of acting on an answer of 7 or more" in said
    assert f'href="{done.clinic_page.name}"' in done.page.read_text("utf-8")
    # the networks that read pictures of the face are not silently missing
    why = "the training study and this study have no embeddings of usable videos"
    assert f"not applied: pain_now_attention: {why}" in done.notes
    assert why in text(done.page)
    # a named experiment is asked for alone
    assert predict(here, trained, "forest_pain").clinic_page is None


def test_check_ins_measured_with_other_settings_are_refused_and_the_rest_is_predicted(
    trained: Settings, tmp_path: Path
) -> None:
    other = settings_of(tmp_path, "other", audio=AudioSettings(n_mels=64))
    write_folder(other, HERE)
    fill_home(other, HERE, seed=2)
    done = predict(other, trained)
    assert done.made and done.clinic_page is None
    (note,) = (note for note in done.notes if note.startswith("not applied: check-ins: "))
    assert "audio_features of the training study were made in another way than they are here" in note
    assert "audio.n_mels is 128 there and 64 here" in note
    assert "check-ins" in text(done.page)


def add_reading(home: Path, settings: Settings, patient: str, seed: int, version: str) -> None:
    """Record that the voice of a patient's first reading (Question 10) was measured, in this version."""
    video, sha = f"{patient}-{seed}-0", hashlib.sha256(patient.encode()).hexdigest()
    file: dict[str, Any] = {
        "video_id": video,
        "patient_id": patient,
        "fingerprint": "f" * 16,
        "file": f"{video}_prompt.mp4",
    }
    file |= {"sha256": sha, "bytes": 1, "modified_ns": 1, "status": "ok"}
    made = (patient, video, "prompt_voice_features", fingerprint("prompt_voice_features", sha, version), 0)
    with_reading = settings.model_copy(update={"home": home})
    store = Warehouse(with_reading.warehouse_path, settings.warehouse)
    one = {"patient_id": patient, "subject": video, "table_name": "prompt_voice_features"}
    store.replace_all(
        [
            Replacement(PROMPT_VIDEOS, PROMPT_VIDEOS.from_rows([file]), {"patient_id": patient}),
            Replacement(Extractions, ledger_rows([made]), one),
        ]
    )


@pytest.mark.parametrize("alike", [True, False])
def test_readings_of_question_10_are_compared_with_their_own_files(
    alike: bool, trained: Settings, tmp_path: Path
) -> None:
    here = settings_of(tmp_path, "here", prompt=PromptSettings(enabled=True))
    write_folder(here, HERE)
    fill_home(here, HERE, seed=2)
    home = tmp_path / "with_readings"
    shutil.copytree(trained.home, home)
    version = code_versions(here)["prompt_voice_features"]
    add_reading(home, here, THERE[0], 1, version if alike else "another")
    add_reading(here.home, here, HERE[0], 2, version)
    done = validate_externally(here, open_models(home, here), ())
    assert (done.clinic_page is not None) == alike
    refused = "not applied: check-ins: prompt_voice_features of the training study were made in another way"
    assert any(note.startswith(refused) for note in done.notes) == (not alike)


AS_ANYBODY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
"""Makes root mind the permissions of files."""


@pytest.mark.parametrize("locks", ["there", "missing"])
def test_a_home_that_the_user_may_only_read_is_enough(
    locks: str, trained: Settings, here: Settings, tmp_path: Path
) -> None:
    home = tmp_path / "mounted"
    shutil.copytree(trained.home, home)
    if locks == "missing":
        for path in home.glob("*.lock*"):
            path.unlink()
    before = content(home)
    for path in sorted(home.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    home.chmod(0o555)
    as_anybody = AS_ANYBODY if os.geteuid() == 0 else ()
    command = [*as_anybody, ISS, "predict", "--models", str(home), "forest_pain"]
    try:
        done = subprocess.run(
            command,
            env=Iss(here.study, here.home).environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        for path in (home, *home.rglob("*")):
            path.chmod(0o700)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "written: " in done.stdout
    assert content(home) == before


def test_models_of_another_version_of_the_code_are_refused(
    trained: Settings, here: Settings, tmp_path: Path
) -> None:
    old = settings_of(tmp_path, "old")
    fill_home(old, THERE, seed=1)
    train(old)
    with Warehouse(old.warehouse_path).write() as writer:
        writer.execute("update fold_models set code_version = '1'")
    with pytest.raises(NotApplicable, match="trained by version 1 of the training code"):
        predict(here, old)


def test_what_the_other_home_says_about_paths_and_commands_is_not_followed(
    trained: Settings, here: Settings, tmp_path: Path
) -> None:
    foreign = settings_of(tmp_path, "foreign")
    fill_home(foreign, THERE, seed=1)
    train(foreign)
    with Warehouse(foreign.warehouse_path).write() as writer:
        writer.execute("update fold_models set weights = '../../../elsewhere/model.safetensors'")
    (foreign.home / "iss.toml").write_text(
        f"[warehouse]\nkey_command = {json.dumps(f'touch {tmp_path}/run')}\n[video]\nfps = 3\n"
    )
    assert predict(here, foreign).made
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("which", ["there", "here", "both"])
def test_encrypted_homes_need_the_key_of_each(which: str, tmp_path: Path) -> None:
    keys = {}
    made = {}
    for name, ids, seed in (("there", THERE, 1), ("here", HERE, 2)):
        if which in (name, "both"):
            keys[name] = tmp_path / f"{name}.key"
            write_key(keys[name], new_key())
        made[name] = settings_of(tmp_path, name, warehouse=WarehouseSettings(key_file=keys.get(name)))
        fill_home(made[name], ids, seed)
    train(made["there"])
    write_folder(made["here"], HERE)
    if "there" in keys:
        with pytest.raises(KeyProblem, match="is encrypted: name its key with --models-key"):
            open_models(made["there"].home, made["here"])
    else:
        with pytest.raises(KeyProblem, match="is not encrypted"):
            open_models(made["there"].home, made["here"], keys["here"])
    opened = open_models(made["there"].home, made["here"], keys.get("there"))
    assert validate_externally(made["here"], opened).made
    assert rows(made["here"], "select carries_over from external_results") == [{"carries_over": "yes"}]


def test_the_models_are_read_from_their_home_where_this_studys_tables_are_shared(
    trained: Settings, tmp_path: Path
) -> None:
    shared = WarehouseSettings(catalog="postgres:host=db dbname=iss", data_path=str(tmp_path))
    opened = open_models(trained.home, settings_of(tmp_path, "here", warehouse=shared))
    assert not opened.warehouse.shared and opened.warehouse.path == trained.warehouse_path


def test_a_withdrawal_removes_what_was_predicted_and_the_next_call_predicts_the_others(
    trained: Settings, here: Settings
) -> None:
    predict(here, trained)
    store = Warehouse(here.warehouse_path)
    made_again: list[Removed] = []
    remove_rows(store, Traces("H001"), Scope.ALL, made_again.append)
    assert made_again[0].made_again["external_patients"] == len(HERE)
    assert rows(here, "select * from external_patients") == []
    assert predict(here, trained).made
    left = {row["patient_id"] for row in rows(here, "select patient_id from external_patients")}
    assert left == set(HERE) - {"H001"}


def test_the_command_says_what_it_did_and_ends_with_status_two_where_it_cannot(
    trained: Settings, here: Settings
) -> None:
    def call(*more: str) -> Any:
        arguments = [
            "predict",
            "--models",
            str(trained.home),
            "--study",
            str(here.study),
            "--home",
            str(here.home),
            *more,
        ]
        return CliRunner().invoke(main.app, arguments, env={"ISS_EVALUATION__BOOTSTRAP_SAMPLES": "299"})

    first, second = call(), call()
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert "forest_pain: 4 models predict" in first.output and "written: " in first.output
    assert "nothing has changed: " in second.output
    wrong = call("--profile", "demo")
    assert wrong.exit_code == 2 and "--profile paper" in wrong.output
    assert str(trained.home) not in wrong.output
