"""Keys: what is accepted, what is refused, and that no message shows one."""

from __future__ import annotations

import base64
import os
import pickle
import re
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.errors import KeyProblem
from iss_assets.warehouse.keys import Key, configured_key, forget_keys, new_key, read_key, write_key


def test_a_new_key_is_256_random_bits_in_a_file_of_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "key"
    key = new_key()
    write_key(file, key)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(file.read_text().strip(), validate=True)) == 32
    assert read_key(file) == key != new_key()
    with pytest.raises(FileExistsError):
        write_key(file, new_key())
    assert read_key(file) == key


def test_what_openssl_prints_is_a_key(tmp_path: Path) -> None:
    printed = subprocess.run(["openssl", "rand", "-base64", "32"], capture_output=True, check=True).stdout
    file = tmp_path / "key"
    file.write_bytes(printed)
    file.chmod(0o600)
    assert read_key(file).text == printed.decode().strip()


def test_a_key_is_in_no_representation(tmp_path: Path) -> None:
    key = new_key()
    assert key.text not in f"{key} {key!r} {[key]} {vars(WarehouseSettings(key_file=tmp_path / 'key'))}"
    assert pickle.loads(pickle.dumps(key)) == key


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a key"),
        (b"correct horse battery staple", "is not a key"),
        (base64.b64encode(os.urandom(16)), "is not a key"),
        (base64.b64encode(os.urandom(64)), "is not a key"),
        (new_key().text.encode() + b"\n" + new_key().text.encode(), "is not a key"),
        (base64.b64encode(b"correct horse battery staple 123"), "is not random"),
        (base64.b64encode(bytes(32)), "is not random"),
        (b"\xff" * 44, "is not a key"),
    ],
    # some are random, and names of tests have to be the same in every process
    ids=range(8),
)
def test_what_is_no_random_key_is_refused_without_showing_it(
    content: bytes, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(KeyProblem, match=f"key {says}") as caught:
        read_key(file)
    assert len(content) < 10 or content.decode("latin-1") not in str(caught.value)
    assert "iss key new" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622])
def test_a_key_file_that_others_can_reach_is_refused(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "key"
    write_key(file, new_key())
    file.chmod(mode)
    with pytest.raises(KeyProblem, match="others can read the key file key"):
        read_key(file)


def test_a_key_file_that_is_missing_or_no_file_is_named_without_its_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, says in (("nothing", "cannot be read"), ("pipe", "not a regular file"), (".", "regular")):
        with pytest.raises(KeyProblem, match=says) as caught:
            read_key(tmp_path / name)
        assert str(tmp_path.parent) not in str(caught.value)


def test_a_command_that_prints_the_key_is_run_once_and_without_a_shell(tmp_path: Path) -> None:
    key = new_key()
    program = tmp_path / "key store"
    program.write_text(f"#!/bin/sh\necho called >> '{tmp_path}/calls'\necho \"$1\" >&2\necho '{key.text}'\n")
    program.chmod(0o700)
    settings = WarehouseSettings(key_command=f"'{program}' ';touch x'")
    forget_keys()
    assert configured_key(settings) == configured_key(settings) == key
    assert (tmp_path / "calls").read_text() == "called\n" and not Path("x").exists()
    assert forget_keys() and not forget_keys()
    assert configured_key(settings) == key
    assert (tmp_path / "calls").read_text() == "called\n" * 2


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sh -c 'echo secret; exit 3'", "ended with status 3"),
        ("no-such-program", "cannot be run: No such file"),
        ("'", "is not a command"),
        ("", "is not a command"),
        ("echo secret", "what the key command prints is not a key"),
    ],
)
def test_a_command_that_fails_is_reported_without_what_it_printed(command: str, says: str) -> None:
    with pytest.raises(KeyProblem, match=re.escape(says)) as caught:
        configured_key(WarehouseSettings(key_command=command))
    assert "secret" not in str(caught.value) and caught.value.__context__ is None


def test_a_file_and_a_command_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        WarehouseSettings(key_file=tmp_path / "key", key_command="echo")
    assert configured_key(WarehouseSettings()) is None
    assert Key("x") != Key("y")
