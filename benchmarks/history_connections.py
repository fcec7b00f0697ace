"""What it costs that Dagster opens a connection to Postgres for every statement, and what one that stays open saves.

    python -m benchmarks.history_connections [--rounds 8]

Both ways take turns in one process on one server. Printed are ratios: statements per second, time of a small run, connections per run.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as db

from benchmarks import end_on_sigterm
from iss_assets_tests.postgres import running_postgres

STATEMENTS = 60
STORAGES = {
    "a connection per statement": "postgres:\n    postgres_url: {url}",
    "one that stays open": (
        "custom:\n    module: iss_assets.pipeline.pooled_storage\n    class: PooledPostgresStorage\n"
        "    config:\n      postgres_url: {url}"
    ),
}


@dg.asset
def first() -> dg.MaterializeResult:
    """Do nothing."""
    return dg.MaterializeResult(metadata={"rows": 1})


@dg.asset(deps=[first])
def second() -> dg.MaterializeResult:
    """Do nothing."""
    return dg.MaterializeResult(metadata={"rows": 1})


@dg.asset_check(asset=second)
def fine() -> dg.AssetCheckResult:
    """Pass."""
    return dg.AssetCheckResult(passed=True)


def open_instance(url: str, storage: str, opened: Counter[str], name: str) -> dg.DagsterInstance:
    """Open an instance that counts its connections."""
    folder = Path(tempfile.mkdtemp())
    text = f"storage:\n  {storage.format(url=url)}\ntelemetry:\n  enabled: false\n"
    (folder / "dagster.yaml").write_text(text)
    instance = dg.DagsterInstance.from_config(str(folder))
    parts: list[Any] = [instance.run_storage, instance.event_log_storage, instance.schedule_storage]
    for engine in {id(part._engine): part._engine for part in parts}.values():
        db.event.listen(engine, "connect", lambda *_: opened.update([name]))
    return instance


def main() -> None:
    """Print both ways, and their ratios."""
    end_on_sigterm()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    rounds: int = parser.parse_args().rounds
    logging.disable(logging.CRITICAL)
    definitions = dg.Definitions(assets=[first, second], asset_checks=[fine])
    job = definitions.resolve_implicit_global_asset_job_def()
    opened: Counter[str] = Counter()
    rates: dict[str, list[float]] = {name: [] for name in STORAGES}
    times: dict[str, list[float]] = {name: [] for name in STORAGES}
    with running_postgres() as server:
        url = server.new_database().replace("postgresql://", "postgresql+psycopg2://")
        instances = {name: open_instance(url, text, opened, name) for name, text in STORAGES.items()}
        for number in range(rounds):
            for name, instance in list(instances.items())[:: 1 if number % 2 else -1]:
                begun = time.perf_counter()
                for _ in range(STATEMENTS):
                    instance.get_runs_count(dg.RunsFilter(tags={"a": "b"}))
                rates[name].append(STATEMENTS / (time.perf_counter() - begun))
                before, begun = opened[name], time.perf_counter()
                job.execute_in_process(instance=instance)
                times[name].append(time.perf_counter() - begun)
                made = opened[name] - before
                if number == rounds - 1:
                    print(
                        f"{name}: {statistics.median(rates[name]):.0f} statements/s, a run in "
                        f"{statistics.median(times[name]):.2f} s with {made} new connections"
                    )
        for instance in instances.values():
            instance.dispose()
    old, new = STORAGES
    faster = statistics.median(n / o for n, o in zip(rates[new], rates[old], strict=True))
    shorter = statistics.median(n / o for n, o in zip(times[new], times[old], strict=True))
    print(f"within rounds: {faster:.1f} times the statements per second, {shorter:.2f} of a run's time")


if __name__ == "__main__":
    main()
