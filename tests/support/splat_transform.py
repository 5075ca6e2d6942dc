# SPDX-License-Identifier: Apache-2.0
"""PlayCanvas' splat-transform, a reader and writer of splat files that is not ours; installed from npm once, into the user's cache."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

VERSION = "2.7.1"


@cache
def _command() -> Path:
    """The installed program; the test is skipped where there is no Node.js, no npm or no network."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs Node.js and npm")
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mvp4d-tests" / f"splat-transform-{VERSION}"
    program = folder / "node_modules" / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        package = f"@playcanvas/splat-transform@{VERSION}"
        install = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", package]
        done = subprocess.run(install, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"npm cannot install {package}: {done.stderr.strip()[-200:]}")
    return program


def convert(source: Path, target: Path, *options: str) -> None:
    """Turns one splat file into another of the kind that its ending names."""
    command = ["node", str(_command()), "-q", "-w", *options, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def columns(source: Path, folder: Path) -> dict[str, np.ndarray]:
    """What it reads in a splat file, by 3DGS' names of columns, in the axes of PLY files."""
    table = folder / "columns.csv"
    convert(source, table)
    with table.open(encoding="ascii") as file:
        names = file.readline().strip().split(",")
        values = np.loadtxt(file, delimiter=",", ndmin=2)
    return dict(zip(names, values.T, strict=True))
