"""The storage of a worker of `iss run`: what it logs can be read by every other program.

No ``from __future__ import annotations`` here: an op's context is recognized by its type, not by the type's name.
"""

import multiprocessing
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
import yaml
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy.pool import Pool

from iss_assets.pipeline.event_log import EventLog
from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.settings import Settings

people = dg.DynamicPartitionsDefinition(name="people")


@dg.asset(partitions_def=people)
def measured() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": 3}, data_version=dg.DataVersion("a"))


@dg.asset_check(asset=measured, partitions_def=people)
def plausible() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)


@dg.asset(partitions_def=people, deps=[measured])
def broken() -> None:
    raise ValueError("broken on purpose")


defs = dg.Definitions([measured, broken], asset_checks=[plausible], jobs=[dg.define_asset_job("all_of_it")])


def run(settings: Settings, *, many_runs: bool, partitions: tuple[str, ...] = ("0001",)) -> list[str]:
    """Run everything of each partition, one after another, in one instance; return the runs' ids."""
    with open_instance(settings, many_runs=many_runs) as instance:
        return run_in(instance, partitions)


def run_with_dagsters_own_storage(settings: Settings) -> list[str]:
    """Do the same with the storage that Dagster has if its settings name none."""
    folder = prepare_home(settings)
    said = yaml.safe_load((folder / "dagster.yaml").read_text())
    del said["storage"]
    (folder / "own.yaml").write_text(yaml.safe_dump(said))
    with dg.DagsterInstance.from_config(str(folder), "own.yaml") as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        return run_in(instance, ("0001",))


def run_in(instance: dg.DagsterInstance, partitions: tuple[str, ...]) -> list[str]:
    instance.add_dynamic_partitions("people", list(partitions))
    job = defs.resolve_job_def("all_of_it")
    return [
        job.execute_in_process(partition_key=p, instance=instance, raise_on_error=False).run_id
        for p in partitions
    ]


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_outside_of_a_step_the_newest_materialization_is_returned_whichever_run_made_it(
    settings: Settings,
) -> None:
    key = dg.AssetKey("measured")
    (first,) = run(settings, many_runs=True)
    with open_instance(settings, many_runs=True) as worker:
        job = defs.resolve_job_def("all_of_it")
        own = job.execute_in_process(partition_key="0001", instance=worker, raise_on_error=False).run_id
        assert worker.fetch_materializations(key, limit=1).records[0].run_id == own != first
        (later,) = run(settings, many_runs=False)
        assert worker.fetch_materializations(key, limit=1).records[0].run_id == later


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
@pytest.mark.parametrize("many_runs", [True, False])
def test_a_worker_starts_no_program_to_copy_what_it_prints(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, many_runs: bool
) -> None:
    started: list[object] = []
    plain = subprocess.Popen

    def counting(*arguments: Any, **more: Any) -> Any:
        started.append(arguments)
        return plain(*arguments, **more)

    monkeypatch.setattr(subprocess, "Popen", counting)
    run(settings, many_runs=many_runs)
    assert bool(started) != many_runs


def test_partitions_are_read_once_per_step_and_are_never_outdated(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    plain = SqlEventLogStorage.get_dynamic_partitions

    def counting(self: SqlEventLogStorage, name: str) -> Sequence[str]:
        asked.append(name)
        return plain(self, name)

    monkeypatch.setattr(SqlEventLogStorage, "get_dynamic_partitions", counting)
    seen: list[object] = []

    @dg.op
    def first(context: dg.OpExecutionContext) -> None:
        def there(key: str) -> bool:
            return context.instance.has_dynamic_partition("people", key)

        for _ in range(3):
            seen.append(context.instance.get_dynamic_partitions("people"))
            seen.append((there("0001"), there("0009")))
        context.instance.add_dynamic_partitions("people", ["0009"])
        seen.append((there("0001"), there("0009")))
        context.instance.delete_dynamic_partition("people", "0001")
        seen.append((there("0001"), there("0009")))

    @dg.op(ins={"after": dg.In(dg.Nothing)})
    def second(context: dg.OpExecutionContext) -> None:
        with open_instance(settings) as other:
            other.delete_dynamic_partition("people", "0009")
        # what others change is seen when the next step begins
        seen.append(context.instance.get_dynamic_partitions("people"))

    @dg.job
    def both() -> None:
        second(first())

    with open_instance(settings, many_runs=True) as instance:
        instance.add_dynamic_partitions("people", ["0001"])
        assert both.execute_in_process(instance=instance).success
        instance.add_dynamic_partitions("people", ["0007"])
        assert instance.get_dynamic_partitions("people") == ["0007"]
    assert seen == [["0001"], (True, False)] * 3 + [(True, True), (False, True), []]
    assert len(asked) == 5


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_a_home_whose_settings_name_a_module_that_has_moved_is_brought_up_to_date(settings: Settings) -> None:
    (plain,) = run(settings, many_runs=False)
    for name in ("dagster.yaml", "worker.yaml"):
        path = prepare_home(settings) / name
        path.write_text(path.read_text().replace("iss_assets.pipeline.event_log", "iss_assets.event_log"))
    assert "module: iss_assets.event_log" in path.read_text()
    (later,) = run(settings, many_runs=True, partitions=("0002",))
    assert "module: iss_assets.pipeline.event_log" in path.read_text()
    with open_instance(settings) as reader:
        assert len(reader.all_logs(plain)) == len(reader.all_logs(later)) > 15


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_every_program_reads_the_same_events_that_dagsters_own_storage_would_have_stored(
    settings: Settings,
) -> None:
    (plain,) = run_with_dagsters_own_storage(settings)
    kept, second = run(settings, many_runs=True, partitions=("0002", "0003"))
    (ours,) = run(settings, many_runs=False, partitions=("0004",))
    with dg.DagsterInstance.from_config(str(settings.dagster_home), "own.yaml") as reader:
        runs = plain, kept, second, ours
        reported = {r: [str(e.dagster_event_type) for e in reader.all_logs(r)] for r in runs}
        assert all(reported[r] == reported[plain] for r in runs) and len(reported[kept]) > 15
        assert {found.status for r in reported if (found := reader.get_run_by_id(r))} == {
            dg.DagsterRunStatus.FAILURE
        }
        assert all(reader.get_run_by_id(r) for r in reported)
        assert reader.get_materialized_partitions(dg.AssetKey("measured")) == {"0001", "0002", "0003", "0004"}
        failed = reader.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("measured"), "plausible"), limit=10
        )
        assert {(r.run_id, str(r.status)) for r in failed} == {
            (r, "AssetCheckExecutionRecordStatus.FAILED") for r in reported
        }
        # each check is kept with the materialization that it was about
        about = [r.evaluation.target_materialization_data for r in failed if r.evaluation is not None]
        assert [target.run_id for target in about if target is not None] == [r.run_id for r in failed]
        version = reader.get_latest_data_version_record(dg.AssetKey("measured"), partition_key="0002")
        assert version is not None and version.run_id == kept


def test_dagsters_other_processes_use_an_engine_for_many_statements(settings: Settings) -> None:
    connected: list[str] = []

    def note(connection: Any, _: object) -> None:
        connected.append(Path(connection.execute("pragma database_list").fetchone()[2]).stem)

    run(settings, many_runs=False)
    sqlalchemy.event.listen(Pool, "first_connect", note)
    try:
        (again,) = run(settings, many_runs=False, partitions=("0002",))
    finally:
        sqlalchemy.event.remove(Pool, "first_connect", note)
    # each engine tells once; the second of "runs" and that of "schedules" look at the tables' version at the opening
    assert sorted(connected) == sorted([again, "index", "runs", "runs", "schedules"]), connected


def test_a_home_that_was_moved_has_its_history_in_the_new_place(settings: Settings, tmp_path: Path) -> None:
    (first,) = run(settings, many_runs=False)
    moved = tmp_path / "moved"
    settings.home.rename(moved)
    # as Dagster's own programs open it, before any command of ours
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(moved / "dagster"))
        with dg.DagsterInstance.get() as instance:
            assert type(instance.event_log_storage) is EventLog
            assert len(instance.all_logs(first)) > 15
    assert not settings.home.exists()


def test_the_file_that_the_ui_watches_changes_with_every_event(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_instance(settings, many_runs=True) as instance:
        instance.add_dynamic_partitions("people", ["0001"])
        job = defs.resolve_job_def("all_of_it")
        seen: list[int] = []
        storage = instance.event_log_storage

        def look(event: dg.EventLogEntry) -> None:
            seen.append(
                (settings.dagster_home / "history" / "runs" / f"{event.run_id}.db").stat().st_mtime_ns
            )

        plain = storage.store_event

        def store_and_look(event: dg.EventLogEntry) -> None:
            plain(event)
            look(event)

        monkeypatch.setattr(storage, "store_event", store_and_look)
        job.execute_in_process(partition_key="0001", instance=instance, raise_on_error=False)
    assert len(seen) > 15 and all(a < b for a, b in pairwise(seen))


def test_two_workers_log_at_once_and_nothing_is_lost(settings: Settings, tmp_path: Path) -> None:
    open_instance(settings).dispose()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    groups = [tuple(f"{g}{i:03d}" for i in range(4)) for g in (1, 2)]
    with context.Pool(2) as pool:
        done = pool.starmap(_run_group, [(str(settings.study), str(settings.home), g) for g in groups])
    with open_instance(settings) as reader:
        assert reader.get_materialized_partitions(dg.AssetKey("measured")) == {p for g in groups for p in g}
        assert len({r for runs in done for r in runs}) == 8
        assert {len(reader.all_logs(r)) for runs in done for r in runs} == {len(reader.all_logs(done[0][0]))}


def _run_group(study: str, home: str, partitions: tuple[str, ...]) -> list[str]:
    return run(Settings(study=Path(study), home=Path(home)), many_runs=True, partitions=partitions)
