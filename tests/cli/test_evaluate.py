# SPDX-License-Identifier: Apache-2.0
"""`mvp4d evaluate --publish`: the figures get to where the choice of a generator reads them."""

import json

from mvp4d_core.cli.main import main
from mvp4d_core.create import choose_generator
from mvp4d_core.evaluation.report import EVALUATION, best_generator, load_report
from tests.support.toy_mmvdm import toy_pipeline

TINY = "--identities 1 --ablated 0 --views 2 --frames 1 --size 32 --steps 1 --mode stochastic --gpu-gb 8 --json".split()


def test_published_figures_lie_beside_the_weights_and_choose(tmp_path, capsys):
    weights = tmp_path / "toy"
    toy_pipeline().save_folder(weights)
    command = ["evaluate", "multiview", "-o", str(tmp_path / "out"), "--weights", str(weights), *TINY]
    assert main([*command, "--generators", "nano,proxy", "--publish"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    report = load_report(weights / EVALUATION)
    assert report == answer and report["mode"] == "stochastic" and report["gpu_gb"] == 8
    name, _, notices = choose_generator("auto", weights=str(weights))
    assert {"proxy": "proxy", "nano": "mmvdm"}[best_generator(report, ("proxy", "nano"))] == name and notices == ()

    (weights / EVALUATION).unlink()
    assert main([*command, "--generators", "nano,proxy"]) == 0  # what is kept of the run above, not published
    assert not (weights / EVALUATION).exists()


def test_publishing_wants_both_generators_and_their_weights_before_any_work(tmp_path, capsys):
    command = ["evaluate", "multiview", "-o", str(tmp_path / "out"), *TINY, "--publish"]
    assert main([*command, "--generators", "nano"]) == 2
    assert "needs the figures of nano and of proxy" in capsys.readouterr().err
    assert main([*command, "--weights", str(tmp_path / "none")]) == 4
    assert not (tmp_path / "out").exists()
