"""Wrong paths, names and settings end with status 2 and one clear line on stderr, whatever the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from iss_assets.cli import app
from iss_assets.protocol.terms import SCORES
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.cli.processes import Iss

ENROLLMENT = "patient_id,cohort,sex,skin_type,pain_target,enrolled_on\n0001,1A,M,I,0,2021-01-04\n"
SURVEYS = ",".join(["submission_id", "patient_id", "submitted_at", "setting", *SCORES]) + "\n"


@pytest.fixture(scope="module")
def iss(tmp_path_factory: pytest.TempPathFactory) -> Iss:
    """A study of one patient without a video, and a home whose warehouse has every table and no row."""
    root = tmp_path_factory.mktemp("wrong usage")
    study = root / "study"
    (study / "videos").mkdir(parents=True)
    (study / "enrollment.csv").write_text(ENROLLMENT)
    (study / "surveys.csv").write_text(SURVEYS)
    (root / "other").mkdir()
    (root / "other" / "enrollment.csv").write_text("name,age\nA,40\n")
    (root / "file.csv").write_text("a,b\n")
    settings = Settings(study=study, home=root / "home")
    settings.home.mkdir()
    Warehouse(settings.warehouse_path, settings.warehouse).create()
    return Iss(study, settings.home)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (
            "run --study nowhere",
            "the study folder 'nowhere' does not exist; name the right folder with --study",
        ),
        ("run --study file.csv", "'file.csv' is not a folder"),
        ("run --study other", "enrollment.csv lacks the columns patient_id"),
        ("run --patient 9999", "not enrolled in this study: 9999"),
        ("run --home file.csv", "the home 'file.csv' is not a folder"),
        (
            "status --study nowhere",
            "the study folder 'nowhere' does not exist; name the right folder with --study",
        ),
        ("train nonsense", "there is no experiment 'nonsense'; there are resnet50_4_static"),
        ("train --profile nonsense", "setting ISS_TRAINING__PROFILE: Input should be 'paper' or 'demo'"),
        (
            "quality --home nowhere",
            "there is no warehouse in the home 'nowhere' yet; create it with: iss run",
        ),
        ("quality --patient 9999", "not in the warehouse: 9999"),
        ("export --to out --tables nothing", "there is no table nothing; there are patients, bpi_scores"),
        ("export --to file.csv --tables patients", "File exists: file.csv"),
        ("sql --home nowhere query", "there is no warehouse in the home 'nowhere' yet"),
        ("sql nonsense", "Parser Error: syntax error"),
        ("snapshot file.csv", "file.csv already exists"),
        ("snapshot nowhere/copy.duckdb", "there is no folder 'nowhere'"),
        ("sample-study other", "the folder 'other' is not empty and has no sample study"),
        ("docs --directory nowhere", "there is no folder 'nowhere'"),
        ("guide nonsense", "there is no page 'nonsense'; there are: architecture"),
        ("ui --host 192.0.2.1 --port 3999", "cannot listen on 192.0.2.1:3999"),
        ("ui --home file.csv", "the home 'file.csv' is not a folder"),
        ("doctor --home file.csv", "the home 'file.csv' is not a folder"),
    ],
)
def test_nonsense_is_one_line_that_says_what_is_wrong(
    command: str, says: str, iss: Iss, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, where an error that no command expects would be an exception."""
    root = iss.home.parent
    monkeypatch.chdir(root)
    before = _files(root, iss.home)
    # None removes a variable, and what the command sets is undone
    environment = {**iss.environment(), "ISS_TRAINING__PROFILE": None}
    done = CliRunner().invoke(app, command.split(), env=environment)
    assert isinstance(done.exception, SystemExit), done.exception
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    first, *more = done.stderr.splitlines()
    assert says in first
    assert more == [] or command == "sql nonsense"  # DuckDB points at the word
    assert str(root) not in done.stderr
    assert _files(root, iss.home) == before


def _files(root: Path, home: Path) -> dict[Path, int]:
    return {p: p.stat().st_size for p in root.rglob("*") if home not in (p, *p.parents)}


def test_a_process_ends_with_the_same_line_and_no_traceback(iss: Iss) -> None:
    done = iss("quality", "--patient", "9999")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "not in the warehouse: 9999\n")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ISS_RUN__WORKERS", "many", "setting ISS_RUN__WORKERS: Input should be a valid integer"),
        ("ISS_QUALITY__NONSENSE", "1", "setting ISS_QUALITY__NONSENSE: Extra inputs are not permitted"),
        ("ISS_QUALITY", "not json", "settings: error parsing value for field"),
    ],
)
def test_a_malformed_setting_is_one_line_that_names_it(
    name: str, value: str, says: str, iss: Iss, tmp_path: Path
) -> None:
    done = Iss(iss.study, tmp_path / "home", {name: value})("status")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(says)
    assert not (tmp_path / "home").exists()


def test_a_malformed_settings_file_is_one_line(iss: Iss, tmp_path: Path) -> None:
    (tmp_path / "iss.toml").write_text("[run\nworkers = 2\n")
    done = Iss(iss.study, tmp_path)("status")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "iss.toml" in line and "line 1" in line
