"""A withdrawal reaches Dagster's history in Postgres: every row, and every byte of its tables."""

from pathlib import Path

import dagster as dg
import pytest

from iss_assets.pipeline.home import open_instance
from iss_assets.privacy.postgres_history import forget_in_postgres, plan_forgetting_in_postgres
from iss_assets.privacy.traces import Traces
from iss_assets.settings import Settings
from iss_assets_tests.postgres import PostgresServer

GONE, STAYS = "withdrawn-marker-0417", "staying-marker-0418"
PEOPLE = dg.DynamicPartitionsDefinition(name="patients")


@dg.asset(partitions_def=PEOPLE)
def answers(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Materialize one person's answers."""
    context.log.info(f"read the rows of {context.partition_key}")
    return dg.MaterializeResult(metadata={"who": context.partition_key})


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_nothing_in_the_history_names_a_patient_who_withdrew_and_the_others_stay(
    settings: Settings, postgres: PostgresServer, postgres_url: str
) -> None:
    settings = Settings.model_validate({**settings.model_dump(), "cluster": {"storage": postgres_url}})
    storage = settings.cluster.storage
    assert storage is not None
    runs = {}
    with open_instance(settings, many_runs=True) as instance:
        for who in (STAYS, GONE):
            instance.add_dynamic_partitions("patients", [who])
            runs[who] = dg.materialize([answers], partition_key=who, instance=instance).run_id
    traces = Traces(GONE)
    planned, counts = plan_forgetting_in_postgres(storage, traces)
    assert planned == [runs[GONE]]
    assert counts["runs"] == counts["partitions"] == 1 and counts["events"] > 5
    forget_in_postgres(storage, traces, set(planned))
    assert plan_forgetting_in_postgres(storage, traces) == ([], {})
    with open_instance(settings) as instance:
        assert instance.get_dynamic_partitions("patients") == [STAYS]
        assert [run.run_id for run in instance.get_runs()] == [runs[STAYS]]
        assert len(instance.all_logs(runs[STAYS])) > 5
        last = instance.get_latest_materialization_event(dg.AssetKey("answers"))
        assert last is not None and last.run_id == runs[STAYS]
    postgres.execute("checkpoint")
    tables = [read(path) for path in (postgres.folder / "base").rglob("*") if path.is_file()]
    held = {m: any(m.encode() in table for table in tables) for m in (GONE, STAYS)}
    assert held == {GONE: False, STAYS: True}


def read(path: Path) -> bytes:
    """Read a file of a running server, which removes and makes anew what it keeps for its next start."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
