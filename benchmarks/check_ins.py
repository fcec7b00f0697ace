"""How often the clinic's report says the right thing: studies of check-ins whose truth is known, repeated.

    python -m benchmarks.check_ins [--studies 100] [--large 20]

Each study has 29 or 112 invented patients with ten check-ins, eight measures that say nothing, and one in the voice whose
correlation with pain within patients is known (``iss_assets.synthetic.check_ins``). The evaluation is the report's: linear model and
boosted trees, new and known patients, every claim, Holm's correction over all of them.

*Room* is the correlation of pain with the light in the room, which shows in the face too: a confounder, of which nothing must be
claimed for the face. With no effect, every claim is wrong: the share of studies with any must not exceed 5 %. With an effect, the share of studies
that claim it is the power, and the sizes that the mixed model and the known-patient model find are compared with the truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from iss_assets.evaluation.check_ins.claims import BEATS, BEATS_LAST, FOLLOWS, claims
from iss_assets.evaluation.check_ins.design import check_ins, design, predictors
from iss_assets.evaluation.check_ins.inference import mixed_effect
from iss_assets.evaluation.check_ins.likely import reach_of
from iss_assets.evaluation.check_ins.protocols import ROOM, predictions
from iss_assets.evaluation.verdicts import YES
from iss_assets.modeling.check_ins import NUISANCE, SENSORS, experiments_for
from iss_assets.protocol.targets import target
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import invent_check_ins

CHECK_INS = 10
SETTINGS = CheckInSettings(bootstrap_samples=499, permutations=1999, trees=20)


@dataclass(frozen=True)
class Said:
    """What the report says of one study: supported claims by kind, and the sizes that were found."""

    follows: bool
    beats_last: bool
    beats: bool
    mixed: float
    mixed_holds: bool
    known_patient: float
    known_holds: bool


def study(patients: int, effect: float, confounded: float, seed: int) -> Said:
    """Invent a study and evaluate it."""
    made = invent_check_ins(patients, CHECK_INS, effect=effect, confounded=confounded, seed=seed)
    rows = check_ins(made.bpi_scores, made.splits, made.measures)
    of = design(rows, target("pain_now"))
    around = pd.DataFrame(predictors(rows, of, NUISANCE)[0], index=of.submission)
    predicted = predictions(rows, of, experiments_for(["pain_now"]), SETTINGS)
    found = claims(predicted, {"pain_now": around}, SETTINGS)
    supported = {
        kind: any(c.kind == kind and c.verdict == YES and c.model != ROOM for c in found)
        for kind in (FOLLOWS, BEATS_LAST, BEATS)
    }
    x, names = predictors(rows, of, SENSORS)
    sign = mixed_effect("sign", x[:, names.index("voice: voice.sign")], of, SETTINGS)
    assert sign is not None
    share = sign.correlation / sign.points
    linear = next(c.value for c in found if c.kind == FOLLOWS and c.model == "pain_now_ridge")
    return Said(
        supported[FOLLOWS],
        supported[BEATS_LAST],
        supported[BEATS],
        sign.correlation,
        sign.low * share <= effect <= sign.high * share,
        float("nan") if linear.estimate is None else linear.estimate,
        linear.low is not None and linear.high is not None and linear.low <= effect <= linear.high,
    )


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
    parser.add_argument("--studies", type=int, default=100, help="studies of 29 patients for each effect")
    parser.add_argument("--large", type=int, default=20, help="studies of 112 patients for each effect")
    parser.add_argument("--tiny", action="store_true", help="two studies, for correctness only")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.studies, options.large = 2, 0
    print(
        "| patients | effect | room | studies | any claim | follows changes | beats last answer | beats best reference | "
        "mixed model | in its interval | known patient | in its interval |\n" + "|---" * 12 + "|"
    )
    for patients, number in ((29, options.studies), (112, options.large)):
        for effect, confounded in ((0.0, 0.0), (0.0, 0.6), (0.3, 0.0), (0.5, 0.0)) if number else ():
            said = [study(patients, effect, confounded, seed) for seed in range(number)]
            shares = [
                np.mean(values)
                for values in (
                    [s.follows or s.beats_last or s.beats for s in said],
                    [s.follows for s in said],
                    [s.beats_last for s in said],
                    [s.beats for s in said],
                )
            ]
            print(
                f"| {patients} | {effect:g} | {confounded:g} | {number} | "
                + " | ".join(f"{share:.0%}" for share in shares)
                + f" | {np.mean([s.mixed for s in said]):.2f} | {np.mean([s.mixed_holds for s in said]):.0%}"
                # a model that has learned nothing follows nothing in particular
                + (f" | {np.nanmean([s.known_patient for s in said]):.2f}" if effect else " | –")
                + (f" | {np.mean([s.known_holds for s in said]):.0%} |" if effect else " | – |"),
                flush=True,
            )
    studies = 20_000 if not options.tiny else 50
    print("\n| patients | new patient's errors | in the range | range without end |\n|---|---|---|---|")
    for patients in (9, 29, 112):
        for others in (1.0, 1.5, 2.0):
            inside, endless = coverage(patients, studies, others)
            print(f"| {patients} | times {others:g} | {inside:.1%} | {endless:.0%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
