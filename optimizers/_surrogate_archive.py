"""What a surrogate-assisted CMA-ES remembers: the last results, in the coordinates of its distribution."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from l2l_dask.space import Floats
from optimizers._cma import Strategy

_TINY = 1e-300
_JUDGED = 100  # last results by which it is judged whether failures follow from the place
_NEARLY_ALL = 0.75
_NEIGHBOURS = 500  # results among which the nearest is looked for


class Frame:
    """The coordinates in which the present distribution N(m, sigma^2 C) is the standard normal one."""

    def __init__(self, strategy: Strategy) -> None:
        self._mean, self._sigma = strategy.mean.copy(), strategy.sigma
        root = strategy.library._eigen_decomposition()
        self._rotation: Floats | None = None if strategy.separable else root[0]
        self._scale: Floats = root if strategy.separable else root[1]

    def white(self, x: Floats) -> Floats:
        """Return the coordinates of vectors (k, n) in this frame."""
        y = (x - self._mean) / self._sigma
        return np.asarray((y if self._rotation is None else y.dot(self._rotation)) / self._scale)

    def coloured(self, z: Floats) -> Floats:
        """Return the vectors (k, n) with these coordinates."""
        y = z * self._scale
        return np.asarray(self._mean + self._sigma * (y if self._rotation is None else y.dot(self._rotation.T)))

    def gradient(self, z: Floats) -> Floats:
        """Return the gradient (n,) of a function by x, given that by the coordinates."""
        y = z / self._scale / self._sigma
        return y if self._rotation is None else self._rotation.dot(y)

    def hessian(self, z: Floats) -> Floats:
        """Return the second derivatives (n, n) of a function by x, given those by the coordinates."""
        y = z / np.outer(self._scale, self._scale) / self._sigma**2
        return y if self._rotation is None else self._rotation.dot(y).dot(self._rotation.T)


class Archive:
    """The last ``capacity`` results of a run, oldest first.

    Attributes
    ----------
    x : (count, n) array
        What was evaluated.
    raw : (count, n) array
        The same before integers were moved to the middle of their bin.
    cost : (count,) array
    added : int
        How many were added, whether they are still among the last or not.
    best : tuple of float and (n,) array
        Cost and raw vector of the best of the run, whether it is still among the last or not.
    """

    def __init__(self, dim: int, capacity: int) -> None:
        self._capacity = capacity
        self._start = self._end = 0
        self._x, self._raw, self._cost = np.empty((64, dim)), np.empty((64, dim)), np.empty(64)
        self.added = 0
        self.best = (math.inf, np.zeros(dim))

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def forgotten(self) -> int:
        """How many results came before the first that is kept."""
        return self.added - len(self)

    @property
    def x(self) -> Floats:
        return self._x[self._start : self._end]

    @property
    def raw(self) -> Floats:
        return self._raw[self._start : self._end]

    @property
    def cost(self) -> Floats:
        return self._cost[self._start : self._end]

    def add(self, x: Floats, raw: Floats, cost: float) -> None:
        if self._end == len(self._cost):
            self._make_room()
        self._x[self._end], self._raw[self._end], self._cost[self._end] = x, raw, cost
        self._end += 1
        self.added += 1
        self._start = max(self._start, self._end - self._capacity)
        if cost < self.best[0]:
            self.best = (cost, raw.copy())

    def _make_room(self) -> None:
        """Move what is kept to the front of arrays that are large enough: seldom, so that an addition is cheap."""
        kept = len(self)
        size = min(2 * self._capacity, 2 * len(self._cost))
        arrays = []
        for old, values in ((self._x, self.x), (self._raw, self.raw), (self._cost, self.cost)):
            new = np.empty((size, *old.shape[1:]))
            new[:kept] = values
            arrays.append(new)
        self._x, self._raw, self._cost = arrays
        self._start, self._end = 0, kept

    def nearest(self, frame: Frame, count: int) -> tuple[NDArray[np.intp], Floats]:
        """Return which ``count`` results (all, if there are fewer) are nearest to the mean, and where, best first.

        Returns
        -------
        which : (k,) array
            Rows of :attr:`x`.
        z : (k, n) array
        """
        z = frame.white(self.x)
        which = np.arange(len(z))
        if count < len(z):
            which = np.argpartition(np.square(z).sum(axis=1), count - 1)[:count]
            which.sort()  # equals in the order in which they came
        which = which[np.argsort(self.cost[which], kind="stable")]
        return which, z[which]


class Population:
    """The draws of one generation.

    Parameters
    ----------
    raw, x : (pop_size, dim) arrays
        As drawn, and as evaluated.
    has_optimum
        Whether the first is the model's optimum.
    """

    def __init__(self, raw: Floats, x: Floats, has_optimum: bool) -> None:
        self.raw, self.x, self.has_optimum = raw, x, has_optimum
        self.asked = np.zeros(len(raw), dtype=bool)
        self.cost = np.full(len(raw), np.nan)
        self.place: dict[int, int] = {}  # by id, of those in flight


def positions(of: NDArray[np.intp], where: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return at which position in ``where`` each of ``of`` stands, or -1."""
    order = np.argsort(where)
    found = np.minimum(np.searchsorted(where, of, sorter=order), len(where) - 1)
    place = order[found]
    return np.where(where[place] == of, place, -1)


class Failures:
    """Where evaluations fail: expected where the nearest result is a failure, if that has been a good guess."""

    def __init__(self) -> None:
        self._x: deque[Floats] = deque(maxlen=_NEIGHBOURS)
        self._last: deque[tuple[Floats, bool]] = deque(maxlen=_JUDGED)

    def note(self, x: Floats, *, failed: bool) -> None:
        self._last.append((x, failed))
        if failed:
            self._x.append(x)

    def follow_places(self, frame: Frame) -> bool:
        """Tell whether a result's nearest neighbour shares its fate, more often than by chance (two standard errors).

        By chance that is p^2 + (1 - p)^2 of the results, if p of them are failures: failures may have nothing to do
        with the place. Where nearly all fail that cannot be told, and to go elsewhere is all that is left.
        """
        if not self._x:
            return False
        failed = np.array([failed for _, failed in self._last])
        z = frame.white(np.array([x for x, _ in self._last]))
        distances = cdist(z, z)
        np.fill_diagonal(distances, np.inf)
        p = failed.mean()
        shared = (failed[distances.argmin(axis=1)] == failed).mean()
        return bool(p > _NEARLY_ALL or shared > p**2 + (1 - p) ** 2 + len(failed) ** -0.5)

    def likely(self, frame: Frame, x: Floats, succeeded: Floats) -> Floats:
        """Return how much more likely vectors ``x`` (k, n) are to fail than to succeed: from 0 to 1, even at 1/2.

        That is by the distances, in the frame, to the nearest success and to the nearest failure.
        """
        z = frame.white(x)
        to_failure = cdist(z, frame.white(np.array(self._x))).min(axis=1)
        to_success = cdist(z, frame.white(succeeded[-_NEIGHBOURS:])).min(axis=1)
        return np.asarray((to_success + _TINY) / (to_success + to_failure + 2 * _TINY))
