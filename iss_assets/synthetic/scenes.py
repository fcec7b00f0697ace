"""Rooms, clothes, light and movement: the pictures of an invented patient's video.

Draws everything except the head itself (``faces``), including the visible issues.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from iss_assets.synthetic.faces import FACE_WIDTH, Expression, Head, Look, filled
from iss_assets.synthetic.voices import Speech

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_SHAKE: Final = 6
"""Largest movement by the hand that holds the phone, in pixels."""

WALLS: Final = (
    (226, 222, 214),
    (206, 214, 220),
    (222, 214, 196),
    (200, 208, 196),
    (232, 230, 228),
    (214, 200, 190),
)
CLOTHES: Final = (
    (70, 90, 130), (120, 60, 66), (84, 110, 88), (150, 140, 128), (56, 60, 70), (172, 150, 96), (110, 92, 130)
)  # fmt: skip


@dataclass(frozen=True)
class SceneSettings:
    """What one video shows.

    Attributes
    ----------
    size : tuple of int
        Width and height of the upright picture in pixels.
    look : Look or None
        Whose head; None for an empty room.
    issues : frozenset of str
        Among signage, mask, glare, dark, grainy, several_faces; others are not seen.
    companion : Look or None
        Second person for several_faces.
    place_seed, day_seed : int
        What stays from video to video (room, clothes) and what changes (light, movement).
    narrowed : float
        How far the eyes are closed between blinks, 0 to 1.
    glare_until_s : float
        Second at which the sun goes behind a cloud, and glare with it.
    """

    size: tuple[int, int]
    look: Look | None
    issues: frozenset[str] = field(default_factory=frozenset)
    companion: Look | None = None
    place_seed: int = 0
    day_seed: int = 0
    narrowed: float = 0.0
    glare_until_s: float = float("inf")


class Scene:
    """One video's frames: `picture_at` returns the one at a time."""

    def __init__(self, settings: SceneSettings, speech: Speech):
        self._settings, self._speech = settings, speech
        width, height = settings.size
        place = np.random.default_rng([settings.place_seed, 31])
        day = np.random.default_rng([settings.day_seed, 37])
        self._room = _draw_room(width, height, place, sign="signage" in settings.issues)
        self._people: list[_Person] = []
        if settings.look:
            face = 0.25 * width if width > height else 0.36 * width
            aside = 0.15 * width if {"signage", "several_faces"} & settings.issues else 0.0
            middle = (width / 2 + aside + day.uniform(-0.02, 0.02) * width, 0.44 * height)
            cloth = CLOTHES[int(day.integers(len(CLOTHES)))]
            if "several_faces" in settings.issues and settings.companion:
                beside = (0.23 * width, 0.42 * height)
                self._people.append(
                    _Person(
                        settings.companion,
                        0.78 * face,
                        beside,
                        settings.size,
                        CLOTHES[3],
                        settings.day_seed + 1,
                    )
                )
            self._people.append(
                _Person(
                    settings.look, face, middle, settings.size, cloth, settings.day_seed,
                    masked="mask" in settings.issues, speech=speech, narrowed=settings.narrowed,
                )
            )  # fmt: skip
        self._shake = _Drift(day, 2, slowest=4.0)
        self._light = _Light(
            settings, day, self._people[-1].middle if self._people else (width / 2, height / 2)
        )

    def picture_at(self, time_s: float) -> Pixels:
        """Return the frame at a time.

        Returns
        -------
        array, (height, width, 3), uint8
            RGB.
        """
        width, height = self._settings.size
        dx, dy = (round(_SHAKE + 0.6 * _SHAKE * v) for v in self._shake.at(time_s))
        picture = self._room[dy : dy + height, dx : dx + width].copy()
        for person in self._people:
            person.draw(picture, time_s)
        return self._light.on(picture, time_s)


class _Drift:
    """Slow, smooth, random movement within about -1 to 1."""

    def __init__(self, rng: np.random.Generator, count: int, slowest: float = 7.0):
        self._hz = rng.uniform(1 / slowest, 0.55, (count, 3))
        self._phase = rng.uniform(0, 2 * np.pi, (count, 3))

    def at(self, time_s: float) -> npt.NDArray[np.float64]:
        waves = np.sin(2 * np.pi * self._hz * time_s + self._phase) * (0.5, 0.3, 0.2)
        return np.asarray(waves.sum(1))


class _Person:
    """A head on a body, somewhere in the picture."""

    def __init__(
        self,
        look: Look,
        face: float,
        middle: tuple[float, float],
        size: tuple[int, int],
        cloth: tuple[int, int, int],
        seed: int,
        *,
        masked: bool = False,
        speech: Speech | None = None,
        narrowed: float = 0.0,
    ):
        rng = np.random.default_rng([seed, 41])
        self.head = Head(look, seed, masked=masked)
        self.middle = middle
        self._scale = face / FACE_WIDTH
        self._speech = speech
        self._narrowed = narrowed
        self._drift = _Drift(rng, 6)
        gaps = rng.uniform(2.2, 5.5, 200)
        self._blinks = np.cumsum(gaps)
        chin = middle[1] + (self.head.chin - self.head.centre[1]) * self._scale
        self._body = _draw_body((middle[0], chin), face, size, cloth, self.head.skin_rgb, rng)

    def _expression(self, time_s: float, drift: npt.NDArray[np.float64]) -> Expression:
        mouth = self._speech.mouth_at(time_s) if self._speech else 0.0
        since = np.abs(self._blinks - time_s).min()
        return Expression(
            mouth=mouth,
            blink=float(np.clip(1.3 - since / 0.075, self._narrowed, 1)),
            yaw=float(0.8 * drift[3]),
            pitch=float(0.6 * drift[4] + 0.25 * (mouth - 0.3)),
        )

    def draw(self, picture: Pixels, time_s: float) -> None:
        drift = self._drift.at(time_s)
        height, width = picture.shape[:2]
        x = self.middle[0] + 0.035 * width * drift[0]
        y = self.middle[1] + 0.012 * height * drift[1]
        _blend(picture, self._body, round(0.4 * (x - self.middle[0])), round(0.5 * (y - self.middle[1])))
        shown = self.head.show(self._expression(time_s, drift))
        angle = np.deg2rad(3.5 * drift[2])
        scale = self._scale * (1 + 0.025 * drift[5])
        a, b = scale * np.cos(angle), scale * np.sin(angle)
        cx, cy = self.head.centre
        corners = np.array(
            [(0, 0), (self.head.size[0], 0), (0, self.head.size[1]), self.head.size], np.float64
        )
        px = a * (corners[:, 0] - cx) - b * (corners[:, 1] - cy) + x
        py = b * (corners[:, 0] - cx) + a * (corners[:, 1] - cy) + y
        left, top = max(0, int(px.min())), max(0, int(py.min()))
        right, bottom = min(width, int(px.max()) + 1), min(height, int(py.max()) + 1)
        matrix = np.array([[a, -b, x - a * cx + b * cy - left], [b, a, y - b * cx - a * cy - top]])
        placed = cv2.warpAffine(shown, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
        _mix(picture[top:bottom, left:right], np.asarray(placed, np.uint8))


def _mix(under: Pixels, over: Pixels) -> None:
    """Draw premultiplied colors over opaque ones, in place."""
    through = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(over, 3)), cv2.COLOR_GRAY2RGB)
    # without transparency: faster than a copy of three of four channels
    colors = cv2.cvtColor(over, cv2.COLOR_RGBA2RGB)
    under[:] = cv2.add(cv2.multiply(under, through, scale=1 / 255), colors)


def _blend(picture: Pixels, layer: Pixels, dx: int, dy: int) -> None:
    """Draw a layer over the lower part of an image, moved by whole pixels."""
    height, width = picture.shape[:2]
    margin = (layer.shape[1] - width) // 2
    top = height + margin - layer.shape[0] + dy
    rows = slice(max(0, top), height)
    source = layer[
        rows.start - top : rows.start - top + height - rows.start, margin - dx : margin - dx + width
    ]
    _mix(picture[rows], source)


def _draw_room(width: int, height: int, rng: np.random.Generator, *, sign: bool) -> Pixels:
    """Draw a plain room, larger than the frame by the shake; with `sign`, a door with plates behind the patient."""
    w, h = width + 2 * _SHAKE, height + 2 * _SHAKE
    wall = np.array(WALLS[int(rng.integers(len(WALLS)))], np.float32)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    lamp = rng.uniform(0.1, 0.9) * w
    shade = 1.02 - 0.16 * np.hypot((x - lamp) / w, (y / h - 0.1))
    room = wall * shade[..., None]
    room += gaussian_filter(rng.normal(size=(h, w)), 14)[..., None] * 40
    room += gaussian_filter(rng.normal(size=(h, w)), 1.0)[..., None] * 4
    what = int(rng.integers(3))
    if sign:
        _draw_door(room, rng)
    elif what == 0:
        edge = int(w * rng.uniform(0.74, 0.84))
        folds = 0.86 + 0.08 * np.sin(x[:, edge:] / w * 90 + np.sin(y[:, edge:] / h * 3))
        room[:, edge:] = np.array((176, 160, 148), np.float32) * folds[..., None]
    elif what == 1:
        left, right = int(w * 0.04), int(w * rng.uniform(0.17, 0.22))
        top, bottom = int(h * 0.1), int(h * 0.34)
        cv2.rectangle(room, (left, top), (right, bottom), (112, 92, 74), 5)
        room[top + 5 : bottom - 5, left + 5 : right - 5] = (168, 184, 178)
        middle = ((left + right) // 2, (top + bottom) // 2)
        cv2.ellipse(room, middle, ((right - left) // 4, (bottom - top) // 4), 0, 0, 360, (120, 148, 120), -1)
        room[bottom + 3 :, left : right + 6] *= 0.985
    room = cv2.GaussianBlur(room, (0, 0), 0.6 if sign else 1.8)
    return np.clip(room, 0, 255).astype(np.uint8)


def _draw_door(room: Floats, rng: np.random.Generator) -> None:
    """Draw a door with a room number and notices in large letters on the left."""
    h, w = room.shape[:2]
    left, right = int(0.02 * w), int(0.4 * w)
    cv2.rectangle(room, (left, int(0.05 * h)), (right, h), (118, 132, 142), -1)
    cv2.rectangle(room, (left, int(0.05 * h)), (right, h), (84, 90, 96), 4)
    number = int(rng.integers(101, 989))
    y = 0.09 * h
    for text, paper, ink in (
        (f"ROOM {number}", (246, 246, 242), (24, 30, 44)),
        ("EXIT", (36, 128, 74), (246, 250, 246)),
        (f"LAB B{number % 90 + 4}", (240, 214, 70), (20, 20, 20)),
    ):
        scale = 0.0029 * h * (0.75 if len(text) > 6 else 0.9)
        (tw, th), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, 2)
        x = left + (right - left - tw) // 2 - 10
        top = round(y)
        cv2.rectangle(room, (max(left + 2, x - 8), top), (x + tw + 8, top + th + 20), paper, -1)
        cv2.putText(room, text, (x, top + th + 10), cv2.FONT_HERSHEY_DUPLEX, scale, ink, 2, cv2.LINE_AA)
        y += th + 0.085 * h


def _draw_body(
    chin: tuple[float, float],
    face: float,
    size: tuple[int, int],
    cloth: tuple[int, int, int],
    skin_rgb: npt.ArrayLike,
    rng: np.random.Generator,
) -> Pixels:
    """Draw neck and shoulders as a layer that is wider and taller than the picture."""
    width, height = size
    margin = round(0.06 * width)
    top = round(chin[1] - 0.5 * face)
    h, w = height + margin - top, width + 2 * margin
    cx, cy = chin[0] + margin, chin[1] - top

    def fill(points: list[tuple[float, float]], feather: float) -> Floats:
        return filled([(cx + px * face, cy + py * face) for px, py in points], (h, w), feather)

    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    x, y = (x - cx) / face, (y - cy) / face
    neck = fill([(-0.3, -0.4), (0.3, -0.4), (0.31, 0.1), (0.44, 0.5), (-0.44, 0.5), (-0.31, 0.1)], 1.2)
    low = 3.0
    slope = [(0.3, 0.2), (0.42, 0.28), (0.8, 0.42), (1.15, 0.56), (1.32, 0.8), (1.42, 1.3), (1.5, low)]
    neckline = [(-0.2, 0.36), (0, 0.42), (0.2, 0.36)]
    body = fill([(-px, py) for px, py in slope[::-1]] + neckline + slope, 1.0)
    shadow = 0.62 + 0.38 * np.clip((y - 0.02) / 0.22, 0, 1)
    skin = np.asarray(skin_rgb, np.float32) * (shadow * (0.96 - 0.35 * np.abs(x) ** 1.5))[..., None]
    folds = (
        gaussian_filter(rng.normal(size=(h, w)), (22, 9)) * 2.2
        + gaussian_filter(rng.normal(size=(h, w)), 0.8) * 0.06
    )
    hem = 1 - 0.18 * np.exp(-(((y - 0.44 + 0.5 * x**2) / 0.03) ** 2)) * (np.abs(x) < 0.4)
    shade = np.clip((0.98 - 0.2 * np.abs(x) ** 2 + 0.06 * np.clip(1 - y, -1, 1) + folds) * hem, 0.3, 1.25)
    clothes = np.array(cloth, np.float32) * shade[..., None]
    alpha = np.maximum(neck, body)
    colors = skin + body[..., None] * (clothes - skin)
    return np.dstack([np.clip(colors, 0, 255) * alpha[..., None], alpha * 255]).astype(np.uint8)


class _Light:
    """Exposure, white balance, glare, darkness and the sensor's noise."""

    def __init__(self, settings: SceneSettings, rng: np.random.Generator, middle: tuple[float, float]):
        width, height = settings.size
        warmth = rng.uniform(-0.04, 0.05)
        exposure = rng.uniform(0.93, 1.05)
        levels = np.arange(256, dtype=np.float32)
        dark = "dark" in settings.issues
        if dark:
            exposure *= 0.2
        gains = np.array([1 + warmth, 1.0, 1 - warmth]) * exposure
        curves = levels[:, None] * gains
        self._glare = None
        self._glare_until_s = settings.glare_until_s
        if "glare" in settings.issues:
            y, x = np.mgrid[0:height, 0:width].astype(np.float32)
            sun = ((x - middle[0] - 0.24 * width) ** 2 + (y - middle[1] + 0.02 * height) ** 2) / (
                0.2 * width
            ) ** 2
            streak = np.exp(-(((x - middle[0]) * 0.6 - (y - middle[1])) ** 2) / (0.05 * width) ** 2)
            veil = 34 + 330 * np.exp(-sun) + 90 * streak
            self._glare = np.repeat(np.clip(veil, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
        self._curves = np.clip(curves, 0, 255).astype(np.uint8)[None]
        grain = 9.0 if "grainy" in settings.issues else 1.3
        color = rng.normal(0, grain, (height + 48, width + 48, 3 if "grainy" in settings.issues else 1))
        noise = np.broadcast_to(color, (height + 48, width + 48, 3)).astype(np.int16)
        # bytes are added faster than numbers with a sign, and saturate to the same values
        self._brighter, self._darker = (np.clip(n, 0, 255).astype(np.uint8) for n in (noise, -noise))
        self._seed = settings.day_seed

    def on(self, picture: Pixels, time_s: float) -> Pixels:
        """Return the frame as the camera records it."""
        height, width = picture.shape[:2]
        lit = cv2.LUT(picture, self._curves)
        if self._glare is not None and time_s < self._glare_until_s:
            lit = cv2.add(lit, self._glare)
        dx, dy = np.random.default_rng([self._seed, round(time_s * 1e4)]).integers(0, 48, 2)
        here = (slice(dy, dy + height), slice(dx, dx + width))
        return np.asarray(cv2.subtract(cv2.add(lit, self._brighter[here]), self._darker[here]), np.uint8)
