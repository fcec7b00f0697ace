"""When something holds in a video: from one verdict per sample to spans of seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Span = tuple[float, float]
"""Begin and end, in seconds of the video's timeline."""

_CLOSE_S: Final = 0.35
"""Spans that are closer than this are one: a few frames in between are chance."""


@dataclass(frozen=True)
class SampleTimes:
    """When each of a series of samples was taken, in ascending order, and how long it stands for.

    Attributes
    ----------
    begin : ndarray of float, shape (n,)
        Seconds.
    lasts : float
        Seconds until the next sample.
    """

    begin: NDArray[Any]
    lasts: float

    def of(self, chosen: NDArray[Any], every: int = 1) -> SampleTimes:
        """Return the times of some of the samples, each of which stands for `every`."""
        return SampleTimes(self.begin[chosen], self.lasts * every)

    def spans(self, affected: NDArray[Any]) -> list[Span]:
        """Return the affected samples as spans, in order.

        Examples
        --------
        >>> SampleTimes(np.array([0.0, 0.5, 1.0, 1.5, 2.0]), 0.5).spans([True, True, False, False, True])
        [(0.0, 1.0), (2.0, 2.5)]
        """
        found: list[Span] = []
        for begin in self.begin[np.asarray(affected, bool)].tolist():
            if found and begin - found[-1][1] < _CLOSE_S:
                found[-1] = (found[-1][0], begin + self.lasts)
            else:
                found.append((begin, begin + self.lasts))
        return [(round(begin, 2), round(end, 2)) for begin, end in found]


def span_between(begin: float, end: float | None) -> list[Span]:
    """Return what is between two seconds, nothing if that is next to nothing."""
    return [(round(begin, 2), round(end, 2))] if end is not None and end - begin > _CLOSE_S else []
