# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender 5.3 calls the parts of its own Gaussian splats, in one place.

They are read off Blender's sources of September 2026. No build of 5.3 was at hand, so the node and the names are untested; everything that
leads up to them is tested on older Blenders, where `NODE` does not exist.
"""

NODE = "GeometryNodePointsSetType"
NODE_TYPE_INPUT = "Type"
NODE_TYPE_VALUE = "Gaussian Splat"

SCALE = "scale"  # three standard deviations, metres
ROTATION = "rotation"  # unit quaternion
BASE = "radiance:base"  # the constant harmonic, raw, and the opacity as the fourth number


def sh_attribute(index: int) -> str:
    """The name of higher spherical-harmonic coefficient `index`, 0 to 14."""
    return f"radiance:sh_{index}"
