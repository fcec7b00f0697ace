"""The two portraits behind the sample study's faces, and where things are in them.

Eileen Collins, by NASA (``skimage.data.astronaut``), and Grace Hopper, by the US Navy (Matplotlib's sample data
``grace_hopper.jpg``). Works of the US government are in the public domain. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Portrait:
    """Where things are in a portrait, in its own pixels.

    Attributes
    ----------
    crop : tuple of int
        Left, top, right and bottom of what is used.
    face_width : float
        From cheek to cheek.
    outline, skin, scarf : sequence of points
        Head with hair and neck; skin of face and neck; what a headscarf covers. Traced by hand.
    covered_outline : sequence of points
        What is left of the head under a headscarf.
    eyes : pair of pairs of three points
        Edge of the upper and of the lower lid, from corner to corner.
    mouth : three points
        Where the mouth opens.
    oval : four points
        Right cheek, top, left cheek and chin of the face. Eyes, mouth, oval and nose are Face Mesh's landmarks.
    nose : point
        Tip of the nose.
    """

    crop: tuple[int, int, int, int]
    face_width: float
    outline: Points
    skin: Points
    scarf: Points
    covered_outline: Points
    eyes: tuple[tuple[Points, Points], tuple[Points, Points]]
    mouth: Points
    oval: Points
    nose: tuple[float, float]


def _points(text: str, factor: float = 1.0, left: float = 0.0, top: float = 0.0) -> Points:
    """Read ``x,y x,y ...`` as traced on the picture enlarged by `factor` from (`left`, `top`) on."""
    pairs = (pair.split(",") for pair in text.split())
    return [(left + float(x) / factor, top + float(y) / factor) for x, y in pairs]


_COLLINS: Final = Portrait(
    crop=(145, 6, 309, 197),
    face_width=93.7,
    outline=_points(
        """245,128 330,84 410,67 500,84 588,124 636,184 664,250 680,330 672,398 645,446 598,498 594,528 570,544 552,542
        535,590 515,640 503,690 497,735 430,752 360,744 290,728 240,706 228,640 216,580 211,522 183,516 167,480 152,460
        114,416 101,340 101,270 124,224 182,174 238,148""",
        4, 130, 0,
    ),
    skin=_points(
        """224,300 280,318 340,326 440,338 545,358 558,440 560,500 600,503 596,532 565,548 540,600 515,650 503,745
        430,770 360,760 235,720 222,640 212,580 205,525 178,518 160,478 196,468 207,400""",
        4, 130, 0,
    ),
    scarf=_points(
        """184,500 200,512 214,490 210,420 224,376 268,352 340,346 440,354 516,370 546,398 554,440 550,505 566,525
        586,515 598,400 584,240 505,135 390,100 275,130 194,215 174,330 174,420""",
        4, 130, 0,
    ),
    covered_outline=_points(
        """224,300 340,300 545,330 552,440 550,520 540,590 515,640 503,690 497,735 430,752 360,744 290,728 240,706
        228,640 216,580 211,522 210,400""",
        4, 130, 0,
    ),
    eyes=(
        (_points("194.0,101.1 202.2,97.4 213.5,104.0"), _points("194.0,101.1 203.8,105.2 213.5,104.0")),
        (_points("236.9,105.0 248.9,99.0 256.8,104.0"), _points("236.9,105.0 246.6,107.2 256.8,104.0")),
    ),
    mouth=_points("203.5,140.5 222.7,149.3 243.0,142.4"),
    oval=_points("178.7,111.6 225.0,70.4 272.0,111.6 221.3,175.9"),
    nose=(223.7, 128.0),
)  # fmt: skip

_HOPPER_FACE: Final = """118,440 112,480 128,560 150,628 178,652 206,650 218,716 234,752 246,800 262,850 330,900
        440,900 520,850 545,790 558,736 564,690 588,652 618,640 640,570 660,470 650,430"""

_HOPPER: Final = Portrait(
    crop=(140, 26, 387, 380),
    face_width=184.0,
    outline=_points(_HOPPER_FACE + " 655,330 628,210 550,120 385,85 220,120 138,210 104,330", 2.5, 110, 10),
    skin=_points(
        """112,440 160,345 300,300 450,295 590,335 655,430 668,480 650,560 628,650 590,640 560,700 553,780 520,860
        440,905 330,905 255,860 240,780 228,740 205,640 165,650 128,560 106,480""",
        2.5, 110, 10,
    ),
    scarf=_points(
        """106,452 150,372 230,338 380,322 520,334 606,368 656,440 668,330 636,200 552,108 385,72 216,108 128,200
        92,330""",
        2.5, 110, 10,
    ),
    covered_outline=_points(_HOPPER_FACE + " 645,380 600,305 400,290 165,305 108,380", 2.5, 110, 10),
    eyes=(
        (_points("202.0,193.0 217.0,187.4 239.0,192.8"), _points("202.0,193.0 221.0,197.2 239.0,192.8")),
        (_points("289.0,190.6 308.0,183.1 325.5,187.9"), _points("289.0,190.6 307.5,193.5 325.5,187.9")),
    ),
    mouth=_points("232.0,277.6 268.9,279.0 302.0,275.2"),
    oval=_points("170.0,210.0 262.0,132.0 353.0,208.1 271.8,334.4"),
    nose=(268.5, 241.0),
)  # fmt: skip

PORTRAITS: Final = {"collins": _COLLINS, "hopper": _HOPPER}


@lru_cache(maxsize=2)
def portrait_pixels(name: str) -> Pixels:
    """Read a portrait's pixels (RGB) from the package that ships it."""
    if name == "collins":
        from skimage.data import astronaut

        return np.ascontiguousarray(astronaut())
    from matplotlib.cbook import get_sample_data

    file: Any = get_sample_data("grace_hopper.jpg")
    with file:
        content = np.frombuffer(file.read(), np.uint8)
    return np.ascontiguousarray(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1])
