# SPDX-License-Identifier: Apache-2.0
"""FlowFace's skinning: its figure, and each of its ways by which it is not FLAME's."""

from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.errors import InputError
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.evaluation.skinning_error import flame_lbs_error, flowface_lbs_error
from mvp4d_core.rig import skin
from mvp4d_core.rig.flowface import BLINK, EXPRESSIONS, SHAPES, flowface_head, skin_flowface
from mvp4d_core.rotations import axis_angle_to_matrix

FLAME = flame_head()
HEAD = flowface_head(FLAME)
NO_CORRECTIVES = replace(HEAD, posedirs=np.zeros_like(HEAD.posedirs))
NONE = np.zeros(0), np.zeros(65)
STILL = np.zeros(3), np.zeros(3)
TURN = np.array([0.2, -0.1, 0.15])


def test_both_modes_agree_with_the_formula():
    assert flame_lbs_error() <= 1e-6 and flame_lbs_error(FLAME) <= 1e-6
    assert flowface_lbs_error() <= 1e-6 and flowface_lbs_error(HEAD) <= 1e-6


def test_convention_the_last_expression_is_a_blink():
    assert HEAD.shapedirs.shape[2] == SHAPES and HEAD.exprdirs.shape[2] == EXPRESSIONS and HEAD.expression_names[-1] == BLINK
    np.testing.assert_array_equal(HEAD.exprdirs[..., :-1], FLAME.exprdirs[..., :64])
    moved = np.linalg.norm(HEAD.exprdirs[..., -1], axis=1)
    lids = HEAD.region_mask("left_lids", "right_lids")
    assert moved[lids].max() > 0.005 and moved[HEAD.regions["lips"]].max() < 0.0005
    given = flowface_head(FLAME, np.full_like(FLAME.v_template, 0.25))
    assert (given.exprdirs[..., -1] == 0.25).all()


def test_convention_correctives_are_on_at_rest():
    rest = skin_flowface(HEAD, *NONE, *STILL)
    feature = np.tile(-np.eye(3).ravel(), 4)  # R - 2 I
    np.testing.assert_allclose(rest, HEAD.v_template + HEAD.posedirs @ feature, atol=1e-7)
    assert np.abs(rest - HEAD.v_template).max() > 0.001


def test_convention_a_turned_neck_leaves_eyes_and_jaw_behind():
    turned = skin_flowface(NO_CORRECTIVES, *NONE, *STILL, neck_rotation=TURN)
    eye = HEAD.lbs_weights[:, 3] > 0.999
    np.testing.assert_allclose(turned[eye], HEAD.v_template[eye], atol=1e-4)
    rotations = np.zeros((5, 3))
    rotations[1] = TURN
    chained = skin(NO_CORRECTIVES, None, np.zeros(65), rotations, np.zeros(3))
    assert np.linalg.norm(chained[eye] - HEAD.v_template[eye], axis=1).min() > 0.005


def test_convention_the_neck_is_in_slot_0_or_1():
    first, second = (skin_flowface(HEAD, *NONE, *STILL, neck_rotation=TURN, neck_slot=slot) for slot in (0, 1))
    joints = HEAD.J_regressor @ HEAD.v_template
    matrix = axis_angle_to_matrix(TURN)
    for slot, got in enumerate((first, second)):
        turns = np.stack([np.eye(3)] * 5)
        turns[slot] = matrix
        posed = HEAD.v_template + HEAD.posedirs @ (turns[[0, 2, 3, 4]] - 2 * np.eye(3)).ravel()
        wanted = sum(HEAD.lbs_weights[:, j, None] * ((posed - joints[j]) @ turns[j].T + joints[j]) for j in range(5))
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_convention_the_head_turns_last_about_the_origin():
    rest = skin_flowface(HEAD, *NONE, *STILL, eye_rotation=TURN)
    moved = skin_flowface(HEAD, *NONE, TURN, np.array([0.1, 0.2, -1.1]), eye_rotation=TURN)
    np.testing.assert_allclose(moved, rest @ axis_angle_to_matrix(TURN).T + [0.1, 0.2, -1.1], atol=1e-6)


def test_convention_both_eyes_turn_alike():
    turned = skin_flowface(NO_CORRECTIVES, *NONE, *STILL, eye_rotation=TURN)
    joints = HEAD.J_regressor @ HEAD.v_template
    for joint in (3, 4):
        eye = HEAD.lbs_weights[:, joint] > 0.999
        wanted = (HEAD.v_template[eye] - joints[joint]) @ axis_angle_to_matrix(TURN).T + joints[joint]
        np.testing.assert_allclose(turned[eye], wanted, atol=1e-4)


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match="150 identities"):
        flowface_head(
            HEAD.__class__(**{**vars(FLAME), "exprdirs": FLAME.exprdirs[..., :9], "expression_names": FLAME.expression_names[:9]})
        )
    with pytest.raises(InputError, match="`blink` must be"):
        flowface_head(FLAME, np.zeros((4, 3)))
    with pytest.raises(InputError, match="`expression` must have at most 65"):
        skin_flowface(HEAD, np.zeros(3), np.zeros(66), *STILL)
    with pytest.raises(InputError, match="`neck_slot`"):
        skin_flowface(HEAD, *NONE, *STILL, neck_slot=2)
