"""Any algorithm of pymoo."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

import numpy as np

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._adapters import (
    GlobalRandomness,
    Units,
    built,
    checked_options,
    drawn_seed,
    found,
    library_seed,
    needed,
    refuse_objectives,
    takes,
)

_SAME = 1e-9  # another processor computes the same vector to within this
_FAILED = 1e100  # cost of a failed evaluation: beyond any other, and its square is finite
_SEVERAL = ("MOEAD", "SMSEMOA", "SPEA2", "AGEMOEA2", "GDE32NN")  # with one objective they raise in their course
_DIRECTIONS = 100  # about so many reference directions where an algorithm needs them and none are given
_POPULATIONS = ("GeneticAlgorithm", "PSO", "CMOPSO", "MOPSO_CD")  # they learn from whatever vectors they are told


class PymooAlgorithm(Optimizer):
    r"""Any algorithm of pymoo [1]_ that can be asked and told: NSGA-II, NSGA-III, MOEA/D, GA, DE, PSO, CMA-ES, ...

    pymoo sees a problem of ``dim`` real variables, the encoded vector: logarithmic scales are straight there; integers
    and categoricals are relaxed to their bins, and what is evaluated is the centre of the bin; unbounded parameters lie
    in the box of ``loc`` :math:`\pm` 5 ``scale``. Of a conditional space all parameters are searched, the inactive ones
    are ignored.

    pymoo's algorithms are generational, so there is a barrier: a generation is handed out one by one, and the next is
    bred when all of it have been told. On the same problem with the same seed the candidates are those of
    ``pymoo.optimize.minimize``. It is done when the algorithm is (a converged CMA-ES or Nelder-Mead; without restarts);
    pymoo's own termination criteria are not used.

    A failed evaluation counts as a very bad one (1e100 in each objective). What is adopted (a user's guesses, retries)
    takes, once it is evaluated, the place of a candidate of the generation that was not handed out yet, or of the next
    generation; those that failed do not. The random generator then starts anew. Algorithms without a population
    (CMA-ES, Nelder-Mead, pattern search, DIRECT) pass them over.

    Parameters
    ----------
    algorithm
        A class of ``pymoo.algorithms``, or ``package.module:Class``. Those of ``soo`` take one objective.
    algorithm_options
        Its keyword arguments: ``{"pop_size": 40}``. Lists become arrays. Where it needs ``ref_dirs`` and has none, Das
        and Dennis' [2]_ are made, about a hundred.

    References
    ----------
    .. [1] J. Blank, K. Deb, "pymoo: multi-objective optimization in Python", IEEE Access 8, 2020.
    .. [2] I. Das, J. E. Dennis, "Normal-boundary intersection", SIAM Journal on Optimization 8(3), 1998.
    .. [3] K. Deb, A. Pratap, S. Agarwal, T. Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II",
       IEEE Transactions on Evolutionary Computation 6(2), 2002.
    """

    source: ClassVar[str] = "Blank and Deb, pymoo, IEEE Access 8, 2020; NSGA-II: Deb et al., IEEE TEC 6(2), 2002"
    asynchronous: bool = False
    max_objectives: int | None = None

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        algorithm: str = "NSGA2",
        algorithm_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        needed("pymoo", "pymoo")
        make = found("algorithm", algorithm, _known(), "pymoo")
        given = checked_options("algorithm_options", algorithm_options, ("seed", "termination"))
        modules = {c.__module__ for c in getattr(make, "__mro__", ())}
        single = any(module.startswith("pymoo.algorithms.soo.") for module in modules)
        self._welcomes = any(c.__name__ in _POPULATIONS for c in getattr(make, "__mro__", ()))
        self.max_objectives = 1 if single else None
        refuse_objectives(algorithm, self.max_objectives, len(self.objectives))
        if len(self.objectives) == 1 and any(c.__name__ in _SEVERAL for c in getattr(make, "__mro__", ())):
            raise OptimizerError(f"{algorithm} needs at least 2 objectives, got 1: choose GA, DE, PSO, CMAES or NSGA2")
        self._name, self._units = algorithm, Units(space)
        self._global = GlobalRandomness(library_seed(seed))
        with self._calling():
            self._algorithm: Any = self._built(make, given)
        self._asked: Any = None  # what pymoo wants to be told: a population, or one individual
        self._generation: Any = None  # the same, as a population
        self._x, self._cost = self._no_x(), np.empty((0, len(self.objectives)))
        self._rows: dict[int, int] = {}  # id -> row of the generation
        self._open: list[int] = []  # rows that are not handed out yet, in reverse
        self._guests: deque[tuple[Floats, Floats]] = deque(maxlen=1000)  # adopted and evaluated, without a place yet
        self._number = 0
        self._finished = False
        self._draw()

    def _built(self, make: Any, given: dict[str, Any]) -> Any:
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination

        n = len(self.objectives)
        options = {name: np.array(v) if isinstance(v, list) else v for name, v in given.items()}
        if takes(make, "ref_dirs") and "ref_dirs" not in options:
            options["ref_dirs"] = _reference_directions(n)
        known = _options(make)
        if known and set(given) - known:
            unknown = sorted(set(given) - known)
            raise OptimizerError(f"algorithm_options must be some of {sorted(known)}, got {unknown}")
        algorithm = built("algorithm_options", make, **options)
        self._problem = Problem(n_var=self.space.dim, n_obj=n, xl=self._units.low, xu=self._units.high)
        algorithm.setup(self._problem, seed=library_seed(self.seed), termination=NoTermination(), verbose=False)
        return algorithm

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Let the library use its own random states, warn about nothing, and fail in one line."""
        try:
            with self._global.lent(), warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                yield
        except OptimizerError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise OptimizerError(
                f"algorithm {self._name!r} of pymoo raised {reason}: expected one that can be asked and told, with "
                f"{len(self.objectives)} objective(s)"
            ) from error

    @property
    def done(self) -> bool:
        return self._finished

    def _ask(self, n: int) -> Candidates:
        taken = [self._open.pop() for _ in range(min(n, len(self._open)))]
        for id, row in enumerate(taken, self.n_asked):
            self._rows[id] = row
        generation = np.full(len(taken), self._number, dtype=np.int64)
        return Candidates(self.space.snap(self._x[taken]), {"generation": generation})

    def _draw(self) -> None:
        """Let the algorithm breed a generation."""
        from pymoo.core.individual import Individual
        from pymoo.core.population import Population

        with self._calling():
            self._asked = self._algorithm.ask() if self._algorithm.has_next() else None
        single = isinstance(self._asked, Individual)
        self._generation = Population.create(self._asked) if single else self._asked
        if self._generation is None or not len(self._generation):
            self._finished, self._generation = True, None
            return
        x = np.array(self._generation.get("X"), dtype=float).reshape(len(self._generation), -1)
        if x.shape[1] != self.space.dim:
            raise OptimizerError(
                f"algorithm {self._name!r} of pymoo: expected real variables, got {x.shape[1]} numbers"
            )
        self._x = self._units.boxed(x)
        self._cost = np.full((len(x), len(self.objectives)), np.nan)
        self._fresh = [row for row, member in enumerate(self._generation) if "F" not in member.evaluated]
        self._open = self._fresh[::-1]
        self._number += 1

    def _settle(self) -> None:
        """Give open places to those who were adopted and evaluated; hand the generation back once it is evaluated."""
        while not self._finished:
            if self._open and self._guests:
                row = self._open.pop(0)
                self._x[row], self._cost[row] = self._guests.popleft()
                self._generation[row].X = self._x[row].copy()
            elif not self._open and not self._rows:
                self._hand_back()
                self._draw()
            else:
                return
        self._guests.clear()

    def _hand_back(self) -> None:
        from pymoo.problems.static import StaticProblem

        with self._calling():
            self._algorithm.evaluator.eval(StaticProblem(self._problem, F=self._cost[self._fresh]), self._generation)
            self._algorithm.tell(infills=self._asked)

    def _tell(self, evaluations: Evaluations) -> None:
        for id, x, cost in zip(evaluations.ids.tolist(), evaluations.x, evaluations.cost, strict=True):
            failed = not np.isfinite(cost).all()
            if id in self._rows:
                self._cost[self._rows.pop(id)] = _FAILED if failed else cost
            elif not failed and self._welcomes:
                self._guests.append((self._units.boxed(x), cost))
            self._settle()

    def _adopt(self, ids: Ids, x: Floats) -> None:
        # One that it was about to propose itself, as a trusted record's are, takes its own place.
        for id, row in zip(ids.tolist(), x, strict=True):
            if self._open and np.allclose(self.space.snap(self._x[self._open[-1:]])[0], row, rtol=_SAME, atol=_SAME):
                self._rows[id] = self._open.pop()
        seed = drawn_seed(self.rng)
        self._global.restart(seed)
        self._algorithm.random_state = np.random.default_rng(seed)


def _reference_directions(n: int) -> Floats:
    from pymoo.util.ref_dirs import get_reference_directions

    if n == 1:
        return np.ones((1, 1))
    partitions = 1
    while _n_directions(n, partitions + 1) <= _DIRECTIONS:
        partitions += 1
    directions: Floats = get_reference_directions("das-dennis", n, n_partitions=partitions)
    return directions


def _n_directions(n: int, partitions: int) -> int:
    from math import comb

    return comb(n + partitions - 1, partitions)


def _options(make: Any) -> set[str]:
    """List what a class, those it inherits from and their helpers take; pymoo itself swallows what nobody knows."""
    modules = {c.__module__ for c in getattr(make, "__mro__", ()) if c.__module__.startswith("pymoo.")}
    if not modules or "pymoo.algorithms.soo.nonconvex.cmaes" in modules:  # which hands on all options of cma
        return set()
    classes = [c for name in modules for c in vars(sys.modules[name]).values() if isinstance(c, type)]
    taken = {name for c in classes if c.__module__ in modules for name in inspect.signature(c).parameters}
    return taken - {"self", "args", "kwargs", "seed", "termination"}


@cache
def _known() -> dict[str, Any]:
    """Return pymoo's algorithms by name."""
    import pymoo.algorithms
    from pymoo.core.algorithm import Algorithm

    known = {}
    for module in pkgutil.walk_packages(pymoo.algorithms.__path__, "pymoo.algorithms."):
        if "soo." not in module.name and "moo." not in module.name.removeprefix("pymoo."):
            continue
        try:
            contents = vars(importlib.import_module(module.name))
        except ImportError:  # it needs another library
            continue
        for name, value in contents.items():
            here = getattr(value, "__module__", "") == module.name
            if here and isinstance(value, type) and issubclass(value, Algorithm):
                known[name] = value
    return known
