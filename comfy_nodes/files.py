# SPDX-License-Identifier: Apache-2.0
"""Avatars on disk."""

from dataclasses import replace

from comfy_api.latest import io

from ..mvp4d_core.avatar import load_avatar, save_avatar
from ..mvp4d_core.avatar.file_space import write_posed_ply
from ..mvp4d_core.rig import load_head_model, rest_parameters
from . import host
from .types import CATEGORY, AvatarSocket, BoundAvatar

IN_THE_FILE = "in the file"


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
            description="Reads a .mvp4d avatar from the input or output folder.",
            search_aliases=["open avatar", "import avatar", "mvp4d file"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=host.files_ending_in(".mvp4d"),
                    tooltip="A .mvp4d file under input/ or output/. Press R after adding one.",
                ),
                io.Combo.Input(
                    "head",
                    options=[IN_THE_FILE, *host.head_names()[1:]],
                    default=IN_THE_FILE,
                    tooltip="The head of an avatar whose licence keeps it out of the file: one in models/mvp4d.",
                    advanced=True,
                ),
            ],
            outputs=[AvatarSocket.Output("avatar", tooltip="For Render, Animate and Save Avatar.")],
        )

    @classmethod
    def execute(cls, file: str, head: str) -> io.NodeOutput:
        head_model = None if head == IN_THE_FILE else load_head_model(host.head_source(head))
        return io.NodeOutput(BoundAvatar(load_avatar(host.file_path(file), head_model=head_model)))

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: object) -> str:
        return host.file_state(file)
