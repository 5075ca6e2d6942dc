# SPDX-License-Identifier: Apache-2.0
"""How fast the CPU splat rasteriser is, and how exact its gradients are, measured in one run."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from ..cameras import orbit_camera
from ..errors import InputError
from ..progress import Progress, silent
from .reference import rasterize_dense, rasterize_tiled, threshold_margin
from .splats import rasterize_splats, warm_up

# Arguments of a rasteriser by name: means, quats, scales, opacities, colors; and viewmats, Ks, width, height.
Scene = tuple[dict[str, Any], dict[str, Any]]

TORCH = "torch_forward_backward_ms"
ROUNDS = 6  # one run of torch each
RUNS_A_ROUND = 4  # of each of the others
GRADIENT_SIZE = 64
GRADIENT_SPLATS = 150
MARGIN = 1e-5
STAGE = "benchmarking splats"


def bench_splats(
    *, splats: int = 50_000, size: int = 256, threads: tuple[int, ...] = (1, 2), progress: Progress = silent
) -> dict[str, float]:
    """Times a head-sized shell of random splats against a plain torch tile rasteriser and checks gradients against float64.

    Times are the best of several runs, in milliseconds, one view, three colour channels, compilation excluded. The torch rasteriser
    (`reference.rasterize_tiled`) runs in the same process on as many threads as the last entry of `threads`. All take turns, so
    that whatever else the machine does slows each of them.

    Returns:
        `forward_ms_<n>` and `forward_backward_ms_<n>` for each n of `threads`; `torch_forward_backward_ms`; `speedup`, the latter over
        `forward_backward_ms_<last n>`; `thread_scaling`, how many times faster the last n is than the first; `gradient_error`, see
        `gradient_error`.
    """
    if splats < 1 or not threads:
        raise InputError(f"`splats` must be positive and `threads` not empty, got {splats} and {threads}.")
    total = ROUNDS + 2
    progress(STAGE, 0, total)
    warm_up()
    runs = _runs(head_shell(splats, size), threads)
    figures = dict.fromkeys(runs, math.inf)
    with _torch_threads(threads[-1]):
        for done in range(1, ROUNDS + 1):
            progress(STAGE, done, total)
            for key, run in runs.items():
                for _ in range(1 if key == TORCH else RUNS_A_ROUND):
                    figures[key] = min(figures[key], 1000 * _seconds(run))
    figures["speedup"] = figures[TORCH] / figures[f"forward_backward_ms_{threads[-1]}"]
    figures["thread_scaling"] = figures[f"forward_backward_ms_{threads[0]}"] / figures[f"forward_backward_ms_{threads[-1]}"]
    progress(STAGE, total - 1, total)
    figures["gradient_error"] = gradient_error()
    progress(STAGE, total, total)
    return figures


def gradient_error(seed: int = 0) -> float:
    """The largest relative L2 error of the gradients of means, quats, scales, opacities and colours (harmonics of degree 3), two views.

    The oracle is autograd through `reference.rasterize_dense` in float64. A rasteriser decides: alpha below 1/255 is nothing, a pixel ends
    at transmittance 1e-4, and so on. Where float32 and float64 decide differently a whole contribution comes or goes, and the difference
    says nothing about the derivative. So scenes are drawn from consecutive seeds until one has no such decision within 1e-5 of its
    threshold (relative, looked at in float64 alone); that one is compared, whatever the outcome.
    """
    while True:
        splats, view = gradient_scene(seed)
        oracle_splats = {name: tensor.double() for name, tensor in splats.items()}
        oracle_view = view | {"viewmats": view["viewmats"].double(), "Ks": view["Ks"].double()}
        if threshold_margin(**oracle_splats, **oracle_view, sh_degree=3) > MARGIN:
            break
        seed += 1
    generator = torch.Generator().manual_seed(seed)
    backgrounds, target = (torch.rand(shape, generator=generator) for shape in ((2, 3), (2, GRADIENT_SIZE, GRADIENT_SIZE, 3)))

    def gradients(render: Callable, splats: dict[str, Any], view: dict[str, Any]) -> list[torch.Tensor]:
        leaves = _leaves(splats)
        images, alphas, *_ = render(**leaves, **view, sh_degree=3, backgrounds=backgrounds.to(leaves["means"]))
        loss = (images - target.to(images)).square().sum() + (alphas * target[..., :1].to(images)).sum()
        return list(torch.autograd.grad(loss, list(leaves.values())))

    found = gradients(rasterize_splats, splats, view)
    true = gradients(rasterize_dense, oracle_splats, oracle_view)
    return max(((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, true, strict=True))


def gradient_scene(seed: int) -> Scene:
    """A small cloud with harmonics of degree 3 in front of two cameras."""
    generator = torch.Generator().manual_seed(seed)
    count = GRADIENT_SPLATS
    splats = {
        "means": torch.randn(count, 3, generator=generator) * 0.5,
        "quats": torch.randn(count, 4, generator=generator),
        "scales": torch.rand(count, 3, generator=generator) * 0.1 + 0.01,
        "opacities": torch.rand(count, generator=generator) * 0.9 + 0.05,
        "colors": torch.randn(count, 16, 3, generator=generator) * 0.3,
    }
    return splats, _views((0.0, 0.9), GRADIENT_SIZE, distance=3.0, fov_y=0.8)


def head_shell(count: int, size: int, seed: int = 0) -> Scene:
    """A shell of the size of a head whose splats cover each other as in a fitted avatar, in random order, seen by one camera."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    radius = torch.tensor([0.09, 0.13, 0.11]) * (1 + 0.03 * torch.randn(count, 1, generator=generator))
    spread = 0.2 / count**0.5
    splats = {
        "means": direction * radius,
        "quats": torch.randn(count, 4, generator=generator),
        "scales": spread * torch.exp(0.4 * torch.randn(count, 3, generator=generator)),
        "opacities": torch.sigmoid(1.5 * torch.randn(count, generator=generator) + 1),
        "colors": torch.rand(count, 3, generator=generator),
    }
    return splats, _views((0.3,), size, distance=0.8, fov_y=0.42)


def _views(azimuths: tuple[float, ...], size: int, *, distance: float, fov_y: float) -> dict[str, Any]:
    cameras = [orbit_camera(a, 0.2, target=np.zeros(3), distance=distance, fov_y=fov_y, width=size, height=size) for a in azimuths]
    viewmats = torch.tensor(np.stack([c.camera_from_world for c in cameras]), dtype=torch.float32)
    Ks = torch.tensor(np.stack([c.K for c in cameras]), dtype=torch.float32)
    return {"viewmats": viewmats, "Ks": Ks, "width": size, "height": size}


def _leaves(splats: dict[str, Any]) -> dict[str, Any]:
    """Copies to differentiate by."""
    return {name: tensor.clone().requires_grad_() for name, tensor in splats.items()}


def _runs(scene: Scene, threads: tuple[int, ...]) -> dict[str, Callable[[], None]]:
    """What is timed, by the name of its figure."""
    splats, view = scene
    leaves = _leaves(splats)
    gradient = torch.from_numpy(np.ones((1, view["height"], view["width"], 3), np.float32))

    def forward(count: int) -> None:
        with torch.no_grad():
            rasterize_splats(**leaves, **view, threads=count)

    def both(count: int) -> None:
        images, _, _ = rasterize_splats(**leaves, **view, threads=count)
        torch.autograd.grad(images, list(leaves.values()), gradient)

    def both_in_torch() -> None:
        images, _ = rasterize_tiled(**leaves, **view)
        torch.autograd.grad(images, list(leaves.values()), gradient)

    runs: dict[str, Callable[[], None]] = {}
    for count in threads:
        runs[f"forward_ms_{count}"] = partial(forward, count)
        runs[f"forward_backward_ms_{count}"] = partial(both, count)
    return runs | {TORCH: both_in_torch}


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
