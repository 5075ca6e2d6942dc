# SPDX-License-Identifier: Apache-2.0
"""gsplat (Apache-2.0) as the CUDA rasteriser.

That gsplat imports says little: its CUDA code may be missing or fail to build. So one tiny scene is rendered before it is trusted.
gsplat up to 1.5.3 caps alpha at 0.999, later versions and our CPU kernels at 0.99: nearly opaque splats differ by up to one percent there.
"""

import functools
from typing import Any

import torch

from ..errors import MissingAssetError


def rasterize(
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
    sh_degree: int | None,
    backgrounds: torch.Tensor,
    near: float,
    far: float,
    eps2d: float,
    rasterize_mode: str,
    render_mode: str,
    absgrad: bool,
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """`rasterize_splats` through gsplat; raises MissingAssetError where it does not work."""
    if not means.is_cuda:
        raise MissingAssetError(f'gsplat renders CUDA tensors only, got tensors on {means.device}; move them or use backend="cpu".')
    reason = why_unusable(means.device.index or 0)
    if reason is not None:
        raise MissingAssetError(f"gsplat does not work here: {reason}. Install it with `pip install mvp4d[cuda]`, or render on the CPU.")
    images, alphas, meta = _call(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height, sh_degree=sh_degree, backgrounds=backgrounds,
        near_plane=near, far_plane=far, eps2d=eps2d, rasterize_mode=rasterize_mode, render_mode=render_mode, absgrad=absgrad,
    )  # fmt: skip
    if meta["means2d"].requires_grad:
        meta["means2d"].retain_grad()
    radii = meta["radii"]
    info = {
        "backend": "gsplat",
        "width": width,
        "height": height,
        "means2d": meta["means2d"],
        "radii": radii if radii.shape[-1] == 2 and radii.ndim == 3 else radii[..., None].expand(*radii.shape, 2),
        "depths": meta["depths"],
        "n_isects": len(meta["flatten_ids"]),
    }
    return images, alphas, info


@functools.cache
def why_unusable(device_index: int) -> str | None:
    """None where gsplat renders one splat as it should on this CUDA device, else one line that says what failed. Asked once a process."""
    if not torch.cuda.is_available():
        return "no CUDA device is usable by this PyTorch"
    device = torch.device("cuda", device_index)
    splat = ([[0.0, 0, 1]], [[1.0, 0, 0, 0]], [[0.1, 0.1, 0.1]], [0.5], [[1.0, 1, 1]])
    view = ([[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]], [[[16.0, 0, 8.5], [0, 16, 8.5], [0, 0, 1]]])
    tensors = [torch.tensor(values, device=device) for values in (*splat, *view)]
    tensors[0].requires_grad_()
    try:
        with torch.enable_grad():
            images, _, _ = _call(*tensors, 17, 17)
            images.sum().backward()
    except Exception as error:  # a failing build shows as ImportError, RuntimeError, IndexError, OSError and more
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:200] if str(error).strip() else 'no message'}"
    peak = images[0, 8, 8, 0].item()
    if not abs(peak - 0.5) < 1e-3 or tensors[0].grad is None:
        return f"a test splat of opacity 0.5 came out as {peak:.3f}"
    return None


def _call(*arguments: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    # heavy, optional, and may start a compiler: only when asked for
    from gsplat import rasterization  # pyright: ignore[reportMissingImports]

    return rasterization(*arguments, packed=False, **options)
