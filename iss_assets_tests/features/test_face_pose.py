"""Head pose is that of a head whose pose is known, whatever its crop, and does not follow the mouth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from iss_assets.features.behavior import measure_behavior
from iss_assets.features.face_pose import (
    RIGID,
    angles,
    fit_rigid,
    measure_heads,
    median_face,
    mesh_axes,
    picture_points,
)
from iss_assets.media.crops import crop_sides
from iss_assets.media.faces import FaceFinder, crop_face
from iss_assets.media.landmarks import load_mesh
from iss_assets.media.visual import extract_visual
from iss_assets.settings import BehaviorSettings, FaceSettings, LandmarkSettings, VideoSettings
from iss_assets_tests.features.synthetic_head import expression, film, head, turned
from iss_assets_tests.media.films import portrait

Box = tuple[float, float, float, float]
POSES = [(0, 0, 0), (25, 0, 0), (-40, 10, 5), (10, -25, -20), (-15, 20, 30), (5, -5, -35), (35, 25, -10)]


def measured(heads: list, **how: Any) -> np.ndarray:
    rows = measure_behavior(*film(heads, **how), BehaviorSettings(), FaceSettings())["face_behavior"]
    return np.column_stack([rows[name] for name in ("yaw_deg", "pitch_deg", "roll_deg")])


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"sides": (1.4, 1.0)},
        {"sides": (1.0, 1.6)},
        {"at": (60.0, 100.0), "sides": (1.3, 1.3)},  # the box reaches beyond two edges of the picture
        {"size": (400, 900), "at": (380.0, 850.0)},
    ],
    ids=["tight", "wide", "tall", "cut at two edges", "cut in an upright picture"],
)
def test_a_known_pose_is_measured_whatever_the_proportions_of_the_crop(how: dict) -> None:
    assert np.abs(measured([turned(head(), *pose) for pose in POSES], **how) - POSES).max() < 0.2


def test_a_mirrored_film_turns_yaw_and_roll_around() -> None:
    heads = [turned(head(), *pose) for pose in POSES]
    right, left = 263, 33
    swapped = [h * [-1, 1, 1] for h in heads]
    # a mesh names the patient's sides: in a mirrored picture its points change sides, too
    partner = np.array([np.linalg.norm(head() * [-1, 1, 1] - p, axis=1).argmin() for p in head()])
    assert partner[right] == left and len(set(partner)) > 400
    mirrored = [h[partner] for h in swapped]
    assert np.abs(measured(mirrored) - np.array(POSES) * [-1, 1, -1]).max() < 0.5


def test_speaking_does_not_nod_the_head() -> None:
    """The chin moves down and back with the jaw; only points that do not move with it say where the head is turned."""
    mouths = [0.0] * 20 + [0.35] * 10
    heads = [expression(mouth=m) for m in mouths]
    for face, mouth in zip(heads, mouths, strict=True):
        face[152, 2] += 0.6 * mouth
    pitch = measured(heads)[:, 1]
    axes_alone = angles(mesh_axes(np.stack(heads)))[1]
    assert (
        np.abs(pitch[:20].mean() - pitch[20:]).max()
        < 0.1
        < 2
        < np.abs(axes_alone[:20].mean() - axes_alone[20:]).min()
    )


def test_pose_agrees_with_scipys_rotations() -> None:
    rotations = Rotation.random(200, random_state=0)
    yaw, pitch, roll = angles(rotations.as_matrix())
    again = Rotation.from_euler("YXZ", np.column_stack([-yaw, -pitch, roll]), degrees=True)
    assert (again * rotations.inv()).magnitude().max() < 1e-6


def test_the_rigid_fit_agrees_with_scipys_and_with_the_scale_and_noise_that_were_put_in() -> None:
    rng = np.random.default_rng(0)
    shape = rng.standard_normal((40, 3))
    rotations, scales = Rotation.random(50, random_state=1), rng.uniform(50, 200, 50)
    points = np.stack([r.apply(shape) * s for r, s in zip(rotations, scales, strict=True)])
    points += scales[:, None, None] * 0.05 * rng.standard_normal(points.shape) + rng.uniform(
        0, 500, (50, 1, 3)
    )
    found, size, error = fit_rigid(points, shape)
    for k in range(50):
        centered = points[k] - points[k].mean(axis=0)
        theirs, rssd = Rotation.align_vectors(centered / size[k], shape - shape.mean(axis=0))
        assert (theirs * Rotation.from_matrix(found[k]).inv()).magnitude() < 1e-6
        assert error[k] == pytest.approx(rssd / np.sqrt(40), rel=1e-6)
    assert np.abs(size / scales - 1).max() < 0.05
    assert error.mean() == pytest.approx(0.05 * np.sqrt(3), rel=0.1)


@pytest.mark.parametrize(
    "box", [(210.3, 120.7, 330.2, 290.9), (-20.0, 60.5, 150.5, 250.0), (500.2, 300.0, 700.0, 520.0)]
)
@pytest.mark.parametrize("margin", [0, 40])
def test_points_come_back_to_where_the_crop_was_cut(box: Box, margin: int) -> None:
    """A bright square in the picture, found in the crop, is brought back to its place."""
    settings = FaceSettings(margin=margin)
    side = crop_sides(np.array([box]), np.array([640]), np.array([480]), margin, settings.image_size)
    x, y = int(side[0, 0] + 0.6 * side[0, 2]), int(side[0, 1] + 0.3 * side[0, 3])
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[y - 8 : y + 8, x - 8 : x + 8] = 255
    crop = crop_face(picture, box, settings)[:, :, 0].astype(float)
    rows, columns = np.mgrid[:160, :160] + 0.5
    share = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum() / 160
    points = picture_points(np.array([[[*share, 0.1]]]), side)[0, 0]
    assert points[:2] == pytest.approx([x, y], abs=0.5)
    assert points[2] == pytest.approx(0.1 * side[0, 2])


def test_a_real_face_keeps_its_pose_in_crops_of_other_proportions_and_flips_it_in_the_mirror() -> None:
    picture = portrait(0, (640, 480), 0.8)
    found = FaceFinder(FaceSettings()).find(picture)
    assert found is not None
    mesh, boxes = load_mesh(LandmarkSettings()), list[Box]()
    x1, y1, x2, y2 = found.box
    boxes = [(x1, y1, x2, y2), (x1 - 40, y1, x2 + 40, y2), (x1, y1 - 50, x2, y2 + 30)]

    def pose(image: np.ndarray, box: Box) -> np.ndarray:
        points = mesh(crop_face(image, box, FaceSettings()))
        assert points is not None
        side = crop_sides(np.array([box]), np.array([640]), np.array([480]), 0, 160)
        return np.ravel(angles(mesh_axes(picture_points(points.reshape(1, 468, 3), side))))

    poses = np.array([pose(picture, box) for box in boxes])
    assert np.abs(poses - poses[0]).max() < 4
    x1, y1, x2, y2 = boxes[0]
    mirrored = pose(np.ascontiguousarray(picture[:, ::-1]), (640 - x2, y1, 640 - x1, y2))
    # the mesh itself nods the portrait by some degrees in the mirror; sideways it is within one
    assert (np.abs(mirrored - poses[0] * [-1, 1, -1]) < [1, 5, 1]).all()
    tilt = cv2.getRotationMatrix2D(((x1 + x2) / 2, (y1 + y2) / 2), -12, 1)  # clockwise in the picture
    tilted = pose(cv2.warpAffine(picture, tilt, (640, 480), borderMode=cv2.BORDER_REPLICATE), boxes[0])
    assert tilted[2] - poses[0][2] == pytest.approx(12, abs=2)


@pytest.mark.real_clips
def test_real_heads_turn_as_solvepnp_says_from_the_picture_alone(real_clips: Path) -> None:
    """OpenCV's solvePnP sees x and y of the rigid points in the picture, and none of the mesh's depth but the median's."""
    made = extract_visual(
        real_clips / "talk_f_tan_aoc.mp4", VideoSettings(), FaceSettings(), LandmarkSettings(), threads=1
    )
    assert bool(np.all(made.landmarks["detected"])) and made.faces.num_rows == made.frames.num_rows
    boxes = np.column_stack([made.faces[name] for name in ("x1", "y1", "x2", "y2")])
    width, height = (made.frames[name].to_numpy() for name in ("width", "height"))
    points = picture_points(
        np.array(made.landmarks["points"].to_pylist()).reshape(-1, 468, 3),
        crop_sides(boxes, width, height, 0, 160),
    )
    median = median_face(points)
    heads = measure_heads(points, median)
    rigid, focal = list(RIGID), 1.2 * max(width[0], height[0])
    camera = np.array([[focal, 0, width[0] / 2], [0, focal, height[0] / 2], [0, 0, 1]])
    turns = []
    for mesh in points[:, rigid, :2]:
        _, rotation, _ = cv2.solvePnP(
            median[rigid], np.ascontiguousarray(mesh), camera, np.zeros(4), flags=cv2.SOLVEPNP_SQPNP
        )
        turns.append(cv2.Rodrigues(rotation)[0])
    theirs = angles(np.array(turns))
    for ours, other in zip((heads.yaw, heads.pitch, heads.roll), theirs, strict=True):
        assert np.ptp(ours) > 10 and np.corrcoef(ours, other)[0, 1] > 0.95
    assert np.abs(heads.roll - theirs[2]).max() < 1
