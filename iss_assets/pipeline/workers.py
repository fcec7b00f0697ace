"""The worker processes of `iss run`: one run per patient, several patients side by side."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial

import dagster as dg

from iss_assets.intake.folder import StudyFolder
from iss_assets.loading import call_quickly
from iss_assets.media.isolation import end_with_parent
from iss_assets.media.journal import Journal, Suspect
from iss_assets.pipeline.home import open_instance, without_folders
from iss_assets.pipeline.job_runs import Load, Outcome, run_job
from iss_assets.pipeline.planning import PATIENT_JOB, subject_of
from iss_assets.pipeline.run_history import end_dead_runs
from iss_assets.settings import Settings
from iss_assets.warehouse.engine import keep_running


class Workers:
    """The pool, for as long as one command needs it: started when there is something to run, and kept for one job.

    A worker that dies takes the others of its pool with it. Patients who had not started continue in a new pool; those
    in progress come last, one at a time, so that they disturb nobody else again. The video that was being read is then
    read in a process of its own (`media.isolation`), so the same run comes to an end.

    Parameters
    ----------
    settings : Settings
        Workers, threads, and where the home is.
    load : callable
        Returns the definitions; worker processes call it as well, so it has to be a function of a module.
    folder : StudyFolder, optional
        The read of the study folder that the runs work on: each gets its patient's part. Without, each reads the
        folder.
    """

    def __init__(self, settings: Settings, load: Load, folder: StudyFolder | None = None) -> None:
        self._settings = settings
        self._load = load
        self._folder = folder
        self._pool: ProcessPoolExecutor | None = None
        self._pool_of = (0, "")

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def run(self, patients: Sequence[str], job: str = PATIENT_JOB) -> Iterator[Outcome]:
        """Run a job for each patient, in as many processes as the settings say, and yield outcomes as they come.

        Parameters
        ----------
        patients : sequence of str
            Whom to run.
        job : str
            The job, of one partition per patient.
        """
        together, alone = list(patients), list[str]()
        suspects_of: dict[str, set[Suspect]] = {}
        failed_starts = 0
        while together or alone:
            batch = together or alone[:1]
            unfinished = yield from self._in_pool(batch, job)
            if not unfinished:
                together, alone = [], alone if together else alone[1:]
                continue
            with open_instance(self._settings, many_runs=True) as instance:
                interrupted = unfinished & set(end_dead_runs(instance))
            # a patient whose worker dies again at the same video, or at none that is known, would do so forever
            hopeless = set()
            for patient in interrupted:
                suspects = set(Journal(self._settings.journal_dir).suspects(patient))
                if patient in suspects_of and suspects <= suspects_of[patient]:
                    hopeless.add(patient)
                suspects_of.setdefault(patient, set()).update(suspects)
            failed_starts = 0 if interrupted else failed_starts + 1
            if failed_starts > 1:
                hopeless = set(unfinished)
            for patient in sorted(hopeless):
                yield Outcome(
                    subject_of(job, patient),
                    "",
                    False,
                    "a worker process died, and again when it was tried once more (workers.log in the home)",
                )
            if together:
                together = [p for p in together if p in unfinished - interrupted - hopeless]
                alone += sorted(interrupted - hopeless)
            else:
                alone = [p for p in alone if p not in hopeless]

    def _in_pool(self, patients: Sequence[str], job: str) -> Generator[Outcome, None, set[str]]:
        """Run patients in a pool of workers; return those who are unfinished because a worker died."""
        unfinished = set(patients)
        pool = self._open(min(self._settings.run.workers, len(patients)), job)
        futures = {
            pool.submit(
                partial(_run_patient, self._load, self._folder and self._folder.part_of(patient), job),
                patient,
            ): patient
            for patient in patients
        }
        try:
            for future in as_completed(futures):
                patient = futures[future]
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    continue
                except Exception as error:
                    reason = without_folders(f"{type(error).__name__}: {error}")
                    outcome = Outcome(subject_of(job, patient), "", False, reason)
                unfinished.discard(patient)
                yield outcome
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        if unfinished:
            self._close()
        return unfinished

    def _open(self, size: int, job: str) -> ProcessPoolExecutor:
        """Return a pool of so many workers, who share the threads: the one that is there, if it is of that size and job.

        Each job has its own processes: with what another one has loaded as well, words of half an hour would take 1.9 GB.
        """
        if self._pool is None or self._pool_of != (size, job):
            self._close()
            threads = str(max(1, self._settings.run.threads // size))
            environment = {
                "ISS_RUN__WORKERS": str(size),
                "ISS_RUN__THREADS": threads,
                "OMP_NUM_THREADS": threads,
            }
            self._pool = ProcessPoolExecutor(
                size,
                multiprocessing.get_context("spawn"),
                initializer=call_quickly,
                initargs=(f"{__name__}:{_start_worker.__name__}", environment),
            )
            self._pool_of = (size, job)
        return self._pool

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _start_worker(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    # a pool's workers wait forever for a parent that was killed
    threading.Thread(target=end_with_parent, daemon=True).start()
    keep_running(Settings().run.threads)
    # MediaPipe's C++ writes warnings straight to the terminal, where they would tear the progress bar apart
    log = os.open(Settings().home / "workers.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)
    # a decoder that crashes says there where
    faulthandler.enable()


def _run_patient(load: Load, part: StudyFolder | None, job: str, patient: str) -> Outcome:
    outcome = run_job(
        load,
        _worker_instance(),
        job,
        subject_of(job, patient),
        partitions=(patient, patient),
        folder=part,
    )
    _freeze_loaded_objects()
    return outcome


@cache
def _worker_instance() -> dg.DagsterInstance:
    return open_instance(Settings(), many_runs=True)


@cache
def _freeze_loaded_objects() -> None:
    """Exclude what is loaded after the first patient from garbage collection; it stays until the process ends."""
    gc.collect()
    gc.freeze()
