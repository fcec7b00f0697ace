"""Who withdrew, known by keyed hashes only, so that a row or file that comes back by accident is refused.

The register lies in the folder ``withdrawals`` of the home, that of a shared warehouse in its catalog: `privacy.register` reads
and writes it wherever it is. It holds no id: only HMACs of patient ids, submission ids and file hashes, under a key in the file
beside it. The readers of the study folder are handed it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from iss_assets.atomic import replace_text
from iss_assets.intake.csv_reading import CsvRow, read_csv
from iss_assets.intake.records import ProblemLog, StudyFolderError
from iss_assets.protocol import consent
from iss_assets.protocol.naming import is_ordinary_number, stands_as_an_id

FOLDER: Final = "withdrawals"
"""Folder in the home with key, register and certificates."""
CODE: Final = "withdrawn"
"""Code of a rejected row that a patient has withdrawn."""
REFUSED: Final = "It belongs to a patient who withdrew, or repeats something that was withdrawn, so it was not used; delete it."
"""Reason of such a row."""
GONE: Final = "(withdrawn)"
"""What is written instead of an id."""
_WORDS: Final = re.compile(r"[A-Za-z0-9]+(?:[-._]+[A-Za-z0-9]+)*")
_JOINTS: Final = re.compile(r"([-._]+)")
_LONGEST_ID: Final = 64
_MOST_WORDS: Final = 32
"""Words in an id, at most: one for every two letters of the longest."""


class Scope(StrEnum):
    """What a withdrawal covers."""

    ALL = "all"
    MEDIA = "media"
    SHARING = "sharing"


CARRIES_OUT: Final[Mapping[Scope, frozenset[consent.Scope]]] = {
    Scope.ALL: frozenset(consent.CARRIED_OUT),
    Scope.MEDIA: frozenset({consent.Scope.SHARE_FEATURES, consent.Scope.SHARE_MEDIA}),
    Scope.SHARING: frozenset({consent.Scope.SHARE_FEATURES, consent.Scope.SHARE_MEDIA}),
}
"""What of ``consent.csv`` each withdrawal carries out. Research needs the whole one: after the others, answers stay in use."""


@dataclass(frozen=True)
class Withdrawn:
    """The register of a home, or of all homes on a shared warehouse.

    Attributes
    ----------
    patients : mapping of str to Scope
        Keyed hash of a patient id to what the patient withdrew.
    submissions, files : frozenset of str
        Keyed hashes of submission ids and of files' SHA-256.
    key : bytes
        The key; empty where nobody withdrew.
    others : tuple of Withdrawn
        Registers under other keys that count as well: of homes that had one of their own before they shared a warehouse.
    """

    patients: Mapping[str, Scope] = field(default_factory=dict)
    submissions: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    key: bytes = b""
    others: tuple[Withdrawn, ...] = ()

    def scope_of(self, patient_id: str) -> Scope | None:
        """Return what a patient withdrew; None for patients who take part."""
        own = self.patients.get(keyed_hash(self.key, "patient", patient_id)) if self.patients else None
        return _widest(own, *(one.scope_of(patient_id) for one in self.others))

    def carried_out(self, patient_id: str) -> frozenset[consent.Scope]:
        """Return the scopes of consent whose withdrawal has been carried out for a patient."""
        scope = self.scope_of(patient_id)
        return CARRIES_OUT[scope] if scope else frozenset()

    def patient(self, patient_id: str) -> bool:
        """Return whether a patient withdrew from the whole study."""
        return self.scope_of(patient_id) is Scope.ALL

    def media_of(self, patient_id: str) -> bool:
        """Return whether a patient's videos may not be used any more."""
        return self.scope_of(patient_id) in (Scope.ALL, Scope.MEDIA)

    def may_be_shared(self, patient_id: str) -> bool:
        """Return whether what a patient submitted may leave the home in a release, or with media in an export."""
        return self.scope_of(patient_id) is None

    def submission(self, submission_id: str) -> bool:
        """Return whether a submission was withdrawn."""
        return (
            bool(self.submissions) and keyed_hash(self.key, "submission", submission_id) in self.submissions
        ) or any(one.submission(submission_id) for one in self.others)

    def without_ids(self, text: str) -> str:
        """Return a text in which the ids of patients who withdrew, and of what was withdrawn, are replaced by a word."""
        return _WORDS.sub(self._without_ids, text) if self else text

    def __bool__(self) -> bool:
        return bool(self.patients) or any(self.others)

    def named_in(self, words: Iterable[str]) -> tuple[set[str], set[str]]:
        """Return the patients who withdrew, and the withdrawn submissions, that are among words or parts of them."""
        names: set[str] = set()
        for text in set(words):
            parts = _JOINTS.split(text)
            last = min(len(parts), 2 * _MOST_WORDS)
            for begin in range(0, last, 2):
                names.update("".join(parts[begin : end + 1]) for end in range(begin, last, 2))
        names = {name for name in names if 0 < len(name) <= _LONGEST_ID}
        return {n for n in names if self.scope_of(n)}, {n for n in names if self.submission(n)}

    def _without_ids(self, words: re.Match[str]) -> str:
        """Replace ids among words joined by hyphens, dots and underscores, of which any number may be one: longest first."""
        parts = [*_JOINTS.split(words[0]), ""]
        kept, place, at = "", 0, words.start()
        while place < len(parts):
            ends = range(min(len(parts), place + 2 * _MOST_WORDS) - 1, place, -2)
            end = next((e for e in ends if self._names("".join(parts[place:e]), words.string, at)), 0)
            kept += GONE if end else parts[place]
            end = end or place + 1
            kept += parts[end]
            at += sum(map(len, parts[place : end + 1]))
            place = end + 1
        return kept

    def _names(self, name: str, text: str, at: int) -> bool:
        if len(name) > _LONGEST_ID or not (self.patient(name) or self.submission(name)):
            return False
        return not is_ordinary_number(name) or stands_as_an_id(text, at, at + len(name))

    def file(self, sha256: str) -> bool:
        """Return whether a file of this content was withdrawn."""
        return (bool(self.files) and keyed_hash(self.key, "file", sha256) in self.files) or any(
            one.file(sha256) for one in self.others
        )

    def adding(
        self, patient_id: str, scope: Scope, submissions: Iterable[str], files: Iterable[str]
    ) -> Withdrawn:
        """Return the register with one more withdrawal; one that covers less never takes back one that covers more."""
        name = keyed_hash(self.key, "patient", patient_id)
        return Withdrawn(
            {**self.patients, name: _widest(self.scope_of(patient_id), scope) or scope},
            self.submissions | {keyed_hash(self.key, "submission", s) for s in submissions},
            self.files | {keyed_hash(self.key, "file", f) for f in files},
            self.key,
            self.others,
        )

    def parts(self) -> tuple[Withdrawn, ...]:
        """Return one register for each key, its own first."""
        return replace(self, others=()), *(part for one in self.others for part in one.parts())

    def joined_with(self, other: Withdrawn) -> Withdrawn:
        """Return a register of what is in either, under the keys of both."""
        parts = {part.key: part for part in self.parts()}
        for part in other.parts():
            known = parts.get(part.key, Withdrawn(key=part.key))
            scopes = {
                name: _widest(known.patients.get(name), part.patients.get(name)) or Scope.ALL
                for name in {**known.patients, **part.patients}
            }
            parts[part.key] = Withdrawn(
                scopes, known.submissions | part.submissions, known.files | part.files, part.key
            )
        first, *rest = (part for part in parts.values() if part.key or len(parts) == 1)
        return replace(first, others=tuple(rest))


_ORDER: Final = [Scope.SHARING, Scope.MEDIA, Scope.ALL]


def _widest(*scopes: Scope | None) -> Scope | None:
    return max((scope for scope in scopes if scope), key=_ORDER.index, default=None)


def accepted_rows(
    rows: Iterable[CsvRow], file: str, withdrawn: Withdrawn, rejected: ProblemLog
) -> list[CsvRow]:
    """Return the rows of a csv file without those of patients and submissions that were withdrawn.

    Each of these is recorded with file and line, and nothing more: an id would name the patient again.
    """
    kept = []
    for row in rows:
        submission = row.cells.get("submission_id") or row.cells.get("video_id") or ""
        if withdrawn.patient(row.cells.get("patient_id", "")) or withdrawn.submission(submission):
            rejected.add(CODE, REFUSED, file=file, line=row.line)
        else:
            kept.append(row)
    return kept


def read_optional_csv(
    root: Path,
    file: str,
    required: Sequence[str],
    optional: Sequence[str],
    rejected: ProblemLog,
    problems: ProblemLog,
    withdrawn: Withdrawn | None = None,
    *,
    unreported: Collection[str] = (),
) -> list[CsvRow]:
    """Read a csv file about patients that a study may do without; no rows if there is none. See `read_csv`.

    Raises
    ------
    StudyFolderError
        If the file is there but cannot be read.
    """
    path = root / file
    if not path.exists() and not path.is_symlink():
        return []
    rows = read_csv(root, file, required, optional, {}, rejected, problems, unreported=unreported)
    return accepted_rows(rows, file, withdrawn or Withdrawn(), rejected)


def words_in(text: str) -> list[str]:
    """Return what can be an id in a text: words, and words joined by hyphens, dots and underscores as one."""
    return _WORDS.findall(text)


def keyed_hash(key: bytes, kind: str, value: str) -> str:
    """Return the HMAC-SHA256 of a value of one kind, hexadecimal."""
    return hmac.new(key, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()


def read_withdrawn(home: Path) -> Withdrawn:
    """Read the register of a home; an empty one where nobody withdrew.

    Raises
    ------
    StudyFolderError
        If there is a register and it, or its key, cannot be read: whoever withdrew would come back unnoticed.
    """
    path = home / FOLDER / "register.json"
    if not path.exists():
        return Withdrawn()
    try:
        found = json.loads(path.read_text("utf-8"))
        key = bytes.fromhex((home / FOLDER / "key").read_text("ascii"))
        if len(key) < 32:
            raise ValueError("too short")
        others = (_from_json(one, bytes.fromhex(one["key"])) for one in found.get("others", ()))
        return replace(_from_json(found, key), others=tuple(others))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise StudyFolderError(
            f"the register of withdrawals or its key cannot be read (register.json and key in the folder {FOLDER} of "
            "the home), so whoever withdrew would not be recognized; restore both from a backup"
        ) from None


def write_withdrawn(home: Path, register: Withdrawn) -> None:
    """Replace the register in one step; its own key is in the home already."""
    path = home / FOLDER / "register.json"
    others = [{"key": one.key.hex(), **_as_json(one)} for one in register.parts()[1:]]
    replace_text(path, json.dumps({**_as_json(register), **({"others": others} if others else {})}, indent=1))
    path.chmod(0o600)


def _as_json(register: Withdrawn) -> dict[str, Any]:
    return {
        "patients": {name: str(scope) for name, scope in sorted(register.patients.items())},
        "submissions": sorted(register.submissions),
        "files": sorted(register.files),
    }


def _from_json(found: Mapping[str, Any], key: bytes) -> Withdrawn:
    return Withdrawn(
        {name: Scope(scope) for name, scope in found["patients"].items()},
        frozenset(found["submissions"]),
        frozenset(found["files"]),
        key,
    )


def with_key(home: Path) -> Withdrawn:
    """Return the register, with a key made for a home that has none; the key is readable by its owner only."""
    register = read_withdrawn(home)
    if register.key:
        return register
    path = home / FOLDER / "key"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        partial = path.with_name(".key.tmp")
        partial.unlink(missing_ok=True)
        with open(partial, "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    return Withdrawn(key=bytes.fromhex(path.read_text("ascii")))
