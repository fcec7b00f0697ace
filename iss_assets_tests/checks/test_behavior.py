"""Checks on behavior: a head that is turned away for most of the narrative, and samples that are not those with a face mesh."""

from __future__ import annotations

import pytest

from iss_assets.protocol.catalogue import find
from iss_assets.schemas.behavior import FaceBehaviorSummary
from iss_assets.settings import CheckSettings
from iss_assets_tests.checks.conftest import GOOD, OTHER, InventedStudy

CHECK = ("face_behavior_summary", "head_turned_away")


def summarize(study: InventedStudy, video: str, measured: int, away: float | None) -> None:
    rows = [
        {
            "video_id": video,
            "patient_id": video[:4],
            "chunk_index": chunk,
            "pictures": 160,
            "measured": measured,
            "facing": round(measured * (1 - (away or 0))),
            "seconds": 16.0,
            "away_share": share,
            "fingerprint": "f",
        }
        # a chunk in which the head is turned away is not the video
        for chunk, share in ((-1, away), (0, None if away is None else 1.0))
    ]
    with study.warehouse.write() as writer:
        writer.replace(FaceBehaviorSummary, FaceBehaviorSummary.from_rows(rows), {"video_id": video})
        # a sample for each of the study's meshes
        writer.execute("delete from face_behavior where video_id = ?", [video])
        writer.execute(
            "insert into face_behavior (video_id, patient_id, frame_index, time_s, chunk_index, repeated, facing, fingerprint) "
            "select video_id, patient_id, frame_index, time_s, chunk_index, false, true, 'f' from frames where video_id = ?",
            [video],
        )


def test_a_head_that_is_turned_away_for_most_of_a_video_fails_the_check(study: InventedStudy) -> None:
    summarize(study, "0001-00", 150, 0.8)
    summarize(study, "0001-02", 150, 0.1)
    found = study.finding(*CHECK)
    assert not found.passed and found.affected == ("0001-00",)
    assert found.numbers["share turned away"] == {"0001-00": 0.8} and found.numbers["checked"] == 2
    assert study.failing() == {":".join(CHECK)} and study.failing(OTHER) == set()
    assert "look at the phone" in find(*CHECK).advise(GOOD)


@pytest.mark.parametrize(
    ("measured", "away"), [(150, 0.0), (150, CheckSettings().away_share), (9, 1.0), (0, None)]
)
def test_a_head_that_faces_the_camera_or_is_hardly_seen_passes(
    study: InventedStudy, measured: int, away: float | None
) -> None:
    """That the face is missing is what other checks say."""
    summarize(study, "0001-00", measured, away)
    assert study.finding(*CHECK).passed


def test_a_patient_whose_behavior_was_not_measured_passes(study: InventedStudy) -> None:
    assert study.finding(*CHECK).passed


OF_FIRST = "where video_id = '0001-00' and frame_index"


@pytest.mark.parametrize(
    ("wrong", "pictures"),
    [
        (f"delete from face_behavior {OF_FIRST} in (3, 4)", 2),
        (f"update landmarks set detected = false {OF_FIRST} = 3", 1),
        (f"update face_behavior set time_s = time_s + 0.1 {OF_FIRST} >= 157", 3),
    ],
)
def test_behavior_that_was_measured_in_other_meshes_than_the_stored_ones_fails_its_check(
    study: InventedStudy, wrong: str, pictures: int
) -> None:
    for video in ("0001-00", "0001-02"):
        summarize(study, video, 150, 0.1)
    assert study.finding("face_behavior", "behavior_without_mesh").numbers["checked"] == 2
    assert study.failing(stages=("check_behavior",)) == set()
    study.sql(wrong)
    found = study.finding("face_behavior", "behavior_without_mesh")
    assert found.affected == ("0001-00",) and found.numbers["pictures"] == {"0001-00": pictures}
    assert study.failing(stages=("check_behavior",)) == {"face_behavior:behavior_without_mesh"}


def test_a_video_in_which_no_mesh_was_found_passes(study: InventedStudy) -> None:
    summarize(study, "0001-00", 0, None)
    study.sql(
        "delete from face_behavior where video_id = '0001-00'",
        "update landmarks set detected = false where video_id = '0001-00'",
    )
    assert study.finding("face_behavior", "behavior_without_mesh").passed
    study.sql("update landmarks set detected = true where video_id = '0001-00'")
    assert not study.finding("face_behavior", "behavior_without_mesh").passed, "160 meshes, none measured"
