"""What a clinician asks of a prediction: which answers are likely, can it be trusted, is it worth acting on, how many patients it would take.

Computed for every model, and for the same guess without a video, from predictions that are there already; nothing is fitted again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd

from iss_assets.evaluation.check_ins.calibration import (
    ANSWER,
    answer_calibration,
    curve,
    enough_events,
    event_metric,
    probability_calibration,
)
from iss_assets.evaluation.check_ins.decisions import Usefulness, benefits, corrected, gain, usefulness
from iss_assets.evaluation.check_ins.design import Array, Design, Integers
from iss_assets.evaluation.check_ins.likely import EVENTS, SEVERE_ANSWER, WORSE, Likely, likely_answers
from iss_assets.evaluation.check_ins.metrics import over_patients
from iss_assets.evaluation.check_ins.protocols import KNOWN, LAST_ANSWER, ROOM, most_known, without_video
from iss_assets.evaluation.check_ins.sample_size import needed, quantities
from iss_assets.evaluation.intervals import Interval, mean_of
from iss_assets.modeling.check_ins import experiments_for
from iss_assets.protocol.targets import SEVERE
from iss_assets.settings import CheckInSettings

SET_METRICS = {
    "covered": "Range holds the answer",
    "covered_severe": "The same, of severe answers",
    "told": "Narrow enough to be of use",
    "set_width": "Mean width, points",
}
"""Metrics of ranges of likely answers, with their names on pages."""


@dataclass
class Clinical:
    """Rows of the tables that this module makes, by the columns of their schemas.

    Attributes
    ----------
    metrics : list of dict
        Further rows of ``check_in_metrics``.
    sets, curves, benefits, usefulness, needed, reach : list
        Of ``check_in_sets`` (data frames), ``check_in_calibration``, ``check_in_benefits``, ``check_in_usefulness``,
        ``check_in_patients_needed``, ``check_in_interval_reach``.
    """

    metrics: list[dict[str, Any]] = field(default_factory=list)
    sets: list[pd.DataFrame] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    benefits: list[dict[str, Any]] = field(default_factory=list)
    usefulness: list[Usefulness] = field(default_factory=list)
    needed: list[dict[str, Any]] = field(default_factory=list)
    reach: list[dict[str, Any]] = field(default_factory=list)


def clinical(
    predicted: pd.DataFrame,
    designs: Sequence[Design],
    settings: CheckInSettings,
    others: pd.DataFrame | None = None,
) -> Clinical:
    """Assess every model of every target in every situation.

    Parameters
    ----------
    predicted : pandas.DataFrame
        Rows of `protocols.predictions` of all targets.
    designs : sequence of Design
        The check-ins of each target.
    settings : CheckInSettings
        Coverage, thresholds, what is wanted of a study.
    others : pandas.DataFrame, optional
        Predictions by the same models for another study's patients, whom they never saw; ranges and probabilities are calibrated
        on these then.

    Returns
    -------
    Clinical
        Usefulness with Holm's correction over all models, events, situations and targets.
    """
    made = Clinical()
    for of in designs:
        own = predicted[predicted["target"] == of.target.name]
        for key, rows in own.groupby(["protocol", "known"], sort=False):
            protocol, known = cast(tuple[str, int], key)
            elsewhere = (
                None
                if others is None
                else others[
                    (others["target"] == of.target.name)
                    & (others["protocol"] == protocol)
                    & (others["known"] == known)
                ]
            )
            _situation(made, of, protocol, int(known), rows, settings, elsewhere)
        _sample_size(made, of, own, settings)
    made.usefulness = corrected(made.usefulness, settings)
    return made


def _situation(
    made: Clinical,
    of: Design,
    protocol: str,
    known: int,
    rows: pd.DataFrame,
    settings: CheckInSettings,
    others: pd.DataFrame | None,
) -> None:
    def likely_of(name: str, group: pd.DataFrame) -> Likely:
        return likely_answers(
            group, of, settings, None if others is None else others[others["model"] == name]
        )

    guess = without_video(known)
    chosen = {
        str(name): group
        for name, group in rows.groupby("model", sort=False)
        if name == guess or group["kind"].iloc[0] == "model"
    }
    likely = {name: likely_of(name, group) for name, group in chosen.items()}
    around = rows[rows["model"] == ROOM]
    room = {} if around.empty else {ROOM: likely_of(ROOM, around)}
    for name, group in chosen.items():
        head = {"target": of.target.name, "protocol": protocol, "known": known, "model": name}
        patient = pd.factorize(group["patient_id"])[0].astype(np.int64)
        answered, values = group["answered"].to_numpy(float), group["predicted"].to_numpy(float)
        made.sets.append(_set_rows(head, group, likely[name]))
        found = answer_calibration(answered, values, patient, settings)
        found |= _coverage(answered, likely[name], patient, settings)
        is_model = group["kind"].iloc[0] == "model"
        if is_model:
            made.curves += _curve_rows(head, ANSWER, answered, values, patient, settings)
        for event, happened in likely[name].happened.items():
            if not (is_model and enough_events(happened)):
                continue
            probability = likely[name].probability[event]
            calibrated = probability_calibration(happened, probability, patient, settings)
            found |= {event_metric(event, metric): value for metric, value in calibrated.items()}
            made.curves += _curve_rows(head, event, happened.astype(float), probability, patient, settings)
        made.metrics += [
            {
                **head,
                "kind": group["kind"].iloc[0],
                "metric": metric,
                "check_ins": len(group),
                **asdict(value),
            }
            for metric, value in found.items()
        ]
    decide(made, (of.target.name, protocol, known), likely | room, guess, of, settings)


def _set_rows(head: Mapping[str, Any], group: pd.DataFrame, of: Likely) -> pd.DataFrame:
    def event(name: str) -> Array:
        return of.probability.get(name, np.full(len(group), np.nan))

    return group[["patient_id", "submission_id"]].assign(
        **head,
        low=of.low,
        high=of.high,
        cannot_tell=of.cannot_tell,
        severe_probability=event(SEVERE_ANSWER),
        worse_probability=event(WORSE),
    )


def _coverage(
    answered: Array, of: Likely, patient: Integers, settings: CheckInSettings
) -> dict[str, Interval]:
    def mean(values: Array, among: Array | None = None) -> Interval:
        counted = np.ones(len(values)) if among is None else among
        bottom = np.bincount(patient, weights=counted)
        there = bottom > 0
        top = np.bincount(patient, weights=values * counted)
        return over_patients(mean_of(top[there] / bottom[there]), int(there.sum()), settings)

    covered = ((of.low <= answered + 1e-9) & (answered <= of.high + 1e-9)).astype(float)
    return {
        "covered": mean(covered),
        "covered_severe": mean(covered, (answered >= SEVERE).astype(float)),
        "told": mean((~of.cannot_tell).astype(float)),
        "set_width": mean(of.high - of.low),
    }


def _curve_rows(
    head: Mapping[str, object],
    outcome: str,
    observed: Array,
    predicted: Array,
    patient: Integers,
    settings: CheckInSettings,
) -> list[dict[str, Any]]:
    return [
        {
            **head,
            "outcome": outcome,
            "bin": b.number,
            "check_ins": b.check_ins,
            "patients": b.patients,
            "predicted": b.predicted,
            "observed": b.observed.estimate,
            "observed_low": b.observed.low,
            "observed_high": b.observed.high,
        }
        for b in curve(observed, predicted, patient, settings)
    ]


def decide(
    made: Clinical,
    situation: tuple[str, str, int],
    likely: Mapping[str, Likely],
    guess: str,
    of: Design,
    settings: CheckInSettings,
) -> None:
    """Add the decision curves of one situation, on the check-ins that the guess and every model predicted.

    Parameters
    ----------
    made : Clinical
        Takes the rows.
    situation : tuple
        Target, protocol, and number of known check-ins.
    likely : mapping of str to Likely
        Of each model, of the same guess without a video, and of room, phone and time of day (`ROOM`).
    guess : str
        Name of that guess.
    of : Design
        The target's check-ins.
    settings : CheckInSettings
        Thresholds, coverage, level.
    """
    target, protocol, known = situation
    if guess not in likely:
        return
    kept = likely[guess].row
    for other in likely.values():
        kept = np.intersect1d(kept, other.row)
    if not len(kept):
        return
    rivals = [name for name in (guess, ROOM) if name in likely]
    patient = np.unique(of.patient[kept], return_inverse=True)[1].astype(np.int64)
    for event in EVENTS:
        if event not in likely[guess].probability:
            continue
        at = {name: np.searchsorted(known_rows.row, kept) for name, known_rows in likely.items()}
        probability = {name: likely[name].probability[event][at[name]] for name in likely}
        happened = likely[guess].happened[event][at[guess]]
        if not enough_events(happened):
            continue
        made.benefits += [
            {
                "target": target,
                "event": event,
                "protocol": protocol,
                "known": known,
                "acted_on": b.acted_on,
                "threshold": b.threshold,
                "patients": b.value.patients,
                "check_ins": len(kept),
                "events": int(happened.sum()),
                "net_benefit": b.value.estimate,
                "low": b.value.low,
                "high": b.value.high,
            }
            for b in benefits(happened, probability, patient, settings)
        ]
        made.usefulness += [
            usefulness(
                (target, event, protocol, known, name),
                happened,
                gain(happened, values, [probability[r] for r in rivals], patient, settings),
                settings,
            )
            for name, values in probability.items()
            if name not in rivals
        ]


def _sample_size(made: Clinical, of: Design, own: pd.DataFrame, settings: CheckInSettings) -> None:
    """Add how many patients are needed, for the first model of the target and the most known check-ins that leave enough."""
    # two, because variance within patients needs them
    known = most_known(of, settings, left=2)
    name = experiments_for([of.target.name])[0].name
    rows = own[(own["protocol"] == KNOWN) & (own["known"] == known)]
    model = rows[rows["model"] == name]
    if model.empty:
        return
    last = rows[rows["model"] == LAST_ANSWER].set_index("submission_id")["predicted"]
    patient = pd.factorize(model["patient_id"])[0].astype(np.int64)
    of_quantity = quantities(
        model["answered"].to_numpy(float),
        model["predicted"].to_numpy(float),
        last.reindex(model["submission_id"]).to_numpy(float),
        patient,
    )
    for quantity, values in of_quantity.items():
        n = needed(quantity, values, patient, settings)
        head = {"target": of.target.name, "quantity": quantity}
        made.needed.append(
            {
                **head,
                "known": known,
                "model": name,
                "patients": n.patients,
                "check_ins": n.check_ins,
                "between_variance": n.between,
                "within_variance": n.within,
                "wanted": n.wanted,
                "needed": n.needed,
                "needed_low": n.low,
                "needed_high": n.high,
                "verdict": n.verdict,
            }
        )
        made.reach += [
            {**head, "patients": r.patients, "reach": r.median, "reach_low": r.low, "reach_high": r.high}
            for r in n.reach
        ]
