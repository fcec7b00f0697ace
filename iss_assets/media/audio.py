"""A video's sound track: decoded, resampled, stored losslessly, measured, and cut into 4-second chunks.

From a file to the tables ``audio``, ``mel_spectrograms`` and ``audio_features``, and from a stored waveform to the
latter two. The features are computed in ``sound_features``, the levels in ``speech``.

Times are those of the video's timeline (``timeline``): sound before the first picture is left out, missing sound is
filled with silence, and pauses cut out of the picture are cut out of the sound at the same place. So chunk *n* of the
sound belongs to chunk *n* of the frames.
"""

from __future__ import annotations

import io
import math
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import av
import av.error
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iss_assets.media.container import open_container, packets_of
from iss_assets.media.downmix import Downmix
from iss_assets.media.errors import UnreadableSound, UnreadableVideo
from iss_assets.media.row_store import RowStore
from iss_assets.media.samples import Samples, StoredSamples, unnamed_file
from iss_assets.media.speech import PeakHistogram, speech_levels
from iss_assets.media.timeline import Timeline, read_timeline
from iss_assets.media.video import sentence
from iss_assets.schemas.audio import Audio, AudioFeatures, MelSpectrograms
from iss_assets.settings import AudioSettings, VideoSettings

AUDIO_CODE_VERSION: Final = "7"
"""Part of the fingerprints: raise it when the same file and settings produce different rows than before. 7: a microphone's
offset is no noise, and hides no speech."""

_GAP_S: Final = 0.1
"""A gap in the presentation times longer than this is filled with silence, and a longer overlap is left out; shorter
ones are clock jitter."""
_MIN_REPORTED_S: Final = 0.05
"""Shortest total of filled-in silence that is reported: less would read as 0.0 s."""
_ROUNDING_S: Final = 0.005
"""Start times closer to the first picture than this differ only by the rounding of time stamps."""

_STEP: Final = np.float32(2.0**-23)
"""Difference between adjacent 24-bit values."""
_ZERO_THRESHOLD: Final = 1e-10
"""librosa counts smaller values as zero when it counts zero crossings."""
_MEL_ROWS: Final = 16
"""Chunks added to the Arrow table at a time: 1.4 MB."""


@dataclass(frozen=True)
class AudioTables:
    """One video's sound as rows of the tables, without video_id, patient_id and fingerprint.

    Attributes
    ----------
    audio : pyarrow.Table
        One row.
    mel_spectrograms : pyarrow.Table
        One row per chunk; none if the sound is shorter than a chunk.
    audio_features : pyarrow.Table
        One row per chunk, and one, chunk -1, for the whole; none if nothing could be decoded.
    problem : str or None
        What was wrong with the sound, in words for the coordinator.
    """

    audio: pa.Table
    mel_spectrograms: pa.Table
    audio_features: pa.Table
    problem: str | None


@dataclass
class _Track:
    """What is counted while a track is decoded."""

    downmix: Downmix
    histogram: PeakHistogram = field(default_factory=PeakHistogram)
    source_rate: int | None = None
    broken: int = 0
    silence_s: float = 0.0
    cut_at: float | None = None


def extract_audio(
    path: Path, settings: AudioSettings, scratch: Path | None = None, timeline: Timeline | None = None
) -> AudioTables | None:
    """Decode a video's sound track, mix it to mono as ``downmix`` chooses, and compute everything that is stored.

    Decoding and resampling (soxr HQ, librosa's default) run block by block, and samples and waveform are buffered in
    files; memory grows by 30 kB per second of sound, and without a scratch folder, where those files are in memory, by
    150 kB.

    Parameters
    ----------
    path : Path
        Any file that FFmpeg reads.
    settings : AudioSettings
        Rate, chunk length and sizes.
    scratch : Path, optional
        A folder to keep the rows in, as ``<table>.arrow``; the returned tables are memory-mapped from there. Without
        it they are in memory.
    timeline : Timeline, optional
        The timeline of this file; by default it is computed with the default `VideoSettings`.

    Returns
    -------
    AudioTables or None
        None if the file has no sound track. A track that cannot be decoded at all yields an audio row of 0 s and a
        `problem`.

    Raises
    ------
    UnreadableSound
        If the file cannot be opened as media.
    """

    try:
        timeline = timeline or read_timeline(path, VideoSettings())
        parts = _tracks(path, timeline)
    except UnreadableVideo as error:
        raise UnreadableSound(str(error)) from None
    if not parts:
        return None
    track = _Track(Downmix(path, parts[0][1], settings.max_seconds))
    with unnamed_file(scratch) as flac, StoredSamples(scratch) as samples:
        _store(
            _resampled(_decoded(path, parts, track, settings, timeline), settings), settings, flac, samples
        )
        levels = speech_levels(samples, settings.sample_rate)
        mel, features = _feature_tables(samples, settings, scratch)
        duration, problem = len(samples) / settings.sample_rate, _problem(track, samples)
        row = {
            "sample_rate": settings.sample_rate,
            "duration_s": duration,
            "loudness_lufs": levels.loudness_lufs,
            "snr_db": levels.snr_db,
            "clipped_share": track.histogram.clipped_share(),
            "speech_share": levels.speech_share,
            "high_band_db": levels.high_band_db,
            "peak": track.histogram.peak,
            "source_rate": track.source_rate,
            "noise_dbfs": levels.noise_dbfs,
            "mid_band_db": levels.mid_band_db,
            "inserted_silence_s": track.silence_s,
            "broken_packets": track.broken,
            "problem": problem,
            "downmix": track.downmix.name,
        }
        audio = RowStore(Audio.measured_schema(), scratch, "audio")
        audio.add(_audio_row(row, flac, in_memory=scratch is None))
    return AudioTables(audio.table(), mel, features, problem)


def decode_mono(
    path: Path, sample_rate: int, timeline: Timeline, max_seconds: float
) -> Iterator[NDArray[np.float32]]:
    """Decode a video's sound as `extract_audio` does, and return blocks of it instead of what is measured in it.

    Parameters
    ----------
    path : Path
        Any file that FFmpeg reads.
    sample_rate : int
        Hertz that the sound is resampled to.
    timeline : Timeline
        Of this file; the first sample is at its beginning.
    max_seconds : float
        Decoding stops here.

    Yields
    ------
    ndarray of float32, shape (n,)
        Mono samples; nothing where the file has no sound track.
    """
    parts = _tracks(path, timeline)
    if parts:
        settings = AudioSettings(sample_rate=sample_rate, max_seconds=max_seconds)
        track = _Track(Downmix(path, parts[0][1], max_seconds))
        yield from _resampled(_decoded(path, parts, track, settings, timeline), settings)


def _audio_row(row: dict[str, Any], flac: IO[bytes], in_memory: bool) -> pa.RecordBatch:
    """Combine a row's columns with the stored waveform, which is memory-mapped if the row goes to a file too."""
    schema = Audio.measured_schema()
    flac.seek(0, io.SEEK_END)
    size = flac.tell()
    if in_memory or not size:  # an empty file cannot be mapped
        flac.seek(0)
        data = pa.py_buffer(flac.read())
    else:
        data = pa.py_buffer(mmap.mmap(flac.fileno(), size, access=mmap.ACCESS_READ))
    ends = pa.py_buffer(np.array([0, size], np.int32))
    waveform = pa.Array.from_buffers(pa.binary(), 1, [None, ends, data])
    columns = [
        waveform if name == "waveform" else pa.array([row[name]], schema.field(name).type)
        for name in schema.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def features_from_waveform(blob: bytes, settings: AudioSettings) -> tuple[pa.Table, pa.Table]:
    """Recompute the rows of ``mel_spectrograms`` and ``audio_features`` from a stored waveform.

    Parameters
    ----------
    blob : bytes
        ``audio.waveform``.
    settings : AudioSettings
        With the rate that the waveform was stored with.

    Returns
    -------
    mel_spectrograms, audio_features : pyarrow.Table
        What `extract_audio` returned with the same settings, except for the rounding to 24 bits: within a relative
        error of 1e-4 or, for a mean near zero, 1e-4 of its usual size.

    Raises
    ------
    ValueError
        If the waveform's rate differs from the settings.
    """
    samples, rate = read_waveform(blob)
    if len(samples) and rate != settings.sample_rate:
        raise ValueError(
            f"the stored waveform has {rate} Hz, but the settings say {settings.sample_rate} Hz: extract again"
        )
    return _feature_tables(samples, settings)


def read_waveform(blob: bytes) -> tuple[NDArray[np.float32], int]:
    """Decode a stored waveform to mono float32 samples (n,) and its rate in hertz.

    A track that could not be decoded at all is stored as no bytes, since FLAC has no empty files: it returns no
    samples and a rate of 0.
    """
    import soundfile

    if not blob:
        return np.zeros(0, np.float32), 0
    samples, rate = soundfile.read(io.BytesIO(blob), dtype="float32")
    return samples, int(rate)


def chunk_bounds(size: int, settings: AudioSettings) -> list[tuple[int, int]]:
    """Return where each chunk of a sound of `size` samples begins and ends, by the stored sound's rate."""
    length = round(settings.chunk_seconds * settings.sample_rate)
    last = size if settings.keep_short_last_chunk else size - length + 1
    return [(start, min(start + length, size)) for start in range(0, last, length)]


def _feature_tables(
    samples: Samples, settings: AudioSettings, scratch: Path | None = None
) -> tuple[pa.Table, pa.Table]:
    from iss_assets.media.sound_features import feature_means, sound_features

    chunks = chunk_bounds(len(samples), settings)
    store = RowStore(MelSpectrograms.measured_schema(), scratch, "mel_spectrograms")
    mels: list[NDArray[np.float32]] = []
    rows: list[dict[str, Any]] = []
    for chunk, (start, stop) in enumerate(chunks):
        found = sound_features(samples[start:stop], settings)
        mels.append(found.mel)
        rows.append({"chunk_index": chunk, **found.means})
        if len(mels) == _MEL_ROWS or chunk == len(chunks) - 1:
            store.add(_mel_rows(chunk + 1 - len(mels), mels))
            mels.clear()
    if len(samples):
        rows.insert(0, {"chunk_index": -1, **feature_means(samples, settings)})
    return store.table(), pa.Table.from_pylist(rows, schema=AudioFeatures.measured_schema())


def _mel_rows(first: int, mels: list[NDArray[np.float32]]) -> pa.RecordBatch:
    """Return the rows of consecutive chunks, numbered from `first`."""
    columns = [
        pa.array(range(first, first + len(mels)), pa.int32()),
        pa.array([m.shape[1] for m in mels], pa.int32()),
        _nested_lists(mels),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=MelSpectrograms.measured_schema())


def _nested_lists(matrices: list[NDArray[np.float32]]) -> pa.Array:
    """Return matrices as nested Arrow lists without creating a Python object per value."""
    values = np.concatenate([m.ravel() for m in matrices]) if matrices else np.empty(0, np.float32)
    widths = np.concatenate([np.full(len(m), m.shape[1]) for m in matrices]) if matrices else np.empty(0, int)
    inner = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    outer = np.concatenate([[0], np.cumsum([len(m) for m in matrices])]).astype(np.int32)
    rows = pa.ListArray.from_arrays(inner, pa.array(values, pa.float32()))
    return pa.ListArray.from_arrays(outer, rows)


def _store(
    blocks: Iterator[NDArray[np.float32]], settings: AudioSettings, to: IO[bytes], samples: StoredSamples
) -> None:
    """Write 24-bit FLAC, and append the unrounded 32-bit samples to `samples` to be measured.

    24 bits are finer than any phone's codec; overshoot above full scale is clipped, as in every wav file. Values
    closer to zero than half a step keep their sign: where a recording begins in silence, the filters' ringing is
    thousandths of a step, and rounded to zero it would have no zero crossings.
    """
    import soundfile

    with soundfile.SoundFile(
        to, "w", samplerate=settings.sample_rate, channels=1, format="FLAC", subtype="PCM_24"
    ) as file:
        for block in blocks:
            samples.append(block)
            vanishing = (block < -_ZERO_THRESHOLD) & (block >= -_STEP / 2)
            file.write(np.where(vanishing, -_STEP, np.clip(block, -1.0, 1.0)))


def _resampled(
    blocks: Iterator[tuple[NDArray[np.float32], int]], settings: AudioSettings
) -> Iterator[NDArray[np.float32]]:
    import soxr

    resampler, rate, samples_in, samples_out = None, 0, 0, 0
    for block, block_rate in blocks:
        if resampler is None or block_rate != rate:
            if resampler is not None:
                yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
            resampler = soxr.ResampleStream(
                block_rate, settings.sample_rate, 1, dtype="float32", quality="HQ"
            )
            rate, samples_in, samples_out = block_rate, 0, 0
        out = resampler.resample_chunk(block)
        samples_in, samples_out = samples_in + len(block), samples_out + len(out)
        yield out
    if resampler is not None:
        rest = resampler.resample_chunk(np.empty(0, np.float32), last=True)
        # librosa rounds the length up and fills with zeros
        missing = int(np.ceil(samples_in * settings.sample_rate / rate)) - samples_out
        yield np.pad(rest[: max(0, missing)], (0, max(0, missing - len(rest))))


def _tracks(path: Path, timeline: Timeline) -> list[tuple[int, int]]:
    """Return the byte offset and sound track number of each part of the file; empty if there is no sound track."""
    found = [(part.start, part.audio) for part in timeline.parts if part.audio is not None]
    if found:
        return found
    with open_container(path) as container:
        # if no track can be decoded, the first one's row reports it
        return [(0, s.index) for s in container.streams.audio[:1]]


def _decoded(
    path: Path, parts: Sequence[tuple[int, int]], track: _Track, settings: AudioSettings, timeline: Timeline
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield mono blocks at the source's rate, aligned with the timeline, with silence where sound is missing."""
    elapsed = 0.0
    for frame, time_s in _frames(path, parts, track, timeline):
        rate = frame.sample_rate
        if frame.samples == 0 or rate <= 0:
            track.broken += 1
            continue
        track.source_rate = track.source_rate or rate
        gap = 0.0 if time_s is None else time_s - elapsed
        jitter = _GAP_S if elapsed else _ROUNDING_S
        skipped = round(-gap * rate) if gap < -jitter else 0
        if skipped >= frame.samples:
            continue
        channels = track.downmix.mix(frame, skipped)
        track.histogram.add(channels)
        samples = channels.mean(axis=0, dtype=np.float32)
        if gap > jitter and elapsed + gap < settings.max_seconds:
            silence = np.zeros(round(gap * rate), np.float32)
            if gap > _GAP_S:
                track.silence_s += gap - _paused(timeline, elapsed, elapsed + gap)
            elapsed += gap
            yield silence, rate
        elapsed += len(samples) / rate
        yield samples, rate
        if elapsed >= settings.max_seconds:
            track.cut_at = settings.max_seconds
            return


def _paused(timeline: Timeline, start_s: float, end_s: float) -> float:
    """Return the seconds between two times in which the picture pauses too, so that no sound is missing."""
    return sum(max(0.0, min(end_s, p.at_s + p.length_s) - max(start_s, p.at_s)) for p in timeline.pauses)


def _frames(
    path: Path, parts: Sequence[tuple[int, int]], track: _Track, timeline: Timeline
) -> Iterator[tuple[Any, float | None]]:
    """Yield the track's frames with their times on the timeline; None means directly after the previous frame."""
    times = iter(timeline.sounds)
    for start, index in parts:
        with open_container(path, start) as container:
            stream = container.streams[index]
            if stream.codec_context is None:
                continue
            for packet in packets_of(container, stream):
                if packet is None:
                    track.broken += 1
                    continue
                begins = next(times, None) if packet.size else None
                stamp = packet.pts
                for frame in _decode_packet(packet, track):
                    if begins is not None and math.isnan(begins):
                        continue
                    if begins is None or stamp is None or frame.pts is None or not frame.time_base:
                        yield frame, None
                    else:
                        # a decoder drops its priming samples and moves the time stamp accordingly
                        yield frame, float(begins + (frame.pts - stamp) * frame.time_base)


def _decode_packet(packet: Any, track: _Track) -> Sequence[Any]:
    try:
        return packet.decode()  # type: ignore[no-any-return]
    except (av.error.FFmpegError, ValueError):
        track.broken += 1
        return ()


def _problem(track: _Track, samples: Samples) -> str | None:
    issues = []
    if len(samples) == 0:
        issues.append("no sound could be decoded from the sound track")
    if track.broken:
        issues.append(f"{track.broken} damaged packets of sound were skipped")
    if track.silence_s >= _MIN_REPORTED_S:
        issues.append(f"{track.silence_s:.1f} s without sound data were filled with silence")
    if track.downmix.changes:
        issues.append("the sound changes its channels midway")
    if track.cut_at is not None:
        issues.append(f"sound after {track.cut_at:.0f} s was left out (setting audio.max_seconds)")
    return sentence(issues)
