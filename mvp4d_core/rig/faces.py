# SPDX-License-Identifier: Apache-2.0
"""Faces by name: FACS action units, emotions and visemes, as weights of ARKit's expressions.

A name without its side (`mouthSmile`) means both. The emotions are those of EMFACS (Ekman and Friesen's prototypes: joy 6+12, sadness
1+4+15+17, anger 4+5+7+24, fear 1+2+4+5+20+25, disgust 9+10+15+17, surprise 1+2+5+27), weighted by eye.
"""

from .arkit import ARKIT_NAMES

Face = dict[str, float]

# action unit -> (what it is called, face); the order is that of the range of motion: brows, lids, nose, mouth, jaw, tongue
ACTION_UNITS: dict[str, tuple[str, Face]] = {
    "AU1": ("inner brow raiser", {"browInnerUp": 1}),
    "AU2": ("outer brow raiser", {"browOuterUp": 1}),
    "AU4": ("brow lowerer", {"browDown": 1}),
    "AU5": ("upper lid raiser", {"eyeWide": 1}),
    "AU6": ("cheek raiser", {"cheekSquint": 0.8, "eyeSquint": 0.3}),
    "AU7": ("lid tightener", {"eyeSquint": 1}),
    "AU43": ("eye closure", {"eyeBlink": 1}),
    "AU46L": ("wink, left", {"eyeBlinkLeft": 1, "cheekSquintLeft": 0.4}),
    "AU46R": ("wink, right", {"eyeBlinkRight": 1, "cheekSquintRight": 0.4}),
    "AU9": ("nose wrinkler", {"noseSneer": 1, "browDown": 0.3}),
    "AU10": ("upper lip raiser", {"mouthUpperUp": 0.9}),
    "AU12": ("lip corner puller", {"mouthSmile": 1}),
    "AU14": ("dimpler", {"mouthDimple": 1}),
    "AU15": ("lip corner depressor", {"mouthFrown": 1}),
    "AU16": ("lower lip depressor", {"mouthLowerDown": 0.9}),
    "AU17": ("chin raiser", {"mouthShrugLower": 1, "mouthShrugUpper": 0.5}),
    "AU18": ("lip pucker", {"mouthPucker": 1}),
    "AU20": ("lip stretcher", {"mouthStretch": 1}),
    "AU22": ("lip funneler", {"mouthFunnel": 1, "jawOpen": 0.12}),
    "AU24": ("lip presser", {"mouthPress": 1}),
    "AU25": ("lips part", {"mouthLowerDown": 0.45, "mouthUpperUp": 0.2}),
    "AU26": ("jaw drop", {"jawOpen": 0.4}),
    "AU27": ("mouth stretch", {"jawOpen": 1}),
    "AU28": ("lip suck", {"mouthRollLower": 1, "mouthRollUpper": 1}),
    "AU29": ("jaw thrust", {"jawForward": 1}),
    "AU30L": ("jaw sideways, left", {"jawLeft": 1}),
    "AU30R": ("jaw sideways, right", {"jawRight": 1}),
    "AU34": ("cheek puff", {"cheekPuff": 1, "mouthPress": 0.3}),
    "AU19": ("tongue show", {"tongueOut": 0.9, "jawOpen": 0.35}),
}

EMOTIONS: dict[str, Face] = {
    "joy": {"mouthSmile": 0.95, "cheekSquint": 0.6, "eyeSquint": 0.35, "mouthUpperUp": 0.25, "jawOpen": 0.08, "mouthDimple": 0.2},
    "sadness": {"browInnerUp": 1.0, "browDown": 0.25, "mouthFrown": 0.9, "mouthShrugLower": 0.45, "eyeBlink": 0.25, "eyeSquint": 0.15},
    "anger": {"browDown": 1.0, "eyeSquint": 0.5, "eyeWide": 0.45, "mouthPress": 0.5, "noseSneer": 0.5, "mouthFrown": 0.75,
              "mouthShrugLower": 0.3, "jawForward": 0.3, "mouthRollUpper": 0.3},
    "fear": {"browInnerUp": 1.0, "browOuterUp": 0.4, "browDown": 0.35, "eyeWide": 1.0, "mouthStretch": 0.7, "mouthFrown": 0.55,
             "jawOpen": 0.2, "mouthLowerDown": 0.5},
    "disgust": {"noseSneer": 0.8, "mouthUpperUp": 0.55, "browDown": 0.6, "eyeSquint": 0.6, "mouthFrown": 0.55, "mouthShrugLower": 0.4,
                "cheekSquint": 0.25},
    "surprise": {"browInnerUp": 0.6, "browOuterUp": 1.0, "eyeWide": 1.0, "jawOpen": 0.55, "mouthPucker": 0.35, "mouthFunnel": 0.1},
}  # fmt: skip

# more faces that people ask for by name
EXPRESSIONS: dict[str, Face] = {
    "neutral": {},
    **EMOTIONS,
    "smile": {"mouthSmile": 0.7, "cheekSquint": 0.25, "mouthDimple": 0.15},
    "smirk": {"mouthSmileLeft": 0.75, "mouthDimpleLeft": 0.5, "eyeSquintLeft": 0.3, "browOuterUpRight": 0.4},
    "contempt": {"mouthDimpleLeft": 1, "mouthSmileLeft": 0.3, "mouthPress": 0.4, "mouthFrownRight": 0.4, "eyeSquint": 0.3,
                 "eyeBlink": 0.2, "browDownRight": 0.3},
    "wink": {"eyeBlinkLeft": 1, "cheekSquintLeft": 0.6, "mouthSmileLeft": 0.6, "mouthSmileRight": 0.3},
    "kiss": {"mouthPucker": 1, "eyeBlink": 0.35},
    "pout": {"mouthShrugLower": 0.8, "mouthPucker": 0.35, "mouthFrown": 0.4, "browDown": 0.4},
    "eyes_closed": {"eyeBlink": 1},
    "mouth_open": {"jawOpen": 0.8},
    "tongue_out": {"tongueOut": 0.9, "jawOpen": 0.35},
    "cheek_puff": {"cheekPuff": 1, "mouthPress": 0.3},
}  # fmt: skip

# the sounds that look different, by the names of MPEG-4's visemes
VISEMES: dict[str, Face] = {
    "sil": {},
    "PP": {"mouthPress": 0.45, "mouthRollLower": 0.25, "mouthRollUpper": 0.25},
    "FF": {"mouthRollLower": 0.55, "mouthUpperUp": 0.3, "jawOpen": 0.06},
    "TH": {"jawOpen": 0.16, "tongueOut": 0.12, "mouthLowerDown": 0.2},
    "DD": {"jawOpen": 0.14, "mouthLowerDown": 0.25, "mouthUpperUp": 0.15},
    "kk": {"jawOpen": 0.18, "mouthLowerDown": 0.2, "mouthStretch": 0.1},
    "CH": {"mouthFunnel": 0.55, "jawOpen": 0.1, "mouthPucker": 0.15},
    "SS": {"mouthStretch": 0.3, "mouthSmile": 0.15, "jawOpen": 0.05, "mouthLowerDown": 0.3, "mouthUpperUp": 0.15},
    "nn": {"jawOpen": 0.12, "mouthLowerDown": 0.2},
    "RR": {"mouthFunnel": 0.35, "mouthPucker": 0.25, "jawOpen": 0.12},
    "aa": {"jawOpen": 0.5, "mouthLowerDown": 0.15, "mouthUpperUp": 0.1},
    "E": {"jawOpen": 0.28, "mouthStretch": 0.25, "mouthSmile": 0.15, "mouthUpperUp": 0.2, "mouthLowerDown": 0.2},
    "ih": {"jawOpen": 0.18, "mouthSmile": 0.3, "mouthStretch": 0.15, "mouthLowerDown": 0.2},
    "oh": {"jawOpen": 0.38, "mouthPucker": 0.45, "mouthFunnel": 0.2},
    "ou": {"jawOpen": 0.16, "mouthPucker": 0.7, "mouthFunnel": 0.2},
}
# sounds that press the lips together, what they hold shut, and how firmly
CLOSING_VISEMES = ("PP", "FF")
OPENING = ("jawOpen", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "mouthFunnel")
CLOSING = 0.85


def both_sides(face: Face, strength: float = 1.0) -> Face:
    """The face by ARKit's own names, names without a side spelt out, every weight times `strength` and at most 1."""
    weights: Face = {}
    for name, weight in face.items():
        for full in (name,) if name in ARKIT_NAMES else (name + "Left", name + "Right"):
            weights[full] = min(1.0, weight * strength)
    return weights
