"""Two studies whose settings name one shared warehouse: the second is refused, and nothing of the first is touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from iss_assets.cli.doctor import _home as look_at_home
from iss_assets.cli.main import app
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.folder import read_study, score_rows
from iss_assets.pipeline.launcher import run_study
from iss_assets.privacy import one_study
from iss_assets.privacy.one_study import require_one_study
from iss_assets.privacy.register import note_home
from iss_assets.privacy.withdrawal import follow_other_hosts, withdraw
from iss_assets.schemas.intake import BpiScores
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.lake_catalog import LakeCatalog, rows
from iss_assets.warehouse.lake_store import LakeStore
from iss_assets.warehouse.lake_study import FILE, AnotherStudy, LakeStudy
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER
from iss_assets_tests.lakes import lake_settings
from iss_assets_tests.postgres import PostgresServer
from iss_assets_tests.warehouse.test_database import splits

MakeHome = Callable[..., Settings]
ANOTHER = "is of another study|is new to the shared warehouse"


@pytest.fixture
def make_home(shared: WarehouseSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeHome:
    """Return a function that makes a home with a study folder, in which each patient has one survey.

    Ids are the same in all studies; the days of surveys are not.
    """
    # each home is looked at as by a process of its own
    monkeypatch.setattr(one_study, "_found", set())

    def make(name: str, month: int, patients: int = 4, warehouse: WarehouseSettings = shared) -> Settings:
        study = tmp_path / f"study-{name}"
        (study / "videos").mkdir(parents=True)
        ids = [f"{number:04}" for number in range(1, patients + 1)]
        enrolled = [f"{one},1A,M,II,0,2021-01-04,-05:00" for one in ids]
        surveys = [f"{one}-1,{one},2021-{month:02}-05T09:05:00-05:00,home,0,no,0,1,0,0,1,2,0" for one in ids]
        (study / "enrollment.csv").write_text("\n".join([ENROLLMENT_HEADER, *enrolled]) + "\n")
        (study / "surveys.csv").write_text("\n".join([SURVEY_HEADER, *surveys]) + "\n")
        home = tmp_path / f"home-{name}"
        home.mkdir()
        return Settings(study=study, home=home, warehouse=warehouse)

    return make


def tables(settings: Settings) -> Warehouse:
    return Warehouse(settings.warehouse_path, settings.warehouse)


def store(settings: Settings) -> None:
    """Write the answers of a study as its runs do."""
    tables(settings).replace(BpiScores, BpiScores.from_rows(score_rows(read_study(settings.study))), {})


def stored(settings: Settings) -> list[str]:
    found = tables(settings).query(
        "select submission_id || ' ' || submitted_at::date as s from bpi_scores order by 1"
    )
    return [str(one) for one in found["s"].to_pylist()]


def test_a_second_study_can_neither_read_in_nor_write_nor_withdraw_nor_move(
    make_home: MakeHome, empty_warehouse: Path
) -> None:
    first, second = make_home("first", month=1), make_home("second", month=2)
    require_one_study(first)
    store(first)
    before = stored(first)
    assert len(before) == 4

    def load() -> dg.Definitions:
        raise AssertionError("nothing may be run")

    attempts: list[Callable[[], object]] = [
        lambda: require_one_study(second),
        lambda: run_study(second, load=load, log=lambda _: None, progress=lambda *_: None),
        lambda: withdraw(second, "0001", reason="asked", who="tester", log=lambda _: None),
        lambda: follow_other_hosts(second, lambda _: None),
        lambda: store(second),
    ]
    for attempt in attempts:
        with pytest.raises(AnotherStudy, match="Give each study a database and a data folder of its own"):
            attempt()
    # moving a file of the second study, too
    shutil.copy(empty_warehouse, second.warehouse_path)
    done = CliRunner().invoke(
        app, ["move-warehouse", "--home", str(second.home)], env={"ISS_STUDY": str(second.study)}
    )
    assert done.exit_code == 2 and "has 0 of the 4 surveys and videos" in " ".join(done.stderr.split())
    assert second.warehouse_path.exists() and not (second.home / FILE).exists()

    assert stored(first) == before
    assert tables(first).query("select * from cv_splits").num_rows == 0
    tables(first).replace(CvSplits, splits("goes-on"), {})


def test_no_run_of_a_second_study_gets_the_warehouse(make_home: MakeHome) -> None:
    first, second = make_home("first", month=1), make_home("second", month=2)
    require_one_study(first)
    store(first)

    @dg.op
    def touch(warehouse: WarehouseResource) -> None:
        warehouse.warehouse().replace(CvSplits, splits("second"), {})

    @dg.job
    def job() -> None:
        touch()

    def run(settings: Settings) -> dg.ExecuteInProcessResult:
        resource = WarehouseResource(study=str(settings.study), home=str(settings.home))
        return job.execute_in_process(resources={"warehouse": resource}, raise_on_error=False)

    assert not run(second).success
    assert tables(first).query("select * from cv_splits").num_rows == 0
    assert run(first).success


def test_further_homes_of_the_same_study_are_let_in_by_what_their_study_folder_has(
    make_home: MakeHome, tmp_path: Path
) -> None:
    first = make_home("first", month=1)
    require_one_study(first)
    same = make_home("same", month=1)
    with pytest.raises(AnotherStudy, match="no submissions yet by which to tell"):
        require_one_study(same)
    store(first)
    require_one_study(same)
    assert (same.home / FILE).read_text() == (first.home / FILE).read_text()
    store(same)

    # an excerpt of the study would take all others for gone; one that has grown takes nobody
    with pytest.raises(AnotherStudy, match="has 1 of the 4"):
        require_one_study(make_home("excerpt", month=1, patients=1))
    require_one_study(make_home("grown", month=1, patients=6))
    # a folder that cannot be read says nothing
    away = make_home("away", month=1)
    shutil.rmtree(away.study)
    with pytest.raises(AnotherStudy, match="cannot be compared"):
        require_one_study(away)
    # somebody says that it is the same one
    shutil.copy(first.home / FILE, away.home)
    require_one_study(away)


def test_a_warehouse_of_an_earlier_version_is_of_the_study_whose_homes_have_used_it(
    make_home: MakeHome,
) -> None:
    first, archived, second = make_home("first", 1), make_home("archived", 3), make_home("second", 2)
    store(first)
    for settings in (first, archived):
        note_home(settings)
    with pytest.raises(AnotherStudy, match="has 0 of the 4"):
        require_one_study(second)
    assert LakeStudy(first.warehouse).read() is None
    require_one_study(archived)
    require_one_study(first)
    assert (
        LakeStudy(first.warehouse).read()
        == (first.home / FILE).read_text()
        == (archived.home / FILE).read_text()
    )
    with pytest.raises(AnotherStudy):
        require_one_study(second)


def test_a_home_of_a_study_is_refused_by_the_warehouse_of_another(
    make_home: MakeHome, postgres: PostgresServer, tmp_path: Path
) -> None:
    first = make_home("first", month=1)
    require_one_study(first)
    elsewhere = lake_settings(postgres, postgres.new_database(), tmp_path / "elsewhere")
    second = make_home("second", month=2, warehouse=elsewhere)
    require_one_study(second)
    by_mistake = second.model_copy(update={"warehouse": first.warehouse})
    with pytest.raises(AnotherStudy):
        require_one_study(by_mistake)
    with pytest.raises(AnotherStudy):
        store(by_mistake)
    (finding,) = [f for f in look_at_home(by_mistake) if f.subject == "study"]
    assert finding.state == "fail"
    assert not [f for f in look_at_home(second) if f.subject == "study"]


def test_two_catalogs_do_not_share_a_data_folder(
    make_home: MakeHome, shared: WarehouseSettings, postgres: PostgresServer
) -> None:
    first = make_home("first", month=1)
    require_one_study(first)
    store(first)
    same_folder = lake_settings(postgres, postgres.new_database(), Path(str(shared.data_path)))
    second = make_home("second", month=2, warehouse=same_folder)
    with pytest.raises(AnotherStudy, match=r"data folder .* is of another study"):
        require_one_study(second)
    # what says so survives the first one's own maintenance, which removes files that nothing names
    lake = tables(first).store
    assert isinstance(lake, LakeStore)
    lake.maintain(timedelta(0))
    with pytest.raises(AnotherStudy):
        require_one_study(second)
    assert len(stored(first)) == 4


def test_a_catalog_that_a_wrong_study_has_begun_is_free_again_after_what_the_guide_says(
    make_home: MakeHome, shared: WarehouseSettings
) -> None:
    wrong, right = make_home("wrong", month=2), make_home("right", month=1)
    require_one_study(wrong)
    note_home(wrong)
    with pytest.raises(AnotherStudy):
        require_one_study(right)
    with LakeCatalog(shared, "it").session() as session:
        rows(session, "drop table iss_study, iss_home")
    (mark,) = Path(str(shared.data_path)).glob(".study-*")
    mark.rmdir()
    require_one_study(right)
    store(right)
    with pytest.raises(AnotherStudy):
        tables(wrong).replace(CvSplits, splits("late"), {})
