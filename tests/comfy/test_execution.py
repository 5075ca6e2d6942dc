# SPDX-License-Identifier: Apache-2.0
"""The nodes at work on the real core, at toy size, executed as ComfyUI executes them."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from mvp4d_core.avatar import GaussianAvatar, load_avatar
from mvp4d_core.avatar.ply import read_ply
from mvp4d_core.rig import load_head_model, rest_parameters, retarget, save_head_model, save_performance, showcase_performance
from tests.support import comfy_host
from tests.support.comfy_host import Host, InterruptProcessingException, run, run_workflow
from tests.support.comfy_schema import ComfyNode, NodeOutput
from tests.support.quick_start import TOY
from tests.support.toy_avatar import toy_avatar
from tests.support.toy_mmvdm import toy_pipeline

ROOT = Path(__file__).parents[2]
Nodes = dict[str, type[ComfyNode]]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, ModuleType]]:
    with comfy_host.installed(tmp_path_factory.mktemp("comfy")) as host:
        yield host, comfy_host.load_pack(ROOT)


@pytest.fixture(scope="module")
def nodes(pack: tuple[Host, ModuleType]) -> Nodes:
    return comfy_host.nodes_of(pack[1])


@pytest.fixture
def host(pack: tuple[Host, ModuleType]) -> Iterator[Host]:
    pack[0].bars.clear()
    pack[0].previews.clear()
    pack[0].texts.clear()
    yield pack[0]
    pack[0].interrupted = pack[0].disable_metadata = False


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return torch.from_numpy(data.astronaut().astype(np.float32) / 255)[None]


@pytest.fixture(scope="module")
def quick_start(pack: tuple[Host, ModuleType], nodes: Nodes, photo: torch.Tensor) -> dict[str, NodeOutput]:
    workflow = json.loads((ROOT / "workflows" / "api" / "quick_start.json").read_text(encoding="utf-8"))
    for key, values in TOY.items():
        workflow[key]["inputs"].update(values)
    return run_workflow(nodes, workflow, {"1": NodeOutput(photo, torch.zeros(1, 64, 64))})


@pytest.fixture(scope="module")
def bound(pack: tuple[Host, ModuleType]) -> Any:
    """A toy avatar as it travels between nodes."""
    types = sys.modules[f"{pack[1].__name__}.comfy_nodes.types"]
    return types.BoundAvatar(toy_avatar(sh_degree=1))


def _performance(nodes: Nodes, **options: Any) -> Any:
    return run(nodes["MVP4D_LoadPerformance"], **{"performance": "showcase", "fps": 4.0, "seconds": 1.0} | options).args[0]


def _render(nodes: Nodes, avatar: Any, performance: Any, **options: Any) -> NodeOutput:
    camera = {
        "azimuth": 0.0,
        "elevation": 0.0,
        "turn": 0.0,
        "distance": 1.2,
        "fov": 14.0,
        "width": 64,
        "height": 64,
        "background": "#ffffff",
    }
    return run(nodes["MVP4D_RenderAvatar"], avatar=avatar, performance=performance, **camera | options)


def test_quick_start_gives_a_playing_avatar(quick_start: dict[str, NodeOutput]) -> None:
    overlay, report = quick_start["2"].args[1:]
    assert overlay.shape[0] == 1 and min(overlay.shape[1:3]) > 256
    assert report.startswith("Landmark error ") and float(report.split()[2]) < 3
    images, masks = quick_start["4"].args[1:]
    assert images.shape == (6, 64, 64, 3) and masks.shape == (6, 64, 64) and masks.mean() > 0.1
    frames, alphas = quick_start["7"].args
    assert frames.shape == (4, 64, 96, 3) and alphas.shape == (4, 64, 96)
    assert 0.1 < alphas[0].mean() < 0.9 and (frames[0] - frames[1]).abs().max() > 0.02, "the head is in the picture and moves"
    assert quick_start["6"].args[1:] == (4.0, 4)


def test_quick_start_shows_previews(quick_start: dict[str, NodeOutput]) -> None:
    assert [len(quick_start[key].ui["images"]) for key in ("2", "4", "7")] == [1, 3, 4]


def test_the_model_shows_previews_while_it_samples(
    pack: tuple[Host, ModuleType],
    host: Host,
    nodes: Nodes,
    quick_start: dict[str, NodeOutput],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy_pipeline().save_folder(tmp_path)
    monkeypatch.setattr(f"{pack[1].__name__}.mvp4d_core.diffusion.generator.nano_folder", lambda: tmp_path)
    reference, plan = (quick_start[key].args[0] for key in ("2", "3"))
    sampling = {"generator": "mmvdm", "seed": 0, "steps": 2, "guidance": 1.0, "mode": "stochastic", "gpu_gb": 8.0}
    video, images, _ = run(nodes["MVP4D_SampleMultiViewVideo"], reference=reference, plan=plan, **sampling).args
    assert video.provenance["steps"] == "2" and video.provenance["mode"] == "stochastic" and len(images) == 6
    assert [(kind, picture.size, side) for kind, picture, side in host.previews] == [("JPEG", (12, 4), 512)] * 2


def test_saved_avatar_is_whole_and_says_where_it_comes_from(pack: tuple[Host, ModuleType], quick_start: dict[str, NodeOutput]) -> None:
    (saved,), (posed,) = (quick_start["10"].ui[kind] for kind in ("mvp4d", "3d"))
    assert saved == {"filename": "avatar_00001_.mvp4d", "subfolder": "mvp4d", "type": "output"}
    avatar = load_avatar(quick_start["10"].args[1])
    assert len(avatar) >= 12_000 and avatar.metadata["generator"] == "proxy"
    assert json.loads(avatar.metadata["prompt"])["5"]["class_type"] == "MVP4D_DistillAvatar" and "workflow" in avatar.metadata
    splats = read_ply(pack[0].output / posed["subfolder"] / posed["filename"])
    head = avatar.pose(rest_parameters(avatar.rig)).means
    np.testing.assert_allclose(splats.means, head * [1, -1, -1], atol=1e-6)


def test_saved_avatar_loads_and_plays(nodes: Nodes, quick_start: dict[str, NodeOutput]) -> None:
    name = "mvp4d/avatar_00001_.mvp4d [output]"
    loaded = run(nodes["MVP4D_LoadAvatar"], file=name, head="in the file").args[0]
    images, _ = _render(nodes, loaded, quick_start["6"].args[0]).args
    again, _ = _render(nodes, quick_start["5"].args[0], quick_start["6"].args[0]).args
    assert torch.equal(images, again)
    assert nodes["MVP4D_LoadAvatar"].fingerprint_inputs(file=name, head="in the file")


def test_metadata_switch_is_honoured(host: Host, nodes: Nodes, bound: Any) -> None:
    host.disable_metadata = True
    saved = run(nodes["MVP4D_SaveAvatar"], prompt={"1": {}}, avatar=bound, filename_prefix="plain", save_ply=False)
    assert set(load_avatar(saved.args[1]).metadata) == {"generator", "seed"}
    assert saved.ui["3d"] == [] and not list(host.output.glob("plain*.ply"))


def test_saving_never_overwrites(nodes: Nodes, bound: Any) -> None:
    paths = [run(nodes["MVP4D_SaveAvatar"], avatar=bound, filename_prefix="a/b", save_ply=True).args[1] for _ in range(3)]
    assert len(set(paths)) == 3


def test_progress_is_shown_stage_by_stage(host: Host, nodes: Nodes, bound: Any) -> None:
    _render(nodes, bound, _performance(nodes))
    assert host.bars == [(4, [0, 1, 2, 3, 4])]


@pytest.mark.parametrize("node_id", ["MVP4D_LoadReference", "MVP4D_SampleMultiViewVideo", "MVP4D_DistillAvatar", "MVP4D_RenderAvatar"])
def test_every_long_node_stops_when_asked(
    node_id: str, host: Host, nodes: Nodes, quick_start: dict[str, NodeOutput], photo: torch.Tensor, bound: Any
) -> None:
    reference, plan, video, performance = (quick_start[key].args[0] for key in ("2", "3", "4", "6"))
    host.interrupted = True
    with pytest.raises(InterruptProcessingException):
        if node_id == "MVP4D_LoadReference":
            run(nodes[node_id], image=photo, mask_marks="person", face=0, head="open-head")
        elif node_id == "MVP4D_SampleMultiViewVideo":
            run(nodes[node_id], reference=reference, plan=plan, generator="proxy", seed=0)
        elif node_id == "MVP4D_DistillAvatar":
            run(nodes[node_id], video=video, reference=reference, quality="draft", seed=0, steps=3, splats=12_000)
        else:
            _render(nodes, bound, performance)


def test_camera_convention_positive_azimuth_shows_the_subjects_left(nodes: Nodes, bound: Any) -> None:
    """The toy's left cheek is red: it is on the picture's right from the front, hidden from the subject's right."""
    performance = _performance(nodes, seconds=0.5)

    def redness(azimuth: float) -> np.ndarray:
        image = _render(nodes, bound, performance, azimuth=azimuth).args[0][0].numpy()
        return np.clip(image[..., 0] - image[..., 1] - 0.4, 0, None)

    front, left, right = (redness(azimuth) for azimuth in (0.0, 40.0, -90.0))
    assert front[:, 32:].sum() > 5 * front[:, :32].sum() and left.sum() > 1 and right.sum() < 0.05 * left.sum()


def test_background_shows_where_the_mask_is_black(nodes: Nodes, bound: Any) -> None:
    images, masks = _render(nodes, bound, _performance(nodes), background="#204080").args
    outside = masks[0] < 1e-3
    np.testing.assert_allclose(
        images[0][outside].numpy(), np.broadcast_to(np.array([32, 64, 128]) / 255, (int(outside.sum()), 3)), atol=2e-3
    )


def test_splat_convention_is_comfyuis(nodes: Nodes, bound: Any) -> None:
    """y down, z into the picture, quaternions wxyz, everything activated, one batch item a frame."""
    performance = _performance(nodes)
    (splat,) = run(nodes["MVP4D_AnimateAvatar"], avatar=bound, performance=performance, first_frame=1, frames=2).args
    avatar: GaussianAvatar = bound.avatar
    for item in range(2):
        posed = avatar.pose(retarget(showcase_performance(load_head_model(), fps=4, seconds=1), avatar.rig)[1 + item])
        np.testing.assert_allclose(splat.positions[item].numpy(), posed.means * [1, -1, -1], atol=1e-6)
        np.testing.assert_allclose(splat.scales[item].numpy(), posed.scales, rtol=1e-5)
        np.testing.assert_allclose(splat.opacities[item, :, 0].numpy(), posed.opacities, atol=1e-6)
        flip = np.diag([1.0, -1.0, -1.0])
        np.testing.assert_allclose(_matrices(splat.rotations[item].numpy()), flip @ _matrices(posed.quats), atol=1e-5)
    assert splat.sh.shape == (2, len(avatar), 4, 3)


def _matrices(quats: np.ndarray) -> np.ndarray:
    w, x, y, z = (quats / np.linalg.norm(quats, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def test_performance_file_is_played_and_fingerprinted(host: Host, nodes: Nodes) -> None:
    path = host.folder / "input" / "take.performance.safetensors"
    save_performance(showcase_performance(load_head_model(), fps=30, seconds=0.5), path)
    node = nodes["MVP4D_LoadPerformance"]
    before = node.fingerprint_inputs(performance=path.name, fps=24.0, seconds=6.0)
    assert run(node, performance=path.name, fps=24.0, seconds=6.0).args[1:] == (30.0, 15)
    save_performance(showcase_performance(load_head_model(), fps=30, seconds=1), path)
    assert node.fingerprint_inputs(performance=path.name, fps=24.0, seconds=6.0) != before
    assert node.fingerprint_inputs(performance="showcase", fps=24.0, seconds=6.0) == ""


def test_masks_of_either_kind_mean_the_same(pack: tuple[Host, ModuleType]) -> None:
    pack_host = sys.modules[f"{pack[1].__name__}.comfy_nodes.host"]
    person = torch.zeros(1, 4, 6)
    person[:, 1:3] = 1
    for mask, background in ((person, False), (1 - person, True)):
        alpha = pack_host.alpha_from_mask(mask, 4, 6, marks_background=background)
        np.testing.assert_array_equal(alpha, person[0].numpy())
    assert pack_host.alpha_from_mask(torch.zeros(1, 64, 64), 4, 6, marks_background=True) is None, "Load Image without transparency"
    assert pack_host.alpha_from_mask(None, 4, 6, marks_background=True) is None


def test_errors_are_a_line_a_user_can_act_on(host: Host, nodes: Nodes, photo: torch.Tensor, bound: Any) -> None:
    reference = {"mask_marks": "person", "face": 0, "head": "open-head"}
    save = {"avatar": bound, "save_ply": False}
    performance = _performance(nodes)
    (host.folder / "input" / "broken.mvp4d").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    attempts = [
        ("MVP4D_LoadReference", {"image": torch.full((1, 96, 96, 3), 0.5), **reference}, "face"),
        ("MVP4D_LoadReference", {"image": photo.repeat(2, 1, 1, 1), **reference}, "one colour picture"),
        ("MVP4D_LoadReference", {"image": photo, "mask": torch.rand(1, 9, 9), **reference}, "`mask` must be one mask"),
        ("MVP4D_LoadReference", {"image": photo, **reference, "face": 9}, "face"),
        ("MVP4D_LoadReference", {"image": photo, "face_landmarks": {"frames": [[]], "image_size": (9, 9)}, **reference}, "of a picture of"),
        ("MVP4D_SaveAvatar", {**save, "filename_prefix": "../escape"}, "inside the output folder"),
        ("MVP4D_SaveAvatar", {**save, "filename_prefix": ""}, "inside the output folder"),
        ("MVP4D_SaveAvatar", {**save, "filename_prefix": "folder/"}, "inside the output folder"),
        ("MVP4D_LoadAvatar", {"file": "broken.mvp4d", "head": "in the file"}, "broken.mvp4d"),
        ("MVP4D_AnimateAvatar", {"avatar": bound, "performance": performance, "first_frame": 3, "frames": 2}, "at most"),
    ]
    for node_id, inputs, part in attempts:
        with pytest.raises(Exception) as caught:
            run(nodes[node_id], **inputs)
        assert _is_ours(caught.value) and part in str(caught.value), f"{node_id}: {caught.value!r}"
        assert len(str(caught.value).splitlines()) <= 2
    with pytest.raises(Exception) as caught:
        _render(nodes, bound, performance, background="red")
    assert _is_ours(caught.value)
    assert not list(host.folder.glob("escape*"))


def test_a_missing_head_is_named_before_running(nodes: Nodes) -> None:
    node = nodes["MVP4D_LoadReference"]
    assert node.validate_inputs(head="open-head") is True
    assert "models/mvp4d" in node.validate_inputs(head="absent.safetensors")


def test_a_head_in_the_models_folder_can_be_chosen(host: Host, nodes: Nodes) -> None:
    (host.folder / "models" / "mvp4d").mkdir()
    head = host.folder / "models" / "mvp4d" / "mine.safetensors"
    save_head_model(load_head_model(), head)
    node = nodes["MVP4D_LoadReference"]
    (choice,) = [entry for entry in node.GET_SCHEMA().inputs if entry.id == "head"]
    assert choice.options == ["open-head", "mine.safetensors"]
    before = node.fingerprint_inputs(head="mine.safetensors", face=0)
    head.unlink()
    save_head_model(replace(load_head_model(), name="mine"), head)
    assert node.fingerprint_inputs(head="mine.safetensors", face=0) != before


def _is_ours(error: Exception) -> bool:
    return any(kind.__name__ == "MVP4DError" for kind in type(error).__mro__)


def test_files_outside_the_folders_are_refused(pack: tuple[Host, ModuleType]) -> None:
    pack_host = sys.modules[f"{pack[1].__name__}.comfy_nodes.host"]
    (pack[0].folder / "secret.mvp4d").write_bytes(b"x")
    for name in ("../secret.mvp4d", "../secret.mvp4d [output]", "/etc/passwd", "absent.mvp4d"):
        with pytest.raises(Exception) as caught:
            pack_host.file_path(name)
        assert _is_ours(caught.value)


def test_licensed_head_stays_out_of_the_file(nodes: Nodes, bound: Any) -> None:
    """An avatar on a head that may not travel is saved without it where the head is known, and refused with a reason where it is not."""
    licensed = replace(bound.avatar, rig=replace(bound.avatar.rig, licence="FLAME", name="flame"))
    with pytest.raises(Exception, match="may not travel") as caught:
        run(nodes["MVP4D_SaveAvatar"], avatar=replace(bound, avatar=licensed), filename_prefix="licensed", save_ply=False)
    assert _is_ours(caught.value)
