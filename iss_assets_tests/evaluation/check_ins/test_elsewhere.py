"""Models of one study's check-ins, applied to another study's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from iss_assets.evaluation.check_ins.claims import FOLLOWS
from iss_assets.evaluation.check_ins.design import Filmed
from iss_assets.evaluation.check_ins.study import CheckInInputs, evaluate_elsewhere, left_out_elsewhere
from iss_assets.modeling.series import Series
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import InventedCheckIns, invent_check_ins

SETTINGS = CheckInSettings(targets=("pain_now",), bootstrap_samples=199, permutations=999, trees=3)


@pytest.fixture(scope="module")
def there() -> InventedCheckIns:
    return invent_check_ins(29, 8, effect=0.8, seed=1)


def inputs(study: InventedCheckIns) -> CheckInInputs:
    return CheckInInputs(study.bpi_scores, study.splits, study.measures)


def applied(there: CheckInInputs, here: CheckInInputs) -> dict[str, pd.DataFrame]:
    return {name: table.to_pandas() for name, table in evaluate_elsewhere(there, here, SETTINGS).items()}


def follows(tables: dict[str, pd.DataFrame]) -> str:
    claims = tables["check_in_claims"]
    row = claims[(claims["claim"] == FOLLOWS) & (claims["model"] == "pain_now_ridge")]
    return str(row["verdict"].item())


def test_a_sign_that_is_here_too_is_followed_and_one_that_is_not_is_not(there: InventedCheckIns) -> None:
    same = applied(inputs(there), inputs(invent_check_ins(15, 8, effect=0.8, seed=2)))
    reverse = applied(inputs(there), inputs(invent_check_ins(15, 8, effect=-0.8, seed=2)))
    assert (follows(same), follows(reverse)) == ("yes", "no")
    metrics = same["check_in_metrics"].set_index(["known", "model", "metric"])["estimate"]
    backward = reverse["check_in_metrics"].set_index(["known", "model", "metric"])["estimate"]
    # what is learned rightly has the right size; what is learned the wrong way round is worse than nothing
    assert metrics[3, "pain_now_ridge", "calibration_slope"] == pytest.approx(1, abs=0.25)
    assert backward[3, "pain_now_ridge", "calibration_slope"] < 0.5
    assert same["check_in_added_value"].empty
    assert set(same["check_in_benefits"]["acted_on"]) >= {"pain_now_ridge", "everyone", "room_and_phone"}


def test_nothing_is_learned_here(there: InventedCheckIns) -> None:
    here = invent_check_ins(15, 8, effect=0.8, seed=2)
    answered_otherwise = here.bpi_scores.assign(pain_now=9.0)
    first, other = (
        applied(inputs(there), replace(inputs(here), bpi_scores=scores))["check_in_predictions"]
        for scores in (here.bpi_scores, answered_otherwise)
    )
    new = [f[(f["known"] == 0) & (f["kind"] == "model")]["predicted"].to_numpy() for f in (first, other)]
    assert new[0] == pytest.approx(new[1])


def test_ranges_are_as_wide_as_the_errors_in_the_other_study(there: InventedCheckIns) -> None:
    here = invent_check_ins(15, 8, effect=0.8, seed=2)
    far = here.bpi_scores.assign(pain_now=lambda f: (f["pain_now"] - 4).clip(0))
    usual, moved = (
        applied(inputs(there), replace(inputs(here), bpi_scores=scores))["check_in_metrics"].set_index(
            ["known", "model", "metric"]
        )["estimate"]
        for scores in (here.bpi_scores, far)
    )
    assert usual[0, "pain_now_ridge", "covered"] > 0.8
    # patients of another kind: the range does not grow with the errors here, and the page says how few it holds
    assert moved[0, "pain_now_ridge", "covered"] < usual[0, "pain_now_ridge", "covered"] - 0.2


def test_measures_that_one_study_lacks_are_not_used(there: InventedCheckIns) -> None:
    here = inputs(invent_check_ins(15, 8, effect=0.8, seed=2))
    without_sign = here.measures["voice"].drop(columns="voice.sign")
    fewer = replace(here, measures={**here.measures, "voice": without_sign})
    assert follows(applied(inputs(there), here)) == "yes"
    assert follows(applied(inputs(there), fewer)) != "yes"


def test_what_only_one_of_the_studies_has_is_named(there: InventedCheckIns) -> None:
    def with_pictures(one: CheckInInputs, network: str) -> CheckInInputs:
        series = Series(np.zeros((1, 2), np.float32), np.zeros(1, np.int32), np.array([0]))
        return replace(one, series={"embedding_series": Filmed(("a",), series, network)})

    one, other = inputs(there), inputs(invent_check_ins(15, 8, effect=0.8, seed=2))
    network = "pain_now_attention"
    pictures = with_pictures(one, "vggface2 512")
    assert left_out_elsewhere(pictures, with_pictures(other, "vggface2 512"), SETTINGS) == {}
    for trained, here, why in (
        (one, other, "the training study and this study have no embeddings of usable videos"),
        (one, with_pictures(other, "x"), "the training study has no embeddings of usable videos"),
        (pictures, other, "this study has no embeddings of usable videos"),
        (
            pictures,
            with_pictures(other, "imagenet 2048"),
            "embeddings were made by another network here than in the training study",
        ),
    ):
        assert left_out_elsewhere(trained, here, SETTINGS) == {network: why}
    # a target without a network asks for no pictures
    assert left_out_elsewhere(one, other, SETTINGS.model_copy(update={"targets": ("sleep",)})) == {}

    voice = other.measures["voice"]
    fewer = replace(other, measures={**other.measures, "voice": voice.drop(columns=voice.columns[-1])})
    of = len(voice.columns) - 2
    found = left_out_elsewhere(pictures, with_pictures(fewer, "vggface2 512"), SETTINGS)
    assert found == {"check-ins: voice": f"1 of {of} measures, which only one of the studies has"}
    silent = replace(other, measures={n: m for n, m in other.measures.items() if n != "voice"})
    found = left_out_elsewhere(with_pictures(silent, "vggface2 512"), pictures, SETTINGS)
    assert found == {"check-ins: voice": f"{of} of {of} measures, which only one of the studies has"}
