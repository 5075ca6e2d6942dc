# SPDX-License-Identifier: Apache-2.0
"""The pack as ComfyUI meets it: imported by path under a mangled name, schemas whole, nothing of ComfyUI touched outside host.py."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import comfy_host
from tests.support.comfy_schema import ComboInput, ComfyNode, FloatInput, Widget

ROOT = Path(__file__).parents[2]
PACK = ROOT / "comfy_nodes"
HOST_MODULES = {"comfy", "folder_paths", "server", "nodes", "execution", "latent_preview"}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, type[ComfyNode]]]:
    with comfy_host.installed(tmp_path_factory.mktemp("comfy")):
        yield comfy_host.nodes_of(comfy_host.load_pack(ROOT))


def test_ids_never_change(nodes: dict[str, type[ComfyNode]]) -> None:
    """Saved workflows name these: a node may be added here, none renamed or removed."""
    assert list(nodes) == [
        "MVP4D_LoadHeadModel",
        "MVP4D_LoadReference",
        "MVP4D_LoadPerformance",
        "MVP4D_PerformancePreset",
        "MVP4D_ARKitSliders",
        "MVP4D_TrackVideo",
        "MVP4D_SpeechPerformance",
        "MVP4D_EditPerformance",
        "MVP4D_MixPerformances",
        "MVP4D_SavePerformance",
        "MVP4D_CameraPlan",
        "MVP4D_ConditionExpressions",
        "MVP4D_LoadModel",
        "MVP4D_SampleMultiViewVideo",
        "MVP4D_MultiViewToVideo",
        "MVP4D_DistillAvatar",
        "MVP4D_AnimateAvatar",
        "MVP4D_RenderAvatar",
        "MVP4D_PreviewAvatar",
        "MVP4D_EvaluateAvatar",
        "MVP4D_SaveAvatar",
        "MVP4D_LoadAvatar",
        "MVP4D_ExportAvatar",
        "MVP4D_ExportForBlender",
    ]


FIRST_INPUTS = {  # as workflows were first saved: positions of widgets count there, so none may go, move or change its name
    "MVP4D_LoadReference": ["image", "mask", "mask_marks", "face", "head", "face_landmarks"],
    "MVP4D_LoadPerformance": ["performance", "fps", "seconds"],
    "MVP4D_ConditionExpressions": ["reference", "performance", "coverage", "frames", "views", "size", "motion"],
    "MVP4D_SampleMultiViewVideo": ["reference", "plan", "generator", "seed", "steps", "guidance", "mode", "gpu_gb"],
    "MVP4D_DistillAvatar": ["video", "reference", "quality", "seed", "steps", "splats"],
    "MVP4D_AnimateAvatar": ["avatar", "performance", "first_frame", "frames"],
    "MVP4D_RenderAvatar": [
        "avatar", "performance", "azimuth", "elevation", "turn", "distance", "fov", "width", "height", "background",
    ],
    "MVP4D_SaveAvatar": ["avatar", "filename_prefix", "save_ply"],
    "MVP4D_LoadAvatar": ["file", "head"],
}  # fmt: skip


def test_inputs_are_only_ever_added_behind_the_first_ones(nodes: dict[str, type[ComfyNode]]) -> None:
    for node_id, first in FIRST_INPUTS.items():
        inputs = nodes[node_id].GET_SCHEMA().inputs
        assert [entry.id for entry in inputs[: len(first)]] == first, node_id
        assert all(entry.optional for entry in inputs[len(first) :]), f"{node_id}: workflows saved before would not run"


def test_every_node_explains_itself(nodes: dict[str, type[ComfyNode]]) -> None:
    for node_id, node in nodes.items():
        schema = node.GET_SCHEMA()
        assert schema.display_name.startswith("MVP4D ") and schema.category == "MVP4D", node_id
        assert schema.description.endswith(".") and schema.search_aliases, node_id
        for entry in (*schema.inputs, *schema.outputs):
            assert entry.tooltip and entry.tooltip.endswith("."), f"{node_id}.{entry.id}"
        page = (PACK / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {schema.display_name}\n"), node_id


def test_no_help_page_without_a_node(nodes: dict[str, type[ComfyNode]]) -> None:
    assert {page.stem for page in (PACK / "web" / "docs").iterdir()} == set(nodes)


def test_defaults_are_allowed(nodes: dict[str, type[ComfyNode]]) -> None:
    for node_id, node in nodes.items():
        for entry in node.GET_SCHEMA().inputs:
            if isinstance(entry, Widget) and not (isinstance(entry, ComboInput) and not entry.options):
                entry.check(entry.default if entry.default is not None else entry.options[0])
            if isinstance(entry, FloatInput):
                assert None not in (entry.min, entry.max, entry.default), f"{node_id}.{entry.id} has no bounds"
            if entry.id == "seed":
                assert entry.control_after_generate.value == "fixed", f"{node_id}: a new seed each run would fit a new avatar each run"


def test_types_of_our_own_are_prefixed(nodes: dict[str, type[ComfyNode]]) -> None:
    native = {"IMAGE", "MASK", "SPLAT", "VIDEO", "AUDIO", "LOAD3D_CAMERA", "FACE_LANDMARKS"}
    native |= {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR"}
    made = {o.io_type for node in nodes.values() for o in node.GET_SCHEMA().outputs}
    wanted = {i.io_type for node in nodes.values() for i in node.GET_SCHEMA().inputs}
    assert all(name in native or name.startswith("MVP4D_") for name in made | wanted)
    assert {name for name in wanted if name.startswith("MVP4D_")} <= made, "a socket that nothing can be connected to"


def test_only_host_imports_comfy() -> None:
    for path in PACK.glob("*.py"):
        for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(statement, ast.ImportFrom) and statement.level == 0:
                names = [statement.module]
            elif isinstance(statement, ast.Import):
                names = [alias.name for alias in statement.names]
            else:
                continue
            roots = {name.partition(".")[0] for name in names}
            assert path.name == "host.py" or not roots & HOST_MODULES, f"{path.name} imports {roots}"
            assert not roots & {"mvp4d_core", "comfy_nodes"}, f"{path.name} imports {roots} by an absolute name"


IMPORTED_AS_COMFYUI_DOES = """
import sys
sys.path = [entry for entry in sys.path if entry not in ("", {root!r}) and "__editable__" not in entry]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import importlib.util
from pathlib import Path
support = importlib.util.spec_from_file_location("tests.support.comfy_host", {root!r} + "/tests/support/comfy_host.py")
schema = importlib.util.spec_from_file_location("tests.support.comfy_schema", {root!r} + "/tests/support/comfy_schema.py")
for spec in (schema, support):
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if spec is schema:
        tests = type(sys)("tests.support"); tests.comfy_schema = module
        sys.modules["tests"] = type(sys)("tests"); sys.modules["tests.support"] = tests
    spec.loader.exec_module(module)
with module.installed(Path({folder!r})):
    before = set(sys.modules)
    pack = module.load_pack(Path({clone!r}))
    assert not any(name.startswith("comfy") for name in set(sys.modules) - before if "/" not in name)
    assert len(module.nodes_of(pack)) == 24
    assert (Path({clone!r}) / pack.WEB_DIRECTORY / "docs").is_dir()
    new = set(sys.modules) - before
assert "mvp4d_core" not in sys.modules and any(name.endswith("ComfyUI-MVP4D_x_main.mvp4d_core") for name in new), new
assert not new & {{"numba", "scipy", "mediapipe", "diffusers", "PIL"}}, "importing the pack must be quick"
"""


def test_import_as_comfyui_imports_a_clone(tmp_path: Path) -> None:
    """In a fresh interpreter, the repository's root not on the path, from a folder with a hyphen and a dot in its name."""
    clone = tmp_path / "ComfyUI-MVP4D.main"
    clone.symlink_to(ROOT, target_is_directory=True)
    code = IMPORTED_AS_COMFYUI_DOES.format(root=str(ROOT), folder=str(tmp_path / "comfy"), clone=str(clone))
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_root_imports_without_comfyui(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.symlink_to(ROOT, target_is_directory=True)
    code = "import sys, clone; assert not any(m.startswith(('comfy', 'torch')) for m in sys.modules)"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_suite_runs_in_a_folder_of_any_name(tmp_path: Path) -> None:
    """A clone is called ComfyUI-MVP4D, and pytest opens the root's __init__.py by itself."""
    clone = tmp_path / "ComfyUI-MVP4D.main"
    clone.mkdir()
    (clone / "__init__.py").write_bytes((ROOT / "__init__.py").read_bytes())
    (clone / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (clone / "tests").mkdir()
    (clone / "tests" / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=clone)
    assert result.returncode == 0, result.stdout
