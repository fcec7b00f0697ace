"""Accounts and the audit log from the command line, as processes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from iss_assets.privacy.audit import AuditLog
from iss_assets.server.accounts import Accounts, Role
from iss_assets.warehouse.database import Warehouse


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    Warehouse(home / "warehouse.duckdb").create()
    return home


def iss(home: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "iss_assets.cli", *arguments, "--home", str(home)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=os.environ)


def test_accounts_are_made_changed_and_removed_and_no_password_is_kept(home: Path) -> None:
    made = iss(home, "user", "add", "maria", "--role", "coordinator", stdin="correct horse battery\n")
    assert made.returncode == 0, made.stderr
    accounts = Accounts(home / "accounts.json")
    found = accounts.check("maria", "correct horse battery")
    assert found is not None and found.role is Role.COORDINATOR
    assert accounts.check("maria", "Correct horse battery") is None
    assert json.loads(iss(home, "user", "list", "--format", "json").stdout)[0]["role"] == "coordinator"
    assert iss(home, "user", "passwd", "maria", stdin="another long password\n").returncode == 0
    assert accounts.check("maria", "correct horse battery") is None
    assert iss(home, "user", "remove", "maria").returncode == 0
    assert accounts.all() == {}
    log = AuditLog(home / "audit.jsonl")
    assert [line.action for line in log.lines()] == ["account_added", "password_changed", "account_removed"]
    everything = b"".join(path.read_bytes() for path in home.iterdir() if path.is_file())
    assert b"horse" not in everything and b"another long" not in everything
    assert (home / "accounts.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (("user", "add", "maria", "--role", "researcher"), "short\n", "at least 12"),
        (("user", "add", "Maria Example", "--role", "researcher"), "long enough password\n", "begins with"),
        (("user", "add", "../etc", "--role", "researcher"), "long enough password\n", "begins with"),
        (("user", "remove", "nobody"), "", "no account nobody"),
        (("user", "passwd", "nobody"), "long enough password\n", "no account nobody"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    home: Path, arguments: tuple[str, ...], stdin: str, said: str
) -> None:
    found = iss(home, *arguments, stdin=stdin)
    assert found.returncode == 2 and said in found.stderr and found.stderr.count("\n") == 1
    assert not (home / "accounts.json").exists() or Accounts(home / "accounts.json").all() == {}


def test_copies_that_leave_the_home_are_recorded_with_checksums(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    assert iss(home, "snapshot", str(copy), "--purpose", "figures").returncode == 0
    exported = iss(home, "export", "--to", str(tmp_path / "out"), "--tables", "videos", "--purpose", "paper")
    assert exported.returncode == 0, exported.stderr
    assert iss(home, "sql", "select count(*) as n from videos").returncode == 0
    assert iss(home, "audit", "verify").returncode == 0
    log = AuditLog(home / "audit.jsonl")
    lines = list(log.lines())
    assert [line.action for line in lines] == [
        "snapshot_begun", "snapshot_taken", "export_begun", "exported", "queried",
    ]  # fmt: skip
    assert lines[1].detail["sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
    assert lines[1].detail["purpose"] == "figures" and lines[1].detail["to"] == str(copy)
    (name,) = lines[3].detail["sha256"]
    assert (
        lines[3].detail["sha256"][name] == hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()
    )
    assert lines[4].detail["query"] == "select count(*) as n from videos"
    shown = json.loads(iss(home, "audit", "--format", "json").stdout)
    assert [row["number"] for row in shown] == [1, 2, 3, 4, 5] and shown[0]["who"].startswith("system:")
    text = (home / "audit.jsonl").read_text()
    (home / "audit.jsonl").write_text(text.replace("figures", "fitures"))
    broken = iss(home, "audit", "verify")
    assert broken.returncode == 1 and "line 1: changed" in broken.stderr
