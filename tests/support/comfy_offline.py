# SPDX-License-Identifier: Apache-2.0
"""The pack timed on the stand-in: what `mvp4d bench comfy` runs where there is no ComfyUI. Prints one JSON object.

ComfyUI's own nodes are not there: pictures and videos that a workflow loads are given, and what comes after the pack's nodes is left out.
"""

import json
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mvp4d_core.errors import MVP4DError
from mvp4d_core.evaluation.comfy_bench import CLONE, made_small, other_performance
from mvp4d_core.io.video import read_video
from tests.support import comfy_host
from tests.support.comfy_schema import ComfyNode, NodeOutput, VideoComponents, VideoFromComponents, Widget

API = CLONE / "workflows" / "api"


def main(quick_start: bool) -> dict[str, Any]:
    """The figures of `bench_comfy` that need no ComfyUI."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mvp4d-") as folder, comfy_host.installed(Path(folder)) as host:
        started = time.perf_counter()
        nodes = comfy_host.nodes_of(comfy_host.load_pack(CLONE))
        figures["import_seconds"] = round(time.perf_counter() - started, 2)
        if quick_start:
            figures |= timed_quick_start(nodes, json.loads((API / "quick_start.json").read_text(encoding="utf-8")), host.folder)
        workflows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(API.glob("*.json"))]
        known = [workflow for workflow in workflows if is_known(nodes, workflow)]
        figures |= {"workflows": len(workflows), "workflows_loaded": len(known)}
        figures["workflows_run"] = sum(runs(nodes, made_small(workflow), host.folder) for workflow in known)
    return figures


def timed_quick_start(nodes: dict[str, type[ComfyNode]], workflow: dict[str, Any], folder: Path) -> dict[str, float]:
    """Seconds of the workflow, and of the same with another performance, when what does not depend on that is kept as ComfyUI keeps it."""
    started = time.perf_counter()
    outputs = comfy_host.run_workflow(nodes, workflow, loaded(workflow, folder))
    first = time.perf_counter() - started
    changed = other_performance(workflow)
    kept = {key: output for key, output in outputs.items() if changed not in above(workflow, key)}
    started = time.perf_counter()
    comfy_host.run_workflow(nodes, workflow, kept)
    return {"quick_start_seconds": round(first, 1), "second_run_seconds": round(time.perf_counter() - started, 1)}


def loaded(workflow: dict[str, Any], folder: Path) -> dict[str, NodeOutput]:
    """What ComfyUI's loaders give, by the node's id."""
    given = {}
    for key, entry in workflow.items():
        if entry["class_type"] == "LoadImage":
            picture = Image.open(folder / "input" / entry["inputs"]["image"]).convert("RGB")
            given[key] = NodeOutput(torch.from_numpy(np.asarray(picture, np.float32) / 255)[None], torch.zeros(1, 64, 64))
        elif entry["class_type"] == "LoadVideo":
            frames, fps = read_video(folder / "input" / entry["inputs"]["file"])
            given[key] = NodeOutput(VideoFromComponents(VideoComponents(torch.from_numpy(frames), Fraction(fps).limit_denominator(1001))))
    return given


def above(workflow: dict[str, Any], key: str) -> set[str]:
    """The node and all that it depends on."""
    links = [value[0] for value in workflow[key]["inputs"].values() if isinstance(value, list)]
    return {key}.union(*(above(workflow, link) for link in links))


def is_known(nodes: dict[str, type[ComfyNode]], workflow: dict[str, Any]) -> bool:
    """Whether every node of the pack is there, with inputs that it has and values that it takes."""
    for entry in workflow.values():
        if not entry["class_type"].startswith("MVP4D_"):
            continue
        if entry["class_type"] not in nodes:
            return False
        inputs = {described.id: described for described in nodes[entry["class_type"]].GET_SCHEMA().inputs}
        try:
            for name, value in entry["inputs"].items():
                if isinstance(inputs[name], Widget) and not isinstance(value, list):
                    inputs[name].check(value)
        except (KeyError, ValueError):
            return False
    return True


def runs(nodes: dict[str, type[ComfyNode]], workflow: dict[str, Any], folder: Path) -> bool:
    try:
        comfy_host.run_workflow(nodes, workflow, loaded(workflow, folder))
    except MVP4DError:
        return False
    return True


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main("--quick-start" in sys.argv)) + "\n")
