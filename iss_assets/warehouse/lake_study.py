"""Which study a shared warehouse is of: the same id in its catalog, beside its data files, and in every home that writes to it.

A catalog and a data folder are addresses in settings, and two studies may name the same ones by mistake. Each would take the
patients of the other for gone. So a warehouse is of the study whose home used it first, and every writer's turn begins with a
comparison. How further homes of the same study are recognized: `privacy.one_study`.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Final

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.data_place import STUDY_MARK, problems
from iss_assets.warehouse.data_places import place_of
from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.lake_catalog import SNAPSHOTS, LakeCatalog, rows, value

FILE: Final = "study.id"
"""The id in a home."""
_LOCK: Final = "study"
_TABLE: Final = """\
create table if not exists iss_study (one boolean primary key default true check (one), id text not null);
"""
_EXISTS: Final = "select to_regclass('iss_study') is not null"
_WHAT_TO_DO: Final = (
    "Nothing was written. Give each study a database and a data folder of its own (ISS_WAREHOUSE__CATALOG, "
    f"ISS_WAREHOUSE__DATA_PATH). If it is the same study, copy {FILE} from a home that uses it into this one; see: iss guide "
    "shared_warehouse"
)


class AnotherStudy(WarehouseError):
    """The shared warehouse is of another study than the home."""

    def __init__(self, why: str):
        super().__init__(f"{why}. {_WHAT_TO_DO}")


def study_of_home(home: Path) -> str | None:
    """Return the id of the study that a home has written a shared warehouse for; None if it has not yet."""
    try:
        return (home / FILE).read_text("ascii").strip() or None
    except FileNotFoundError:
        return None


def study_of_catalog(session: Any) -> str | None:
    """Return the id of the study that a catalog is of; None before its first home has said so."""
    if not value(session, _EXISTS):
        return None
    found = value(session, "select id from iss_study")
    return None if found is None else str(found)


def require_study(session: Any, home: Path) -> None:
    """Raise an error if a home may not write to a catalog.

    Raises
    ------
    AnotherStudy
        If the catalog is of a study, and the home is of another one or of none yet.
    """
    there = study_of_catalog(session)
    if there is not None and there != study_of_home(home):
        raise AnotherStudy("the shared warehouse is of another study than this home")


class LakeStudy:
    """The study of a shared warehouse.

    Parameters
    ----------
    settings : WarehouseSettings
        Where catalog and data are.
    """

    def __init__(self, settings: WarehouseSettings):
        self._settings = settings
        self._place = place_of(settings)
        self._catalog = LakeCatalog(settings, "the shared warehouse")

    def read(self) -> str | None:
        """Return the id of the study; None before its first home has said so."""
        with self._catalog.asking() as session:
            return study_of_catalog(session)

    def claim(self, study: str) -> str:
        """Make the catalog one of this study if it is of none yet, and return the id of the study that it is of."""
        locked = self._catalog.locked(_LOCK, self._settings.lock_timeout_s)
        with self._catalog.explaining(), locked as session:
            there = study_of_catalog(session)
            if there is None:
                rows(session, _TABLE)
                rows(session, "insert into iss_study (id) values (%s)", [study])
            return there or study

    def mark_data(self, study: str) -> None:
        """Leave the id of the study beside the data.

        Raises
        ------
        AnotherStudy
            If another one is there: that study's maintenance would remove these files, and this one's its.
        """
        mine = STUDY_MARK + study
        with problems(self._place):
            marks = self._place.marks()
            if marks - {mine}:
                raise AnotherStudy(f"{self._place.name}, is of another study")
            if marks or (not self._place.has_entries() and self._has_lake()):
                # a place that should have files is not mounted, or the wrong one; whoever opens the lake says so
                return
            self._place.mark(mine)

    def _has_lake(self) -> bool:
        with self._catalog.asking() as session:
            return bool(value(session, "select to_regclass(%s) is not null", [SNAPSHOTS]))


def keep_study(home: Path, study: str) -> None:
    """Write the id of its study into a home."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    # processes of several hosts may do so at once
    partial = home / f".{FILE}.{uuid.uuid4().hex}"
    partial.write_text(study, encoding="ascii")
    partial.replace(home / FILE)
