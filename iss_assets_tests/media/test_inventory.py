"""What becomes of files that cannot be read: real pipes, folders, rights and files that are gone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from iss_assets.intake.inventory import describe_video, placeholder_hash
from iss_assets.intake.records import VideoFile
from iss_assets.settings import VideoSettings

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account may look into, as pytest's own are not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def listed(path: Path, size: int = 7, mtime_ns: int = 5) -> VideoFile:
    return VideoFile("0001", "0001-01", path, "videos/0001/0001-01.mp4", size, mtime_ns, mtime_ns)


def problem_of(video: VideoFile) -> str:
    row, settled = describe_video(video, None, VideoSettings(), trust_probe=False)
    assert not settled and row["status"] == "unreadable"
    assert row["sha256"] == placeholder_hash(video.name, video.size, video.mtime_ns)
    return row["file_problem"]


def test_a_file_that_is_gone_a_pipe_or_a_folder_is_unread_and_says_why(folder: Path) -> None:
    assert "disappeared before it was read" in problem_of(listed(folder / "gone.mp4"))
    os.mkfifo(folder / "pipe.mp4")
    assert "not a regular file" in problem_of(listed(folder / "pipe.mp4"))
    (folder / "folder.mp4").mkdir()
    assert "not a regular file" in problem_of(listed(folder / "folder.mp4"))
    (folder / "circle.mp4").symlink_to(folder / "circle.mp4")
    assert "disappeared before it was read" in problem_of(listed(folder / "circle.mp4"))


def test_a_file_that_may_not_be_read_says_so(folder: Path) -> None:
    path = folder / "film.mp4"
    path.write_bytes(b"a video")
    path.chmod(0)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(NOBODY)
    try:
        assert "grant it to the account that runs this project" in problem_of(listed(path))
    finally:
        if as_root:
            os.seteuid(0)


def test_a_file_that_grows_while_it_is_hashed_is_read_again_by_the_next_run(folder: Path) -> None:
    path = folder / "film.mp4"
    path.write_bytes(b"a video, longer than when it was listed")
    assert "changed while it was read" in problem_of(listed(path))


def test_the_stand_in_of_a_file_that_could_not_be_read_is_never_taken_for_its_hash(folder: Path) -> None:
    path = folder / "film.mp4"
    video = listed(path)
    row, _ = describe_video(video, None, VideoSettings(), trust_probe=False)
    path.write_bytes(b"a video")
    os.utime(path, ns=(5, 5))
    again, settled = describe_video(video, row, VideoSettings(), trust_probe=True)
    assert settled and again["sha256"] != row["sha256"]
    assert "no video" in again["file_problem"]
