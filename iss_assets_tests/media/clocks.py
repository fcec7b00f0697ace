"""Test videos whose pictures and sound both encode their source second, so that any cut, pause or shift can be measured.

A picture is a row of black and white fields: the number of the source frame in binary. The sound is a tone that rises
by 100 Hz per second, so that its pitch encodes the time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from scipy.signal import hilbert

from iss_assets.media.audio import AudioTables, extract_audio, read_waveform
from iss_assets.media.timeline import Timeline, read_timeline
from iss_assets.media.upright import UprightRgb
from iss_assets.media.video import FrameSampler, VideoInfo, probe, sample_frames
from iss_assets.settings import AudioSettings, VideoSettings

FPS = 25
RATE = 16000
_BITS, _FIELD = 10, 12
_LOW, _RISE = 400.0, 100.0


def marked_picture(number: int) -> NDArray[np.uint8]:
    bits = [(number >> b) & 1 for b in range(_BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, _FIELD)
    return np.repeat(np.tile(np.pad(row, (4, 4)), (32, 1))[:, :, None], 3, axis=2)


def number_in(picture: NDArray[np.uint8]) -> int:
    middle = picture[12:20, 4:-4].mean(axis=(0, 2)).reshape(_BITS, _FIELD)[:, 3:-3].mean(axis=1)
    return sum(int(v > 120) << b for b, v in enumerate(middle))


def rising_tone(start_s: float, end_s: float) -> NDArray[np.float32]:
    t = np.arange(round(start_s * RATE), round(end_s * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * (_LOW * t + _RISE * t**2 / 2))).astype(np.float32)


def second_in(sound: NDArray[np.float32], rate: int) -> float | None:
    """Return the source second in the middle of a piece of sound; None if it is silent."""
    if not len(sound) or np.abs(sound).max() < 0.01:
        return None
    phase = np.unwrap(np.angle(hilbert(sound)))
    edge = len(sound) // 5
    pitch = np.polyfit(np.arange(len(sound) - 2 * edge), phase[edge:-edge], 1)[0] * rate / (2 * np.pi)
    return float((pitch - _LOW) / _RISE)


def frames(start_s: float, end_s: float, at_s: float | None = None) -> list[tuple[int, float]]:
    """Return source frames as (number, time shown), shown from `at_s` on (by default at their own time)."""
    shift = 0.0 if at_s is None else at_s - start_s
    return [(n, n / FPS + shift) for n in range(round(start_s * FPS), round(end_s * FPS))]


def write_marked(
    path: Path,
    pictures: Sequence[tuple[int, float]],
    sounds: Sequence[tuple[float, float, float]] = (),
    *,
    codec: str = "libx264",
    sound_codec: str | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    fps: int = FPS,
    keep: Callable[[str, int, Any], bool] = lambda kind, number, packet: True,
) -> Path:
    """Write a video from source frames, each with the second at which it is shown, and pieces of sound.

    A piece is its first and last source second, and the second at which it is played. `keep` returns for a kind, packet
    number and packet whether it is written to the file.
    """
    default = {"libx264": {"crf": "14", "preset": "veryfast", "bf": "3", "g": "50", "sc_threshold": "0"}}
    with av.open(str(path), "w", options=muxing or {}) as out:
        stream: Any = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = _BITS * _FIELD + 8, 32, "yuv420p"
        stream.options = options or default.get(codec, {})
        if codec != "libx264":
            stream.bit_rate = 1_500_000
        stream.codec_context.time_base = Fraction(1, fps if path.suffix in (".avi", ".mpg") else 1000)
        track: Any = None
        if sounds:
            track = out.add_stream(
                sound_codec or {".mkv": "pcm_s16le", ".avi": "pcm_s16le"}.get(path.suffix, "aac")
            )
            track.rate, track.layout = RATE, "mono"
        packets: list[tuple[str, int, Any]] = []
        for number, at in pictures:
            frame = av.VideoFrame.from_ndarray(marked_picture(number), format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(at / frame.time_base)
            packets += [("picture", n, p) for n, p in enumerate(stream.encode(frame), len(packets))]
        packets += [("picture", n, p) for n, p in enumerate(stream.encode(), len(packets))]
        count = len(packets)
        if track is not None:
            resampler = av.AudioResampler(track.format, "mono", RATE, frame_size=1024)
            for start_s, end_s, at in sounds:
                samples = rising_tone(start_s, end_s)
                for begin in range(0, len(samples), 1024):
                    piece = np.ascontiguousarray(samples[None, begin : begin + 1024])
                    sound = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                    sound.sample_rate, sound.time_base = RATE, Fraction(1, RATE)
                    sound.pts = round(at * RATE) + begin
                    for ready in _converted(resampler, sound):
                        packets += [
                            ("sound", n, p) for n, p in enumerate(track.encode(ready), len(packets) - count)
                        ]
            packets += [("sound", n, p) for n, p in enumerate(track.encode(), len(packets) - count)]
        # in the order of a recorder: picture and sound of the same time are next to each other
        packets.sort(key=lambda p: float((p[2].dts if p[2].dts is not None else p[2].pts) * p[2].time_base))
        for kind, number, packet in packets:
            if keep(kind, number, packet):
                out.mux_one(packet)
    return path


def _converted(resampler: av.AudioResampler, frame: av.AudioFrame) -> list[av.AudioFrame]:
    """Convert a frame to the encoder's format without changing its time."""
    made = av.AudioResampler(resampler.format, "mono", RATE).resample(frame)
    for ready in made:
        ready.pts, ready.time_base = frame.pts, frame.time_base
    return made


class Played:
    """The code under test's result for a video: samples as (time, source second), sound, and problems."""

    def __init__(self, path: Path, settings: VideoSettings | None = None, fps: int = FPS) -> None:
        settings = settings or VideoSettings()
        self.info: VideoInfo = probe(path, settings)
        self.timeline: Timeline = read_timeline(path, settings)
        self.sampler: FrameSampler = sample_frames(path, settings)
        upright = UprightRgb()
        samples = [s for batch in self.sampler for s in batch]
        self.samples = [(s.frame_index / settings.fps, number_in(upright(s.frame)) / fps) for s in samples]
        self.times = [s.time_s for s in samples]
        self.tables: AudioTables | None = extract_audio(path, AudioSettings(), timeline=self.timeline)
        self.sound, self.rate = np.zeros(0, np.float32), 22050
        if self.tables is not None and self.tables.audio.num_rows:
            self.sound, self.rate = read_waveform(self.tables.audio["waveform"][0].as_py())

    @property
    def problems(self) -> str:
        sound = self.tables.problem if self.tables is not None else None
        return " ".join(filter(None, (self.info.problem, self.sampler.problem, sound)))

    def source_second_at(self, second: float) -> float | None:
        """Return which source second is played at a given second of the timeline."""
        middle, half = round(second * self.rate), round(0.1 * self.rate)
        return second_in(self.sound[middle - half : middle + half], self.rate)

    def agrees(
        self,
        duration_s: float,
        picture_at: Callable[[float], float],
        sound_at: Callable[[float], float | None] | None = None,
        *,
        step_s: float = 1 / FPS,
        sound_off_s: float = 0.02,
        ahead_s: float = 1e-3,
    ) -> None:
        """Compare with the right answer: the source second of picture and sound at every time of the timeline.

        A picture may be older than the moment by less than a source frame, `step_s`, and newer by `ahead_s`. For the
        sound, half a second around every jump of the right answer is left out.
        """
        assert abs(self.info.duration_s - duration_s) < step_s + 1e-3, (self.info.duration_s, duration_s)
        assert abs(len(self.samples) - duration_s * 10) <= 1 + 10 * step_s, (len(self.samples), duration_s)
        for moment, source in self.samples:
            age = picture_at(moment) - source
            assert -ahead_s <= age < step_s + 1e-3, (moment, source, picture_at(moment))
        if sound_at is None:
            return
        for moment in np.arange(0.3, duration_s - 0.3, 0.25):
            nearby = [sound_at(moment + d) for d in (-0.25, 0.0, 0.25)]
            here = nearby[1]
            if any((n is None) != (here is None) for n in nearby):
                continue
            found = self.source_second_at(moment)
            if here is None:
                assert found is None, (moment, found)
            elif abs(nearby[2] - nearby[0] - 0.5) < 0.01:  # type: ignore[operator]  # none is None if `here` is not
                assert found is not None and abs(found - here) < sound_off_s, (moment, found, here)


def edit(path: Path, track: int, entries: Sequence[tuple[float, ...]], wide: bool = False) -> None:
    """Replace the edit list of an mp4's track (from 0); the movie box must be the last one, as FFmpeg writes it.

    An entry is its duration in the movie's time scale (1000 per second), its start in the track's own, where -1 is an
    empty edit, and its speed, 1 if left out. `wide` writes numbers of 64 bits (version 1).
    """
    data = path.read_bytes()
    start = data.rindex(b"moov") - 4
    movie = _children(data[start + 8 :])
    at = [i for i, (kind, _) in enumerate(movie) if kind == b"trak"][track]
    rows = b"".join(
        struct.pack(
            ">Qqi" if wide else ">Iii", round(e[0]), round(e[1]), round(65536 * (e[2] if e[2:] else 1))
        )
        for e in entries
    )
    table = _box(b"elst", struct.pack(">BxxxI", wide, len(entries)) + rows)
    parts = [(kind, content) for kind, content in _children(movie[at][1]) if kind != b"edts"]
    parts.insert(1, (b"edts", table))
    movie[at] = (b"trak", b"".join(_box(*part) for part in parts))
    path.write_bytes(data[:start] + _box(b"moov", b"".join(_box(*child) for child in movie)))


def _children(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        found.append((kind, content[at + 8 : at + size]))
        at += size
    return found


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content
