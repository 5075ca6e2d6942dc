# SPDX-License-Identifier: Apache-2.0
"""What tracking knows of one photo, and its file."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cameras import Camera
from ..errors import FormatError, InputError
from ..io import safetensors_numpy
from ..io.schema import read_as
from ..rig import HeadModel, Parameters, head_model_digest, personalize
from .landmark_sets import LANDMARKS

SCHEMA = "mvp4d-reference/1"
_PICTURES = ("image", "matte", "head_matte")
_FLOATS = ("shape", "offsets", "landmarks")
_PARAMETERS = ("expression", "rotations", "translation")
_TEXTS = ("notices", "warnings", "head_name", "head_digest", "source_sha256")
_NUMBERS = ("landmark_error_percent", "faces_found", "face", "width", "height")


@dataclass(frozen=True)
class Reference:
    """A tracked portrait.

    Attributes:
        image: (H, W, 3) float32 in 0..1, the whole photo, upright; colours are multiples of 1/255.
        matte: (H, W) float32 in 0..1, the person; multiples of 1/255.
        head_matte: (H, W) float32 in 0..1, the head with its hair and the neck as far as it is bare; multiples of 1/255.
        camera: of the whole photo. The head's own motion is folded into it: the world is head space.
        shape: (S,) float32 identity, standard deviations.
        offsets: (V, 3) float32 metres, what no identity direction reaches, hair volume among it.
        parameters: expression and joint rotations of the photo; root rotation and translation are zero.
        landmarks: (478, 2) float32 pixels, as detected.
        landmark_error_percent: mean distance of the model's landmarks from these, over the distance between the eyes.
        faces_found: in the photo; `face` is the one that was taken, 1 being the largest.
        notices, warnings: what a person should know, and what they should look at the overlay for.
        head_name, head_digest: the head model it was fitted with.
        source_sha256: of the photo's file, or empty.
    """

    image: np.ndarray
    matte: np.ndarray
    head_matte: np.ndarray
    camera: Camera
    shape: np.ndarray
    offsets: np.ndarray
    parameters: Parameters
    landmarks: np.ndarray
    landmark_error_percent: float
    faces_found: int
    face: int
    notices: tuple[str, ...]
    warnings: tuple[str, ...]
    head_name: str
    head_digest: str
    source_sha256: str

    def __post_init__(self) -> None:
        height, width = self.camera.height, self.camera.width
        vertices = self.offsets.shape[0] if self.offsets.ndim == 2 else 0
        wanted = {
            "image": (self.image, (height, width, 3)),
            "matte": (self.matte, (height, width)),
            "head_matte": (self.head_matte, (height, width)),
            "shape": (self.shape, (self.shape.size,)),
            "offsets": (self.offsets, (vertices, 3)),
            "landmarks": (self.landmarks, (LANDMARKS, 2)),
            "expression": (self.parameters.expression, (self.parameters.expression.size,)),
            "rotations": (self.parameters.rotations, (self.parameters.rotations.shape[0] if self.parameters.rotations.ndim else 0, 3)),
            "translation": (self.parameters.translation, (3,)),
        }
        for name, (array, shape) in wanted.items():
            if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
                raise FormatError(f"`{name}` of a reference must be finite float32 {shape}, got {array.dtype} {array.shape}.")
        for name in _PICTURES:
            array = getattr(self, name)
            if array.min() < 0 or array.max() > 1:
                raise FormatError(f"`{name}` of a reference must lie in 0..1, got {array.min()}..{array.max()}.")
        if not 1 <= self.face <= self.faces_found:
            raise FormatError(f"`face` of a reference must be from 1 to {self.faces_found}, got {self.face}.")

    def rig(self, head_model: HeadModel) -> HeadModel:
        """The person's own head.

        Raises:
            InputError: `head_model` is not the head that was fitted.
        """
        digest = head_model_digest(head_model)
        if digest != self.head_digest:
            raise InputError(
                f"The portrait was tracked with the head `{self.head_name}` ({self.head_digest[:12]}), "
                f"got `{head_model.name}` ({digest[:12]}).\nGive that head, or track the photo again."
            )
        return personalize(head_model, self.shape, self.offsets)


def quantised(picture: np.ndarray) -> np.ndarray:
    """float32 in 0..1 on the 256 levels that a reference keeps, so that its file gives back the same numbers."""
    return _unpacked(_packed(picture))


def save_reference(reference: Reference, path: str | Path) -> None:
    """Writes one safetensors file, atomically."""
    tensors = {name: _packed(getattr(reference, name)) for name in _PICTURES}
    tensors |= {name: getattr(reference, name) for name in _FLOATS}
    tensors |= {f"parameters.{name}": getattr(reference.parameters, name) for name in _PARAMETERS}
    tensors |= {"camera.K": reference.camera.K, "camera.camera_from_world": reference.camera.camera_from_world}
    texts = {name: getattr(reference, name) for name in _TEXTS}
    numbers = {name: getattr(reference, name) for name in _NUMBERS[:3]} | {
        "width": reference.camera.width,
        "height": reference.camera.height,
    }
    safetensors_numpy.write(path, tensors, {"schema": SCHEMA, "reference": json.dumps({**texts, **numbers})})


def load_reference(path: str | Path) -> Reference:
    """Reads what `save_reference` wrote.

    Raises:
        FormatError: another schema, or truncated, damaged or hostile.
    """
    tensors, metadata = read_as(path, SCHEMA, "a tracked portrait")
    name = Path(path).name
    try:
        facts = _checked_facts(json.loads(metadata["reference"]))
        pictures = {key: _unpacked(_bytes(tensors[key])) for key in _PICTURES}
        camera = Camera(tensors["camera.K"], tensors["camera.camera_from_world"], facts.pop("width"), facts.pop("height"))
        parameters = Parameters(*(tensors[f"parameters.{key}"] for key in _PARAMETERS))
        floats = {key: tensors[key] for key in _FLOATS}
        return Reference(**pictures, **floats, camera=camera, parameters=parameters, **facts)
    except (KeyError, ValueError, TypeError, RecursionError, InputError, FormatError) as error:
        raise FormatError(f"{name} is a damaged tracked portrait ({error}); track the photo again.") from None


def _checked_facts(facts: object) -> dict:
    """The texts and numbers of a file, each of its kind."""
    if not isinstance(facts, dict) or set(facts) != {*_TEXTS, *_NUMBERS}:
        raise ValueError("its facts are not those of a portrait")
    for key in ("notices", "warnings"):
        if not isinstance(facts[key], list) or not all(isinstance(text, str) for text in facts[key]):
            raise ValueError(f"`{key}` must be a list of texts")
        facts[key] = tuple(facts[key])
    for key in ("head_name", "head_digest", "source_sha256"):
        if not isinstance(facts[key], str):
            raise ValueError(f"`{key}` must be a text")
    for key in ("faces_found", "face", "width", "height"):
        if type(facts[key]) is not int:
            raise ValueError(f"`{key}` must be a whole number")
    error = facts["landmark_error_percent"]
    if type(error) not in (int, float) or not 0 <= error < float("inf"):
        raise ValueError("`landmark_error_percent` must be a number of at least 0")
    facts["landmark_error_percent"] = float(error)
    return facts


def _packed(picture: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(picture, 0, 1) * np.float32(255)).astype(np.uint8)


def _unpacked(levels: np.ndarray) -> np.ndarray:
    return levels.astype(np.float32) / np.float32(255)


def _bytes(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.size == 0:
        raise ValueError(f"pictures must be uint8, got {array.dtype} {array.shape}")
    return array
