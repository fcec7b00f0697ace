"""Which of a file's tracks is the video, and which is the sound: one choice for probing, pictures and sound.

The video is the default track with more than one picture, otherwise the longest such track. Covers, thumbnails and
tracks of a single picture are never used. The sound is the default track if it can be decoded, otherwise the first other
one that can. This is tested by decoding a track's first packets: recent phones add spatial sound that FFmpeg cannot
decode, and flag it as default too. The common file, with one track of each kind, costs one decoded sound packet.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import av
import av.error

from iss_assets.media.container import packets_of, reopen
from iss_assets.media.errors import UnreadableVideo

_NOT_A_FILM: Final = (
    av.stream.Disposition.attached_pic
    | av.stream.Disposition.timed_thumbnails
    | av.stream.Disposition.still_image
)
_TRIES: Final = 50
"""Packets of a sound track that are tried before another track is preferred: one second of AAC."""
_LATE_TRIES: Final = 500
"""Packets tried if none of the first ones decodes: a damaged beginning is no reason to lose a whole track."""
_PICTURE_TRIES: Final = 300
"""Packets of a video track that are tried for a first picture: ten seconds of an ordinary video."""


@dataclass(frozen=True)
class ChosenStreams:
    """The chosen tracks of one open file.

    Attributes
    ----------
    video, audio : av stream or None
        Streams of the container; None if no track of that kind can be used.
    passed_over : tuple of str
        Notes for coordinators on tracks that a player might have chosen but that cannot be used here.
    no_video : UnreadableVideo or None
        Why there is no video.
    """

    video: Any
    audio: Any
    passed_over: tuple[str, ...] = ()
    no_video: UnreadableVideo | None = None


def choose_streams(container: Any) -> ChosenStreams:
    """Choose the video and the sound of an open file.

    Parameters
    ----------
    container : av.container.InputContainer
        Its position does not change: whatever has to be decoded for the choice is read from the file separately.
    """
    video, no_video, notes = _choose_video(container)
    audio, more = _choose_audio(container)
    return ChosenStreams(video, audio, (*notes, *more), no_video)


def still_picture() -> UnreadableVideo:
    """Return the error for a file that contains only a still picture."""
    return UnreadableVideo("no_video", "The file has no moving picture, only a still one.")


def _choose_video(container: Any) -> tuple[Any | None, UnreadableVideo | None, tuple[str, ...]]:
    films = [s for s in container.streams if s.type == "video" and not s.disposition & _NOT_A_FILM]
    usable = [s for s in films if s.codec_context is not None]
    notes = _counted(len(films) - len(usable), "video track that cannot be decoded")
    if not films:
        sound = ", only sound" if container.streams.audio else ""
        return None, UnreadableVideo("no_video", f"The file has no moving picture{sound}."), ()
    if not usable:
        return None, _cannot_decode(), ()
    lengths = _lengths(container, usable)
    moving = [s for s in usable if lengths[s.index].pictures != 1]
    notes += _counted(len(usable) - len(moving), "video track of a single picture")
    if not moving:
        return None, still_picture(), ()
    if len(moving) == 1:
        return moving[0], None, notes

    def rank(stream: Any) -> tuple[bool, bool, float]:
        length, default = lengths[stream.index], _is_default(stream)
        return length.pictures == 0, not default, 0.0 if default else -length.seconds

    # the first of equally ranked tracks wins, as in every player
    for place, stream in enumerate(sorted(moving, key=rank)):
        if _shows_a_picture(container, stream):
            return stream, None, notes + _counted(place, "video track that cannot be decoded")
    return None, _cannot_decode(), ()


def _cannot_decode() -> UnreadableVideo:
    return UnreadableVideo("unreadable", "The video is packed in a way that this machine cannot decode.")


@dataclass
class _Length:
    pictures: int = 0
    seconds: float = 0.0


def _lengths(container: Any, streams: Sequence[Any]) -> dict[int, _Length]:
    """Return the number of pictures and seconds of video tracks, from the file's index or else from the packets.

    Nothing is decoded. If there is only one track and no sign of a still picture, packets are not counted either.
    """
    if len(streams) == 1 and streams[0].frames != 1:
        return {streams[0].index: _Length(2)}
    if all(s.frames > 1 and s.duration and s.time_base for s in streams):
        return {s.index: _Length(s.frames, float(s.duration * s.time_base)) for s in streams}
    found = {s.index: _Length() for s in streams}
    first: dict[int, float] = {}
    with closing(reopen(container)) as own:
        for packet in packets_of(own, *(own.streams[s.index] for s in streams)):
            if packet is None or not packet.size:
                continue
            length = found[packet.stream.index]
            length.pictures += 1
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                at = float(stamp * packet.time_base)
                begin = first.setdefault(packet.stream.index, at)
                own_s = float((packet.duration or 0) * packet.time_base)
                length.seconds = max(length.seconds, at - begin + own_s)
    return found


def _shows_a_picture(container: Any, stream: Any) -> bool:
    with closing(reopen(container)) as own:
        for number, packet in enumerate(packets_of(own, own.streams[stream.index])):
            if packet is None or number > _PICTURE_TRIES:
                return False
            try:
                if packet.decode():
                    return True
            except (av.error.FFmpegError, ValueError):
                continue
    return False


@dataclass
class _Trial:
    """The result of decoding a sound track's first packets."""

    tried: int = 0
    failed: int = 0
    frames: int = 0

    @property
    def decodes(self) -> bool:
        return self.frames > 0 and self.failed <= self.tried / 2

    @property
    def hopeless(self) -> bool:
        return self.tried >= _TRIES and not self.decodes


def _choose_audio(container: Any) -> tuple[Any | None, tuple[str, ...]]:
    tracks = list(container.streams.audio)
    usable = [s for s in tracks if s.codec_context is not None]
    ranked = sorted(usable, key=lambda s: not _is_default(s))
    trials = _try_out(container, ranked)
    works = [s for s in ranked if trials[s.index].decodes] or [s for s in ranked if trials[s.index].frames]
    chosen = works[0] if works else None
    before = ranked.index(chosen) if chosen is not None else len(ranked)
    failed = [s for s in ranked[:before] if trials[s.index].tried]
    notes = _counted(len(tracks) - len(usable) + len(failed), "sound track that cannot be decoded")
    return chosen, notes + _counted(before - len(failed), "sound track without any sound in it")


def _try_out(container: Any, ranked: Sequence[Any]) -> dict[int, _Trial]:
    """Decode the first packets of sound tracks until it is certain which is the first that can be decoded.

    Tracks may begin late, so the file is read as far as necessary; only sound packets are read, and few are decoded.
    """
    trials = {s.index: _Trial() for s in ranked}
    if not ranked:
        return trials
    with closing(reopen(container)) as own:
        for packet in packets_of(own, *(own.streams[s.index] for s in ranked)):
            if packet is None:
                continue
            trial = trials[packet.stream.index]
            if not packet.size or trial.decodes or trial.tried >= _LATE_TRIES:
                continue
            trial.tried += 1
            try:
                trial.frames += sum(1 for frame in packet.decode() if frame.samples)
            except (av.error.FFmpegError, ValueError):
                trial.failed += 1
            if _is_settled([trials[s.index] for s in ranked]):
                break
    return trials


def _is_settled(trials: Sequence[_Trial]) -> bool:
    for trial in trials:
        if trial.decodes:
            return True
        if not trial.hopeless:
            return False
    return all(trial.tried >= _LATE_TRIES for trial in trials)


def _is_default(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.default)


def _counted(count: int, what: str) -> tuple[str, ...]:
    if not count:
        return ()
    verb = "was" if count == 1 else "were"
    return (f"{count} {what.replace('track', 'track' if count == 1 else 'tracks', 1)} {verb} passed over",)
