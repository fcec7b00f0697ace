"""A worker's own way into Dagster's files: what it tells can be read by everybody else."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest

from iss_assets.pipeline.home import open_instance
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
    """Run everything of each partition, one after another, in one instance; give the runs' ids."""
    with open_instance(settings, many_runs=many_runs) as instance:
        instance.add_dynamic_partitions("people", list(partitions))
        job = defs.resolve_job_def("all_of_it")
        return [
            job.execute_in_process(partition_key=p, instance=instance, raise_on_error=False).run_id
            for p in partitions
        ]


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_who_asks_outside_a_step_hears_what_others_have_made_since(settings: Settings) -> None:
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
    settings: Settings, monkeypatch: pytest.MonkeyPatch, many_runs
) -> None:
    started: list[object] = []
    plain = subprocess.Popen

    def counting(*arguments, **more):
        started.append(arguments)
        return plain(*arguments, **more)

    monkeypatch.setattr(subprocess, "Popen", counting)
    run(settings, many_runs=many_runs)
    assert bool(started) != many_runs


def test_partitions_are_asked_for_once_a_step_and_are_never_old_ones(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

    asked: list[str] = []
    plain = SqlEventLogStorage.get_dynamic_partitions

    def counting(self, name):
        asked.append(name)
        return plain(self, name)

    monkeypatch.setattr(SqlEventLogStorage, "get_dynamic_partitions", counting)
    seen: list[object] = []

    @dg.op
    def first(context) -> None:
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
    def second(context) -> None:
        with open_instance(settings) as other:
            other.delete_dynamic_partition("people", "0009")
        # of what others do, a step that has asked before hears when the next one begins
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
def test_everybody_reads_the_same_events_that_dagsters_own_storage_would_have_kept(
    settings: Settings,
) -> None:
    (plain,) = run(settings, many_runs=False)
    kept, second = run(settings, many_runs=True, partitions=("0002", "0003"))
    with open_instance(settings) as reader:
        told = {r: [str(e.dagster_event_type) for e in reader.all_logs(r)] for r in (plain, kept, second)}
        assert told[kept] == told[plain] == told[second] and len(told[kept]) > 15
        assert {str(reader.get_run_by_id(r).status) for r in told} == {"DagsterRunStatus.FAILURE"}
        assert reader.get_materialized_partitions(dg.AssetKey("measured")) == {"0001", "0002", "0003"}
        failed = reader.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("measured"), "plausible"), limit=10
        )
        assert {(r.run_id, str(r.status)) for r in failed} == {
            (r, "AssetCheckExecutionRecordStatus.FAILED") for r in told
        }
        # each check is kept with the materialization that it was about
        assert [r.evaluation.target_materialization_data.run_id for r in failed] == [r.run_id for r in failed]
        version = reader.get_latest_data_version_record(dg.AssetKey("measured"), partition_key="0002")
        assert version is not None and version.run_id == kept


def test_the_file_that_the_ui_watches_changes_with_every_event(settings: Settings) -> None:
    with open_instance(settings, many_runs=True) as instance:
        instance.add_dynamic_partitions("people", ["0001"])
        job = defs.resolve_job_def("all_of_it")
        seen: list[int] = []
        storage = instance.event_log_storage

        def look(event) -> None:
            seen.append(
                (settings.dagster_home / "history" / "runs" / f"{event.run_id}.db").stat().st_mtime_ns
            )

        plain = storage.store_event
        storage.store_event = lambda event: (plain(event), look(event))[0]
        job.execute_in_process(partition_key="0001", instance=instance, raise_on_error=False)
    assert len(seen) > 15 and all(a < b for a, b in pairwise(seen))


def test_two_workers_tell_at_once_and_nothing_is_lost(settings: Settings, tmp_path: Path) -> None:
    import multiprocessing

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
    from pathlib import Path

    return run(Settings(study=Path(study), home=Path(home)), many_runs=True, partitions=partitions)
