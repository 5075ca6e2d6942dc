# SPDX-License-Identifier: Apache-2.0
"""Loading weights: what a file claims is checked before anything is built from it or read at length.

Only safetensors are read. Names, shapes and sizes come from the files' headers; `config.json` must agree with them; then the tensors are
read one by one and must be finite. Whatever is wrong, the error is one line that names the file and the cure.

A transformer may be ours, CogVideoX-2B's in diffusers' layout (one file, or shards with an index), or one file of it with diffusers' names
or with those of the original release.
"""

import inspect
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import FormatError, MissingAssetError
from ..io.limits import MIB, Limits
from ..io.os_errors import cannot_read
from ..io.reading import open_input
from . import original_names
from .transformer import MVP4DTransformer3DModel

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
CONFIG = "config.json"
MAPS = "patch_embed.map_proj.weight"
TEXT = "patch_embed.text_proj."
JSON_LIMITS = Limits(file_bytes=MIB)
MOST = 1 << 16  # of any whole number in a config.json
MOST_CHANNELS = 256  # of latents
SHOWN = 3  # names that a message repeats
TRANSFORMERS, VAES = ("MVP4DTransformer3DModel", "CogVideoXTransformer3DModel"), ("AutoencoderKLCogVideoX",)  # classes in a config.json
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
TO_SAFETENSORS = "Load it with diffusers where you trust it and save it with `save_pretrained(FOLDER, safe_serialization=True)`."
OWN = "Give the weights of this model, whole."
STOCK = "Use CogVideoX-2B's weights."
WHOLE = "Copy or download it again."

Shape = tuple[int, ...]


def load_transformer(
    path: str | os.PathLike[str], *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, drop_text: bool = False
) -> MVP4DTransformer3DModel:
    """The transformer in `path`, in evaluation mode.

    Args:
        path: a folder with `config.json` and weights, a pipeline's folder with such a folder `transformer`, or a safetensors file. A file
            without a `config.json` beside it is taken for CogVideoX-2B's; its sizes are those of its tensors.
        device: where the weights go; `meta` leaves them unread, so that all but their values is checked.
        dtype: what they become.
        drop_text: leave out the parts that only text tokens use. Without text the outputs are the same.

    Weights without map projection get one of zeros, which changes nothing.

    Raises:
        FormatError: another model, missing, unexpected or misshapen tensors, values that are not finite, damage, or pickle.
        MissingAssetError: no such file or folder, or a part of it is missing.
    """
    path, files = _find(Path(path), "transformer")
    weights = _read_headers(path, files)
    parts = _original_parts(weights) if any(name.startswith(original_names.PREFIX) for name in weights.shapes) else _plain_parts(weights)
    shapes = {name: part.shape for name, part in parts.items()}
    config = _transformer_config(path, shapes, files[0].parent / CONFIG)
    model = _on_meta(path, MVP4DTransformer3DModel, config)
    wanted = _check_shapes(path, model, shapes, optional=(MAPS,))
    state = _read(weights, parts, torch.device(device), dtype)
    if MAPS not in state:
        state[MAPS] = torch.zeros(wanted[MAPS], device=device, dtype=dtype)
    if drop_text and config["text_embed_dim"] is not None:
        model = _on_meta(path, MVP4DTransformer3DModel, config | {"text_embed_dim": None})
        state = without_text(state)
    return _filled(model, state)


def load_vae(
    path: str | os.PathLike[str], *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> AutoencoderKLCogVideoX:
    """The video autoencoder in `path`, in evaluation mode: its folder in diffusers' layout, or a pipeline's with such a folder `vae`.

    Raises:
        FormatError: another model, missing, unexpected or misshapen tensors, values that are not finite, damage, or pickle.
        MissingAssetError: no such folder, or a part of it is missing.
    """
    path, files = _find(Path(path), "vae")
    weights = _read_headers(path, files)
    config = _read_config(path, files[0].parent / CONFIG, AutoencoderKLCogVideoX, VAES)
    if config["layers_per_block"] * len(config["block_out_channels"]) > len(weights.shapes):
        raise FormatError(f"{path} lacks weights: {CONFIG} describes more layers than its {len(weights.shapes)} tensors can be. {WHOLE}")
    model = _on_meta(path, AutoencoderKLCogVideoX, config)
    _check_shapes(path, model, weights.shapes)
    return _filled(model, _read(weights, _plain_parts(weights), torch.device(device), dtype))


def read_settings(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a pipeline folder's transformer and of its autoencoder. Weights are not looked for.

    Raises:
        FormatError: another model's, or damaged.
        MissingAssetError: a part has no `config.json`.
    """
    transformer, vae = Path(path) / "transformer", Path(path) / "vae"
    return (
        _read_config(transformer, transformer / CONFIG, MVP4DTransformer3DModel, TRANSFORMERS),
        _read_config(vae, vae / CONFIG, AutoencoderKLCogVideoX, VAES),
    )


def without_text(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a transformer with text less what only text tokens use: their projection and the second half of each modulation."""
    modulation = re.compile(r"transformer_blocks\.\d+\.norm[12]\.linear\.(weight|bias)")
    return {
        name: tensor[: len(tensor) // 2].clone() if modulation.fullmatch(name) else tensor
        for name, tensor in state.items()
        if not name.startswith(TEXT)
    }


# Files


def _find(path: Path, component: str) -> tuple[Path, list[Path]]:
    """The folder or file that is meant, and the weight files in it."""
    if path.is_file():
        _refuse_pickle(path)
        if path.suffix != ".safetensors":
            raise FormatError(f"{path} is no safetensors file. Give a .safetensors file or a folder with {CONFIG} and {WEIGHTS}.")
        return path, [path]
    folder = path / component if (path / component).is_dir() else path
    if not folder.is_dir():
        raise MissingAssetError(f"There is no {component} at {path}: no such file or folder. Give the folder of the weights.")
    if (folder / WEIGHTS).is_file():
        return folder, [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return folder, _shards(folder)
    for file in sorted(folder.iterdir()):
        _refuse_pickle(file)
    raise MissingAssetError(f"There is no {component} in {path}: neither {WEIGHTS} nor its index. Give the folder of the weights.")


def _refuse_pickle(path: Path) -> None:
    if path.suffix.lower() in PICKLES:
        raise FormatError(f"{path} may hold pickled code and is not opened: only safetensors are. {TO_SAFETENSORS}")


def _shards(folder: Path) -> list[Path]:
    names = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise FormatError(f"{folder / INDEX} has no `weight_map` of file names. {WHOLE}")
    for name in sorted(set(names.values())):
        if name != Path(name).name or "\\" in name or not name.endswith(".safetensors"):
            raise FormatError(f"{folder / INDEX} names {name[:80]!r}: a shard must be a .safetensors file in the same folder. {WHOLE}")
        if not (folder / name).is_file():
            raise MissingAssetError(f"{folder} lacks the shard {name[:80]} that its index names. Copy or download that file too.")
    return [folder / name for name in sorted(set(names.values()))]


def _read_json(path: Path) -> dict[str, Any]:
    with open_input(path, JSON_LIMITS) as (stream, _):
        text = stream.read()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not valid JSON. {WHOLE}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path} must hold a JSON object, got {type(found).__name__}. {WHOLE}")
    return found


@dataclass(frozen=True)
class _Weights:
    path: Path
    files: dict[str, Path]
    """The file of each tensor."""
    shapes: dict[str, Shape]


@dataclass(frozen=True)
class _Part:
    """A tensor of the model: the `chunks` of `count` equal chunks of the rows of the file's tensor `source`."""

    source: str
    shape: Shape
    chunks: tuple[int, ...] = (0,)
    count: int = 1


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file for torch."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except OSError as error:
        raise cannot_read(path, error) from error
    except SafetensorError as error:
        reason = re.sub(r"\s+", " ", str(error))[:120]
        raise FormatError(f"{path} is not a whole safetensors file ({reason}). {WHOLE}") from error


def _read_headers(path: Path, files: list[Path]) -> _Weights:
    """Names and shapes of all tensors."""
    places, shapes = {}, {}
    for file in files:
        with _opened(file) as header:
            for name in header.keys():
                entry = header.get_slice(name)
                if entry.get_dtype() not in ("F64", "F32", "F16", "BF16"):
                    raise FormatError(f"{path} holds {name[:80]!r} as {entry.get_dtype()}, weights must be F16, BF16 or F32. Convert them.")
                if name in places:
                    raise FormatError(f"{path} holds {name[:80]!r} twice, in {places[name].name} and {file.name}. {WHOLE}")
                places[name], shapes[name] = file, tuple(entry.get_shape())
    return _Weights(path, places, shapes)


def _plain_parts(weights: _Weights) -> dict[str, _Part]:
    return {name: _Part(name, shape) for name, shape in weights.shapes.items()}


def _original_parts(weights: _Weights) -> dict[str, _Part]:
    """The model's tensors as parts of those of the original release."""
    parts: dict[str, _Part] = {}
    for source, shape in weights.shapes.items():
        if source.startswith(original_names.ROTARY):
            raise FormatError(f"{weights.path} is another model: it has rotary positions, as CogVideoX-5B. {STOCK}")
        if source.startswith((*original_names.OTHER_MODELS, *original_names.UNUSED)):
            continue
        for target, chunks, count in original_names.diffusers_names(source):
            if not shape or shape[0] % count:
                raise FormatError(f"{weights.path} has {source[:80]} of shape {shape}, its rows must be a multiple of {count}. {WHOLE}")
            parts[target] = _Part(source, (shape[0] // count * len(chunks), *shape[1:]), chunks, count)
    return parts


def _read(weights: _Weights, parts: dict[str, _Part], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of the model; copies, so that the file may be written again while they are in use."""
    if device.type == "meta":
        return {name: torch.zeros(part.shape, device=device, dtype=dtype) for name, part in parts.items()}
    state = {}
    for file in sorted(set(weights.files.values())):
        with _opened(file) as opened:
            for name, part in parts.items():
                if weights.files[part.source] != file:
                    continue
                tensor = opened.get_tensor(part.source)
                if part.count > 1:
                    chunks = tensor.chunk(part.count)
                    tensor = torch.cat([chunks[index] for index in part.chunks])
                tensor = tensor.to(device, dtype, copy=True)
                if not tensor.isfinite().all():
                    raise FormatError(f"{weights.path} holds values in {name} that are NaN, infinite or beyond {dtype}. Use other weights.")
                state[name] = tensor
    return state


# Configurations


def _read_config(path: Path, file: Path, model: type, classes: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of `model` in `file`, each of its default's kind and within bounds; what is not said has its default."""
    if not file.is_file():
        raise MissingAssetError(f"{path} lacks {CONFIG}. Copy it from where the weights come from.")
    found = _read_json(file)
    name = found.get("_class_name")
    if name not in classes:
        raise FormatError(f"{path} is another model: `_class_name` must be {' or '.join(classes)}, got {str(name)[:40]!r}.")
    parameters = inspect.signature(model.__init__).parameters
    config = {key: parameter.default for key, parameter in parameters.items() if parameter.default is not parameter.empty}
    for key, value in found.items():
        if key in config:
            if not (_fits(value, config[key]) or (key == "text_embed_dim" and value is None) or _is_moment(key, value)):
                raise FormatError(f"{file} has {key[:60]} = {str(value)[:60]!r}, which is not a value like {config[key]!r}. {WHOLE}")
            config[key] = value
        elif value and not key.startswith("_"):
            raise FormatError(f"{path} is another model: {CONFIG} has {key[:60]} = {str(value)[:40]!r}, which this one lacks. {STOCK}")
    for key in ("latents_mean", "latents_std"):
        if config.get(key) and len(config[key]) != config["latent_channels"]:
            raise FormatError(f"{file} has {len(config[key])} numbers of {key} for {config['latent_channels']} latent channels. {WHOLE}")
    return config


def _is_moment(key: str, value: object) -> bool:
    """Whether it is the mean or the deviation of an autoencoder's latents, a number a channel."""
    if key not in ("latents_mean", "latents_std") or not isinstance(value, list) or not 0 < len(value) <= MOST_CHANNELS:
        return False
    lowest = -MOST if key == "latents_mean" else 1e-6
    return all(isinstance(item, int | float) and not isinstance(item, bool) and lowest <= item <= MOST for item in value)


def _fits(value: object, default: object) -> bool:
    """Whether `value` is of the kind of `default` and of a sane size."""
    if default is None or value is None or isinstance(default, bool) or isinstance(value, bool):
        return type(value) is type(default)
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and 0 < len(value) <= 16 and all(_fits(item, default[0]) for item in value)
    if isinstance(default, int | float):
        whole = isinstance(default, int) and not isinstance(value, int)
        return isinstance(value, int | float) and not whole and math.isfinite(value) and 0 <= value <= MOST
    return isinstance(value, str) and len(value) <= 60


def _transformer_config(path: Path, shapes: dict[str, Shape], file: Path) -> dict[str, Any]:
    """What the shapes tell, and the rest from `file`; without it, CogVideoX-2B's."""
    found = _config_of_shapes(path, shapes)
    if path.is_file() and not file.is_file():
        if MAPS in shapes:
            raise MissingAssetError(f"{path} lacks {CONFIG} beside it. Copy that file from where the weights come from.")
        if found["num_attention_heads"] == 48 and found["num_layers"] == 42:
            raise FormatError(f"{path} is another model: CogVideoX-5B by its size. {STOCK}")
        said: dict[str, Any] = {}
    else:
        said = _read_config(path, file, MVP4DTransformer3DModel, TRANSFORMERS)
        for key, value in found.items():
            if said[key] != value:
                raise FormatError(f"{path} contradicts itself: {CONFIG} says {key} = {said[key]!r}, its tensors say {value!r}. {WHOLE}")
    if found["in_channels"] != found["out_channels"]:
        channels = f"{found['in_channels']} channels and gives {found['out_channels']}"
        raise FormatError(f"{path} is another model: it takes {channels}, as one that animates pictures. {STOCK}")
    return said | found


def _config_of_shapes(path: Path, shapes: dict[str, Shape]) -> dict[str, Any]:
    """The arguments of the model that the shapes of its tensors tell."""
    width, channels, patch, _ = _sides(path, shapes, "patch_embed.proj.weight", 4)
    (head,) = _sides(path, shapes, "transformer_blocks.0.attn1.norm_q.weight", 1)
    time_embed_dim, _ = _sides(path, shapes, "time_embedding.linear_1.weight", 2)
    outputs, _ = _sides(path, shapes, "proj_out.weight", 2)
    if width % head or width % 16:
        raise FormatError(f"{path} has impossible sizes: its width {width} must be a multiple of 16 and of its heads' {head}. {WHOLE}")
    layers = {int(match[1]) for name in shapes if (match := re.match(r"transformer_blocks\.(\d{1,4})\.", name))}
    if layers != set(range(len(layers))):
        raise FormatError(f"{path} lacks weights: it has {len(layers)} blocks of {max(layers) + 1}. {WHOLE}")
    config = {
        "num_attention_heads": width // head, "attention_head_dim": head, "in_channels": channels, "out_channels": outputs // patch**2,
        "patch_size": patch, "time_embed_dim": time_embed_dim, "num_layers": len(layers),
        "text_embed_dim": _sides(path, shapes, f"{TEXT}weight", 2)[1] if f"{TEXT}weight" in shapes else None,
        "attention_bias": "transformer_blocks.0.attn1.to_q.bias" in shapes, "patch_bias": "patch_embed.proj.bias" in shapes,
        "norm_elementwise_affine": "norm_final.weight" in shapes,
    }  # fmt: skip
    return config | ({"map_channels": _sides(path, shapes, MAPS, 2)[1] // patch**2} if MAPS in shapes else {})


def _sides(path: Path, shapes: dict[str, Shape], name: str, count: int) -> Shape:
    shape = shapes.get(name)
    if shape is None:
        raise FormatError(f"{path} holds another model: a CogVideoX transformer has a tensor {name}, this file has none. {STOCK}")
    if len(shape) != count or not all(0 < side <= MOST for side in shape):
        raise FormatError(f"{path} holds another model: {name} must have {count} dimensions, got shape {shape}. {STOCK}")
    return shape


# Models


def _on_meta(path: Path, model: type, config: dict[str, Any]) -> nn.Module:
    """The model without memory for its weights."""
    try:
        with torch.device("meta"):
            return model(**config)
    except Exception as error:  # whatever a constructor that was not written for hostile values raises
        reason = re.sub(r"\s+", " ", str(error))[:120]
        raise FormatError(f"{path} describes a model that cannot be built ({type(error).__name__}: {reason}). {WHOLE}") from error


def _check_shapes(path: Path, model: nn.Module, shapes: Mapping[str, Shape], optional: tuple[str, ...] = ()) -> dict[str, Shape]:
    """The model's shapes by name, once those of the file are known to be the same."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = [name for name in wanted if name not in shapes and name not in optional]
    unexpected = [name for name in shapes if name not in wanted]
    for what, names in (("lacks", missing), ("has unexpected", unexpected)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise FormatError(f"{path} {what} weights: {', '.join(name[:80] for name in names[:SHOWN])}{more}. {OWN}")
    for name, shape in shapes.items():
        if shape != wanted[name]:
            raise FormatError(f"{path} has {name} of shape {shape}, it must be {wanted[name]}. {OWN}")
    return wanted


def _filled(model: nn.Module, state: dict[str, Tensor]) -> Any:
    model.load_state_dict(state, assign=True)
    return model.eval()
