"""Measures of check-ins from the warehouse: one row per usable video, by group of predictors.

Tables that a home does not have, or that are empty, add nothing and join when they exist (see ``modeling.check_ins.SOURCES``).
"""

from __future__ import annotations

import re

import duckdb
import pandas as pd

from iss_assets.datasets.proportions import crop_heights
from iss_assets.datasets.series import IN_VIDEOS, load_series
from iss_assets.evaluation.baselines import quality_measures
from iss_assets.evaluation.check_ins.design import KEYS, Filmed
from iss_assets.evaluation.check_ins.study import CheckInInputs
from iss_assets.modeling.check_ins import CHECK_IN_EXPERIMENTS, SOURCES, Source, experiments_for
from iss_assets.modeling.items import SERIES
from iss_assets.protocol import terms
from iss_assets.schemas.registry import whole_videos
from iss_assets.settings import CheckInSettings, FaceSettings, TrainingSettings
from iss_assets.warehouse.database import Warehouse

_USABLE = "video_id in (select video_id from video_quality where usable)"

MADE_FROM = (
    "patients",
    "bpi_scores",
    "video_quality",
    "frames",
    "faces",
    "landmarks",
    "prompt_readings",
    *dict.fromkeys(
        [
            *(table for source in SOURCES for table in (source.table, source.minus) if table),
            *(
                SERIES[e.series][0]
                for e in CHECK_IN_EXPERIMENTS
                if e.series is not None and e.series != "mesh_series"
            ),
        ]
    ),
)
"""Tables that the check-in evaluation reads, besides ``cv_splits``."""


def _point(number: int) -> str:
    # x and z are fractions of the crop's width, y of its height
    x, y, z = (f"value_{3 * number + axis + 1}" for axis in range(3))
    return f"[{x}, {y} * height_share, {z}]"


def _distance(first: int, second: int) -> str:
    return f"list_distance({_point(first)}, {_point(second)})"


_EYES = _distance(33, 263)

FACE_SHAPE = {
    "eye_opening": f"({_distance(159, 145)} / {_distance(33, 133)} + {_distance(386, 374)} / {_distance(362, 263)}) / 2",
    "brow_height": f"({_distance(105, 159)} + {_distance(334, 386)}) / 2 / {_EYES}",
    "brow_gap": f"{_distance(55, 285)} / {_EYES}",
    "mouth_width": f"{_distance(61, 291)} / {_EYES}",
    "mouth_opening": f"{_distance(13, 14)} / {_EYES}",
    "lip_to_nose": f"{_distance(0, 1)} / {_EYES}",
    "chin_to_lip": f"{_distance(17, 152)} / {_EYES}",
}
"""Distances in a mesh, as shares of the distance between the outer corners of the eyes (of the eye's own width for its opening):
what lowered brows, narrowed eyes and a raised lip change, the core of the facial expression of pain (Prkachin, Pain 51 (1992),
297-306). Numbers are the points of MediaPipe's Face Mesh."""


def check_in_inputs(warehouse: Warehouse, faces: FaceSettings, settings: CheckInSettings) -> CheckInInputs:
    """Read answers, splits, and the measures and series of all usable videos, in an order that does not depend on who was written last.

    Parameters
    ----------
    warehouse : Warehouse
        The study's tables.
    faces : FaceSettings
        How the study's crops were cut.
    settings : CheckInSettings
        For which targets series are read, and how finely.
    """
    # what a DuckDB that is kept running would keep of the embeddings would stand beside the libraries of networks
    with warehouse.read(apart=True) as connection:
        measures: dict[str, pd.DataFrame] = {}
        for source in SOURCES:
            frame = _source(connection, source)
            if frame is not None:
                there = measures.get(source.group)
                measures[source.group] = (
                    frame if there is None else there.merge(frame, on=list(KEYS), how="outer")
                )
        face = face_shapes(connection, faces)
        if len(face):
            measures["face"] = face
        usable = _frame(connection, "select * from video_quality where usable order by patient_id, video_id")
        quality = quality_measures(usable)
        if len(quality):
            measures["quality"] = quality
        people = _frame(
            connection,
            "select patient_id, video_id, sex = 'F' as female, skin_type, age_group "
            "from video_quality join patients using (patient_id) where usable order by patient_id, video_id",
        )
        measures["demographics"] = _demographics(people)
        return CheckInInputs(
            _frame(connection, "select * from bpi_scores order by patient_id, submission_id"),
            _frame(connection, "select * from cv_splits order by patient_id, split"),
            measures,
            _series(connection, faces, settings),
            usable[["video_id", "flags", "moments"]],
        )


def _series(
    connection: duckdb.DuckDBPyConnection, faces: FaceSettings, settings: CheckInSettings
) -> dict[str, Filmed]:
    """Read what the networks of the evaluated targets read of the narratives; a series that no video has is left out."""
    names = dict.fromkeys(e.series for e in experiments_for(settings.targets) if e.series is not None)
    cut = TrainingSettings().model_copy(
        update={"instance_s": settings.instance_s, "instances_per_video": settings.instances_per_video}
    )
    found: dict[str, Filmed] = {}
    for name in names:
        if not _exists(connection, SERIES[name][0]):
            continue
        made_by, also = "", ""
        if name == "embedding_series":
            made_by = _embedded_by(connection)
            also = f" and video_id not in (select video_id from embeddings where {_MADE_BY} <> $made_by)"
        chosen = connection.execute(
            "select patient_id, video_id, (row_number() over (order by patient_id, video_id) - 1)::int as place "
            f"from video_quality where usable and video_id in ({IN_VIDEOS[name]}){also} order by place",
            {"made_by": made_by} if also else {},
        ).to_arrow_table()
        if chosen.num_rows:
            series = load_series(connection, [name], chosen, cut, faces)[name]
            found[name] = Filmed(tuple(chosen["video_id"].to_pylist()), series, made_by)
    return found


_MADE_BY = "weights_origin || ' ' || len(embedding)"


def _embedded_by(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the network of most embeddings with their width: numbers of another cannot be compared with them."""
    row = connection.execute(
        f"select {_MADE_BY} as made_by from embeddings group by all order by count(*) desc, made_by limit 1"
    ).fetchone()
    return str(row[0]) if row else ""


def _frame(connection: duckdb.DuckDBPyConnection, query: str) -> pd.DataFrame:
    return connection.execute(query).to_arrow_table().to_pandas()


def face_shapes(connection: duckdb.DuckDBPyConnection, faces: FaceSettings) -> pd.DataFrame:
    """Return the means and spreads of `FACE_SHAPE` over each usable video."""
    videos = connection.execute(
        "select patient_id, video_id from video_quality where usable order by all"
    ).to_arrow_table()
    found = []
    for place in range(videos.num_rows):
        connection.register("_of_video", videos.slice(place, 1))
        connection.register("_crops", crop_heights(connection, faces))
        found.append(_frame(connection, _face_shape_query()))
        connection.unregister("_crops")
        connection.unregister("_of_video")
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _face_shape_query() -> str:
    # the points of a mesh that went wrong can coincide
    shapes = ", ".join(
        f"case when isfinite({formula}) then {formula} end as {name}" for name, formula in FACE_SHAPE.items()
    )
    # sums of floats depend on their order, and joins give none
    summaries = ", ".join(
        f"avg({name} order by frame_index) as {name}, stddev_samp({name} order by frame_index) as {name}_spread"
        for name in FACE_SHAPE
    )
    # only what is used of a mesh is joined: whole meshes of a long video are more than DuckDB's memory
    used = sorted(
        {int(number) for formula in FACE_SHAPE.values() for number in re.findall(r"value_(\d+)", formula)}
    )
    meshes = (
        f"select video_id, frame_index, {', '.join(f'points[{number}] as value_{number}' for number in used)} "
        "from landmarks where detected and video_id in (select video_id from _of_video)"
    )
    return (
        f"select patient_id, video_id, {summaries} from "
        f"(select c.patient_id, video_id, frame_index, {shapes} from _of_video c join ({meshes}) using (video_id) "
        "join _crops using (video_id, frame_index)) group by patient_id, video_id"
    )


def _exists(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    found = connection.execute(
        "select count(*) from duckdb_tables() where schema_name = 'main' and table_name = ?", [table]
    ).fetchone()
    return bool(found and found[0])


def _source(connection: duckdb.DuckDBPyConnection, source: Source) -> pd.DataFrame | None:
    """Read one source's measures, named ``source.column``; None if its tables do not exist or are empty."""
    needed = (source.table, source.minus, "prompt_readings") if source.minus else (source.table,)
    if not all(_exists(connection, table) for table in needed):
        return None
    made = [
        f'{f"t.{name}::double - r.{name}::double" if source.minus else f"t.{name}"} as "{source.name}.{name}"'
        for name in source.columns
    ]
    table, joined = f"(select * from {source.table} where {whole_videos(source.table)})", ""
    if source.minus:
        # a reading that was none is no reference; whether one was is unknown where words are not recognized
        joined = (
            f"join (select * from {source.minus} where {whole_videos(source.minus)} "
            "and video_id not in (select video_id from prompt_readings where read = false)) r using (video_id)"
        )
    frame = _frame(
        connection,
        f"select t.patient_id, t.video_id, {', '.join(made)} from {table} t {joined} where t.{_USABLE} "
        "order by t.patient_id, t.video_id",
    )
    return frame if len(frame) else None


def _demographics(people: pd.DataFrame) -> pd.DataFrame:
    skin = people["skin_type"].map({name: i for i, name in enumerate(terms.SKIN_TYPES)})
    age = people["age_group"].map({name: float(i) for i, name in enumerate(terms.AGE_GROUPS)})
    return pd.DataFrame(
        {
            "patient_id": people["patient_id"],
            "video_id": people["video_id"],
            "female": people["female"].astype(float),
            "skin_type": skin.astype(float),
            "pediatric": age.astype(float),
        }
    )
