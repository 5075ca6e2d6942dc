# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras, the look that matches the splats' training, and pictures and films through Blender's own renderer."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np

from mvp4d_core.cameras import BLENDER_FROM_HEAD, OPENGL_FROM_OPENCV, Camera
from mvp4d_core.errors import InputError
from mvp4d_core.io.folders import make_folder
from mvp4d_core.progress import Progress, silent

from . import bridge, compat, look
from .outputs import written_by_blender

_SENSOR = 36.0  # millimetres
_WORLD = "MVP4D background"
_CLIP = (0.01, 100.0)  # metres


def add_camera(camera: Camera, name: str, collection: bpy.types.Collection) -> bpy.types.Object:
    """A Blender camera that sees what `camera` sees, principal point included. Makes it the scene's, and sets the picture's size.

    Raises:
        InputError: `camera` has skew or a focal length that is not positive.
    """
    fx, fy = camera.K[0, 0], camera.K[1, 1]
    if not (fx > 0 and fy > 0) or abs(camera.K[0, 1]) > 1e-6 * fx:
        raise InputError(f"A Blender camera wants positive focal lengths and no skew, got K = {camera.K.tolist()}.")
    data = bpy.data.cameras.new(name)
    data.sensor_fit, data.sensor_width = "HORIZONTAL", _SENSOR
    data.lens = fx * _SENSOR / camera.width
    data.shift_x = 0.5 - camera.K[0, 2] / camera.width
    data.shift_y = (camera.K[1, 2] - camera.height / 2) * (fx / fy) / camera.width  # in widths of the picture
    data.clip_start, data.clip_end = _CLIP
    placed = bpy.data.objects.new(name, data)
    collection.objects.link(placed)
    rotation = camera.camera_from_world[:3, :3].T @ OPENGL_FROM_OPENCV
    matrix = np.eye(4)
    matrix[:3, :3] = BLENDER_FROM_HEAD @ rotation
    matrix[:3, 3] = bridge.blender_from_head(camera.position)
    placed.matrix_world = bridge.to_matrix(matrix)
    bpy.context.scene.camera = placed
    set_picture_size(camera)
    return placed


def set_picture_size(camera: Camera) -> None:
    """Width, height and the shape of the pixels of `camera`."""
    fx, fy = camera.K[0, 0], camera.K[1, 1]
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = camera.width, camera.height, 100
    render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, fy / fx), max(1.0, fx / fy)


def portrait_camera(vertices: np.ndarray, size: int) -> Camera:
    """A square camera in front of a head with these (V, 3) vertices in head space, which fill most of the picture of `size` pixels."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    centre, extent = (low + high) / 2, float((high - low)[:2].max())
    distance = 3.0 * extent
    focal = 0.85 * size * distance / extent
    matrix = np.diag([1.0, -1.0, -1.0, 1.0])
    matrix[:3, 3] = -matrix[:3, :3] @ (centre + [0, 0, distance + extent / 2])
    return Camera(np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]), matrix, size, size)


def match_training(scene: bpy.types.Scene, *, background: tuple[float, float, float] = (1, 1, 1), samples: int = 1) -> None:
    """Sets EEVEE, the raw view transform and a plain world, so that a render is the picture a splat rasteriser makes.

    Args:
        background: display-referred colour of the world.
        samples: of EEVEE a pixel. One is exact for splats alone; raise it, and the pixel filter, for other things in the scene.
    """
    look.use_look(scene, look.Renderer.EEVEE, samples=samples)
    scene.render.film_transparent = False
    scene.render.use_compositing = scene.render.use_sequencer = False
    scene.world = _plain_world(background)


def _plain_world(color: tuple[float, float, float]) -> bpy.types.World:
    world = compat.made_before(bpy.data.worlds, _WORLD) or compat.mark(bpy.data.worlds.new(_WORLD), _WORLD)
    tree = compat.use_node_tree(world)
    shader = tree.nodes.new("ShaderNodeBackground")
    shader.inputs["Color"].default_value = (*color, 1.0)
    world.probe_resolution, world.sun_threshold, world.use_sun_shadow = "128", 0.0, False  # it lights nothing: cheap
    output = tree.nodes.new("ShaderNodeOutputWorld")
    output.location = (200, 0)
    tree.links.new(shader.outputs["Background"], output.inputs["Surface"])
    return world


def resized(camera: Camera, size: int) -> Camera:
    """The same view with a picture whose longer side has `size` pixels; even sides, as video wants them."""
    longer = max(camera.width, camera.height)
    width, height = (max(2, 2 * round(side * size / longer / 2)) for side in (camera.width, camera.height))
    scale = np.diag([width / camera.width, height / camera.height, 1.0])
    return replace(camera, K=scale @ camera.K, width=width, height=height)


def show_in_viewports() -> None:
    """Lets every 3D viewport open on what the scene's camera renders, in material preview: Blender opens none as rendered."""
    spaces = [space for screen in bpy.data.screens for area in screen.areas for space in area.spaces if space.type == "VIEW_3D"]
    for space in spaces:
        space.shading.type = "MATERIAL"
        space.shading.use_scene_world = space.shading.use_scene_lights = True
        space.region_3d.view_perspective = "CAMERA"


def save_blend(path: str | Path) -> None:
    """Saves a copy of the current file, compressed and atomically, with output settings for a film beside it.

    Raises:
        StorageError: it cannot be written.
    """
    scene = bpy.context.scene
    use_film_output(scene)
    scene.render.filepath = "//render.mp4"
    with written_by_blender(path, ".blend") as temporary:
        bpy.ops.wm.save_as_mainfile(filepath=temporary, compress=True, copy=True, check_existing=False, relative_remap=False)


def render_still(path: str | Path, frame: int, *, alpha: bool = False) -> None:
    """Renders one frame as PNG, atomically. Raises StorageError if it cannot be written.

    Args:
        alpha: leave out the background, and keep how much of it each pixel would show.
    """
    scene = bpy.context.scene
    scene.frame_set(frame)
    with written_by_blender(path, ".png") as temporary, _film_as(scene, transparent=alpha):
        compat.use_image_output(scene.render.image_settings, "RGBA" if alpha else "RGB")
        scene.render.filepath = temporary
        bpy.ops.render.render(write_still=True)


def render_pictures(folder: Path, frames: range, *, alpha: bool = True) -> Iterator[tuple[int, int]]:
    """Renders `frame_0001.png` and so on, named by the scene's frames, each as a whole; yields (done, total) after each."""
    make_folder(folder)
    before = bpy.context.scene.frame_current
    try:
        for done, frame in enumerate(frames, start=1):
            render_still(folder / f"frame_{frame:04d}.png", frame, alpha=alpha)
            yield done, len(frames)
    finally:
        bpy.context.scene.frame_set(before)


def render_clip(path: str | Path, frames: range, progress: Progress = silent, *, alpha: bool = False) -> None:
    """Renders consecutive `frames` as a film at the scene's frame rate, atomically: H.264 in MP4, or with `alpha` VP9 in WebM.

    Blender renders an animation in one piece: what `progress` raises after a frame is raised here when the last frame is done.

    Raises:
        StorageError: `path` cannot be written.
    """
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = frames[0], frames[-1]
    ending = ".webm" if alpha else ".mp4"
    with written_by_blender(path, ending) as temporary, _told_of_frames(progress, len(frames)), _film_as(scene, transparent=alpha):
        use_film_output(scene, alpha=alpha)
        scene.render.filepath = temporary
        bpy.ops.render.render(animation=True)


@contextmanager
def _film_as(scene: bpy.types.Scene, *, transparent: bool) -> Iterator[None]:
    """The scene with or without its background, and with its own outputs again afterwards."""
    render = scene.render
    before = render.film_transparent, render.filepath
    render.film_transparent = transparent or render.film_transparent
    try:
        yield
    finally:
        render.film_transparent, render.filepath = before


def use_film_output(scene: bpy.types.Scene, *, alpha: bool = False) -> None:
    """H.264 in MP4, or VP9 in WebM, which can be transparent; all but lossless."""
    compat.use_video_output(scene.render.image_settings)
    scene.render.use_file_extension = False  # or Blender adds the frame numbers to the name
    ffmpeg = scene.render.ffmpeg
    ffmpeg.format, ffmpeg.codec, ffmpeg.audio_codec = *(("WEBM", "WEBM") if alpha else ("MPEG4", "H264")), "NONE"
    scene.render.image_settings.color_mode = "RGBA" if alpha else "RGB"
    ffmpeg.constant_rate_factor, ffmpeg.ffmpeg_preset = "PERC_LOSSLESS", "GOOD"


@contextmanager
def _told_of_frames(progress: Progress, total: int) -> Iterator[None]:
    """Tells `progress` of each frame an animation render finishes; raises at the end what it raised."""
    failures: list[BaseException] = []
    done = itertools.count(1)

    def after_frame(*_: object) -> None:
        try:
            progress("clip", next(done), total)
        except BaseException as error:  # Blender would print it and go on
            failures.append(error)

    progress("clip", 0, total)
    bpy.app.handlers.render_post.append(after_frame)
    try:
        yield
    finally:
        bpy.app.handlers.render_post.remove(after_frame)
    if failures:
        raise failures[0]
