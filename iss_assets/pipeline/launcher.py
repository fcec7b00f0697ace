"""`iss run` and `iss train`: find what is stale and bring it up to date through Dagster, in the right order."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import dagster as dg

from iss_assets.datasets.items import without_consent
from iss_assets.features.registry import missing_package_notes
from iss_assets.intake.folder import StudyFolder, StudyFolderError
from iss_assets.modeling.experiments import BY_NAME, experiment
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.job_runs import Load, Outcome, run_job
from iss_assets.pipeline.planning import PATIENT_JOB, WORDS_JOB, subject_of
from iss_assets.pipeline.prepared_read import hand_over
from iss_assets.pipeline.progress import PROGRESS
from iss_assets.pipeline.run_alerts import report_runs
from iss_assets.pipeline.run_history import (
    add_patients,
    begin_reading_runs,
    end_dead_runs,
    known_patients,
)
from iss_assets.pipeline.staleness import (
    evaluable_folds,
    folder_is_stale,
    stale_by_job,
    stale_patients,
    with_latest_day,
)
from iss_assets.pipeline.training import (
    SPLITS,
    TrainingRun,
    next_page_runs,
    next_training_runs,
    untrained_experiments,
    why_not_trained,
)
from iss_assets.pipeline.workers import Workers
from iss_assets.privacy.at_work import at_work
from iss_assets.privacy.register import open_study
from iss_assets.privacy.withdrawal import finish_pending, follow_other_hosts
from iss_assets.protocol.consent import left_out_words
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.engine import keep_running
from iss_assets.warehouse.row_groups import merge_row_groups
from iss_assets.warehouse.sql.models import require_models
from iss_assets.warehouse.verdicts import retry_failed_files

_JOIN_AFTER = 32
"""Patients after which the pieces that their runs left in the tables are joined; the SQL marts' run joins the last."""

_SAID = {"train": "fitting {}", "evaluate": "evaluating the experiments"}
"""What is said of a run before it begins, by job."""

Log = Callable[[str], None]
Progress = Callable[[int, int, str], None]


@dataclass
class Summary:
    """What a command did.

    Attributes
    ----------
    enrolled : int
        Patients of the study.
    new_patients : list of str
        Patients that were registered.
    outcomes : list of Outcome
        How each run ended, in order.
    notes : list of str
        What the person who waits should know.
    """

    enrolled: int = 0
    new_patients: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Outcome]:
        """Runs that did not succeed."""
        return [o for o in self.outcomes if not o.success]

    def lines(self) -> list[str]:
        """Return the summary in a few lines for the terminal."""
        good = [o.subject for o in self.outcomes if o.success]
        made = (
            f"{len(good)} runs succeeded, {len(self.failed)} failed"
            if self.outcomes
            else "all was up to date"
        )
        return [f"{self.enrolled} patients enrolled: {made}.", *self.notes]


def run_study(
    settings: Settings,
    patients: Sequence[str] = (),
    *,
    load: Load,
    log: Log,
    progress: Progress,
    models: bool = True,
    pages: bool = True,
    retry: bool = False,
) -> Summary:
    """Register new patients and bring every stale artifact up to date.

    Parameters
    ----------
    settings : Settings
        Where the study and the home are.
    patients : sequence of str
        Only these patients; all of them if empty.
    load : callable
        Returns the definitions; worker processes call it as well, so it has to be a function of a module.
    log : callable
        Takes a line of text for the person who waits.
    progress : callable
        Takes (patients done, patients to do, what was just done).
    models : bool
        Whether the experiments of ``run.train_on_run`` are brought up to date too.
    pages : bool
        Whether what follows from the tables is brought up to date too: alerts, SQL marts, pages. The next run does
        what is left out.
    retry : bool
        Whether videos that failed are read again, though neither they nor the code have changed.

    Raises
    ------
    StudyFolderError
        If the study folder cannot be read. Nothing was changed then.
    ValueError
        If `patients` names one who is not enrolled, or the folder of the SQL models is missing.
    """
    require_models(settings.warehouse.sql_dir)
    finish_pending(settings, log)
    follow_other_hosts(settings, log)
    with _at_work(settings):
        return _run_study(
            settings,
            patients,
            load=load,
            log=log,
            progress=progress,
            models=models,
            pages=pages,
            retry=retry,
        )


def _at_work(settings: Settings) -> AbstractContextManager[None]:
    """Keep withdrawals out while this command's runs are executed, and DuckDB running.

    Runs of a cluster do so themselves; this command, which waits for them, must not keep out a withdrawal that they wait for.
    """
    # what is stale is asked again and again, before the definitions are loaded
    keep_running()
    return nullcontext() if settings.cluster.broker else at_work(settings.home, for_children=True)


def _run_study(
    settings: Settings,
    patients: Sequence[str],
    *,
    load: Load,
    log: Log,
    progress: Progress,
    models: bool,
    pages: bool,
    retry: bool,
) -> Summary:
    folder = open_study(settings)
    enrolled = [p.patient_id for p in folder.patients]
    if unknown := sorted(set(patients) - set(enrolled)):
        raise ValueError(f"not enrolled in this study: {', '.join(unknown)}")
    summary = Summary(enrolled=len(enrolled))
    if retry:
        files = retry_failed_files(Warehouse(settings.warehouse_path, settings.warehouse), patients)
        log(f"{files} videos that failed are read again")
    with open_instance(settings, many_runs=True) as instance:
        _begin(instance, settings)
        known = set(known_patients(instance))
        summary.new_patients = [p for p in enrolled if p not in known]
        if summary.new_patients:
            add_patients(instance, summary.new_patients)
            log(f"{len(summary.new_patients)} new patients: {', '.join(summary.new_patients)}")
        if folder_is_stale(folder, settings):
            run = TrainingRun("study_folder", "the study folder")
            summary.outcomes += [o for _, o in _execute(load, instance, settings, [run], log, folder)]
        update_patients(instance, folder, settings, patients, summary, log, progress, load)
        if models:
            evaluate_experiments(
                instance, settings, settings.run.train_on_run, summary, log, thorough=False, load=load
            )
        if pages:
            refresh_reports(instance, settings, summary, log, load=load, enrolled=folder.patient_ids)
    rejected, problems = len(folder.rejected), len(folder.problems)
    if rejected or problems:
        summary.notes.append(
            f"The study folder has {rejected} rejected rows and {problems} problems: "
            'iss sql "select file, line, reason from rejected_rows union all by name from study_problems"'
        )
    summary.notes += missing_package_notes(settings)
    summary.notes += quality_note(settings)
    return summary


def _begin(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Prepare for runs; in a cluster, there has to be a daemon that takes them from the queue."""
    if settings.cluster.broker is not None:
        from iss_assets.pipeline.queued_runs import require_daemon

        require_daemon(instance)
    else:
        begin_reading_runs(instance)
    end_dead_runs(instance)


def _execute(
    load: Load,
    instance: dg.DagsterInstance,
    settings: Settings,
    runs: Sequence[TrainingRun],
    log: Log,
    folder: StudyFolder | None = None,
) -> Iterator[tuple[TrainingRun, Outcome]]:
    """Execute runs and yield how each ended: one after another in this process, or side by side in a cluster."""
    if settings.cluster.broker is not None:
        from iss_assets.pipeline.queued_runs import run_in_queue

        for run in runs:
            _say(run, log)
        yield from run_in_queue(load, instance, list(runs), log, settings.cluster.runs)
        return
    for run in runs:
        _say(run, log)
        yield (
            run,
            run_job(
                load, instance, run.job, run.subject,
                partitions=run.partitions, config=run.config, tags=run.tags, folder=folder,
            ),
        )  # fmt: skip


def _say(run: TrainingRun, log: Log) -> None:
    if run.job in _SAID:
        log(_SAID[run.job].format(run.subject))


def update_patients(
    instance: dg.DagsterInstance,
    folder: StudyFolder,
    settings: Settings,
    patients: Sequence[str],
    summary: Summary,
    log: Log,
    progress: Progress,
    load: Load,
) -> None:
    """Run the stale patients, those that this made stale (a new video can be a copy of another's), and last the words."""

    def waiting(job: str, stale: Iterable[str]) -> list[str]:
        failed = {o.subject for o in summary.failed}
        return [p for p in stale if (not patients or p in patients) and subject_of(job, p) not in failed]

    def execute(job: str, chosen: Sequence[str]) -> None:
        outcomes: Iterator[Outcome]
        if queued := settings.cluster.broker is not None:
            runs = [
                TrainingRun(job, subject_of(job, p), (p, p), tags=hand_over(folder, settings, p))
                for p in chosen
            ]
            outcomes = (outcome for _, outcome in _execute(load, instance, settings, runs, log))
        else:
            outcomes = workers.run(chosen, job)
        for done, outcome in enumerate(outcomes, start=1):
            summary.outcomes.append(outcome)
            progress(done, len(chosen), outcome.subject)
            if done % _JOIN_AFTER == 0 and not queued:
                merge_row_groups(Warehouse(settings.warehouse_path, settings.warehouse))

    with Workers(settings, load, folder) as workers:
        first, later = stale_by_job(stale_patients(folder, settings))
        for _ in range(2):
            if not (chosen := waiting(PATIENT_JOB, first)):
                break
            newest = with_latest_day(folder)
            execute(
                PATIENT_JOB, sorted(largest_first(folder, chosen), key=lambda patient: patient not in newest)
            )
            first, later = stale_by_job(stale_patients(folder, settings))
        # also of a patient whose run failed, as far as the sound is there
        if chosen := waiting(WORDS_JOB, later):
            execute(WORDS_JOB, largest_first(folder, chosen))


def largest_first(folder: StudyFolder, patients: Sequence[str]) -> list[str]:
    """Return patients by the size of their videos, so that no worker is left with a large one when the others are done.

    That is at most a third longer than the best order (Graham 1969, "Bounds on multiprocessing timing anomalies").
    """
    size = Counter[str]()
    for video in folder.videos:
        size[video.patient_id] += video.size
    return sorted(patients, key=lambda patient: -size[patient])


def train_models(
    settings: Settings, experiments: Sequence[str], *, load: Load, log: Log, progress: Progress
) -> Summary:
    """Fit the folds that are stale, of the named experiments or of all, evaluate everything and write the pages.

    Raises
    ------
    ValueError
        If an experiment of such a name does not exist, or the folder of the SQL models is missing.
    """
    require_models(settings.warehouse.sql_dir)
    names = [experiment(name).name for name in experiments] or list(BY_NAME)
    finish_pending(settings, log)
    follow_other_hosts(settings, log)
    with _at_work(settings):
        return _train_models(settings, names, load=load, log=log, progress=progress)


def _train_models(
    settings: Settings, names: Sequence[str], *, load: Load, log: Log, progress: Progress
) -> Summary:
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    if not warehouse.exists():
        raise ValueError("the warehouse has no patients yet; run first: iss run")
    summary = Summary(enrolled=warehouse.query("select count(*) n from patients")["n"][0].as_py())
    if not summary.enrolled:
        raise ValueError("the warehouse has no patients yet; run first: iss run")
    with open_instance(settings, many_runs=True) as instance:
        _begin(instance, settings)
        evaluate_experiments(instance, settings, names, summary, log, progress, thorough=True, load=load)
        refresh_reports(instance, settings, summary, log, load=load)
    return summary


def evaluate_experiments(
    instance: dg.DagsterInstance,
    settings: Settings,
    experiments: Sequence[str],
    summary: Summary,
    log: Log,
    progress: Progress | None = None,
    *,
    thorough: bool,
    load: Load,
) -> None:
    """Bring splits, folds, accuracies and the evaluation up to date, in that order, and stop at what fails."""
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    if reason := why_not_trained(warehouse, settings):
        summary.notes.append(reason)
        return
    if missing := without_consent(warehouse):
        summary.notes.append(f"{left_out_words(missing).capitalize()}.")
    patients, done = known_patients(instance), dict[str, bool]()
    while batch := next_training_runs(warehouse, settings, experiments, patients, done, thorough=thorough):
        with _evaluation_progress(progress):
            for number, (run, outcome) in enumerate(_execute(load, instance, settings, batch, log), start=1):
                summary.outcomes.append(outcome)
                done[run.subject] = outcome.success
                if run.job == "train" and progress is not None:
                    progress(number, len(batch), run.subject)
                if run.job == "embed" and not outcome.success and settings.cluster.broker is None:
                    # what keeps one patient's faces from being embedded keeps all from it
                    done |= dict.fromkeys((other.subject for other in batch), False)
                    break
    if done.get(SPLITS, True):
        summary.notes += [
            f"Not trained: {name}. {why[:1].upper()}{why[1:]}."
            for name, why in untrained_experiments(warehouse, settings).items()
            if name in experiments
        ]
        summary.notes += [f"Left out of the results: {line}" for line in evaluable_folds(warehouse)[1]]


@contextmanager
def _evaluation_progress(progress: Progress | None) -> Iterator[None]:
    """Pass on the progress of the evaluation, which runs as a job in this process."""

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if progress is not None:
                progress(vars(record)["done"], vars(record)["of"], f"trainings, {record.getMessage()}")

    handler, level = Forward(), PROGRESS.level
    PROGRESS.addHandler(handler)
    PROGRESS.setLevel(logging.INFO)
    try:
        yield
    finally:
        PROGRESS.removeHandler(handler)
        PROGRESS.setLevel(level)


def refresh_reports(
    instance: dg.DagsterInstance,
    settings: Settings,
    summary: Summary,
    log: Log,
    *,
    load: Load,
    enrolled: Collection[str] | None = None,
) -> None:
    """Bring what follows from everything else up to date: alerts, marts, pages.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        Where the runs are.
    settings : Settings
        Where the study and the home are.
    summary : Summary
        What was done so far; the runs that this makes are added.
    log : callable
        Takes a line of text for the person who waits.
    load : callable
        Returns the definitions.
    enrolled : collection of str, optional
        Patients of the study folder, if it has been read; otherwise it is read here.
    """
    if enrolled is None:
        enrolled = _enrolled_now(settings)
    reported = {o.run_id for o in summary.outcomes}
    repository = load().get_repository_def()
    # in a cluster, the daemon's sensors do so for every run, and nobody else
    alone = settings.cluster.broker is None
    if alone:
        report_runs(instance, settings, sorted(reported), repository, enrolled)
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    done = {o.subject: o.success for o in summary.outcomes}
    while batch := next_page_runs(instance, warehouse, settings, done):
        log("building the SQL marts and pages" if batch[0].job == "marts" else "writing the reports")
        for run, outcome in _execute(load, instance, settings, batch, log):
            summary.outcomes.append(outcome)
            done[run.subject] = outcome.success
    if alone:
        new = {o.run_id for o in summary.outcomes} - reported
        report_runs(instance, settings, sorted(new), repository, enrolled)


def _enrolled_now(settings: Settings) -> Collection[str] | None:
    """Return the patients of the study folder; None where it cannot be read, which does not mean that all left."""
    try:
        return open_study(settings).patient_ids
    except StudyFolderError:
        return None


def quality_note(settings: Settings) -> list[str]:
    """Return a line about the videos that are not usable, if there are any."""
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    rows = warehouse.query(
        "select count(*) n, count(*) filter (not usable) bad from video_quality"
    ).to_pylist()[0]
    return (
        [f"{rows['bad']} of {rows['n']} videos are not usable; what to do about it: iss quality"]
        if rows["bad"]
        else []
    )
