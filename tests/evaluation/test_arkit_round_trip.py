# SPDX-License-Identifier: Apache-2.0
"""ARKit weights to another head and back: the subspace against its definition, and the bar."""

from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.evaluation.arkit_round_trip import EXPRESSIBLE, arkit_round_trip_error, expressible_subspace
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.rig import ARKIT_NAMES, load_head_model
from tests.support.asserts import assert_arrays_close

OPEN = load_head_model()


def test_a_flame_shaped_head_gives_arkit_back():
    result = arkit_round_trip_error(flame_head())
    assert result.expressible <= 0.05 and result.dimensions >= 35
    assert result.total <= 0.05 and set(result.by_name) == set(ARKIT_NAMES)


def test_what_the_other_head_cannot_do_is_not_expressible_but_reported():
    mute = np.array([name.startswith(("mouth", "jaw", "tongue", "cheek")) for name in ARKIT_NAMES])
    jaw = OPEN.joint_names.index("jaw")
    weights = OPEN.lbs_weights.copy()
    weights[:, 1] += weights[:, jaw]
    weights[:, jaw] = 0
    upper = replace(OPEN, exprdirs=np.ascontiguousarray(OPEN.exprdirs[:, :, ~mute]), lbs_weights=weights, name="upper",
                    expression_names=tuple(f"expr{k:03d}" for k in range(int((~mute).sum()))),
                    posedirs=np.zeros_like(OPEN.posedirs))  # fmt: skip
    subspace = expressible_subspace(OPEN, upper)
    assert 5 <= subspace.shape[1] <= (~mute).sum() + 2
    assert_arrays_close(subspace.T @ subspace, np.eye(subspace.shape[1]), atol=1e-9)
    assert np.abs(subspace[ARKIT_NAMES.index("jawOpen")]).max() < 0.2
    basis = OPEN.exprdirs[OPEN.faces[OPEN.landmark_faces]]
    motion = np.einsum("lk,lkde->lde", OPEN.landmark_barycentrics, basis).reshape(-1, 52) @ subspace
    reach = np.einsum("lk,lkde->lde", OPEN.landmark_barycentrics, upper.exprdirs[OPEN.faces[OPEN.landmark_faces]]).reshape(len(motion), -1)
    left = motion - reach @ np.linalg.lstsq(reach, motion, rcond=None)[0]
    assert ((left**2).sum(axis=0) <= (1 - EXPRESSIBLE) * 1.5 * (motion**2).sum(axis=0) + 1e-9).all()
    result = arkit_round_trip_error(upper)
    assert result.expressible < 0.05 < result.by_name["jawOpen"] and result.rest > 0.03
    assert result.total == pytest.approx(np.mean(list(result.by_name.values())), abs=1e-9)
