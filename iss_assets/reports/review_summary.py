"""What people decided about flags and videos, summarized for the quality page and the study report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb

from iss_assets.evaluation.review_agreement import (
    Agreement,
    FlagDecision,
    FlagPrecision,
    flag_precisions,
    reviewer_agreements,
)

# a decision counts until the same flag is cleared later
_FLAG_DECISIONS = """
select r.reviewed_at, r.reviewer, r.patient_id, r.video_id, r.flag, r.decision
from reviews as r
where r.decision in ('confirm', 'reject') and not exists (
  from reviews as c
  where c.decision = 'clear' and c.video_id = r.video_id and c.flag = r.flag
    and (c.reviewed_at, c.line) > (r.reviewed_at, r.line)
)
order by r.reviewed_at, r.line
"""

_DECIDED_VIDEOS = "select video_id, decision from video_quality where decision is not null"

_FLAGGED = "select coalesce(sum(len(flags) + len(coalesce(rejected_flags, []))), 0)::bigint as flagged from video_quality"


@dataclass(frozen=True)
class ReviewSummary:
    """What people decided about flags and videos.

    Attributes
    ----------
    flagged : int
        Pairs of video and measured flag, the rejected ones included.
    precisions : list of FlagPrecision
        By flag.
    agreements : list of Agreement
        By pair of reviewers.
    excluded, included : list of str
        Videos that a person excluded, or included against what was measured.
    """

    flagged: int = 0
    precisions: list[FlagPrecision] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    included: list[str] = field(default_factory=list)

    @property
    def reviewed(self) -> int:
        """Flags of videos that were reviewed."""
        return sum(p.confirmed + p.rejected for p in self.precisions)

    @property
    def rejected(self) -> int:
        """Flags of videos that were rejected."""
        return sum(p.rejected for p in self.precisions)

    def __bool__(self) -> bool:
        """Return whether anybody has decided anything about a flag or a video."""
        return bool(self.precisions or self.excluded or self.included)


def review_summary(connection: duckdb.DuckDBPyConnection) -> ReviewSummary:
    """Read and summarize the reviews of an open warehouse."""

    def rows(sql: str) -> list[dict[str, Any]]:
        return connection.execute(sql).to_arrow_table().to_pylist()

    return summarize_reviews(rows(_FLAG_DECISIONS), rows(_DECIDED_VIDEOS), rows(_FLAGGED)[0]["flagged"])


def summarize_reviews(
    decisions: Iterable[Mapping[str, Any]], decided: Iterable[Mapping[str, Any]], flagged: int
) -> ReviewSummary:
    """Summarize reviews.

    Parameters
    ----------
    decisions : iterable of mapping
        Rows of ``reviews`` that confirm or reject a flag and were not taken back.
    decided : iterable of mapping
        ``video_id`` and ``decision`` of the videos that a person included or excluded.
    flagged : int
        Pairs of video and measured flag.
    """
    made = [
        FlagDecision(
            d["reviewed_at"],
            d["reviewer"],
            d["patient_id"],
            d["video_id"],
            d["flag"],
            d["decision"] == "confirm",
        )
        for d in decisions
    ]
    use = [(row["decision"], row["video_id"]) for row in decided]
    return ReviewSummary(
        flagged,
        flag_precisions(made),
        reviewer_agreements(made),
        sorted(video for decision, video in use if decision == "exclude"),
        sorted(video for decision, video in use if decision == "include"),
    )
