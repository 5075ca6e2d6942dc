# SPDX-License-Identifier: Apache-2.0
"""Workflows that begin with a photo."""

from .steps import PICTURE, Group, Step, Workflow, saved

PHOTO = "mvp4d_portrait.jpg"


def _photo() -> Step:
    return Step("LoadImage", {"image": PHOTO}, "1. Choose a portrait photo", PICTURE)


def _reference(photo: str) -> Step:
    return Step("MVP4D_LoadReference", {"image": [photo, 0]}, room=PICTURE)


QUICK_START = Workflow(
    "quick_start",
    """# From a photo to an avatar

1. **Choose a portrait photo** in the first node: one person, face to the camera, the whole head in the picture.
2. Press **Run**. No GPU, no account and no download are needed; two CPU cores take a few minutes.
3. Look at the overlay in **Load Reference**: the drawn head should follow eyes, lips, jaw and hair.

**Then play.** Press play in *Preview Avatar*, turn the head, move the sliders. Change the camera or the performance in group 4 and run \
again: the avatar is kept, only the picture is made anew.

- `turn` 360 in *Render Avatar* makes a turntable.
- `quality` standard in *Distill Avatar* gives a finer avatar.
- The `.mvp4d` file in `output/mvp4d` opens in Blender, and in the other workflows of this pack.
""",
    (
        Group("1. Photo", ({"1": _photo()}, {"2": _reference("1")})),
        Group(
            "2. Many views",
            (
                {
                    "3": Step("MVP4D_ConditionExpressions", {"reference": ["2", 0]}, room=PICTURE),
                    "4": Step("MVP4D_SampleMultiViewVideo", {"reference": ["2", 0], "plan": ["3", 0]}, room=PICTURE),
                },
            ),
        ),
        Group(
            "3. Avatar",
            (
                {
                    "5": Step("MVP4D_DistillAvatar", {"video": ["4", 0], "reference": ["2", 0]}, room=PICTURE),
                    "10": Step("MVP4D_SaveAvatar", {"avatar": ["5", 0]}),
                },
            ),
        ),
        Group(
            "4. Play",
            (
                {
                    "6": Step("MVP4D_LoadPerformance"),
                    "7": Step("MVP4D_RenderAvatar", {"avatar": ["5", 0], "performance": ["6", 0], "elevation": 3.0}, room=PICTURE),
                },
                {
                    "11": Step("MVP4D_PreviewAvatar", {"avatar": ["5", 0], "performance": ["6", 0]}),
                    "8": Step("CreateVideo", {"images": ["7", 0], "fps": ["6", 1]}),
                    "9": saved("8", "mvp4d"),
                },
            ),
        ),
    ),
    (("9", 0.56),),
)


FULL = Workflow(
    "full_mvp4d",
    """# The whole method

Every stage with its own node: who it is, what is acted, where the cameras stand, the video diffusion model, the fit, and how good it is.

The model here is **nano**: small, bundled, trained on synthetic heads at 128 px. It shows how the method runs, and it is blurred. For a \
better picture today choose *proxy* in **Load Model**; for better weights put an MVP4D model in `models/mvp4d` and choose it there.

- **Camera Plan** shows where the cameras stand. *rings* takes your own angles.
- **Condition Expressions** shows the maps that the model is told.
- **Evaluate Avatar** says how near the avatar comes to the videos it was made of.

Two CPU cores take a few minutes. A stopped run goes on where it was.
""",
    (
        Group(
            "1. Who",
            (
                {"1": _photo(), "18": Step("MVP4D_LoadHeadModel")},
                {"2": Step("MVP4D_LoadReference", {"image": ["1", 0], "head_model": ["18", 0]}, room=PICTURE)},
            ),
        ),
        Group(
            "2. What, and seen from where",
            (
                {
                    "3": Step("MVP4D_PerformancePreset", {"name": "range_of_motion", "seconds": 6.0}),
                    "4": Step("MVP4D_CameraPlan", {"layout": "preset", "coverage": "180", "count": 8}, room=PICTURE),
                    "5": Step(
                        "MVP4D_ConditionExpressions",
                        {
                            "reference": ["2", 0],
                            "performance": ["3", 0],
                            "cameras": ["4", 0],
                            "coverage": "180",
                            "frames": 13,
                            "size": 128,
                            "motion": True,
                        },
                        room=PICTURE,
                    ),
                },
            ),
        ),
        Group(
            "3. The videos",
            (
                {
                    "6": Step("MVP4D_LoadModel", {"model": "nano"}),
                    "7": Step(
                        "MVP4D_SampleMultiViewVideo",
                        {"reference": ["2", 0], "plan": ["5", 0], "generator": "mmvdm", "model": ["6", 0]},
                        room=PICTURE,
                    ),
                    "8": Step("MVP4D_MultiViewToVideo", {"video": ["7", 0], "layout": "grid", "fps": 6.0}, room=PICTURE),
                    "9": saved("8", "mvp4d_views", output=2),
                },
            ),
        ),
        Group(
            "4. The avatar",
            (
                {
                    "10": Step(
                        "MVP4D_DistillAvatar", {"video": ["7", 0], "reference": ["2", 0], "steps": 1000, "splats": 15_000}, room=PICTURE
                    ),
                    "11": Step("MVP4D_SaveAvatar", {"avatar": ["10", 0], "filename_prefix": "mvp4d/nano"}),
                    "12": Step("MVP4D_EvaluateAvatar", {"avatar": ["10", 0], "video": ["7", 0], "every": 4}, room=PICTURE),
                    "13": Step("PreviewAny", {"source": ["12", 0]}, "How good it is", PICTURE),
                },
            ),
        ),
        Group(
            "5. Play",
            (
                {
                    "14": Step("MVP4D_PerformancePreset", {"name": "speech"}),
                    "15": Step("MVP4D_RenderAvatar", {"avatar": ["10", 0], "performance": ["14", 0], "elevation": 3.0}, room=PICTURE),
                    "16": Step("CreateVideo", {"images": ["15", 0], "fps": ["14", 1]}),
                    "17": saved("16", "mvp4d_nano"),
                },
            ),
        ),
    ),
    (("5", 0.0), ("4", 0.0), ("9", 0.5), ("17", 0.3)),
)


def _contender(model: str, keys: tuple[str, ...], name: str) -> tuple[dict[str, Step], dict[str, Step]]:
    """One generator's column: model, videos, avatar; and its pictures."""
    chosen, video, fitted, judged, figures, render = keys
    return (
        {
            chosen: Step("MVP4D_LoadModel", {"model": model}, name),
            video: Step("MVP4D_SampleMultiViewVideo", {"reference": ["2", 0], "plan": ["3", 0], "model": [chosen, 0]}, room=PICTURE),
            fitted: Step(
                "MVP4D_DistillAvatar", {"video": [video, 0], "reference": ["2", 0], "steps": 1000, "splats": 15_000}, room=PICTURE
            ),
        },
        {
            judged: Step("MVP4D_EvaluateAvatar", {"avatar": [fitted, 0], "video": [video, 0], "every": 3}, room=PICTURE),
            figures: Step("PreviewAny", {"source": [judged, 0]}, f"{name}: figures", 220),
            render: Step(
                "MVP4D_RenderAvatar", {"avatar": [fitted, 0], "performance": ["4", 0], "azimuth": 25.0, "elevation": 3.0}, room=PICTURE
            ),
        },
    )


COMPARE = Workflow(
    "compare_generators",
    """# Two generators, one photo

The same photo, cameras and expressions go to two generators, and each result becomes an avatar by the same fit. The film shows them side \
by side: **proxy** left, **nano** right.

- The *proxy* projects the photo on the fitted head. It needs no weights.
- *nano* is the bundled video diffusion model: small, trained on synthetic heads at 128 px.
- Choose your own model in one of the **Load Model** nodes to see what it brings.

*Evaluate Avatar* compares each avatar with the videos it was made of, so its figures tell how well the fit went, not which videos are \
better. Two CPU cores take a few minutes.
""",
    (
        Group(
            "1. One photo, one plan",
            (
                {"1": _photo(), "4": Step("MVP4D_PerformancePreset", {"name": "speech", "seconds": 3.0})},
                {
                    "2": _reference("1"),
                    "3": Step(
                        "MVP4D_ConditionExpressions",
                        {"reference": ["2", 0], "coverage": "120", "frames": 13, "views": 8, "size": 128, "motion": True},
                        room=PICTURE,
                    ),
                },
            ),
        ),
        Group("2. The proxy", _contender("proxy", ("5", "6", "7", "8", "9", "10"), "Proxy")),
        Group("3. nano", _contender("nano", ("11", "12", "13", "14", "15", "16"), "nano")),
        Group(
            "4. Side by side",
            (
                {
                    "17": Step("ImageStitch", {"image1": ["10", 0], "image2": ["16", 0]}),
                    "18": Step("CreateVideo", {"images": ["17", 0], "fps": ["4", 1]}),
                    "19": saved("18", "mvp4d_compare"),
                },
            ),
        ),
    ),
    (("6", 0.4), ("12", 0.4), ("10", 0.3), ("16", 0.3)),
)
