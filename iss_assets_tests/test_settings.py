"""Settings: what a home of an earlier version may still say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from iss_assets.settings import CheckInSettings, EvaluationSettings, FaceSettings, Settings


def test_a_home_that_still_sets_the_device_of_face_detection_loads_with_one_clear_warning(
    tmp_path: Path,
) -> None:
    (tmp_path / "iss.toml").write_text('[faces]\ndevice = "cuda"\nmargin = 4\n')
    code = "from iss_assets.settings import Settings; Settings(); print(Settings().faces.margin)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"ISS_HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "4", done.stderr
    assert done.stderr.count("ISS_FACES__DEVICE is ignored") == 1


def test_a_retired_setting_changes_no_fingerprint() -> None:
    assert FaceSettings.model_validate({"device": "auto"}).digest() == FaceSettings().digest()


def test_an_unknown_setting_is_still_refused() -> None:
    with pytest.raises(ValidationError, match="devise"):
        FaceSettings.model_validate({"devise": "cuda"})


def test_secrets_come_from_files_named_as_the_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets, home = tmp_path / "secrets", tmp_path / "home"
    # Kubernetes links each file to a hidden folder, so that all of them change at once
    (secrets / "..2026").mkdir(parents=True)
    home.mkdir()
    (secrets / "..2026" / "ISS_SERVER__OIDC_CLIENT_SECRET").write_text("from the file\n")
    (secrets / "ISS_SERVER__OIDC_CLIENT_SECRET").symlink_to("..2026/ISS_SERVER__OIDC_CLIENT_SECRET")
    (secrets / "ISS_SERVER__PORT").write_text("4001")
    (secrets / "pg_service.conf").write_text("[iss]\npassword=another program's\n")
    (home / "iss.toml").write_text(
        '[server]\noidc_client_secret = "from iss.toml"\nport = 4002\nsession_hours = 3\n'
    )
    monkeypatch.setenv("ISS_HOME", str(home))
    monkeypatch.setenv("ISS_SECRETS", str(secrets))

    server = Settings().server
    assert server.oidc_client_secret is not None
    assert server.oidc_client_secret.get_secret_value() == "from the file"
    assert (server.port, server.session_hours) == (4001, 3)
    monkeypatch.setenv("ISS_SERVER__PORT", "4003")
    assert Settings().server.port == 4003
    monkeypatch.delenv("ISS_SECRETS")
    secret = Settings().server.oidc_client_secret
    assert secret is not None and secret.get_secret_value() == "from iss.toml"


def test_a_folder_of_secrets_that_is_not_there_is_an_error_and_not_a_system_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_SECRETS", str(tmp_path / "not mounted"))
    with pytest.raises(SettingsError, match="not mounted"):
        Settings()


@pytest.mark.parametrize(
    ("section", "given", "words"),
    [
        (CheckInSettings, {"targets": ("pain_now", "pain_now")}, "targets names one target or several different"),
        (CheckInSettings, {"targets": ()}, "targets names one target or several different"),
        (CheckInSettings, {"calibration": (1, 1)}, "calibration names different numbers"),
        (EvaluationSettings, {"stability_seeds": (3, 1, 3)}, "stability_seeds names different seeds"),
    ],
)  # fmt: skip
def test_what_is_computed_for_each_of_several_values_is_not_computed_twice_for_one(
    section: type[CheckInSettings] | type[EvaluationSettings],
    given: dict[str, tuple[object, ...]],
    words: str,
) -> None:
    with pytest.raises(ValidationError, match=words):
        section.model_validate(given)
    assert section.model_validate({name: values[-1:] or ("sleep",) for name, values in given.items()})
