# SPDX-License-Identifier: Apache-2.0
"""The two recipes, from where a model starts to what it leaves: `nano`, from nothing, and `cogvideox-2b`, from CogVideoX-2B's weights."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

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

RECIPES: dict[str, Callable[[], Curriculum]] = {"nano": nano_curriculum, "cogvideox-2b": cogvideox_curriculum}
# of the transformer; CogVideoX-2B without text is its own defaults but for that
CONFIGS: dict[str, dict[str, Any]] = {
    "nano": {
        "num_attention_heads": 6, "attention_head_dim": 64, "num_layers": 8, "time_embed_dim": 128, "text_embed_dim": None,
        "activation_fn": "gelu",  # the exact one: processors take longer over CogVideoX's approximation in bfloat16
        "sample_width": 16, "sample_height": 16, "sample_frames": 13, "spatial_interpolation_scale": 1.0,
    },
    "cogvideox-2b": {"text_embed_dim": None},
}  # fmt: skip
READERS: dict[str, Callable[[Path, Path, HeadModel], Iterator[ClipSource]]] = {
    "nersemble": read_nersemble, "renderme360": read_renderme360, "ava256": read_ava256, "vfhq": read_vfhq,
}  # fmt: skip
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
) -> Data:
    """The clips of data folders and of the studio; nothing is read or rendered yet.

    Args:
        folders: of prepared clips, or `NAME:DIR` for a data set as its authors publish it.
        synthetic: how many clips the studio makes, the cameras of each covering the next of `presets` degrees.
        heldout: how many clips of other people are kept for validation.
        tracks: folder of performances for `NAME:DIR`.

    Raises:
        InputError: holes, unless `skip_incomplete`; two clips of one name; no clip at all.
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
        kept += studio_clips("train", synthetic, curriculum, presets, head_model)
        judged += studio_clips("heldout", heldout, curriculum, presets, head_model)
    if not kept:
        raise InputError("There is no clip to train on. Give folders with --data, or --synthetic N.")
    return Data(kept, judged, holes)


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


def studio_clips(split: str, count: int, curriculum: Curriculum, presets: Sequence[int], head_model: HeadModel) -> list[ClipSource]:
    """`count` clips of the studio, each of another person, in the forms that the curriculum's modalities call for."""
    settings = StudioSettings(threads=os.cpu_count() or 1)

    def load(seed: int, form: tuple[int, int], size: int) -> Clip:
        options = {"views": form[0], "frames": form[1], "preset": presets[seed % len(presets)], "split": split}
        return render_clip(seed, head_model=head_model, settings=settings, size=size, **options)

    forms = clip_forms(curriculum, count)
    return [ClipSource(f"synthetic-{split}-{seed:06d}", f"{split}-{seed}", partial(load, seed, form)) for seed, form in enumerate(forms)]


def clip_forms(curriculum: Curriculum, count: int) -> list[tuple[int, int]]:
    """(views, frames) of `count` clips, well mixed.

    There are as many forms as the curriculum has kinds (stills of many views, videos of one, videos of many), each as large as its largest
    modality wants; the number of clips of a form falls with the square root of its frames, because they cost that much time.
    """
    forms: dict[tuple[bool, bool], tuple[int, int]] = {}
    for modality in (m for stage in curriculum.stages for m in stage.modalities):
        kind = modality.views > 1, modality.frames > 1
        spare = modality.views > 1 and modality.frames == 1  # stills need another view to be the photo
        views, frames = forms.get(kind, (1, 1))
        forms[kind] = max(views, modality.views + spare), max(frames, modality.frames)
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
    if len(init) == 2 and init[0] == "cogvideox-2b":
        return Path(init[1])
    if len(init) == 1:
        return nano_folder() if init[0] == "nano" else Path(init[0])
    raise InputError(f"--init must be `cogvideox-2b DIR`, `nano` or a folder, got `{' '.join(init)}`.")


def starting_transformer(folder: Path) -> MVP4DTransformer3DModel:
    """From a pipeline folder of ours, or CogVideoX-2B's without what only text needs."""
    return load_transformer(folder, drop_text=True)


def starting_vae(folder: Path | None) -> AutoencoderKLCogVideoX:
    """The frozen VAE of a pipeline folder, or a VAE's own folder; the bundled one where none is given."""
    return load_vae(folder or nano_folder()).requires_grad_(False)


def fill_caches(
    sources: Sequence[ClipSource],
    folder: Path,
    curriculum: Curriculum,
    *,
    vae: AutoencoderKLCogVideoX,
    head_model: HeadModel,
    bfloat16: bool = True,
    progress: Progress = silent,
) -> tuple[dict[int, list[CachedClip]], list[str]]:
    """Encodes the clips for every size of a curriculum, those that are not yet in `folder`.

    Returns:
        Cached clips by size, and a line for each clip that was left out.
    """
    caches, left_out = {}, []
    for size, frames in curriculum.longest.items():
        settings = CacheSettings(size=size, frames=frames, bfloat16=bfloat16)
        place = folder / f"{size}px"
        left_out += encode_clips(sources, place, vae=vae, head_model=head_model, settings=settings, progress=progress)
        wanted = {file_name(source.name) for source in sources}
        caches[size] = [clip for clip in open_cache(place) if clip.path.name.partition(".")[0] in wanted]
    return caches, left_out


def write_contact_sheet(sources: Sequence[ClipSource], path: Path, size: int, progress: Progress = silent) -> None:
    """A PNG of the first people: a row each, of views at moments of the clip."""
    rows = []
    for source in steps(sources[:SHEET], "contact sheet", min(SHEET, len(sources)), progress):
        clip = source.load(size)
        views, frames = clip.frames.shape[:2]
        rows.append(np.concatenate([clip.frames[k % views, k * (frames - 1) // (SHEET - 1)] for k in range(SHEET)], axis=1))
    write_image(path, np.concatenate(rows).astype(np.float32) / 255)


def export(run: Path, transformer: MVP4DTransformer3DModel, vae: AutoencoderKLCogVideoX, curriculum: Curriculum) -> Path:
    """Writes `run/export`, the pipeline folder that generators read, and returns it."""
    folder = run / "export"
    MVP4DPipeline(vae, transformer, base_scheduler(curriculum.snr_shift)).save_folder(folder)
    return folder
