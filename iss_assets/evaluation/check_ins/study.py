"""Evaluate all check-in targets of a study in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import pandas as pd
import pyarrow as pa

from iss_assets.evaluation.check_ins.added_value import Step, added_value
from iss_assets.evaluation.check_ins.claims import FOLLOWS, Claim, claims
from iss_assets.evaluation.check_ins.clinical import Clinical, clinical
from iss_assets.evaluation.check_ins.decisions import Usefulness
from iss_assets.evaluation.check_ins.design import (
    KEYS,
    Array,
    CheckIns,
    Design,
    Filmed,
    alike,
    check_ins,
    design,
    predictors,
    same_series,
)
from iss_assets.evaluation.check_ins.inference import effects
from iss_assets.evaluation.check_ins.learned import METRIC as SIZE_OF_SIGN
from iss_assets.evaluation.check_ins.learned import size_of_sign
from iss_assets.evaluation.check_ins.learners import learner
from iss_assets.evaluation.check_ins.metrics import metrics, patient_sums, per_patient
from iss_assets.evaluation.check_ins.protocols import Looks, predictions, predictions_elsewhere
from iss_assets.evaluation.check_ins.shortcuts import check_in_shortcuts
from iss_assets.evaluation.frames import Rows, as_frame
from iss_assets.evaluation.verdicts import YES
from iss_assets.modeling.check_ins import GROUPS, NUISANCE, SENSORS, experiments_for
from iss_assets.modeling.items import SERIES
from iss_assets.protocol.targets import target
from iss_assets.schemas.check_ins import (
    CheckInAddedValue,
    CheckInBenefits,
    CheckInCalibration,
    CheckInClaims,
    CheckInEffects,
    CheckInIntervalReach,
    CheckInMetrics,
    CheckInPatients,
    CheckInPatientsNeeded,
    CheckInPredictions,
    CheckInSets,
    CheckInShortcuts,
    CheckInUsefulness,
)
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.settings import CheckInSettings

CODE_VERSION: Final = "9"
"""Version of this package; increase it with every change of a figure."""

_KEYS = ["target", "protocol", "known", "model"]


@dataclass(frozen=True)
class CheckInInputs:
    """Inputs of `evaluate_check_ins`.

    Attributes
    ----------
    bpi_scores, splits
        The tables ``bpi_scores`` and ``cv_splits``, as Arrow tables or data frames.
    measures : mapping
        Measures of usable videos by group, as data frames with ``video_id``.
    series : mapping
        What networks read of usable videos, by `CheckInExperiment.series`.
    video_quality
        The table of that name, whose flags say where networks should not look; without it that is not tested.
    """

    bpi_scores: Rows
    splits: Rows
    measures: Mapping[str, pd.DataFrame]
    series: Mapping[str, Filmed] = field(default_factory=dict)
    video_quality: Rows | None = None

    def flags(self) -> pd.DataFrame:
        """Return the flags of videos with the moments at which they hold."""
        return as_frame(VideoQuality.from_rows([]) if self.video_quality is None else self.video_quality)


def evaluate_check_ins(inputs: CheckInInputs, settings: CheckInSettings) -> dict[str, pa.Table]:
    """Predict every target by every model and reference, and say what may be claimed.

    Parameters
    ----------
    inputs : CheckInInputs
        Answers, splits and measures.
    settings : CheckInSettings
        Targets, known check-ins, important change, intervals.

    Returns
    -------
    dict of str to pyarrow.Table
        The tables of ``schemas.check_ins.CHECK_INS``; empty where a study has no patient with a usable video and an answer.
    """
    study = check_ins(as_frame(inputs.bpi_scores), as_frame(inputs.splits), inputs.measures, inputs.series)
    designs = [d for name in settings.targets if len(d := design(study, target(name)))]
    looks = Looks(settings.instance_s)
    made = [predictions(study, d, experiments_for([d.target.name]), settings, looks) for d in designs]
    predicted = pd.concat(made, ignore_index=True) if made else pd.DataFrame()
    return _evaluated(study, designs, predicted, settings) | _looks(looks, inputs, settings)


def evaluate_elsewhere(
    trained: CheckInInputs, here: CheckInInputs, settings: CheckInSettings
) -> dict[str, pa.Table]:
    """Predict every target of one study by models that learned from another, and say what may be claimed.

    Parameters
    ----------
    trained : CheckInInputs
        The study that the models learn from. Its ranges of likely answers and probabilities hold here if its patients are
        like these: they are calibrated on its own patients, whom its models never saw.
    here : CheckInInputs
        The study that is predicted; nothing is learned from it.
    settings : CheckInSettings
        As of `evaluate_check_ins`.

    Returns
    -------
    dict of str to pyarrow.Table
        The tables of ``schemas.check_ins.CHECK_INS``, without ``check_in_added_value``, for which models would have to be fitted
        here; empty where one of the studies has no check-ins that answer a target.
    """
    there, study = alike(
        *(
            check_ins(as_frame(one.bpi_scores), as_frame(one.splits), one.measures, one.series)
            for one in (trained, here)
        )
    )
    made, own, designs = [], [], []
    looks = Looks(settings.instance_s)
    for name in settings.targets:
        of, of_there = design(study, target(name)), design(there, target(name))
        if len(of) and len(of_there):
            experiments = experiments_for([name])
            designs.append(of)
            made.append(predictions_elsewhere((there, of_there), (study, of), experiments, settings, looks))
            own.append(predictions(there, of_there, experiments, settings))
    predicted = pd.concat(made, ignore_index=True) if made else pd.DataFrame()
    others = pd.concat(own, ignore_index=True) if own else pd.DataFrame()
    return _evaluated(study, designs, predicted, settings, others) | _looks(looks, here, settings)


def left_out_elsewhere(
    trained: CheckInInputs, here: CheckInInputs, settings: CheckInSettings
) -> dict[str, str]:
    """Return what `evaluate_elsewhere` does without, and why.

    Parameters
    ----------
    trained, here : CheckInInputs
        As of `evaluate_elsewhere`.
    settings : CheckInSettings
        Its targets.

    Returns
    -------
    dict of str to str
        The reason, by name of a network whose series the studies do not share, or of a group of measures of which only one study
        has some.
    """
    owners = ((trained, "the training study"), (here, "this study"))
    found = {}
    shared = same_series(trained.series, here.series)
    for experiment in experiments_for(settings.targets):
        if experiment.series is None or experiment.series in shared:
            continue
        table = SERIES[experiment.series][0]
        if without := [words for one, words in owners if experiment.series not in one.series]:
            have = "have" if len(without) > 1 else "has"
            found[experiment.name] = f"{' and '.join(without)} {have} no {table} of usable videos"
        else:
            found[experiment.name] = f"{table} were made by another network here than in the training study"
    for group in SENSORS:
        columns = [set(one.measures[group]) if group in one.measures else set[str]() for one, _ in owners]
        of = columns[0].union(columns[1]) - set(KEYS)
        if lost := columns[0] ^ columns[1]:
            words = f"{len(lost - set(KEYS))} of {len(of)} measures, which only one of the studies has"
            found[f"check-ins: {GROUPS[group]}"] = words
    return found


def _looks(looks: Looks, inputs: CheckInInputs, settings: CheckInSettings) -> dict[str, pa.Table]:
    """Return where networks looked, and whether at what is flagged."""
    attention = looks.table()
    shortcuts = check_in_shortcuts(attention.to_pandas(), inputs.flags(), settings)
    return {"check_in_attention": attention, "check_in_shortcuts": CheckInShortcuts.from_rows(shortcuts)}


def _evaluated(
    study: CheckIns,
    designs: Sequence[Design],
    predicted: pd.DataFrame,
    settings: CheckInSettings,
    others: pd.DataFrame | None = None,
) -> dict[str, pa.Table]:
    """Return all tables but those of attention; with predictions of `others`, another study's patients, nothing is fitted to this study's answers."""
    made = len(predicted) > 0
    by_patient: list[dict[str, object]] = []
    by_model: list[dict[str, object]] = []
    for key, rows in predicted.groupby(_KEYS, sort=False) if made else ():
        head = dict(zip(_KEYS, key, strict=True))
        patients, sums = patient_sums(rows, settings)
        by_patient += [head | row for row in per_patient(patients, sums, settings)]
        by_model += [
            {
                **head,
                "kind": rows["kind"].iloc[0],
                "metric": name,
                "check_ins": len(rows),
                **asdict(interval),
            }
            for name, interval in metrics(sums, settings).items()
        ]
    nuisance = {
        d.target.name: pd.DataFrame(predictors(study, d, NUISANCE)[0], index=d.submission) for d in designs
    }
    found = claims(predicted, nuisance, settings) if made else []
    asked = clinical(predicted, designs, settings, others) if made else Clinical()
    by_model += asked.metrics
    if others is None:
        by_model += [row for d in designs for row in _size_rows(study, d, found, nuisance, settings)]
    steps = added_value(study, designs, settings) if others is None else []
    return {
        "check_in_predictions": pa.Table.from_pandas(
            predicted, CheckInPredictions.arrow_schema(), preserve_index=False
        )
        if made
        else CheckInPredictions.from_rows([]),
        "check_in_patients": CheckInPatients.from_rows(by_patient),
        "check_in_metrics": CheckInMetrics.from_rows(by_model),
        "check_in_effects": CheckInEffects.from_rows(
            [row for d in designs for row in _effect_rows(d, *predictors(study, d, SENSORS), settings)]
        ),
        "check_in_claims": claims_table(found),
        "check_in_added_value": CheckInAddedValue.from_rows([_step_row(step) for step in steps]),
        "check_in_sets": pa.Table.from_pandas(
            pd.concat(asked.sets, ignore_index=True), CheckInSets.arrow_schema(), preserve_index=False
        )
        if asked.sets
        else CheckInSets.from_rows([]),
        "check_in_calibration": CheckInCalibration.from_rows(asked.curves),
        "check_in_benefits": CheckInBenefits.from_rows(asked.benefits),
        "check_in_usefulness": CheckInUsefulness.from_rows([_usefulness_row(u) for u in asked.usefulness]),
        "check_in_patients_needed": CheckInPatientsNeeded.from_rows(asked.needed),
        "check_in_interval_reach": CheckInIntervalReach.from_rows(asked.reach),
    }


def _size_rows(
    study: CheckIns,
    of: Design,
    found: Sequence[Claim],
    nuisance: Mapping[str, pd.DataFrame],
    settings: CheckInSettings,
) -> list[dict[str, object]]:
    """Return how large a sign is, for models that are shown to follow changes: of nothing there is no size."""
    supported = {c.model: c for c in found if c.kind == FOLLOWS and c.verdict == YES}
    rows: list[dict[str, object]] = []
    for experiment in experiments_for([of.target.name]):
        claim = supported.get(experiment.name)
        # the size holds for a model that is a weighted sum of measures; small trees cannot be one, however many patients
        if claim is None or experiment.model != "ridge":
            continue
        x, _ = predictors(study, of, experiment.groups)
        fit = learner(experiment.model, settings)
        size = size_of_sign(fit, x, of, nuisance[of.target.name], claim.known, settings)
        rows.append(
            {
                "target": of.target.name,
                "protocol": claim.protocol,
                "known": claim.known,
                "model": experiment.name,
                "kind": "model",
                "metric": SIZE_OF_SIGN,
                "check_ins": int((of.order > claim.known).sum()),
                **asdict(size),
            }
        )
    return rows


def _effect_rows(
    of: Design, x: Array, names: list[str], settings: CheckInSettings
) -> list[dict[str, object]]:
    return [
        {
            "target": of.target.name,
            "measure": e.measure,
            "patients": e.patients,
            "check_ins": e.check_ins,
            "points": e.points,
            "low": e.low,
            "high": e.high,
            "correlation": e.correlation,
            "p_value": e.p,
            "p_value_holm": p,
            "between_variance": e.between,
            "within_variance": e.within,
        }
        for e, p in effects(x, names, of, settings)
    ]


def _step_row(s: Step) -> dict[str, object]:
    return {
        "target": s.target,
        "protocol": s.protocol,
        "known": s.known,
        "ordering": s.ordering,
        "step": s.step,
        "added": s.group,
        "patients": s.gain.patients,
        "error": s.error.estimate,
        "error_low": s.error.low,
        "error_high": s.error.high,
        "gain": s.gain.estimate,
        "gain_low": s.gain.low,
        "gain_high": s.gain.high,
        "p_value": s.p,
        "p_value_holm": s.p_holm,
        "verdict": s.verdict,
    }


def _usefulness_row(u: Usefulness) -> dict[str, object]:
    return {
        "target": u.target,
        "event": u.event,
        "protocol": u.protocol,
        "known": u.known,
        "model": u.model,
        "patients": u.gain.patients,
        "check_ins": u.check_ins,
        "events": u.events,
        "gain": u.gain.estimate,
        "low": u.gain.low,
        "high": u.gain.high,
        "p_value": u.p,
        "p_value_holm": u.p_holm,
        "verdict": u.verdict,
    }


def claims_table(found: Sequence[Claim]) -> pa.Table:
    """Return claims as the table ``check_in_claims``."""
    return CheckInClaims.from_rows([_claim_row(c) for c in found])


def _claim_row(c: Claim) -> dict[str, object]:
    return {
        "target": c.target,
        "protocol": c.protocol,
        "known": c.known,
        "model": c.model,
        "claim": c.kind,
        "against": c.against,
        "patients": c.value.patients,
        "estimate": c.value.estimate,
        "low": c.value.low,
        "high": c.value.high,
        "reference_error": c.reference_error,
        "p_value": c.p,
        "p_value_holm": c.p_holm,
        "p_least_holm": c.p_least_holm,
        "verdict": c.verdict,
    }
