"""True proportions of stored meshes: how high each one's crop is as a share of its width."""

from __future__ import annotations

from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from iss_assets.media.crops import BOX, crop_sides, height_share
from iss_assets.settings import FaceSettings

_BOXES: Final = f"""
select b.video_id, b.frame_index, {", ".join(f"b.{name}" for name in BOX)}, f.width, f.height
from _of_video join faces b using (video_id) join frames f using (video_id, frame_index)
"""


def crop_heights(connection: duckdb.DuckDBPyConnection, faces: FaceSettings) -> pa.Table:
    """Return the heights of crops as shares of their widths, by which y is multiplied to have the unit of x and z.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        An open warehouse in which ``_of_video`` is registered, with the ``video_id`` that is wanted.
    faces : FaceSettings
        How crops were cut.

    Returns
    -------
    pyarrow.Table
        ``video_id``, ``frame_index`` and ``height_share``, a row per face.
    """
    rows = connection.execute(_BOXES).to_arrow_table()
    boxes = np.stack([rows[name].to_numpy() for name in BOX], axis=1)
    sides = crop_sides(
        boxes, rows["width"].to_numpy(), rows["height"].to_numpy(), faces.margin, faces.image_size
    )
    return rows.select(["video_id", "frame_index"]).append_column(
        "height_share", pa.array(height_share(sides))
    )
