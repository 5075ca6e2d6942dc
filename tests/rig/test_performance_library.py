# SPDX-License-Identifier: Apache-2.0
"""The library: every name, what must move in it, seeds, and faces that pull the face the right way."""

import numpy as np
import pytest

from mvp4d_core.errors import InputError
from mvp4d_core.rig import ARKIT_NAMES, load_head_model, perform_on
from mvp4d_core.rig.faces import ACTION_UNITS, EMOTIONS, EXPRESSIONS, VISEMES, both_sides
from mvp4d_core.rig.performance_library import arkit_faces, library_face, library_names, library_performance, motion_units
from tests.support.toy_head import toy_head_model


def peak(performance, name: str) -> float:
    return float(performance.expression[:, ARKIT_NAMES.index(name)].max())


@pytest.mark.parametrize("name", list(library_names()))
def test_every_performance_is_whole(name):
    performance = library_performance(name, fps=12)
    assert performance.expression_names == ARKIT_NAMES and len(performance) > 20
    assert performance.expression.min() >= 0 and performance.expression.max() <= 1
    if name != "neutral":
        assert np.abs(performance.expression).max() > 0.1 or np.abs(performance.rotations).max() > 0.1
    assert len(perform_on(performance, toy_head_model())) == len(performance)
    assert abs(len(library_performance(name, fps=12, seconds=1.5)) - 18) <= 1


def test_every_weight_of_every_face_is_arkits():
    for face in [*EXPRESSIONS.values(), *VISEMES.values(), *(face for _, face in ACTION_UNITS.values())]:
        assert set(both_sides(face)) <= set(ARKIT_NAMES) and all(0 < weight <= 1 for weight in face.values())
    assert set(EMOTIONS) == {"joy", "sadness", "anger", "fear", "disgust", "surprise"}
    assert both_sides({"mouthSmile": 0.8}, 2.0) == {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}


def test_emotions_move_the_face_as_they_should():
    head = load_head_model()

    def lift(name: str, landmark: int) -> float:
        face = perform_on(library_face(name), head)
        return float(head.landmarks((head.exprdirs @ face.expression[0]).astype(np.float32))[landmark, 1])

    corners, inner_brow, upper_lid = 291, 336, 386  # the subject's left, MediaPipe's numbers
    assert lift("joy", corners) > 0.004 and lift("sadness", corners) < -0.003 and lift("anger", corners) < 0
    assert lift("sadness", inner_brow) > 0.002 and lift("anger", inner_brow) < -0.003 and lift("surprise", inner_brow) > 0.003
    assert lift("fear", upper_lid) > 0 and lift("surprise", upper_lid) > 0 and lift("joy", upper_lid) < 0.001
    assert lift("surprise", 17) < -0.01  # the lower lip drops


def test_the_range_of_motion_shows_each_unit_alone():
    performance = library_performance("range_of_motion", fps=30)
    for name, second in motion_units():
        frame = performance[round(second * 30)]
        if name in ACTION_UNITS:
            wanted = both_sides(ACTION_UNITS[name][1])
            shown = {n: round(float(w), 2) for n, w in zip(ARKIT_NAMES, frame.expression, strict=True) if w > 0.01}
            assert shown == {n: round(w, 2) for n, w in wanted.items()}, name
        else:
            assert np.abs(frame.rotations).max() > 0.2, name
    used = {n for n, track in zip(ARKIT_NAMES, performance.expression.T, strict=True) if track.max() > 0.2}
    assert {"eyeLookUpLeft", "mouthLeft"} & used == set() and len(used) >= 38


def test_speech_opens_closes_and_blinks():
    performance = library_performance("speech", fps=60)
    jaw = performance.expression[:, ARKIT_NAMES.index("jawOpen")]
    assert peak(performance, "jawOpen") > 0.3 and peak(performance, "mouthPucker") > 0.4 and peak(performance, "eyeBlinkLeft") > 0.95
    opens = np.flatnonzero((jaw[1:-1] > jaw[:-2]) & (jaw[1:-1] >= jaw[2:]) & (jaw[1:-1] > 0.12))
    assert len(opens) >= 8 and np.abs(np.diff(performance.expression, axis=0)).max() < 0.3


def test_gestures_convention():
    """A nod turns around x, a shake around y; looks to the subject's left are positive turns around y."""
    nod, shake, gaze = (np.rad2deg(library_performance(name).rotations) for name in ("nod", "shake", "gaze_sweep"))
    assert nod[:, 1, 0].max() > 10 and np.abs(nod[:, 1, 1:]).max() < 1e-6
    assert shake[:, 1, 1].max() > 15 and shake[:, 1, 1].min() < -15
    assert gaze[:, 3, 1].max() > 25 and gaze[:, 3, 1].min() < -25 and gaze[:, 4, 0].min() < -12


def test_idling_follows_its_seed_and_blinks_as_people_do():
    one, same, other = (library_performance("idle", seconds=60, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.expression, same.expression) and np.array_equal(one.rotations, same.rotations)
    assert not np.array_equal(one.rotations, other.rotations)
    shut = one.expression[:, ARKIT_NAMES.index("eyeBlinkLeft")] > 0.8
    assert 10 <= int((np.diff(shut.astype(int)) == 1).sum()) <= 30
    assert np.rad2deg(np.abs(one.rotations[:, 1])).max() < 4


@pytest.mark.parametrize("change", [{"fps": 0.0}, {"seconds": -1.0}, {"seconds": 1e9}, {"strength": float("nan")}, {"name": "grin"}])
def test_bad_requests_are_refused(change):
    with pytest.raises(InputError):
        library_performance(**{"name": "joy", **change})
    with pytest.raises(InputError):
        library_face("grin")
    with pytest.raises(InputError, match="mouthSmile"):
        arkit_faces([{}, {"mouthSmile": 1.0}])
