# SPDX-License-Identifier: Apache-2.0
"""Rebuilds `workflows/` from `tools/example_workflows`: what a person opens, its twin for scripts, and with --server its thumbnail.

    python -m tools.build_workflows [NAME ...]                               # the JSON files, through ComfyUI's own page
    python -m tools.build_workflows --server http://127.0.0.1:8188 [NAME ...] # runs them there, for the thumbnails
    python -m tools.build_workflows --server http://127.0.0.1:8188 --core    # what that ComfyUI says of its own nodes, for the tests

The page is that of `comfyui-frontend-package`, in Chromium: it fills in what is not said, decides how large a node is, and writes both
formats, so that neither can be wrong in a way that the page would not be.
"""

import argparse
import io
import json
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from mvp4d_core.io.atomic import atomic_text
from mvp4d_core.player.browser import Page, open_page
from tests.support.comfy_frontend import CORE_NODES, READY, posted, served
from tools.example_workflows import WORKFLOWS, Workflow

FOLDER = Path(__file__).parents[1] / "workflows"
GAP, TITLE_BAR, GROUP_TITLE = 40, 34, 50  # pixels of the canvas
NOTE_SIZE = (340, 560)
THUMBNAIL = 512  # pixels
COLORS = ("#3f789e", "#88aa88", "#b58b2a", "#a1309b", "#8c5a3c")
RUN_SECONDS = 3600
LAY_OUT = """async ({ api, name, columns, room, note, gap, bar, title, noteSize, colors }) => {
  const { app } = window.comfyAPI.app;
  await app.loadApiJson(api, name);
  const canvas = app.graph;
  const paper = LiteGraph.createNode("MarkdownNote");
  canvas.add(paper);
  paper.pos = [0, title + bar];
  paper.size = noteSize;
  paper.title = "Read me";
  paper.color = "#432";
  paper.bgcolor = "#653";
  paper.widgets[0].value = note;
  let left = noteSize[0] + 2 * gap;
  const frames = [];
  for (const { heading, stacks } of columns) {
    const start = left;
    let lowest = 0;
    for (const stack of stacks) {
      let top = title + bar;
      let widest = 0;
      for (const key of stack) {
        const node = canvas.getNodeById(key);
        const [width, height] = node.computeSize();
        node.size = [Math.max(width, node.size[0], 320), Math.max(height, node.size[1]) + (room[key] ?? 0)];
        node.pos = [left, top];
        top += node.size[1] + bar + gap;
        widest = Math.max(widest, node.size[0]);
        lowest = Math.max(lowest, top - gap);
      }
      left += widest + gap;
    }
    frames.push([heading, start - gap / 2, left - start, lowest]);
    left += gap;
  }
  const height = Math.max(...frames.map(([, , , lowest]) => lowest)) - bar + gap / 2;
  frames.forEach(([heading, x, width], k) => {
    const group = new LiteGraph.LGraphGroup(heading);
    group.pos = [x, 0];
    group.size = [width, height];
    group.color = colors[k % colors.length];
    canvas.add(group);
  });
  const { workflow, output } = await app.graphToPrompt();
  return { workflow, output };
}"""


def main() -> None:
    arguments = _arguments()
    chosen = [workflow for workflow in WORKFLOWS if not arguments.names or workflow.name in arguments.names]
    if arguments.core:
        write_core_nodes(arguments.server)
    elif arguments.server:
        for workflow in chosen:
            started = time.monotonic()
            make_thumbnail(workflow, arguments.server)
            sys.stderr.write(f"{workflow.name}: {time.monotonic() - started:.0f} s\n")
    else:
        build(chosen)


def build(workflows: list[Workflow]) -> None:
    """Writes both formats of the workflows."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as frontend:
        for workflow in workflows:
            with open_page(frontend.address, (1600, 1000)) as page:
                page.wait_for(READY)
                made = lay_out(page, workflow)
            if unknown := {step.node for step in workflow.steps().values()} - {entry["class_type"] for entry in made["output"].values()}:
                sys.exit(f"{workflow.name}: the page does not know {', '.join(sorted(unknown))}; describe the core's nodes again (--core)")
            opened = made["workflow"] | {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"mvp4d/{workflow.name}")), "revision": 0}
            opened["extra"] = {"ds": {"scale": 0.7, "offset": [120, 120]}}
            atomic_text(FOLDER / f"{workflow.name}.json", json.dumps(opened, indent=1) + "\n")
            atomic_text(FOLDER / "api" / f"{workflow.name}.json", json.dumps(posted(made["output"]), indent=1) + "\n")


def lay_out(page: Page, workflow: Workflow) -> dict[str, Any]:
    """Both formats as the page makes them: nodes in columns, a group around each, and the note at the left."""
    steps = workflow.steps()
    api = {key: {"class_type": step.node, "inputs": step.inputs, "_meta": {"title": step.title}} for key, step in steps.items()}
    for key, step in steps.items():
        if not step.title:
            del api[key]["_meta"]
    told = {
        "api": api,
        "name": workflow.name,
        "columns": [{"heading": group.heading, "stacks": group.stacks} for group in workflow.groups],
        "room": {key: step.room for key, step in steps.items() if step.room},
        "note": workflow.note,
        "gap": GAP, "bar": TITLE_BAR, "title": GROUP_TITLE, "noteSize": NOTE_SIZE, "colors": COLORS,
    }  # fmt: skip
    return page.evaluate(f"({LAY_OUT})({json.dumps(told)})")


def make_thumbnail(workflow: Workflow, server: str) -> None:
    """Runs a workflow in a ComfyUI and makes its picture of what came out."""
    from PIL import Image, ImageOps

    twin = json.loads((FOLDER / "api" / f"{workflow.name}.json").read_text(encoding="utf-8"))
    outputs = _run(server, twin)
    pictures = [_picture(server, outputs[key], moment) for key, moment in workflow.thumbnail]
    side = THUMBNAIL if len(pictures) == 1 else THUMBNAIL // 2
    sheet = Image.new("RGB", (THUMBNAIL, THUMBNAIL), "white")
    for place, picture in enumerate(pictures):
        tile = ImageOps.pad(picture, (side, side), Image.Resampling.LANCZOS, color="white")
        sheet.paste(tile, (place % 2 * side, place // 2 * side))
    data = io.BytesIO()
    sheet.save(data, "JPEG", quality=88, optimize=True)
    (FOLDER / f"{workflow.name}.jpg").write_bytes(data.getvalue())


def _run(server: str, prompt: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a prompt by node; ends the program where it fails."""
    _ask(_posted(f"{server}/free", {"unload_models": True, "free_memory": True}))  # a node that is cached shows nothing again
    time.sleep(2)
    prompt_id = _ask(_posted(f"{server}/prompt", {"prompt": prompt}))["prompt_id"]
    until = time.monotonic() + RUN_SECONDS
    while time.monotonic() < until:
        history = _ask(f"{server}/history/{prompt_id}").get(prompt_id)
        if history and history["status"]["status_str"] == "success":
            return history["outputs"]
        if history and history["status"]["status_str"] == "error":
            sys.exit(json.dumps([entry for entry in history["status"]["messages"] if entry[0] == "execution_error"], indent=1)[:2000])
        time.sleep(1)
    sys.exit(f"{prompt_id} did not end in {RUN_SECONDS} s")


def _posted(url: str, value: dict[str, Any]) -> urllib.request.Request:
    return urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _ask(request: str | urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as refusal:
        with refusal:
            sys.exit(refusal.read().decode(errors="replace")[:2000])


def _picture(server: str, output: dict[str, Any], moment: float) -> Any:
    """What a node showed, `moment` of the way from its first picture or frame to its last."""
    import av
    from PIL import Image

    shown = output["images"]
    video = shown[0]["filename"].endswith((".mp4", ".webm"))
    entry = shown[0] if video else shown[round(moment * (len(shown) - 1))]
    with urllib.request.urlopen(f"{server}/view?{urllib.parse.urlencode(entry)}", timeout=60) as answer:
        data = io.BytesIO(answer.read())
    if video:
        with av.open(data) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
        return frames[round(moment * (len(frames) - 1))]
    return Image.open(data).convert("RGB")


def write_core_nodes(server: str) -> None:
    """Keeps what a ComfyUI says of the nodes of its own that the workflows use, without the files that it happens to have."""
    names = {step.node for workflow in WORKFLOWS for step in workflow.steps().values() if not step.node.startswith("MVP4D_")}
    described = _ask(f"{server}/object_info")
    atomic_text(CORE_NODES, json.dumps({name: described[name] for name in sorted(names)}, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="workflows; all of them without")
    parser.add_argument("--server", help="a running ComfyUI that has this pack")
    parser.add_argument("--core", action="store_true", help="with --server: describe the core's nodes again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
