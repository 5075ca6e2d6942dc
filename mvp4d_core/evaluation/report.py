# SPDX-License-Identifier: Apache-2.0
"""The held-out figures of generators: how they add up over identities, the report that holds them, and the choice that reads it."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import FormatError, MissingAssetError

BEST_DECIBELS = 100.0  # stands for the infinite PSNR of equal pictures
EVALUATION = "evaluation.json"  # the name of a report beside the weights it judges, where the choice of a generator looks for it
FIGURES = ("psnr", "ssim", "unseen_psnr", "view_consistency")


@dataclass(frozen=True)
class Sums:
    """What one generator's pictures of one identity add to its figures.

    Attributes:
        pictures: how many; `psnr` and `ssim` are sums over them, of dB and of SSIM.
        unseen: squared errors summed over the `unseen_values` colour values of pixels that the photo doesn't show.
        across: squared errors summed over the `across_values` colour values of matched pixels of two views.
        seconds: that the generator took.
    """

    pictures: int
    psnr: float
    ssim: float
    unseen: float
    unseen_values: int
    across: float
    across_values: int
    seconds: float

    def figures(self) -> dict[str, float | None]:
        """The four figures; None where no pixel counts."""
        return {
            "psnr": self.psnr / self.pictures,
            "ssim": self.ssim / self.pictures,
            "unseen_psnr": _decibels(self.unseen, self.unseen_values),
            "view_consistency": _decibels(self.across, self.across_values),
        }


def add_up(parts: Iterable[Sums]) -> Sums:
    """The sums over several identities."""
    parts = list(parts)
    return Sums(**{field.name: sum(getattr(part, field.name) for part in parts) for field in fields(Sums)})


def sums_from_json(value: object) -> Sums:
    """The inverse of `dataclasses.asdict`; ValueError for anything else."""
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(Sums)}:
        raise ValueError("not the sums of an identity")
    if not all(type(number) in (int, float) and math.isfinite(number) and number >= 0 for number in value.values()):
        raise ValueError("its numbers are not finite")
    return Sums(**value)


def sums_to_json(sums: Sums) -> dict[str, float]:
    """A flat table of numbers."""
    return asdict(sums)


def load_report(path: str | Path) -> dict[str, Any]:
    """A report that `mvp4d evaluate multiview` wrote.

    Raises:
        MissingAssetError: there is none.
        FormatError: it is damaged.
    """
    path = Path(path)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingAssetError(f"There is no evaluation report {path}. Make it with: mvp4d evaluate multiview -o DIR") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path} is a damaged evaluation report ({error}). Make it again with: mvp4d evaluate multiview -o DIR") from None
    if not isinstance(report, dict) or type(report.get("identities")) is not int:
        raise FormatError(f"{path} is not an evaluation report. Make one with: mvp4d evaluate multiview -o DIR")
    return report


def best_generator(report: dict[str, Any], available: Sequence[str]) -> str:
    """The generator of `available`, named as in the report, that is taken: the first, unless another beats it in every figure.

    All of `FIGURES` must be larger, because they punish different faults: a blurred picture has a good PSNR and a poor SSIM. So the first
    is what is safe. Of several that beat it the one with the best PSNR is taken; one whose figures are missing or not finite never is.
    """
    safe = available[0]
    better = [name for name in available[1:] if all(ours > theirs for ours, theirs in _pairs(report.get(name), report.get(safe)))]
    return max(better, key=lambda name: report[name]["psnr"], default=safe)


def _pairs(figures: object, baseline: object) -> Iterator[tuple[float, float]]:
    """Each figure beside the baseline's; minus infinity for what isn't a finite number, plus infinity for such a baseline."""
    for key in FIGURES:
        values = [one.get(key) if isinstance(one, dict) else None for one in (figures, baseline)]
        ours, theirs = (float(value) if isinstance(value, float | int) and math.isfinite(value) else None for value in values)
        yield (-math.inf if ours is None else ours), (math.inf if theirs is None else theirs)


def _decibels(squared: float, count: int) -> float | None:
    """PSNR of a pooled squared error; None of no pixels."""
    return None if not count else min(BEST_DECIBELS, -10 * math.log10(max(squared / count, 1e-12)))
