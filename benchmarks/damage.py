"""Hundreds of damaged videos: does one bad file cost one file?

Writes good videos in every container, damages them with a seeded generator, runs `iss run` and counts the outcomes.

    python -m benchmarks.damage --files 300
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

CONTAINERS: Final = {
    "mp4": ("libx264", "aac"),
    "mov": ("mpeg4", "aac"),
    "mkv": ("libx264", "pcm_s16le"),
    "webm": ("libvpx", "libopus"),
    "ts": ("libx264", "aac"),
    "avi": ("mpeg4", "pcm_s16le"),
    "mpg": ("mpeg1video", "mp2"),
}
"""File extension to the codecs of picture and sound."""

_BOXES: Final = (b"moov", b"mdat", b"trak", b"mvhd", b"tkhd", b"mdhd", b"stsd", b"stts", b"ctts", b"stsz", b"stsc", b"stco",
                 b"elst", b"avcC", b"esds", b"RIFF", b"hdrl", b"strf", b"idx1")  # fmt: skip
_ABSURD: Final = (
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x00\x00\x00\x01",
)
_PATIENTS: Final = 6

Damage = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


class Damaged(NamedTuple):
    """One damaged file: the kind of damage, its extension, its bytes."""

    kind: str
    suffix: str
    content: bytes


def write_source(path: Path, seconds: float = 1.2) -> Path:
    """Write a moving face with a voice-like tone, in the container of the file's extension."""
    import av
    from skimage import data

    picture_codec, sound_codec = CONTAINERS[path.suffix[1:]]
    face = data.astronaut()[0:240, 100:420]
    with av.open(str(path), "w") as container:
        rate = 25 if picture_codec == "mpeg1video" else 15
        video: Any = container.add_stream(picture_codec, rate=rate)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        sound: Any = container.add_stream(sound_codec, rate=48000)
        sound.layout = "mono"
        for number in range(round(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(np.roll(face, number % 7, axis=1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        moments = np.arange(int(48000 * seconds)) / 48000
        wave = 0.3 * np.sin(2 * np.pi * 180 * moments) * (1 + np.sin(2 * np.pi * 4 * moments)) / 2
        samples = (wave * 32767).astype(np.int16)
        size = 960
        for start in range(0, len(samples) - size + 1, size):
            tone = av.AudioFrame.from_ndarray(
                samples[None, start : start + size], format="s16", layout="mono"
            )
            tone.sample_rate, tone.pts, tone.time_base = 48000, start, Fraction(1, 48000)
            container.mux(sound.encode(tone))
        container.mux(sound.encode(None))
    return path


def _flip_few(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return _flip(data, rng, rng.randint(1, 8))


def _flip_many(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return _flip(data, rng, len(data) // rng.choice((20, 200, 2000)))


def _flip(data: bytes, rng: random.Random, count: int) -> bytes:
    out = bytearray(data)
    for _ in range(count):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _flip_head(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    head = min(len(data), 4096)
    return _flip(data[:head], rng, rng.randint(1, 40)) + data[head:]


def _truncate(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data))]


def _behead(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return data[rng.randrange(len(data)) :]


def _zeros(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    start, length = rng.randrange(len(data)), rng.randint(1, len(data) // 2)
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def _noise(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    start, length = rng.randrange(len(data)), rng.randint(1, len(data) // 4)
    return data[:start] + rng.randbytes(min(length, len(data) - start)) + data[start + length :]


def _swap(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    cuts = sorted(rng.sample(range(len(data)), 3))
    first, second, third = cuts
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def _repeat(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    first, second = sorted(rng.sample(range(len(data)), 2))
    return data[:second] + data[first:second] * rng.randint(1, 3) + data[second:]


def _drop(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    first, second = sorted(rng.sample(range(len(data)), 2))
    return data[:first] + data[second:]


def _splice(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Put the head of one file on the body of another."""
    other = rng.choice(others)
    return data[: rng.choice((64, 512, 4096))] + other[rng.randrange(len(other)) :]


def _glue(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return data + rng.choice(others)


def _absurd(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Write absurd sizes and counts into the boxes, or anywhere in the header if there are none."""
    out = bytearray(data)
    places = [i for name in _BOXES for i in _found(data, name)]
    for _ in range(rng.randint(1, 4)):
        at = rng.choice(places) if places else rng.randrange(min(len(out), 2048))
        # the size precedes a box's name, counts and values follow it
        place = max(0, at + rng.choice((-4, 4, 8, 12, 16, 20, 24)))
        value = rng.choice(_ABSURD) if rng.random() < 0.7 else struct.pack(">I", rng.getrandbits(32))
        out[place : place + 4] = value
    return bytes(out[: len(data)])


def _found(data: bytes, name: bytes) -> list[int]:
    places: list[int] = []
    at = data.find(name)
    while at >= 0 and len(places) < 50:
        places.append(at)
        at = data.find(name, at + 1)
    return places


def _same(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return data


def _text(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return rng.choice(
        (
            b"Dear doctor, this is no video.\n" * rng.randint(1, 200),
            "Gr\u00fc\u00dfe \u2013 \u65e5\u672c".encode("utf-16"),
            b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\n/etc/hostname\n",
            b"<html><body>404</body></html>",
            b"ffconcat version 1.0\nfile /etc/hostname\n",
            b"\x89PNG\r\n\x1a\n" + rng.randbytes(500),
            b"PK\x03\x04" + rng.randbytes(500),
        )
    )


def _tiny(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return rng.choice((b"", b"\x00", data[:8], data[:32], bytes(5000)))


KINDS: Final[dict[str, Damage]] = {
    "few bits": _flip_few,
    "many bits": _flip_many,
    "bits of the head": _flip_head,
    "cut short": _truncate,
    "head cut off": _behead,
    "run of zeros": _zeros,
    "run of noise": _noise,
    "parts swapped": _swap,
    "part repeated": _repeat,
    "part missing": _drop,
    "head of another file": _splice,
    "two files in one": _glue,
    "absurd sizes": _absurd,
    "wrong ending": _same,
    "no video at all": _text,
    "almost empty": _tiny,
}


def damage(sources: Sequence[Path], count: int, seed: int = 0) -> list[Damaged]:
    """Create damaged files, each kind in turn; the same seed and sources produce the same files."""
    rng = random.Random(seed)
    contents = [path.read_bytes() for path in sources]
    made = []
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        place = rng.randrange(len(sources))
        suffix = sources[place].suffix
        if kind == "wrong ending":
            suffix = rng.choice([path.suffix for path in sources if path.suffix != suffix] or [".mp4"])
        made.append(Damaged(kind, suffix, KINDS[kind](contents[place], rng, contents)))
    return made


def write_study(
    folder: Path, count: int, seed: int = 0, patients: int = _PATIENTS, seconds: float = 1.2
) -> dict[str, Damaged]:
    """Write a study in which every patient has a good video and all but the last have damaged ones.

    Returns
    -------
    dict of str to Damaged
        The damaged files by video id.

    Raises
    ------
    FileExistsError
        If the folder already exists.
    """
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        sources = [write_source(Path(scratch) / f"film.{suffix}", seconds) for suffix in CONTAINERS]
        bad = damage(sources, count, seed)
        lines = ["patient_id,cohort,sex,skin_type,pain_target,enrolled_on,utc_offset"]
        surveys = [
            "submission_id,patient_id,submitted_at,setting,pain_now,chronic_pain,general_activity,mood,"
            "walking_ability,normal_work,relationships,sleep,enjoyment_of_life"
        ]
        names: dict[str, Damaged] = {}
        for patient in range(1, patients + 1):
            own = f"{patient:04}"
            lines.append(
                f"{own},1{'ABCD'[patient % 4]},{'MF'[patient % 2]},II,{patient % 10},2021-01-04,-05:00"
            )
            videos = folder / "videos" / own
            videos.mkdir(parents=True)
            good = sources[patient % len(sources)]
            shutil.copy(good, videos / f"{own}-good{good.suffix}")
            surveys.append(_survey(own, f"{own}-good"))
        for number, file in enumerate(bad):
            own = f"{number % max(1, patients - 1) + 1:04}"
            name = f"{own}-{number:04}"
            (folder / "videos" / own / f"{name}{file.suffix}").write_bytes(file.content)
            surveys.append(_survey(own, name))
            names[name] = file
    (folder / "enrollment.csv").write_text("\n".join(lines) + "\n")
    (folder / "surveys.csv").write_text("\n".join(surveys) + "\n")
    return names


def _survey(patient: str, submission: str) -> str:
    return f"{submission},{patient},2021-02-01T10:00:00-05:00,home,3,yes,1,2,3,4,5,6,7"


def main() -> None:
    """Run `iss run` twice on a study of damaged files and report the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1.2, help="length of the videos")
    parser.add_argument(
        "--folder", type=Path, default=None, help="folder to keep; by default a temporary one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        names = write_study(folder / "study", options.files, options.seed, seconds=options.seconds)
        environment = {**os.environ, "ISS_STUDY": str(folder / "study"), "ISS_HOME": str(folder / "home")}
        iss = str(Path(sys.executable).with_name("iss"))
        for number in (1, 2):
            began = time.monotonic()
            done = subprocess.run([iss, "run"], env=environment, capture_output=True, text=True, check=False)
            print(f"run {number}: status {done.returncode}, {time.monotonic() - began:.0f} s")
            print(*(line for line in done.stderr.splitlines() if line.startswith("failed")), sep="\n")
            print(done.stdout.splitlines()[0] if done.stdout else done.stderr[-2000:])
        question = (
            "select v.video_id, v.status, v.problem, q.usable, q.frames, p.stage, p.error from videos v "
            "left join video_quality q using (video_id) left join video_problems p using (video_id)"
        )
        answer = subprocess.run(
            [iss, "sql", question, "--format", "json"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        report(names, json.loads(answer.stdout))


def report(names: dict[str, Damaged], rows: list[dict[str, Any]]) -> None:
    """Print the outcomes by kind of damage."""
    found = {row["video_id"]: row for row in rows}
    missing = sorted(set(names) - set(found))
    good = {v: row["status"] for v, row in found.items() if v.endswith("good")}
    print(f"good videos: {Counter(good.values())}; damaged files without a row: {missing or 'none'}")
    unassessed = [v for v, row in found.items() if row["usable"] is None]
    print(f"videos without an assessment: {unassessed or 'none'}")
    for kind in KINDS:
        own = [found[name] for name, file in names.items() if file.kind == kind and name in found]
        print(f"{kind:22} {dict(Counter(row['status'] for row in own))}")
    unexplained = [v for v, row in found.items() if row["status"] != "ok" and not row["problem"]]
    print(f"not ok but without a reason: {unexplained or 'none'}")
    print("verdicts:", dict(Counter((row["stage"], row["error"]) for row in rows if row["stage"])) or "none")


if __name__ == "__main__":
    main()
