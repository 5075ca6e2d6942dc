# SPDX-License-Identifier: Apache-2.0
"""`mvp4d train`: the whole way on toy clips, and what it says before it begins."""

import json
import shutil

import pytest
import torch

from mvp4d_core.cli.main import main
from mvp4d_core.diffusion.pipeline import MVP4DPipeline
from mvp4d_core.diffusion.schedule import base_scheduler
from mvp4d_core.rig import save_head_model
from mvp4d_core.training.curriculum import Curriculum, Modality, Stage
from mvp4d_core.training.store import save_clip
from tests.support.toy_clips import SIZE, toy_clip, toy_transformer, toy_vae
from tests.support.toy_head import toy_head_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Clips of four people, a head, a curriculum and a pipeline to begin with."""
    place = tmp_path_factory.mktemp("train")
    for person in range(4):
        save_clip(toy_clip(person, views=3), place / "clips" / f"person-{person}")
    save_head_model(toy_head_model(), place / "head.safetensors")
    modalities = (Modality("static", 2, 1, 1.0, 2), Modality("multiview", 2, 5, 1.0, 1))
    curriculum = Curriculum((Stage(4, SIZE, 1e-3, 0.0, modalities),), warmup=2, ema_decay=0.5)
    (place / "curriculum.json").write_text(json.dumps(curriculum.to_json()))
    MVP4DPipeline(toy_vae(), toy_transformer(), base_scheduler(1.0)).save_folder(place / "start")
    return place


def command(place, run, *more):
    return [
        "train", "-o", str(run), "--curriculum", str(place / "curriculum.json"), "--rig", str(place / "head.safetensors"),
        "--data", str(place / "clips"), "--init", str(place / "start"), "--heldout", "1",
        "--log-every", "2", "--validate-every", "4", "--json", *more,
    ]  # fmt: skip


def test_train_from_clips_to_a_pipeline(place, tmp_path, capsys):
    run = tmp_path / "run"
    sheet = tmp_path / "sheet.png"
    assert main(command(place, run, "--precision", "fp32", "--contact-sheet", str(sheet))) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["steps"] == 4 and answer["clips"] == 3 and sheet.is_file()
    pipeline, start = MVP4DPipeline.from_folder(run / "export"), MVP4DPipeline.from_folder(place / "start")
    assert pipeline.scheduler.config.snr_shift_scale == 3.0
    assert torch.equal(pipeline.vae.encoder.conv_in.conv.weight, start.vae.encoder.conv_in.conv.weight)
    assert not torch.equal(pipeline.transformer.proj_out.weight, start.transformer.proj_out.weight)
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [2, 4, 4] and "mean" in entries[-1]["validation"]
    # the run is finished: the same command changes nothing
    before = (run / "export" / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert main(command(place, run, "--precision", "fp32")) == 0
    assert (run / "export" / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes() == before


def test_dry_run_writes_nothing(place, tmp_path, capsys):
    assert main(command(place, tmp_path / "run", "--dry-run", "--steps", "400", "--batch", "2", "--tflops", "1")) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out.splitlines()[-1])
    assert answer["cost"]["steps"] == 400 and answer["curriculum"]["stages"][0]["modalities"][0]["batch"] == 4
    assert "device-days" in printed.err and not (tmp_path / "run").exists()


def test_the_large_recipe_says_what_it_costs_and_wants_weights(place, tmp_path, capsys):
    large = ["train", "-o", str(tmp_path / "run"), "--recipe", "cogvideox-2b", "--synthetic", "2", "--json"]
    assert main([*large, "--dry-run", "--devices", "8", "--tflops", "400"]) == 0
    cost = json.loads(capsys.readouterr().out.splitlines()[-1])["cost"]
    assert 1.4e9 < cost["parameters"] < 1.8e9 and 20 < cost["device_days"] < 200
    assert main(large) == 2
    assert "--init cogvideox-2b DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--data", "nowhere"], 2, "There is no folder nowhere"),
        (["--init", "one", "two"], 2, "--init must be"),
        (["--init", "nowhere"], 4, "nowhere"),
        (["--steps", "100000", "--tflops", "1e-9"], 2, "--yes"),
    ],
)
def test_impossible_wishes_are_one_line_before_any_work(place, tmp_path, capsys, options, code, said):
    assert main([*command(place, tmp_path / "run"), *options]) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("mvp4d: ") and said in last
    assert not (tmp_path / "run").exists()


def test_holes_are_named_before_any_work(place, tmp_path, capsys):
    shutil.copytree(place / "clips", tmp_path / "clips")
    (tmp_path / "clips" / "person-2" / "view_01.mp4").unlink()
    broken = [*command(place, tmp_path / "run"), "--data", str(tmp_path / "clips")]
    assert main(broken) == 2
    printed = capsys.readouterr().err
    assert "person-2" in printed and "view_01.mp4" in printed and not (tmp_path / "run").exists()
    assert main([*broken, "--skip-incomplete", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["clips"] == 2
