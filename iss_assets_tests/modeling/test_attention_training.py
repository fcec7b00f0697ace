"""Training on whole videos: patients weigh the same, a planted stretch is found, and a null is not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from iss_assets.datasets.items import load_items
from iss_assets.modeling.attention_training import balanced_order, patient_weights
from iss_assets.modeling.experiments import EXPERIMENTS, Experiment, experiment
from iss_assets.modeling.fitting import attention_of_fold, fit_fold, predict_fold
from iss_assets.modeling.items import make_items
from iss_assets.modeling.series import (
    Series,
    concatenated,
    join_series,
    mean_by_instance,
    scale_of_series,
    starts_of,
)
from iss_assets.settings import FaceSettings, TrainingSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.modeling.planted_videos import planted_videos

MIL = [e for e in EXPERIMENTS if e.has_attention]
SETTINGS = TrainingSettings(attention_epochs=25, attention_learning_rate=3e-3)


def split(chosen: Experiment, folder: Path, effect: float, seed: int = 0) -> tuple[float, float, float]:
    """Train on two thirds of the patients; return accuracy, attention to the planted stretch, and its share of instances."""
    made = planted_videos(chosen, patients=36, effect=effect, seed=seed)
    test = [p for p in made.items.patients if int(p) % 12 < 4]
    fold = fit_fold(
        chosen, made.items.of([p for p in made.items.patients if p not in test]), SETTINGS, folder
    )
    of_test = np.isin(made.items.patient_id, test)
    rows = predict_fold(chosen, fold, made.items.take(of_test), SETTINGS)
    attention = attention_of_fold(chosen, fold, made.items.take(of_test), SETTINGS)
    series = made.items.series[chosen.inputs[0]]
    planted = made.planted[series.rows_of(np.flatnonzero(of_test))]
    right = np.mean(np.array(rows["predicted"].to_pylist()) == np.array(rows["target"].to_pylist()))
    share = float(attention["attention"].to_numpy()[planted].sum()) / len(rows)
    return float(right), share, float(np.mean(planted))


def test_each_patient_gives_an_epoch_the_same_number_of_videos() -> None:
    patients = np.repeat(["a", "b", "c"], [1, 5, 40])
    drawn = np.concatenate([balanced_order(patients, 4, seed=7, epoch=e) for e in range(1, 11)])
    for epoch in range(1, 11):
        order = balanced_order(patients, 4, seed=7, epoch=epoch)
        assert Counter(patients[order].tolist()) == {"a": 4, "b": 4, "c": 4}
    times = Counter(drawn.tolist())
    assert times[0] == 40
    assert {times[v] for v in range(1, 6)} == {8}
    assert {times[v] for v in range(6, 46)} == {1}, "each video is drawn before one is drawn again"
    assert not np.array_equal(balanced_order(patients, 4, 7, 1), balanced_order(patients, 4, 7, 2))
    assert np.array_equal(balanced_order(patients, 4, 7, 1), balanced_order(patients, 4, 7, 1))


def test_all_patients_weigh_the_same() -> None:
    assert patient_weights(np.array(["a", "b", "b", "b", "b"])).tolist() == [1, 0.25, 0.25, 0.25, 0.25]


@pytest.mark.parametrize("chosen", MIL, ids=lambda e: e.name)
def test_a_planted_stretch_is_found_in_patients_who_were_left_out(chosen: Experiment, tmp_path: Path) -> None:
    right, attention, chance = split(chosen, tmp_path, effect=4.0)
    assert right > 0.7
    assert attention > 2.5 * chance


@pytest.mark.parametrize("chosen", [e for e in MIL if e.over_time != "gru"], ids=lambda e: e.name)
def test_nothing_is_found_where_nothing_is_planted(chosen: Experiment, tmp_path: Path) -> None:
    found = [split(chosen, tmp_path / str(seed), effect=0.0, seed=seed) for seed in range(3)]
    right, attention, chance = np.mean(found, axis=0)
    assert right < 0.4, "four levels: a quarter are right by chance"
    assert attention < 1.3 * chance


def test_the_same_seed_trains_the_same_model_and_another_one_does_not(tmp_path: Path) -> None:
    chosen = experiment("mil_behavior")
    items = planted_videos(chosen, patients=8).items
    short = TrainingSettings(attention_epochs=2)
    one, same, other = (
        fit_fold(chosen, items, settings, tmp_path / name).weights.read_bytes()
        for name, settings in (
            ("one", short), ("same", short), ("other", TrainingSettings(attention_epochs=2, seed=1)),
        )
    )  # fmt: skip
    assert one == same
    assert one != other


def test_attention_is_stored_with_the_seconds_it_is_about_and_adds_up_to_one(tmp_path: Path) -> None:
    chosen = experiment("mil_mesh")
    settings = TrainingSettings(attention_epochs=1, instance_s=2.0)
    items = planted_videos(chosen, patients=4).items
    fold = fit_fold(chosen, items, settings, tmp_path)
    rows = attention_of_fold(chosen, fold, items, settings).to_pandas()
    assert np.allclose(rows.groupby("video_id")["attention"].sum(), 1)
    assert (rows["end_s"] - rows["start_s"] == 2).all() and (rows["start_s"] == rows["instance"] * 2).all()
    assert (rows.groupby("video_id")["patient_id"].nunique() == 1).all()


def test_another_experiment_on_whole_videos_is_one_entry(study: Warehouse, tmp_path: Path) -> None:
    """With two classes and two series, from the warehouse to predictions and attention."""
    entry = Experiment(
        "mil_face", None, "Face", ("mesh_series", "behavior_series"), "video", 2, "attention", "gru"
    )
    settings = TrainingSettings(attention_epochs=1, instance_s=0.1)
    items = load_items(study, entry, settings, FaceSettings())
    fold = fit_fold(entry, items.of(["0001", "0002"]), settings, tmp_path)
    rows = predict_fold(entry, fold, items.of(["0003"]), settings)
    assert rows["video_id"].to_pylist() == ["s3a", "s3b"]
    assert rows["target"].to_pylist() == ["Pain", "Pain"]
    pain = np.array(rows["pain_probability"])
    assert ((pain > 0) & (pain < 1)).all()
    attention = attention_of_fold(entry, fold, items.of(["0003"]), settings)
    assert attention["instance"].to_pylist() == [0, 1, 2, 3] * 2


def test_an_experiment_without_attention_has_no_attention(tmp_path: Path) -> None:
    assert (
        attention_of_fold(
            experiment("forest_pain"), tmp_path, planted_videos(MIL[0]).items, SETTINGS
        ).num_rows
        == 0
    )


def test_samples_are_averaged_over_their_instance_and_what_was_not_measured_is_left_out() -> None:
    values = np.array([[1, 1], [3, np.nan], [5, np.nan], [7, 7]])
    mean, video, number = mean_by_instance(values, np.array([0, 0, 1, 0]), np.array([2, 2, 0, 1]))
    assert (video.tolist(), number.tolist()) == ([0, 0, 1], [1, 2, 0])
    assert np.array_equal(mean, np.array([[7, 7], [2, 1], [5, np.nan]]), equal_nan=True)


def test_several_series_have_the_same_instances() -> None:
    first = (np.array([[1.0], [2.0]]), np.array([0, 0]), np.array([0, 2]))
    second = (np.array([[5.0], [6.0], [7.0]]), np.array([0, 0, 2]), np.array([1, 2, 4]))
    joined = join_series({"one": first, "two": second}, videos=3, most=300)
    assert joined["one"].lengths.tolist() == [3, 0, 1]
    assert joined["one"].number.tolist() == [0, 1, 2, 4]
    assert np.array_equal(joined["one"].values[:, 0], [1, np.nan, 2, np.nan], equal_nan=True)
    assert np.array_equal(joined["two"].values[:, 0], [np.nan, 5, 6, 7], equal_nan=True)


def test_a_video_with_too_many_instances_keeps_some_evenly_spaced() -> None:
    long = (np.arange(10.0)[:, None], np.zeros(10, np.int64), np.arange(10))
    kept = join_series({"one": long}, videos=1, most=3)["one"]
    assert kept.number.tolist() == [1, 5, 8]


def test_patients_are_joined_one_after_the_other_also_where_one_lacks_a_series() -> None:
    def part(*values: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numbers = np.arange(len(values))
        return np.array(values, np.float32)[:, None], np.zeros(len(values), np.int64), numbers

    nothing = (np.zeros((0, 0), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    patients = [
        join_series({"one": part(1, 2), "two": part(3)}, videos=1, most=300),
        join_series({"one": nothing, "two": part(4)}, videos=2, most=300),
        join_series({"one": nothing, "two": nothing}, videos=1, most=300),
        join_series({"one": part(5), "two": nothing}, videos=1, most=300),
    ]
    one, two = (concatenated([own[name] for own in patients]) for name in ("one", "two"))
    for found, values in ((one, [1, 2, np.nan, 5]), (two, [3, np.nan, 4, np.nan])):
        np.testing.assert_array_equal(found.values, np.array(values, np.float32)[:, None])
        assert found.lengths.tolist() == [2, 1, 0, 0, 1] and found.number.tolist() == [0, 1, 0, 0]
    assert len(concatenated([])) == 0


def test_scales_give_every_patient_the_same_weight() -> None:
    values = np.array([[0.0], [0], [0], [0], [4], [np.nan]], np.float32)
    series = Series(values, np.arange(6, dtype=np.int32), starts_of(np.array([3, 1, 2])))
    mean, deviation = scale_of_series(series, np.array(["a", "a", "b"]))
    assert mean.tolist() == [2]
    assert deviation.tolist() == [2]


def test_the_videos_of_a_series_can_be_taken_in_any_order() -> None:
    items = planted_videos(MIL[0], patients=3).items
    name = MIL[0].inputs[0]
    chosen = items.take(np.array([4, 0]))
    whole, some = items.series[name], chosen.series[name]
    expected = np.concatenate([whole.values[whole.starts[v] : whole.starts[v + 1]] for v in (4, 0)])
    assert np.array_equal(some.values, expected)
    with pytest.raises(ValueError, match="mesh_series has 9 rows and target has 1"):
        make_items(
            experiment("mil_mesh"), ["a"], ["v"], ["None"], {}, series={"mesh_series": whole}
        )  # fmt: skip
