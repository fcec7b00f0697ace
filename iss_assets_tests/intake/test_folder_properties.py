"""Whatever bytes a study folder holds: one kind of error, and every row accepted or rejected."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from iss_assets.intake.folder import (
    StudyFolderError,
    problem_rows,
    read_study,
    rejected_rows,
    study_signature,
)
from iss_assets.schemas.intake import RejectedRows, StudyProblems
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, PATIENTS, SURVEY_HEADER, SURVEYS

CELLS = st.one_of(
    st.sampled_from(
        [
            "0001",
            "0002",
            "s1",
            "s2",
            "1A",
            "4D",
            "M",
            "F",
            "II",
            "0",
            "8",
            "10",
            "yes",
            "1",
            "2",
            "home",
            "2021-01-05T09:05:00-05:00",
            "2021-01-05T09:05:00",
            "2021-01-04",
            "+02:00",
            "",
            '"',
            '"a',
            'b"',
            "9999-12-31T23:59:59-14:00",
            "\x00",
            "..",
            "CON",
            "=1+1",
            "2021-13-45",
        ]
    ),
    st.text(max_size=8),
)
ROWS = st.lists(st.one_of(st.lists(CELLS, max_size=16).map(",".join), st.text(max_size=60)), max_size=12)


def write(folder: Path, enrollment: bytes, surveys: bytes) -> Path:
    (folder / "videos").mkdir(exist_ok=True)
    (folder / "enrollment.csv").write_bytes(enrollment)
    (folder / "surveys.csv").write_bytes(surveys)
    return folder


@given(enrollment=st.binary(max_size=300), surveys=st.binary(max_size=300))
@settings(max_examples=80, deadline=None)
def test_no_bytes_raise_anything_but_the_folder_error(enrollment: bytes, surveys: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder), enrollment, surveys)
        for prefix in (b"", (ENROLLMENT_HEADER + "\n").encode(), (ENROLLMENT_HEADER + "\n").encode("utf-16")):
            try:
                read_study(write(root, prefix + enrollment, (SURVEY_HEADER + "\n").encode() + surveys))
            except StudyFolderError as error:
                assert str(error)


@given(patients=ROWS, surveys=ROWS)
@example(patients=[*PATIENTS, '"'], surveys=[*SURVEYS, ' "x'])
@example(patients=[], surveys=[SURVEYS[0].removesuffix(",0").replace("s1", "s3") + ',"', '"'])
@example(patients=[PATIENTS[0].replace("0001", "0003") + ',"', '"'], surveys=[])
@settings(max_examples=120, deadline=None)
def test_every_row_is_accepted_or_rejected_with_its_line(patients: list[str], surveys: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        texts = [
            "\n".join([ENROLLMENT_HEADER, *PATIENTS, *patients]),
            "\n".join([SURVEY_HEADER, *SURVEYS, *surveys]),
        ]
        encoded = [text.encode("utf-8", "replace") for text in texts]
        study = read_study(write(Path(folder), *encoded))
        for table, rows in ((RejectedRows, rejected_rows(study)), (StudyProblems, problem_rows(study))):
            table.check_rows(table.from_rows(rows))
        accepted = {
            "enrollment.csv": {p.line for p in study.patients},
            "surveys.csv": {s.line for s in study.submissions},
        }
        for (file, lines), content in zip(accepted.items(), encoded, strict=True):
            reported = lines | {p.line for p in study.rejected if p.file == file}
            physical = content.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
            for number, line in enumerate(physical[1:], start=2):
                if line.strip(" \t\v\f,"):
                    assert number in reported, (file, number)
        assert study_signature(folder).patients.keys() == set(study.patient_ids)
