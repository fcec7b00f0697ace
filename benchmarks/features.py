"""What the measures of voice, behavior, words and the rest add to a patient's time: ``python -m benchmarks.features``.

`iss run` on the same sample study (or on given clips), without features, with all but words, and with all, in turn, each in a
new home. By the clock, the runs of patients and those of their words, which come after the rest, are compared from the start of
the first to the end of the last. Processor time is that of the whole command, without what the same command takes when answers
have changed and nothing is extracted: where other programs use the machine as well, it is the one to trust. The time of
each feature's own step says where it goes.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

from benchmarks.end_to_end import Run, iss_run, lengthen, make_study
from benchmarks.overheads import with_processor_time
from iss_assets.features.registry import FEATURES
from iss_assets.synthetic.sample import write_sample_study

MOST = 0.40
"""What the features may add to the time per patient; words, in runs of their own after the rest, need not be in it."""
WORDS = "words"


def one_run(study: Path, home: Path, on: Sequence[str]) -> tuple[Run, float]:
    """Run `iss run` with only these features; return its durations and its processor time."""
    switches = {f"ISS_{f.name.upper()}__ENABLED": str(f.name in on).lower() for f in FEATURES}
    with mock.patch.dict(os.environ, switches):
        return with_processor_time(lambda: iss_run(study, home))


def change_answers(study: Path) -> None:
    """Swap home and clinic in every survey, so that all patients have to be run and no video is extracted."""
    surveys = study / "surveys.csv"
    swapped = {"home": "clinic", "clinic": "home"}
    surveys.write_text(
        re.sub(r"\b(home|clinic)\b", lambda found: swapped[found.group()], surveys.read_text("utf-8")),
        "utf-8",
    )


def measure(study: Path, scratch: Path, rounds: int, names: Sequence[str]) -> Mapping[str, list[float]]:
    """Run without features, without words, and with all in turn; return what each adds, as shares, by round."""
    ways: dict[str, Sequence[str]] = {"plain": (), "rest": [n for n in names if n != WORDS]}
    if WORDS in names:
        ways["all"] = names
    added: dict[str, list[float]] = {}
    for number in range(rounds):
        took: dict[str, tuple[Run, float]] = {}
        for way in reversed(ways) if number % 2 else ways:
            took[way] = one_run(study, scratch / f"home-{number}-{way}", ways[way])
        change_answers(study)
        _, nothing = one_run(study, scratch / f"home-{number}-plain", ())
        plain, busy = took["plain"]
        extraction = busy - nothing
        rest, rest_busy = took["rest"]
        own = sum(plain.steps.values())
        found = {f"step of {n}": rest.steps.get(f"extract_{n}", 0.0) / own for n in ways["rest"]}
        found["all without words, by the clock"] = rest.patients / plain.patients - 1
        found["all without words, processor time"] = (rest_busy - busy) / extraction
        print(
            f"runs of patients {rest.patients:.1f} s with features, {plain.patients:.1f} s without; processor time of the command "
            f"{rest_busy:.1f} s and {busy:.1f} s, {nothing:.1f} s if nothing is extracted",
            flush=True,
        )
        if "all" in took:
            whole, whole_busy = took["all"]
            found["words, in runs of their own, by the clock"] = whole.words / plain.patients
            found["all, by the clock"] = (whole.patients + whole.words) / plain.patients - 1
            found["all, processor time"] = (whole_busy - busy) / extraction
            print(
                f"with words: runs of patients {whole.patients:.1f} s, then of words {whole.words:.1f} s; processor time of the "
                f"command {whole_busy:.1f} s",
                flush=True,
            )
        for name, share in found.items():
            added.setdefault(name, []).append(share)
    return added


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clip", type=Path, help="a video for all patients; by default, a sample study is made"
    )
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--submissions", type=int, default=3, help="videos per patient")
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
            make_study(study, video, given.patients, given.submissions)
        else:
            write_sample_study(
                study,
                patients=given.patients,
                seconds=given.seconds,
                submissions_per_patient=given.submissions,
            )
        names = given.only or [f.name for f in FEATURES]
        added = measure(study, Path(folder), given.rounds, names)
    print("\n| | share of a patient's time without features, % |\n|---|---|")
    for name, shares in added.items():
        print(f"| {name} | {100 * statistics.median(shares):.0f} |")
    print(f"| allowed without words | {100 * MOST:.0f} |")
    return 0 if given.tiny else int(statistics.median(added["all without words, processor time"]) > MOST)


if __name__ == "__main__":
    sys.exit(main())
