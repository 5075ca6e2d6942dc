# SPDX-License-Identifier: Apache-2.0
"""JOD of FovVideoVDP (Mantiuk et al. 2021) through the authors' package `pyfvvdp`, which is CC BY-NC 4.0 and so never installed by ours."""

import contextlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..errors import MissingAssetError

DISPLAY = "standard_4k"  # the package's default: a 30-inch 4K monitor at 0.75 m
BEST_JOD = 10.0
SLOWEST = 4.0  # frames a second: at no more its filter over time, a quarter of a second long, holds a single frame


class VideoJod:
    """Quality of videos in just-objectionable differences: 10 is no difference, one less is what 75 % of people notice.

    Raises:
        MissingAssetError: `pyfvvdp` is not installed, or not usable here.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        if importlib.util.find_spec("pyfvvdp") is None:
            raise MissingAssetError("the package pyfvvdp is not installed: pip install pyfvvdp (CC BY-NC 4.0)")
        with _aside():
            try:
                import pyfvvdp  # pyright: ignore[reportMissingImports]

                self._metric = pyfvvdp.fvvdp(display_name=DISPLAY, quiet=True, device=torch.device(device))
            except Exception as error:  # of the package and of all that it brings in
                raise MissingAssetError(f"pyfvvdp can't be used here ({type(error).__name__}: {str(error)[:100]})") from None
        self.name = f"pyfvvdp {importlib.metadata.version('pyfvvdp')}, {DISPLAY}"

    def __call__(self, video: np.ndarray, truth: np.ndarray, fps: float) -> float:
        """JOD of (F, H, W, 3) uint8 sRGB videos; a single frame is judged as a still picture."""
        still = len(video) == 1
        made, wanted, order = (video[0], truth[0], "HWC") if still else (video, truth, "FHWC")
        rate: Any = 0 if still else fps  # any number, whatever type the package's default suggests
        with _aside(), torch.no_grad():
            quality, _ = self._metric.predict(made, wanted, dim_order=order, frames_per_second=rate)
        return float(quality)


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """Keeps the package's warnings, and the folders it adds to the search path of modules, out of the rest of the program."""
    path = list(sys.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            sys.path[:] = path
