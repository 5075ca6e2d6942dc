# SPDX-License-Identifier: Apache-2.0
"""What the pack costs a ComfyUI that starts: little time, and none of torch's or other people's large modules that were not there."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 1.0  # of the processor: the clock on the wall also counts what else the machine does
LARGE = (
    "torch",
    "numba",
    "scipy",
    "diffusers",
    "transformers",
    "accelerate",
    "trimesh",
    "cv2",
    "av",
    "PIL",
    "skimage",
    "matplotlib",
    "tqdm",
)

MEASURED = """
import json, sys, time
from pathlib import Path
import numpy, torch  # a ComfyUI has them before it comes to its custom nodes
sys.path.insert(0, {root!r})
from tests.support import comfy_host
with comfy_host.installed(Path({folder!r})):
    before, started = set(sys.modules), time.process_time()
    nodes = comfy_host.nodes_of(comfy_host.load_pack(Path({root!r})))
    for node in nodes.values():
        node.GET_SCHEMA()
    seconds = time.process_time() - started
    print(json.dumps([seconds, len(nodes), sorted(set(sys.modules) - before)]))
"""


def test_importing_the_pack_is_quick_and_brings_no_large_module(tmp_path: Path) -> None:
    code = MEASURED.format(root=str(ROOT), folder=str(tmp_path / "comfy"))
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    seconds, count, new = json.loads(result.stdout)
    assert count > 20 and seconds < MOST_SECONDS
    assert not [name for name in new if name.partition(".")[0] in LARGE]
