"""What people decide about flags, videos, and patients: the vocabulary of ``reviews.csv``."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

LONGEST_TEXT: Final = 500
"""Characters of a reason; more is a story, which belongs into the clinic's own records."""


class Decision(StrEnum):
    """What a row of ``reviews.csv`` decides."""

    CONFIRM = "confirm"
    """The flag is right."""
    REJECT = "reject"
    """The flag is wrong; it no longer counts."""
    EXCLUDE = "exclude"
    """The video is not used, whatever was measured. Needs a reason."""
    INCLUDE = "include"
    """The video is used, whatever was measured. Needs a reason."""
    CLEAR = "clear"
    """Takes back earlier decisions about the flag or, without a flag, about excluding or including the video."""
    CONTACTED = "contacted"
    """Somebody spoke with the patient on a day."""
    ASSIGN = "assign"
    """Somebody takes care of the patient's open items; nobody if the assignee is empty."""


EXCLUDED: Final = "excluded"
"""What ``video_quality.unusable_reason`` says of a video that a person excluded."""

ABOUT_FLAG: Final = frozenset({Decision.CONFIRM, Decision.REJECT})
"""Decisions that name a video and a flag."""
ABOUT_VIDEO: Final = frozenset({Decision.EXCLUDE, Decision.INCLUDE})
"""Decisions that name a video and a reason."""
