# SPDX-License-Identifier: Apache-2.0
"""Distilling, rendering, previewing, judging, loading and exporting, each node on the real core at toy size."""

import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mvp4d_core.avatar import GaussianAvatar, load_avatar, save_avatar
from mvp4d_core.avatar.file_space import stored_pose
from mvp4d_core.avatar.handover import read_handover
from mvp4d_core.avatar.import_avatar import import_avatar
from mvp4d_core.avatar.posed_files import write_splats
from mvp4d_core.cameras import orbit_camera, viewer_info
from mvp4d_core.conditioning import head_centre, plan_views
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.generate import MultiViewVideo, ProxyGenerator
from mvp4d_core.rig import (
    Performance,
    load_performance,
    personalize,
    rest_parameters,
    showcase_performance,
    single_frame,
    with_mouth,
)  # fmt: skip
from tests.support import comfy_host
from tests.support.comfy_host import Host, InterruptProcessingException, run
from tests.support.comfy_schema import ComfyNode, NodeOutput
from tests.support.toy_avatar import toy_avatar
from tests.support.toy_head import toy_head_model
from tests.support.toy_reference import toy_reference

ROOT = Path(__file__).parents[2]
Nodes = dict[str, type[ComfyNode]]
AVATAR = toy_avatar(sh_degree=1)
RENDER = {
    "azimuth": 0.0, "elevation": 0.0, "turn": 0.0, "distance": 1.2, "fov": 14.0, "width": 64, "height": 64, "background": "#ffffff",
}  # fmt: skip


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
    yield pack[0]
    pack[0].interrupted = pack[0].disable_metadata = False
    pack[0].free_memory = 8 << 30


@pytest.fixture(scope="module")
def types(pack: tuple[Host, ModuleType], nodes: Nodes) -> ModuleType:
    return sys.modules[f"{pack[1].__name__}.comfy_nodes.types"]


@pytest.fixture(scope="module")
def bound(types: ModuleType) -> Any:
    return types.BoundAvatar(AVATAR)


@pytest.fixture(scope="module")
def acted() -> Performance:
    return replace(showcase_performance(AVATAR.rig).select([0, 40, 80]), fps=12.0)


@pytest.fixture(scope="module")
def person(types: ModuleType) -> Any:
    model = toy_head_model()
    return types.TrackedReference(toy_reference(model), model)


@pytest.fixture(scope="module")
def video(person: Any) -> MultiViewVideo:
    rig = person.reference.rig(person.head_model)
    plan = plan_views(rig, showcase_performance(rig).select([0, 25, 70]), preset=120, views=3, size=64)
    return ProxyGenerator(texture_size=128, supersample=1).generate(person.reference, plan, head_model=person.head_model, seed=0)


def _is_ours(error: BaseException) -> bool:
    return any(kind.__name__ == "MVP4DError" for kind in type(error).__mro__)


def _refused(node: type[ComfyNode], part: str, **inputs: Any) -> None:
    with pytest.raises(Exception) as caught:
        run(node, **inputs)
    assert _is_ours(caught.value) and part in str(caught.value), repr(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


# ---- distil


def _distill(nodes: Nodes, video: MultiViewVideo, person: Any, steps: int) -> NodeOutput:
    return run(nodes["MVP4D_DistillAvatar"], video=video, reference=person, quality="draft", seed=0, steps=steps, splats=2500)


def test_the_fit_is_watched_and_its_loss_drawn(host: Host, nodes: Nodes, video: MultiViewVideo, person: Any) -> None:
    out = _distill(nodes, video, person, 8)
    avatar, losses = out.args
    assert len(avatar.avatar) >= 1000 and losses.shape == (1, 400, 720, 3) and 0.5 < losses.mean() < 1
    assert len(out.ui["images"]) == 1
    (_, picture, _) = host.previews[0]
    assert picture.size == (128, 64), "the target and the avatar side by side"
    halves = np.asarray(picture, np.float32)[:, :64], np.asarray(picture, np.float32)[:, 64:]
    assert np.abs(halves[0] - halves[1]).mean() < 40 and halves[1].std() > 10
    assert not list((host.folder / "temp").rglob("fit_*"))


def test_an_interrupted_fit_goes_on_where_it_stopped(
    host: Host, nodes: Nodes, video: MultiViewVideo, person: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    management, calls = sys.modules["comfy.model_management"], []

    def stop_late() -> None:
        calls.append(1)
        if len(calls) == 165:
            raise InterruptProcessingException

    with monkeypatch.context() as patched, pytest.raises(InterruptProcessingException):
        patched.setattr(management, "throw_exception_if_processing_interrupted", stop_late)
        _distill(nodes, video, person, 160)
    host.bars.clear()
    _distill(nodes, video, person, 160)
    (values,) = [values for total, values in host.bars if total == 160]
    assert values[0] == 150 and values[-1] == 160


# ---- render


def test_viewer_camera_replaces_the_angles(nodes: Nodes, bound: Any, acted: Performance) -> None:
    target = head_centre(AVATAR.rig)
    camera = orbit_camera(np.deg2rad(30), np.deg2rad(10), target=target, distance=1.2, fov_y=np.deg2rad(14), width=64, height=64)
    node = nodes["MVP4D_RenderAvatar"]
    for turn in (0.0, 90.0):
        asked = run(node, avatar=bound, performance=acted, **RENDER | {"azimuth": 30.0, "elevation": 10.0, "turn": turn})
        seen = run(
            node, avatar=bound, performance=acted, camera_info=viewer_info(camera, target), **RENDER | {"azimuth": -80.0, "turn": turn}
        )
        assert (asked.args[0] - seen.args[0]).abs().max() < 1e-3 and (asked.args[1] - seen.args[1]).abs().max() < 1e-3


def test_cameras_and_colours_that_cannot_be_are_refused(host: Host, nodes: Nodes, bound: Any, acted: Performance) -> None:
    node, given = nodes["MVP4D_RenderAvatar"], {"avatar": bound, "performance": acted}
    _refused(node, "perspective", **given, **RENDER, camera_info={"cameraType": "orthographic"})
    _refused(node, "position", **given, **RENDER, camera_info={"cameraType": "perspective"})
    assert node.validate_inputs(background="#00ff7F") is True and node.validate_inputs(background=None) is True
    assert "colour" in node.validate_inputs(background="red")


def test_more_than_memory_holds_is_refused_before_it_is_taken(host: Host, nodes: Nodes, bound: Any, acted: Performance) -> None:
    host.free_memory = 1_000_000
    _refused(nodes["MVP4D_RenderAvatar"], "GB are free", avatar=bound, performance=acted, **RENDER | {"width": 4096, "height": 4096})
    many = acted.select([0] * 100)
    _refused(nodes["MVP4D_AnimateAvatar"], "GB are free", avatar=bound, performance=many, first_frame=0, frames=100)


# ---- evaluate


def test_evaluation_tells_figures_and_shows_pictures(nodes: Nodes, video: MultiViewVideo, person: Any) -> None:
    avatar = _distill(nodes, video, person, 8).args[0]
    report, psnr, inside, ssim, picture = run(nodes["MVP4D_EvaluateAvatar"], avatar=avatar, video=video, every=2, faces=False).args
    assert 10 < psnr < 60 and 10 < inside < 60 and 0.3 < ssim < 1
    assert f"PSNR {psnr:.4g} dB" in report and "3 views x 2 frames" in report and "fitted to this very video" in report
    assert picture.shape[0] == 1 and picture.shape[1] > 3 * 64 and picture.shape[2] >= 3 * 64


# ---- preview


def _player_file(host: Host, out: NodeOutput) -> Path:
    (file,) = out.ui["mvp4d_player"]
    assert file["type"] == "temp"
    return host.folder / "temp" / file["subfolder"] / file["filename"]


def test_the_player_gets_the_avatar_once(host: Host, nodes: Nodes, bound: Any, acted: Performance) -> None:
    node = nodes["MVP4D_PreviewAvatar"]
    path = _player_file(host, run(node, avatar=bound, state="", performance=acted))
    assert b"mvp4d-player/1" in gzip.decompress(path.read_bytes())[:20_000]
    before = path.stat().st_mtime_ns
    assert _player_file(host, run(node, avatar=bound, state='{"expression": {"jawOpen": 1}}', performance=acted)) == path
    assert path.stat().st_mtime_ns == before, "sliders do not change what the player loads"
    assert _player_file(host, run(node, avatar=bound, state="")) != path


def test_sliders_and_camera_go_on_to_other_nodes(nodes: Nodes, bound: Any, acted: Performance) -> None:
    state = {
        "expression": {"jawOpen": 0.5, "unknown": 1},
        "joints": {"neck": [0, 0.25, 0]},
        "camera": {"position": {"x": 0.7, "y": 0, "z": 0.9}, "target": {"x": 0, "y": 0, "z": 0}, "fov": 20},
    }
    posed, camera = run(nodes["MVP4D_PreviewAvatar"], avatar=bound, state=json.dumps(state)).args
    assert len(posed) == 1 and posed.expression[0, posed.expression_names.index("jawOpen")] == 0.5
    np.testing.assert_allclose(posed.rotations[0, posed.joint_names.index("neck")], [0, 0.25, 0])
    assert camera["position"]["x"] == pytest.approx(0.7) and camera["fov"] == pytest.approx(20) and camera["cameraType"] == "perspective"
    images = run(nodes["MVP4D_RenderAvatar"], avatar=bound, performance=posed, camera_info=camera, **RENDER).args[0]
    assert images.shape == (1, 64, 64, 3) and images.std() > 0.05


def test_an_untouched_player_looks_the_face_in_the_eye(nodes: Nodes, bound: Any) -> None:
    posed, camera = run(nodes["MVP4D_PreviewAvatar"], avatar=bound, state="").args
    assert not posed.expression.any() and not posed.rotations.any()
    assert camera["position"]["z"] - camera["target"]["z"] == pytest.approx(1.2) and camera["position"]["x"] == camera["target"]["x"]


@pytest.mark.parametrize("state", ["{", "[]", '{"expression": []}', '{"expression": {"jawOpen": 1e9}}', '{"joints": {"neck": [1]}}', "7"])
def test_states_that_no_player_gives_are_refused_before_running(nodes: Nodes, bound: Any, state: str) -> None:
    assert "Empty" in nodes["MVP4D_PreviewAvatar"].validate_inputs(state=state)
    _refused(nodes["MVP4D_PreviewAvatar"], "Empty", avatar=bound, state=state)


# ---- export and load


def _export(nodes: Nodes, avatar: Any, kind: str, **more: Any) -> Path:
    options = {"filename_prefix": f"x/{kind}", "frame": 0, "glb_content": "mesh"} | more
    return Path(run(nodes["MVP4D_ExportAvatar"], avatar=avatar, format=kind, prompt={"1": {"class_type": "T"}}, **options).args[0])


@pytest.mark.parametrize("kind", ["ply", "splat", "spz"])
def test_splats_in_one_pose_are_the_frames(nodes: Nodes, bound: Any, acted: Performance, kind: str) -> None:
    path = _export(nodes, bound, kind, performance=acted, frame=2)
    wanted, rest = AVATAR.pose(acted[2]).means, AVATAR.pose(rest_parameters(AVATAR.rig)).means
    found = import_avatar(path, AVATAR.rig).avatar.pose(rest_parameters(AVATAR.rig)).means
    assert _far(found, wanted) < 2e-4 < _far(wanted, rest)
    assert _far(import_avatar(_export(nodes, bound, kind), AVATAR.rig).avatar.pose(rest_parameters(AVATAR.rig)).means, rest) < 2e-4


def _far(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest distance from a point to the nearest one: files may hold splats in another order."""
    return float(np.min(np.linalg.norm(found[:, None] - wanted[None], axis=-1), axis=1).max())


def test_formats_that_move_hold_every_frame(nodes: Nodes, bound: Any, acted: Performance) -> None:
    folder = _export(nodes, bound, "ply sequence", performance=acted)
    assert [path.name for path in sorted(folder.iterdir())] == ["frame_0000.ply", "frame_0001.ply", "frame_0002.ply"]
    moving = import_avatar(_export(nodes, bound, "cap4d", performance=acted))
    assert len(moving.performance) == 3
    page = _export(nodes, bound, "html", performance=acted).read_text()
    assert page.lstrip().lower().startswith("<!doctype html>") and "Content-Security-Policy" in page


def test_glb_holds_what_was_asked_and_where_it_comes_from(host: Host, nodes: Nodes, bound: Any, acted: Performance) -> None:
    both = _gltf(_export(nodes, bound, "glb", performance=acted, glb_content="both"))
    assert both["animations"] and "KHR_gaussian_splatting" in both["extensionsUsed"]
    assert json.loads(both["asset"]["extras"]["prompt"]) == {"1": {"class_type": "T"}}
    host.disable_metadata = True
    still = _gltf(_export(nodes, bound, "glb"))
    assert "animations" not in still and "prompt" not in still["asset"]["extras"]


def _gltf(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])


def test_gaussian_avatars_want_a_flame_head(nodes: Nodes, bound: Any, types: ModuleType, host: Host) -> None:
    _refused(
        nodes["MVP4D_ExportAvatar"], "FLAME", avatar=bound, format="gaussian-avatars", filename_prefix="x/ga", frame=0, glb_content="mesh"
    )
    head = flame_head(shapes=12, expressions=8)
    rest = AVATAR.binding[:50] % len(head.faces)
    arrays = {name: getattr(AVATAR, name)[:50] for name in ("means", "quats", "log_scales", "opacity_logits", "sh0", "shN")}
    rig = replace(head, shapedirs=head.shapedirs[..., :0], shape_names=())
    avatar = types.BoundAvatar(GaussianAvatar(**arrays, binding=rest.astype(np.int32), rig=rig))
    folder = _export(nodes, avatar, "gaussian-avatars", performance=single_frame(rest_parameters(rig), rig), head_model=head)
    assert {path.name for path in folder.iterdir()} == {"point_cloud.ply", "flame_param.npz"}
    assert len(import_avatar(folder, head).avatar) == 50


def test_frames_beyond_the_end_are_refused(nodes: Nodes, bound: Any, acted: Performance) -> None:
    options = {"filename_prefix": "x/late", "frame": 3, "glb_content": "mesh"}
    _refused(nodes["MVP4D_ExportAvatar"], "below the performance's 3", avatar=bound, format="ply", performance=acted, **options)
    _refused(
        nodes["MVP4D_ExportAvatar"], "inside the output", avatar=bound, format="ply", **options | {"filename_prefix": "../x", "frame": 0}
    )


def test_what_viewers_show_is_told_to_the_page(nodes: Nodes, bound: Any) -> None:
    options = {"filename_prefix": "told", "frame": 0, "glb_content": "splats"}
    for kind, shown in (("spz", 1), ("glb", 1), ("html", 0)):
        assert len(run(nodes["MVP4D_ExportAvatar"], avatar=bound, format=kind, **options).ui["3d"]) == shown


def test_files_of_other_programs_load(host: Host, nodes: Nodes, bound: Any, acted: Performance) -> None:
    loader, files = nodes["MVP4D_LoadAvatar"], host.folder / "input"
    (files / "still.ply").write_bytes(_export(nodes, bound, "ply").read_bytes())
    (files / "moving.ply").write_bytes(_export(nodes, bound, "cap4d", performance=acted).read_bytes())
    save_avatar(host.output / "own.mvp4d", AVATAR)
    options = next(entry.options for entry in loader.GET_SCHEMA().inputs if entry.id == "file")
    assert {"still.ply", "moving.ply", "own.mvp4d [output]"} <= set(options) and not [name for name in options if ".ply [output]" in name]
    avatar, rest, report = run(loader, file="still.ply", head="in the file", head_model=AVATAR.rig).args
    assert len(avatar.avatar) == len(AVATAR) and len(rest) == 1 and f"{len(AVATAR):,} splats" in report
    avatar, moving, _ = run(loader, file="moving.ply", head="in the file").args
    assert len(moving) == 3 and avatar.avatar.rig.name == "cap4d-animation"
    avatar, rest, _ = run(loader, file="own.mvp4d [output]", head="in the file").args
    assert np.array_equal(avatar.avatar.means, AVATAR.means) and not rest.expression.any()
    _refused(loader, "no head to move them", file="still.ply", head="in the file")
    splats = stored_pose(AVATAR, rest_parameters(AVATAR.rig))
    write_splats(files / "far.spz", splats._replace(means=splats.means * 3 + np.float32(1), log_scales=splats.log_scales + np.float32(1.1)))
    _refused(loader, "do not lie on the head", file="far.spz", head="in the file", head_model=AVATAR.rig)
    fitted, _, _ = run(loader, file="far.spz", head="in the file", head_model=AVATAR.rig, fit=True).args
    assert _far(fitted.avatar.pose(rest_parameters(AVATAR.rig)).means, AVATAR.pose(rest_parameters(AVATAR.rig)).means) < 0.04
    turned, _, _ = run(loader, file="still.ply", head="in the file", head_model=AVATAR.rig, y_axis="up").args
    flipped = avatar.avatar.pose(rest_parameters(AVATAR.rig)).means * [1, -1, -1]
    assert _far(turned.avatar.pose(rest_parameters(AVATAR.rig)).means, flipped) < 1e-5
    assert loader.fingerprint_inputs(file="still.ply", head="open-head")


def test_an_avatar_on_a_licensed_head_is_saved_again(host: Host, nodes: Nodes) -> None:
    """Also one whose fit corrected the head and gave it a mouth, which no coefficients tell."""
    head = replace(toy_head_model(), licence="FLAME-2023", name="flame")
    shape = np.full(len(head.shape_names), 0.3, np.float32)
    rig = with_mouth(personalize(head, shape, np.zeros_like(head.v_template)))
    rig = replace(
        rig, v_template=rig.v_template + np.float32(0.001) * np.sin(np.arange(rig.v_template.size, dtype=np.float32)).reshape(-1, 3)
    )
    avatar = replace(AVATAR, rig=rig)
    save_avatar(host.folder / "input" / "licensed.mvp4d", avatar, head_model=head, shape=shape)
    _refused(nodes["MVP4D_LoadAvatar"], "licensed head", file="licensed.mvp4d", head="in the file")
    loaded = run(nodes["MVP4D_LoadAvatar"], file="licensed.mvp4d", head="in the file", head_model=head).args[0]
    path = run(nodes["MVP4D_SaveAvatar"], avatar=loaded, filename_prefix="again", save_ply=False).args[1]
    again = load_avatar(path, head_model=head)
    np.testing.assert_allclose(again.rig.v_template, rig.v_template, atol=1e-7)
    assert b"v_template" not in Path(path).read_bytes()[:20_000], "the head stays out of the file"


def test_blender_finds_the_avatar(host: Host, nodes: Nodes, bound: Any, acted: Performance) -> None:
    node = nodes["MVP4D_ExportForBlender"]
    out = run(node, avatar=bound, name="Ada", performance=acted, prompt={"1": {}})
    manifest = Path(out.args[0])
    assert manifest == host.output / "mvp4d" / "blender" / "Ada.json" and out.ui["mvp4d"][0]["subfolder"] == "mvp4d/blender"
    found = read_handover(manifest)
    assert load_avatar(found.avatar).metadata["prompt"] == '{"1": {}}' and len(load_performance(found.performance)) == 3
    first = found.avatar_sha256
    assert read_handover(Path(run(node, avatar=bound, name="Ada", prompt={"2": {}}).args[0])).avatar_sha256 != first
    assert node.validate_inputs(name="Ada 2") is True and node.validate_inputs(name=None) is True
    for name in ("../Ada", "", "a/b", "nul\0"):
        assert "letters" in node.validate_inputs(name=name)
        _refused(node, "letters", avatar=bound, name=name)
