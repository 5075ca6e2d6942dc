# SPDX-License-Identifier: Apache-2.0
"""The whole walk on a head of FLAME's shape and names: photo to an avatar that acts, while the licensed head stays home."""

import json
from dataclasses import replace

import numpy as np
import pytest
from skimage import data

from mvp4d_core.avatar import load_avatar
from mvp4d_core.create import CreateSettings, create_avatar
from mvp4d_core.errors import MissingAssetError
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.io.images import write_image
from mvp4d_core.rig import save_head_model, showcase_performance, skin, with_mouth
from mvp4d_core.showreel import named_parameters


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flame")
    head = with_mouth(replace(flame_head(), licence="FLAME 2020"))
    save_head_model(head, folder / "flame.safetensors")
    settings = CreateSettings(
        preset=120, views=4, frames=5, size=64, steps=12, splats=11_000, picture_size=64, rig=str(folder / "flame.safetensors")
    )
    write_image(folder / "photo.png", data.astronaut() / 255.0)
    report = create_avatar(folder / "photo.png", folder / "out", settings)
    return head, folder / "out", report


def test_a_photo_becomes_an_avatar_on_flame(made):
    head, folder, report = made
    assert report["landmark_error_percent"] < 2 and report["reference_psnr"] > 14
    assert json.loads((folder / "report.json").read_text())["splats"] == report["splats"] >= 10_000
    with pytest.raises(MissingAssetError, match="licensed head"):
        load_avatar(folder / "avatar.mvp4d")
    avatar = load_avatar(folder / "avatar.mvp4d", head_model=head)
    for array in (head.v_template, head.exprdirs, head.lbs_weights):
        assert array.tobytes() not in (folder / "avatar.mvp4d").read_bytes()
    performance = showcase_performance(avatar.rig)
    moved = np.linalg.norm(avatar.pose(performance[110]).means - avatar.pose(performance[0]).means, axis=1)
    assert moved.max() > 0.005


def test_arkits_names_act_on_flame(made):
    head, folder, _ = made
    avatar = load_avatar(folder / "avatar.mvp4d", head_model=head)
    points = [
        avatar.rig.landmarks(_posed(avatar, weights)) for weights in ({}, {"jawOpen": 0.8}, {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0})
    ]
    gap = [float(np.linalg.norm(found[13] - found[14])) for found in points]
    width = [float(np.linalg.norm(found[61] - found[291])) for found in points]
    assert gap[1] > gap[0] + 0.015 and abs(gap[2] - gap[0]) < 0.01
    assert width[2] > width[0] + 0.003


def _posed(avatar, weights):
    parameters = named_parameters(avatar, weights)
    return skin(avatar.rig, None, parameters.expression, parameters.rotations, parameters.translation)
