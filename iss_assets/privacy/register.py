"""The register of who withdrew, wherever it is: in the home, or in the catalog of a shared warehouse, for all homes on it.

A home that had a register of its own before it shared a warehouse keeps the file, and what is in it counts as well; the first
`iss run`, or withdrawal, copies it into the catalog, so that it counts on every host.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Final

from iss_assets.intake.folder import StudyFolder, read_study
from iss_assets.intake.records import StudyFolderError
from iss_assets.intake.withdrawn import FOLDER, Scope, Withdrawn, read_withdrawn, with_key, write_withdrawn
from iss_assets.privacy.own_folder import OtherFolder, require_own
from iss_assets.settings import Settings
from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.lake_register import LakeRegister, OtherHome

_HOME_ID: Final = "home.id"
_FILES: Final = ("register.json", "key")
_noted: set[tuple[str, Path]] = set()
"""Homes that this process has noted, by catalog."""


class SomebodyWithdrew(RuntimeError):
    """A patient withdrew while this was in progress; it is done again without them."""


def read_register(settings: Settings) -> Withdrawn:
    """Read the register; an empty one where nobody withdrew.

    Raises
    ------
    StudyFolderError
        If it cannot be read: whoever withdrew would come back unnoticed.
    """
    return _read(settings)[0]


def open_study(settings: Settings) -> StudyFolder:
    """Read the study folder of these settings, without what was withdrawn.

    Raises
    ------
    StudyFolderError
        As `read_study`; also if the register of withdrawals cannot be read, or the folder is of another study than the home.
    """
    folder = read_submitted(settings)
    require_own(settings, folder)
    return folder


def require_own_study(settings: Settings) -> None:
    """Check that the study folder, where it can be read, is of the study that the home was made from.

    Raises
    ------
    OtherFolder
        If it is of another one.
    """
    try:
        open_study(settings)
    except OtherFolder:
        raise
    except StudyFolderError:
        return


def read_submitted(settings: Settings) -> StudyFolder:
    """Do what `open_study` does, whatever study the home is of.

    Raises
    ------
    StudyFolderError
        As `read_study`; also if the register of withdrawals cannot be read.
    """
    return read_study(settings.study, settings.reading, withdrawn=read_register(settings))


def stamp(settings: Settings) -> Hashable:
    """Return a value that is another one after every change of the register; cheaper than reading it.

    Raises
    ------
    StudyFolderError
        If a shared warehouse cannot be asked.
    """
    found: list[Hashable] = []
    for name in _FILES:
        try:
            status = (settings.home / FOLDER / name).stat()
        except FileNotFoundError:
            continue
        found.append((name, status.st_ino, status.st_mtime_ns, status.st_size))
    change = _change(settings)
    return *found, *([change] if change else [])


def register_withdrawal(
    settings: Settings, patient: str, scope: Scope, submissions: Iterable[str], files: Iterable[str]
) -> None:
    """Add a withdrawal; all hosts of a shared warehouse know of it when this returns."""
    register = share_register(settings)
    if not register.key:
        # the key of the home, also of a shared warehouse that has none yet
        register = with_key(settings.home)
    register = register.adding(patient, scope, submissions, files)
    if _shared(settings):
        LakeRegister(settings.warehouse).add(register)
    else:
        write_withdrawn(settings.home, register)


def share_register(settings: Settings) -> Withdrawn:
    """Copy what the home's own register holds into that of the shared warehouse, if it has one, and return all of it."""
    register = read_register(settings)
    if _shared(settings):
        here = read_withdrawn(settings.home)
        if here:
            LakeRegister(settings.warehouse).add(here)
    return register


def keep_in_home(settings: Settings) -> None:
    """Copy the register of the shared warehouse into the home, whose tables are about to be in a file again."""
    register = read_register(settings)
    if register:
        own = with_key(settings.home)
        write_withdrawn(settings.home, Withdrawn(key=own.key).joined_with(register))


def commit_guard(settings: Settings, patient: str | None) -> Callable[[], None]:
    """Return what refuses a commit to a shared warehouse if a patient withdrew since this call.

    A withdrawal waits for runs of its own home. Those of others go on meanwhile, with rows that they have read before: this is
    called in the writer's turn, so a commit comes before the withdrawal removes rows, or not at all.

    Parameters
    ----------
    settings : Settings
        Where the register is.
    patient : str, optional
        Whose run it is: it writes rows of nobody else, so others' withdrawals do not matter. None for runs about all patients.
    """
    if not _shared(settings):
        return lambda: None
    register, began = _read(settings)
    scope = register.scope_of(patient) if patient else None

    def require_that_nobody_withdrew() -> None:
        if _change(settings) == began:
            return
        if patient is None or read_register(settings).scope_of(patient) is not scope:
            raise SomebodyWithdrew(
                "a patient withdrew while this run was in progress; nothing was written, and the next run does it again"
            )

    return require_that_nobody_withdrew


def note_home(settings: Settings, cleaned_to: int | None = None) -> None:
    """Let the hosts of a shared warehouse know of this home; a certificate names homes that still have something to remove."""
    place = str(settings.warehouse.catalog), settings.home.resolve()
    if _shared(settings) and (cleaned_to is not None or place not in _noted):
        LakeRegister(settings.warehouse).note_home(home_id(settings.home), socket.gethostname(), cleaned_to)
        _noted.add(place)


def to_clean(settings: Settings) -> int | None:
    """Return the last change of the register if this home may still keep something of who withdrew on another host."""
    if not _shared(settings):
        return None
    register = LakeRegister(settings.warehouse)
    last = register.change()
    return last if register.cleaned_to(home_id(settings.home)) < last else None


def other_homes(settings: Settings) -> list[OtherHome]:
    """Return the other homes that have not removed yet what they may keep of who withdrew."""
    return LakeRegister(settings.warehouse).others(home_id(settings.home)) if _shared(settings) else []


def _read(settings: Settings) -> tuple[Withdrawn, int]:
    here = read_withdrawn(settings.home)
    if not _shared(settings):
        return here, 0
    try:
        everywhere, change = LakeRegister(settings.warehouse).read()
    except WarehouseError as error:
        raise StudyFolderError(f"the register of withdrawals cannot be read: {error}") from None
    # its key first: hashes are the same on every host then
    return everywhere.joined_with(here), change


def _change(settings: Settings) -> int:
    if not _shared(settings):
        return 0
    try:
        return LakeRegister(settings.warehouse).change()
    except WarehouseError as error:
        raise StudyFolderError(f"the register of withdrawals cannot be read: {error}") from None


def _shared(settings: Settings) -> bool:
    return settings.warehouse.catalog is not None


def home_id(home: Path) -> str:
    """Return the id of a home, which it is given at the first call."""
    path = home / _HOME_ID
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        pass
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{_HOME_ID}.{uuid.uuid4().hex}")
    partial.write_text(uuid.uuid4().hex, encoding="ascii")
    try:
        os.link(partial, path)
    except FileExistsError:
        # another process has just given it one
        pass
    finally:
        partial.unlink()
    return path.read_text("ascii").strip()
