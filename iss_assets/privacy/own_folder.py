"""A home is of one study: a study folder of another one, named by mistake, changes nothing in it.

Patients of two studies often have the same ids. A run on the wrong folder would replace the one's videos by the other's, and keep
whoever is only in the first, without a sign of either. So whatever reads the folder compares it with what is stored: surveys by
patient, submission and time, videos by patient, submission and size. Nearly all videos are the same in two reads of one study,
and nearly none in two studies. Surveys decide only where there are few videos: a site may correct all its clocks at once.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from iss_assets.intake.folder import StudyFolder
from iss_assets.intake.records import StudyFolderError
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.errors import KeyProblem, WarehouseError

ACCEPTED: Final = "same_study"
"""File in a home: somebody has said that the study folder is its own although it has little of what is stored."""
_ENOUGH: Final = 3
"""With fewer, all of them may have been corrected or sent again."""
_SHARE: Final = 0.1
"""Smallest share of what is stored that a study's own folder has, of the patients who are in both. A choice, far from what is seen in
one study (nearly 1) and in two (nearly 0)."""

Sign = tuple[str, str, str]
"""Patient, submission, and the time of a survey or the size of a video."""


@dataclass(frozen=True)
class Signs:
    """What tells a study from another one."""

    surveys: frozenset[Sign]
    videos: frozenset[Sign]

    def every(self) -> frozenset[Sign]:
        """Return both together."""
        return self.surveys | self.videos

    def of(self, patients: Collection[str]) -> Signs:
        """Return those of some patients."""
        return Signs(
            *(frozenset(s for s in some if s[0] in patients) for some in (self.surveys, self.videos))
        )

    def deciding(self, given: Signs) -> tuple[frozenset[Sign], frozenset[Sign]]:
        """Return those of one kind, and those that are given: videos, or surveys where there are too few videos."""
        if len(self.videos) >= _ENOUGH:
            return self.videos, self.videos & given.videos
        return self.surveys, self.surveys & given.surveys


_SURVEYS: Final = """
select patient_id, submission_id as id, strftime(written_time, '%Y-%m-%d %H:%M:%S') as told from bpi_scores
where written_time is not null
"""
_VIDEOS: Final = (
    "select patient_id, video_id as id, bytes::varchar as told from videos where bytes is not null"
)
"""Ids may be the same in two studies; with the time of a survey and the size of a video they are not."""


class OtherFolder(StudyFolderError):
    """The study folder is not of the study that the home was made from."""

    def __init__(self, stored: int, given: int):
        super().__init__(
            f"this home is of another study: of {stored} videos or surveys that are stored in it, this study folder has {given}. "
            "Nothing was changed. Name that study's folder (ISS_STUDY), or give this study a home of its own (ISS_HOME). If it is "
            "the same study, and nearly everything in its folder was replaced: iss run --same-study"
        )


def stored_signs(settings: Settings) -> Signs:
    """Return the surveys and videos that are stored.

    Raises
    ------
    WarehouseError
        If the warehouse cannot be read.
    """
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    if not warehouse.exists():
        return Signs(frozenset(), frozenset())
    with warehouse.one_state():
        found = [warehouse.query(sql).to_pylist() for sql in (_SURVEYS, _VIDEOS)]
    return Signs(*(frozenset((r["patient_id"], r["id"], r["told"]) for r in rows) for rows in found))


def given_signs(folder: StudyFolder) -> Signs:
    """Return the surveys and videos of a study folder."""
    return Signs(
        frozenset(
            (s.patient_id, s.submission_id, f"{s.time.written_time:%Y-%m-%d %H:%M:%S}")
            for s in folder.submissions
        ),
        frozenset((v.patient_id, v.submission_id, str(v.size)) for v in folder.videos),
    )


def require_own(settings: Settings, folder: StudyFolder) -> None:
    """Check that a study folder is of the study that the home was made from; every folder is, as long as little is stored.

    Where the warehouse cannot be read, nothing can be written to it either, and whoever needs it says so. One that is only
    busy is not such a case: it may be free again when somebody writes.

    Raises
    ------
    OtherFolder
        If it is of another one, as far as can be told, and nobody has accepted it (`accept`).
    LockTimeout
        If the warehouse stays busy.
    """
    try:
        stored = stored_signs(settings)
    except (WarehouseError, KeyProblem, duckdb.Error):
        return
    if not folder.patients or max(len(stored.videos), len(stored.surveys)) < _ENOUGH:
        return
    accepted = settings.home / ACCEPTED
    known, given = stored.of(frozenset(folder.patient_ids)).deciding(given_signs(folder))
    # of too few who are in both it cannot be told; of nobody it can
    enough = len(known) >= _ENOUGH
    own = len(given) >= _SHARE * len(known) if enough else bool(known)
    if own:
        with suppress(OSError):
            accepted.unlink(missing_ok=True)
    elif not accepted.exists():
        raise OtherFolder(len(known) or len(stored.videos) or len(stored.surveys), len(given))


def accept(home: Path) -> None:
    """Take the study folder for this home's own from now on, until it has again what is stored."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / ACCEPTED).touch(mode=0o600)
