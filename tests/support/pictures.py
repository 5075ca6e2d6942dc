# SPDX-License-Identifier: Apache-2.0
"""Pictures that tests have rendered."""

from pathlib import Path

import numpy as np
from PIL import Image


def read_picture(path: Path, mode: str = "RGB") -> np.ndarray:
    """(H, W, C) in 0..1."""
    with Image.open(path) as image:
        return np.asarray(image.convert(mode)) / 255
