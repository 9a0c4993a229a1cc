"""Currents into a soma: a step, a ramp or noise, all with the same mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from l2l_dask.space import Floats

Shape: TypeAlias = Literal["step", "ramp", "noise"]

BEFORE, AFTER = 50.0, 50.0  # ms without current
SAMPLING = 0.1  # ms, of the traces
_STRONGER = 1.25  # the unseen step beside the strongest that was searched with
_UNSEEN = 1  # seeds of the noise that is held out begin with it, that of the search with 0
_NOISE_STEP, _NOISE_TIME, _NOISE_SHARE = 1.0, 5.0, 0.5  # ms, ms, of the amplitude


@dataclass(frozen=True)
class Current:
    """A current of any shape that starts after 50 ms.

    Attributes
    ----------
    shape
        ``step``; ``ramp``, which rises from 0 to twice the amplitude; or ``noise``, Gaussian with the amplitude as
        its mean, half of it as its standard deviation and a correlation time of 5 ms (an Ornstein-Uhlenbeck process,
        linear in between samples of 1 ms).
    amplitude
        nA, the mean.
    duration
        ms.
    seed
        Of the noise: the same seed is the same current.
    """

    shape: Shape
    amplitude: float
    duration: float
    seed: tuple[int, ...] = (0,)

    @property
    def label(self) -> str:
        return f"{self.shape}-{self.amplitude!r}"

    def points(self) -> tuple[Floats, Floats]:
        """Return the corners of the current while it is on: times in ms since the start of the trace, and values in nA.

        It is linear in between, and 0 before the first and after the last.
        """
        if self.shape == "noise":
            n = 1 + math.ceil(self.duration / _NOISE_STEP)
            return BEFORE + np.linspace(0.0, self.duration, n), self._noise(n)
        ends = BEFORE + np.array([0.0, self.duration])
        return ends, self.amplitude * (np.array([1.0, 1.0]) if self.shape == "step" else np.array([0.0, 2.0]))

    def _noise(self, n: int) -> Floats:
        kept = math.exp(-self.duration / (n - 1) / _NOISE_TIME)
        normal = np.random.default_rng(self.seed).standard_normal(n)
        x = np.empty(n)
        x[0] = normal[0]
        for i in range(1, n):
            x[i] = kept * x[i - 1] + math.sqrt(1 - kept**2) * normal[i]
        return self.amplitude * (1 + _NOISE_SHARE * x)


def held_out(amplitude: float, duration: float, seed: int) -> dict[str, Current]:
    """Return a stronger step and noise, which no search has seen, by name; also where it had no current at all."""
    amplitude = amplitude or 0.1
    return {
        "step": Current("step", _STRONGER * amplitude, duration),
        "noise": Current("noise", amplitude, duration, (_UNSEEN, seed)),
    }
