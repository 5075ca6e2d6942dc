# SPDX-License-Identifier: Apache-2.0
"""LPIPS' networks in the published layouts, with random weights."""

import numpy as np

# (index, channels, kernel, stride, padding, pooling before, compared), as torchvision's models print
ALEX = [
    (0, 64, 11, 4, 2, 0, True),
    (3, 192, 5, 1, 2, 3, True),
    (6, 384, 3, 1, 1, 3, True),
    (8, 256, 3, 1, 1, 0, True),
    (10, 256, 3, 1, 1, 0, True),
]
VGG = [
    (index, channels, 3, 1, 1, 2 if pooled else 0, compared)
    for index, channels, pooled, compared in [
        (0, 64, 0, 0), (2, 64, 0, 1), (5, 128, 1, 0), (7, 128, 0, 1), (10, 256, 1, 0), (12, 256, 0, 0), (14, 256, 0, 1),
        (17, 512, 1, 0), (19, 512, 0, 0), (21, 512, 0, 1), (24, 512, 1, 0), (26, 512, 0, 0), (28, 512, 0, 1),
    ]
]  # fmt: skip
NETWORKS = {"alex": ALEX, "vgg": VGG}


def random_weights(backbone: str, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The backbone as torchvision names it, and the heads as lpips does."""
    rng = np.random.default_rng(seed)
    features, heads, before = {}, {}, 3
    for index, channels, kernel, *_, compared in NETWORKS[backbone]:
        scale = np.float32(np.sqrt(2 / (before * kernel**2)))
        features[f"features.{index}.weight"] = scale * rng.standard_normal((channels, before, kernel, kernel), np.float32)
        features[f"features.{index}.bias"] = 0.1 * rng.standard_normal(channels, np.float32)
        if compared:
            heads[f"lin{len(heads)}.model.1.weight"] = rng.random((1, channels, 1, 1), np.float32)
        before = channels
    return features, heads
