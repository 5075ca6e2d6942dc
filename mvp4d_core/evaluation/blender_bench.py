# SPDX-License-Identifier: Apache-2.0
"""How exactly and how fast Blender shows avatars: the add-on's measurements, and its renders against the rasteriser's."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..avatar import GaussianAvatar, load_avatar, save_avatar
from ..cameras import Camera, orbit_camera
from ..errors import InputError, MissingAssetError, MVP4DError
from ..io.images import read_image
from ..player.bench import disc_avatar, everything_moved
from ..progress import Progress, silent
from ..render.avatar import render_avatar
from ..rig import Parameters
from .agreement import foreground_psnr

ADDON = Path(__file__).resolve().parents[2] / "blender_addon"
STAGE = "benchmarking Blender"
EEVEE, CYCLES = "EEVEE", "CYCLES"
_TURNS = (0.0, 0.35, -0.35, 0.6, -0.6)  # radians of the neck, a pose each
_AZIMUTHS = (0.0, 0.5, -0.9)  # radians of the camera, an avatar each
_KEYS = (
    "blender", "vertex_error", "position_error", "rotation_error", "scale_error", "eevee_psnr", "cycles_psnr", "points_ms", "quads_ms",
    "import_seconds", "blend_mb", "pose_rotation_error", "pose_scale_error", "points_cpu_ms", "quads_cpu_ms", "splats",
)  # fmt: skip


def bench_blender(
    avatars: Sequence[GaussianAvatar] | None = None,
    *,
    python: str | None = None,
    splats: int = 50_000,
    size: int = 256,
    eevee_poses: int = len(_TURNS),
    cycles_poses: int = 1,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measures one Blender.

    Args:
        avatars: three of discs on the open head without, of a half, a quarter and a tenth of `splats`, or one a triangle
            where that is more, and spherical harmonics of degree 1, 2 and 3.
        python: the interpreter that has the `bpy` to measure; this one by default.
        splats: of the avatar whose import and playback are timed.
        size: pixels a side of the pictures.
        eevee_poses, cycles_poses: how many of the five poses are rendered of each avatar; the least PSNR counts.

    Returns:
        `blender`: its version; `vertex_error` against float64 skinning and `position_error` against `GaussianAvatar.pose` in float64,
        metres; `rotation_error` (entries of matrices) and `scale_error` (relative) against the pose on the triangles that Blender has, and
        as `pose_rotation_error` and `pose_scale_error` against the pose itself, where tiny triangles make much of the rounding of vertices;
        `eevee_psnr`, `cycles_psnr`: dB on the foreground, None for no pictures; `points_ms`, `quads_ms`: a frame on the clock, and
        `points_cpu_ms`, `quads_cpu_ms` of all threads together; `import_seconds`; `blend_mb`; `splats`: of the timed avatar.

    Raises:
        MissingAssetError: no add-on beside the core, or an interpreter without bpy.
        InputError: numbers out of range.
    """
    if splats < 10 or size < 16 or not 0 <= eevee_poses <= len(_TURNS) or not 0 <= cycles_poses <= len(_TURNS):
        got = f"{splats}, {size}, {eevee_poses}, {cycles_poses}"
        raise InputError(f"The bench wants 10 splats, 16 px and 0 to {len(_TURNS)} poses, got {got}.")
    if not (ADDON / "measure.py").is_file():
        raise MissingAssetError("This bench needs the repository's blender_addon folder beside the core; use a clone.")
    timed = disc_avatar(splats)
    if avatars is None:
        avatars = [_discs(splats // share, degree) for degree, share in ((1, 2), (2, 4), (3, 10))]
    poses = [[_pose(avatar, number) for number in range(len(_TURNS))] for avatar in avatars]
    cameras = [_camera(avatar, _AZIMUTHS[number % len(_AZIMUTHS)], size) for number, avatar in enumerate(avatars)]
    renders = [[pose, EEVEE] for pose in range(eevee_poses)] + [[pose, CYCLES] for pose in range(cycles_poses)]
    with tempfile.TemporaryDirectory(prefix="mvp4d-") as place:
        folder = Path(place)
        save_avatar(folder / "timed.mvp4d", timed)
        asked = []
        for number, avatar in enumerate(avatars):
            save_avatar(folder / f"{number}.mvp4d", avatar)
            asked.append({
                "path": str(folder / f"{number}.mvp4d"),
                "poses": [{name: value.tolist() for name, value in vars(pose).items()} for pose in poses[number]],
                "camera": {
                    name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(cameras[number]).items()
                },
                "renders": renders,
            })  # fmt: skip
        answer = _measured({"avatars": asked, "timed": str(folder / "timed.mvp4d")}, folder, python or sys.executable, progress)
        psnr: dict[str, list[float]] = {EEVEE: [], CYCLES: []}
        for made in answer["pictures"]:
            number = made["avatar"]
            expected, alpha = render_avatar(avatars[number], poses[number][made["pose"]], cameras[number])
            psnr[made["renderer"]].append(foreground_psnr(read_image(made["path"])[0], expected, alpha))
    answer |= {"eevee_psnr": min(psnr[EEVEE], default=None), "cycles_psnr": min(psnr[CYCLES], default=None), "splats": len(timed)}
    return {key: answer[key] for key in _KEYS}


def bench_files(paths: Sequence[str | Path], **settings: Any) -> dict[str, Any]:
    """`bench_blender` with the avatars of these files; the built-in ones without any."""
    return bench_blender([load_avatar(path) for path in paths] or None, **settings)


def _discs(count: int, degree: int) -> GaussianAvatar:
    """Discs with colours that depend on the view."""
    avatar = disc_avatar(count)
    generator = np.random.default_rng(degree)
    harmonics = generator.normal(0, 0.05, (len(avatar), (degree + 1) ** 2 - 1, 3)).astype(np.float32)
    return replace(avatar, shN=harmonics)


def _pose(avatar: GaussianAvatar, number: int) -> Parameters:
    """Nothing at rest, and the head turned."""
    pose = everything_moved(avatar.rig, seed=number)
    rotations = pose.rotations.copy()
    neck = avatar.rig.joint_names.index("neck") if "neck" in avatar.rig.joint_names else 0
    rotations[neck, 1] = _TURNS[number]
    return replace(pose, rotations=rotations)


def _camera(avatar: GaussianAvatar, azimuth: float, size: int) -> Camera:
    vertices = avatar.rig.v_template + avatar.rig.static_offsets
    target = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    return orbit_camera(azimuth, 0.1, target=target, distance=1.2, fov_y=np.deg2rad(22), width=size, height=size)


def _measured(request: dict[str, Any], folder: Path, python: str, progress: Progress) -> dict[str, Any]:
    """What `python -m blender_addon.measure` answers."""
    asked, answered = folder / "request.json", folder / "answer.json"
    asked.write_text(json.dumps(request), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ADDON.parent)}
    last = ""
    try:
        child = subprocess.Popen(
            [python, "-m", "blender_addon.measure", str(asked), str(answered)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
    except OSError as error:
        raise MissingAssetError(f"The interpreter {python} cannot be started: {error.strerror}. Give one that has bpy.") from None
    with child:
        assert child.stderr is not None
        try:
            for line in child.stderr:
                try:
                    step = json.loads(line)
                    progress(STAGE, int(step["done"]), int(step["total"]))
                except (ValueError, KeyError, TypeError):
                    last = line.strip() or last
        except BaseException:
            child.kill()
            raise
    if child.returncode or not answered.is_file():
        error = MVP4DError(f"Blender's measurement with {python} stopped with code {child.returncode}: {last[:300]}")
        error.exit_code = child.returncode if child.returncode in range(2, 7) else 1
        raise error
    return json.loads(answered.read_text(encoding="utf-8"))
