# SPDX-License-Identifier: Apache-2.0
"""A small, strict stand-in for ComfyUI: the part of its V3 node API, folders, progress and graph execution that the pack uses.

It refuses what ComfyUI would refuse (unknown keywords, ids twice, missing inputs, wrong socket types, values out of range) and runs
nodes as ComfyUI does, in torch's inference mode. `tests/comfy/test_real_comfyui.py` checks it against a real ComfyUI.
"""

import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from tests.support import comfy_schema as schema
from tests.support.comfy_schema import ComfyNode, Hidden, check_picture


class ComfyExtension:
    async def on_load(self) -> None: ...


class InterruptProcessingException(BaseException):
    pass


class VRAMState(Enum):
    DISABLED = 0
    NO_VRAM = 1
    LOW_VRAM = 2
    NORMAL_VRAM = 3


@dataclass(eq=False)
class ModelPatcher:
    model: torch.nn.Module
    load_device: torch.device
    offload_device: torch.device


@dataclass
class Host:
    """What the stand-in saw, and what it is told to do."""

    folder: Path
    bars: list[tuple[int, list[int]]] = field(default_factory=list)  # (total, values)
    previews: list[tuple[str, Any, int]] = field(default_factory=list)  # (format, picture, largest side)
    texts: list[str] = field(default_factory=list)
    interrupted: bool = False
    interrupt_after: int | None = None  # so many reports of progress
    disable_metadata: bool = False
    loaded: list[ModelPatcher] = field(default_factory=list)
    reserved: list[float] = field(default_factory=list)  # bytes beside what was loaded
    free_memory: int = 8 << 30  # bytes
    static_routes: dict[str, Path] = field(default_factory=dict)  # prefix -> folder

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def modules(self) -> dict[str, ModuleType]:
        """Everything the pack may import of ComfyUI, by name."""
        return {
            **_api_modules(),
            **_comfy_modules(self),
            "folder_paths": _folder_paths(self.folder),
            "server": _module("server", PromptServer=SimpleNamespace(instance=self)),
        }

    @property
    def routes(self) -> SimpleNamespace:
        return SimpleNamespace(static=self.static_routes.__setitem__)

    def send_progress_text(self, text: str, node_id: str) -> None:
        assert isinstance(text, str) and isinstance(node_id, str)
        self.texts.append(text)


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module


def _api_modules() -> dict[str, ModuleType]:
    kinds = (schema.Schema, schema.NodeOutput, ComfyNode, Hidden, schema.ControlAfterGenerate, schema.NumberDisplay)
    io = _module(
        "io",
        Image=schema.comfy_type("IMAGE"),
        Mask=schema.comfy_type("MASK"),
        Splat=schema.comfy_type("SPLAT"),
        Load3DCamera=schema.comfy_type("LOAD3D_CAMERA"),
        Video=schema.comfy_type("VIDEO"),
        Audio=schema.comfy_type("AUDIO"),
        Int=schema.comfy_type("INT", schema.IntInput),
        Float=schema.comfy_type("FLOAT", schema.FloatInput),
        String=schema.comfy_type("STRING", schema.StringInput),
        Boolean=schema.comfy_type("BOOLEAN", schema.BooleanInput),
        Combo=schema.comfy_type("COMBO", schema.ComboInput),
        Color=schema.comfy_type("COLOR", schema.ColorInput),
        Custom=schema.comfy_type,
        **{kind.__name__: kind for kind in kinds},
    )
    ui = _module("ui", PreviewImage=schema.PreviewImage)
    latest = _module(
        "comfy_api.latest",
        io=io,
        ui=ui,
        ComfyExtension=ComfyExtension,
        Types=SimpleNamespace(SPLAT=schema.SPLAT, VideoComponents=schema.VideoComponents),
        InputImpl=SimpleNamespace(VideoFromFile=schema.VideoFromFile, VideoFromComponents=schema.VideoFromComponents),
    )
    return {"comfy_api": _module("comfy_api", latest=latest, __path__=[]), "comfy_api.latest": latest}


def _comfy_modules(host: Host) -> dict[str, ModuleType]:
    def throw_exception_if_processing_interrupted() -> None:
        if host.interrupt_after is not None:
            host.interrupt_after -= 1
        if host.interrupted or host.interrupt_after == 0:
            raise InterruptProcessingException

    class ProgressBar:
        def __init__(self, total: int) -> None:
            self.total, self.values = total, []
            host.bars.append((total, self.values))

        def update_absolute(self, value: int, total: int | None = None, preview: tuple[str, Any, int] | None = None) -> None:
            assert 0 <= value <= (total or self.total), (value, total, self.total)
            self.values.append(value)
            if preview is not None:
                host.previews.append(preview)

    def load_models_gpu(models: list[ModelPatcher], memory_required: float = 0, force_full_load: bool = False) -> None:
        host.loaded.extend(models)
        host.reserved.append(memory_required)
        for patcher in models:
            patcher.model.to(patcher.load_device)

    management = _module(
        "comfy.model_management",
        InterruptProcessingException=InterruptProcessingException,
        throw_exception_if_processing_interrupted=throw_exception_if_processing_interrupted,
        get_torch_device=lambda: torch.device("cpu"),
        intermediate_device=lambda: torch.device("cpu"),
        get_free_memory=lambda device=None: host.free_memory,
        unet_offload_device=lambda: torch.device("cpu"),
        load_models_gpu=load_models_gpu,
        VRAMState=VRAMState,
        vram_state=VRAMState.DISABLED,
    )
    utils = _module("comfy.utils", ProgressBar=ProgressBar)
    cli_args = _module("comfy.cli_args", args=host)
    patcher = _module("comfy.model_patcher", ModelPatcher=ModelPatcher)
    parts = {"model_management": management, "model_patcher": patcher, "utils": utils, "cli_args": cli_args}
    return {"comfy": _module("comfy", **parts, __path__=[])} | {f"comfy.{name}": part for name, part in parts.items()}


def _folder_paths(folder: Path) -> ModuleType:
    places = {name: folder / name for name in ("input", "output", "temp", "models")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    model_folders: dict[str, list[str]] = {}

    def add_model_folder_path(name: str, path: str) -> None:
        paths = model_folders.setdefault(name, [])
        if path not in paths:
            paths.append(path)

    def get_filename_list(name: str) -> list[str]:
        return sorted(p.relative_to(f).as_posix() for f in model_folders[name] for p in Path(f).rglob("*") if p.is_file())

    def get_full_path_or_raise(name: str, filename: str) -> str:
        for place in model_folders[name]:
            if (Path(place) / filename).is_file():
                return str(Path(place) / filename)
        raise FileNotFoundError(f"Model in folder '{name}' with filename '{filename}' not found.")

    def get_annotated_filepath(name: str) -> str:
        place = places["input"]
        for label in ("input", "output", "temp"):
            if name.endswith(f" [{label}]"):
                name, place = name.removesuffix(f" [{label}]"), places[label]
        path = (place / name).resolve()
        if not path.is_relative_to(place.resolve()):
            raise ValueError(f"Invalid file path: {name!r}")
        return str(path)

    def exists_annotated_filepath(name: str) -> bool:
        try:
            return Path(get_annotated_filepath(name)).exists()
        except ValueError:
            return False

    def get_save_image_path(prefix: str, output: str) -> tuple[str, str, int, str, str]:
        path = Path(output) / prefix
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = [p.name.removeprefix(path.name + "_").split("_")[0] for p in path.parent.glob(f"{path.name}_*")]
        counter = max((int(digits) for digits in taken if digits.isdigit()), default=0) + 1
        subfolder = path.parent.relative_to(output).as_posix()
        return str(path.parent), path.name, counter, "" if subfolder == "." else subfolder, prefix

    return _module(
        "folder_paths",
        models_dir=str(places["models"]),
        get_input_directory=lambda: str(places["input"]),
        get_output_directory=lambda: str(places["output"]),
        get_temp_directory=lambda: str(places["temp"]),
        add_model_folder_path=add_model_folder_path,
        get_filename_list=get_filename_list,
        get_full_path_or_raise=get_full_path_or_raise,
        get_annotated_filepath=get_annotated_filepath,
        exists_annotated_filepath=exists_annotated_filepath,
        get_save_image_path=get_save_image_path,
    )


@contextmanager
def installed(folder: Path) -> Iterator[Host]:
    """The stand-in in `sys.modules`, its folders under `folder`; what was imported meanwhile with its help is forgotten afterwards."""
    host = Host(folder)
    before = dict(sys.modules)
    sys.modules.update(host.modules())
    try:
        yield host
    finally:
        for name in set(sys.modules) - set(before):
            if name.partition(".")[0] in ("comfy", "comfy_api", "folder_paths", "server") or name.startswith("/"):
                del sys.modules[name]


def load_pack(folder: Path) -> ModuleType:
    """Imports a clone as ComfyUI does: by path, under its full path as a name, dots replaced."""
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def nodes_of(pack: ModuleType) -> dict[str, type[ComfyNode]]:
    """The pack's nodes by id, after its `on_load`."""

    async def load() -> list[type[ComfyNode]]:
        extension = await pack.comfy_entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(load())}


def object_info(node: type[ComfyNode]) -> dict[str, Any]:
    """What ComfyUI's /object_info says of a node, as far as the pack depends on it."""
    described = node.GET_SCHEMA()
    inputs: dict[str, dict[str, Any]] = {"required": {}}
    for entry in described.inputs:
        inputs.setdefault("optional" if entry.optional else "required", {})[entry.id] = [entry.io_type, entry.options_dict()]
    if described.hidden:
        inputs["hidden"] = {hidden.name: [hidden.value] for hidden in described.hidden}
    return {
        "input": inputs,
        "output": [o.io_type for o in described.outputs],
        "output_name": [o.display_name or o.io_type for o in described.outputs],
        "output_tooltips": [o.tooltip for o in described.outputs],
        "name": described.node_id,
        "display_name": described.display_name,
        "description": described.description,
        "category": described.category,
        "output_node": described.is_output_node,
        "search_aliases": described.search_aliases,
    }


def validate(node: type[ComfyNode], **inputs: Any) -> list[str]:
    """What ComfyUI's validation says against widget values; linked inputs are left out.

    A node's `validate_inputs` is given those that it names, and bounds and options of these are its own affair.
    """
    described = node.GET_SCHEMA()
    own = getattr(node, "validate_inputs", None)
    named = set(inspect.signature(own).parameters) if own else set()
    assert named <= {entry.id for entry in described.inputs}, f"{described.node_id} validates what it has not"
    problems = []
    for entry in described.inputs:
        if isinstance(entry, schema.Widget) and entry.id in inputs and entry.id not in named:
            try:
                entry.check(inputs[entry.id])
            except (ValueError, TypeError) as error:
                problems.append(str(error))
    given = {name: value for name, value in inputs.items() if name in named}
    answer = own(**given) if own and given else True
    return problems if answer is True else [*problems, answer]


def run(node: type[ComfyNode], *, prompt: Any = None, extra_pnginfo: Any = None, **inputs: Any) -> schema.NodeOutput:
    """Executes a node as ComfyUI does: inputs checked, hidden ones given, in inference mode."""
    described = node.GET_SCHEMA()
    known = {entry.id: entry for entry in described.inputs}
    if set(inputs) - set(known) or {i for i, e in known.items() if not e.optional} - set(inputs):
        raise TypeError(f"{described.node_id} takes {sorted(known)}, got {sorted(inputs)}")
    for name, value in inputs.items():
        if isinstance(known[name], schema.Widget):
            known[name].check(value)
    wanted = {Hidden.unique_id: "7", Hidden.prompt: prompt, Hidden.extra_pnginfo: extra_pnginfo}
    hidden = SimpleNamespace(**{h.name: wanted[h] if h in described.hidden else None for h in Hidden})
    clone = type(node.__name__, (node,), {"hidden": hidden})
    with torch.inference_mode():
        result = clone.execute(**inputs)
    assert len(result.args) == len(described.outputs), f"{described.node_id} gave {len(result.args)} of {len(described.outputs)} outputs"
    for value, output in zip(result.args, described.outputs, strict=True):
        check_picture(value, output.io_type)
    return result


def sentence_of(node: type[ComfyNode], **inputs: Any) -> str:
    """The message of the core's error that a run ends with, in at most two lines."""
    try:
        run(node, **inputs)
    except Exception as error:
        assert any(kind.__name__ == "MVP4DError" for kind in type(error).__mro__), repr(error)
        assert len(str(error).splitlines()) <= 2, str(error)
        return str(error)
    raise AssertionError(f"{node.GET_SCHEMA().node_id} ran")


def run_workflow(
    nodes: dict[str, type[ComfyNode]], workflow: dict[str, dict], given: dict[str, schema.NodeOutput]
) -> dict[str, schema.NodeOutput]:
    """Executes the pack's nodes of an API-format workflow; `given` has what other nodes give, by their id in the workflow."""
    outputs = dict(given)

    def evaluate(key: str) -> schema.NodeOutput:
        if key not in outputs:
            entry = workflow[key]
            inputs = {name: evaluate(v[0]).args[v[1]] if isinstance(v, list) else v for name, v in entry["inputs"].items()}
            outputs[key] = run(nodes[entry["class_type"]], prompt=workflow, extra_pnginfo={"workflow": {"nodes": []}}, **inputs)
        return outputs[key]

    for key, entry in workflow.items():
        if entry["class_type"] in nodes:
            evaluate(key)
    return outputs
