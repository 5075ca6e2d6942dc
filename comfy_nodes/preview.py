# SPDX-License-Identifier: Apache-2.0
"""The avatar in the page, to be played and posed by hand. The widget is `web/js/preview_avatar.js`."""

from comfy_api.latest import io

from ..mvp4d_core.cameras import camera_of_viewer, viewer_info
from ..mvp4d_core.errors import MVP4DError
from ..mvp4d_core.io.atomic import atomic_write
from ..mvp4d_core.player.pack import pack_avatar, pack_digest, rest_camera, rest_view
from ..mvp4d_core.player.state import read_state
from ..mvp4d_core.rig import Performance, perform_on, single_frame
from . import host
from .types import CATEGORY, AvatarSocket, BoundAvatar, PerformanceSocket

TITLE = "Avatar"
SQUARE = 512  # pixels: a camera's field of view is across the smaller side, so any square says the same


class PreviewAvatar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_PreviewAvatar",
            display_name="MVP4D Preview Avatar",
            category=CATEGORY,
            description="Plays the avatar inside the node: sliders, timeline, orbit. What you set goes on to other nodes at the next run.",
            search_aliases=["avatar viewer", "play avatar", "expression sliders", "gaussian viewer", "4d player"],
            inputs=[
                AvatarSocket.Input("avatar", tooltip="From Distill Avatar or Load Avatar."),
                io.String.Input("state", default="", tooltip="Sliders and camera as the player keeps them; empty is the face at rest."),
                PerformanceSocket.Input("performance", optional=True, tooltip="What the timeline plays; nothing without it."),
            ],
            outputs=[
                PerformanceSocket.Output("performance", tooltip="The face as the sliders stand, a performance of one frame."),
                io.Load3DCamera.Output("camera_info", tooltip="The camera as it stands, for Render Avatar and ComfyUI's Render Splat."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, avatar: BoundAvatar, state: str, performance: Performance | None = None) -> io.NodeOutput:
        rig, set_by_hand = avatar.avatar.rig, read_state(state)
        acted = None if performance is None else perform_on(performance, rig)
        posed = single_frame(set_by_hand.pose(rig), rig, fps=acted.fps if acted else 24.0)
        camera, target = rest_camera(rig, SQUARE), rest_view(rig)[0]
        if set_by_hand.camera:
            camera, target = camera_of_viewer(set_by_hand.camera, SQUARE, SQUARE)
        shown = host.temporary_path(f"{pack_digest(avatar.avatar, acted, TITLE)}.player")
        if not shown.is_file():
            packed = pack_avatar(avatar.avatar, acted, title=TITLE, stays_here=True)
            with atomic_write(shown) as file:
                file.write(packed)
        return io.NodeOutput(posed, viewer_info(camera, target), ui={"mvp4d_player": [host.saved_result(shown)]})

    @classmethod
    def validate_inputs(cls, state: str | None) -> bool | str:
        try:
            read_state(state or "")
        except MVP4DError as error:
            return str(error)
        return True
