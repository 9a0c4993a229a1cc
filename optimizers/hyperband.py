"""Hyperband: random search that stops early what its learning curve shows to be poor, without ever waiting."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._options import check_count, check_number

_REMEMBERED = 10_000  # the latest values that a rung compares with, which bounds the memory
_MOST = 1e300
_LARGEST = 690.0  # of the logarithm of a rung's resource: a report beyond is no resource
_MOST_BRACKETS = 50


class Rung:
    """The costs that individuals had when they came to one resource, the latest of them; NaN counts as the worst."""

    def __init__(self) -> None:
        self._ordered: list[float] = []
        self._latest: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._latest)

    def enter(self, cost: float) -> int:
        """Enter a cost, and return how many that came before it, and are remembered, are better."""
        cost = math.inf if math.isnan(cost) else cost
        better = bisect_left(self._ordered, cost)
        insort(self._ordered, cost)
        self._latest.append(cost)
        if len(self._latest) > _REMEMBERED:
            del self._ordered[bisect_left(self._ordered, self._latest.popleft())]
        return better


class Hyperband(Optimizer):
    r"""Asynchronous successive halving (ASHA) on learning curves, in one or several brackets (Hyperband).

    Individuals are drawn at random, and all begin the whole evaluation. One whose learning curve, as the optimizee
    sends it by ``context.report(step, value)``, comes to a *rung* at the resource

    .. math:: r_k = r\,\eta^{s + k}, \quad k = 0, 1, \dots

    goes on if it is among the best :math:`\lfloor n / \eta \rfloor` of the :math:`n` that came to that rung so far,
    itself included (``top_k(rung k, |rung k| / eta)`` in [1]_, Algorithm 2), and is stopped otherwise. To promote it
    later, as there, a simulation would have to be paused; so this is the variant that stops, as in [2]_. As long as
    fewer than :math:`\eta` came to a rung it stops nobody: there are too few to compare with. The value at a rung is
    that of the first report at or beyond it; a report that passes several counts at each. Of equals none is better.

    The *bracket* s is how late the first rung is ([1]_, "early stopping rate"): 0 stops the earliest, which is best if
    curves show early who is good; later ones guard against curves that cross. Hyperband ([3]_, Algorithm 1) runs
    all of them, with :math:`n_s \propto \eta^{s_{max} - s} / (s_{max} - s + 1)` individuals each (line 2).

    Only those that were never stopped have a fitness, at the whole budget; what was stopped has none and cannot be the
    best. An optimizee that reports nothing gives plain random search. There is no synchronous version: a rung decides
    about each as it comes, and workers are never idle.

    Parameters
    ----------
    reduction_factor
        Eta: one in so many goes on at each rung. Larger stops more, on less evidence.
    min_resource
        The resource r of the first rung, in units of the reported step: earlier reports are only noise.
    max_resource
        The step at which an evaluation ends: there are no rungs from there on. ``None`` if unknown.
    brackets
        How many of Hyperband's brackets there are, from the most aggressive on; 1 is ASHA, and all of them are the
        number of rungs below ``max_resource``, plus one that stops nobody.
    direction
        Whether the reported value is better the smaller (``"minimize"``) or the larger (``"maximize"``) it is; ``None``
        for the direction of the (first) objective, which the optimizee then reports as it will return it.

    References
    ----------
    .. [1] L. Li, K. Jamieson, A. Rostamizadeh, E. Gonina, J. Ben-tzur, M. Hardt, B. Recht, A. Talwalkar, "A system for
       massively parallel hyperparameter tuning", MLSys 2020.
    .. [2] A. Klein, L. C. Tiao, T. Lienart, C. Archambeau, M. Seeger, "Model-based asynchronous hyperparameter and
       neural architecture search", arXiv:2003.10865, 2020.
    .. [3] L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh, A. Talwalkar, "Hyperband: a novel bandit-based approach to
       hyperparameter optimization", Journal of Machine Learning Research 18(185), 2018.
    """

    source: ClassVar[str] = "Li et al., MLSys 2020, Algorithm 2 (ASHA); Li et al., JMLR 18, 2018 (Hyperband)"
    max_objectives: int | None = None

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        reduction_factor: float = 3.0,
        min_resource: float = 1.0,
        max_resource: float | None = None,
        brackets: int = 1,
        direction: str | None = None,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.reduction_factor = check_number("reduction_factor", reduction_factor, 1.5, 1000)
        self.min_resource = check_number("min_resource", min_resource, 1e-300, _MOST)
        self.max_resource = None if max_resource is None else check_number("max_resource", max_resource, 0, _MOST)
        self.brackets = check_count("brackets", brackets, 1)
        if self.max_resource is not None and self.max_resource <= self.min_resource:
            raise OptimizerError(f"max_resource must be more than min_resource {min_resource!r}, got {max_resource!r}")
        last = self._last_bracket()
        if self.brackets > last + 1:
            raise OptimizerError(f"brackets must be at most {last + 1} with these resources, got {brackets!r}")
        if direction not in (None, "minimize", "maximize"):
            raise OptimizerError(f"direction must be 'minimize', 'maximize' or None, got {direction!r}")
        self._sign = 1.0 if (direction or self.objectives[0].direction) == "minimize" else -1.0
        self._shares = self._bracket_shares(self.brackets if self.max_resource is None else last)
        self._begun = np.zeros(self.brackets, dtype=np.int64)
        self._rungs: dict[tuple[int, int], Rung] = {}  # by bracket and number
        self._next: dict[int, tuple[int, int]] = {}  # of those in flight: bracket, and the number of the next rung

    def _last_bracket(self) -> int:
        """Return the first bracket without a rung below the whole budget."""
        last = 0
        while last < _MOST_BRACKETS and self.resource(last, 0) < math.inf:
            last += 1
        return last

    def _bracket_shares(self, last: int) -> Floats:
        """Share individuals out among the brackets ([3], Algorithm 1, line 2; its s counts from the other end)."""
        halvings = last - np.arange(self.brackets, dtype=float)
        n = self.reduction_factor**halvings / (halvings + 1)
        return np.asarray(n / n.sum())

    def resource(self, bracket: int, rung: int) -> float:
        """Return the step of a bracket's rung, infinite from the whole budget on."""
        exponent = math.log(self.min_resource) + (bracket + rung) * math.log(self.reduction_factor)
        if exponent > _LARGEST:
            return math.inf
        resource = self.min_resource * self.reduction_factor ** (bracket + rung)
        return resource if self.max_resource is None or resource < self.max_resource else math.inf

    def _ask(self, n: int) -> Candidates:
        x = self.space.sample(self.rng, n)
        return Candidates(x, {"bracket": np.array([self._enter_bracket(self.n_asked + i) for i in range(n)])})

    def _enter_bracket(self, id: int) -> int:
        """Put an individual into the bracket that lacks the most, and return it."""
        bracket = int(np.argmax(self._shares * (self._begun.sum() + 1) - self._begun))
        self._begun[bracket] += 1
        self._next[id] = (bracket, 0)
        return bracket

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        for id in ids.tolist():
            self._enter_bracket(id)

    def _tell(self, evaluations: Evaluations) -> None:
        for id in evaluations.ids.tolist():
            self._next.pop(id, None)

    def _observe(self, reports: Mapping[int, Sequence[tuple[float, float]]]) -> list[int]:
        stop = []
        for id in sorted(reports):
            for step, value in reports[id]:
                if id in self._next and not self._goes_on(id, step, self._sign * value):
                    del self._next[id]
                    stop.append(id)
        return stop

    def _goes_on(self, id: int, step: float, cost: float) -> bool:
        """Take a report, and tell whether its individual is good enough at all rungs that it came to."""
        bracket, k = self._next[id]
        while math.isfinite(step) and step >= self.resource(bracket, k):
            rung = self._rungs.setdefault((bracket, k), Rung())
            better, k = rung.enter(cost), k + 1
            self._next[id] = (bracket, k)
            if len(rung) >= self.reduction_factor and better >= math.floor(len(rung) / self.reduction_factor):
                return False
        return True
