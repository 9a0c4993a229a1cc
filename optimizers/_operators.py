"""Operators of genetic algorithms on encoded vectors, for every kind of dimension.

References
----------
.. [1] T. Blickle, L. Thiele, "A comparison of selection schemes used in evolutionary algorithms", Evolutionary
   Computation 4(4), 1996.
.. [2] L. J. Eshelman, J. D. Schaffer, "Real-coded genetic algorithms and interval-schemata", Foundations of Genetic
   Algorithms 2, 1993.
.. [3] G. Syswerda, "Uniform crossover in genetic algorithms", ICGA 1989.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from l2l_dask.parameters import Integer, column
from l2l_dask.space import Floats, Parameter, Space


def tournament(rng: np.random.Generator, n: int, size: int) -> int:
    """Draw the rank (0 is the best of ``n``) of the winner of a tournament of ``size`` entrants.

    Entrants are drawn with replacement. All of them are worse than rank r with probability (1 - (r + 1)/n)^size
    ([1]_, section 3.1), so one uniform number inverts the distribution of the best of them.
    """
    rank = int(n * (1.0 - (1.0 - rng.random()) ** (1.0 / size)))
    return min(rank, n - 1)


_FAR = 1e9  # in units of an unbounded parameter's scale: on a plateau it must not drift to infinity


def reflected(x: Floats, bounded: NDArray[np.bool_]) -> Floats:
    """Reflect vectors (..., dim) at the bounds 0 and 1, however far beyond; keep unbounded elements finite."""
    folded = np.abs(x)
    inside = np.minimum(folded, 2.0 - folded)
    if inside.min(initial=0.0) < 0.0:  # an unbounded one, or a whole range beyond a bound
        folded = np.mod(folded, 2.0)
        inside = np.minimum(folded, 2.0 - folded)
    return inside if bounded.all() else np.where(bounded, inside, np.clip(x, -_FAR, _FAR))


class Operators:
    """Crossover, mutation and repair for the dimensions of one space."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._bounded = space.bounded
        self._low, self._high = np.where(space.bounded, 0.0, -_FAR), np.where(space.bounded, 1.0, _FAR)
        self._categorical = np.array([kind == "categorical" for kind in space.kinds])
        self._any_categorical = bool(self._categorical.any())
        self._any_discrete = bool((space.n_values > 0).any())
        self.numeric = (~self._categorical).astype(float)
        self._least_step = np.repeat([widest_bin(p) for p in space.values()], [p.size for p in space.values()])

    def blend(self, rng: np.random.Generator, a: Floats, b: Floats, alpha: float) -> tuple[Floats, Floats]:
        """Cross two parents: BLX-alpha ([2]_, section 4) for numbers, uniform crossover [3]_ for categoricals.

        Each element of a child is uniform on the parents' interval, extended by ``alpha`` of its length at both ends;
        the second child mirrors the first.
        """
        step = self.blend_step(rng, a, b, alpha)
        return a + step, b - step

    def blend_step(self, rng: np.random.Generator, a: Floats, b: Floats, alpha: float) -> Floats:
        """Return what :meth:`blend` adds to the first parent, and takes from the second."""
        gamma = rng.random(len(a))
        gamma *= 1.0 + 2.0 * alpha
        gamma -= alpha
        if self._any_categorical:
            gamma[self._categorical] = gamma[self._categorical] > 0.5
        gamma *= b - a
        return gamma

    def scaled(self, factor: float, difference: Floats) -> Floats:
        """Return ``difference`` times ``factor``, 0 for categoricals."""
        if self._any_categorical:
            return factor * self.numeric * difference
        return difference * factor

    def mutate(self, rng: np.random.Generator, x: Floats, where: NDArray[np.intp], steps: Floats) -> Floats:
        """Move the elements ``where`` by ``steps``; a categorical takes any of its other choices.

        A step that would leave [0, 1] goes the other way; an integer moves by at least one value.
        """
        old = x[where]
        steps = np.copysign(np.maximum(np.abs(steps), self._least_step[where]), steps)
        new = old + steps
        turned = self._bounded[where] & ((new < 0.0) | (new > 1.0))
        if turned.any():
            new = np.where(turned, old - steps, new)
        if self._any_categorical:
            picked = self._categorical[where]
            n = self._space.n_values[where][picked]
            others = 1.0 + np.floor(rng.random(len(n)) * (n - 1))
            new[picked] = ((np.floor(old[picked] * n) + others) % n + 0.5) / n
        mutant = x.copy()
        mutant[where] = new
        return mutant

    def repair(self, x: Floats) -> Floats:
        """Reflect at the bounds, and move integers and categoricals to the centre of their bin."""
        inside = reflected(x, self._bounded)
        return self._space.snap(inside) if self._any_discrete else inside

    def clip(self, x: Floats) -> Floats:
        """Move to the bounds what is outside, and integers and categoricals to the centre of their bin."""
        inside = np.minimum(np.maximum(x, self._low), self._high)
        return self._space.snap(inside) if self._any_discrete else inside


def widest_bin(parameter: Parameter) -> float:
    """Return the encoded width of an integer's widest bin: the least step that changes it wherever it is."""
    if not isinstance(parameter, Integer):
        return 0.0
    _, width, log, n = column(parameter)
    return (math.log(parameter.low + 0.5) - math.log(parameter.low - 0.5)) / width if log else 1.0 / n
