# SPDX-License-Identifier: Apache-2.0
"""The arrows of the house: what may import what, read off the code, and tried in a fresh interpreter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "mvp4d_core"
# rooms from the ground up; each may import itself and what is listed before it
FLOORS = (
    "errors", "progress", "rotations", "cameras", "io", "rig", "avatar", "tracks", "player",
    "differentiable", "render", "tracking", "conditioning", "generate", "evaluation.metrics", "evaluation.weights", "evaluation.lpips",
    "diffusion", "distill", "player.bench",
    "training", "evaluation", "journal", "memory", "showreel", "create", "cli",
)  # fmt: skip
GROUND = ("mvp4d_core.errors", "mvp4d_core.progress", "mvp4d_core.rotations", "mvp4d_core.cameras", "mvp4d_core.rig",
          "mvp4d_core.avatar", "mvp4d_core.avatar.ply", "mvp4d_core.avatar.file_space", "mvp4d_core.avatar.import_avatar",
          "mvp4d_core.avatar.glb", "mvp4d_core.tracks.known", "mvp4d_core.rig.speech",
          "mvp4d_core.io.safetensors_numpy", "mvp4d_core.io.atomic", "mvp4d_core.player",
          "mvp4d_core.player.browser", "mvp4d_core.tracking", "mvp4d_core.cli.main")  # fmt: skip
HEAVY = ("torch", "numba", "scipy", "PIL", "av", "mediapipe", "bpy", "diffusers", "trimesh", "tqdm", "comfy")


def relative_imports(path: Path, package: tuple[str, ...]) -> set[str]:
    """Dotted names below `package[0]` that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[1 : len(package) - node.level + 1]
            for alias in node.names:
                found.add(".".join((*base, *(node.module or "").split("."), alias.name)).strip("."))
    return {name.replace("..", ".") for name in found if name}


def floor_of(name: str) -> int:
    """The index of the room a dotted name lies in; rooms named more closely come first."""
    matches = [floor for floor in FLOORS if name == floor or name.startswith(floor + ".")]
    return FLOORS.index(max(matches, key=len)) if matches else -1


def core_files() -> list[Path]:
    return [p for p in sorted(CORE.rglob("*.py")) if p.name not in ("__init__.py", "__main__.py") or p.parent != CORE]


@pytest.mark.parametrize("path", core_files(), ids=lambda p: str(p.relative_to(CORE)))
def test_core_imports_point_down(path):
    parts = path.relative_to(CORE).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    package = ("mvp4d_core", *parts[:-1])
    own = floor_of(name)
    assert own >= 0, f"{name} lies in no room that is listed"
    for imported in relative_imports(path, package):
        if imported in ("__version__",):
            continue
        floor = floor_of(imported)
        assert 0 <= floor <= own, f"{name} imports {imported}, which is above it"


def test_core_and_nodes_import_themselves_relatively():
    for folder in (CORE, ROOT / "comfy_nodes"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                assert not any(n.split(".")[0] in ("mvp4d_core", "comfy_nodes") for n in names), (
                    f"{path} imports its own package absolutely"
                )


def test_only_host_touches_comfy():
    for path in (ROOT / "comfy_nodes").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in names:
                assert path.name == "host.py" or name.split(".")[0] not in ("comfy", "folder_paths", "server", "nodes", "execution"), path


def test_the_add_on_stands_on_the_ground_floor_alone():
    allowed = {"errors", "progress", "rotations", "cameras", "io", "rig", "avatar", "tracks"}
    for path in (ROOT / "blender_addon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.split(".")[0] == "mvp4d_core" and len(name.split(".")) > 1:
                    assert name.split(".")[1] in allowed, f"{path} imports {name}"
                assert name.split(".")[0] not in ("torch", "numba", "scipy", "comfy_nodes"), f"{path} imports {name}"


@pytest.mark.parametrize("module", GROUND)
def test_ground_floor_needs_numpy_alone(module):
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_no_room_without_a_name():
    for folder in (CORE, ROOT / "comfy_nodes", ROOT / "blender_addon", ROOT / "tools"):
        assert not [p for p in folder.rglob("*.py") if p.stem in ("utils", "helpers", "common", "misc")]


def test_every_file_names_its_licence():
    for folder, licence in ((CORE, "Apache-2.0"), (ROOT / "comfy_nodes", "Apache-2.0"), (ROOT / "blender_addon", "GPL-3.0-or-later")):
        for path in folder.rglob("*.py"):
            assert f"SPDX-License-Identifier: {licence}" in path.read_text(encoding="utf-8").splitlines()[0], path
