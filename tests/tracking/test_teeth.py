# SPDX-License-Identifier: Apache-2.0
"""Upper teeth are found where a picture shows them: the open head is rendered with its teeth moved by known amounts."""

import numpy as np
import pytest

from mvp4d_core.cameras import orbit_camera, project
from mvp4d_core.render.mesh import interpolate, rasterize_mesh
from mvp4d_core.rig import load_head_model, rest_parameters, skin
from mvp4d_core.tracking.fit import Fit
from mvp4d_core.tracking.teeth import teeth_offsets

MODEL = load_head_model()
JAW = MODEL.lbs_weights[:, MODEL.joint_names.index("jaw")]
UPPER = MODEL.region_mask("upper_teeth", "gums") & (JAW < 0.5)
COLORS = {"mouth_cavity": (0.15, 0.05, 0.05), "tongue": (0.5, 0.2, 0.2), "gums": (0.6, 0.3, 0.3), "lips": (0.7, 0.35, 0.35)}


def picture(shift: float, weights: dict[str, float]) -> tuple[Fit, np.ndarray, np.ndarray, np.ndarray]:
    """The fit (teeth where the model has them), its vertices, the landmarks, and a picture with the upper teeth moved up by `shift`."""
    parameters = rest_parameters(MODEL)
    for name, weight in weights.items():
        parameters.expression[MODEL.expression_names.index(name)] = weight
    vertices = skin(MODEL, None, parameters.expression, parameters.rotations, parameters.translation)
    camera = orbit_camera(0.1, 0.0, target=np.zeros(3), distance=1.0, fov_y=0.35, width=512, height=512)
    colors = np.full((len(vertices), 3), (0.85, 0.65, 0.55))
    for region, color in COLORS.items():
        colors[MODEL.regions[region]] = color
    colors[MODEL.region_mask("upper_teeth", "lower_teeth")] = 0.9
    moved = vertices + np.where(UPPER[:, None], [0, shift, 0], 0)
    rgb = interpolate(rasterize_mesh(moved, MODEL.faces, camera), MODEL.faces, colors)
    points, _ = project(MODEL.landmarks(vertices), camera)
    fit = Fit(np.zeros(MODEL.shapedirs.shape[2], np.float32), parameters, camera, points, np.ones(478), 0.0)
    return fit, vertices, points, rgb


@pytest.mark.parametrize("shift", [-0.001, -0.0025, -0.004])
def test_teeth_come_down_to_where_the_picture_shows_them(shift):
    fit, vertices, points, rgb = picture(shift, {"jawOpen": 0.8})
    offsets = teeth_offsets(MODEL, fit, vertices, points, rgb)
    assert offsets[UPPER, 1].mean() == pytest.approx(shift, abs=0.0008)
    assert np.ptp(offsets[UPPER, 1]) == 0 and not offsets[:, [0, 2]].any()
    assert not offsets[~UPPER].any()


def test_a_closed_mouth_and_an_empty_one_say_nothing():
    for weights in ({}, {"jawOpen": 0.02}):
        assert not teeth_offsets(MODEL, *picture(0.0, weights)).any()
    fit, vertices, points, rgb = picture(-0.003, {"jawOpen": 0.8})
    dark = np.minimum(rgb, 0.3)
    assert not teeth_offsets(MODEL, fit, vertices, points, dark).any()
