"""``iss run`` against the naive baseline, warehouse, checks and Dagster included: ``python -m benchmarks.end_to_end``.

Belongs here: making a study of given clips, running both in turn, comparing time and results, printing the table.
Does not belong here: the baseline (``naive_baseline``), the visual pass by itself (``extraction``).

Clips of a few seconds are lengthened by repeating their packets. The baseline runs on the first seconds of each, the
project on all of it, as frames a second do not depend on the length; the results of those first seconds are compared.
The project's time is that of the patients' runs, from the start of the first to the end of the last, less what the
workers take to load their networks and librosa's compiled functions (measured alone, side by side), as the baseline's
are loaded too. What comes before (starting, reading the folder), loading, and what comes after (marts and pages of the
study) is reported by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as arrow

from benchmarks import naive_baseline
from benchmarks.extraction import Comparison, compare_finds, make_clips
from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.video import VideoInfo, probe, sample_frames
from iss_assets.media.visual import VisualTables, landmarks_from_crops
from iss_assets.schemas.audio import AUDIO_FEATURES
from iss_assets.settings import LandmarkSettings, Settings, VideoSettings
from iss_assets.warehouse.database import Warehouse

TARGETS = {1080: 12.0, 720: 8.0, 512: 5.0}
"""Times the baseline that are wanted, by the shorter side of the picture."""
SAME_SOUND = 1e-4
"""Largest difference of an audio feature, as a share of its value."""


@dataclass
class Result:
    """What one size showed."""

    clip: str
    info: VideoInfo
    found: Comparison
    ratios: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    fps: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    loading: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    sound: float | None = None

    def line(self) -> str:
        whole = sum(self.steps.values()) or 1.0
        shares = " ".join(
            f"{n} {100 * s / whole:.0f}" for n, s in sorted(self.steps.items(), key=lambda x: -x[1])
        )
        wanted = TARGETS.get(min(self.info.width, self.info.height))
        mesh = self.found.mesh_distances
        return (
            f"| {self.clip[:30]} | {self.info.width}x{self.info.height} | {statistics.median(self.fps):.0f} "
            f"| {statistics.median(self.ratios):.1f} | {wanted or '-'} | {statistics.median(self.floors):.2f} "
            f"| {self.found.found_by_both}/{self.found.lost}/{self.found.new} "
            f"| {100 * self.found.same_face / max(1, self.found.found_by_both):.1f} "
            f"| {100 * statistics.fmean(mesh) if mesh else float('nan'):.2f} "
            f"| {'-' if self.sound is None else f'{self.sound:.1e}'} "
            f"| {statistics.median(self.before):.1f} + {statistics.median(self.loading):.1f} | {statistics.median(self.after):.1f} | {shares} |"
        )


HEAD = """| clip | size | fps | times baseline | wanted | times floor | both/lost/new | same face % \
| mesh distance % | sound differs by | start-up s | study-wide s | share of the time, % |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def lengthen(source: Path, target: Path, seconds: float) -> None:
    """Repeat a clip's packets until it lasts `seconds`; each track follows on itself without a gap."""
    with av.open(str(target), "w") as out:
        tracks: dict[str, Any] = {}
        next_stamp: dict[str, int] = {}
        reached = 0.0
        while reached < seconds:
            shift: dict[str, int] = {}
            with av.open(str(source)) as container:
                kinds = [*container.streams.video[:1], *container.streams.audio[:1]]
                for stream in kinds:
                    if stream.type not in tracks:
                        tracks[stream.type] = out.add_stream_from_template(stream)
                for packet in container.demux(kinds):
                    if packet.dts is None or packet.pts is None:
                        continue
                    kind = packet.stream.type
                    # decoding stamps rise from packet to packet, which presentation stamps do not
                    offset = shift.setdefault(kind, next_stamp.get(kind, packet.dts) - packet.dts)
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    next_stamp[kind] = packet.dts + (packet.duration or 1)
                    if kind == "video":
                        reached = next_stamp[kind] * float(packet.time_base)
                    packet.stream = tracks[kind]
                    out.mux(packet)


def make_study(study: Path, video: Path, patients: int) -> None:
    """Make a study of so many patients with this one video each."""
    (study / "videos").mkdir(parents=True)
    people = ["patient_id,cohort,sex,skin_type,pain_target,enrolled_on,utc_offset"]
    surveys = [
        "submission_id,patient_id,submitted_at,setting,pain_now,chronic_pain,general_activity,mood,walking_ability,"
        "normal_work,relationships,sleep,enjoyment_of_life"
    ]
    for number in range(1, patients + 1):
        patient = f"{number:04d}"
        people.append(f"{patient},1A,M,II,0,2025-01-02,+00:00")
        surveys.append(f"{patient}-a,{patient},2025-01-0{number}T09:00:00+00:00,home,0,no,0,1,0,0,1,0,0")
        folder = study / "videos" / patient
        folder.mkdir()
        # a copy of one file under two patients would be told apart by nothing but a byte behind its end
        (folder / f"{patient}-a{video.suffix}").write_bytes(video.read_bytes() + patient.encode())
    (study / "enrollment.csv").write_text("\n".join(people) + "\n")
    (study / "surveys.csv").write_text("\n".join(surveys) + "\n")


@dataclass
class Run:
    """Times of one `iss run`, in seconds."""

    before: float
    patients: float
    after: float
    steps: dict[str, float]


def iss_run(study: Path, home: Path) -> Run:
    """Run the command, and read from Dagster's own records when the patients' runs began and ended."""
    from dagster import RunsFilter

    from iss_assets.pipeline.home import open_instance

    os.environ |= {"ISS_STUDY": str(study), "ISS_HOME": str(home)}
    began = time.time()
    command = [str(Path(sys.executable).with_name("iss")), "run", "--no-models"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ended = time.time()
    if done.returncode:
        raise SystemExit(f"iss run failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    steps: dict[str, float] = defaultdict(float)
    with open_instance(Settings(study=study, home=home)) as instance:
        records = instance.get_run_records(RunsFilter(job_name="patient"))
        for record in records:
            for stats in instance.get_run_step_stats(record.dagster_run.run_id):
                name = "checks" if stats.step_key.startswith("check_") else stats.step_key
                steps[name] += (stats.end_time or 0.0) - (stats.start_time or 0.0)
    first = min(r.start_time or ended for r in records)
    last = max(r.end_time or began for r in records)
    # what a run does besides its steps: planning, events
    steps["dagster"] = sum((r.end_time or 0.0) - (r.start_time or 0.0) for r in records) - sum(steps.values())
    return Run(first - began, last - first, ended - last, dict(steps))


LOADING = """
import numpy as np
from iss_assets.media.faces import load_networks
from iss_assets.media.landmarks import load_mesh
from iss_assets.media.sound_features import sound_features
from iss_assets.media.speech import speech_levels
from iss_assets.settings import Settings
began = __import__("time").perf_counter()
load_networks()
load_mesh(Settings().landmarks)
noise = np.random.default_rng(0).uniform(-0.1, 0.1, 88200).astype(np.float32)
speech_levels(noise, 22050)
sound_features(noise, Settings().audio)
print(__import__("time").perf_counter() - began)
"""


def load_everything(workers: int) -> float:
    """Give the seconds that workers, side by side, take to load everything, the slowest of them."""
    command = [sys.executable, "-c", LOADING]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    started = [subprocess.Popen(command, **quiet) for _ in range(workers)]  # type: ignore[call-overload]
    return max(float(process.communicate()[0]) for process in started)


def floor_seconds(path: Path, crops: Any) -> float:
    """Give the seconds of decoding alone plus one mesh a stored crop."""
    began = time.perf_counter()
    for _ in sample_frames(path, VideoSettings()):
        pass
    landmarks_from_crops(crops, LandmarkSettings())
    return time.perf_counter() - began


def measure(clip: Path, scratch: Path, rounds: int, part: float, seconds: float, patients: int) -> Result:
    """Measure one clip: `part` seconds of it the naive baseline, `seconds` by `iss run`, in turn."""
    video = scratch / f"{clip.stem}-long{clip.suffix}"
    lengthen(clip, video, seconds)
    info = probe(video, VideoSettings())
    result = Result(clip.name, info, Comparison(clip.name, ""))
    for number in range(rounds):
        study, home, files = (scratch / f"{clip.stem}-{number}-{n}" for n in ("study", "home", "files"))
        plain = naive_baseline.extract(video, files, part)
        sound, sound_seconds = naive_baseline.extract_sound(video, files, part)
        make_study(study, video, patients)
        loading = load_everything(min(patients, Settings().run.workers))
        run = iss_run(study, home)
        with Warehouse(home / "warehouse.duckdb").read() as connection:

            def fetch(table: str, condition: str = "true", connection: Any = connection) -> arrow.Table:
                # in memory for the comparison: the rows of the first patient, in order
                return connection.execute(
                    f"select * from {table} where patient_id = '0001' and {condition} order by all"
                ).to_arrow_table()

            compared = f"frame_index < {len(plain.boxes)}"
            ours = VisualTables(
                fetch("frames", compared),
                fetch("faces", compared),
                fetch("landmarks", compared),
                problem=None,
            )
            our_sound = fetch("audio_features", f"chunk_index between 0 and {len(sound) - 1}")
            crops = fetch("faces")["crop"]
            frames = connection.execute("select count(*) from frames").fetchall()[0][0]
        floor = floor_seconds(video, crops) * patients / frames
        a_frame = (run.patients - loading) / frames
        result.ratios.append((plain.seconds + sound_seconds) / len(plain.boxes) / a_frame)
        result.floors.append(a_frame / floor)
        result.fps.append(1 / a_frame)
        result.before.append(run.before)
        result.loading.append(loading)
        result.after.append(run.after)
        result.steps = run.steps
    compare_finds(plain, ours, result.found)
    if len(sound):
        mine = np.column_stack([our_sound[name].to_numpy() for name in AUDIO_FEATURES])
        result.sound = float((np.abs(mine - sound) / np.maximum(np.abs(sound), 1e-6)).max(initial=0))
    return result


def choose(folder: Path) -> list[Path]:
    """Choose one clip with sound of each wanted size, the widest."""
    chosen: dict[int, tuple[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        try:
            info = probe(path, VideoSettings())
        except UnreadableVideo:
            continue
        side = min(info.width, info.height)
        best = chosen.get(side, (0, path))
        if side in TARGETS and info.width > best[0] and info.has_audio and not info.rotation:
            chosen[side] = (info.width, path)
    return [chosen[side][1] for side in TARGETS if side in chosen]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clips", type=Path, help="folder of videos; without it some are made, without sound"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--part", type=float, default=6.0, help="seconds that the baseline extracts")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of each patient's video")
    parser.add_argument("--patients", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="one small made-up clip, for correctness only")
    given = parser.parse_args()
    if given.tiny:
        given.rounds, given.part, given.seconds, given.patients = 1, 1.0, 2.0, 1
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        clips = choose(given.clips) if given.clips else []
        if not clips:
            (scratch / "made").mkdir()
            sizes = [(480, 360)] if given.tiny else [(1920, 1080), (1280, 720), (512, 512)]
            make_clips(scratch / "made", sizes, 1.0 if given.tiny else 8.0)
            clips = sorted((scratch / "made").iterdir())
        # the baseline loads its networks and compiles librosa's functions before the clock starts
        naive_baseline.extract(clips[0], scratch / "warm", 0.5)
        naive_baseline.extract_sound(clips[0], scratch / "warm", 5.0)
        print(HEAD, flush=True)
        wrong = 0
        for clip in clips:
            result = measure(clip, scratch, given.rounds, given.part, given.seconds, given.patients)
            print(result.line(), flush=True)
            found = result.found
            wrong += bool(found.lost) or found.same_face < 0.99 * found.found_by_both
            wrong += result.sound is not None and result.sound > SAME_SOUND
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
