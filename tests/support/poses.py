# SPDX-License-Identifier: Apache-2.0
"""Random but repeatable things for a head to do."""

import numpy as np

from mvp4d_core.rig import HeadModel, Parameters, Performance


def random_parameters(rig: HeadModel, seed: int) -> Parameters:
    """Any expression in 0..1, every joint turned by up to half a radian an axis, the head moved by some centimetres."""
    generator = np.random.default_rng(seed)
    return Parameters(
        generator.uniform(0, 1, len(rig.expression_names)).astype(np.float32),
        generator.uniform(-0.5, 0.5, (len(rig.joint_names), 3)).astype(np.float32),
        generator.uniform(-0.05, 0.05, 3).astype(np.float32),
    )


def random_performance(rig: HeadModel, frames: int, seed: int = 0, fps: float = 24.0) -> Performance:
    """Unrelated random frames, some with expressions outside 0..1 and with turns beyond half a circle."""
    poses = [random_parameters(rig, 1000 * seed + frame) for frame in range(frames)]
    expression = np.stack([pose.expression for pose in poses]) * 1.6 - 0.3
    rotations = np.stack([pose.rotations for pose in poses])
    rotations[:, 0] *= 8
    translation = np.stack([pose.translation for pose in poses])
    return Performance(expression, rotations, translation, fps, rig.expression_names, rig.joint_names)
