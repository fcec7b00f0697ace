"""Whose face is it? Vectors of a video's face, moment by moment, from the stored crops and meshes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as arrow

from iss_assets.features.stages import SourceRows
from iss_assets.media.crops import BOX, crops_in
from iss_assets.media.face_networks import find_network
from iss_assets.media.identity import FaceMoments, average_moments, embed_faces, load_network, typical_moment
from iss_assets.media.landmarks import decode_crops
from iss_assets.media.mask import is_masked, measure_cover
from iss_assets.schemas.identity import FaceIdentity
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.settings import IdentitySettings, Settings


def measure_video(
    video: Mapping[str, Any], rows: SourceRows, settings: Settings
) -> Mapping[str, arrow.Table]:
    """Return the rows of `FaceIdentity` of one video; none where no network is installed or no face can be compared.

    Parameters
    ----------
    video : mapping
        Its row of ``videos``.
    rows : SourceRows
        Its stored frames, faces and landmarks.
    settings : Settings
        How many faces, and where the network's weights are.

    Raises
    ------
    FileNotFoundError
        If the setting names weights that do not exist.
    ModelFileError
        If SFace's file is not the one that was tested.
    """
    numbered, moments = face_moments(rows, settings)
    if moments is None:
        return {}
    return {
        FaceIdentity.__table__: arrow.table(
            {
                "moment": arrow.array(numbered, arrow.int32()),
                "start_s": moments.start_s,
                "end_s": moments.end_s,
                "faces": arrow.array(moments.faces, arrow.int32()),
                "method": [moments.method] * len(numbered),
                "distance": typical_moment(moments).astype(np.float32),
                "vector": arrow.array(list(moments.vectors), arrow.list_(arrow.float32())),
            }
        )
    }


def face_moments(rows: SourceRows, settings: Settings) -> tuple[list[int], FaceMoments | None]:
    """Return the moments of the face in a video and their numbers.

    Parameters
    ----------
    rows : SourceRows
        Stored rows of the video.
    settings : Settings
        How many faces, and where the network's weights are.
    """
    network = find_network(settings.identity)
    if network is None:
        return [], None
    # first of all: the self-test, whose film shows nobody, has to notice a network that cannot be loaded
    load_network(network)
    found = rows.of(Landmarks, ["frame_index", "detected"])
    meshed = found["frame_index"].to_numpy()[found["detected"].to_numpy(zero_copy_only=False).astype(bool)]
    chosen = _chosen(meshed, settings.identity)
    if not len(chosen):
        return [], None
    pictures = rows.of(Faces, ["frame_index", *BOX, "crop"], frames=chosen.tolist())
    crops = decode_crops(pictures["crop"])
    bare = np.array([not is_masked(measure_cover(crop), settings.quality) for crop in crops], bool)
    if not bare.any():
        return [], None
    meshes = rows.of(Landmarks, ["frame_index", "points"], frames=chosen.tolist())
    points = np.array(meshes["points"].to_pylist(), np.float32).reshape(len(chosen), -1, 3)
    frames = rows.of(Frames, ["frame_index", "time_s", "width", "height"])
    sizes = crops_in(frames, pictures, chosen, settings.faces)[:, 2:]
    seen = frames["time_s"].to_numpy()[np.searchsorted(frames["frame_index"].to_numpy(), chosen)]
    moment = np.arange(len(chosen)) // settings.identity.faces_per_moment
    vectors = embed_faces(crops[bare], points[bare], sizes[bare], network)
    last = float(seen[-1]) + 1 / settings.video.fps
    averaged = average_moments(network.method, seen[bare], moment[bare], vectors, last)
    return np.unique(moment[bare]).tolist(), averaged


def stored_moments(rows: arrow.Table) -> dict[str, FaceMoments]:
    """Return the moments of each video from rows of `FaceIdentity`, in the order of video and moment.

    Parameters
    ----------
    rows : pyarrow.Table
        With the columns video_id, start_s, end_s, faces, method, and vector.
    """
    if not rows.num_rows:
        return {}
    names = np.array(rows["video_id"].to_pylist(), dtype=object)
    methods = np.array(rows["method"].to_pylist(), dtype=object)
    start, end, faces = (rows[name].to_numpy() for name in ("start_s", "end_s", "faces"))
    vectors = rows["vector"].combine_chunks()
    values = vectors.flatten().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(vectors.value_lengths().to_numpy(zero_copy_only=False))])
    found: dict[str, FaceMoments] = {}
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    for begin, stop in pairwise(edges):
        found[str(names[begin])] = FaceMoments(
            str(methods[begin]),
            start[begin:stop],
            end[begin:stop],
            faces[begin:stop],
            values[offsets[begin] : offsets[stop]].reshape(stop - begin, -1),
        )
    return found


def _chosen(meshed: np.ndarray, settings: IdentitySettings) -> np.ndarray:
    """Return the frames of evenly spaced faces, each once."""
    count = len(meshed)
    if not count:
        return meshed
    places = np.linspace(0, count - 1, min(count, settings.faces)).round().astype(int)
    return np.asarray(meshed[np.unique(places)])
