# SPDX-License-Identifier: Apache-2.0
"""Rebuilds mvp4d_core/tracking/assets/detector_habits.safetensors: how the face detector errs, measured on people of the training split.

Run it from the repository root when the detector or the open head changes: python tools/measure_detector_habits.py. The people, their
light, faces and cameras come from seeds; no held-out person is among them.
"""

import argparse
from pathlib import Path

import numpy as np

from mvp4d_core.cameras import Camera, orbit_camera, project
from mvp4d_core.rig import ARKIT_NAMES, HeadModel, load_head_model
from mvp4d_core.tracking.detector_habits import HABITS_FILE, measure_habits, save_habits
from mvp4d_core.tracking.face_models import FaceModels
from mvp4d_core.tracking.face_solver import face_axes
from mvp4d_core.training.synthetic.lights import random_background
from mvp4d_core.training.synthetic.noise import named_rng
from mvp4d_core.training.synthetic.scenes import render_frame
from mvp4d_core.training.synthetic.studio import StudioSettings, scene

FIRST_SEED, FRAMES, SIZE = 2000, 12, 512
OWN_MODES, MODES, RIDGE = 32, 32, 10.0
FOLLOWED = 2  # times the detector follows its own points, as it does in a video
STRAY = 0.2  # distances between the eyes: a face that was not found where it is


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=227)
    parser.add_argument("-o", "--output", type=Path, default=HABITS_FILE)
    arguments = parser.parse_args()
    model = load_head_model()
    errors, expressions, people = [], [], []
    with FaceModels() as models:
        for number in range(arguments.people):
            for error, expression in person(models, model, FIRST_SEED + number):
                errors.append(error)
                expressions.append(expression)
                people.append(number)
    numbers = np.unique(people, return_inverse=True)[1]
    habits = measure_habits(np.array(errors), np.array(expressions), numbers, OWN_MODES, MODES, RIDGE)
    source = (
        f"tools/measure_detector_habits.py: {numbers.max() + 1} people of the training split from seed {FIRST_SEED}, {len(errors)} frames"
    )
    save_habits(habits, arguments.output, source)


def person(models: FaceModels, model: HeadModel, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Errors (478, 2) in the face's axes and weights (52,) of a person's frames in which the face was found."""
    place = scene(seed, head_model=model, frames=FRAMES, size=SIZE, settings=StudioSettings(fps=2.0, atlas=512))
    rng = named_rng("habits", seed)
    camera, wall = photographer(rng), random_background(rng, SIZE)
    order = [model.expression_names.index(name) for name in ARKIT_NAMES]
    found = []
    for frame, pose in enumerate(place.poses):
        image, alpha = render_frame(place, camera, frame, supersample=2)
        picture = np.rint(np.clip(image + (1 - alpha)[..., None] * wall, 0, 1) * 255).astype(np.uint8)
        true, _ = project(model.landmarks(pose.vertices[: place.head_vertices].astype(np.float64)), camera)
        points: np.ndarray | None = true
        for _ in range(FOLLOWED):
            points = None if points is None else models.follow(picture, points)
        if points is None:
            continue
        error = (points[:, :2] - true) @ np.linalg.inv(face_axes(points)).T
        if np.linalg.norm(error, axis=1).mean() < STRAY:
            found.append((error, place.performance.expression[frame, order]))
    return found


def photographer(rng: np.random.Generator) -> Camera:
    """A camera before the face, near or far."""
    field, height = np.deg2rad(rng.uniform(14, 40)), rng.uniform(0.3, 0.5)
    azimuth, elevation = np.deg2rad([rng.uniform(-15, 15), rng.uniform(-10, 10)])
    distance = height / 2 / np.tan(field / 2)
    return orbit_camera(azimuth, elevation, target=np.zeros(3), distance=distance, fov_y=field, width=SIZE, height=SIZE)


if __name__ == "__main__":
    main()
