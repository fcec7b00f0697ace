"""One bad file costs one file: with processes that really die, hang and eat memory."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from iss_assets.intake.inventory import sha256_of
from iss_assets.media.errors import BrokenFile, ChangedFile, MachineError, RefusedFile, UnreadableVideo
from iss_assets.media.isolation import Guard
from iss_assets.media.journal import Journal, Reading, Stage, Suspect, same_file
from iss_assets.media.self_test import run_self_test
from iss_assets.settings import Settings

CONTENT = "Jane Roe of 12 Main Street"
"""What an error may quote and no log may show."""


def in_child() -> bool:
    return multiprocessing.parent_process() is not None


def good() -> str:
    return "read"


def where() -> int:
    return os.getpid()


def fails_always() -> None:
    raise IndexError(CONTENT)


def fails_in_company() -> str:
    if not in_child():
        raise MemoryError
    return "read alone"


def dies() -> None:
    assert in_child()  # else the tests would die
    os.kill(os.getpid(), signal.SIGSEGV)


def is_ended_by_somebody() -> None:
    assert in_child()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def hangs() -> None:
    assert in_child()
    while True:
        pass


def eats() -> None:
    assert in_child()
    block = bytearray(b"x") * 700_000_000
    while True:
        block[-1] ^= 1


def refuses() -> None:
    raise UnreadableVideo("too_large", "Its pictures are too large.")


def finds_the_disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_interrupted() -> None:
    raise KeyboardInterrupt


def runs_out_of_depth() -> None:
    runs_out_of_depth()


def replaces(path: Path) -> str:
    path.write_bytes(b"another video")
    return "read"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"a video")
    return path


@pytest.fixture
def reading(file: Path) -> Callable[..., Reading]:
    def make(video_id: str = "0001-01", seconds: float = 60.0) -> Reading:
        status = file.stat()
        return Reading(
            "0001", video_id, "picture", sha256_of(file), seconds, file, status.st_size, status.st_mtime_ns
        )

    return make


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "reading")


def guard(journal: Journal, **more: Any) -> Guard:
    return Guard(journal, "0001", 0.5, **more)


def let_a_process_die(reading: Reading, folder: Path) -> None:
    """Kill a process while it reads, as the system does when memory runs out."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from iss_assets.media.journal import Journal, Reading\n"
        "path, status = Path(sys.argv[2]), Path(sys.argv[2]).stat()\n"
        "reading = Reading('0001', sys.argv[3], 'picture', sys.argv[4], 9.0, path, status.st_size, status.st_mtime_ns)\n"
        "with Journal(Path(sys.argv[1])).entry(reading):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    arguments = [str(folder), str(reading.path), reading.video_id, reading.sha256]
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_good_file_is_read_here_and_leaves_nothing_behind(
    journal: Journal, reading: Callable[..., Reading]
) -> None:
    with guard(journal) as careful:
        assert careful.attempt(reading(), where) == os.getpid()
    assert journal.suspects() == []


def test_an_error_is_tried_again_alone_and_twice_is_a_verdict_without_its_message(
    journal: Journal, reading: Callable[..., Reading]
) -> None:
    logged: list[str] = []
    with guard(journal, log=logged.append) as careful:
        with pytest.raises(BrokenFile, match=r"fails with an error of the program \(IndexError\)") as caught:
            careful.attempt(reading(), fails_always)
        assert careful.attempt(reading(), fails_in_company) == "read alone"
        with pytest.raises(BrokenFile) as deep:
            careful.attempt(reading(), runs_out_of_depth)
    assert (caught.value.status, caught.value.error) == ("unreadable", "IndexError")
    assert deep.value.error == "RecursionError"
    assert "fails_always" in logged[0] and not any(CONTENT in line for line in logged)
    assert journal.suspects() == []


def test_what_the_reader_says_of_a_file_is_not_tried_again(
    journal: Journal, reading: Callable[..., Reading]
) -> None:
    with guard(journal) as careful, pytest.raises(RefusedFile, match="too large") as caught:
        careful.attempt(reading(), refuses)
    assert caught.value.status == "too_large"


def test_a_file_that_stopped_the_program_before_and_stops_it_again_is_broken(
    journal: Journal, reading: Callable[..., Reading], tmp_path: Path
) -> None:
    let_a_process_die(reading(), tmp_path / "reading")
    assert journal.suspects() == [Suspect("0001-01", "picture", reading().sha256)]
    with guard(journal) as careful, pytest.raises(BrokenFile, match="stopped the program twice") as caught:
        careful.attempt(reading(), dies)
    assert caught.value.error == "died"
    assert journal.suspects() == []


def test_a_process_killed_at_a_good_file_is_not_held_against_it(
    journal: Journal, reading: Callable[..., Reading], tmp_path: Path
) -> None:
    let_a_process_die(reading(), tmp_path / "reading")
    with guard(journal) as careful:
        assert careful.attempt(reading(), where) != os.getpid()
    assert journal.suspects() == []


def test_one_suspect_makes_the_whole_patient_careful_but_no_other_patient(
    journal: Journal, reading: Callable[..., Reading], tmp_path: Path
) -> None:
    let_a_process_die(reading(), tmp_path / "reading")
    with guard(journal) as careful:
        first = careful.attempt(reading("0001-02"), where)
        assert first != os.getpid() and careful.attempt(reading("0001-03"), where) == first
        with pytest.raises(BrokenFile, match="twice"):
            careful.attempt(reading("0001-04"), dies)
        assert careful.attempt(reading("0001-05"), where) not in (first, os.getpid())
    with Guard(journal, "0002", 0.5) as other:
        assert other.attempt(reading("0002-01"), where) == os.getpid()


def test_what_is_being_read_at_this_moment_is_no_suspect(
    journal: Journal, reading: Callable[..., Reading]
) -> None:
    with journal.entry(reading()) as entry:
        assert not entry.died and Journal(journal._folder).suspects() == []


def test_a_replaced_file_is_no_suspect_any_more(
    journal: Journal, reading: Callable[..., Reading], file: Path, tmp_path: Path
) -> None:
    let_a_process_die(reading(), tmp_path / "reading")
    file.write_bytes(b"submitted again")
    with journal.entry(reading()) as entry:
        assert not entry.died
    let_a_process_die(reading(), tmp_path / "reading")
    journal.forget("0001", {"0001-01": reading().sha256})
    assert len(journal.suspects("0001")) == 1
    journal.forget("0001", {})
    assert journal.suspects() == []


def test_what_never_ends_or_eats_the_memory_is_stopped(
    journal: Journal, reading: Callable[..., Reading], tmp_path: Path
) -> None:
    let_a_process_die(reading(seconds=3.0), tmp_path / "reading")
    with guard(journal) as careful:
        with pytest.raises(BrokenFile, match="did not come to an end within 3 seconds"):
            careful.attempt(reading(seconds=3.0), hangs)
        with pytest.raises(BrokenFile, match=r"more than 0\.5 GB"):
            careful.attempt(reading("0001-02"), eats)


def test_a_process_that_reads_for_too_long_ends_itself_and_leaves_a_suspect(
    reading: Callable[..., Reading], tmp_path: Path
) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from iss_assets.media.isolation import Guard\n"
        "from iss_assets.media.journal import Journal, Reading\n"
        "def hangs():\n"
        "    while True: pass\n"
        "with Guard(Journal(Path(sys.argv[1])), '0001', 1.0) as careful:\n"
        "    careful.attempt(Reading('0001', '0001-01', 'sound', 'a' * 64, 1.0), hangs)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "reading")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1 and "in hangs" in done.stderr
    assert Journal(tmp_path / "reading").suspects() == [Suspect("0001-01", "sound", "a" * 64)]


def test_the_machines_faults_are_no_files(
    journal: Journal, reading: Callable[..., Reading], tmp_path: Path
) -> None:
    with guard(journal) as careful:
        with pytest.raises(OSError, match="No space left"):
            careful.attempt(reading(), finds_the_disk_full)
        with pytest.raises(KeyboardInterrupt):
            careful.attempt(reading(), is_interrupted)
    assert journal.suspects() == []
    let_a_process_die(reading(), tmp_path / "reading")
    with guard(journal) as careful:
        with pytest.raises(MachineError, match="someone ended"):
            careful.attempt(reading(), is_ended_by_somebody)
        with pytest.raises(MachineError, match="OSError"):
            careful.attempt(reading(), finds_the_disk_full)
    with guard(journal, self_test=dies) as careful, pytest.raises(MachineError, match="test video"):
        careful.attempt(reading(), good)
    # the next run is as careful as these were
    assert len(journal.suspects("0001")) == 1


def test_a_file_that_changes_while_it_is_read_gives_no_rows_and_no_verdict(
    journal: Journal, reading: Callable[..., Reading], file: Path
) -> None:
    with guard(journal) as careful:
        before = reading()
        with pytest.raises(ChangedFile):
            careful.attempt(before, replaces, file)
        before = reading()
        file.unlink()
        for work in (good, fails_always, refuses):
            with pytest.raises(ChangedFile):
                careful.attempt(before, work)
    assert journal.suspects() == []


def test_a_pipe_in_the_place_of_a_file_neither_blocks_nor_counts(
    tmp_path: Path, file: Path, reading: Callable[..., Reading]
) -> None:
    before = reading()
    file.unlink()
    os.mkfifo(file)
    assert not same_file(before, thorough=True)
    with pytest.raises(OSError, match="not a regular file"):
        sha256_of(file)


def test_the_journal_can_be_read_by_its_owner_only(
    journal: Journal, reading: Callable[..., Reading], tmp_path: Path
) -> None:
    with journal.entry(reading()):
        (path,) = (tmp_path / "reading").iterdir()
        assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
        assert json.loads(path.read_bytes())["sha256"] == reading().sha256
        with path.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("stage", ["probe", "picture", "sound", "quality"])
def test_the_test_video_can_be_read(stage: Stage, settings: Settings) -> None:
    run_self_test(stage, settings)


def test_partial_functions_and_results_go_to_the_other_process_and_back(
    journal: Journal, reading: Callable[..., Reading], tmp_path: Path
) -> None:
    let_a_process_die(reading(), tmp_path / "reading")
    with guard(journal) as careful:
        assert careful.attempt(reading(), partial(max, key=abs), -3, 2) == -3
