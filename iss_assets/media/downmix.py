"""From the channels of a sound track to one: which of them are heard.

Belongs here: the choice, made once for a whole track, and mixing by it.
Does not belong here: which track it is (``streams``), its times (``timeline``), measuring what comes out (``speech``).

Averaging the channels, as ``librosa.to_mono`` does, is right where they agree. Where one is the other turned over, the
average is silence though each of them is loud; where one is dead, the average is the other at half its amplitude under
the dead one's hum. So a track of several channels is decoded twice, the first time only to compare what moves in each
channel and in their average:

- The signal of a channel, or of an average, is its mean power less that of its quietest tenth of a second's pieces:
  voices come and go, hum and hiss do not.
- Two channels are averaged unless that leaves less than 28 % of the better one's signal: a second channel that is
  silent leaves 25 %, two that have nothing in common 50 %, stereo recordings of phones and cameras 80 % and more.
  Otherwise the better one is taken alone. Below 1 kHz the same is asked again, since there alone cancels what is turned
  over and a little late.
- Channels that cancel for a while only leave enough in the whole. So the average may lose no more than a tenth of the
  track's loud stretches, of 2 s each, unless the better channel alone loses as many.
- Where there is a center channel, it carries the speech (ITU-R BS.775) and is taken alone, unless it is all but silent
  next to the others; then the front pair is treated as two channels are. The channel for low frequencies never counts.
- Of channels without such names, those that are not all but silent are averaged, by the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from iss_assets.media.container import open_container, packets_of

_PIECE_S: Final = 0.05
"""Seconds of sound whose power is one value: shorter than a syllable, longer than a period of hum."""
_QUIET_PERCENT: Final = 10
_MOVING: Final = 0.2
"""Where less than this share of the power comes and goes, nothing speaks: steady noise itself wavers by a twentieth."""
_LEAST_LEFT: Final = 0.28
"""Share of the better channel's signal that the average has to keep."""
_ALIVE: Final = 0.1
"""Share of the strongest channel's signal below which a channel is all but silent."""
_STRETCH: Final = 40
"""Pieces, 2 s: long enough to hold speech, short enough that two of them are not the whole track."""
_MOST_LOST: Final = 0.1
"""Share of the loud stretches that an average may lose to channels that cancel for a while only."""
_MONO_FRAMES: Final = 50
"""Frames of one channel after which a track that announces one channel is believed."""
_LOW_RATE: Final = 2000
"""Samples a second that are enough for what lies below 1 kHz."""
_LOUDEST: Final = 16.0
"""Largest sample, full scale being 1; codecs swing to 4 at most, and damaged floats anywhere."""

_PCM_SCALE: Final = {"u1": 128.0, "i2": 2.0**15, "i4": 2.0**31, "i8": 2.0**63}
_NAMES: Final = {"FL": "left", "FR": "right", "FC": "center"}
_LOW_FREQUENCIES: Final = frozenset({"LFE", "LFE2"})


@dataclass(frozen=True)
class Choice:
    """What is heard of one layout of channels.

    Attributes
    ----------
    channels : tuple of int
        Channels that are averaged; one where a channel is taken alone.
    name : str
        ``mono``, ``mean``, ``left``, ``right``, ``center``, or ``channel 3`` where it has no such name.
    """

    channels: tuple[int, ...]
    name: str


class Downmix:
    """How one track becomes mono, layout by layout: a track may change its channels midway.

    Parameters
    ----------
    path : Path
        The file.
    index : int
        The stream's number.
    max_seconds : float
        Of sound that are listened to.

    Raises
    ------
    UnreadableVideo
        If the file cannot be opened as media.
    """

    def __init__(self, path: Path, index: int, max_seconds: float) -> None:
        self._track = (path, index, max_seconds)
        self._choices, self._whole = _listen(*self._track, patient=False)
        self._heard: dict[str, int] = {}

    def mix(self, frame: av.AudioFrame, skipped: int = 0) -> NDArray[np.float32]:
        """Give the samples of the channels that are heard, shape (channels, n); their average is the sound.

        Parameters
        ----------
        frame : av.AudioFrame
            A decoded frame of the track.
        skipped : int
            Samples at its beginning that are left out.
        """
        layout = layout_of(frame)
        if len(layout) > 1 and layout not in self._choices and not self._whole:
            self._choices, self._whole = _listen(*self._track, patient=True)
        usual = Choice(tuple(range(len(layout))), "mono" if len(layout) == 1 else "mean")
        choice = self._choices.get(layout, usual)
        self._heard[choice.name] = self._heard.get(choice.name, 0) + frame.samples
        return samples_of(frame)[list(choice.channels), skipped:]

    @property
    def name(self) -> str | None:
        """What most of the track was mixed with; None before anything was."""
        return max(self._heard, key=lambda name: self._heard[name]) if self._heard else None

    @property
    def changes(self) -> bool:
        """Whether the track was not mixed in one way all along."""
        return len(self._heard) > 1


def layout_of(frame: av.AudioFrame) -> tuple[str, ...]:
    """Name a frame's channels as FFmpeg does (FL, FR, FC, LFE, ...); two without a name are left and right."""
    names = tuple(str(channel.name) for channel in frame.layout.channels)
    return ("FL", "FR") if len(names) == 2 and set(names) == {"NONE"} else names


def samples_of(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Give a frame's samples, shape (channels, n), as floats; full scale is 1, what is no number is 0."""
    values: Any = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    code = f"{values.dtype.kind}{values.dtype.itemsize}"
    scaled = values.astype(np.float32)
    if code in _PCM_SCALE:
        scaled = (scaled - (128.0 if code == "u1" else 0.0)) / np.float32(_PCM_SCALE[code])
    sound = np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(sound, -_LOUDEST, _LOUDEST, out=sound)  # type: ignore[no-any-return]


def _listen(
    path: Path, index: int, max_seconds: float, *, patient: bool
) -> tuple[dict[tuple[str, ...], Choice], bool]:
    """Listen through a track and choose; say too whether all of it was heard.

    A track that announces one channel and has one is left after a second, unless `patient`.
    """
    surveys: dict[tuple[str, ...], _Survey] = {}
    elapsed, mono, whole = 0.0, 0, True
    with closing(open_container(path)) as container:
        stream = container.streams[index]
        if stream.codec_context is None:
            return {}, True
        hasty = not patient and stream.codec_context.layout.nb_channels <= 1
        for packet in packets_of(container, stream):
            try:
                frames = [] if packet is None else packet.decode()
            except (av.error.FFmpegError, ValueError):
                continue
            for frame in frames:
                if not frame.samples or frame.sample_rate <= 0:
                    continue
                layout = layout_of(frame)
                elapsed += frame.samples / frame.sample_rate
                if len(layout) == 1:
                    mono += 1
                else:
                    surveys.setdefault(layout, _Survey(len(layout), frame.sample_rate)).add(samples_of(frame))
            if hasty and not surveys and mono >= _MONO_FRAMES:
                whole = False
                break
            if elapsed >= max_seconds:
                break
    return {layout: choose_channels(survey.bands(), layout) for layout, survey in surveys.items()}, whole


def choose_channels(bands: Sequence[NDArray[np.float64]], layout: tuple[str, ...]) -> Choice:
    """Choose what is heard of the channels of a track.

    Parameters
    ----------
    bands : sequence of ndarray of float64, shape (pieces, channels, channels)
        Covariances of the channels in short pieces of the track, without the pieces' means: of the whole sound first,
        then of parts of its spectrum.
    layout : tuple of str
        The channels' names as FFmpeg has them.
    """
    wanted = [n for n, name in enumerate(layout) if name not in _LOW_FREQUENCIES] or list(range(len(layout)))
    signal = _signals(bands[0], [[n] for n in range(len(layout))])
    strongest = max(signal[n] for n in wanted)
    alive = [n for n in wanted if signal[n] >= _ALIVE * strongest]
    if len(wanted) > 2:
        center = [n for n in wanted if layout[n] == "FC"]
        if center and center[0] in alive:
            return Choice((center[0],), "center")
        front = [n for n in wanted if layout[n] in ("FL", "FR")]
        wanted = front if len(front) == 2 and set(front) & set(alive) else alive
    best = max(wanted, key=lambda n: signal[n])
    if len(wanted) > 1 and all(_survives(band, wanted, best) for band in bands):
        return Choice(tuple(wanted), "mean")
    return Choice((best,), _NAMES.get(layout[best], f"channel {best + 1}"))


def _survives(powers: NDArray[np.float64], mix: list[int], best: int) -> bool:
    """Say whether an average keeps enough of the best channel's signal, in the whole and in every stretch."""
    average, alone = _signals(powers, [mix, [best]])
    if average < _LEAST_LEFT * alone:
        return False
    by_average, by_one = lost_shares(powers, mix, best)
    return by_average <= _MOST_LOST or by_one >= by_average


def lost_shares(powers: NDArray[np.float64], mix: list[int], best: int) -> tuple[float, float]:
    """Give the shares of a track's loud stretches that an average, and the best channel alone, lose.

    Parameters
    ----------
    powers : ndarray of float64, shape (pieces, channels, channels)
        Covariances of the channels, piece by piece.
    mix : list of int
        Channels that are averaged.
    best : int
        The channel that would be taken alone.
    """
    count = len(powers) // _STRETCH
    if not count:
        return 0.0, 0.0
    stretches = powers[: count * _STRETCH].reshape(count, _STRETCH, *powers.shape[1:]).mean(axis=1)
    there = np.stack([stretches[:, n, n] for n in mix]).max(axis=0)
    loud = (there > 0) & (there >= _ALIVE * there.mean())
    if not loud.any():
        return 0.0, 0.0
    average = stretches[np.ix_(range(count), mix, mix)].mean(axis=(1, 2))
    return tuple(float((left < _ALIVE * there)[loud].mean()) for left in (average, stretches[:, best, best]))  # type: ignore[return-value]


def _signals(powers: NDArray[np.float64], mixes: list[list[int]]) -> list[float]:
    """Give the power of what comes and goes in averages of channels; where nothing does in any, all of the power."""
    if not len(powers):
        return [0.0] * len(mixes)
    every = range(len(powers))
    mixed = np.maximum([powers[np.ix_(every, mix, mix)].mean(axis=(1, 2)) for mix in mixes], 0)
    whole = mixed.mean(axis=1)
    moving = whole - np.percentile(mixed, _QUIET_PERCENT, axis=1)
    moving[moving < _MOVING * whole] = 0
    return [float(v) for v in (moving if moving.any() else whole)]


class _Survey:
    """Covariances of the channels, piece by piece: of the whole sound and of what lies below 1 kHz."""

    def __init__(self, channels: int, rate: int) -> None:
        self._together = max(1, rate // _LOW_RATE)
        self._length = self._together * max(1, round(_PIECE_S * rate / self._together))
        self._rest = np.empty((channels, 0), np.float32)
        self._powers = tuple([np.empty((0, channels, channels), np.float32)] for _ in range(2))
        self._waiting: list[NDArray[np.float32]] = []
        self._held = 0

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples, shape (channels, n)."""
        self._waiting.append(samples)
        self._held += samples.shape[1]
        if self._held >= 20 * self._length:
            self._condense()

    def bands(self) -> list[NDArray[np.float64]]:
        """Give the covariances of each band; a piece that is not full at the end is left out."""
        self._condense()
        return [np.concatenate(band).astype(np.float64) for band in self._powers]

    def _condense(self) -> None:
        whole = np.concatenate([self._rest, *self._waiting], axis=1)
        count = whole.shape[1] // self._length
        pieces = whole[:, : count * self._length].reshape(len(whole), count, self._length).swapaxes(0, 1)
        steps = self._length // self._together
        low = pieces.reshape(count, len(whole), steps, self._together).mean(axis=3)
        for band, part in zip(self._powers, (pieces, low), strict=True):
            part = part - part.mean(axis=2, keepdims=True)
            band.append(part @ part.swapaxes(1, 2) / part.shape[2])
        self._rest = whole[:, count * self._length :]
        self._waiting, self._held = [], self._rest.shape[1]
