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
from iss_assets.media.isolation import end_with_parent
from iss_assets.media.journal import Journal, Suspect
from iss_assets.pipeline.home import open_instance, without_folders
from iss_assets.pipeline.job_runs import Load, Outcome, run_job
from iss_assets.pipeline.run_history import end_dead_runs
from iss_assets.settings import Settings
from iss_assets.warehouse.engine import keep_running


def run_patients(
    patients: Sequence[str], settings: Settings, load: Load, folder: StudyFolder | None = None
) -> Iterator[Outcome]:
    """Run the patient job for each patient, in as many processes as the settings say, and yield outcomes as they come.

    A worker that dies takes the others of its pool with it. Patients who had not started continue in a new pool; those
    in progress come last, one at a time, so that they disturb nobody else again. The video that was being read is then
    read in a process of its own (`media.isolation`), so the same run comes to an end.

    Parameters
    ----------
    patients : sequence of str
        Whom to run.
    settings : Settings
        Workers, threads, and where the home is.
    load : callable
        Returns the definitions; worker processes call it as well, so it has to be a function of a module.
    folder : StudyFolder, optional
        The read of the study folder that the runs work on: each gets its patient's part. Without, each reads the
        folder.
    """
    together, alone = list(patients), list[str]()
    suspects_of: dict[str, set[Suspect]] = {}
    failed_starts = 0
    while together or alone:
        batch = together or alone[:1]
        unfinished = yield from _in_pool(batch, settings, load, folder)
        if not unfinished:
            together, alone = [], alone if together else alone[1:]
            continue
        with open_instance(settings, many_runs=True) as instance:
            interrupted = unfinished & set(end_dead_runs(instance))
        # a patient whose worker dies again at the same video, or at none that is known, would do so forever
        hopeless = set()
        for patient in interrupted:
            suspects = set(Journal(settings.journal_dir).suspects(patient))
            if patient in suspects_of and suspects <= suspects_of[patient]:
                hopeless.add(patient)
            suspects_of.setdefault(patient, set()).update(suspects)
        failed_starts = 0 if interrupted else failed_starts + 1
        if failed_starts > 1:
            hopeless = set(unfinished)
        for patient in sorted(hopeless):
            yield Outcome(
                patient,
                "",
                False,
                "a worker process died, and again when it was tried once more (workers.log in the home)",
            )
        if together:
            together = [p for p in together if p in unfinished - interrupted - hopeless]
            alone += sorted(interrupted - hopeless)
        else:
            alone = [p for p in alone if p not in hopeless]


def _in_pool(
    patients: Sequence[str], settings: Settings, load: Load, folder: StudyFolder | None
) -> Generator[Outcome, None, set[str]]:
    """Run patients in a pool of workers; return those who are unfinished because a worker died."""
    workers = min(settings.run.workers, len(patients))
    environment = {
        "ISS_RUN__WORKERS": str(workers),
        "ISS_RUN__THREADS": str(max(1, settings.run.threads // workers)),
        "OMP_NUM_THREADS": str(max(1, settings.run.threads // workers)),
    }
    unfinished = set(patients)
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(environment,)
    ) as pool:
        futures = {
            pool.submit(partial(_run_patient, load, folder and folder.part_of(patient)), patient): patient
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
                    outcome = Outcome(patient, "", False, without_folders(f"{type(error).__name__}: {error}"))
                unfinished.discard(patient)
                yield outcome
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
    return unfinished


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


def _run_patient(load: Load, part: StudyFolder | None, patient: str) -> Outcome:
    outcome = run_job(
        load, _worker_instance(), "patient", patient, partitions=(patient, patient), folder=part
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
