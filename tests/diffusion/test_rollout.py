# SPDX-License-Identifier: Apache-2.0
"""The order of blocks over the V x F grid: what must hold for every grid, and what holds for the presets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp4d_core.conditioning import DEFAULT_VIEWS
from mvp4d_core.conditioning.view_plan import view_directions
from mvp4d_core.diffusion.rollout import Block, latent_frames, plan_blocks, shuffled_groups, whole_clip
from mvp4d_core.errors import InputError


@st.composite
def grids(draw):
    """(views, frames) and settings that a rollout accepts."""
    frame_block = 1 + 4 * draw(st.integers(1, 5))
    views = draw(st.integers(1, 30))
    directions = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(views, 3)) if draw(st.booleans()) else None
    settings = dict(
        view_block=draw(st.integers(1, 10)),
        frame_block=frame_block,
        overlap=1 + 4 * draw(st.integers(0, (frame_block - 5) // 4)),
        neighbours=draw(st.integers(0, 3)),
        mode=draw(st.sampled_from(["rollout", "stochastic"])),
        directions=directions,
    )
    return views, draw(st.integers(1, 60)), settings


def made_cells(block: Block) -> list[tuple[int, int]]:
    return [(view, frame) for view in block.new_views for frame in range(block.start + block.prefix, block.stop)]


def given_cells(block: Block) -> list[tuple[int, int]]:
    prefix = [(view, frame) for view in block.new_views for frame in range(block.start, block.start + block.prefix)]
    return prefix + [(view, frame) for view in block.given_views for frame in block.frames]


@given(grids())
def test_every_cell_is_made_once_and_after_what_it_is_given(grid):
    views, frames, settings = grid
    made = np.zeros((views, frames), int)
    for block in plan_blocks(views, frames, **settings):
        assert all(made[cell] == 1 for cell in given_cells(block))
        for cell in made_cells(block):
            made[cell] += 1
    assert (made == 1).all()


@given(grids())
def test_blocks_are_whole_clips_within_the_limits(grid):
    views, frames, settings = grid
    for block in plan_blocks(views, frames, **settings):
        length = len(block.frames)
        assert length % 4 == 1 and length <= settings["frame_block"] and block.frames[-1] == block.stop - 1
        assert block.frames == tuple(sorted(block.frames)) and block.frames[0] == block.start
        assert block.frames[: block.stop - block.start] == tuple(range(block.start, block.stop))
        assert length - (block.stop - block.start) < 4  # no more padding than a latent frame has
        assert block.prefix in (0, settings["overlap"]) and block.prefix < block.stop - block.start
        assert len(set(block.views)) == len(block.views) and block.new_latents > 0
        if settings["mode"] == "rollout":
            assert len(block.views) <= settings["view_block"]


@given(grids())
def test_anchors_come_first_and_time_before_further_views(grid):
    views, frames, settings = grid
    blocks = plan_blocks(views, frames, **(settings | {"mode": "rollout"}))
    anchors = blocks[0].new_views
    assert 0 in anchors and len(anchors) == min(views, settings["view_block"])
    groups = list(dict.fromkeys(block.new_views for block in blocks))
    assert [block.new_views for block in blocks] == [group for group in groups for _ in range(len(blocks) // len(groups))]
    for block in blocks:
        wanted = 0 if block.new_views == anchors else min(settings["neighbours"], settings["view_block"] - 1)
        assert len(block.given_views) == wanted
        assert (block.prefix == 0) == (block.start == 0)


@given(grids())
def test_given_views_are_the_nearest_finished_ones(grid):
    views, _, settings = grid
    directions = np.random.default_rng(views).normal(size=(views, 3))
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    finished: list[int] = []
    for block in plan_blocks(views, 1, **(settings | {"mode": "rollout", "directions": directions})):
        near = {view: float(np.mean([unit[view] @ unit[new] for new in block.new_views])) for view in finished}
        least = min((near[view] for view in block.given_views), default=1.0)
        passed_over = max((near[view] for view in finished if view not in block.given_views), default=-1.0)
        assert not block.given_views or passed_over <= least + 1e-5
        finished += block.new_views


@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 2**32), st.integers(0, 200))
def test_shuffled_groups_are_even_partitions_that_come_again(views, view_block, seed, step):
    groups = shuffled_groups(views, view_block, seed, step)
    assert sorted(np.concatenate(groups)) == list(range(views))
    sizes = [len(group) for group in groups]
    assert max(sizes) <= view_block and max(sizes) - min(sizes) <= 1 and len(sizes) == -(-views // view_block)
    again = shuffled_groups(views, view_block, seed, step)
    assert all((a == b).all() for a, b in zip(groups, again, strict=True))


def test_groups_differ_from_step_to_step():
    drawn = {tuple(tuple(group) for group in shuffled_groups(16, 8, 3, step)) for step in range(20)}
    assert len(drawn) == 20


@pytest.mark.parametrize("preset", [60, 120, 180, 360])
def test_anchors_of_a_preset_leave_no_view_far_from_one(preset):
    views = DEFAULT_VIEWS[preset]
    angles = view_directions(preset, views)
    azimuth, elevation = angles.T
    directions = np.stack([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], axis=1)
    blocks = plan_blocks(views, 21, directions=directions)
    anchors = list(blocks[0].new_views)
    gap = np.rad2deg(np.arccos(np.clip(directions @ directions[anchors].T, -1, 1))).min(axis=1).max()
    assert gap < {60: 16, 120: 30, 180: 40, 360: 50}[preset]
    assert all(len(block.frames) == 13 for block in blocks)


@given(st.integers(1, 200))
def test_convention_a_clip_has_one_frame_and_then_fours(frames):
    whole = whole_clip(frames)
    assert whole >= frames and whole - frames < 4 and whole % 4 == 1
    assert latent_frames(whole) == (whole + 3) // 4 and latent_frames(0) == 0


@pytest.mark.parametrize(
    ("views", "frames", "settings", "part"),
    [
        (0, 1, {}, "at least one view"),
        (4, 0, {}, "one frame"),
        (4, 4, {"view_block": 0}, "view a block"),
        (4, 4, {"neighbours": -1}, "neighbours"),
        (4, 4, {"frame_block": 12}, "1 + 4k"),
        (4, 40, {"overlap": 13}, "overlap"),
        (4, 40, {"overlap": 4}, "overlap"),
        (4, 2, {"frame_block": 1}, "larger `frame_block`"),
        (4, 4, {"mode": "sideways"}, "rollout or stochastic"),
        (4, 4, {"directions": np.zeros((4, 3))}, "directions"),
        (4, 4, {"directions": np.ones((3, 3))}, "directions"),
    ],
)
def test_impossible_plans_are_refused_in_one_line(views, frames, settings, part):
    with pytest.raises(InputError, match=part.replace("+", r"\+")):
        plan_blocks(views, frames, **settings)
