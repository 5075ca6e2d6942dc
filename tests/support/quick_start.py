# SPDX-License-Identifier: Apache-2.0
"""The shipped quick start, made small enough for tests."""

TOY = {
    "3": {"coverage": "120", "frames": 2, "views": 3, "size": 64},
    "5": {"steps": 3, "splats": 12_000},
    "6": {"fps": 4.0, "seconds": 1.0},
    "7": {"width": 96, "height": 64},
}
