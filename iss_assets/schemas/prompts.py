"""Question 10: the study's texts, which of them was read, and the tables of the readings, which are those of the narratives."""

from __future__ import annotations

import copy
from collections.abc import Collection

from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column


def for_prompt(model: type[Table], *, grain: str = "", without: Collection[str] = ()) -> type[Table]:
    """Return the model of the readings' table that corresponds to a table of the narratives: the same columns and checks.

    Parameters
    ----------
    model : type of Table
        The narratives' table.
    grain : str
        What one row is, if the narratives' table says something that readings are not.
    without : collection of str
        Columns that readings do not have.
    """
    model.to_schema()
    fields = {n: copy.copy(field) for n, (_, field) in model.__fields__.items() if n not in without}
    what = model.grain()
    return type(
        f"Prompt{model.__name__}",
        (Table,),
        {
            **fields,
            "__annotations__": dict.fromkeys(fields, object),
            "__module__": __name__,
            "__doc__": grain or f"Of a Question 10 reading, {what[0].lower()}{what[1:]}",
            "__table__": Recording.PROMPT.named(model.__table__),
            "__key__": model.__key__,
            "__partition__": model.__partition__,
            "__references__": tuple(
                (c, Recording.PROMPT.inventory if t == Recording.NARRATIVE.inventory else t)
                for c, t in model.__references__
            ),
        },
    )


class Prompts(Table):
    """One text that Question 10 has read aloud, from prompts.csv."""

    __table__ = "prompts"
    __key__ = ("prompt_id",)

    prompt_id: object = column("VARCHAR", "Id of the text.", **SUBMISSION_ID)
    text: object = column("VARCHAR", "The text.", str_length={"min_value": 1})


class PromptReadings(Table):
    """One Question 10 video: which of the study's texts was read aloud, and whether to its end."""

    __table__ = "prompt_readings"
    __key__ = ("video_id",)
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "prompt_videos"),)

    video_id: object = column("VARCHAR", "Submission id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    prompt_id: object = column(
        "VARCHAR", "The text that was to be read, by surveys.csv; empty where it does not say.", nullable=True
    )
    prompt_known: object = column(
        "BOOLEAN", "Whether prompts.csv has that text; empty where surveys.csv does not say.", nullable=True
    )
    text_read: object = column("VARCHAR", "The text that was read; empty if none was.", nullable=True)
    read: object = column(
        "BOOLEAN",
        "Whether one of the texts was read, wholly or in part; empty if the study has no texts, if the sound or its "
        "language could not be recognized, or if no text was recognized and much of the speech has no words.",
        nullable=True,
    )
    cut_short: object = column(
        "BOOLEAN",
        "Whether the beginning or the end of the text is missing; empty if none was read, or if what is missing may be in "
        "speech without words.",
        nullable=True,
    )
    word_error_rate: object = column(
        "DOUBLE",
        "Words missing, added or replaced, per word of the text that was read, or of the closest; above 1 if much else "
        "was said.",
        ge=0,
        nullable=True,
    )
    share_read: object = column(
        "DOUBLE",
        "Share of the text's words from the first to the last that was read; empty if none was.",
        nullable=True,
        **SHARE,
    )
    words: object = column(
        "INTEGER",
        "Words spoken; each digit of a number counts as one. Empty if the sound could not be recognized.",
        ge=0,
        nullable=True,
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of what it was made from.")
