# SPDX-License-Identifier: Apache-2.0
"""Avatars for other programs: files that they read, and a folder that Blender watches."""

from dataclasses import replace
from pathlib import Path

from comfy_api.latest import io

from ..mvp4d_core.avatar import GaussianAvatar
from ..mvp4d_core.avatar.cap4d_ply import write_cap4d
from ..mvp4d_core.avatar.gaussian_avatars import write_gaussian_avatars
from ..mvp4d_core.avatar.glb import CONTENTS, write_glb
from ..mvp4d_core.avatar.handover import check_name, write_handover
from ..mvp4d_core.avatar.posed_files import write_posed, write_sequence
from ..mvp4d_core.errors import InputError
from ..mvp4d_core.io.folders import make_folder
from ..mvp4d_core.player.page import write_page
from ..mvp4d_core.progress import Progress
from ..mvp4d_core.rig import HeadModel, Parameters, Performance, perform_on, rest_parameters, showcase_performance
from . import host
from .types import CATEGORY, AvatarSocket, BoundAvatar, HeadSocket, PerformanceSocket

STILL = {"ply": ".ply", "splat": ".splat", "spz": ".spz"}
FORMATS = ("ply", "ply sequence", "splat", "spz", "glb", "html", "gaussian-avatars", "cap4d")
SHOWN_BY_VIEWERS = (".ply", ".splat", ".spz", ".glb")


class ExportAvatar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_ExportAvatar",
            display_name="MVP4D Export Avatar",
            category=CATEGORY,
            description="Writes the avatar under output/ in a format that other programs read: splats, a rigged mesh, or a web page.",
            search_aliases=["save ply", "spz", "glb", "html player", "splat sequence", "GaussianAvatars", "CAP4D"],
            inputs=[
                AvatarSocket.Input("avatar", tooltip="From Distill Avatar or Load Avatar."),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="ply",
                    tooltip="ply, splat, spz: splats in one pose. ply sequence: a folder, one file a frame. glb: the rig as a textured "
                    "mesh with skin and morph targets. html: a page that plays the avatar by itself. gaussian-avatars (FLAME only) and "
                    "cap4d: moving splats for those programs.",
                ),
                io.String.Input("filename_prefix", default="mvp4d/export", tooltip="Folder and name under output/; a number is added."),
                io.Int.Input(
                    "frame", default=0, min=0, max=100_000, tooltip="Of splats in one pose: which frame of the performance. 0 is its start."
                ),
                io.Combo.Input(
                    "glb_content",
                    options=list(CONTENTS),
                    default="mesh",
                    advanced=True,
                    tooltip="What a glb holds: the rigged mesh, the splats at rest (KHR_gaussian_splatting), or both.",
                ),
                PerformanceSocket.Input(
                    "performance",
                    optional=True,
                    tooltip="What moves. Without it splats in one pose show the face at rest, a glb stands still, and the others play the "
                    "showcase.",
                ),
                HeadSocket.Input("head_model", optional=True, tooltip="For gaussian-avatars of a loaded avatar: the FLAME head it is on."),
            ],
            outputs=[io.String.Output("path", tooltip="The file, or the folder where there are several.")],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        avatar: BoundAvatar,
        format: str,
        filename_prefix: str,
        frame: int,
        glb_content: str,
        performance: Performance | None = None,
        head_model: HeadModel | None = None,
    ) -> io.NodeOutput:
        rig = avatar.avatar.rig
        acted = None if performance is None else perform_on(performance, rig)
        kept = replace(avatar.avatar, metadata=avatar.avatar.metadata | host.workflow_texts(cls.hidden))
        if format in STILL:
            path = host.output_path(filename_prefix, STILL[format])
            write_posed(path, kept, _pose(acted, frame, kept))
        elif format == "glb":
            path = host.output_path(filename_prefix, ".glb")
            write_glb(path, kept, acted, content=glb_content, progress=host.ProgressBar())
        else:
            moving = acted or showcase_performance(rig)
            path = _write_moving(filename_prefix, format, kept, moving, head_model or avatar.head_model, host.ProgressBar())
        results = [host.saved_result(path)] if path.suffix in SHOWN_BY_VIEWERS else []
        return io.NodeOutput(str(path), ui={"3d": results, "text": [f"Saved {path}"]})


class ExportForBlender(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_ExportForBlender",
            display_name="MVP4D Export for Blender",
            category=CATEGORY,
            description="Lays the avatar ready in output/mvp4d/blender, where the Blender add-on finds it and brings it up to date.",
            search_aliases=["blender", "send to blender", "avatar to blender"],
            inputs=[
                AvatarSocket.Input("avatar", tooltip="From Distill Avatar or Load Avatar."),
                io.String.Input(
                    "name", default="avatar", tooltip="What it is called in Blender. The same name replaces what was sent before."
                ),
                PerformanceSocket.Input("performance", optional=True, tooltip="What it does in Blender; without it the face rests."),
            ],
            outputs=[io.String.Output("path", tooltip="The manifest that the add-on watches.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, avatar: BoundAvatar, name: str, performance: Performance | None = None) -> io.NodeOutput:
        acted = None if performance is None else perform_on(performance, avatar.avatar.rig)
        kept = replace(avatar.avatar, metadata=avatar.avatar.metadata | host.workflow_texts(cls.hidden))
        manifest = write_handover(host.blender_folder(), name, kept, acted, head_model=avatar.head_model, shape=avatar.shape)
        told = f"Blender finds `{name}` in {manifest.parent}"
        return io.NodeOutput(str(manifest), ui={"mvp4d": [host.saved_result(manifest)], "text": [told]})

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        try:
            check_name("avatar" if name is None else name)
        except InputError as error:
            return str(error)
        return True


def _pose(acted: Performance | None, frame: int, avatar: GaussianAvatar) -> Parameters:
    if acted is None:
        return rest_parameters(avatar.rig)
    if frame >= len(acted):
        raise InputError(f"`frame` must be below the performance's {len(acted)} frames, got {frame}.")
    return acted[frame]


def _write_moving(
    prefix: str, format: str, avatar: GaussianAvatar, moving: Performance, head_model: HeadModel | None, progress: Progress
) -> Path:
    """Writes the formats that hold a performance; gives the file, or the folder of several."""
    if format == "html":
        path = host.output_path(prefix, ".html")
        write_page(path, avatar, moving)
    elif format == "cap4d":
        path = host.output_path(prefix, ".ply")
        write_cap4d(path, avatar, moving, progress=progress)
    elif format == "ply sequence":
        path = host.output_path(prefix, "")
        write_sequence(path, avatar, moving, ".ply", progress)
    else:
        if head_model is None:
            raise InputError("GaussianAvatars' files are of FLAME heads. Connect the FLAME head of this avatar, from Load Head Model.")
        path = host.output_path(prefix, "")
        make_folder(path)
        write_gaussian_avatars(path / "point_cloud.ply", avatar, head_model, moving)
    return path
