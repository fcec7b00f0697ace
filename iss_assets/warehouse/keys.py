"""The key of an encrypted home: where it comes from, what it looks like, what is derived from it.

A key is 32 random bytes in base64 (44 characters, RFC 4648), on one line: what ``iss key new`` writes, and what
``openssl rand -base64 32`` prints. DuckDB gets this text, as a parameter and never as part of a statement; sealed files
(``sealing``) get keys of their own derived from the bytes. No message, log, or representation of an object shows it.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import shlex
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.errors import KeyProblem

KEY_BYTES: Final = 32
"""256 bits, for AES-256."""
_FEWEST_DIFFERENT: Final = 16
"""Of 32 random bytes 30 differ on average; fewer than 16 do not once in 10**15 keys."""
_COMMAND_TIMEOUT_S: Final = 60.0
_LONGEST_FILE: Final = 4096
_FORMAT: Final = (
    "a key is one line, 32 random bytes in base64 (44 characters); make one with: iss key new FILE"
)


@dataclass(frozen=True)
class Key:
    """A key; its representation does not show it.

    Attributes
    ----------
    text : str
        The key in base64, as DuckDB takes it.
    """

    text: str = field(repr=False)

    @property
    def raw(self) -> bytes:
        """The 32 bytes."""
        return base64.b64decode(self.text)


_from_commands: dict[str, Key] = {}
"""What key commands printed to this process: a key store may take a second, and a run opens the warehouse many times."""


def new_key() -> Key:
    """Return a new random key."""
    return Key(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())


def write_key(path: Path, key: Key) -> None:
    """Write a key to a new file that only its owner can read.

    Raises
    ------
    FileExistsError
        If the file exists; it may be the only copy of a key in use.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, f"{key.text}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def configured_key(settings: WarehouseSettings) -> Key | None:
    """Return the key that the settings name, None if they name none.

    Raises
    ------
    KeyProblem
        If it cannot be had, is not a key, or others can read its file.
    """
    if settings.key_file is not None:
        return read_key(settings.key_file)
    if settings.key_command is not None:
        command = settings.key_command
        if command not in _from_commands:
            _from_commands[command] = run_key_command(command)
        return _from_commands[command]
    return None


def forget_keys() -> bool:
    """Ask key commands again from now on; return whether any had been asked."""
    known = bool(_from_commands)
    _from_commands.clear()
    return known


def read_key(path: Path) -> Key:
    """Read a key file.

    Raises
    ------
    KeyProblem
        If it cannot be read, others can read it, or it does not hold a key.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyProblem(f"the key file {path.name} cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise KeyProblem(f"the key file {path.name} is not a regular file")
        if status.st_mode & 0o077:
            raise KeyProblem(
                f"others can read the key file {path.name}: if nobody has, chmod 600 {path.name}; otherwise replace "
                "the key with: iss rekey"
            )
        if status.st_uid not in (0, os.geteuid()):
            raise KeyProblem(f"the key file {path.name} belongs to another user")
        content = os.read(handle, _LONGEST_FILE)
    finally:
        os.close(handle)
    return parse_key(content, f"the key file {path.name}")


def run_key_command(command: str) -> Key:
    """Run a command, without a shell, that prints the key.

    Raises
    ------
    KeyProblem
        If it fails or prints something else. Nothing that it prints is shown.
    """
    try:
        words = shlex.split(command)
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"did not end within {_COMMAND_TIMEOUT_S:.0f} seconds"
    except OSError as error:
        problem = f"cannot be run: {error.strerror}"
    except (ValueError, IndexError):
        problem = "is not a command"
    else:
        if not done.returncode:
            return parse_key(done.stdout[:_LONGEST_FILE], "what the key command prints")
        problem = f"ended with status {done.returncode}"
    # outside of the handler: the exception holds what the command printed
    raise KeyProblem(f"the key command {problem}")


def parse_key(content: bytes, origin: str) -> Key:
    """Return the key in a file or in what a command printed.

    Raises
    ------
    KeyProblem
        If it is no key, or obviously not random; `origin` begins the message.
    """
    text = content.strip()
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    problem = ""
    if len(raw) != KEY_BYTES or base64.b64encode(raw) != text:
        problem = "is not a key"
    elif len(set(raw)) < _FEWEST_DIFFERENT or all(32 <= byte < 127 for byte in raw):
        problem = "is not random, but a word or a pattern"
    if problem:
        raise KeyProblem(f"{origin} {problem}: {_FORMAT}")
    return Key(text.decode())
