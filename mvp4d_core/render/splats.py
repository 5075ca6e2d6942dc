# SPDX-License-Identifier: Apache-2.0
"""Differentiable rendering of 3D Gaussian splats: numba on the CPU, gsplat on CUDA, one signature.

Conventions: quaternions are wxyz and need not be unit; scales and opacities are linear; viewmats are camera_from_world with OpenCV axes
(x right, y down, z forward); pixel centres lie at +0.5; colours blend as they are (display-referred).
"""

import math
import time
from typing import Any, Literal

import numpy as np
import torch

from ..errors import InputError
from ..progress import Progress, silent, steps
from . import gsplat_backend, splats_cpu

MAX_SIDE = 16384
MAX_SH_DEGREE = 3


def rasterize_splats(
    means: torch.Tensor,
    quats: torch.Tensor,
    scales: torch.Tensor,
    opacities: torch.Tensor,
    colors: torch.Tensor,
    viewmats: torch.Tensor,
    Ks: torch.Tensor,
    width: int,
    height: int,
    *,
    sh_degree: int | None = None,
    backgrounds: torch.Tensor | None = None,
    backend: Literal["auto", "cpu", "gsplat"] = "auto",
    threads: int | None = None,
    near: float = 0.01,
    far: float = 1e10,
    eps2d: float = 0.3,
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
    render_mode: Literal["RGB", "RGB+D", "RGB+ED"] = "RGB",
    absgrad: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Renders N splats into C views; differentiable in means, quats, scales, opacities, colors and backgrounds.

    Semantics are gsplat's: `eps2d` px^2 is added to the 2D covariance, alpha is capped at 0.99, alpha below 1/255 is skipped, a pixel ends
    before its transmittance would reach 1e-4.

    Args:
        means: (N, 3) float32, world space.
        quats: (N, 4) wxyz, not zero.
        scales: (N, 3) standard deviations.
        opacities: (N,) in 0..1.
        colors: (N, 3) or (N, 4) values, or with `sh_degree` (N, K, 3) spherical harmonics, K >= (sh_degree + 1)^2.
        viewmats: (C, 4, 4) camera_from_world.
        Ks: (C, 3, 3) pixels, without skew.
        sh_degree: 0..3; the colour is max(0, 1/2 + harmonics).
        backgrounds: (C, D); black by default.
        backend: "auto" takes gsplat for CUDA tensors and the CPU kernels for the rest.
        threads: of the CPU kernels; all usable cores by default. The result does not depend on it.
        near, far: depths between which splats are drawn.
        rasterize_mode: "antialiased" scales opacities by what `eps2d` would add to a splat's light, so that a picture is as bright at any
            size.
        render_mode: "RGB+D" adds a channel with the blended depths (alpha times the mean depth), "RGB+ED" one with the mean depth; three
            colour channels only, and the depth's background is 0.
        absgrad: keep absolute gradients, for densification (Ye et al. 2024).

    Returns:
        images (C, H, W, D), alphas (C, H, W, 1) and info: `means2d` (C, N, 2), whose `.grad` holds the gradient of the pixel positions
        after the backward, and with `absgrad` its `.absgrad` the sum of the absolute values of each pixel's part of it; `radii` (C, N, 2)
        int32 px, 0 where not drawn, `depths` (C, N), `n_isects` and `backend`.

    Raises:
        InputError: wrong shapes, types or devices, or numbers that are not finite.
        MissingAssetError: gsplat is asked for and does not work here.
    """
    named = {"means": means, "quats": quats, "scales": scales, "opacities": opacities, "colors": colors}
    device = _check_splats(named, sh_degree)
    channels = colors.shape[-1]
    _check_views(viewmats, Ks, width, height, device)
    if backgrounds is None:
        backgrounds = torch.zeros(len(viewmats), channels, device=device)
    _check("backgrounds", backgrounds, (len(viewmats), channels), device)
    if not (0 < near < far and eps2d >= 0):
        raise InputError(f"`near`, `far`, `eps2d` must satisfy 0 < near < far and eps2d >= 0, got {near}, {far}, {eps2d}.")

    for name, value, known in (
        ("backend", backend, ("auto", "cpu", "gsplat")),
        ("rasterize_mode", rasterize_mode, ("classic", "antialiased")),
        ("render_mode", render_mode, ("RGB", "RGB+D", "RGB+ED")),
    ):
        if value not in known:
            raise InputError(f"`{name}` must be one of {', '.join(known)}, got {value!r}.")
    if render_mode != "RGB" and channels != 3:
        raise InputError(f"`render_mode` {render_mode} wants three colour channels, got {channels}; render depths apart.")
    if backend == "gsplat" or (backend == "auto" and device.type == "cuda"):
        return gsplat_backend.rasterize(
            means, quats, scales, opacities, colors, viewmats.detach().float(), Ks.detach().float(), width, height,
            sh_degree=sh_degree, backgrounds=backgrounds, near=near, far=far, eps2d=eps2d,
            rasterize_mode=rasterize_mode, render_mode=render_mode, absgrad=absgrad,
        )  # fmt: skip
    if device.type != "cpu":
        raise InputError(f"the CPU rasteriser wants CPU tensors, got tensors on {device}.")
    views = viewmats.detach().double().numpy()
    settings = splats_cpu.Settings(
        viewmats=np.ascontiguousarray(views, dtype=np.float32),
        Ks=np.ascontiguousarray(Ks.detach().numpy(), dtype=np.float32),
        positions=_camera_positions(views).astype(np.float32),
        width=int(width),
        height=int(height),
        sh_degree=sh_degree,
        near=near,
        far=far,
        eps2d=eps2d,
        antialiased=rasterize_mode == "antialiased",
        depth=render_mode != "RGB",
        absgrad=absgrad,
        threads=threads,
    )
    if settings.depth:
        backgrounds = torch.cat([backgrounds, backgrounds.new_zeros(len(backgrounds), 1)], dim=1)
    images, alphas, info = splats_cpu.rasterize(means, quats, scales, opacities, colors, backgrounds, settings)
    if render_mode == "RGB+ED":
        images = torch.cat([images[..., :3], images[..., 3:] / alphas.clamp(min=1e-10)], dim=-1)
    return images, alphas, info


def warm_up(progress: Progress = silent) -> float:
    """Compiles the CPU kernels, or loads them from numba's cache; returns the seconds it took (about 15 the first time on a machine)."""
    started = time.perf_counter()
    # harmonics, three channels, four channels, and absolute gradients
    variants = (((1, 1, 3), False), ((1, 3), False), ((1, 4), False), ((1, 1, 3), True))
    for shape, absgrad in steps(variants, "compiling the splat rasteriser", len(variants), progress):
        with torch.inference_mode(False), torch.enable_grad():
            mean = torch.tensor([[0, 0, 1.0]], requires_grad=True)
            quat, scale, opacity, color = torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.1), torch.ones(1), torch.zeros(shape)
            view, K = torch.eye(4)[None], torch.tensor([[[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]])
            sh_degree = 0 if len(shape) == 3 else None
            options = {"sh_degree": sh_degree, "threads": 1, "absgrad": absgrad}
            images, _, _ = rasterize_splats(mean, quat, scale, opacity, color, view, K, 8, 8, **options)
            images.sum().backward()
    return time.perf_counter() - started


def _camera_positions(viewmats: np.ndarray) -> np.ndarray:
    """Where the cameras (C, 4, 4) are in the world, (C, 3). By hand, since a BLAS call would wake threads that then spin beside ours."""
    rows = viewmats[:, :3, :3]
    adjugate = np.stack([np.cross(rows[:, 1], rows[:, 2]), np.cross(rows[:, 2], rows[:, 0]), np.cross(rows[:, 0], rows[:, 1])], axis=1)
    determinant = (adjugate[:, 0] * rows[:, 0]).sum(-1)
    return -(adjugate * viewmats[:, :3, 3:]).sum(axis=1) / determinant[:, None]


def _check_splats(named: dict[str, torch.Tensor], sh_degree: int | None) -> torch.device:
    means = named["means"]
    if not isinstance(means, torch.Tensor) or means.ndim != 2:
        raise InputError(f"`means` must be a tensor (N, 3), got {_describe(means)}.")
    count = len(means)
    shapes = {"means": (count, 3), "quats": (count, 4), "scales": (count, 3), "opacities": (count,)}
    for name, shape in shapes.items():
        _check(name, named[name], shape, means.device)
    colors = named["colors"]
    if sh_degree is None:
        channels = colors.shape[-1] if isinstance(colors, torch.Tensor) and colors.ndim == 2 and colors.shape[-1] == 4 else 3
        _check("colors", colors, (count, channels), means.device)
    else:
        if not (isinstance(sh_degree, int) and 0 <= sh_degree <= MAX_SH_DEGREE):
            raise InputError(f"`sh_degree` must be from 0 to {MAX_SH_DEGREE}, got {sh_degree}.")
        least = (sh_degree + 1) ** 2
        if not isinstance(colors, torch.Tensor) or colors.ndim != 3 or colors.shape[1] < least:
            raise InputError(f"`colors` must be (N, K, 3) with K >= {least} for `sh_degree` {sh_degree}, got {_describe(colors)}.")
        _check("colors", colors, (count, colors.shape[1], 3), means.device)
    return means.device


def _check_views(viewmats: torch.Tensor, Ks: torch.Tensor, width: int, height: int, device: torch.device) -> None:
    views = len(viewmats) if isinstance(viewmats, torch.Tensor) and viewmats.ndim == 3 else 1
    for name, tensor, shape in (("viewmats", viewmats, (views, 4, 4)), ("Ks", Ks, (views, 3, 3))):
        _check(name, tensor, shape, device, dtype=None)
        if tensor.requires_grad:
            raise InputError(f"`{name}` must not require gradients; cameras are not optimised here, move the splats instead.")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise InputError(f"`width` and `height` must be from 1 to {MAX_SIDE}, got {width} x {height}.")


def _check(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype | None = torch.float32
) -> None:
    """Type, shape, device and finiteness; any floating type where `dtype` is None."""
    if not isinstance(tensor, torch.Tensor) or tensor.shape != shape or not tensor.is_floating_point():
        raise InputError(f"`{name}` must be floating point of shape {shape}, got {_describe(tensor)}.")
    if dtype is not None and tensor.dtype != dtype:
        raise InputError(f"`{name}` must be {dtype}, got {tensor.dtype}; convert it first.")
    if tensor.device != device:
        raise InputError(f"`{name}` must be on {device} like `means`, got {tensor.device}.")
    # A finite sum proves finite terms at a fraction of the cost of looking at each. On the CPU numpy takes it: torch would wake its own
    # threads, which go on spinning beside ours for some milliseconds.
    values = tensor.detach()
    with np.errstate(all="ignore"):
        total = float(values.numpy().sum()) if device.type == "cpu" else values.sum().item()
    if not math.isfinite(total) and not torch.isfinite(values).all():
        bad = int((~torch.isfinite(values)).sum())
        raise InputError(f"`{name}` must be finite, but {bad} of {tensor.numel()} numbers are not.")


def _describe(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
