# SPDX-License-Identifier: Apache-2.0
"""Held-out people of the synthetic head studio as a generator meets them: a tracked photo and a plan, and the truth to judge it by."""

from dataclasses import dataclass, replace

import numpy as np

from ..cameras import Camera, crop_camera, project
from ..conditioning import ViewPlan, reference_camera, resample_photo
from ..errors import InputError
from ..generate.multiview import to_bytes
from ..render.mesh import rasterize_mesh
from ..rig import HeadModel, head_model_digest
from ..tracking.offsets import to_rest_pose
from ..tracking.reference import Reference, quantised
from ..tracking.regions import sides_of
from ..tracking.silhouette import Outline, find_outline, grow_hair
from ..training.synthetic.identity import identity_of
from ..training.synthetic.noise import named_rng
from ..training.synthetic.scenes import Scene, render_frame
from ..training.synthetic.studio import StudioSettings, scene, shoot
from ..training.synthetic.viewpoints import random_cameras
from .correspondence import REFERENCE_SAMPLES, Matches, is_visible, match_views, unseen_pixels

SPLIT = "heldout"
PHOTO_SCALE, PHOTO_MARGIN = 3, 0.15  # the photo's side over a frame's, and how much more it shows around the head on each side
TRAINING_SEEDS = 4096  # training seeds that held-out keys are compared with; the split's bit in every key covers all others
_CHIN, _EYES = 152, (468, 473)  # landmarks
_OUTLINE_BELOW_CHIN = 0.35  # of the distance from eyes to chin: lower down the outline is the neck's cut


@dataclass(frozen=True)
class HeldoutCase:
    """One person.

    Attributes:
        reference: the photo with its exact track. Its `offsets` are the tracker's own silhouette step on the true matte: what a perfect
            tracker without knowledge of the hair's shape would find.
        plan: V cameras and F frames.
        truth: (V, F, H, W, 3) uint8 on white.
        copied: (H, W, 3) uint8, the photo's crop at the frames' size.
        unseen: (V, F, H, W) bool, pixels of the person whose surface the photo doesn't show.
        matches: for each frame, the same surface points in pairs of views.
    """

    name: str
    reference: Reference
    plan: ViewPlan
    truth: np.ndarray
    copied: np.ndarray
    unseen: np.ndarray
    matches: tuple[list[Matches], ...]


def heldout_case(seed: int, *, head_model: HeadModel, views: int, frames: int, preset: int, size: int, threads: int = 1) -> HeldoutCase:
    """The person of a held-out seed. The photo is taken at the time of the first frame by a camera that is none of the V.

    Raises:
        InputError: counts or sizes the studio refuses.
    """
    place = scene(seed, head_model=head_model, frames=frames, size=size, split=SPLIT)
    photographer, *cameras = random_cameras(place, named_rng("cameras", place.person.key), views + 1, size, preset)
    plan = ViewPlan(tuple(cameras), place.performance, preset)
    clip = shoot(place, plan.cameras, settings=StudioSettings(threads=threads), name=f"{SPLIT}-{seed}")
    reference = take_photo(place, photographer, head_model, f"{SPLIT}-{seed}")
    first = place.poses[0].vertices
    depth = rasterize_mesh(first, place.faces, reference.camera, supersample=REFERENCE_SAMPLES).depth
    unseen = np.zeros(plan.shape, dtype=bool)
    matches = []
    for frame, pose in enumerate(place.poses):
        buffers = [rasterize_mesh(pose.vertices, place.faces, camera) for camera in cameras]
        for view, seen in enumerate(buffers):
            unseen[view, frame] = unseen_pixels(seen, place.faces, first, reference.camera, depth)
        matches.append(match_views(pose.vertices, place.faces, plan.cameras, buffers, clip.alphas[:, frame] == 255))
    return HeldoutCase(
        name=clip.name,
        reference=reference,
        plan=plan,
        truth=clip.frames,
        copied=to_bytes(resample_photo(reference, reference_camera(reference, reference.rig(head_model), size))[0]),
        unseen=unseen,
        matches=tuple(matches),
    )


def take_photo(place: Scene, camera: Camera, head_model: HeadModel, name: str) -> Reference:
    """The first frame as a photo that shows a little more than `camera`, finer, with its exact track.

    The head's root motion stays in the parameters, so that the photo's camera and the plan's are in one world, as in training.
    """
    size, around = camera.width, PHOTO_MARGIN * camera.width
    side = round(PHOTO_SCALE * (1 + 2 * PHOTO_MARGIN) * size)
    camera = crop_camera(camera, np.array([-around, -around, size + around, size + around]), side, side)
    image, alpha = render_frame(place, camera, 0)
    vertices = place.poses[0].vertices[: place.head_vertices].astype(np.float64)
    landmarks, _ = project(head_model.landmarks(vertices), camera)
    matte = quantised(alpha)
    bare = Reference(
        image=quantised(image + (1 - alpha)[..., None]),
        matte=matte,
        head_matte=matte,
        camera=camera,
        shape=np.asarray(place.person.shape, np.float32),
        offsets=np.zeros_like(head_model.v_template),
        parameters=place.performance[0],
        landmarks=landmarks.astype(np.float32),
        landmark_error_percent=0.0,
        faces_found=1,
        face=1,
        notices=(),
        warnings=(),
        head_name=head_model.name,
        head_digest=head_model_digest(head_model),
        source_sha256=name,
    )
    hair = grow_hair(place.rig, vertices, _outline(bare), camera, _covered_ears(place, camera))
    return replace(bare, offsets=to_rest_pose(place.rig, bare.parameters, hair).astype(np.float32))


def check_heldout(seeds: range) -> None:
    """Raises InputError where a person of these held-out seeds is also one of training's."""
    keys = {identity_of(seed, SPLIT) for seed in seeds}
    shared = keys & {identity_of(seed, "train") for seed in range(TRAINING_SEEDS)}
    bits = {key & 1 for key in keys} & {identity_of(seeds.start, "train") & 1}
    if shared or bits:
        raise InputError(f"Held-out people must not be training's, but {len(shared) or len(keys)} of {len(keys)} are; choose other seeds.")


def _outline(reference: Reference) -> Outline:
    """The matte's outline as far down as it is the head's."""
    height, width = reference.matte.shape
    chin, eyes = reference.landmarks[_CHIN, 1], reference.landmarks[list(_EYES), 1].mean()
    row, column = np.mgrid[:height, :width]
    trusted = (row < chin + _OUTLINE_BELOW_CHIN * (chin - eyes)) & (row > 1) & (column > 1) & (column < width - 2)
    return find_outline(reference.matte > 0.5, trusted)


def _covered_ears(place: Scene, camera: Camera) -> np.ndarray:
    """(V,) bool: the ears of which hair hides at least half of what would be seen without it."""
    vertices, faces = place.poses[0].vertices, place.faces
    head = vertices[: place.head_vertices]
    without = rasterize_mesh(head, faces[: place.head_faces], camera).depth
    seen = is_visible(head, camera, rasterize_mesh(vertices, faces, camera).depth, 1)
    bare = is_visible(head, camera, without, 1)
    covered = np.zeros(len(head), dtype=bool)
    for side in sides_of(place.rig, "ear"):
        if (side & bare).sum() >= 10 and (side & seen).sum() < 0.5 * (side & bare).sum():
            covered |= side
    return covered
