"""Checks on voices: not measured, implausible, unlike the patient's other videos."""

from __future__ import annotations

import pytest

from iss_assets_tests.checks.conftest import GOOD, OTHER, InventedStudy

FIRST, SECOND = "0001-00", "0001-02"
NOT_MEASURED, IMPLAUSIBLE, UNLIKE = "voice_not_measured", "implausible_pitch", "pitch_unlike_other_videos"


def pitch(study: InventedStudy, value: str, where: str = f"video_id = '{FIRST}'", chunk: int = -1) -> None:
    study.sql(f"update voice_features set f0_median_hz = {value} where chunk_index = {chunk} and {where}")


def test_voices_of_a_healthy_study_pass_every_check(study: InventedStudy) -> None:
    assert study.failing(GOOD, ("check_voice",)) == study.failing(OTHER, ("check_voice",)) == set()
    assert study.finding("voice_features", UNLIKE).numbers["checked"] == 8


def test_speech_without_a_pitch_is_reported_once_by_the_check_that_says_why(study: InventedStudy) -> None:
    pitch(study, "null")
    found = study.finding("voice_features", NOT_MEASURED)
    assert found.affected == (FIRST,)
    assert found.numbers["seconds of speech"] == {FIRST: 9.0}
    assert study.failing() == {f"voice_features:{NOT_MEASURED}"}

    study.sql(f"update video_quality set flags = ['no_speech'] where video_id = '{FIRST}'")
    assert study.failing() == {"video_quality:no_sound"}
    assert study.finding("voice_features", NOT_MEASURED).numbers["explained by the sound's quality"] == 1


def test_a_chunk_without_a_pitch_is_nothing_to_report(study: InventedStudy) -> None:
    pitch(study, "null", "true", chunk=0)
    assert study.failing() == set()


@pytest.mark.parametrize(("hertz", "reported"), [(59, True), (61, False), (399, False), (401, True)])
def test_a_pitch_that_nobody_speaks_at_is_implausible(
    study: InventedStudy, hertz: int, reported: bool
) -> None:
    pitch(study, str(hertz), where="patient_id = '0001'")
    found = study.finding("voice_features", IMPLAUSIBLE)
    assert found.passed is not reported
    assert len(found.affected) == (8 if reported else 0)
    assert found.threshold == "60 to 400 Hz"


@pytest.mark.parametrize(("factor", "reported"), [(2 ** (6 / 12), True), (2 ** (3 / 12), False), (0.5, True)])
def test_a_voice_far_from_the_patients_own_is_reported(
    study: InventedStudy, factor: float, reported: bool
) -> None:
    pitch(study, f"f0_median_hz * {factor}", f"video_id = '{SECOND}'")
    found = study.finding("voice_features", UNLIKE)
    assert found.affected == ((SECOND,) if reported else ())
    assert not reported or abs(found.numbers["semitones"][SECOND]) >= 5
    assert study.failing(OTHER) == set()


def test_two_videos_are_too_few_to_say_which_of_them_is_unlike_the_other(study: InventedStudy) -> None:
    study.sql(
        f"delete from voice_features where patient_id = '0001' and video_id not in ('{FIRST}', '{SECOND}')"
    )
    pitch(study, "100")
    assert study.finding("voice_features", UNLIKE).passed
