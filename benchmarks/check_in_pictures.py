"""What the network that reads pictures does to the clinic's first line: what it finds, what it costs, and whether it claims too much.

    python -m benchmarks.check_in_pictures [--seeds 20] [--patients 29] [--studies 120] [--into FILE] [--null]

The studies of ``benchmarks.check_ins``, with invented pictures of every check-in (``iss_assets.synthetic.check_ins.invent_pictures``):
3 to 7 embedded pictures, of which about a third, at least one, carry a mark, and only these can show the day's sign. Every study is told
twice, from the same predictions: by the linear model and the boosted trees alone, and with the network on the pictures as a third
model. A claim that only the former makes is what the network's claims cost under the common level; one that only the latter makes is what
the network adds, rightly or wrongly.

A second table says what a common level costs, from studies of an effect of 0.3 by the two models: how often the first line tells of it
if so many further claims share the level and none of them is ever supported, as those of a network that sees nothing.

With ``--null`` there are only studies in which nothing is to be found, and no second table.

With ``--into`` every study is a line of a file as soon as it is done, and a second call goes on where the first was ended.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from benchmarks.check_ins import NOTHING, SETTINGS, Truth, as_submitted, invented, percent
from iss_assets.evaluation.check_ins.claims import BEATS, FOLLOWS, Claim, claims
from iss_assets.evaluation.check_ins.design import check_ins, design, predictors
from iss_assets.evaluation.check_ins.protocols import KNOWN, ROOM, predictions
from iss_assets.evaluation.check_ins.study import claims_table
from iss_assets.evaluation.verdicts import YES
from iss_assets.modeling.check_ins import NUISANCE, SENSORS, experiments_for
from iss_assets.protocol.targets import target
from iss_assets.reports.clinic_lines import first_lines
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import invent_pictures

NETWORK = "pain_now_attention"
FURTHER = (0, 9, 19, 28, 37)
"""Claims besides the two models': a network's, those of another target, of both, and of a second network."""
Shown = Literal["nothing", "the sign", "the light"]


@dataclass(frozen=True)
class Filmed:
    """What is planted in a study, and what its pictures show; where they show the sign, the measures do not."""

    truth: Truth
    shown: Shown


SCENARIOS = (
    Filmed(Truth(0), "nothing"),
    Filmed(Truth(0, effect=0.3), "nothing"),
    Filmed(Truth(0, effect=0.5), "the sign"),
    Filmed(Truth(0, room=0.6), "the light"),
)
"""What is planted, for each number of patients."""
NULL = tuple(filmed for filmed in SCENARIOS if not filmed.truth.effect)
"""Those in which nothing is to be found."""


@dataclass(frozen=True)
class Told:
    """What is said of one study.

    Attributes
    ----------
    without, with_network : bool
        Whether the first line says that something was found: by two models, and by three.
    network : bool
        Whether any claim of the network is supported.
    follows, follows_network : float
        The smallest p of following changes, by the two models and by the network.
    reached : float
        Correlation within patients of the network's predictions and the answers, for known patients.
    claims, claims_with : int
        Claims under one level, by two models and by three.
    """

    without: bool
    with_network: bool
    network: bool
    follows: float
    follows_network: float
    reached: float
    claims: int
    claims_with: int


def study(filmed: Filmed, seed: int, settings: CheckInSettings = SETTINGS) -> Told:
    """Invent a study, predict it once, and tell it without and with the network."""
    made = as_submitted(filmed.truth, seed)
    patient = made.bpi_scores["patient_id"].to_numpy()
    rng = np.random.default_rng([seed, 417])

    def of_day(values: pd.Series) -> np.ndarray:
        """Return each day's difference from the patient's mean, with a standard deviation of 1."""
        own = (values - values.groupby(patient).transform("mean")).to_numpy()
        return np.asarray(own / own.std())

    rows_of = {g: frame.set_index("video_id") for g, frame in made.measures.items()}
    voice = rows_of["voice"].loc[made.bpi_scores["submission_id"], "voice.sign"].reset_index(drop=True)
    light = (
        rows_of["quality"].loc[made.bpi_scores["submission_id"], "quality.luminance"].reset_index(drop=True)
    )
    shown = {
        "nothing": rng.normal(size=len(patient)),
        "the sign": of_day(voice),
        "the light": of_day(light),
    }[filmed.shown]
    measures = dict(made.measures)
    if filmed.shown == "the sign":
        voice_only = measures["voice"].drop(columns="voice.sign")
        measures["voice"] = voice_only.assign(**{"voice.sign": rng.normal(size=len(voice_only))})
    series = {"embedding_series": invent_pictures(made, shown, seed=seed)}
    rows = check_ins(made.bpi_scores, made.splits, measures, series)
    of = design(rows, target("pain_now"))
    around = {"pain_now": pd.DataFrame(predictors(rows, of, NUISANCE)[0], index=of.submission)}
    predicted = predictions(rows, of, experiments_for(["pain_now"]), settings)
    effects = pd.DataFrame({"measure": predictors(rows, of, SENSORS)[1]})
    three = claims(predicted, around, settings)
    two = claims(predicted[predicted["model"] != NETWORK], around, settings)
    lines = [first_lines(claims_table(found).to_pandas(), effects, settings)[0] for found in (two, three)]
    follows = {c.model: c for c in three if c.kind == FOLLOWS and c.protocol == KNOWN and c.model != ROOM}
    estimate = follows[NETWORK].value.estimate
    return Told(
        not lines[0].startswith(NOTHING),
        not lines[1].startswith(NOTHING),
        any(c.verdict == YES for c in three if c.model == NETWORK),
        min(c.p for name, c in follows.items() if name != NETWORK),
        follows[NETWORK].p,
        float("nan") if estimate is None else estimate,
        len(two),
        len(three),
    )


def simulate(
    patients: Sequence[int],
    seeds: int,
    into: Path | None,
    settings: CheckInSettings,
    scenarios: Sequence[Filmed] = SCENARIOS,
) -> dict[Filmed, list[Told]]:
    """Repeat every scenario, seed by seed, so that an early end leaves as many studies of each."""
    done: dict[tuple[Filmed, int], Told] = {}
    if into is not None and into.exists():
        for line in into.read_text("utf-8").splitlines():
            row = json.loads(line)
            done[Filmed(Truth(**row["truth"]), row["shown"]), row["seed"]] = Told(**row["told"])
    for seed in range(seeds):
        for number in patients:
            for planted in scenarios:
                filmed = replace(planted, truth=replace(planted.truth, patients=number))
                if (filmed, seed) in done:
                    continue
                done[filmed, seed] = told = study(filmed, seed, settings)
                if into is not None:
                    row = {
                        "truth": asdict(filmed.truth),
                        "shown": filmed.shown,
                        "seed": seed,
                        "told": asdict(told),
                    }
                    with into.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
    found: dict[Filmed, list[Told]] = {}
    for (filmed, _), told in done.items():
        found.setdefault(filmed, []).append(told)
    order = {(f.truth.effect, f.truth.room, f.truth.lasting, f.shown): i for i, f in enumerate(SCENARIOS)}
    return dict(
        sorted(
            found.items(),
            key=lambda item: (
                item[0].truth.patients,
                order[item[0].truth.effect, item[0].truth.room, item[0].truth.lasting, item[0].shown],
            ),
        )
    )


def table(made: dict[Filmed, list[Told]]) -> None:
    """Print how often the first line says something without and with the network, and which of the two alone."""
    print(
        "| patients | effect | room | lasting | pictures show | studies | first line, two models | with the network | lost | gained "
        "| a claim of the network | its correlation |\n" + "|---" * 12 + "|"
    )
    for filmed, told in made.items():
        t = filmed.truth
        lost, gained = (sum(a and not b for a, b in pairs) for pairs in (
            [(x.without, x.with_network) for x in told], [(x.with_network, x.without) for x in told]))  # fmt: skip
        print(
            f"| {t.patients} | {t.effect:g} | {t.room:g} | {t.lasting:g} | {filmed.shown} | {len(told)} "
            f"| {percent([x.without for x in told])} | {percent([x.with_network for x in told])} | {lost} | {gained} "
            f"| {percent([x.network for x in told])} | {np.nanmean([x.reached for x in told]):.2f} |"
        )


def told_among(found: Sequence[Claim], further: int, alpha: float) -> bool:
    """Return whether the first line tells of something if further claims, none of them supported, share the level (Holm)."""
    ranked = sorted(found, key=lambda c: c.p)
    for place, c in enumerate(ranked):
        if c.p * (len(ranked) - place + further) > alpha:
            return False
        if c.model != ROOM and c.kind in (FOLLOWS, BEATS) and (c.value.low is None or c.value.low > 0):
            return True
    return False


def crowding(patients: int, studies: int, further: Sequence[int]) -> None:
    """Print how often an effect of 0.3 is told of by the two models, by the number of further claims."""
    settings = SETTINGS.model_copy(update={"permutations": 9999})
    experiments = [e for e in experiments_for(["pain_now"]) if e.series is None]
    told: dict[int, list[bool]] = {n: [] for n in further}
    for seed in range(1000, 1000 + studies):
        rows, of = invented(Truth(patients, effect=0.3), seed)
        around = pd.DataFrame(predictors(rows, of, NUISANCE)[0], index=of.submission)
        found = claims(predictions(rows, of, experiments, settings), {"pain_now": around}, settings)
        for n in further:
            told[n].append(told_among(found, n, settings.alpha))
    print("\n| patients | effect | studies | further claims | first line |\n" + "|---" * 5 + "|")
    for n, said in told.items():
        print(f"| {patients} | 0.3 | {studies} | {n} | {np.mean(said):.1%} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="studies of each kind and size")
    parser.add_argument("--patients", type=int, nargs="+", default=[29])
    parser.add_argument("--studies", type=int, default=120, help="studies behind the second table")
    parser.add_argument(
        "--into", type=Path, help="file of the studies that are done; the next call goes on from there"
    )
    parser.add_argument("--null", action="store_true", help="only studies in which nothing is to be found")
    parser.add_argument(
        "--tiny", action="store_true", help="one small study of each kind, for correctness only"
    )
    options = parser.parse_args(arguments)
    settings = SETTINGS
    if options.tiny:
        options.seeds, options.patients, options.studies = 1, [12], 1
        settings = SETTINGS.model_copy(update={"attention_epochs": 1})
    scenarios = NULL if options.null else SCENARIOS
    table(simulate(options.patients, options.seeds, options.into, settings, scenarios))
    for patients in [] if options.null else options.patients:
        crowding(patients, options.studies, FURTHER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
