"""What algorithms share that draw from a distribution and update it from the results, with and without a barrier."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._operators import Operators, widest_bin
from optimizers._options import check_count, checked_goal

_LARGEST = 1e100  # cost: whoever returns the largest float as a penalty must not make a gradient overflow
_LEAST_SD = 1e-10  # of a real, in encoded units: enough to go on from when all the elite are equal


@dataclass(frozen=True)
class Results:
    """Successful evaluations, the best first; equals in the order of their ids.

    Attributes
    ----------
    ids : (n,) array
    rows : list of (dim,) arrays
        What was evaluated: within the bounds, integers in the middle of their bin.
    cost : (n,) array
        Ascending.
    notes : list of length n
        What :meth:`Generations._draw` or :meth:`Generations._note` noted of each.
    """

    ids: Ids
    rows: list[Floats]
    cost: Floats
    notes: list[Any]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def x(self) -> Floats:
        """What was evaluated, as an (n, dim) array."""
        return np.array(self.rows)


class Generations(Optimizer):
    """Base of algorithms that draw from a distribution and update it from ``pop_size`` results.

    An algorithm writes :meth:`_draw` and :meth:`_learn`, and :meth:`_forget` if it draws ahead.

    Asynchronous: a draw never waits, and as soon as ``pop_size`` results have come, whichever generation they were
    drawn from, they are learned from; later ones count into the next update. Synchronous: ``pop_size`` individuals are
    drawn and all are awaited. Individuals that were adopted take places among them, failed ones shorten the
    generation; if all fail, the next is drawn from the same distribution.

    Parameters
    ----------
    pop_size
        Results per update.
    n_iteration
        Updates after which it is done.
    stop_criterion
        A fitness, in the user's direction, at which it is done.
    synchronous
        Whether there is a barrier.

    Attributes
    ----------
    generation : int
        Number of updates so far.
    _least_sd : (dim,) array
        Standard deviation below which no distribution should fall. For an integer it is a quarter of its widest bin:
        from the middle of the bin 5 % of the draws take another value.
    """

    spaces: ClassVar[frozenset[str]] = frozenset({"real", "integer", "conditional", "unbounded"})

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int,
        pop_size: int,
        n_iteration: int | None,
        stop_criterion: float | None,
        synchronous: bool,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.pop_size = pop_size
        self.n_iteration = None if n_iteration is None else check_count("n_iteration", n_iteration, 1)
        self._goal = checked_goal(self.objectives, stop_criterion)
        self.asynchronous = not synchronous
        self.generation = 0
        self._operators = Operators(space)
        widest_bins = np.repeat([widest_bin(p) for p in space.values()], [p.size for p in space.values()])
        self._least_sd: Floats = np.maximum(_LEAST_SD, widest_bins / 4.0)
        self._stopped = False
        self._wanted = pop_size  # results before the next update, if asynchronous
        self._places = pop_size  # of the generation being drawn, not yet taken, if synchronous
        self._notes: dict[int, Any] = {}  # of individuals in flight
        self._gathered: list[tuple[float, int, Floats, Any]] = []

    @abstractmethod
    def _draw(self) -> tuple[Floats, Any]:
        """Draw one vector, which may lie outside the bounds, and what is to be noted of it (None for nothing)."""

    @abstractmethod
    def _learn(self, results: Results) -> int:
        """Update the distribution from at least one result.

        Returns
        -------
        int
            0, or how many more results of the same generation are wanted: then nothing should have been changed, and it
            is called again with these and those.
        """

    def _note(self, x: Floats) -> Any:  # noqa: ARG002
        """Return what is to be noted of a vector that was adopted."""
        return None

    def _forget(self) -> None:
        """Throw away what was drawn and not yet asked: the random generator has started anew."""

    def _stop(self) -> None:
        """Be done."""
        self._stopped = True

    @property
    def done(self) -> bool:
        return self._stopped or (self.n_iteration is not None and self.generation >= self.n_iteration)

    def _ask(self, n: int) -> Candidates:
        if self.done:
            n = 0
        elif not self.asynchronous:
            n = min(n, self._places)
            self._places -= n
        x = np.empty((n, self.space.dim))
        for i in range(n):
            x[i], note = self._draw()
            if note is not None:
                self._notes[self.n_asked + i] = note
        return Candidates(self._operators.repair(x), {"generation": np.full(n, self.generation, dtype=np.int64)})

    def _adopt(self, ids: Ids, x: Floats) -> None:
        self._forget()
        self._places = max(0, self._places - len(ids))
        for id, row in zip(ids.tolist(), x, strict=True):
            note = self._note(row)
            if note is not None:
                self._notes[id] = note

    def _tell(self, evaluations: Evaluations) -> None:
        costs = evaluations.cost[:, 0].tolist()
        for i, (id, cost) in enumerate(zip(evaluations.ids.tolist(), costs, strict=True)):
            note = self._notes.pop(id, None)
            if self.done or not math.isfinite(cost):
                continue
            self._gathered.append((cost, id, evaluations.x[i], note))
            if cost <= self._goal:
                self._stop()
            elif self.asynchronous and len(self._gathered) >= self._wanted:
                self._update()
        if not (self.asynchronous or self.done or self._places or self._untold):
            self._update()

    def _update(self) -> None:
        more = 0
        if self._gathered:
            best_first = sorted(self._gathered, key=lambda result: result[:2])
            costs, ids, rows, notes = zip(*best_first, strict=True)
            cost = np.clip(costs, -_LARGEST, _LARGEST)
            more = self._learn(Results(np.array(ids), list(rows), cost, list(notes)))
        if more:
            self._wanted, self._places = len(self._gathered) + more, more
            return
        self._gathered = []
        self._wanted = self._places = self.pop_size
        self.generation += 1
