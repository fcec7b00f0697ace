"""`iss export --with-media` says whose faces and voices leave the home without consent."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from iss_assets.cli.main import app
from iss_assets.intake.withdrawn import Scope, with_key, write_withdrawn
from iss_assets.protocol import consent
from iss_assets.protocol.consent import ConsentState
from iss_assets.schemas.intake import Consent
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.made_up import paper_study_in


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    paper_study_in(tmp_path / "home" / "warehouse.duckdb")
    return tmp_path / "home"


def export(home: Path, *more: str) -> str:
    arguments = ["export", "--to", str(home / "out"), "--tables", "patients", "--home", str(home), *more]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stderr


def test_it_warns_where_nothing_is_known_and_where_some_have_not_agreed(home: Path) -> None:
    assert "Warning" not in export(home)
    assert "nothing is known of the patients' consent" in export(home, "--with-media")

    rows = [
        {
            "patient_id": f"{n:04d}",
            "scope": consent.Scope.SHARE_MEDIA,
            "state": ConsentState.GIVEN,
            "unclear": False,
        }
        for n in range(1, 31)
    ]
    rows[6] |= {"state": ConsentState.WITHDRAWN, "withdrawn_on": date(2021, 5, 6)}
    store = Warehouse(home / "warehouse.duckdb")
    store.replace(Consent, Consent.from_rows(rows[:29]), {})
    said = export(home, "--with-media")
    assert "2 patients without consent to sharing them: 0007, 0030." in said
    assert "Warning" not in export(home)
    # whose faces are not in the files is not warned of
    write_withdrawn(home, with_key(home).adding("0007", Scope.SHARING, [], []))
    said = export(home, "--with-media")
    assert "1 patient without consent to sharing them: 0030." in said and "0007" not in said
    write_withdrawn(home, with_key(home).adding("0030", Scope.SHARING, [], []))
    assert export(home, "--with-media") == ""
    (home / "withdrawals" / "register.json").unlink()

    rows[6] |= {"state": ConsentState.GIVEN}
    store.replace(Consent, Consent.from_rows(rows), {})
    assert export(home, "--with-media") == ""
