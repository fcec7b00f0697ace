"""The audit log: who did what to which patient's data, and when. Append-only and hash-chained.

Each line of ``audit.jsonl`` is a JSON object. Its hash covers the line before it, so a line that is changed, removed,
or moved breaks the chain; ``audit.head`` holds the last hash, so a missing end is noticed too.

What a line is about (patient and submission ids) enters the hash only through a salted commitment. A withdrawal can
therefore erase the ids and leave the chain intact: `AuditLog.redact` drops content and salt and keeps the commitment,
and without the salt nobody can find out by trying which id it was. Redacting is itself recorded, with a count, so
`AuditLog.verify` notices a line that was blanked by hand.

The log shows tampering to somebody who can compare it with an earlier head (`iss audit verify` prints it). It cannot
stop a person who may write to the home from replacing log and head together.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from iss_assets.intake.records import StudyFolderError
from iss_assets.intake.withdrawn import Withdrawn, keyed_hash, read_withdrawn
from iss_assets.privacy.register import read_register
from iss_assets.settings import Settings
from iss_assets.warehouse.locking import hold

_START: Final = "0" * 64
"""What the first line is chained to."""
_LOCK_TIMEOUT_S: Final = 30.0
_BLOCK: Final = 65536
"""Bytes that are read at a time from the end."""


class Action(StrEnum):
    """Everything that is recorded."""

    SIGNED_IN = "signed_in"
    SIGN_IN_FAILED = "sign_in_failed"
    SIGNED_OUT = "signed_out"
    ACCOUNT_ADDED = "account_added"
    ACCOUNT_REMOVED = "account_removed"
    PASSWORD_CHANGED = "password_changed"
    MEDIA_VIEWED = "media_viewed"
    PATIENT_VIEWED = "patient_viewed"
    REVIEWED = "reviewed"
    RUN_LAUNCHED = "run_launched"
    EXPORT_BEGUN = "export_begun"
    EXPORTED = "exported"
    SNAPSHOT_BEGUN = "snapshot_begun"
    SNAPSHOT_TAKEN = "snapshot_taken"
    QUERIED = "queried"
    ENCRYPTED = "encrypted"
    DECRYPTED = "decrypted"
    REKEYED = "rekeyed"
    MOVED = "moved"
    RELEASED = "released"
    WITHDRAWN = "withdrawn"
    REDACTED = "redacted"


_OF_ACCOUNTS: Final = frozenset({Action.SIGNED_IN, Action.SIGN_IN_FAILED, Action.SIGNED_OUT})
"""They name no patient, so that whoever repairs the register of withdrawals can sign in."""


class AuditError(RuntimeError):
    """The log cannot be continued: what is there is not a log that this code wrote."""


@dataclass(frozen=True)
class AuditLine:
    """One line of the log.

    Attributes
    ----------
    number : int
        1 for the first line.
    at : datetime
        When, in UTC.
    who : str
        Name of the account, or ``system:USER`` for the command line.
    action : str
        An `Action`.
    subject : str or None
        Patient or submission id; None for actions about nobody, and for redacted lines.
    detail : mapping
        More about it, ids and numbers only; empty for redacted lines.
    redacted : bool
        Whether subject and detail were erased by a withdrawal.
    """

    number: int
    at: datetime
    who: str
    action: str
    subject: str | None
    detail: Mapping[str, Any]
    redacted: bool


@dataclass(frozen=True)
class Verification:
    """What checking the whole log found.

    Attributes
    ----------
    lines : int
        Lines read.
    head : str
        Hash of the last line (hexadecimal); keep it elsewhere to notice later that the whole log was replaced.
    problems : tuple of str
        One sentence per fault; empty if the log is intact.
    """

    lines: int
    head: str
    problems: tuple[str, ...]


class AuditLog:
    """The log of one home.

    Parameters
    ----------
    path : Path
        ``audit.jsonl``; made with the first line, readable by its owner only.
    register : callable, optional
        Returns the register of withdrawals; by default that of the home in which the log is.
    """

    def __init__(self, path: Path, register: Callable[[], Withdrawn] | None = None) -> None:
        self.path = path
        self._register = register or (lambda: read_withdrawn(path.parent))
        self._head_path = path.with_suffix(".head")

    @classmethod
    def of(cls, settings: Settings) -> AuditLog:
        """Return the log of these settings' home."""
        return cls(settings.audit_path, lambda: read_register(settings))

    def record(self, who: str, action: Action, subject: str | None = None, **detail: Any) -> int:
        """Append a line and return its number. To be called before what it records is carried out.

        Who has withdrawn from the study is not named: the subject is a keyed hash then, as on the certificate, and ids in
        the details are replaced by a word. Signing in and out names no patient.

        Raises
        ------
        AuditError
            If the last line cannot be read, or the register of withdrawals where a patient might be named; nothing is
            appended then.
        """
        with self._locked():
            # in here, so that nothing is appended between a withdrawal's register and its redaction
            if action not in _OF_ACCOUNTS:
                subject, detail = self._unnamed(subject, detail)
            number, previous = self._last()
            content, salt = {"subject": subject, "detail": detail}, secrets.token_hex(16)
            line = {
                "n": number + 1,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "who": who,
                "action": str(action),
                "commitment": _commitment(content, salt),
                "previous": previous,
            }
            line |= {"hash": _line_hash(line), "salt": salt, "content": content}
            with open(self.path, "ab", opener=_private) as file:
                file.write(_encoded(line))
                file.flush()
                os.fsync(file.fileno())
            self._write_head(line)
        return number + 1

    def lines(self) -> Iterator[AuditLine]:
        """Yield every line that can be read, oldest first."""
        for _, line in self._raw():
            if line is not None:
                yield _public(line)

    def newest(self, most: int, actions: Collection[Action] = ()) -> list[AuditLine]:
        """Return the last lines that can be read, the newest first; the log is read from its end, no further than needed.

        Parameters
        ----------
        most : int
            How many.
        actions : collection of Action
            Only lines of these; empty for every line.
        """
        # what is not looked for need not be parsed: years of a log are searched in a moment
        marks = [f'"action":"{action}"'.encode() for action in actions]
        found: list[AuditLine] = []
        for text in self._backwards():
            if len(found) >= most:
                break
            if marks and not any(mark in text for mark in marks):
                continue
            line = _parsed(text)
            if line is not None and (not actions or line["action"] in actions):
                found.append(_public(line))
        return found

    def verify(self) -> Verification:
        """Check every line against the one before it, the commitments, and the head."""
        problems: list[str] = []
        previous, number, blank, blanked = _START, 0, 0, 0
        with self._locked():
            for place, line in self._raw():
                number += 1
                if line is None:
                    problems.append(f"line {place}: not a line of this log")
                    continue
                if line["n"] != number or line["previous"] != previous:
                    problems.append(f"line {place}: a line before it was removed, added, or moved")
                    number = line["n"]
                if _line_hash(line) != line["hash"]:
                    problems.append(f"line {place}: changed")
                elif line["content"] is None:
                    blank += 1
                elif _commitment(line["content"], line["salt"]) != line["commitment"]:
                    problems.append(f"line {place}: changed")
                elif line["action"] == Action.REDACTED:
                    blanked += line["content"]["detail"].get("lines", 0)
                previous = line["hash"]
            head = self._read_head()
        if blank != blanked:
            problems.append(f"{blank} lines are blank, but withdrawals blanked {blanked}")
        if head and (head["n"] > number or (head["n"] == number and head["hash"] != previous)):
            problems.append(f"the end is missing: there were {head['n']} lines, now {number}")
        if not head and number:
            problems.append(f"{self._head_path.name} is missing")
        return Verification(number, previous, tuple(problems))

    def redact(self, concerns: Callable[[AuditLine], bool], who: str) -> int:
        """Erase what the lines that concern a withdrawn patient say about that patient; return their number.

        Time, account, and action stay. The file is replaced whole, so an interruption leaves either version.

        Parameters
        ----------
        concerns : callable
            Whether a line is to be blanked.
        who : str
            For the line that records the redaction itself.
        """
        with self._locked():
            lines = [line for _, line in self._raw()]
            if any(line is None for line in lines):
                raise AuditError(f"{self.path.name} is damaged; `iss audit verify` says where")
            whole = [line for line in lines if line is not None]
            count = 0
            for line in whole:
                if line["content"] is not None and concerns(_public(line)):
                    line["content"] = line["salt"] = None
                    count += 1
            if not count:
                return 0
            content, salt = {"subject": None, "detail": {"lines": count}}, secrets.token_hex(16)
            last = {
                "n": whole[-1]["n"] + 1,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "who": who,
                "action": str(Action.REDACTED),
                "commitment": _commitment(content, salt),
                "previous": whole[-1]["hash"],
            }
            last |= {"hash": _line_hash(last), "salt": salt, "content": content}
            _replace(self.path, b"".join(_encoded(line) for line in [*whole, last]))
            self._write_head(last)
        return count

    def _unnamed(self, subject: str | None, detail: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        try:
            register = self._register()
        except StudyFolderError as error:
            raise AuditError(str(error)) from error
        detail = {name: _without_ids(value, register) for name, value in detail.items()}
        for kind, withdrew in (("patient", register.patient), ("submission", register.submission)):
            if subject is not None and withdrew(subject):
                return None, {**detail, f"{kind}_hash": keyed_hash(register.key, kind, subject)}
        return subject, detail

    def _raw(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yield (place in the file, line or None where it is not one)."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for place, text in enumerate(file, start=1):
                yield place, _parsed(text)

    def _backwards(self) -> Iterator[bytes]:
        """Yield the text of every line, the last one first."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            place, rest = file.seek(0, os.SEEK_END), b""
            while place:
                step = min(place, _BLOCK)
                place = file.seek(place - step)
                rest, *whole = (file.read(step) + rest).split(b"\n")
                yield from reversed(whole)
            yield rest

    def _last(self) -> tuple[int, str]:
        """Return number and hash of the last line; drop the beginning of one that a crash cut off."""
        if not self.path.exists() or not self.path.stat().st_size:
            head = self._read_head()
            if head:
                raise AuditError(f"{self.path.name} is gone, but it had {head['n']} lines")
            return 0, _START
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            block = b""
            while size and block.count(b"\n") < 2:
                step = min(size, _BLOCK)
                size = file.seek(size - step)
                block = file.read(step) + block
            whole = block[: block.rfind(b"\n") + 1]
            if len(whole) < len(block):
                # never acknowledged: what it was to record did not happen
                file.truncate(size + len(whole))
        last = _parsed(whole.splitlines(keepends=True)[-1]) if whole else None
        if last is None:
            raise AuditError(f"the last line of {self.path.name} is damaged; `iss audit verify` says more")
        return last["n"], last["hash"]

    def _read_head(self) -> dict[str, Any] | None:
        try:
            head = json.loads(self._head_path.read_text("utf-8"))
            return {"n": int(head["n"]), "hash": str(head["hash"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write_head(self, line: Mapping[str, Any]) -> None:
        _replace(self._head_path, json.dumps({"n": line["n"], "hash": line["hash"]}).encode() + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with hold(self.path.with_suffix(".lock"), exclusive=True, timeout_s=_LOCK_TIMEOUT_S):
            yield


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256, hexadecimal, so that a copy found elsewhere can be matched with a line of the log."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def system_user() -> str:
    """Return who uses the command line, as the log names them."""
    try:
        return f"system:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container may run under a number without a name
        return f"system:{os.getuid()}"


def _commitment(content: Mapping[str, Any], salt: str) -> str:
    return hashlib.sha256(salt.encode() + _canonical(content)).hexdigest()


def _line_hash(line: Mapping[str, Any]) -> str:
    names = ("n", "at", "who", "action", "commitment", "previous")
    return hashlib.sha256(_canonical({name: line[name] for name in names})).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _encoded(line: Mapping[str, Any]) -> bytes:
    return _canonical(line) + b"\n"


def _parsed(text: bytes) -> dict[str, Any] | None:
    """Return the line, None if it has not the shape of one."""
    try:
        line = json.loads(text)
        _public(line)
        for name in ("hash", "previous", "commitment"):
            bytes.fromhex(line[name])
        if line["content"] is not None and not isinstance(line["salt"], str):
            return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return line


def _public(line: Mapping[str, Any]) -> AuditLine:
    content = line["content"]
    return AuditLine(
        number=int(line["n"]),
        at=datetime.fromisoformat(line["at"]),
        who=str(line["who"]),
        action=str(line["action"]),
        subject=None if content is None else content["subject"],
        detail={} if content is None else dict(content["detail"]),
        redacted=content is None,
    )


def _without_ids(value: Any, register: Withdrawn) -> Any:
    """Return a detail of a line without the ids of who has withdrawn."""
    if isinstance(value, str):
        return register.without_ids(value)
    if isinstance(value, Mapping):
        return {
            register.without_ids(str(name)): _without_ids(found, register) for name, found in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_ids(found, register) for found in value]
    return value


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.tmp")
    with open(partial, "wb", opener=_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
