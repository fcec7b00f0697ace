"""Every command on one small study: what it prints, what it writes, how it ends. `iss serve` has its own tests.

The first run, queries and the doctor are processes; the others are executed by this one, which has loaded everything.
"""

from __future__ import annotations

import csv
import json
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as parquet
import pytest

from iss_assets.reports.settings_page import settings_page
from iss_assets.synthetic.sample import write_sample_study
from iss_assets_tests.cli.processes import ROOT, Iss

PATIENTS = ("0001", "0002", "0003")
QUICK = {
    "ISS_TRAINING__PROFILE": "demo",
    "ISS_RUN__WORKERS": "1",
    "ISS_EVALUATION__PERMUTATIONS": "99",
    "ISS_EVALUATION__RETRAINED_PERMUTATIONS": "19",
    "ISS_EVALUATION__SHUFFLE_REPEATS": "3",
    "ISS_EVALUATION__STABILITY_SEEDS": "[1]",
}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Iss, str]:
    """A study of three patients with one short video each, and what its first `iss run` printed."""
    root = tmp_path_factory.mktemp("commands")
    write_sample_study(root / "study", patients=3, seconds=4.5, submissions_per_patient=1)
    iss = Iss(root / "study", root / "home", QUICK)
    return iss, iss.ok("run")


@pytest.fixture
def iss(first_run: tuple[Iss, str]) -> Iss:
    return replace(first_run[0], here=True)


@pytest.fixture
def process(first_run: tuple[Iss, str]) -> Iss:
    return first_run[0]


def rows_of(iss: Iss, query: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(replace(iss, here=True).ok("sql", query, "--format", "json"))
    return found


def table(printed: str) -> dict[str, list[str]]:
    """Return the lines of `iss status` about patients, as words by patient."""
    lines = [line.split() for line in printed.splitlines()]
    return {words[0]: words[1:] for words in lines if words and words[0] in (*PATIENTS, "9001")}


def test_run_registers_patients_and_fills_the_warehouse_and_then_has_nothing_to_do(
    first_run: tuple[Iss, str],
) -> None:
    iss, printed = first_run
    assert "3 new patients: 0001, 0002, 0003\n" in printed
    assert "3 patients enrolled: " in printed and " runs succeeded, 0 failed." in printed
    counts = "select (select count(*) from patients) as p, (select count(*) from video_quality) as v"
    assert rows_of(iss, counts) == [{"p": 3, "v": 3}]
    assert (iss.home / "reports" / "study_report.html").stat().st_size > 10_000
    assert iss.ok("run").splitlines() == ["3 patients enrolled: all was up to date."]


def test_status_counts_what_each_patient_has_and_names_what_is_stale(iss: Iss, tmp_path: Path) -> None:
    printed = iss.ok("status")
    assert printed.splitlines()[0].split()[:6] == (
        ["patient", "submissions", "videos", "readable", "extracted", "usable"]
    )
    lines = table(printed)
    assert set(lines) == set(PATIENTS)
    usable = rows_of(
        iss, "select patient_id as p, count(*) filter (usable) as n from video_quality group by 1"
    )
    failed = "select patient_id as p, count(*) filter (not passed) as n from check_results group by 1"
    checks = {row["p"]: row["n"] for row in rows_of(iss, failed)}
    for row in usable:
        patient = str(row["p"])
        assert lines[patient] == ["1", "1", "1", "1", str(row["n"]), str(checks[patient])], patient
    assert "3 patients enrolled, 0 with something to bring up to date" in printed
    assert "iss run" not in printed

    changed = tmp_path / "study"
    subprocess.run(["cp", "-a", iss.study, changed], check=True)
    with (changed / "enrollment.csv").open("a") as file:
        cells = dict.fromkeys((changed / "enrollment.csv").read_text().splitlines()[0].split(","), "")
        cells |= {"patient_id": "9001", "cohort": "1A", "sex": "M", "skin_type": "I", "pain_target": "0"}
        file.write(",".join(cells.values()) + "\n")
    (video,) = (p for p in (changed / "videos" / "0002").iterdir() if "_prompt" not in p.name)
    with video.open("ab") as file:
        file.write(b"\0")
    printed = Iss(changed, iss.home, QUICK, here=True).ok("status")
    lines = table(printed)
    assert lines["9001"] == ["0", "0", "0", "0", "0", "0", "new"]
    assert "videos" in " ".join(lines["0002"]) and len(lines["0001"]) == len(lines["0003"]) == 6
    assert "4 patients enrolled, 2 with something to bring up to date" in printed
    assert printed.rstrip().endswith("iss run")


def test_quality_lists_what_to_do_for_all_patients_or_for_one(iss: Iss) -> None:
    printed = iss.ok("quality")
    assert "3 patients" in printed and "Last check: " in printed
    assert "Fewer than three check-ins a week" in printed and "-> Remind these patients" in printed
    one = iss.ok("quality", "--patient", "0002")
    assert "0002" in one and "0001" not in one and "0003" not in one


def test_train_fits_the_named_experiment_and_evaluates_it(iss: Iss) -> None:
    experiments = "select distinct experiment as e from fold_models order by 1"
    assert rows_of(iss, experiments) == [{"e": "forest_pain"}]
    printed = iss.ok("train", "forest_landmarks")
    assert "fitting forest_landmarks\n" in printed and " 0 failed." in printed
    assert rows_of(iss, experiments) == [{"e": "forest_landmarks"}, {"e": "forest_pain"}]
    (result,) = rows_of(
        iss, "select patients, all_classes from experiment_results where experiment = 'forest_landmarks'"
    )
    assert result["patients"] == 3 and 0 <= float(str(result["all_classes"])) <= 1


def test_export_writes_the_named_tables_with_their_dictionary(iss: Iss, tmp_path: Path) -> None:
    printed = iss.ok(
        "export", "--tables", "bpi_scores, study_summary", "--format", "csv", "--to", str(tmp_path)
    )
    assert printed == "bpi_scores.csv: 3 rows\nstudy_summary.csv: 1 rows\n"
    with (tmp_path / "bpi_scores.csv").open(encoding="utf-8-sig", newline="") as file:
        assert sorted(row["patient_id"] for row in csv.DictReader(file)) == list(PATIENTS)
    package = json.loads((tmp_path / "datapackage.json").read_text())
    assert [resource["path"] for resource in package["resources"]] == ["bpi_scores.csv", "study_summary.csv"]


def test_export_leaves_faces_out_unless_they_are_asked_for(iss: Iss, tmp_path: Path) -> None:
    assert "faces.parquet: " in iss.ok("export", "--to", str(tmp_path / "plain"))
    assert (tmp_path / "plain" / "patients.parquet").exists()
    printed = iss.ok("export", "--tables", "faces", "--with-media", "--to", str(tmp_path / "media"))
    assert "without" not in printed
    plain, media = (parquet.read_schema(tmp_path / f / "faces.parquet").names for f in ("plain", "media"))
    assert "crop" in media and "crop" not in plain


def test_sql_prints_rows_in_three_formats(process: Iss) -> None:
    query = (
        "select patient_id, 0.5 as half, null as nothing from patients where patient_id < '0003' order by 1"
    )
    header, *rows = process.ok("sql", query).splitlines()
    assert header.split() == ["patient_id", "half", "nothing"]
    assert [row.split() for row in rows] == [["0001", "0.5"], ["0002", "0.5"]]
    assert process.ok("sql", query, "--format", "csv") == "patient_id,half,nothing\n0001,0.5,\n0002,0.5,\n"
    assert rows_of(process, query)[0] == {"patient_id": "0001", "half": 0.5, "nothing": None}


def test_snapshot_is_a_database_with_the_same_rows_for_its_owner_only(iss: Iss, tmp_path: Path) -> None:
    file = tmp_path / "copy.duckdb"
    assert "protect it like the warehouse" in iss.ok("snapshot", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("select count(*) from landmarks").fetchall() == [
            tuple(rows_of(iss, "select count(*) from landmarks")[0].values())
        ]


def test_doctor_passes_a_machine_that_works_and_fails_without_a_study(process: Iss, tmp_path: Path) -> None:
    printed = process.ok("doctor")
    assert "study folder: 3 patients, 3 submissions" in printed
    assert "ok   sound: " in printed and "ok   warehouse: " in printed and "\nfail" not in printed
    done = Iss(tmp_path / "nowhere", tmp_path / "home", here=True)("doctor")
    assert done.returncode == 1
    assert "fail study folder: " in done.stdout and "-> what belongs in it" in done.stdout


def test_docs_writes_the_pages_that_are_not_current(iss: Iss, tmp_path: Path) -> None:
    assert iss.ok("docs", "--check") == "current\n"
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("checks.md", "data_dictionary.md", "licenses.md", "settings.md"):
        (docs / name).write_bytes((ROOT / "docs" / name).read_bytes())
    # the page of licenses follows from the requirements beside the docs
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (docs / "settings.md").write_text("old\n")
    stale = iss("docs", "--check", "--directory", str(docs))
    assert (stale.returncode, stale.stdout) == (1, "")
    assert stale.stderr == "not current: settings.md; run: iss docs\n"
    assert iss.ok("docs", "--directory", str(docs)) == "written: settings.md\n"
    assert (docs / "settings.md").read_text(encoding="utf-8") == settings_page()


def test_guide_lists_and_prints_the_pages_of_the_documentation(iss: Iss) -> None:
    assert iss.ok("guide").split() == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))
    page = (ROOT / "docs" / "study_folder.md").read_text(encoding="utf-8")
    assert iss.ok("guide", "study_folder") == page.rstrip() + "\n"


def test_sample_study_makes_a_folder_that_run_accepts(tmp_path: Path) -> None:
    iss = Iss(tmp_path / "study", tmp_path / "home")
    printed = iss.ok("sample-study", "study", "--patients", "1", cwd=tmp_path)
    assert printed == "1 invented patients in study. Next: iss run --study study\n"
    status = replace(iss, here=True).ok("status")
    (submissions, videos, *_), note = table(status)["0001"], status.splitlines()[2]
    with (iss.study / "surveys.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == int(submissions)
    assert int(videos) >= 1
    assert note.startswith("1 patients enrolled") and "0 rejected rows, 0 problems" in note
