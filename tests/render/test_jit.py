# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

from mvp4d_core.render.jit import usable_cores

# numba caches next to the source file, and code given by -c has none
KERNEL_WITHOUT_A_FILE = """
import numpy as np
from mvp4d_core.render.jit import kernel

@kernel
def double(first, last, out):
    for i in range(first, last):
        out[i] = 2 * i

out = np.zeros(4)
double(1, 4, out)
assert out.tolist() == [0, 2, 4, 6]
"""

FORKED_RENDER = """
import os, torch
from mvp4d_core.render.splats import rasterize_splats
K = torch.tensor([[[8.0, 0, 32], [0, 8, 32], [0, 0, 1]]])
means = torch.randn(5000, 3) + torch.tensor([0, 0, 9.0])
splats = means, torch.randn(5000, 4), torch.full((5000, 3), 0.1), torch.ones(5000), torch.ones(5000, 3)
def render():
    return rasterize_splats(*splats, torch.eye(4)[None], K, 64, 64, threads=3)[0]
expected = render()
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(render(), expected) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_kernels_work_where_nothing_can_be_cached():
    assert subprocess.run([sys.executable, "-c", KERNEL_WITHOUT_A_FILE], timeout=120, check=False).returncode == 0


def test_usable_cores_respects_the_affinity_of_the_process():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_rendering_still_works_after_a_fork():
    assert subprocess.run([sys.executable, "-c", FORKED_RENDER], timeout=120, check=False).returncode == 0
