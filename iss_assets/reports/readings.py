"""What pages say of the readings of Question 10: which text, whether to its end, with how many errors. No spoken word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import duckdb

_READINGS_SQL: Final = """
select video_id, prompt_id, prompt_known, text_read, read, cut_short, word_error_rate, share_read
from prompt_readings
where patient_id = $patient
"""


@dataclass(frozen=True)
class ReadingInWords:
    """One reading.

    Attributes
    ----------
    says : str
        Which text was read, and whether to its end.
    note : str
        How this differs from what the survey says, or which text was to be read; empty if there is nothing to say.
    word_error_rate : float or None
        Against the text that was read, or the closest; None if the reading could not be assessed.
    read : bool
        Whether a text was read; if not, the rate is that of the closest.
    """

    says: str
    note: str
    word_error_rate: float | None
    read: bool


def read_readings(connection: duckdb.DuckDBPyConnection, patient_id: str) -> dict[str, ReadingInWords]:
    """Return a patient's readings by video, from an open warehouse; none where Question 10 is not processed."""
    rows = connection.execute(_READINGS_SQL, {"patient": patient_id}).to_arrow_table().to_pylist()
    return {row["video_id"]: describe_reading(row) for row in rows}


def describe_reading(row: Mapping[str, Any]) -> ReadingInWords:
    """Put a row of ``prompt_readings`` into words."""
    if row["read"] is None:
        says = "could not be assessed"
    elif not row["read"]:
        says = "not read"
    elif row["cut_short"]:
        says = f"{row['text_read']}, cut short: {row['share_read']:.0%} of the text"
    else:
        says = f"{row['text_read']}, read"
    return ReadingInWords(says, _note(row), row["word_error_rate"], bool(row["read"]))


def _note(row: Mapping[str, Any]) -> str:
    wanted = row["prompt_id"]
    if wanted is None or wanted == row["text_read"]:
        return ""
    if not row["prompt_known"]:
        return f"surveys.csv says {wanted}, not in prompts.csv"
    return f"instead of {wanted}" if row["read"] else f"to be read: {wanted}"
