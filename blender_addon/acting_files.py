# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that make an avatar act: performances, takes of an iPhone, sliders, tracks, mouth cues and voices."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvp4d_core.errors import InputError
from mvp4d_core.io.audio import read_wav
from mvp4d_core.rig import ARKIT_NAMES, Performance, load_head_model, read_performance
from mvp4d_core.rig.live_link import Angles, LiveLinkOptions
from mvp4d_core.rig.performance_files import ENDINGS as PERFORMANCES
from mvp4d_core.rig.speech import is_rhubarb, read_rhubarb, speech_performance, visemes_of_cues, visemes_of_voice
from mvp4d_core.rig.voice import HOP
from mvp4d_core.tracks.known import read_npz_track
from mvp4d_core.tracks.to_arkit import arkit_performance

from .avatar_files import flame_head

TRACK, CUES, VOICE = ".npz", ".tsv", ".wav"
ENDINGS = (*PERFORMANCES, TRACK, CUES, VOICE)


@dataclass(frozen=True)
class ActingOptions:
    """How a file is read.

    Attributes:
        fps: frames a second of what is made from sounds, and of sliders whose file does not say.
        angles: unit of the rotations in a Live Link Face take.
        strength, idle, seed: of speech, see `speech_performance`.
        flame: the user's converted FLAME head; None where the preferences name none.
    """

    fps: float = 24.0
    angles: Angles = "radians"
    strength: float = 1.0
    idle: float = 1.0
    seed: int = 0
    flame: Path | None = None


@dataclass(frozen=True)
class Acting:
    """A performance in names that the avatar has, and sentences on what the file holds beside it."""

    performance: Performance
    notes: tuple[str, ...] = ()


def read_acting(path: Path, avatar: Collection[str], options: ActingOptions) -> Acting:
    """What a file lets an avatar do.

    Args:
        avatar: the names of its sliders.

    Raises:
        InputError: an ending that is not known, or a performance of another head's sliders.
        FormatError, MissingAssetError, StorageError: as the core's readers.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"A file to act by must end in {', '.join(ENDINGS)}, got `{path.name}`.")
    if ending == VOICE:
        return Acting(_spoken(visemes_of_voice(*read_wav(path)), options))
    if ending == CUES or (ending == ".json" and is_rhubarb(path)):
        return Acting(_spoken(visemes_of_cues(read_rhubarb(path)), options))
    if ending == TRACK:
        return _tracked(path, avatar, options)
    return Acting(read_performance(path, fps=options.fps, live_link=LiveLinkOptions(angles=options.angles)))


def _spoken(visemes: np.ndarray, options: ActingOptions) -> Performance:
    return speech_performance(
        visemes, HOP, fps=options.fps, seed=options.seed, strength=options.strength, idle=options.idle, head_model=load_head_model()
    )


def _tracked(path: Path, avatar: Collection[str], options: ActingOptions) -> Acting:
    """A track by name where the avatar has FLAME's coefficients, else in ARKit's names."""
    head = None if options.flame is None else flame_head(options.flame, path.name)
    track = read_npz_track(path, head)
    if set(track.performance.expression_names) & set(avatar) - set(ARKIT_NAMES):
        return Acting(track.performance, track.notes)
    return Acting(arkit_performance(track.performance, head or flame_head(None, path.name)), track.notes)
