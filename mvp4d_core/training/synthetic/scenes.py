# SPDX-License-Identifier: Apache-2.0
"""A person in front of the lights: exact geometry of every frame, and pictures of it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ...cameras import Camera, orbit_camera
from ...render.kernels_mesh import rasterize_triangles
from ...render.mesh import MeshBuffers, rasterize_mesh
from ...rig import HeadModel, Performance, personalize, skin
from .identity import Identity
from .kernels import HAIR, SKIN, seen_from, shade_samples
from .lights import Lights
from .stage import Stage, vertex_normals
from .worn import Worn, posed

SHADOW_SIDE = 160  # pixels of the key light's depth picture
SHADOW_BIAS = 0.006  # metres
SKY_VIEWS, SKY_SIDE = 18, 96
LEVELS = 4096


@dataclass(frozen=True)
class Pose:
    """The posed mesh of one frame: `vertices`, `normals`, `tangents` (V, 3) float32 and `lit` (V,), the key light's visibility."""

    vertices: np.ndarray
    normals: np.ndarray
    tangents: np.ndarray
    lit: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Everything of one clip but the cameras.

    The mesh is the head's (`head_vertices` vertices, `head_faces` faces, in the head model's order) and then what the person wears: hair.

    Attributes:
        rig: the person's head; `head_digest` names the head model it was made from; `worn` is what the person wears.
        faces, uv_faces: (F, 3) int32; uvs (T, 2); kinds (F,) uint8, SKIN or HAIR.
        skin, hair: (h, w, 4) float32, linear albedo and gloss.
        openness: (V,) float32, share of the surroundings a vertex sees in the rest pose.
        poses: one a frame.
    """

    person: Identity
    rig: HeadModel
    worn: Worn
    head_digest: str
    performance: Performance
    lights: Lights
    faces: np.ndarray
    uvs: np.ndarray
    uv_faces: np.ndarray
    kinds: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    openness: np.ndarray
    poses: tuple[Pose, ...]
    head_vertices: int
    head_faces: int


def build_scene(
    person: Identity,
    stage: Stage,
    *,
    performance: Performance,
    lights: Lights,
    skin_texture: np.ndarray,
    worn: Worn,
    worn_texture: np.ndarray,
    threads: int = 1,
) -> Scene:
    """The scene of a person who performs under lights; `threads` pose frames side by side."""
    model = stage.model
    rig = personalize(model, person.shape, np.zeros_like(model.v_template))
    count = len(model.v_template)
    faces = np.ascontiguousarray(np.concatenate([model.faces, worn.faces + count]), np.int32)
    kinds = np.full(len(faces), HAIR, np.uint8)
    kinds[: len(model.faces)] = SKIN
    with ThreadPoolExecutor(threads) as pool:
        poses = tuple(pool.map(lambda frame: _pose(rig, worn, performance, frame, faces, lights), range(len(performance))))
    return Scene(
        person=person,
        rig=rig,
        worn=worn,
        head_digest=stage.digest,
        performance=performance,
        lights=lights,
        faces=faces,
        uvs=np.ascontiguousarray(np.concatenate([model.uvs, worn.uvs]), np.float32),
        uv_faces=np.ascontiguousarray(np.concatenate([model.uv_faces, worn.faces + len(model.uvs)]), np.int32),
        kinds=kinds,
        skin=skin_texture,
        hair=worn_texture,
        openness=_openness(model, np.concatenate([rig.v_template, worn.vertices]), faces),
        poses=poses,
        head_vertices=count,
        head_faces=len(model.faces),
    )


def _pose(rig: HeadModel, worn: Worn, performance: Performance, frame: int, faces: np.ndarray, lights: Lights) -> Pose:
    p = performance[frame]
    head = skin(rig, None, p.expression, p.rotations, p.translation).astype(np.float32)
    normals = vertex_normals(head, rig.faces)
    moved = posed(worn, rig, p)
    vertices, normals, tangents = (np.concatenate(pair) for pair in zip((head, normals, np.zeros_like(head)), moved, strict=True))
    return Pose(vertices, normals, tangents, _visibility(vertices, faces, lights.directions[0], SHADOW_SIDE, SHADOW_BIAS))


def _visibility(vertices: np.ndarray, faces: np.ndarray, direction: np.ndarray, side: int, bias: float) -> np.ndarray:
    """(V,) float32: how much of a light from `direction` reaches each vertex."""
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    azimuth, elevation = np.arctan2(direction[0], direction[2]), np.arcsin(np.clip(direction[1], -0.999, 0.999))
    distance = 20.0  # far enough for rays to be parallel
    radius = np.linalg.norm(vertices - middle, axis=1).max()
    fov = 2.02 * np.arctan(radius / distance)
    camera = orbit_camera(azimuth, elevation, target=middle, distance=distance, fov_y=fov, width=side, height=side)
    matrix = camera.camera_from_world
    points = np.ascontiguousarray((vertices @ matrix[:3, :3].T + matrix[:3, 3]) @ camera.K.T)
    depth = np.full((side, side), np.inf, np.float32)
    rasterize_triangles(points, faces, 0.01, False, depth, np.zeros((side, side), np.int32), np.zeros((side, side, 3), np.float32))
    out = np.zeros(len(vertices), np.float32)
    seen_from(points, depth, bias, 1.0, out)
    return out


def _openness(model: HeadModel, rest: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V,) share of a sky all around, a little more of it above, that reaches each vertex; wet insides get fixed values."""
    index = np.arange(SKY_VIEWS)
    y = 1 - 2 * (index + 0.5) / SKY_VIEWS
    angle = index * np.pi * (3 - np.sqrt(5))
    directions = np.stack([np.sqrt(1 - y * y) * np.cos(angle), y, np.sqrt(1 - y * y) * np.sin(angle)], axis=1)
    normals = np.zeros_like(rest)
    normals[:] = vertex_normals(rest, faces)
    seen, total = np.zeros(len(rest)), np.full(len(rest), 1e-6)
    for direction in directions:
        weight = np.clip(normals @ direction, 0, None)
        seen += weight * _visibility(rest, faces, direction, SKY_SIDE, 0.008)
        total += weight
    openness = np.clip(seen / total, 0.08, 1)
    for regions, value in ((("left_eyeball", "right_eyeball"), 0.85), (("upper_teeth", "lower_teeth"), 0.7), (("gums", "tongue"), 0.5)):
        openness[np.flatnonzero(model.region_mask(*regions))] = value
    openness[np.flatnonzero(model.region_mask("mouth_cavity"))] = 0.3
    return openness.astype(np.float32)


def encoding() -> np.ndarray:
    """(LEVELS + 1,) float32: display-referred values of linear 0..2, sRGB with a shoulder so that highlights roll off."""
    value = np.linspace(0, 2, LEVELS + 1)
    value = np.where(value < 0.6, value, 0.6 + 0.4 * np.tanh((value - 0.6) / 0.4 * 0.9) / 0.9)
    value = np.clip(value, 0, 1)
    return np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055).astype(np.float32)


ENCODING = encoding()


def render_gbuffer(scene: Scene, camera: Camera, frame: int, *, supersample: int = 1) -> MeshBuffers:
    """Which face of `scene.faces` every pixel of a frame shows, where on it, and how far away."""
    return rasterize_mesh(scene.poses[frame].vertices, scene.faces, camera, supersample=supersample)


def render_frame(scene: Scene, camera: Camera, frame: int, *, supersample: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied image (H, W, 3) and alpha (H, W), float32 in 0..1, display-referred."""
    pose = scene.poses[frame]
    buffers = render_gbuffer(scene, camera, frame, supersample=supersample)
    attributes = np.concatenate([pose.normals, pose.vertices, pose.lit[:, None], scene.openness[:, None]], axis=1)
    image = np.zeros((camera.height, camera.width, 3), np.float32)
    alpha = np.zeros((camera.height, camera.width), np.float32)
    shade_samples(
        buffers.face_ids, buffers.barycentrics, scene.faces, scene.kinds, attributes, pose.tangents, scene.uvs, scene.uv_faces,
        scene.skin, scene.hair, scene.lights.packed(), camera.position, supersample, ENCODING, image, alpha,
    )  # fmt: skip
    return image, np.clip(alpha, 0, 1)
