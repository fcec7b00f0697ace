"""Studies of made-up numbers, straight into a warehouse: no video is decoded, no face exists.

`paper_study` has the counts of the paper's Tables 2 and 4; `large_study` the size that the study may grow to.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from iss_assets.protocol import terms
from iss_assets.schemas.audio import AUDIO_FEATURES, Audio, AudioFeatures, MelSpectrograms
from iss_assets.schemas.base import Table
from iss_assets.schemas.behavior import BEHAVIOR_MEASURES, FaceBehaviorSummary
from iss_assets.schemas.identity import FaceIdentity
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.modeling import CvSplits
from iss_assets.schemas.thermal import Thermal
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.schemas.voice import VOICE_FEATURES, VoiceFeatures
from iss_assets.schemas.words import TextFeatures, Transcripts, TranscriptSpans, TranscriptWords
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.times import time_columns

TABLE_2 = {
    "1A": 7, "1B": 2, "1C": 4, "1D": 0, "2A": 1, "2B": 1, "2C": 3, "2D": 0,
    "3A": 2, "3B": 2, "3C": 0, "3D": 0, "4A": 1, "4B": 2, "4C": 2, "4D": 3,
}  # fmt: skip
"""Current enrollment by cohort, as printed."""

TABLE_4_FRAMES = {"None": 100984, "Low": 11784, "Moderate": 25999, "Severe": 51232}
VIDEOS_OF_LEVEL = {"None": 271, "Low": 32, "Moderate": 69, "Severe": 137}
"""The paper gives 509 videos and no split by level; this one follows the frames."""

FACES, LANDMARKS = 173011, 168063
SECONDS = 37.32 * 509
SHORTEST, LONGEST = (36, 3.52), (1358, 135.79)
UNUSABLE, WITHOUT_SCORES = "0009", "0015"
FLAGS = ("dark", "glare", "grainy", "quiet", "face_missing", "noisy_sound", "blurred", "signage", "mask")


@dataclass
class Video:
    """A video that was never recorded."""

    video_id: str
    patient_id: str
    frames: int
    seconds: float | None
    submitted_at: datetime
    status: str = "ok"


def paper_study(warehouse: Warehouse) -> None:
    """Fill a warehouse with 30 patients, 29 of them with 509 videos and 189,999 frames, as the paper counts them."""
    random = np.random.default_rng(2021)
    patients = _patients([c for c, n in TABLE_2.items() for _ in range(n)], random, unusable_cohort="2B")
    videos: list[Video] = []
    for level, frames in TABLE_4_FRAMES.items():
        members = [p for p in patients if p["pain_level"] == level and p["patient_id"] != UNUSABLE]
        owners = _spread(members, VIDEOS_OF_LEVEL[level], random)
        fixed = {"None": [SHORTEST[0], LONGEST[0]]}.get(level, [])
        lengths = fixed + _partition(frames - sum(fixed), len(owners) - len(fixed), random)
        videos += _videos(owners, lengths, random)
    _fit_durations(videos)
    videos.append(
        Video(f"{UNUSABLE}-001", UNUSABLE, 0, None, _moment(patients, UNUSABLE), status="unreadable")
    )
    _fill(warehouse, patients, videos, random, faces=FACES, landmarks=LANDMARKS)


@functools.cache
def _paper_file() -> Path:
    """Make the paper's study once a process: null meshes of 168,063 faces alone take seconds to write."""
    folder = tempfile.TemporaryDirectory(prefix="paper-study-")
    atexit.register(folder.cleanup)
    made = Warehouse(Path(folder.name) / "warehouse.duckdb")
    paper_study(made)
    return made.path


def paper_study_in(file: Path) -> Warehouse:
    """Write a warehouse at `file` with the paper's study in it."""
    shutil.copyfile(_paper_file(), file)
    return Warehouse(file)


def large_study(warehouse: Warehouse, patients: int = 112, videos: int = 2000, frames: int = 750_000) -> None:
    """Fill a warehouse with the study at its goal: rows only, packed columns empty or tiny."""
    random = np.random.default_rng(112)
    cohorts = [terms.COHORTS[i % 16].number for i in range(patients)]
    people = _patients(cohorts, random)
    made = _videos(_spread(people, videos, random), _partition(frames, videos, random), random)
    for video in made:
        video.seconds = video.frames / 10
    _fill(warehouse, people, made, random, faces=int(frames * 0.91), landmarks=int(frames * 0.885))


def _patients(
    cohorts: list[str], random: np.random.Generator, unusable_cohort: str | None = None
) -> list[dict[str, Any]]:
    ids = [f"{i:04d}" for i in range(1, len(cohorts) + 1)]
    order = list(random.permutation(len(cohorts)))
    if unusable_cohort is not None:
        # patient 0009 is the one of cohort 2B whose data were unusable
        place, wanted = ids.index(UNUSABLE), cohorts.index(unusable_cohort)
        here = order.index(wanted)
        order[place], order[here] = order[here], order[place]
    first, rows = date(2020, 12, 2), []
    for index, patient_id in enumerate(ids):
        number = cohorts[order[index]]
        cohort = next(c for c in terms.COHORTS if c.number == number)
        low, high = {"None": (0, 0), "Low": (1, 3), "Moderate": (4, 6), "Severe": (7, 10)}[cohort.pain_level]
        types = ("I", "II", "III") if cohort.skin_group == "light" else ("IV", "V", "VI")
        rows.append(
            {
                "patient_id": patient_id,
                "cohort": number,
                "sex": cohort.sex,
                "skin_type": types[random.integers(3)],
                "skin_group": cohort.skin_group,
                "pain_target": int(random.integers(low, high + 1)),
                "pain_level": cohort.pain_level,
                "enrolled_on": first + timedelta(days=int(index * 235 / len(cohorts))),
                "utc_offset_minutes": -300,
            }
        )
    return rows


def _spread(members: list[dict[str, Any]], videos: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Assign each video to a patient; everyone has at least one, some send far more than others."""
    shares = random.dirichlet(np.full(len(members), 2.5))
    counts = 1 + random.multinomial(videos - len(members), shares)
    return [m for m, n in zip(members, counts, strict=True) for _ in range(n)]


def _partition(total: int, parts: int, random: np.random.Generator) -> list[int]:
    """Cut `total` frames into `parts` videos of 50 to about 1,300."""
    weights = np.clip(random.lognormal(0, 0.55, parts), 0.25, 2.8)
    lengths = np.clip(np.floor(weights / weights.sum() * total), 50, 1300).astype(int)
    at = 0
    while (rest := total - int(lengths.sum())) != 0:
        step = int(np.sign(rest)) * min(abs(rest), 5)
        if 50 <= lengths[at % parts] + step <= 1300:
            lengths[at % parts] += step
        at += 1
    return [int(n) for n in lengths]


def _videos(owners: list[dict[str, Any]], lengths: list[int], random: np.random.Generator) -> list[Video]:
    videos: list[Video] = []
    seen: dict[str, int] = {}
    for owner, frames in zip(owners, lengths, strict=True):
        patient_id = owner["patient_id"]
        number = seen[patient_id] = seen.get(patient_id, 0) + 1
        day = owner["enrolled_on"] + timedelta(days=int((number - 1) * 2.33) % 90)
        moment = datetime(day.year, day.month, day.day, 5, tzinfo=UTC) + timedelta(
            hours=int(random.integers(7, 23)), minutes=int(random.integers(60))
        )
        videos.append(Video(f"{patient_id}-{number:03d}", patient_id, frames, None, moment))
    return videos


def _fit_durations(videos: list[Video]) -> None:
    """Durations just under ten frames per second that add up to 37.32 s per video."""
    fixed = {SHORTEST[0]: SHORTEST[1], LONGEST[0]: LONGEST[1]}
    others = [v for v in videos if v.frames not in fixed]
    for video in videos:
        video.seconds = fixed.get(video.frames)
    less = (sum(v.frames for v in others) / 10 - (SECONDS - sum(fixed.values()))) / len(others)
    for video in others:
        video.seconds = video.frames / 10 - less


def _moment(patients: list[dict[str, Any]], patient_id: str) -> datetime:
    day = next(p["enrolled_on"] for p in patients if p["patient_id"] == patient_id)
    return datetime(day.year, day.month, day.day, 15, tzinfo=UTC)


def _fill(
    warehouse: Warehouse,
    patients: list[dict[str, Any]],
    videos: list[Video],
    random: np.random.Generator,
    *,
    faces: int,
    landmarks: int,
) -> None:
    targets = {p["patient_id"]: p["pain_target"] for p in patients}
    readable = [v for v in videos if v.status == "ok"]
    warehouse.replace(Patients, Patients.from_rows(patients), {})
    warehouse.replace(BpiScores, BpiScores.from_rows([_scores(v, targets, random) for v in videos]), {})
    warehouse.replace(Videos, Videos.from_rows([_video(v) for v in videos]), {})
    _fill_frames(warehouse, sum(v.frames for v in readable), faces, landmarks)
    warehouse.replace(Audio, Audio.from_rows([_audio(v, random) for v in readable]), {})
    warehouse.replace(Thermal, Thermal.from_rows(_thermals(videos)), {})
    warehouse.replace(VoiceFeatures, VoiceFeatures.from_rows(_voices(readable)), {})
    warehouse.replace(TextFeatures, TextFeatures.from_rows(_texts(readable)), {})
    warehouse.replace(FaceBehaviorSummary, FaceBehaviorSummary.from_rows(_behaviors(readable)), {})
    warehouse.replace(VideoQuality, VideoQuality.from_rows([_quality(v, random) for v in videos]), {})
    with_frames = {v.patient_id for v in readable}
    levels = {p["patient_id"]: p["pain_level"] for p in patients if p["patient_id"] in with_frames}
    splits = [
        {
            "patient_id": patient_id,
            "split": index % 10 + 1,
            "pain_level": level,
            "source": "seed",
            "folds": 10,
            "seed": 2021,
            "cohort_hash": "made-up",
        }
        for index, (patient_id, level) in enumerate(sorted(levels.items(), key=lambda i: (i[1], i[0])))
    ]
    warehouse.replace(CvSplits, CvSplits.from_rows(splits), {})


def _fill_frames(warehouse: Warehouse, frames: int, faces: int, landmarks: int) -> None:
    """Fill frames, faces and landmarks by SQL; every so manieth frame has no face, so that the counts are exact."""
    with warehouse.write() as writer:
        writer.execute(
            """
            create temp table numbered as
            select q.video_id, v.patient_id, r.range as frame_index,
                   row_number() over (order by q.video_id, r.range) - 1 as n
            from video_frames as q
            join videos as v on v.video_id = q.video_id, range(0, q.frames) as r
            """.replace(
                "video_frames",
                "(select video_id, cast(problem as integer) as frames from videos where status = 'ok')",
            )
        )
        writer.execute("update videos set problem = null where status = 'ok'")
        writer.execute(
            f"""
            create temp table seen as
            select *, (n + 1) * {faces} // {frames} > n * {faces} // {frames} as has_face,
                   n * {faces} // {frames} as face_number
            from numbered
            """
        )
        writer.execute(
            """
            insert into frames by name
            select video_id, patient_id, frame_index, frame_index / 10 as time_s, frame_index // 40 as chunk_index,
                   0.35 + 0.3 * (hash(video_id) % 1000) / 1000 as luminance, 0.2 as contrast,
                   80 + hash(video_id) % 200 as sharpness, 3 as noise, 0.01 as glare, 0.5 as face_luminance,
                   0.0 as face_glare, 120 as face_sharpness,
                   case when frame_index > 0 then 0.01 end as motion, n as picture_hash,
                   case when has_face then 1 else 0 end as faces_seen, 'made-up' as fingerprint
            from seen
            """
        )
        writer.execute(
            """
            insert into faces by name
            select video_id, patient_id, frame_index, 10 as x1, 10 as y1, 170 as x2, 170 as y2, 0.99 as probability,
                   1 as faces_seen, ''::blob as crop, 'made-up' as fingerprint
            from seen where has_face
            """
        )
        writer.execute(
            f"""
            insert into landmarks by name
            select video_id, patient_id, frame_index,
                   (face_number + 1) * {landmarks} // {faces} > face_number * {landmarks} // {faces} as detected,
                   null as points, 'made-up' as fingerprint
            from seen where has_face
            """
        )
        features = ", ".join(
            f"{0.1 if name == 'zero_crossing_rate' else 1500 + i} as {name}"
            for i, name in enumerate(AUDIO_FEATURES)
        )
        writer.execute(
            f"""
            insert into audio_features by name
            select distinct video_id, patient_id, frame_index // 40 as chunk_index, {features},
                   'made-up' as fingerprint
            from seen
            """
        )


def _scores(video: Video, targets: dict[str, int], random: np.random.Generator) -> dict[str, Any]:
    row: dict[str, Any] = {
        "submission_id": video.video_id,
        "patient_id": video.patient_id,
        **time_columns(video.submitted_at, -300),
        "setting": "home",
    }
    if video.patient_id == WITHOUT_SCORES:
        return {**row, "missing_scores": 9}
    burden = np.clip(targets[video.patient_id] * 0.75 + random.normal(0, 1.8), 0, 10)
    # five items follow one burden closely, walking, sleep and pain now less so (section 5)
    for name in terms.INTERFERENCE_ITEMS:
        loose = name in ("walking_ability", "sleep")
        row[name] = int(np.clip(round(burden + random.normal(0, 2.0 if loose else 0.35)), 0, 10))
    row["pain_now"] = int(np.clip(round(burden + random.normal(0, 1.5)), 0, 10))
    row["chronic_pain"] = bool(targets[video.patient_id] > 3)
    return {**row, "missing_scores": 0}


def _video(video: Video) -> dict[str, Any]:
    good = video.status == "ok"
    return {
        "video_id": video.video_id,
        "patient_id": video.patient_id,
        "file": f"videos/{video.patient_id}/{video.video_id}.mp4",
        "sha256": hashlib.sha256(video.video_id.encode()).hexdigest(),
        "bytes": 1000,
        "modified_ns": 0,
        "duration_s": video.seconds,
        "has_audio": True if good else None,
        "has_prompt": False,
        "status": video.status,
        # a note to `_fill_frames`, which empties it
        "problem": str(video.frames) if good else "The file cannot be read.",
    }


def _audio(video: Video, random: np.random.Generator) -> dict[str, Any]:
    return {
        "video_id": video.video_id,
        "patient_id": video.patient_id,
        "sample_rate": 22050,
        "duration_s": video.seconds,
        "loudness_lufs": float(random.normal(-24, 4)),
        "snr_db": float(random.normal(22, 6)),
        "clipped_share": 0.0,
        "speech_share": float(np.clip(random.normal(0.7, 0.1), 0, 1)),
        "high_band_db": -20.0,
        "peak": 0.8,
        "waveform": b"",
        "fingerprint": "made-up",
    }


def _voices(videos: list[Video]) -> list[dict[str, Any]]:
    """Return the voices of videos, as a whole and in their first chunk; in every seventh nobody speaks."""
    random = np.random.default_rng(16)
    rows = []
    for number, video in enumerate(videos):
        measured = random.uniform(0.5, 1.0, len(VOICE_FEATURES)).tolist() if number % 7 else []
        values = dict(zip(VOICE_FEATURES, measured, strict=False))
        if values:
            values |= {
                "pause_count": 3,
                "pause_total_s": 2.0,
                "f0_median_hz": 100 + 100 * values["f0_median_hz"],
            }
        part = {name: value / 2 for name, value in values.items()} | ({"pause_count": 1} if values else {})
        for chunk, measures, seconds in ((-1, values, 8.0), (0, part, 3.0)):
            speech = {"speech_s": seconds if values else 0.0, "voiced_s": seconds / 2 if values else 0.0}
            keys = {"video_id": video.video_id, "patient_id": video.patient_id, "fingerprint": "made-up"}
            rows.append({**keys, "chunk_index": chunk, **speech, **measures})
    return rows


def _texts(videos: list[Video]) -> list[dict[str, Any]]:
    """Return figures about the words of videos; in every fourth nothing is said."""
    random = np.random.default_rng(19)
    rows = []
    for number, video in enumerate(videos):
        keys = {"video_id": video.video_id, "patient_id": video.patient_id, "fingerprint": "made-up"}
        shares = dict(
            zip(
                ("pause_share", "first_person_share", "pain_word_share"),
                random.uniform(0, 0.2, 3),
                strict=True,
            )
        )
        said = {
            "words": 80,
            "pauses": 4,
            "hesitations": 2,
            "pain_words": 3,
            "words_per_minute": 120.0,
            **shares,
        }
        rows.append({**keys, **(said if number % 4 else {"words": 0, "pauses": 0})})
    return rows


def _behaviors(videos: list[Video]) -> list[dict[str, Any]]:
    """Return the behavior in videos, as a whole and in their first chunk; in every fifth no mesh fits."""
    random = np.random.default_rng(17)
    rows = []
    for number, video in enumerate(videos):
        measured = random.uniform(0.1, 0.9, len(BEHAVIOR_MEASURES)).tolist() if number % 5 else []
        # the first chunk has less of everything than the whole video
        for chunk, share in ((-1, 1.0), (0, 0.5)):
            keys = {"video_id": video.video_id, "patient_id": video.patient_id, "fingerprint": "made-up"}
            seen = round(30 * share) if measured else 0
            counts = {"pictures": round(40 * share), "measured": seen, "facing": seen, "seconds": seen / 10}
            values = {name: value * share for name, value in zip(BEHAVIOR_MEASURES, measured, strict=False)}
            rows.append({**keys, "chunk_index": chunk, **counts, **values})
    return rows


def _thermals(videos: list[Video]) -> list[dict[str, Any]]:
    """Return thermal pictures of every tenth video; each fourth cannot be read, and in each third there is no face."""
    rows = []
    for number, video in enumerate(videos[::10]):
        row = {
            "submission_id": video.video_id,
            "patient_id": video.patient_id,
            "file": f"videos/{video.patient_id}/{video.video_id}_thermal.jpg",
            "sha256": f"{number:064d}",
            "bytes": 90_000,
            "modified_ns": 1,
            "status": "ok" if number % 4 else "unreadable",
            "fingerprint": "made-up",
        }
        if number % 4:
            row |= {"pairing": "clocks", "paired_frame": 0, "pair_gap_s": 2.0, "face_found": bool(number % 3)}
        if number % 4 and number % 3:
            row |= {"forehead_c": 34 + number % 7 / 10, "nose_c": 30.0 + number % 5 / 10}
        rows.append(row)
    return rows


def _quality(video: Video, random: np.random.Generator) -> dict[str, Any]:
    flags = [f for f in FLAGS if random.random() < 0.04] if video.status == "ok" else ["unreadable"]
    unusable = next((f for f in flags if f in ("face_missing", "unreadable")), None)
    return {
        "video_id": video.video_id,
        "patient_id": video.patient_id,
        "frames": video.frames,
        "face_rate": 0.91 if video.frames else None,
        "landmark_rate": 0.97 if video.frames else None,
        "measures": "{}",
        "flags": flags,
        "usable": unusable is None,
        "unusable_reason": unusable,
        "fingerprint": "made-up",
    }


def tiny_study(warehouse: Warehouse, mesh: np.ndarray | None = None, patients: int = 8) -> None:
    """Fill a warehouse with patients who have everything that can be loaded, a few rows of each.

    Parameters
    ----------
    warehouse : Warehouse
        An empty one.
    mesh : ndarray, (468, 3), optional
        A mesh that every face gets with a little noise; points on a spiral without.
    patients : int
        Half of them without pain.
    """
    from iss_assets.media.landmarks import encode_crop

    random = np.random.default_rng(7)
    if mesh is None:
        angle, radius = np.arange(468) * 2.4, np.sqrt(np.arange(468) / 468) * 0.4
        mesh = np.column_stack([0.5 + radius * np.cos(angle), 0.5 + radius * np.sin(angle), 0.1 * radius])
    people = _patients(["1A" if i % 2 == 0 else "4D" for i in range(patients)], random)
    targets = {p["patient_id"]: p["pain_target"] for p in people}
    rows: dict[type[Table], list[dict[str, Any]]] = {Patients: people}
    for number, person in enumerate(people):
        for place in range(2):
            video = Video(
                f"{person['patient_id']}-{place + 1}",
                person["patient_id"],
                6,
                8.0,
                _moment(people, person["patient_id"]),
            )
            keys = {"video_id": video.video_id, "patient_id": video.patient_id, "fingerprint": "made-up"}
            add = rows.setdefault
            add(BpiScores, []).append(_scores(video, targets, random))
            add(Videos, []).append({**_video(video), "problem": None})
            add(Audio, []).append(_audio(video, random))
            add(VideoQuality, []).append(
                {**_quality(video, random), "flags": [], "usable": True, "unusable_reason": None}
            )
            for frame in range(video.frames):
                at = {**keys, "frame_index": frame}
                add(Frames, []).append(
                    {
                        **at,
                        "time_s": frame / 10,
                        "chunk_index": 0,
                        "luminance": 0.5,
                        "contrast": 0.2,
                        "sharpness": 100.0,
                        "noise": 2.0,
                        "glare": 0.0,
                        "picture_hash": frame,
                        "faces_seen": 1,
                    }
                )
                # a plain colour that says whose it is, so that a test can tell crops apart
                crop = np.full((160, 160, 3), (number * 20, place * 100, frame * 20), np.uint8)
                box = {"x1": 0, "y1": 0, "x2": 9, "y2": 9, "probability": 1.0, "faces_seen": 1}
                add(Faces, []).append({**at, **box, "crop": encode_crop(crop)})
                points = mesh + random.normal(0, 0.002, mesh.shape)
                detected = frame > 0
                add(Landmarks, []).append(
                    {**at, "detected": detected, "points": points.ravel().tolist() if detected else None}
                )
            for chunk in (-1, 0, 1):
                at = {**keys, "chunk_index": chunk}
                # higher in the first chunk than in the whole video, and silent in the second
                pitch = 100.0 + 10 * number + place + 5 * (chunk + 1) if chunk < 1 else None
                if chunk < 0:
                    add(TextFeatures, []).append({**keys, "words": 50 + number, "pauses": 2})
                    add(TranscriptWords, []).extend(
                        {
                            **keys,
                            "word_index": n,
                            "word": word,
                            "start_s": n,
                            "end_s": n + 0.5,
                            "probability": 0.9,
                        }
                        for n, word in enumerate(("It", "hurts", "in", "Springfield"))
                    )
                    place_named = {"first_word": 3, "last_word": 3, "kind": "place", "found_by": "both"}
                    add(TranscriptSpans, []).append({**keys, **place_named})
                    heard = {
                        "text": "It hurts in Springfield",
                        "words": 4,
                        "speech_s": 3.0,
                        "left_out_s": 0.0,
                        "wordless_s": 0.0,
                    }
                    add(Transcripts, []).append({**keys, **heard, "model": "made-up"})
                add(FaceBehaviorSummary, []).append(
                    {
                        **at,
                        "pictures": 6,
                        "measured": 5,
                        "facing": 5,
                        "seconds": 0.5,
                        "still_share": min(0.1 * number + 0.01 * (chunk + 1), 1.0),
                    }
                )
                add(VoiceFeatures, []).append({**at, "speech_s": 3.0, "voiced_s": 2.0, "f0_median_hz": pitch})
                features = {
                    name: float(random.normal(targets[video.patient_id], 1)) for name in AUDIO_FEATURES
                }
                add(AudioFeatures, []).append({**at, **features, "zero_crossing_rate": 0.1})
                if chunk >= 0:
                    slope = np.linspace(0, -70, 128)[:, None] + random.normal(0, 4, (128, 173))
                    add(MelSpectrograms, []).append(
                        {**at, "steps": 173, "mel": np.clip(slope, -80, 0).tolist()}
                    )
        if number < 2:
            picture = {"file": "t.jpg", "sha256": "0" * 64, "bytes": 9, "modified_ns": 1}
            of = {"submission_id": f"{person['patient_id']}-1", "patient_id": person["patient_id"]}
            status = ("ok", "unreadable")[number]
            rows.setdefault(Thermal, []).append({**of, **picture, "status": status, "fingerprint": "made-up"})
        rows.setdefault(CvSplits, []).append(
            {
                "patient_id": person["patient_id"],
                "split": number // 2 + 1,
                "pain_level": person["pain_level"],
                "source": "seed",
                "folds": patients // 2,
                "seed": 2021,
                "cohort_hash": "made-up",
            }
        )
    for table, made in rows.items():
        warehouse.replace(table, table.from_rows(made), {})


def show_faces(warehouse: Warehouse, persons: Mapping[str, Sequence[int]]) -> None:
    """Replace what is stored of faces: for each video, which person is seen in each of its moments of a second."""
    rows = [
        {
            "video_id": video,
            "patient_id": video[:4],
            "moment": moment,
            "start_s": float(moment),
            "end_s": moment + 1.0,
            "faces": 5,
            "method": "sface",
            "distance": 0.0,
            "vector": np.eye(128, dtype=np.float32)[person].tolist(),
            "fingerprint": "made-up",
        }
        for video, seen in persons.items()
        for moment, person in enumerate(seen)
    ]
    with warehouse.write() as writer:
        writer.execute("delete from face_identity where list_contains(?, video_id)", [list(persons)])
        writer.append(FaceIdentity, FaceIdentity.from_rows(rows))
