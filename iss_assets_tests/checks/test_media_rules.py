"""Checks on the quality of videos: each flag has one owner, and one cause fails one check."""

from __future__ import annotations

import ast
import inspect

import pytest

from iss_assets.checks.stages import STAGES
from iss_assets.media import quality
from iss_assets.protocol.catalogue import CATALOGUE, find
from iss_assets.protocol.flags import CAUSE_OF, EXPLAINS, FLAGS, causes_of, root_flags, roots_of
from iss_assets.settings import QualitySettings
from iss_assets_tests.checks.conftest import GOOD, OTHER, InventedStudy

FIRST, SECOND = "0001-00", "0001-02"
EVERY_VIDEO = "patient_id = '0001'"


def flag(study: InventedStudy, *flags: str, where: str = f"video_id = '{FIRST}'") -> None:
    study.sql(f"update video_quality set flags = $1 where {where}", params=[list(flags)])


@pytest.mark.parametrize("raised", FLAGS)
def test_a_flag_alone_fails_exactly_one_check_of_the_whole_graph(study: InventedStudy, raised: str) -> None:
    flag(study, raised)
    assert study.failing() == {f"video_quality:{CAUSE_OF[raised].check}"}
    assert study.failing(OTHER) == set(), "a flag is the patient's own"


@pytest.mark.parametrize(("cause", "explained"), [(a, b) for a, bs in EXPLAINS.items() for b in bs])
def test_a_flag_and_what_it_brings_along_fail_one_check(
    study: InventedStudy, cause: str, explained: str
) -> None:
    both = [name for name in FLAGS if name in (cause, explained)]
    flag(study, *both)
    assert study.failing(GOOD, ("check_quality",)) == {f"video_quality:{CAUSE_OF[cause].check}"}
    found = study.finding("video_quality", CAUSE_OF[cause].check)
    assert found.numbers["also flagged"] == {FIRST: [explained]}, "nothing is hidden"


def test_two_causes_in_one_video_are_two_checks(study: InventedStudy) -> None:
    flag(study, "face_missing", "landmarks_missing", "dark", "grainy", "quiet", "noisy_sound", "no_speech")
    assert study.failing() == {"video_quality:dark_or_grainy", "video_quality:quiet_or_muffled"}


def test_every_flag_that_can_be_raised_has_one_cause_and_one_check() -> None:
    """A new flag in the module that measures needs a cause in the catalogue before this passes."""
    raised = {
        call.args[0].value
        for call in ast.walk(ast.parse(inspect.getsource(quality)))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("flag", "flag_if", "share")
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    raised |= {"unreadable", "too_short"}  # by the video's status
    assert raised == set(FLAGS)
    owners = [(c.asset, c.name, f) for c in CATALOGUE for f in c.flags]
    assert sorted(f for _, _, f in owners) == sorted(FLAGS)
    assert {asset for asset, _, _ in owners} == {"video_quality"}


def test_a_flag_without_a_cause_cannot_be_raised() -> None:
    with pytest.raises(KeyError, match="upside_down belongs to no cause"):
        quality._Findings(QualitySettings()).flag("upside_down")


def test_what_brings_what_along_ends_somewhere_and_names_only_flags() -> None:
    assert {*EXPLAINS, *(b for bs in EXPLAINS.values() for b in bs)} <= set(FLAGS)
    everything = list(FLAGS)
    for name in FLAGS:
        assert roots_of(name, everything) <= set(root_flags(everything))
        assert root_flags([name]) == [name]


def test_no_two_flags_hide_one_another() -> None:
    for a in FLAGS:
        for b in FLAGS:
            assert causes_of([a, b])


def test_only_one_module_holds_thresholds_of_videos() -> None:
    """Rules on videos read flags; a stage that reads pictures, meshes or sound could decide again."""
    for stage in STAGES:
        if stage.feature is None and not {"bpi_scores", "patients", "consent"} & set(stage.tables):
            assert set(stage.rules) <= {"video_quality"}


def test_every_check_has_its_words() -> None:
    for stage in STAGES:
        for check in stage.checks:
            for lost in (False, True):
                text = check.advise("0042", lost=lost)
                assert "0042" in text or check.asset in ("rejected_rows", "study_problems")
                assert text.endswith((".", "?")) and "{" not in text
            assert check.title and check.source


def test_a_copy_under_two_submissions_is_a_warning_and_under_two_patients_an_error(
    study: InventedStudy,
) -> None:
    study.sql(f"update videos set sha256 = repeat('a', 64) where video_id in ('{FIRST}', '{SECOND}')")
    flag(study, "duplicate", where=f"video_id in ('{FIRST}', '{SECOND}')")
    own = study.finding("video_quality", "duplicate_files")
    assert own.affected == (FIRST, SECOND)
    assert (own.severity, own.numbers["same as"]) == (None, [FIRST, SECOND])
    study.sql("update videos set sha256 = repeat('a', 64) where video_id = '0002-00'")
    strange = study.finding("video_quality", "duplicate_files")
    assert strange.severity == "ERROR"
    assert strange.numbers["other patients"] == [OTHER]


def test_an_issue_is_an_error_where_it_leaves_nothing_of_the_patient(study: InventedStudy) -> None:
    flag(study, "face_missing", "dark", where=EVERY_VIDEO)
    assert study.finding("video_quality", "dark_or_grainy").severity is None
    study.sql(
        f"update video_quality set usable = false, unusable_reason = 'face_missing' where {EVERY_VIDEO}"
    )
    found = study.finding("video_quality", "dark_or_grainy")
    assert (found.severity, found.lost, found.numbers["not usable"]) == ("ERROR", True, 8)
    assert study.failing() == {"video_quality:dark_or_grainy"}
    advice = find("video_quality", "dark_or_grainy").advise(GOOD, lost=True)
    assert advice.endswith("No video can be used so far: call them and record the next one together.")


def test_what_costs_no_video_is_no_error_though_others_cost_them_all(study: InventedStudy) -> None:
    flag(study, "unreadable", where=EVERY_VIDEO)
    flag(study, "duplicate", "signage")
    study.sql(
        f"update video_quality set usable = false, unusable_reason = 'unreadable' where {EVERY_VIDEO}",
        f"update video_quality set unusable_reason = 'duplicate' where video_id = '{FIRST}'",
    )
    severities = {
        name: study.finding("video_quality", name).severity
        for name in ("unreadable_videos", "duplicate_files", "signage")
    }
    assert severities == {"unreadable_videos": "ERROR", "duplicate_files": "ERROR", "signage": None}


def test_a_patient_without_measured_videos_fails_nothing(study: InventedStudy) -> None:
    study.sql("delete from video_quality")
    assert study.failing(GOOD, ("check_quality",)) == set()
