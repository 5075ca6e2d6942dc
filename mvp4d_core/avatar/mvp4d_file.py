# SPDX-License-Identifier: Apache-2.0
"""The `.mvp4d` file: one safetensors file, so nothing in it can run code or escape a folder.

Tensors: `gaussians.*` (see `GaussianAvatar`) and, where the head's licence lets it travel, the personalised rig as `rig.*`. A head that may
not travel is left out; then `identity.shape` and `identity.offsets` stay and the head is asked for by the digest in the metadata.
Metadata: `schema`, the rig's texts as `rig.*`, and the avatar's own texts. Numpy alone reads and writes it.
"""

from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import FormatError, InputError, MissingAssetError
from ..io import safetensors_numpy
from ..io.schema import read_as
from ..rig import HeadModel, head_model_digest, head_model_from_tensors, head_model_to_tensors, personalize
from .baked_rig import IMPORTED_LICENCE
from .gaussian_avatar import GAUSSIAN_ARRAYS, GaussianAvatar

SCHEMA = "mvp4d-avatar/1"
FREE_LICENCES = ("CC0-1.0", "CC-BY-4.0", "Apache-2.0", "MIT")
_TRAVELLING = (*FREE_LICENCES, IMPORTED_LICENCE)  # an imported animation's head is one person's mesh, and no model of heads
_GAUSSIANS = (*GAUSSIAN_ARRAYS, "binding")
Value = TypeVar("Value")


def save_avatar(path: str | Path, avatar: GaussianAvatar, *, head_model: HeadModel | None = None, shape: np.ndarray | None = None) -> None:
    """Writes an avatar atomically.

    Args:
        head_model, shape: the head before it was personalised and its (S,) coefficients; wanted only when the rig's licence keeps it from
            travelling.

    Raises:
        InputError: the rig may not travel and `head_model` or `shape` is not given.
    """
    tensors = {f"gaussians.{name}": getattr(avatar, name) for name in _GAUSSIANS}
    metadata = {"schema": SCHEMA, **{f"avatar.{key}": text for key, text in avatar.metadata.items()}}
    if may_travel(avatar.rig):
        rig_tensors, rig_texts = head_model_to_tensors(avatar.rig)
        tensors |= {f"rig.{name}": array for name, array in rig_tensors.items()}
        metadata |= {f"rig.{name}": text for name, text in rig_texts.items()}
    else:
        if head_model is None or shape is None:
            raise InputError(
                f"The head `{avatar.rig.name}` ({avatar.rig.licence}) may not travel in an avatar: give its head_model and shape."
            )
        tensors |= {"identity.shape": np.asarray(shape, np.float32), "identity.offsets": avatar.rig.static_offsets}
        metadata |= {"rig_name": head_model.name, "rig_digest": head_model_digest(head_model)}
    safetensors_numpy.write(path, tensors, metadata)


def may_travel(rig: HeadModel) -> bool:
    """Whether a rig's licence lets it lie inside an avatar's file."""
    return rig.licence in _TRAVELLING


def load_avatar(path: str | Path, *, head_model: HeadModel | None = None) -> GaussianAvatar:
    """Reads an avatar.

    Args:
        head_model: the licensed head of an avatar that does not carry its own.

    Raises:
        FormatError: not an avatar, another schema, truncated or hostile.
        MissingAssetError: the avatar needs a licensed head; the message names it.
    """
    name = Path(path).name
    tensors, metadata = read_as(path, SCHEMA, "an avatar")
    missing = [key for key in _GAUSSIANS if f"gaussians.{key}" not in tensors]
    if missing:
        raise FormatError(f"{name} lacks gaussians.{', gaussians.'.join(missing)}; it was cut short or written by something else.")
    texts = _below("avatar.", metadata)
    rig = _licensed_rig(name, tensors, metadata, head_model) if "rig_digest" in metadata else None
    try:
        if rig is None:
            rig = head_model_from_tensors(_below("rig.", tensors), _below("rig.", metadata))
        return GaussianAvatar(**{key: tensors[f"gaussians.{key}"] for key in _GAUSSIANS}, rig=rig, metadata=texts)
    except FormatError as error:
        raise FormatError(f"{name} is a damaged avatar: {error}") from None


def _below(prefix: str, entries: dict[str, Value]) -> dict[str, Value]:
    return {key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)}


def _licensed_rig(name: str, tensors: dict[str, np.ndarray], metadata: dict[str, str], head_model: HeadModel | None) -> HeadModel:
    wanted = f"`{metadata.get('rig_name', '?')}` (digest {metadata['rig_digest'][:12]})"
    if head_model is None:
        raise MissingAssetError(
            f"{name} rides on the licensed head {wanted}, which may not travel inside it.\nGive your copy of that head with --rig."
        )
    if head_model_digest(head_model) != metadata["rig_digest"]:
        raise InputError(f"{name} wants the head {wanted}, got `{head_model.name}` (digest {head_model_digest(head_model)[:12]}).")
    if "identity.shape" not in tensors or "identity.offsets" not in tensors:
        raise FormatError(f"{name} lacks identity.shape or identity.offsets; it was cut short or written by something else.")
    shape, offsets = tensors["identity.shape"], tensors["identity.offsets"]
    if shape.shape != (head_model.shapedirs.shape[2],) or offsets.shape != head_model.v_template.shape:
        raise FormatError(f"{name} has an identity of {shape.shape} and {offsets.shape} that does not fit the head {wanted}.")
    return personalize(head_model, shape, offsets)
