# SPDX-License-Identifier: Apache-2.0
"""Speech, on voices made of formants that are known."""

import json

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import butter, lfilter, sosfilt

from mvp4d_core.cli.main import main
from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.rig import ARKIT_NAMES, load_head_model, load_performance, skin
from mvp4d_core.rig.speech import NAMES, Cue, read_rhubarb, speech_performance, visemes_of_cues, visemes_of_voice
from mvp4d_core.rig.voice import HOP, analyse_voice

RATE = 16000
VOWELS = {"aa": (730, 1180, 2500), "ih": (300, 2300, 3000), "oh": (500, 880, 2500), "ou": (320, 900, 2300)}


def vowel(name: str, seconds: float, pitch: float = 115.0) -> np.ndarray:
    """A train of pulses through three resonances (Klatt 1980)."""
    count = round(seconds * RATE)
    phase = np.cumsum(np.full(count, pitch / RATE))
    sound = np.diff(np.floor(phase), prepend=0)
    sound = lfilter([1], [1, -0.95], sound)
    for centre, width in zip(VOWELS[name], (70, 90, 150), strict=True):
        radius = np.exp(-np.pi * width / RATE)
        poles = [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2]
        sound = lfilter([sum(poles)], poles, sound)
    return 0.4 * sound / np.abs(sound).max()


def hiss(seconds: float, low: float, high: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return 0.06 * np.asarray(sosfilt(butter(4, [low, high], "band", fs=RATE, output="sos"), noise))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE))


def mean_weights(weights: np.ndarray, start: float, end: float) -> dict[str, float]:
    return dict(zip(NAMES, weights[round(start / HOP) : round(end / HOP)].mean(axis=0), strict=True))


def test_formants_and_pitch_are_those_that_were_made():
    for name, (first, second, _) in VOWELS.items():
        voice = analyse_voice(vowel(name, 0.6), RATE)
        middle = slice(15, 45)
        found = np.median(voice.formants[middle], axis=0)
        assert abs(found[0] - first) < 0.2 * first and abs(found[1] - second) < 0.2 * second, (name, found)
        assert abs(np.median(voice.pitch[middle]) - 115) < 4 and np.median(voice.voiced[middle]) > 0.8


@pytest.mark.parametrize("name", sorted(VOWELS))
def test_a_vowel_is_its_viseme(name):
    sound = np.concatenate([silence(0.3), vowel(name, 0.5), silence(0.3)])
    weights = visemes_of_voice(sound, RATE)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-6) and weights.min() >= 0
    said = mean_weights(weights, 0.4, 0.7)
    assert max(said, key=said.__getitem__) == name
    assert mean_weights(weights, 0.0, 0.2)["sil"] > 0.95 and mean_weights(weights, 0.95, 1.1)["sil"] > 0.95


def test_hisses_and_closed_lips_are_told_apart():
    sound = np.concatenate(
        [silence(0.3), vowel("aa", 0.3), hiss(0.3, 5500, 7500), vowel("aa", 0.3), hiss(0.3, 3100, 4200), vowel("aa", 0.3), silence(0.08),
         vowel("aa", 0.3), silence(0.4)]
    )  # fmt: skip
    weights = visemes_of_voice(sound, RATE)
    sharp, dull, closed = (mean_weights(weights, start, end) for start, end in ((0.65, 0.85), (1.25, 1.45), (1.83, 1.86)))
    assert sharp["SS"] > 0.5 and sharp["SS"] > sharp["CH"]
    assert dull["CH"] > 0.5 and dull["CH"] > dull["SS"]
    assert closed["PP"] > 0.8
    assert mean_weights(weights, 2.4, 2.5)["PP"] == 0


def test_the_face_opens_rounds_and_closes_with_the_sound():
    model = load_head_model()
    cues = [Cue(0.4, 0.8, "aa"), Cue(0.8, 1.2, "ou"), Cue(1.2, 1.4, "PP")]
    performance = speech_performance(visemes_of_cues([*cues, Cue(1.4, 2.0, "sil")]), HOP, fps=50, idle=0, head_model=model)
    assert len(performance) == 100 and performance.fps == 50
    jaw, pucker, press = (performance.expression[:, ARKIT_NAMES.index(n)] for n in ("jawOpen", "mouthPucker", "mouthPressLeft"))
    assert jaw[28] > 0.4 and jaw[5] == 0 and jaw[90] < 0.01
    assert pucker[48] > 0.6 and pucker[28] < 0.05
    assert press[63] > 0.35 and jaw[63] < 0.05
    assert np.abs(performance.rotations).max() == 0
    assert int(jaw.argmax()) / 50 < 0.8  # lips lead the sound


def test_a_flame_head_speaks_with_its_jaw():
    head = flame_head()
    visemes = visemes_of_cues([Cue(0.4, 0.8, "aa"), Cue(0.8, 1.2, "PP"), Cue(1.2, 1.6, "sil")])
    performance = speech_performance(visemes, HOP, fps=10, head_model=head)
    assert performance.expression_names == head.expression_names
    frames = [performance[frame] for frame in (0, 6, 10, 15)]  # before a word, in "a", in "p", and after
    points = [head.landmarks(skin(head, None, frame.expression, frame.rotations, np.zeros(3))) for frame in frames]
    before, wide, shut, after = (np.linalg.norm(p[13] - p[14]) for p in points)  # the middles of the lips
    assert wide > before + 0.006 and shut < before + 0.001 and abs(after - before) < 0.001
    assert performance.rotations[6, head.joint_names.index("jaw"), 0] > 0.1


def test_idle_motion_has_a_seed():
    model = load_head_model()
    visemes = visemes_of_cues([Cue(0, 8, "sil")])
    first, again, other = (speech_performance(visemes, HOP, seed=seed, head_model=model) for seed in (1, 1, 2))
    assert np.array_equal(first.expression, again.expression) and np.array_equal(first.rotations, again.rotations)
    assert not np.array_equal(first.rotations, other.rotations)
    assert first.expression[:, ARKIT_NAMES.index("eyeBlinkLeft")].max() > 0.9


def test_rhubarbs_files_are_the_same_as_tsv_and_json(tmp_path):
    (tmp_path / "a.tsv").write_text("0.00\tX\n0.05\tD\n0.27\tC\n0.61\tA\n0.70\tX\n")
    keys = ("start", "end", "value")
    rows = [(0.0, 0.05, "X"), (0.05, 0.27, "D"), (0.27, 0.61, "C"), (0.61, 0.7, "A"), (0.7, 0.7, "X")]
    cues = [dict(zip(keys, row, strict=True)) for row in rows]
    (tmp_path / "a.json").write_text(json.dumps({"metadata": {"soundFile": "a.wav", "duration": 0.7}, "mouthCues": cues}))
    found = read_rhubarb(tmp_path / "a.tsv")
    assert found == read_rhubarb(tmp_path / "a.json")
    assert [cue.viseme for cue in found] == ["sil", "aa", "E", "PP", "sil"]
    assert NAMES[int(visemes_of_cues(found)[40].argmax())] == "E"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "0.0\tQ\n",
        "1.0\tA\n0.5\tB\n",
        "nan\tA\n",
        "{",
        '{"mouthCues": [{"start": 0}]}',
        '{"mouthCues": 3}',
        "\x00\t\x01",
        "1e999\tA",
    ],
)
def test_other_cues_are_refused_in_one_line(tmp_path, text):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(FormatError, match="Rhubarb") as caught:
        read_rhubarb(tmp_path / "a.tsv")
    assert "\n" not in str(caught.value)


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="fps"):
        speech_performance(visemes_of_cues([]), HOP, fps=0, head_model=load_head_model())


def test_the_command_speaks(tmp_path, capsys):
    sound = np.concatenate([silence(0.2), vowel("aa", 0.6), silence(0.4)])
    wavfile.write(tmp_path / "a.wav", RATE, (sound * 32767).astype(np.int16))
    out = tmp_path / "p.safetensors"
    assert main(["speech", str(tmp_path / "a.wav"), "-o", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["frames"] == len(load_performance(out)) == 30 and 40 < answer["speaking_percent"] < 75
    assert main(["speech", "-o", str(out)]) == 2
    assert "WAV" in capsys.readouterr().err
