"""Pareto dominance, crowding and hypervolume; every objective is minimised.

References
----------
.. [1] K. Deb, A. Pratap, S. Agarwal, T. Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
   Transactions on Evolutionary Computation 6(2), 2002.
.. [2] K. Li, K. Deb, Q. Zhang, Q. Zhang, "Efficient nondomination level update method for steady-state evolutionary
   multiobjective optimization", IEEE Transactions on Cybernetics 47(9), 2017.
.. [3] C. Igel, N. Hansen, S. Roth, "Covariance matrix adaptation for multi-objective optimization", Evolutionary
   Computation 15(1), 2007.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2l_dask.space import Floats

Ints: TypeAlias = NDArray[np.int64]
Density: TypeAlias = Callable[[Floats], Floats]


def non_dominated_ranks(costs: Floats) -> Ints:
    """Sort by non-domination ([1]_, section III-A): 0 for what nothing dominates, 1 for what only these do, ...

    Parameters
    ----------
    costs : (n, n_objectives) array
    """
    no_worse = np.ones((len(costs), len(costs)), dtype=bool)
    for column in costs.T:
        no_worse &= column[:, None] <= column
    dominates = no_worse & ~no_worse.T
    ranks = np.zeros(len(costs), dtype=np.int64)
    counts = dominates.sum(axis=0)
    left = np.ones(len(costs), dtype=bool)
    rank = 0
    while left.any():
        front = left & (counts == 0)
        ranks[front] = rank
        counts -= dominates[front].sum(axis=0)
        left &= ~front
        rank += 1
    return ranks


def crowding(costs: Floats) -> Floats:
    """Return the crowding distance ([1]_, section III-B) of each of one front; infinite at both ends of any objective.

    Parameters
    ----------
    costs : (n, n_objectives) array
    """
    n = len(costs)
    distance = np.zeros(n)
    for column in costs.T:
        order = column.argsort(kind="stable")
        values = column[order]
        width = values[-1] - values[0]
        if n > 2 and width > 0:
            distance[order[1:-1]] += (values[2:] - values[:-2]) / width
        distance[order[0]] = distance[order[-1]] = math.inf
    return distance


def contributions(costs: Floats) -> Floats:
    """Return what each of one front adds to its hypervolume ([3]_); infinite at the ends.

    Parameters
    ----------
    costs : (n, 2) array
        None of them dominates another.
    """
    order = np.lexsort((costs[:, 1], costs[:, 0]))
    first, second = costs[order].T
    alone = np.full(len(costs), math.inf)
    alone[order[1:-1]] = (first[2:] - first[1:-1]) * (second[:-2] - second[1:-1])
    return alone


def hypervolume(costs: Floats, reference: Floats) -> float:
    """Return the area that two objectives dominate, up to a reference point.

    Parameters
    ----------
    costs : (n, 2) array
        In any order, dominated ones included.
    reference : (2,) array
    """
    costs = costs[(costs < reference).all(axis=1)]
    first, second = costs[np.lexsort((costs[:, 1], costs[:, 0]))].T
    lowest = np.minimum.accumulate(np.concatenate(([reference[1]], second)))
    return float(((reference[0] - first) * -np.diff(lowest)).sum())


class Ranking:
    """A population sorted by non-domination, in which members come and go one at a time.

    An arrival changes only the ranks below its own ([2]_), and a departure from the last front none: an update costs a
    few vector operations instead of a whole sort.

    Parameters
    ----------
    size
        Members that it is meant for; it holds one more, until :meth:`evict`.
    density
        The second criterion, of the costs (n, n_objectives) of one front: the larger, the better.

    Attributes
    ----------
    costs : (size + 1, n_objectives) array
        By slot; NaN where nobody is.
    ranks : (size + 1,) array
        -1 where nobody is.
    """

    def __init__(self, size: int, n_objectives: int, density: Density) -> None:
        self.size = size
        self._density = density
        self.costs = np.full((size + 1, n_objectives), np.nan)
        self.ranks = np.full(size + 1, -1, dtype=np.int64)
        self._columns = [self.costs[:, i] for i in range(n_objectives)]
        self._densities = np.zeros(size + 1)
        self._ages = np.zeros(size + 1, dtype=np.int64)
        self._arrivals = 0
        self._free = list(range(size, -1, -1))
        self._fresh: set[int] = set()  # fronts whose densities are known

    def __len__(self) -> int:
        return self.size + 1 - len(self._free)

    @property
    def full(self) -> bool:
        return len(self._free) <= 1

    @property
    def slots(self) -> Ints:
        """The slots that are taken, ascending."""
        return np.flatnonzero(self.ranks >= 0)

    def front(self, rank: int = 0) -> Ints:
        """Return the slots of a front."""
        members: Ints = (self.ranks == rank).nonzero()[0]
        return members

    def add(self, cost: Floats) -> int:
        """Enter a member; return its slot."""
        slot = self._free.pop()
        no_worse, no_better = self._compare(cost)
        equal = no_worse & no_better
        rank = 1 + int(self.ranks.max(where=no_worse & ~equal, initial=-1))
        self.costs[slot] = cost
        self._arrivals += 1
        self._ages[slot] = self._arrivals
        beaten = no_better & ~equal
        self.ranks[slot] = rank
        if len(cost) == 1:
            if not equal.any():
                self.ranks[beaten] += 1
            self._fresh = set()
            return slot
        self._fresh.discard(rank)
        pushed = (beaten & (self.ranks == rank)).nonzero()[0]
        while len(pushed):
            rank += 1
            below = self.front(rank)
            self.ranks[pushed] = rank
            self._fresh.discard(rank)
            pushed = below[self._beaten(pushed, below)] if len(below) else below
        return slot

    def _compare(self, cost: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell who is no worse than ``cost`` in any objective, and who is no better in any."""
        no_worse, no_better = np.ones(self.size + 1, dtype=bool), np.ones(self.size + 1, dtype=bool)
        for column, value in zip(self._columns, cost.tolist(), strict=True):
            no_worse &= column <= value
            no_better &= column >= value
        return no_worse, no_better

    def _beaten(self, above: Ints, below: Ints) -> NDArray[np.bool_]:
        """Tell which of ``below`` are dominated by some of ``above``; the two are of one front, so none are equal."""
        no_worse = np.ones((len(above), len(below)), dtype=bool)
        for column in self._columns:
            no_worse &= np.less_equal(column[above, None], column[below])
        beaten: NDArray[np.bool_] = np.asarray(no_worse.any(axis=0))
        return beaten

    def density(self, slot: int) -> float:
        """Return the second criterion of a member within its front."""
        rank = int(self.ranks[slot])
        if rank not in self._fresh:
            members = self.front(rank)
            self._densities[members] = self._density(self.costs[members])
            self._fresh.add(rank)
        return float(self._densities[slot])

    def precedes(self, a: int, b: int) -> bool:
        """Compare two slots ([1]_, section III-B): by rank, and within a front by density."""
        better = int(self.ranks[a]) - int(self.ranks[b])
        return better < 0 or (better == 0 and self.density(a) > self.density(b))

    def evict(self) -> int:
        """Let the worst go, among equals the oldest; return its slot."""
        rank = int(self.ranks.max())
        members = self.front(rank)
        slot = int(members[0])
        if len(members) > 1:
            self.density(slot)
            densities = self._densities[members]
            worst = members[densities == densities.min()]
            slot = int(worst[self._ages[worst].argmin()])
        self._fresh.discard(rank)
        self.costs[slot], self.ranks[slot] = np.nan, -1
        self._free.append(slot)
        return slot

    def fill(self, costs: Floats) -> None:
        """Replace all members: the first gets slot 0."""
        n = len(costs)
        self.costs[:n], self.costs[n:] = costs, np.nan
        self.ranks[:n], self.ranks[n:] = non_dominated_ranks(costs), -1
        self._ages[:n] = self._arrivals + 1 + np.arange(n)
        self._arrivals += n
        self._free = list(range(self.size, n - 1, -1))
        self._fresh = set()


def best(costs: Floats, n: int, density: Density, *, repeatedly: bool = False) -> Ints:
    """Select ``n`` by rank, and in the front that does not fit by density ([1]_, section III-C).

    Parameters
    ----------
    repeatedly
        Whether the density is computed anew whenever one has gone, as hypervolume contributions are ([3]_).

    Returns
    -------
    (n,) array
        Indices, ascending in rank.
    """
    ranks = non_dominated_ranks(costs)
    order = np.argsort(ranks, kind="stable")
    if n >= len(costs):
        return order
    last = ranks[order[n]]
    sure, split = order[ranks[order] < last], order[ranks[order] == last]
    room = n - len(sure)
    if repeatedly:
        while len(split) > room:
            split = np.delete(split, density(costs[split]).argmin())
        return np.concatenate((sure, split))
    return np.concatenate((sure, split[np.argsort(-density(costs[split]), kind="stable")[:room]]))
