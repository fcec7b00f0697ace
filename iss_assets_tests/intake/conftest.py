"""A small study folder to damage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ENROLLMENT_HEADER = "patient_id,cohort,sex,skin_type,pain_target,enrolled_on,utc_offset"
SURVEY_HEADER = (
    "submission_id,patient_id,submitted_at,setting,pain_now,chronic_pain,general_activity,mood,"
    "walking_ability,normal_work,relationships,sleep,enjoyment_of_life"
)
PATIENTS = ("0001,1A,M,II,0,2021-01-04,-05:00", "0002,4D,F,V,8,2021-01-11,")
SURVEYS = (
    "s1,0001,2021-01-05T09:05:00-05:00,home,0,no,0,1,0,0,1,2,0",
    "s2,0002,2021-01-12T20:00:00+01:00,clinic,7,yes,6,5,7,6,5,8,6",
)
VIDEOS = ("0001/s1.mp4", "0002/s2.MOV")

MakeStudy = Callable[..., Path]


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """Return a function that writes a study folder; files have a few bytes, because nothing here opens them."""

    def make(
        patients: Sequence[str] | str | bytes = PATIENTS,
        surveys: Sequence[str] | str | bytes = SURVEYS,
        videos: Sequence[str] = VIDEOS,
    ) -> Path:
        root = tmp_path / "study"
        (root / "videos").mkdir(parents=True, exist_ok=True)
        for file, header, rows in (
            ("enrollment.csv", ENROLLMENT_HEADER, patients),
            ("surveys.csv", SURVEY_HEADER, surveys),
        ):
            if isinstance(rows, bytes):
                content = rows
            else:
                content = (rows if isinstance(rows, str) else "\n".join([header, *rows, ""])).encode()
            (root / file).write_bytes(content)
        for name in videos:
            path = root / "videos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"not opened here")
        return root

    return make
