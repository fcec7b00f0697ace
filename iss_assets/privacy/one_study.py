"""A shared warehouse is of one study, and only homes of that study write to it.

The first home that uses a warehouse makes it one of its study; so does the first to use one that an earlier version made. Every
further home is recognized, once, by one of these: it has used the warehouse before; its study folder has at least half of the
submissions that the warehouse has; or somebody has copied the id of the study from another home. What such a home would
write can only be its own study's, and what it would remove, only what is gone there, too.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from iss_assets.intake.records import StudyFolderError
from iss_assets.privacy.own_folder import given_signs, stored_signs
from iss_assets.privacy.register import home_id, read_submitted
from iss_assets.settings import Settings
from iss_assets.warehouse.lake_register import LakeRegister
from iss_assets.warehouse.lake_study import AnotherStudy, LakeStudy, keep_study, study_of_home

_found: set[tuple[str, Path]] = set()
"""Homes that this process has found to be of the study, by catalog."""


def require_one_study(settings: Settings) -> None:
    """Make sure that the shared warehouse is of this home's study; nothing to do where the warehouse is a file.

    Raises
    ------
    AnotherStudy
        If it is of another one, as far as can be told; the message says what to do.
    WarehouseError, StudyFolderError
        If that cannot be found out.
    """
    place = str(settings.warehouse.catalog), settings.home.resolve()
    if settings.warehouse.catalog is None or place in _found:
        return
    lake, here = LakeStudy(settings.warehouse), study_of_home(settings.home)
    there, homes = lake.read(), LakeRegister(settings.warehouse).homes()
    ours = here or uuid.uuid4().hex
    known = here is not None or home_id(settings.home) in homes
    if there is None and (known or not homes):
        there = lake.claim(ours)
        known |= there == ours
    if not known:
        _require_signs(settings)
    there = there or lake.claim(ours)
    if here not in (None, there):
        raise AnotherStudy("the shared warehouse is of another study than this home")
    lake.mark_data(there)
    keep_study(settings.home, there)
    _found.add(place)


def is_of_this_study(settings: Settings) -> bool:
    """Return whether the home may be one of the shared warehouse's study, as far as both say; nothing is changed.

    Raises
    ------
    WarehouseError
        If the warehouse cannot be asked.
    """
    if settings.warehouse.catalog is None or (here := study_of_home(settings.home)) is None:
        return True
    return LakeStudy(settings.warehouse).read() in (None, here)


def _require_signs(settings: Settings) -> None:
    """Raise an error unless the study folder of a home that is new here has what the warehouse has."""
    stored = stored_signs(settings).every()
    if not stored:
        raise AnotherStudy(
            "the shared warehouse was begun by another home, and has no submissions yet by which to tell whether that one's study "
            "is this home's. Wait for the first ones"
        )
    try:
        folder = read_submitted(settings)
    except StudyFolderError as error:
        raise AnotherStudy(
            f"this home is new to the shared warehouse, and its study folder cannot be compared: {error}"
        ) from None
    known = len(stored & given_signs(folder).every())
    if 2 * known < len(stored):
        raise AnotherStudy(
            f"this home is new to the shared warehouse, and its study folder has {known} of the {len(stored)} surveys and videos "
            "that are stored there"
        )
