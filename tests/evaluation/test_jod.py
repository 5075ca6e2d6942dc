# SPDX-License-Identifier: Apache-2.0
"""The adapter to FovVideoVDP gives the package's own value, and leaves nothing behind."""

import sys

import numpy as np
import pytest
import torch

from mvp4d_core.errors import MissingAssetError
from mvp4d_core.evaluation.jod import BEST_JOD, VideoJod


def videos(frames: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(60, 200, (frames, 8, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    made = truth.copy()
    made[:, 20:40] += 25
    return made, truth


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the package, where the test calls it itself
def test_jod_is_the_packages_own():
    pyfvvdp = pytest.importorskip("pyfvvdp")
    before = list(sys.path)
    measure = VideoJod()
    assert sys.path == before and "pyfvvdp" in measure.name
    made, truth = videos()
    metric = pyfvvdp.fvvdp(display_name="standard_4k", device=torch.device("cpu"), quiet=True)
    planar = [torch.as_tensor(video).permute(3, 0, 1, 2)[None].float() / 255 for video in (made, truth)]
    expected = float(metric.predict(*planar, dim_order="BCFHW", frames_per_second=24.0)[0])
    assert measure(made, truth, 24.0) == pytest.approx(expected, abs=1e-4)
    assert measure(truth, truth, 24.0) == pytest.approx(BEST_JOD, abs=1e-4)
    assert 3 < measure(made, truth, 24.0) < 9.5
    assert measure(made[:1], truth[:1], 24.0) == pytest.approx(float(metric.predict(made[0], truth[0], dim_order="HWC")[0]), abs=1e-4)


def test_without_the_package_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyfvvdp", None)
    with pytest.raises(MissingAssetError, match="pip install pyfvvdp"):
        VideoJod()
