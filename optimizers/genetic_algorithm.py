"""The generational genetic algorithm of the original L2L."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._operators import Operators, tournament
from optimizers._options import check_count, check_number

_NOBODY = -1


class GeneticAlgorithm(Optimizer):
    """A generational genetic algorithm with full replacement and no elitism, as in the original L2L.

    Parents are selected by tournament, neighbours are crossed by blend crossover, each child is then mutated by
    Gaussian noise [1]_ [2]_. A generation is bred when all of the one before are evaluated, so slow evaluations idle
    the other workers: ``steady-state-ga`` does without waiting. Unlike the original, the seed is used and the bounds
    hold from the first generation on.

    Individuals that were adopted (a user's guesses, retries) take a place in the generation that is being gathered,
    however late their results come. Failed ones leave no children; if all of a generation fail, its parents (or new
    random vectors, if it had none) make the next.

    Parameters
    ----------
    pop_size
        Individuals in a generation.
    cx_prob
        Probability that a pair of neighbours is crossed.
    mut_prob
        Probability that a child is mutated.
    n_iteration
        Generations after which it is done; ``None`` for as many as the experiment's evaluations allow.
    ind_prob
        Probability with which each element of a mutated child is changed.
    tourn_size
        Entrants of a tournament.
    mate_par
        Alpha of the blend crossover.
    mut_par
        Standard deviation of the Gaussian mutation, in encoded units: 1 is a bounded parameter's range, or an unbounded
        one's ``scale``. (The original's is in natural units: its 1 on a range of 10 is 0.1 here.)

    References
    ----------
    .. [1] T. Bäck, D. B. Fogel, Z. Michalewicz, "Evolutionary computation 1: basic algorithms and operators", 2000.
    .. [2] F.-A. Fortin et al., "DEAP: evolutionary algorithms made easy", Journal of Machine Learning Research 13,
       2012.
    """

    source: ClassVar[str] = "Bäck, Fogel and Michalewicz, Evolutionary computation 1, 2000"
    asynchronous = False

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int = 50,
        cx_prob: float = 0.5,
        mut_prob: float = 0.3,
        n_iteration: int | None = None,
        ind_prob: float = 0.02,
        tourn_size: int = 15,
        mate_par: float = 0.5,
        mut_par: float = 0.1,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.pop_size = check_count("pop_size", pop_size, 2)
        self.cx_prob = check_number("cx_prob", cx_prob, 0, 1)
        self.mut_prob = check_number("mut_prob", mut_prob, 0, 1)
        self.n_iteration = None if n_iteration is None else check_count("n_iteration", n_iteration, 1)
        self.ind_prob = check_number("ind_prob", ind_prob, 0, 1)
        self.tourn_size = check_count("tourn_size", tourn_size, 1)
        self.mate_par = check_number("mate_par", mate_par, 0, 10)
        self.mut_par = check_number("mut_par", mut_par, 0, 1)
        self._operators = Operators(space)
        self.generation = 0
        self._parent_x, self._parent_ids = np.empty((0, space.dim)), np.empty(0, dtype=np.int64)
        self._places = pop_size  # of the generation being gathered, not yet taken
        self._gathered: list[tuple[float, int, Floats]] = []
        self._brood: list[tuple[Floats, tuple[int, int]]] = []  # bred and not yet asked, in reverse

    @property
    def done(self) -> bool:
        return self.n_iteration is not None and self.generation >= self.n_iteration

    def _ask(self, n: int) -> Candidates:
        n = 0 if self.done else min(n, self._places)
        if n and not self._brood:
            self._brood = self._bred(self._places)[::-1]
        taken = [self._brood.pop() for _ in range(n)]
        self._places -= n
        info = {
            "generation": np.full(n, self.generation, dtype=np.int64),
            "parents": np.array([parents for _, parents in taken], dtype=np.int64).reshape(n, 2),
        }
        return Candidates(np.array([x for x, _ in taken]).reshape(n, self.space.dim), info)

    def _bred(self, n: int) -> list[tuple[Floats, tuple[int, int]]]:
        """Make ``n`` individuals of a new generation: select, cross neighbours, mutate."""
        if not len(self._parent_ids):
            return [(self._operators.repair(x), (_NOBODY, _NOBODY)) for x in self.space.sample(self.rng, n)]
        ranks = [tournament(self.rng, len(self._parent_ids), self.tourn_size) for _ in range(n)]
        x, ids = self._parent_x[ranks], self._parent_ids[ranks].tolist()
        parents = [(id, _NOBODY) for id in ids]
        for i in range(0, n - 1, 2):
            if self.rng.random() < self.cx_prob:
                x[i], x[i + 1] = self._operators.blend(self.rng, x[i], x[i + 1], self.mate_par)
                parents[i], parents[i + 1] = (ids[i], ids[i + 1]), (ids[i + 1], ids[i])
        return [(self._mutant(row), pair) for row, pair in zip(self._operators.repair(x), parents, strict=True)]

    def _mutant(self, x: Floats) -> Floats:
        if self.rng.random() >= self.mut_prob:
            return x
        where = np.flatnonzero(self.rng.random(len(x)) < self.ind_prob)
        steps = self.mut_par * self.rng.standard_normal(len(where))
        return self._operators.repair(self._operators.mutate(self.rng, x, where, steps))

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        # The random generator has started anew: what is left of the generation is bred again.
        self._brood = []
        self._places = max(0, self._places - len(ids))

    def _tell(self, evaluations: Evaluations) -> None:
        for i, cost in enumerate(evaluations.cost[:, 0].tolist()):
            if np.isfinite(cost):
                self._gathered.append((cost, int(evaluations.ids[i]), evaluations.x[i]))
        if not self._places and not self._untold:
            self._turn()

    def _turn(self) -> None:
        """Replace the parents by the generation that was gathered, best first, and open the next."""
        if self._gathered:
            self._gathered.sort(key=lambda member: member[:2])
            self._parent_x = np.array([x for _, _, x in self._gathered])
            self._parent_ids = np.array([id for _, id, _ in self._gathered], dtype=np.int64)
        self._gathered, self._brood = [], []
        self._places = self.pop_size
        self.generation += 1
