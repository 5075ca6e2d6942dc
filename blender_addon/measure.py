# SPDX-License-Identifier: GPL-3.0-or-later
"""What this Blender makes of avatars, measured: `python -m blender_addon.measure REQUEST.json ANSWER.json`, for `mvp4d bench blender`.

A request names avatars, poses and cameras; the answer has the errors of the rig and of the splats against float64, times, sizes, and the
pictures it rendered. Blender's own output is dropped; an error is one sentence with the core's exit code.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mvp4d_core.avatar import GaussianAvatar, load_avatar
from mvp4d_core.cameras import BLENDER_FROM_HEAD, Camera
from mvp4d_core.errors import MVP4DError
from mvp4d_core.io.atomic import atomic_json
from mvp4d_core.rig import Parameters, bound_to_world, rest_parameters, skin, triangle_frames
from mvp4d_core.rotations import quaternion_to_matrix

from .headless import only_our_words, say, with_bpy

FRAMES = 24  # evaluated to time one


def main(arguments: list[str]) -> int:
    """Runs the command line and returns the exit code."""
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    with only_our_words() as words:
        try:
            answer = measure(request, Path(arguments[1]).parent, lambda *call: say(words, *call))
        except MVP4DError as error:
            words.write(f"{error}\n")
            return error.exit_code
    atomic_json(arguments[1], answer)
    return 0


def measure(request: dict[str, Any], folder: Path, progress: Any) -> dict[str, Any]:
    """The answer to a request.

    Args:
        request: `avatars`: [{`path`, `poses`: [{`expression`, `rotations`, `translation`}], `camera`: {`K`, ...}, `renders`: [[pose,
            renderer]]}], and `timed`: the path of the avatar whose import and playback are timed, or None.
        folder: where pictures go.

    Returns:
        `blender`, `vertex_error`, `position_error`, `rotation_error`, `scale_error` and their like with `pose_` against the pose itself,
        `pictures`: [{`avatar`, `pose`, `renderer`, `path`}], and what `times` gives of the timed avatar.
    """
    worst: dict[str, float] = {}
    pictures: list[dict[str, Any]] = []
    total = sum(len(asked["poses"]) + len(asked["renders"]) for asked in request["avatars"])
    done = 0
    for number, asked in enumerate(request["avatars"]):
        avatar = load_avatar(asked["path"])
        scene = _Scene(avatar)
        for parameters in map(_parameters, asked["poses"]):
            for name, error in scene.errors(parameters).items():
                worst[name] = max(worst.get(name, 0.0), error)
            done += 1
            progress("measure", done, total)
        for pose, renderer in asked["renders"]:
            path = folder / f"{number}_{pose}_{renderer}.png"
            scene.render(_parameters(asked["poses"][pose]), Camera(**asked["camera"]), renderer, path)
            pictures.append({"avatar": number, "pose": pose, "renderer": renderer, "path": str(path)})
            done += 1
            progress("measure", done, total)
    timed = {} if request["timed"] is None else times(Path(request["timed"]), folder)
    return {"blender": with_bpy("compat").VERSION, **worst, **timed, "pictures": pictures}


class _Scene:
    """One avatar in an empty file."""

    def __init__(self, avatar: GaussianAvatar) -> None:
        import bpy

        bpy.ops.wm.read_factory_settings(use_empty=True)
        self.avatar = avatar
        self.imported = with_bpy("import_avatar").import_avatar(avatar, "measured")

    def errors(self, parameters: Parameters) -> dict[str, float]:
        """The largest ones: of vertices (metres), and of means, of entries of rotation matrices and, relatively, of scales: once on the
        triangles that Blender has, once on those that float64 has.
        """
        bake, bridge, native_names, rig = map(with_bpy, ("bake", "bridge", "native_names", "rig"))
        rig.pose(self.imported.armature, self.avatar.rig, parameters)
        with bake.gaussians_of(self.imported.splats) as twin:
            evaluated = bridge.evaluated_geometry(twin)
            names = ("position", native_names.ROTATION, native_names.SCALE)
            means, quats, scales = (bridge.read_attribute(evaluated.pointcloud, name).astype(np.float64) for name in names)
        found = (bridge.head_from_blender(means), BLENDER_FROM_HEAD.T @ quaternion_to_matrix(quats), scales)
        here = bridge.head_from_blender(bridge.evaluated_vertices(self.imported.head).astype(np.float64))
        exact = skin(self.avatar.rig, None, *(np.asarray(a, np.float64) for a in vars(parameters).values()))
        own, pose = _differences(found, self._bound(here)), _differences(found, self._bound(exact))
        return {
            "vertex_error": float(np.abs(here - exact).max()),
            "position_error": pose[0],
            "rotation_error": own[1],
            "scale_error": own[2],
            "pose_rotation_error": pose[1],
            "pose_scale_error": pose[2],
        }

    def _bound(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means, rotation matrices and scales in float64 on a head of these (V, 3) vertices, as `GaussianAvatar.pose` has them."""
        avatar = self.avatar
        local = (avatar.means, avatar.quats, np.exp(avatar.log_scales.astype(np.float64)))
        frames = triangle_frames(vertices, avatar.rig.faces)
        means, quats, scales = bound_to_world(*(np.asarray(a, np.float64) for a in local), avatar.binding, frames)
        return means, quaternion_to_matrix(quats), scales

    def render(self, parameters: Parameters, camera: Camera, renderer: str, path: Path) -> None:
        import bpy

        look, rig, scene = map(with_bpy, ("look", "rig", "scene"))
        rig.pose(self.imported.armature, self.avatar.rig, parameters)
        current = bpy.context.scene
        if current.camera is None:
            scene.add_camera(camera, "Camera", self.imported.collection)
            scene.match_training(current)
        look.use_look(current, look.Renderer(renderer))
        scene.render_still(path, current.frame_current)


def times(path: Path, folder: Path) -> dict[str, float]:
    """Of one avatar: seconds of its import, milliseconds of a frame as dots and as sorted quads on the clock and of all threads, megabytes
    of its .blend.
    """
    import bpy

    compat, import_avatar, look, nodes, scene = map(with_bpy, ("compat", "import_avatar", "look", "nodes", "scene"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    started = time.perf_counter()
    imported = import_avatar.import_file(path)
    took = time.perf_counter() - started
    avatar = load_avatar(path)
    rest = rest_parameters(avatar.rig)
    vertices = skin(avatar.rig, None, rest.expression, rest.rotations, rest.translation)
    scene.add_camera(scene.portrait_camera(vertices, 256), "Camera", imported.collection)
    _key_something(imported.armature, avatar)
    frames = {}
    for name, way in (("points_ms", nodes.DOTS), ("quads_ms", nodes.QUADS)):
        compat.set_modifier_input(look.splat_modifier(imported.splats), nodes.VIEWPORT, way)
        spent = np.array(list(_frame_times(imported.splats)))
        frames[name], frames[f"{name.removesuffix('_ms')}_cpu_ms"] = np.median(spent, axis=0).tolist()
    with tempfile.TemporaryDirectory(dir=folder) as place:
        blend = Path(place) / "avatar.blend"
        scene.save_blend(blend)
        return {"import_seconds": took, **frames, "blend_mb": blend.stat().st_size / 1e6}


def _key_something(armature: Any, avatar: GaussianAvatar) -> None:
    """Every slider and every joint moves in each frame."""
    from mvp4d_core.rig import Performance

    generator = np.random.default_rng(0)
    names = avatar.rig.expression_names, avatar.rig.joint_names
    rotations = generator.uniform(-0.2, 0.2, (FRAMES, len(names[1]), 3))
    expression = generator.uniform(0, 0.5, (FRAMES, len(names[0])))
    performance = Performance(expression.astype(np.float32), rotations.astype(np.float32), np.zeros((FRAMES, 3), np.float32), 24.0, *names)
    with_bpy("animation").key_performance(armature, performance, "measured", start=1)


def _frame_times(splats: Any) -> Iterator[tuple[float, float]]:
    """Milliseconds of each frame but the first three, from asking for it to having its splats: on the clock, and of all threads together,
    which says more on a machine that does other things too.
    """
    import bpy

    for frame in range(1, FRAMES + 1):
        started = time.perf_counter(), time.process_time()
        bpy.context.scene.frame_set(frame)
        splats.evaluated_get(bpy.context.evaluated_depsgraph_get())
        if frame > 3:
            yield 1000 * (time.perf_counter() - started[0]), 1000 * (time.process_time() - started[1])


def _differences(found: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, ...]) -> tuple[float, float, float]:
    means, rotations, scales = (np.abs(a - b) for a, b in zip(found, wanted, strict=True))
    return float(np.linalg.norm(means, axis=1).max()), float(rotations.max()), float((scales / wanted[2]).max())


def _parameters(values: dict[str, Any]) -> Parameters:
    return Parameters(**{name: np.array(value, np.float32) for name, value in values.items()})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
