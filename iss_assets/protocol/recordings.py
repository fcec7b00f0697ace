"""The two recordings of a submission: the narrative (Question 11) and the reading of a text before it (Question 10).

Both are processed by the same code into tables of the same columns. A table or stage of the reading has the narrative's name
with a prefix, so that no table of narratives ever holds a reading.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from iss_assets.settings import Settings

_PREFIX: Final = "prompt_"


class Recording(StrEnum):
    """One of the videos of a submission."""

    NARRATIVE = "narrative"
    PROMPT = "prompt"

    def named(self, name: str) -> str:
        """Return the name that a table or stage of the narrative has for this recording.

        Examples
        --------
        >>> Recording.PROMPT.named("frames"), Recording.NARRATIVE.named("frames")
        ('prompt_frames', 'frames')
        """
        return f"{_PREFIX}{name}" if self is Recording.PROMPT else name

    @property
    def inventory(self) -> str:
        """The table of this recording's files."""
        return self.named("videos")


def recording_of(name: str) -> tuple[Recording, str]:
    """Return the recording that a table or stage belongs to, and the name that it has for the narrative.

    Examples
    --------
    >>> recording_of("prompt_frames")
    (<Recording.PROMPT: 'prompt'>, 'frames')
    """
    if name.startswith(_PREFIX):
        return Recording.PROMPT, name.removeprefix(_PREFIX)
    return Recording.NARRATIVE, name


def enabled_recordings(settings: Settings) -> tuple[Recording, ...]:
    """Return the recordings that the settings have processed."""
    return (Recording.NARRATIVE, Recording.PROMPT) if settings.prompt.enabled else (Recording.NARRATIVE,)
