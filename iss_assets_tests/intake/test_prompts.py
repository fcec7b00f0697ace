"""``prompts.csv``: the texts of Question 10, and the surveys that name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from iss_assets.intake.folder import (
    StudyFolder,
    prompt_rows,
    read_study,
    score_rows,
    signature_of,
)
from iss_assets.intake.prompts import MAX_CHARACTERS
from iss_assets_tests.intake.conftest import SURVEY_HEADER, SURVEYS, VIDEOS, MakeStudy

WAGON = "Sarah stepped down from the wagon, a cloth bag in her hand."
DOG = "And then the dog came running around the corner."


def read(root: Path, content: str | bytes) -> StudyFolder:
    (root / "prompts.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_study(root)


def surveys_naming(first: str, second: str) -> str:
    return "\n".join([f"{SURVEY_HEADER},prompt_id", f"{SURVEYS[0]},{first}", f"{SURVEYS[1]},{second}", ""])


def found(problems: tuple) -> list[tuple[str, int, str, str]]:
    return [(p.file, p.line, p.column_name, p.code) for p in problems if "prompt" in p.file + p.code]


def test_texts_keep_their_commas_line_breaks_and_letters(make_study: MakeStudy) -> None:
    content = (
        f'text,prompt_id\n"{WAGON}\r\nShe was plain, and tall.",wagon\nDie müde Straße — 25 Vögel,de.1\n'
    )
    study = read(make_study(), content)
    assert prompt_rows(study) == [
        {"prompt_id": "de.1", "text": "Die müde Straße — 25 Vögel"},
        {"prompt_id": "wagon", "text": f"{WAGON} She was plain, and tall."},
    ]
    assert [p.line for p in study.prompts] == [4, 2]
    assert study.rejected == ()
    assert study.problems == ()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_file_as_spreadsheets_save_it(make_study: MakeStudy, encoding: str) -> None:
    study = read(make_study(), "prompt_id;text\ngrün;x\nfr;L’été à Nîmes\n".encode(encoding))
    assert [p.text for p in study.prompts] == ["L’été à Nîmes"]
    assert found(study.rejected) == [("prompts.csv", 2, "prompt_id", "bad_id")]
    told = [p for p in study.problems if p.code == "not_utf8"]
    assert [p.line for p in told] == ([2] if encoding == "cp1252" else [])
    assert all("may be wrong" in p.reason for p in told)


def test_each_bad_row_is_named_and_the_rest_is_used(make_study: MakeStudy) -> None:
    rows = [
        "prompt_id,text",
        f"dog,{DOG}",
        ",No id",
        "a/b,No id either",
        "empty,",
        "dots,... --- !!!",
        f"long,{'word ' * (MAX_CHARACTERS // 5 + 1)}",
        f"dog,{DOG}",
        "dog,Another text",
        "cat,Not closed, and one field too many",
        'open,"never closed',
        f"copy,{DOG.upper()}",
        "nul,a\0b",
    ]
    study = read(make_study(), "\n".join(rows))
    assert [(p.prompt_id, p.line) for p in study.prompts] == [("copy", 12), ("dog", 2)]
    assert found(study.rejected) == [
        ("prompts.csv", 3, "prompt_id", "empty_cell"),
        ("prompts.csv", 4, "prompt_id", "bad_id"),
        ("prompts.csv", 5, "text", "bad_text"),
        ("prompts.csv", 6, "text", "bad_text"),
        ("prompts.csv", 7, "text", "bad_text"),
        ("prompts.csv", 8, "", "repeated_row"),
        ("prompts.csv", 9, "", "conflicting_row"),
        ("prompts.csv", 10, "", "wrong_number_of_fields"),
        ("prompts.csv", 11, "", "broken_quotes"),
        ("prompts.csv", 13, "", "nul_byte"),
    ]
    assert found(study.problems) == [("prompts.csv", 12, "text", "equal_texts")]
    assert not any(DOG[:9] in p.reason for p in (*study.rejected, *study.problems))


@pytest.mark.parametrize(
    "content",
    [b"", b"id,words\nx,y\n", b"\xff\xfe\x00\xd8\x00\xd8", b"prompt_id,text,text\na,b,c\n", b"\0" * 99],
)
def test_a_file_that_cannot_be_read_costs_only_itself(make_study: MakeStudy, content: bytes) -> None:
    study = read(make_study(), content)
    assert study.prompts == ()
    assert found(study.rejected) == [("prompts.csv", 0, "", "unreadable_table")]
    assert len(study.submissions) == len(study.videos) == 2


def test_a_link_out_of_the_study_is_not_followed(make_study: MakeStudy, tmp_path: Path) -> None:
    root = make_study()
    (tmp_path / "secret.csv").write_text("prompt_id,text\na,b\n")
    (root / "prompts.csv").symlink_to(tmp_path / "secret.csv")
    study = read_study(root)
    assert study.prompts == ()
    assert found(study.rejected) == [("prompts.csv", 0, "", "unreadable_table")]


def test_a_survey_names_the_text_that_was_read(make_study: MakeStudy) -> None:
    root = make_study(surveys=surveys_naming("dog", "cat"), videos=(*VIDEOS, "0001/s1_prompt.mp4"))
    study = read(root, f"prompt_id,text\ndog,{DOG}\n")
    assert [s.prompt_id for s in study.submissions] == ["dog", "cat"]
    assert "prompt_id" not in score_rows(study)[0]
    assert [(p.code, p.submission_id) for p in study.problems] == [
        ("survey_without_prompt", "s2"),
        ("unknown_prompt", "s2"),
    ]


def test_surveys_that_name_texts_of_a_missing_file_are_reported_once(make_study: MakeStudy) -> None:
    videos = (*VIDEOS, "0001/s1_prompt.mp4", "0002/s2_prompt.mp4")
    study = read_study(make_study(surveys=surveys_naming("dog", "cat"), videos=videos))
    assert found(study.problems) == [("surveys.csv", 2, "prompt_id", "unknown_prompt")]
    (said,) = (p.reason for p in study.problems if p.code == "unknown_prompt")
    assert said.startswith("2 surveys name the text")
    study = read_study(make_study(surveys=surveys_naming("dog", ""), videos=videos))
    (said,) = (p.reason for p in study.problems if p.code == "unknown_prompt")
    assert said.startswith("1 survey names the text")


def test_readings_of_a_study_without_texts_are_no_problem_of_its_files(make_study: MakeStudy) -> None:
    """The texts are optional; the check of readings says that they could not be assessed."""
    study = read_study(make_study(videos=(*VIDEOS, "0001/s1_prompt.mp4", "0002/s2_prompt.mp4")))
    assert sum(video.prompt is not None for video in study.videos) == 2
    assert study.problems == ()


def test_a_bad_id_in_a_survey_costs_only_the_cell(make_study: MakeStudy) -> None:
    study = read_study(make_study(surveys=surveys_naming("=cmd|' /C calc'!A0", "")))
    assert [s.prompt_id for s in study.submissions] == [None, None]
    assert [(p.line, p.column_name, p.code) for p in study.rejected] == [(2, "prompt_id", "bad_id")]
    assert study.submissions[0].pain_now == 0


def test_only_patients_with_a_reading_depend_on_the_texts(make_study: MakeStudy) -> None:
    root = make_study(videos=(*VIDEOS, "0001/s1_prompt.mp4"))
    before = signature_of(read(root, f"prompt_id,text\ndog,{DOG}\n")).patients
    after = signature_of(read(root, f"prompt_id,text\ndog,{WAGON}\n")).patients
    assert before["0001"] != after["0001"]
    assert before["0002"] == after["0002"]
