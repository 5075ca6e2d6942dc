# SPDX-License-Identifier: Apache-2.0
"""Clips as the MMVDM is trained on them: encoded once by the frozen VAE, with their condition maps, one safetensors file a window.

A window is 1 + 4k frames of a clip. Beside its V causal latent videos it holds stills, moments of the window that are encoded one by one
from every view: photos to condition on, and static multi-view samples.

Rays are kept in the axes of view 0; they turn with the photo that a sample draws (`samples.py`), because directions are linear in the axes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors import SafetensorError, safe_open

from ..conditioning.maps import MAP_COUNT, condition_maps
from ..diffusion.autoencoding import encode_videos
from ..diffusion.blocks import digest_of
from ..errors import FormatError, InputError, MVP4DError
from ..io import safetensors_numpy
from ..io.atomic import atomic_text, is_temporary, remove_temporaries
from ..io.folders import make_folder
from ..progress import Progress, silent, steps
from ..rig import HeadModel, head_model_digest, personalize
from .clip import Clip
from .store import ClipSource

SCHEMA = "mvp4d-latents/1"
MARKER = "cache.json"
PIXELS_AT_ONCE = 1 << 21  # of the videos that go through the VAE together: what a 512 px video of 8 frames has
LATENT_SCALE = ("scaling_factor", "latents_mean", "latents_std")  # of a VAE's config
ROWS = 16  # pixel rows and columns must be multiples of this: /8 in the VAE, /2 in the patches


@dataclass(frozen=True)
class CacheSettings:
    """How clips become windows.

    Attributes:
        size: px, the side of the frames.
        frames: the most frames of a window, 1 + 4k; shorter clips give their longest 1 + 4k.
        windows: the most windows of a clip.
        stills: moments of a window that are also encoded one by one.
        bfloat16: the VAE multiplies in bfloat16; its latents are off by some hundredths of their deviation, and come in half the time.
    """

    size: int = 128
    frames: int = 13
    windows: int = 4
    stills: int = 2
    bfloat16: bool = True

    def __post_init__(self) -> None:
        if self.frames < 1 or self.frames % 4 != 1 or self.windows < 1 or self.stills < 1:
            raise InputError(f"Windows must have 1 + 4k frames, and there must be one with a still; got {self.frames} frames.")


@dataclass(frozen=True)
class CachedClip:
    """One file of the cache; tensors are read when asked for.

    Attributes:
        path: the file.
        name: of the clip.
        views, latent_frames: V and L.
        still_frames: (S,) frames of the window.
        latent_size: (h, w).
        rotations: (V, 3, 3) camera_from_world.
        origin: a digest of what the clip was made from, the VAE and the head included; empty where the file has none.
    """

    path: Path
    name: str
    views: int
    latent_frames: int
    still_frames: tuple[int, ...]
    latent_size: tuple[int, int]
    rotations: np.ndarray
    origin: str = ""

    @cached_property
    def frontality(self) -> np.ndarray:
        """(V,) cosines between where the cameras look from and the face's own direction."""
        return -self.rotations[:, 2, 2]

    def read(self, name: str, view: int, first: int, stop: int) -> torch.Tensor:
        """`latents`, `maps`, `stills` or `still_maps` of one view, latent frames or stills `first` to `stop`: float16 (N, C, h, w)."""
        with safe_open(str(self.path), framework="pt") as file:
            return file.get_slice(name)[view, first:stop]


def open_cached(path: str | Path) -> CachedClip:
    """Reads a cached clip's header; FormatError for another or a damaged file."""
    path = Path(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("schema") != SCHEMA:
                raise FormatError(f"{path.name} is not a cached clip of this version; delete the cache folder and run again.")
            shapes = {name: file.get_slice(name).get_shape() for name in ("latents", "maps", "stills", "still_maps")}
            rotations = file.get_tensor("rotations").numpy()
        still_frames = tuple(int(frame) for frame in json.loads(metadata["still_frames"]))
        views, length, _, height, width = shapes["latents"]
        wanted = {
            "latents": [views, length, 16, height, width],
            "maps": [views, length, MAP_COUNT, height, width],
            "stills": [views, len(still_frames), 16, height, width],
            "still_maps": [views, len(still_frames), MAP_COUNT, height, width],
        }
        if shapes != wanted or rotations.shape != (views, 3, 3):
            raise FormatError(f"{path.name} is a damaged cached clip; delete it and run again.")
        size, origin = (height, width), metadata.get("origin", "")
        return CachedClip(path, metadata["name"], views, length, still_frames, size, rotations, origin)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{path.name} is a damaged cached clip ({error}); delete it and run again.") from None


def open_cache(folder: str | Path) -> list[CachedClip]:
    """All clips of a cache folder, by name."""
    return [open_cached(path) for path in sorted(Path(folder).glob("*.safetensors")) if not is_temporary(path)]


def vae_digest(vae: AutoencoderKLCogVideoX) -> str:
    """A short digest of a VAE's weights and scale: latents of another VAE are of no use."""
    weights = [[name, tensor.detach().float().cpu().numpy()] for name, tensor in sorted(vae.state_dict().items())]
    return digest_of([[vae.config.get(name) for name in LATENT_SCALE], weights])[:16]


def encode_clips(
    sources: Sequence[ClipSource],
    folder: str | Path,
    *,
    vae: AutoencoderKLCogVideoX,
    head_model: HeadModel,
    settings: CacheSettings,
    progress: Progress = silent,
) -> list[str]:
    """Fills a cache folder with the clips that it lacks.

    Args:
        vae: on the device that does the work. A float32 one multiplies in bfloat16 where `settings` say so.

    Returns:
        One line for each clip that was left out, and why.

    Raises:
        InputError: the folder holds latents of another VAE, of another head or of other settings, or a clip made otherwise.
        FormatError: what says so in it is damaged.
        Cancelled: from `progress`; the clips so far are kept.
    """
    folder = Path(folder)
    make_folder(folder)
    remove_temporaries(folder)
    head = head_model_digest(head_model)
    made_with = {"autoencoder": vae_digest(vae), "head": head, **asdict(settings)}
    _claim(folder, made_with)
    complaints = []
    for source in steps(sources, "encode clips", len(sources), progress):
        origin = digest_of([made_with, source.made_of])
        if not is_cached(folder, source.name, origin):
            try:
                clip = source.load(settings.size)
                if clip.head_digest != head:
                    raise InputError("its shape and performance are of another head. Give that head with --rig, or prepare it again.")
                encode_clip(clip, folder, source.name, origin, vae=vae, head_model=head_model, settings=settings)
            except (InputError, FormatError) as error:
                complaints.append(f"{source.name}: {error}")
    return complaints


def _claim(folder: Path, made_with: dict[str, Any]) -> None:
    """Writes what a cache is made with into it, or compares; what an earlier version did not write there is accepted."""
    marker = folder / MARKER
    try:
        found = json.loads(marker.read_text(encoding="utf-8")) if marker.exists() else {}
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{marker} is damaged ({str(error)[:100]}). Give another folder, or delete it.") from None
    if any(made_with[key] != found[key] for key in made_with.keys() & found.keys()):
        raise InputError(f"{folder} holds latents of another VAE, another head or other settings. Give another folder, or delete it.")
    if found != made_with:
        atomic_text(marker, json.dumps(made_with, indent=2))


def is_cached(folder: str | Path, name: str, origin: str) -> bool:
    """Whether a clip's last window, and so all of it, is in the cache.

    Raises:
        InputError: it is, but of another `origin`; a file without one, of an earlier version, is accepted.
    """
    last = next(Path(folder).glob(f"{file_name(name)}.last-*.safetensors"), None)
    if last is not None and open_cached(last).origin not in ("", origin):
        raise InputError(f"{folder} holds a clip {name} that was made otherwise, as with other --presets. Give another --cache.")
    return last is not None


def file_name(name: str) -> str:
    """A clip's name as a file's: letters, digits, dashes; other characters become underscores."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "-") else "_" for c in name)


def encode_clip(
    clip: Clip, folder: Path, name: str, origin: str, *, vae: AutoencoderKLCogVideoX, head_model: HeadModel, settings: CacheSettings
) -> None:
    """Writes the windows of one clip; the last one's name says that the clip is complete."""
    height, width = clip.frames.shape[2:4]
    if height % ROWS or width % ROWS:
        raise InputError(f"A clip's frames must have sides that {ROWS} divides, got {width} x {height} px.")
    starts = window_starts(clip.frames.shape[1], settings)
    for number, start in enumerate(starts):
        length = min(settings.frames, 1 + (clip.frames.shape[1] - start - 1) // 4 * 4)
        tensors, still_frames = encode_window(clip, start, length, vae=vae, head_model=head_model, settings=settings)
        mark = "last" if number == len(starts) - 1 else "part"
        metadata = {"schema": SCHEMA, "name": clip.name, "source": clip.source, "still_frames": json.dumps(still_frames), "origin": origin}
        safetensors_numpy.write(folder / f"{file_name(name)}.{mark}-{number:03d}.safetensors", tensors, metadata)


def window_starts(frames: int, settings: CacheSettings) -> list[int]:
    """First frames of a clip's windows, spread evenly over it; windows of a clip do not overlap."""
    count = min(settings.windows, max(1, frames // settings.frames))
    return [index * (frames // count) for index in range(count)]


def encode_window(
    clip: Clip, start: int, frames: int, *, vae: AutoencoderKLCogVideoX, head_model: HeadModel, settings: CacheSettings
) -> tuple[dict[str, np.ndarray], list[int]]:
    """The tensors of one window, and which of its frames are its stills."""
    window = clip.frames[:, start : start + frames]
    performance = clip.performance.select(slice(start, start + frames))
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{clip.name}/{start}".encode()).digest()[:8], "little"))
    moments = sorted(int(frame) for frame in rng.choice(frames, size=min(settings.stills, frames), replace=False))
    latent_size = (clip.frames.shape[2] // 8, clip.frames.shape[3] // 8)
    rig = personalize(head_model, clip.shape, np.zeros_like(head_model.v_template))

    def maps_of(frames: slice | list[int]) -> torch.Tensor:
        return condition_maps(
            head_model, rig, clip.cameras, performance.select(frames),
            reference_camera=clip.cameras[0], latent_size=latent_size, inside=clip.inside, device=vae.device,
        )  # fmt: skip

    maps, still_maps = maps_of(slice(None)), torch.cat([maps_of([moment]) for moment in moments], dim=1)
    latents = encode_frames(vae, window, settings.bfloat16)
    stills = encode_frames(vae, window[:, moments].reshape(-1, 1, *window.shape[2:]), settings.bfloat16)
    still_latents = stills.unflatten(0, (len(window), -1))[:, :, 0]
    tensors = {"latents": latents, "maps": maps, "stills": still_latents, "still_maps": still_maps}
    arrays = {name: tensor.cpu().numpy().astype(np.float16) for name, tensor in tensors.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise MVP4DError(f"The latents or maps of the clip {clip.name} are not finite in float16; check its cameras and the VAE.")
    arrays["rotations"] = np.stack([camera.camera_from_world[:3, :3] for camera in clip.cameras])
    return arrays, moments


def encode_frames(vae: AutoencoderKLCogVideoX, videos: np.ndarray, bfloat16: bool = False) -> torch.Tensor:
    """Videos (V, F, H, W, 3) uint8 as scaled latents (V, L, 16, h, w) float32 on the CPU, several videos at a time."""
    together = max(1, PIXELS_AT_ONCE // videos[0, ..., 0].size)
    chunks = (videos[first : first + together] for first in range(0, len(videos), together))
    with torch.autocast(vae.device.type, torch.bfloat16, enabled=bfloat16):
        return torch.cat([encode_videos(vae, torch.as_tensor(chunk).float() / 255, together=together) for chunk in chunks])
