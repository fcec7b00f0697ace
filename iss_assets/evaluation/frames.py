"""Convert between Arrow tables, pandas data frames and rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from iss_assets.schemas.registry import BY_NAME

Rows: TypeAlias = pa.Table | pd.DataFrame
"""A warehouse table, as an Arrow table or a data frame."""


def as_frame(table: Rows) -> pd.DataFrame:
    """Convert a table to a data frame, unless it is one."""
    return table.to_pandas() if isinstance(table, pa.Table) else table


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """Yield the rows of a data frame as named tuples with columns as attributes; the index is `Index`."""
    yield from frame.itertuples()


def analyzed_patients(video_quality: pd.DataFrame) -> set[str]:
    """Return the patients with at least one usable video, like the column ``analyzed`` of ``stg_patients`` in SQL."""
    return set(video_quality.loc[video_quality["usable"].astype(bool), "patient_id"])


def frame_or_empty(tables: Mapping[str, Rows], name: str) -> pd.DataFrame:
    """Return a table of the warehouse as a pandas frame, without rows where it was not provided."""
    given = tables.get(name)
    return as_frame(BY_NAME[name].arrow_schema().empty_table() if given is None else given)


def number_or_none(value: Any) -> float | None:
    """Convert to float; return None for any missing value."""
    return None if value is None or pd.isna(value) else float(value)
