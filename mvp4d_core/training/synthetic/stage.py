# SPDX-License-Identifier: Apache-2.0
"""What the studio works out once for a head model: the texels of its atlas and where features lie on them."""

import functools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ...generate.texture import INTERIORS, Texels, atlas_texels
from ...rig import HeadModel, head_model_digest
from .kernels import accumulate_normals

# MediaPipe's landmarks along the middle of features; subject's left first, each from the nose outwards
BROWS = {
    "left": ((285, 336), (295, 296), (282, 334), (283, 293), (276, 300)),
    "right": ((55, 107), (65, 66), (52, 105), (53, 63), (46, 70)),
}
UPPER_LIDS = {"left": (362, 398, 384, 385, 386, 387, 388, 466, 263), "right": (133, 173, 157, 158, 159, 160, 161, 246, 33)}
LOWER_LIDS = {"left": (362, 382, 381, 380, 374, 373, 390, 249, 263), "right": (133, 155, 154, 153, 145, 144, 163, 7, 33)}
CHEEKS = (280, 50)
EYE_CORNERS = ((362, 263), (133, 33))
NOSE_TIP, MOUTH_TOP, MOUTH_LOW, CHIN, SUBNASAL = 4, 0, 17, 152, 2
INNER_MOUTH = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)


@dataclass(frozen=True)
class Stage:
    """One head model prepared for painting at one atlas size.

    Attributes:
        model, digest: the head and its name.
        texels: of the atlas; `nearest` (2, size, size) maps every texel to the nearest covered one.
        outer: (M,) bool, texels of the outer skin.
        masks: region -> (M,) soft 0..1.
        brows, upper_lids, lower_lids: side -> (M, 2): place along the feature from the nose outwards 0..1 and the distance in metres,
            positive above.
        landmarks: (478, 3) on the template.
        normals: (M, 3) of the template at the texels.
    """

    model: HeadModel
    digest: str
    texels: Texels
    nearest: np.ndarray
    outer: np.ndarray
    masks: dict[str, np.ndarray]
    brows: dict[str, np.ndarray]
    upper_lids: dict[str, np.ndarray]
    lower_lids: dict[str, np.ndarray]
    landmarks: np.ndarray
    normals: np.ndarray

    def atlas(self, values: np.ndarray) -> np.ndarray:
        """Texel values (M, C) as a texture (size, size, C) float32 without gaps."""
        picture = np.zeros((self.texels.size, self.texels.size, values.shape[1]), np.float32)
        picture[self.texels.row, self.texels.column] = values
        return picture[tuple(self.nearest)]


class _Same:
    """A key of a cache that stands for one object, not for its value."""

    def __init__(self, thing: HeadModel) -> None:
        self.thing = thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing


def stage_for(model: HeadModel, size: int) -> Stage:
    """The stage of `model` with an atlas of `size` texels a side; made once and kept while it is in use."""
    return _stage(_Same(model), size)


@functools.lru_cache(maxsize=4)
def _stage(key: _Same, size: int) -> Stage:
    model = key.thing
    texels = atlas_texels(model, size)
    covered = np.zeros((size, size), dtype=bool)
    covered[texels.row, texels.column] = True
    nearest = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
    inside = model.region_mask(*(name for name in INTERIORS if name in model.regions))
    masks = {name: texels.at(model.region_mask(name).astype(float)[:, None])[:, 0].astype(np.float32) for name in model.regions}
    landmarks = model.landmarks(model.v_template.astype(np.float64))
    points = texels.canonical
    normals = vertex_normals(model.v_template, model.faces)
    return Stage(
        model=model,
        digest=head_model_digest(model),
        texels=texels,
        nearest=np.asarray(nearest),
        outer=~texels.within(inside),
        masks=masks,
        brows={side: _along(points, np.array([landmarks[list(pair)].mean(axis=0) for pair in pairs])) for side, pairs in BROWS.items()},
        upper_lids={side: _along(points, landmarks[list(ids)]) for side, ids in UPPER_LIDS.items()},
        lower_lids={side: _along(points, landmarks[list(ids)]) for side, ids in LOWER_LIDS.items()},
        landmarks=landmarks,
        normals=texels.at(normals),
    )


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3) float32."""
    normals = np.zeros((len(vertices), 3), np.float32)
    accumulate_normals(np.ascontiguousarray(vertices, np.float32), faces, normals)
    return normals


def _along(points: np.ndarray, line: np.ndarray, reach: float = 0.04) -> np.ndarray:
    """(M, 2): place 0..1 along the polyline nearest to each point and the distance in metres, positive above it; far points get 1 m."""
    steps = np.linspace(0, len(line) - 1, 64)
    dense = np.stack([np.interp(steps, np.arange(len(line)), line[:, k]) for k in range(3)], axis=1)
    distance, index = cKDTree(dense).query(points, distance_upper_bound=reach)
    result = np.tile(np.array([0.0, 1.0]), (len(points), 1))
    near = np.isfinite(distance)
    above = np.sign(points[near, 1] - dense[index[near], 1])
    result[near] = np.stack([index[near] / 63, distance[near] * np.where(above == 0, 1, above)], axis=1)
    return result.astype(np.float32)
