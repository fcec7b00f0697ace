"""The files and rows of a patient in the study folder: all of them are found, and nobody else's are touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from iss_assets.privacy.study_files import delete_study_files, find_study_files
from iss_assets.privacy.traces import Traces
from iss_assets.settings import ReadingSettings

TRACES = Traces("0002", ("0002-01",))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    root = tmp_path / "study"
    for patient in ("0001", "0002"):
        (root / "videos" / patient).mkdir(parents=True)
        (root / "videos" / patient / f"{patient}-01.mp4").write_text(patient)
    (root / "enrollment.csv").write_text("patient_id,skin_type\n0001,I\n0002,II\n")
    return root


def test_a_link_that_leads_out_of_the_study_is_not_followed_and_is_reported(
    study: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (study / "videos").rename(elsewhere)
    (study / "videos").symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    found = find_study_files(study, TRACES, ReadingSettings())
    assert found.lines == ["enrollment.csv, line 3"]
    assert found.unread == ["videos (leads out of the study folder)"]
    delete_study_files(study, TRACES, ReadingSettings())
    assert sorted(elsewhere.rglob("*")) == before and (study / "videos").is_symlink()
    assert (study / "enrollment.csv").read_text() == "patient_id,skin_type\n0001,I\n"


def test_a_folder_or_file_of_the_patient_that_is_a_link_goes_and_what_it_leads_to_stays(
    study: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (study / "videos" / "0002").rename(elsewhere)
    (study / "videos" / "0002").symlink_to(elsewhere)
    (study / "videos" / "0001" / "0002-01.mov").symlink_to(elsewhere / "0002-01.mp4")
    assert find_study_files(study, TRACES, ReadingSettings()).files == [
        "videos/0001/0002-01.mov",
        "videos/0002",
    ]
    delete_study_files(study, TRACES, ReadingSettings())
    assert [p.name for p in sorted((study / "videos").rglob("*"))] == ["0001", "0001-01.mp4"]
    assert (elsewhere / "0002-01.mp4").read_text() == "0002"


def test_a_file_beside_the_patients_folders_is_the_patients_by_its_name_and_no_folder_that_cannot_be_read(
    study: Path,
) -> None:
    (study / "videos" / ".DS_Store").write_text("")
    (study / "videos" / "0002-01_prompt.mp4").write_text("")
    found = find_study_files(study, TRACES, ReadingSettings())
    assert found.files == ["videos/0002/0002-01.mp4", "videos/0002-01_prompt.mp4"] and found.unread == []
    delete_study_files(study, TRACES, ReadingSettings())
    assert sorted(p.name for p in (study / "videos").iterdir()) == [".DS_Store", "0001"]


def too_deep(folder: Path) -> None:
    """Make folders in folders until no path can name the last one, so that nobody can list it by its path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for _ in range(17):
            Path("d" * 250).mkdir()
            patch.chdir("d" * 250)


def test_a_folder_that_cannot_be_read_is_reported(study: Path) -> None:
    too_deep(study / "videos" / "0002")
    found = find_study_files(study, TRACES, ReadingSettings())
    assert found.files == ["videos/0002/0002-01.mp4"]
    (unread,) = found.unread
    assert unread.startswith("videos/0002/ddd") and unread.endswith("(OSError)")


def test_what_cannot_be_deleted_stays_whole_and_is_found_again(study: Path) -> None:
    # no file can be written beside it: a folder has that name
    (study / ".enrollment.csv.tmp").mkdir()
    before = (study / "enrollment.csv").read_bytes()
    delete_study_files(study, TRACES, ReadingSettings())
    assert (study / "enrollment.csv").read_bytes() == before
    assert find_study_files(study, TRACES, ReadingSettings()).lines == ["enrollment.csv, line 3"]
    assert not (study / "videos" / "0002").exists()
