# SPDX-License-Identifier: Apache-2.0
"""Avatars on disk."""

from dataclasses import replace
from pathlib import Path

from comfy_api.latest import io

from ..mvp4d_core.avatar import save_avatar
from ..mvp4d_core.avatar.file_space import write_posed_ply
from ..mvp4d_core.avatar.identity import recover_shape
from ..mvp4d_core.avatar.import_avatar import import_avatar
from ..mvp4d_core.avatar.imported import ImportedAvatar
from ..mvp4d_core.avatar.mvp4d_file import load_identity, may_travel
from ..mvp4d_core.avatar.posed_files import SPLAT_ENDINGS
from ..mvp4d_core.rig import HeadModel, load_head_model, rest_parameters, single_frame
from . import host
from .types import CATEGORY, AvatarSocket, BoundAvatar, HeadSocket, PerformanceSocket

IN_THE_FILE = "in the file"
Y_UP = {"auto": None, "up": True, "down": False}


class SaveAvatar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_SaveAvatar",
            display_name="MVP4D Save Avatar",
            category=CATEGORY,
            description="Writes the avatar under output/: an animatable .mvp4d for Blender and Load Avatar, a .ply for splat viewers.",
            search_aliases=["export avatar", "mvp4d file", "save gaussians", "ply"],
            inputs=[
                AvatarSocket.Input("avatar", tooltip="From Distill Avatar or Load Avatar."),
                io.String.Input("filename_prefix", default="mvp4d/avatar", tooltip="Folder and name under output/; a number is added."),
                io.Boolean.Input(
                    "save_ply", default=True, tooltip="Also write the neutral face as a 3D Gaussian splat .ply that any viewer opens."
                ),
            ],
            outputs=[
                AvatarSocket.Output("avatar", tooltip="The same avatar."),
                io.String.Output("path", tooltip="Where the .mvp4d file is."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, avatar: BoundAvatar, filename_prefix: str, save_ply: bool) -> io.NodeOutput:
        path = host.output_path(filename_prefix, ".mvp4d")
        kept = replace(avatar.avatar, metadata=avatar.avatar.metadata | host.workflow_texts(cls.hidden))
        save_avatar(path, kept, head_model=avatar.head_model, shape=avatar.shape)
        saved = [path]
        if save_ply:
            saved.append(path.with_suffix(".ply"))
            write_posed_ply(saved[-1], avatar.avatar, rest_parameters(avatar.avatar.rig))
        results = [host.saved_result(file) for file in saved]
        return io.NodeOutput(avatar, str(path), ui={"3d": results[1:], "mvp4d": results[:1], "text": [f"Saved {file}" for file in saved]})


class LoadAvatar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_LoadAvatar",
            display_name="MVP4D Load Avatar",
            category=CATEGORY,
            description="Reads a .mvp4d avatar from the input or output folder, or another program's from the input folder.",
            search_aliases=["open avatar", "import avatar", "mvp4d file", "load ply", "GaussianAvatars", "CAP4D"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=[*host.files_ending_in(".mvp4d"), *host.files_ending_in(*SPLAT_ENDINGS, folders=("input",))],
                    tooltip="A .mvp4d file; GaussianAvatars' point_cloud.ply with its flame_param.npz beside it; CAP4D's animation PLY; or "
                    "splats that stand still (.ply, .splat, .spz). Press R after adding one.",
                ),
                io.Combo.Input(
                    "head",
                    options=[IN_THE_FILE, *host.head_names()],
                    default=IN_THE_FILE,
                    tooltip="The head that moves what is in the file: FLAME in models/mvp4d for GaussianAvatars and licensed avatars, any "
                    "for splats that stand still. Other files have their own.",
                    advanced=True,
                ),
                # optional, so that workflows saved before these were there still run
                HeadSocket.Input("head_model", optional=True, tooltip="A head of Load Head Model, in place of the one named above."),
                io.Boolean.Input(
                    "fit",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Move and scale splats that stand still onto the head; those that do not lie on it are refused otherwise.",
                ),
                io.Combo.Input(
                    "y_axis",
                    options=list(Y_UP),
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip="Where y points in a file of another program; auto: down in splats that stand still, up in CAP4D's files.",
                ),
            ],
            outputs=[
                AvatarSocket.Output("avatar", tooltip="For Render, Animate, Preview and Save Avatar."),
                PerformanceSocket.Output("performance", tooltip="The motion that the file holds; the face at rest where it holds none."),
                io.String.Output("report", tooltip="How many splats on which head, and what the file holds and the avatar lacks."),
            ],
        )

    @classmethod
    def execute(cls, file: str, head: str, head_model: HeadModel | None = None, fit: bool = False, y_axis: str = "auto") -> io.NodeOutput:
        if head_model is None and head != IN_THE_FILE:
            head_model = load_head_model(host.head_source(head))
        path = host.file_path(file)
        imported = import_avatar(path, head_model, fit=fit, upright=Y_UP[y_axis])
        avatar, rig = imported.avatar, imported.avatar.rig
        performance = imported.performance or single_frame(rest_parameters(rig), rig)
        lines = [f"{len(avatar):,} splats on the head {rig.name} ({rig.licence}).", *imported.notes]
        return io.NodeOutput(_bound(imported, path), performance, "\n".join(lines))

    @classmethod
    def fingerprint_inputs(cls, file: str, head: str = IN_THE_FILE, **_: object) -> str:
        return host.file_state(file) + ("" if head == IN_THE_FILE else host.head_state(head))


def _bound(imported: ImportedAvatar, path: Path) -> BoundAvatar:
    """The avatar with what saving it again wants, where its head may not travel."""
    avatar, head_model = imported.avatar, imported.head_model
    if head_model is None or may_travel(avatar.rig):
        return BoundAvatar(avatar)
    shape = load_identity(path) if path.suffix.lower() == ".mvp4d" else recover_shape(head_model, avatar.rig)
    return BoundAvatar(avatar, head_model, shape)
