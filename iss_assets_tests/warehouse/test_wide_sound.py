"""Spectrograms and sound of which 2,048 rows are more than the memory that DuckDB may use.

DuckDB reads up to 2,048 rows at a time, and so do rows that were written together: a patient's first videos, or all after
the home was encrypted.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from iss_assets import load
from iss_assets.datasets.items import _fetch
from iss_assets.privacy.release.columns import Tier
from iss_assets.privacy.release.pseudonyms import Pseudonyms
from iss_assets.privacy.release.tables import Release
from iss_assets.privacy.sharing import Sharing
from iss_assets.privacy.withdrawn_rows import traces_in
from iss_assets.schemas.audio import Audio, MelSpectrograms
from iss_assets.settings import ReleaseSettings, WarehouseSettings
from iss_assets.warehouse import engine
from iss_assets.warehouse.conversion import convert
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.export import export_tables
from iss_assets.warehouse.keys import Key
from iss_assets.warehouse.rewriting import rewrite
from iss_assets.warehouse.source_rows import StoredRows

VIDEOS = ("0001-01", "0001-02", "0002-01")
CHUNKS = 600
BANDS, STEPS = 128, 173
SOUND_BYTES = 60 * 2**20


def spectrograms(video: str) -> pa.Table:
    """Return spectrograms whose numbers tell which they are: 53 MB."""
    first = VIDEOS.index(video) * CHUNKS
    values = np.repeat(np.arange(first, first + CHUNKS, dtype=np.float32), BANDS * STEPS)
    bands = pa.ListArray.from_arrays(
        pa.array(np.arange(CHUNKS * BANDS + 1, dtype=np.int32) * STEPS), pa.array(values)
    )
    return pa.table(
        {
            "video_id": [video] * CHUNKS,
            "patient_id": [video[:4]] * CHUNKS,
            "chunk_index": pa.array(range(CHUNKS), pa.int32()),
            "steps": pa.array([STEPS] * CHUNKS, pa.int32()),
            "mel": pa.ListArray.from_arrays(pa.array(np.arange(CHUNKS + 1, dtype=np.int32) * BANDS), bands),
            "fingerprint": ["f"] * CHUNKS,
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("wide")
    warehouse = Warehouse(home / "warehouse.duckdb")
    with warehouse.write() as writer:
        for video in VIDEOS:
            writer.append(MelSpectrograms, spectrograms(video))
            sound = bytes((VIDEOS.index(video) + k) % 256 for k in range(256)) * (SOUND_BYTES // 256)
            writer.append(Audio, pa.Table.from_pylist([audio(video, sound)], schema=Audio.arrow_schema()))
    return home


def audio(video: str, sound: bytes) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for column in Audio.columns():
        values[column.name] = None if column.nullable else {"VARCHAR": "x", "BLOB": sound}.get(column.sql, 1)
    return (
        values
        | {"video_id": video, "patient_id": video[:4], "waveform": sound, "downmix": "mean"}
        | {
            "sample_rate": 22_050,
            "duration_s": len(sound) / 3 / 22_050,
        }
    )


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "default_threads", lambda: 1)


def numbers(rows: pa.Table) -> list[float]:
    """Return the one number that each spectrogram consists of."""
    found = []
    for mel in rows["mel"].combine_chunks():
        values = mel.values.flatten().to_numpy()
        assert len(values) == BANDS * STEPS and (values == values[0]).all()
        found.append(float(values[0]))
    return found


def test_they_are_exported(home: Path, tmp_path: Path) -> None:
    warehouse = Warehouse(home / "warehouse.duckdb")
    spectra, sound = export_tables(
        warehouse, ["mel_spectrograms", "audio"], "parquet", tmp_path, with_media=True
    )
    rows = parquet.read_table(spectra.path)
    assert rows.column_names == [c.name for c in MelSpectrograms.columns()]
    assert rows["video_id"].to_pylist() == [v for v in VIDEOS for _ in range(CHUNKS)]
    assert rows["patient_id"].to_pylist() == [v[:4] for v in VIDEOS for _ in range(CHUNKS)]
    assert rows["chunk_index"].to_pylist() == [*range(CHUNKS)] * len(VIDEOS)
    assert numbers(rows) == [*range(CHUNKS * len(VIDEOS))]
    rows = parquet.read_table(sound.path)
    assert [len(w.as_py()) for w in rows["waveform"]] == [SOUND_BYTES] * len(VIDEOS)


def test_they_are_released(home: Path, tmp_path: Path) -> None:
    names = Pseudonyms(b"key", "1")
    with Warehouse(home / "warehouse.duckdb").read(threads=1) as connection:
        release = Release(
            connection,
            Tier.controlled,
            ReleaseSettings(),
            names,
            Sharing(("0001", "0002"), (), False),
            cast(Any, None),
            {},
        )
        release.__dict__["_ids"] = frozenset(VIDEOS)
        for table in (MelSpectrograms, Audio):
            assert release.write(table, tmp_path) is not None
    rows = parquet.read_table(tmp_path / "mel_spectrograms.parquet")
    patients = sorted({v[:4] for v in VIDEOS}, key=names.patient)
    expected = [
        (names.patient(patient), names.submission(video), number)
        for patient in patients
        for video in sorted((v for v in VIDEOS if v[:4] == patient), key=names.submission)
        for number in range(VIDEOS.index(video) * CHUNKS, (VIDEOS.index(video) + 1) * CHUNKS)
    ]
    found = zip(rows["patient_id"].to_pylist(), rows["video_id"].to_pylist(), numbers(rows), strict=True)
    assert list(found) == expected
    sound = parquet.read_table(tmp_path / "audio.parquet")
    assert [w.as_py()[0] for w in sound["waveform"]] == [
        VIDEOS.index(v)
        for patient in patients
        for v in sorted((v for v in VIDEOS if v[:4] == patient), key=names.submission)
    ]


@pytest.mark.parametrize("patients", [None, ["0001"]])
def test_they_are_loaded(home: Path, patients: Sequence[str] | None) -> None:
    keys, mel = load.spectrograms(patients, home=home)
    videos = [v for v in VIDEOS if patients is None or v[:4] in patients]
    assert keys["video_id"].tolist() == [v for v in videos for _ in range(CHUNKS)]
    assert mel.shape == (len(videos) * CHUNKS, BANDS, STEPS)
    assert (mel == np.arange(len(mel), dtype=np.float32)[:, None, None]).all()


def test_training_reads_them(home: Path) -> None:
    items = range(3, CHUNKS, 7)
    chosen = pa.table(
        {
            "video_id": [v for v in reversed(VIDEOS) for _ in items],
            "item": pa.array([*items] * len(VIDEOS), pa.int32()),
        }
    )
    chosen = chosen.append_column("place", pa.array(np.arange(chosen.num_rows)))
    with Warehouse(home / "warehouse.duckdb").read() as connection:
        connection.register("_chosen", chosen)
        rows = _fetch(connection, "mel")
    assert numbers(rows) == [VIDEOS.index(v) * CHUNKS + i for v in reversed(VIDEOS) for i in items]


def all_numbers(warehouse: Warehouse) -> list[tuple[object, ...]]:
    """Return what tells whether every row is there, in the order of storage."""
    with warehouse.read() as connection:
        order: list[tuple[object, ...]] = connection.execute(
            "select video_id, chunk_index from mel_spectrograms"
        ).fetchall()
        order += connection.execute("select video_id, -1 from audio").fetchall()
        spectra = [
            connection.execute(
                "select mel[128][173] from mel_spectrograms where video_id = ? and chunk_index = 599", [video]
            ).fetchall()[0]
            for video in VIDEOS
        ]
    sounds = []
    for video in VIDEOS:
        sound = StoredRows(warehouse, video).of(Audio, ["waveform"])["waveform"][0].as_buffer()
        sounds.append((sound.size, sound[0], sound[1]))
    return [*order, *spectra, *sounds]


def test_a_home_with_them_is_encrypted_and_written_anew(home: Path, tmp_path: Path) -> None:
    """What was written together once is read together: each way of copying is tried on what another one has made."""
    copy = tmp_path / "warehouse.duckdb"
    copy.write_bytes((home / "warehouse.duckdb").read_bytes())
    (tmp_path / "spool").mkdir()
    plain = Warehouse(copy)
    before = all_numbers(plain)
    rewrite(plain)
    assert all_numbers(plain) == before
    key = tmp_path / "key"
    key.write_text(base64.b64encode(bytes(range(32))).decode() + "\n")
    key.chmod(0o600)
    secret = Warehouse(copy, WarehouseSettings(key_file=key))
    made = Key(key.read_text().strip())
    assert convert(plain, made).rows >= CHUNKS * len(VIDEOS)
    rewrite(secret)
    assert all_numbers(secret) == before


def test_what_a_patient_is_known_by_is_read_from_them(home: Path) -> None:
    found = traces_in(Warehouse(home / "warehouse.duckdb"), "0001")
    assert len(found.samples) == 2
