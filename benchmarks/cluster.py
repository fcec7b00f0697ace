"""Measure how many patients a cluster processes with one, two and four workers, and how long they wait for the writer lock.

    python -m benchmarks.cluster [--patients 8] [--check-ins 2] [--workers 1 2 4] [--unreadable] [--wait SECONDS] [--tiny]

A real Postgres and Redis, Dagster's daemon, and workers of one process and one thread each, all on this machine and on one
home. With ``--unreadable`` the videos are no videos: what is left is what Dagster, the queue and the writes cost, and where
that stops scaling. With ``--wait`` they are no videos either, and each patient's run waits as long as reading them takes,
without computing: a machine of few cores then stands for many, as long as the column "busy cores" stays below what it has.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from benchmarks import end_on_sigterm
from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.pipeline.run_history import PARTITION_TAG
from iss_assets.settings import Settings
from iss_assets.synthetic.sample import write_sample_study
from iss_assets_tests.defs.test_backfill import running
from iss_assets_tests.postgres import PostgresServer, postgres_program, running_postgres
from iss_assets_tests.redis_server import RedisServer, running_redis

_SAMPLE_S = 0.02
_WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and wait_event = 'advisory'"


@dataclass
class Measured:
    """What was measured with a number of workers."""

    workers: int
    patients: int
    wall_s: float
    """From the start of the first patient's run to the end of the last one's."""
    run_s: float
    """Median duration of a run."""
    commits: int
    """During that time."""
    waiting: float
    """Workers that waited for a lock in Postgres, on average."""
    busy: float
    """Cores of this machine that were busy, on average, whoever kept them so."""

    def row(self, first: Measured) -> str:
        """Return a row of the table."""
        speed = self.patients / self.wall_s
        return (
            f"| {self.workers} | {60 * speed:.1f} | {speed / (first.patients / first.wall_s):.2f} | {self.run_s:.1f} | "
            f"{self.commits / self.patients:.1f} | {self.commits / self.wall_s:.2f} | {self.waiting:.2f} | {self.busy:.2f} |"
        )


@contextmanager
def _sampled(server: PostgresServer) -> Iterator[list[int]]:
    """Count the sessions that wait for a lock, again and again, while the block runs."""
    import psycopg2

    counts: list[int] = []
    stop = threading.Event()

    def sample() -> None:
        session = psycopg2.connect(server.url("postgres"))
        session.autocommit = True
        with session.cursor() as cursor:
            while not stop.wait(_SAMPLE_S):
                cursor.execute(_WAITING)
                counts.append(int(cursor.fetchone()[0]))
        session.close()

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


WAITING_WORKER = """\
import sys, time
from iss_assets.cli.main import app
from iss_assets.defs import resources

tag_process, seen = resources.tag_process, set()

def wait(instance, run):
    tag_process(instance, run)
    if "dagster/partition" in run.tags and run.run_id not in seen:
        seen.add(run.run_id)
        time.sleep(float(sys.argv[1]))

resources.tag_process = wait
app(["worker", "--at-once", "1"])
"""
"""A worker whose runs wait at their beginning, once for each patient."""


def _busy_s() -> float:
    """Return the seconds that this machine's cores have been busy since it was started."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, interrupts, soft = map(int, words[:7])
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def measure(
    study: Path,
    workers: int,
    postgres: PostgresServer,
    redis: RedisServer,
    folder: Path,
    wait_s: float | None = None,
) -> Measured:
    """Process a study with a number of workers, in a home and databases of its own."""
    folder.mkdir()
    catalog, history = postgres.new_database(), postgres.new_database()
    service = folder / "pg_service.conf"
    service.write_text(
        f"[iss]\nhost=127.0.0.1\nport={postgres.port}\nuser=iss\npassword={postgres.password}\n"
        f"dbname={catalog.rpartition('/')[2]}\n"
    )
    os.environ |= {
        "PGSERVICEFILE": str(service),
        "ISS_STUDY": str(study),
        "ISS_HOME": str(folder / "home"),
        "ISS_WAREHOUSE__CATALOG": "postgres:service=iss",
        "ISS_WAREHOUSE__DATA_PATH": str(folder / "tables"),
        "ISS_CLUSTER__STORAGE": history,
        "ISS_CLUSTER__BROKER": redis.new_database(),
        "ISS_RUN__THREADS": "1",
        "ISS_WORDS__ENABLED": "false",
        "ISS_READING__SETTLE_SECONDS": "0",
        # the sensor leaves the work to `iss run`
        "ISS_SENSORS__INTERVAL_S": "3600",
    }
    settings = Settings()
    workspace = str(prepare_home(settings) / "workspace.yaml")
    with ExitStack() as stack:
        stack.enter_context(running(folder / "daemon.log", "dagster-daemon", "run", "-w", workspace))
        for number in range(workers):
            command = (
                ["iss", "worker", "--at-once", "1"]
                if wait_s is None
                else ["python", "-c", WAITING_WORKER, str(wait_s)]
            )
            stack.enter_context(running(folder / f"{number}.log", *command))
        instance = stack.enter_context(open_instance(settings))
        _wait_for_daemon(instance)
        with _sampled(postgres) as waiting:
            iss = str(Path(sys.executable).with_name("iss"))
            began, busy = time.monotonic(), _busy_s()
            done = subprocess.run([iss, "run", "--no-models"], capture_output=True, text=True, check=False)
            busy = (_busy_s() - busy) / (time.monotonic() - began)
        if done.returncode:
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        records = [
            record
            for record in instance.get_run_records(dg.RunsFilter(job_name="patient"))
            if PARTITION_TAG in record.dagster_run.tags and record.start_time and record.end_time
        ]
    first, last = min(r.start_time or 0 for r in records), max(r.end_time or 0 for r in records)
    ((commits,),) = postgres.execute(
        "select count(*) from ducklake_snapshot where extract(epoch from snapshot_time) "
        f"between {first} and {last}",
        catalog.rpartition("/")[2],
    )
    return Measured(
        workers,
        len({record.dagster_run.tags[PARTITION_TAG] for record in records}),
        last - first,
        statistics.median((r.end_time or 0) - (r.start_time or 0) for r in records),
        int(str(commits)),
        statistics.fmean(waiting),
        busy,
    )


def _wait_for_daemon(instance: dg.DagsterInstance) -> None:
    from iss_assets.pipeline.dagster_private import last_heartbeat

    beat = threading.Event()
    while last_heartbeat(instance) is None:
        beat.wait(0.2)


def main() -> int:
    """Measure and print the table."""
    end_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--check-ins", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--unreadable", action="store_true", help="videos that nothing is extracted from")
    parser.add_argument(
        "--wait", type=float, help="seconds that each patient's run waits instead of computing"
    )
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if options.tiny:
        options.patients, options.check_ins, options.workers, options.wait = 2, 1, [2], 1.0
    if postgres_program("initdb") is None or shutil.which("redis-server") is None:
        print("| workers | : PostgreSQL or Redis is not installed (Debian: postgresql, redis-server)")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="iss-cluster-bench-"))
    before = dict(os.environ)
    try:
        study = folder / "study"
        write_sample_study(study, patients=options.patients, submissions_per_patient=options.check_ins)
        if options.unreadable or options.wait is not None:
            for video in (study / "videos").rglob("*.*"):
                video.write_text(f"no video: {video.name}")
        print(
            "| workers | patients per minute | times the first row | s per run | commits per patient | commits per s | waiting | busy cores |"
        )
        print("|---|---|---|---|---|---|---|---|", flush=True)
        first: Measured | None = None
        with running_postgres() as postgres, running_redis() as redis:
            for n in options.workers:
                found = measure(study, n, postgres, redis, folder / str(n), options.wait)
                first = first or found
                # a row as soon as it is known: who stops the rest has it
                print(found.row(first), flush=True)
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
