# SPDX-License-Identifier: Apache-2.0
"""The two recipes, from where a model starts to what it leaves: `nano`, from nothing, and `cogvideox-2b`, from CogVideoX-2B's weights."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import nn

from ..diffusion.checkpoints import load_transformer, load_vae
from ..diffusion.generator import nano_folder
from ..diffusion.pipeline import MVP4DPipeline
from ..diffusion.schedule import base_scheduler
from ..diffusion.transformer import MVP4DTransformer3DModel
from ..errors import InputError
from ..io.images import write_image
from ..progress import Progress, silent, steps
from ..rig import HeadModel
from .adapters.ava256 import read_ava256
from .adapters.nersemble import read_nersemble
from .adapters.renderme360 import read_renderme360
from .adapters.vfhq import read_vfhq
from .clip import Clip
from .curriculum import Curriculum, cogvideox_curriculum, nano_curriculum
from .latents import CachedClip, CacheSettings, encode_clips, file_name, open_cache
from .store import ClipSource, stored_clips
from .synthetic.studio import StudioSettings, render_clip

COGVIDEOX = "cogvideox-2b"
RECIPES: dict[str, Callable[[], Curriculum]] = {"nano": nano_curriculum, COGVIDEOX: cogvideox_curriculum}
FRUGAL = (COGVIDEOX,)  # recipes whose batches are for gradient checkpointing
# of the transformer; CogVideoX-2B without text is its own defaults but for that
CONFIGS: dict[str, dict[str, Any]] = {
    "nano": {
        "num_attention_heads": 6, "attention_head_dim": 64, "num_layers": 8, "time_embed_dim": 128, "text_embed_dim": None,
        "activation_fn": "gelu",  # the exact one: processors take longer over CogVideoX's approximation in bfloat16
        "sample_width": 16, "sample_height": 16, "sample_frames": 13, "spatial_interpolation_scale": 1.0,
    },
    COGVIDEOX: {"text_embed_dim": None},
}  # fmt: skip
READERS: dict[str, Callable[[Path, Path, HeadModel], Iterator[ClipSource]]] = {
    "nersemble": read_nersemble, "renderme360": read_renderme360, "ava256": read_ava256, "vfhq": read_vfhq,
}  # fmt: skip
EXPORT = "export"  # folder of a run
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # of exported weights
SHEET = 8  # people and views on a contact sheet


@dataclass(frozen=True)
class Data:
    """What a run learns from, and the people it is judged on; `holes` are lines on clips that were left out."""

    train: list[ClipSource]
    heldout: list[ClipSource]
    holes: list[str]


def gather(
    folders: Sequence[str],
    synthetic: int,
    heldout: int,
    curriculum: Curriculum,
    *,
    head_model: HeadModel,
    presets: Sequence[int] = (120,),
    tracks: Path | None = None,
    skip_incomplete: bool = False,
    device: str = "cpu",
) -> Data:
    """The clips of data folders and of the studio; nothing is read or rendered yet.

    Args:
        folders: of prepared clips, or `NAME:DIR` for a data set as its authors publish it.
        synthetic: how many clips the studio makes, the cameras of each covering the next of `presets` degrees.
        heldout: how many clips of other people are kept for validation.
        tracks: folder of performances for `NAME:DIR`.
        device: where the studio draws.

    Raises:
        InputError: holes, unless `skip_incomplete`; two clips of one name; no clip at all, or none for one of the curriculum's
            modalities.
    """
    captured = [source for folder in folders for source in read_folder(folder, tracks, head_model)]
    holes = [f"{source.name}: {hole}" for source in captured for hole in source.holes]
    if holes and not skip_incomplete:
        raise InputError("The data have holes:\n" + "\n".join(holes) + "\nMend them, or leave those clips out with --skip-incomplete.")
    whole = [source for source in captured if not source.holes]
    names = [source.name for source in whole]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"Clips must have different names, got `{twice}` twice. Give each folder once.")
    kept, judged = split_people(whole, 0 if synthetic else heldout)
    if synthetic:
        studio = StudioSettings(threads=os.cpu_count() or 1, device=device)
        kept += studio_clips("train", synthetic, curriculum, presets, head_model, studio)
        # people to judge by are whole, as those of `evaluate` are
        judged += studio_clips("heldout", heldout, curriculum, presets, head_model, replace(studio, outcrops=0.0))
    if not kept:
        raise InputError("There is no clip to train on. Give folders with --data, or --synthetic N.")
    check_modalities(kept, curriculum, "clip")
    if heldout:
        check_modalities(judged, curriculum, "held-out clip")
    return Data(kept, judged, holes)


def check_modalities(sources: Sequence[ClipSource], curriculum: Curriculum, what: str) -> None:
    """Raises InputError where a curriculum's modality has no clip of enough views and frames, as far as that is known before loading."""
    for modality in (m for stage in curriculum.stages for m in stage.modalities):
        views, frames = modality.clip_views, modality.frames
        if not any((s.views is None or s.views >= views) and (s.frames is None or s.frames >= frames) for s in sources):
            raise InputError(
                f"No {what} of {len(sources)} has {views} views x {frames} frames, which `{modality.name}` needs. "
                "Add such data, or take the modality out of the curriculum."
            )


def read_folder(folder: str, tracks: Path | None, head_model: HeadModel) -> list[ClipSource]:
    """The clips of one `--data` argument: a folder of prepared clips, or `NAME:DIR` of a data set."""
    name, separator, rest = folder.partition(":")
    published = bool(separator) and name in READERS
    place = Path(rest if published else folder)
    if not place.is_dir():
        raise InputError(f"There is no folder {place} with clips. Check the name; data sets are NAME:DIR with {', '.join(READERS)}.")
    if published and tracks is None:
        raise InputError(f"{name} needs the tracks of its recordings. Give their folder with --tracks.")
    found = list(READERS[name](place, tracks, head_model)) if published and tracks is not None else list(stored_clips(place))
    if not found:
        what = f"recording in the layout of {name}" if published else "prepared clip: none of its sub-folders has a clip.json"
        raise InputError(f"{place} holds no {what}.")
    return found


def studio_clips(
    split: str, count: int, curriculum: Curriculum, presets: Sequence[int], head_model: HeadModel, settings: StudioSettings
) -> list[ClipSource]:
    """`count` clips of the studio, each of another person, in the forms that the curriculum's modalities call for."""

    def load(seed: int, options: dict[str, Any], size: int) -> Clip:
        return render_clip(seed, head_model=head_model, settings=settings, size=size, **options)

    sources = []
    shown = {name: value for name, value in asdict(settings).items() if name not in ("threads", "device")}
    for seed, (views, frames) in enumerate(clip_forms(curriculum, count)):
        options = {"views": views, "frames": frames, "preset": presets[seed % len(presets)], "split": split}
        sources.append(ClipSource(
            f"synthetic-{split}-{seed:06d}", f"{split}-{seed}", partial(load, seed, options),
            views=views, frames=frames, made_of=json.dumps([shown, options]),
        ))  # fmt: skip
    return sources


def clip_forms(curriculum: Curriculum, count: int) -> list[tuple[int, int]]:
    """(views, frames) of `count` clips, well mixed.

    There are as many forms as the curriculum has kinds (stills of many views, videos of one, videos of many), each as large as its largest
    modality wants; the number of clips of a form falls with the square root of its frames, because they cost that much time.
    """
    forms: dict[tuple[bool, bool], tuple[int, int]] = {}
    for modality in (m for stage in curriculum.stages for m in stage.modalities):
        kind = modality.views > 1, modality.frames > 1
        views, frames = forms.get(kind, (1, 1))
        forms[kind] = max(views, modality.clip_views), max(frames, modality.frames)
    shares = {form: 1 / (form[0] * form[1]) ** 0.5 for form in forms.values()}
    chosen: list[tuple[int, int]] = []
    for number in range(count):  # the form that lags most behind its share
        chosen.append(max(shares, key=lambda form: shares[form] / sum(shares.values()) * (number + 1) - chosen.count(form)))
    return chosen


def split_people(sources: Sequence[ClipSource], heldout: int) -> tuple[list[ClipSource], list[ClipSource]]:
    """Sources for training and at least `heldout` for validation, no person in both; who is held out depends on the names alone."""
    order = sorted({s.identity for s in sources}, key=lambda name: hashlib.sha256(name.encode()).digest())
    judged: list[ClipSource] = []
    people = iter(order)
    while len(judged) < heldout and (person := next(people, None)) is not None:
        judged += [source for source in sources if source.identity == person]
    return [source for source in sources if source not in judged], judged


def new_transformer(config: dict[str, Any], seed: int) -> MVP4DTransformer3DModel:
    """An untrained transformer, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MVP4DTransformer3DModel(**config)


def starting_folder(init: Sequence[str] | None) -> Path | None:
    """The pipeline folder that `--init` means, None for an untrained start."""
    if not init:
        return None
    if len(init) == 2 and init[0] == COGVIDEOX:
        return Path(init[1])
    if len(init) == 1:
        return nano_folder() if init[0] == "nano" else Path(init[0])
    raise InputError(f"--init must be `cogvideox-2b DIR`, `nano` or a folder, got `{' '.join(init)}`.")


def starting_transformer(folder: Path) -> MVP4DTransformer3DModel:
    """From a pipeline folder of ours, or CogVideoX-2B's without what only text needs."""
    return load_transformer(folder, drop_text=True)


def starting_vae(folder: Path | None, device: torch.device | str = "cpu") -> AutoencoderKLCogVideoX:
    """The frozen VAE of a pipeline folder, or a VAE's own folder; the bundled one where none is given. Clips are encoded on `device`."""
    return load_vae(folder or nano_folder(), device=device).requires_grad_(False)


def fill_caches(
    sources: Sequence[ClipSource],
    folder: Path,
    curriculum: Curriculum,
    *,
    vae: AutoencoderKLCogVideoX,
    head_model: HeadModel,
    bfloat16: bool = True,
    progress: Progress = silent,
) -> list[str]:
    """Encodes the clips for every size of a curriculum, those that are not yet in `folder`; returns a line for each that was left out."""
    left_out = []
    for size, frames in curriculum.longest.items():
        settings = CacheSettings(size=size, frames=frames, bfloat16=bfloat16)
        left_out += encode_clips(sources, _place(folder, size), vae=vae, head_model=head_model, settings=settings, progress=progress)
    return left_out


def open_caches(sources: Sequence[ClipSource], folder: Path, curriculum: Curriculum) -> dict[int, list[CachedClip]]:
    """What `fill_caches` wrote of the sources, by size."""
    wanted = {file_name(source.name) for source in sources}
    return {
        size: [clip for clip in open_cache(_place(folder, size)) if clip.path.name.partition(".")[0] in wanted]
        for size in curriculum.longest
    }  # fmt: skip


def _place(folder: Path, size: int) -> Path:
    return folder / f"{size}px"


def write_contact_sheet(sources: Sequence[ClipSource], path: Path, size: int, progress: Progress = silent) -> None:
    """A PNG of the first people: a row each, of views at moments of the clip."""
    rows = []
    for source in steps(sources[:SHEET], "contact sheet", min(SHEET, len(sources)), progress):
        clip = source.load(size)
        views, frames = clip.frames.shape[:2]
        rows.append(np.concatenate([clip.frames[k % views, k * (frames - 1) // (SHEET - 1)] for k in range(SHEET)], axis=1))
    write_image(path, np.concatenate(rows).astype(np.float32) / 255)


def export(
    run: Path, transformer: MVP4DTransformer3DModel, vae: AutoencoderKLCogVideoX, curriculum: Curriculum, dtype: torch.dtype = torch.float32
) -> Path:
    """Writes `run/export`, the pipeline folder that generators read, with both models' weights as `dtype`, and returns it.

    The models are changed: to that type, and the transformer's configuration to the size and frames of the last stage.
    """
    folder, last = run / EXPORT, curriculum.stages[-1]
    latent = last.size // 8
    transformer.register_to_config(sample_width=latent, sample_height=latent, sample_frames=max(m.frames for m in last.modalities))
    for model in (vae, transformer):
        nn.Module.to(model, dtype=dtype)  # diffusers' own `to` is for its loaders
    MVP4DPipeline(vae, transformer, base_scheduler(curriculum.snr_shift)).save_folder(folder)
    return folder
