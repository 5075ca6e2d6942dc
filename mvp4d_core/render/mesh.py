# SPDX-License-Identifier: Apache-2.0
"""A z-buffer rasteriser for triangle meshes, on numpy arrays.

Pixel centres lie at +0.5. Coverage is exact (see kernels_mesh.py): faces that share an edge leave no gap and no double. The kernels release
the GIL, so several views render side by side in a thread pool.
"""

from dataclasses import dataclass

import numpy as np

from ..cameras import Camera
from ..errors import InputError
from .kernels_mesh import interpolate_attributes, rasterize_triangles, sample_bilinear, shade_textured

MAX_SIDE = 16384
UV_NEAR = 0.5  # UV space is rasterised at depth 1


@dataclass(frozen=True)
class MeshBuffers:
    """What a z-buffer holds.

    Attributes:
        depth: (H, W) float32, along the optical axis, in the vertices' unit; infinite where there is no face.
        face_ids: (H, W) int32, -1 where there is none.
        barycentrics: (H, W, 3) float32, perspective-correct, each in 0..1 and summing to 1; zero where there is no face.
    """

    depth: np.ndarray
    face_ids: np.ndarray
    barycentrics: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool: a face covers the pixel centre."""
        return self.face_ids >= 0


def rasterize_mesh(
    vertices: np.ndarray,
    faces: np.ndarray,
    camera: Camera,
    *,
    cull_backfaces: bool = False,
    supersample: int = 1,
    near: float = 0.01,
) -> MeshBuffers:
    """The nearest face at every pixel centre.

    Args:
        vertices: (V, 3) world space.
        faces: (F, 3) vertex ids, counter-clockwise seen from outside.
        cull_backfaces: drop the faces that are seen from behind.
        supersample: samples a pixel along each axis; the buffers are that much larger.
        near: what lies nearer than this is clipped away.

    Raises:
        InputError: wrong shapes, ids out of range, or coordinates that are not finite.
    """
    vertices = _checked("vertices", vertices, 3, np.float64)
    faces = _checked_faces("faces", faces, len(vertices))
    if not 1 <= supersample <= 16:
        raise InputError(f"`supersample` must be from 1 to 16, got {supersample}.")
    if not near > 0:
        raise InputError(f"`near` must be positive, got {near}.")
    in_camera = vertices @ camera.camera_from_world[:3, :3].T + camera.camera_from_world[:3, 3]
    points = in_camera @ (np.diag([supersample, supersample, 1.0]) @ camera.K).T
    return _rasterize(points, faces, camera.width * supersample, camera.height * supersample, near, cull_backfaces)


def rasterize_uv(uvs: np.ndarray, uv_faces: np.ndarray, size: int | tuple[int, int]) -> MeshBuffers:
    """Which face owns each texel of an atlas.

    Args:
        uvs: (T, 2), v up.
        uv_faces: (F, 3) ids into `uvs`; either winding.
        size: texels along a side, or (height, width).

    Returns:
        Buffers whose row 0 is the top of the atlas (v = 1); depth is 1 on every face.
    """
    uvs = _checked("uvs", uvs, 2, np.float64)
    uv_faces = _checked_faces("uv_faces", uv_faces, len(uvs))
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    points = np.stack([uvs[:, 0] * width, (1.0 - uvs[:, 1]) * height, np.ones(len(uvs))], axis=1)
    return _rasterize(points, uv_faces, width, height, UV_NEAR, False)


def interpolate(buffers: MeshBuffers, faces: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Attributes (V, D) of the corners `faces` (F, 3), interpolated at each pixel: (H, W, D) float32, zero where there is no face."""
    attributes = np.asarray(attributes)
    if attributes.ndim != 2:
        raise InputError(f"`attributes` must be (V, D), got {attributes.shape}.")
    faces = _checked_faces("faces", faces, len(attributes))
    if buffers.face_ids.size and buffers.face_ids.max() >= len(faces):
        raise InputError(f"the buffers name face {buffers.face_ids.max()}, but `faces` has {len(faces)}; pass those they were made with.")
    out = np.zeros((*buffers.face_ids.shape, attributes.shape[1]), np.float32)
    attributes = np.ascontiguousarray(attributes, dtype=np.float32)
    interpolate_attributes(buffers.face_ids, buffers.barycentrics, faces, attributes, out)
    return out


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear lookup of a texture (h, w, C) at uv (..., 2), v up, texel centres at +0.5, clamped at the border: (..., C) float32."""
    texture = _checked_texture(texture)
    uv = np.asarray(uv)
    if uv.ndim < 1 or uv.shape[-1] != 2:
        raise InputError(f"`uv` must be (..., 2), got {uv.shape}.")
    out = np.zeros((uv.size // 2, texture.shape[2]), np.float32)
    sample_bilinear(texture, np.ascontiguousarray(uv.reshape(-1, 2), dtype=np.float32), out)
    return out.reshape(*uv.shape[:-1], texture.shape[2])


def render_textured_mesh(
    vertices: np.ndarray,
    faces: np.ndarray,
    uvs: np.ndarray,
    uv_faces: np.ndarray,
    texture: np.ndarray,
    camera: Camera,
    *,
    supersample: int = 3,
    background: np.ndarray | None = None,
    cull_backfaces: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """An anti-aliased picture of a textured mesh.

    Each pixel averages `supersample` x `supersample` textured samples; what they leave uncovered shows the background.

    Args:
        vertices, faces: (V, 3) world space and (F, 3).
        uvs, uv_faces: (T, 2), v up, and (F, 3).
        texture: (h, w, C) float, display-referred.
        background: (C,) or (H, W, C); white by default.

    Returns:
        image (H, W, C) float32 blended on the background, and alpha (H, W) float32 in 0..1.
    """
    uvs = _checked("uvs", uvs, 2, np.float32)
    uv_faces = _checked_faces("uv_faces", uv_faces, len(uvs))
    texture = _checked_texture(texture)
    if len(uv_faces) != len(faces):
        raise InputError(f"`uv_faces` must have one row for each of the {len(faces)} faces, got {len(uv_faces)}.")
    buffers = rasterize_mesh(vertices, faces, camera, cull_backfaces=cull_backfaces, supersample=supersample)
    image = np.zeros((camera.height, camera.width, texture.shape[2]), np.float32)
    alpha = np.zeros((camera.height, camera.width), np.float32)
    shade_textured(buffers.face_ids, buffers.barycentrics, uvs, uv_faces, texture, supersample, image, alpha)
    np.clip(alpha, 0.0, 1.0, out=alpha)
    backdrop = np.ones(texture.shape[2], np.float32) if background is None else np.asarray(background, dtype=np.float32)
    if backdrop.shape not in ((texture.shape[2],), image.shape):
        raise InputError(f"`background` must be {(texture.shape[2],)} or {image.shape}, got {backdrop.shape}.")
    image += (1.0 - alpha)[..., None] * backdrop
    return image, alpha


def _rasterize(points: np.ndarray, faces: np.ndarray, width: int, height: int, near: float, cull: bool) -> MeshBuffers:
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise InputError(f"a picture must be from 1 to {MAX_SIDE} samples a side, got {width} x {height}.")
    buffers = MeshBuffers(
        depth=np.full((height, width), np.inf, np.float32),
        face_ids=np.full((height, width), -1, np.int32),
        barycentrics=np.zeros((height, width, 3), np.float32),
    )
    points = np.ascontiguousarray(points, dtype=np.float64)
    rasterize_triangles(points, faces, float(near), bool(cull), buffers.depth, buffers.face_ids, buffers.barycentrics)
    return buffers


def _checked(name: str, array: np.ndarray, columns: int, dtype: type) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 2 or array.shape[1] != columns:
        raise InputError(f"`{name}` must be (N, {columns}), got {array.shape}.")
    array = np.ascontiguousarray(array, dtype=dtype)
    if not np.isfinite(array).all():
        raise InputError(f"`{name}` must be finite, but {np.count_nonzero(~np.isfinite(array))} numbers are not.")
    return array


def _checked_faces(name: str, faces: np.ndarray, count: int) -> np.ndarray:
    faces = np.asarray(faces)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise InputError(f"`{name}` must be whole numbers of shape (F, 3), got {faces.dtype} {faces.shape}.")
    if faces.size and not (faces.min() >= 0 and faces.max() < count):
        raise InputError(f"`{name}` must be from 0 to {count - 1}, got {faces.min()} to {faces.max()}.")
    return np.ascontiguousarray(faces, dtype=np.int32)


def _checked_texture(texture: np.ndarray) -> np.ndarray:
    texture = np.asarray(texture)
    if texture.ndim != 3 or 0 in texture.shape or texture.dtype.kind != "f":
        raise InputError(f"`texture` must be floating point of shape (h, w, C), got {texture.dtype} {texture.shape}.")
    return np.ascontiguousarray(texture, dtype=np.float32)
