# SPDX-License-Identifier: Apache-2.0
"""A face set by hand, one slider an expression."""

from comfy_api.latest import io

from ..mvp4d_core.rig import ARKIT_NAMES, Performance
from ..mvp4d_core.rig.slider_pose import slider_performance
from .types import CATEGORY, PerformanceSocket

# region -> what each of its expressions does; a name that ends in * has a left and a right one
REGIONS: dict[str, dict[str, str]] = {
    "Brows": {
        "browInnerUp": "inner ends of both brows up",
        "browOuterUp*": "outer end of the brow up",
        "browDown*": "brow down",
    },
    "Eyes": {
        "eyeBlink*": "lids closed",
        "eyeSquint*": "lids narrowed, cheek under them tight",
        "eyeWide*": "upper lid wide",
        "eyeLookUp*": "eye looks up",
        "eyeLookDown*": "eye looks down",
        "eyeLookIn*": "eye looks to the nose",
        "eyeLookOut*": "eye looks away from the nose",
    },
    "Cheeks and nose": {
        "cheekPuff": "both cheeks puffed",
        "cheekSquint*": "cheek raised",
        "noseSneer*": "side of the nose wrinkled",
    },
    "Jaw": {
        "jawOpen": "jaw down",
        "jawForward": "jaw forward",
        "jawLeft": "jaw to the subject's left",
        "jawRight": "jaw to the subject's right",
    },
    "Mouth": {
        "mouthClose": "lips kept together while the jaw is open, no farther than it is open",
        "mouthFunnel": "lips an open funnel, as in oh",
        "mouthPucker": "lips small and forward, as for a kiss",
        "mouthLeft": "whole mouth to the subject's left",
        "mouthRight": "whole mouth to the subject's right",
        "mouthSmile*": "corner up",
        "mouthFrown*": "corner down",
        "mouthDimple*": "corner back into the cheek",
        "mouthStretch*": "corner to the side",
        "mouthRollLower": "lower lip rolled in",
        "mouthRollUpper": "upper lip rolled in",
        "mouthShrugLower": "lower lip and chin pushed up",
        "mouthShrugUpper": "upper lip pushed up",
        "mouthPress*": "lips pressed together at this side",
        "mouthLowerDown*": "lower lip down",
        "mouthUpperUp*": "upper lip up",
        "tongueOut": "tongue out; open the jaw as well",
    },
}
# input -> (largest degrees either way, what positive means)
ANGLES = {
    "head_yaw": (70.0, "Head: turned to the subject's left"),
    "head_pitch": (45.0, "Head: face up"),
    "head_roll": (40.0, "Head: tilted to the subject's right shoulder"),
    "gaze_left": (35.0, "Gaze: both eyes to the subject's left"),
    "gaze_up": (25.0, "Gaze: both eyes up"),
}


def _expressions() -> dict[str, str]:
    """Every slider in the order of the node, with its tooltip."""
    sliders = {}
    for region, meanings in REGIONS.items():
        for name, meaning in meanings.items():
            for side in ("Left", "Right") if name.endswith("*") else ("",):
                whose = f", the subject's {side.lower()}" if side else ""
                sliders[name.removesuffix("*") + side] = f"{region}{whose}: {meaning}."
    return sliders


class ARKitSliders(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        slider = io.NumberDisplay.slider
        angles = [
            io.Float.Input(
                name,
                default=0.0,
                min=-most,
                max=most,
                step=1.0,
                display_mode=slider,
                tooltip=f"{meaning}, negative the other way, degrees.",
            )
            for name, (most, meaning) in ANGLES.items()
        ]
        weights = [
            io.Float.Input(name, default=0.0, min=0.0, max=1.0, step=0.01, display_mode=slider, tooltip=text)
            for name, text in _expressions().items()
        ]
        return io.Schema(
            node_id="MVP4D_ARKitSliders",
            display_name="MVP4D ARKit Sliders",
            category=CATEGORY,
            description="A face set by ARKit's 52 sliders, the head's attitude and the gaze; held for a while, or laid over a performance.",
            search_aliases=["expression editor", "blendshapes", "face pose", "live portrait", "head pose", "gaze"],
            inputs=[
                *angles,
                *weights,
                io.Int.Input(
                    "frames", default=1, min=1, max=10_000, tooltip="How long the face is held; a connected performance has its own length."
                ),
                io.Float.Input(
                    "fps", default=24.0, min=1.0, max=240.0, step=1.0, tooltip="Frames a second; a connected performance has its own."
                ),
                PerformanceSocket.Input(
                    "performance", optional=True, tooltip="What the sliders are added to, frame by frame, within what faces can do."
                ),
            ],
            outputs=[
                PerformanceSocket.Output("performance", tooltip="For Render Avatar, Preview Avatar or Mix Performances."),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
                io.Int.Output("frames", tooltip="How many frames it has."),
            ],
        )

    @classmethod
    def execute(cls, frames: int, fps: float, performance: Performance | None = None, **sliders: float) -> io.NodeOutput:
        made = slider_performance(
            {name: sliders[name] for name in ARKIT_NAMES},
            head=(sliders["head_yaw"], sliders["head_pitch"], sliders["head_roll"]),
            gaze=(sliders["gaze_left"], sliders["gaze_up"]),
            frames=frames,
            fps=fps,
            base=performance,
        )
        return io.NodeOutput(made, float(made.fps), len(made))
