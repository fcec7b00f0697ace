"""How well another person's face is told from the patient's: on real clips, changed as days and phones change them.

    ISS_REAL_CLIPS=folder python -m benchmarks.identity [--seconds 4]

Every clip of one talking person is cut in two. The second part is changed (glasses, beard, light, resolution, pixels that
are not square), encoded again, and goes through the pipeline's own extraction; its face is compared with that of the
first part. Then different clips are compared with one another, and spliced: somebody else takes over for an eighth, a
quarter, a half of a video. Printed are the largest and smallest distances and the rates at the settings' limits, and how
many would be taken for another at OpenCV's threshold.
Intervals count persons, not videos: a clip's halves are not independent.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.quality import FPS, NOT_GOOD, SETTINGS, Picture, extract_pictures, write_video
from iss_assets.evaluation.intervals import share_interval
from iss_assets.features.identity import face_moments
from iss_assets.features.self_test import RowsInMemory
from iss_assets.media.identity import FaceMoments, compare_videos
from iss_assets.media.upright import UprightRgb
from iss_assets.media.video import sample_frames
from iss_assets.media.visual import VisualTables

RNG = np.random.default_rng(0)
FRAME = (40, 36, 34)
"""Color of glasses."""
OPENCV_LIMIT = 0.637
"""OpenCV's best threshold on Labeled Faces in the Wild; the settings' limit was raised from it after seeing these clips."""
_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_JAW = (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454)
_MUSTACHE = (425, 327, 2, 98, 205)

Change = Callable[[Picture, np.ndarray], Picture]
"""Takes a picture and the mesh of its face in pixels, (468, 2)."""


def glasses(lens: tuple[int, int, int] | None) -> Change:
    def change(picture: Picture, mesh: np.ndarray) -> Picture:
        out, width = picture.copy(), float(np.linalg.norm(mesh[33] - mesh[263]))
        thick = max(2, round(width / 25))
        for outer, inner, temple in ((33, 133, 234), (263, 362, 454)):
            x, y = (float(v) for v in (mesh[outer] + mesh[inner]) / 2)
            ellipse = ((x, y), (0.62 * width, 0.5 * width), 0.0)
            if lens is not None:
                cv2.ellipse(out, ellipse, lens, -1, cv2.LINE_AA)
            cv2.ellipse(out, ellipse, FRAME, thick, cv2.LINE_AA)
            cv2.line(out, _at(mesh[outer]), _at(mesh[temple]), FRAME, thick, cv2.LINE_AA)
        cv2.line(out, _at(mesh[133]), _at(mesh[362]), FRAME, thick, cv2.LINE_AA)
        return out

    return change


def beard(picture: Picture, mesh: np.ndarray) -> Picture:
    cover = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(cover, [mesh[[*_JAW, *_MUSTACHE]].round().astype(np.int32)], (255,))
    cv2.fillPoly(cover, [mesh[list(_LIPS)].round().astype(np.int32)], (0,))
    width = float(np.linalg.norm(mesh[33] - mesh[263]))
    weight = cv2.GaussianBlur(cover, (0, 0), max(1.0, width / 30)).astype(np.float32)[..., None] / 255 * 0.8
    hair = np.array([38, 30, 26]) + RNG.normal(0, 12, (*picture.shape[:2], 1))
    return np.clip(picture * (1 - weight) + hair * weight, 0, 255).astype(np.uint8)


def light(stops: float, *, side: float = 0.0, colors: Sequence[float] = (1, 1, 1)) -> Change:
    """Change exposure in linear light; `side` darkens one side of the face by as many stops, `colors` tint the lamp."""

    def change(picture: Picture, mesh: np.ndarray) -> Picture:
        left, right = mesh[:, 0].min(), mesh[:, 0].max()
        across = np.clip((np.arange(picture.shape[1]) - left) / max(1.0, right - left), 0, 1)
        gain = 2.0 ** (stops - side * across)[None, :, None]
        linear = (picture / 255.0) ** 2.2 * gain * np.array(colors)
        return (np.clip(linear, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)

    return change


def coarse(picture: Picture, mesh: np.ndarray) -> Picture:
    """Leave 60 pixels of the face, and compress them hard."""
    zoom = min(1.0, 60 / max(1.0, float(np.ptp(mesh[:, 0]))))
    small = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 40])
    again = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.asarray(cv2.resize(again, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def both(first: Change, second: Change) -> Change:
    return lambda picture, mesh: second(first(picture, mesh), mesh)


CHANGES: dict[str, Change | None] = {
    "nothing": None,
    "glasses": glasses(None),
    "sunglasses": glasses((22, 20, 20)),
    "full beard": beard,
    "2 stops darker": light(-2),
    "1.5 stops brighter": light(1.5),
    "light from one side, 3 stops": light(0.5, side=3),
    "warm lamp": light(0, colors=(1.5, 0.9, 0.4)),
    "60 pixels, strong compression": coarse,
    "glasses and beard, 1 stop darker": both(both(glasses(None), beard), light(-1)),
}


def _at(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def read_pictures(path: Path, seconds: float) -> list[Picture]:
    """Return the first seconds of a clip, scaled to at most 720 lines."""
    upright, pictures = UprightRgb(), []
    for batch in sample_frames(path, SETTINGS.video, 1):
        for sample in batch:
            picture = upright(sample.frame)
            zoom = min(1.0, 720 / min(picture.shape[:2]))
            pictures.append(cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA))
        if len(pictures) >= seconds * FPS:
            break
    return [np.asarray(p, np.uint8) for p in pictures[: int(seconds * FPS)]]


def moments_in(seen: VisualTables) -> FaceMoments:
    rows = RowsInMemory({"frames": seen.frames, "faces": seen.faces, "landmarks": seen.landmarks})
    _, found = face_moments(rows, SETTINGS)
    assert found is not None, "no face to compare, or no network"
    return found


def faces_in(pictures: list[Picture], scratch: Path) -> FaceMoments:
    write_video(scratch / "part.mp4", pictures)
    return moments_in(extract_pictures(scratch / "part.mp4")[0])


def changed(pictures: list[Picture], change: Change, scratch: Path) -> list[Picture]:
    """Change every picture in which a mesh is found; the others are left out."""
    write_video(scratch / "plain.mp4", pictures)
    seen = extract_pictures(scratch / "plain.mp4")[0]
    boxes = {r["frame_index"]: r for r in seen.faces.drop(["crop"]).to_pylist()}
    out = []
    for row in seen.landmarks.to_pylist():
        if row["points"] is not None:
            box = boxes[row["frame_index"]]
            size = [box["x2"] - box["x1"], box["y2"] - box["y1"]]
            mesh = np.array(row["points"]).reshape(468, 3)[:, :2] * size + [box["x1"], box["y1"]]
            out.append(change(pictures[min(row["frame_index"], len(pictures) - 1)], mesh))
    return out


def write_anamorphic(path: Path, pictures: list[Picture]) -> None:
    """Write pictures at three quarters of their width, as pixels of 4:3."""
    high, wide = (n - n % 2 for n in (pictures[0].shape[0], round(pictures[0].shape[1] * 0.75)))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "22", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = wide, high, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for picture in pictures:
            narrow = np.asarray(cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(narrow), "rgb24")))
        out.mux(stream.encode())


def fitted(pictures: list[Picture], like: Picture) -> list[Picture]:
    """Scale pictures into the size of another, with bars."""
    high, wide = like.shape[:2]
    out = []
    for picture in pictures:
        zoom = min(wide / picture.shape[1], high / picture.shape[0])
        small = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        whole = np.zeros_like(like)
        top, left = (high - small.shape[0]) // 2, (wide - small.shape[1]) // 2
        whole[top : top + small.shape[0], left : left + small.shape[1]] = small[:high, :wide]
        out.append(whole)
    return out


def rate(name: str, distances: Sequence[float], wrong: int, *more: int) -> None:
    interval = share_interval(wrong, len(distances))
    print(
        f"| {name} | {len(distances)} | {min(distances):.2f} | {np.mean(distances):.2f} | {max(distances):.2f} | {wrong} "
        f"({interval.low:.0%} to {interval.high:.0%}) |{''.join(f' {n} |' for n in more)}",
        flush=True,
    )


def rate_of_same(name: str, distances: Sequence[float], limit: float) -> None:
    rate(name, distances, sum(d > limit for d in distances), sum(d > OPENCV_LIMIT for d in distances))


def apart(first: FaceMoments, second: FaceMoments) -> float:
    """Return the distance of the main faces of two videos."""
    distance = compare_videos({"first": first, "second": second}, SETTINGS.quality)["first"].across
    assert distance is not None
    return distance


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of each part")
    options = parser.parse_args()
    quality = SETTINGS.quality
    limit = quality.sface_distance
    clips = {
        path.stem: read_pictures(path, 2 * options.seconds)
        for path in sorted(Path(os.environ["ISS_REAL_CLIPS"]).iterdir())
        # the face leaves that one after three seconds
        if path.suffix != ".md" and path.stem not in set(NOT_GOOD) - {"face_then_noface"}
    }
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        first: dict[str, FaceMoments] = {}
        parts = {clip: (p[: len(p) // 2], p[len(p) // 2 :]) for clip, p in clips.items()}
        if "face_then_noface" in parts:
            shown = clips["face_then_noface"][:24]
            parts["face_then_noface"] = shown[:12], shown[12:]
        for clip, (part, _) in parts.items():
            first[clip] = faces_in(part, scratch)
        print(
            f"limit {limit}\n\n| the same person | persons | smallest | mean | largest | taken for another | at {OPENCV_LIMIT} |"
        )
        print("|---|---|---|---|---|---|---|")
        for what, change in CHANGES.items():
            found = []
            for clip, (_, part) in parts.items():
                pictures = part if change is None else changed(part, change, scratch)
                found.append(apart(first[clip], faces_in(pictures, scratch)))
            rate_of_same(what, found, limit)
        found = []
        for clip, (_, part) in parts.items():
            write_anamorphic(scratch / "wide.mp4", part)
            found.append(apart(first[clip], moments_in(extract_pictures(scratch / "wide.mp4")[0])))
        rate_of_same("pixels that are not square", found, limit)
        within = [compare_videos({"v": moments}, quality)["v"] for moments in first.values()]
        rate(
            "moments of one part",
            [w.within for w in within],
            sum(bool(w.spans) for w in within),
            sum(w.within > OPENCV_LIMIT for w in within),
        )
        print(
            "\n| different persons | pairs | smallest | mean | largest | taken for one |\n|---|---|---|---|---|---|"
        )
        pairs = [apart(first[a], first[b]) for a, b in combinations(first, 2)]
        rate("within a patient", pairs, sum(d <= limit for d in pairs))
        rate("in the study", pairs, sum(d <= SETTINGS.checks.same_face_distance for d in pairs))
        print(f"standard deviation {np.std(pairs):.3f}")
        print(
            "\n| another person for | spliced videos | found | seconds off at the border |\n|---|---|---|---|"
        )
        names = list(parts)
        for share in (0.125, 0.25, 0.5):
            hit, off = 0, []
            for one, other in zip(names, names[1:] + names[:1], strict=True):
                own = [p for part in parts[one] for p in part]
                guest = fitted([p for part in parts[other] for p in part], own[0])
                length = min(len(own), len(guest))
                border = round(length * (1 - share))
                spliced = own[:border] + guest[: length - border]
                person = compare_videos({"v": faces_in(spliced, scratch)}, quality)["v"]
                if person.other_share >= quality.other_person_share:
                    hit += 1
                    edges = [edge for span in person.spans for edge in span]
                    off.append(min(abs(edge - border / FPS) for edge in edges))
            interval = share_interval(hit, len(names))
            print(
                f"| {share:.1%} | {len(names)} | {hit} ({interval.low:.0%} to {interval.high:.0%}) | "
                f"{max(off, default=0):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
