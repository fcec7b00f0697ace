"""Whose data may be shared: one function, asked by every release and export."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from iss_assets.privacy.sharing import Sharing, may_share
from iss_assets.protocol.consent import ConsentState, Scope
from iss_assets.schemas.intake import Consent, Patients
from iss_assets.warehouse.database import Warehouse

GIVEN, WITHDRAWN, NOT_GIVEN = ConsentState.GIVEN, ConsentState.WITHDRAWN, ConsentState.NOT_GIVEN


@pytest.fixture
def study(tmp_path: Path) -> Warehouse:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    person = {
        "cohort": "4D", "sex": "F", "skin_type": "V", "skin_group": "dark", "pain_target": 8, "pain_level": "Severe",
    }  # fmt: skip
    rows = [{"patient_id": f"000{n}", **person} for n in range(1, 6)]
    warehouse.replace(Patients, Patients.from_rows(rows), {})
    return warehouse


def record(study: Warehouse, *rows: tuple[str, Scope, ConsentState]) -> None:
    columns = ("patient_id", "scope", "state")
    whole = [
        {**dict(zip(columns, row, strict=True)), "given_on": date(2021, 1, 4), "unclear": False}
        for row in rows
    ]
    study.replace(Consent, Consent.from_rows(whole), {})


def ask(study: Warehouse, scope: Scope | str) -> Sharing:
    with study.read() as connection:
        return may_share(connection, scope)


def test_without_any_record_everybody_may_be_shared_and_it_says_that_nothing_is_known(
    study: Warehouse,
) -> None:
    found = ask(study, Scope.SHARE_MEDIA)
    assert found == Sharing(("0001", "0002", "0003", "0004", "0005"), (), recorded=False)
    assert found.left_out == 0


def test_only_consent_to_this_very_scope_counts_and_none_after_leaving_the_study(study: Warehouse) -> None:
    record(
        study,
        ("0001", Scope.SHARE_MEDIA, GIVEN),
        ("0002", Scope.SHARE_FEATURES, GIVEN),
        ("0003", Scope.SHARE_MEDIA, WITHDRAWN),
        ("0004", Scope.SHARE_MEDIA, GIVEN),
        ("0004", Scope.SHARE_FEATURES, GIVEN),
        ("0004", Scope.RESEARCH, WITHDRAWN),
        ("0005", Scope.SHARE_MEDIA, NOT_GIVEN),
    )
    assert ask(study, "share_media") == Sharing(("0001",), ("0002", "0003", "0004", "0005"), recorded=True)
    assert ask(study, "share_features").patients == ("0002",)


def test_a_study_that_records_other_consents_only_has_none_to_sharing(study: Warehouse) -> None:
    record(study, ("0001", Scope.RESEARCH, GIVEN))
    assert ask(study, Scope.SHARE_FEATURES).patients == ()


def test_a_scope_that_does_not_exist_is_an_error(study: Warehouse) -> None:
    with pytest.raises(ValueError, match="everything"):
        ask(study, "everything")
