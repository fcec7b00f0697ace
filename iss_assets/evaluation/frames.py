"""Small ways to read tables, in whichever form they come.

Belongs here: conversion between Arrow tables, pandas frames and rows. Does not belong here: statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

Rows: TypeAlias = pa.Table | pd.DataFrame
"""A table of the warehouse, as an Arrow table or a pandas frame."""


def as_frame(table: Rows) -> pd.DataFrame:
    """Give a pandas frame of a table in either form."""
    return table.to_pandas() if isinstance(table, pa.Table) else table


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """Give the rows of a frame as named tuples, columns as attributes; the index is `Index`."""
    yield from frame.itertuples()


def analyzed_patients(video_quality: pd.DataFrame) -> set[str]:
    """Give the patients with at least one usable video, as the column ``analyzed`` of ``stg_patients`` does in SQL."""
    return set(video_quality.loc[video_quality["usable"].astype(bool), "patient_id"])


def number_or_none(value: Any) -> float | None:
    """Give a float, or None for a missing value of any kind."""
    return None if value is None or pd.isna(value) else float(value)
