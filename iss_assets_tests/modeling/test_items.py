from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from iss_assets.modeling.experiments import BY_NAME, EXPERIMENTS, experiment
from iss_assets.modeling.fitting import columns_of
from iss_assets.modeling.items import (
    ANSWERS,
    SCORE_COLUMNS,
    EncodedFaces,
    Items,
    Preparation,
    class_weights,
    evenly_spaced,
    fit_preparation,
    make_items,
)
from iss_assets.schemas.behavior import BEHAVIOR_MEASURES
from iss_assets.schemas.voice import VOICE_FEATURES
from iss_assets.schemas.words import TEXT_MEASURES
from iss_assets_tests.modeling.conftest import as_png, planted_items

PAIN = experiment("forest_pain")


def scores_of(*answers: float, weight: list[float] | None = None) -> Items:
    scores = np.zeros((len(answers), len(SCORE_COLUMNS)), np.float32)
    scores[:, 0] = answers
    n = len(answers)
    return make_items(
        PAIN,
        [f"{i:04d}" for i in range(n)],
        [f"s{i}" for i in range(n)],
        ["None"] * n,
        {"scores": scores},
        weight=None if weight is None else np.array(weight),
    )


def test_the_eight_models_of_table_5_and_our_own_are_declared_with_their_inputs() -> None:
    assert list(BY_NAME) == [
        "resnet50_4_static", "resnet50_2_static", "forest_landmarks", "forest_pain", "fusion_1", "fusion_2",
        "fusion_3", "audio_static", "embedding_probe",
        "forest_voice", "forest_behavior", "forest_text", "forest_measures",
        "mil_embeddings", "mil_mesh", "mil_behavior",
    ]  # fmt: skip
    assert [e.paper_number for e in EXPERIMENTS] == [1, 1, 2, 3, 4, 5, 6, 7, *[None] * 8]
    assert experiment("fusion_3").inputs == ("faces", "landmarks", "scores")
    assert experiment("resnet50_4_static").class_names == ("None", "Low", "Moderate", "Severe")
    assert experiment("audio_static").target("Low") == "Pain"
    with pytest.raises(ValueError, match="there are resnet50_4_static, "):
        experiment("resnet51")


def test_targets_follow_from_levels_in_two_and_in_four_classes() -> None:
    four = planted_items(experiment("resnet50_4_static"), each=1)
    two = planted_items(experiment("resnet50_2_static"), each=1)
    assert four.target.tolist() == [0, 3, 1, 2]
    assert two.target.tolist() == [0, 1, 1, 1]


def test_the_items_of_some_patients_keep_order_and_inputs() -> None:
    items = planted_items(PAIN, patients=5, each=3)
    some = items.of(["0003", "0001"])
    assert some.patients == ["0001", "0003"]
    assert some.patient_id.tolist() == ["0001"] * 3 + ["0003"] * 3
    assert np.array_equal(
        np.asarray(some.inputs["scores"]), np.asarray(items.inputs["scores"])[[3, 4, 5, 9, 10, 11]]
    )
    assert len(items.of([])) == 0


def test_items_with_missing_inputs_or_unequal_lengths_are_rejected() -> None:
    with pytest.raises(ValueError, match="needs the input scores"):
        make_items(PAIN, ["0001"], ["s"], ["None"], {})
    with pytest.raises(ValueError, match="scores has 2 rows and target has 1"):
        make_items(PAIN, ["0001"], ["s"], ["None"], {"scores": np.zeros((2, 15), np.float32)})


def test_missing_answers_get_the_training_sides_median_and_a_flag() -> None:
    train = scores_of(2, 4, 9, np.nan)
    prepared = fit_preparation(train, scaled=False)
    test = scores_of(np.nan, 7)
    scores = prepared.vectors(test)["scores"]
    assert scores.shape == (2, len(SCORE_COLUMNS) + 1)
    assert scores[:, 0].tolist() == [4, 7]
    assert scores[:, -1].tolist() == [1, 0]


def test_medians_and_scales_do_not_change_with_the_test_side() -> None:
    train = scores_of(1, 2, 3)
    prepared = fit_preparation(train, scaled=True)
    alone = prepared.vectors(scores_of(np.nan))["scores"]
    beside_extremes = prepared.vectors(scores_of(np.nan, 10, 10, 10))["scores"][:1]
    assert np.array_equal(alone, beside_extremes)
    assert prepared.medians[0] == 2
    assert prepared.centre["scores"][0] == pytest.approx(2)
    assert prepared.scale["scores"][0] == pytest.approx(np.std([1, 2, 3]))


def test_a_median_counts_each_submission_by_its_frames() -> None:
    assert fit_preparation(scores_of(1, 9, weight=[1, 10]), scaled=False).medians[0] == 9


def test_an_answer_missing_for_all_patients_is_filled_with_zero_and_flagged() -> None:
    prepared = fit_preparation(scores_of(np.nan, np.nan), scaled=False)
    assert prepared.vectors(scores_of(np.nan))["scores"][0, [0, -1]].tolist() == [0, 1]


def test_missing_measures_get_the_training_sides_median_and_a_flag_and_can_be_stored() -> None:
    forest = experiment("forest_voice")
    values = np.tile(np.arange(len(VOICE_FEATURES), dtype=np.float32), (4, 1))
    values[:, 0], values[:, 1] = (1, 2, 9, np.nan), np.nan
    names = [f"{i:04d}" for i in range(4)]
    items = make_items(forest, names, names, ["None"] * 4, {"voice": values})
    prepared = fit_preparation(items.take(np.arange(3)), scaled=False)
    again = Preparation.from_arrays(prepared.arrays())
    vectors = again.vectors(items)["voice"]

    assert vectors.shape == (4, len(VOICE_FEATURES) + 1)
    assert vectors[:, 0].tolist() == [1, 2, 9, 2]
    assert vectors[:, 1].tolist() == [0, 0, 0, 0]  # never measured on the training side
    assert vectors[:, 2].tolist() == [2, 2, 2, 2]
    assert vectors[:, -1].tolist() == [1, 1, 1, 1]
    assert not prepared.centre


def test_a_forest_on_all_measures_gets_the_columns_and_the_flag_of_each() -> None:
    forest = experiment("forest_measures")
    items = planted_items(forest, each=2)
    prepared = fit_preparation(items, scaled=False)
    wide = columns_of(forest, prepared, items)
    assert wide.shape == (8, len(VOICE_FEATURES) + 1 + len(BEHAVIOR_MEASURES) + 1 + len(TEXT_MEASURES) + 1)
    assert wide[:, len(VOICE_FEATURES)].tolist() == [0] * 8


def test_forests_get_unscaled_values_and_landmarks_stay_raw() -> None:
    items = planted_items(experiment("fusion_2"), each=3)
    raw = fit_preparation(items, scaled=False).vectors(items)
    scaled = fit_preparation(items, scaled=True).vectors(items)
    assert np.array_equal(raw["scores"][:, :-1], np.asarray(items.inputs["scores"]))
    assert np.array_equal(scaled["landmarks"], np.asarray(items.inputs["landmarks"]))
    assert np.abs(scaled["scores"].mean(axis=0)).max() < 1e-5


def test_a_preparation_can_be_stored_and_loaded() -> None:
    prepared = fit_preparation(planted_items(experiment("fusion_2"), each=3), scaled=True)
    again = Preparation.from_arrays(prepared.arrays())
    assert np.array_equal(again.medians, prepared.medians)
    assert np.array_equal(again.centre["scores"], prepared.centre["scores"])
    assert len(prepared.medians) == ANSWERS


def test_class_weights_balance_the_present_classes() -> None:
    weights = class_weights(np.array([0, 0, 0, 1]), np.ones(4), 4)
    assert weights.tolist() == pytest.approx([4 / 6, 2, 0, 0])


@pytest.mark.parametrize(("n", "limit"), [(10, 3), (3, 10), (0, 5), (7, 7), (1000, 24), (5, None)])
def test_evenly_spaced_indices_are_distinct_sorted_and_in_range(n: int, limit: int | None) -> None:
    places = evenly_spaced(n, limit)
    assert len(places) == (n if limit is None else min(n, limit))
    assert np.array_equal(places, np.unique(places))
    assert not len(places) or (places[0] >= 0 and places[-1] < n)


def test_encoded_faces_decode_to_the_same_pixels_and_resize_on_the_way() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (5, 40, 40, 3)).astype(np.uint8)
    files = pa.array([as_png(p) for p in pictures], pa.large_binary())
    faces = EncodedFaces(files, 40)
    assert faces.shape == (5, 40, 40, 3)
    assert np.array_equal(faces.decode(), pictures)
    assert np.array_equal(faces[np.array([4, 1])], pictures[[4, 1]])
    assert np.array_equal(faces.select(np.array([2])).decode(), pictures[[2]])
    assert EncodedFaces(files, 20).decode().shape == (5, 20, 20, 3)
    assert faces.decoded_bytes == pictures.nbytes


def test_faces_from_a_chunked_array_are_decoded_without_concatenation() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (6, 40, 40, 3)).astype(np.uint8)
    files = pa.chunked_array(
        [pa.array([as_png(p) for p in two], pa.large_binary()) for two in np.split(pictures, 3)]
    )
    faces = EncodedFaces(files, 40)
    usual, watched = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(watched)
    try:
        picked = faces.select(np.array([5, 0, 2])).fetch(np.array([2, 0, 0])).decode()
    finally:
        pa.set_memory_pool(usual)
    assert np.array_equal(picked, pictures[[2, 5, 5]])
    assert (watched.max_memory() or 0) < files.nbytes / 10


def test_a_crop_that_is_not_a_picture_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="extract this patient's faces again"):
        EncodedFaces(pa.array([b"no picture"]), 40).decode()
