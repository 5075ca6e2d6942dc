# SPDX-License-Identifier: Apache-2.0
"""Generators side by side on people nobody has trained on: `mvp4d evaluate multiview`.

Each person is a held-out seed of the synthetic head studio, given to every generator as a photo with its exact track. What a generator
made of a person is kept as soon as it is judged, so a run that was stopped goes on where it was.
"""

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..diffusion.blocks import digest_of
from ..diffusion.generator import NANO, MMVDMGenerator, weights_digest, weights_folder
from ..errors import InputError, MissingAssetError
from ..generate import MultiViewGenerator, ProxyGenerator
from ..io.atomic import atomic_json, atomic_text
from ..io.folders import make_folder
from ..io.images import read_image, write_image
from ..progress import Progress, silent
from ..rig import HeadModel, head_model_digest
from .heldout import SPLIT, HeldoutCase, check_heldout, heldout_case
from .report import FIGURES, Sums, add_up, sums_from_json, sums_to_json
from .scores import score
from .sheet import contact_sheet, shown_cells, strip

REPORT, TABLE, SHEET = "report.json", "identities.csv", "contact_sheet.png"
COPY, PROXY = "copy_reference", "proxy"
# what each variant of the model does without; the withheld maps are zero, as training's dropout leaves them
VARIANTS: dict[str, dict[str, Any]] = {
    "nano": {},
    "nano_one_by_one": {"sample_independently": True},
    "nano_without_expression": {"without_maps": ("expression",)},
    "nano_without_rays": {"without_maps": ("rays",)},
    "nano_without_motion": {"without_maps": ("motion",)},
}
ABLATIONS = tuple(name for name in VARIANTS if name != "nano")
GENERATORS = ("nano", PROXY, COPY, *ABLATIONS)
SHEET_ROWS = 12
_SHEET_COLUMNS = {"truth": "truth", "nano": "nano", PROXY: "proxy", COPY: "copy of the photo"}


@dataclass(frozen=True)
class MultiviewSettings:
    """What is evaluated.

    Attributes:
        identities: people, of the held-out seeds `first_seed` and on.
        ablated: of how many of them, the first, the `ABLATIONS` are made, which take most of the time.
        views, frames, preset, size: of the videos; `preset` in degrees.
        generators: names of `GENERATORS`.
        weights: `nano`, or the folder of another pipeline, which then stands under that name.
        steps, guidance_scale: of the model's sampling.
        mode, gpu_gb, device: of the model, see `MMVDMGenerator`.
        threads: that draw the truth.
    """

    identities: int = 20
    ablated: int = 5
    first_seed: int = 0
    views: int = 8
    frames: int = 13
    preset: int = 120
    size: int = 128
    generators: tuple[str, ...] = GENERATORS
    weights: str | Path = NANO
    steps: int = 4
    guidance_scale: float = 1.0
    mode: str = "rollout"
    gpu_gb: float | None = None
    device: str = "cpu"
    threads: int = 2

    def __post_init__(self) -> None:
        unknown = [name for name in self.generators if name not in GENERATORS]
        if unknown or not self.generators:
            raise InputError(f"`generators` must be of {', '.join(GENERATORS)}, got {', '.join(unknown) or 'none'}.")
        ranges = {"identities": (1, 10000), "ablated": (0, 10000), "views": (2, 64), "frames": (1, 1000), "size": (16, 1024)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"`{name}` of an evaluation must be {low} to {high}, got {getattr(self, name)}.")

    @property
    def seeds(self) -> range:
        """The held-out seeds."""
        return range(self.first_seed, self.first_seed + self.identities)


@dataclass(frozen=True)
class _Contestant:
    """A generator by name, and a key of all that decides its pictures of a person."""

    name: str
    frames_of: Callable[[HeldoutCase, HeadModel, Progress], np.ndarray]
    key: str


def evaluate_multiview(
    folder: str | Path, settings: MultiviewSettings | None = None, *, head_model: HeadModel, progress: Progress = silent
) -> dict[str, Any]:
    """Judges generators on held-out people and writes `report.json`, `identities.csv` and `contact_sheet.png` to `folder`.

    Returns:
        The report: for each generator `psnr`, `ssim`, `unseen_psnr` and `view_consistency` (see `scores`), all in dB but `ssim`, None where
        no pixel counts; `identities`; `ablations`, how many people those are made of, and the full model's figures on the same ones;
        `seconds`: of the generators over all runs, and of drawing the truth in this one; what was asked for; and `notes`, which say what
        is absent.

    Raises:
        InputError: settings that are not possible, or held-out people who are training's.
        MissingAssetError: the folder of `weights` is not there. A missing bundled model is a note instead.
    """
    settings, folder = settings or MultiviewSettings(), Path(folder)
    check_heldout(settings.seeds)
    contestants, notes = _contestants(settings, head_model)
    make_folder(folder)
    of_person = [[c for c in contestants if index < settings.ablated or c.name not in ABLATIONS] for index in range(settings.identities)]
    results: dict[str, dict[int, Sums]] = {contestant.name: {} for contestant in contestants}
    seconds, before, total = 0.0, 0, sum(map(len, of_person))
    progress("evaluate", 0, total)
    for seed, present in zip(settings.seeds, of_person, strict=True):
        made, spent = _evaluate_person(
            folder / f"{SPLIT}-{seed:04d}",
            seed,
            settings,
            present,
            head_model,
            lambda done, before=before: progress("evaluate", before + done, total),
        )
        for name, sums in made.items():
            results[name][seed] = sums
        seconds, before = seconds + spent, before + len(present)
    report = _report(settings, results, seconds, notes)
    atomic_text(folder / TABLE, _table(results))
    write_image(folder / SHEET, _sheet(folder, settings.seeds, list(results)))
    atomic_json(folder / REPORT, report)
    return report


def _contestants(settings: MultiviewSettings, head_model: HeadModel) -> tuple[list[_Contestant], list[str]]:
    """Those that are here, and a note where the model is not."""
    notes, weights = [], None
    wanted = [name for name in settings.generators if name in VARIANTS]
    if wanted:
        try:
            weights = weights_folder(settings.weights)
        except MissingAssetError:
            if str(settings.weights) != NANO:
                raise
            notes.append(f"Absent: {', '.join(wanted)}, because this installation lacks the weights `{NANO}`.")
    task = [__version__, head_model_digest(head_model), settings.views, settings.frames, settings.preset, settings.size]
    proxy = ProxyGenerator(texture_size=max(256, min(1024, 4 * settings.size)))
    made = {
        COPY: _Contestant(COPY, _copied, digest_of([COPY, task])),
        PROXY: _Contestant(PROXY, _generated(proxy), digest_of([PROXY, task])),
    }
    if weights is not None:
        sampling = {name: getattr(settings, name) for name in ("steps", "guidance_scale", "mode", "gpu_gb", "device")}
        key = [weights_digest(weights), sampling, "bfloat16", task]
        for name in wanted:
            model = MMVDMGenerator(weights, view_block=settings.views, dtype=torch.bfloat16, **sampling, **VARIANTS[name])
            made[name] = _Contestant(name, _generated(model), digest_of([name, key]))
    return [made[name] for name in settings.generators if name in made], notes


def _copied(case: HeldoutCase, head_model: HeadModel, progress: Progress) -> np.ndarray:
    return np.tile(case.copied, (*case.plan.shape[:2], 1, 1, 1))


def _generated(generator: MultiViewGenerator) -> Callable[[HeldoutCase, HeadModel, Progress], np.ndarray]:
    def frames_of(case: HeldoutCase, head_model: HeadModel, progress: Progress) -> np.ndarray:
        return generator.generate(case.reference, case.plan, head_model=head_model, seed=0, progress=progress).frames

    return frames_of


def _evaluate_person(
    folder: Path,
    seed: int,
    settings: MultiviewSettings,
    contestants: Sequence[_Contestant],
    head_model: HeadModel,
    tell: Callable[[int], None],
) -> tuple[dict[str, Sums], float]:
    """The sums by generator, and the seconds they and the truth took; those that are on disk are read from there."""
    results = {c.name: kept for c in contestants if (kept := _kept(folder / f"{c.name}.json", c.key)) is not None}
    waiting = [contestant for contestant in contestants if contestant.name not in results]
    tell(len(results))
    drawing = 0.0
    if waiting:
        make_folder(folder)
        started = time.perf_counter()
        case = heldout_case(
            seed,
            head_model=head_model,
            views=settings.views,
            frames=settings.frames,
            preset=settings.preset,
            size=settings.size,
            threads=settings.threads,
        )
        cells = shown_cells(case.plan, head_model)
        write_image(folder / "truth.png", strip(case.truth, cells) / 255)
        write_image(folder / "photo.png", case.copied / 255)
        drawing = time.perf_counter() - started
    for contestant in waiting:
        started, done = time.perf_counter(), len(results)
        frames = contestant.frames_of(case, head_model, lambda stage, part, parts, done=done: tell(done))
        sums = score(case, frames, time.perf_counter() - started)
        write_image(folder / f"{contestant.name}.png", strip(frames, cells) / 255)
        atomic_json(folder / f"{contestant.name}.json", {"key": contestant.key, "sums": sums_to_json(sums)})
        results[contestant.name] = sums
        tell(len(results))
    return {c.name: results[c.name] for c in contestants}, drawing + sum(sums.seconds for sums in results.values())


def _kept(path: Path, key: str) -> Sums | None:
    """The sums of an earlier run with the same key; None where they are to be made."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return sums_from_json(stored["sums"]) if stored["key"] == key and path.with_suffix(".png").is_file() else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _report(settings: MultiviewSettings, results: dict[str, dict[int, Sums]], seconds: float, notes: list[str]) -> dict[str, Any]:
    sums = {name: add_up(of_people.values()) for name, of_people in results.items() if of_people}
    names = ("first_seed", "views", "frames", "preset", "size", "steps", "guidance_scale", "mode", "gpu_gb")
    asked = {name: getattr(settings, name) for name in names}
    report: dict[str, Any] = {name: total.figures() for name, total in sums.items()}
    report["identities"] = settings.identities
    if "nano" in sums and any(name in sums for name in ABLATIONS):
        shared = [results["nano"][seed] for seed in settings.seeds[: settings.ablated]]
        report["ablations"] = {"identities": len(shared), "nano": add_up(shared).figures()}
    report["seconds"] = round(seconds, 1)
    report["seconds_by_generator"] = {name: round(total.seconds, 1) for name, total in sums.items()}
    return report | asked | {"version": __version__, "notes": notes}


def _table(results: dict[str, dict[int, Sums]]) -> str:
    """One line a generator and person."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["generator", "seed", *FIGURES, "seconds"])
    for name, of_people in results.items():
        for seed, sums in of_people.items():
            figures = sums.figures()
            cells = ["" if figures[key] is None else f"{figures[key]:.4f}" for key in FIGURES]
            writer.writerow([name, seed, *cells, f"{sums.seconds:.2f}"])
    return text.getvalue()


def _sheet(folder: Path, seeds: range, names: list[str]) -> np.ndarray:
    """The first people: the photo, the truth, and what the generators of interest made."""
    files = {"photo": "photo"} | {title: name for name, title in _SHEET_COLUMNS.items() if name == "truth" or name in names}
    people = [folder / f"{SPLIT}-{seed:04d}" for seed in seeds[:SHEET_ROWS]]
    columns = {title: [_picture(person / f"{name}.png") for person in people] for title, name in files.items()}
    return contact_sheet(columns)


def _picture(path: Path) -> np.ndarray:
    return np.rint(read_image(path)[0] * 255).astype(np.uint8)
