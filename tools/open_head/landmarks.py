# SPDX-License-Identifier: Apache-2.0
"""Where MediaPipe's 478 face landmarks lie on the open head, found by rendering it and asking MediaPipe.

Every render is of known geometry, so a 2D landmark is cast through the z-buffer onto a face of the mesh and carried to the template.
The consensus of many identities and views is their geometric median, made symmetric, and put on the nearest allowed surface: lid
landmarks on the edge of their lid, lip landmarks on their lip, iris landmarks on the eyeball's iris ring.
"""

import logging
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from mvp4d_core.cameras import Camera
from mvp4d_core.render.mesh import rasterize_mesh

from .geometry import IRIS_RING, MIRROR, Layout, eye_ring
from .preview import Painter, portrait_camera
from .regions import RIM_RING, WATER_RING, FaceRings

log = logging.getLogger(__name__)

COUNT = 478
SIZE = 512
# azimuth and elevation, degrees
VIEWS = ((0, 0), (12, 0), (-12, 0), (25, 4), (-25, 4), (0, 14), (0, -14), (38, 0), (-38, 0), (50, 0), (-50, 0))
FACING = 0.15  # least cosine between a surface and the view for a landmark to count there
FRONTAL = 8  # the power of a view's cosine to the front by which it counts, because portraits are mostly taken from there
STRAY = 0.03  # metres from the frontal views' median beyond which a hit is a mistake
TOPOLOGY_COST = 0.02  # metres that a pairing costs whose neighbours are not paired too

# MediaPipe's own rings (face_mesh_connections), on the subject's right unless named otherwise
LIPS_INNER_UPPER = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LIPS_INNER_LOWER = (95, 88, 178, 87, 14, 317, 402, 318, 324)
LIPS_OUTER_UPPER = (185, 40, 39, 37, 0, 267, 269, 270, 409)
LIPS_OUTER_LOWER = (146, 91, 181, 84, 17, 314, 405, 321, 375)
LIP_CORNERS = (61, 291, 78, 308)
RIGHT_LID_UPPER, RIGHT_LID_LOWER, RIGHT_EYE_CORNERS = (246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155), (33, 133)
LEFT_LID_UPPER, LEFT_LID_LOWER, LEFT_EYE_CORNERS = (466, 388, 387, 386, 385, 384, 398), (249, 390, 373, 374, 380, 381, 382), (263, 362)
IRISES = {"right": (468, 469, 470, 471, 472), "left": (473, 474, 475, 476, 477)}  # centre, then four points of the edge


def detect(images: list[np.ndarray]) -> list[np.ndarray | None]:
    """(478,2) pixels of the face in each picture (H,W,3) 0..1, or None."""
    import mediapipe

    found = []
    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3) as mesh:
        for image in images:
            result = mesh.process((image * 255 + 0.5).astype(np.uint8)).multi_face_landmarks
            points = None
            if result:
                points = np.array([[p.x, p.y] for p in result[0].landmark]) * image.shape[1::-1]
            found.append(points)
    return found


@dataclass(frozen=True)
class Hits:
    """Where landmarks were seen, over R renders.

    Attributes:
        points: (R, 478, 3) on the template.
        cosines: (R, 478) between surface and view there; 0 where the hit is not on the face.
        directions: (R, 3) unit, from the head to the camera.
    """

    points: np.ndarray
    cosines: np.ndarray
    directions: np.ndarray


def collect(heads: list[np.ndarray], painter: Painter, template: np.ndarray, believable: np.ndarray) -> Hits:
    """Looks for the landmarks on every head (V,3) in every view; only hits on the faces `believable` (F,) bool count."""
    points, cosines, directions = [], [], []
    for number, vertices in enumerate(heads):
        cameras = [portrait_camera(a, e, SIZE, target=(0, -0.012, 0.05), reach=0.30) for a, e in VIEWS]
        for camera, pixels in zip(cameras, detect([painter.draw(vertices, camera) for camera in cameras]), strict=True):
            if pixels is None:
                continue
            face, on_template, cosine = _cast(vertices, template, painter.faces, camera, pixels)
            points.append(on_template)
            cosines.append(np.where((face >= 0) & believable[face], cosine, 0.0))
            directions.append(camera.position / np.linalg.norm(camera.position))
        log.info("landmarks: head %d of %d, %d renders", number + 1, len(heads), len(points))
    return Hits(np.stack(points), np.stack(cosines), np.stack(directions))


def _cast(
    vertices: np.ndarray, template: np.ndarray, faces: np.ndarray, camera: Camera, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where pixels (478,2) hit the mesh: the face (-1 for none), the position on the template (478,3), the cosine to the view."""
    buffers = rasterize_mesh(vertices, faces, camera, supersample=2)
    column, row = np.clip((points * 2).astype(int), 0, 2 * SIZE - 1).T
    face = buffers.face_ids[row, column]
    corners = faces[np.maximum(face, 0)]
    on_template = np.einsum("nk,nkd->nd", buffers.barycentrics[row, column], template[corners])
    p = vertices[corners]
    normal = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    view = camera.position - p.mean(1)
    facing = np.sum(normal * view, 1) / (np.linalg.norm(normal, axis=1) * np.linalg.norm(view, axis=1) + 1e-20)
    return face, on_template, facing


def consensus(hits: Hits, template: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(478,3) geometric medians over renders, made symmetric.

    A first round trusts the frontal views alone. A second one takes, for each landmark, all views that face the place found first: from
    elsewhere a landmark is hidden, and what MediaPipe guesses falls on a part of the face that is in the way.
    """
    frontal = hits.directions[:, 2] > np.cos(np.radians(20))
    first = np.stack([_median(hits.points[frontal, k], hits.cosines[frontal, k].clip(0)) for k in range(COUNT)])
    there = normals[cKDTree(template).query(first)[1]]
    seen = (hits.directions @ there.T > FACING) & (hits.cosines > FACING)
    seen &= np.linalg.norm(hits.points - first, axis=2) < STRAY
    out = first
    for k in np.flatnonzero(seen.any(0)):
        out[k] = _median(hits.points[:, k], seen[:, k] * hits.cosines[:, k] * hits.directions[:, 2] ** FRONTAL)
    twin = mirror_pairs(out)
    gap = np.linalg.norm(out - out[twin] * MIRROR, axis=1)
    log.info("landmarks: left and right differ by %.1f mm in the median, %.1f mm at most", 1e3 * np.median(gap), 1e3 * gap.max())
    return (out + out[twin] * MIRROR) / 2


def _median(points: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """Weighted geometric median of points (n,3), by Weiszfeld's iteration."""
    points, trust = points[trust > 0], trust[trust > 0]
    median = np.median(points, axis=0)
    for _ in range(30):
        weight = trust / np.maximum(np.linalg.norm(points - median, axis=1), 1e-4)
        median = weight @ points / weight.sum()
    return median


def mirror_pairs(points: np.ndarray) -> np.ndarray:
    """(478,) each landmark's counterpart on the other side: near its mirror image, and with paired neighbours in MediaPipe's mesh."""
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

    first, second = np.array(sorted(FACEMESH_TESSELATION)).T
    touching = np.zeros((len(points), len(points)))
    touching[first, second] = touching[second, first] = 1.0
    touching /= np.maximum(touching.sum(1, keepdims=True), 1.0)
    distance = np.linalg.norm(points[:, None] - (points * MIRROR)[None], axis=2)
    twin = linear_sum_assignment(distance)[1]
    for _ in range(8):
        shared = touching @ (touching[twin] > 0)  # (i, j): of i's neighbours, the share whose twins touch j
        twin = linear_sum_assignment(distance + TOPOLOGY_COST * (1 - shared))[1]
    return twin


def embed(
    layout: Layout, template: np.ndarray, rings: FaceRings, lower: np.ndarray, points: np.ndarray, centres: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Faces (478,) int32 and barycentrics (478,3) of the allowed surface points nearest to `points`.

    `lower` (V,) bool marks the lower half of the mouth; `centres` are the eyes' centres.
    """
    skin = np.zeros(len(template), bool)
    skin[layout.parts["skin"]] = True
    skin[rings.cavity] = False
    for side in ("left", "right"):  # the pocket behind the lids is no place for a landmark
        skin[np.concatenate(rings.eye_rings[side][:WATER_RING])] = False
    allowed = {k: skin for k in range(COUNT)}
    inner, outer = _mask(template, rings.lip_rings[0:4]), _mask(template, rings.lip_rings[3:9])
    for ids, mask, below in (
        (LIPS_INNER_UPPER, inner, False),
        (LIPS_INNER_LOWER, inner, True),
        (LIPS_OUTER_UPPER, outer, False),
        (LIPS_OUTER_LOWER, outer, True),
    ):
        allowed |= dict.fromkeys(ids, mask & (lower == below))
    allowed |= dict.fromkeys(LIP_CORNERS, inner | outer)
    sides = {"right": (RIGHT_LID_UPPER, RIGHT_LID_LOWER, RIGHT_EYE_CORNERS), "left": (LEFT_LID_UPPER, LEFT_LID_LOWER, LEFT_EYE_CORNERS)}
    for side, (upper_ids, lower_ids, corners) in sides.items():
        edge = _mask(template, rings.eye_rings[side][WATER_RING : RIM_RING + 2])
        line = _corner_line(template, rings.eye_rings[side][WATER_RING])
        upper_half = template[:, 1] > line(template[:, 0])
        allowed |= dict.fromkeys(upper_ids, edge & upper_half) | dict.fromkeys(lower_ids, edge & ~upper_half) | dict.fromkeys(corners, edge)
    faces, barycentrics = np.zeros(COUNT, np.int32), np.zeros((COUNT, 3))
    for k in range(COUNT - 10):
        candidates = np.flatnonzero(allowed[k][layout.faces].all(1))
        faces[k], barycentrics[k] = nearest_on_faces(template, layout.faces, candidates, points[k])
    for side, ids in IRISES.items():
        _embed_iris(layout, template, side, ids, points, centres[side], faces, barycentrics)
    return faces, barycentrics


def _mask(template: np.ndarray, rings: list[np.ndarray]) -> np.ndarray:
    mask = np.zeros(len(template), bool)
    mask[np.concatenate(rings)] = True
    return mask


def _corner_line(template: np.ndarray, ring: np.ndarray):
    """The height of the straight line between the corners of an eye, as a function of x."""
    first, last = template[ring[np.argmin(template[ring, 0])]], template[ring[np.argmax(template[ring, 0])]]
    return lambda x: first[1] + (x - first[0]) / (last[0] - first[0]) * (last[1] - first[1])


def _embed_iris(layout, template, side, ids, points, centre, faces, barycentrics) -> None:
    """The centre on the pole, the edge on the iris ring, each at the nearest of right, top, left and bottom."""
    ball = layout.parts[f"{side}_eyeball"]
    rim = ball[eye_ring(IRIS_RING)]
    targets = [ball[0]]
    for k in ids[1:]:
        off = (points[k] - points[ids[0]])[:2]
        axis = np.zeros(2)
        axis[np.argmax(np.abs(off))] = np.sign(off[np.argmax(np.abs(off))])
        targets.append(rim[np.argmax((template[rim] - centre)[:, :2] @ axis)])
    for k, vertex in zip(ids, targets, strict=True):
        face = np.flatnonzero((layout.faces == vertex).any(1))[0]
        faces[k] = face
        barycentrics[k] = layout.faces[face] == vertex


def nearest_on_faces(vertices: np.ndarray, faces: np.ndarray, candidates: np.ndarray, point: np.ndarray) -> tuple[int, np.ndarray]:
    """The face among `candidates` nearest to a point, and the barycentrics of the nearest point on it."""
    near = candidates[cKDTree(vertices[faces[candidates]].mean(1)).query(point, k=min(24, len(candidates)))[1]]
    best, best_distance, best_weights = -1, np.inf, np.zeros(3)
    for face in near:
        weights = _closest_barycentrics(vertices[faces[face]], point)
        distance = np.linalg.norm(weights @ vertices[faces[face]] - point)
        if distance < best_distance:
            best, best_distance, best_weights = int(face), distance, weights
    return best, best_weights


def _closest_barycentrics(triangle: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Barycentrics of the point of a triangle (3,3) nearest to `point`."""
    a, b, c = triangle
    system = np.stack([b - a, c - a], 1)
    u, v = np.linalg.lstsq(system, point - a, rcond=None)[0]
    if u >= 0 and v >= 0 and u + v <= 1:
        return np.array([1 - u - v, u, v])
    best, best_distance = None, np.inf
    for i, j in ((0, 1), (1, 2), (2, 0)):
        along = triangle[j] - triangle[i]
        t = np.clip((point - triangle[i]) @ along / (along @ along), 0, 1)
        distance = np.linalg.norm(triangle[i] + t * along - point)
        if distance < best_distance:
            best, best_distance = np.zeros(3), distance
            best[i], best[j] = 1 - t, t
    return best
