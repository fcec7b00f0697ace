"""A home is of one study: the folder of another one, named by mistake, changes nothing in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from iss_assets.cli.doctor import _study as look_at_study
from iss_assets.cli.main import app
from iss_assets.defs.assets.study import update_videos
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.folder import read_study, score_rows
from iss_assets.pipeline.launcher import run_study
from iss_assets.privacy.own_folder import ACCEPTED, OtherFolder, accept
from iss_assets.privacy.register import open_study, read_register
from iss_assets.privacy.withdrawal import withdraw
from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.intake import BpiScores
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.file_store import lock_path
from iss_assets.warehouse.locking import LockTimeout, hold
from iss_assets_tests.cli.processes import Iss
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER

MakeStudy = Callable[..., Path]
IDS = ("0001", "0002", "0003", "0004")


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """Return a function that makes a study: a survey and a video of each patient, whose size says of which study it is."""

    def make(name: str, size: int, patients: tuple[str, ...] = IDS, hour: int = 9, each: int = 1) -> Path:
        study = tmp_path / name
        enrolled = [f"{one},1A,M,II,0,2021-01-04,-05:00" for one in patients]
        surveys = [
            f"{one}-{n},{one},2021-02-{n:02}T{hour:02}:05:00-05:00,home,0,no,0,1,0,0,1,2,0"
            for one in patients
            for n in range(1, each + 1)
        ]
        study.mkdir()
        (study / "enrollment.csv").write_text("\n".join([ENROLLMENT_HEADER, *enrolled]) + "\n")
        (study / "surveys.csv").write_text("\n".join([SURVEY_HEADER, *surveys]) + "\n")
        for one in patients:
            (study / "videos" / one).mkdir(parents=True)
            for n in range(1, each + 1):
                (study / "videos" / one / f"{one}-{n}.mp4").write_bytes(b"x" * (size + n + int(one)))
        return study

    return make


def brought_into(home: Path, study: Path, warehouse: WarehouseSettings | None = None) -> Settings:
    """Store a study's surveys and videos as its runs do."""
    settings = Settings(study=study, home=home, warehouse=warehouse or WarehouseSettings())
    settings = settings.model_copy(
        update={"reading": settings.reading.model_copy(update={"settle_seconds": 0})}
    )
    folder = read_study(study, settings.reading)
    store = Warehouse(settings.warehouse_path, settings.warehouse)
    store.replace(BpiScores, BpiScores.from_rows(score_rows(folder)), {})
    resource = WarehouseResource(study=str(study), home=str(home))
    for patient in folder.patient_ids:
        update_videos(resource, patient, Recording.NARRATIVE, log=lambda _: None)
    assert store.query("select count(*) n from videos")["n"].to_pylist() == [len(folder.videos)]
    return settings


def of(settings: Settings, study: Path) -> Settings:
    return settings.model_copy(update={"study": study})


def stored(settings: Settings) -> list[dict[str, object]]:
    sql = "select patient_id, video_id, bytes from videos order by video_id"
    return Warehouse(settings.warehouse_path, settings.warehouse).query(sql).to_pylist()


@pytest.fixture(params=["file", "shared"])
def warehouse(request: pytest.FixtureRequest) -> WarehouseSettings:
    return request.getfixturevalue("shared") if request.param == "shared" else WarehouseSettings()


def test_a_folder_of_another_study_with_the_same_ids_and_times_is_refused_wherever_it_is_read(
    make_study: MakeStudy, tmp_path: Path, warehouse: WarehouseSettings
) -> None:
    settings = brought_into(tmp_path / "home", make_study("own", size=100), warehouse)
    other = of(settings, make_study("other", size=3000))
    before = stored(settings)

    def load() -> object:
        raise AssertionError("nothing may be run")

    resource = WarehouseResource(study=str(other.study), home=str(other.home))
    attempts: list[Callable[[], object]] = [
        lambda: open_study(other),
        lambda: run_study(other, load=load, log=lambda _: None, progress=lambda *_: None),  # type: ignore[arg-type]  # is not called
        resource.folder,
    ]
    for attempt in attempts:
        with pytest.raises(
            OtherFolder, match="of 4 videos or surveys that are stored in it, this study folder has 0"
        ):
            attempt()
    (finding,) = look_at_study(other)
    assert finding.state == "fail" and "ISS_HOME" in finding.text
    assert stored(settings) == before
    open_study(settings)


def test_the_commands_say_so_and_end_with_two(make_study: MakeStudy, tmp_path: Path) -> None:
    settings = brought_into(tmp_path / "home", make_study("own", size=100))
    iss = Iss(make_study("other", size=3000), settings.home, {"ISS_SERVER__PORT": "0"}, here=True)
    for command in ("run", "status", "serve"):
        done = iss(command)
        assert done.returncode == 2, command
        assert "this home is of another study" in done.stderr and "Traceback" not in done.stderr
        assert "iss run --same-study" in " ".join(done.stderr.split())


def test_nobody_is_withdrawn_who_has_the_same_id_in_another_study(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    settings = brought_into(tmp_path / "home", make_study("own", size=100))
    other = of(settings, make_study("other", size=3000))
    before, files = stored(settings), sorted(other.study.rglob("*"))
    with pytest.raises(OtherFolder):
        withdraw(other, "0002", reason="asked", who="tester", log=lambda _: None, source=True)
    assert stored(settings) == before
    assert sorted(other.study.rglob("*")) == files
    assert read_register(settings).patient("0002") is False
    done = withdraw(settings, "0002", reason="asked", who="tester", log=lambda _: None, source=True)
    assert done.scope == "all" and not (settings.study / "videos" / "0002").exists()
    # whose files have been removed by hand before
    shutil.rmtree(settings.study / "videos" / "0003")
    withdraw(settings, "0003", reason="asked", who="tester", log=lambda _: None)
    assert {row["patient_id"] for row in stored(settings)} == {"0001", "0004"}


def test_patients_of_whom_none_is_in_the_folder_are_another_studys(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    settings = brought_into(tmp_path / "home", make_study("own", size=100))
    with pytest.raises(OtherFolder, match="of 4 videos"):
        open_study(of(settings, make_study("other", size=100, patients=("0011", "0012"))))


def test_what_happens_in_a_study_is_no_other_study(make_study: MakeStudy, tmp_path: Path) -> None:
    settings = brought_into(tmp_path / "home", make_study("own", size=100, each=3))
    # all clocks are corrected
    open_study(of(settings, make_study("clocks", size=100, hour=14, each=3)))
    # most videos are replaced
    some = make_study("some", size=3000, each=3)
    for patient in IDS[:2]:
        shutil.copy(settings.study / "videos" / patient / f"{patient}-1.mp4", some / "videos" / patient)
    open_study(of(settings, some))
    # three of four patients are in an archive, and a new one has enrolled
    open_study(of(settings, make_study("fewer", size=100, patients=("0002", "0009"), each=3)))
    # nobody is enrolled: that is told elsewhere, and nothing is removed
    nobody = make_study("nobody", size=100, patients=())
    (nobody / "videos").mkdir()
    open_study(of(settings, nobody))


def test_a_warehouse_that_is_busy_lets_no_folder_through_unseen(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    settings = brought_into(tmp_path / "home", make_study("own", size=100))
    other = of(settings, make_study("other", size=3000))
    hasty = other.model_copy(update={"warehouse": WarehouseSettings(lock_timeout_s=0.1)})
    with hold(lock_path(settings.warehouse_path), exclusive=True, timeout_s=5), pytest.raises(LockTimeout):
        open_study(hasty)


def test_little_says_nothing(make_study: MakeStudy, tmp_path: Path) -> None:
    settings = brought_into(tmp_path / "home", make_study("own", size=100, patients=IDS[:2]))
    open_study(of(settings, make_study("corrected", size=3000, hour=14, patients=IDS[:2])))


def test_without_videos_surveys_decide(make_study: MakeStudy, tmp_path: Path) -> None:
    own = make_study("own", size=100)
    shutil.rmtree(own / "videos")
    (own / "videos").mkdir()
    settings = brought_into(tmp_path / "home", own)
    open_study(settings)
    with pytest.raises(OtherFolder, match="of 4 videos or surveys"):
        open_study(of(settings, make_study("other", size=100, hour=14)))


def test_whoever_says_that_it_is_the_same_is_believed_until_it_is_seen(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    settings = brought_into(tmp_path / "home", make_study("own", size=100))
    renewed = of(settings, make_study("renewed", size=3000))
    accept(settings.home)
    open_study(renewed)
    open_study(renewed)
    brought_into(settings.home, renewed.study)
    open_study(renewed)
    assert not (settings.home / ACCEPTED).exists()
    with pytest.raises(OtherFolder):
        open_study(settings)


def test_the_option_is_in_the_help() -> None:
    assert "--same-study" in CliRunner().invoke(app, ["run", "--help"]).output
