# SPDX-License-Identifier: Apache-2.0
"""A tracked portrait whose truth is known: the toy head with a painted texture, rendered."""

import numpy as np

from mvp4d_core.cameras import orbit_camera, project
from mvp4d_core.render.mesh import render_textured_mesh
from mvp4d_core.rig import HeadModel, Parameters, head_model_digest, personalize, skin
from mvp4d_core.tracking.reference import Reference, quantised


def toy_texture(size: int = 128) -> np.ndarray:
    """(size, size, 3): smooth, never near white."""
    row, column = np.mgrid[:size, :size] / size
    return np.stack([0.5 + 0.3 * np.sin(9 * column), 0.4 + 0.2 * np.cos(7 * row), 0.35 + 0.2 * np.sin(5 * (row + column))], axis=-1)


def toy_reference(model: HeadModel, size: int = 160, azimuth: float = 0.15) -> Reference:
    """A photo of the toy head, a little from its left, mouth a little open."""
    shape = np.zeros(model.shapedirs.shape[2], np.float32)
    shape[0] = 0.5
    offsets = np.zeros_like(model.v_template)
    parameters = Parameters(np.zeros(len(model.expression_names), np.float32), np.zeros((5, 3), np.float32), np.zeros(3, np.float32))
    parameters.expression[model.expression_names.index("jawOpen")] = 0.2
    camera = orbit_camera(azimuth, 0.05, target=np.array([0, -0.01, 0]), distance=1.0, fov_y=0.42, width=size, height=size)
    vertices = skin(personalize(model, shape, offsets), None, parameters.expression, parameters.rotations, parameters.translation)
    image, alpha = render_textured_mesh(vertices, model.faces, model.uvs, model.uv_faces, toy_texture(), camera)
    landmarks, _ = project(model.landmarks(vertices), camera)
    return Reference(
        image=quantised(image),
        matte=quantised(alpha),
        head_matte=quantised(alpha),
        camera=camera,
        shape=shape,
        offsets=offsets,
        parameters=parameters,
        landmarks=landmarks.astype(np.float32),
        landmark_error_percent=0.0,
        faces_found=1,
        face=1,
        notices=(),
        warnings=(),
        head_name=model.name,
        head_digest=head_model_digest(model),
        source_sha256="toy",
    )
