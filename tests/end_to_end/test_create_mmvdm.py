# SPDX-License-Identifier: Apache-2.0
"""`mvp4d create --generator mmvdm` with a toy model: the walk, the resume, and which generator `auto` takes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from mvp4d_core.avatar import load_avatar
from mvp4d_core.create import CreateSettings, choose_generator, create_avatar
from mvp4d_core.diffusion.generator import MMVDMGenerator
from mvp4d_core.errors import Cancelled, FormatError, InputError, MissingAssetError, MVP4DError
from mvp4d_core.evaluation.report import EVALUATION
from mvp4d_core.generate import ProxyGenerator, load_multiview
from mvp4d_core.io.images import write_image
from tests.support.asserts import assert_arrays_close
from tests.support.toy_mmvdm import toy_pipeline

FIGURES = {"psnr": 20.0, "ssim": 0.8, "unseen_psnr": 13.0, "view_consistency": 20.0}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "toy"
    toy_pipeline().save_folder(folder)
    return folder


def test_a_walk_that_was_stopped_among_its_blocks_ends_as_the_uninterrupted_one(weights, tmp_path):
    write_image(tmp_path / "photo.png", data.astronaut() / 255.0)
    settings = CreateSettings(
        preset=60, views=2, frames=17, size=64, steps=12, splats=13000, picture_size=64, generator="mmvdm", weights=str(weights)
    )

    def stop_in_the_middle(stage: str, done: int, total: int) -> None:
        if stage == "generate" and done > total // 2:  # in the second of two blocks
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        create_avatar(tmp_path / "photo.png", tmp_path / "out", settings, stop_in_the_middle)
    assert not (tmp_path / "out" / "multiview" / "multiview.json").exists()
    assert len([*(tmp_path / "out" / "blocks").glob("*.safetensors")]) == 1
    report = create_avatar(tmp_path / "photo.png", tmp_path / "out", settings)
    assert report["generator"] == "mmvdm" and not (tmp_path / "out" / "blocks").exists()
    video = load_multiview(tmp_path / "out" / "multiview")
    assert video.plan.shape == (2, 17, 64, 64) and video.provenance["generator"] == "mmvdm"
    assert load_avatar(tmp_path / "out" / "avatar.mvp4d").metadata["generator"] == "mmvdm"
    create_avatar(tmp_path / "photo.png", tmp_path / "whole", settings)
    whole = load_multiview(tmp_path / "whole" / "multiview")
    assert_arrays_close(video.frames, whole.frames, name="frames")
    assert np.ptp(whole.plan.performance.expression, axis=0).max() > 0.5


def test_auto_takes_the_better_one_by_the_figures_beside_the_weights(weights, tmp_path):
    name, _, (notice,) = choose_generator("auto", weights=str(weights))  # no figures, no hope
    assert name == "proxy" and "no figures" in notice and str(weights) in notice and "--publish" in notice
    better = {name: value + 1 for name, value in FIGURES.items()}
    for proxy, nano, wanted in ((FIGURES, better, MMVDMGenerator), (better, FIGURES, ProxyGenerator), (FIGURES, FIGURES, ProxyGenerator)):
        (weights / EVALUATION).write_text(json.dumps({"proxy": proxy, "nano": nano, "identities": 20}))
        try:
            _, chosen, notices = choose_generator("auto", weights=str(weights), mode="stochastic", gpu_gb=8.0)
            assert isinstance(chosen, wanted) and notices == ()
            assert wanted is ProxyGenerator or (chosen.mode, chosen.gpu_gb) == ("stochastic", 8.0)
        finally:
            (weights / EVALUATION).unlink()
    (weights / EVALUATION).write_text(json.dumps({"identities": 20, "steps": 3, "guidance_scale": 1.5}))
    _, judged, _ = choose_generator("mmvdm", weights=str(weights), guidance_scale=None)
    assert (judged.steps, judged.guidance_scale) == (3, 1.5)  # as the figures were measured
    assert choose_generator("mmvdm", weights=str(weights), steps=7)[1].steps == 7
    (weights / EVALUATION).write_text("{")
    with pytest.raises(FormatError):
        choose_generator("auto", weights=str(weights))
    (weights / EVALUATION).unlink()


def test_auto_does_without_the_bundled_model_but_not_without_weights_that_were_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("mvp4d_core.create.nano_folder", lambda: tmp_path / "not here")
    assert choose_generator("auto")[::2] == ("proxy", ())
    with pytest.raises(MissingAssetError, match="no folder"):
        choose_generator("auto", weights=str(tmp_path / "none"))


def test_what_cannot_work_is_said_before_tracking_starts(weights, tmp_path):
    photo = tmp_path / "photo.png"
    write_image(photo, np.full((64, 64, 3), 0.5))  # has no face: tracking would say so
    with pytest.raises(MissingAssetError, match="no folder"):
        create_avatar(photo, tmp_path / "out", CreateSettings(generator="mmvdm", weights=str(tmp_path / "none")))
    damaged = tmp_path / "damaged"
    shutil.copytree(weights, damaged)
    file = damaged / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    chosen = {"generator": "mmvdm", "weights": str(weights)}
    attempts: list[tuple[type[MVP4DError], str, dict]] = [
        (MissingAssetError, "no folder", {"weights": str(tmp_path / "none")}),
        (InputError, "generator", {"generator": "magic"}),
        (FormatError, "not a whole safetensors file", chosen | {"weights": str(damaged)}),
        (InputError, r"1 \+ 4k", chosen | {"frames": 20}),
        (InputError, "cannot be made with", chosen | {"gpu_gb": 1e-6}),
        (InputError, "`mode`", chosen | {"mode": "sideways"}),
        (InputError, "`preset`", {"preset": 90}),
    ]
    for kind, part, options in attempts:
        with pytest.raises(kind, match=part):
            create_avatar(photo, tmp_path / "out", CreateSettings(**options))
    assert not (tmp_path / "out").exists()
