"""What training needs next: the order of splits, models, accuracies, evaluation and pages, decided in one place.

`iss train` and `iss run` execute each run in their own process; the training sensor requests it from Dagster's queue.
Both ask here again after every batch, so a batch holds only what can run side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from iss_assets.datasets.items import (
    COLUMN_OF_INPUT,
    patients_with_items,
    trainable_patients,
    without_consent,
)
from iss_assets.modeling.experiments import BY_NAME, EXPERIMENTS, experiment
from iss_assets.pipeline.partition_keys import fold_key
from iss_assets.pipeline.planning import MARTS, PAGES
from iss_assets.pipeline.run_history import STATE_TAG, SUBJECT_TAG, known_patients, unless_made
from iss_assets.pipeline.staleness import (
    check_ins_are_stale,
    evaluation_is_stale,
    marts_state,
    pages_state,
    splits_are_stale,
    stale_accuracies,
    stale_embeddings,
    stale_experiments,
)
from iss_assets.protocol.consent import left_out_words
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse

SPLITS, ACCURACY, EVALUATION = "the splits", "patients' accuracies", "the evaluation"
"""Subjects of the runs over all experiments."""
CHECK_INS = "the check-ins"
"""Subject of the run that predicts check-ins, which needs no experiment."""
MARTS_AND_PAGES, REPORT, PATIENT_PAGES = "the SQL marts and pages", "the study report", "the patients' pages"
"""Subjects of the runs that show the results."""


@dataclass(frozen=True)
class TrainingRun:
    """One run that training needs.

    Attributes
    ----------
    job : str
        Name of the job.
    subject : str
        What a person calls it; unique within one training.
    partitions : tuple of str, optional
        First and last partition; a single one if they are the same.
    config : dict
        Run configuration.
    tags : dict
        Tags of the run: what it brings up to date, and to which state.
    """

    job: str
    subject: str
    partitions: tuple[str, str] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def why_not_trained(warehouse: Warehouse, settings: Settings) -> str | None:
    """Return why no experiment can be run; None where one can."""
    eligible = len(trainable_patients(warehouse, settings.training))
    if eligible >= 2:
        return None
    missing = without_consent(warehouse)
    return (
        f"No experiment was run: {eligible} patients have videos that can be trained on, and at least two are needed. "
        f"Why: iss quality{f'; {left_out_words(missing)}' if missing else ''}"
    )


def untrained_experiments(warehouse: Warehouse, settings: Settings) -> dict[str, str]:
    """Return the experiments on whole videos that too few patients have been measured for, each with the reason.

    They need more patients than the largest split tests: then every training side has some, however patients are
    assigned. Nothing is said before patients are assigned, nor of embeddings, which training makes itself.
    """
    with warehouse.one_state():
        cohort = warehouse.query("select patient_id, split from cv_splits")
        patients = set(cohort["patient_id"].to_pylist())
        largest = max(Counter(cohort["split"].to_pylist()).values(), default=0)
        reasons = {}
        for candidate in EXPERIMENTS:
            if candidate.item != "video" or candidate.uses_embeddings or not patients:
                continue
            tables = " and ".join(COLUMN_OF_INPUT[name][0] for name in candidate.inputs)
            found = patients & {*patients_with_items(warehouse, candidate, settings.training)}
            if len(found) <= largest:
                reasons[candidate.name] = (
                    f"{len(found)} of {len(patients)} patients have rows in {tables} for a video that can be trained on, and "
                    f"at least {largest + 1} are needed"
                )
    return reasons


def chosen_experiments(settings: Settings) -> list[str]:
    """Return the experiments that the weekly training keeps up to date.

    Raises
    ------
    ValueError
        If the setting names one that does not exist.
    """
    return [experiment(name).name for name in settings.sensors.training_experiments] or list(BY_NAME)


def next_training_runs(
    warehouse: Warehouse,
    settings: Settings,
    experiments: Sequence[str],
    patients: Sequence[str],
    done: Mapping[str, bool],
    *,
    thorough: bool,
) -> list[TrainingRun]:
    """Return the next batch of runs, in the order splits, embeddings, models, accuracies, evaluation, check-ins.

    Parameters
    ----------
    warehouse : Warehouse
        What there is.
    settings : Settings
        Training and evaluation.
    experiments : sequence of str
        Names of the experiments to bring up to date.
    patients : sequence of str
        Partitions of patients, in Dagster's order.
    done : mapping
        Subjects that this training has run already, to whether they succeeded. None of them is returned again, and
        nothing is returned that needs one that failed.
    thorough : bool
        Whether the evaluation also trains forests on permuted labels.

    Returns
    -------
    list of TrainingRun
        Empty where everything is current, a step failed that all later ones need, or fewer than two patients have
        videos that can be trained on.
    """
    eligible = [p.patient_id for p in trainable_patients(warehouse, settings.training)]
    if len(eligible) < 2:
        return []
    if SPLITS not in done and splits_are_stale(warehouse, settings):
        return [TrainingRun("splits", SPLITS)]
    if not done.get(SPLITS, True):
        return []
    for batch in (
        _embeddings(warehouse, settings, experiments, eligible, done),
        _models(warehouse, settings, [name for name in experiments if name not in done]),
    ):
        # generators: models are not asked for while embeddings wait
        if runs := [*batch]:
            return runs
    if ACCURACY not in done and patients and stale_accuracies(warehouse, eligible):
        return [TrainingRun("accuracy", ACCURACY, (patients[0], patients[-1]))]
    if not done.get(ACCURACY, True):
        return []
    if EVALUATION not in done and evaluation_is_stale(warehouse, settings, thorough=thorough):
        config = {"ops": {"evaluate_experiments": {"config": {"retrain": thorough}}}}
        return [TrainingRun("evaluate", EVALUATION, config=config)]
    if CHECK_INS not in done and check_ins_are_stale(warehouse, settings):
        return [TrainingRun("check_ins", CHECK_INS)]
    return []


def _embeddings(
    warehouse: Warehouse,
    settings: Settings,
    experiments: Sequence[str],
    eligible: Sequence[str],
    done: Mapping[str, bool],
) -> Iterator[TrainingRun]:
    if any(BY_NAME[name].uses_embeddings for name in experiments):
        subjects = {f"embeddings of {patient}": patient for patient in eligible}
        waiting = [patient for subject, patient in subjects.items() if subject not in done]
        stale = {*stale_embeddings(warehouse, settings, waiting)}
        for subject, patient in subjects.items():
            if patient in stale:
                yield TrainingRun("embed", subject, (patient, patient))


def _models(warehouse: Warehouse, settings: Settings, experiments: Sequence[str]) -> Iterator[TrainingRun]:
    if not experiments:
        return
    unable = untrained_experiments(warehouse, settings)
    # a split file may name more splits than the settings ask for
    last = warehouse.query("select max(split) n from cv_splits")["n"][0].as_py()
    for name in stale_experiments(warehouse, settings, [e for e in experiments if e not in unable]):
        yield TrainingRun("train", name, (fold_key(name, 1), fold_key(name, last)))


def next_page_runs(
    instance: dg.DagsterInstance, warehouse: Warehouse, settings: Settings, done: Mapping[str, bool]
) -> list[TrainingRun]:
    """Return the next batch of runs that show the results: the marts, then the pages made from them.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        Says what the last of these runs were made from.
    warehouse : Warehouse
        What there is.
    settings : Settings
        Where the SQL models and the pages are.
    done : mapping
        Subjects that were run already, to whether they succeeded. Where there are any, the pages are written even if
        their tables have not changed: a run that failed is shown too.
    """
    state = unless_made(instance, MARTS, marts_state(warehouse, settings.warehouse.sql_dir))
    if state is not None and MARTS_AND_PAGES not in done:
        return [TrainingRun("marts", MARTS_AND_PAGES, tags={SUBJECT_TAG: MARTS, STATE_TAG: state})]
    # also after a command that was killed when everything was made but the pages
    state = unless_made(instance, PAGES, pages_state(warehouse))
    written = (settings.reports_dir / "study_report.html").exists()
    if REPORT in done or not (done or state is not None or not written):
        return []
    patients = known_patients(instance)
    last = {} if state is None else {SUBJECT_TAG: PAGES, STATE_TAG: state}
    report = TrainingRun("report", REPORT, tags={} if patients else last)
    if not patients:
        return [report]
    return [report, TrainingRun("patient_reports", PATIENT_PAGES, (patients[0], patients[-1]), tags=last)]
