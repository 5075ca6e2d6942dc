# SPDX-License-Identifier: Apache-2.0
"""Machine code that one name of the package left on disk must not break another: the command line and ComfyUI share a clone."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SAMPLE = """
import importlib.util, sys
import numpy as np
sys.path = [entry for entry in sys.path if entry not in ("", {root!r})]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
spec = importlib.util.spec_from_file_location({name!r}, {root!r} + "/__init__.py")
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])
mesh = importlib.import_module({name!r} + ".mvp4d_core.render.mesh")
texture = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
assert np.allclose(mesh.sample_texture(texture, np.array([[0.25, 0.75]])), texture[0, 0])
"""


def test_compiled_kernels_survive_a_renamed_folder(tmp_path: Path) -> None:
    """Each name compiles once and then finds its own code, whatever name came before it."""
    for name in ("/custom_nodes/ComfyUI-MVP4D", "/custom_nodes/renamed", "/custom_nodes/ComfyUI-MVP4D"):
        result = subprocess.run(
            [sys.executable, "-c", SAMPLE.format(root=str(ROOT), name=name)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        )
        assert result.returncode == 0, result.stderr
