# SPDX-License-Identifier: Apache-2.0
"""What a voice does from moment to moment, read off its spectrum: loudness, hiss, pitch and the two formants that tell vowels apart."""

from dataclasses import dataclass

import numpy as np

HOP = 0.01  # seconds
_WINDOW = 0.025
_BAND = 5000.0  # Hz: formants are looked for below
_ORDER = 10
_PITCH = (70.0, 400.0)  # Hz
_BLOCK = 4096  # moments worked on at once
_QUIET_DB = -60.0  # of full scale: below is silence however quiet the rest
FLOOR_DB = -100.0


@dataclass(frozen=True)
class Voice:
    """Each (N,), a value every `HOP` seconds.

    Attributes:
        loudness: dB of full scale.
        hiss: share of the energy above 3 kHz, and `hiss_centre` its mean frequency, Hz.
        voiced: 0..1, how periodic the sound is; `pitch` Hz.
        formants: (N, 2) Hz.
    """

    loudness: np.ndarray
    hiss: np.ndarray
    hiss_centre: np.ndarray
    voiced: np.ndarray
    pitch: np.ndarray
    formants: np.ndarray


def analyse_voice(samples: np.ndarray, rate: int) -> Voice:
    """The voice in samples (N,) at `rate` Hz."""
    window, hop = max(16, round(_WINDOW * rate)), HOP * rate
    count = max(1, int(np.ceil(len(samples) / hop)))
    padded = np.pad(samples.astype(np.float64), (window, 2 * window))
    parts = []
    for first in range(0, count, _BLOCK):
        middles = np.round(np.arange(first, min(count, first + _BLOCK)) * hop).astype(int) + window
        parts.append(_measured(padded[(middles - window // 2)[:, None] + np.arange(window)], rate))
    return Voice(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _measured(frames: np.ndarray, rate: int) -> tuple[np.ndarray, ...]:
    size = 1 << int(np.ceil(np.log2(2 * frames.shape[1])))
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), size)) ** 2
    frequency = np.fft.rfftfreq(size, 1 / rate)
    mean_square = (frames**2).mean(axis=1)
    loudness = 10 * np.log10(np.maximum(mean_square, 10 ** (FLOOR_DB / 10)))
    high = power[:, frequency > 3000]
    hiss = high.sum(axis=1) / np.maximum(power[:, frequency > 80].sum(axis=1), 1e-20)
    centre = high @ frequency[frequency > 3000] / np.maximum(high.sum(axis=1), 1e-20)
    # pitch: the highest place of the autocorrelation between its bounds (Rabiner 1977)
    echo = np.fft.irfft(power, size)
    lags = np.arange(int(rate / _PITCH[1]), min(int(rate / _PITCH[0]), frames.shape[1] - 2))
    taper = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(frames.shape[1]), size)) ** 2, size)
    strength = echo[:, lags] / np.maximum(echo[:, :1], 1e-20) / np.maximum(taper[lags] / taper[0], 0.05)
    best = strength.argmax(axis=1)
    voiced = np.clip(strength[np.arange(len(best)), best], 0, 1) * (mean_square > 10 ** (_QUIET_DB / 10))
    return loudness, hiss, centre, voiced, rate / lags[best], _formants(power, frequency)


def _formants(power: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """(N, 2) Hz: the two lowest resonances of an all-pole model of the power below `_BAND` (Makhoul 1975: selective linear prediction)."""
    band = frequency <= min(_BAND, frequency[-1])
    top = float(frequency[band][-1])
    emphasised = power[:, band] * (frequency[band] / top) ** 2 + 1e-12
    echo = np.fft.irfft(emphasised)[:, : _ORDER + 1]
    polynomials = _prediction(echo)
    companion = np.zeros((len(power), _ORDER, _ORDER))
    companion[:, 0] = -polynomials[:, 1:]
    companion[:, np.arange(1, _ORDER), np.arange(_ORDER - 1)] = 1
    roots = np.linalg.eigvals(companion)
    hertz = np.angle(roots) / np.pi * top
    width = -np.log(np.maximum(np.abs(roots), 1e-9)) * top / np.pi * 2
    usable = (hertz > 180) & (hertz < 3800) & (width < 600)
    ordered = np.sort(np.where(usable, hertz, np.inf), axis=1)[:, :2]
    return np.where(np.isfinite(ordered), ordered, [500.0, 1500.0])


def _prediction(echo: np.ndarray) -> np.ndarray:
    """(N, order + 1) coefficients of linear prediction from autocorrelations (N, order + 1) (Levinson and Durbin)."""
    coefficients = np.zeros_like(echo)
    coefficients[:, 0] = 1
    error = echo[:, 0] * (1 + 1e-6) + 1e-12
    for order in range(1, echo.shape[1]):
        reflection = -(coefficients[:, :order] * echo[:, order:0:-1]).sum(axis=1) / error
        coefficients[:, 1 : order + 1] += reflection[:, None] * coefficients[:, order - 1 :: -1]
        error = error * np.maximum(1 - reflection**2, 1e-9)
    return coefficients
