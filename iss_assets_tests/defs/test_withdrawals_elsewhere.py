"""The daemon of a home on a shared warehouse follows withdrawals of other hosts, without anybody's `iss run`."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import dagster as dg
import pytest

from iss_assets.build import build_defs
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.withdrawn import Scope
from iss_assets.pipeline.following import CHANGE_TAG, follow_key
from iss_assets.privacy.certificate import read_certificates
from iss_assets.privacy.one_study import require_one_study
from iss_assets.privacy.register import note_home, other_homes, register_withdrawal
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.lake_study import FILE
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER

PATIENT, OTHER = "0002", "0003"


@pytest.fixture
def homes(
    shared: WarehouseSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Settings, Settings]:
    """Two homes of one study; the settings of this process are the second one's."""
    study = tmp_path / "study"
    (study / "videos").mkdir(parents=True)
    lines = [f"{patient},1A,M,II,0,2021-01-04,-05:00" for patient in (PATIENT, OTHER)]
    (study / "enrollment.csv").write_text("\n".join([ENROLLMENT_HEADER, *lines]) + "\n")
    (study / "surveys.csv").write_text(SURVEY_HEADER + "\n")
    first, second = (
        Settings(study=study, home=tmp_path / name, warehouse=shared) for name in ("home1", "home2")
    )
    require_one_study(first)
    second.home.mkdir()
    shutil.copy(first.home / FILE, second.home)
    monkeypatch.setenv("ISS_HOME", str(second.home))
    for settings in (first, second):
        note_home(settings)
    return first, second


def test_a_run_is_requested_when_somebody_withdrew_elsewhere_and_removes_what_names_them(
    homes: tuple[Settings, Settings],
) -> None:
    first, second = homes
    log = second.home / "workers.log"
    log.write_text(f"patient {PATIENT} was extracted\nnothing of anybody\n")
    repository = build_defs(second).get_repository_def()
    sensor = repository.get_sensor_def("withdrawals_elsewhere")
    job = repository.get_job("follow_withdrawals")

    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> dg.RunRequest | None:
            resources = {"warehouse": WarehouseResource()}
            with dg.build_sensor_context(instance, resources=resources) as context:
                requests = list(sensor.evaluate_tick(context).run_requests or ())
            assert len(requests) <= 1
            return requests[0] if requests else None

        assert tick() is None
        register_withdrawal(first, PATIENT, Scope.ALL, [], [])
        requested = tick()
        assert requested is not None and requested.run_key is not None

        # neither one that is in progress nor one that has just failed is requested again at once
        waiting = instance.create_run_for_job(job, tags=requested.tags)
        assert tick() is None
        instance.report_run_failed(waiting)
        assert tick() is None
        change, now = int(requested.tags[CHANGE_TAG]), time.time()
        assert follow_key(instance, change, now) is None
        assert follow_key(instance, change, now + 70) not in (None, requested.run_key)
        assert follow_key(instance, change + 1, now) is not None

        # a run: while the sensor's tick itself counts as work on the home, this waits for nobody
        assert job.execute_in_process(instance=instance, tags=requested.tags).success
        assert tick() is None
    assert log.read_text() == "nothing of anybody\n"
    (certificate,) = read_certificates(second.home)
    assert certificate.complete, certificate.remains
    # the host that began it can tell
    assert other_homes(first) == []


def test_a_home_with_a_file_has_no_such_sensor(settings: Settings) -> None:
    repository = build_defs(settings).get_repository_def()
    assert not repository.has_sensor_def("withdrawals_elsewhere")
    assert not repository.has_job("follow_withdrawals")
