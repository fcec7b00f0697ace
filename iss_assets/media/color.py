"""Color conversion: from a file's coded colors to the sRGB that everything else here measures.

What a picture's color tags mean, HDR to SDR, and wide gamut to BT.709.

Ordinary video is left to FFmpeg, which follows the tags for matrix (BT.601, BT.709, BT.2020) and range; if a file
does not name its matrix, FFmpeg assumes BT.601. That is right for many untagged files and wrong for others, and
changes the mean luma of faces by less than 0.01.

HDR is converted to SDR as follows, each picture independently and in the same way:

1. PQ (SMPTE ST 2084) or HLG (ARIB STD-B67) to light in cd/m2, by ITU-R BT.2100-2, tables 4 and 5; HLG for its nominal
   display of 1000 cd/m2, system gamma 1.2.
2. Diffuse white is 203 cd/m2 (ITU-R BT.2408-7, table 1). It becomes SDR white, so everything up to skin and paper
   keeps its luminance.
3. BT.2020 primaries to BT.709's (ITU-R BT.2087-0 with linear light).
4. The highlights are rolled off by the EETF of ITU-R BT.2390-11, section 5.4.1, separately for R, G and B. The EETF
   compresses highlights up to one and a half times diffuse white; a wider range would darken white itself and hide
   overexposure, and an SDR camera clips it too.
5. The sRGB curve (IEC 61966-2-1), which photographs use and the networks here were trained on.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

SDR_WHITE_NITS: Final = 203.0
"""Luminance of diffuse white in HDR, in cd/m2 (ITU-R BT.2408-7, table 1)."""
HIGHLIGHT_HEADROOM: Final = 1.5
"""Brightest light that is still distinguished from white, as a multiple of diffuse white."""

_CODES: Final = 65536
"""Values of a 16-bit channel, and entries of the lookup tables."""
_BAND: Final = 2**17
"""Pixels processed at a time, so that intermediate results stay in the processor's cache."""

_PQ: Final = 16
_HLG: Final = 18
_TRANSFERS: Final = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100", 10: "log316",
    11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", _PQ: "smpte2084",
    17: "smpte428", _HLG: "arib-std-b67",
}  # fmt: skip
"""FFmpeg's names for the codes of ITU-T H.273, table 3."""
_UNKNOWN: Final = frozenset({0, 2, 3})
_UNSPECIFIED: Final = 2
_FULL: Final = 2
"""FFmpeg's code of full range; 1 is limited range, 0 is unspecified and limited."""
_BT2020: Final = 9
_DISPLAY_P3: Final = 12
_TO_BT709: Final = {
    # from the chromaticities of each and D65; rows give R, G and B
    _BT2020: (
        (1.660491, -0.587641, -0.072850),
        (-0.124550, 1.132900, -0.008349),
        (-0.018151, -0.100579, 1.118730),
    ),
    _DISPLAY_P3: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
}
"""Linear light to BT.709, by the code of the primaries (ITU-T H.273, table 2)."""
_BT2020_LUMINANCE: Final = (0.2627, 0.6780, 0.0593)
_LUMA: Final = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), _BT2020: (0.2627, 0.0593),
}  # fmt: skip
"""Weights of red and blue in luma, by the code of the matrix (ITU-T H.273, table 4); BT.601's for all others."""

_MATRICES: Final = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
"""Matrix codes that FFmpeg converts to RGB (ITU-T H.273, table 4)."""
_NEAR_BT2020: Final = frozenset({10, 13, 14})
"""BT.2020 with constant luminance, and ICtCp: rare, and BT.2020 is the closest that FFmpeg converts."""


def transfer_name(code: int) -> str:
    """Return FFmpeg's name for a transfer characteristic; ``unknown`` if the file does not specify one."""
    return _TRANSFERS.get(int(code), "unknown")


def is_named(code: int) -> bool:
    """Return whether a color tag (ITU-T H.273) is specified."""
    return int(code) not in _UNKNOWN


def settle_tags(frame: av.VideoFrame) -> None:
    """Fill in a frame's missing color tags from the others, so that FFmpeg can convert it.

    HDR is taken as BT.2020 unless the file says otherwise.

    Parameters
    ----------
    frame : av.VideoFrame
        Changed in place.
    """
    if frame.color_trc in (_PQ, _HLG):
        if not is_named(frame.colorspace) and not frame.format.is_rgb:
            frame.colorspace = _BT2020
        if not is_named(frame.color_primaries):
            frame.color_primaries = _BT2020
    if frame.colorspace not in _MATRICES:
        frame.colorspace = _BT2020 if frame.colorspace in _NEAR_BT2020 else _UNSPECIFIED


def needs_conversion(frame: av.VideoFrame) -> bool:
    """Return whether a frame needs `to_sdr`, because it is HDR or wide gamut and FFmpeg's conversion is not enough."""
    return frame.color_trc in (_PQ, _HLG) or frame.color_primaries in _TO_BT709


def deep_rgb(frame: av.VideoFrame, reformatter: VideoReformatter, width: int) -> NDArray[np.uint16]:
    """Return a frame as 16-bit R, G, B, in the file's own transfer characteristic and primaries.

    FFmpeg scales the chroma planes to full size, and the matrix is applied here: FFmpeg's own conversion to RGB with
    more than 8 bits comes out 0.35 % too dark, which the steep curves of HDR amplify.

    Parameters
    ----------
    frame : av.VideoFrame
        A frame whose tags `settle_tags` has completed.
    reformatter : av.video.reformatter.VideoReformatter
        Reused from frame to frame.
    width : int
        Output width in pixels.

    Returns
    -------
    ndarray of uint16, shape (height, width, 3)
    """
    if frame.format.is_rgb:
        return reformatter.reformat(frame, width=width, format="rgb48le", threads=1).to_ndarray()  # type: ignore[return-value]
    planes = reformatter.reformat(frame, width=width, format="yuv444p16le", threads=1)
    red, blue = _LUMA.get(frame.colorspace, (0.299, 0.114))
    green = 1 - red - blue
    bits = frame.format.components[0].bits
    full = (2**bits - 1) << (16 - bits)
    dark, bright, chroma = (0, full, full) if planes.color_range == _FULL else (16 << 8, 219 << 8, 224 << 8)
    to_red, to_blue = 2 * (1 - red), 2 * (1 - blue)
    # Y', Cb, Cr to R', G', B' as fractions of full scale (ITU-R BT.2100-2, table 6, solved for R, G and B)
    rows = np.array(
        [[1, 0, to_red], [1, -blue / green * to_blue, -red / green * to_red], [1, to_blue, 0]]
    ) / [bright, chroma, chroma]
    shift = -rows @ [dark, 1 << 15, 1 << 15]
    affine = (_CODES - 1) * np.column_stack([rows, shift])
    return cv2.transform(planes.to_ndarray(), affine)  # type: ignore[return-value]


def to_sdr(picture: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Convert an HDR or wide-gamut picture to sRGB.

    Parameters
    ----------
    picture : ndarray of uint16, shape (height, width, 3)
        R, G, B in the file's own transfer characteristic, full range in 16 bits.
    transfer, primaries : int
        Codes of ITU-T H.273, tables 3 and 2.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
    """
    light, curve = _light_of(transfer), _curve_of(transfer)
    matrix = np.array(_TO_BT709[primaries], np.float32) if primaries in _TO_BT709 else None
    out = np.empty(picture.shape, np.uint8)
    rows = max(1, _BAND // picture.shape[1])
    for top in range(0, len(picture), rows):
        # every code is in the table: clipping instead of checking bounds makes the lookup twice as fast
        linear: Any = np.take(light, picture[top : top + rows], mode="clip")
        if transfer == _HLG:
            # the display's system gamma acts on luminance and preserves hue (BT.2100-2, table 5)
            luminance = cv2.transform(linear, np.array([_BT2020_LUMINANCE], np.float32))
            linear *= (cv2.pow(luminance, 0.2) * np.float32(1000 / SDR_WHITE_NITS))[..., None]
        if matrix is not None:
            linear = cv2.transform(linear, matrix)
        scale = (_CODES - 1) / HIGHLIGHT_HEADROOM
        steps = cv2.multiply(linear, scale, dtype=cv2.CV_16U)  # type: ignore[call-overload]
        np.take(curve, steps, mode="clip", out=out[top : top + rows])
    return out


@functools.cache
def _light_of(transfer: int) -> NDArray[np.float32]:
    """Return the linear light of each code. 1 is diffuse white, except for HLG, whose scene light ranges from 0 to 1."""
    code = np.arange(_CODES) / (_CODES - 1)
    if transfer == _PQ:
        return (pq_to_nits(code) / SDR_WHITE_NITS).astype(np.float32)
    if transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(np.float32)


@functools.cache
def _curve_of(transfer: int) -> NDArray[np.uint8]:
    """Return the 8-bit value for each step of light from 0 to `HIGHLIGHT_HEADROOM`."""
    light = np.arange(_CODES) / (_CODES - 1) * HIGHLIGHT_HEADROOM
    # SDR takes the inverse of its decoding, so that grays do not change
    light = roll_off(light) if transfer in (_PQ, _HLG) else light
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * np.clip(signal, 0, 1)).astype(np.uint8)


def roll_off(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compress highlights to white with the EETF of ITU-R BT.2390-11, section 5.4.1, without lifting black.

    Parameters
    ----------
    light : ndarray of float
        Linear light; diffuse white is 1.

    Returns
    -------
    ndarray of float
        At white 1; unchanged below the knee, which is at 0.83.
    """
    peak = float(nits_to_pq(np.array(SDR_WHITE_NITS * HIGHLIGHT_HEADROOM)))
    signal = np.minimum(nits_to_pq(light * SDR_WHITE_NITS) / peak, 1)
    white = float(nits_to_pq(np.array(SDR_WHITE_NITS)) / peak)
    knee = 1.5 * white - 0.5
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * white
    )
    rolled = pq_to_nits(spline * peak) / SDR_WHITE_NITS
    return np.where(signal < knee, light, rolled)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def pq_to_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the luminance in cd/m2 of a PQ signal from 0 to 1 (SMPTE ST 2084, equation 4.1)."""
    root = signal ** (1 / _M2)
    return 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def nits_to_pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the PQ signal, 0 to 1, of a luminance in cd/m2 (SMPTE ST 2084, equation 5.1)."""
    power = (np.maximum(nits, 0) / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
