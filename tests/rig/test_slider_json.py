# SPDX-License-Identifier: Apache-2.0
"""JSON of sliders and MediaPipe's blendshapes: every layout, matrices against scipy, damaged files."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.rig import ARKIT_NAMES, read_performance, write_performance
from mvp4d_core.rig.performance_library import library_performance
from mvp4d_core.rig.slider_json import load_slider_json, performance_from_sliders, save_slider_json
from tests.support.asserts import assert_arrays_close
from tests.support.mutation import assert_refuses_cleanly

JAW = ARKIT_NAMES.index("jawOpen")


def mediapipe(jaw: float, rotation: Rotation, web: bool = True) -> dict:
    """A result of the face landmarker as its web or its Python API serialises it."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.as_matrix(), [1.5, -2, -40]
    scores = [("_neutral", 1e-6), ("jawOpen", jaw), ("browInnerUp", 0.25)]
    if web:
        categories = [{"index": k, "score": score, "categoryName": name, "displayName": ""} for k, (name, score) in enumerate(scores)]
        return {"faceLandmarks": [[{"x": 0.5, "y": 0.5, "z": 0.0}]],
                "faceBlendshapes": [{"categories": categories, "headIndex": -1, "headName": ""}],
                "facialTransformationMatrixes": [{"rows": 4, "columns": 4, "data": matrix.T.ravel().tolist()}]}  # fmt: skip
    categories = [{"index": k, "score": score, "category_name": name, "display_name": ""} for k, (name, score) in enumerate(scores)]
    return {"face_blendshapes": [categories], "facial_transformation_matrixes": [matrix.tolist()]}


def test_one_face_and_lists_of_faces():
    one = performance_from_sliders({"jawOpen": 0.5, "mouthSmileLeft": 1})
    assert len(one) == 1 and one.expression[0, JAW] == 0.5 and one.expression_names == ARKIT_NAMES
    many = performance_from_sliders([{"jawOpen": 0.1}, {}, {"jawOpen": 0.3, "joints": {"neck": [0, 90, 0]}}], fps=12)
    assert many.fps == 12 and len(many) == 3
    assert many.rotations[2, 1, 1] == pytest.approx(np.pi / 2)
    flame = performance_from_sliders({"fps": 30, "frames": [{"expressions": {"expr000": -1.5}, "translation": [0, 0.01, 0]}]})
    assert flame.expression_names == ("expr000",) and flame.expression[0, 0] == -1.5 and flame.translation[0, 1] == pytest.approx(0.01)


@pytest.mark.parametrize("web", [True, False])
def test_mediapipe_results(web):
    turn = Rotation.from_rotvec([0.1, -0.4, 0.2])
    results = [mediapipe(0.2, turn, web), mediapipe(0.6, Rotation.identity(), web), {**mediapipe(0, turn, web)}]
    results[2][next(iter(k for k in results[2] if "lendshapes" in k))] = []  # no face: the frame before stays
    performance = performance_from_sliders(results, 30)
    assert_arrays_close(performance.expression[:, JAW], [0.2, 0.6, 0.6], atol=1e-7)
    assert_arrays_close(performance.rotations[0, 1], turn.as_rotvec(), atol=1e-6)
    assert_arrays_close(performance.rotations[1, 1], np.zeros(3), atol=1e-6)
    assert len(performance_from_sliders(results[0])) == 1


def test_tables_of_blendshapes():
    frames = [{"blendshapes": {"jawOpen": 0.4, "_neutral": 0.1}, "transformation_matrix": np.eye(4).tolist()}]
    assert performance_from_sliders(frames).expression[0, JAW] == pytest.approx(0.4)


def test_round_trip_through_every_ending(tmp_path):
    performance = library_performance("speech", fps=25)
    for ending in (".json", ".csv", ".safetensors"):
        write_performance(performance, tmp_path / f"p{ending}")
        back = read_performance(tmp_path / f"p{ending}")
        assert back.fps == 25 and back.expression_names == ARKIT_NAMES
        for name in ("expression", "rotations", "translation"):
            assert_arrays_close(getattr(back, name), getattr(performance, name), atol=2e-6, name=name)
    assert json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))["schema"] == "mvp4d-sliders/1"
    with pytest.raises(InputError, match="end in"):
        read_performance(tmp_path / "p.fbx")


BAD = ["", "[]", "3", "null", '{"jawOpen": NaN}', '{"jawOpen": "1"}', '{"jawOpen": true}', '{"jawOpen": 1e300}', '[{"joints": 3}]',
       '{"joints": {"neck": [1, 2]}}', '{"frames": []}', '{"frames": [{}], "fps": 0}', '{"frames": [{}], "fps": "a"}',
       '{"schema": "other", "frames": [{}]}', '{"jawOpen": 0, "jawOpen": 1}', '{"faceBlendshapes": [{"categories": [{"score": 1}]}]}',
       '{"faceBlendshapes": [{"categories": []}], "facialTransformationMatrixes": [{"data": [1]}]}', "[" * 100000,
       '{"faceBlendshapes": [[{"categoryName": "jawOpen", "score": 1}]], "facialTransformationMatrixes": [['
       + "[0,0,0,0]," * 3 + "[0,0,0,1]]]}",
       '{"jawOpen": ' + "9" * 5000 + "}"]  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_bad_files_are_one_line(text, tmp_path):
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    if text.startswith('{"faceBlendshapes": [{"categories": []}]'):
        assert not load_slider_json(tmp_path / "bad.json").expression.any()  # no face, so no matrix is read
        return
    with pytest.raises(FormatError) as caught:
        load_slider_json(tmp_path / "bad.json")
    assert str(caught.value).count("\n") == 0 and len(str(caught.value)) < 300


def test_fuzz(tmp_path):
    save_slider_json(library_performance("nod", fps=4), tmp_path / "good.json")
    sound = (tmp_path / "good.json").read_bytes()
    assert assert_refuses_cleanly(load_slider_json, sound, tmp_path / "f.json", 250) > 75
    sound = json.dumps([mediapipe(0.3, Rotation.from_rotvec([0.1, 0.2, 0])), mediapipe(0.1, Rotation.identity(), web=False)]).encode()
    assert assert_refuses_cleanly(load_slider_json, sound, tmp_path / "m.json", 250, seed=1) > 75
