"""What every asset of this project says about itself: schema, owner, kinds, row counts.

Belongs here: the few lines that all asset modules share. Does not belong here: an asset.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from iss_assets.schemas.base import Table

# the pinned version has the parameter; its warning at every start would hide those that matter
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`")

OWNERS = ["team:data"]


def column_schema(table: type[Table]) -> dg.TableSchema:
    """Give a table model as Dagster's column schema, descriptions and units included."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=c.name,
                type=c.sql,
                description=f"{c.description} [{c.unit}]" if c.unit else c.description,
                constraints=dg.TableColumnConstraints(nullable=c.nullable),
            )
            for c in table.columns()
        ]
    )


def describe(table: type[Table], text: str, *, group: str, kinds: set[str], **more: Any) -> dict[str, Any]:
    """Give the keyword arguments that an asset and an ``AssetSpec`` share, taken from the table's model."""
    return {
        "key": dg.AssetKey(table.__table__),
        "description": f"{table.grain()}\n\n{text}",
        "group_name": group,
        "kinds": kinds,
        "owners": OWNERS,
        "tags": {"stage": group},
        "metadata": {
            "dagster/column_schema": column_schema(table),
            "dagster/table_name": table.__table__,
            "key": ", ".join(table.__key__),
        },
        **more,
    }


def metadata_key(name: str) -> str:
    """Return a name as a key of Dagster's metadata: lower-case words joined by underscores.

    Examples
    --------
    >>> metadata_key("Loss of resnet50, by split")
    'loss_of_resnet50_by_split'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def result(
    table: type[Table], rows: int, fingerprint: str, metadata: Mapping[str, Any] | None = None
) -> dg.MaterializeResult:
    """Tell Dagster what was made: the number of rows, and a data version that changes only with the content."""
    return dg.MaterializeResult(
        asset_key=dg.AssetKey(table.__table__),
        metadata={"dagster/partition_row_count": rows, **(metadata or {})},
        data_version=dg.DataVersion(fingerprint),
    )
