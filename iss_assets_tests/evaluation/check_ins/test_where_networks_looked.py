"""Where networks look at check-ins: shares of what they read, by networks that never saw the patient, and never at glare unnoticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from iss_assets.evaluation.check_ins.design import Filmed, check_ins, design, instances
from iss_assets.evaluation.check_ins.protocols import Looks, predictions
from iss_assets.evaluation.check_ins.shortcuts import check_in_shortcuts
from iss_assets.evaluation.check_ins.study import CheckInInputs, evaluate_check_ins, evaluate_elsewhere
from iss_assets.modeling.attention_answers import fit_attention
from iss_assets.modeling.check_ins import CheckInExperiment, experiment_named
from iss_assets.modeling.series import Series, starts_of
from iss_assets.protocol.targets import target
from iss_assets.reports.clinic_lines import shortcut_lines
from iss_assets.reports.clinic_report import ClinicReportInputs, write_clinic_report
from iss_assets.schemas.check_ins import CheckInAttention, CheckInShortcuts
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import InventedCheckIns, invent_check_ins

SETTINGS = CheckInSettings(
    targets=("pain_now",),
    calibration=(1, 3),
    bootstrap_samples=499,
    permutations=1999,
    trees=2,
    attention_epochs=10,
)
NETWORK = "pain_now_attention"
INSTANCES = 6


def network() -> CheckInExperiment:
    found = experiment_named(NETWORK)
    assert found is not None
    return found


def days(study: InventedCheckIns) -> np.ndarray:
    pain = study.bpi_scores["pain_now"]
    own = (pain - pain.groupby(study.bpi_scores["patient_id"]).transform("mean")).to_numpy()
    return np.asarray(own / own.std())


def filmed(study: InventedCheckIns, seed: int = 0) -> tuple[Filmed, dict[str, int]]:
    """Invent narratives of six stretches, one of which, anywhere, shows the day's pain; return them and where."""
    rng = np.random.default_rng(seed)
    ids = list(study.bpi_scores["submission_id"])
    where = rng.integers(0, INSTANCES, len(ids))
    values = rng.normal(size=(len(ids), INSTANCES, 8)).astype(np.float32)
    at = np.arange(len(ids)), where
    values[(*at, 0)] += 4
    values[(*at, 1)] += 3 * days(study)
    number = np.tile(np.arange(INSTANCES), len(ids)).astype(np.int32)
    series = Series(values.reshape(-1, 8), number, starts_of(np.full(len(ids), INSTANCES)))
    return Filmed(tuple(ids), series, "invented"), dict(zip(ids, where.tolist(), strict=True))


def with_glare(where: dict[str, int], rejected: bool = False) -> pd.DataFrame:
    """Return quality rows of videos with glare in one of their stretches of two seconds."""
    return pd.DataFrame(
        {
            "video_id": list(where),
            "moments": [json.dumps({"glare": [[2.0 * n, 2.0 * n + 2]]}) for n in where.values()],
            "flags": [[] if rejected else ["glare"]] * len(where),
        }
    )


def looked(study: InventedCheckIns, series: Filmed, scores: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the attention of the network alone."""
    given = study.bpi_scores if scores is None else scores
    rows = check_ins(given, study.splits, study.measures, {"embedding_series": series})
    looks = Looks(SETTINGS.instance_s)
    predictions(rows, design(rows, target("pain_now")), [network()], SETTINGS, looks)
    return looks.table().to_pandas()


@pytest.fixture(scope="module")
def study() -> InventedCheckIns:
    return invent_check_ins(16, 6, seed=4, folds=2)


@pytest.fixture(scope="module")
def planted(study: InventedCheckIns) -> SimpleNamespace:
    """A study whose narratives show pain in one stretch, and that stretch has glare."""
    series, where = filmed(study)
    given = CheckInInputs(
        study.bpi_scores, study.splits, study.measures, {"embedding_series": series}, with_glare(where)
    )
    return SimpleNamespace(
        series=series, where=where, inputs=given, tables=evaluate_check_ins(given, SETTINGS)
    )


def frame(planted: SimpleNamespace, name: str) -> pd.DataFrame:
    return planted.tables[name].to_pandas()


def test_every_prediction_of_a_network_has_the_attention_that_it_was_made_with(
    planted: SimpleNamespace,
) -> None:
    attention = CheckInAttention.check_rows(planted.tables["check_in_attention"]).to_pandas()
    sums = attention.groupby(["target", "protocol", "known", "model", "patient_id", "video_id"])[
        "attention"
    ].agg(["sum", "count"])
    assert sums["sum"].to_numpy() == pytest.approx(1, abs=1e-6) and (sums["count"] == INSTANCES).all()
    made = frame(planted, "check_in_predictions")
    made = made[made["model"] == NETWORK]
    assert sorted(sums.index) == sorted(
        zip(*(made[c] for c in ("target", "protocol", "known", "model", "patient_id", "submission_id")), strict=True)
    )  # fmt: skip
    assert set(attention["start_s"]) == {0.0, 2.0, 4.0, 6.0, 8.0, 10.0}
    assert (attention["end_s"] == attention["start_s"] + 2).all()


def test_the_stretch_that_shows_the_pain_gets_the_attention_of_both_protocols(
    planted: SimpleNamespace,
) -> None:
    attention = frame(planted, "check_in_attention")
    shows = attention["instance"] == attention["video_id"].map(planted.where)
    means = attention[shows].groupby("known")["attention"].mean()
    assert sorted(means.index) == [0, 1, 3] and (means > 1.2 / INSTANCES).all()


def test_attention_is_that_of_a_network_trained_on_the_other_split(
    study: InventedCheckIns, planted: SimpleNamespace
) -> None:
    rows = check_ins(study.bpi_scores, study.splits, study.measures, {"embedding_series": planted.series})
    of = design(rows, target("pain_now"))
    x = instances(rows, of, "embedding_series")
    test = np.flatnonzero(of.split[of.patient] == 2)
    train = np.flatnonzero(of.split[of.patient] != 2)
    model = fit_attention(
        x[train], of.y[train], of.weight[train], of.patient[train], None, SETTINGS.attention_epochs, SETTINGS.seed
    )  # fmt: skip
    predicted, expected = model.read(x[test])
    np.testing.assert_array_equal(predicted, model.predict(x[test]))
    attention = frame(planted, "check_in_attention")
    own = attention[(attention["known"] == 0)].set_index(["video_id", "instance"])["attention"]
    ids = [of.submission[i] for i in test for _ in range(INSTANCES)]
    found = [own[video, n % INSTANCES] for n, video in enumerate(ids)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_answers_of_a_patient_do_not_move_the_attention_to_their_own_narratives(
    study: InventedCheckIns, planted: SimpleNamespace
) -> None:
    changed = study.bpi_scores.copy()
    own = changed["patient_id"] == "0004"
    changed.loc[own, "pain_now"] = 10 - changed.loc[own, "pain_now"]
    before = frame(planted, "check_in_attention")
    after = looked(study, planted.series, changed)
    pd.testing.assert_frame_equal(before.drop(columns="attention"), after.drop(columns="attention"))
    moved = (before["attention"] - after["attention"]).abs().groupby(before["patient_id"]).max()
    split = study.splits.set_index("patient_id")["split"]
    same_split = split == split["0004"]
    assert (moved[same_split] == 0).all() and (moved[~same_split] > 0).all()


def test_a_stretch_of_which_nothing_is_known_has_no_row_and_neither_has_a_video_without_pictures(
    study: InventedCheckIns, planted: SimpleNamespace
) -> None:
    series = planted.series.series
    values = series.values.copy()
    values[1] = np.nan
    there = np.arange(len(series)) != 5
    holed = Series(values, series.number, series.starts).select(np.flatnonzero(there))
    ids = tuple(v for v, kept in zip(planted.series.video_id, there, strict=True) if kept)
    attention = looked(study, Filmed(ids, holed, "invented"))
    new = attention[attention["known"] == 0]
    assert new.loc[new["video_id"] == ids[0], "instance"].tolist() == [0, 2, 3, 4, 5]
    assert new.loc[new["video_id"] == ids[0], "attention"].sum() == pytest.approx(1, abs=1e-6)
    assert planted.series.video_id[5] not in set(attention["video_id"])
    assert new["video_id"].nunique() == len(ids)


def test_a_network_that_looks_at_the_glare_is_exposed_in_the_report_and_its_first_lines(
    planted: SimpleNamespace, tmp_path: Path
) -> None:
    rows = CheckInShortcuts.check_rows(planted.tables["check_in_shortcuts"]).to_pylist()
    assert {(r["protocol"], r["flag"], r["verdict"]) for r in rows} == {
        ("new patient", "glare", "yes"),
        ("known patient", "glare", "yes"),
    }
    assert all(r["chance"] == pytest.approx(1 / 6) and r["difference_low"] > 0.2 / 6 for r in rows)
    assert all(r["patients"] == 16 for r in rows)
    # two tests share the level
    assert all(r["p_value_holm"] == pytest.approx(min(1, 2 * r["p_value"])) for r in rows)
    page = write_clinic_report(ClinicReportInputs(planted.tables, SETTINGS), tmp_path / "p.html").read_text()
    first, rest = page.split('<nav aria-label="Contents"')
    assert (
        "Pain now: of new patients, the attention network on pictures of the face looks at stretches flagged" in first
    )  # fmt: skip
    assert "It may have learned the recording and not the patient." in first
    assert "Attention of networks to flagged stretches of videos, beside chance." in rest


def test_a_network_that_looks_elsewhere_is_not_accused(planted: SimpleNamespace, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    # one stretch of each video has glare, never the one that shows the pain
    glare = {v: int((n + rng.integers(1, INSTANCES)) % INSTANCES) for v, n in planted.where.items()}
    attention = frame(planted, "check_in_attention")
    rows = check_in_shortcuts(attention, with_glare(glare), SETTINGS)
    assert [r["verdict"] for r in rows] == ["no", "no"] and all(r["attention"] < r["chance"] for r in rows)
    tables = {**planted.tables, "check_in_shortcuts": CheckInShortcuts.from_rows(rows)}
    page = write_clinic_report(ClinicReportInputs(tables, SETTINGS), tmp_path / "p.html").read_text()
    first, rest = page.split('<nav aria-label="Contents"')
    assert "learned the recording" not in first and "More than chance?" in rest


def test_glare_at_any_place_accuses_no_network_beyond_the_level(planted: SimpleNamespace) -> None:
    attention = frame(planted, "check_in_attention")
    quick = SETTINGS.model_copy(update={"bootstrap_samples": 199, "permutations": 499})
    accused = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        anywhere = {v: int(rng.integers(0, INSTANCES)) for v in planted.where}
        rows = check_in_shortcuts(attention, with_glare(anywhere), quick)
        assert len(rows) == 2
        accused += any(r["verdict"] == "yes" for r in rows)
    # binomial of 40 with 0.05: more than 5 in one of 70 such series
    assert accused <= 5


def test_flags_that_were_rejected_or_that_nobody_gave_are_not_tested(
    planted: SimpleNamespace, tmp_path: Path
) -> None:
    attention = frame(planted, "check_in_attention")
    assert check_in_shortcuts(attention, with_glare(planted.where, rejected=True), SETTINGS) == []
    empty = CheckInAttention.from_rows([]).to_pandas()
    assert check_in_shortcuts(empty, with_glare(planted.where), SETTINGS) == []
    assert shortcut_lines(CheckInShortcuts.from_rows([]).to_pandas()) == []
    page = write_clinic_report(ClinicReportInputs({}, SETTINGS), tmp_path / "p.html").read_text()
    assert "No network has predicted a check-in whose video is flagged in part." in page


def test_the_network_of_known_patients_is_tested_once_on_the_mean_of_its_looks() -> None:
    looks = {0: [0.5, 0.5], 1: [0.6, 0.4], 3: [1.0, 0.0]}
    attention = pd.DataFrame(
        [
            {"target": "pain_now", "protocol": "known patient" if k else "new patient", "known": k, "model": NETWORK,
             "patient_id": p, "video_id": f"{p}-1", "instance": i, "start_s": 2.0 * i, "end_s": 2.0 * i + 2, "attention": a}
            for p in ("a", "b") for k, own in looks.items() for i, a in enumerate(own)
        ]
    )  # fmt: skip
    rows = check_in_shortcuts(attention, with_glare({"a-1": 0, "b-1": 0}), SETTINGS)
    assert {r["protocol"]: (r["videos"], r["attention"]) for r in rows} == {
        "new patient": (2, 0.5),
        "known patient": (2, pytest.approx(0.8)),
    }


def test_another_studys_networks_are_watched_where_they_are_applied(planted: SimpleNamespace) -> None:
    here = invent_check_ins(8, 4, seed=11, folds=2)
    series, where = filmed(here, seed=3)
    applied = replace(
        planted.inputs,
        bpi_scores=here.bpi_scores,
        splits=here.splits,
        measures=here.measures,
        series={"embedding_series": series},
        video_quality=with_glare(where),
    )
    quick = SETTINGS.model_copy(update={"calibration": (1,)})
    tables = evaluate_elsewhere(planted.inputs, applied, quick)
    attention = tables["check_in_attention"].to_pandas()
    assert set(attention["video_id"]) == set(where)
    assert set(tables["check_in_shortcuts"]["verdict"].to_pylist()) == {"yes"}
    assert isinstance(tables["check_in_attention"], pa.Table)
