"""Who has not consented to research gives no experiment an item, and nobody else's data changes."""

from __future__ import annotations

from datetime import date

import pytest

from iss_assets.datasets.items import (
    data_hash,
    left_out,
    load_crops,
    load_items,
    trainable_patients,
    without_consent,
)
from iss_assets.modeling.experiments import EXPERIMENTS, experiment
from iss_assets.modeling.folds import PatientLevel
from iss_assets.pipeline.staleness import (
    evaluation_fingerprint,
    fold_fingerprints,
    make_splits,
    predictions_fingerprint,
)
from iss_assets.protocol.consent import ConsentState, Scope
from iss_assets.schemas.intake import Consent
from iss_assets.settings import FaceSettings, Settings, TrainingSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.ledger import fingerprint

SETTINGS = TrainingSettings(image_side=32)
BEFORE = {"forest_pain": "638375297b84499d", "fusion_3": "ea699dc0b1318665"}
"""Hashes of the small study's data as the last version computed them that knew no consent."""
GIVEN, WITHDRAWN, NOT_GIVEN = ConsentState.GIVEN, ConsentState.WITHDRAWN, ConsentState.NOT_GIVEN


def record(study: Warehouse, **states: ConsentState) -> None:
    """Record consent to research, by patient number."""
    rows = [
        {
            "patient_id": f"000{name[-1]}",
            "scope": Scope.RESEARCH,
            "state": state,
            "given_on": date(2021, 1, 4),
            "unclear": False,
        }
        for name, state in states.items()
    ]
    study.replace(Consent, Consent.from_rows(rows), {})


def ids(patients: list[PatientLevel]) -> list[str]:
    return [p.patient_id for p in patients]


def test_a_study_without_consent_or_with_everybodys_trains_on_all_as_before(study: Warehouse) -> None:
    before = {e.name: data_hash(study, e, SETTINGS) for e in EXPERIMENTS if "embeddings" not in e.inputs}
    # so no fold of an older home is fitted again
    assert {name: before[name] for name in BEFORE} == BEFORE
    assert ids(trainable_patients(study, SETTINGS)) == ["0001", "0002", "0003"]
    assert without_consent(study) == []
    record(study, **{f"p{n}": GIVEN for n in range(1, 7)})
    assert {e.name: data_hash(study, e, SETTINGS) for e in EXPERIMENTS if e.name in before} == before
    study.replace(
        Consent,
        Consent.from_rows(
            [{"patient_id": "0001", "scope": Scope.CONTACT, "state": WITHDRAWN, "unclear": False}]
        ),
        {},
    )
    assert ids(trainable_patients(study, SETTINGS)) == ["0001", "0002", "0003"]


@pytest.mark.parametrize("state", [WITHDRAWN, NOT_GIVEN, None])
def test_who_withdrew_or_never_consented_gives_no_item_and_is_named(
    study: Warehouse, state: ConsentState | None
) -> None:
    record(study, p1=GIVEN, p3=GIVEN, p4=GIVEN, p5=GIVEN, p6=GIVEN, **({"p2": state} if state else {}))
    assert ids(trainable_patients(study, SETTINGS)) == ["0001", "0003"]
    assert without_consent(study) == ["0002"]
    for name in ("forest_pain", "fusion_3", "audio_static"):
        items = load_items(study, experiment(name), SETTINGS, FaceSettings())
        assert set(items.patient_id) == {"0001", "0003"}, name
        named = left_out(study, experiment(name), SETTINGS).to_pylist()
        assert {(r["video_id"], r["reason"]) for r in named if r["patient_id"] == "0002"} == {
            ("s2a", "no_consent"),
            ("s2b", "no_consent"),
        }
    # nor when asked for by name, as the asset of embeddings does
    assert load_crops(study, SETTINGS, "0002", 32)[0].num_rows == 0
    assert load_crops(study, SETTINGS, "0001", 32)[0].num_rows > 0


def test_a_withdrawal_makes_the_splits_and_the_folds_stale_and_taking_it_back_undoes_that(
    study: Warehouse,
) -> None:
    settings = Settings(home=study.path.parent, training=SETTINGS)
    forest = experiment("forest_pain")

    def marks() -> tuple[str, dict[str, str]]:
        return make_splits(study, settings)[1], fold_fingerprints(
            study, SETTINGS, forest, ["0001", "0002"], ["0003"]
        )

    before = marks()
    record(study, p1=GIVEN, p2=WITHDRAWN, p3=GIVEN)
    splits, folds = marks()
    assert splits != before[0]
    assert folds["fold_models"] != before[1]["fold_models"]
    record(study, p1=GIVEN, p2=GIVEN, p3=GIVEN)
    assert marks() == before


def test_an_age_group_that_is_known_is_evaluated_again_and_one_that_is_not_changes_nothing(
    study: Warehouse,
) -> None:
    settings = Settings(home=study.path.parent, training=SETTINGS)
    before = evaluation_fingerprint(study, settings, retrain=False)
    # as a version without age groups computed it
    assert before == fingerprint(predictions_fingerprint(study), settings.evaluation.digest(), False)
    with study.write() as writer:
        writer.execute("update patients set age_group = 'pediatric' where patient_id = '0002'")
    assert evaluation_fingerprint(study, settings, retrain=False) != before
