"""An asynchronous, steady-state genetic algorithm."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import OrderedDict
from typing import ClassVar

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._operators import Operators, tournament
from optimizers._options import check_count, check_number

_NOBODY = -1
_FINEST_STEP = 8.0  # mutation steps go down to mut_par / 2**8
_TRIES = 10  # attempts at a vector that was not asked before, by breeding and then by sampling
_REMEMBERED = 20_000  # vectors that are not asked again, which bounds the memory


class SteadyStateGA(Optimizer):
    r"""An asynchronous (mu + 1) genetic algorithm: each result enters the population as it arrives.

    There are no generations to wait for: whenever a worker is free a child is bred from those evaluated so far, and
    each result that is no worse than the worst of the population replaces it [1]_ [2]_. A child is bred by

    1. tournament selection of one or two parents,
    2. blend crossover, BLX-alpha, which explores outside the parents' box as well as inside [3]_,
    3. a difference vector :math:`F |z| (x_i - x_j)` of two random members, :math:`z \sim N(0, 1)`: after differential
       evolution ([4]_, eq. 2) its steps follow the population's spread and orientation, which a crossover that treats
       every parameter by itself cannot do on functions that are not separable. :math:`x_i` is the better of the two, as
       in heuristic crossover [5]_: from the worse to the better, and beyond, is more often downhill than the other way.
       A random part of the elements takes part (the CR of [4]_, eq. 4),
    4. mutation by steps :math:`\pm r\,2^{-8u}, u \sim U(0, 1)`, the continuous form of the breeder genetic algorithm's
       ([6]_): all sizes of steps at any time, so it neither stops nor has to be tuned.

    What leaves the bounds is moved to the bound, as in the original L2L, so that an optimum there is found exactly.
    Categoricals are exchanged and replaced, integers rounded. Where no active parameter is real, vectors that were
    asked lately are not asked again. Failed evaluations never enter the population.

    The original's ``pop_size``, ``cx_prob``, ``mut_prob``, ``ind_prob`` and ``tourn_size`` (50, 0.5, 0.3, 0.02, 15)
    belong to full replacement. Here selection is strong and the population small, since evaluations are few: the
    defaults were chosen on all 24 BBOB functions with 100 evaluations for each dimension. Where they are many, or the
    fitness is noisy, take a larger ``pop_size``.

    Parameters
    ----------
    pop_size
        Size of the population (mu); ``None`` for 10 + 8 ln dim, which is 28 in 10 dimensions. The first ``pop_size``
        individuals are random. Larger is slower and more robust.
    cx_prob
        Probability that a child has two parents.
    diff_prob
        Probability that a difference vector is added to a child.
    mut_prob
        Probability that a child is mutated; a copy of one parent always is.
    ind_prob
        Probability with which each element of a mutated child is changed (at least one is); ``None`` for 1 / dim.
    tourn_size
        Entrants of a tournament; 1 selects at random.
    mate_par
        Alpha of the blend crossover; 0 stays within the parents' box.
    diff_par
        Scale F of the difference vector; smaller converges sooner, and sooner to the wrong place.
    diff_ind_prob
        Probability with which each element takes part in the difference vector; 1 is the same in rotated coordinates.
    mut_par
        Largest mutation step r, in encoded units: 1 is a bounded parameter's range, or an unbounded one's ``scale``.

    References
    ----------
    .. [1] D. Whitley, "The GENITOR algorithm and selection pressure", ICGA 1989.
    .. [2] E. O. Scott, K. A. De Jong, "Understanding simple asynchronous evolutionary algorithms", FOGA XIII, 2015.
    .. [3] L. J. Eshelman, J. D. Schaffer, "Real-coded genetic algorithms and interval-schemata", Foundations of Genetic
       Algorithms 2, 1993.
    .. [4] R. Storn, K. Price, "Differential evolution", Journal of Global Optimization 11, 1997.
    .. [5] A. H. Wright, "Genetic algorithms for real parameter optimization", Foundations of Genetic Algorithms 1,
       1991.
    .. [6] H. Mühlenbein, D. Schlierkamp-Voosen, "Predictive models for the breeder genetic algorithm I", Evolutionary
       Computation 1(1), 1993.
    """

    source: ClassVar[str] = (
        "Scott and De Jong, FOGA XIII, 2015; Whitley, ICGA 1989; Eshelman and Schaffer, FOGA 2, 1993"
    )

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int | None = None,
        cx_prob: float = 0.8,
        diff_prob: float = 1.0,
        mut_prob: float = 0.2,
        ind_prob: float | None = None,
        tourn_size: int = 12,
        mate_par: float = 0.35,
        diff_par: float = 1.0,
        diff_ind_prob: float = 0.8,
        mut_par: float = 0.5,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.pop_size = _size(space.dim) if pop_size is None else check_count("pop_size", pop_size, 4)
        self.tourn_size = check_count("tourn_size", tourn_size, 1)
        self.cx_prob = check_number("cx_prob", cx_prob, 0, 1)
        self.diff_prob = check_number("diff_prob", diff_prob, 0, 1)
        self.mut_prob = check_number("mut_prob", mut_prob, 0, 1)
        self.ind_prob = 1 / space.dim if ind_prob is None else check_number("ind_prob", ind_prob, 0, 1)
        self.mate_par = check_number("mate_par", mate_par, 0, 10)
        self.diff_par = check_number("diff_par", diff_par, 0, 10)
        self.diff_ind_prob = check_number("diff_ind_prob", diff_ind_prob, 0, 1)
        self.mut_par = check_number("mut_par", mut_par, 0, 1)
        self._operators = Operators(space)
        self._numeric = bool(self._operators.numeric.any())
        # Slot -> member; and, best first, their costs and slots.
        self._x = np.empty((self.pop_size, space.dim))
        self._ids = np.full(self.pop_size, _NOBODY, dtype=np.int64)
        self._costs: list[float] = []
        self._slots: list[int] = []
        discrete = space.n_values > 0
        self._repeats = bool(discrete.all() or (discrete.any() and space.conditional))
        self._asked: OrderedDict[bytes, None] = OrderedDict()
        self._tries = _TRIES

    @property
    def population(self) -> tuple[Ids, Floats, Floats]:
        """Ids (n,), vectors (n, dim) and costs (n,) of the members, best first."""
        return self._ids[self._slots], self._x[self._slots], np.array(self._costs)

    def _ask(self, n: int) -> Candidates:
        rows, parents, generation = [], [], []
        for id in range(self.n_asked, self.n_asked + n):
            x, pair = self._new(founder=id < self.pop_size)
            rows.append(x)
            parents.append(pair)
            generation.append(id // self.pop_size)
        info = {"generation": np.array(generation, dtype=np.int64), "parents": np.array(parents, dtype=np.int64)}
        return Candidates(np.array(rows), info)

    def _new(self, *, founder: bool) -> tuple[Floats, tuple[int, int]]:
        """Make one candidate, which differs from those asked lately if that can be had cheaply."""
        founder = founder or len(self._costs) < max(2, self.pop_size // 5)
        if not self._repeats:
            return self._founder() if founder else self._child()
        for attempt in range(0 if founder else self._tries):
            x, pair = self._child(mutated=attempt > 0)
            if self._remember(x):
                self._tries = _TRIES
                return x, pair
        for _ in range(self._tries):
            x, pair = self._founder()
            if self._remember(x):
                self._tries = _TRIES
                return x, pair
        self._tries = 1  # a space with nothing left to try must not cost more and more
        return x, pair

    def _founder(self) -> tuple[Floats, tuple[int, int]]:
        return self._operators.repair(self.space.sample(self.rng, 1)[0]), (_NOBODY, _NOBODY)

    def _child(self, *, mutated: bool = False) -> tuple[Floats, tuple[int, int]]:
        rng, n = self.rng, len(self._costs)
        rank = tournament(rng, n, self.tourn_size)
        slot = self._slots[rank]
        x, mother, father = self._x[slot], int(self._ids[slot]), _NOBODY
        copy = True
        if rng.random() < self.cx_prob:
            other = tournament(rng, n, self.tourn_size)
            slot = self._slots[other if other != rank else (other + 1) % n]
            father = int(self._ids[slot])
            x = x + self._operators.blend_step(rng, x, self._x[slot], self.mate_par)
            copy = False
        if self._numeric and rng.random() < self.diff_prob:
            x = x + self._difference()
            copy = False
        x = self._operators.clip(x)
        if mutated or copy or rng.random() < self.mut_prob:
            x = self._operators.clip(self._mutant(x))
        return x, (mother, father)

    def _difference(self) -> Floats:
        """Return a step from one member towards a better one, in some of the dimensions."""
        rng, n = self.rng, len(self._costs)
        i = int(rng.random() * n)
        j = int(rng.random() * (n - 1))
        j += j >= i
        better, worse = self._slots[min(i, j)], self._slots[max(i, j)]
        factor = self.diff_par * abs(rng.standard_normal())
        step = self._operators.scaled(factor, self._x[better] - self._x[worse])
        if self.diff_ind_prob < 1.0:
            draws = rng.random(len(step) + 1)
            takes = draws[:-1] < self.diff_ind_prob
            takes[int(draws[-1] * len(step))] = True
            step *= takes
        return step

    def _mutant(self, x: Floats) -> Floats:
        where = (self.rng.random(len(x)) < self.ind_prob).nonzero()[0]
        if not len(where):
            where = np.array([int(self.rng.random() * len(x))])
        sign = np.where(self.rng.random(len(where)) < 0.5, -1.0, 1.0)
        steps = sign * self.mut_par * 2.0 ** (-_FINEST_STEP * self.rng.random(len(where)))
        return self._operators.mutate(self.rng, x, where, steps)

    def _remember(self, x: Floats) -> bool:
        """Note that ``x`` is asked; whether it is new among those remembered."""
        key = (np.where(self.space.active(x), x, -1.0) if self.space.conditional else x).tobytes()
        if key in self._asked:
            return False
        self._asked[key] = None
        if len(self._asked) > _REMEMBERED:
            self._asked.popitem(last=False)
        return True

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        if self._repeats:
            for row in self._operators.repair(x):
                self._remember(row)

    def _tell(self, evaluations: Evaluations) -> None:
        for i, cost in enumerate(evaluations.cost[:, 0].tolist()):
            if cost - cost == 0.0:  # finite: NaN and inf both give NaN
                self._enter_population(evaluations.ids[i], evaluations.x[i], cost)

    def _enter_population(self, id: int, x: Floats, cost: float) -> None:
        if len(self._costs) < self.pop_size:
            slot = len(self._costs)
        elif cost <= self._costs[-1]:
            self._costs.pop()
            slot = self._slots.pop()
        else:
            return
        # Before its equals: the oldest of the worst goes first, so that a plateau is crossed.
        place = bisect_left(self._costs, cost)
        self._costs.insert(place, cost)
        self._slots.insert(place, slot)
        self._x[slot], self._ids[slot] = x, id


def _size(dim: int) -> int:
    """Choose the size of the population."""
    return round(10 + 8 * math.log(dim))
