# SPDX-License-Identifier: Apache-2.0
"""Faces set by hand."""

import numpy as np
import pytest

from mvp4d_core.errors import InputError
from mvp4d_core.rig import ARKIT_NAMES, library_performance
from mvp4d_core.rig.slider_pose import slider_performance
from mvp4d_core.rotations import axis_angle_to_matrix
from tests.support.asserts import assert_arrays_close

FORWARD, UP = np.array([0.0, 0, 1]), np.array([0.0, 1, 0])


def turned(performance, joint: str, direction: np.ndarray) -> np.ndarray:
    rotations = performance.rotations[0, performance.joint_names.index(joint)].astype(np.float64)
    return axis_angle_to_matrix(rotations[None])[0] @ direction


def test_a_face_is_held():
    made = slider_performance({"jawOpen": 0.4, "tongueOut": 1.0}, frames=5, fps=30)
    assert len(made) == 5 and made.fps == 30 and made.expression_names == ARKIT_NAMES
    wanted = np.zeros(52)
    wanted[[ARKIT_NAMES.index("jawOpen"), ARKIT_NAMES.index("tongueOut")]] = 0.4, 1.0
    assert_arrays_close(made.expression, np.tile(wanted, (5, 1)), atol=1e-7)
    assert not made.rotations.any() and not made.translation.any()


def test_convention_head_and_gaze():
    """Yaw to the subject's left (+x), pitch up (+y), roll to its right shoulder (the crown goes to -x)."""
    assert turned(slider_performance({}, head=(30, 0, 0)), "neck", FORWARD)[0] == pytest.approx(np.sin(np.deg2rad(30)), abs=1e-6)
    assert turned(slider_performance({}, head=(0, 20, 0)), "neck", FORWARD)[1] == pytest.approx(np.sin(np.deg2rad(20)), abs=1e-6)
    assert turned(slider_performance({}, head=(0, 0, 10)), "neck", UP)[0] == pytest.approx(-np.sin(np.deg2rad(10)), abs=1e-6)
    looking = slider_performance({}, gaze=(15, 10))
    for eye in ("left_eye", "right_eye"):
        left, up, _ = turned(looking, eye, FORWARD)
        assert left == pytest.approx(np.sin(np.deg2rad(15)) * np.cos(np.deg2rad(10)), abs=1e-6)
        assert up == pytest.approx(np.sin(np.deg2rad(10)), abs=1e-6)


def test_sliders_lie_over_a_performance_within_what_faces_can_do():
    base = library_performance("joy", fps=20, seconds=2)
    made = slider_performance({"mouthSmileLeft": 1.0, "browInnerUp": 0.5}, base=base, frames=999, fps=3)
    assert (len(made), made.fps) == (40, 20)
    smile, brow = (ARKIT_NAMES.index(name) for name in ("mouthSmileLeft", "browInnerUp"))
    assert_arrays_close(made.expression[:, smile], np.ones(40), atol=1e-6)
    assert_arrays_close(made.expression[:, brow], np.minimum(base.expression[:, brow] + 0.5, 1), atol=1e-6)
    others = [column for column in range(52) if column not in (smile, brow)]
    assert_arrays_close(made.expression[:, others], base.expression[:, others], atol=1e-6)


def test_what_is_no_face_is_refused():
    with pytest.raises(InputError, match="mouthGrin"):
        slider_performance({"mouthGrin": 1})
    with pytest.raises(InputError, match="0 frames"):
        slider_performance({}, frames=0)
    with pytest.raises(InputError, match="finite"):
        slider_performance({"jawOpen": float("nan")})
