# SPDX-License-Identifier: Apache-2.0
"""The committed open head: what its file promises, and that it looks and moves as a head does."""

from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.cameras import orbit_camera
from mvp4d_core.rig import ARKIT_NAMES, load_head_model, mirror_name, skin
from mvp4d_core.rig.head_model import OPEN_HEAD_FILE
from mvp4d_core.rotations import axis_angle_to_matrix
from tests.support.asserts import assert_arrays_close

MIRROR = np.array([-1.0, 1.0, 1.0])
# MediaPipe's numbers; left and right are the subject's
LEFT_LIDS = list(zip((388, 387, 386, 385, 384), (390, 373, 374, 380, 381), strict=True))  # upper, lower
RIGHT_LIDS = list(zip((161, 160, 159, 158, 157), (163, 144, 145, 153, 154), strict=True))
INNER_LIPS = (13, 14)
LEFT_CORNER, RIGHT_CORNER = 291, 61
IRISES = {"right": range(468, 473), "left": range(473, 478)}


@pytest.fixture(scope="module")
def head():
    return load_head_model()


def shaped(head, shape=None, **weights):
    """Vertices at rest with an identity and the named expressions."""
    vertices = head.v_template.astype(np.float64)
    if shape is not None:
        vertices = vertices + head.shapedirs @ shape
    for name, weight in weights.items():
        vertices = vertices + weight * head.exprdirs[..., head.expression_names.index(name)]
    return vertices


def visible(head, vertices, regions, target, reach, azimuth=0.0, elevation=0.0, size=320):
    """How many of size x size pixels show a face that lies wholly in `regions`; angles in degrees."""
    pytest.importorskip("numba")
    from mvp4d_core.render.mesh import rasterize_mesh

    fov = np.radians(20)
    camera = orbit_camera(
        np.radians(azimuth), np.radians(elevation), target=target, distance=reach / 2 / np.tan(fov / 2), fov_y=fov, width=size, height=size
    )
    buffers = rasterize_mesh(vertices, head.faces, camera)
    inside = head.region_mask(*regions)[head.faces].all(1)
    return int(inside[buffers.face_ids[buffers.mask]].sum())


def eyeball_pixels(head, vertices, side, azimuth=0.0, elevation=0.0):
    centre = vertices[head.regions[f"{side}_eyeball"]].mean(0)
    return visible(head, vertices, (f"{side}_eyeball",), centre, 0.05, azimuth, elevation)


def mouth_pixels(head, vertices, *regions, azimuth=0.0):
    return visible(head, vertices, regions, head.landmarks(vertices)[list(INNER_LIPS)].mean(0), 0.09, azimuth)


def random_shapes(head, count, seed):
    return np.random.default_rng(seed).normal(size=(count, head.shapedirs.shape[2]))


def test_the_file_is_small_complete_and_free(head):
    assert OPEN_HEAD_FILE.stat().st_size <= 12e6
    assert head.name == "open-head" and head.licence == "CC0-1.0"
    assert head.expression_names == ARKIT_NAMES
    assert head.joint_names == ("root", "neck", "jaw", "left_eye", "right_eye")
    assert head.parents.tolist() == [-1, 0, 1, 1, 1]
    vertices, joints = len(head.v_template), 5
    assert head.exprdirs.shape == (vertices, 3, 52)
    assert head.shapedirs.shape[2] >= 40 and len(head.shape_names) == head.shapedirs.shape[2]
    assert head.posedirs.shape == (vertices, 3, 9 * (joints - 1))
    assert head.landmark_faces.shape == (478,) and head.landmark_barycentrics.shape == (478, 3)
    assert {"base_mesh", "base_mesh_sha256", "base_mesh_licence", "targets", "targets_sha256", "targets_licence"} <= set(head.provenance)


def test_weights_and_barycentrics_sum_to_one(head):
    assert_arrays_close(head.lbs_weights.sum(1), np.ones(len(head.lbs_weights)), atol=1e-6)
    assert_arrays_close(head.J_regressor.sum(1), np.ones(5), atol=1e-5)
    assert_arrays_close(head.landmark_barycentrics.sum(1), np.ones(478), atol=1e-6)
    assert head.lbs_weights.min() >= 0 and head.landmark_barycentrics.min() >= -1e-6


def test_the_mesh_is_whole_oriented_and_has_no_slivers(head):
    directed = head.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    assert len(np.unique(directed, axis=0)) == len(directed)  # at most two faces an edge, and neighbours agree on the outside
    assert np.array_equal(np.unique(head.faces), np.arange(len(head.v_template)))
    corners = head.v_template[head.faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.linalg.norm(normals, axis=1).min() / 2 > 1e-9
    for region in ("scalp", "left_eyeball", "right_eyeball"):
        inside = head.region_mask(region)[head.faces].all(1)
        outward = corners[inside].mean(1) - head.v_template[head.regions[region]].mean(0) * (region != "scalp")
        assert (np.sum(outward * normals[inside], 1) > 0).mean() > 0.98


def test_convention_metres_with_x_left_y_up_and_z_out_of_the_face(head):
    points = head.landmarks(head.v_template)
    left_eye, right_eye = (head.v_template[head.regions[f"{side}_eyeball"]].mean(0) for side in ("left", "right"))
    assert 0.055 < left_eye[0] - right_eye[0] < 0.070
    assert points[263, 0] > 0 > points[33, 0]  # outer corners of the left and the right eye
    assert points[10, 1] > points[1, 1] > points[152, 1]  # forehead, nose, chin
    assert points[:, 2].argmax() == 1  # the tip of the nose
    assert 0.11 < points[10, 1] - points[152, 1] < 0.20
    ears = np.concatenate([head.regions["left_ear"], head.regions["right_ear"]])
    assert_arrays_close(head.v_template[ears].mean(0), np.zeros(3), atol=1e-3)


def test_the_template_is_symmetric(head):
    distance, twin = pytest.importorskip("scipy.spatial").cKDTree(head.v_template).query(head.v_template * MIRROR)
    assert distance.max() < 1e-5
    for name in ARKIT_NAMES:
        mine, other = (head.exprdirs[..., ARKIT_NAMES.index(n)] for n in (name, mirror_name(name)))
        assert np.abs(mine[twin] * MIRROR - other).max() < 1e-5, name


def test_no_two_faces_share_a_texel(head):
    size = 1024
    corners = head.uvs[head.uv_faces].astype(np.float64) * size
    assert head.uvs.min() >= 0 and head.uvs.max() <= 1
    counts = np.zeros((size, size), np.int32)
    for a, b, c in corners:
        (x0, y0), (x1, y1) = np.floor(np.min([a, b, c], axis=0)).astype(int), np.ceil(np.max([a, b, c], axis=0)).astype(int)
        x, y = np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5)
        edges = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) for p, q in ((a, b), (b, c), (c, a))]
        counts[y0:y1, x0:x1] += np.all(np.array(edges) > 1e-6, axis=0)
    assert counts.max() == 1
    assert (counts > 0).mean() > 0.7
    area = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1])) / size**2 / 2
    face = area[head.region_mask("face", "lips", "left_lids", "right_lids")[head.faces].all(1)].sum()
    assert face > 1.2 * area[head.region_mask("scalp")[head.faces].all(1)].sum()


def test_regions_cover_every_vertex_and_the_main_ones_stay_apart(head):
    main = ("face", "scalp", "neck", "left_ear", "right_ear", "left_eyeball", "right_eyeball", "upper_teeth", "lower_teeth", "tongue")
    used = np.zeros(len(head.v_template), int)
    for name in (*main, "mouth_cavity"):
        used[head.regions[name]] += 1
    assert used.min() == 1 and used.max() == 1
    for part, whole in (("left_iris", "left_eyeball"), ("right_pupil", "right_iris"), ("lips", "face"), ("left_lids", "face")):
        assert np.isin(head.regions[part], head.regions[whole]).all(), part
    assert head.v_template[head.regions["left_lids"], 0].min() > 0 > head.v_template[head.regions["right_lids"], 0].max()


def test_expressions_leave_the_joints_alone(head):
    moved = np.einsum("jv,vde->jde", head.J_regressor.astype(np.float64), head.exprdirs.astype(np.float64))
    assert np.abs(moved).max() < 1e-6


def test_eyeballs_stay_spheres_about_their_joint_in_every_identity(head):
    for shape in random_shapes(head, 10, seed=2):
        vertices = shaped(head, shape)
        joints = head.J_regressor @ vertices
        for joint, side in ((3, "left"), (4, "right")):
            ball = vertices[head.regions[f"{side}_eyeball"]]
            radius = np.linalg.norm(ball - joints[joint], axis=1)
            assert 0.010 < radius.mean() < 0.019
            assert np.ptp(radius) < 2e-6


def test_every_expression_is_seen_and_none_is_another(head):
    flat = head.exprdirs.reshape(-1, 52).astype(np.float64)
    peak = np.linalg.norm(head.exprdirs, axis=1).max(0)
    assert peak.min() > 0.0025, ARKIT_NAMES[peak.argmin()]
    assert peak.max() < 0.06, ARKIT_NAMES[peak.argmax()]
    unit = flat / np.linalg.norm(flat, axis=0)
    alike = unit.T @ unit - np.eye(52)
    assert alike.max() < 0.93, [ARKIT_NAMES[k] for k in np.unravel_index(alike.argmax(), alike.shape)]


@pytest.mark.parametrize(("side", "lids"), [("left", LEFT_LIDS), ("right", RIGHT_LIDS)])
def test_a_blink_shuts_the_eye(head, side, lids):
    name = f"eyeBlink{side.capitalize()}"
    rest, shut = shaped(head), shaped(head, **{name: 1.0})
    opening, gap = ([p[upper, 1] - p[lower, 1] for upper, lower in lids] for p in (head.landmarks(rest), head.landmarks(shut)))
    assert min(opening) > 0.002 and max(opening) > 0.006
    assert max(gap) < 0.0005
    assert min(gap) > -0.0025
    for azimuth, elevation in ((0, 0), (40, 0), (-40, 0), (0, 20), (0, -20)):
        assert eyeball_pixels(head, shut, side, azimuth, elevation) == 0, (azimuth, elevation)
    other = "right" if side == "left" else "left"
    assert eyeball_pixels(head, shut, other) == eyeball_pixels(head, rest, other)


def test_a_closing_lid_never_lets_the_eyeball_through(head):
    lid = head.region_mask("left_lids")
    for weight in np.linspace(0, 1, 9):
        vertices = shaped(head, eyeBlinkLeft=weight)
        ball = vertices[head.regions["left_eyeball"]]
        centre = (head.J_regressor @ vertices)[3]
        radius = np.linalg.norm(ball - centre, axis=1).max()
        outside = np.linalg.norm(vertices[lid] - centre, axis=1) - radius
        assert outside.min() > -1e-4, weight


def test_blinks_shut_the_eyes_of_other_people(head):
    for shape in random_shapes(head, 12, seed=3):
        wide, shut = eyeball_pixels(head, shaped(head, shape), "left"), eyeball_pixels(head, shaped(head, shape, eyeBlinkLeft=1), "left")
        assert shut <= 0.01 * wide


def test_an_open_jaw_parts_the_lips_and_shows_both_rows_of_teeth(head):
    upper, lower = INNER_LIPS
    rest, opened = shaped(head), shaped(head, jawOpen=1)
    gap = [p[upper, 1] - p[lower, 1] for p in (head.landmarks(rest), head.landmarks(opened))]
    assert abs(gap[0]) < 0.002
    assert gap[1] - gap[0] > 0.015
    assert mouth_pixels(head, rest, "upper_teeth", "lower_teeth", "tongue") == 0
    for teeth in ("upper_teeth", "lower_teeth"):
        assert mouth_pixels(head, opened, teeth) > 100, teeth


def test_the_jaw_joint_opens_the_mouth_as_the_expression_does(head):
    rotations = np.zeros((5, 3))
    rotations[2, 0] = np.radians(20)
    turned = skin(head, None, np.zeros(52), rotations, np.zeros(3))
    upper, lower = head.landmarks(turned)[list(INNER_LIPS), 1]
    assert upper - lower > 0.015
    teeth = head.regions["lower_teeth"]
    rigid = (head.v_template[teeth] - head.J_regressor[2] @ head.v_template) @ axis_angle_to_matrix(rotations[2]).T
    assert_arrays_close(turned[teeth] - turned[teeth].mean(0), rigid - rigid.mean(0), atol=2e-5)


def test_mouth_close_undoes_what_an_open_jaw_does_to_the_lips(head):
    points = head.landmarks(shaped(head, jawOpen=1, mouthClose=1))
    for upper, lower in ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402)):
        assert abs(points[upper, 1] - points[lower, 1]) < 0.002


def test_a_smile_on_the_left_leaves_the_right_alone(head):
    moved = np.linalg.norm(head.landmarks(shaped(head, mouthSmileLeft=1)) - head.landmarks(shaped(head)), axis=1)
    assert moved[LEFT_CORNER] > 0.006
    assert moved[RIGHT_CORNER] < 0.05 * moved[LEFT_CORNER]


@pytest.mark.parametrize(
    ("name", "iris", "axis", "sign"),
    [
        ("eyeLookOutLeft", 473, 0, 1), ("eyeLookInLeft", 473, 0, -1), ("eyeLookUpLeft", 473, 1, 1), ("eyeLookDownLeft", 473, 1, -1),
        ("eyeLookOutRight", 468, 0, -1), ("eyeLookInRight", 468, 0, 1),
    ],
)  # fmt: skip
def test_convention_looks_turn_the_eyeballs(head, name, iris, axis, sign):
    rest, looking = shaped(head), shaped(head, **{name: 1})
    joint = (head.J_regressor @ rest)[3 if name.endswith("Left") else 4]
    before, after = (head.landmarks(v)[iris] - joint for v in (rest, looking))
    angle = np.degrees(np.arccos(before @ after / np.linalg.norm(before) / np.linalg.norm(after)))
    assert 20 < angle < 32
    assert sign * (after - before)[axis] > 0.004


def test_the_eye_joints_turn_the_eyeballs_in_place(head):
    rotations = np.zeros((5, 3))
    rotations[3] = [0.2, 0.4, 0]
    turned = skin(head, None, np.zeros(52), rotations, np.zeros(3))
    still = ~head.region_mask("left_eyeball")
    assert_arrays_close(turned[still], head.v_template[still], atol=1e-6)
    assert not head.posedirs[..., 18:].any()


def test_landmarks_lie_where_their_names_say(head):
    points = head.landmarks(head.v_template)
    for side, ids in IRISES.items():
        on = head.faces[head.landmark_faces[list(ids)]]
        assert np.isin(on, head.regions[f"{side}_eyeball"]).all()
        joint = (head.J_regressor @ head.v_template)[3 if side == "left" else 4]
        assert np.linalg.norm(points[ids[0], :2] - joint[:2]) < 1e-3
        size = np.linalg.norm(points[list(ids)[1:], :2] - points[ids[0], :2], axis=1)
        assert 0.0045 < size.min() and size.max() < 0.0070
    allowed = head.region_mask("face", "left_ear", "right_ear", "scalp", "neck")
    assert allowed[head.faces[head.landmark_faces[:468]]].all()
    for ids in ((61, 40, 37, 0, 267, 270, 291, 314, 17, 84), (78, 82, 13, 312, 308, 317, 14, 87)):
        assert np.linalg.norm(points[list(ids)] - points[list(ids)].mean(0), axis=1).max() < 0.035
        to_lips = np.linalg.norm(points[list(ids)][:, None] - head.v_template[head.regions["lips"]], axis=-1)
        assert to_lips.min(axis=1).max() < 0.004


def test_teeth_and_eyeballs_stay_inside_other_people(head):
    for shape in random_shapes(head, 20, seed=4):
        vertices = shaped(head, shape)
        assert mouth_pixels(head, vertices, "upper_teeth", "lower_teeth", "tongue", "mouth_cavity") < 60  # of 102,400 over 9 cm
        assert eyeball_pixels(head, vertices, "left", elevation=70) < 40  # from above, the brow and the lid hide it


def test_identities_are_people_of_plausible_size(head):
    width = [np.ptp(shaped(head, shape)[head.regions["scalp"], 0]) for shape in random_shapes(head, 60, seed=5)]
    assert 0.12 < min(width) and max(width) < 0.20
    spread = np.sqrt(np.mean(np.sum(head.shapedirs**2, axis=1), axis=0))
    assert spread.min() > 2e-5  # each direction does something


def test_correctives_keep_a_turned_neck_from_collapsing(head):
    rotations = np.zeros((5, 3))
    rotations[1, 1] = np.radians(60)
    blended = head.lbs_weights[:, 1]
    ring = np.flatnonzero((blended > 0.4) & (blended < 0.6) & head.region_mask("neck"))
    assert len(ring) > 10
    axis = (head.J_regressor @ head.v_template)[1, [0, 2]]

    def width(vertices):
        return np.linalg.norm(vertices[ring][:, [0, 2]] - axis, axis=1).mean()

    plain, corrected = (
        width(skin(model, None, np.zeros(52), rotations, np.zeros(3))) for model in (replace(head, posedirs=0 * head.posedirs), head)
    )
    rest = width(head.v_template)
    assert plain < 0.93 * rest  # what linear blending alone loses
    assert 0.97 * rest < corrected < 1.03 * rest


@pytest.mark.filterwarnings("ignore")
def test_mediapipe_finds_its_landmarks_where_the_head_has_them():
    pytest.importorskip("mediapipe")
    from mvp4d_core.cameras import project
    from tools.open_head.landmarks import detect
    from tools.open_head.preview import make_painter, portrait_camera

    head = load_head_model()
    painter = make_painter(head.faces, head.v_template, head.regions)
    camera = portrait_camera(8, 3, 480, target=(0, -0.012, 0.05), reach=0.30)
    vertices = shaped(head, 0.5 * random_shapes(head, 1, seed=6)[0])
    (found,) = detect([painter.draw(vertices, camera)])
    assert found is not None
    ours = project(head.landmarks(vertices), camera)[0]
    error = np.linalg.norm(found - ours, axis=1) / np.linalg.norm(ours[468] - ours[473])
    assert error.mean() < 0.04
    assert np.quantile(error, 0.95) < 0.10
