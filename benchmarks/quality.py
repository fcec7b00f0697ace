"""How accurate the quality flags are: recall on real clips degraded in known steps, and false flags on good clips.

    ISS_REAL_CLIPS=folder python benchmarks/quality.py [--seconds 2] [--only dark,mask] [--clips talk_f_tan_aoc,...]

Every clip is decoded, its pictures or its sound are degraded and encoded again (H.264, AAC), and the result goes through
the pipeline's own extraction and assessment. There are three steps per flag; at the last one the flag should be raised
for 95 % of the clips. Original clips without an issue must not get its flag (5 %). Which clips have which issue was
judged by eye and ear; see `NOT_GOOD` and `NOT_GOOD_FOR`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from scipy.signal import butter, sosfilt

from iss_assets.media.audio import extract_audio, read_waveform
from iss_assets.media.landmarks import decode_crops
from iss_assets.media.quality import VideoAssessment, assess_video
from iss_assets.media.upright import UprightRgb
from iss_assets.media.video import probe, sample_frames
from iss_assets.media.visual import VisualTables, extract_visual
from iss_assets.settings import Settings

SETTINGS = Settings()
FPS = 10
Picture = np.ndarray
RNG = np.random.default_rng(0)

NOT_GOOD = {
    "dark_stage_multiface": "a stage in the dark, cuts, music, a station's logo",
    "no_face_dark_speech": "no face",
    "face_then_noface": "the face leaves and a cartoon follows",
}
"""Clips that do not show a talking head: not used here."""
NOT_GOOD_FOR = {
    "signage": {"webm_vp8_53s_noaudio": "a map with names on the wall"},
    "quiet": {"quiet_m_brown_webcam": "-44 LUFS, nobody speaks"},
    "noisy_sound": {"quiet_m_brown_webcam": "nobody speaks"},
    "no_speech": {"quiet_m_brown_webcam": "nobody speaks"},
    "silent": {"hand_over_face_silent": "all zero"},
    "no_sound": {"webm_vp8_53s_noaudio": "no sound track"},
}
CLIP_LENGTH = {"too_short", "too_long"}
"""The clips are shorter than the protocol allows; that does not count as an issue here."""


@dataclass(frozen=True)
class Clip:
    name: str
    path: Path
    pictures: list[Picture]
    visual: VisualTables
    video: dict[str, Any]


# --- ways to degrade pictures: (picture, clip, index of the picture, strength) -> picture


def _light(picture: Picture, stops: float) -> Picture:
    """Change exposure in linear light, as a lens or a lamp would."""
    value = picture.astype(np.float32) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) * 2.0**stops
    linear = np.clip(linear, 0, 1)
    coded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (coded * 255 + 0.5).astype(np.uint8)


def dark(picture: Picture, clip: Clip, index: int, stops: float) -> Picture:
    return _light(picture, -stops)


def bright(picture: Picture, clip: Clip, index: int, stops: float) -> Picture:
    return _light(picture, stops)


def sun_spot(picture: Picture, clip: Clip, index: int, size: float) -> Picture:
    box = _box(clip, index)
    if box is None:
        return picture
    x1, y1, x2, y2 = box
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    far = np.hypot(x - (x1 + 0.35 * (x2 - x1)), y - (y1 + 0.4 * (y2 - y1))) / (size * (x2 - x1))
    return np.clip(picture + 400 * np.exp(-(far**2))[..., None], 0, 255).astype(np.uint8)


def blurred(picture: Picture, clip: Clip, index: int, share_of_face: float) -> Picture:
    box = clip.visual.faces.to_pandas()
    width = float((box.x2 - box.x1).median())
    return cv2.GaussianBlur(picture, (0, 0), share_of_face * width)


def grainy(picture: Picture, clip: Clip, index: int, sigma: float) -> Picture:
    return np.clip(picture + RNG.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8)


def mask(picture: Picture, clip: Clip, index: int, color: tuple[int, int, int]) -> Picture:
    """Paint a cloth over nose, mouth and chin, shaded like the face below it."""
    box, mesh = _box(clip, index), _mesh(clip, index)
    if box is None or mesh is None:
        return picture
    x1, y1, x2, y2 = box
    points = mesh[:, :2] * [x2 - x1, y2 - y1] + [x1, y1]
    left, nose, right = (116, 117, 118, 119, 100), (195,), (329, 348, 347, 346, 345)
    jaw = (93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323)
    outline = points[[*left, *nose, *right, *jaw[::-1]]].round().astype(np.int32)
    cover = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(cover, [outline], (255,))
    soft = cv2.GaussianBlur(cover, (0, 0), max(0.8, (x2 - x1) / 200)).astype(np.float32)[..., None] / 255
    light = cv2.GaussianBlur(
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), (x2 - x1) / 8
    )
    light = np.clip(light / max(1.0, float(np.median(light[cover > 0]))), 0.5, 1.5)[..., None]
    folds = 1 + 0.06 * np.sin(np.arange(len(picture)) / ((x2 - x1) / 18))[:, None, None]
    cloth = np.array(color, np.float32) * light * folds
    return np.clip(picture * (1 - soft) + cloth * soft, 0, 255).astype(np.uint8)


def sign(picture: Picture, clip: Clip, index: int, height: float) -> Picture:
    """Draw a sign beside or above the head: the one of three signs that fits best into the free space."""
    signs = [
        ("ROOM 204", (250, 250, 250), (20, 60, 140)),
        ("EXIT 7", (20, 20, 20), (240, 240, 235)),
        ("A113", (250, 250, 250), (170, 25, 25)),
    ]
    first = sum(map(ord, clip.name)) % 3
    boxes = clip.visual.faces.to_pandas()
    x1, y1, x2 = (float(boxes[c].median()) for c in ("x1", "y1", "x2"))
    face, high, wide = x2 - x1, *picture.shape[:2]
    rooms = [
        (0.0, 0.0, x1 - 0.3 * face, high * 0.6),
        (x2 + 0.3 * face, 0.0, float(wide), high * 0.6),
        (0.0, 0.0, float(wide), y1 - 0.5 * face),
    ]
    scale = height * min(high, wide) / 21

    def fit(word: str, room: tuple[float, float, float, float]) -> float:
        (w, h), base = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, round(2 * scale)))
        return min(1.0, (room[2] - room[0] - 16) / w, (room[3] - room[1] - 16) / (h + base))

    fits = [(fit(sign[0], room), sign, room) for sign in (*signs[first:], *signs[:first]) for room in rooms]
    shrink, (word, ink, board), (left, top, right, _) = max(fits, key=lambda f: f[0])
    scale *= shrink
    thick = max(1, round(2 * scale))
    (text_wide, text_high), base = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    x, y = int(left + (right - left - text_wide) / 2), int(top + 8 + text_high)
    out = picture.copy()
    cv2.rectangle(out, (x - 6, y - text_high - 6), (x + text_wide + 6, y + base + 4), board, -1)
    cv2.putText(out, word, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thick, cv2.LINE_AA)
    return out


def second_face(picture: Picture, clip: Clip, index: int, size: float) -> Picture:
    """Add the clip's own face a second time, mirrored, on the side with more room."""
    boxes = clip.visual.faces.to_pandas()
    x1, y1, x2, y2 = (int(boxes[c].median()) for c in ("x1", "y1", "x2", "y2"))
    margin = int(0.25 * (x2 - x1))
    head = picture[max(0, y1 - margin) : y2 + margin, max(0, x1 - margin) : x2 + margin][:, ::-1]
    room = max(x1, picture.shape[1] - x2) - 0.1 * (x2 - x1)
    zoom = min(size, room / head.shape[1])
    head = cv2.resize(head, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    left = 0 if x1 > picture.shape[1] - x2 else picture.shape[1] - head.shape[1]
    top = max(0, min(y1, picture.shape[0] - head.shape[0]))
    out = picture.copy()
    out[top : top + head.shape[0], left : left + head.shape[1]] = head
    return out


PICTURE_STEPS: list[tuple[str, str, Callable[..., Picture], tuple[Any, ...]]] = [
    ("dark", "stops darker", dark, (1, 2, 4)),
    ("glare", "stops brighter", bright, (1, 2, 3)),
    ("glare", "sun spot, share of the face", sun_spot, (0.05, 0.15, 0.3)),
    ("blurred", "sigma, share of the face", blurred, (0.01, 0.03, 0.06)),
    ("grainy", "sigma of noise", grainy, (5, 15, 30)),
    ("mask", "cloth: beige, black, blue", mask, ((205, 170, 145), (28, 28, 30), (150, 190, 215))),
    ("signage", "height of letters, share of the picture", sign, (0.03, 0.05, 0.08)),
    ("several_faces", "size of the second face", second_face, (0.4, 0.6, 0.9)),
]


# --- ways to degrade sound: (samples, rate, strength) -> samples


def quieter(sound: np.ndarray, rate: int, db: float) -> np.ndarray:
    return sound * 10 ** (-db / 20)


def muffled(sound: np.ndarray, rate: int, hertz: float) -> np.ndarray:
    return sosfilt(butter(6, hertz, fs=rate, output="sos"), sound)


def noisy(sound: np.ndarray, rate: int, snr: float) -> np.ndarray:
    level = np.sqrt(np.mean(np.sort(sound**2)[len(sound) // 2 :]))
    return sound + RNG.normal(0, level * 10 ** (-snr / 20), len(sound))


def clipped(sound: np.ndarray, rate: int, db: float) -> np.ndarray:
    return np.clip(sound / np.percentile(np.abs(sound), 99.9) * 10 ** (db / 20), -1, 1)


SOUND_STEPS: list[tuple[str, str, Callable[..., np.ndarray], tuple[float, ...]]] = [
    ("quiet", "dB quieter", quieter, (10, 20, 30)),
    ("muffled", "low-pass, Hz", muffled, (4000, 2500, 1200)),
    ("noisy_sound", "signal to noise, dB", noisy, (20, 10, 0)),
    ("clipped", "dB over full scale", clipped, (6, 12, 20)),
]


def _box(clip: Clip, index: int) -> tuple[float, float, float, float] | None:
    row = next((r for r in clip.visual.faces.drop(["crop"]).to_pylist() if r["frame_index"] == index), None)
    return None if row is None else (row["x1"], row["y1"], row["x2"], row["y2"])


def _mesh(clip: Clip, index: int) -> np.ndarray | None:
    row = next((r for r in clip.visual.landmarks.to_pylist() if r["frame_index"] == index), None)
    return None if row is None or row["points"] is None else np.array(row["points"]).reshape(468, 3)


def write_video(path: Path, pictures: list[Picture]) -> None:
    high, wide = (n - n % 2 for n in pictures[0].shape[:2])
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "22", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = wide, high, "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:high, :wide]), "rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def write_sound(path: Path, sound: np.ndarray, rate: int) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=rate, layout="mono")
        for start in range(0, len(sound), 1024):
            frame = av.AudioFrame.from_ndarray(
                sound[None, start : start + 1024].astype(np.float32), "fltp", "mono"
            )
            frame.sample_rate, frame.pts = rate, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def extract_pictures(path: Path) -> tuple[VisualTables, dict[str, Any]]:
    info = probe(path, SETTINGS.video)
    video = {
        "sha256": "0" * 64,
        "status": "ok",
        "duration_s": info.duration_s,
        "width": info.width,
        "height": info.height,
    }
    return extract_visual(path, SETTINGS.video, SETTINGS.faces, SETTINGS.landmarks, threads=1), video


def extract_sound(path: Path) -> dict[str, Any] | None:
    tables = extract_audio(path, SETTINGS.audio)
    return None if tables is None else tables.audio.drop(["waveform"]).to_pylist()[0]


def assess(visual: VisualTables, video: dict[str, Any], sound_row: dict[str, Any] | None) -> VideoAssessment:
    return assess_video(
        video, visual.frames, visual.faces, visual.landmarks, sound_row, SETTINGS.quality, fps=FPS
    )


def clips(folder: Path, seconds: float, only: set[str], scratch: Path) -> Iterator[Clip]:
    """Yield the first seconds of every clip, scaled to at most 720 lines."""
    for path in sorted(p for p in folder.iterdir() if p.suffix != ".md"):
        if path.stem in NOT_GOOD or (only and path.stem not in only):
            continue
        pictures: list[Picture] = []
        upright = UprightRgb()
        for batch in sample_frames(path, SETTINGS.video, 1):
            for sample in batch:
                picture = upright(sample.frame)
                zoom = min(1.0, 720 / min(picture.shape[:2]))
                pictures.append(cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA))
            if len(pictures) >= seconds * FPS:
                break
        pictures = pictures[: int(seconds * FPS)]
        short = scratch / f"{path.stem}.mp4"
        write_video(short, pictures)
        visual, video = extract_pictures(short)
        assert len(decode_crops(visual.faces["crop"])) > 0, path.stem
        yield Clip(path.stem, path, pictures, visual, video)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="", help="flags, separated by commas")
    parser.add_argument("--clips", default="", help="clips, separated by commas")
    options = parser.parse_args()
    folder = Path(os.environ["ISS_REAL_CLIPS"])
    flags = {f for f in options.only.split(",") if f}
    wanted = {c for c in options.clips.split(",") if c}
    hits: dict[tuple[str, str, int], list[tuple[str, bool]]] = defaultdict(list)
    false: dict[str, list[str]] = defaultdict(list)
    good = 0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for clip in clips(folder, options.seconds, wanted, scratch):
            sound_row = extract_sound(clip.path)
            whole, video = extract_pictures(clip.path)
            verdict = assess(whole, video, sound_row)
            good += 1
            for flag in set(verdict.flags) - CLIP_LENGTH:
                if clip.name not in NOT_GOOD_FOR.get(flag, {}):
                    false[flag].append(clip.name)
            print(f"{clip.name}: {verdict.flags} usable={verdict.usable}", flush=True)
            for flag, what, worsen, steps in PICTURE_STEPS:
                if flags and flag not in flags:
                    continue
                for step, strength in enumerate(steps):
                    worse = [worsen(p, clip, i, strength) for i, p in enumerate(clip.pictures)]
                    write_video(scratch / "worse.mp4", worse)
                    found = assess(*extract_pictures(scratch / "worse.mp4"), sound_row).flags
                    hits[flag, what, step].append((clip.name, flag in found))
            if sound_row is None or sound_row["peak"] == 0 or clip.name in NOT_GOOD_FOR["no_speech"]:
                continue
            sound, rate = read_waveform(extract_audio(clip.path, SETTINGS.audio).audio["waveform"][0].as_py())  # type: ignore[union-attr]
            for flag, what, spoil, strengths in SOUND_STEPS:
                if flags and flag not in flags:
                    continue
                for step, amount in enumerate(strengths):
                    write_sound(scratch / "worse.mp4", spoil(sound, rate, amount), rate)
                    found = assess(clip.visual, clip.video, extract_sound(scratch / "worse.mp4")).flags
                    hits[flag, what, step].append((clip.name, flag in found))
    print(
        "\n| flag | degraded by | weak | middle | strong | missed at the strongest |\n|---|---|---|---|---|---|"
    )
    for flag, what, _, steps in [*PICTURE_STEPS, *SOUND_STEPS]:
        if (flag, what, 0) not in hits:
            continue
        recall = [np.mean([hit for _, hit in hits[flag, what, step]]) for step in range(3)]
        missed = [clip for clip, hit in hits[flag, what, 2] if not hit]
        cells = " | ".join(f"{r:.2f} ({s})" for r, s in zip(recall, steps, strict=True))
        print(f"| {flag} | {what} | {cells} | {', '.join(missed)} |")
    print(f"\nfalse flags on {good} original clips: {dict(false) or 'none'}")


if __name__ == "__main__":
    main()
