"""What ``iss run`` does: find what is stale, and bring it up to date through Dagster, several patients side by side.

Belongs here: the order of the work, the worker processes, the summary.
Does not belong here: what is done in an asset (``defs.assets``), what counts as stale (``staleness``).
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

from iss_assets.pipeline.home import open_instance, without_folders
from iss_assets.pipeline.partition_keys import PATIENTS
from iss_assets.pipeline.run_history import (
    HOST_TAG,
    PID_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    end_dead_runs,
)
from iss_assets.pipeline.staleness import folder_is_stale, stale_patients
from iss_assets.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance, Definitions

    from iss_assets.intake.folder import StudyFolder

_JOIN_AFTER = 32
"""Patients after which the pieces that their runs left in the tables are joined; the SQL marts' run joins the last."""

Load: TypeAlias = "Callable[[], Definitions]"
"""Gives the definitions whose jobs are run; handed in from above, since nothing here may import them."""
Tell = Callable[[str], None]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Outcome:
    """How one run ended."""

    subject: str
    run_id: str
    success: bool
    problem: str = ""


@dataclass
class Summary:
    """What a command did."""

    enrolled: int = 0
    new_patients: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Outcome]:
        """Runs that did not succeed."""
        return [o for o in self.outcomes if not o.success]

    def lines(self) -> list[str]:
        """Say it in a few lines."""
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
    tell: Tell,
    progress: Progress,
    models: bool = True,
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
        Gives the definitions; worker processes call it as well, so it has to be a function of a module.
    tell : callable
        Takes a line of text for the person who waits.
    progress : callable
        Takes (patients done, patients to do, what was just done).
    models : bool
        Whether the experiments of ``run.train_on_run`` are brought up to date too.
    retry : bool
        Whether videos that failed are read again, though neither they nor the code have changed.

    Raises
    ------
    StudyFolderError
        If the study folder cannot be read. Nothing was changed then.
    ValueError
        If `patients` names one who is not enrolled, or the folder of the SQL models is missing.
    """
    from iss_assets.intake.folder import read_study
    from iss_assets.pipeline.run_alerts import begin_telling
    from iss_assets.warehouse.sql.models import require_models

    require_models(settings.warehouse.sql_dir)
    folder = read_study(settings.study, settings.reading)
    enrolled = [p.patient_id for p in folder.patients]
    if unknown := sorted(set(patients) - set(enrolled)):
        raise ValueError(f"not enrolled in this study: {', '.join(unknown)}")
    summary = Summary(enrolled=len(enrolled))
    if retry:
        from iss_assets.warehouse.database import Warehouse
        from iss_assets.warehouse.verdicts import retry_failed_files

        files = retry_failed_files(Warehouse(settings.warehouse_path, settings.warehouse), patients)
        tell(f"{files} videos that failed are read again")
    with open_instance(settings, many_runs=True) as instance:
        begin_telling(instance)
        end_dead_runs(instance)
        known = set(instance.get_dynamic_partitions(PATIENTS))
        summary.new_patients = [p for p in enrolled if p not in known]
        if summary.new_patients:
            instance.add_dynamic_partitions(PATIENTS, summary.new_patients)
            tell(f"{len(summary.new_patients)} new patients: {', '.join(summary.new_patients)}")
        if folder_is_stale(folder, settings):
            summary.outcomes.append(run_job(load, instance, "study_folder", "the study folder"))
        bring_patients(folder, settings, patients, summary, progress, load)
        if models:
            judge(instance, settings, settings.run.train_on_run, summary, tell, thorough=False, load=load)
        finish(instance, settings, summary, tell, load=load)
    rejected, problems = len(folder.rejected), len(folder.problems)
    if rejected or problems:
        summary.notes.append(
            f"The study folder has {rejected} rejected rows and {problems} problems: "
            'iss sql "select file, line, reason from rejected_rows union all by name from study_problems"'
        )
    summary.notes += quality_note(settings)
    return summary


def bring_patients(
    folder: StudyFolder,
    settings: Settings,
    patients: Sequence[str],
    summary: Summary,
    progress: Progress,
    load: Load,
) -> None:
    """Run the stale patients, and then those whom that made stale: a new video can be a copy of another's."""
    from iss_assets.warehouse.database import Warehouse
    from iss_assets.warehouse.row_groups import merge_row_groups

    for _ in range(2):
        stale = [p for p in stale_patients(folder, settings) if not patients or p in patients]
        failed = {o.subject for o in summary.failed}
        waiting = [p for p in stale if p not in failed]
        if not waiting:
            return
        for done, outcome in enumerate(run_patients(waiting, settings, load), start=1):
            summary.outcomes.append(outcome)
            progress(done, len(waiting), outcome.subject)
            if done % _JOIN_AFTER == 0:
                merge_row_groups(Warehouse(settings.warehouse_path, settings.warehouse))


def train_models(
    settings: Settings, experiments: Sequence[str], *, load: Load, tell: Tell, progress: Progress
) -> Summary:
    """Fit the folds that are stale, of the named experiments or of all, judge everything and write the pages.

    Raises
    ------
    ValueError
        If an experiment of such a name does not exist, or the folder of the SQL models is missing.
    """
    from iss_assets.modeling.experiments import BY_NAME, experiment
    from iss_assets.pipeline.run_alerts import begin_telling
    from iss_assets.warehouse.database import Warehouse
    from iss_assets.warehouse.sql.models import require_models

    require_models(settings.warehouse.sql_dir)
    names = [experiment(name).name for name in experiments] or list(BY_NAME)
    if not settings.warehouse_path.exists():
        raise ValueError("there is nobody in the warehouse yet; first: iss run")
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    summary = Summary(enrolled=warehouse.query("select count(*) n from patients")["n"][0].as_py())
    if not summary.enrolled:
        raise ValueError("there is nobody in the warehouse yet; first: iss run")
    with open_instance(settings, many_runs=True) as instance:
        begin_telling(instance)
        end_dead_runs(instance)
        judge(instance, settings, names, summary, tell, progress, thorough=True, load=load)
        finish(instance, settings, summary, tell, load=load)
    return summary


def judge(
    instance: DagsterInstance,
    settings: Settings,
    experiments: Sequence[str],
    summary: Summary,
    tell: Tell,
    progress: Progress | None = None,
    *,
    thorough: bool,
    load: Load,
) -> None:
    """Bring splits, folds, accuracies and the evaluation up to date, in that order, and stop at what fails."""
    from iss_assets.pipeline.staleness import judged_folds
    from iss_assets.pipeline.training import SPLITS, next_training_runs, why_not_trained
    from iss_assets.warehouse.database import Warehouse

    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    if reason := why_not_trained(warehouse, settings):
        summary.notes.append(reason)
        return
    patients, done = instance.get_dynamic_partitions(PATIENTS), dict[str, bool]()
    while batch := next_training_runs(warehouse, settings, experiments, patients, done, thorough=thorough):
        for number, run in enumerate(batch, start=1):
            if run.job == "train":
                tell(f"fitting {run.subject}")
            elif run.job == "evaluate":
                tell("evaluating the experiments")
            with _evaluation_told(progress):
                outcome = run_job(
                    load, instance, run.job, run.subject, partitions=run.partitions, config=run.config
                )
            summary.outcomes.append(outcome)
            done[run.subject] = outcome.success
            if run.job == "train" and progress is not None:
                progress(number, len(batch), run.subject)
            if run.job == "embed" and not outcome.success:
                # what one patient's faces cannot be embedded with, no other's can
                done |= dict.fromkeys((other.subject for other in batch), False)
                break
    if done.get(SPLITS, True):
        summary.notes += [f"Left out of the results: {line}" for line in judged_folds(warehouse)[1]]


@contextmanager
def _evaluation_told(progress: Progress | None) -> Iterator[None]:
    """Pass on how far the evaluation is, which runs as a job in this process."""
    from iss_assets.pipeline.progress import PROGRESS

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if progress is not None:
                progress(vars(record)["done"], vars(record)["of"], f"trainings, {record.getMessage()}")

    handler, level = Told(), PROGRESS.level
    PROGRESS.addHandler(handler)
    PROGRESS.setLevel(logging.INFO)
    try:
        yield
    finally:
        PROGRESS.removeHandler(handler)
        PROGRESS.setLevel(level)


def finish(
    instance: DagsterInstance, settings: Settings, summary: Summary, tell: Tell, *, load: Load
) -> None:
    """Bring what follows from everything else up to date: alerts, marts, pages."""
    from iss_assets.pipeline.run_alerts import tell_of_runs
    from iss_assets.pipeline.training import next_page_runs
    from iss_assets.warehouse.database import Warehouse

    before = {o.run_id for o in summary.outcomes}
    repository = load().get_repository_def()
    tell_of_runs(instance, settings, sorted(before), repository)
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    done = {o.subject: o.success for o in summary.outcomes}
    while batch := next_page_runs(instance, warehouse, settings, done):
        tell("making the SQL marts and pages" if batch[0].job == "marts" else "writing the reports")
        for run in batch:
            outcome = run_job(load, instance, run.job, run.subject, partitions=run.partitions, tags=run.tags)
            summary.outcomes.append(outcome)
            done[run.subject] = outcome.success
    tell_of_runs(instance, settings, sorted({o.run_id for o in summary.outcomes} - before), repository)


def quality_note(settings: Settings) -> list[str]:
    """Say how many videos are not usable."""
    from iss_assets.warehouse.database import Warehouse

    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    rows = warehouse.query(
        "select count(*) n, count(*) filter (not usable) bad from video_quality"
    ).to_pylist()[0]
    return (
        [f"{rows['bad']} of {rows['n']} videos are not usable; what to do about it: iss quality"]
        if rows["bad"]
        else []
    )


def run_patients(patients: Sequence[str], settings: Settings, load: Load) -> Iterator[Outcome]:
    """Run the patient job for each patient, in as many processes as the settings say; give outcomes as they come.

    A worker that dies takes the others of its pool with it. Who was waiting goes on in a new pool; who was at work
    comes last, one at a time, so that nobody else is disturbed again. The video that was being read is then read in a
    process of its own (`media.isolation`), so the same run comes to an end.
    """
    from iss_assets.media.journal import Journal, Suspect

    together, alone = list(patients), list[str]()
    seen: dict[str, set[Suspect]] = {}
    failed_starts = 0
    while together or alone:
        batch = together or alone[:1]
        left = yield from _in_pool(batch, settings, load)
        if not left:
            together, alone = [], alone if together else alone[1:]
            continue
        with open_instance(settings, many_runs=True) as instance:
            at_work = left & set(end_dead_runs(instance))
        # somebody who dies again at the same place, or at none that is known, would do so for ever
        hopeless = set()
        for patient in at_work:
            suspects = set(Journal(settings.journal_dir).suspects(patient))
            if patient in seen and suspects <= seen[patient]:
                hopeless.add(patient)
            seen.setdefault(patient, set()).update(suspects)
        failed_starts = 0 if at_work else failed_starts + 1
        if failed_starts > 1:
            hopeless = set(left)
        for patient in sorted(hopeless):
            yield Outcome(
                patient,
                "",
                False,
                "a worker process died, and again when it was tried once more (workers.log in the home)",
            )
        if together:
            together = [p for p in together if p in left - at_work - hopeless]
            alone += sorted(at_work - hopeless)
        else:
            alone = [p for p in alone if p not in hopeless]


def _in_pool(patients: Sequence[str], settings: Settings, load: Load) -> Generator[Outcome, None, set[str]]:
    """Run patients in a pool of workers; return those who are left because a worker died."""
    workers = min(settings.run.workers, len(patients))
    environment = {
        "ISS_RUN__WORKERS": str(workers),
        "ISS_RUN__THREADS": str(max(1, settings.run.threads // workers)),
        "OMP_NUM_THREADS": str(max(1, settings.run.threads // workers)),
    }
    left = set(patients)
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(environment,)
    ) as pool:
        futures = {pool.submit(partial(_run_patient, load), patient): patient for patient in patients}
        try:
            for future in as_completed(futures):
                patient = futures[future]
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    continue
                except Exception as error:
                    outcome = Outcome(patient, "", False, without_folders(f"{type(error).__name__}: {error}"))
                left.discard(patient)
                yield outcome
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
    return left


def _start_worker(environment: Mapping[str, str]) -> None:
    from iss_assets.media.isolation import end_with_parent
    from iss_assets.warehouse.engine import keep_running

    os.environ.update(environment)
    # a pool's workers wait for ever for a parent that was killed
    threading.Thread(target=end_with_parent, daemon=True).start()
    keep_running(Settings().run.threads)
    # MediaPipe's C++ writes warnings straight to the terminal, where they would tear the progress bar apart
    log = os.open(Settings().home / "workers.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)
    # a decoder that crashes says there where
    faulthandler.enable()


def _run_patient(load: Load, patient: str) -> Outcome:
    outcome = run_job(load, _worker_instance(), "patient", patient, partitions=(patient, patient))
    _spare_the_collector()
    return outcome


@cache
def _worker_instance() -> DagsterInstance:
    return open_instance(Settings(), many_runs=True)


@cache
def _spare_the_collector() -> None:
    """After the first patient, once: what is loaded by then stays, and every collection need not walk it again."""
    gc.collect()
    gc.freeze()


def run_job(
    load: Load,
    instance: DagsterInstance,
    job: str,
    subject: str,
    *,
    partitions: tuple[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Outcome:
    """Run one job of the code location in this process, as a run of the instance like any other.

    Parameters
    ----------
    load : callable
        Gives the definitions that the job is in.
    instance : DagsterInstance
        Where the run is kept.
    job : str
        Name of the job.
    subject : str
        What a person calls it.
    partitions : tuple of str, optional
        First and last partition; a single one if they are the same.
    config : mapping, optional
        Run configuration.
    tags : mapping, optional
        Tags of the run besides its own.
    """
    with _sigterm_kept():
        return _execute(load, instance, job, subject, partitions, config, tags)


def _execute(
    load: Load,
    instance: DagsterInstance,
    job: str,
    subject: str,
    partitions: tuple[str, str] | None,
    config: Mapping[str, Any] | None,
    tags: Mapping[str, str] | None,
) -> Outcome:
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    own = {PID_TAG: str(os.getpid()), HOST_TAG: socket.gethostname(), **(tags or {})}
    key = None
    if partitions and partitions[0] == partitions[1]:
        key = partitions[0]
    elif partitions:
        own |= {RANGE_START_TAG: partitions[0], RANGE_END_TAG: partitions[1]}
    result = (
        load()
        .resolve_job_def(job)
        .execute_in_process(
            instance=instance,
            partition_key=key,
            raise_on_error=False,
            tags=own,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **(config or {})},
        )
    )
    return Outcome(subject, result.run_id, result.success, "" if result.success else _why(result))


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Put back what SIGTERM does: after a run Dagster gives it what SIGINT has, which a background job ignores.

    Dagster does so when the result of the run is let go of, so the result must be gone before this ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _why(result: Any) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            if error is not None and error.cause is not None:
                error = error.cause
            message = (error.message if error else "").strip().splitlines()
            return f"{event.step_key}: {without_folders(message[0]) if message else 'failed'}"
    return "failed; the run's log in the UI says why"
