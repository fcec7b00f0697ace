"""Which channels of a track are used: synthetic voices, inverted, delayed, dead or humming, in many layouts."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from iss_assets.media.audio import extract_audio, read_waveform
from iss_assets.settings import AudioSettings
from iss_assets_tests.media.sounds import voice

RATE = 22050
Sound = NDArray[np.float32]
VOICE = voice(4.0, RATE)
NOISE = np.random.default_rng(5).normal(size=(8, len(VOICE))).astype(np.float32)


def write_sound(path: Path, parts: list[tuple[Sound, str]], codec: str = "pcm_f32le") -> Path:
    """Write a sound track of parts, each (channels, n) in its own layout and by an encoder of its own."""
    with av.open(str(path), "w") as out:
        stream: Any = None
        at = 0
        for samples, layout in parts:
            if stream is None:
                stream = out.add_stream(codec, rate=RATE, layout=layout)
                encoder: Any = stream
            else:
                encoder = av.CodecContext.create(codec, "w")
                encoder.sample_rate, encoder.layout, encoder.format = RATE, layout, stream.format
                encoder.time_base = Fraction(1, RATE)
            resampler = av.AudioResampler(stream.format, layout, RATE)
            for start in range(0, samples.shape[1], 1024):
                block = np.ascontiguousarray(samples[:, start : start + 1024], np.float32)
                frame = av.AudioFrame.from_ndarray(block.T.reshape(1, -1), "flt", layout)
                frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
                at += block.shape[1]
                for ready in resampler.resample(frame):
                    _mux(out, stream, encoder.encode(ready))
            _mux(out, stream, encoder.encode(None))
    return path


def _mux(out: Any, stream: Any, packets: list[Any]) -> None:
    for packet in packets:
        packet.stream = stream
        out.mux(packet)


def downmixed(path: Path) -> tuple[str, Sound]:
    made = extract_audio(path, AudioSettings())
    assert made is not None
    return made.audio["downmix"][0].as_py(), read_waveform(made.audio["waveform"][0].as_py())[0]


def of_channels(tmp_path: Path, *channels: Sound, layout: str = "stereo") -> tuple[str, Sound]:
    return downmixed(write_sound(tmp_path / "sound.mov", [(np.stack(channels).astype(np.float32), layout)]))


def _late(sound: Sound, seconds: float) -> Sound:
    """Delay by any time, between samples too."""
    turned = np.fft.rfft(sound) * np.exp(-2j * np.pi * np.fft.rfftfreq(len(sound)) * seconds * RATE)
    return np.fft.irfft(turned, len(sound)).astype(np.float32)


def _hum(level: float) -> Sound:
    t = np.arange(len(VOICE)) / RATE
    wave = np.sin(2 * np.pi * 50 * t) + 0.3 * np.sin(2 * np.pi * 150 * t + 1)
    return (level * _rms(VOICE) * wave / _rms(wave)).astype(np.float32)


def _noise(level: float, number: int = 0) -> Sound:
    return (level * _rms(VOICE) * NOISE[number]).astype(np.float32)


def _rms(sound: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(sound))))


AGREE = {
    "the same": (VOICE, VOICE),
    "twelve decibels apart": (VOICE, 0.25 * VOICE),
    "two microphones, a millisecond apart": (VOICE, 0.8 * _late(VOICE, 0.001)),
    "each with its own noise": (VOICE + _noise(0.2, 0), 0.7 * VOICE + _noise(0.2, 1)),
    "two microphones, half a millisecond apart": (VOICE, 0.9 * _late(VOICE, 0.0005)),
    "two that hum turned over": (VOICE + _hum(0.4), VOICE - _hum(0.4)),
    "a room": (VOICE, 0.5 * VOICE + 0.4 * _late(VOICE, 0.013) + 0.3 * _late(VOICE, 0.031)),
    "a constant offset in one": (VOICE * 0.5, VOICE * 0.5 + np.float32(0.4)),
    "silence": (0 * VOICE, 0 * VOICE),
    "noise alone": (_noise(0.1, 0), _noise(0.1, 1)),
    "hum alone": (_hum(0.1), _hum(0.1)),
}


@pytest.mark.parametrize("channels", AGREE.values(), ids=AGREE.keys())
def test_channels_that_agree_are_averaged_as_librosa_does(
    tmp_path: Path, channels: tuple[Sound, Sound]
) -> None:
    name, sound = of_channels(tmp_path, *channels)
    assert name == "mean"
    # to a step of the 24 bits that are stored
    assert np.abs(sound - np.mean(channels, axis=0)).max() < 1e-6


ONE_BETTER = {
    "turned over": (VOICE, -VOICE),
    "turned over and softer": (VOICE, -0.8 * VOICE),
    "turned over and much softer": (VOICE, -0.3 * VOICE),
    "turned over and a fifth of a millisecond late": (VOICE, -0.9 * _late(VOICE, 0.0002)),
    "turned over and a third of a millisecond late": (VOICE, -0.9 * _late(VOICE, 0.0003)),
    "turned over, with a hum that is not": (VOICE + _hum(0.3), -VOICE + _hum(0.3)),
    "dead": (VOICE, 0 * VOICE),
    "almost dead": (VOICE, 0.02 * VOICE),
    "dead, a little hum": (VOICE, _hum(0.1)),
    "dead, hum as loud as the voice": (VOICE, _hum(1.0)),
    "dead, hum louder than the voice": (VOICE, _hum(5.0)),
    "dead, a little noise": (VOICE, _noise(0.05)),
    "dead, noise as loud as the voice": (VOICE, _noise(1.0)),
    "dead, noise louder than the voice": (VOICE, _noise(5.0)),
}


@pytest.mark.parametrize("channels", ONE_BETTER.values(), ids=ONE_BETTER.keys())
@pytest.mark.parametrize("turned_round", [False, True])
def test_the_better_channel_is_used_where_they_cancel_or_one_is_dead(
    tmp_path: Path, channels: tuple[Sound, Sound], turned_round: bool
) -> None:
    better, worse = channels
    pair = (worse, better) if turned_round else (better, worse)
    name, sound = of_channels(tmp_path, *pair)
    if np.isclose(_rms(better), _rms(worse), rtol=0.05) and _rms(better + worse) < 0.5:
        assert name in ("left", "right")  # two that cancel, equally loud: either will do
        assert np.abs(np.abs(sound) - np.abs(np.clip(pair[name == "right"], -1, 1))).max() < 1e-6
    else:
        assert name == ("right" if turned_round else "left")
        assert np.abs(sound - np.clip(better, -1, 1)).max() < 1e-6


@pytest.mark.parametrize("turned_over_from", [0.0, 0.4, 0.75])
def test_channels_that_cancel_for_a_while_only_are_not_averaged(
    tmp_path: Path, turned_over_from: float
) -> None:
    long = np.tile(VOICE, 3)
    other = np.where(np.arange(len(long)) < turned_over_from * len(long), long, -long)
    name, sound = of_channels(tmp_path, long, other)
    assert name in ("left", "right")
    assert np.abs(np.abs(sound) - np.abs(np.clip(long, -1, 1))).max() < 1e-6


def test_channels_that_speak_in_turn_are_averaged(tmp_path: Path) -> None:
    # either alone would lose half of what is said
    long = np.tile(VOICE, 3)
    first = np.arange(len(long)) < len(long) / 2
    name, sound = of_channels(tmp_path, long * first, long * ~first)
    assert name == "mean"
    assert np.abs(sound - long / 2).max() < 1e-6


def test_levels_are_those_of_the_channel_that_is_used(tmp_path: Path) -> None:
    alone = extract_audio(write_sound(tmp_path / "a.mov", [(VOICE[None], "mono")]), AudioSettings())
    pair = extract_audio(
        write_sound(tmp_path / "b.mov", [(np.stack([VOICE, -VOICE]), "stereo")]), AudioSettings()
    )
    assert alone is not None and pair is not None
    for column in ("loudness_lufs", "snr_db", "peak", "clipped_share", "speech_share"):
        assert pair.audio[column][0].as_py() == pytest.approx(alone.audio[column][0].as_py(), abs=1e-6)
    assert alone.audio["downmix"][0].as_py() == "mono" and pair.audio["loudness_lufs"][0].as_py() > -40
    assert pair.audio_features.equals(alone.audio_features)


@pytest.mark.parametrize(("layout", "count"), [("5.1", 6), ("5.1(side)", 6), ("7.1", 8)])
def test_the_center_of_surround_sound_is_preferred(tmp_path: Path, layout: str, count: int) -> None:
    channels = [_noise(0.3, n) for n in range(count)]
    channels[2], channels[3] = VOICE, 3 * voice(4.0, RATE, seed=9)  # FFmpeg's order: FL FR FC LFE ...
    name, sound = of_channels(tmp_path, *channels, layout=layout)
    assert name == "center" and np.abs(sound - VOICE).max() < 1e-6


def test_surround_sound_with_a_dead_center_is_its_front_pair(tmp_path: Path) -> None:
    silent = 0 * VOICE
    pair = (VOICE, 0.8 * VOICE)
    name, sound = of_channels(tmp_path, *pair, _noise(0.01), silent, silent, silent, layout="5.1")
    assert name == "mean" and np.abs(sound - np.mean(pair, axis=0)).max() < 1e-6
    name, sound = of_channels(tmp_path, VOICE, -VOICE, silent, silent, silent, silent, layout="5.1")
    assert name in ("left", "right") and np.abs(np.abs(sound) - np.abs(VOICE)).max() < 1e-6
    name, sound = of_channels(tmp_path, silent, silent, silent, VOICE, VOICE, silent, layout="5.1")
    assert name == "channel 5" and np.abs(sound - VOICE).max() < 1e-6


def test_of_channels_without_names_those_with_speech_are_used(tmp_path: Path) -> None:
    quiet = [_noise(0.003, n) for n in range(4)]
    name, sound = of_channels(tmp_path, quiet[0], quiet[1], VOICE, quiet[3], layout="quad")
    assert name == "channel 3" and np.abs(sound - VOICE).max() < 1e-6
    name, sound = of_channels(tmp_path, quiet[0], quiet[1], VOICE, 0.9 * VOICE, layout="quad")
    assert name == "mean" and np.abs(sound - 0.95 * VOICE).max() < 1e-6


def test_a_track_that_changes_its_channels_midway_is_read_to_its_end(tmp_path: Path) -> None:
    parts = [(VOICE[None], "mono"), (np.stack([VOICE, -VOICE]), "stereo")]
    made = extract_audio(write_sound(tmp_path / "sound.ts", parts, codec="mp2"), AudioSettings())
    assert made is not None
    sound = read_waveform(made.audio["waveform"][0].as_py())[0]
    half = len(VOICE)
    assert len(sound) == pytest.approx(2 * half, abs=4096)
    assert _rms(sound[-half + 4096 :]) == pytest.approx(_rms(sound[: half - 4096]), rel=0.1)
    assert "changes its channels midway" in str(made.problem)


def test_the_choice_does_not_depend_on_the_rate_or_the_coding(tmp_path: Path) -> None:
    fast = soxr.resample(VOICE, RATE, 48000).astype(np.float32)
    for codec, suffix in (("aac", ".mp4"), ("flac", ".mkv"), ("pcm_s16le", ".mov"), ("libopus", ".webm")):
        path = tmp_path / f"sound{suffix}"
        with av.open(str(path), "w") as out:
            stream: Any = out.add_stream(codec, rate=48000, layout="stereo")
            resampler = av.AudioResampler(
                stream.format, "stereo", 48000, stream.codec_context.frame_size or 1024
            )
            frame = av.AudioFrame.from_ndarray(np.stack([fast, -0.9 * fast]), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            for ready in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(stream.encode(ready))
            out.mux(stream.encode(None))
        name, sound = downmixed(path)
        assert name == "left"
        assert _rms(sound) == pytest.approx(_rms(VOICE), rel=0.05)


def test_samples_that_are_no_sound_do_not_decide_and_break_nothing(tmp_path: Path) -> None:
    damaged = 0.5 * VOICE
    damaged[1000:1004] = [np.nan, np.inf, 1e30, -3e38]
    name, sound = of_channels(tmp_path, VOICE, damaged)
    assert name == "mean" and np.isfinite(sound).all()
    assert np.abs(sound[2000:] - 0.75 * VOICE[2000:]).max() < 1e-6
