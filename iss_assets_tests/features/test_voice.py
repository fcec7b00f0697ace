"""Voices whose pitch, noise, spectrum, syllables, and pauses are known because they are made here, sample by sample."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from afx_audio.extractors.egemaps import extract_egemaps_lld
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from iss_assets.features.voice import (
    Voice,
    chunk_spans,
    decode_for_voice,
    measure_voice,
    speech_stretches,
    summarize,
)
from iss_assets.features.voice_frames import HOP, RATE, VoiceFrames, measure_frames
from iss_assets.schemas.voice import VOICE_FEATURES
from iss_assets.settings import AudioSettings, VoiceSettings

SETTINGS = VoiceSettings()
Sound = NDArray[np.float32]


def harmonics(
    f0: float | NDArray[np.float64], seconds: float, db_per_hertz: float = -0.012
) -> NDArray[np.float64]:
    """Return a periodic sound, root mean square 1, whose harmonics fall by so many decibels per hertz."""
    rng = np.random.default_rng(7)
    pitch = np.broadcast_to(f0, int(seconds * RATE))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.zeros(len(phase))
    for k in range(1, int(7500 / pitch.max()) + 1):
        sound += 10 ** (db_per_hertz * k * pitch / 20) * np.cos(k * phase + rng.uniform(0, 6.28))
    return np.asarray(sound / np.sqrt((sound**2).mean()))


def noise(seconds: float) -> NDArray[np.float64]:
    return np.random.default_rng(8).normal(size=int(seconds * RATE))


def sentence(syllables: int, per_second: float, f0: float = 120.0) -> NDArray[np.float64]:
    """Return an open vowel that becomes loud and quiet again once a syllable."""
    rng = np.random.default_rng(1)
    at = np.arange(int(syllables / per_second * RATE)) / RATE
    sound = np.zeros(len(at))
    for k in range(1, int(7500 / f0)):
        hertz, gain = k * f0, 1.0 / k
        for formant in (700.0, 1200.0, 2500.0):
            width = 80 + 0.05 * formant
            gain *= formant**2 / np.hypot(hertz**2 - formant**2, hertz * width)
        sound += gain * np.cos(2 * np.pi * hertz * at + rng.uniform(0, 6.28))
    # a little breath, without which it is no voice to the detector
    sound = sound / np.sqrt((sound**2).mean()) + 0.05 * rng.normal(size=len(at))
    return np.asarray(0.1 * sound * np.maximum(np.sin(np.pi * per_second * at) ** 2, 0.02))


def silence(seconds: float) -> NDArray[np.float64]:
    return np.zeros(int(seconds * RATE))


def spoken(*parts: NDArray[np.float64]) -> Sound:
    """Join parts, in a quiet room."""
    sound = np.concatenate(parts)
    return (sound + 1e-4 * np.random.default_rng(9).normal(size=len(sound))).astype(np.float32)


def frames_of(sound: NDArray[np.float64]) -> VoiceFrames:
    """Measure the frames of a sound but for the first and last 0.1 s."""
    return measure_frames(sound.astype(np.float32), np.arange(RATE // 10, len(sound) - RATE // 10, HOP))


@pytest.mark.parametrize("f0", [80.0, 130.0, 210.0, 320.0])
def test_the_pitch_of_a_voice_is_the_one_it_was_made_with(f0: float) -> None:
    frames = frames_of(0.1 * harmonics(f0, 1.0))

    assert not np.isnan(frames.f0).any()
    assert np.median(frames.f0) == pytest.approx(f0, rel=0.005)


@pytest.mark.parametrize("f0", [90.0, 140.0, 220.0, 300.0])
@pytest.mark.parametrize("decibels", [5.0, 10.0, 15.0, 20.0])
def test_the_ratio_of_harmonics_to_noise_is_the_mixed_one_whatever_the_pitch(
    f0: float, decibels: float
) -> None:
    frames = frames_of(0.05 * (harmonics(f0, 1.5) + 10 ** (-decibels / 20) * noise(1.5)))

    assert np.nanmean(frames.hnr) == pytest.approx(decibels, abs=1.5)


def test_the_package_alone_would_call_a_low_voice_noisier_than_a_high_one() -> None:
    """The reason for a ratio of our own: both voices have no noise at all."""
    theirs = {
        f0: np.nanmean(extract_egemaps_lld(0.1 * harmonics(f0, 1.0), RATE)["egemaps_lld"][13])
        for f0 in (90.0, 300.0)
    }
    assert theirs[300.0] - theirs[90.0] > 6

    ours = [np.nanmean(frames_of(0.1 * harmonics(f0, 1.0)).hnr) for f0 in (90.0, 300.0)]
    assert min(ours) > 20


@pytest.mark.parametrize("slope", [-0.03, -0.02, -0.01])
def test_the_slope_of_the_spectrum_is_the_one_it_was_made_with_at_any_level(slope: float) -> None:
    sound = harmonics(100.0, 1.0, slope)
    loud, quiet = frames_of(0.2 * sound), frames_of(0.002 * sound)

    assert np.nanmean(loud.slope_high) == pytest.approx(slope, abs=0.002)
    assert np.nanmean(quiet.slope_high) == pytest.approx(np.nanmean(loud.slope_high), abs=1e-6)


def test_the_slope_below_500_hertz_is_measured_apart_from_the_one_above() -> None:
    hertz = np.arange(1, 75) * 100.0
    decibels = np.where(hertz <= 500, 0.01 * hertz, 5 - 0.02 * (hertz - 500))
    at = np.arange(RATE) / RATE
    sound = sum(
        10 ** (level / 20) * np.cos(2 * np.pi * f * at + f) for f, level in zip(hertz, decibels, strict=True)
    )
    frames = frames_of(0.01 * np.asarray(sound))

    assert np.nanmean(frames.slope_high) == pytest.approx(-0.02, abs=0.003)
    assert np.nanmean(frames.slope_low) > 0.005


def test_pitch_and_loudness_are_those_of_the_package() -> None:
    sound = sentence(8, 4.0) + 1e-4 * noise(2.0)
    theirs = extract_egemaps_lld(sound, RATE)["egemaps_lld"]
    # the package numbers frames by their first sample: 60 ms ones for pitch, 20 ms ones for loudness
    count = (len(sound) - 960) // HOP + 1
    ours = measure_frames(sound.astype(np.float32), np.arange(count) * HOP + 480)

    np.testing.assert_allclose(12 * np.log2(ours.f0 / 27.5), theirs[10][:count], rtol=1e-4)
    np.testing.assert_allclose(ours.loudness[1:-1], theirs[0][3 : count + 1], rtol=1e-3)


def test_half_the_amplitude_is_less_loud_and_nothing_else() -> None:
    sound = spoken(silence(0.5), sentence(12, 4.0), silence(0.5))
    loud, half = (measure_voice(np.float32(scale) * sound, SETTINGS) for scale in (1.0, 0.5))
    first, second = (summarize(v, 0, v.duration_s, SETTINGS) for v in (loud, half))

    for name in ("loudness", "loudness_range"):
        assert second.pop(name) == pytest.approx(0.5**0.66 * float(first.pop(name) or 0), rel=1e-3)
    assert first["f0_median_hz"] is not None
    for name, value in first.items():
        assert second[name] == (value if value is None else pytest.approx(value, rel=1e-3)), name


def test_a_voice_far_below_full_scale_is_measured_too() -> None:
    sound = spoken(silence(0.5), sentence(12, 4.0), silence(0.5))
    voice = measure_voice(np.float32(0.01) * sound, SETTINGS)

    assert summarize(voice, 0, voice.duration_s, SETTINGS)["f0_median_hz"] == pytest.approx(120, rel=0.005)


def test_the_range_of_the_pitch_is_the_middle_three_fifths_of_a_glide() -> None:
    semitones = np.linspace(0, 10, 2 * RATE)
    frames = frames_of(0.1 * harmonics(100 * 2 ** (semitones / 12), 2.0))
    times = np.arange(len(frames.f0)) / 100
    voice = Voice(times[-1], np.array([[0.0, times[-1]]]), times, frames, np.empty(0))

    # 20 to 80 % of ten semitones, less the 0.1 s at both ends
    found = summarize(voice, 0, times[-1], SETTINGS)["f0_range_semitones"]
    assert found == pytest.approx(0.6 * 10 * 1.8 / 2.0, abs=0.15)


@pytest.mark.parametrize("pause", [0.4, 1.0, 2.0])
def test_pauses_are_counted_and_measured_between_the_first_word_and_the_last(pause: float) -> None:
    parts = [silence(0.7), *[sentence(6, 4.0), silence(pause)] * 3, sentence(6, 4.0), silence(1.3)]
    voice = measure_voice(spoken(*parts), SETTINGS)
    row = summarize(voice, 0, voice.duration_s, SETTINGS)

    assert row["pause_count"] == 3
    # a window of the detector is 32 ms
    assert row["pause_median_s"] == pytest.approx(pause, abs=0.064)
    assert row["pause_total_s"] == pytest.approx(3 * pause, abs=0.2)
    assert row["phonation_share"] == pytest.approx(6 / (6 + 3 * pause), abs=0.03)


def test_a_silence_within_a_word_is_not_a_pause() -> None:
    voice = measure_voice(spoken(silence(0.5), sentence(6, 4.0), silence(0.1), sentence(6, 4.0)), SETTINGS)
    row = summarize(voice, 0, voice.duration_s, SETTINGS)

    assert (row["pause_count"], row["pause_total_s"], row["pause_median_s"]) == (0, 0, None)
    assert row["phonation_share"] == 1


@pytest.mark.parametrize("per_second", [4.0, 5.0, 6.0])
def test_syllables_are_counted_with_pauses_and_without(per_second: float) -> None:
    parts = [silence(0.5), sentence(15, per_second), silence(1.0), sentence(15, per_second), silence(0.5)]
    voice = measure_voice(spoken(*parts), SETTINGS)
    row = summarize(voice, 0, voice.duration_s, SETTINGS)

    assert len(voice.nuclei_s) == pytest.approx(30, abs=1)
    assert row["articulation_rate"] == pytest.approx(per_second, rel=0.07)
    assert row["speech_rate"] == pytest.approx(30 / (30 / per_second + 1.0), rel=0.07)


def test_chunks_add_up_to_the_whole() -> None:
    parts = [silence(1.5), *[sentence(9, 4.0), silence(1.3)] * 4]
    sound = spoken(*parts)[: 16 * RATE]
    sound = np.pad(sound, (0, 16 * RATE - len(sound)))
    voice = measure_voice(sound, SETTINGS)
    (_, first, last), *chunks = chunk_spans(voice.duration_s, AudioSettings())
    rows = [summarize(voice, start, end, SETTINGS) for _, start, end in chunks]
    total = summarize(voice, first, last, SETTINGS)

    assert [number for number, _, _ in chunks] == [0, 1, 2, 3]
    for name in ("speech_s", "voiced_s", "pause_count", "pause_total_s"):
        assert sum(float(row[name] or 0) for row in rows) == pytest.approx(float(total[name] or 0)), name


def test_a_chunk_inside_a_pause_has_a_share_of_speech_but_no_voice() -> None:
    voice = measure_voice(spoken(sentence(8, 4.0), silence(8.0), sentence(8, 4.0)), SETTINGS)
    row = summarize(voice, 4.0, 8.0, SETTINGS)

    assert row["phonation_share"] == 0
    assert row["pause_total_s"] == pytest.approx(4.0)
    assert (row["pause_count"], row["pause_median_s"]) == (0, None)  # it began in the chunk before
    assert row["f0_median_hz"] is row["loudness"] is row["speech_rate"] is None


@pytest.mark.parametrize("sound", [silence(5.0), 0.01 * noise(5.0)], ids=["silence", "noise"])
def test_where_nobody_speaks_measures_are_empty_and_not_zero(sound: NDArray[np.float64]) -> None:
    voice = measure_voice(sound.astype(np.float32), SETTINGS)
    row = summarize(voice, 0, voice.duration_s, SETTINGS)

    assert {name for name in VOICE_FEATURES if row[name] is not None} == set()
    assert (row["speech_s"], row["voiced_s"]) == (0, 0)


def test_speech_without_a_voice_has_pace_but_no_pitch() -> None:
    """Whispering: speech to the detector, noise to the ear."""
    frames = frames_of(0.05 * noise(2.0))
    times = np.arange(len(frames.f0)) / 100
    row = summarize(Voice(2.0, np.array([[0.0, 2.0]]), times, frames, times[:4]), 0, 2.0, SETTINGS)

    assert row["speech_rate"] == 2
    assert row["loudness"] is not None
    assert row["f0_median_hz"] is row["f0_range_semitones"] is row["hnr_db"] is None


def test_a_click_is_neither_speech_nor_the_end_of_a_pause() -> None:
    speaking = np.zeros(200, bool)
    speaking[10:60] = speaking[120:170] = True
    speaking[90:92] = True

    assert speech_stretches(speaking, 0.25).round(3).tolist() == [[0.32, 1.92], [3.84, 5.44]]


def test_the_stored_waveform_is_decoded_block_by_block_without_a_seam() -> None:
    rate = 22_050
    at = np.arange(65 * rate) / rate
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * 200 * at), rate, format="FLAC", subtype="PCM_24")
    samples = decode_for_voice(file.getvalue())

    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(65 * RATE) / RATE)
    expected = sosfilt(butter(2, 20, "highpass", fs=RATE, output="sos"), tone)
    assert len(samples) == 65 * RATE
    np.testing.assert_allclose(samples[RATE:-RATE], expected[RATE:-RATE], atol=1e-4)
    assert len(decode_for_voice(b"")) == 0


def test_what_a_microphone_adds_to_every_sample_changes_nothing() -> None:
    """An offset, still or drifting, made a breathy voice 11 dB clearer and took five of six syllables away."""
    rng = np.random.default_rng(2)
    voice = sentence(24, 4.0)
    breathy = spoken(silence(0.5), 0.1 * voice + 0.001 * rng.normal(size=len(voice)), silence(0.5))
    at = np.arange(len(breathy)) / RATE

    def measured(offset: NDArray[np.float64] | float) -> dict[str, float | int | None]:
        file = io.BytesIO()
        soundfile.write(file, breathy + offset, RATE, format="FLAC", subtype="PCM_24")
        found = measure_voice(decode_for_voice(file.getvalue()), SETTINGS)
        return summarize(found, 0, found.duration_s, SETTINGS)

    without = measured(0.0)
    assert without["speech_rate"] == pytest.approx(4, abs=0.5) and without["hnr_db"] == pytest.approx(
        13.5, abs=1
    )
    for offset in (0.02, -0.1):
        for name, value in measured(offset).items():
            assert value == (without[name] if value is None else pytest.approx(without[name], rel=0.01)), name
    # the detector of speech hesitates at a drifting offset; what is measured where it hears some does not
    drifting = measured(0.05 * np.cos(2 * np.pi * 0.3 * at))
    assert drifting["hnr_db"] == pytest.approx(without["hnr_db"], abs=0.3)
    for name in ("speech_rate", "f0_median_hz", "loudness", "spectral_slope_0_500"):
        assert drifting[name] == pytest.approx(without[name], rel=0.05), name


def test_long_speech_is_measured_in_blocks_without_a_gap() -> None:
    frames = frames_of(0.1 * harmonics(150.0, 25.0))

    assert len(frames.f0) == 2480
    np.testing.assert_allclose(frames.f0, 150, rtol=0.005)
    assert np.ptp(frames.loudness) < 0.01 * frames.loudness.mean()


def test_chunks_are_those_of_the_audio_features() -> None:
    assert chunk_spans(9.0, AudioSettings()) == [(-1, 0, 9.0), (0, 0, 4), (1, 4, 8)]
    kept = AudioSettings(keep_short_last_chunk=True)
    assert chunk_spans(9.0, kept)[-1] == (2, 8, 9)
    assert chunk_spans(0.0, kept) == []
