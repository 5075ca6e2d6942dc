# SPDX-License-Identifier: Apache-2.0
"""The `.mvp4d` file: one safetensors file, so nothing in it can run code or escape a folder.

Tensors: `gaussians.*` (see `GaussianAvatar`) and, where the head's licence lets it travel, the personalised rig as `rig.*`. A head that may
not travel is left out. Then what is the person's own stays: `identity.shape` (S,) and `identity.offsets` (V, 3) for `personalize`; where a
fit corrected the head, `identity.template` (V, 3) and `identity.expressions` (V, 3, E), metres to add; and in the metadata the digest by
which the head is asked for, and whether it had no mouth (`with_mouth`).
Metadata: `schema`, the rig's texts as `rig.*`, and the avatar's own texts. Numpy alone reads and writes it.
"""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import FormatError, InputError, MissingAssetError
from ..io import safetensors_numpy
from ..io.schema import read_as
from ..rig import HeadModel, head_model_digest, head_model_from_tensors, head_model_to_tensors, personalize, with_mouth
from .baked_rig import IMPORTED_LICENCE
from .gaussian_avatar import GAUSSIAN_ARRAYS, GaussianAvatar

SCHEMA = "mvp4d-avatar/1"
FREE_LICENCES = ("CC0-1.0", "CC-BY-4.0", "Apache-2.0", "MIT")
_TRAVELLING = (*FREE_LICENCES, IMPORTED_LICENCE)  # an imported animation's head is one person's mesh, and no model of heads
_CORRECTIONS = {"identity.template": "v_template", "identity.expressions": "exprdirs"}
_GAUSSIANS = (*GAUSSIAN_ARRAYS, "binding")
Value = TypeVar("Value")


def save_avatar(path: str | Path, avatar: GaussianAvatar, *, head_model: HeadModel | None = None, shape: np.ndarray | None = None) -> None:
    """Writes an avatar atomically.

    Args:
        head_model, shape: the head before it was personalised and its (S,) coefficients; wanted only when the rig's licence keeps it from
            travelling.

    Raises:
        InputError: the rig may not travel and `head_model` or `shape` is not given, or its mesh is neither that head's nor that head's with
            a mouth.
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
        own, texts = _identity(avatar.rig, head_model, np.asarray(shape, np.float32))
        tensors |= own
        metadata |= texts
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


def load_identity(path: str | Path) -> np.ndarray | None:
    """The (S,) coefficients of the person on the head that an avatar's file asks for, None where the file carries its head; for saving it
    again. Raises FormatError as `load_avatar`.
    """
    return read_as(path, SCHEMA, "an avatar")[0].get("identity.shape")


def _below(prefix: str, entries: dict[str, Value]) -> dict[str, Value]:
    return {key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)}


def _licensed_rig(name: str, tensors: dict[str, np.ndarray], metadata: dict[str, str], head_model: HeadModel | None) -> HeadModel:
    wanted = f"`{metadata.get('rig_name', '?')}` (digest {metadata['rig_digest'][:12]})"
    if head_model is None:
        raise MissingAssetError(
            f"{name} rides on the licensed head {wanted}, which may not travel inside it.\nName your copy of that head (--rig)."
        )
    if head_model_digest(head_model) != metadata["rig_digest"]:
        raise InputError(f"{name} wants the head {wanted}, got `{head_model.name}` (digest {head_model_digest(head_model)[:12]}).")
    if "identity.shape" not in tensors or "identity.offsets" not in tensors:
        raise FormatError(f"{name} lacks identity.shape or identity.offsets; it was cut short or written by something else.")
    shape, offsets = tensors["identity.shape"], tensors["identity.offsets"]
    if shape.shape != (head_model.shapedirs.shape[2],) or offsets.shape != head_model.v_template.shape:
        raise FormatError(f"{name} has an identity of {shape.shape} and {offsets.shape} that does not fit the head {wanted}.")
    rig = personalize(head_model, shape, offsets)
    if metadata.get("rig_mouth") == "true":
        rig = with_mouth(rig)
    corrected = {}
    for key, field in _CORRECTIONS.items():
        if key in tensors:
            before = getattr(rig, field)
            if tensors[key].shape != before.shape:
                raise FormatError(f"{name} has {key} of {tensors[key].shape}, where the head {wanted} wants {before.shape}.")
            corrected[field] = (before + tensors[key]).astype(np.float32)
    return replace(rig, **corrected)


def _identity(rig: HeadModel, head_model: HeadModel, shape: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and texts from which `_licensed_rig` makes `rig` again."""
    offsets = rig.static_offsets[: len(head_model.v_template)]
    plain = personalize(head_model, shape, offsets) if offsets.shape == head_model.v_template.shape else head_model
    mouth = len(rig.v_template) > len(plain.v_template)
    plain = with_mouth(plain) if mouth else plain
    if not np.array_equal(rig.faces, plain.faces):
        raise InputError(
            f"The avatar's mesh is not that of `{head_model.name}`, whose licence keeps remeshed copies from travelling.\n"
            "Fit it with `remesh` 0."
        )
    corrections = {key: getattr(rig, field) - getattr(plain, field) for key, field in _CORRECTIONS.items()}
    tensors = {"identity.shape": shape, "identity.offsets": offsets} | {key: c for key, c in corrections.items() if c.any()}
    return tensors, {"rig_name": head_model.name, "rig_digest": head_model_digest(head_model), "rig_mouth": str(mouth).lower()}
