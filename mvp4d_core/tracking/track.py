# SPDX-License-Identifier: Apache-2.0
"""The walk from a photo to a `Reference`: faces, fit, offsets, mattes, hair."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation

from ..cameras import Camera, crop_camera, project
from ..errors import InputError, TrackingError
from ..progress import Progress, silent
from ..render.mesh import rasterize_mesh
from ..rig import HeadModel, Parameters, head_model_digest, skin
from . import judge
from .crops import crop_square, spread_square
from .detect import Face, find_faces, oval_box
from .face_models import FaceModels
from .fit import Fit, fit_head, landmark_error_percent
from .landmark_sets import LANDMARKS
from .matte import head_matte, joined, looks_like_hair, refine_matte
from .offsets import landmark_offsets, to_rest_pose
from .reference import Reference, quantised
from .regions import mask_of, sides_of
from .silhouette import Outline, find_outline, grow_hair
from .teeth import teeth_offsets
from .zones import Zones, find_zones

SMALLEST_FACE = 48  # px between the sides of a face
_STAGE = "track"
_STEPS = 6
_CROP_FACES = 4.0  # side of the square around the head, in face widths
_CROP_SIDES = (384, 768)  # px that square is worked on at, at least and at most
_LEAST_MATTE = 0.5  # share of the face that a matte has to cover to be believed
_LOWEST_OUTLINE = 1.35  # distances from eyes to chin below the eyes
_NECKLINE_COSINE = 0.35  # an edge against clothes that looks further down than this is a neckline
_MATTE_FACES = (9.0, 4.6, 2.7)  # sides of the squares the matte is looked for in


@dataclass(frozen=True)
class _Square:
    """A square of the photo: `centre` (2,) px, `side` px, and the pixels `size` it is worked on at."""

    centre: np.ndarray
    side: float
    size: int

    def camera(self, camera: Camera) -> Camera:
        half = self.side / 2
        return crop_camera(camera, np.array([*(self.centre - half), *(self.centre + half)]), self.size, self.size)

    def spread(self, patch: np.ndarray, height: int, width: int) -> np.ndarray:
        """A patch (size, size) at its place in a photo (height, width) of zeros."""
        whole = np.zeros((height, width), np.float32)
        rows, columns, values = spread_square(patch, self.centre, self.side, (height, width))
        whole[rows, columns] = values
        return whole

    def inside(self, camera: Camera, margin: float) -> np.ndarray:
        """(size, size) bool: at least `margin` photo pixels inside the photo."""
        step = (np.arange(self.size) + 0.5) * self.side / self.size - self.side / 2
        x, y = step + self.centre[0], step + self.centre[1]
        return ((y > margin) & (y < camera.height - margin))[:, None] & ((x > margin) & (x < camera.width - margin))


@dataclass(frozen=True)
class _Close:
    """The square around the head from near: `camera`, picture `crop` (n, n, 3), mattes of `person` and `head` (n, n), and `zones`."""

    square: _Square
    camera: Camera
    crop: np.ndarray
    person: np.ndarray
    head: np.ndarray
    zones: Zones


def track_portrait(
    rgb: np.ndarray,
    alpha: np.ndarray | None,
    *,
    head_model: HeadModel,
    face: int | None = None,
    points: np.ndarray | None = None,
    source_sha256: str = "",
    progress: Progress = silent,
) -> Reference:
    """Identity, expression, pose, camera, mattes and hair of the person in a photo.

    Args:
        rgb: (H, W, 3) float in 0..1, sRGB, upright as far as the file tells.
        alpha: (H, W) float in 0..1 or None; where it is not opaque throughout it is taken for the matte.
        face: which face, 1 the largest; the largest with a notice where there are several and this is None.
        points: (n, 478, 3) of the faces where they are known, as `FaceModels.landmarks` gives them; the photo is then taken to be upright.

    Raises:
        InputError: pictures or points of the wrong shape or range.
        TrackingError: no face, a face too small, or a number that no face has.
        MissingAssetError: torch is not installed.
    """
    rgb, alpha = _checked(rgb, alpha)
    if len(head_model.landmark_faces) != LANDMARKS:
        raise InputError(f"Tracking needs a head with {LANDMARKS} face points, `{head_model.name}` has {len(head_model.landmark_faces)}.")
    notices: list[str] = []
    with FaceModels() as models:
        progress(_STAGE, 0, _STEPS)
        rgb, alpha, faces = _find(models, rgb, alpha, notices) if points is None else (rgb, alpha, _known(points))
        chosen = _choose(faces, face, notices)
        picture = _bytes(rgb)
        height, width = rgb.shape[:2]
        progress(_STAGE, 1, _STEPS)
        fit = fit_head(head_model, chosen.points, width, height)
        progress(_STAGE, 2, _STEPS)
        offsets = landmark_offsets(head_model, fit, chosen.points)
        offsets = offsets + teeth_offsets(head_model, fit, _posed(head_model, fit, offsets), chosen.points, rgb)
        vertices = _posed(head_model, fit, offsets)
        progress(_STAGE, 3, _STEPS)
        square = _head_square(head_model, vertices, fit.camera, chosen)
        person = alpha if alpha is not None else _person(models, picture, square.centre, chosen.size)
    progress(_STAGE, 4, _STEPS)
    person, close = _mattes(head_model, vertices, fit.camera, square, picture, person, refine=alpha is None)
    progress(_STAGE, 5, _STEPS)
    offsets = _with_hair(head_model, fit, offsets, vertices, close)
    vertices = _posed(head_model, fit, offsets)
    points, _ = project(head_model.landmarks(vertices), fit.camera)
    covered = rasterize_mesh(vertices, head_model.faces, close.camera).mask
    seen = judge.Seen(close.crop, close.person, close.head, close.zones, covered, square.inside(fit.camera, 0.0))
    progress(_STAGE, _STEPS, _STEPS)
    return Reference(
        image=quantised(rgb),
        matte=quantised(person),
        head_matte=quantised(square.spread(close.head, height, width)),
        camera=fit.camera,
        shape=fit.shape,
        offsets=offsets,
        parameters=fit.parameters,
        landmarks=chosen.points[:, :2].astype(np.float32),
        landmark_error_percent=landmark_error_percent(points, chosen.points),
        faces_found=len(faces),
        face=1 + next(i for i, other in enumerate(faces) if other is chosen),
        notices=tuple(notices),
        warnings=judge.doubts(fit, chosen, seen),
        head_name=head_model.name,
        head_digest=head_model_digest(head_model),
        source_sha256=source_sha256,
    )


def _checked(rgb: np.ndarray, alpha: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The pictures as float32; no alpha where it is opaque throughout."""
    rgb = np.asarray(rgb)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape or rgb.dtype.kind != "f":
        raise InputError(f"`rgb` must be floating point of shape (H, W, 3), got {rgb.dtype} {rgb.shape}.")
    if not (rgb.min() >= 0 and rgb.max() <= 1):
        raise InputError(f"`rgb` must lie in 0..1, got {rgb.min()}..{rgb.max()}; divide 8-bit colours by 255.")
    if alpha is None:
        return rgb.astype(np.float32, copy=False), None
    alpha = np.asarray(alpha)
    if alpha.shape != rgb.shape[:2] or alpha.dtype.kind != "f" or not (alpha.min() >= 0 and alpha.max() <= 1):
        raise InputError(f"`alpha` must be floating point in 0..1 of shape {rgb.shape[:2]}, got {alpha.dtype} {alpha.shape}.")
    return rgb.astype(np.float32, copy=False), (None if alpha.min() > 0.999 else alpha.astype(np.float32, copy=False))


def _bytes(rgb: np.ndarray) -> np.ndarray:
    return np.rint(rgb * np.float32(255)).astype(np.uint8)


def _find(
    models: FaceModels, rgb: np.ndarray, alpha: np.ndarray | None, notices: list[str]
) -> tuple[np.ndarray, np.ndarray | None, list[Face]]:
    """The upright photo and its faces. A cut-out is looked at on grey, for what hides behind a transparent pixel is anything."""
    seen = rgb if alpha is None else rgb * alpha[..., None] + np.float32(0.5) * (1 - alpha[..., None])
    faces, turns = find_faces(models, _bytes(seen))
    if not faces:
        raise TrackingError(
            f"No face found in the picture of {rgb.shape[1]} x {rgb.shape[0]} px.\n"
            f"Give a photo in which a face is seen from the front, unhidden and at least {SMALLEST_FACE} px wide."
        )
    if turns:
        direction = {1: "90° to the left", 2: "by 180°", 3: "90° to the right"}[turns]
        notices.append(f"The photo was turned {direction}, because the face in it does not stand upright.")
        rgb = np.ascontiguousarray(np.rot90(rgb, turns))
        alpha = None if alpha is None else np.ascontiguousarray(np.rot90(alpha, turns))
    return rgb, alpha, faces


def _known(points: np.ndarray) -> list[Face]:
    """Faces, the largest first, from their points (n, 478, 3)."""
    points = np.asarray(points)
    if points.ndim != 3 or points.shape[1:] != (LANDMARKS, 3) or points.dtype.kind != "f" or not np.isfinite(points).all():
        raise InputError(f"`points` must be finite floating point of shape (n, {LANDMARKS}, 3), got {points.dtype} {points.shape}.")
    if not len(points):
        raise TrackingError("The points given are those of no face.\nGive a photo in which a face is seen from the front, unhidden.")
    return sorted((Face(face.astype(np.float64), oval_box(face), 0.0) for face in points), key=lambda face: -face.size)


def _choose(faces: list[Face], number: int | None, notices: list[str]) -> Face:
    if number is not None and not 1 <= number <= len(faces):
        raise TrackingError(f"`face` must be from 1 to {len(faces)}, the faces found, largest first; got {number}.")
    chosen = faces[(number or 1) - 1]
    if number is None and len(faces) > 1:
        x, y = (chosen.box[:2] + chosen.box[2:]) / 2
        notices.append(
            f"{len(faces)} faces found; took the largest, {chosen.size:.0f} px wide around ({x:.0f}, {y:.0f}). "
            "Face 2 is the next largest (--face 2)."
        )
    if chosen.size < SMALLEST_FACE:
        raise TrackingError(
            f"The face is too small: it must be at least {SMALLEST_FACE} px wide, got {chosen.size:.0f} px.\n"
            "Give a larger or closer photo of it."
        )
    return chosen


def _posed(model: HeadModel, fit: Fit, offsets: np.ndarray) -> np.ndarray:
    model = replace(model, static_offsets=(model.static_offsets + offsets).astype(np.float32))
    parameters: Parameters = fit.parameters
    return skin(model, fit.shape, parameters.expression.astype(np.float64), parameters.rotations, parameters.translation)


def _head_square(model: HeadModel, vertices: np.ndarray, camera: Camera, face: Face) -> _Square:
    """The square around the middle of the fitted head without its neck."""
    pixels, _ = project(vertices[~mask_of(model, "neck")], camera)
    side = _CROP_FACES * face.size
    return _Square((pixels.min(axis=0) + pixels.max(axis=0)) / 2, side, int(np.clip(round(side), *_CROP_SIDES)))


def _person(models: FaceModels, picture: np.ndarray, centre: np.ndarray, face: float) -> np.ndarray:
    """(H, W) the person's coarse matte: of the whole photo, then of ever smaller squares around the head, which see it more finely."""
    height, width = picture.shape[:2]
    squares = [(np.array([width, height]) / 2, float(max(width, height)))]
    squares += [(centre, scale * face) for scale in _MATTE_FACES if scale * face < 0.8 * max(width, height)]
    matte = np.zeros((height, width), np.float32)
    for index, (middle, side) in enumerate(squares):
        patch = models.matte(crop_square(picture, middle, side, 256))
        rows, columns, values = spread_square(patch, middle, side, (height, width))
        # a finer matte fades out over the outer eighth of its square
        y, x = np.mgrid[rows, columns] + 0.5
        reach = side / 2 - np.maximum(np.abs(x - middle[0]), np.abs(y - middle[1]))
        share = np.clip(reach / (side / 8), 0, 1).astype(np.float32) if index else np.float32(1)
        matte[rows, columns] += share * (values - matte[rows, columns])
    return matte


def _mattes(
    model: HeadModel, vertices: np.ndarray, camera: Camera, square: _Square, picture: np.ndarray, person: np.ndarray, *, refine: bool
) -> tuple[np.ndarray, _Close]:
    """The person's matte of the photo, refined around the head where `refine` says so, and the head from near.

    Where the matte misses most of the face, the fitted head stands in for it in the head's matte; the person's still tells.
    """
    near = square.camera(camera)
    zones = find_zones(model, vertices, near)
    crop = crop_square(picture, square.centre, square.side, square.size).astype(np.float32) / np.float32(255)
    found = crop_square(person, square.centre, square.side, square.size)
    if refine:
        found = joined(refine_matte(crop, found), zones.face)
        rows, columns, values = spread_square(found, square.centre, square.side, (camera.height, camera.width))
        person[rows, columns] = values
    photo = square.inside(camera, 0.0)
    found = np.where(photo, found, 0).astype(np.float32)
    used = found
    if zones.face.any() and found[zones.face].mean() < _LEAST_MATTE:
        used = np.maximum(found, (zones.head & photo).astype(np.float32))
    return person, _Close(square, near, crop, found, head_matte(crop, used, zones), zones)


def _with_hair(model: HeadModel, fit: Fit, offsets: np.ndarray, vertices: np.ndarray, close: _Close) -> np.ndarray:
    """Offsets (V, 3) float32 with the hair's volume."""
    hair = grow_hair(model, vertices, _outline(close, fit.camera), close.camera, _covered_ears(model, close))
    return (offsets + to_rest_pose(model, fit.parameters, hair)).astype(np.float32)


def _covered_ears(model: HeadModel, close: _Close) -> np.ndarray:
    """(V,) bool: the ears whose place in the picture has the colour of the hair rather than of the face."""
    hair = looks_like_hair(close.crop, close.person, close.zones)
    covered = np.zeros(len(model.v_template), bool)
    for side, seen in zip(sides_of(model, "ear"), close.zones.ears, strict=True):
        if seen.sum() >= 30 and hair[seen].mean() > 0.5:
            covered |= side
    return covered


def _outline(close: _Close, camera: Camera) -> Outline:
    """The head matte's edge where it is the head's outline: not at the photo's border, not far down, and not where the neck goes into
    clothes.
    """
    zones = close.zones
    outline = find_outline(close.head > 0.5, close.square.inside(camera, 1.5) & (zones.below_eyes < _LOWEST_OUTLINE))
    clothes = binary_dilation((close.person > 0.5) & (close.head < 0.5) & (zones.below_eyes > 0.5), iterations=4)
    down = np.stack([*reversed(np.gradient(zones.below_eyes))], axis=-1)[outline.rows, outline.columns]
    down /= np.maximum(np.linalg.norm(down, axis=1, keepdims=True), 1e-9)
    neckline = clothes[outline.rows, outline.columns] & (np.einsum("nd,nd->n", outline.normals, down) > _NECKLINE_COSINE)
    return Outline(*(array[~neckline] for array in (outline.points, outline.normals, outline.rows, outline.columns)))
