"""What all assets share: the description, schema, owner, and kinds of a table, and the result of a materialization."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.base import Table

# the pinned version has the parameter; its warning at every start would hide those that matter
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`")

OWNERS = ["team:data"]


def column_schema(table: type[Table]) -> dg.TableSchema:
    """Return a table model as Dagster's column schema, descriptions and units included."""
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


PROMPT_GROUP = "question_10"
"""The group of everything that is made from Question 10 readings."""
TEXTS_TAG = {"stage": PROMPT_GROUP, "about": "the_study"}
"""Tags of what is about Question 10 and no patient: it is made with the study folder's tables."""

WORDS_TAG = {"made_by": "words"}
"""Tag of what the job `words` makes, after the runs of all patients."""


def asset_group(group: str, recording: Recording) -> str:
    """Return the group of an asset in the graph: that of the narratives' asset, or the readings' own."""
    return PROMPT_GROUP if recording is Recording.PROMPT else group


def describe(table: type[Table], text: str, *, group: str, kinds: set[str], **more: Any) -> dict[str, Any]:
    """Return the keyword arguments that an asset and an ``AssetSpec`` share, from the table's model.

    Parameters
    ----------
    table : type of Table
        The asset's table.
    text : str
        Second paragraph of the description.
    group : str
        Group of the asset graph, and value of the tag ``stage``.
    kinds : set of str
        Badges in the asset graph.
    **more
        Further arguments, such as ``deps``.
    """
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
    """Return the result of a materialization: the number of rows, and a data version that changes only with the content.

    Parameters
    ----------
    table : type of Table
        The table that was written.
    rows : int
        Rows written.
    fingerprint : str
        What the rows were made from; becomes the data version.
    metadata : mapping, optional
        Further metadata.
    """
    return dg.MaterializeResult(
        asset_key=dg.AssetKey(table.__table__),
        metadata={"dagster/partition_row_count": rows, **(metadata or {})},
        data_version=dg.DataVersion(fingerprint),
    )
