"""`iss run` on a home that is encrypted from the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from iss_assets.settings import WarehouseSettings
from iss_assets.synthetic.sample import write_sample_study
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.engine import is_encrypted
from iss_assets.warehouse.keys import new_key, write_key
from iss_assets_tests.cli.processes import Iss

PIECE = slice(600, 640)
"""Part of a crop or waveform, after its header."""


@pytest.mark.slow
@pytest.mark.thorough
def test_a_run_leaves_no_crop_and_no_sound_in_the_clear_and_the_same_rows(tmp_path: Path) -> None:
    write_sample_study(tmp_path / "study", patients=1, seconds=4.5, submissions_per_patient=1)
    write_key(tmp_path / "key", new_key())
    quick = {"ISS_RUN__WORKERS": "1"}
    keyed = {**quick, "ISS_WAREHOUSE__KEY_FILE": str(tmp_path / "key")}
    rows = {}
    for name, settings in (("plain", quick), ("encrypted", keyed)):
        home = tmp_path / name
        # the encrypted one with the command and its worker as processes
        iss = Iss(tmp_path / "study", home, settings, here=name == "plain")
        assert " 0 failed" in iss.ok("run", "--no-models")
        key_file = tmp_path / "key" if name == "encrypted" else None
        warehouse = Warehouse(home / "warehouse.duckdb", WarehouseSettings(key_file=key_file))
        assert is_encrypted(warehouse.path) is (name == "encrypted")
        crops = warehouse.query("select crop from faces order by frame_index")["crop"].to_pylist()
        (sound,) = warehouse.query("select waveform from audio")["waveform"].to_pylist()
        rows[name] = crops, sound, warehouse.query("select * from landmarks order by frame_index").num_rows
        pieces = [piece[PIECE] for piece in (*crops, sound)]
        assert len(set(pieces)) == len(pieces) > 20
        files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
        in_the_clear = sum(any(piece in content for content in files) for piece in pieces)
        assert in_the_clear == (0 if name == "encrypted" else len(pieces))
        assert not list((home / "spool").rglob("*.arrow"))
    assert rows["plain"] == rows["encrypted"]
