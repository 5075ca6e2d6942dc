# SPDX-License-Identifier: Apache-2.0
"""Every declared minimum, maximum and option of every node runs, or is refused by validation with a sentence.

All other inputs of a node are those of `toy_inputs`. A run that takes long is stopped after some reports of progress: it has begun well.
"""

import sys
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from mvp4d_core.avatar import save_avatar
from mvp4d_core.cameras import orbit_camera, viewer_info
from mvp4d_core.generate import MultiViewVideo
from mvp4d_core.rig import library_performance, retarget
from tests.support.comfy_host import Host, InterruptProcessingException, run, validate
from tests.support.comfy_schema import BooleanInput, ComboInput, ComfyNode, FloatInput, VideoComponents, VideoFromComponents, Widget
from tests.support.toy_avatar import toy_avatar
from tests.support.toy_head import toy_head_model
from tests.support.toy_mmvdm import toy_pipeline
from tests.support.toy_reference import toy_reference

Inputs = dict[str, Any]
REPORTS = 12  # of progress, after which a long run is stopped
LONG = {"MVP4D_LoadReference", "MVP4D_SampleMultiViewVideo", "MVP4D_DistillAvatar", "MVP4D_EvaluateAvatar"}
# what depends on a connected thing can't be told before it is there: (node, input, value) -> part of the sentence that then ends the run
BY_WHAT_IS_CONNECTED = {
    ("MVP4D_LoadReference", "face", 99): "face",
    ("MVP4D_EditPerformance", "start", 3600.0): "keep a frame",
    ("MVP4D_AnimateAvatar", "first_frame", 100_000): "at most the performance's",
    ("MVP4D_AnimateAvatar", "frames", 1000): "at most the performance's",
    ("MVP4D_ExportAvatar", "frame", 100_000): "below the performance's",
    ("MVP4D_ExportAvatar", "format", "gaussian-avatars"): "FLAME",
}


@pytest.fixture(scope="module")
def toy_inputs(
    pack: tuple[Host, ModuleType], nodes: dict[str, type[ComfyNode]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Inputs]:
    """What each node is given beside the value that is tried; inputs with a default that is small enough are left out."""
    types = sys.modules[f"{pack[1].__name__}.comfy_nodes.types"]
    avatar = toy_avatar(count=300)
    save_avatar(pack[0].folder / "input" / "toy.mvp4d", avatar)
    bound, head = types.BoundAvatar(avatar), toy_head_model()
    person = types.TrackedReference(toy_reference(head), head)
    acted = library_performance("nod", fps=24, seconds=2)
    still = retarget(acted.select([0]), avatar.rig)
    plan = run(nodes["MVP4D_ConditionExpressions"], reference=person, coverage="120", frames=1, views=2, size=64).args[0]
    rng = np.random.default_rng(0)
    video = MultiViewVideo(
        *(rng.integers(0, 256, (*plan.shape, *rest), dtype=np.uint8) for rest in ((3,), ())), plan, {"generator": "noise"}
    )
    photo = torch.from_numpy(data.astronaut().astype(np.float32) / 255)
    weights = tmp_path_factory.mktemp("weights") / "toy"
    toy_pipeline().save_folder(weights)
    pipelines = sys.modules[f"{pack[1].__name__}.comfy_nodes.pipelines"]
    model = types.ChosenModel("toy", weights, pipelines.ManagedPipeline())
    camera = orbit_camera(0.2, 0.1, target=np.zeros(3), distance=1, fov_y=0.5, width=64, height=64)
    clip = VideoFromComponents(VideoComponents(photo[None, :300, 80:380].repeat(2, 1, 1, 1), Fraction(10)))
    tone = {"waveform": torch.rand(1, 1, 4000, generator=torch.Generator().manual_seed(0)) - 0.5, "sample_rate": 8000}
    rendering = {"avatar": bound, "performance": still, "width": 64, "height": 64}
    return {
        "MVP4D_LoadHeadModel": {},
        "MVP4D_LoadReference": {"image": photo[None]},
        "MVP4D_LoadPerformance": {"seconds": 0.5},
        "MVP4D_PerformancePreset": {"seconds": 0.5},
        "MVP4D_ARKitSliders": {},
        "MVP4D_TrackVideo": {"video": clip, "overlay_frames": 1},
        "MVP4D_SpeechPerformance": {"audio": tone},
        "MVP4D_EditPerformance": {"performance": acted},
        "MVP4D_MixPerformances": {"first": acted, "second": acted},
        "MVP4D_SavePerformance": {"performance": acted},
        "MVP4D_CameraPlan": {"layout": "rings", "count": 2, "camera_info": viewer_info(camera, np.zeros(3))},
        "MVP4D_ConditionExpressions": {"reference": person, "frames": 1, "views": 1, "size": 64},
        "MVP4D_LoadModel": {},
        "MVP4D_SampleMultiViewVideo": {"reference": person, "plan": plan, "model": model, "steps": 1},
        "MVP4D_MultiViewToVideo": {"video": video},
        "MVP4D_DistillAvatar": {"video": video, "reference": person, "steps": 2, "splats": 600},
        "MVP4D_AnimateAvatar": {"avatar": bound, "performance": acted},
        "MVP4D_RenderAvatar": rendering,
        "MVP4D_PreviewAvatar": {"avatar": bound},
        "MVP4D_EvaluateAvatar": {"avatar": bound, "video": video},
        "MVP4D_SaveAvatar": {"avatar": bound},
        "MVP4D_LoadAvatar": {"file": "toy.mvp4d"},
        "MVP4D_ExportAvatar": {"avatar": bound, "performance": still},
        "MVP4D_ExportForBlender": {"avatar": bound},
    }


NODES = [
    "MVP4D_LoadHeadModel", "MVP4D_LoadReference", "MVP4D_LoadPerformance", "MVP4D_PerformancePreset", "MVP4D_ARKitSliders",
    "MVP4D_TrackVideo", "MVP4D_SpeechPerformance", "MVP4D_EditPerformance", "MVP4D_MixPerformances", "MVP4D_SavePerformance",
    "MVP4D_CameraPlan", "MVP4D_ConditionExpressions", "MVP4D_LoadModel", "MVP4D_SampleMultiViewVideo", "MVP4D_MultiViewToVideo",
    "MVP4D_DistillAvatar", "MVP4D_AnimateAvatar", "MVP4D_RenderAvatar", "MVP4D_PreviewAvatar", "MVP4D_EvaluateAvatar", "MVP4D_SaveAvatar",
    "MVP4D_LoadAvatar", "MVP4D_ExportAvatar", "MVP4D_ExportForBlender",
]  # fmt: skip


def test_no_node_is_left_out(nodes: dict[str, type[ComfyNode]], toy_inputs: dict[str, Inputs]) -> None:
    assert set(NODES) == set(toy_inputs) == set(nodes)


@pytest.mark.parametrize("node_id", NODES)
def test_what_is_declared_runs(
    node_id: str, pack: tuple[Host, ModuleType], nodes: dict[str, type[ComfyNode]], toy_inputs: dict[str, Inputs]
) -> None:
    node, wrong = nodes[node_id], []
    for entry in node.GET_SCHEMA().inputs:
        for value in _declared(entry):
            complaint = _outcome(pack[0], node, toy_inputs[node_id], entry.id, value)
            if complaint:
                wrong.append(f"{entry.id} = {value!r}: {complaint}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("node_id", NODES)
def test_what_is_not_declared_is_refused_before_running(node_id: str, nodes: dict[str, type[ComfyNode]]) -> None:
    node = nodes[node_id]
    defaults = _defaults(node)
    for entry in node.GET_SCHEMA().inputs:
        for value in _beyond(entry):
            problems = validate(node, **defaults | {entry.id: value})
            assert problems and all(_is_sentence(problem) for problem in problems), f"{entry.id} = {value!r}: {problems}"


def test_every_camera_that_may_be_planned_sees_the_head(nodes: dict[str, type[ComfyNode]], toy_inputs: dict[str, Inputs]) -> None:
    extremes = ({"distance": 0.5}, {"distance": 5.0}, {"distance": 0.5, "fov": 120.0}, {"elevations": "-85, 85", "distance": 0.5})
    settings = {"coverage": "60", "frames": 21, "views": 0, "size": 64}
    for changes in extremes:
        plan = _defaults(nodes["MVP4D_CameraPlan"]) | {"layout": "rings", "count": 3} | changes
        cameras = run(nodes["MVP4D_CameraPlan"], **plan).args[0]
        reference = toy_inputs["MVP4D_ConditionExpressions"]["reference"]
        assert run(nodes["MVP4D_ConditionExpressions"], reference=reference, cameras=cameras, **settings).args[0].shape[0] >= 3


def _declared(entry: Any) -> list[Any]:
    """The values of an input that its schema says are fine."""
    if isinstance(entry, ComboInput):
        return list(entry.options)
    if isinstance(entry, BooleanInput):
        return [False, True]
    return [entry.min, entry.max] if isinstance(entry, FloatInput) else []


def _beyond(entry: Any) -> list[Any]:
    if isinstance(entry, ComboInput):
        return ["no such thing"]
    return [entry.min - 1, entry.max + 1] if isinstance(entry, FloatInput) else []


def _defaults(node: type[ComfyNode]) -> Inputs:
    """The widgets of a node as it is laid down."""
    widgets = [entry for entry in node.GET_SCHEMA().inputs if isinstance(entry, Widget)]
    return {entry.id: entry.options[0] if isinstance(entry, ComboInput) and entry.default is None else entry.default for entry in widgets}


def _outcome(host: Host, node: type[ComfyNode], given: Inputs, name: str, value: Any) -> str | None:
    """What is wrong with how a node takes a value of one of its inputs; None where nothing is."""
    inputs = _defaults(node) | given | {name: value}
    node_id = node.GET_SCHEMA().node_id
    widgets = {key: entry for key, entry in inputs.items() if key in _defaults(node)}
    problems = validate(node, **widgets)
    if problems:
        return None if all(_is_sentence(problem) for problem in problems) else f"refused without a sentence: {problems}"
    host.interrupt_after = REPORTS if node_id in LONG else None
    try:
        run(node, **inputs)
    except InterruptProcessingException:
        return None
    except Exception as error:
        expected = BY_WHAT_IS_CONNECTED.get((node_id, name, value))
        ours = any(kind.__name__ == "MVP4DError" for kind in type(error).__mro__)
        return None if ours and expected and expected in str(error) else repr(error)
    finally:
        host.interrupt_after = None
    return "ran" if (node_id, name, value) in BY_WHAT_IS_CONNECTED and node_id not in LONG else None


def _is_sentence(text: str) -> bool:
    return len(text) > 15 and len(text.splitlines()) <= 2 and "Traceback" not in text
