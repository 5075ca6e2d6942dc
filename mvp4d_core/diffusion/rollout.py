# SPDX-License-Identifier: Apache-2.0
"""In which order a model that makes a few clips at once makes hundreds of frames.

The grid has V views and F frames. A block is a rectangle of it, made in one sampling as a clip of its own of 1 + 4k frames, because the
video autoencoder's first latent frame holds one frame and each further one four. Anchors come first: views spread over all directions,
sampled jointly from the photo. Each group of views is extended in time, the last finished frames given as a clean prefix. The other views
follow in groups, each given its nearest finished neighbours as whole clips.

In `stochastic` mode a block holds all views of a time window, more than the model takes at once: at each solver step they are shuffled into
groups, the velocity is predicted group by group, and one step is taken for all (CAP4D, arXiv 2412.12093, algorithm 1). Views alone are
shuffled: windows of time stay in order, because a latent frame that begins a clip holds one frame where all later ones hold four.

The order and the sizes that MVP4D uses are not known to us; both are this project's own.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

MODES = ("rollout", "stochastic")
TEMPORAL = 4  # frames a latent frame holds, the first of a clip excepted


@dataclass(frozen=True)
class Block:
    """What is sampled at once: some views over the frames `start` to `stop`, the latter excluded.

    Attributes:
        given_views: finished views that go in whole.
        new_views: views of which frames are made.
        start, stop: frames of the performance.
        prefix: how many of the first frames the new views have already: 0 or 1 + 4j.
    """

    given_views: tuple[int, ...]
    new_views: tuple[int, ...]
    start: int
    stop: int
    prefix: int

    @property
    def views(self) -> tuple[int, ...]:
        """The rows of the clip: given views first."""
        return self.given_views + self.new_views

    @property
    def frames(self) -> tuple[int, ...]:
        """The 1 + 4k frames of the clip; the last one repeats where the performance ends earlier."""
        wanted = self.stop - self.start
        return tuple(min(self.start + frame, self.stop - 1) for frame in range(whole_clip(wanted)))

    @property
    def new_latents(self) -> int:
        """How many latent frames are generated."""
        return len(self.new_views) * (latent_frames(len(self.frames)) - latent_frames(self.prefix))


def whole_clip(frames: int) -> int:
    """The least 1 + 4k that is no less than `frames` >= 1."""
    return 1 + -(-(frames - 1) // TEMPORAL) * TEMPORAL


def latent_frames(frames: int) -> int:
    """Latent frames of a clip of 1 + 4k frames; 0 of none."""
    return 1 + (frames - 1) // TEMPORAL if frames else 0


def plan_blocks(
    views: int,
    frames: int,
    *,
    view_block: int = 8,
    frame_block: int = 13,
    overlap: int = 5,
    neighbours: int = 2,
    mode: str = "rollout",
    directions: np.ndarray | None = None,
) -> list[Block]:
    """The blocks that make every cell of a grid once, in an order in which each finds finished what it is given.

    Args:
        views, frames: V and F, each at least 1.
        view_block: views the model takes at once, given ones included; 1 makes every view on its own, from the photo alone.
        frame_block: frames the model takes at once, prefix included: 1 + 4k, and 5 or more where F > 1.
        overlap: finished frames that begin a block which continues in time: 1 + 4j, less than `frame_block`.
        neighbours: finished views given to each group after the anchors; fewer where `view_block` leaves no room.
        mode: `rollout`, or `stochastic`, whose blocks hold all views of a window; `shuffled_groups` divides those anew at each step.
        directions: (V, 3) from the head to the cameras, for nearness. View 0 is the first anchor. None takes views as evenly spaced on
            a circle.

    Raises:
        InputError: numbers that no order can meet.
    """
    _check_sizes(views, frames, view_block, frame_block, overlap, neighbours, mode)
    windows = _windows(frames, frame_block, overlap)
    if mode == "stochastic":
        return [Block((), tuple(range(views)), *window) for window in windows]
    blocks = []
    for given, new in _view_groups(_cosines(views, directions), view_block, min(neighbours, view_block - 1)):
        blocks += [Block(given, new, *window) for window in windows]
    return blocks


def shuffled_groups(views: int, view_block: int, seed: int, step: int) -> list[np.ndarray]:
    """A partition of `range(views)` into the fewest groups of at most `view_block`, sizes differing by one at most.

    It depends on nothing but its arguments, so a run that continues after a kill draws the same ones.
    """
    order = np.random.default_rng((seed, step)).permutation(views)
    return [np.sort(group) for group in np.array_split(order, -(-views // view_block))]


def _check_sizes(views: int, frames: int, view_block: int, frame_block: int, overlap: int, neighbours: int, mode: str) -> None:
    if mode not in MODES:
        raise InputError(f"`mode` of a rollout must be {' or '.join(MODES)}, got `{mode}`.")
    if min(views, frames, view_block) < 1 or neighbours < 0:
        raise InputError(
            f"A rollout must have at least one view, one frame and one view a block, got {views}, {frames} and {view_block}"
            + (f", and {neighbours} neighbours." if neighbours < 0 else ".")
        )
    if frame_block < 1 or frame_block % TEMPORAL != 1:
        raise InputError(f"`frame_block` must be 1, 5, 9, 13 and so on (1 + 4k), got {frame_block}.")
    if frames > frame_block and (frame_block == 1 or overlap < 1 or overlap % TEMPORAL != 1 or overlap >= frame_block):
        raise InputError(
            f"{frames} frames in blocks of {frame_block} must overlap by 1, 5, 9 and so on (1 + 4j) and by less than a block, "
            f"got an overlap of {overlap}.\nChoose another `overlap`, or a larger `frame_block`."
        )


def _windows(frames: int, frame_block: int, overlap: int) -> list[tuple[int, int, int]]:
    """(start, stop, prefix) of the clips that cover the frames, each after the first beginning with `overlap` finished frames."""
    windows = [(0, min(frames, frame_block), 0)]
    while (stop := windows[-1][1]) < frames:
        start = stop - overlap
        windows.append((start, min(frames, start + frame_block), overlap))
    return windows


def _cosines(views: int, directions: np.ndarray | None) -> np.ndarray:
    """(V, V) nearness of views, rounded so that ties of symmetrical cameras fall alike on every machine."""
    if directions is None:
        angle = np.arange(views) * 2 * np.pi / views
        directions = np.stack([np.sin(angle), np.zeros(views), np.cos(angle)], axis=1)
    directions = np.asarray(directions, dtype=np.float64)
    if directions.shape != (views, 3) or not np.isfinite(directions).all() or not directions.any(axis=1).all():
        raise InputError(f"`directions` of a rollout must be finite, not zero, and {(views, 3)}, got {directions.shape}.")
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return np.round(unit @ unit.T, 6)


def _view_groups(cosines: np.ndarray, view_block: int, neighbours: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(given, new) views of each group: anchors first, then the unfinished ones nearest to what is finished."""
    anchors = _spread(cosines, view_block)
    groups: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((), tuple(anchors))]
    finished = list(anchors)
    waiting = [view for view in range(len(cosines)) if view not in finished]
    left = -(-len(waiting) // (view_block - neighbours))
    while waiting:
        size = -(-len(waiting) // left)
        left -= 1
        first = max(waiting, key=lambda view: (cosines[view, finished].max(), -view))
        new = sorted(waiting, key=lambda view: (view != first, -cosines[view, first], view))[:size]
        near = cosines[np.ix_(finished, new)].mean(axis=1)
        given = [finished[index] for index in np.argsort(-near, kind="stable")[:neighbours]]
        groups.append((tuple(sorted(given)), tuple(sorted(new))))
        finished += new
        waiting = [view for view in waiting if view not in new]
    return groups


def _spread(cosines: np.ndarray, count: int) -> list[int]:
    """`count` views, or all: view 0, then each time the one farthest from those chosen; in rising order."""
    chosen = [0]
    while len(chosen) < min(count, len(cosines)):
        others = [view for view in range(len(cosines)) if view not in chosen]
        chosen.append(min(others, key=lambda view: (cosines[view, chosen].max(), view)))
    return sorted(chosen)
