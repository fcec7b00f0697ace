"""Downmix: which channels of a sound track are used, and how they become mono.

The choice is made once for a complete track.

Averaging the channels, as ``librosa.to_mono`` does, is right where they agree. If one is the inverse of the other, the
average is silence although both are loud; if one is dead, the average is the other at half its amplitude plus the dead
one's hum. So a track with several channels is decoded twice, the first time only to compare the varying signal of each
channel with that of their average:

- The signal of a channel, or of an average, is its mean power minus the power of its quietest tenth of 0.05-second
  pieces: voices come and go, hum and hiss do not.
- Two channels are averaged unless that keeps less than 28 % of the better one's signal: a silent second channel keeps
  25 %, two unrelated channels 50 %, stereo recordings by phones and cameras 80 % and more. Otherwise the better one is
  used alone. The same test is repeated below 1 kHz, since an inverted and slightly delayed channel cancels only there.
- Channels that cancel only for a while keep enough signal overall. So the average may lose at most a tenth of the
  track's loud stretches, of 2 s each, unless the better channel alone loses as many.
- A center channel carries the speech (ITU-R BS.775) and is used alone, unless it is nearly silent compared to the
  others; then the front pair is treated like a two-channel track. The low-frequency channel is never used.
- Of channels without these names, all that are not nearly silent are averaged, by the same rule.
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
"""Seconds of sound per power value: shorter than a syllable, longer than a period of hum."""
_QUIET_PERCENT: Final = 10
_MIN_VARYING: Final = 0.2
"""If less than this share of the power varies, nobody speaks: steady noise varies by about a twentieth."""
_MIN_KEPT: Final = 0.28
"""Share of the better channel's signal that the average must keep."""
_ALIVE: Final = 0.1
"""Share of the strongest channel's signal below which a channel counts as nearly silent."""
_STRETCH: Final = 40
"""Pieces per stretch, 2 s: long enough to contain speech, short enough that two of them are not the complete track."""
_MAX_LOST: Final = 0.1
"""Share of the loud stretches that an average may lose because channels cancel for a while."""
_MONO_FRAMES: Final = 50
"""Mono frames after which a track that declares one channel is trusted to have one."""
_LOW_RATE: Final = 2000
"""Samples per second that are enough for frequencies below 1 kHz."""
_MAX_SAMPLE: Final = 16.0
"""Samples are clipped to this (full scale is 1); codecs overshoot to 4 at most, damaged floats can have any value."""

_PCM_SCALE: Final = {"u1": 128.0, "i2": 2.0**15, "i4": 2.0**31, "i8": 2.0**63}
_NAMES: Final = {"FL": "left", "FR": "right", "FC": "center"}
_LOW_FREQUENCIES: Final = frozenset({"LFE", "LFE2"})


@dataclass(frozen=True)
class Choice:
    """The channels used from one channel layout.

    Attributes
    ----------
    channels : tuple of int
        Channels that are averaged; a single one if a channel is used alone.
    name : str
        ``mono``, ``mean``, ``left``, ``right``, ``center``, or for example ``channel 3`` for an unnamed channel.
    """

    channels: tuple[int, ...]
    name: str


class Downmix:
    """Mixes one track to mono, with one choice per channel layout, since a track may change its layout midway.

    Parameters
    ----------
    path : Path
        The file.
    index : int
        The stream's number.
    max_seconds : float
        Seconds of sound to analyze at most.

    Raises
    ------
    UnreadableVideo
        If the file cannot be opened as media.
    """

    def __init__(self, path: Path, index: int, max_seconds: float) -> None:
        self._track = (path, index, max_seconds)
        self._choices, self._complete = _survey_track(*self._track, read_all=False)
        self._samples_by_choice: dict[str, int] = {}

    def mix(self, frame: av.AudioFrame, skipped: int = 0) -> NDArray[np.float32]:
        """Return the samples of the chosen channels, shape (channels, n); their mean is the mono signal.

        Parameters
        ----------
        frame : av.AudioFrame
            A decoded frame of the track.
        skipped : int
            Samples to leave out at its beginning.
        """
        layout = layout_of(frame)
        if len(layout) > 1 and layout not in self._choices and not self._complete:
            self._choices, self._complete = _survey_track(*self._track, read_all=True)
        usual = Choice(tuple(range(len(layout))), "mono" if len(layout) == 1 else "mean")
        choice = self._choices.get(layout, usual)
        self._samples_by_choice[choice.name] = self._samples_by_choice.get(choice.name, 0) + frame.samples
        return samples_of(frame)[list(choice.channels), skipped:]

    @property
    def name(self) -> str | None:
        """Name of the choice used for most of the track; None before the first frame."""
        return (
            max(self._samples_by_choice, key=lambda name: self._samples_by_choice[name])
            if self._samples_by_choice
            else None
        )

    @property
    def changes(self) -> bool:
        """Whether more than one choice was used."""
        return len(self._samples_by_choice) > 1


def layout_of(frame: av.AudioFrame) -> tuple[str, ...]:
    """Return FFmpeg's names of a frame's channels (FL, FR, FC, LFE, ...); two unnamed ones are left and right."""
    names = tuple(str(channel.name) for channel in frame.layout.channels)
    return ("FL", "FR") if len(names) == 2 and set(names) == {"NONE"} else names


def samples_of(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Return a frame's samples as floats, shape (channels, n); full scale is 1, and NaN and infinity become 0."""
    values: Any = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    code = f"{values.dtype.kind}{values.dtype.itemsize}"
    scaled = values.astype(np.float32)
    if code in _PCM_SCALE:
        scaled = (scaled - (128.0 if code == "u1" else 0.0)) / np.float32(_PCM_SCALE[code])
    sound = np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(sound, -_MAX_SAMPLE, _MAX_SAMPLE, out=sound)  # type: ignore[no-any-return]


def _survey_track(
    path: Path, index: int, max_seconds: float, *, read_all: bool
) -> tuple[dict[tuple[str, ...], Choice], bool]:
    """Decode a track and make a choice for each layout; also return whether all of it was read.

    A track that declares one channel and has one is left after a second, unless `read_all`.
    """
    surveys: dict[tuple[str, ...], _Survey] = {}
    elapsed, mono, complete = 0.0, 0, True
    with closing(open_container(path)) as container:
        stream = container.streams[index]
        if stream.codec_context is None:
            return {}, True
        may_stop = not read_all and stream.codec_context.layout.nb_channels <= 1
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
            if may_stop and not surveys and mono >= _MONO_FRAMES:
                complete = False
                break
            if elapsed >= max_seconds:
                break
    return {layout: choose_channels(survey.bands(), layout) for layout, survey in surveys.items()}, complete


def choose_channels(bands: Sequence[NDArray[np.float64]], layout: tuple[str, ...]) -> Choice:
    """Choose which of a track's channels to use.

    Parameters
    ----------
    bands : sequence of ndarray of float64, shape (pieces, channels, channels)
        Covariances of the channels in short pieces of the track: of the full spectrum first, then of parts of it.
    layout : tuple of str
        FFmpeg's names of the channels.

    Returns
    -------
    Choice
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
    """Return whether an average keeps enough of the best channel's signal, overall and stretch by stretch."""
    average, alone = _signals(powers, [mix, [best]])
    if average < _MIN_KEPT * alone:
        return False
    by_average, by_one = lost_shares(powers, mix, best)
    return by_average <= _MAX_LOST or by_one >= by_average


def lost_shares(powers: NDArray[np.float64], mix: list[int], best: int) -> tuple[float, float]:
    """Return the shares of a track's loud stretches that are lost by an average, and by the best channel alone.

    Parameters
    ----------
    powers : ndarray of float64, shape (pieces, channels, channels)
        Covariances of the channels, one per piece.
    mix : list of int
        Channels that are averaged.
    best : int
        The channel that would be used alone.
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
    """Return the varying power of averages of channels; if nothing varies in any of them, return the total power."""
    if not len(powers):
        return [0.0] * len(mixes)
    every = range(len(powers))
    mixed = np.maximum([powers[np.ix_(every, mix, mix)].mean(axis=(1, 2)) for mix in mixes], 0)
    total = mixed.mean(axis=1)
    varying = total - np.percentile(mixed, _QUIET_PERCENT, axis=1)
    varying[varying < _MIN_VARYING * total] = 0
    return [float(v) for v in (varying if varying.any() else total)]


class _Survey:
    """Collects covariances of the channels, one per piece: of the full spectrum and of frequencies below 1 kHz."""

    def __init__(self, channels: int, rate: int) -> None:
        self._decimation = max(1, rate // _LOW_RATE)
        self._length = self._decimation * max(1, round(_PIECE_S * rate / self._decimation))
        self._rest = np.empty((channels, 0), np.float32)
        self._powers = tuple([np.empty((0, channels, channels), np.float32)] for _ in range(2))
        self._pending: list[NDArray[np.float32]] = []
        self._pending_samples = 0

    def add(self, samples: NDArray[np.float32]) -> None:
        """Add the next samples, shape (channels, n)."""
        self._pending.append(samples)
        self._pending_samples += samples.shape[1]
        if self._pending_samples >= 20 * self._length:
            self._condense()

    def bands(self) -> list[NDArray[np.float64]]:
        """Return the covariances of each band; an incomplete last piece is left out."""
        self._condense()
        return [np.concatenate(band).astype(np.float64) for band in self._powers]

    def _condense(self) -> None:
        samples = np.concatenate([self._rest, *self._pending], axis=1)
        count = samples.shape[1] // self._length
        pieces = samples[:, : count * self._length].reshape(len(samples), count, self._length).swapaxes(0, 1)
        steps = self._length // self._decimation
        low = pieces.reshape(count, len(samples), steps, self._decimation).mean(axis=3)
        for band, part in zip(self._powers, (pieces, low), strict=True):
            part = part - part.mean(axis=2, keepdims=True)
            band.append(part @ part.swapaxes(1, 2) / part.shape[2])
        self._rest = samples[:, count * self._length :]
        self._pending, self._pending_samples = [], self._rest.shape[1]
