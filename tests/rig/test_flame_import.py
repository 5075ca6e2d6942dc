# SPDX-License-Identifier: Apache-2.0
"""FLAME's files as heads: every published form of the model, what may stand beside it, and what is wrong with others."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.rig import face_normals, load_head_model, save_head_model
from mvp4d_core.rig.atlas import own_atlas
from mvp4d_core.rig.correspondence import nearest_on_surface, warp
from mvp4d_core.rig.flame_import import VARIANTS, import_flame, read_uv
from mvp4d_core.rig.flame_landmarks import _STATIC, read_embedding
from tests.support.flame_files import flame_tables, object_npy, python2_pickle
from tests.support.mutation import assert_refuses_cleanly, peak_memory

TRUTH = flame_head()
TABLES = flame_tables(TRUTH)
INDICES = np.setdiff1d(np.arange(0, 468), np.arange(0, 468, 4))[: 105 * 3 : 3]
NAMES = {variant.published: variant for variant in VARIANTS.values()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flame")
    (folder / "generic_model.pkl").write_bytes(python2_pickle(TABLES))
    masks = {name: TRUTH.regions[name].astype(np.int64) for name in ("face", "scalp", "neck", "lips", "left_eyeball", "right_eyeball")}
    (folder / "FLAME_masks.pkl").write_bytes(python2_pickle(masks))
    embedding = {
        "lmk_face_idx": TRUTH.landmark_faces[INDICES],
        "lmk_b_coords": TRUTH.landmark_barycentrics[INDICES],
        "landmark_indices": INDICES,
    }
    np.savez(folder / "mediapipe_landmark_embedding.npz", **embedding)
    static = {"static_lmk_faces_idx": TRUTH.landmark_faces[list(_STATIC)].astype(np.int64),
              "static_lmk_bary_coords": TRUTH.landmark_barycentrics[list(_STATIC)].astype(np.float64)}  # fmt: skip
    (folder / "landmark_embedding.npy").write_bytes(object_npy(python2_pickle(static, chumpy=False)))
    np.savez(folder / "FLAME_texture.npz", vt=TRUTH.uvs.astype(np.float64), ft=TRUTH.uv_faces.astype(np.uint32), mean=np.zeros((2, 2)))
    lines = [f"v {x} {y} {z}" for x, y, z in TRUTH.v_template] + [f"vt {u:.9g} {v:.9g}" for u, v in TRUTH.uvs]
    lines += [
        "f " + " ".join(f"{v + 1}/{t + 1}" for v, t in zip(*pair, strict=True)) for pair in zip(TRUTH.faces, TRUTH.uv_faces, strict=True)
    ]
    (folder / "head_template.obj").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(("published", "chumpy", "sparse"), [(name, name != "flame2023.pkl", name != "flame2023.pkl") for name in NAMES])
def test_every_variant_becomes_a_head(folder, tmp_path, published, chumpy, sparse):
    path = tmp_path / published
    path.write_bytes(python2_pickle(TABLES, chumpy=chumpy, sparse=sparse))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    head = import_flame(path, uv=folder / "FLAME_texture.npz")
    for name in ("v_template", "faces", "shapedirs", "exprdirs", "posedirs", "J_regressor", "parents", "lbs_weights"):
        np.testing.assert_array_equal(getattr(head, name), getattr(TRUTH, name))
    assert head.shape_names == TRUTH.shape_names and head.expression_names == TRUTH.expression_names
    assert head.licence == ("CC-BY-4.0" if "Open" in published else "LicenseRef-FLAME") and head.name == NAMES[published].name
    assert head.provenance["model_sha256"] == digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "Max Planck" in head.provenance["attribution"]


@pytest.mark.parametrize(
    ("uv", "landmarks"),
    [
        ("FLAME_texture.npz", "mediapipe_landmark_embedding.npz"),
        ("head_template.obj", "landmark_embedding.npy"),
        (None, "landmark_embedding.npy"),
    ],
)
def test_what_stands_beside_it_is_taken(folder, tmp_path, uv, landmarks):
    head = import_flame(folder / "generic_model.pkl", uv=uv and folder / uv, masks=folder / "FLAME_masks.pkl", landmarks=folder / landmarks)
    off = np.linalg.norm(head.landmarks(head.v_template) - TRUTH.landmarks(TRUTH.v_template), axis=1)
    known = INDICES if landmarks.endswith("npz") else np.array(_STATIC)
    assert len(off) == 478 and off[known].max() < 1e-6 and off.max() < 0.003
    np.testing.assert_array_equal(head.regions["face"], TRUTH.regions["face"])
    assert {"mouth_cavity", "upper_teeth", "lower_teeth", "left_iris", "right_pupil", "left_lids", "right_ear"} <= set(head.regions)
    assert len(head.v_template) > 5023
    if uv:
        np.testing.assert_allclose(head.uvs[: len(TRUTH.uvs)], TRUTH.uvs * [1, 0.85] + [0, 0.15], atol=1e-6)
    save_head_model(head, tmp_path / "head.safetensors")
    assert load_head_model(tmp_path / "head.safetensors").provenance == head.provenance


def test_regions_come_from_the_open_head_where_no_mask_names_them(folder):
    head = import_flame(folder / "generic_model.pkl", landmarks=folder / "mediapipe_landmark_embedding.npz")
    for name in ("face", "scalp", "neck", "lips", "left_ear", "right_ear"):
        found, truth = head.regions[name], TRUTH.regions[name]
        assert len(np.intersect1d(found, truth)) > 0.9 * max(len(found), len(truth)), name
    assert head.v_template[head.regions["left_eyeball"], 0].min() > 0


def test_an_atlas_of_our_own_has_no_overlaps():
    uvs, uv_faces = own_atlas(TRUTH.v_template.astype(np.float64), TRUTH.faces)
    corners = uvs[uv_faces].astype(np.float64)
    areas = face_normals(np.pad(uvs, ((0, 0), (0, 1))).astype(np.float64), uv_faces)[:, 2]
    assert (areas > 0).all() and uvs.min() >= 0 and uvs.max() <= 1
    picture = np.zeros((64, 64), int)  # each point of a grid lies in one triangle at most
    points = np.stack(np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64)), axis=-1)
    for triangle in corners:
        x0, y0 = np.ceil(triangle.min(axis=0) * 63).astype(int)
        x1, y1 = np.floor(triangle.max(axis=0) * 63).astype(int) + 1
        p = points[y0:y1, x0:x1]
        edges = [(triangle[(k + 1) % 3] - triangle[k], p - triangle[k]) for k in range(3)]
        sides = [a[0] * b[..., 1] - a[1] * b[..., 0] for a, b in edges]
        picture[y0:y1, x0:x1] += np.all(np.array(sides) > 1e-12, axis=0) if p.size else 0
    assert picture.max() == 1


def test_a_name_that_tells_nothing_needs_a_variant(folder, tmp_path):
    path = tmp_path / "my_flame.pkl"
    path.write_bytes((folder / "generic_model.pkl").read_bytes())
    with pytest.raises(InputError, match=r"--variant 2020 \| 2023"):
        import_flame(path)
    assert import_flame(path, variant="2023-open", uv=folder / "FLAME_texture.npz").licence == "CC-BY-4.0"
    with pytest.raises(InputError, match="must be one of"):
        import_flame(path, variant="2024")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"weights": None}, "lacks weights"), ({"posedirs": np.zeros((5023, 3, 207))}, "`posedirs`"),
     ({"f": np.full((9976, 3), 5023, np.uint32)}, "`faces`"),
     ({"shapedirs": np.zeros((5023, 3, 10))}, "300 identities"), ({"v_template": np.full((5023, 3), np.nan)}, "finite"),
     ({"f": TABLES["f"].astype(np.float64)}, "whole numbers"), ({"weights": np.zeros((5023, 5))}, "sum to 1")],
)  # fmt: skip
def test_tables_that_are_not_flames_are_named(tmp_path, change, message):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(python2_pickle({name: table for name, table in (TABLES | change).items() if table is not None}))
    with pytest.raises((InputError, FormatError), match=message):
        import_flame(path)


def test_files_beside_it_that_do_not_fit_are_named(folder, tmp_path):
    with pytest.raises(FormatError, match="another model"):
        read_embedding(folder / "mediapipe_landmark_embedding.npz", 100)
    with pytest.raises(FormatError, match="must lay out"):
        read_uv(folder / "FLAME_texture.npz", 100)
    for name, read in (("FLAME_texture.npz", lambda path: read_uv(path, len(TRUTH.faces))),
                       ("mediapipe_landmark_embedding.npz", lambda path: read_embedding(path, len(TRUTH.faces)))):  # fmt: skip
        assert assert_refuses_cleanly(read, (folder / name).read_bytes(), tmp_path / name, 60, seconds=2) > 20
    small = "\n".join(["vt 0 0", "vt 1 0", "vt 0 1", "f 1/1 2/2 3/3"]).encode()
    assert assert_refuses_cleanly(lambda path: read_uv(path, 1), small, tmp_path / "small.obj", 300) > 100


def test_warps_and_nearest_points():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(40, 3))
    straight = rng.normal(size=(3, 3))
    np.testing.assert_allclose(
        warp(source, source @ straight + 1)(rng.normal(size=(9, 3)) * 0 + source[:9]), source[:9] @ straight + 1, atol=1e-8
    )
    weights = rng.dirichlet(np.ones(3), 30)
    faces = rng.integers(0, len(TRUTH.faces), 30)
    points = np.einsum("nk,nkd->nd", weights, TRUTH.v_template[TRUTH.faces[faces]].astype(np.float64))
    found, shares = nearest_on_surface(points, TRUTH.v_template.astype(np.float64), TRUTH.faces)
    again = np.einsum("nk,nkd->nd", shares, TRUTH.v_template[TRUTH.faces[found]])
    np.testing.assert_allclose(again, points, atol=1e-6)


@pytest.mark.parametrize("chumpy", [True, False])
def test_a_model_of_full_size_needs_less_than_half_a_gigabyte(folder, tmp_path, chumpy):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(python2_pickle(TABLES, chumpy=chumpy, sparse=chumpy))
    uv = None if chumpy else folder / "FLAME_texture.npz"
    assert peak_memory(lambda: import_flame(path, uv=uv, landmarks=folder / "landmark_embedding.npy")) < 512 << 20


def test_flame_head_is_of_flames_sizes():
    assert TRUTH.v_template.shape == (5023, 3) and TRUTH.faces.shape == (9976, 3)
    assert TRUTH.shapedirs.shape[2] == 300 and TRUTH.exprdirs.shape[2] == 100 and TRUTH.posedirs.shape[2] == 36
    assert replace(TRUTH, name="x").joint_names == ("root", "neck", "jaw", "left_eye", "right_eye")
