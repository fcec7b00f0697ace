"""Measures of single pictures and crops."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from iss_assets.media.mask import measure_cover
from iss_assets.media.measures import (
    estimate_noise,
    measure_face,
    measure_frame,
    measure_text,
    perceptual_blur,
)

ASTRONAUT = data.astronaut()
GREY = cv2.cvtColor(ASTRONAUT, cv2.COLOR_RGB2GRAY)
SMALL = cv2.resize(GREY, (180, 180), interpolation=cv2.INTER_AREA)
CROP = cv2.resize(ASTRONAUT[62:172, 181:268], (160, 160), interpolation=cv2.INTER_LINEAR)
RNG = np.random.default_rng(0)


def _wall(level: int = 190) -> np.ndarray:
    shade = np.linspace(-12, 12, 640)[None, :] + RNG.normal(0, 2, (360, 640))
    return np.clip(level + shade, 0, 255).astype(np.uint8)


def _written(word: str, *, ink: int = 30, level: int = 190, size: float = 1.0, font: int = 0) -> np.ndarray:
    wall = _wall(level)
    cv2.putText(wall, word, (380, 90), font, size, (ink,), max(1, round(2 * size)), cv2.LINE_AA)
    return wall


def test_identical_pictures_have_equal_hashes_and_no_motion() -> None:
    first, second = measure_frame(SMALL, None), measure_frame(SMALL.copy(), SMALL)
    assert first.picture_hash == second.picture_hash
    assert first.motion is None and second.motion == 0


def test_one_changed_pixel_changes_the_hash() -> None:
    other = SMALL.copy()
    other[90, 90] += 1
    assert measure_frame(other, None).picture_hash != measure_frame(SMALL, None).picture_hash


def test_a_change_of_size_gives_no_motion() -> None:
    assert measure_frame(SMALL, GREY).motion is None


def test_luminance_contrast_highlight_and_glare_of_a_known_picture() -> None:
    picture = np.zeros((100, 100), np.uint8)
    picture[:, 50:] = 255
    found = measure_frame(picture, None)
    assert found.luminance == pytest.approx(0.5)
    assert found.contrast == pytest.approx(0.5)
    assert found.highlight == 1.0
    assert found.glare == 0.5


@pytest.mark.parametrize("sigma", [3.0, 8.0, 20.0])
def test_noise_is_estimated_within_a_fifth(sigma: float) -> None:
    smooth = cv2.GaussianBlur(GREY[100:356, 100:356], (0, 0), 3).astype(float)
    smooth = np.clip(smooth, 60, 190)
    noisy = np.clip(smooth + RNG.normal(0, sigma, smooth.shape), 0, 255).astype(np.uint8)
    assert estimate_noise(noisy) == pytest.approx(sigma, rel=0.2)


def test_noise_in_the_full_size_patch_is_not_hidden_by_scaling_down() -> None:
    noisy = np.clip(GREY + RNG.normal(0, 10, GREY.shape), 0, 255).astype(np.uint8)
    small = cv2.resize(noisy, (180, 180), interpolation=cv2.INTER_AREA)
    assert measure_frame(small, None, noisy[128:384, 128:384]).noise > 7
    assert measure_frame(small, None).noise < 7


def test_clipped_black_is_no_proof_of_a_clean_picture() -> None:
    assert estimate_noise(np.zeros((256, 256), np.uint8)) == 0
    picture = np.zeros((256, 256), np.uint8)
    picture[:64] = np.clip(100 + RNG.normal(0, 10, (64, 256)), 0, 255).astype(np.uint8)
    assert estimate_noise(picture) == pytest.approx(10, rel=0.2)


def test_face_measures_leave_the_corners_out() -> None:
    crop = np.full((160, 160, 3), 100, np.uint8)
    for corner in (np.s_[:20, :20], np.s_[:20, -20:], np.s_[-20:, :20], np.s_[-20:, -20:]):
        crop[corner] = 255
    found = measure_face(crop)
    assert found.luminance == pytest.approx(100 / 255, abs=0.01)
    assert found.glare == 0 and found.highlight == pytest.approx(100 / 255, abs=0.01)


def test_a_blown_out_patch_on_the_face_is_glare() -> None:
    crop = CROP.copy()
    crop[60:90, 60:100] = 255
    assert measure_face(CROP).glare < 0.01
    assert measure_face(crop).glare > 0.04


@pytest.mark.parametrize("bad", [np.zeros((0, 5), np.uint8), np.zeros((5, 5)), np.zeros((5, 5, 3), np.uint8)])
def test_what_is_no_gray_picture_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="8-bit"):
        measure_frame(bad, None)


def test_a_crop_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        measure_face(np.zeros((160, 120, 3), np.uint8))


def test_blur_grows_with_blurring_and_not_with_darkness() -> None:
    luma = cv2.cvtColor(cv2.resize(CROP, (80, 80), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    sharp, soft, softer = (
        perceptual_blur(p)
        for p in (luma, cv2.GaussianBlur(luma, (0, 0), 1.5), cv2.GaussianBlur(luma, (0, 0), 4))
    )
    assert sharp < soft < softer
    assert perceptual_blur((luma * 0.3).astype(np.uint8)) == pytest.approx(sharp, abs=0.05)


@pytest.mark.parametrize("word", ["ROOM 204", "EXIT 7", "A113", "Radiology", "PUSH", "42 17"])
@pytest.mark.parametrize(("ink", "level"), [(30, 190), (235, 70)])
def test_a_sign_on_the_wall_is_seen_dark_on_light_and_light_on_dark(word: str, ink: int, level: int) -> None:
    share = measure_text(_written(word, ink=ink, level=level), (120, 80, 260, 260))
    assert 0.001 < share < 0.1


@pytest.mark.parametrize("font", [0, 2, 3, 4])
@pytest.mark.parametrize("size", [0.7, 1.0, 1.6])
def test_letters_of_several_sizes_and_typefaces_are_seen(font: int, size: float) -> None:
    assert measure_text(_written("ROOM 20", size=size, font=font), None) > 0.0005


def test_lettering_on_the_face_itself_does_not_count() -> None:
    assert measure_text(_written("ROOM 204"), (360, 40, 560, 140)) == 0


@pytest.mark.parametrize(
    "name", ["brick", "grass", "gravel", "coins", "chelsea", "coffee", "rocket", "camera", "moon"]
)
def test_pictures_without_lettering_show_none(name: str) -> None:
    picture = getattr(data, name)()
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    zoom = 360 / min(gray.shape)
    assert measure_text(cv2.resize(gray, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), None) == 0


def test_stripes_dots_and_books_are_no_lettering() -> None:
    stripes, dots, books = _wall(), _wall(), _wall(120)
    for i in range(12):
        cv2.rectangle(stripes, (40 + 40 * i, 60), (52 + 40 * i, 120), 40, -1)
        cv2.circle(dots, (40 + 40 * i, 90), 9, (40,), -1)
        high = 100 + int(RNG.integers(0, 30))
        cv2.rectangle(books, (40 + 26 * i, 260 - high), (62 + 26 * i, 260), int(RNG.integers(20, 220)), -1)
    for picture in (stripes, dots, books):
        assert measure_text(picture, None) == 0


MASKS = {"blue": (150, 190, 215), "white": (225, 225, 225), "black": (28, 28, 30), "gray": (120, 120, 125)}


def covered(crop: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Paint a mask from the middle of the nose down over a crop of 160 pixels."""
    outline = np.array([[14, 82], [80, 74], [146, 82], [140, 125], [112, 159], [48, 159], [20, 125]])
    cover = np.zeros((160, 160), np.uint8)
    cv2.fillPoly(cover, [outline], (255,))
    soft = cv2.GaussianBlur(cover, (0, 0), 1).astype(float)[..., None] / 255
    cloth = np.array(color) * (1 + 0.06 * np.sin(np.arange(160) / 8))[:, None, None]
    return np.clip(crop * (1 - soft) + cloth * soft, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("color", MASKS)
def test_a_mask_differs_from_the_skin_and_hides_the_lips(color: str) -> None:
    found = measure_cover(covered(CROP, MASKS[color]))
    assert found.difference > 14 and found.lips < 4


def test_a_bare_face_and_a_bearded_one_show_their_lips() -> None:
    bearded = CROP.copy()
    beard = np.zeros((160, 160), np.uint8)
    cv2.fillPoly(
        beard,
        [np.array([[24, 96], [50, 112], [110, 112], [136, 96], [130, 140], [80, 159], [30, 140]])],
        (255,),
    )
    cv2.ellipse(beard, (80, 126), (27, 10), 0, 0, 360, (0,), -1)
    bearded[beard > 0] = (bearded[beard > 0] * 0.3 + RNG.normal(0, 8, (int((beard > 0).sum()), 1))).clip(
        0, 255
    )
    for crop in (CROP, bearded):
        found = measure_cover(crop)
        assert found.lips > 4 or found.difference < 14
