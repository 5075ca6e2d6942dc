# SPDX-License-Identifier: GPL-3.0-or-later
"""ARKit's 52 sliders as the face picker shows them: by region, the two sides of the face side by side."""

from dataclasses import dataclass

from mvp4d_core.rig import ARKIT_NAMES, mirror_name


@dataclass(frozen=True)
class Region:
    """A part of the face: the names of its sliders begin with one of `stems`."""

    key: str
    label: str
    stems: tuple[str, ...]

    def names(self) -> list[str]:
        """Its sliders in ARKit's order."""
        return [name for name in ARKIT_NAMES if name.startswith(self.stems)]


REGIONS = (
    Region("BROWS", "Brows", ("brow",)),
    Region("EYES", "Eyes", ("eyeBlink", "eyeSquint", "eyeWide")),
    Region("GAZE", "Gaze", ("eyeLook",)),
    Region("NOSE", "Nose and Cheeks", ("nose", "cheek")),
    Region("JAW", "Jaw and Tongue", ("jaw", "tongue")),
    Region(
        "LIPS", "Lips", ("mouthClose", "mouthFunnel", "mouthPucker", "mouthRoll", "mouthShrug", "mouthPress", "mouthLeft", "mouthRight")
    ),
    Region("MOUTH", "Mouth", ("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthLower", "mouthUpper")),
)
ALL = "ALL"  # instead of a region's key: the whole face

# the common part of the names of a left and a right slider, and both names; not of those that push one thing to a side
PAIRS: dict[str, tuple[str, str]] = {
    name.removesuffix("Left"): (name, mirror_name(name))
    for name in ARKIT_NAMES
    if name.endswith("Left") and name not in ("jawLeft", "mouthLeft")
}


def names_of(region: str) -> list[str]:
    """The sliders of a region by its key, or of the whole face."""
    return [name for r in REGIONS if region in (r.key, ALL) for name in r.names()]


def rows_of(region: str) -> list[tuple[str, ...]]:
    """The sliders of a region as rows: the subject's right before the left, as one sees a face, or one slider alone."""
    rows: list[tuple[str, ...]] = []
    for name in names_of(region):
        stem = name.removesuffix("Left").removesuffix("Right")
        if stem not in PAIRS:
            rows.append((name,))
        elif name.endswith("Left"):
            rows.append((PAIRS[stem][1], PAIRS[stem][0]))
    return rows
