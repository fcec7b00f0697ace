"""Each rule on videos, pictures, faces, landmarks and quality flags, on its trouble and on its absence."""

from __future__ import annotations

import pytest

from iss_assets.checks.catalogue import CATALOGUE, find
from iss_assets_tests.checks.conftest import FRAMES, GOOD, OTHER, InventedStudy, mesh

FIRST = "0001-00"
SEEN = ("check_seen",)


def test_unreadable_videos_are_named_and_the_patient_still_has_others(study: InventedStudy) -> None:
    study.sql("update videos set status = 'unreadable' where video_id = '0001-00'")
    assert study.finding("videos", "unreadable_videos").affected == (FIRST,)
    assert study.finding("videos", "no_usable_video").passed


def test_a_patient_without_one_readable_video_is_told_like_0009(study: InventedStudy) -> None:
    study.sql("update videos set status = 'unreadable' where patient_id = '0001'")
    found = study.finding("videos", "no_usable_video")
    assert len(found.affected) == 8
    assert find("videos", "no_usable_video").severity == "ERROR"
    assert study.finding("videos", "no_usable_video", OTHER).passed


def test_a_patient_who_sent_nothing_yet_has_no_unusable_video(study: InventedStudy) -> None:
    study.sql("delete from videos where patient_id = '0001'")
    assert study.finding("videos", "no_usable_video").passed


@pytest.mark.parametrize(
    ("seconds", "passed"), [(3.5, False), (14.9, False), (15, True), (180, True), (181, False)]
)
def test_narratives_take_fifteen_seconds_to_three_minutes(
    study: InventedStudy, seconds: float, passed: bool
) -> None:
    study.sql("update videos set duration_s = $1 where video_id = '0001-00'", params=[seconds])
    assert study.finding("videos", "duration").passed is passed


def test_a_video_without_a_sound_track_is_named(study: InventedStudy) -> None:
    study.sql("update videos set has_audio = false where video_id = '0001-00'")
    assert study.finding("videos", "no_sound").affected == (FIRST,)


def test_a_copy_under_two_submissions_is_a_warning_and_under_two_patients_an_error(
    study: InventedStudy,
) -> None:
    study.sql("update videos set sha256 = repeat('a', 64) where video_id in ('0001-00', '0001-02')")
    own = study.finding("videos", "duplicate_files")
    assert own.affected == ("0001-00", "0001-02")
    assert own.severity is None
    study.sql("update videos set sha256 = repeat('a', 64) where video_id = '0002-00'")
    strange = study.finding("videos", "duplicate_files")
    assert strange.severity == "ERROR"
    assert strange.numbers["other patients"] == [OTHER]


def test_empty_files_are_unreadable_and_no_copies_of_one_another(study: InventedStudy) -> None:
    study.sql("update videos set sha256 = repeat('a', 64), bytes = 0 where patient_id = '0001'")
    assert study.finding("videos", "duplicate_files").passed


def test_a_picture_that_stands_still_for_much_of_the_video_is_frozen(study: InventedStudy) -> None:
    study.sql("update frames set motion = 0 where video_id = '0001-00' and frame_index > 40")
    found = study.finding("frames", "frozen_picture")
    assert found.affected == (FIRST,)
    assert found.numbers["still shares"][FIRST] == pytest.approx(119 / 160, abs=0.01)


def test_a_picture_that_stutters_is_not_frozen(study: InventedStudy) -> None:
    study.sql("update frames set motion = 0 where video_id = '0001-00' and frame_index % 4 <> 0")
    assert study.finding("frames", "frozen_picture").passed


def test_a_moment_of_stillness_is_not_frozen(study: InventedStudy) -> None:
    study.sql("update frames set motion = 0 where video_id = '0001-00' and frame_index between 20 and 50")
    assert study.finding("frames", "frozen_picture").passed


@pytest.mark.parametrize("seconds", [FRAMES / 20, FRAMES / 5])
def test_a_number_of_pictures_that_does_not_fit_the_duration_is_told(
    study: InventedStudy, seconds: float
) -> None:
    study.sql("update videos set duration_s = $1 where video_id = '0001-00'", params=[seconds])
    assert study.finding("frames", "frame_count").affected == (FIRST,)


def test_a_duration_that_counts_a_little_more_sound_fits(study: InventedStudy) -> None:
    study.sql("update videos set duration_s = duration_s * 1.02")
    assert study.finding("frames", "frame_count").passed


def test_the_face_rate_is_held_against_the_papers(study: InventedStudy) -> None:
    study.sql("delete from faces where patient_id = '0001' and frame_index % 12 = 0")
    assert study.finding("faces", "face_detection_rate").passed, "0.917 is more than 0.91"
    study.sql("delete from faces where video_id = '0001-00'")
    found = study.finding("faces", "face_detection_rate")
    assert found.affected == (FIRST,)
    assert found.severity is None


def test_a_patient_without_any_face_is_an_error(study: InventedStudy) -> None:
    study.sql("delete from faces where patient_id = '0001'")
    found = study.finding("faces", "face_detection_rate")
    assert (found.severity, len(found.affected)) == ("ERROR", 8)


@pytest.mark.parametrize(("failures", "passed"), [(5, True), (8, True), (9, False)])
def test_landmark_failures_are_held_against_2_86_percent_of_the_faces(
    study: InventedStudy, failures: int, passed: bool
) -> None:
    study.sql(
        "update landmarks set detected = false, points = null where video_id = '0001-00' and frame_index < $1",
        params=[failures],
    )
    assert study.finding("landmarks", "landmark_failure_rate").passed is passed


def test_two_failures_do_not_condemn_a_short_video(study: InventedStudy) -> None:
    study.sql(
        "delete from landmarks where frame_index >= 20",
        "update landmarks set detected = false, points = null where video_id = '0001-00' and frame_index < 2",
    )
    assert study.finding("landmarks", "landmark_failure_rate").passed


@pytest.mark.parametrize(
    ("shape", "check"),
    [
        (mesh(roll=180), "mirrored_or_upside_down"),
        (mesh(roll=90), "mirrored_or_upside_down"),
        (mesh(mirrored=True), "mirrored_or_upside_down"),
        (mesh(squeeze=0.1), "implausible_mesh"),
        (mesh(squeeze=4), "implausible_mesh"),
        (mesh(left=1.5), "implausible_mesh"),
    ],
)
def test_meshes_that_are_no_upright_face_are_told_by_their_own_check(
    study: InventedStudy, shape: list[float], check: str
) -> None:
    study.sql("update landmarks set points = $1::float[1404] where video_id = '0001-00'", params=[shape])
    assert study.failing(GOOD, SEEN) == {f"landmarks:{check}"}
    assert study.finding("landmarks", check).affected == (FIRST,)


@pytest.mark.parametrize("shape", [mesh(roll=30), mesh(roll=-40), mesh(squeeze=0.5), mesh(squeeze=1.3)])
def test_tilted_turned_and_lowered_heads_are_faces(study: InventedStudy, shape: list[float]) -> None:
    study.sql("update landmarks set points = $1::float[1404] where video_id = '0001-00'", params=[shape])
    assert study.failing(GOOD, SEEN) == set()


def test_a_face_that_is_suddenly_elsewhere_jumps(study: InventedStudy) -> None:
    study.sql(
        "update faces set x1 = x1 + 300, x2 = x2 + 300 where video_id = '0001-00' and frame_index % 20 < 5"
    )
    assert study.failing(GOOD, SEEN) == {"landmarks:jumping_mesh"}


def test_a_face_that_moves_across_the_picture_does_not_jump(study: InventedStudy) -> None:
    study.sql(
        "update faces set x1 = x1 + 10 * frame_index, x2 = x2 + 10 * frame_index where video_id = '0001-00'"
    )
    assert study.failing(GOOD, SEEN) == set()


def test_a_face_that_was_lost_in_between_may_come_back_elsewhere(study: InventedStudy) -> None:
    study.sql(
        "update faces set x1 = x1 + 300, x2 = x2 + 300 where video_id = '0001-00' and frame_index > 80",
        "delete from landmarks where video_id = '0001-00' and frame_index between 75 and 85",
    )
    assert study.finding("landmarks", "jumping_mesh").passed


FLAGGED = [(check.name, flag) for check in CATALOGUE for flag in check.flags]


@pytest.mark.parametrize(("check", "flag"), FLAGGED)
def test_each_flag_fails_its_own_check_and_no_other(study: InventedStudy, check: str, flag: str) -> None:
    study.sql(f"update video_quality set flags = ['{flag}'] where video_id = '0001-00'")
    assert study.failing(GOOD, ("check_quality",)) == {f"video_quality:{check}"}


def test_a_flag_is_the_patients_own(study: InventedStudy) -> None:
    study.sql("update video_quality set flags = ['dark'] where video_id = '0001-00'")
    assert study.failing(OTHER, ("check_quality",)) == set()


def test_every_flag_that_can_be_raised_is_told_by_exactly_one_check() -> None:
    from iss_assets.media.quality import FLAGS

    assert sorted(flag for _, flag in FLAGGED) == sorted(FLAGS)


def test_every_check_has_its_words() -> None:
    from iss_assets.checks.build import STAGES

    for stage in STAGES:
        for check in stage.checks:
            assert "0042" in check.advise("0042") or check.asset in ("rejected_rows", "study_problems")
            assert check.advise("0042").endswith(".")
            assert check.title and check.source


def test_a_trouble_of_every_video_is_an_error_once_none_is_usable(study: InventedStudy) -> None:
    study.sql("update video_quality set flags = ['dark'] where patient_id = '0001'")
    assert study.finding("video_quality", "dark_or_grainy").severity is None
    study.sql("update video_quality set usable = false, unusable_reason = 'dark' where patient_id = '0001'")
    assert study.finding("video_quality", "dark_or_grainy").severity == "ERROR"
    found = study.finding("video_quality", "nothing_usable")
    assert (len(found.affected), found.numbers["reasons"]) == (8, {"dark": 8})


def test_a_patient_without_measured_videos_fails_nothing(study: InventedStudy) -> None:
    study.sql("delete from video_quality")
    assert study.failing(GOOD, ("check_quality",)) == set()
