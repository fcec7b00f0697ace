"""What may be claimed of each model: one rule, applied to every model of every target.

A claim is made of the ups and downs that a model follows within patients, and of its error: against the last answer, and
against the best reference. A model that knows a patient's first answers can have a smaller error than the last answer without
seeing anything in a video; so to beat the last answer, it must also beat the same guess without a video, and the guess from room,
phone and time of day. What room, phone and time explain of a model's ups and downs is taken out of them before they are compared
with the answers; how far these follow the answers by themselves is a claim of its own, a canary. All claims are tested over patients by flipping signs (see ``permutation``), which stays valid where a patient's days resemble each
other, and all claims of a study share one level by Holm's correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iss_assets.evaluation.check_ins.protocols import (
    FIRST_ANSWERS,
    KNOWN,
    LAST_ANSWER,
    NEW,
    ROOM,
    TRAINING_MEAN,
    deviations,
)
from iss_assets.evaluation.intervals import Interval, Statistic, bca_interval, holm, least_holm, mean_of
from iss_assets.evaluation.permutation import least_sign_flip_p, sign_flip_p
from iss_assets.evaluation.verdicts import NOT_SHOWN, verdict
from iss_assets.settings import CheckInSettings

Array = NDArray[np.float64]

FOLLOWS, BEATS_LAST, BEATS = "follows changes", "beats the last answer", "beats the best reference"
KINDS = (FOLLOWS, BEATS_LAST, BEATS)


@dataclass(frozen=True)
class Claim:
    """One claim about one model, and whether it is supported.

    Attributes
    ----------
    target, protocol, known, model : str, str, int, str
        What was predicted, how, and by what.
    kind : str
        One of `KINDS`.
    against : str
        The reference: for `BEATS` the one with the smallest error on the same check-ins; for `BEATS_LAST` the last answer or
        a guess that does not see the patient, whichever is harder to beat; empty for `FOLLOWS`.
    value : Interval
        For `FOLLOWS` the correlation of predictions and answers within patients, over patients; else by how many points the
        mean error is smaller than the reference's.
    reference_error : float or None
        Mean error of the reference on the same check-ins.
    p, p_holm, p_least : float
        Two-sided p by sign flips over patients, after Holm over all claims, and the smallest that Holm could have left.
    verdict : str
        One of `verdicts.VERDICTS`.
    """

    target: str
    protocol: str
    known: int
    model: str
    kind: str
    against: str
    value: Interval
    reference_error: float | None
    p: float
    p_least: float
    p_holm: float = 1.0
    p_least_holm: float = 1.0
    verdict: str = NOT_SHOWN


def claims(
    predictions: pd.DataFrame, nuisance: Mapping[str, pd.DataFrame], settings: CheckInSettings
) -> list[Claim]:
    """Test every claim about every model.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Rows of `protocols.predictions` of all targets.
    nuisance : mapping of str to pandas.DataFrame
        For each target the measures of room, phone and time of day, indexed by ``submission_id``.
    settings : CheckInSettings
        Coverage, level, resamples, sign flips.

    Returns
    -------
    list of Claim
        In the order of the predictions. Ups and downs are tested for known patients with the fewest known check-ins, where
        most check-ins are left: the patient's level, which more known check-ins would improve, does not enter them.
    """
    made: list[Claim] = []
    fewest = min(settings.calibration)
    for key, group in predictions.groupby(["target", "protocol", "known"], sort=False):
        target, protocol, known = cast(tuple[str, str, int], key)
        keyed = {
            str(name): rows.set_index("submission_id") for name, rows in group.groupby("model", sort=False)
        }
        kinds = group.drop_duplicates("model").set_index("model")["kind"]
        references = {name: rows for name, rows in keyed.items() if kinds[name] == "reference"}
        for name, rows in keyed.items():
            head = (target, protocol, int(known), name)
            if protocol == KNOWN and known == fewest and (kinds[name] == "model" or name == ROOM):
                made += _follows(head, rows, None if name == ROOM else nuisance[target], settings)
            if kinds[name] != "model":
                continue
            made += _beats(head, rows, references, settings)
    adjusted = holm([c.p for c in made])
    reachable = least_holm([c.p for c in made], [c.p_least for c in made])
    return [
        replace(
            c,
            p_holm=float(p),
            p_least_holm=float(least),
            verdict=verdict(c.value.estimate, c.value.low, float(p), float(least), settings.alpha),
        )
        for c, p, least in zip(made, adjusted, reachable, strict=True)
    ]


MOST_COLUMNS = 5
"""Check-ins beyond each patient's first that one measure of room, phone or time needs to be taken into account."""


def without(explained: Array, measures: Array, free: int) -> Array:
    """Take out of a series what measures explain, by least squares.

    Parameters
    ----------
    explained : ndarray of shape (n,)
        Deviations from patients' means.
    measures : ndarray of shape (n, columns)
        Deviations from patients' means; NaN counts as no deviation. With many for few check-ins, those that go along with
        the series most are used, at most one for `MOST_COLUMNS` degrees of freedom.
    free : int
        Degrees of freedom within patients.
    """
    known = np.nan_to_num(measures)
    spread = np.sqrt((known**2).sum(axis=0))
    known = known[:, spread > 1e-9 * max(1.0, float(spread.max(initial=0.0)))]
    if known.shape[1] == 0:
        return explained
    known = known / np.sqrt((known**2).sum(axis=0))
    most = np.argsort(-np.abs(explained @ known), kind="stable")[: max(1, free // MOST_COLUMNS)]
    return np.asarray(explained - known[:, most] @ np.linalg.lstsq(known[:, most], explained, rcond=None)[0])


def _follows(
    head: tuple[str, str, int, str],
    rows: pd.DataFrame,
    nuisance: pd.DataFrame | None,
    settings: CheckInSettings,
) -> list[Claim]:
    patient = pd.factorize(rows["patient_id"])[0].astype(np.int64)
    day = deviations(rows[["answered", "predicted"]].to_numpy(float), patient)
    if nuisance is not None:
        around = deviations(nuisance.reindex(rows.index).to_numpy(float), patient)
        day[:, 1] = without(day[:, 1], around, len(day) - int(patient.max()) - 1)
    count = np.bincount(patient)
    several = count > 1
    together, answered, predicted = (
        (np.bincount(patient, weights=values) / count)[several]
        for values in (day.prod(axis=1), day[:, 0] ** 2, day[:, 1] ** 2)
    )
    if len(together) < 2:
        return []

    def statistic(counts: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            bottom = np.sqrt((counts @ answered) * (counts @ predicted))
            return np.where(bottom > 1e-12, (counts @ together) / bottom, np.nan)

    value = _interval(statistic, len(together), settings)
    return [
        Claim(
            *head,
            FOLLOWS,
            "",
            value,
            None,
            sign_flip_p(together, settings.permutations, settings.seed),
            least_sign_flip_p(together, settings.permutations),
        )
    ]


def _beats(
    head: tuple[str, str, int, str],
    rows: pd.DataFrame,
    references: Mapping[str, pd.DataFrame],
    settings: CheckInSettings,
) -> list[Claim]:
    compared: dict[str, tuple[Array, float]] = {}
    for name, other in references.items():
        both = rows.join(other["predicted"].rename("other"), how="inner")
        if both.empty:
            continue
        errors = pd.DataFrame(
            {
                "patient_id": both["patient_id"],
                "model": (both["predicted"] - both["answered"]).abs(),
                "other": (both["other"] - both["answered"]).abs(),
            }
        )
        means = errors.groupby("patient_id").mean()
        compared[name] = (means["other"] - means["model"]).to_numpy(), float(means["other"].mean())
    if not compared:
        return []
    best = min(compared, key=lambda name: float(compared[name][0].mean()))

    def against(kind: str, name: str) -> Claim:
        gain, error = compared[name]
        return Claim(
            *head,
            kind,
            name,
            _interval(mean_of(gain), len(gain), settings),
            error,
            sign_flip_p(gain, settings.permutations, settings.seed),
            least_sign_flip_p(gain, settings.permutations),
        )

    made = [against(BEATS, best)]
    if LAST_ANSWER in compared:
        # all must be beaten, so the weakest claim decides (intersection-union test: Berger, Technometrics 24, 1982)
        blind = [TRAINING_MEAN if head[1] == NEW else FIRST_ANSWERS, ROOM]
        every = [against(BEATS_LAST, name) for name in (LAST_ANSWER, *blind) if name in compared]
        weakest = min(every, key=_strength)
        made.insert(0, replace(weakest, p=max(c.p for c in every), p_least=max(c.p_least for c in every)))
    return made


def _strength(claim: Claim) -> tuple[float, float, float]:
    """Order claims from one that points the other way, over one whose interval includes 0, to one that is certain."""
    estimate, low = claim.value.estimate or 0.0, claim.value.low
    if estimate <= 0:
        return 0.0, estimate, 0.0
    return 2.0 if low is None or low > 0 else 1.0, 1 - claim.p, estimate


def _interval(statistic: Statistic, patients: int, settings: CheckInSettings) -> Interval:
    return bca_interval(
        statistic,
        patients,
        confidence=settings.confidence,
        samples=settings.bootstrap_samples,
        seed=settings.seed,
    )
