"""What was said is in the tables of words, and nowhere else."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from iss_assets.features.prompts import comparable_words
from iss_assets.features.words.measure import words_of_waveform
from iss_assets.media.errors import BrokenFile
from iss_assets.media.isolation import Guard
from iss_assets.media.journal import Journal, Reading
from iss_assets.privacy.release.columns import Kind, Tier, columns_of, kind_of, tables_of
from iss_assets.protocol.recordings import recording_of
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import WarehouseSettings, WordSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.export import WORDS, export_tables, exportable_tables
from iss_assets.warehouse.keys import new_key, write_key
from iss_assets_tests.cli.processes import Iss
from iss_assets_tests.features.words.speech import RATE, flac, needs_speech, say
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER
from iss_assets_tests.media.sounds import write_media
from iss_assets_tests.privacy.test_withdrawal import everything_in

pytestmark = needs_speech

TOLD = "My name is Josephine. The pelican has eaten the crocodile, and my shoulder hurts."
MARKERS = ("pelican", "crocodile", "Josephine")
WITH_WORDS = ("transcripts", "transcript_words")
ON = {"ISS_RUN__WORKERS": "1", "ISS_WORDS__ENABLED": "true"}


def write_study(folder: Path) -> None:
    """Write a study of two patients who say the same."""
    enrollment = [ENROLLMENT_HEADER]
    surveys = [SURVEY_HEADER]
    for patient in ("0001", "0002"):
        enrollment.append(f"{patient},1A,M,II,0,2021-01-04,-05:00")
        surveys.append(f"{patient}-01,{patient},2021-02-01T09:00:00-05:00,home,0,no,0,0,0,0,0,0,0")
        videos = folder / "videos" / patient
        videos.mkdir(parents=True)
        # not the same file twice
        level = 0.8 if patient == "0001" else 0.7
        write_media(
            videos / f"{patient}-01.mp4", say(TOLD) * np.float32(level), RATE, video_s=len(say(TOLD)) / RATE
        )
    (folder / "enrollment.csv").write_text("\n".join(enrollment) + "\n")
    (folder / "surveys.csv").write_text("\n".join(surveys) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iss:
    """A study that was run with everything on, also through the pages."""
    root = tmp_path_factory.mktemp("told")
    write_study(root / "study")
    iss = Iss(root / "study", root / "home", ON, here=True)
    assert " 0 failed" in iss.ok("run", "--no-models")
    return iss


@pytest.fixture(scope="module")
def warehouse(run: Iss) -> Warehouse:
    return Warehouse(run.home / "warehouse.duckdb")


@pytest.mark.slow
def test_what_was_said_is_in_the_tables_of_words_and_nowhere_else(run: Iss, warehouse: Warehouse) -> None:
    texts = warehouse.query("select text from transcripts order by video_id")["text"].to_pylist()
    assert [comparable_words(text, "en") for text in texts] == [comparable_words(TOLD, "en")] * 2
    # before SQLite's files are opened, which removes some of them
    others = [p for p in run.home.rglob("*") if p.is_file() and p.name != "warehouse.duckdb"]
    assert len(others) > 10
    assert not [p for p in others if any(m.encode() in p.read_bytes() for m in MARKERS)]
    found = {
        where for where, text in everything_in(run.home) if any(m.lower() in text.lower() for m in MARKERS)
    }
    assert found == {f"warehouse.duckdb {table}" for table in WITH_WORDS}


@pytest.mark.slow
def test_commands_that_tell_of_the_study_tell_no_word(run: Iss) -> None:
    for command in (["status"], ["quality", "--format", "json"]):
        done = run(*command)
        assert not [m for m in MARKERS if m.lower() in (done.stdout + done.stderr).lower()], command


@pytest.mark.slow
def test_no_export_has_words(warehouse: Warehouse, tmp_path: Path) -> None:
    names = exportable_tables(warehouse)
    assert {*WITH_WORDS, "transcript_spans", "text_features"} <= {*names}
    parquet = export_tables(warehouse, names, "parquet", tmp_path / "parquet", with_media=True)
    export_tables(warehouse, names, "csv", tmp_path / "csv")
    left_out = {table.path.stem: table.left_out for table in parquet}
    assert {table: left_out[table] for table in WORDS} == WORDS
    for path in (tmp_path / "parquet").glob("*.parquet"):
        text = str(pq.read_table(path).to_pydict())
        assert not [m for m in MARKERS if m in text], path.name
    for path in (tmp_path / "csv").iterdir():
        text = path.read_text("utf-8-sig")
        assert not [m for m in MARKERS if m in text], path.name


def test_only_the_controlled_tier_has_words() -> None:
    for tier, has in ((Tier.open, False), (Tier.registered, False), (Tier.controlled, True)):
        given = {
            (recording_of(table.__table__)[1], column.name)
            for table in tables_of(tier, landmarks=True)
            for column in columns_of(table, tier, landmarks=True)
            if kind_of(table.__table__, column.name) is Kind.WORDS
        }
        assert given == ({(t, c) for t, columns in WORDS.items() for c in columns} if has else set())
    embeddings = {
        c.name for c in BY_NAME["text_features"].columns() if kind_of("text_features", c.name) is Kind.WORDS
    }
    assert embeddings == {"embedding"}


@pytest.mark.slow
@pytest.mark.thorough
def test_an_encrypted_home_has_no_word_in_the_clear(run: Iss, tmp_path: Path) -> None:
    write_key(tmp_path / "key", new_key())
    keyed_settings = {**ON, "ISS_WAREHOUSE__KEY_FILE": str(tmp_path / "key")}
    iss = Iss(run.study, tmp_path / "home", keyed_settings, here=True)
    assert " 0 failed" in iss.ok("run", "--no-models", "--patient", "0001")
    keyed = Warehouse(iss.home / "warehouse.duckdb", WarehouseSettings(key_file=tmp_path / "key"))
    assert "pelican" in keyed.query("select text from transcripts limit 1")["text"][0].as_py()
    assert files_with_markers(iss.home) == []
    assert files_with_markers(run.home) == ["warehouse.duckdb"]


def files_with_markers(home: Path) -> list[str]:
    files = sorted(p for p in home.rglob("*") if p.is_file())
    return [p.name for p in files if any(m.encode() in p.read_bytes() for m in MARKERS)]


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["all", "media"])
def test_a_withdrawal_removes_every_word(run: Iss, tmp_path: Path, scope: str) -> None:
    shutil.copytree(run.home, tmp_path / "home")
    iss = Iss(run.study, tmp_path / "home", ON, here=True)
    with Warehouse(iss.home / "warehouse.duckdb").write() as writer:
        # the other patient said something else
        writer.execute("update transcripts set text = 'It hurts.' where patient_id = '0002'")
        writer.execute("update transcript_words set word = 'hurts' where patient_id = '0002'")
    assert files_with_markers(iss.home)
    iss.ok("withdraw", "0001", "--reason", "asked", "--yes", "--scope", scope)
    left = Warehouse(iss.home / "warehouse.duckdb")
    for table in WORDS:
        assert set(left.query(f"select patient_id from {table}")["patient_id"].to_pylist()) <= {"0002"}
    assert left.query("select text from transcripts")["text"].to_pylist() == ["It hurts."]
    assert files_with_markers(iss.home) == []


def test_an_error_about_words_tells_none_of_them(tmp_path: Path) -> None:
    lines: list[str] = []
    reading = Reading("0001", "0001-01", "words", "a" * 64, 60.0)
    with (
        Guard(Journal(tmp_path / "reading"), "0001", 4.0, log=lines.append) as guard,
        pytest.raises(BrokenFile) as caught,
    ):
        guard.attempt(reading, fail_with_words)
    told = " ".join([str(caught.value), *lines])
    assert "ValueError" in told and "fail_with_words" in told
    assert not [m for m in MARKERS if m in told]


def fail_with_words() -> None:
    raise ValueError(f"cannot parse {TOLD}")


def test_no_connection_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    transcript, _ = words_of_waveform(flac(say(TOLD)), WordSettings())
    assert "pelican" in transcript.text
