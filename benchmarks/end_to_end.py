"""``iss run`` against the naive baseline, warehouse, checks and Dagster included: ``python -m benchmarks.end_to_end``.

The benchmark makes a study of the given clips, runs both in turn, and compares time and results. The visual pass alone
is measured in ``extraction``.

Clips of a few seconds are lengthened by repeating their packets. The baseline processes the first seconds of each clip
and the project all of it, since frames per second do not depend on the length; the results of those first seconds are
compared. The project's time is that of the patients' runs, from the start of the first to the end of the last, without
the time to load networks and librosa's compiled functions (measured separately, in parallel), because they are already
loaded for the baseline too. Start-up (including reading the folder), loading, and the steps for the whole study (marts
and pages) are reported separately.
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
from dagster import RunsFilter

from benchmarks import naive_baseline
from benchmarks.extraction import Comparison, compare_finds, make_clips
from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.video import VideoInfo, probe, sample_frames
from iss_assets.media.visual import VisualTables, landmarks_from_crops
from iss_assets.pipeline.home import open_instance
from iss_assets.schemas.audio import AUDIO_FEATURES
from iss_assets.settings import LandmarkSettings, Settings, VideoSettings
from iss_assets.warehouse.database import Warehouse

TARGETS = {1080: 12.0, 720: 8.0, 512: 5.0}
"""Required speed as a multiple of the baseline, by the shorter side of the picture."""
SAME_SOUND = 1e-4
"""Largest allowed relative difference of an audio feature."""


@dataclass
class Result:
    """Result for one clip."""

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
        target = TARGETS.get(min(self.info.width, self.info.height))
        mesh = self.found.mesh_distances
        return (
            f"| {self.clip[:30]} | {self.info.width}x{self.info.height} | {statistics.median(self.fps):.0f} "
            f"| {statistics.median(self.ratios):.1f} | {target or '-'} | {statistics.median(self.floors):.2f} "
            f"| {self.found.found_by_both}/{self.found.lost}/{self.found.new} "
            f"| {100 * self.found.same_face / max(1, self.found.found_by_both):.1f} "
            f"| {100 * statistics.fmean(mesh) if mesh else float('nan'):.2f} "
            f"| {'-' if self.sound is None else f'{self.sound:.1e}'} "
            f"| {statistics.median(self.before):.1f} + {statistics.median(self.loading):.1f} | {statistics.median(self.after):.1f} | {shares} |"
        )


HEAD = """| clip | size | fps | times baseline | required | times floor | both/lost/new | same face % \
| mesh distance % | sound differs by | start-up s | study-wide s | share of the time, % |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def lengthen(source: Path, target: Path, seconds: float) -> None:
    """Repeat the packets of a clip until it lasts `seconds`, without gaps in its tracks."""
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
                    # decoding timestamps increase from packet to packet, presentation timestamps may not
                    offset = shift.setdefault(kind, next_stamp.get(kind, packet.dts) - packet.dts)
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    next_stamp[kind] = packet.dts + (packet.duration or 1)
                    if kind == "video":
                        reached = next_stamp[kind] * float(packet.time_base)
                    packet.stream = tracks[kind]
                    out.mux(packet)


def make_study(study: Path, video: Path, patients: int, submissions: int = 1) -> None:
    """Create a study in which each patient has submitted the same video, once or several times."""
    (study / "videos").mkdir(parents=True)
    people = ["patient_id,cohort,sex,skin_type,pain_target,enrolled_on,utc_offset"]
    surveys = [
        "submission_id,patient_id,submitted_at,setting,pain_now,chronic_pain,general_activity,mood,walking_ability,"
        "normal_work,relationships,sleep,enjoyment_of_life"
    ]
    for number in range(1, patients + 1):
        patient = f"{number:04d}"
        people.append(f"{patient},1A,M,II,0,2025-01-02,+00:00")
        folder = study / "videos" / patient
        folder.mkdir()
        for day in range(1, submissions + 1):
            name = f"{patient}-{day}"
            surveys.append(f"{name},{patient},2025-01-{day:02}T09:00:00+00:00,home,0,no,0,1,0,0,1,0,0")
            # the id appended after the end makes the files different
            (folder / f"{name}{video.suffix}").write_bytes(video.read_bytes() + name.encode())
    (study / "enrollment.csv").write_text("\n".join(people) + "\n")
    (study / "surveys.csv").write_text("\n".join(surveys) + "\n")


@dataclass
class Run:
    """Durations of one `iss run`, in seconds: the patients' runs, those of their words, what is before and after.

    The steps are those of the patients' runs.
    """

    before: float
    patients: float
    after: float
    steps: dict[str, float]
    words: float = 0.0


def iss_run(study: Path, home: Path) -> Run:
    """Run the command, and read the start and end of the patients' runs from Dagster's run records."""
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
        words = instance.get_run_records(RunsFilter(job_name="words"))
        for record in records:
            for stats in instance.get_run_step_stats(record.dagster_run.run_id):
                name = "checks" if stats.step_key.startswith("check_") else stats.step_key
                steps[name] += (stats.end_time or 0.0) - (stats.start_time or 0.0)
    first = min(r.start_time or ended for r in records)
    last = max(r.end_time or began for r in records)
    heard = max((r.end_time or last for r in words), default=last)
    # what a run does in addition to its steps: planning, events
    steps["dagster"] = sum((r.end_time or 0.0) - (r.start_time or 0.0) for r in records) - sum(steps.values())
    return Run(first - began, last - first, ended - heard, dict(steps), heard - last)


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
    """Return the seconds that the slowest of several concurrent workers takes to load everything."""
    command = [sys.executable, "-c", LOADING]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    started = [subprocess.Popen(command, **quiet) for _ in range(workers)]  # type: ignore[call-overload]  # options as a dict
    return max(float(process.communicate()[0]) for process in started)


def floor_seconds(path: Path, crops: Any) -> float:
    """Return the seconds of decoding alone plus one mesh per stored crop."""
    began = time.perf_counter()
    for _ in sample_frames(path, VideoSettings()):
        pass
    landmarks_from_crops(crops, LandmarkSettings())
    return time.perf_counter() - began


def measure(clip: Path, scratch: Path, rounds: int, part: float, seconds: float, patients: int) -> Result:
    """Measure one clip: `part` seconds of it the naive baseline and `seconds` with `iss run`, in turn."""
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
        per_frame = (run.patients - loading) / frames
        result.ratios.append((plain.seconds + sound_seconds) / len(plain.boxes) / per_frame)
        result.floors.append(per_frame / floor)
        result.fps.append(1 / per_frame)
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
    """Choose the widest clip with sound for each size in `TARGETS`."""
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
        "--clips", type=Path, help="folder of videos; by default, silent videos are generated"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--part", type=float, default=6.0, help="seconds that the baseline extracts")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of each patient's video")
    parser.add_argument("--patients", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="one small generated clip, to check correctness")
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
        # load the baseline's networks and compile librosa's functions before timing
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
