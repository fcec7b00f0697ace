"""Question 10: the study's texts, and the tables of the readings, which are those of the narratives."""

from __future__ import annotations

import copy
from collections.abc import Collection

from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.base import SUBMISSION_ID, Table, column


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
