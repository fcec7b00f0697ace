"""The sample study: a study folder of invented patients, with one for every issue that the paper lists.

Everything is computed from a seed; the same seed gives the same study, except for differences between codec builds.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from iss_assets.intake.folder_tables import ENROLLMENT, SURVEYS
from iss_assets.intake.folder_videos import VIDEOS
from iss_assets.intake.prompts import PROMPTS, REQUIRED
from iss_assets.protocol import terms
from iss_assets.synthetic import spoken
from iss_assets.synthetic.marker import MARKER
from iss_assets.synthetic.media import Film, picture_times, truncate, write_film
from iss_assets.synthetic.plan import Patient, Submission, plan
from iss_assets.synthetic.scenes import Scene, SceneSettings
from iss_assets.synthetic.voices import Speech, Voice, muffled, quiet, speak

SECONDS: Final = 16.0
"""Length of a video in seconds: just above the 15 that the protocol asks for (Table 3)."""

PROMPT_SECONDS: Final = 5.0
GLARE_SHARE: Final = 0.6
"""Share of a video with glare in which there is glare: then the sun goes, so that a part is flagged and a part is not, and it can be
asked whether a model looks at the flagged part."""
LABELS: Final = "expected_issues.csv"
_VERSION: Final = 1

_README: Final = """This is a study of invented patients. No person described here exists.

`iss sample-study` wrote it to try iss-assets without real data.
The faces are computed from two portraits in the public domain (Eileen Collins, NASA; Grace Hopper, US Navy), warped,
recolored and relit until they show neither of them. The voices are synthetic; nobody ever told what they say, if they
speak words at all. The scores are drawn
at random. Nothing in it says anything about pain, about cancer, or about the two women.

enrollment.csv, surveys.csv, videos/   the study folder, as docs/study_folder.md describes it
prompts.csv                            what Question 10 has read aloud, if the voices speak words
expected_issues.csv                    which issue was planted in which submission; only tests read it
sample_study.json                      the arguments it was created with
"""

Progress = Callable[[int, int, str], None]


class SampleStudyError(Exception):
    """The sample study cannot be written there; the message says what to do."""


@dataclass(frozen=True)
class _Job:
    """One video file to write."""

    path: Path
    patient: Patient
    submission: Submission
    seconds: float
    prompt: bool = False
    words: bool = False


def write_sample_study(
    root: Path | str,
    patients: int = 12,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    submissions_per_patient: int | None = None,
    seconds: float = SECONDS,
    workers: int | None = None,
    effect: float | None = None,
    words: bool = False,
) -> list[str]:
    """Write a study of invented patients, or complete an unfinished one.

    Parameters
    ----------
    root : Path or str
        The study folder. It may exist if it is empty or has a sample study with the same arguments: existing files are
        kept, so an interrupted call continues, a larger number of patients enrolls more, and the same call twice
        does nothing.
    patients : int
        Number of patients, 1 to 9999. Each of the first twelve demonstrates something (see ``plan``); thirty are
        the paper's cohort: 29 usable patients and 0009.
    seed : int
        Another seed invents other patients.
    progress : callable, optional
        Called with the number of files written, their total, and the name of the last one.
    submissions_per_patient : int, optional
        A fixed number of submissions instead of one to four.
    seconds : float
        Length of a video. Below 15 s all are too short for the protocol; for quick tests only.
    workers : int, optional
        Videos written in parallel; by default the number of CPU cores.
    effect : float, optional
        Correlation within patients, -1 to 1, between pain and a sign that is planted in the videos: on bad days the voice is
        higher and the eyes are narrowed. 0 plants a sign that says nothing.
    words : bool
        Whether the patients tell stories in English words instead of syllables; needs hibari-tts (the extra ``speech``).

    Returns
    -------
    list of str
        Names of the videos written, relative to `root`.

    Raises
    ------
    SampleStudyError
        If the folder has other content, or the voice that speaks words is not installed.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> write_sample_study("study", patients=2, seconds=2, submissions_per_patient=1)  # doctest: +SKIP
    ['videos/0001/0001-01.mp4', 'videos/0001/0001-01_prompt.mp4', 'videos/0002/0002-01.mov']
    """
    if not 1 <= patients <= 9999 or seconds < 0.5 or seed < 0:
        raise ValueError(
            "a sample study has 1 to 9999 patients, half a second or more of video, and a seed from 0"
        )
    if effect is not None and not -1 <= effect <= 1:
        raise ValueError("a planted effect is a correlation, from -1 to 1")
    if words and not spoken.available():
        raise SampleStudyError(f"the patients cannot speak words: {spoken.REMEDY}")
    root = Path(root)
    arguments: dict[str, object] = {
        "version": _VERSION,
        "seed": seed,
        "submissions_per_patient": submissions_per_patient,
        "seconds": float(seconds),
        # studies without a planted effect are those of earlier versions
        **({} if effect is None else {"effect": float(effect)}),
        **({"words": True} if words else {}),
    }
    _claim(root, arguments, patients)
    invented = plan(patients, seed, submissions_per_patient, effect)
    _write_text(root / "README.txt", _README)
    _write_text(root / ENROLLMENT, _enrollment(invented))
    _write_text(root / SURVEYS, _surveys(invented))
    _write_text(root / LABELS, _labels(invented))
    if words:
        _write_text(root / PROMPTS, f'{",".join(REQUIRED)}\ngarden,"{spoken.READING}"\n')
    jobs = [job for job in _jobs(root, invented, seconds, words) if not job.path.exists()]
    done = []
    if jobs:
        # importing it in several threads at once fails
        import matplotlib.cbook  # noqa: F401
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        running = {pool.submit(_make, job): job for job in jobs}
        try:
            for future in as_completed(running):
                future.result()
                done.append(running[future].path.relative_to(root).as_posix())
                if progress:
                    progress(len(done), len(jobs), done[-1])
        except BaseException:
            for future in running:
                future.cancel()
            raise
    return sorted(done)


def _claim(root: Path, arguments: dict[str, object], patients: int) -> None:
    """Check that the folder may be written to, and record the arguments in it."""
    marker = root / MARKER
    if root.exists() and not root.is_dir():
        raise SampleStudyError(f"{root.name!r} is a file; name a new folder")
    if root.is_dir() and any(root.iterdir()):
        try:
            found = json.loads(marker.read_text("utf-8"))
            there = int(found.pop("patients"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise SampleStudyError(
                f"the folder {root.name!r} is not empty and has no sample study; name a new folder"
            ) from None
        if found != arguments or there > patients:
            raise SampleStudyError(
                f"the folder {root.name!r} has a sample study of {there} patients with other arguments; name a new "
                "folder, or delete that one"
            )
    root.mkdir(parents=True, exist_ok=True)
    _write_text(marker, json.dumps({**arguments, "patients": patients}, indent=1) + "\n")


def _jobs(root: Path, patients: Iterable[Patient], seconds: float, words: bool) -> list[_Job]:
    jobs = []
    for patient in patients:
        folder = root / VIDEOS / patient.patient_id
        for submission in patient.submissions:
            path = folder / f"{submission.submission_id}.{submission.film.extension}"
            jobs.append(_Job(path, patient, submission, seconds, words=words))
            if submission.prompt:
                name = f"{submission.submission_id}{terms.PROMPT_SUFFIX}.{submission.film.extension}"
                jobs.append(
                    _Job(
                        folder / name,
                        patient,
                        submission,
                        min(PROMPT_SECONDS, seconds),
                        prompt=True,
                        words=words,
                    )
                )
    return jobs


def _make(job: _Job) -> None:
    """Write one video; it gets its final name only when it is complete."""
    job.path.parent.mkdir(parents=True, exist_ok=True)
    part = job.path.with_name(f".{job.path.name}.part")
    if job.submission.empty_file:
        part.write_bytes(b"")
    else:
        _film(part, job)
    part.replace(job.path)


def _film(path: Path, job: _Job) -> None:
    patient, submission = job.patient, job.submission
    issues = frozenset(submission.issues)
    film: Film = submission.film
    said = submission.day_seed + job.prompt
    voice = signed_voice(patient.voice, submission.sign)
    in_words = spoken.read_aloud if job.prompt else spoken.tell
    speech: Speech = (in_words if job.words else speak)(voice, job.seconds, said)
    scene = Scene(
        SceneSettings(
            size=film.size,
            look=None if "face_missing" in issues else patient.look,
            issues=issues,
            companion=patient.companion,
            place_seed=patient.place_seed,
            day_seed=said,
            narrowed=narrowed_eyes(submission.sign),
            glare_until_s=GLARE_SHARE * job.seconds,
        ),
        speech,
    )
    if "quiet" in issues:
        speech = quiet(speech)
    if "muffled" in issues:
        speech = muffled(speech)
    sound = None if "no_sound" in issues else speech.sound
    write_film(path, film, picture_times(film, job.seconds, said), scene.picture_at, sound)
    if "unreadable" in issues:
        truncate(path)


SEMITONES: Final = 2.0
"""How much higher the voice is on a day that is one standard deviation worse."""


def signed_voice(voice: Voice, sign: float | None) -> Voice:
    """Return a patient's voice on a day: higher by `SEMITONES` per standard deviation of the planted sign."""
    return voice if sign is None else replace(voice, pitch=voice.pitch * 2 ** (SEMITONES * sign / 12))


def narrowed_eyes(sign: float | None) -> float:
    """Return how far the eyes are closed all day, 0 to 1: 0.3, and 0.12 more per standard deviation of the planted sign."""
    return 0.0 if sign is None else min(0.7, max(0.0, 0.3 + 0.12 * sign))


def _enrollment(patients: Iterable[Patient]) -> str:
    rows = [
        (
            p.patient_id,
            p.cohort,
            p.sex,
            p.skin_type,
            p.pain_target,
            p.enrolled_on,
            _offset(p.utc_offset_minutes),
            p.age_group,
        )
        for p in patients
    ]
    return _table(
        ["patient_id", "cohort", "sex", "skin_type", "pain_target", "enrolled_on", "utc_offset", "age_group"],
        rows,
    )


def _surveys(patients: Iterable[Patient]) -> str:
    rows = [
        (
            s.submission_id,
            p.patient_id,
            s.submitted_at.isoformat(),
            s.setting,
            *(s.scores[n] for n in terms.SCORES),
        )
        for p in patients
        for s in p.submissions
    ]
    return _table(["submission_id", "patient_id", "submitted_at", "setting", *terms.SCORES], rows)


def _labels(patients: Iterable[Patient]) -> str:
    rows = [
        (s.submission_id, p.patient_id, label, s.note)
        for p in patients
        for s in p.submissions
        for label in s.labels
    ]
    return _table(["submission_id", "patient_id", "issue", "note"], rows)


def _offset(minutes: int) -> str:
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _table(header: list[str], rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    """Write a file unless it says the same already, so that its time of change means something."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
