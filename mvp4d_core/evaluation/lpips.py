# SPDX-License-Identifier: Apache-2.0
"""LPIPS after Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric" (2018), version 0.1, with weights that
the user has.

The backbone is AlexNet or VGG-16 as torchvision stores them (`alexnet-owt-7be5be79.pth`, `vgg16-397923af.pth`), the linear heads are those
of the `lpips` package (`lpips/weights/v0.1/alex.pth` or `vgg.pth`). One file with both, as `lpips.LPIPS(...).state_dict()` names them,
serves too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from ..errors import FormatError, InputError
from .weights import file_digest, read_weights, renamed

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's means and deviations for colours in -1..1
_TINY = 1e-10


@dataclass(frozen=True)
class _Layer:
    """A convolution with its place in torchvision's `features`, what the pooling before it covers and steps (0: none), and whether the
    features after it are compared.
    """

    index: int
    channels: int
    kernel: int
    stride: int = 1
    padding: int = 1
    pool: tuple[int, int] | None = None
    compared: bool = True


_ALEX = (
    _Layer(0, 64, 11, stride=4, padding=2),
    _Layer(3, 192, 5, padding=2, pool=(3, 2)),
    _Layer(6, 384, 3, pool=(3, 2)),
    _Layer(8, 256, 3),
    _Layer(10, 256, 3),
)
_HALVE = (2, 2)
_VGG = (
    _Layer(0, 64, 3, compared=False), _Layer(2, 64, 3),
    _Layer(5, 128, 3, pool=_HALVE, compared=False), _Layer(7, 128, 3),
    _Layer(10, 256, 3, pool=_HALVE, compared=False), _Layer(12, 256, 3, compared=False), _Layer(14, 256, 3),
    _Layer(17, 512, 3, pool=_HALVE, compared=False), _Layer(19, 512, 3, compared=False), _Layer(21, 512, 3),
    _Layer(24, 512, 3, pool=_HALVE, compared=False), _Layer(26, 512, 3, compared=False), _Layer(28, 512, 3),
)  # fmt: skip
BACKBONES = {"alex": _ALEX, "vgg": _VGG}
LEAST_SIDE = {"alex": 31, "vgg": 16}  # pixels, below which the last features vanish


class Lpips(torch.nn.Module):
    """LPIPS between images (B, H, W, 3) in 0..1: (B,), 0 of equal ones. Differentiable in the images; its own weights stay as they are.

    Attributes:
        backbone: `alex` or `vgg`.
        name: the backbone and the files, for a report.
    """

    def __init__(self, backbone: str, tensors: dict[str, torch.Tensor], name: str) -> None:
        super().__init__()
        self.backbone, self.name = backbone, name
        self._layers = BACKBONES[backbone]
        for key, tensor in tensors.items():
            self.register_buffer(key.replace(".", "_"), tensor.float())
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])

    def forward(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Raises InputError for pictures too small for the backbone."""
        if min(image.shape[1:3]) < LEAST_SIDE[self.backbone]:
            raise InputError(f"LPIPS wants pictures of at least {LEAST_SIDE[self.backbone]} px a side, got {tuple(image.shape[1:3])}.")
        total = torch.zeros(len(image), device=image.device)
        for level, (a, b) in enumerate(zip(self._features(image), self._features(target), strict=True)):
            head = self.get_buffer(f"lin{level}")
            total = total + functional.conv2d((a - b).square(), head).mean(dim=(1, 2, 3))
        return total

    def _features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The compared features, each of unit length across its channels."""
        x = (2 * image.movedim(-1, 1) - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        found = []
        for layer in self._layers:
            if layer.pool:
                x = functional.max_pool2d(x, *layer.pool)
            weight, bias = self.get_buffer(f"{layer.index}_weight"), self.get_buffer(f"{layer.index}_bias")
            x = functional.conv2d(x, weight, bias, layer.stride, layer.padding).relu()
            if layer.compared:
                found.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + _TINY))
        return found


def load_lpips(paths: Iterable[str | Path]) -> Lpips:
    """LPIPS from one or several files; which backbone they hold is told by its first convolution.

    Raises:
        FormatError: damaged files, or tensors that are missing or of another shape; the message names the first.
        InputError, StorageError: as `read_weights`.
    """
    paths = [Path(path) for path in paths]
    tensors = read_weights(paths)
    convolutions = renamed(tensors, r"^(?:features|net\.slice\d+)\.(\d+)\.", r"\1.")
    heads = renamed(tensors, r"^lin(\d)\.model\.1\.weight$", r"lin\1")
    first = convolutions.get("0.weight")
    backbone = next((name for name, layers in BACKBONES.items() if first is not None and first.shape[-1] == layers[0].kernel), None)
    names = ", ".join(path.name for path in paths)
    if backbone is None:
        raise FormatError(f"{names} hold neither AlexNet nor VGG-16. Give torchvision's file of one and the linear heads of lpips.")
    wanted = _shapes(BACKBONES[backbone])
    found = {key: tensor for key, tensor in {**convolutions, **heads}.items() if key in wanted}
    for key, shape in wanted.items():
        if key not in found or tuple(found[key].shape) != shape:
            got = tuple(found[key].shape) if key in found else "none"
            missing = f"the linear head `{key}.model.1.weight`" if key.startswith("lin") else f"`features.{key}`"
            raise FormatError(f"LPIPS with {backbone} wants {missing} of {shape}, got {got} in {names}. Give both of its files.")
    return Lpips(backbone, found, f"{backbone} ({', '.join(f'{path.name} {file_digest(path)}' for path in paths)})").eval()


def _shapes(layers: tuple[_Layer, ...]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a backbone and its heads."""
    shapes: dict[str, tuple[int, ...]] = {}
    before = 3
    for layer in layers:
        shapes[f"{layer.index}.weight"] = (layer.channels, before, layer.kernel, layer.kernel)
        shapes[f"{layer.index}.bias"] = (layer.channels,)
        before = layer.channels
    compared = [layer.channels for layer in layers if layer.compared]
    return shapes | {f"lin{level}": (1, channels, 1, 1) for level, channels in enumerate(compared)}
