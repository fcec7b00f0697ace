"""Checks as Dagster runs them: results per patient on a real instance, in our own table, and nothing private in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from iss_assets.checks.stages import STAGES, unchecked
from iss_assets.defs.checks import factory as ops
from iss_assets.defs.checks.build import build_checks
from iss_assets.defs.partitions import patients_partitions
from iss_assets.schemas.operations import Extractions
from iss_assets.settings import Settings
from iss_assets.warehouse import database
from iss_assets.warehouse.ledger import ledger_rows
from iss_assets_tests.checks.conftest import GOOD, OTHER, InventedStudy

QUALITY = dg.AssetSelection.assets("video_quality")
NAME = "Wilhelmina Featherstonehaugh"
ON = [stage for stage in STAGES if stage.enabled(Settings())]
"""The stages that are on in tests, where speech is not recognized."""
PATIENT_TABLES = [table for stage in ON if stage.by_patient for table in stage.tables]


def stub(name: str, ran: list[str]) -> dg.AssetsDefinition:
    deps = {"patients": [], "bpi_scores": ["patients"], "videos": ["patients"], "frames": ["videos"]}.get(
        name, ["frames"] if name != "video_quality" else ["landmarks", "audio"]
    )

    @dg.asset(name=name, partitions_def=patients_partitions, deps=deps)
    def made() -> None:
        ran.append(name)

    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("patients", [GOOD, OTHER])
        yield instance


@pytest.fixture
def stored_instance() -> Iterator[dg.DagsterInstance]:
    """One that keeps its records in files, as that of a home does."""
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("patients", [GOOD, OTHER])
        yield instance


def run(
    study: InventedStudy,
    instance: dg.DagsterInstance,
    patient: str,
    selection: dg.AssetSelection | None = None,
    ran: list[str] | None = None,
) -> dg.ExecuteInProcessResult:
    job = dg.define_asset_job(
        "patient",
        selection=selection or dg.AssetSelection.assets(*PATIENT_TABLES),
    )
    defs = dg.Definitions(
        assets=[stub(name, [] if ran is None else ran) for name in PATIENT_TABLES],
        asset_checks=[c for c, s in zip(build_checks(), ON, strict=True) if s.by_patient],
        jobs=[job],
        resources={"warehouse": study.resource},
        executor=dg.in_process_executor,
    )
    return defs.resolve_job_def("patient").execute_in_process(
        instance=instance, partition_key=patient, raise_on_error=False
    )


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    return {f"{e.asset_key.to_user_string()}:{e.check_name}": e for e in result.get_asset_check_evaluations()}


def test_every_check_reports_on_the_patients_partition(
    study: InventedStudy, instance: dg.DagsterInstance
) -> None:
    found = evaluations(run(study, instance, GOOD))
    assert set(found) == {f"{c.asset}:{c.name}" for s in ON if s.by_patient for c in s.checks}
    assert all(e.passed and e.partition == GOOD for e in found.values())


def test_the_instance_keeps_each_patients_own_result(
    study: InventedStudy, stored_instance: dg.DagsterInstance
) -> None:
    study.sql("update video_quality set flags = ['dark'] where video_id = '0002-00'")
    for patient in (GOOD, OTHER):
        run(study, stored_instance, patient, QUALITY)
    key = dg.AssetCheckKey(dg.AssetKey("video_quality"), "dark_or_grainy")
    storage = stored_instance.event_log_storage
    records = storage.get_asset_check_execution_history(key, limit=10)
    found = [r.event.get_dagster_event().asset_check_evaluation_data for r in records if r.event]
    assert {e.partition: e.passed for e in found} == {GOOD: True, OTHER: False}
    assert {s.partition_key for s in storage.get_asset_check_partition_info([key])} == {GOOD, OTHER}


def test_a_failed_check_says_how_many_which_against_what_and_what_to_do(
    study: InventedStudy, instance: dg.DagsterInstance
) -> None:
    study.sql(
        "update video_quality set flags = ['dark'], measures = '{\"dark_share\": 0.75}' "
        "where video_id in ('0001-00', '0001-02')"
    )
    found = evaluations(run(study, instance, GOOD, QUALITY))["video_quality:dark_or_grainy"]
    metadata = {name: value.value for name, value in found.metadata.items()}
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert metadata["what_to_do"] == (
        "Ask patient 0001 to record in a brighter room, with the light in front of them."
    )
    assert metadata["ids"] == ["0001-00", "0001-02"]
    assert (metadata["affected"], metadata["checked"]) == (2, 8)
    assert metadata["measures"]["0001-00"] == {"dark_share": 0.75}
    assert "no video flagged dark" in metadata["threshold"]
    assert "the paper, section 6" in metadata["source"]


def test_results_are_kept_in_our_own_table_and_replaced(
    study: InventedStudy, instance: dg.DagsterInstance
) -> None:
    study.sql("update video_quality set flags = ['mask'] where video_id = '0001-00'")
    run(study, instance, GOOD, QUALITY)
    first = study.warehouse.query("select * from check_results where not passed").to_pylist()
    assert [(r["patient_id"], r["asset"], r["check_name"], r["affected"], r["severity"]) for r in first] == [
        (GOOD, "video_quality", "face_mask", ["0001-00"], "WARN")
    ]
    assert json.loads(first[0]["numbers"])["by flag"] == {"mask": 1}
    assert first[0]["hint"].startswith("Ask patient 0001 to record without a mask")
    study.sql("update video_quality set flags = []")
    second = run(study, instance, GOOD, QUALITY)
    rows = study.warehouse.query("select * from check_results").to_pylist()
    assert len(rows) == len(evaluations(second)), "one row per check"
    assert all(r["passed"] and r["hint"] is None and r["run_id"] == second.run_id for r in rows)


def test_checks_of_one_asset_alone_leave_the_others_results(
    study: InventedStudy, instance: dg.DagsterInstance
) -> None:
    first = run(study, instance, GOOD, dg.AssetSelection.assets("frames", "faces"))
    second = run(study, instance, GOOD, dg.AssetSelection.assets("faces"))
    assert set(evaluations(second)) == {"faces:schema"}
    counts = study.warehouse.query("select run_id, count(*) n from check_results group by run_id").to_pylist()
    assert {r["run_id"]: r["n"] for r in counts} == {
        second.run_id: 1,
        first.run_id: len(evaluations(first)) - 1,
    }


def test_a_blocking_fault_stops_what_follows_and_every_other_check_is_still_reported(
    study: InventedStudy, instance: dg.DagsterInstance
) -> None:
    study.sql("update videos set status = 'nonsense' where video_id = '0001-00'")
    ran: list[str] = []
    result = run(study, instance, GOOD, ran=ran)
    assert not result.success
    assert set(ran) == {"patients", "bpi_scores", "videos"}
    found = evaluations(result)
    assert not found["videos:schema"].passed
    kept = study.warehouse.query("select passed from check_results where asset = 'videos'").to_pylist()
    assert kept == [{"passed": False}]


def test_a_fault_of_the_answers_stops_no_video(study: InventedStudy, instance: dg.DagsterInstance) -> None:
    study.sql("update bpi_scores set pain_now = 99 where patient_id = '0001'")
    ran: list[str] = []
    found = evaluations(run(study, instance, GOOD, ran=ran))
    assert not found["bpi_scores:schema"].passed
    assert found["videos:schema"].passed
    assert set(ran) == set(PATIENT_TABLES)


def test_a_rule_that_breaks_is_a_failed_check_and_no_crashed_run(
    study: InventedStudy, instance: dg.DagsterInstance
) -> None:
    study.sql(f"update video_quality set measures = '{NAME}', flags = ['dark'] where video_id = '0001-00'")
    result = run(study, instance, GOOD, QUALITY)
    assert result.success
    found = evaluations(result)
    broken = found["video_quality:dark_or_grainy"]
    assert not broken.passed
    assert broken.severity == dg.AssetCheckSeverity.ERROR
    assert "JSONDecodeError" in str(broken.metadata["error"].value)
    assert "Tell the engineer" in str(broken.metadata["what_to_do"].value)
    assert found["video_quality:face_mask"].passed, "the others are made"


def test_a_warehouse_of_another_version_fails_every_check_without_crashing(
    study: InventedStudy, instance: dg.DagsterInstance
) -> None:
    study.sql("alter table videos drop column sha256")
    database._CURRENT.clear()  # another process would not have seen the file yet
    found = evaluations(run(study, instance, GOOD, QUALITY))
    assert len(found) == len(next(s for s in STAGES if s.name == "check_quality").checks)
    assert not any(e.passed for e in found.values())
    assert "another version" in str(found["video_quality:schema"].metadata["error"].value)


def test_no_patient_content_reaches_metadata_results_or_logs(
    study: InventedStudy, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    planted = {
        "bpi_scores": ("setting", "timeframe"),
        "videos": ("file", "container", "codec", "problem"),
        "frames": ("fingerprint",),
        "audio": ("problem", "fingerprint"),
        "video_quality": ("measures", "unusable_reason"),
    }
    for table, columns in planted.items():
        study.sql(f"update {table} set {', '.join(f'{c} = $1' for c in columns)}", params=[NAME])
    study.sql("update video_quality set flags = ['dark']")
    study.sql("update bpi_scores set submission_id = $1 where submission_id = '0001-00'", params=[NAME])
    study.sql(
        "insert into rejected_rows values ($1, 7, 'mood', '0001', null, 'bad_score', $1), "
        "('surveys.csv', 7, 'mood', '0001', null, 'bad_score', $1)",
        params=[NAME],
    )
    result = run(study, instance, GOOD)
    for stage in STAGES:
        if not stage.by_patient:
            keys = {(c.asset, c.name) for c in stage.checks}
            ops.keep(
                study.warehouse, study.resource.settings(), "*",
                ops.evaluate(stage, "*", study.resource, keys, print), "run",
            )  # fmt: skip
    reported = [dg.serialize_value(event) for event in result.all_events]
    reported += [str(r) for r in study.warehouse.query("select * from check_results").to_pylist()]
    reported += list(capfd.readouterr())
    assert sum("bad_score" in text for text in reported) >= 2, "what was planted was looked at"
    assert not [text for text in reported if NAME in text or "Featherstone" in text]


def test_a_table_that_was_made_but_not_checked_is_found(
    study: InventedStudy, instance: dg.DagsterInstance
) -> None:
    settings = study.resource.settings()
    entries = [(GOOD, "*", "videos", "m", 8), (GOOD, "0001-00", "frames", "m", 160)]
    with study.warehouse.write() as writer:
        writer.replace(Extractions, ledger_rows(entries), {})
    assert unchecked(study.warehouse, settings) == {GOOD: ["frames", "videos"]}
    run(study, instance, GOOD, dg.AssetSelection.assets("videos", "frames"))
    assert unchecked(study.warehouse, settings) == {}
    with study.warehouse.write() as writer:
        writer.execute(
            "insert into check_results by name "
            "select * replace ('of_an_older_version' as check_name, 'then' as fingerprint) from check_results limit 1"
        )
    assert unchecked(study.warehouse, settings) == {}, "what no run can make again makes nobody stale"
    other = settings.checks.model_copy(update={"same_answers_days": 20})
    changed = Settings(study=settings.study, home=settings.home, checks=other)
    assert unchecked(study.warehouse, changed) == {GOOD: ["frames", "videos"]}


def test_a_week_that_ends_while_others_submit_is_checked_again(
    study: InventedStudy, instance: dg.DagsterInstance
) -> None:
    settings = study.resource.settings()
    for patient in (GOOD, OTHER):
        run(study, instance, patient, dg.AssetSelection.assets("bpi_scores"))
    assert unchecked(study.warehouse, settings) == {}
    study.sql("update bpi_scores set submitted_on = submitted_on + 4 where submission_id = '0002-16'")
    assert unchecked(study.warehouse, settings) == {}, "no week has ended by that"
    study.sql("update bpi_scores set submitted_on = submitted_on + 1 where submission_id = '0002-16'")
    assert unchecked(study.warehouse, settings) == {GOOD: ["bpi_scores"], OTHER: ["bpi_scores"]}
    for patient in (GOOD, OTHER):
        run(study, instance, patient, dg.AssetSelection.assets("bpi_scores"))
    assert unchecked(study.warehouse, settings) == {}
    (row,) = study.warehouse.query(
        "select numbers from check_results where check_name = 'fewer_than_three_a_week' and patient_id = '0001'"
    ).to_pylist()
    assert json.loads(row["numbers"])["numbers of the short weeks"] == [3]


def test_a_patient_who_falls_silent_is_checked_again(
    study: InventedStudy, instance: dg.DagsterInstance
) -> None:
    settings = study.resource.settings()
    scores = dg.AssetSelection.assets("bpi_scores")
    for patient in (GOOD, OTHER):
        run(study, instance, patient, scores)
    # the other one checks in fourteen days after the last day of either
    study.sql("update bpi_scores set submitted_on = submitted_on + 14 where submission_id = '0002-16'")
    assert GOOD in unchecked(study.warehouse, settings)
    found = evaluations(run(study, instance, GOOD, scores))["bpi_scores:no_check_in"]
    assert (found.passed, found.partition) == (False, GOOD)
    assert found.metadata["days"].value == 14
    assert "Call patient 0001" in str(found.metadata["what_to_do"].value)
    run(study, instance, OTHER, scores)
    assert unchecked(study.warehouse, settings) == {}


def test_checks_over_several_patients_at_once_are_refused(study: InventedStudy) -> None:
    stage = next(s for s in STAGES if s.name == "check_videos")
    defs = dg.Definitions(
        assets=[stub("patients", []), stub("videos", [])],
        asset_checks=[ops.make_checks(stage)],
        jobs=[dg.define_asset_job("all", selection=dg.AssetSelection.all())],
        resources={"warehouse": study.resource},
        executor=dg.in_process_executor,
    )
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("patients", [GOOD, OTHER])
        result = defs.resolve_job_def("all").execute_in_process(
            instance=instance,
            raise_on_error=False,
            tags={"dagster/asset_partition_range_start": GOOD, "dagster/asset_partition_range_end": OTHER},
        )
    assert not result.success
    assert not result.get_asset_check_evaluations()
