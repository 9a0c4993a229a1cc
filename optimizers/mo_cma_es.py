"""MO-CMA-ES: many (1 + 1) evolution strategies with covariance matrix adaptation share one Pareto front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._operators import Operators
from optimizers._options import check_count, check_number
from optimizers._pareto import Ranking, best, contributions, crowding

_NOBODY = -1
_PENALTY = 1e-6  # alpha, the weight of the squared distance to the bounds
_WIDE = math.sqrt(12)  # standard deviation of an unbounded parameter's N(0, 1) over that of a bounded one's U(0, 1)
_THRESHOLD = 0.44  # p_thresh
_MEMORY = 2**28  # bytes of Cholesky factors that the default population may take
_SMALLEST, _LARGEST = 1e-12, 1e3  # step sizes
_WIDEST = 1 / _WIDE  # standard deviation of a step in a bounded dimension: that of the whole range


@dataclass
class _Member:
    """A search point with its own mutation distribution N(x, sigma^2 A A^T)."""

    id: int
    x: Floats  # as drawn: it may lie outside the bounds
    sigma: float
    success: float  # smoothed success rate
    path: Floats  # evolution path p_c
    white: Floats  # A^-1 p_c, which makes an update of A cost O(n^2) without its inverse
    factor: Floats | None = None  # A, the identity if None; never changed in place
    cost: Floats | None = None
    seen: Floats | None = None  # as evaluated
    # Of one in flight: whom it comes from, and how.
    parent: _Member | None = None
    z: Floats | None = None
    step: Floats | None = None  # A z


class MOCMAES(Optimizer):
    r"""MO-CMA-ES: learns the scales and dependencies of the parameters, which NSGA-II's crossover cannot follow.

    Each member of the population has its own step size and covariance matrix. A child is its parent plus a Gaussian
    step, :math:`x' = x + \sigma A z`, and inherits both [1]_. Members are ranked by non-domination; among those of the
    last front, with two objectives, the one with the smallest contribution to the hypervolume goes, the ends of the
    front never (s-MO-CMA-ES); with any other number of objectives the one with the smallest crowding distance, which is
    the c-MO-CMA-ES of the same paper and stays cheap.

    A child is a success if it enters the population, the improved rule of [2]_; the step sizes of child and parent
    follow the rate of successes, the child's covariance its step or, while successes abound, its past path ([1]_,
    procedures updateStepSize and updateCovariance). Cholesky factors are updated in :math:`O(n^2)` [3]_.

    Asynchronous, it is the steady-state :math:`(\mu_\prec + 1)` [4]_: a parent is drawn out of the first front whenever
    somebody is free, and each result enters as it comes. ``synchronous=True`` gives the textbook's
    :math:`(\mu \times 1)` [1]_: each member has one child, and when all are evaluated the best of parents and children
    go on.

    Outside of the bounds the nearest point inside is evaluated, and :math:`10^{-6}` times the squared distance added to
    all costs [1]_. As long as it is easy to enter the population step sizes grow: they stop where the standard
    deviation in a bounded dimension is 0.29, that of random points, beyond which most steps would end in a corner.
    Integers are reals that are rounded only to be evaluated; where steps have become shorter than one
    value, they stay. Failed children change nothing. It takes some hundred evaluations per member until the matrices
    pay; below, NSGA-II is ahead.

    Parameters
    ----------
    pop_size
        Members mu; ``None`` for 100, or fewer (at least 10) where their matrices would take more than 256 MB, which
        begins at 580 dimensions. The first ``pop_size`` individuals are random.
    sigma
        First step size, in encoded units: 1 is a bounded parameter's range; unbounded ones take it times 3.5.
    synchronous
        Whether to breed generations and wait for all of each.

    References
    ----------
    .. [1] C. Igel, N. Hansen, S. Roth, "Covariance matrix adaptation for multi-objective optimization", Evolutionary
       Computation 15(1), 2007.
    .. [2] T. Voß, N. Hansen, C. Igel, "Improved step size adaptation for the MO-CMA-ES", GECCO 2010.
    .. [3] T. Suttorp, N. Hansen, C. Igel, "Efficient covariance matrix update for variable metric evolution
       strategies", Machine Learning 75, 2009.
    .. [4] C. Igel, T. Suttorp, N. Hansen, "Steady-state selection and efficient covariance matrix update in the
       multi-objective CMA-ES", Evolutionary Multi-Criterion Optimization, 2007.
    """

    source: ClassVar[str] = (
        "Igel, Hansen and Roth, Evolutionary Computation 15, 2007; Voß, Hansen and Igel, GECCO 2010; "
        "Igel, Suttorp and Hansen, Evolutionary Multi-Criterion Optimization, 2007"
    )
    spaces: ClassVar[frozenset[str]] = frozenset({"real", "integer", "conditional", "unbounded"})
    max_objectives: int | None = None

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int | None = None,
        sigma: float = 0.2,
        synchronous: bool = False,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        fits = max(10, min(100, _MEMORY // (8 * space.dim**2)))
        self.pop_size = fits if pop_size is None else check_count("pop_size", pop_size, 1)
        self.sigma = check_number("sigma", sigma, 1e-6, 10)
        self.asynchronous = not synchronous
        n = space.dim
        # [1], table 1, with lambda = 1.
        self._damping, self._target, self._c_cov = 1.0 + n / 2.0, 1.0 / 5.5, 2.0 / (n**2 + 6.0)
        self._c_success, self._c_path = self._target / (2.0 + self._target), 2.0 / (n + 2.0)
        self._operators = Operators(space)
        self._scale = np.where(space.bounded, 1.0, _WIDE)
        self._widest = max(_WIDEST, self.sigma) if space.bounded.any() else math.inf
        self._density = contributions if len(self.objectives) == 2 else crowding
        self._ranking = Ranking(self.pop_size, len(self.objectives), self._density)
        self._members: list[_Member | None] = [None] * (self.pop_size + 1)  # by slot
        self._flying: dict[int, _Member] = {}
        # With a barrier: places of the generation not yet taken, and its results.
        self.generation = 0
        self._places = self.pop_size
        self._gathered: list[_Member] = []

    @property
    def front(self) -> tuple[Ids, Floats, Floats]:
        """Ids (n,), vectors (n, dim) and costs (n, n_objectives) of the members that no other dominates."""
        members = [self._at(slot) for slot in self._ranking.front().tolist()]
        x, costs = [member.seen for member in members], [member.cost for member in members]
        ids = np.array([member.id for member in members], dtype=np.int64)
        n = len(members)
        return ids, np.array(x).reshape(n, self.space.dim), np.array(costs).reshape(n, len(self.objectives))

    def _at(self, slot: int) -> _Member:
        member = self._members[slot]
        assert member is not None
        return member

    def _ask(self, n: int) -> Candidates:
        known = len(self._ranking)
        if self.asynchronous:
            parents = self._ranking.front().tolist() if known >= max(1, self.pop_size // 5) else []
        else:
            n = min(n, self._places)
            parents = self._ranking.slots.tolist()
        x, info = np.empty((n, self.space.dim)), np.full((n, 2), _NOBODY, dtype=np.int64)
        generation = np.full(n, self.generation, dtype=np.int64)
        for i in range(n):
            id = self.n_asked + i
            if not parents or (self.asynchronous and id < self.pop_size):
                child = self._founder(id, self.space.sample(self.rng, 1)[0])
            elif self.asynchronous:
                child = self._child(id, self._at(parents[int(self.rng.random() * len(parents))]))
            else:
                child = self._child(id, self._at(parents[(self.pop_size - self._places + i) % len(parents)]))
            self._flying[id] = child
            x[i] = child.x
            if child.parent is not None:
                info[i, 0] = child.parent.id
            if self.asynchronous:
                generation[i] = id // self.pop_size
        self._places -= n
        return Candidates(self._evaluable(x), {"generation": generation, "parents": info})

    def _evaluable(self, x: Floats) -> Floats:
        return self._operators.repair(self.space.clip(x))

    def _founder(self, id: int, x: Floats) -> _Member:
        none = np.zeros(self.space.dim)
        return _Member(id, x, self.sigma, self._target, none, none)

    def _child(self, id: int, parent: _Member) -> _Member:
        """Mutate: x' ~ N(x, sigma^2 C), C = A A^T."""
        z = self.rng.standard_normal(self.space.dim)
        step = z if parent.factor is None else parent.factor @ z
        return _Member(
            id,
            parent.x + parent.sigma * self._scale * step,
            parent.sigma,
            parent.success,
            parent.path,
            parent.white,
            parent.factor,
            parent=parent,
            z=z,
            step=step,
        )

    def _adopt(self, ids: Ids, x: Floats) -> None:
        self._places = max(0, self._places - len(ids))
        for id, row in zip(ids.tolist(), x, strict=True):
            self._flying[id] = self._founder(id, row)

    def _tell(self, evaluations: Evaluations) -> None:
        for i, id in enumerate(evaluations.ids.tolist()):
            child = self._flying.pop(id)
            if not np.isfinite(evaluations.cost[i]).all():
                continue
            child.cost, child.seen = evaluations.cost[i], evaluations.x[i]
            if self.asynchronous:
                self._take(child)
            else:
                self._gathered.append(child)
        if not (self.asynchronous or self._places or self._untold):
            self._turn()

    def _penalised(self, member: _Member) -> Floats:
        """Return the costs by which it is selected."""
        assert member.cost is not None
        outside = member.x - self.space.clip(member.x)
        return member.cost + _PENALTY * float(outside @ outside)

    def _take(self, child: _Member) -> None:
        slot = self._ranking.add(self._penalised(child))
        self._members[slot] = child
        full = len(self._ranking) > self.pop_size
        gone = self._ranking.evict() if full else _NOBODY
        self._adapt(child, success=gone != slot, selected=full)
        if full:
            self._members[gone] = None

    def _turn(self) -> None:
        """Select the next parents out of these and their children, adapt, and open a generation."""
        pool = [self._at(slot) for slot in self._ranking.slots.tolist()] + self._gathered
        if self._gathered:
            costs = np.array([self._penalised(member) for member in pool])
            chosen = best(costs, self.pop_size, self._density, repeatedly=True).tolist()
            selected = {pool[i].id for i in chosen}
            for child in self._gathered:
                self._adapt(child, success=child.id in selected, selected=len(pool) > self.pop_size)
            self._members = [pool[i] for i in chosen] + [None] * (self.pop_size + 1 - len(chosen))
            self._ranking.fill(costs[chosen])
        self._gathered = []
        self._places = self.pop_size
        self.generation += 1

    def _adapt(self, child: _Member, *, success: bool, selected: bool) -> None:
        """Learn from whether a child entered a population in which not all had room."""
        parent, z, step = child.parent, child.z, child.step
        child.parent = child.z = child.step = None  # or a child would hold all its ancestors
        if parent is None or z is None or step is None or not selected:
            return
        for member in (child, parent):
            self._adapt_sigma(member, success)
        if success:
            self._adapt_covariance(child, z, step)

    def _adapt_sigma(self, member: _Member, success: bool) -> None:
        """Procedure updateStepSize of [1]_."""
        c, target = self._c_success, self._target
        member.success = (1.0 - c) * member.success + c * success
        change = math.exp((member.success - target) / (self._damping * (1.0 - target)))
        member.sigma = min(max(member.sigma * change, _SMALLEST), _LARGEST)
        if success and self._widest < math.inf:
            member.sigma = min(member.sigma, self._widest / self._longest(member.factor))

    def _longest(self, factor: Floats | None) -> float:
        """Return the largest standard deviation of A z in a bounded dimension."""
        if factor is None:
            return 1.0
        return math.sqrt(float(np.einsum("ij,ij->i", factor, factor).max(where=self.space.bounded, initial=0.0)))

    def _adapt_covariance(self, member: _Member, z: Floats, step: Floats) -> None:
        """Procedure updateCovariance of [1]_: C' = alpha C + beta p p^T, on the Cholesky factor."""
        c, c_cov = self._c_path, self._c_cov
        member.path, member.white = (1.0 - c) * member.path, (1.0 - c) * member.white
        alpha = 1.0 - c_cov
        if member.success < _THRESHOLD:
            member.path += math.sqrt(c * (2.0 - c)) * step
            member.white += math.sqrt(c * (2.0 - c)) * z
        else:
            alpha += c_cov * c * (2.0 - c)
        member.factor, member.white = updated(member.factor, member.path, member.white, alpha, c_cov)


def updated(factor: Floats | None, v: Floats, w: Floats, alpha: float, beta: float) -> tuple[Floats, Floats]:
    """Return A' with A' A'^T = alpha A A^T + beta v v^T, where v = A w; and its A'^-1 v ([3]_)."""
    a, length = math.sqrt(alpha), float(w @ w)
    grown = math.sqrt(1.0 + beta / alpha * length)
    b = a / length * (grown - 1.0) if length > 0.0 else 0.0
    new = np.multiply.outer(b * v, w)
    if factor is None:
        new.flat[:: len(v) + 1] += a
    else:
        new += a * factor
    return new, w / (a * grown)
