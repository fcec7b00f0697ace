"""The desk's queue: the quality report's items without what people have reviewed.

Items, their order, and their advice are those of ``reports.quality_report``; nothing is ordered a second time here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from iss_assets.protocol.catalogue import find
from iss_assets.protocol.flags import CAUSE_OF, FLAGS, causes_of
from iss_assets.reports.quality_report import Item
from iss_assets.server.decisions import Reviews

NOBODY: Final = "-"
"""Filter for items that are nobody's."""


@dataclass(frozen=True)
class OpenVideo:
    """A video of an item.

    Attributes
    ----------
    video_id : str
        Which.
    flags : tuple of str
        Its flags that nobody has reviewed, of the item's cause; none if the video is done.
    about : str
        The item's comment on it.
    """

    video_id: str
    flags: tuple[str, ...]
    about: str = ""


@dataclass(frozen=True)
class Entry:
    """An item of the queue.

    Attributes
    ----------
    item : Item
        What the quality report says.
    videos : tuple of OpenVideo
        Videos to watch, done ones included so that positions stay; empty if it is not about flags of videos.
    assignee : str or None
        Who takes care of the patient's items.
    contacted_on : date or None
        When the patient was contacted last.
    days : int or None
        Age.
    """

    item: Item
    videos: tuple[OpenVideo, ...]
    assignee: str | None
    contacted_on: date | None
    days: int | None

    @property
    def open(self) -> tuple[OpenVideo, ...]:
        """Videos with flags that nobody has reviewed."""
        return tuple(video for video in self.videos if video.flags)

    @property
    def age(self) -> str:
        """The age in words; empty if it is not known."""
        if self.days is None:
            return ""
        return "today" if not self.days else "1 day" if self.days == 1 else f"{self.days} days"


@dataclass(frozen=True)
class Filters:
    """What the reviewer wants to see; everything by default.

    Attributes
    ----------
    patient, flag, assignee : str
        Only these; `NOBODY` for items that are nobody's.
    days : int
        Only items of at least this age.
    """

    patient: str = ""
    flag: str = ""
    assignee: str = ""
    days: int = 0

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Filters:
        """Read query parameters; what makes no sense filters nothing."""
        days = given.get("days", "")
        return cls(
            given.get("patient", "").strip(),
            given["flag"] if given.get("flag") in FLAGS else "",
            given.get("assignee", "").strip(),
            int(days) if days.isascii() and days.isdigit() and len(days) < 5 else 0,
        )

    def query(self) -> dict[str, str]:
        """Return them as query parameters, without those that filter nothing."""
        return {name: str(value) for name, value in vars(self).items() if value}

    def passes(self, entry: Entry) -> bool:
        """Return whether an entry is wanted."""
        return (
            (not self.patient or self.patient in entry.item.patients)
            and (not self.flag or any(self.flag in video.flags for video in entry.videos))
            and (not self.assignee or (entry.assignee or NOBODY) == self.assignee)
            and (not self.days or (entry.days is not None and entry.days >= self.days))
        )


def build_queue(
    items: Iterable[Item], flags: Mapping[str, Sequence[str]], reviews: Reviews, now: datetime
) -> list[Entry]:
    """Return the open items, the most costly first.

    Parameters
    ----------
    items : iterable of Item
        Of the quality report, in its order.
    flags : mapping of str to sequence of str
        Every measured flag of each video, rejected ones included.
    reviews : Reviews
        What was decided.
    now : datetime
        Aware.
    """
    assignees, contacted = reviews.assignees(), reviews.contacted()
    entries = []
    for item in items:
        videos = _videos(item, flags, reviews)
        if videos and not any(video.flags for video in videos):
            continue
        since = item.since and (item.since if item.since.tzinfo else item.since.replace(tzinfo=UTC))
        entries.append(
            Entry(
                item,
                videos,
                assignees.get(item.patient_id),
                contacted.get(item.patient_id),
                max(0, (now - since).days) if since else None,
            )
        )
    return entries


def open_flags(flags: Sequence[str], video_id: str, reviews: Reviews) -> list[str]:
    """Return the flags of a video that somebody still has to look at.

    Flags that another flag explains are not among them, and neither is anything of a video that somebody has excluded or
    included: that decision is about all of it.
    """
    decided = reviews.of_video(video_id)
    if decided.use is not None:
        return []
    counted = [flag for flag in flags if flag not in decided.rejected]
    return [flag for group in causes_of(counted).values() for flag in group if flag not in decided.flags]


def _videos(item: Item, flags: Mapping[str, Sequence[str]], reviews: Reviews) -> tuple[OpenVideo, ...]:
    try:
        own = find(item.asset, item.check_name).flags
    except KeyError:
        own = ()
    if not own:
        return ()
    return tuple(
        OpenVideo(
            video_id,
            tuple(
                flag
                for flag in open_flags(flags.get(video_id, ()), video_id, reviews)
                if CAUSE_OF[flag].check == item.check_name
            ),
            about,
        )
        for video_id, about in item.details
    )


def order_of_videos(entries: Iterable[Entry]) -> list[tuple[str, bool]]:
    """Return every video of the queue once, in order, and whether it has open flags."""
    found: dict[str, bool] = {}
    for entry in entries:
        for video in entry.videos:
            found[video.video_id] = found.get(video.video_id, False) or bool(video.flags)
    return list(found.items())


def neighbors(order: Sequence[tuple[str, bool]], video_id: str) -> tuple[str | None, str | None]:
    """Return the open videos before and after one, beginning again at the other end.

    Examples
    --------
    >>> neighbors([("a", True), ("b", False), ("c", True), ("d", True)], "c")
    ('a', 'd')
    """
    names = [name for name, _ in order]
    place = names.index(video_id) if video_id in names else -1
    around = [*order[place + 1 :], *order[: max(place, 0)]]
    waiting = [name for name, is_open in around if is_open and name != video_id]
    return (waiting[-1], waiting[0]) if waiting else (None, None)
