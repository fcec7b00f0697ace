"""Measure how many patients a cluster processes with one, two and four workers, and how long they wait for the writer lock.

    python -m benchmarks.cluster [--patients 8] [--check-ins 2] [--workers 1 2 4] [--unreadable] [--tiny]

A real Postgres and Redis, Dagster's daemon, and workers of one process and one thread each, all on this machine and on one
home. With ``--unreadable`` the videos are no videos: what is left is what Dagster, the queue and the writes cost, and where
that stops scaling.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

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

    def row(self, first: Measured) -> str:
        """Return a row of the table."""
        speed = self.patients / self.wall_s
        return (
            f"| {self.workers} | {60 * speed:.1f} | {speed / (first.patients / first.wall_s):.2f} | {self.run_s:.1f} | "
            f"{self.commits / self.patients:.1f} | {self.commits / self.wall_s:.2f} | {self.waiting:.2f} |"
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


def measure(
    study: Path, workers: int, postgres: PostgresServer, redis: RedisServer, folder: Path
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
            stack.enter_context(running(folder / f"{number}.log", "iss", "worker", "--at-once", "1"))
        instance = stack.enter_context(open_instance(settings))
        _wait_for_daemon(instance)
        with _sampled(postgres) as waiting:
            iss = str(Path(sys.executable).with_name("iss"))
            done = subprocess.run([iss, "run"], capture_output=True, text=True, check=False)
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
    )


def _wait_for_daemon(instance: dg.DagsterInstance) -> None:
    from iss_assets.pipeline.dagster_private import last_heartbeat

    beat = threading.Event()
    while last_heartbeat(instance) is None:
        beat.wait(0.2)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--check-ins", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--unreadable", action="store_true", help="videos that nothing is extracted from")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if options.tiny:
        options.patients, options.check_ins, options.workers, options.unreadable = 2, 1, [2], True
    if postgres_program("initdb") is None or shutil.which("redis-server") is None:
        print("| workers | : PostgreSQL or Redis is not installed (Debian: postgresql, redis-server)")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="iss-cluster-bench-"))
    before = dict(os.environ)
    try:
        study = folder / "study"
        write_sample_study(study, patients=options.patients, submissions_per_patient=options.check_ins)
        if options.unreadable:
            for video in (study / "videos").rglob("*.*"):
                video.write_text(f"no video: {video.name}")
        with running_postgres() as postgres, running_redis() as redis:
            found = [measure(study, n, postgres, redis, folder / str(n)) for n in options.workers]
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)
    print(
        "| workers | patients per minute | times one worker | s per run | commits per patient | commits per s | waiting |"
    )
    print("|---|---|---|---|---|---|---|")
    for measured in found:
        print(measured.row(found[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
