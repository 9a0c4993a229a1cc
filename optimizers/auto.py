"""A sensible choice of an algorithm, for those who do not want to make one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._options import check_count
from optimizers.cma_es import CMAES
from optimizers.grid_search import GridSearch
from optimizers.nsga2 import NSGA2
from optimizers.qmc import QMC
from optimizers.steady_state_ga import SteadyStateGA
from optimizers.surrogate_cma_es import SurrogateCMAES

_ROUNDS = 3  # with fewer results than this for each slot, there is hardly anything to learn from
_MODELLED = 100  # dimensions up to which a model of the fitness pays


class Auto(Optimizer):
    """Choose an algorithm by the space, the budget and the number of workers, and say which and why.

    ==========================================================  ==================
    the search                                                  the algorithm
    ==========================================================  ==================
    several objectives                                          ``nsga-2``
    a finite space, all of which fits into the budget           ``grid``
    no more than three evaluations for each worker              ``qmc``
    categorical or conditional parameters, or integers alone    ``steady-state-ga``
    up to 100 numbers                                           ``surrogate-cma-es``
    more numbers                                                ``cma-es``
    ==========================================================  ==================

    The first row that applies counts. All of them are asynchronous. The choice does not change when the search is
    resumed, with however many workers and evaluations.

    Parameters
    ----------
    evaluations
        The budget; ``None`` for the experiment's.
    workers
        The number of evaluations that run at the same time; ``None`` for the cluster's.

    Attributes
    ----------
    chosen : Optimizer
        What does the work.
    explanation : str
        What was chosen and why.
    """

    source: ClassVar[str] = "the comparison in benchmarks/bbob.py, and what the algorithms can search"
    max_objectives: int | None = None

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        evaluations: int | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.evaluations = None if evaluations is None else check_count("evaluations", evaluations, 1)
        self.workers = None if workers is None else check_count("workers", workers, 1)
        self.chosen, name, reason = self._choice()
        self.explanation = f"auto chose {name}: {reason}"

    def _choice(self) -> tuple[Optimizer, str, str]:
        space, budget, workers = self.space, self.evaluations, self.workers or 1
        given = (space, self.objectives)
        if len(self.objectives) > 1:
            return NSGA2(*given, seed=self.seed), "nsga-2", f"there are {len(self.objectives)} objectives"
        points = _points(space)
        if budget is not None and points <= budget:
            reason = f"the budget of {budget} evaluations suffices for all {points:.0f} points of the space"
            return GridSearch(*given, seed=self.seed), "grid", reason
        if budget is not None and budget <= _ROUNDS * workers:
            reason = f"{budget} evaluations on {workers} worker(s) leave little to learn from, so it covers the space"
            return QMC(*given, seed=self.seed), "qmc", reason
        if space.conditional or "categorical" in space.kinds or (space.n_values > 0).all():
            reason = "the space has categorical or conditional parameters, or integers alone"
            return SteadyStateGA(*given, seed=self.seed), "steady-state-ga", reason
        if space.dim <= _MODELLED:
            reason = f"the space has {space.dim} number(s): a model of the fitness spares evaluations"
            return SurrogateCMAES(*given, seed=self.seed), "surrogate-cma-es", reason
        reason = f"the space has {space.dim} numbers, too many for a model of the fitness"
        return CMAES(*given, seed=self.seed, workers=self.workers), "cma-es", reason

    @property
    def done(self) -> bool:
        return self.chosen.done

    def _ask(self, n: int) -> Candidates:
        candidates = self.chosen.ask(n)
        return Candidates(candidates.x, candidates.info)

    def _tell(self, evaluations: Evaluations) -> None:
        self.chosen.tell(evaluations)

    def _adopt(self, ids: Ids, x: Floats) -> None:
        self.chosen.adopt(ids.tolist(), x)


def _points(space: Space) -> float:
    """Return how many different vectors there are; infinite if a parameter is real."""
    n = space.n_values.astype(float)
    return float(np.prod(n)) if (n > 0).all() and not space.conditional else np.inf
