"""The installed version, also where an earlier one was built in the folder that a process is started in."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from iss_assets.version import installed_version


def test_an_earlier_build_in_the_current_folder_changes_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = installed_version()
    built = tmp_path / "iss_assets.egg-info"
    built.mkdir()
    (built / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: iss-assets\nVersion: 0.0.7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert metadata.version("iss-assets") == "0.0.7"
    assert installed_version() == installed != "0.0.7"
