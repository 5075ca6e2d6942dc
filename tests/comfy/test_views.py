# SPDX-License-Identifier: Apache-2.0
"""Cameras, conditions, models, sampling and pictures: each node on the real core at toy size."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mvp4d_core.cameras import orbit_camera, viewer_info
from mvp4d_core.diffusion.memory import MemoryPlan
from mvp4d_core.generate import MultiViewVideo
from mvp4d_core.rig import library_performance
from tests.support.comfy_host import Host, InterruptProcessingException, run, sentence_of, validate
from tests.support.comfy_schema import ComfyNode
from tests.support.toy_head import toy_head_model
from tests.support.toy_mmvdm import toy_pipeline
from tests.support.toy_reference import toy_reference

Nodes = dict[str, type[ComfyNode]]
HEAD = toy_head_model()
CAMERAS = {
    "layout": "rings", "coverage": "120", "count": 3, "elevations": "0", "azimuth_from": -40.0, "azimuth_to": 40.0, "distance": 1.0,
    "fov": 0.0,
}  # fmt: skip
SAMPLING = {"generator": "mmvdm", "seed": 3, "steps": 2, "guidance": 1.0, "mode": "rollout", "gpu_gb": 0.0}


@pytest.fixture(scope="module")
def person(pack: tuple[Host, ModuleType], nodes: Nodes) -> Any:
    types = sys.modules[f"{pack[1].__name__}.comfy_nodes.types"]
    return types.TrackedReference(toy_reference(HEAD), HEAD)


@pytest.fixture(scope="module")
def plan(nodes: Nodes, person: Any) -> Any:
    settings = {"coverage": "120", "frames": 5, "views": 5, "size": 64, "motion": True}
    return run(nodes["MVP4D_ConditionExpressions"], reference=person, **settings).args[0]


@pytest.fixture(scope="module")
def model_folder(pack: tuple[Host, ModuleType], nodes: Nodes) -> Path:
    folder = pack[0].folder / "models" / "mvp4d"
    toy_pipeline().save_folder(folder / "toy")
    return folder


# cameras and conditions


def test_cameras_of_each_layout_reach_the_plan(nodes: Nodes, person: Any) -> None:
    camera = orbit_camera(0.4, 0.1, target=np.zeros(3), distance=0.9, fov_y=0.5, width=64, height=64)
    info = viewer_info(camera, np.zeros(3))
    for changes, count in (({}, 3), ({"layout": "preset", "count": 0}, 16), ({"layout": "camera", "camera_info": info, "count": 1}, 1)):
        cameras, picture, number = run(nodes["MVP4D_CameraPlan"], **CAMERAS | changes).args
        assert number == count and picture.shape == (1, 384, 768, 3)
        settings = {"coverage": "360", "frames": 2, "views": 7, "size": 64}
        made, maps = run(nodes["MVP4D_ConditionExpressions"], reference=person, cameras=cameras, **settings).args
        assert made.shape == (count, 2, 64, 64) and maps.shape[0] == 1 and maps.shape[1] > 200
    np.testing.assert_allclose(made.cameras[0].position, camera.position, atol=1e-6)


def test_rings_of_several_heights(nodes: Nodes) -> None:
    assert run(nodes["MVP4D_CameraPlan"], **CAMERAS | {"elevations": " -10, 0;25 "}).args[2] == 9


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"elevations": "high"}, "degrees with commas"),
        ({"elevations": ""}, "degrees with commas"),
        ({"elevations": "0, 95"}, "-85 to 85"),
        ({"elevations": "nan"}, "-85 to 85"),
        ({"elevations": "0,1,2", "count": 30}, "64 cameras at most"),
        ({"azimuth_from": 10.0, "azimuth_to": -10.0}, "beyond"),
        ({"count": 65}, "0 to 64"),
        ({"distance": 0.1}, "distance"),
    ],
)
def test_impossible_cameras_are_refused_before_running(nodes: Nodes, changes: dict[str, Any], part: str) -> None:
    assert part in validate(nodes["MVP4D_CameraPlan"], **CAMERAS | changes)[0]


def test_a_viewers_camera_must_be_connected(nodes: Nodes) -> None:
    assert "`camera_info`" in sentence_of(nodes["MVP4D_CameraPlan"], **CAMERAS | {"layout": "camera"})


def test_frames_with_motion_are_checked_before_running(nodes: Nodes) -> None:
    settings = {"coverage": "120", "views": 2, "size": 64}
    node = nodes["MVP4D_ConditionExpressions"]
    assert "1 + 4k, such as 21, got 23" in validate(node, **settings, frames=23, motion=True)[0]
    assert "1 to 240" in validate(node, **settings, frames=0, motion=False)[0]
    assert validate(node, **settings, frames=23, motion=False) == validate(node, **settings, frames=21, motion=True) == []


def test_a_performance_of_arkits_names_moves_a_head_of_others(nodes: Nodes, pack: tuple[Host, ModuleType]) -> None:
    """Through the least squares map: on a head without ARKit's names it must not fall silent."""
    types = sys.modules[f"{pack[1].__name__}.comfy_nodes.types"]
    other = replace(HEAD, expression_names=tuple(f"expr{k:03d}" for k in range(len(HEAD.expression_names))))
    settings = {"coverage": "60", "frames": 4, "views": 1, "size": 64}
    acted = library_performance("surprise", fps=8, seconds=1)
    reference = types.TrackedReference(toy_reference(HEAD), other)
    made = run(nodes["MVP4D_ConditionExpressions"], reference=reference, performance=acted, **settings).args[0]
    assert np.abs(made.performance.expression).max() > 0.1


# models


def test_models_of_the_models_folder_are_offered(nodes: Nodes, model_folder: Path) -> None:
    node = nodes["MVP4D_LoadModel"]
    (choice,) = node.GET_SCHEMA().inputs
    assert choice.options == ["auto", "proxy", "nano", "toy"]
    model, report = run(node, model="toy").args
    assert model.weights == model_folder / "toy" and report.startswith("toy: ")
    before = node.fingerprint_inputs(model="toy")
    (model_folder / "toy" / "README.md").write_text("changed")
    assert node.fingerprint_inputs(model="toy") != before
    (problem,) = validate(node, model="absent")
    assert "model_index.json" in problem and validate(node, model="toy") == []


def test_auto_takes_what_the_figures_say(nodes: Nodes) -> None:
    model, report = run(nodes["MVP4D_LoadModel"], model="auto").args
    assert model.name in ("proxy", "nano") and report.startswith(model.name)
    assert run(nodes["MVP4D_LoadModel"], model="proxy").args[0].weights is None


def test_a_broken_model_is_named_when_it_is_chosen(nodes: Nodes, model_folder: Path) -> None:
    broken = model_folder / "broken"
    toy_pipeline().save_folder(broken)
    (broken / "vae" / "config.json").write_text("{}")
    try:
        assert "broken" in sentence_of(nodes["MVP4D_LoadModel"], model="broken")
    finally:
        (broken / "model_index.json").unlink()


def test_weights_are_read_once_and_managed(host: Host, nodes: Nodes, person: Any, plan: Any, model_folder: Path) -> None:
    model = run(nodes["MVP4D_LoadModel"], model="toy").args[0]
    videos = [
        run(nodes["MVP4D_SampleMultiViewVideo"], reference=person, plan=plan, model=model, **SAMPLING | {"generator": "proxy"}).args[0]
        for _ in range(2)
    ]
    assert len(host.loaded) == 2 and host.loaded[0] is host.loaded[1], "ComfyUI's management brought the same weights twice"
    assert videos[0].provenance["generator"] == "mmvdm" and np.array_equal(videos[0].frames, videos[1].frames)


def test_a_card_is_planned_for_and_room_is_asked_for(
    host: Host, pack: tuple[Host, ModuleType], nodes: Nodes, person: Any, plan: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a graphics card of 8 GB, but for the device, which is none here."""
    monkeypatch.setattr(f"{pack[1].__name__}.comfy_nodes.host.memory_budget_gb", lambda: 8.0)
    model = run(nodes["MVP4D_LoadModel"], model="toy").args[0]
    video = run(nodes["MVP4D_SampleMultiViewVideo"], reference=person, plan=plan, model=model, **SAMPLING).args[0]
    assert video.provenance["blocks"] == "5 views x 5 frames", "all that the card holds at once"
    assert host.reserved[0] > 100_000


def test_comfyuis_switches_decide_what_leaves_the_card(pack: tuple[Host, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    management, pack_host = sys.modules["comfy.model_management"], sys.modules[f"{pack[1].__name__}.comfy_nodes.host"]
    for state, wanted in (("NORMAL_VRAM", "none"), ("LOW_VRAM", "model"), ("NO_VRAM", "sequential"), ("DISABLED", "none")):
        monkeypatch.setattr(management, "vram_state", management.VRAMState[state])
        assert pack_host.least_offload() == wanted


def test_offloading_without_its_package_says_so(pack: tuple[Host, ModuleType], model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    pipelines = sys.modules[f"{pack[1].__name__}.comfy_nodes.pipelines"]
    placement = pipelines.ManagedPipeline().placement(0)
    with pytest.raises(Exception, match="package accelerate"), placement(model_folder / "toy", MemoryPlan(offload="model"), "cuda"):
        pass


def test_a_stopped_sampling_goes_on_and_ends_the_same(host: Host, nodes: Nodes, person: Any, plan: Any, model_folder: Path) -> None:
    node, blocks = nodes["MVP4D_SampleMultiViewVideo"], host.folder / "temp" / "mvp4d" / "blocks"
    model = run(nodes["MVP4D_LoadModel"], model="toy").args[0]
    settings = {"reference": person, "plan": replace(plan, cameras=plan.cameras * 2), "model": model, **SAMPLING}  # two blocks of views
    whole = run(node, **settings | {"seed": 4}).args[0]
    host.bars.clear()
    host.interrupt_after = 5  # the first block has two steps
    with pytest.raises(InterruptProcessingException):
        run(node, **settings | {"seed": 4})
    assert len(list(blocks.rglob("block_*.safetensors"))) == 1
    host.interrupt_after = None
    host.bars.clear()
    again = run(node, **settings | {"seed": 4}).args[0]
    assert host.bars[0][1][0] == 2, "the first block is taken from where it was kept"
    assert np.array_equal(again.frames, whole.frames) and not list(blocks.rglob("block_*.safetensors"))


def test_without_its_packages_the_model_says_so_and_the_proxy_steps_in(
    host: Host, nodes: Nodes, person: Any, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    model, report = run(nodes["MVP4D_LoadModel"], model="auto").args
    assert model.name == "proxy" and "package diffusers" in report
    assert "requirements.txt" in sentence_of(nodes["MVP4D_LoadModel"], model="nano")
    node, common = nodes["MVP4D_SampleMultiViewVideo"], {"reference": person, "plan": plan, "seed": 0}
    assert "requirements.txt" in sentence_of(node, **common, generator="mmvdm")
    host.interrupt_after = 1
    with pytest.raises(InterruptProcessingException):  # it has begun
        run(node, **common, generator="auto")


# pictures


@pytest.fixture(scope="module")
def video(plan: Any) -> MultiViewVideo:
    rng = np.random.default_rng(0)
    return MultiViewVideo(*(rng.integers(0, 256, (*plan.shape, *rest), dtype=np.uint8) for rest in ((3,), ())), plan, {})


def test_a_multi_view_video_as_pictures(nodes: Nodes, video: Any) -> None:
    node, common = nodes["MVP4D_MultiViewToVideo"], {"video": video, "view": 3, "frame": 2, "columns": 0, "fps": 0.0}
    shapes = {"grid": (5, 128, 192), "one view": (5, 64, 64), "one frame": (5, 64, 64), "all": (25, 64, 64)}
    rate = float(video.plan.performance.fps)
    for layout, shape in shapes.items():
        images, masks, made, fps = run(node, **common, layout=layout).args
        assert images.shape == (*shape, 3) and masks.shape == shape and fps == rate
        assert torch.equal(made.get_components().images, images) and float(made.get_components().frame_rate) == pytest.approx(rate)
        if layout == "one view":
            np.testing.assert_allclose(images.numpy() * 255, video.frames[3], atol=1e-3)
            np.testing.assert_allclose(masks.numpy() * 255, video.alphas[3], atol=1e-3)
        if layout == "one frame":
            np.testing.assert_allclose(images.numpy() * 255, video.frames[:, 2], atol=1e-3)
    assert run(node, **common | {"fps": 12.5}, layout="grid").args[3] == 12.5
    assert "0 to 4" in sentence_of(node, **common | {"view": 5}, layout="one view")
