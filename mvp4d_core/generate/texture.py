# SPDX-License-Identifier: Apache-2.0
"""One photo to a whole head's texture: project what the photo sees, mirror what it does not, and fill the rest smoothly.

All of it happens on texels, the points of the UV atlas, each with a place on the symmetric template: neighbours and mirror images are
looked up there, so seams of the atlas do not matter.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ..cameras import project
from ..conditioning import frame_camera, resample_photo
from ..render.mesh import rasterize_mesh, rasterize_uv
from ..rig import HeadModel, skin, vertex_normals
from ..tracking.reference import Reference
from .interiors import paint_interiors

PHOTO_SIDE = 1024  # pixels of the head's crop that is projected
DEPTH_TOLERANCE = 0.0008  # metres: less than a folded lid is thick
KNOWN = 0.6  # weight from which a texel's photo colour stands
MIRROR_REACH = 0.0015  # metres between a texel and the mirror image that lends it colour
CELL = 0.006  # metres: side of the cells over which known colours are averaged before they spread
FEATHER = 0.008  # metres over which the photo fades out where hair and neck leave its sight
FADE = 0.02  # metres over which a side's own lighting gives way to the mean of both sides
NEIGHBOURS = 48
EDGE = 2.5  # photo pixels along the matte's edge where the background shines through
HANGING = 0.015  # metres the fit moves a surface outward where hair hangs over it
LASHES = 0.15  # of a lid's own colour that is the photographed lash line
INTERIORS = ("left_eyeball", "right_eyeball", "upper_teeth", "lower_teeth", "gums", "tongue", "mouth_cavity")


@dataclass(frozen=True)
class Texels:
    """The M covered texels of an atlas.

    Attributes:
        row, column: (M,) where they lie; `size` is the atlas' side.
        corners: (M, 3) vertex ids and barycentrics (M, 3) of the surface point each texel shows.
        canonical: (M, 3) that point on the template, metres.
    """

    row: np.ndarray
    column: np.ndarray
    size: int
    corners: np.ndarray
    barycentrics: np.ndarray
    canonical: np.ndarray

    def at(self, attributes: np.ndarray) -> np.ndarray:
        """Per-vertex attributes (V, D) at the texels: (M, D)."""
        return np.einsum("mk,mkd->md", self.barycentrics, attributes[self.corners])

    def within(self, vertex_mask: np.ndarray) -> np.ndarray:
        """(M,) bool: texels of triangles whose three corners are all in the mask (V,)."""
        return vertex_mask[self.corners].all(axis=1)


def atlas_texels(model: HeadModel, size: int) -> Texels:
    """The texels of the model's UV atlas at `size` x `size`."""
    buffers = rasterize_uv(model.uvs, model.uv_faces, size)
    row, column = np.nonzero(buffers.mask)
    corners = model.faces[buffers.face_ids[row, column]]
    barycentrics = buffers.barycentrics[row, column].astype(np.float64)
    canonical = np.einsum("mk,mkd->md", barycentrics, model.v_template[corners])
    return Texels(row, column, size, corners, barycentrics, canonical)


def paint_head(reference: Reference, model: HeadModel, size: int, seed: int) -> np.ndarray:
    """The texture (size, size, 3) float32 in 0..1 of a tracked photo's head."""
    rig = reference.rig(model)
    texels = atlas_texels(model, size)
    p = reference.parameters
    posed = skin(rig, None, p.expression, p.rotations, p.translation)
    colors, weight = project_photo(reference, posed, model, texels)

    inside = np.zeros(len(model.v_template), dtype=bool)
    for region in INTERIORS:
        if region in model.regions:
            inside |= model.region_mask(region)
    outer = np.flatnonzero(~texels.within(inside))
    unfolded = _unstretched(rig, posed, texels)
    weight *= unfolded
    features = texels.within(model.region_mask("face")) if "face" in model.regions else np.ones(len(colors), dtype=bool)
    hairiness, hair_like, doubtful = find_hair(reference, model, texels, colors, weight, features)
    weight[~features & (hairiness < 0.5) & doubtful] = 0  # shadows and collars beside the neck
    weight[outer] *= _feather(texels.canonical[outer], weight[outer], (features & (hairiness < 0.5))[outer])
    colors[outer] = complete(
        texels.canonical[outer], colors[outer], weight[outer], hairiness[outer], hair_like[outer], unfolded[outer] < 1, seed
    )
    normals = texels.at(vertex_normals(model.v_template, model.faces))
    colors = paint_interiors(colors, reference, model, texels.canonical, normals, texels.within, weight, seed)

    texture = np.zeros((size, size, 3), np.float32)
    texture[texels.row, texels.column] = np.clip(colors, 0, 1)
    covered = np.zeros((size, size), dtype=bool)
    covered[texels.row, texels.column] = True
    # texels between the charts take the nearest chart's colour, so that bilinear lookups at a seam never mix in nothing
    nearest = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return texture[tuple(nearest)]  # pyright: ignore[reportArgumentType]


def project_photo(reference: Reference, posed: np.ndarray, model: HeadModel, texels: Texels) -> tuple[np.ndarray, np.ndarray]:
    """Colours (M, 3) of texels as the photo shows them, and weights (M,) in 0..1: how well it does."""
    camera = frame_camera(reference.camera, posed, PHOTO_SIDE)
    image, matte = resample_photo(reference, camera)
    buffers = rasterize_mesh(posed, model.faces, camera)
    points, normals = texels.at(posed), texels.at(vertex_normals(posed, model.faces))
    pixels, depth = project(points, camera)
    where = [pixels[:, 1] - 0.5, pixels[:, 0] - 0.5]
    colors = np.stack([ndimage.map_coordinates(image[..., k], where, order=1, mode="nearest") for k in range(3)], axis=-1)
    edge = 2 * int(np.ceil(EDGE * camera.K[0, 0] / reference.camera.K[0, 0])) + 1
    solid = ndimage.map_coordinates(ndimage.minimum_filter(matte, edge), where, order=1, mode="constant")
    row, column = (np.clip(np.floor(pixels[:, k]).astype(int), 0, PHOTO_SIDE - 1) for k in (1, 0))
    # the farthest of the depths around the pixel: at a fold the nearer surface must not hide the edge of the one behind it
    surface = ndimage.maximum_filter(np.where(np.isfinite(buffers.depth), buffers.depth, 0), 3)[row, column]
    towards = camera.position - points
    cosine = np.einsum("md,md->m", normals, towards) / np.linalg.norm(towards, axis=1)
    facing = np.clip((cosine - 0.15) / 0.3, 0, 1)
    slope = np.sqrt(np.maximum(1 - cosine**2, 0)) / np.maximum(cosine, 0.1)
    visible = depth < surface + DEPTH_TOLERANCE + slope * depth / camera.K[0, 0]  # a pixel's own depth grows with the slope
    return colors, np.where(visible, facing * np.clip(solid * 10 - 9, 0, 1), 0)


def _unstretched(rig: HeadModel, posed: np.ndarray, texels: Texels) -> np.ndarray:
    """(M,) factors that drop skin the photo shows folded: closing the eyes pulls a lash line over the whole lid."""
    factor = np.ones(len(texels.corners))
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        if name in rig.expression_names:
            closed = posed + rig.exprdirs[:, :, rig.expression_names.index(name)]
            areas = [
                np.linalg.norm(
                    np.cross(v[texels.corners[:, 1]] - v[texels.corners[:, 0]], v[texels.corners[:, 2]] - v[texels.corners[:, 0]]), axis=1
                )
                for v in (posed, closed)
            ]
            factor *= np.clip(2.5 - areas[1] / np.maximum(areas[0], 1e-12), LASHES, 1)
    return factor


def _feather(canonical: np.ndarray, weight: np.ndarray, features: np.ndarray) -> np.ndarray:
    """(M,) factors that let the photo fade out towards what it does not show; inside the face, lids and lips keep their edges."""
    factor = np.ones(len(weight))
    unseen, seen = (weight < 0.05) & ~features, weight >= 0.05
    if unseen.any() and seen.any():
        cells, _ = _cell_means(canonical[unseen], np.zeros((np.count_nonzero(unseen), 1)), FEATHER / 6)
        distance, _ = cKDTree(cells).query(canonical[seen], workers=-1)
        factor[seen] = np.clip(distance / FEATHER, 0, 1)
    return factor


def find_hair(
    reference: Reference, model: HeadModel, texels: Texels, colors: np.ndarray, weight: np.ndarray, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far texels (M,) are under hair, 0 to 1; which colours (M,) are nearer the hair's than the face's; which are not clearly skin.

    Hair grows on the scalp, hides an ear whose photographed colour is mostly the hair's, and hangs where the fit moved the surface out.
    """
    mask = model.region_mask("scalp") if "scalp" in model.regions else np.zeros(len(model.v_template), dtype=bool)
    known = weight > KNOWN
    scalp = texels.at(mask[:, None].astype(float))[:, 0] > 0.5
    examples = colors[known & scalp], colors[known & features]
    hair_like, doubtful = _nearer_to(colors, *examples), _nearer_to(colors, *examples, favour=2.0)
    for ear in ("left_ear", "right_ear"):
        if ear in model.regions:
            seen = known & texels.within(model.region_mask(ear))
            if seen.any() and hair_like[seen].mean() > 0.5:
                mask[model.regions[ear]] = True
    moved = np.linalg.norm(reference.offsets, axis=1) > HANGING
    if "face" in model.regions:
        moved[model.regions["face"]] = False
    hairiness = texels.at(_smooth_over_faces((mask | moved).astype(float), model.faces, 3)[:, None])[:, 0]
    return np.clip(2.5 * hairiness - 0.75, 0, 1), hair_like, doubtful


def _smooth_over_faces(values: np.ndarray, faces: np.ndarray, rounds: int) -> np.ndarray:
    """Per-vertex values (V,), each round the mean over the triangles around a vertex of their corners' mean."""
    count = np.maximum(np.bincount(faces.ravel(), minlength=len(values)), 1)
    for _ in range(rounds):
        values = np.bincount(faces.ravel(), weights=np.repeat(values[faces].mean(axis=1), 3), minlength=len(values)) / count
    return values


def complete(
    canonical: np.ndarray,
    colors: np.ndarray,
    weight: np.ndarray,
    hairiness: np.ndarray,
    hair_like: np.ndarray,
    lids: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Colours (M, 3) of all outer texels from those that the photo shows.

    Three layers, each under the one before: the photo, its mirror image, and a smooth base of its kind (hair, skin, lids) that is alike on
    both sides of the head and bends towards what is known beside it. Hair gets strands.
    """
    known = weight > KNOWN
    if not known.any():
        return np.full_like(colors, 0.5)
    certain, lent = _mirror(canonical, colors, weight)
    # what the photo or its mirror image shows is what the base grows from
    have = known | (certain > 0.3)
    shown = np.where(known[:, None], colors, lent)
    hair = hairiness > 0.5
    skin = have & ~hair & ~hair_like
    bright = shown.mean(axis=1) > (np.median(shown[skin].mean(axis=1)) if skin.any() else 0)
    # hair that hangs over a cheek is no source for the skin of the neck, nor a forehead for hair, nor lashes for a lid
    layers = [
        (have & hair & hair_like, hairiness),
        (skin, (1 - hairiness) * ~lids),
        (skin & bright, (1 - hairiness) * lids),
    ]
    base = np.zeros_like(colors)
    for source, amount in layers:
        chosen, source = amount > 0, source if source.any() else have
        if chosen.any():
            base[chosen] += amount[chosen, None] * _smooth_base(canonical[source], shown[source], canonical[chosen])
    base += hairiness[:, None] * _strands(canonical, colors, known, hairiness > 0, seed)
    trust = np.clip(weight / KNOWN, 0, 1)[:, None]
    below = base + (lent - base) * certain[:, None]
    return colors * trust + below * (1 - trust)


def _nearer_to(colors: np.ndarray, these: np.ndarray, those: np.ndarray, favour: float = 1.0) -> np.ndarray:
    """(M,) bool: colours nearer to the median of `these` than `favour` times their distance to that of `those`."""
    if not len(these) or not len(those):
        return np.full(len(colors), bool(len(these)))
    distances = [np.linalg.norm(colors - np.median(group, axis=0), axis=1) for group in (these, those)]
    return distances[0] < favour * distances[1]


def _smooth_base(source: np.ndarray, values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A smooth extension of `values` at `source` to `points`, the same on both sides of the head far from them."""
    cells, means = _cell_means(source, values)
    both_sides, twice = np.concatenate([cells, cells * [-1, 1, 1]]), np.concatenate([means, means])
    symmetric = _neighbour_mean(both_sides, twice, points)
    residual = means - _neighbour_mean(both_sides, twice, cells)
    distance, _ = cKDTree(cells).query(points, workers=-1)
    fading = np.exp(-0.5 * (distance / FADE) ** 2)[:, None]
    return symmetric + fading * _neighbour_mean(cells, residual, points)


def _mirror(canonical: np.ndarray, colors: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How well (M,) a mirror image is known, from 0 to 1, and its colours (M, 3), shifted so that they meet the known ones beside them."""
    known = weight > KNOWN
    lent = np.zeros_like(colors)
    distance, index = cKDTree(canonical[known]).query(canonical * [-1, 1, 1], distance_upper_bound=MIRROR_REACH, workers=-1)
    near = distance < MIRROR_REACH
    lent[near] = colors[known][index[near]]
    both, wanted = known & near, near & ~known
    if both.any() and wanted.any():
        cells, shift = _cell_means(canonical[both], (colors - lent)[both])
        lent[wanted] += _neighbour_mean(cells, shift, canonical[wanted])
    certain = np.zeros(len(colors))
    certain[near] = (1 - distance[near] / MIRROR_REACH) * (weight[known][index[near]] - KNOWN) / (1 - KNOWN)
    return certain, lent


def _strands(canonical: np.ndarray, colors: np.ndarray, known: np.ndarray, hair: np.ndarray, seed: int) -> np.ndarray:
    """Light and dark (M, 3) that run from the crown down the unseen hair, as strong as the photographed hair's own."""
    result = np.zeros_like(colors)
    seen, unseen = known & hair, np.flatnonzero(hair & ~known)
    if np.count_nonzero(seen) < 100 or not len(unseen):
        return result
    cells, means = _cell_means(canonical[seen], colors[seen])
    contrast = (colors[seen] - means[cKDTree(cells).query(canonical[seen], workers=-1)[1]]).std(axis=0)
    centre = (canonical[hair].min(axis=0) + canonical[hair].max(axis=0)) / 2
    offset = canonical[unseen] - centre
    around = np.arctan2(offset[:, 0], -offset[:, 2])  # zero at the back, so that the jump lies on the photographed front
    down = np.arctan2(np.hypot(offset[:, 0], offset[:, 2]), offset[:, 1])
    rng = np.random.default_rng((seed, 11))
    wave = np.zeros(len(unseen))
    for frequency in (23, 41, 67, 113, 190):
        table = rng.normal(size=(frequency + 2, 12))
        # strands wander a little on their way down, and break into locks
        place = (around / (2 * np.pi) + 0.5 + 0.02 * np.sin(3 * down + frequency)) * frequency
        wave += ndimage.map_coordinates(table, [place % (frequency + 1), down / np.pi * 10], order=1) / 2.2
    result[unseen] = np.tanh(wave)[:, None] * contrast
    return result


def _cell_means(points: np.ndarray, values: np.ndarray, side: float = CELL) -> tuple[np.ndarray, np.ndarray]:
    """Mean places and mean values over the cells of a grid: evenly spread stand-ins for many points."""
    _, cell = np.unique(np.round(points / side).astype(np.int64), axis=0, return_inverse=True)
    cell = cell.ravel()
    count = np.bincount(cell)[:, None]
    summed = [np.stack([np.bincount(cell, weights=a[:, k]) for k in range(a.shape[1])], axis=-1) for a in (points, values)]
    return summed[0] / count, summed[1] / count


def _neighbour_mean(source: np.ndarray, values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Mean of `values` (S, D) around each of `points`, weighted by a Gaussian that widens with the distance to the nearest source."""
    distance, index = cKDTree(source).query(points, k=min(NEIGHBOURS, len(source)), workers=-1)
    distance, index = distance.reshape(len(points), -1), index.reshape(len(points), -1)
    width = CELL + 0.6 * distance[:, :1]
    weights = np.exp(-0.5 * (distance / width) ** 2)
    return np.einsum("mk,mkd->md", weights / weights.sum(axis=1, keepdims=True), values[index])
