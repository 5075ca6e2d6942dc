# SPDX-License-Identifier: Apache-2.0
"""Workflows that begin with an avatar; one comes with the pack."""

from .steps import PICTURE, TALL, Group, Step, Workflow, saved

AVATAR, CLIP, TAKE = "mvp4d_avatar.mvp4d", "mvp4d_clip.mp4", "mvp4d_take.csv"
POSED = (  # what a hand has set in Preview Avatar
    '{"expression":{"mouthSmileLeft":0.7,"mouthSmileRight":0.7,"browOuterUpLeft":0.5,"browOuterUpRight":0.5,"eyeBlinkRight":0.9},'
    '"joints":{"neck":[0.03,-0.22,0.05]},'
    '"camera":{"position":{"x":0.35,"y":0.11,"z":1.12},"target":{"x":0.0,"y":0.02801,"z":0.00287},"fov":17.26305}}'
)


def _avatar() -> Step:
    return Step("MVP4D_LoadAvatar", {"file": AVATAR}, "1. Choose your avatar")


DRIVEN = Workflow(
    "driven_by_video",
    """# A video drives an avatar

1. **Choose your avatar**: a `.mvp4d` file that *Save Avatar* has made. An example is chosen.
2. **Choose a driving video**: one person, the face seen from the front. A short example is chosen.
3. Press **Run**, and look at the overlay in **Track Video**: the drawn face should follow the actor's.

- `straight` *person* helps where the camera stood to the side.
- **Edit Performance** cuts, smooths, slows down and exaggerates: `strength` 1.3 plays it larger.
- **Save Performance** keeps it for Blender, or as a Live Link CSV for other programs.
- The sound of the video goes into the film.
""",
    (
        Group(
            "1. Avatar and actor",
            ({"1": _avatar(), "2": Step("LoadVideo", {"file": CLIP}, "2. Choose a driving video", PICTURE)},),
        ),
        Group(
            "2. What the actor does",
            (
                {
                    "3": Step("MVP4D_TrackVideo", {"video": ["2", 0]}, room=PICTURE),
                    "4": Step("PreviewAny", {"source": ["3", 2]}, "How well it was followed", 160),
                },
                {
                    "5": Step("MVP4D_EditPerformance", {"performance": ["3", 0], "smooth": 0.2}),
                    "6": Step("MVP4D_SavePerformance", {"performance": ["5", 0], "filename_prefix": "mvp4d/driven"}),
                },
            ),
        ),
        Group(
            "3. The avatar does it",
            (
                {"7": Step("MVP4D_RenderAvatar", {"avatar": ["1", 0], "performance": ["6", 0], "elevation": 3.0}, room=PICTURE)},
                {
                    "8": Step("GetVideoComponents", {"video": ["2", 0]}),
                    "9": Step("CreateVideo", {"images": ["7", 0], "fps": ["5", 1], "audio": ["8", 1]}),
                    "10": saved("9", "mvp4d_driven"),
                },
            ),
        ),
    ),
    (("3", 0.667), ("10", 0.571), ("3", 1.0), ("10", 0.857)),
)

SLIDERS = Workflow(
    "arkit_sliders_live",
    """# A face by hand, live

1. **Choose your avatar**; an example is chosen. Press **Run** once.
2. **Preview Avatar** answers at once, without another run: move its sliders, turn the head, press play.
3. What you set there, face and camera, goes into the picture at the right at the next run.

**ARKit Sliders** does the same with numbers that other nodes can use: they are added to the idle motion that the timeline plays. For a \
picture that follows every change, open the menu beside *Run* and choose **Run (On Change)**.
""",
    (
        Group(
            "1. Avatar",
            ({"1": _avatar(), "2": Step("MVP4D_PerformancePreset", {"name": "idle", "seconds": 4.0}, "Alive while it waits")},),
        ),
        Group(
            "2. Numbers",
            (
                {
                    "3": Step(
                        "MVP4D_ARKitSliders",
                        {
                            "performance": ["2", 0],
                            "mouthSmileLeft": 0.55,
                            "mouthSmileRight": 0.55,
                            "cheekSquintLeft": 0.3,
                            "cheekSquintRight": 0.3,
                            "browInnerUp": 0.2,
                        },
                    )
                },
            ),
        ),
        Group(
            "3. By hand",
            (
                {
                    "4": Step("MVP4D_PreviewAvatar", {"avatar": ["1", 0], "performance": ["3", 0], "state": POSED}),
                },
                {
                    "5": Step(
                        "MVP4D_RenderAvatar",
                        {"avatar": ["1", 0], "performance": ["4", 0], "camera_info": ["4", 1], "width": 768, "height": 768},
                    ),
                    "6": Step("PreviewImage", {"images": ["5", 0]}, "The face as you set it", TALL),
                },
            ),
        ),
    ),
    (("6", 0.0),),
)

LIVE_LINK = Workflow(
    "live_link_csv",
    """# An iPhone drives an avatar

**Live Link Face** records an actor's face with an iPhone and gives a `.csv` file. Put it in ComfyUI's `input` folder, press **R**, and \
choose it in **Load Performance**. An example is chosen.

- The take has its own frame rate; it goes on to the film by the wire.
- **Mix Performances** adds the idle motion of a head that lives, half of it. `blend` goes between two takes.
- **Edit Performance** cuts out the part you want: `start` and `end` in seconds.
- `.json` files of sliders, MediaPipe's blendshapes, and tracks of FLAME trackers (`.npz`) load in the same way.
""",
    (
        Group(
            "1. Avatar and take",
            (
                {
                    "1": _avatar(),
                    "2": Step("MVP4D_LoadPerformance", {"performance": TAKE}, "2. Choose a take"),
                    "3": Step("MVP4D_PerformancePreset", {"name": "idle", "seconds": 6.0, "seed": 4}, "A head that lives"),
                },
            ),
        ),
        Group(
            "2. Edit",
            (
                {
                    "4": Step("MVP4D_EditPerformance", {"performance": ["2", 0]}),
                    "5": Step("MVP4D_MixPerformances", {"first": ["4", 0], "second": ["3", 0], "mode": "add", "amount": 0.5}),
                },
            ),
        ),
        Group(
            "3. Play",
            (
                {
                    "6": Step(
                        "MVP4D_RenderAvatar",
                        {"avatar": ["1", 0], "performance": ["5", 0], "azimuth": -15.0, "elevation": 3.0},
                        room=PICTURE,
                    )
                },
                {
                    "7": Step("CreateVideo", {"images": ["6", 0], "fps": ["5", 1]}),
                    "8": saved("7", "mvp4d_take"),
                },
            ),
        ),
    ),
    (("8", 0.15), ("8", 0.45), ("8", 0.6), ("8", 0.88)),
)

TURNTABLE = Workflow(
    "turntable_with_alpha",
    """# A turntable, with and without a background

The camera goes once around the head while it acts. Two films come out:

- an **MP4** on the colour of `background`, for everything that plays videos;
- a **WebM with alpha**, see-through where the head is not, for editors and web pages.

`turn` is how far the camera goes during the clip, `elevation` how high it stands. For PNG pictures with alpha connect *Join Image with \
Alpha* to *Save Image*. *Join Image with Alpha* wants the mask inverted: that is what **Invert Mask** is for.
""",
    (
        Group(
            "1. Avatar and performance",
            ({"1": _avatar(), "2": Step("MVP4D_PerformancePreset", {"name": "speech", "seconds": 5.0})},),
        ),
        Group(
            "2. Once around",
            (
                {
                    "3": Step(
                        "MVP4D_RenderAvatar",
                        {"avatar": ["1", 0], "performance": ["2", 0], "turn": 360.0, "elevation": 6.0, "background": "#27303a"},
                        room=PICTURE,
                    )
                },
            ),
        ),
        Group(
            "3. MP4",
            (
                {
                    "4": Step("CreateVideo", {"images": ["3", 0], "fps": ["2", 1]}),
                    "5": saved("4", "mvp4d_turntable"),
                },
            ),
        ),
        Group(
            "4. WebM with alpha",
            (
                {
                    "6": Step("InvertMask", {"mask": ["3", 1]}),
                    "7": Step("JoinImageWithAlpha", {"image": ["3", 0], "alpha": ["6", 0]}),
                    "8": Step(
                        "SaveWEBM",
                        {"images": ["7", 0], "filename_prefix": "video/mvp4d_alpha", "codec": "vp9", "fps": ["2", 1], "crf": 24.0},
                        room=TALL,
                    ),
                },
            ),
        ),
    ),
    (("5", 0.06), ("5", 0.3), ("5", 0.55), ("5", 0.88)),
)

BLENDER = Workflow(
    "avatar_to_blender",
    """# To Blender, and to other programs

**Export for Blender** writes to `output/mvp4d/blender`, where the MVP4D add-on looks: the avatar appears in the scene with its rig, its \
52 sliders and the performance, and is brought up to date at each run. In Blender set ComfyUI's `output` folder in the add-on's preferences.

**Export Avatar** writes what other programs read:

- `glb`: the rig as a textured mesh with skin and morph targets, for game engines and DCCs;
- `html`: a page that plays the avatar in any browser, and needs nothing else;
- `ply`, `splat`, `spz`: splats of one pose, for splat viewers; `ply sequence` for moving ones.
""",
    (
        Group(
            "1. Avatar and performance",
            ({"1": _avatar(), "2": Step("MVP4D_PerformancePreset", {"name": "joy", "seconds": 3.0})},),
        ),
        Group(
            "2. Blender",
            (
                {
                    "3": Step("MVP4D_ExportForBlender", {"avatar": ["1", 0], "performance": ["2", 0], "name": "avatar"}),
                    "4": Step("PreviewAny", {"source": ["3", 0]}, "Where Blender finds it", 100),
                },
            ),
        ),
        Group(
            "3. Other programs",
            (
                {
                    "5": Step(
                        "MVP4D_ExportAvatar",
                        {"avatar": ["1", 0], "performance": ["2", 0], "format": "html", "filename_prefix": "mvp4d/page"},
                        "A web page",
                    ),
                    "6": Step(
                        "MVP4D_ExportAvatar",
                        {"avatar": ["1", 0], "performance": ["2", 0], "format": "glb", "filename_prefix": "mvp4d/mesh"},
                        "A rigged mesh",
                    ),
                },
            ),
        ),
        Group(
            "4. What they get",
            (
                {
                    "7": Step("MVP4D_RenderAvatar", {"avatar": ["1", 0], "performance": ["2", 0], "azimuth": 20.0, "elevation": 3.0}),
                    "8": Step("PreviewImage", {"images": ["7", 0]}, room=TALL),
                },
            ),
        ),
    ),
    (("8", 0.34),),
)
