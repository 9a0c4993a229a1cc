"""Differential evolution: L-SHADE, asynchronous or by generations."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._options import check_count, check_number

_NOBODY = -1
_FEWEST = 4  # N_min: current-to-pbest/1 takes four different vectors
_ARCHIVE = 2.6  # r^arc: size of the archive over that of the population
_SPREAD = 0.1  # of F (Cauchy scale) and CR (standard deviation)
_FAR = 1e9  # in units of an unbounded parameter's scale: on a plateau it must not drift to infinity


@dataclass(frozen=True)
class _Trial:
    """What is remembered of a trial vector in flight."""

    target: int  # slot, or nobody's
    x: Floats  # before integers were rounded
    f: float
    cr: float


class DifferentialEvolution(Optimizer):
    r"""L-SHADE: differential evolution that adapts its own F and CR and shrinks its population.

    A trial vector is made for each member :math:`x_i` in turn by *current-to-pbest/1/bin* ([1]_, [2]_)

    .. math:: v_i = x_i + F_i (x_{pbest} - x_i) + F_i (x_{r1} - x_{r2}),

    where :math:`x_{pbest}` is one of the best, :math:`x_{r2}` may come from an archive of members that were improved
    upon, and each element is taken with probability :math:`CR_i`. F and CR are drawn around means that were successful
    lately, kept in a memory of ``memory_size`` entries ([2]_, algorithm 1). With ``evaluations`` known, which an
    experiment sees to, the population shrinks linearly to 4 ([2]_, algorithm 2): first wide, at last fast.

    Asynchronous, a trial replaces its target, or whoever holds its place by then, as soon as its result comes, and the
    next is drawn from the population as it is: nobody waits. The memory is updated when as many results have come as
    there are members. A trial whose target was dropped competes with the worst. ``synchronous=True`` gives the
    textbook's generations: one trial for every member, all of them awaited.

    Outside of a bound an element goes half-way from its target's to the bound ([1]_). Integers are reals
    that are rounded only to be evaluated ([3]_); categoricals have no differences and are refused. Failed trials are
    unsuccessful ones, failed founders leave the population smaller.

    Parameters
    ----------
    pop_size
        First size of the population, N_init. ``None`` for 18 dim ([2]_), which is meant for 10000 dim evaluations, but
        at most half the square root of ``evaluations`` (at least 8), or 50 if these are not known.
    memory_size
        Entries H of the memory of successful F and CR.
    p_best
        Share of the population out of which :math:`x_{pbest}` is drawn.
    evaluations
        Evaluations after which the population has shrunk to 4; ``None`` not to shrink it, unless an experiment fills in
        its own number.
    synchronous
        Whether to wait for all trials of a generation.

    References
    ----------
    .. [1] R. Tanabe, A. Fukunaga, "Success-history based parameter adaptation for differential evolution", IEEE
       Congress on Evolutionary Computation, 2013.
    .. [2] R. Tanabe, A. Fukunaga, "Improving the search performance of SHADE using linear population size reduction",
       IEEE Congress on Evolutionary Computation, 2014.
    .. [3] J. Lampinen, I. Zelinka, "Mixed integer-discrete-continuous optimization by differential evolution", MENDEL,
       1999.
    """

    source: ClassVar[str] = "Tanabe and Fukunaga, IEEE Congress on Evolutionary Computation, 2014"
    spaces: ClassVar[frozenset[str]] = frozenset({"real", "integer", "conditional", "unbounded"})

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int | None = None,
        memory_size: int = 6,
        p_best: float = 0.11,
        evaluations: int | None = None,
        synchronous: bool = False,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.evaluations = None if evaluations is None else check_count("evaluations", evaluations, 1)
        self.pop_size = _size(space.dim, evaluations) if pop_size is None else check_count("pop_size", pop_size, 4)
        self.memory_size = check_count("memory_size", memory_size, 1)
        self.p_best = check_number("p_best", p_best, 0, 1)
        self.asynchronous = not synchronous
        self.generation = 0
        self._free = ~space.bounded if not space.bounded.all() else None
        self._discrete = bool((space.n_values > 0).any())
        # M_F and M_CR, where NaN is the terminal value; the successes (F, CR, improvement) that are to enter them.
        self._means = [(0.5, 0.5)] * self.memory_size
        self._oldest = 0
        self._successes: list[tuple[float, float, float]] = []
        # Slot -> member; the slots that are taken; and, best first, costs and slots.
        self._x = np.empty((self.pop_size, space.dim))
        self._ids = np.full(self.pop_size, _NOBODY, dtype=np.int64)
        self._cost = [math.nan] * self.pop_size
        self._taken: list[int] = []
        self._costs: list[float] = []
        self._slots: list[int] = []
        self._archive = np.empty((round(_ARCHIVE * self.pop_size), space.dim))
        self._archived = 0
        self._trials: dict[int, _Trial] = {}
        self._founders = self._turns = self._told = self._since = 0
        # With a barrier: places of the generation not yet taken, and its results.
        self._places = self.pop_size
        self._gathered: list[tuple[int, Floats, float, _Trial | None]] = []

    @property
    def population(self) -> tuple[Ids, Floats, Floats]:
        """Ids (n,), vectors (n, dim), integers not rounded, and costs (n,) of the members, best first."""
        return self._ids[self._slots], self._x[self._slots], np.array(self._costs)

    def _ask(self, n: int) -> Candidates:
        if not self.asynchronous:
            n = min(n, self._places)
        x = np.empty((n, self.space.dim))
        parents = np.full((n, 2), _NOBODY, dtype=np.int64)
        for i in range(n):
            few = len(self._slots) < _FEWEST
            if few or (self.asynchronous and self._founders < self.pop_size):
                x[i] = self.space.sample(self.rng, 1)[0]
                self._founders += 1
            else:
                x[i], parents[i] = self._trial(self.n_asked + i)
        self._places -= n
        if self._discrete:
            x = self.space.snap(x)
        return Candidates(x, {"generation": np.full(n, self.generation, dtype=np.int64), "parents": parents})

    def _trial(self, id: int) -> tuple[Floats, tuple[int, int]]:
        """Make a trial vector for the next target."""
        dim, n, taken = self.space.dim, len(self._slots), self._taken
        draws = self.rng.random(dim + 6)
        entry, best, first, second, element, cauchy = draws[dim:].tolist()
        f, cr = self._drawn(*self._means[int(entry * self.memory_size)], cauchy)
        i = self._turns % n
        self._turns += 1
        target = taken[i]
        pbest = self._slots[int(best * min(n, max(2, round(self.p_best * n))))]
        # r1 != i among n - 1 members, r2 different from both among n - 2 and the archive.
        r1 = (i + 1 + int(first * (n - 1))) % n
        r2 = int(second * (n - 2 + self._archived))
        other = self._archive[r2 - (n - 2)] if r2 >= n - 2 else self._x[taken[_without(r2, i, r1)]]
        at = self._x[target]
        v = f * (self._x[pbest] - at + self._x[taken[r1]] - other)
        v += at
        crossed = draws[:dim] < cr
        crossed[int(element * dim)] = True
        v = np.where(crossed, self._inside(v, at), at)
        self._trials[id] = _Trial(target, v, f, cr)
        return v, (int(self._ids[target]), int(self._ids[pbest]))

    def _drawn(self, mean_f: float, mean_cr: float, u: float) -> tuple[float, float]:
        """Draw F from a Cauchy and CR from a normal distribution around the means of one entry of the memory ([2]_)."""
        # A Cauchy variable that is drawn again while it is not positive, by its inverse distribution; 1 if it is above.
        lowest = 0.5 - math.atan(mean_f / _SPREAD) / math.pi
        f = mean_f + _SPREAD * math.tan(math.pi * (lowest + (1.0 - lowest) * u - 0.5))
        normal = self.rng.standard_normal()
        cr = 0.0 if math.isnan(mean_cr) else min(1.0, max(0.0, mean_cr + _SPREAD * normal))
        return min(1.0, max(f, 1e-12)), cr

    def _inside(self, v: Floats, at: Floats) -> Floats:
        """Put elements outside of a bound half-way between the target's and the bound."""
        inside = np.maximum(np.minimum(v, 0.5 * (1.0 + at)), 0.5 * at)
        inside = np.where((v < 0.0) | (v > 1.0), inside, v)
        if self._free is not None:
            inside[self._free] = np.clip(v[self._free], -_FAR, _FAR)
        return inside

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        self._founders += len(ids)

    def _tell(self, evaluations: Evaluations) -> None:
        for i, (id, cost) in enumerate(zip(evaluations.ids.tolist(), evaluations.cost[:, 0].tolist(), strict=True)):
            trial = self._trials.pop(id, None)
            self._told += 1
            if not self.asynchronous:
                self._gathered.append((id, evaluations.x[i], cost, trial))
                continue
            self._select(id, evaluations.x[i], cost, trial)
            self._since += 1
            self._shrink()
            if self._since >= len(self._slots) and self._founders >= self.pop_size:
                self._turn()
        if not (self.asynchronous or self._places or self._untold):
            for result in self._gathered:
                self._select(*result)
            self._gathered = []
            self._shrink()
            self._turn()
            self._places = len(self._slots) if len(self._slots) >= _FEWEST else self.pop_size

    def _select(self, id: int, x: Floats, cost: float, trial: _Trial | None) -> None:
        """Let a result compete with its target, or with the worst if it has none."""
        if not math.isfinite(cost):
            return
        has_target = trial is not None and not math.isnan(self._cost[trial.target])
        if trial is not None:
            x = trial.x
        if not has_target and len(self._slots) < self._planned():
            slot = next(slot for slot in range(self.pop_size) if math.isnan(self._cost[slot]))
            self._taken.append(slot)
            self._place(slot, id, x, cost)
            return
        slot = trial.target if trial is not None and has_target else self._slots[-1]
        before = self._cost[slot]
        if cost > before:
            return
        if cost < before and trial is not None:
            self._successes.append((trial.f, trial.cr, before - cost))
            self._keep(self._x[slot])
        self._leave(slot)
        self._place(slot, id, x, cost)

    def _place(self, slot: int, id: int, x: Floats, cost: float) -> None:
        rank = bisect_left(self._costs, cost)
        self._costs.insert(rank, cost)
        self._slots.insert(rank, slot)
        self._x[slot], self._ids[slot], self._cost[slot] = x, id, cost

    def _leave(self, slot: int) -> None:
        rank = self._slots.index(slot, bisect_left(self._costs, self._cost[slot]))
        del self._costs[rank], self._slots[rank]
        self._cost[slot] = math.nan

    def _keep(self, x: Floats) -> None:
        """Put a member that was improved upon into the archive, at a random place if it is full."""
        size = round(_ARCHIVE * len(self._slots))
        self._archived = min(self._archived, size)
        if self._archived < size:
            self._archived += 1
            self._archive[self._archived - 1] = x
        elif size:
            self._archive[int(self.rng.random() * size)] = x

    def _planned(self) -> int:
        """Return the size of the population by now ([2]_, eq. 10)."""
        if self.evaluations is None:
            return self.pop_size
        share = min(1.0, self._told / self.evaluations)
        return round((_FEWEST - self.pop_size) * share + self.pop_size)

    def _shrink(self) -> None:
        planned = self._planned()
        while len(self._slots) > planned:
            slot = self._slots[-1]
            self._leave(slot)
            self._taken.remove(slot)
        self._archived = min(self._archived, round(_ARCHIVE * planned))

    def _turn(self) -> None:
        """Update the memory by the weighted Lehmer means of what was successful ([2]_, algorithm 1, eqs. 7 to 9)."""
        self._since = 0
        self.generation += 1
        if not self._successes:
            return
        f, cr, improvement = np.array(self._successes).T
        self._successes = []
        improvement = np.minimum(improvement, np.finfo(float).max)
        weights = improvement / improvement.max()  # first, as their sum may overflow
        mean_f = float(weights @ f**2 / (weights @ f))
        ended = math.isnan(self._means[self._oldest][1]) or cr.max() <= 0.0
        top, bottom = float(weights @ cr**2), float(weights @ cr)
        mean_cr = math.nan if ended else top / bottom if bottom > 0.0 else 0.0
        self._means[self._oldest] = mean_f, mean_cr
        self._oldest = (self._oldest + 1) % self.memory_size


def _without(index: int, i: int, j: int) -> int:
    """Return the ``index``-th number from 0 on that is neither i nor j."""
    i, j = min(i, j), max(i, j)
    index += index >= i
    return index + (index >= j)


def _size(dim: int, evaluations: int | None) -> int:
    """Choose N_init."""
    return min(18 * dim, 50 if evaluations is None else max(8, round(math.sqrt(evaluations) / 2)))
