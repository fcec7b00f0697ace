"""What the measures of voice, behavior, words and the rest add to a patient's time: ``python -m benchmarks.features``.

`iss run` on the same sample study (or on given clips), with the features on and off in turn, each in a new home. Compared
are the patients' runs, from the start of the first to the end of the last, and the processor time of the whole
command: where other programs use the machine as well, processor time is the one to trust. The time of each feature's own
step says where it goes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from benchmarks.end_to_end import Run, iss_run, lengthen, make_study
from benchmarks.overheads import with_processor_time
from iss_assets.features.registry import FEATURES
from iss_assets.synthetic.sample import write_sample_study

MOST = 0.40
"""What all features may add to the time per patient."""


def one_run(study: Path, home: Path, on: Sequence[str]) -> tuple[Run, float]:
    """Run `iss run` with only these features; return its durations and its processor time."""
    switches = {f"ISS_{f.name.upper()}__ENABLED": str(f.name in on).lower() for f in FEATURES}
    with mock.patch.dict(os.environ, switches):
        return with_processor_time(lambda: iss_run(study, home))


def compare(study: Path, scratch: Path, rounds: int, names: Sequence[str]) -> float:
    """Run with and without features in turn, print a table, and return the median of the added processor time."""
    clock: list[float] = []
    busy: list[float] = []
    steps: dict[str, list[float]] = {}
    for number in range(rounds):
        took = {}
        for on in (names, ()) if number % 2 else ((), names):
            took[bool(on)] = one_run(study, scratch / f"home-{number}-{bool(on)}", on)
        (with_run, with_busy), (plain, plain_busy) = took[True], took[False]
        clock.append(with_run.patients / plain.patients - 1)
        busy.append(with_busy / plain_busy - 1)
        own = sum(plain.steps.values())
        for name in names:
            steps.setdefault(name, []).append(with_run.steps.get(f"extract_{name}", 0.0) / own)
        print(
            f"patients' runs {with_run.patients:.1f} s with features, {plain.patients:.1f} s without; processor time of the "
            f"command {with_busy:.1f} s and {plain_busy:.1f} s",
            flush=True,
        )
    print("\n| | share of a patient's time without features, % |\n|---|---|")
    for name, shares in steps.items():
        print(f"| step of {name} | {100 * statistics.median(shares):.0f} |")
    print(f"| all, by the clock | {100 * statistics.median(clock):.0f} |")
    print(f"| all, processor time | {100 * statistics.median(busy):.0f} |")
    print(f"| allowed | {100 * MOST:.0f} |")
    return statistics.median(busy)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clip", type=Path, help="a video for two patients; by default, a sample study is made"
    )
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--submissions", type=int, default=3, help="videos per patient of the sample study")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each video")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="features to switch on; by default all")
    parser.add_argument("--tiny", action="store_true", help="one short video, to check correctness")
    given = parser.parse_args()
    if given.tiny:
        given.patients, given.submissions, given.seconds, given.rounds = 1, 1, 2.0, 1
        given.only = ["voice"]
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        os.environ |= {"ISS_STUDY": str(study), "ISS_HOME": str(Path(folder) / "home")}
        if given.clip:
            video = Path(folder) / f"long{given.clip.suffix}"
            lengthen(given.clip, video, given.seconds)
            make_study(study, video, given.patients)
        else:
            write_sample_study(
                study,
                patients=given.patients,
                seconds=given.seconds,
                submissions_per_patient=given.submissions,
            )
        added = compare(study, Path(folder), given.rounds, given.only or [f.name for f in FEATURES])
    return 0 if given.tiny else int(added > MOST)


if __name__ == "__main__":
    sys.exit(main())
