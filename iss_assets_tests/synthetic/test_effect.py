"""A planted sign can be measured in the recordings: the voice is higher and the eyes are narrowed on bad days."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from iss_assets.synthetic.plan import plan
from iss_assets.synthetic.sample import (
    SampleStudyError,
    narrowed_eyes,
    signed_voice,
    write_sample_study,
)
from iss_assets.synthetic.scenes import Scene, SceneSettings
from iss_assets.synthetic.voices import speak


def test_the_voice_is_higher_on_bad_days() -> None:
    voice = plan(1, seed=0)[0].voice
    assert signed_voice(voice, None) == voice
    assert signed_voice(voice, 6.0).pitch == pytest.approx(2 * voice.pitch)


def test_the_eyes_of_a_bad_day_are_narrower_in_every_frame_and_nothing_else_differs() -> None:
    look = plan(2, seed=0)[1].look
    speech = speak(plan(2, seed=0)[1].voice, 1.0, 5)
    calm, bad = (
        Scene(SceneSettings((240, 320), look, day_seed=5, narrowed=narrowed_eyes(sign)), speech)
        for sign in (None, 2.0)
    )
    for time in (0.2, 0.6):
        differs = np.abs(calm.picture_at(time).astype(int) - bad.picture_at(time)).max(axis=2) > 25
        assert 5 < differs.sum() < 0.03 * differs.size
    assert narrowed_eyes(None) == 0 < narrowed_eyes(-1) < narrowed_eyes(0) < narrowed_eyes(1) < 1


def test_an_impossible_effect_is_refused_and_another_effect_is_another_study(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="from -1 to 1"):
        write_sample_study(tmp_path / "s", effect=1.2)
    write = partial(write_sample_study, tmp_path / "s", 1, submissions_per_patient=1, seconds=1.0)
    assert write(effect=0.5)
    assert write(effect=0.5) == []
    with pytest.raises(SampleStudyError, match="other arguments"):
        write(effect=0.4)
