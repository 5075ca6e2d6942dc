# SPDX-License-Identifier: Apache-2.0
"""Renderers: Gaussian splats (numba on the CPU, gsplat on CUDA, one signature) and a z-buffer for triangle meshes.

Meshes need numpy and numba alone; torch is loaded when a splat function is first asked for.
"""

from typing import TYPE_CHECKING, Any

from .mesh import MeshBuffers, interpolate, rasterize_mesh, rasterize_uv, render_textured_mesh, sample_texture

if TYPE_CHECKING:
    from .splats import rasterize_splats, warm_up

__all__ = [
    "MeshBuffers",
    "interpolate",
    "rasterize_mesh",
    "rasterize_splats",
    "rasterize_uv",
    "render_textured_mesh",
    "sample_texture",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name in ("rasterize_splats", "warm_up"):
        from . import splats

        return getattr(splats, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
