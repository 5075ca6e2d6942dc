# SPDX-License-Identifier: Apache-2.0
"""A mouth for heads that end at the lips: hidden while it is shut, behind the lips wherever it opens, moved by skull and jaw."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvp4d_core.cameras import orbit_camera
from mvp4d_core.evaluation.flame_shaped_head import bare_head
from mvp4d_core.rig import HeadModel, load_head_model, skin
from mvp4d_core.rig.mouth import ROWS, STRIP, with_mouth
from mvp4d_core.rig.surface import face_normals

BARE = bare_head()
HEAD = with_mouth(BARE)
ADDED = np.arange(len(BARE.v_template), len(HEAD.v_template))
CAVITY = HEAD.regions["mouth_cavity"]
DEEP_FLOOR = CAVITY[len(CAVITY) // 2 :][(ROWS // 2 + 1) * 11 :]  # where the lip no longer pulls
FACES = {"open": {"jawOpen": 1.0}, "aside": {"jawOpen": 0.7, "jawLeft": 1.0},
         "snarl": {"mouthUpperUpLeft": 1.0, "mouthUpperUpRight": 1.0, "mouthLowerDownLeft": 1.0, "mouthLowerDownRight": 1.0}}  # fmt: skip


def posed(model: HeadModel, weights: dict[str, float], jaw: float = 0.0) -> np.ndarray:
    expression = np.array([weights.get(name, 0.0) for name in model.expression_names], np.float32)
    rotations = np.zeros((len(model.joint_names), 3), np.float32)
    rotations[model.joint_names.index("jaw"), 0] = jaw
    return skin(model, None, expression, rotations, np.zeros(3, np.float32))


def hollow_pixels(model: HeadModel, vertices: np.ndarray, azimuth: float, elevation: float) -> tuple[int, int]:
    """How many pixels of the mouth's picture show the inside of the skin or nothing behind it, and how many the mouth."""
    pytest.importorskip("numba")
    from mvp4d_core.render.mesh import rasterize_mesh

    camera = orbit_camera(
        np.deg2rad(azimuth), np.deg2rad(elevation), target=np.array([0, -0.05, 0.09]), distance=0.8, fov_y=0.12, width=160, height=160
    )
    faces = rasterize_mesh(vertices, model.faces, camera).face_ids
    facing = np.einsum("fd,fd->f", face_normals(vertices, model.faces), camera.position - vertices[model.faces].mean(axis=1)) > 0
    seen = faces[faces >= 0]
    mouth = model.faces.min(axis=1) >= ADDED[0]
    return int((~facing[seen]).sum()), int(mouth[seen].sum())


def test_a_head_with_a_mouth_or_without_a_jaw_stays():
    full = load_head_model()
    assert with_mouth(full) is full and with_mouth(HEAD) is HEAD
    jawless = replace(BARE, joint_names=("root", "neck", "chin", "left_eye", "right_eye"))
    assert with_mouth(jawless) is jawless


def test_only_the_mouth_is_added():
    count = len(BARE.v_template)
    for name in ("v_template", "exprdirs", "shapedirs", "posedirs", "lbs_weights", "static_offsets"):
        np.testing.assert_array_equal(getattr(HEAD, name)[:count], getattr(BARE, name))
    np.testing.assert_array_equal(HEAD.faces[: len(BARE.faces)], BARE.faces)
    assert len(CAVITY) == 2 * ROWS * 11
    inside = [HEAD.regions[name] for name in ("mouth_cavity", "upper_teeth", "lower_teeth")]
    np.testing.assert_array_equal(np.sort(np.concatenate(inside)), ADDED)
    assert HEAD.uvs[: len(BARE.uvs), 1].min() > STRIP > HEAD.uvs[len(BARE.uvs) :, 1].max()
    np.testing.assert_allclose(HEAD.J_regressor @ HEAD.v_template, BARE.J_regressor @ BARE.v_template, atol=1e-7)
    areas = np.linalg.norm(face_normals(HEAD.v_template, HEAD.faces), axis=1)[len(BARE.faces) :]
    assert np.median(areas) > 0  # cheeks begin at the corner of the lips, where they have no height


@pytest.mark.parametrize("azimuth", [-30, 0, 30])
def test_a_shut_mouth_hides_it(azimuth):
    vertices = posed(HEAD, {})
    assert hollow_pixels(HEAD, vertices, azimuth, -5)[1] <= 2


@pytest.mark.parametrize("weights", FACES.values(), ids=FACES.keys())
@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (35, 0), (0, -20), (-35, 10)])
def test_an_open_mouth_is_filled(weights, azimuth, elevation):
    hollow = hollow_pixels(BARE, posed(BARE, weights), azimuth, elevation)[0]
    left, filled = hollow_pixels(HEAD, posed(HEAD, weights), azimuth, elevation)
    assert hollow > 100 and filled > 100
    assert left < 0.2 * hollow


def test_palate_stays_with_the_skull_and_floor_goes_with_the_jaw():
    rest, turned = posed(HEAD, {}), posed(HEAD, {}, jaw=0.3)
    palate = np.concatenate([CAVITY[: len(CAVITY) // 2][(ROWS // 2 + 1) * 11 :], HEAD.regions["upper_teeth"]])
    floor = np.concatenate([DEEP_FLOOR, HEAD.regions["lower_teeth"]])
    np.testing.assert_allclose(turned[palate], rest[palate], atol=1e-6)
    pivot = HEAD.J_regressor[HEAD.joint_names.index("jaw")] @ HEAD.v_template
    turn = np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    np.testing.assert_allclose(turned[floor], (rest[floor] - pivot) @ turn.T + pivot, atol=1e-5)


@pytest.mark.parametrize(("expression", "bound"), [("jawOpen", 0.1), ("jawForward", 0.5), ("jawLeft", 0.6)])
def test_an_expression_that_moves_the_jaw_moves_the_floor(expression, bound):
    """The oracle is the open head's own lower teeth, which it moves by the jaw's bone, and scipy's fit of their motion."""
    full = load_head_model()
    pivot = full.J_regressor[full.joint_names.index("jaw")] @ full.v_template
    before, after = ((posed(full, weights) - pivot)[full.region_mask("lower_teeth")] for weights in ({}, {expression: 1.0}))
    turn, _ = Rotation.align_vectors(after - after.mean(axis=0), before - before.mean(axis=0))
    rest = posed(HEAD, {})[DEEP_FLOOR] - pivot
    wanted = turn.apply(rest - before.mean(axis=0)) + after.mean(axis=0) - rest
    ours = posed(HEAD, {expression: 1.0})[DEEP_FLOOR] - pivot - rest
    assert np.linalg.norm(ours - wanted, axis=1).max() < bound * np.linalg.norm(wanted, axis=1).max()


def test_a_smile_leaves_the_floor_where_it_is():
    moved = posed(HEAD, {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}) - posed(HEAD, {})
    assert np.linalg.norm(moved[DEEP_FLOOR], axis=1).max() < 0.003


def test_teeth_show_in_an_open_mouth_and_bite_in_a_shut_one():
    pytest.importorskip("numba")
    from mvp4d_core.render.mesh import rasterize_mesh

    vertices = posed(HEAD, {"jawOpen": 1.0})
    camera = orbit_camera(0.0, 0.0, target=np.array([0, -0.05, 0.09]), distance=0.8, fov_y=0.12, width=160, height=160)
    seen = HEAD.faces[np.unique(rasterize_mesh(vertices, HEAD.faces, camera).face_ids)[1:]]
    assert HEAD.region_mask("upper_teeth")[seen].any() and HEAD.region_mask("lower_teeth")[seen].any()
    rest = posed(HEAD, {})
    upper, lower = rest[HEAD.regions["upper_teeth"]], rest[HEAD.regions["lower_teeth"]]
    above, below = (teeth[np.abs(teeth[:, 0]) < 0.004] for teeth in (upper, lower))
    assert -0.003 < above[:, 1].min() - below[:, 1].max() < 0.003
    assert above[:, 2].max() > below[:, 2].max() and above[:, 1].max() > below[:, 1].max()
