"""Faces of invented patients: two public-domain portraits, warped, toned, dressed and set in motion.

Turns a portrait into a head with its own look that talks, blinks and turns. Uniforms, name plates and background of the
portraits are cut off; a headscarf covers the cap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from iss_assets.synthetic.portraits import PORTRAITS, Pixels, Points, portrait_pixels

Floats = npt.NDArray[np.float32]

FACE_WIDTH: Final = 210.0
"""Width of a face in a head's own picture, in pixels."""

SKIN_LAB: Final = {
    "I": (71.0, 9.0, 15.0),
    "II": (67.0, 11.0, 18.0),
    "III": (62.0, 12.0, 20.0),
    "IV": (54.0, 13.0, 21.0),
    "V": (43.0, 13.0, 19.0),
    "VI": (33.0, 10.0, 13.0),
}
"""CIE Lab of skin by Fitzpatrick type: individual typology angles of Chardon et al. 1991 (above 55 degrees very light,
below -30 dark), with chroma as measured on cheeks."""

HAIR_LAB: Final = {
    "black": (20.0, 1.0, 2.0),
    "brown": (32.0, 7.0, 12.0),
    "fair": (58.0, 5.0, 24.0),
    "red": (42.0, 20.0, 28.0),
    "grey": (62.0, 0.0, 3.0),
}


@dataclass(frozen=True)
class Look:
    """The appearance of an invented patient's head.

    Attributes
    ----------
    portrait : str
        ``collins`` or ``hopper``.
    mirrored : bool
        Left and right exchanged.
    skin_type : str
        Fitzpatrick type I to VI.
    hair : str
        Key of `HAIR_LAB`.
    scarf : tuple of int or None
        Colour (RGB) of a headscarf or cap; None for hair. The Hopper portrait always has one.
    beard : float
        Strength of a stubble beard, 0 to 1.
    width, jaw, nose, eyes, chin : float
        Deviations of shape in units of about one standard deviation, -2 to 2.
    light_from : float
        Side from which the light comes, -1 (left) to 1 (right).
    """

    portrait: str
    mirrored: bool
    skin_type: str
    hair: str
    scarf: tuple[int, int, int] | None
    beard: float
    width: float
    jaw: float
    nose: float
    eyes: float
    chin: float
    light_from: float


@dataclass(frozen=True)
class _Curve:
    """A parabola through three points: ``y = a x² + b x + c`` between `left` and `right`."""

    coefficients: tuple[float, float, float]
    left: float
    right: float

    @classmethod
    def through(cls, points: Points) -> _Curve:
        x, y = np.array(points, np.float64).T
        a, b, c = np.polyfit(x, y, 2)
        return cls((float(a), float(b), float(c)), float(x.min()), float(x.max()))

    def at(self, x: Floats) -> Floats:
        a, b, c = self.coefficients
        return np.asarray((a * x + b) * x + c, np.float32)

    def belly(self, x: Floats) -> Floats:
        """Return a weight: 1 in the middle, falling to 0 at both ends."""
        middle, half = (self.left + self.right) / 2, (self.right - self.left) / 2
        return np.clip(1 - ((x - middle) / half) ** 2, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Expression:
    """What a face does in one frame: `mouth` and `blink` 0 to 1, `yaw` and `pitch` -1 to 1."""

    mouth: float = 0.0
    blink: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0


class Head:
    """One invented patient's head: an image with transparency that changes with the expression.

    Attributes
    ----------
    centre : tuple of float
        Middle of the face in the picture (x, y), in pixels.
    chin : float
        Height of the chin in the picture.
    skin_rgb : array of 3
        Mean color of the skin, for the neck.
    """

    def __init__(self, look: Look, seed: int, *, masked: bool = False):
        self.look = look
        portrait = PORTRAITS[look.portrait]
        rng = np.random.default_rng([seed, 11])
        scale = FACE_WIDTH / portrait.face_width
        left, top, right, bottom = portrait.crop
        width, height = round((right - left) * scale), round((bottom - top) * scale)
        self._shape = (height, width)
        picture = cv2.resize(
            portrait_pixels(look.portrait)[top:bottom, left:right],
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )

        def place(points: Points) -> list[tuple[float, float]]:
            return [((x - left) * scale, (y - top) * scale) for x, y in points]

        def fill(points: Points, feather: float) -> Floats:
            return filled(_rounded(points), (height, width), feather)

        self._x, self._y = np.meshgrid(
            np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        )
        oval = place(portrait.oval)
        self.centre = ((oval[0][0] + oval[2][0]) / 2, (oval[1][1] + oval[3][1]) / 2)
        self.chin = oval[3][1]
        self._nose = place([portrait.nose])[0]
        self._mouth = _Curve.through(place(portrait.mouth))
        self._eyes = [(_Curve.through(place(up)), _Curve.through(place(low))) for up, low in portrait.eyes]

        alpha = fill(place(portrait.outline), 1.6)
        skin = fill(place(portrait.skin), 4.0)
        scarf = fill(place(portrait.scarf), 1.2) if look.scarf else np.zeros_like(alpha)
        if look.scarf:
            alpha = np.maximum(scarf, fill(place(portrait.covered_outline), 1.6))
        picture = _sharpen(np.asarray(picture, np.uint8), 1.0 if look.portrait == "collins" else 0.3)
        picture = self._tone(picture, skin * (1 - scarf), alpha * (1 - skin) * (1 - scarf))
        self.skin_rgb = picture[(skin > 0.95) & (scarf < 0.05)].mean(0)
        if look.beard:
            picture = self._beard(picture, skin, rng)
        if look.scarf:
            picture = self._scarf(picture, scarf, rng)
        if masked:
            picture = self._mask(picture)
        self.masked = masked
        picture = self._light(picture)
        # colors are premultiplied by alpha, so that edges stay clean when resampled
        rgba = np.dstack([np.clip(picture, 0, 255) * alpha[..., None], alpha * 255]).astype(np.uint8)
        self._base = self._reshape(rgba)
        if look.mirrored:
            self._mirror()
        self._fields()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self._shape[1], self._shape[0]

    def _tone(self, picture: Pixels, skin: Floats, hair: Floats) -> Floats:
        """Shift skin and hair to the look's colors, keeping eyes, teeth and shading."""
        lab = np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
        spared = np.zeros_like(skin)
        for upper, lower in self._eyes:
            inside = (
                (self._y > upper.at(self._x) - 1)
                & (self._y < lower.at(self._x) + 1)
                & (upper.belly(self._x) > 0)
            )
            spared[inside] = 1
        teeth = (self._y < self._mouth.at(self._x)) & (self._mouth.belly(self._x) > 0.05)
        teeth &= (
            (self._y > self._mouth.at(self._x) - 0.1 * FACE_WIDTH) & (lab[..., 1] < 14) & (lab[..., 0] > 55)
        )
        spared[teeth] = 1
        skin = skin * (1 - 0.85 * gaussian_filter(spared, 1.2))
        for weight, target, floor in (
            (skin, SKIN_LAB[self.look.skin_type], 0.8),
            (hair, HAIR_LAB[self.look.hair], 0.6),
        ):
            sure = weight > 0.9
            if not sure.any():
                continue
            mean = lab[sure].mean(0)
            gain = np.clip(target[0] / mean[0], floor, 1.0) * min(1.0, 9.0 / float(lab[sure, 0].std()))
            moved = np.empty_like(lab)
            moved[..., 0] = target[0] + (lab[..., 0] - mean[0]) * gain
            moved[..., 1] = target[1] + (lab[..., 1] - mean[1]) * 0.8
            moved[..., 2] = target[2] + (lab[..., 2] - mean[2]) * 0.6
            lab += weight[..., None] * (moved - lab)
        # otherwise the whites of the eyes keep some of the old skin's red
        lab[..., 1:] *= 1 - 0.7 * gaussian_filter(spared, 1.5)[..., None]
        lab[..., 0] = np.clip(lab[..., 0], 2, 98)
        return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255, np.float32)

    def _beard(self, picture: Floats, skin: Floats, rng: np.random.Generator) -> Floats:
        """Darken jaw and upper lip with stubble."""
        x, y = (self._x - self.centre[0]) / FACE_WIDTH, (self._y - self._mouth_height) / FACE_WIDTH
        jaw = np.clip((np.hypot(x * 1.15, y + 0.28) - 0.36) / 0.1, 0, 1) * np.clip((y + 0.12) / 0.12, 0, 1)
        moustache = np.exp(-(((y + 0.1) / 0.035) ** 2)) * np.clip(1 - np.abs(x) / 0.2, 0, 1)
        lips = np.exp(-((x / 0.2) ** 4) - (((y - 0.01) / 0.055) ** 4))
        chin_end = np.clip((self.chin - self._y) / (0.05 * FACE_WIDTH) + 1, 0, 1)
        grain = gaussian_filter(rng.normal(size=skin.shape), 0.7)
        grain = np.clip(0.8 + 0.3 * grain / grain.std(), 0.3, 1.2)
        weight = np.clip(np.maximum(jaw, moustache) * (1 - lips) * chin_end, 0, 1) * grain
        weight = gaussian_filter(weight, 0.6) * skin * self.look.beard
        hair = np.array([34, 30, 28], np.float32)
        return np.asarray(picture + weight[..., None] * 0.5 * (hair - picture), np.float32)

    @property
    def _mouth_height(self) -> float:
        middle = np.array([(self._mouth.left + self._mouth.right) / 2], np.float32)
        return float(self._mouth.at(middle)[0])

    def _scarf(self, picture: Floats, scarf: Floats, rng: np.random.Generator) -> Floats:
        """Draw a headscarf over hair or cap: folds along the head, darker at the sides, a hem."""
        x = (self._x - self.centre[0]) / FACE_WIDTH
        y = (self._y - self.centre[1]) / FACE_WIDTH
        folds = np.zeros_like(scarf)
        for _ in range(7):
            slope, phase, width = rng.uniform(-0.5, 0.5), rng.uniform(-1.2, 0.1), rng.uniform(0.03, 0.09)
            folds += rng.uniform(-0.16, 0.16) * np.exp(-(((y + 0.5 * x**2 - slope * x - phase) / width) ** 2))
        weave = gaussian_filter(rng.normal(size=scarf.shape), 0.7) * 0.05
        round_head = np.sqrt(np.clip(1 - (x / 0.72) ** 2, 0.08, 1)) * 0.55 + 0.5
        hem = gaussian_filter(scarf, 5) < 0.55
        shade = (round_head + folds + weave) * np.where(hem, 0.86, 1.0)
        cloth = np.array(self.look.scarf, np.float32) * shade[..., None]
        # the hem casts a soft shadow on the forehead
        shadow = np.clip(gaussian_filter(np.roll(scarf, 5, axis=0), 5) - scarf, 0, 1)
        picture = picture * (1 - 0.45 * shadow[..., None])
        return np.asarray(picture + scarf[..., None] * (cloth - picture), np.float32)

    def _mask(self, picture: Floats) -> Floats:
        """Draw a pleated surgical mask from the nose to below the chin, with ear loops."""
        cx, fw = self.centre[0], FACE_WIDTH
        nose, chin = self._nose[1], self.chin
        top, bottom = nose - 0.08 * fw, chin + 0.03 * fw
        outline = [
            (cx - 0.13 * fw, top - 0.06 * fw),
            (cx, top - 0.09 * fw),
            (cx + 0.13 * fw, top - 0.06 * fw),
        ]
        outline += [
            (cx + 0.43 * fw, top + 0.06 * fw),
            (cx + 0.42 * fw, top + 0.4 * fw),
            (cx + 0.2 * fw, bottom),
        ]
        outline += [(cx, bottom + 0.03 * fw), (cx - 0.2 * fw, bottom), (cx - 0.42 * fw, top + 0.4 * fw)]
        outline += [(cx - 0.43 * fw, top + 0.06 * fw)]
        weight = filled(outline, self._shape, 1.0)
        x, y = (self._x - cx) / fw, (self._y - top) / (bottom - top)
        pleats = sum(np.exp(-(((y + 0.12 * x**2 - at) / 0.016) ** 2)) for at in (0.3, 0.5, 0.7))
        shade = (0.72 + 0.3 * np.sqrt(np.clip(1 - (x / 0.6) ** 2, 0, 1))) - 0.14 * np.asarray(pleats)
        cloth = np.array((170, 205, 222), np.float32) * shade[..., None]
        picture = picture + weight[..., None] * (cloth - picture)
        for side in (-1, 1):
            for start, end in ((0.07, -0.02), (0.38, 0.16)):
                a = (round(cx + side * 0.425 * fw), round(top + start * fw))
                b = (round(cx + side * 0.53 * fw), round(top + end * fw))
                cv2.line(picture, a, b, (225, 228, 230), 2, cv2.LINE_AA)
        return np.asarray(picture, np.float32)

    def _light(self, picture: Floats) -> Floats:
        """Light the head from one side and from above, like an ellipsoid."""
        x, y = (self._x - self.centre[0]) / FACE_WIDTH, (self._y - self.centre[1]) / FACE_WIDTH
        shade = 1 + 0.3 * self.look.light_from * np.clip(x / 0.7, -1, 1) - 0.08 * np.clip(y, -1, 1)
        return np.asarray(picture * shade[..., None], np.float32)

    def _reshape(self, rgba: Pixels) -> Pixels:
        """Warp the head to the look's proportions; eyes and mouth stay in place within a pixel or two."""
        look, fw = self.look, FACE_WIDTH
        x = self._x - self.centre[0]
        dx = x * 0.035 * look.width
        low = 1 / (1 + np.exp(-(self._y - self._mouth_height + 0.08 * fw) / (0.07 * fw)))
        dx += x * 0.05 * look.jaw * low
        near_nose = np.exp(
            -(((self._x - self._nose[0]) / (0.16 * fw)) ** 2) - ((self._y - self._nose[1]) / (0.12 * fw)) ** 2
        )
        dx += (self._x - self._nose[0]) * 0.12 * look.nose * near_nose
        dy = np.zeros_like(dx)
        for upper, lower in self._eyes:
            ex = (upper.left + upper.right) / 2
            ey = float((upper.at(np.array([ex], np.float32)) + lower.at(np.array([ex], np.float32)))[0] / 2)
            near = np.exp(-(((self._x - ex) / (0.15 * fw)) ** 2) - (((self._y - ey) / (0.11 * fw)) ** 2))
            dx += (self._x - ex) * 0.07 * look.eyes * near
            dy += (self._y - ey) * 0.07 * look.eyes * near
        below = np.clip((self._y - self._mouth_height) / (0.3 * fw), 0, 1)
        dy += 0.022 * fw * look.chin * below
        self.chin += 0.022 * fw * look.chin
        moved = cv2.remap(
            rgba,
            (self._x - dx).astype(np.float32),
            (self._y - dy).astype(np.float32),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_CONSTANT,
        )
        # a cubic kernel may overshoot: no color may exceed its alpha
        return np.minimum(moved, moved[..., 3:]).astype(np.uint8)

    def _mirror(self) -> None:
        width = self._shape[1] - 1
        self._base = np.ascontiguousarray(self._base[:, ::-1])

        def flip(curve: _Curve) -> _Curve:
            a, b, c = curve.coefficients
            return _Curve(
                (a, -2 * a * width - b, a * width**2 + b * width + c), width - curve.right, width - curve.left
            )

        self._mouth = flip(self._mouth)
        self._eyes = [(flip(up), flip(low)) for up, low in self._eyes]
        self.centre = (width - self.centre[0], self.centre[1])
        self._nose = (width - self._nose[0], self._nose[1])

    def _fields(self) -> None:
        """Compute once where each pixel moves when the jaw drops or the head turns."""
        fw, x, y = FACE_WIDTH, self._x, self._y
        line, belly = self._mouth.at(x), self._mouth.belly(x)
        middle, half = (self._mouth.left + self._mouth.right) / 2, (self._mouth.right - self._mouth.left) / 2
        jaw = np.exp(-(((x - middle) / (1.5 * half)) ** 2)) * np.clip(1 - (y - self.chin) / (0.25 * fw), 0, 1)
        jaw = np.minimum(jaw, 1)
        depth_below = np.clip((y - line) / (0.22 * fw), 0, 1)
        lips = np.sqrt(belly)
        self._jaw = np.where(y > line, lips + (0.8 * jaw - lips) * depth_below, 0).astype(np.float32)
        self._line, self._lips = line, lips
        r2 = ((x - self.centre[0]) / (0.62 * fw)) ** 2 + ((y - self.centre[1]) / (0.85 * fw)) ** 2
        depth = np.clip(1 - r2, 0, 1) ** 0.8
        depth += 0.45 * np.exp(
            -(((x - self._nose[0]) / (0.14 * fw)) ** 2) - (((y - self._nose[1]) / (0.2 * fw)) ** 2)
        )
        self._depth = depth.astype(np.float32)

    def show(self, expression: Expression) -> Pixels:
        """Return the head with an expression.

        Returns
        -------
        array, (height, width, 4), uint8
            RGB multiplied by the transparency, and the transparency (255 is opaque).
        """
        drop = np.float32((0.03 if self.masked else 0.065) * FACE_WIDTH * expression.mouth)
        map_x = self._x - np.float32(0.055 * FACE_WIDTH * expression.yaw) * self._depth
        map_y = self._y - np.float32(0.04 * FACE_WIDTH * expression.pitch) * self._depth
        # the mouth opens in the unturned image, so it is applied where the turned pixel comes from
        map_y = map_y - drop * self._jaw
        for upper, lower in self._eyes if expression.blink > 0.02 else ():
            self._close(map_y, upper, lower, expression.blink)
        shown = cv2.remap(self._base, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        if drop > 1 and not self.masked:
            depth = self._y - self._line
            opening = np.clip(np.minimum(depth + 0.5, drop * self._lips - depth + 0.5), 0, 1)
            opening *= np.clip(drop * self._lips, 0, 1)
            rows = slice(int(self._line.min() - 2), int(self._line.max() + drop + 4))
            weight = opening[rows, :, None]
            inside = np.array([62, 24, 26], np.float32) * (0.55 + 0.45 * weight)
            patch = shown[rows, :, :3].astype(np.float32)
            shown[rows, :, :3] = (patch + weight * (inside - patch)).astype(np.uint8)
        return np.asarray(shown, np.uint8)

    def _close(self, map_y: Floats, upper: _Curve, lower: _Curve, blink: float) -> None:
        """Pull the skin above an eye down over it."""
        rows = slice(
            int(upper.at(np.array([upper.left, upper.right], np.float32)).min() - 0.2 * FACE_WIDTH),
            int(self._nose[1]),
        )
        columns = slice(max(0, int(upper.left) - 2), int(upper.right) + 3)
        x, y = self._x[rows, columns], self._y[rows, columns]
        lid, floor = upper.at(x), lower.at(x)
        travel = np.clip(floor - lid, 0, None) * np.sqrt(upper.belly(x)) * np.float32(blink)
        edge = lid + travel
        fade = np.exp(-((np.clip(edge - y, 0, None) / (0.06 * FACE_WIDTH)) ** 2))
        map_y[rows, columns] -= np.where(y < edge, travel * fade, 0)


def filled(points: Points, shape: tuple[int, int], feather: float) -> Floats:
    """Return a filled outline as a mask of `shape`, 0 to 1, softened by `feather` pixels."""
    mask = np.zeros(shape, np.uint8)
    corners = np.round(np.array(points) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], (255,), cv2.LINE_AA, shift=4)
    return np.asarray(gaussian_filter(mask.astype(np.float32) / 255, feather), np.float32)


def _rounded(points: Points) -> list[tuple[float, float]]:
    """Smooth a closed outline traced by hand (Chaikin's corner cutting, twice)."""
    corners = np.array(points, np.float64)
    for _ in range(2):
        following = np.roll(corners, -1, axis=0)
        corners = np.stack([0.75 * corners + 0.25 * following, 0.25 * corners + 0.75 * following], 1).reshape(
            -1, 2
        )
    return [(float(x), float(y)) for x, y in corners]


def _sharpen(picture: Pixels, amount: float) -> Pixels:
    soft = cv2.GaussianBlur(picture, (0, 0), 2.2)
    return np.asarray(cv2.addWeighted(picture, 1 + amount, soft, -amount, 0), np.uint8)
