"""What pages say of the readings of Question 10: which text, whether to its end, with how many errors. No spoken word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import duckdb

from iss_assets.reports import report_tables

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

    @property
    def rate_of(self) -> str:
        """What the rate is of, where it is not of the text that was read."""
        return "" if self.read else "against the closest text"


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
    elif row["cut_short"] is None:
        says = (
            f"{row['text_read']}, read; whether all of it is unknown, since much of the speech has no words"
        )
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


def readings_table(
    readings: Mapping[str, ReadingInWords], when: Mapping[str, datetime]
) -> report_tables.DataTable | None:
    """Return a table of a patient's readings, in the order of time; None if there is none.

    Parameters
    ----------
    readings : mapping of str to ReadingInWords
        By video.
    when : mapping of str to datetime
        Local time of each video that has a questionnaire; others come last.
    """
    if not readings:
        return None
    rows = []
    for video in sorted(readings, key=lambda video: (str(when.get(video, "9999")), video)):
        reading, at = readings[video], when.get(video)
        rows.append(
            (
                video,
                report_tables.Cell(f"{at:%Y-%m-%d}" if at is not None else "no questionnaire"),
                report_tables.Cell(reading.says, small=reading.note),
                report_tables.number(
                    reading.word_error_rate,
                    2,
                    small=reading.rate_of if reading.word_error_rate is not None else "",
                ),
            )
        )
    return report_tables.simple(
        "Every reading.",
        ["Video", "Day", "Text", "Word error rate"],
        rows,
        "No reading was submitted.",
        "Words missing, added or replaced, per word of the text.",
    )
