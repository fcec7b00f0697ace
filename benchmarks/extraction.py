"""The visual pass against the naive baseline, alternating in one run: ``python -m benchmarks.extraction``.

Both run on the same clips; the table compares their speed and the faces and meshes that they found.

Absolute times on a shared machine mean little, ratios within one run are reliable: every round runs the baseline, then
the project, then the floor (decoding alone plus one landmark pass), and the table shows the medians of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import naive_baseline
from iss_assets.media.faces import choose_face
from iss_assets.media.video import probe, sample_frames
from iss_assets.media.visual import VisualTables, extract_visual, landmarks_from_crops
from iss_assets.settings import FaceSettings, LandmarkSettings, VideoSettings

FACES, LANDMARKS = FaceSettings(), LandmarkSettings()
SAME_FACE = 0.75
"""Intersection over union at which two boxes count as the same face."""


@dataclass
class Comparison:
    """The results for one clip."""

    clip: str
    size: str
    frames: int = 0
    ratios: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    fps: list[float] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    found_by_both: int = 0
    lost: int = 0
    new: int = 0
    same_face: int = 0
    same_as_largest: int = 0
    mesh_distances: list[float] = field(default_factory=list)
    meshes: tuple[int, int] = (0, 0)

    def line(self) -> str:
        both = max(1, self.found_by_both)
        whole = sum(self.stages.values()) or 1.0
        shares = " ".join(f"{name} {100 * s / whole:.0f}" for name, s in self.stages.items())
        mesh = f"{100 * statistics.fmean(self.mesh_distances):.2f}" if self.mesh_distances else "-"
        return (
            f"| {self.clip[:30]} | {self.size} | {self.frames} | {statistics.median(self.fps):.0f} "
            f"| {statistics.median(self.ratios):.1f} | {statistics.median(self.floors):.2f} "
            f"| {self.found_by_both}/{self.lost}/{self.new} | {100 * self.same_face / both:.1f} "
            f"| {100 * self.same_as_largest / both:.1f} | {mesh} | {self.meshes[0]}/{self.meshes[1]} | {shares} |"
        )


HEAD = """| clip | size | frames | fps | times baseline | times floor | both/lost/new | same face % | same as largest % \
| mesh distance % of face | meshes theirs/ours | busy time % |
|---|---|---|---|---|---|---|---|---|---|---|---|"""


def overlap(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the intersection over union of two boxes x1, y1, x2, y2."""
    sides = np.minimum(one[2:4], other[2:4]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = sum(float((b[2] - b[0]) * (b[3] - b[1])) for b in (one, other))
    return shared / (areas - shared)


def compare_finds(plain: naive_baseline.Extraction, ours: VisualTables, into: Comparison) -> None:
    """Compare faces and meshes frame by frame, in pixels of the whole picture."""
    boxes = dict(
        zip(
            ours.faces["frame_index"].to_pylist(),
            np.column_stack([ours.faces[c].to_numpy() for c in ("x1", "y1", "x2", "y2")]),
            strict=True,
        )
    )
    meshes = dict(
        zip(ours.landmarks["frame_index"].to_pylist(), ours.landmarks["points"].to_pylist(), strict=True)
    )
    into.frames = len(ours.frames)
    if len(plain.boxes) != into.frames:
        raise AssertionError(f"{len(plain.boxes)} samples against {into.frames}")
    for index, (largest, every, points) in enumerate(
        zip(plain.boxes, plain.all_boxes, plain.points, strict=True)
    ):
        mine = boxes.get(index)
        into.lost += largest is not None and mine is None
        into.new += largest is None and mine is not None
        if largest is None or mine is None:
            continue
        into.found_by_both += 1
        chosen = every[choose_face(every)]
        same = overlap(chosen, mine) >= SAME_FACE
        into.same_face += same
        into.same_as_largest += overlap(largest, mine) >= SAME_FACE
        if same and points is not None and meshes[index] is not None and np.array_equal(largest, chosen[:4]):
            theirs = on_picture(points, largest)
            distance = np.linalg.norm(theirs - on_picture(np.reshape(meshes[index], (468, 3)), mine), axis=1)
            # from ear to ear, in the picture's plane
            into.mesh_distances.append(float(distance.mean() / np.linalg.norm(theirs[454] - theirs[234])))
    into.meshes = (
        sum(p is not None for p in plain.points),
        sum(m is not None for m in meshes.values()),
    )


def on_picture(points: NDArray[Any], box: NDArray[Any]) -> NDArray[Any]:
    """Convert a crop's points, shape (468, 3), to pixels of the whole picture, shape (468, 2)."""
    corner = np.maximum(box[:2], 0).astype(int)
    return corner + points[:, :2] * (box[2:4].astype(int) - corner)


def compare(path: Path, rounds: int, seconds: float, threads: int | None) -> Comparison:
    """Run baseline, project and floor on one clip in turn, `rounds` times."""
    video = VideoSettings(max_seconds=seconds)
    info = probe(path, video)
    result = Comparison(path.name, f"{info.width}x{info.height}")
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            plain = naive_baseline.extract(path, Path(folder), seconds)
        began = time.perf_counter()
        ours = extract_visual(path, video, FACES, LANDMARKS, threads=threads)
        spent = time.perf_counter() - began
        began = time.perf_counter()
        for _ in sample_frames(path, video, threads or 0):
            pass
        landmarks_from_crops(ours.faces["crop"], LANDMARKS)
        floor = time.perf_counter() - began
        result.ratios.append(plain.seconds / spent)
        result.floors.append(spent / floor)
        result.fps.append(len(ours.frames) / spent)
        result.stages = ours.seconds_by_stage
    compare_finds(plain, ours, result)
    return result


def make_clips(folder: Path, sizes: list[tuple[int, int]], seconds: float) -> None:
    """Write clips of these sizes, in which scikit-image's public-domain portrait moves."""
    from skimage import data

    source = data.astronaut()[0:300, 60:420]
    for width, height in sizes:
        zoom = 0.4 * min(width, height) / 110
        face = cv2.resize(source, None, fx=zoom, fy=zoom)
        with av.open(str(folder / f"portrait_{height}p.mp4"), "w") as container:
            stream: Any = container.add_stream("libx264", rate=Fraction(30))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for k in range(int(30 * seconds)):
                shift = 0.06 * height * np.array([np.sin(k / 11), np.cos(k / 7)])
                x, y = np.array([width / 2, height / 2]) - zoom * np.array([165, 110]) + shift
                move = np.array([[1, 0, x], [0, 1, y]], np.float32)
                picture: Any = cv2.warpAffine(face, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="The visual pass against the naive baseline.")
    parser.add_argument("--clips", type=Path, help="folder of videos; by default some are generated")
    parser.add_argument("--quick", action="store_true", help="one round, four seconds of every clip")
    parser.add_argument(
        "--tiny", action="store_true", help="one second of one small clip, and fail on difference"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--threads", type=int, help="threads of the project's pass; by default one per processor"
    )
    options = parser.parse_args()
    rounds = 1 if options.quick or options.tiny else options.rounds
    seconds = 1.0 if options.tiny else 4.0 if options.quick else 3600.0
    with tempfile.TemporaryDirectory() as made:
        clips = options.clips
        if clips is None:
            clips = Path(made)
            sizes = [(480, 360)] if options.tiny else [(512, 512), (1280, 720), (1920, 1080)]
            make_clips(clips, sizes, 1.0 if options.tiny else 8.0)
        paths = sorted(p for p in clips.iterdir() if p.suffix in {".mp4", ".mov", ".mpg", ".webm", ".mkv"})
        # both load their networks before the clock starts
        compare(paths[0], 1, 0.5, options.threads)
        print(HEAD, flush=True)
        for path in paths:
            result = compare(path, rounds, seconds, options.threads)
            print(result.line(), flush=True)
            if options.tiny and (result.lost or result.new or result.same_face < result.found_by_both):
                raise SystemExit("the project finds different faces than the naive baseline")


if __name__ == "__main__":
    main()
