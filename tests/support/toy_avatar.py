# SPDX-License-Identifier: Apache-2.0
"""A small avatar on the toy head, painted so that a picture of it shows whether left is left and up is up."""

from dataclasses import replace

import numpy as np

from mvp4d_core.avatar import GaussianAvatar
from mvp4d_core.rig import HeadModel, personalize, triangle_frames

from .toy_head import toy_head_model

_SKIN, _HAIR, _WHITE, _IRIS, _LIPS = (0.85, 0.66, 0.55), (0.28, 0.18, 0.12), (0.95, 0.95, 0.95), (0.2, 0.35, 0.6), (0.75, 0.3, 0.32)
_SH_C0 = 0.28209479177387814


def toy_avatar(count: int = 2000, seed: int = 0, sh_degree: int = 0) -> GaussianAvatar:
    """`count` flat Gaussians spread over the toy head by area, with a person's shape and small offsets. No expression moves a joint."""
    generator = np.random.default_rng(seed)
    model = toy_head_model(seed)
    model = replace(model, J_regressor=_still_regressor(model))
    offsets = 0.002 * np.abs(generator.normal(size=(len(model.v_template), 1))) * _unit(model.v_template)
    offsets[model.regions["eyeballs"]] = 0
    rig = personalize(model, 0.5 * generator.normal(size=len(model.shape_names)), offsets)
    vertices = rig.v_template + rig.static_offsets
    frames = triangle_frames(vertices, rig.faces)
    corners = vertices[rig.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    binding = generator.choice(len(rig.faces), size=count, p=area / area.sum())
    weights = generator.dirichlet((1, 1, 1), size=count)
    surface = np.einsum("nk,nkd->nd", weights, corners[binding])
    means = np.einsum("nji,nj->ni", frames.rotations[binding], surface - frames.centres[binding]) / frames.sizes[binding, None]
    radius = 1.1 * np.sqrt(area.sum() / 2 / count / np.pi)  # metres: neighbours overlap
    scales = radius * generator.uniform(0.5, 1.3, size=(count, 3)) * [1, 0.15, 1]  # thin along the normal
    spin = generator.uniform(-np.pi, np.pi, count) / 2
    quats = np.stack([np.cos(spin), 0 * spin, np.sin(spin), 0 * spin], axis=1) + 0.1 * generator.normal(size=(count, 4))
    return GaussianAvatar(
        means=means.astype(np.float32),
        quats=_unit(quats).astype(np.float32),
        log_scales=np.log(scales / frames.sizes[binding, None]).astype(np.float32),
        opacity_logits=generator.uniform(0, 5, count).astype(np.float32),
        sh0=((_paint(model, binding, surface) - 0.5) / _SH_C0).astype(np.float32),
        shN=(0.15 * generator.normal(size=(count, (sh_degree + 1) ** 2 - 1, 3))).astype(np.float32),
        binding=binding.astype(np.int32),
        rig=rig,
        metadata={"generator": "toy", "seed": str(seed)},
    )


def _still_regressor(model: HeadModel) -> np.ndarray:
    """The joints from the vertices that no expression moves, as the open head has them."""
    still = np.abs(model.exprdirs).max(axis=(1, 2)) == 0
    weights = model.J_regressor * still
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _paint(model: HeadModel, binding: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 3) colours: hair, skin, lips, eyes, and one red cheek on the subject's left."""
    x, y, z = points.T
    colors = np.tile(_SKIN, (len(points), 1))
    colors[(y > 0.06) | ((z < 0) & (y > -0.07))] = _HAIR
    colors[(np.abs(x) < 0.026) & (np.abs(y + 0.05) < 0.011) & (z > 0)] = _LIPS
    colors[((x - 0.045) ** 2 + (y + 0.02) ** 2 < 0.012**2) & (z > 0)] = (0.9, 0.25, 0.25)
    on_eye = np.isin(model.faces[binding], model.regions["eyeballs"]).all(axis=1)
    colors[on_eye] = _WHITE
    colors[on_eye & (z > 0.0855)] = _IRIS
    return colors


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
