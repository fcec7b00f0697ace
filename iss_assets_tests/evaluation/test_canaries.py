"""Alarms for leakage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Executor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from iss_assets.evaluation.canaries import (
    LeakageReport,
    check_leakage,
    identity_probe,
    leakage_canary,
    quality_associations,
    shuffled_labels_canary,
)
from iss_assets.evaluation.permutation import FitPredict
from iss_assets.protocol import terms
from iss_assets.schemas.evaluation import CanaryResults, QualityAssociations
from iss_assets.settings import EvaluationSettings

SETTINGS = EvaluationSettings(shuffle_repeats=8)


@pytest.fixture
def splits() -> pd.DataFrame:
    return pd.DataFrame({"patient_id": list("abcd"), "split": [1, 1, 2, 2]})


@pytest.fixture
def videos() -> pd.DataFrame:
    return pd.DataFrame({"patient_id": list("abcd"), "sha256": ["1", "2", "3", "4"]})


@pytest.fixture
def frames() -> pd.DataFrame:
    return pd.DataFrame({"patient_id": list("aabbccdd"), "picture_hash": range(8), "contrast": 0.2})


def kinds(report: LeakageReport) -> dict[str, tuple[list[str], int]]:
    return {leak["kind"]: (leak["patients"], leak["count"]) for leak in report.leaks}


def test_splits_that_share_nothing_are_clean(
    splits: pd.DataFrame, videos: pd.DataFrame, frames: pd.DataFrame
) -> None:
    report = check_leakage(splits, videos, frames)
    assert report.clean
    assert (report.patients, report.videos, report.frames) == (4, 4, 8)
    assert "no identical frame" in report.sentence()


def test_a_patient_in_two_splits_is_found(
    splits: pd.DataFrame, videos: pd.DataFrame, frames: pd.DataFrame
) -> None:
    twice = pd.concat([splits, pd.DataFrame({"patient_id": ["a"], "split": [2]})])
    assert kinds(check_leakage(twice, videos, frames)) == {"patient": (["a"], 1)}


def test_one_file_submitted_for_patients_of_two_splits_is_found(
    splits: pd.DataFrame, videos: pd.DataFrame, frames: pd.DataFrame
) -> None:
    videos.loc[2, "sha256"] = "1"
    assert kinds(check_leakage(splits, videos, frames)) == {"video": (["a", "c"], 1)}


def test_one_file_shared_within_a_split_is_no_leak(
    splits: pd.DataFrame, videos: pd.DataFrame, frames: pd.DataFrame
) -> None:
    videos.loc[1, "sha256"] = "1"
    assert check_leakage(splits, videos, frames).clean


def test_an_identical_frame_in_two_splits_is_found_unless_it_is_flat(
    splits: pd.DataFrame, videos: pd.DataFrame, frames: pd.DataFrame
) -> None:
    frames.loc[7, "picture_hash"] = 0
    assert kinds(check_leakage(splits, videos, frames)) == {"frame": (["a", "d"], 1)}
    frames.loc[[0, 7], "contrast"] = 0.0
    report = check_leakage(splits, videos, frames)
    assert report.clean and report.flat_frames == 2


def test_files_of_patients_outside_the_splits_do_not_matter(
    splits: pd.DataFrame, videos: pd.DataFrame, frames: pd.DataFrame
) -> None:
    more = pd.concat([videos, pd.DataFrame({"patient_id": ["x"], "sha256": ["1"]})])
    assert check_leakage(splits, more, frames).clean


def test_a_model_trained_on_its_test_patient_is_found(
    splits: pd.DataFrame, videos: pd.DataFrame, frames: pd.DataFrame
) -> None:
    models = pd.DataFrame(
        {"experiment": "m", "split": [1, 2], "train_patients": [["c", "d"], ["a", "b", "d"]]}
    )
    assert kinds(check_leakage(splits, videos, frames, models)) == {"trained_on_test": (["d"], 1)}


def test_a_leak_becomes_a_failed_canary_that_names_only_patients(
    splits: pd.DataFrame, videos: pd.DataFrame, frames: pd.DataFrame
) -> None:
    videos.loc[2, "sha256"] = "1"
    row = leakage_canary(check_leakage(splits, videos, frames))
    assert row["passed"] is False and row["value"] == 1.0 and "patients a, c" in row["detail"]
    assert CanaryResults.check_rows(CanaryResults.from_rows([row])).num_rows == 1


def test_a_canary_neither_passes_nor_fails_if_nothing_was_compared(
    splits: pd.DataFrame, videos: pd.DataFrame, frames: pd.DataFrame
) -> None:
    row = leakage_canary(check_leakage(splits, videos, frames.iloc[:0]))
    assert row["passed"] is None and row["detail"].startswith("Nothing was compared")


def nearest_neighbour(features: dict[str, np.ndarray], leaky: bool) -> FitPredict:
    """A 1-NN on patients' videos; the leaky one may look at the patient's own other videos."""

    def fit_predict(levels: Mapping[str, str], place: Mapping[str, int]) -> pa.Table:
        rows = []
        for patient, own in features.items():
            for number, video in enumerate(own):
                best, said = np.inf, ""
                for other, theirs in features.items():
                    if other == patient and not leaky:
                        continue
                    if place[other] == place[patient] and other != patient:
                        continue
                    for n, candidate in enumerate(theirs):
                        if other == patient and n == number:
                            continue
                        distance = float(((candidate - video) ** 2).sum())
                        if distance < best:
                            best, said = distance, terms.pain_class(levels[other])
                rows.append(
                    {"patient_id": patient, "predicted": said, "pain_probability": 0.5, "weight": 1.0}
                )
        return pa.Table.from_pylist(rows)

    return fit_predict


@pytest.fixture(scope="module")
def people() -> tuple[dict[str, np.ndarray], dict[str, int], dict[str, str]]:
    """Sixteen patients with a place of their own in feature space, and labels that it says nothing about."""
    rng = np.random.default_rng(5)
    names = [f"p{n:02d}" for n in range(16)]
    features = {p: rng.normal(0, 3, 4) + rng.normal(0, 0.1, (3, 4)) for p in names}
    levels = dict(zip(names, ["None", "Severe"] * 8, strict=True))
    return features, {p: n % 8 + 1 for n, p in enumerate(names)}, levels


def test_an_honest_model_drops_to_chance_on_shuffled_labels(
    people: tuple[dict[str, np.ndarray], dict[str, int], dict[str, str]], pool: Executor
) -> None:
    features, place, levels = people
    row = shuffled_labels_canary(
        "m", levels, place, 2, nearest_neighbour(features, leaky=False), SETTINGS, pool, 2
    )
    assert row["passed"] and row["value"] < row["limit_value"]


def test_a_planted_leak_stays_accurate_on_shuffled_labels_and_is_detected(
    people: tuple[dict[str, np.ndarray], dict[str, int], dict[str, str]], pool: Executor
) -> None:
    features, place, levels = people
    row = shuffled_labels_canary(
        "m", levels, place, 2, nearest_neighbour(features, leaky=True), SETTINGS, pool, 2
    )
    assert row["value"] == 1.0 and row["passed"] is False


def test_the_probe_distinguishes_recognition_of_persons_from_recognition_of_pain(
    people: tuple[dict[str, np.ndarray], dict[str, int], dict[str, str]],
) -> None:
    features, place, levels = people
    frame = pd.DataFrame(
        [(p, f"{p}-{n}", *row) for p, own in features.items() for n, row in enumerate(own)],
        columns=["patient_id", "video_id", "f0", "f1", "f2", "f3"],
    )
    frame.loc[0, "f0"] = np.nan
    splits = pd.DataFrame({"patient_id": list(place), "split": list(place.values())})
    identity, leaky = identity_probe("faces", frame, levels, splits)
    assert identity["value"] > 0.95 and identity["limit_value"] == pytest.approx(1 / 16)
    assert leaky["value"] > 0.95 and leaky["limit_value"] < 0.8
    assert CanaryResults.check_rows(CanaryResults.from_rows([identity, leaky])).num_rows == 2


def test_the_probe_finds_pain_across_patients_if_features_contain_it(
    people: tuple[dict[str, np.ndarray], dict[str, int], dict[str, str]],
) -> None:
    features, place, levels = people
    frame = pd.DataFrame(
        [(p, f"{p}-{n}", 10.0 * (levels[p] != "None") + 0.01 * n) for p in features for n in range(2)],
        columns=["patient_id", "video_id", "f"],
    )
    splits = pd.DataFrame({"patient_id": list(place), "split": list(place.values())})
    _, leaky = identity_probe("planted", frame, levels, splits)
    assert leaky["limit_value"] == 1.0


def test_patients_with_one_video_cannot_be_probed(splits: pd.DataFrame) -> None:
    frame = pd.DataFrame({"patient_id": ["a", "b"], "video_id": ["v", "w"], "f": [1.0, 2.0]})
    assert identity_probe("faces", frame, {"a": "None", "b": "Low"}, splits) == []


def test_quality_associated_with_pain_matches_a_manual_calculation() -> None:
    """Means of light: pain 0.2, 0.3; none 0.3, 0.5: pain higher in 0.5 of 4 pairs."""
    light = {"a": [0.1, 0.3], "b": [0.3], "c": [0.3], "d": [0.4, 0.6]}
    quality = pd.DataFrame(
        [
            (p, f"{p}{n}", None, None, json.dumps({"luminance": v}))
            for p, values in light.items()
            for n, v in enumerate(values)
        ],
        columns=["patient_id", "video_id", "face_rate", "landmark_rate", "measures"],
    )
    table = quality_associations(quality, {"a": "Low", "b": "Severe", "c": "None", "d": "None"})
    rows = {r["measure"]: r for r in QualityAssociations.check_rows(table).to_pylist()}
    assert rows["luminance"]["auroc"] == pytest.approx(0.5 / 4)
    assert rows["luminance"]["patients"] == 4
    assert rows["luminance"]["p_value_holm"] == rows["luminance"]["p_value"]
    assert rows["face_rate"]["auroc"] is None and rows["face_rate"]["p_value_holm"] is None
