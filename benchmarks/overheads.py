"""Measure overheads: start-up, Dagster's events, checks, the warehouse.

    python -m benchmarks.overheads [--patients 12] [--submissions 4] [--seconds 20] [--against FOLDER]

Measured are `iss --help`, loading the code location, `iss run` over a sample study against the same extraction called
from Python in as many processes (probe, pictures, sound, quality; nothing stored), and `iss run` with nothing to do.

With `--against`, the same `iss run` is also made by another checkout of this project, in turn with this one, and the
difference between the two is printed in percentage points of the extraction, by the clock and in processor time: where
other programs use the machine as well, processor time is the one to trust.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar
from unittest import mock

from benchmarks.end_to_end import Run, iss_run
from benchmarks.incremental import made_up_study
from benchmarks.scale import spent
from iss_assets.features.identity import face_moments
from iss_assets.features.self_test import RowsInMemory
from iss_assets.intake.inventory import sha256_of
from iss_assets.media.audio import extract_audio
from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.identity import compare_videos
from iss_assets.media.quality import OtherVideos, assess_video
from iss_assets.media.video import probe
from iss_assets.media.visual import VisualTables, extract_visual
from iss_assets.settings import Settings
from iss_assets.synthetic.sample import write_sample_study

MAX_SECONDS = {
    "iss --help": 0.5,
    "loading the code location": 2.0,
    "iss run on 112 patients, nothing to do": 10.0,
}
MAX_OVERHEAD = 0.15

T = TypeVar("T")


def seconds_of(command: Sequence[str], times: int = 3) -> float:
    """Return the median duration of a command, after one run that fills the caches."""
    found = []
    for _ in range(times + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def extract_patient(folder: Path) -> tuple[float, float]:
    """Extract the videos of a patient like a run, without storing anything; return start and end time."""
    settings = Settings()
    began = time.time()
    threads = max(1, settings.run.threads // settings.run.workers)
    made = {}
    for path in sorted(folder.iterdir()):
        if path.stem.endswith("_prompt"):
            continue
        sha256 = sha256_of(path)
        try:
            info = probe(path, settings.video)
            visual = extract_visual(path, settings.video, settings.faces, settings.landmarks, threads=threads)
        except UnreadableVideo:
            continue
        row = {"video_id": path.stem, "sha256": sha256, "status": "ok", **vars(info)}
        made[path.stem] = row, visual, extract_audio(path, settings.audio)
    faces = {
        name: moments
        for name, (_, seen, _) in made.items()
        if (moments := face_moments(_rows_of(seen), settings)[1]) is not None
    }
    persons = compare_videos(faces, settings.quality)
    for name, (row, visual, sound) in made.items():
        assess_video(
            row,
            visual.frames,
            visual.faces,
            visual.landmarks,
            sound.audio.drop_columns(["waveform"]).to_pylist()[0] if sound else None,
            settings.quality,
            fps=settings.video.fps,
            others=OtherVideos(sha256s=frozenset(), person=persons.get(name)),
        )
    return began, time.time()


def _rows_of(seen: VisualTables) -> RowsInMemory:
    return RowsInMemory({"frames": seen.frames, "faces": seen.faces, "landmarks": seen.landmarks})


def extract_from_python(study: Path) -> float:
    """Extract every patient with the number of processes of `iss run`; return the total duration in seconds."""
    folders = sorted((study / "videos").iterdir())
    with ProcessPoolExecutor(Settings().run.workers, multiprocessing.get_context("spawn")) as pool:
        spans = list(pool.map(extract_patient, folders))
    return max(end for _, end in spans) - min(start for start, _ in spans)


def with_processor_time(work: Callable[[], T]) -> tuple[T, float]:
    """Return what `work` returns, and its processor time in seconds, with that of the processes that it started."""

    def spent_so_far() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used)

    before = spent_so_far()
    return work(), spent_so_far() - before


def iss_run_of(checkout: Path, study: Path, home: Path) -> Run:
    """Run `iss run` with the code of another checkout."""
    with mock.patch.dict(os.environ, {"PYTHONPATH": str(checkout)}):
        return iss_run(study, home)


def compare(study: Path, scratch: Path, other: Path, rounds: int) -> None:
    """Run this checkout and another in turn, and print how much more this one costs."""
    here = Path(__file__).resolve().parent.parent
    by_clock: list[float] = []
    by_processor: list[float] = []
    for number in range(rounds):
        plain, plain_busy = with_processor_time(lambda: extract_from_python(study))
        order = [here, other] if number % 2 else [other, here]
        took = {}
        for checkout in order:
            home = scratch / f"home-{number}-{order.index(checkout)}"
            run, busy = with_processor_time(lambda c=checkout, h=home: iss_run_of(c, study, h))  # type: ignore[misc]
            took[checkout] = run.patients, busy
        by_clock.append((took[here][0] - took[other][0]) / plain)
        by_processor.append((took[here][1] - took[other][1]) / plain_busy)
        print(
            f"extraction {plain:.1f} s ({plain_busy:.1f} s of processor time); patients' runs: "
            f"here {took[here][0]:.1f} s, there {took[other][0]:.1f} s; "
            f"whole command, processor time: here {took[here][1]:.1f} s, there {took[other][1]:.1f} s",
            flush=True,
        )
    print(
        f"this checkout costs {100 * statistics.median(by_clock):+.1f} percentage points of the extraction more by the "
        f"clock, {100 * statistics.median(by_processor):+.1f} in processor time"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--submissions", type=int, default=4, help="videos per patient")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each video")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--against", type=Path, help="root of another checkout to compare with; only that is done"
    )
    parser.add_argument("--tiny", action="store_true", help="one short video, to check correctness")
    given = parser.parse_args()
    if given.tiny:
        given.patients, given.submissions, given.seconds = 1, 1, 2.0
    if given.against:
        with tempfile.TemporaryDirectory() as folder:
            study = Path(folder) / "study"
            os.environ |= {"ISS_STUDY": str(study), "ISS_HOME": str(Path(folder) / "home")}
            write_sample_study(
                study,
                patients=given.patients,
                seconds=given.seconds,
                submissions_per_patient=given.submissions,
            )
            compare(study, Path(folder), given.against.resolve(), given.rounds)
        return 0
    iss = str(Path(sys.executable).with_name("iss"))
    times = 1 if given.tiny else 3
    found = {
        "iss --help": seconds_of([iss, "--help"], times),
        "loading the code location": seconds_of(
            [sys.executable, "-c", "import iss_assets.definitions"], times
        ),
    }
    over: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        os.environ |= {"ISS_STUDY": str(study), "ISS_HOME": str(Path(folder) / "home")}
        write_sample_study(
            study,
            patients=given.patients,
            seconds=given.seconds,
            submissions_per_patient=given.submissions,
        )
        for number in range(given.rounds):
            plain = extract_from_python(study)
            run = iss_run(study, Path(folder) / f"home{number}")
            over.append(run.patients / plain - 1)
            whole = sum(run.steps.values())
            shares = ", ".join(
                f"{n} {100 * s / whole:.0f} %" for n, s in sorted(run.steps.items(), key=lambda x: -x[1])
            )
            print(
                f"extraction from Python {plain:.1f} s; patients' runs {run.patients:.1f} s ({shares}); "
                f"start-up {run.before:.1f} s, study-wide {run.after:.1f} s",
                flush=True,
            )
        settings = Settings(study=Path(folder) / "large", home=Path(folder) / "large_home")
        os.environ |= {"ISS_STUDY": str(settings.study), "ISS_HOME": str(settings.home)}
        if not given.tiny:
            # the small version of `scale` covers this
            made_up_study(settings, 112, 18, 20)
            spent("run", "--no-models")
            found["iss run on 112 patients, nothing to do"] = spent("run", "--no-models")
    too_slow = statistics.median(over) > MAX_OVERHEAD
    print("\n| | seconds | limit |\n|---|---|---|")
    for name, seconds in found.items():
        too_slow |= seconds > MAX_SECONDS[name]
        print(f"| {name} | {seconds:.2f} | {MAX_SECONDS[name]:g} |")
    print(f"| overhead of the patients' runs | {100 * statistics.median(over):.0f} % | 15 % |")
    return 0 if given.tiny else int(too_slow)


if __name__ == "__main__":
    sys.exit(main())
