"""``prompts.csv``: the texts that Question 10 has patients read aloud.

The file is the study's own and optional, and nothing is trained on it. So a file that cannot be read does not stop the
study: it is rejected as a whole, and until it is corrected nobody can tell which text was read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from iss_assets.intake import cells
from iss_assets.intake.cells import CellError
from iss_assets.intake.csv_reading import read_csv
from iss_assets.intake.records import ProblemLog, StudyFolderError, SubmissionRow, VideoFile

PROMPTS: Final = "prompts.csv"
REQUIRED: Final = ("prompt_id", "text")
MAX_CHARACTERS: Final = 10_000
"""A longer text is not one to read aloud: it would take ten minutes. The paper's take 10 to 15 seconds."""


@dataclass(frozen=True)
class PromptRow:
    """One accepted row of ``prompts.csv``; line breaks in the text are spaces."""

    prompt_id: str
    text: str
    line: int = field(compare=False)


def read_prompts(root: Path, rejected: ProblemLog, problems: ProblemLog) -> tuple[PromptRow, ...]:
    """Read ``prompts.csv``, sorted by id; nothing if there is no file.

    Parameters
    ----------
    root : Path
        The study folder.
    rejected, problems : ProblemLog
        Collect what cannot be used, and what is odd.
    """
    path = root / PROMPTS
    if not path.exists() and not path.is_symlink():
        return ()
    try:
        rows = read_csv(root, PROMPTS, REQUIRED, (), {}, rejected, problems, free_text=("text",))
    except StudyFolderError as error:
        rejected.add(
            "unreadable_table",
            f"None of its texts was used: {error}. Until then it is unknown which text was read.",
            file=PROMPTS,
        )
        return ()
    prompts: dict[str, PromptRow] = {}
    for row in rows:
        where: dict[str, Any] = {"file": PROMPTS, "line": row.line}
        try:
            prompt = PromptRow(_id(row.cells["prompt_id"]), _text(row.cells["text"]), row.line)
        except CellError as error:
            column = "text" if error.code == "bad_text" else "prompt_id"
            rejected.add(error.code, str(error), column=column, **where)
            continue
        first = prompts.setdefault(prompt.prompt_id, prompt)
        if first is prompt:
            continue
        same = first == prompt
        rejected.add(
            "repeated_row" if same else "conflicting_row",
            f"The row repeats line {first.line}, which was used; delete one."
            if same
            else f"The row has the prompt id of line {first.line} but another text; line {first.line} was used. Give it an "
            "id of its own: a text that has been read must keep its id.",
            **where,
        )
    _report_equal_texts(prompts.values(), problems)
    return tuple(sorted(prompts.values(), key=lambda p: p.prompt_id))


def _id(text: str) -> str:
    if not text:
        raise CellError("empty_cell", "prompt_id is empty; fill it in.")
    return cells.prompt_id(text)


def _text(text: str) -> str:
    """Return a text in Unicode's composed form, on one line and without control characters.

    Raises
    ------
    CellError
        ``bad_text`` if there is nothing to read aloud in it, or too much.
    """
    printable = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    line = " ".join(unicodedata.normalize("NFC", printable).split())
    if not any(c.isalnum() for c in line):
        raise CellError("bad_text", "The text has no words; write what is to be read aloud.")
    if len(line) > MAX_CHARACTERS:
        raise CellError(
            "bad_text",
            f"The text has more than {MAX_CHARACTERS:,} characters; check that a quotation mark is not missing.",
        )
    return line


def _report_equal_texts(prompts: Iterable[PromptRow], problems: ProblemLog) -> None:
    first: dict[str, PromptRow] = {}
    for prompt in prompts:
        other = first.setdefault(prompt.text.casefold(), prompt)
        if other is not prompt:
            problems.add(
                "equal_texts",
                f"The text is that of line {other.line} under another id, so nobody can tell which of the two was read; "
                "keep one.",
                file=PROMPTS,
                line=prompt.line,
                column="text",
            )


def compare_with_submissions(
    prompts: Iterable[PromptRow],
    submissions: Mapping[str, SubmissionRow],
    videos: Iterable[VideoFile],
    surveys: str,
    problems: ProblemLog,
) -> None:
    """Report surveys that name a text which ``prompts.csv`` lacks, and those whose reading was not submitted.

    Parameters
    ----------
    prompts : iterable of PromptRow
        The study's texts.
    submissions : mapping
        Accepted submissions by id.
    videos : iterable of VideoFile
        The narratives, with their readings. A survey without any video is reported elsewhere.
    surveys : str
        Name of the file with the submissions.
    problems : ProblemLog
        Collects the problems.
    """
    known = {prompt.prompt_id for prompt in prompts}
    without_reading = {video.submission_id for video in videos if video.prompt is None}
    naming = {i: s for i, s in submissions.items() if s.prompt_id is not None}
    if naming and not known:
        who = "1 survey names" if len(naming) == 1 else f"{len(naming)} surveys name"
        problems.add(
            "unknown_prompt",
            f"{who} the text that was read aloud, and {PROMPTS} has none; put the file there, or correct it.",
            file=surveys,
            line=min(s.line for s in naming.values()),
            column="prompt_id",
        )
    for submission_id, submission in naming.items():
        where: dict[str, Any] = {
            "file": surveys,
            "line": submission.line,
            "column": "prompt_id",
            "patient_id": submission.patient_id,
            "submission_id": submission_id,
        }
        if known and submission.prompt_id not in known:
            problems.add(
                "unknown_prompt",
                f"{PROMPTS} has no usable text with this id; add it, or correct the id.",
                **where,
            )
        if submission_id in without_reading:
            problems.add(
                "survey_without_prompt",
                "The survey says which text was read aloud, but the video of it was not submitted; ask for it, or check "
                "the file's name.",
                **where,
            )
