"""Pseudonyms and shifted dates, from a key that never leaves the home.

Everything is an HMAC of the id under a key that is made for one agreement: the same id has the same pseudonym in every
release under that agreement, and pseudonyms of two agreements cannot be matched without the home's key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Final

KEY_BYTES: Final = 32
FEWEST_WEEKS, MOST_WEEKS = 26, 312
"""Dates move by at least half a year and at most six years, into the past."""


class KeyFileError(ValueError):
    """The key file is not one that `release_key` wrote."""


class Pseudonyms:
    """The pseudonyms of one agreement.

    Parameters
    ----------
    key : bytes
        The home's key; see `release_key`.
    agreement : str
        The agreement's number.
    """

    def __init__(self, key: bytes, agreement: str) -> None:
        self._key = hmac.digest(key, b"agreement\0" + agreement.encode(), "sha256")

    def patient(self, patient_id: str) -> str:
        """Return a patient's pseudonym: ``p-`` and 16 hexadecimal digits."""
        return f"p-{self._hash('patient', patient_id).hex()[:16]}"

    def submission(self, submission_id: str) -> str:
        """Return a submission's or video's pseudonym: ``s-`` and 16 hexadecimal digits."""
        return f"s-{self._hash('submission', submission_id).hex()[:16]}"

    def shift(self, patient_id: str) -> timedelta:
        """Return by how much a patient's dates move: whole weeks, so weekdays and intervals stay as they are."""
        number = int.from_bytes(self._hash("shift", patient_id)[:8], "big")
        return -timedelta(weeks=FEWEST_WEEKS + number % (MOST_WEEKS - FEWEST_WEEKS + 1))

    def _hash(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256)


def release_key(path: Path) -> bytes:
    """Read the home's key for releases; make it at the first release, readable by its owner only.

    Raises
    ------
    KeyFileError
        If the file is there and is not a key. It is never replaced: with another key the same agreement would get other
        pseudonyms.
    """
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise KeyFileError(
            f"{path.name} is not a key for releases ({len(key)} bytes, not {KEY_BYTES}); restore it from a backup of the home"
        )
    return key
