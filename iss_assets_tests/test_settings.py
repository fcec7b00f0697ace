"""Settings: what a home of an earlier version may still say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from iss_assets.settings import FaceSettings


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
