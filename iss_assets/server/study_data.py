"""What the pages read from the warehouse again and again, kept until the file changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from iss_assets.intake.records import ProblemLog, StudyFolderError
from iss_assets.intake.reviews import read_reviews
from iss_assets.protocol.flags import FLAGS
from iss_assets.reports.quality_report import QualityReport, quality_report
from iss_assets.server.decisions import Reviews
from iss_assets.server.review_queue import Entry, build_queue
from iss_assets.server.withdrawals import Withdrawals
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.locking import LockTimeout

_FLAGS = "select video_id, flags || coalesce(rejected_flags, []) as flags from video_quality"
_SUBMITTED = "select video_id, patient_id, file, sha256 from videos where video_id = ?"
_MOST_KEPT: Final = 500
"""Results; the one read first goes first. A timeline is the largest, 80 kB for three minutes."""
_SOON_S: Final = 0.5
"""Seconds that somebody who watches a video waits for a run that writes, before what was read earlier counts."""
T = TypeVar("T")


@dataclass(frozen=True)
class Known:
    """The warehouse at one moment.

    Attributes
    ----------
    report : QualityReport
        Items and totals.
    patients : frozenset of str
        Enrolled patients.
    owners : mapping of str to str
        From a video's id to its patient's.
    flags : mapping of str to tuple of str
        Every measured flag of each video, rejected ones included.
    """

    report: QualityReport
    patients: frozenset[str]
    owners: Mapping[str, str]
    flags: Mapping[str, tuple[str, ...]]


class StudyData:
    """The study as its pages see it; safe for threads.

    Parameters
    ----------
    settings : Settings
        Study and home.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
        soon = settings.warehouse.model_copy(
            update={"lock_timeout_s": min(_SOON_S, settings.warehouse.lock_timeout_s)}
        )
        self._soon = Warehouse(settings.warehouse_path, soon)
        self.withdrawals = Withdrawals(settings)
        self.withdrawals.whenever_it_changes(lambda register: self._submitted.clear())
        self._lock = threading.Lock()
        self._of: Hashable = None
        self._kept: dict[Hashable, Any] = {}
        self._submitted: dict[str, Mapping[str, Any]] = {}
        self._making: dict[tuple[Hashable, Hashable], threading.Lock] = {}

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` reads from the warehouse, read again only if its file has changed.

        Opening the warehouse takes longer than most of what is read from it. Fifty who want the same wait for the first;
        whoever wants something else does not.
        """
        with self._lock:
            stamp = self.warehouse.stamp()
            if stamp != self._of:
                self._kept.clear()
                self._of = stamp
            if key in self._kept:
                found: T = self._kept[key]
                return found
            making = self._making.setdefault((stamp, key), threading.Lock())
        with making:
            with self._lock:
                if stamp == self._of and key in self._kept:
                    found = self._kept[key]
                    return found
            try:
                made = make()
                with self._lock:
                    # what changed meanwhile is read by whoever asks next
                    if stamp == self._of:
                        while len(self._kept) >= _MOST_KEPT:
                            del self._kept[next(iter(self._kept))]
                        self._kept[key] = made
            finally:
                with self._lock:
                    self._making.pop((stamp, key), None)
        return made

    def submitted(self, video_id: str) -> Mapping[str, Any] | None:
        """Return patient, file, and SHA-256 of a submitted video, None if there is none of this id.

        Players ask again for every piece of a video: while a run writes, they get what was read before it began.
        """
        try:
            row = self._read_submitted(self._soon, video_id)
        except LockTimeout:
            row = self._submitted.get(video_id) or self._read_submitted(self.warehouse, video_id)
        with self._lock:
            self._submitted.pop(video_id, None)
            if row is not None:
                self._submitted[video_id] = row
                if len(self._submitted) > _MOST_KEPT:
                    del self._submitted[next(iter(self._submitted))]
        return row

    def _read_submitted(self, warehouse: Warehouse, video_id: str) -> Mapping[str, Any] | None:
        def read() -> Mapping[str, Any] | None:
            rows: list[dict[str, Any]] = warehouse.query(_SUBMITTED, [video_id]).to_pylist()
            return rows[0] if rows else None

        return self.kept(("submitted", video_id), read)

    def forget_what_is_gone(self) -> None:
        """Let go of what was read of a warehouse that has changed since, and of the previews of withdrawn videos."""
        with self._lock:
            if self._kept and self.warehouse.stamp() != self._of:
                self._kept.clear()
        self.withdrawals.now()

    def may_be_shown(self, patient_id: str, sha256: str = "") -> bool:
        """Return whether a patient's faces and voice may be shown: not from the moment of a withdrawal on."""
        register = self.withdrawals.now()
        return not register.media_of(patient_id) and not register.file(sha256)

    def known(self) -> Known:
        """Return what the warehouse holds."""
        return self.kept("known", self._read)

    def reviews(self) -> Reviews:
        """Read ``reviews.csv`` as it is now."""
        known, rejected = self.known(), ProblemLog()
        now = datetime.now(UTC)
        try:
            rows = read_reviews(
                self.settings.study, now, known.patients, known.owners, rejected, ProblemLog()
            )
        except StudyFolderError as error:
            return Reviews(trouble=str(error))
        return Reviews(rows, rejected.sorted())

    def queue(self, reviews: Reviews) -> list[Entry]:
        """Return everything that needs a person, the most costly first."""
        known = self.known()
        return build_queue(known.report.items, known.flags, reviews, datetime.now(UTC))

    def _read(self) -> Known:
        with self.warehouse.read() as connection:
            patients = connection.execute("select patient_id from patients").fetchall()
            videos = connection.execute("select video_id, patient_id from videos").fetchall()
            flags = connection.execute(_FLAGS).fetchall()
        return Known(
            quality_report(self.warehouse, alert_limit=0),
            frozenset(patient for (patient,) in patients),
            dict(videos),
            {video: tuple(flag for flag in FLAGS if flag in own) for video, own in flags},
        )
