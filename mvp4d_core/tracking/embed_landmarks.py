# SPDX-License-Identifier: Apache-2.0
"""Where the 478 landmarks lie on a head that comes without them: its template is rendered, and the tracker's own networks look at it.

The first look is at bare skin and eyes. The open head, laid on what it found, lends lips, brows and hair for a second look. A landmark
counts where its pixel hits a surface that faces the camera; its place is the median over the views.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..cameras import Camera, orbit_camera
from ..errors import TrackingError
from ..progress import Progress, silent
from ..render.mesh import interpolate, rasterize_mesh
from ..rig import HeadModel, rest_parameters, skin, vertex_normals
from ..rig.flame_landmarks import COUNT, Embedding, embed
from ..rig.flame_regions import complete_regions, eye_regions
from .face_models import FaceModels
from .landmark_sets import LEFT_BROW, RIGHT_BROW

SIZE = 512  # pixels of a render
VIEWS = ((0, 0), (12, 0), (-12, 0), (25, 4), (-25, 4), (0, 14), (0, -14), (38, 0), (-38, 0))  # azimuth and elevation, degrees
FACING = 0.15  # least cosine between a surface and the view for a landmark to count there
FRONTAL = 20  # degrees; what these views see decides which hits of the others are mistakes
LEAST_VIEWS = 3
STRAY = 0.012  # metres from their median beyond which a hit is a mistake
APART = 0.06  # radians by which the jaw drops in half of the renders, so that the lips can be told apart
_SKIN, _LIPS, _BROWS, _HAIR = (0.80, 0.60, 0.50), (0.70, 0.36, 0.34), (0.30, 0.20, 0.15), (0.23, 0.16, 0.12)
_EYES = {"eyeball": (0.93, 0.92, 0.91), "iris": (0.36, 0.24, 0.15), "pupil": (0.03, 0.03, 0.03)}
_LIGHT = np.array([0.25, 0.45, 0.86])
_BROW_RADIUS = 0.004  # metres


def find_landmarks(head: HeadModel, progress: Progress = silent) -> Embedding:
    """What of the 478 points the networks see on `head`, as points on its template.

    Raises:
        TrackingError: they see no face in most of the renders.
    """
    colours = _eye_colours(head)
    with FaceModels() as models:
        found = _look(head, colours, models, lambda done, total: progress("looking", done, 2 * total))
        faces, barycentrics = embed(head, found)
        known = replace(head, landmark_faces=faces, landmark_barycentrics=barycentrics)
        return _look(head, _face_colours(known, colours), models, lambda done, total: progress("looking", total + done, 2 * total))


def _look(head: HeadModel, colours: np.ndarray, models: FaceModels, progress: Callable[[int, int], None]) -> Embedding:
    hits = np.full((2 * len(VIEWS), COUNT, 3), np.nan)
    rest = rest_parameters(head)
    target, reach = _portrait(head)
    for opened in (0, 1):
        turned = rest.rotations.copy()
        turned[head.joint_names.index("jaw"), 0] = APART * opened
        vertices = skin(head, None, rest.expression, turned, rest.translation).astype(np.float64)
        for view, (azimuth, elevation) in enumerate(VIEWS):
            row = opened * len(VIEWS) + view
            camera = _camera(azimuth, elevation, target, reach)
            picture = (_draw(vertices, head.faces, colours, camera) * 255 + 0.5).astype(np.uint8)
            points = models.landmarks(picture)
            if len(points):
                hits[row] = _cast(vertices, head, camera, points[0, :, :2])
            progress(row + 1, len(hits))
    frontal = np.tile([max(abs(azimuth), abs(elevation)) < FRONTAL for azimuth, elevation in VIEWS], 2)
    middle = _median(hits[frontal])
    near = np.linalg.norm(hits - middle, axis=2) < STRAY
    middle = _median(np.where(near[..., None], hits, np.nan))
    seen = near.sum(axis=0) >= LEAST_VIEWS
    if seen.sum() < COUNT // 2:
        raise TrackingError(
            f"The face of `{head.name}` was found in too few renders to place its landmarks ({seen.sum()} of {COUNT}).\n"
            "Give an embedding with --landmarks."
        )
    return Embedding(np.flatnonzero(seen), points=middle[seen])


def _median(hits: np.ndarray) -> np.ndarray:
    """(L, 3) over the views that have a landmark; NaN where none has."""
    middle = np.full(hits.shape[1:], np.nan)
    some = np.isfinite(hits[..., 0]).any(axis=0)
    middle[some] = np.nanmedian(hits[:, some], axis=0)
    return middle


def _portrait(head: HeadModel) -> tuple[np.ndarray, float]:
    """Where to look, between eyes and jaw, and how high (metres) the picture is there."""
    joints = head.J_regressor @ head.v_template
    eyes = joints[[head.joint_names.index(name) for name in ("left_eye", "right_eye")]]
    apart = float(np.linalg.norm(eyes[0] - eyes[1]))
    return eyes.mean(axis=0) - [0, 0.5 * apart, 0], 5.0 * apart


def _camera(azimuth: float, elevation: float, target: np.ndarray, reach: float) -> Camera:
    fov_y = np.radians(20.0)
    return orbit_camera(
        np.radians(azimuth),
        np.radians(elevation),
        target=target,
        distance=reach / 2 / np.tan(fov_y / 2),
        fov_y=fov_y,
        width=SIZE,
        height=SIZE,
    )


def _draw(vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray, camera: Camera) -> np.ndarray:
    """(H, W, 3) in 0..1 on white, lit from the front and above."""
    buffers = rasterize_mesh(vertices, faces, camera, supersample=2)
    covered = interpolate(buffers, faces, np.concatenate([colours, vertex_normals(vertices, faces)], axis=1))[buffers.mask]
    colour, normal = covered[:, :3], covered[:, 3:]
    lengths = np.sqrt(np.einsum("nd,nd->n", normal, normal))
    shade = 0.42 + 0.62 * np.clip(normal @ _LIGHT / np.maximum(lengths, 1e-6), 0, 1)
    image = np.ones((2 * SIZE, 2 * SIZE, 3))
    image[buffers.mask] = colour * shade[:, None]
    return np.clip((image[::2, ::2] + image[::2, 1::2] + image[1::2, ::2] + image[1::2, 1::2]) / 4, 0, 1)


def _cast(vertices: np.ndarray, head: HeadModel, camera: Camera, points: np.ndarray) -> np.ndarray:
    """(L, 3) the places on the template that pixels (L, 2) hit; NaN where they miss it or see it aslant."""
    buffers = rasterize_mesh(vertices, head.faces, camera)
    column, row = np.clip(points.astype(int), 0, SIZE - 1).T
    face = buffers.face_ids[row, column]
    corners = head.faces[np.maximum(face, 0)]
    places = np.einsum("nk,nkd->nd", buffers.barycentrics[row, column], head.v_template[corners])
    p = vertices[corners]
    normal, view = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), camera.position - p.mean(axis=1)
    cosine = (normal * view).sum(axis=1) / (np.linalg.norm(normal, axis=1) * np.linalg.norm(view, axis=1) + 1e-20)
    places[(face < 0) | (cosine < FACING)] = np.nan
    return places


def _eye_colours(head: HeadModel) -> np.ndarray:
    """(V, 3) skin, with white, iris and pupil."""
    colours = np.tile(np.array(_SKIN), (len(head.v_template), 1))
    regions = eye_regions(head)
    for kind, colour in _EYES.items():
        for side in ("left", "right"):
            colours[regions[f"{side}_{kind}"]] = colour
    return colours


def _face_colours(head: HeadModel, colours: np.ndarray) -> np.ndarray:
    """(V, 3) `colours` with lips, hair and brows where the open head has them."""
    regions = complete_regions(head)
    colours = colours.copy()
    brows = head.landmarks(head.v_template)[list(LEFT_BROW + RIGHT_BROW)]
    near = np.linalg.norm(head.v_template[:, None] - brows, axis=2).min(axis=1) < _BROW_RADIUS
    for ids, colour in ((regions["scalp"], _HAIR), (regions["lips"], _LIPS), (np.flatnonzero(near), _BROWS)):
        colours[ids] = colour
    return colours
