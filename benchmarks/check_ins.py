"""How often the clinic's report says the right thing: studies of check-ins whose truth is known, repeated.

    python -m benchmarks.check_ins [--seeds 100] [--patients 29 112] [--into FILE]

Each study has 29 or 112 invented patients with 4 to 16 check-ins, eight measures that say nothing, and one in the voice whose
correlation with pain within patients is known (``iss_assets.synthetic.check_ins``). The evaluation is the report's, from measures over
folds and models to sentences: linear model and boosted trees, new and known patients, every claim and Holm's correction over all of
them, ranges of likely answers, decision curves.

*Room* is the correlation of pain with the light in the room, which shows in the face too: a confounder, of which nothing must be
claimed for the face. *Lasting* is how much a day resembles the day before, of pain and of every measure alike. With no effect, every
claim is wrong: the share of studies with any must not exceed 5 %. With an effect, the share of studies that claim it is the power, and
the sizes that are found are compared with the truth. Of the ranges of likely answers 90 % should hold the answer, on average over
patients, whatever the model has learned.

With ``--into`` every study is a line of a file as soon as it is done, and a second call goes on where the first was ended.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from iss_assets.evaluation.check_ins.claims import BEATS, BEATS_LAST, FOLLOWS, claims
from iss_assets.evaluation.check_ins.clinical import Clinical, decide
from iss_assets.evaluation.check_ins.decisions import corrected
from iss_assets.evaluation.check_ins.design import CheckIns, Design, check_ins, design, predictors
from iss_assets.evaluation.check_ins.inference import mixed_effect
from iss_assets.evaluation.check_ins.learned import size_of_sign
from iss_assets.evaluation.check_ins.learners import fit_ridge
from iss_assets.evaluation.check_ins.likely import Likely, likely_answers, reach_of
from iss_assets.evaluation.check_ins.protocols import ROOM, predictions, without_video
from iss_assets.evaluation.check_ins.study import claims_table
from iss_assets.evaluation.intervals import Interval, share_interval
from iss_assets.evaluation.verdicts import YES
from iss_assets.modeling.check_ins import NUISANCE, SENSORS, experiments_for
from iss_assets.protocol.targets import target
from iss_assets.reports.clinic_lines import first_lines
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import InventedCheckIns, invent_check_ins

CHECK_INS = (4, 16)
SETTINGS = CheckInSettings(targets=("pain_now",), bootstrap_samples=499, permutations=1999, trees=20)
NOTHING = "Nothing"
"""How the first line begins where nothing is shown."""


@dataclass(frozen=True)
class Truth:
    """What is planted in a study."""

    patients: int
    effect: float = 0.0
    room: float = 0.0
    lasting: float = 0.0


SCENARIOS = (
    Truth(0),
    Truth(0, lasting=0.6),
    Truth(0, effect=0.5),
    Truth(0, effect=0.3),
    Truth(0, room=0.6),
    Truth(0, effect=0.5, lasting=0.6),
)
"""What is planted, for each number of patients."""


@dataclass(frozen=True)
class Said:
    """What the report says of one study.

    Attributes
    ----------
    first_line : bool
        Whether the first line says that something was found.
    follows, beats_last, beats : bool
        Supported claims by kind.
    useful : bool
        Whether acting on any probability is called useful.
    asked : int
        Probabilities of which that was asked.
    mixed, reached, size : float
        Correlation that the mixed model finds, that the linear model for known patients reaches, and the size of the sign
        without what learning from few patients hides; NaN where the report does not state one.
    mixed_holds, reached_holds, size_holds : bool
        Whether their intervals hold the planted effect.
    covered : dict of str to float
        Share of check-ins in their range of likely answers, mean over patients, by model and known check-ins.
    """

    first_line: bool
    follows: bool
    beats_last: bool
    beats: bool
    useful: bool
    asked: int
    mixed: float
    mixed_holds: bool
    reached: float
    reached_holds: bool
    size: float
    size_holds: bool
    covered: dict[str, float]


def as_submitted(truth: Truth, seed: int) -> InventedCheckIns:
    """Invent a study; patients drop out after 4 to 16 check-ins."""
    made = invent_check_ins(
        truth.patients,
        CHECK_INS[1],
        effect=truth.effect,
        confounded=truth.room,
        lasting=truth.lasting,
        seed=seed,
    )
    rng = np.random.default_rng([seed, 416])
    last = dict(
        zip(made.patients["patient_id"], rng.integers(*CHECK_INS, truth.patients, endpoint=True), strict=True)
    )
    number = made.bpi_scores.groupby("patient_id").cumcount() + 1
    stayed = made.bpi_scores[number <= made.bpi_scores["patient_id"].map(last)]
    return replace(made, bpi_scores=stayed.reset_index(drop=True))


def invented(truth: Truth, seed: int) -> tuple[CheckIns, Design]:
    """Invent a study as arrays."""
    made = as_submitted(truth, seed)
    rows = check_ins(made.bpi_scores, made.splits, made.measures)
    return rows, design(rows, target("pain_now"))


def holds(interval: Interval, value: float) -> bool:
    """Return whether an interval holds a value."""
    return interval.low is not None and interval.high is not None and interval.low <= value <= interval.high


def study(truth: Truth, seed: int) -> Said:
    """Invent a study and evaluate it."""
    rows, of = invented(truth, seed)
    around = pd.DataFrame(predictors(rows, of, NUISANCE)[0], index=of.submission)
    predicted = predictions(rows, of, experiments_for(["pain_now"]), SETTINGS)
    found = claims(predicted, {"pain_now": around}, SETTINGS)
    x, names = predictors(rows, of, SENSORS)
    line, _ = first_lines(claims_table(found).to_pandas(), pd.DataFrame({"measure": names}), SETTINGS)
    supported = {
        kind: any(c.kind == kind and c.verdict == YES and c.model != ROOM for c in found)
        for kind in (FOLLOWS, BEATS_LAST, BEATS)
    }
    sign = mixed_effect("sign", x[:, names.index("voice: voice.sign")], of, SETTINGS)
    assert sign is not None
    share = sign.correlation / sign.points
    linear = next(c.value for c in found if c.kind == FOLLOWS and c.model == "pain_now_ridge")
    stated = [c for c in found if c.kind == FOLLOWS and c.model == "pain_now_ridge" and c.verdict == YES]
    size = (
        size_of_sign(fit_ridge, x, of, around, stated[0].known, SETTINGS)
        if stated
        else Interval(None, None, None, 0, "none")
    )
    made, covered = asked_of_likely(predicted, of)
    return Said(
        not line.startswith(NOTHING),
        supported[FOLLOWS],
        supported[BEATS_LAST],
        supported[BEATS],
        any(u.verdict == YES for u in made.usefulness),
        len(made.usefulness),
        sign.correlation,
        sign.low * share <= truth.effect <= sign.high * share,
        float("nan") if linear.estimate is None else linear.estimate,
        holds(linear, truth.effect),
        float("nan") if size.estimate is None else size.estimate,
        holds(size, truth.effect),
        covered,
    )


def asked_of_likely(predicted: pd.DataFrame, of: Design) -> tuple[Clinical, dict[str, float]]:
    """Make ranges and decision curves of every situation; return them with the share of answers in their range."""
    made, covered = Clinical(), {}
    for key, group in predicted.groupby(["protocol", "known"], sort=False):
        protocol, known = cast(tuple[str, int], key)
        guess = without_video(int(known))
        likely: dict[str, Likely] = {
            str(name): likely_answers(own, of, SETTINGS)
            for name, own in group.groupby("model", sort=False)
            if name in (guess, ROOM) or own["kind"].iloc[0] == "model"
        }
        for name, ranges in likely.items():
            answer = of.y[ranges.row]
            inside = (ranges.low <= answer + 1e-9) & (answer <= ranges.high + 1e-9)
            patient = of.patient[ranges.row]
            there = np.bincount(patient) > 0
            own = np.bincount(patient, weights=inside)[there] / np.bincount(patient)[there]
            covered[f"{name.removeprefix('pain_now_')} {known}"] = float(own.mean())
        decide(made, ("pain_now", str(protocol), int(known)), likely, guess, of, SETTINGS)
    made.usefulness = corrected(made.usefulness, SETTINGS)
    return made, covered


def simulate(patients: Sequence[int], seeds: int, into: Path | None) -> dict[Truth, list[Said]]:
    """Repeat every scenario, seed by seed, so that an early end leaves as many studies of each."""
    done: dict[tuple[Truth, int], Said] = {}
    if into is not None and into.exists():
        for line in into.read_text("utf-8").splitlines():
            row = json.loads(line)
            done[Truth(**row["truth"]), row["seed"]] = Said(**row["said"])
    every = [
        (Truth(number, planted.effect, planted.room, planted.lasting), seed)
        for seed in range(seeds)
        for planted in SCENARIOS
        for number in patients
    ]
    for truth, seed in every:
        if (truth, seed) in done:
            continue
        done[truth, seed] = said = study(truth, seed)
        if into is not None:
            row = {"truth": asdict(truth), "seed": seed, "said": asdict(said)}
            with into.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    made: dict[Truth, list[Said]] = {}
    for (truth, _), said in done.items():
        made.setdefault(truth, []).append(said)
    return dict(
        sorted(
            made.items(), key=lambda item: (item[0].patients, item[0].effect, item[0].room, item[0].lasting)
        )
    )


def percent(happened: Sequence[bool]) -> str:
    """Write a share of studies with its exact interval."""
    found = share_interval(sum(happened), len(happened))
    return f"{np.mean(happened):.0%} ({found.low or 0:.0%}–{found.high or 0:.0%})"


def tables(made: dict[Truth, list[Said]]) -> None:
    """Print what was said, what sizes were found, and how often ranges held the answer."""
    head = "| patients | effect | room | lasting | studies |"
    print(
        f"{head} first line | follows changes | beats last answer | beats best reference | worth acting on |\n"
        + "|---" * 10
        + "|"
    )
    start = {
        truth: f"| {truth.patients} | {truth.effect:g} | {truth.room:g} | {truth.lasting:g} | {len(said)} |"
        for truth, said in made.items()
    }
    for truth, said in made.items():
        kinds = ([s.first_line for s in said], [s.follows for s in said], [s.beats_last for s in said],
                 [s.beats for s in said], [s.useful for s in said])  # fmt: skip
        print(start[truth], " | ".join(percent(kind) for kind in kinds), "|")
    print(
        f"\n{head} mixed model | holds it | known patient: reached | holds it | size of the sign | holds it | stated in |\n"
        + "|---" * 12
        + "|"
    )
    for truth, said in made.items():
        if truth.effect:
            stated = [s for s in said if not np.isnan(s.size)]
            sizes = (("mixed", said), ("reached", said), ("size", stated))
            print(
                start[truth],
                " | ".join(
                    f"{np.nanmean([getattr(s, name) for s in of]):.2f} | {percent([getattr(s, f'{name}_holds') for s in of])}"
                    if of
                    else "– | –"
                    for name, of in sizes
                ),
                f"| {len(stated)} |",
            )
    names = list(next(iter(made.values()))[0].covered)
    print(f"\n{head} " + " | ".join(names) + " |\n" + "|---" * (5 + len(names)) + "|")
    for truth, said in made.items():
        print(start[truth], " | ".join(f"{np.mean([s.covered[n] for s in said]):.1%}" for n in names), "|")


def coverage(patients: int, studies: int, others: float) -> tuple[float, float]:
    """Return the share of a new patient's check-ins whose range holds the answer, and the share of ranges without an end.

    Parameters
    ----------
    patients : int
        Patients of the study, of whom nine tenths calibrate.
    studies : int
        Simulated studies.
    others : float
        How many times as large the new patient's errors are: 1 for a patient like the others.
    """
    rng, inside, endless = np.random.default_rng(patients), [], 0
    calibrating = patients - round(patients / 10)
    for _ in range(studies):
        count = rng.integers(2, 18, calibrating + 1)
        patient = np.repeat(np.arange(calibrating + 1), count)
        error = np.abs(rng.normal(0, 1, calibrating + 1)[patient] + rng.normal(0, 1.2, len(patient)))
        seen = patient < calibrating
        reach = reach_of(error[seen], 1 / count[patient[seen]], calibrating, SETTINGS.set_coverage)
        endless += np.isinf(reach)
        inside.append(float((others * error[~seen] <= reach).mean()))
    return float(np.mean(inside)), endless / studies


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100, help="studies of each kind and size")
    parser.add_argument("--patients", type=int, nargs="+", default=[29, 112])
    parser.add_argument(
        "--into", type=Path, help="file of the studies that are done; the next call goes on from there"
    )
    parser.add_argument("--tiny", action="store_true", help="one study of each kind, for correctness only")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.seeds, options.patients = 1, [29]
    tables(simulate(options.patients, options.seeds, options.into))
    studies = 20_000 if not options.tiny else 50
    print("\n| patients | new patient's errors | in the range | range without end |\n|---|---|---|---|")
    for patients in (9, 29, 112):
        for others in (1.0, 1.5, 2.0):
            inside, endless = coverage(patients, studies, others)
            print(f"| {patients} | times {others:g} | {inside:.1%} | {endless:.0%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
