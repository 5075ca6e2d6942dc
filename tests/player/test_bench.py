# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from mvp4d_core.errors import InputError
from mvp4d_core.player.bench import bench_playback, disc_avatar, web_agreement
from mvp4d_core.player.browser import find_browser
from tests.support.toy_avatar import toy_avatar


def test_reports_every_figure():
    calls = []
    figures = bench_playback(toy_avatar(500), size=48, web=False, progress=lambda *call: calls.append(call))
    assert figures.keys() == {"frames_per_second", "web_psnr", "web_bytes", "splats", "threads"}
    assert math.isfinite(figures["frames_per_second"]) and figures["frames_per_second"] > 0
    assert figures["web_psnr"] is None and figures["web_bytes"] is None and figures["splats"] == 500
    assert calls[0][1:] == (0, 3) and calls[-1][1:] == (3, 3)


@pytest.mark.browser
@pytest.mark.skipif(find_browser() is None, reason="no Chromium, Chrome or Edge is installed")
def test_the_player_agrees_with_the_rasteriser():
    agreement, size = web_agreement(toy_avatar(1000), size=128)
    assert agreement > 45 and 20_000 < size < 2_000_000


def test_the_avatar_has_the_splats_that_are_asked_for():
    assert len(disc_avatar(20_000)) == 20_000


def test_refuses_nothing_to_measure():
    with pytest.raises(InputError, match="`splats` must be positive"):
        bench_playback(splats=0)
