# SPDX-License-Identifier: Apache-2.0
"""What ComfyUI's registry asks of a pack before it takes it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def project() -> dict:
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_no_code_is_made_from_texts_and_no_statement_hidden() -> None:
    """The rules of `comfy node validate`: no exec, no eval, no semicolons."""
    pytest.importorskip("ruff")
    packages = ["__init__.py", "comfy_nodes", "mvp4d_core", "blender_addon", "tools"]
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "S102,S307,E702", *packages]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout


def test_it_says_who_it_is() -> None:
    told = project()
    name, version, comfy = told["project"]["name"], told["project"]["version"], told["tool"]["comfy"]
    assert len(name) < 100 and "comfyui" not in name.lower() and re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert comfy["PublisherId"] and comfy["DisplayName"] and comfy["requires-comfyui"] == ">=0.25"


def test_nothing_of_comfyui_is_replaced() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = {re.split(r"[<>=!~\[; ]", line)[0].lower() for line in lines if line and not line.startswith("#")}
    assert not names & {"torch", "torchvision", "torchaudio", "numpy", "opencv-python", "opencv-python-headless", "mediapipe"}


def test_the_archive_has_what_runs_and_is_seen() -> None:
    """A name without a slash before it would leave out folders of that name anywhere, such as the nodes' help pages in `docs`."""
    ignored = set((ROOT / ".comfyignore").read_text(encoding="utf-8").split())
    assert "/tests/" in ignored and all(line.startswith("/") for line in ignored)
    assert not ignored & {"/comfy_nodes/", "/mvp4d_core/", "/workflows/", "/locales/", "/requirements.txt", "/LICENSE", "/blender_addon/"}
