# SPDX-License-Identifier: Apache-2.0
"""`mvp4d doctor`: what is installed, which device works, and which licensed files are missing and where they go."""

import argparse
import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from .terminal import answer

PACKAGES = (
    "numpy",
    "torch",
    "diffusers",
    "safetensors",
    "numba",
    "scipy",
    "trimesh",
    "Pillow",
    "av",
    "tqdm",
    "gsplat",
    "bpy",
    "accelerate",
)
EXTRA_OF = {"gsplat": "cuda", "bpy": "blender", "accelerate": "train"}
HEAD_FOLDER = Path.home() / ".mvp4d" / "heads"
NANO_FOLDER = Path(__file__).parents[1] / "diffusion" / "assets" / "nano"


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    subparsers.add_parser("doctor", help="what is installed and what is missing", description="What is installed and what is missing.")


def run(arguments: argparse.Namespace) -> None:
    """Answers with the machine's state; `missing` says how to get what is not there."""
    versions: dict[str, str | None] = {}
    missing: dict[str, str] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
            missing[package] = f"pip install 'mvp4d[{EXTRA_OF.get(package, 'torch')}]'"
    heads = sorted(str(path) for path in HEAD_FOLDER.glob("*.safetensors")) if HEAD_FOLDER.is_dir() else []
    if not heads:
        missing["FLAME"] = f"optional, licensed, and not read by this version; heads of your own (.safetensors) go into {HEAD_FOLDER}"
    weights = ["nano"] if NANO_FOLDER.is_dir() else []
    missing["MVP4D weights"] = "the authors have published none; `nano` is small and knows synthetic heads; `mvp4d train` makes your own"
    answer(
        {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
            "packages": versions,
            **_devices(),
            "heads": ["open-head", *heads],
            "weights": weights,
            "missing": missing,
        },
        arguments,
    )


def _devices() -> dict[str, object]:
    """The torch device and which splat rasteriser works on it, tried and not guessed."""
    try:
        import torch
    except ImportError:
        return {"device": None, "splat_backend": None}
    from ..render import gsplat_backend

    if not torch.cuda.is_available():
        return {"device": "cpu", "splat_backend": "numba"}
    reason = gsplat_backend.why_unusable(0)
    backend = "gsplat" if reason is None else f"numba; gsplat does not work: {reason}"
    return {"device": torch.cuda.get_device_name(0), "splat_backend": backend}
