"""Videos as series of instances: the bags of multiple-instance learning, of different lengths, in one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Series:
    """What was measured over the time of n videos, one row per instance: a stretch of a video, such as a second.

    Attributes
    ----------
    values : ndarray of float32, (rows, columns)
        The instances of all videos, one video after the other, in order of time; NaN where something was not measured.
    number : ndarray of int32, (rows,)
        Number of the stretch within its video, from 0; stretches in which nothing was measured have no row.
    starts : ndarray of int64, (n + 1,)
        First row of each video, and the number of rows.
    """

    values: np.ndarray
    number: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of instances of each video, (n,)."""
        return np.diff(self.starts)

    def view(self) -> SeriesView:
        """Return all videos as a `SeriesView`."""
        return SeriesView(self, np.arange(len(self.values)), self.starts)

    def rows_of(self, videos: np.ndarray) -> np.ndarray:
        """Return the rows of some videos, one video after the other.

        Examples
        --------
        >>> lengths = np.array([0, 2, 5])
        >>> Series(np.zeros((5, 1)), np.zeros(5), lengths).rows_of(np.array([1, 0])).tolist()
        [2, 3, 4, 0, 1]
        """
        return _rows_of(self.starts, videos)

    def select(self, videos: np.ndarray) -> Series:
        """Return the series of some videos, in the given order."""
        rows = self.rows_of(videos)
        return Series(self.values[rows], self.number[rows], starts_of(self.lengths[videos]))


@dataclass(frozen=True)
class SeriesView:
    """Some videos of a `Series`, each less a row of its own, that share the instances with it.

    A study's embeddings take hundreds of megabytes. They are in memory once, whatever is chosen of them or subtracted from them, until
    `gathered` copies what a view shows.

    Attributes
    ----------
    source : Series
        Where the instances are.
    rows : ndarray of int64, (rows,)
        Rows of the source, one video after the other.
    starts : ndarray of int64, (n + 1,)
        First of the rows of each video, and their number.
    minus : ndarray of float32, (n, columns), optional
        What is subtracted from every instance of a video.
    """

    source: Series
    rows: np.ndarray
    starts: np.ndarray
    minus: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of instances of each video, (n,)."""
        return np.diff(self.starts)

    @property
    def number(self) -> np.ndarray:
        """Number of each stretch within its video, (rows,)."""
        number: np.ndarray = self.source.number[self.rows]
        return number

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.source.values.shape[1])

    def __getitem__(self, videos: np.ndarray) -> SeriesView:
        """Return some videos, by a boolean mask or by indices, as an array of one row per video would."""
        chosen = np.flatnonzero(videos) if videos.dtype == bool else videos
        lengths = self.lengths[chosen]
        rows = self.rows[_rows_of(self.starts, chosen)]
        return SeriesView(
            self.source, rows, starts_of(lengths), None if self.minus is None else self.minus[chosen]
        )

    def __sub__(self, rows: np.ndarray) -> SeriesView:
        """Subtract from every instance its video's row, (n, columns), or the same row, (columns,), from all."""
        each = np.broadcast_to(rows, (len(self), self.width)).astype(np.float32)
        minus = each if self.minus is None else self.minus + each
        return SeriesView(self.source, self.rows, self.starts, minus)

    def of_video(self, video: int) -> np.ndarray:
        """Return a copy of the instances of one video, float32 (its rows, columns)."""
        values: np.ndarray = self.source.values[self.rows[self.starts[video] : self.starts[video + 1]]]
        if self.minus is not None:
            values -= self.minus[video]
        return values

    def gathered(self) -> Series:
        """Return a copy of the instances as a series of their own."""
        values = self.source.values[self.rows]
        if self.minus is not None:
            for video, (first, end) in enumerate(zip(self.starts[:-1], self.starts[1:], strict=True)):
                values[first:end] -= self.minus[video]
        return Series(values, self.number, self.starts)

    def means(self) -> np.ndarray:
        """Return the mean of each column over the known instances of each video, float64 (n, columns); NaN without any."""
        found = np.full((len(self), self.width), np.nan)
        for video in range(len(self)):
            own = self.of_video(video)
            known = ~np.isnan(own)
            found[video] = _ratio(np.where(known, own, 0).sum(axis=0, dtype=np.float64), known.sum(axis=0))
        return found

    def known(self) -> np.ndarray:
        """Return of which instances anything is known, bool (rows,)."""
        parts = [~np.isnan(self.of_video(video)).all(axis=1) for video in range(len(self))]
        return np.concatenate([*parts, np.zeros(0, bool)])

    def only(self, kept: np.ndarray) -> SeriesView:
        """Return the instances that a mask, bool (rows,), keeps; a video may keep none."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return SeriesView(self.source, self.rows[kept], before[self.starts].astype(np.int64), self.minus)


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Return the first row of each video, and the number of rows, from the number of instances of each."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def mean_by_instance(values: np.ndarray, video: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, ...]:
    """Average samples over the instances that they belong to.

    Parameters
    ----------
    values : ndarray of float, (samples, columns)
        NaN or infinite where something was not measured; such values are left out of the mean.
    video, number : ndarray of int, (samples,)
        Video, and number of the stretch within it.

    Returns
    -------
    values : ndarray of float32, (rows, columns)
        NaN where no sample has a value.
    video, number : ndarray of int64, (rows,)
        In ascending order.
    """
    order = np.lexsort((number, video))
    video, number = video[order].astype(np.int64), number[order].astype(np.int64)
    first = np.flatnonzero(np.r_[True, (np.diff(video) != 0) | (np.diff(number) != 0)][: len(video)])
    if not len(first):
        return np.zeros((0, values.shape[1]), np.float32), video, number
    ordered = values[order]
    known = np.isfinite(ordered)
    count = np.add.reduceat(known, first, axis=0, dtype=np.float64)
    total = np.add.reduceat(np.where(known, ordered, 0), first, axis=0, dtype=np.float64)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean.astype(np.float32), video[first], number[first]


def join_series(
    parts: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], videos: int, most: int
) -> dict[str, Series]:
    """Bring several inputs to the same instances: those that any of them has.

    Parameters
    ----------
    parts : dict
        By input: values, video and number, as `mean_by_instance` returns them; videos counted from 0.
    videos : int
        Number of videos; some may have no instance.
    most : int
        A video with more instances than this keeps as many, evenly spaced.
    """
    width = 1 + max((int(number.max(initial=0)) for _, _, number in parts.values()), default=0)
    keys = {name: video * width + number for name, (_, video, number) in parts.items()}
    every = np.unique(np.concatenate([*keys.values(), np.zeros(0, np.int64)])).astype(np.int64)
    kept = np.concatenate(
        [
            own[((np.arange(min(most, len(own))) + 0.5) * len(own) / min(most, len(own))).astype(np.int64)]
            if len(own)
            else own
            for own in np.split(every, np.searchsorted(every, np.arange(1, videos) * width))
        ]
        or [every]
    )
    lengths = np.bincount(kept // width, minlength=videos)
    joined = {}
    for name, (values, _, _) in parts.items():
        rows = np.full((len(kept), values.shape[1]), np.nan, np.float32)
        place = np.searchsorted(keys[name], kept)
        there = place < len(keys[name])
        there[there] = keys[name][place[there]] == kept[there]
        rows[there] = values[place[there]]
        joined[name] = Series(rows, (kept % width).astype(np.int32), starts_of(lengths))
    return joined


def concatenated(parts: Sequence[Series]) -> Series:
    """Return the videos of several series, one after the other, in one; a part of which nothing was measured may have no columns."""
    width = max((part.values.shape[1] for part in parts), default=0)
    values = [
        part.values if part.values.shape[1] else np.full((len(part.values), width), np.nan, np.float32)
        for part in parts
    ]
    return Series(
        np.concatenate([np.zeros((0, width), np.float32), *values]),
        np.concatenate([np.zeros(0, np.int32), *(part.number for part in parts)]),
        starts_of(np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)])),
    )


def scale_of_series(series: Series | SeriesView, patient_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each column, every patient with the same weight.

    Parameters
    ----------
    series : Series or SeriesView
        The training side.
    patient_id : ndarray of str, (n,)
        Patient of each video.

    Returns
    -------
    mean, deviation : ndarray of float32, (columns,)
        0 and 1 for a column without a value; the deviation is 1 for a constant column.
    """
    means, squares = [], []
    view = series.view() if isinstance(series, Series) else series
    for patient in np.unique(patient_id):
        own = view[patient_id == patient].gathered().values.astype(np.float64)
        known = ~np.isnan(own)
        count = known.sum(axis=0)
        own = np.where(known, own, 0)
        means.append(_ratio(own.sum(axis=0), count))
        squares.append(_ratio((own**2).sum(axis=0), count))
    patients = (~np.isnan(means)).sum(axis=0)
    mean = np.nan_to_num(_ratio(np.nansum(means, axis=0), patients))
    square = np.nan_to_num(_ratio(np.nansum(squares, axis=0), patients))
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.astype(np.float32), np.where(deviation > 1e-6, deviation, 1.0).astype(np.float32)


def _rows_of(starts: np.ndarray, videos: np.ndarray) -> np.ndarray:
    lengths = np.diff(starts)[videos]
    before = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else np.zeros(0, np.int64)
    return np.repeat(starts[:-1][videos] - before, lengths) + np.arange(lengths.sum())


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
