"""The study sensor on real study folders, a real warehouse and a real Dagster instance."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemotePartitionSetOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from iss_assets.build import build_defs
from iss_assets.defs.resources import WarehouseResource
from iss_assets.defs.sensors import build_sensors, to_result
from iss_assets.intake.folder import StudyFolderError
from iss_assets.pipeline.observing import observe
from iss_assets.pipeline.planning import MARTS, STUDY, Plan, Request
from iss_assets.pipeline.run_history import STATE_TAG, SUBJECT_TAG, backfilled_patients, errors_of
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.errors import WarehouseAway
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER
from iss_assets_tests.warehouse.test_database import splits

AN_HOUR_AGO = time.time() - 3600


@dataclass
class Site:
    """A study folder, its home, and a Dagster instance; ticks as the daemon would make them."""

    root: Path
    instance: dg.DagsterInstance

    @property
    def study(self) -> Path:
        return self.root / "study"

    def settings(self) -> Settings:
        return Settings(study=self.study, home=self.root / "home")

    def resource(self) -> WarehouseResource:
        return WarehouseResource(study=str(self.study), home=str(self.root / "home"))

    def enroll(self, *patients: str) -> None:
        path = self.study / "enrollment.csv"
        rows = [f"{p},1A,M,II,0,2021-01-04," for p in patients]
        path.write_text("\n".join([ENROLLMENT_HEADER, *rows, ""]))

    def answer(self, **answers: str) -> None:
        """Write one survey row a submission: its id to its patient's."""
        rows = [f"{s},{p},2021-01-05T09:05:00-05:00,home,0,no,0,1,0,0,1,2,0" for s, p in answers.items()]
        (self.study / "surveys.csv").write_text("\n".join([SURVEY_HEADER, *rows, ""]))

    def video(self, patient: str, submission: str, *, young: bool = False) -> Path:
        path = self.study / "videos" / patient / f"{submission}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"nothing here opens it " + submission.encode())
        if not young:
            settle(path)
        return path

    def tick(self) -> dg.SensorResult:
        (sensor,) = (s for s in build_sensors(self.settings()) if s.name == "study_sensor")
        with dg.build_sensor_context(
            instance=self.instance,
            resources={"warehouse": self.resource()},
            definitions=build_defs(self.settings()),
        ) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        for request in result.dynamic_partitions_requests or ():
            self.instance.add_dynamic_partitions("patients", list(request.partition_keys))
        return result

    def subjects(self) -> list[str]:
        return [r.tags[SUBJECT_TAG] for r in self.tick().run_requests or ()]


def settle(path: Path) -> None:
    """Make a file look as if it had been there for a while."""
    os.utime(path, (AN_HOUR_AGO, AN_HOUR_AGO))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_warehouse: Path) -> Iterator[Site]:
    # the time of the directory entry cannot be set back; the wait itself is tested with `settle_seconds`
    monkeypatch.setenv("ISS_READING__SETTLE_SECONDS", "0")
    monkeypatch.setenv("ISS_WAREHOUSE__SQL_DIR", str(tmp_path / "sql"))
    (tmp_path / "sql").mkdir()
    (tmp_path / "study" / "videos").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    shutil.copy(empty_warehouse, tmp_path / "home" / "warehouse.duckdb")
    with dg.DagsterInstance.ephemeral() as instance:
        made = Site(tmp_path, instance)
        made.enroll("0001", "0002")
        made.answer(s1="0001", s2="0002")
        made.video("0001", "s1")
        made.video("0002", "s2")
        yield made


def record_run(site: Site, request: dg.RunRequest, *, errors: bool = False) -> str:
    """Let a request have run, with a stand-in for the job: what counts here is its tags and its end."""

    @dg.op
    def work() -> None:
        if errors:
            raise KeyError("a fault of the program")

    @dg.job(name=request.job_name or "patient")
    def stand_in() -> None:
        work()

    tags = {**request.tags, **({"dagster/partition": request.partition_key} if request.partition_key else {})}
    return stand_in.execute_in_process(instance=site.instance, tags=tags, raise_on_error=False).run_id


def test_a_new_study_adds_partitions_and_requests_runs_in_one_tick(site: Site) -> None:
    result = site.tick()
    assert site.instance.get_dynamic_partitions("patients") == ["0001", "0002"]
    requests = {r.tags[SUBJECT_TAG]: r for r in result.run_requests or ()}
    assert {"0001", "0002"} <= set(requests)
    assert requests["0001"].partition_key == "0001"
    assert requests["0001"].job_name == "patient"
    state = requests["0001"].tags[STATE_TAG]
    assert requests["0001"].run_key == f"0001:{state}:first"


def test_two_ticks_without_a_change_use_the_same_run_keys(site: Site) -> None:
    first, second = site.tick(), site.tick()
    assert [r.run_key for r in first.run_requests or ()] == [r.run_key for r in second.run_requests or ()]


def test_a_new_video_makes_a_new_state_for_its_patient_only(site: Site) -> None:
    before = {r.tags[SUBJECT_TAG]: r.run_key for r in site.tick().run_requests or ()}
    site.video("0002", "s3")
    after = {r.tags[SUBJECT_TAG]: r.run_key for r in site.tick().run_requests or ()}
    assert before["0001"] == after["0001"]
    assert before["0002"] != after["0002"]


def test_a_video_that_grows_waits_until_it_has_settled(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.study / "videos" / "0001" / "s1.mp4").unlink()
    monkeypatch.setenv("ISS_READING__SETTLE_SECONDS", "600")
    path = site.video("0002", "s3", young=True)
    subjects = site.subjects()
    assert "0002" not in subjects and "0001" in subjects
    with path.open("ab") as file:
        file.write(b"more")
    assert "0002" not in site.subjects()
    monkeypatch.setenv("ISS_READING__SETTLE_SECONDS", "0")
    assert "0002" in site.subjects()


def test_a_copy_that_keeps_an_old_modification_time_still_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_READING__SETTLE_SECONDS", "600")
    site.video("0002", "s3")
    assert "0002" not in site.subjects()


@pytest.mark.parametrize("damage", ["gone", "no enrollment", "empty enrollment"])
def test_a_folder_that_cannot_be_read_is_an_error_and_removes_nothing(site: Site, damage: str) -> None:
    site.tick()
    if damage == "gone":
        shutil.rmtree(site.study)
    elif damage == "no enrollment":
        (site.study / "enrollment.csv").unlink()
    else:
        (site.study / "enrollment.csv").write_bytes(b"")
    with pytest.raises(StudyFolderError):
        site.tick()
    assert site.instance.get_dynamic_partitions("patients") == ["0001", "0002"]


def test_a_patient_who_left_the_study_folder_keeps_the_partition_and_is_named(site: Site) -> None:
    site.tick()
    site.enroll("0001")
    site.answer(s1="0001")
    shutil.rmtree(site.study / "videos" / "0002")
    result = site.tick()
    assert "0002" not in [r.tags[SUBJECT_TAG] for r in result.run_requests or ()]
    assert not result.dynamic_partitions_requests
    assert site.instance.get_dynamic_partitions("patients") == ["0001", "0002"]


def test_nobody_is_run_twice_at_once(site: Site) -> None:
    site.tick()
    run = dg.DagsterRun(
        job_name="patient", status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "0001"}
    )
    site.instance.add_run(run)
    assert "0001" not in site.subjects() and "0002" in site.subjects()


def test_a_run_of_words_is_requested_for_its_patient_and_known_by_its_words(site: Site) -> None:
    request = Request("words", "words of 0001", "state", "key")
    with dg.build_sensor_context(instance=site.instance) as context:
        (made,) = to_result(Plan(requests=(request,)), context).run_requests or ()
    assert (made.job_name, made.partition_key, made.tags[SUBJECT_TAG]) == ("words", "0001", "words of 0001")
    tags = {"dagster/partition": "0001"}
    site.instance.add_run(dg.DagsterRun(job_name="words", status=dg.DagsterRunStatus.STARTED, tags=tags))
    assert observe(site.instance, site.settings()).in_flight == {"words of 0001"}
    assert "0001" not in site.subjects() and "0002" in site.subjects()


def test_a_run_whose_process_died_does_not_block_its_patient(site: Site) -> None:
    import socket

    site.tick()
    tags = {"dagster/partition": "0001", "iss/pid": "999999999", "iss/host": socket.gethostname()}
    site.instance.add_run(dg.DagsterRun(job_name="patient", status=dg.DagsterRunStatus.STARTED, tags=tags))
    assert "0001" in site.subjects()


def test_a_failed_run_waits_and_is_tried_again_under_another_key(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_SENSORS__RETRY_S", "3600")
    first = {r.tags[SUBJECT_TAG]: r for r in site.tick().run_requests or ()}["0001"]
    run = dg.DagsterRun(
        job_name="patient",
        status=dg.DagsterRunStatus.FAILURE,
        tags={**first.tags, "dagster/partition": "0001"},
    )
    site.instance.add_run(run)
    assert "0001" not in site.subjects()
    monkeypatch.setenv("ISS_SENSORS__RETRY_S", "0")
    again = {r.tags[SUBJECT_TAG]: r for r in site.tick().run_requests or ()}["0001"]
    assert again.tags[STATE_TAG] == first.tags[STATE_TAG]
    assert again.run_key == f"0001:{first.tags[STATE_TAG]}:{run.run_id[:8]}"


def test_no_attempt_is_wasted_while_the_data_folder_of_a_shared_warehouse_cannot_be_written_to(
    site: Site, shared: WarehouseSettings, tmp_path: Path
) -> None:
    Warehouse(site.settings().warehouse_path, shared).replace(CvSplits, splits("a"), {})
    folder, elsewhere = Path(str(shared.data_path)), tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.mkdir()
    with pytest.raises(WarehouseAway, match="ISS_WAREHOUSE__DATA_PATH"):
        site.tick()
    folder.rmdir()
    elsewhere.rename(folder)
    assert {"0001", "0002"} <= set(site.subjects())


def test_a_fault_of_the_program_is_not_tried_again_until_something_changes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_SENSORS__RETRY_S", "0")
    request = {r.tags[SUBJECT_TAG]: r for r in site.tick().run_requests or ()}["0001"]
    run_id = record_run(site, request, errors=True)
    assert errors_of(site.instance, run_id) == {"work": ["KeyError"]}
    assert "0001" not in site.subjects()
    site.video("0001", "s4")
    assert "0001" in site.subjects()


def test_errors_of_single_videos_are_known_by_their_class(site: Site) -> None:
    @dg.op
    def extract() -> None:
        raise dg.Failure("1 of 2", metadata={"videos": dg.MetadataValue.json({"s1": "MemoryError"})})

    @dg.job
    def patient() -> None:
        extract()

    run = patient.execute_in_process(instance=site.instance, raise_on_error=False)
    assert errors_of(site.instance, run.run_id) == {"extract": ["MemoryError"]}


def test_the_study_folders_own_problems_are_kept_by_a_run(site: Site) -> None:
    assert STUDY in site.subjects()


def backfill_of_assets(site: Site, *patients: str) -> PartitionBackfill:
    graph = build_defs(site.settings()).get_repository_def().asset_graph
    return PartitionBackfill.from_asset_partitions(
        backfill_id="abc",
        asset_graph=graph,
        partition_names=patients,
        asset_selection=[dg.AssetKey("videos"), dg.AssetKey("frames")],
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=site.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )


def backfill_of_the_job(site: Site, *patients: str) -> PartitionBackfill:
    code = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=None, module_name="iss_assets.definitions")
    )
    origin = RemotePartitionSetOrigin(
        repository_origin=RemoteRepositoryOrigin(code, "__repository__"),
        partition_set_name="patient_partition_set",
    )
    return PartitionBackfill(
        backfill_id="abc",
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=time.time(),
        partition_set_origin=origin,
        partition_names=patients,
    )


# Dagster itself calls it, in PartitionBackfill.from_asset_partitions
@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("make", [backfill_of_assets, backfill_of_the_job])
def test_the_patients_of_a_backfill_are_left_to_it_and_others_are_not(
    site: Site, make: Callable[..., PartitionBackfill]
) -> None:
    site.enroll("0001", "0002", "0003")
    site.tick()
    assert backfilled_patients(site.instance) == frozenset()
    site.instance.add_backfill(make(site, "0001", "0002"))
    assert backfilled_patients(site.instance) == {"0001", "0002"}
    asked = set(site.subjects())
    assert "0003" in asked
    assert not {"0001", "0002"} & asked


def test_alerts_of_one_who_left_the_study_are_closed_by_the_next_look(site: Site) -> None:
    from datetime import UTC, datetime

    from iss_assets.alerting.rules import Observation, update
    from iss_assets.schemas.operations import Alerts

    site.tick()
    failed = Observation(
        "run-one", "0002", "video_quality", "dark_or_grainy", False, "WARN", datetime.now(UTC)
    )
    settings = site.settings()
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    warehouse.replace(Alerts, Alerts.from_rows([a.row() for a in update({}, [failed])]), {})

    def status() -> list[str | None]:
        site.tick()
        return list(warehouse.query("select status, reason from alerts").to_pylist()[0].values())

    assert status() == ["raised", None]
    site.enroll("0001")
    assert status() == ["closed", "not enrolled any more"]
    site.enroll("0001", "0002")
    assert status() == ["raised", None]


def test_marts_are_out_of_date_until_a_run_has_made_them_from_this_state(site: Site) -> None:
    from iss_assets.intake.folder import patient_rows, read_study
    from iss_assets.pipeline.run_history import unless_made
    from iss_assets.pipeline.staleness import marts_state
    from iss_assets.schemas.intake import Patients
    from iss_assets.schemas.operations import Extractions
    from iss_assets.warehouse.ledger import ledger_rows

    sql = site.root / "sql" / "marts" / "people.sql"
    sql.parent.mkdir()
    sql.write_text("select patient_id from patients\n")
    settings = site.settings()
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)

    def state() -> str | None:
        return unless_made(site.instance, MARTS, marts_state(warehouse, settings.warehouse.sql_dir))

    assert state() is None, "there is nothing to make them from"
    rows = patient_rows(read_study(settings.study), "0001")
    warehouse.replace(Patients, Patients.from_rows(rows), {"patient_id": "0001"})
    warehouse.replace(Extractions, ledger_rows([("0001", "*", "patients", "f1", 1)]), {"patient_id": "0001"})
    first = state()
    assert first is not None
    record_run(site, dg.RunRequest(job_name="marts", tags={SUBJECT_TAG: MARTS, STATE_TAG: first}))
    assert state() is None
    warehouse.replace(Extractions, ledger_rows([("0001", "*", "patients", "f2", 1)]), {"patient_id": "0001"})
    second = state()
    assert second not in (None, first)
    sql.write_text(sql.read_text() + "order by patient_id\n")
    assert state() not in (None, second)


def test_a_tick_over_a_full_study_is_light(site: Site) -> None:
    """112 patients with 18 videos each, nothing known yet: the most a tick can have to do."""
    patients = [f"{i:04d}" for i in range(112)]
    site.enroll(*patients)
    site.answer(**{f"{p}-{i}": p for p in patients for i in range(18)})
    for patient in patients:
        for i in range(18):
            site.video(patient, f"{patient}-{i}")
    observe(site.instance, site.settings())
    # the least of three: a busy machine makes each of them slower
    took = []
    for _ in range(3):
        start = time.process_time()
        seen = observe(site.instance, site.settings())
        took.append(time.process_time() - start)
        assert len(seen.stale) == 112
    assert min(took) < 2.0, "processor seconds"
