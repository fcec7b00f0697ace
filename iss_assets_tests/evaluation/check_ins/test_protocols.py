"""Nobody is predicted by a model that has seen them; of a known patient only earlier check-ins are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from iss_assets.evaluation.check_ins import protocols
from iss_assets.evaluation.check_ins.design import check_ins, design
from iss_assets.evaluation.check_ins.learners import fit_ridge
from iss_assets.modeling.check_ins import experiments_for
from iss_assets.protocol.targets import target
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import InventedCheckIns, invent_check_ins


def predicted(study: InventedCheckIns, scores: pd.DataFrame, settings: CheckInSettings) -> pd.Series:
    rows = check_ins(scores, study.splits, study.measures)
    made = protocols.predictions(
        rows, design(rows, target("pain_now")), experiments_for(["pain_now"]), settings
    )
    return made.set_index(["protocol", "known", "model", "submission_id"])["predicted"]


def test_a_patients_later_answers_change_no_prediction_of_theirs(quick: CheckInSettings) -> None:
    study = invent_check_ins(12, 6, effect=0.7, seed=2)
    changed = study.bpi_scores.copy()
    later = (changed["patient_id"] == "0004") & (changed["submission_id"] > "0004-03")
    changed.loc[later, "pain_now"] = 10 - changed.loc[later, "pain_now"]
    before, after = (predicted(study, s, quick) for s in (study.bpi_scores, changed))
    ids = before.index.get_level_values("submission_id")
    models = before.index.get_level_values("model").str.startswith("pain_now_")
    fitted = models | before.index.get_level_values("model").isin(["time_of_day", "training_mean"])
    known = before.index.get_level_values("known")
    own = ids.str.startswith("0004") & fitted & (known <= 3)
    assert own.sum() > 20
    pd.testing.assert_series_equal(before[own], after[own])
    # after five known check-ins, the fourth and fifth are known
    five = ids.str.startswith("0004") & models & (known == 5)
    assert (before[five] != after[five]).all()
    # and others learn from them
    others = ids.str.startswith("0007") & models
    assert (before[others] != after[others]).any()


def test_only_check_ins_after_the_known_ones_are_predicted(planted: SimpleNamespace) -> None:
    rows = planted.tables["check_in_predictions"]
    known = rows[rows["protocol"] == "known patient"]
    assert set(known["known"]) == {1, 3, 5}
    assert (known["check_in"] > known["known"]).all()
    new = rows[(rows["protocol"] == "new patient") & (rows["model"] == "pain_now_ridge")]
    assert len(new) == 290 and set(new["known"]) == {0}


def test_the_references_are_what_their_names_say(planted: SimpleNamespace) -> None:
    rows = planted.tables["check_in_predictions"]
    one = rows[(rows["patient_id"] == "0005") & (rows["protocol"] == "new patient")]
    answers = one[one["model"] == "pain_now_ridge"]["answered"].to_numpy()
    last = one[one["model"] == "last_answer"]
    assert last["check_in"].tolist() == list(range(2, 11))
    np.testing.assert_array_equal(last["predicted"], answers[:-1])
    running = one[one["model"] == "running_mean"]["predicted"]
    np.testing.assert_allclose(running, [answers[:i].mean() for i in range(1, 10)])
    scores, splits = planted.study.bpi_scores, planted.study.splits
    split = splits.set_index("patient_id")["split"]
    others = scores[scores["patient_id"].map(split) != split["0005"]]
    mean = others.groupby("patient_id")["pain_now"].mean().mean()
    np.testing.assert_allclose(one[one["model"] == "training_mean"]["predicted"], mean)


def test_a_known_patients_level_is_believed_the_more_the_more_is_known() -> None:
    model = protocols.KnownModel(
        fit_ridge(np.empty((4, 0)), np.zeros(4), np.ones(4), np.arange(4)), 5.0, between=2.0, within=2.0
    )
    assert [model.own_share(k) for k in (1, 3)] == [0.5, 0.75]
    nothing = np.empty((1, 0))
    # the best linear guess: halfway between everybody's mean 5 and the one answer 9
    assert model.predict(nothing, nothing, np.array([9.0])) == pytest.approx([7.0])


def test_a_study_of_one_split_or_of_single_check_ins_predicts_nothing_and_does_not_fail(
    quick: CheckInSettings,
) -> None:
    alone = invent_check_ins(3, 4, seed=0, folds=1)
    rows = predicted(alone, alone.bpi_scores, quick)
    assert set(rows.index.get_level_values("model")) == {"last_answer", "running_mean"}
    single = invent_check_ins(6, 1, seed=0)
    rows = predicted(single, single.bpi_scores, quick)
    assert set(rows.index.get_level_values("protocol")) == {"new patient"}
