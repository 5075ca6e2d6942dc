# SPDX-License-Identifier: Apache-2.0
"""Heads, how they move, and how Gaussians ride on them."""

from .arkit import ARKIT_NAMES, mirror_name
from .arkit_map import HeadMap, convert_performance, fit_head_map, perform_on
from .binding import TriangleFrames, bound_to_world, triangle_frames, world_to_bound
from .head_model import (
    OPEN_HEAD,
    HeadModel,
    head_model_digest,
    head_model_from_tensors,
    head_model_to_tensors,
    load_head_model,
    personalize,
    save_head_model,
)
from .mouth import with_mouth
from .performance import (
    Parameters,
    Performance,
    load_performance,
    performance_from_tensors,
    performance_to_tensors,
    rest_parameters,
    retarget,
    save_performance,
    single_frame,
)
from .performance_files import read_performance, write_performance
from .performance_library import arkit_faces, library_names, library_performance
from .showcase import showcase_performance
from .skinning import joint_transforms, pose_features, skin
from .surface import face_normals, head_box, vertex_normals

__all__ = [
    "ARKIT_NAMES",
    "OPEN_HEAD",
    "HeadMap",
    "HeadModel",
    "Parameters",
    "Performance",
    "TriangleFrames",
    "arkit_faces",
    "bound_to_world",
    "convert_performance",
    "face_normals",
    "fit_head_map",
    "head_box",
    "head_model_digest",
    "head_model_from_tensors",
    "head_model_to_tensors",
    "joint_transforms",
    "library_names",
    "library_performance",
    "load_head_model",
    "load_performance",
    "mirror_name",
    "perform_on",
    "performance_from_tensors",
    "performance_to_tensors",
    "personalize",
    "pose_features",
    "read_performance",
    "rest_parameters",
    "retarget",
    "save_head_model",
    "save_performance",
    "showcase_performance",
    "single_frame",
    "skin",
    "triangle_frames",
    "vertex_normals",
    "with_mouth",
    "world_to_bound",
    "write_performance",
]
