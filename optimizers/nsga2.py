"""NSGA-II, the elitist non-dominated sorting genetic algorithm, steady-state or by generations."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._operators import Operators
from optimizers._options import check_count, check_number
from optimizers._pareto import Ranking, best, crowding

_NOBODY = -1
_ALIKE = 1e-14  # elements that differ by less are not crossed

Child: TypeAlias = tuple[Floats, tuple[int, int]]


class NSGA2(Optimizer):
    r"""NSGA-II: finds the whole front of the best compromises between two or three objectives.

    Members are ranked by fast non-dominated sorting and, within a front, by crowding distance ([1]_, sections III-A and
    III-B). Parents win binary tournaments by the crowded comparison :math:`\prec_n` (section III-B). Numbers are
    crossed by simulated binary crossover (SBX, [2]_, in the bounded form of [3]_) and changed by polynomial mutation
    ([3]_), integers rounded; categoricals are exchanged and replaced.

    Asynchronous, it is the steady-state NSGA-II [4]_: each result enters the population as it comes and the worst by
    :math:`\prec_n` leaves, so nobody waits and good parents are used at once. ``synchronous=True`` gives the textbook's
    generations (section III-C): ``pop_size`` children are bred, all of them awaited, and the best half of parents and
    children go on.

    Failed individuals never enter the population. With one objective it is an elitist genetic algorithm. With more than
    three almost nobody dominates anybody, and the crowding distance alone is a weak guide.

    Parameters
    ----------
    pop_size
        Members of the population, so also about the number of compromises found. The first ``pop_size`` individuals are
        random.
    cx_prob
        Probability that a child has two parents.
    ind_prob
        Probability with which each element of a child is mutated; ``None`` for 1 / dim.
    eta_cx
        Distribution index of the crossover; larger keeps children closer to their parents.
    eta_mut
        Distribution index of the mutation; larger makes smaller steps, of about 1 / ``eta_mut`` of a range.
    synchronous
        Whether to breed generations and wait for all of each.

    References
    ----------
    .. [1] K. Deb, A. Pratap, S. Agarwal, T. Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II",
       IEEE Transactions on Evolutionary Computation 6(2), 2002.
    .. [2] K. Deb, R. B. Agrawal, "Simulated binary crossover for continuous search space", Complex Systems 9, 1995.
    .. [3] K. Deb, "An efficient constraint handling method for genetic algorithms", Computer Methods in Applied
       Mechanics and Engineering 186, 2000.
    .. [4] A. J. Nebro, J. J. Durillo, "On the effect of applying a steady-state selection scheme in the multi-objective
       genetic algorithm NSGA-II", Nature-Inspired Algorithms for Optimisation, 2009.
    """

    source: ClassVar[str] = (
        "Deb, Pratap, Agarwal and Meyarivan, IEEE Transactions on Evolutionary Computation 6, 2002; "
        "Nebro and Durillo, Nature-Inspired Algorithms for Optimisation, 2009"
    )
    max_objectives: int | None = None

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int = 100,
        cx_prob: float = 0.9,
        ind_prob: float | None = None,
        eta_cx: float = 15.0,
        eta_mut: float = 20.0,
        synchronous: bool = False,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.pop_size = check_count("pop_size", pop_size, 4)
        self.cx_prob = check_number("cx_prob", cx_prob, 0, 1)
        self.ind_prob = 1 / space.dim if ind_prob is None else check_number("ind_prob", ind_prob, 0, 1)
        self.eta_cx = check_number("eta_cx", eta_cx, 0, 1000)
        self.eta_mut = check_number("eta_mut", eta_mut, 0, 1000)
        self.asynchronous = not synchronous
        self._operators = Operators(space)
        self._free = ~space.bounded if not space.bounded.all() else None
        categorical = np.array([kind == "categorical" for kind in space.kinds])
        self._categorical = categorical if categorical.any() else None
        self._repeats = bool((space.n_values > 0).any())  # a child that was bred may yet equal its parent
        self._ranking = Ranking(pop_size, len(self.objectives), crowding)
        self._x = np.empty((pop_size + 1, space.dim))
        self._ids = np.full(pop_size + 1, _NOBODY, dtype=np.int64)
        # With a barrier: places of the generation not yet taken, children not yet asked (in reverse), and results.
        self.generation = 0
        self._places = pop_size
        self._brood: list[Child] = []
        self._gathered: list[tuple[int, Floats, Floats]] = []

    @property
    def front(self) -> tuple[Ids, Floats, Floats]:
        """Ids (n,), vectors (n, dim) and costs (n, n_objectives) of the members that no other dominates."""
        slots = self._ranking.front()
        return self._ids[slots], self._x[slots], self._ranking.costs[slots]

    def _ask(self, n: int) -> Candidates:
        made: list[Child] = []
        if self.asynchronous:
            for id in range(self.n_asked, self.n_asked + n):
                grown = id >= self.pop_size and len(self._ranking) >= max(2, self.pop_size // 5)
                made += self._children(1) if grown else [self._founder()]
            generation = np.arange(self.n_asked, self.n_asked + n) // self.pop_size
        else:
            n = min(n, self._places)
            if n and not self._brood:
                self._brood = self._bred(self._places)[::-1]
            made = [self._brood.pop() for _ in range(n)]
            self._places -= n
            generation = np.full(n, self.generation)
        x = np.array([row for row, _ in made]).reshape(n, self.space.dim)
        parents = np.array([pair for _, pair in made], dtype=np.int64).reshape(n, 2)
        return Candidates(x, {"generation": generation.astype(np.int64), "parents": parents})

    def _founder(self) -> Child:
        return self._operators.repair(self.space.sample(self.rng, 1)[0]), (_NOBODY, _NOBODY)

    def _bred(self, n: int) -> list[Child]:
        if len(self._ranking) < 2:
            return [self._founder() for _ in range(n)]
        return [child for _ in range(0, n, 2) for child in self._children(2)][:n]

    def _children(self, n: int) -> list[Child]:
        """Breed one child, or the two of a pair of parents."""
        rng, dim = self.rng, self.space.dim
        slots = self._ranking.slots
        draws = rng.random(6)
        a, b = self._winner(slots, draws[0], draws[1]), self._winner(slots, draws[2], draws[3])
        if a == b:
            b = int(slots[int(draws[4] * len(slots))])
        pair = int(self._ids[a]), int(self._ids[b])
        if draws[5] >= self.cx_prob:
            made = [(self._x[a], (pair[0], _NOBODY)), (self._x[b], (pair[1], _NOBODY))]
        else:
            u = rng.random((3, dim))
            low = u[1] < 0.5
            first = self._crossed(self._x[a], self._x[b], u, low)
            made = [(first, pair)]
            if n == 2:
                made.append((self._crossed(self._x[b], self._x[a], u, ~low), pair))
        return [(self._mutant(x, self._x[a], self._x[b]), parents) for x, parents in made[:n]]

    def _winner(self, slots: NDArray[np.int64], u: float, v: float) -> int:
        i, j = int(slots[int(u * len(slots))]), int(slots[int(v * len(slots))])
        return i if self._ranking.precedes(i, j) else j

    def _crossed(self, a: Floats, b: Floats, u: Floats, low: NDArray[np.bool_]) -> Floats:
        """Return one of the two children of SBX: per element that is crossed, the lower one or the upper.

        Each element is crossed with probability 0.5; of one that is not, and of a categorical, the child takes a
        parent's.
        """
        least, width = np.minimum(a, b), np.abs(a - b)
        crossed = (u[0] < 0.5) & (width > _ALIKE)
        width_or_1 = np.where(crossed, width, 1.0)
        # [3]: the spread factor at which the child would leave its bound, and twice the probability to stay within.
        spread = 1.0 + 2.0 * np.where(low, least, 1.0 - least - width) / width_or_1
        power = 1.0 / (self.eta_cx + 1.0)
        alpha = 2.0 - np.maximum(spread, 1.0) ** -(self.eta_cx + 1.0)
        if self._free is not None:
            alpha[self._free] = 2.0
        # [2]: beta = (u alpha)^(1/(eta+1)) below u alpha = 1, else (1 / (2 - u alpha))^(1/(eta+1)).
        v = u[2] * alpha
        beta = np.where(v <= 1.0, v, 1.0 / (2.0 - np.minimum(v, 2.0 - 1e-12))) ** power
        child = least + 0.5 * width * (1.0 + np.where(low, -beta, beta))
        child = np.where(crossed, child, a)
        if self._categorical is not None:
            child = np.where(self._categorical, np.where(low, a, b), child)
        return child

    def _mutant(self, x: Floats, a: Floats, b: Floats) -> Floats:
        where = (self.rng.random(len(x)) < self.ind_prob).nonzero()[0]
        if len(where):
            x = self._operators.mutate(self.rng, x, where, self._steps(x, where))
        x = self._operators.repair(x)
        if (self._repeats or not len(where)) and ((x == a).all() or (x == b).all()):  # it was evaluated already
            where = np.array([int(self.rng.random() * len(x))])
            x = self._operators.repair(self._operators.mutate(self.rng, x, where, self._steps(x, where)))
        return x

    def _steps(self, x: Floats, where: NDArray[np.intp]) -> Floats:
        """Draw steps of polynomial mutation ([3]_), which stay within the bounds."""
        u = self.rng.random(len(where))
        down = u < 0.5
        room = np.where(down, x[where], 1.0 - x[where])
        missing = np.minimum(np.maximum(1.0 - room, 0.0), 1.0)
        if self._free is not None:
            missing[self._free[where]] = 0.0
        w = np.where(down, 2.0 * u, 2.0 * (1.0 - u))
        length = 1.0 - (w + (1.0 - w) * missing ** (self.eta_mut + 1.0)) ** (1.0 / (self.eta_mut + 1.0))
        return np.where(down, -length, length)

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        # The random generator has started anew: what is left of the generation is bred again.
        self._brood = []
        self._places = max(0, self._places - len(ids))

    def _tell(self, evaluations: Evaluations) -> None:
        told = np.isfinite(evaluations.cost).all(axis=1)
        for i in np.flatnonzero(told).tolist():
            id, x, cost = int(evaluations.ids[i]), evaluations.x[i], evaluations.cost[i]
            if not self.asynchronous:
                self._gathered.append((id, x, cost))
                continue
            slot = self._ranking.add(cost)
            self._x[slot], self._ids[slot] = x, id
            if len(self._ranking) > self.pop_size:
                self._ranking.evict()
        if not (self.asynchronous or self._places or self._untold):
            self._turn()

    def _turn(self) -> None:
        """Select the next parents out of these and their children ([1]_, section III-C), and open a generation."""
        if self._gathered:
            slots = self._ranking.slots
            ids, x, costs = (np.array(column) for column in zip(*self._gathered, strict=True))
            ids = np.concatenate((self._ids[slots], ids))
            x, costs = np.concatenate((self._x[slots], x)), np.concatenate((self._ranking.costs[slots], costs))
            chosen = best(costs, self.pop_size, crowding)
            self._ids[: len(chosen)], self._x[: len(chosen)] = ids[chosen], x[chosen]
            self._ranking.fill(costs[chosen])
        self._gathered, self._brood = [], []
        self._places = self.pop_size
        self.generation += 1
