"""Who asked to withdraw, and what is said of patients who do not want to be contacted."""

from __future__ import annotations

from datetime import date

import pytest

from iss_assets.checks.stages import STAGES
from iss_assets.defs.checks.factory import evaluate, hint
from iss_assets.intake import withdrawn
from iss_assets.protocol.catalogue import CATALOGUE, WITHOUT_CONTACT
from iss_assets.protocol.consent import ConsentState, Scope
from iss_assets.schemas.intake import Consent
from iss_assets_tests.checks.conftest import GOOD, OTHER, InventedStudy


def record(study: InventedStudy, *rows: tuple[str, Scope, ConsentState, date | None]) -> None:
    columns = ("patient_id", "scope", "state", "withdrawn_on")
    made = [{**dict(zip(columns, row, strict=True)), "unclear": False} for row in rows]
    study.warehouse.replace(Consent, Consent.from_rows(made), {})


def hints(study: InventedStudy, patient: str) -> dict[str, str | None]:
    """Return what is to be done about each failed check of a patient."""
    return {
        check.name: hint(check, found, patient)
        for stage in STAGES
        if stage.by_patient
        for check, found in evaluate(
            stage, patient, study.resource, {(c.asset, c.name) for c in stage.checks}, print
        )
        if not found.passed
    }


def test_a_withdrawal_from_research_or_sharing_is_an_error_of_that_patient_alone(
    study: InventedStudy,
) -> None:
    assert study.finding("consent", "withdrawal_requested").passed
    record(
        study,
        (GOOD, Scope.RESEARCH, ConsentState.WITHDRAWN, date(2021, 5, 6)),
        (GOOD, Scope.SHARE_MEDIA, ConsentState.WITHDRAWN, date(2021, 5, 3)),
        (GOOD, Scope.SHARE_FEATURES, ConsentState.GIVEN, None),
        (OTHER, Scope.RESEARCH, ConsentState.GIVEN, None),
        (OTHER, Scope.SHARE_MEDIA, ConsentState.NOT_GIVEN, None),
    )
    found = study.finding("consent", "withdrawal_requested")
    assert found.numbers == {
        "withdrawn scopes": 2,
        "scopes": ["research", "share_media"],
        "asked on": "2021-05-03",
    }
    assert [(f.name, f.severity) for f in study.failing_with()] == [("withdrawal_requested", "ERROR")]
    assert "iss withdraw 0001" in str(hints(study, GOOD)["withdrawal_requested"])
    assert study.failing(OTHER) == set()


def test_what_has_been_carried_out_is_not_asked_for_again_and_what_comes_later_is(
    study: InventedStudy,
) -> None:
    home = study.resource.settings().home
    record(
        study,
        (GOOD, Scope.SHARE_FEATURES, ConsentState.WITHDRAWN, date(2021, 5, 3)),
        (GOOD, Scope.SHARE_MEDIA, ConsentState.WITHDRAWN, date(2021, 5, 3)),
        (OTHER, Scope.SHARE_MEDIA, ConsentState.WITHDRAWN, date(2021, 5, 3)),
    )
    assert study.finding("consent", "withdrawal_requested").numbers["withdrawn scopes"] == 2
    for scope in (withdrawn.Scope.SHARING, withdrawn.Scope.MEDIA):
        withdrawn.write_withdrawn(home, withdrawn.with_key(home).adding(GOOD, scope, [], []))
        assert study.finding("consent", "withdrawal_requested").passed, scope
        assert not study.finding("consent", "withdrawal_requested", OTHER).passed
    # who then leaves the study altogether asks for more than was done
    record(study, (GOOD, Scope.RESEARCH, ConsentState.WITHDRAWN, date(2021, 6, 1)))
    assert study.finding("consent", "withdrawal_requested").numbers["scopes"] == ["research"]
    withdrawn.write_withdrawn(home, withdrawn.with_key(home).adding(GOOD, withdrawn.Scope.ALL, [], []))
    assert study.finding("consent", "withdrawal_requested").passed


def test_a_withdrawal_on_a_day_that_cannot_be_read_is_one_all_the_same(study: InventedStudy) -> None:
    record(study, (GOOD, Scope.RESEARCH, ConsentState.WITHDRAWN, None))
    found = study.finding("consent", "withdrawal_requested")
    assert (found.passed, found.numbers["asked on"]) == (False, "")


@pytest.mark.parametrize("state", [ConsentState.WITHDRAWN, ConsentState.NOT_GIVEN])
def test_nobody_is_told_to_call_a_patient_who_does_not_want_it(
    study: InventedStudy, state: ConsentState
) -> None:
    study.sql(
        f"delete from bpi_scores where patient_id = '{GOOD}' and submission_id > '{GOOD}-04'",
        f"update video_quality set flags = ['dark'], usable = false, unusable_reason = 'dark' where patient_id = '{GOOD}'",
        "update videos set sha256 = (select min(sha256) from videos)",
    )
    study.sql(
        "update video_quality set flags = list_append(flags, 'duplicate')",
    )
    before = hints(study, GOOD)
    assert {"dark_or_grainy", "fewer_than_three_a_week", "duplicate_files"} <= before.keys()
    assert "call them" in str(before["dark_or_grainy"])

    record(study, (GOOD, Scope.CONTACT, state, None))
    after = hints(study, GOOD)
    # it is in force at once: nothing is to be carried out
    assert after.keys() == before.keys()
    asking = {check.name for check in CATALOGUE if check.asks_patient} & after.keys()
    for name in asking:
        assert after[name] == (
            "Do not call or remind patient 0001: consent to be contacted has been withdrawn, or was not given."
        )
    assert after["duplicate_files"] == (
        "Find out which check-in of patient 0001 each file belongs to, and delete the copies."
    )
    assert not [text for text in after.values() if text and ("call them" in text or text.startswith("Ask"))]
    # the number with which alerts and pages know it
    assert study.finding("bpi_scores", "fewer_than_three_a_week").numbers[WITHOUT_CONTACT] == 1
    assert hints(study, OTHER)["duplicate_files"] is not None


def test_every_hint_that_has_somebody_talk_to_the_patient_is_known_as_such() -> None:
    talking = (
        "Ask patient",
        "Tell patient",
        "Call patient",
        "Remind patient",
        "Explain",
        "explain",
        "ask for",
        "ask whether",
    )
    for check in CATALOGUE:
        text = check.advise("0001")
        if "{patient}" in check.hint and check.asset != "patients":
            assert check.asks_patient == any(word in text for word in talking), text
