"""Seeded instances of the BBOB functions: optima, offsets, rotations and peaks, numbered as COCO numbers them.

The generators are those of the 2009 test bed, which every later version of COCO has kept: an instance here has the
optimum, the rotations and therefore the values of COCO's ``bbob`` suite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from l2l_dask.space import Floats

_MODULUS, _MULTIPLIER = 2**31 - 1, 16807  # Park and Miller's minimal standard generator
_TABLE, _WARM_UP = 32, 40  # Bays-Durham shuffle
_SECOND_ROTATION = 1_000_000
_R_FROM_OWN_SEED = {6, 7, 9, 13, 19, 21, 22, 23, 24}  # the other functions draw Q from it, and R from the second
_SEED_OF = {4: 3, 18: 17}  # a function that is a variant of another shares its optimum
_SCHWEFEL_OPTIMUM = 4.2096874637
_LUNACEK_OPTIMUM = 2.5
_TINY = 1e-99


def uniform(n: int, seed: int) -> Floats:
    """Draw ``n`` numbers from (0, 1) with the 2009 test bed's generator."""
    state = max(abs(seed), 1)
    table = [0] * _TABLE
    for i in reversed(range(_WARM_UP)):
        state = _MULTIPLIER * state % _MODULUS
        if i < _TABLE:
            table[i] = state
    out = table[0]
    drawn = np.empty(n)
    for i in range(n):
        state = _MULTIPLIER * state % _MODULUS
        slot = out // (2 * 2**25 + 1)
        out, table[slot] = table[slot], state
        drawn[i] = out / _MODULUS
    return np.where(drawn == 0.0, _TINY, drawn)


def gauss(n: int, seed: int) -> Floats:
    """Draw ``n`` standard normal numbers (Box-Muller)."""
    u = uniform(2 * n, seed)
    drawn = np.sqrt(-2 * np.log(u[:n])) * np.cos(2 * np.pi * u[n:])
    return np.where(drawn == 0.0, _TINY, drawn)


def rotation(dim: int, seed: int) -> Floats:
    """Orthonormalise a matrix of normal numbers, column by column (Gram-Schmidt)."""
    matrix = gauss(dim * dim, seed).reshape(dim, dim, order="F")
    for i in range(dim):
        for j in range(i):
            matrix[:, i] -= (matrix[:, i] @ matrix[:, j]) * matrix[:, j]
        matrix[:, i] /= np.sqrt(matrix[:, i] @ matrix[:, i])
    return np.ascontiguousarray(matrix)


def usual_optimum(dim: int, seed: int) -> Floats:
    """Draw an optimum from [-4, 4] on a grid of 0.0008."""
    x_opt = 8 * np.floor(1e4 * uniform(dim, seed)) / 1e4 - 4
    return np.where(x_opt == 0.0, -1e-5, x_opt)


@dataclass(frozen=True)
class Peaks:
    """The peaks of Gallagher's functions: m centres, scales (diagonals of C_i) and heights w_i."""

    centres: Floats
    scales: Floats
    heights: Floats


def gallagher_peaks(dim: int, seed: int, *, n_peaks: int, spread: float, condition: float) -> Peaks:
    """Draw the peaks of f21 and f22.

    Parameters
    ----------
    spread
        Centres lie in [-spread, spread], that of the optimum in 0.8 times that.
    condition
        alpha_1, the conditioning of the global peak; the others have 1000^(j / (m - 2)) in random order.
    """
    order = np.argsort(uniform(n_peaks - 1, seed), kind="stable")
    alpha = np.concatenate([[condition], 1000.0 ** (order / (n_peaks - 2))])
    permutations = [np.argsort(uniform(dim, seed + 1000 * i), kind="stable") for i in range(n_peaks)]
    scales = alpha[:, None] ** (np.array(permutations) / (dim - 1) - 0.5)
    centres = (2 * spread * uniform(dim * n_peaks, seed) - spread).reshape(n_peaks, dim)
    centres[0] *= 0.8
    heights = np.concatenate([[10.0], 1.1 + 8.0 * np.arange(n_peaks - 1) / (n_peaks - 2)])
    return Peaks(centres, scales, heights)


@dataclass(frozen=True)
class Instance:
    """One instance of one function in one dimension.

    Attributes
    ----------
    x_opt : (dim,) array
        Where the optimum is.
    f_opt : float
        The value there.
    r, q : (dim, dim) array
        The rotations R and Q of the definitions.
    """

    function: int
    dim: int
    number: int

    @property
    def seed(self) -> int:
        return _SEED_OF.get(self.function, self.function) + 10_000 * self.number

    @cached_property
    def f_opt(self) -> float:
        ratio = gauss(1, self.seed)[0] / gauss(1, self.seed + 1)[0]
        return float(np.clip(np.floor(100 * 100 * ratio + 0.5) / 100, -1000, 1000))

    @cached_property
    def r(self) -> Floats:
        return rotation(self.dim, self.seed + (0 if self.function in _R_FROM_OWN_SEED else _SECOND_ROTATION))

    @cached_property
    def q(self) -> Floats:
        return rotation(self.dim, self.seed + (_SECOND_ROTATION if self.function in _R_FROM_OWN_SEED else 0))

    @cached_property
    def signs(self) -> Floats:
        """The random signs of f20 and f24 (1 with plus and minus in the definitions)."""
        draws = gauss(self.dim, self.seed) if self.function == 24 else uniform(self.dim, self.seed) - 0.5
        return np.where(draws < 0, -1.0, 1.0)

    @cached_property
    def peaks(self) -> Peaks:
        if self.function == 21:
            return gallagher_peaks(self.dim, self.seed, n_peaks=101, spread=5.0, condition=1000**0.5)
        return gallagher_peaks(self.dim, self.seed, n_peaks=21, spread=4.9, condition=1000.0)

    @cached_property
    def x_opt(self) -> Floats:
        match self.function:
            case 5:
                return np.where(usual_optimum(self.dim, self.seed) < 0, -5.0, 5.0)
            case 9 | 19:
                # f9 and f19 place their optimum at z = 1, through z = max(1, sqrt(D) / 8) R x + 1/2
                return np.asarray(self.r.T @ np.full(self.dim, 0.5 / self.rosenbrock_scale))
            case 20:
                return self.signs * (_SCHWEFEL_OPTIMUM / 2)
            case 21 | 22:
                return np.array(self.peaks.centres[0])
            case 24:
                return self.signs * (_LUNACEK_OPTIMUM / 2)
        x_opt = usual_optimum(self.dim, self.seed + (_SECOND_ROTATION if self.function == 12 else 0))
        if self.function == 4:
            x_opt[::2] = np.abs(x_opt[::2])
        return 0.75 * x_opt if self.function == 8 else x_opt

    @property
    def rosenbrock_scale(self) -> float:
        return max(1.0, math.sqrt(self.dim) / 8)
