"""Networks that read the series of a narrative: what is there is found, what is not is not, and no answer is read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from iss_assets.evaluation.check_ins import protocols
from iss_assets.evaluation.check_ins.claims import FOLLOWS, Claim, claims
from iss_assets.evaluation.check_ins.design import Filmed, alike, check_ins, design, instances, predictors
from iss_assets.evaluation.check_ins.learners import learner_of
from iss_assets.evaluation.check_ins.study import CheckInInputs, claims_table, evaluate_check_ins
from iss_assets.modeling import check_ins as modeling
from iss_assets.modeling.attention_answers import fit_attention
from iss_assets.modeling.check_ins import NUISANCE, CheckInExperiment, experiments_for
from iss_assets.modeling.items import SERIES
from iss_assets.modeling.series import Series, starts_of
from iss_assets.protocol import terms
from iss_assets.protocol.targets import target
from iss_assets.reports.clinic_lines import first_lines
from iss_assets.reports.clinic_report import ClinicReportInputs, write_clinic_report
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import InventedCheckIns, invent_check_ins, invent_pictures

SETTINGS = CheckInSettings(
    targets=("pain_now",),
    calibration=(1, 3),
    bootstrap_samples=199,
    permutations=1999,
    trees=3,
    attention_epochs=12,
)
NETWORK = "pain_now_attention"


def inputs(study: InventedCheckIns, series: Filmed) -> CheckInInputs:
    return CheckInInputs(study.bpi_scores, study.splits, study.measures, {"embedding_series": series})


def days(study: InventedCheckIns) -> np.ndarray:
    """Return each answer's distance from the patient's mean, with a standard deviation of 1."""
    pain = study.bpi_scores["pain_now"]
    own = (pain - pain.groupby(study.bpi_scores["patient_id"]).transform("mean")).to_numpy()
    return np.asarray(own / own.std())


@pytest.fixture(scope="module")
def study() -> InventedCheckIns:
    return invent_check_ins(24, 8, seed=1, folds=2)


@pytest.fixture(scope="module")
def planted(study: InventedCheckIns) -> SimpleNamespace:
    """The study with embeddings that show the days' pain, evaluated."""
    given = inputs(study, invent_pictures(study, days(study)))
    tables = evaluate_check_ins(given, SETTINGS)
    return SimpleNamespace(
        inputs=given, arrow=tables, tables={name: table.to_pandas() for name, table in tables.items()}
    )


def in_step(rows: pd.DataFrame) -> float:
    """Return the correlation of predictions and answers within patients."""
    answered, predicted = (
        (rows[c] - rows.groupby("patient_id")[c].transform("mean")).to_numpy(float)
        for c in ("answered", "predicted")
    )
    return float(np.corrcoef(answered, predicted)[0, 1])


def network_only(study: InventedCheckIns, sign: np.ndarray) -> tuple[float, list[Claim]]:
    """Predict a study by the network only; return how far it is in step with known patients, and all claims."""
    series = {"embedding_series": invent_pictures(study, sign)}
    rows = check_ins(study.bpi_scores, study.splits, study.measures, series)
    of = design(rows, target("pain_now"))
    experiments = [e for e in experiments_for(["pain_now"]) if e.model == "attention"]
    made = protocols.predictions(rows, of, experiments, SETTINGS)
    room = pd.DataFrame(predictors(rows, of, NUISANCE)[0], index=of.submission)
    return (
        in_step(made[(made["model"] == NETWORK) & (made["known"] == 1)]),
        claims(made, {"pain_now": room}, SETTINGS),
    )


def followed(tables: dict[str, pd.DataFrame], model: str = NETWORK) -> pd.Series:
    rows = tables["check_in_claims"]
    return rows[(rows["claim"] == FOLLOWS) & (rows["model"] == model)].iloc[0]


def errors(tables: dict[str, pd.DataFrame], known: int) -> pd.Series:
    rows = tables["check_in_metrics"]
    return rows[(rows["known"] == known) & (rows["metric"] == "mean_error")].set_index("model")["estimate"]


def test_a_sign_in_the_pictures_is_found_where_the_measures_have_none(
    planted: SimpleNamespace,
) -> None:
    tables = planted.tables
    claim = followed(tables)
    assert claim["verdict"] == "yes" and claim["estimate"] > 0.5
    assert followed(tables, "pain_now_ridge")["verdict"] != "yes"
    for known in (1, 3):
        of = errors(tables, known)
        assert of[NETWORK] < min(of["first_answers"], of["pain_now_ridge"]) - 0.05


def test_the_first_line_names_pictures_where_only_the_network_finds_the_sign(
    planted: SimpleNamespace,
) -> None:
    lead, points = first_lines(
        planted.tables["check_in_claims"], planted.tables["check_in_effects"], SETTINGS
    )
    assert lead.startswith("Pictures of the face follow the ups and downs of pain now")
    assert points[0].startswith("Pain now: pictures of the face go along with a patient’s ups and downs.")
    assert "; attention network on pictures of the face)." in points[0]
    assert points[1] == "Pain now: face and voice are not shown to go along with a patient’s ups and downs."


def test_where_the_pictures_show_nothing_nothing_is_claimed(study: InventedCheckIns) -> None:
    correlation, made = network_only(study, np.random.default_rng(3).normal(size=len(study.bpi_scores)))
    own = [c for c in made if c.model == NETWORK]
    assert len(own) > 5 and "yes" not in {c.verdict for c in own}
    assert abs(correlation) < 0.3
    lead, _ = first_lines(claims_table(made).to_pandas(), pd.DataFrame({"measure": []}), SETTINGS)
    assert lead.startswith("Nothing is shown: no model of pictures of the face is shown to follow")


def test_the_networks_claims_share_the_level_of_all_claims(planted: SimpleNamespace) -> None:
    rows = planted.tables["check_in_claims"]
    # each of three models: ups and downs, and two references in three situations; and the canary
    assert len(rows) == 3 * (1 + 2 * 3) + 1
    first = rows.loc[rows["p_value"].idxmin()]
    assert first["p_value_holm"] == pytest.approx(min(1.0, first["p_value"] * len(rows)))
    # the same predictions without the network's: each of the others has fewer to share with
    fewer = planted.tables["check_in_predictions"]
    fewer = fewer[fewer["model"] != NETWORK]
    around = pd.DataFrame({"light": np.nan}, index=fewer["submission_id"].unique())
    alone = min(claims(fewer, {"pain_now": around}, SETTINGS), key=lambda c: c.p)
    assert alone.p_holm == pytest.approx(min(1.0, alone.p * (2 * 7 + 1)))


def test_a_network_that_sees_only_the_rooms_light_is_not_said_to_follow_pain() -> None:
    study = invent_check_ins(24, 8, confounded=0.7, seed=2, folds=2)
    light = study.measures["quality"]["quality.luminance"]
    own = light - light.groupby(study.bpi_scores["patient_id"].to_numpy()).transform("mean")
    correlation, made = network_only(study, (own / own.std()).to_numpy())
    # the naive figure would be a success
    assert correlation > 0.4
    verdicts = {c.model: c.verdict for c in made if c.kind == FOLLOWS}
    assert verdicts[protocols.ROOM] == "yes" and verdicts[NETWORK] != "yes"


def test_a_network_has_the_metrics_and_the_check_ins_of_the_other_models(
    planted: SimpleNamespace,
) -> None:
    tables = planted.tables
    for name in ("check_in_metrics", "check_in_claims", "check_in_predictions", "check_in_patients"):
        rows = tables[name].assign(n=1)
        keys = ["protocol", "known"] + [
            c for c in ("metric", "claim", "submission_id", "patient_id") if c in rows
        ]
        own, ridge = (
            rows[(rows["model"] == model) & ~rows.get("metric", pd.Series("", rows.index)).eq("size_of_sign")]
            for model in (NETWORK, "pain_now_ridge")
        )
        pd.testing.assert_series_equal(own.groupby(keys)["n"].sum(), ridge.groupby(keys)["n"].sum())


def test_the_clinics_report_has_the_network_beside_the_other_models(
    planted: SimpleNamespace, tmp_path: Path
) -> None:
    given = ClinicReportInputs(planted.arrow, SETTINGS)
    page = write_clinic_report(given, tmp_path / "page.html").read_text("utf-8")
    assert "Pictures of the face follow the ups and downs of pain now" in page
    assert page.count("ttention network on pictures of the face") >= page.count("oosted trees") > 3


def test_no_later_answer_and_no_other_answer_is_read(planted: SimpleNamespace) -> None:
    def network(scores: pd.DataFrame) -> pd.DataFrame:
        given = planted.inputs
        rows = check_ins(scores, given.splits, given.measures, given.series)
        experiments = [e for e in experiments_for(["pain_now"]) if e.model == "attention"]
        made = protocols.predictions(rows, design(rows, target("pain_now")), experiments, SETTINGS)
        return made[made["model"] == NETWORK].set_index(["known", "submission_id"])

    scores = planted.inputs.bpi_scores
    changed = scores.copy()
    later = (scores["patient_id"] == "0004") & (scores["submission_id"] > "0004-03")
    changed.loc[later, "pain_now"] = 10 - changed.loc[later, "pain_now"]
    rng = np.random.default_rng(0)
    for answer in set(terms.SCORES) - {"pain_now"}:
        changed[answer] = rng.permutation(changed[answer])
    before, after = network(scores), network(changed)
    own = (before["patient_id"] == "0004") & (before.index.get_level_values("known") <= 3)
    assert own.sum() == 8 + 7 + 5
    np.testing.assert_array_equal(before.loc[own, "predicted"], after.loc[own, "predicted"])
    # patients of the other split are predicted by a model that learned from these answers
    others = before["patient_id"] == "0007"
    assert (before.loc[others, "predicted"] != after.loc[others, "predicted"]).any()


def test_no_answer_is_in_a_table_that_networks_read() -> None:
    for table, columns in SERIES.values():
        names = {c.name for c in BY_NAME[table].columns()}
        assert not {*terms.SCORES, "pain_target", "pain_level", "cohort"} & names
        assert set(columns) <= names


def test_a_check_in_without_pictures_is_predicted_by_what_is_known_without_them(
    planted: SimpleNamespace,
) -> None:
    given = planted.inputs
    series = given.series["embedding_series"]
    there = np.array([not v.startswith("0006") for v in series.video_id])
    ids = tuple(v for v, kept in zip(series.video_id, there, strict=True) if kept)
    fewer = Filmed(ids, series.series.select(np.flatnonzero(there)), "x")
    rows = check_ins(given.bpi_scores, given.splits, given.measures, {"embedding_series": fewer})
    of = design(rows, target("pain_now"))
    x = instances(rows, of, "embedding_series")
    assert x.lengths[[s.startswith("0006") for s in of.submission]].sum() == 0
    made = protocols.predictions(rows, of, experiments_for(["pain_now"]), SETTINGS)
    own = made[made["patient_id"] == "0006"].set_index(["model", "known", "submission_id"])["predicted"]
    assert own[NETWORK].loc[0].to_numpy() == pytest.approx(own["training_mean"].loc[0].to_numpy())
    # how far the first answers are believed depends on what pictures say of other patients
    assert own[NETWORK].loc[3].nunique() == 1


def test_another_studys_network_reads_pictures_that_were_made_in_the_same_way_and_no_others(
    planted: SimpleNamespace,
) -> None:
    there, other = planted.inputs, invent_check_ins(10, 6, seed=9, folds=2)
    experiments = [e for e in experiments_for(["pain_now"]) if e.model == "attention"]
    for made_by, used in (("invented", True), ("another", False)):
        here = inputs(other, invent_pictures(other, days(other), seed=5, made_by=made_by))
        both = [check_ins(one.bpi_scores, one.splits, one.measures, one.series) for one in (there, here)]
        trained, applied = ((rows, design(rows, target("pain_now"))) for rows in alike(*both))
        made = protocols.predictions_elsewhere(trained, applied, experiments, SETTINGS)
        own = made[(made["model"] == NETWORK) & (made["known"] == 1)]
        assert (len(own) > 0) is used
        if used:
            assert in_step(own) > 0.5


def test_another_network_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CheckInExperiment(
        "pain_now_gru", target("pain_now"), (), "attention", series="behavior_series", over_time="gru"
    )
    monkeypatch.setattr(modeling, "CHECK_IN_EXPERIMENTS", (*modeling.CHECK_IN_EXPERIMENTS[:2], entry))
    assert entry.title == "Attention network on behavior over time"
    study = invent_check_ins(8, 4, seed=2, folds=2)
    series = invent_pictures(study, days(study))
    quick = SETTINGS.model_copy(update={"attention_epochs": 1, "calibration": (1,)})
    given = CheckInInputs(study.bpi_scores, study.splits, study.measures, {"behavior_series": series})
    tables = evaluate_check_ins(given, quick)
    for name in ("check_in_predictions", "check_in_metrics", "check_in_claims"):
        assert "pain_now_gru" in tables[name]["model"].to_pylist()


def test_a_network_reads_a_series_and_other_models_read_measures() -> None:
    for groups, model, series in (
        (("voice",), "attention", "mesh_series"),
        ((), "attention", None),
        ((), "ridge", "mesh_series"),
    ):
        with pytest.raises(ValueError, match="a network reads a series"):
            CheckInExperiment("x", target("pain_now"), groups, model, series)  # type: ignore[arg-type]


def test_series_are_centered_by_check_in_as_measures_are() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(9, 2)).astype(np.float32)
    values[0, 1] = values[4:6, 0] = np.nan
    series = Series(values, np.arange(9, dtype=np.int32), starts_of(np.array([3, 0, 3, 3]))).view()
    patient = np.array([0, 0, 1, 1])
    means = series.means()
    for video, rows in ((0, values[:3]), (2, values[3:6]), (3, values[6:])):
        np.testing.assert_allclose(means[video], np.nanmean(rows.astype(float), axis=0))
    assert np.isnan(means[1]).all()
    centered = protocols.deviations(series, patient)
    np.testing.assert_allclose(centered.means(), protocols.deviations(means, patient), atol=1e-6)
    np.testing.assert_array_equal(
        series[np.array([True, False, False, True])].gathered().values, values[[0, 1, 2, 6, 7, 8]]
    )
    chosen = centered[np.array([3, 1, 0])]
    by_hand = (
        values[[6, 7, 8, 0, 1, 2]]
        - protocols.means_by_patient(means, patient, 2).astype(np.float32)[[1, 1, 1, 0, 0, 0]]
    )
    np.testing.assert_array_equal(chosen.gathered().values, by_hand)
    assert chosen.number.tolist() == [6, 7, 8, 0, 1, 2] and chosen.lengths.tolist() == [3, 0, 3]
    assert np.isnan(by_hand).any() and chosen.known().all()
    # an instance of which nothing is known, and a video whose patient's mean is not known
    values[3:6] = np.nan
    assert series.only(series.known()).lengths.tolist() == [3, 0, 0, 3]
    unknown = (series - np.array([[np.nan, np.nan]] + 3 * [[0, 0]])).known()
    assert unknown.tolist() == 6 * [False] + 3 * [True]


def test_a_studys_pictures_are_in_memory_once_also_while_a_network_learns() -> None:
    rng = np.random.default_rng(1)
    patients, days, instances_each, width = 40, 8, 12, 640
    values = rng.normal(size=(patients * days * instances_each, width)).astype(np.float32)
    lengths = np.full(patients * days, instances_each)
    number = np.tile(np.arange(instances_each), patients * days).astype(np.int32)
    study = invent_check_ins(patients, days, seed=1, folds=2)
    filmed = Filmed(tuple(study.bpi_scores["submission_id"]), Series(values, number, starts_of(lengths)), "x")
    rows = check_ins(study.bpi_scores, study.splits, study.measures, {"embedding_series": filmed})
    of = design(rows, target("pain_now"))
    (experiment,) = [e for e in experiments_for(["pain_now"]) if e.model == "attention"]
    quick = SETTINGS.model_copy(update={"attention_epochs": 1})
    fit = learner_of(experiment, quick)
    before = values.copy()
    # what is made once is there before anything is counted
    protocols.predict_new(fit, instances(rows, of, "embedding_series"), of)
    tracemalloc.start()
    try:
        x = instances(rows, of, "embedding_series")
        protocols.predict_new(fit, x, of)
        protocols.predict_known(fit, x, of, (1, 3))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # batches and means of check-ins; a copy of the training side alone would be a half
    assert peak < values.nbytes / 2
    np.testing.assert_array_equal(values, before)


def test_an_answer_that_never_changes_is_predicted_as_it_is() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(4), 3)
    series = Series(
        rng.normal(size=(24, 2)).astype(np.float32), np.zeros(24, np.int32), starts_of(np.full(12, 2))
    )
    model = fit_attention(series.view(), np.full(12, 6.0), np.ones(12), patient, None, 3, 0)
    assert model.predict(series.view()).tolist() == [6.0] * 12
