"""A release is a data package: programs read it, it is the same every time, and it is whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import frictionless
import mlcroissant
import numpy as np
import pytest

from iss_assets import load
from iss_assets.intake import withdrawn
from iss_assets.intake.withdrawn import with_key, write_withdrawn
from iss_assets.modeling.experiments import experiment
from iss_assets.modeling.fitting import fit_fold, predict_fold
from iss_assets.pipeline.home import prepare_home
from iss_assets.privacy.audit import AuditLog
from iss_assets.privacy.release.columns import Tier
from iss_assets.privacy.release.errors import ReleaseError
from iss_assets.privacy.release.leftovers import one_release_at_a_time, work_folder
from iss_assets.privacy.release.make import CHECKSUMS, Released, Request, make_release
from iss_assets.privacy.release.metadata import FACTS as NEEDED
from iss_assets.privacy.release.metadata import as_json
from iss_assets.privacy.release.pseudonyms import KeyFileError, Pseudonyms, release_key
from iss_assets.schemas.intake import Consent
from iss_assets.settings import ReleaseSettings, Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse, WarehouseError, Writer
from iss_assets.warehouse.moving import move_to_shared
from iss_assets_tests.cli.processes import Iss
from iss_assets_tests.privacy.release.conftest import FACTS, PATIENTS, Make, read


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("tier", Tier)
def test_the_same_study_and_key_give_the_same_bytes_on_another_day(
    release: Make,
    released: dict[str, Released],
    tier: Tier,
    study_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "elsewhere"
    shutil.copytree(study_home, home, copy_function=shutil.copyfile)
    now, zone = time.time, "Asia/Kathmandu"
    monkeypatch.setattr(time, "time", lambda: now() + 3 * 86400)
    monkeypatch.setenv("TZ", zone)
    again = release(str(tier), home=home)
    assert files(again.folder) == files(released[tier].folder)
    assert again.manifest == released[tier].manifest


@pytest.mark.parametrize("tier", Tier)
def test_checksums_and_every_description_fit_the_files(released: dict[str, Released], tier: Tier) -> None:
    folder = released[tier].folder
    subprocess.run(["sha256sum", "--check", "--quiet", CHECKSUMS], cwd=folder, check=True)
    listed = {line.split("  ")[1] for line in (folder / CHECKSUMS).read_text().splitlines()}
    assert listed == {p.name for p in folder.iterdir()} - {CHECKSUMS}
    crate = json.loads((folder / "ro-crate-metadata.json").read_text())
    entities = {e["@id"]: e for e in crate["@graph"]}
    assert entities["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    parts = {p["@id"] for p in entities["./"]["hasPart"]}
    assert parts == listed - {"ro-crate-metadata.json"}
    assert all(entities[p]["sha256"] == hashlib.sha256((folder / p).read_bytes()).hexdigest() for p in parts)
    # every reference leads somewhere
    for name in ("license", "creator", "publisher", "contactPoint"):
        assert entities["./"][name]["@id"] in entities
    report = frictionless.validate(
        str(folder / "datapackage.json"), checklist=frictionless.Checklist(pick_errors=["#structure"])
    )
    assert report.valid, report.flatten(["message"])


@pytest.mark.parametrize("tier", Tier)
def test_croissant_s_own_library_finds_nothing_to_complain_about_and_reads_every_row(
    released: dict[str, Released], tier: Tier
) -> None:
    folder = released[tier].folder
    data = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert not data.metadata.ctx.issues.errors
    assert not data.metadata.ctx.issues.warnings
    tables = read(folder)
    assert {r.id for r in data.metadata.record_sets} == {*tables, "splits"}
    for name, table in tables.items():
        rows = list(data.records(name))
        assert len(rows) == table.num_rows
    patients = {r["patients/patient_id"].decode() for r in data.records("patients")}
    assert patients == set(tables["patients"]["patient_id"].to_pylist())
    described = json.loads((folder / "croissant.json").read_text())
    assert f"{PATIENTS} patients" in described["description"]
    assert described["rai:dataUseCases"] == FACTS["use_cases"]


def test_an_experiment_is_trained_from_a_release(
    released: dict[str, Released], study_home: Path, tmp_path: Path
) -> None:
    home = released["registered"].folder
    data = load.training_set("forest_pain", home=home)
    own = load.training_set("forest_pain", home=study_home)
    assert (len(data), data.splits) == (len(own), own.splits) == (PATIENTS * 2, [1, 2, 3, 4, 5, 6])
    assert sorted(map(str, data.to_numpy()[0])) == sorted(map(str, own.to_numpy()[0]))
    train, test = data.fold(1)
    chosen = experiment("forest_pain")
    settings = Settings().training
    fitted = fit_fold(chosen, train.items, settings, tmp_path)
    predicted = predict_fold(chosen, fitted, test.items, settings)
    assert predicted.num_rows == len(test) == 4
    # the invented answers follow the pain targets, so a model that learned from the release can tell
    assert predicted["predicted"].to_pylist() == predicted["target"].to_pylist()


def test_faces_and_spectrograms_of_a_controlled_release_are_those_of_the_study(
    released: dict[str, Released], study_home: Path
) -> None:
    home = released["controlled"].folder
    for name in ("fusion_1", "audio_static"):
        data, own = load.training_set(name, home=home), load.training_set(name, home=study_home)
        assert len(data) == len(own) > 0
        for key, values in data.inputs.items():
            mine = np.asarray(own.inputs[key]).reshape(len(own), -1)
            theirs = np.asarray(values).reshape(len(data), -1)
            assert sorted(r.tobytes() for r in mine) == sorted(r.tobytes() for r in theirs)
    assert len(load.faces(home=home)) == PATIENTS * 12


def test_what_a_release_withholds_is_a_clear_error(released: dict[str, Released]) -> None:
    home = released["registered"].folder
    with pytest.raises(WarehouseError, match=r"does not have faces\.crop; withheld\.csv"):
        load.training_set("fusion_1", home=home)
    with pytest.raises(WarehouseError, match=r"mel_spectrograms\.mel"):
        load.spectrograms(home=home)
    assert load.table("videos", home=home)["file"].isna().all()
    with pytest.raises(WarehouseError, match="for reading only"), load.warehouse(home).write():
        pass


def test_withheld_sex_and_skin_are_unknown_to_a_model_not_male_and_light(release: Make) -> None:
    data = load.training_set("forest_pain", home=release("registered", k=7).folder)
    frame = data.to_pandas()
    assert set(frame["sex_female"]) == set(frame["skin_dark"]) == {0.5}


@pytest.mark.parametrize("missing", NEEDED)
def test_a_missing_fact_stops_the_release_and_is_named(release: Make, tmp_path: Path, missing: str) -> None:
    with pytest.raises(ReleaseError, match=f"set ISS_RELEASE__{missing.upper()}$"):
        release("registered", to=tmp_path / "out", **{missing: ""})
    assert not list(tmp_path.iterdir())


def test_an_empty_value_in_the_metadata_stops_the_release_and_is_named() -> None:
    assert json.loads(as_json({"a": [1, False, 0]})) == {"a": [1, False, 0]}
    values: tuple[dict[str, Any], ...] = (
        {"a": {"b": ""}},
        {"a": {"b": None}},
        {"a": {"b": []}},
        {"a": {"b": {}}},
    )
    for empty in values:
        with pytest.raises(ReleaseError, match="/a/b"):
            as_json(empty)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_release_from_a_shared_warehouse_has_the_bytes_of_one_from_a_file(
    release: Make,
    released: dict[str, Released],
    study_home: Path,
    tmp_path: Path,
    shared: WarehouseSettings,
) -> None:
    home = tmp_path / "elsewhere"
    shutil.copytree(study_home, home)
    settings = Settings(home=home)
    assert settings.warehouse.catalog == shared.catalog
    move_to_shared(settings)
    assert not settings.warehouse_path.exists()
    for tier, wanted in released.items():
        assert files(release(tier, home=home).folder) == files(wanted.folder), tier
    assert not work_folder(home).exists()


@pytest.mark.parametrize("missing", ["recipient", "purpose", "agreement"])
def test_a_controlled_release_needs_a_recipient_a_purpose_and_an_agreement(
    study_home: Path, tmp_path: Path, missing: str
) -> None:
    settings = Settings(study=tmp_path / "study", home=study_home, release=ReleaseSettings(**FACTS, k=3))
    answers = {"recipient": "r", "purpose": "p", "agreement": "a"} | {missing: " "}
    with pytest.raises(ReleaseError, match=f"needs {missing}$"):
        make_release(
            settings,
            Warehouse(settings.warehouse_path),
            Request(Tier.controlled, tmp_path / "o", **answers),
            "t",
        )
    assert not list(tmp_path.iterdir())


def test_on_a_terminal_the_controlled_tier_asks_for_what_was_not_said_and_records_the_answers(
    study_home: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(study_home, home)
    facts = {f"ISS_RELEASE__{name.upper()}": value for name, value in {**FACTS, "k": "3"}.items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ISS_")}
    command = [
        sys.executable, "-m", "iss_assets.cli", "release", "--tier", "controlled", "--to", str(tmp_path / "out"),
        "--agreement", "A7", "--home", str(home),
    ]  # fmt: skip
    terminal, ours = pty.openpty()
    with subprocess.Popen(
        command,
        env=environment | facts,
        stdin=ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as release:
        os.close(ours)
        os.write(terminal, b"Dr. Asked\nfinding pain\n")
        said, _ = release.communicate(timeout=300)
    os.close(terminal)
    assert release.returncode == 0, said
    assert "Who gets the data (name and institution)" in said and "What for" in said
    assert "Number of the agreement" not in said
    detail = list(AuditLog(home / "audit.jsonl").lines())[-1].detail
    assert (detail["recipient"], detail["purpose"], detail["agreement"]) == (
        "Dr. Asked",
        "finding pain",
        "A7",
    )
    # nobody can be asked by a pipe
    refused = subprocess.run(
        [*command[:-4], *command[-2:]], env=environment | facts, input="Dr. Asked\nfinding pain\nA7\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2 and "needs recipient" in refused.stderr


def test_a_release_is_recorded_with_recipient_agreement_and_the_manifest_s_checksum(
    released: dict[str, Released], study_home: Path
) -> None:
    log = AuditLog(study_home / "audit.jsonl")
    lines = [
        line for line in log.lines() if line.action == "released" and line.detail["tier"] == "controlled"
    ]
    detail = lines[0].detail
    assert (detail["recipient"], detail["purpose"], detail["agreement"]) == ("Dr. Invented", "testing", "A1")
    manifest = released["controlled"].folder / CHECKSUMS
    assert detail["sha256"] == {CHECKSUMS: hashlib.sha256(manifest.read_bytes()).hexdigest()}
    assert not log.verify().problems


def test_a_folder_with_something_in_it_and_the_home_are_refused(
    release: Make, study_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ReleaseError, match="'mine' is there already"):
        release("open", to=tmp_path / "mine")
    with pytest.raises(ReleaseError, match="lies in the home"):
        release("open", to=study_home / "out")
    with pytest.raises(ReleaseError, match="no folder 'nowhere'"):
        release("open", to=tmp_path / "nowhere" / "out")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    # an empty folder is as good as a new one
    (tmp_path / "empty").mkdir()
    assert (release("open", to=tmp_path / "empty").folder / "README.md").is_file()


def test_patients_without_consent_for_the_scope_are_left_out(
    release: Make, study_home: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(study_home, home)
    warehouse = Warehouse(home / "warehouse.duckdb")
    ids = warehouse.query("select patient_id from patients order by all")["patient_id"].to_pylist()
    with warehouse.write() as writer:
        consents(writer, ids)
    registered, controlled = release("registered", home=home), release("controlled", home=home)
    assert registered.description.sharing.left_out == 3
    assert controlled.description.sharing.left_out == 4
    everyone = set(read(release("registered").folder)["patients"]["patient_id"].to_pylist())
    for made, kept in ((registered, PATIENTS - 3), (controlled, PATIENTS - 4)):
        tables = read(made.folder)
        own = set(tables["patients"]["patient_id"].to_pylist())
        assert len(own) == kept and own < everyone
        for name, rows in tables.items():
            if "patient_id" in rows.column_names:
                assert set(rows["patient_id"].to_pylist()) <= own, name
        # figures over all patients are figures about those who said no
        assert not {"confusion_counts", "subgroup_results"} & tables.keys()
    assert f"{PATIENTS - kept} patients without consent" in (controlled.folder / "README.md").read_text()


@pytest.mark.parametrize("tier", ["registered", "controlled"])
@pytest.mark.parametrize("asked", [True, False])
def test_who_withdrew_from_sharing_is_in_no_release_whatever_consent_csv_says(
    release: Make, study_home: Path, tmp_path: Path, tier: str, asked: bool
) -> None:
    home = tmp_path / "home"
    shutil.copytree(study_home, home)
    warehouse = Warehouse(home / "warehouse.duckdb")
    ids = warehouse.query("select patient_id from patients order by all")["patient_id"].to_pylist()
    if asked:
        with warehouse.write() as writer:
            rows = [
                {"patient_id": patient, "scope": scope, "state": "given", "given_on": date(2021, 1, 1),
                 "withdrawn_on": None, "unclear": False}
                for patient in ids for scope in ("research", "share_features", "share_media")
            ]  # fmt: skip
            writer.replace(Consent, Consent.check_rows(Consent.from_rows(rows)), {})
    before = read(release(tier, home=home).folder)
    write_withdrawn(home, with_key(home).adding(ids[5], withdrawn.Scope.SHARING, [], []))
    made = release(tier, home=home)
    tables = read(made.folder)
    pseudonym = Pseudonyms(release_key(Settings(home=home).release_key_path), "A1").patient(ids[5])
    assert pseudonym in before["patients"]["patient_id"].to_pylist()
    assert tables["patients"].num_rows == before["patients"].num_rows - 1 == PATIENTS - 1
    for name, found in tables.items():
        for column in set(found.column_names) & {"patient_id", "train_patients", "test_patients"}:
            assert pseudonym not in str(found[column].to_pylist()), name
    # figures over all patients would still include who said no
    assert not {"confusion_counts", "subgroup_results"} & tables.keys()
    assert made.description.sharing.left_out == 1
    assert "sharing" in (made.folder / "withheld.csv").read_text()


def consents(writer: Writer, ids: list[str]) -> None:
    """Two never consented to share anything, one withdrew, one shares features only; everyone else shares all."""
    rows = [
        {
            "patient_id": patient,
            "scope": scope,
            "state": "withdrawn" if number == 0 else "given",
            "given_on": date(2021, 1, 1),
            "withdrawn_on": date(2021, 5, 1) if number == 0 else None,
            "unclear": False,
        }
        for number, patient in enumerate(ids[2:])
        for scope in ("share_features", "share_media")
        if (number, scope) != (1, "share_media")
    ]
    writer.replace(Consent, Consent.check_rows(Consent.from_rows(rows)), {})


def test_without_consents_the_release_says_that_nobody_was_asked(released: dict[str, Released]) -> None:
    assert "The study has no consent table" in (released["open"].folder / "README.md").read_text()


def test_a_damaged_key_is_an_error_and_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "release.key"
    key = release_key(path)
    assert release_key(path) == key and len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(key[:-1])
    with pytest.raises(KeyFileError, match="31 bytes"):
        release_key(path)
    assert path.read_bytes() == key[:-1]


KILLED = """
import json, os, signal, sys
from pathlib import Path
from iss_assets.privacy.release.columns import Tier
from iss_assets.privacy.release.make import Request, make_release
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse

place, settings = Path(sys.argv[1]), Settings()

def release(point):
    def progress(step):
        if step == point:
            os.kill(os.getpid(), signal.SIGKILL)
    request = Request(Tier.controlled, place / "out", "A1", "Dr. Invented", "testing")
    make_release(settings, Warehouse(settings.warehouse_path), request, "tester", progress)

for point in sys.argv[2:]:
    child = os.fork()  # the libraries are loaded once
    if not child:
        release(point)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    copies = [str(p) for p in settings.home.rglob("*") if ".duckdb" in p.name and p.parent != settings.home]
    found = {"signal": os.WTERMSIG(status), "there": sorted(os.listdir(place)), "copies": copies}
    print(json.dumps(found), flush=True)
"""


POINTS = (
    "prepare",
    "patients",
    "faces",
    "mel_spectrograms",
    "recognition",
    "data dictionary",
    "RO-Crate",
    "checksums",
    "record",
    "move into place",
)


@pytest.mark.slow
def test_a_copy_that_a_killed_release_left_is_removed_by_the_next_command_but_not_from_one_at_work(
    study_home: Path, tmp_path: Path
) -> None:
    home, place = tmp_path / "home", tmp_path / "place"
    shutil.copytree(study_home, home)
    place.mkdir()
    iss = Iss(
        tmp_path / "study", home, {f"ISS_RELEASE__{n.upper()}": v for n, v in {**FACTS, "k": "3"}.items()}
    )
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(place), "open the copy"],
        env=iss.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    (found,) = map(json.loads, done.stdout.splitlines())
    # killed in the one moment in which the copy has a name
    assert found["signal"] == signal.SIGKILL and found["copies"]
    settings = Settings(study=tmp_path / "study", home=home)
    with one_release_at_a_time(home, 1):
        prepare_home(settings)
        assert work_folder(home).exists()
    prepare_home(settings)
    assert not work_folder(home).exists()


@pytest.mark.slow
@pytest.mark.thorough
def test_killed_at_any_of_ten_points_there_is_no_half_release_and_the_next_one_cleans_up(
    release: Make, released: dict[str, Released], study_home: Path, tmp_path: Path
) -> None:
    home, place = tmp_path / "home", tmp_path / "place"
    shutil.copytree(study_home, home)
    place.mkdir()
    values = {f"ISS_RELEASE__{n.upper()}": v for n, v in {**FACTS, "k": "3"}.items()}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(place), *POINTS],
        env=Iss(tmp_path / "study", home, values).environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [f["signal"] for f in found] == [signal.SIGKILL] * 10
    # no release under its name, and nothing beside it but what was to be released
    assert {name for f in found for name in f["there"]} == {".out.unfinished"}
    # no copy of the warehouse, which identifies patients, anywhere
    assert not [f["copies"] for f in found if f["copies"]]
    final = release("controlled", home=home, to=place / "out")
    assert files(final.folder) == files(released["controlled"].folder)
    assert [p.name for p in place.iterdir()] == ["out"]
    assert not (home / "release-work").exists()
    assert not AuditLog(home / "audit.jsonl").verify().problems


def test_the_command_says_what_was_released_and_asks_for_what_is_missing(
    study_home: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(study_home, home)
    facts = {f"ISS_RELEASE__{n.upper()}": v for n, v in {**FACTS, "k": "3"}.items()}
    iss = Iss(tmp_path / "study", home, facts, here=True)
    process = Iss(tmp_path / "study", home, facts)
    said = process.ok("release", "--tier", "registered", "--to", str(tmp_path / "out"), "--agreement", "A1")
    assert f"patients.parquet: {PATIENTS} rows" in said
    assert "From audio features of whole videos" in said
    assert "no consent table" in said
    refused = iss("release", "--tier", "controlled", "--to", str(tmp_path / "more"))
    assert refused.returncode == 2
    assert refused.stderr.strip().endswith("a controlled release needs recipient and purpose and agreement")
    bare = Iss(tmp_path / "study", home, here=True)(
        "release", "--tier", "open", "--to", str(tmp_path / "more")
    )
    assert bare.returncode == 2 and "ISS_RELEASE__LICENSE" in bare.stderr
    assert not (tmp_path / "more").exists()
    assert "released" in iss.ok("audit")
    # whoever has to ask the recipient to delete a patient's rows learns their pseudonym
    own = (
        Warehouse(home / "warehouse.duckdb")
        .query("select min(patient_id) as p from patients")["p"][0]
        .as_py()
    )
    printed = iss.ok("pseudonym", own, "--agreement", "A1").strip()
    assert printed in read(tmp_path / "out")["patients"]["patient_id"].to_pylist()
    assert iss.ok("pseudonym", own, "--agreement", "A2").strip() != printed
    assert "not a patient id" in iss("pseudonym", "../x", "--agreement", "A1").stderr
    unreleased = Iss(tmp_path / "study", tmp_path / "new", here=True)("pseudonym", own, "--agreement", "A1")
    assert unreleased.returncode == 2 and "nothing was released" in unreleased.stderr
    assert not (tmp_path / "new").exists()
