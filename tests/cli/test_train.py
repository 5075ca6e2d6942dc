# SPDX-License-Identifier: Apache-2.0
"""`mvp4d train`: the whole way on toy clips, and what it says before it begins."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mvp4d_core.cli.main import main
from mvp4d_core.diffusion.generator import picture_size
from mvp4d_core.diffusion.pipeline import MVP4DPipeline
from mvp4d_core.diffusion.schedule import base_scheduler
from mvp4d_core.rig import save_head_model
from mvp4d_core.training.curriculum import Curriculum, Modality, Stage
from mvp4d_core.training.recipes import DTYPES, export
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
    large = ["train", "-o", str(tmp_path / "run"), "--recipe", "cogvideox-2b", "--synthetic", "32", "--json"]
    assert main([*large, "--dry-run", "--devices", "8", "--tflops", "400"]) == 0
    cost = json.loads(capsys.readouterr().out.splitlines()[-1])["cost"]
    assert 1.4e9 < cost["parameters"] < 1.8e9 and 20 < cost["device_days"] < 200 and cost["memory_gb"] < 80
    assert main([*large, "--dry-run", "--no-gradient-checkpointing"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cost"]["memory_gb"] > 80
    assert main(large) == 2
    assert "--init cogvideox-2b DIR" in capsys.readouterr().err


def test_weights_of_cogvideox_bring_their_recipe(place, tmp_path, capsys):
    start = [
        "train",
        "-o",
        str(tmp_path / "run"),
        "--init",
        "cogvideox-2b",
        str(place / "start"),
        "--synthetic",
        "32",
        "--json",
        "--dry-run",
    ]
    assert main(start) == 0
    stages = json.loads(capsys.readouterr().out.splitlines()[-1])["curriculum"]["stages"]
    assert [(stage["size"], stage["learning_rate"]) for stage in stages] == [(256, 1e-4), (256, 1e-4), (512, 5e-5)]
    assert main([*start, "--recipe", "nano"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["curriculum"]["stages"][0]["size"] == 128


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_what_is_exported_says_its_size_and_may_be_half_as_large(tmp_path, dtype):
    """A model that has been made for 32 px, as CogVideoX-2B's for 720 x 480, and trained for 64."""
    stages = tuple(Stage(1, size, 1e-3, 0.0, (Modality("m", 1, frames, 1.0, 1),)) for size, frames in ((32, 5), (64, 9)))
    folder = export(tmp_path, toy_transformer(), toy_vae(), Curriculum(stages), DTYPES[dtype])
    pipeline = MVP4DPipeline.from_folder(folder)
    assert picture_size(pipeline, folder) == 64 and pipeline.transformer.config.sample_frames == 9
    for made, part in ((toy_transformer(), pipeline.transformer), (toy_vae(), pipeline.vae)):
        for name, tensor in made.state_dict().items():
            assert torch.equal(part.state_dict()[name], tensor.to(DTYPES[dtype]).float()), name
    size = (folder / "transformer" / "diffusion_pytorch_model.safetensors").stat().st_size
    wanted = sum(p.numel() for p in toy_transformer().parameters()) * DTYPES[dtype].itemsize
    assert wanted < size < 1.2 * wanted


def test_two_processes_train_one_run(place, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mvp4d_core"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [*launch, *command(place, tmp_path / "run", "--steps", "2")], env=environment, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    answers = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    assert len(answers) == 1 and json.loads(answers[0])["steps"] == 2
    assert json.loads((tmp_path / "run" / "config.json").read_text())["processes"] == 2
    assert MVP4DPipeline.from_folder(tmp_path / "run" / "export") and "Traceback" not in ended.stderr


def vae_command(run, *more):
    return ["train", "-o", str(run), "--model", "vae", "--synthetic", "1", "--heldout", "1", "--batch", "0.05", "--json", *more]


def test_the_small_vae_heeds_its_options(tmp_path, capsys):
    assert main(vae_command(tmp_path / "run", "--dry-run")) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"steps": 3000, "videos": 2, "device": "cpu"}
    assert not (tmp_path / "run").exists()
    assert main(vae_command(tmp_path / "run", "--init", "nano", "--validate-every", "3")) == 2
    assert "no use for --init, --validate-every" in capsys.readouterr().err
    assert main(vae_command(tmp_path / "run", "--steps", "1", "--precision", "fp32", "--learning-rate", "0.5")) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 1
    assert (tmp_path / "run" / "vae" / "config.json").is_file()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--data", "nowhere"], 2, "There is no folder nowhere"),
        (["--init", "one", "two"], 2, "--init must be"),
        (["--heldout", "0", "--data", "few"], 2, "2 views x 5 frames, which `multiview` needs"),
        (["--init", "nowhere"], 4, "nowhere"),
        (["--steps", "100000", "--tflops", "1e-9"], 2, "--yes"),
    ],
)
def test_impossible_wishes_are_one_line_before_any_work(place, tmp_path, capsys, monkeypatch, options, code, said):
    monkeypatch.chdir(tmp_path)
    save_clip(toy_clip(views=3, frames=3), tmp_path / "few" / "clip")
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
