# SPDX-License-Identifier: Apache-2.0
"""How fast an avatar plays on the CPU, and how closely the web player's pictures are those of the CPU rasteriser."""

import base64
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..avatar import GaussianAvatar
from ..cameras import Camera, orbit_camera
from ..distill.initialise import gaussians_from_samples, sample_surface
from ..errors import InputError
from ..io.images import read_image
from ..progress import Progress, silent
from ..render import warm_up
from ..render.avatar import render_avatar
from ..render.jit import usable_cores
from ..rig import HeadModel, Parameters, load_head_model, rest_parameters, showcase_performance
from .browser import Page, find_browser, open_page
from .page import write_page

STAGE = "benchmarking playback"
FRAMES = 24
WEB_SIZE = 512
BACKGROUND = (0.25, 0.5, 0.75)
_READ = """blob => new Promise(resolve => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.split(",")[1]);
  reader.readAsDataURL(blob);
})"""


def bench_playback(
    avatar: GaussianAvatar | None = None, *, splats: int = 50_000, size: int = 512, web: bool = True, progress: Progress = silent
) -> dict[str, Any]:
    """Plays the showcase and compares the web player with the rasteriser.

    Args:
        avatar: discs on the open head, `splats` of them, without.
        size: pixels a side on the CPU.
        web: whether to start a browser.

    Returns:
        `frames_per_second`: pose and render, best of two rounds through the showcase, on `threads` cores; `web_psnr`: dB, the worst of
        three poses (rest; every slider and joint moved, from two sides), None where there is no browser; `web_bytes`: of the page;
        `splats`.
    """
    if splats < 1 or size < 16:
        raise InputError(f"`splats` must be positive and `size` at least 16 px, got {splats} and {size}.")
    avatar = disc_avatar(splats) if avatar is None else avatar
    total = 3
    progress(STAGE, 0, total)
    warm_up()
    rate = frames_per_second(avatar, size)
    progress(STAGE, 1, total)
    agreement = web_agreement(avatar) if web and find_browser() else (None, None)
    progress(STAGE, total, total)
    return {
        "frames_per_second": rate,
        "web_psnr": agreement[0],
        "web_bytes": agreement[1],
        "splats": len(avatar),
        "threads": usable_cores(),
    }


def disc_avatar(splats: int) -> GaussianAvatar:
    """Discs spread over the open head, coloured by where they are."""
    rig = load_head_model()
    samples = sample_surface(rig, splats, seed=0)
    points = samples.points(rig.v_template, rig.faces)
    colors = 0.5 + 0.4 * np.sin(np.array([40.0, 55.0, 70.0]) * points[:, [0, 1, 1]] + np.array([0.0, 1.0, 3.0]))
    arrays: dict[str, Any] = {**gaussians_from_samples(samples, rig, colors, 1)}
    return GaussianAvatar(**arrays, binding=samples.binding, rig=rig)


def frames_per_second(avatar: GaussianAvatar, size: int) -> float:
    """Frames of the showcase, posed and rendered one after the other."""
    performance = showcase_performance(avatar.rig)
    frames = np.linspace(0, len(performance) - 1, FRAMES).astype(int)
    camera = _camera(avatar.rig, 0.0, size)
    render_avatar(avatar, performance[0], camera)
    best = np.inf
    for _ in range(2):
        started = time.perf_counter()
        for frame in frames:
            render_avatar(avatar, performance[int(frame)], camera)
        best = min(best, (time.perf_counter() - started) / FRAMES)
    return float(1 / best)


def web_agreement(avatar: GaussianAvatar, size: int = WEB_SIZE) -> tuple[float, int]:
    """The least PSNR (dB) of the player's pictures against the rasteriser's over three poses, and the bytes of the page."""
    rest, moved = rest_parameters(avatar.rig), everything_moved(avatar.rig)
    shots = [(rest, 0.0), (moved, 0.0), (moved, 0.9)]
    with tempfile.TemporaryDirectory(prefix="mvp4d-") as folder:
        path = Path(folder) / "avatar.html"
        write_page(path, avatar)
        with open_page(path.as_uri(), (240, 240), seconds=300) as page:
            page.wait_for("globalThis.player !== undefined")
            errors = []
            for parameters, azimuth in shots:
                camera = _camera(avatar.rig, azimuth, size)
                wanted, _ = render_avatar(avatar, parameters, camera, background=BACKGROUND)
                errors.append(np.square(web_picture(page, avatar.rig, parameters, camera, BACKGROUND) - wanted).mean())
        return float(-10 * np.log10(max(errors))), path.stat().st_size


def web_picture(
    page: Page, rig: HeadModel, parameters: Parameters, camera: Camera, background: tuple[float, float, float] | None
) -> np.ndarray:
    """What the player in `page` shows of a pose: (H, W, 3) on a background, (H, W, 4) with straight alpha without one."""
    weights = zip(rig.expression_names, parameters.expression.tolist(), strict=True)
    lines = [f"player.setExpression({json.dumps(name)}, {weight});" for name, weight in weights]
    angles = zip(rig.joint_names, parameters.rotations.tolist(), strict=True)
    lines += [f"player.setJoint({json.dumps(name)}, {turned});" for name, turned in angles]
    view = {"K": camera.K.tolist(), "camera_from_world": camera.camera_from_world.tolist(), "width": camera.width, "height": camera.height}
    wanted = {"width": camera.width, "height": camera.height, "background": background}
    lines += [f"player.setCamera({json.dumps(view)});", f"player.screenshot({json.dumps(wanted)}).then({_READ})"]
    encoded = page.evaluate("\n".join(lines))
    with tempfile.TemporaryDirectory(prefix="mvp4d-") as folder:
        path = Path(folder) / "picture.png"
        path.write_bytes(base64.b64decode(encoded))
        image, alpha = read_image(path)
    return image if background is not None or alpha is None else np.concatenate([image, alpha[..., None]], axis=-1)


def everything_moved(rig: HeadModel, seed: int = 0) -> Parameters:
    """A pose in which no slider and no joint is at rest."""
    generator = np.random.default_rng(seed)
    expression = generator.uniform(0.1, 0.5, len(rig.expression_names))
    rotations = generator.choice([-1, 1], (len(rig.joint_names), 3)) * generator.uniform(0.05, 0.25, (len(rig.joint_names), 3))
    return Parameters(expression.astype(np.float32), rotations.astype(np.float32), np.zeros(3, np.float32))


def _camera(rig: HeadModel, azimuth: float, size: int) -> Camera:
    vertices = rig.v_template + rig.static_offsets
    target = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    return orbit_camera(azimuth, 0.1, target=target, distance=1.2, fov_y=np.deg2rad(22), width=size, height=size)
