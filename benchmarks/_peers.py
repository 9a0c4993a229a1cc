"""Other people's optimizers behind one ask and tell, for the benchmarks: they search the box [-5, 5]^dim.

Their libraries are imported when one is made, so that a missing one is named and skipped. Each peer is what its users
get: the library's defaults, except for a random start in the box and a step size of a fifth of its width where these
have to be given (``cma:centre`` and ``lq-cma:centre`` start in its centre). Where evaluations run at once, only the
populations of ``cma`` and ``cmaes`` follow their number.
"""

from __future__ import annotations

import random
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

LOW, HIGH = -5.0, 5.0
SIGMA = 2.0


@dataclass(frozen=True)
class Task:
    """What a peer is told beforehand."""

    dim: int
    budget: int
    in_flight: int = 1
    seed: int = 1
    n_objectives: int = 1


class Peer(ABC):
    """One candidate at a time: ``ask`` gives (token, x), or None if it waits for results."""

    @abstractmethod
    def ask(self) -> tuple[Any, Any] | None: ...

    @abstractmethod
    def tell(self, token: Any, x: Any, cost: Any) -> None: ...


class Generations(Peer):
    """A peer that makes whole generations: the next one when the last one is complete."""

    def __init__(self) -> None:
        self._coming: deque[tuple[int, Any]] = deque()
        self._x: Sequence[Any] = []
        self._costs: list[Any] = []
        self._missing = 0

    @abstractmethod
    def generate(self) -> Sequence[Any]:
        """Return a generation."""

    @abstractmethod
    def update(self, x: Sequence[Any], costs: list[Any]) -> None:
        """Learn the costs of the generation."""

    def ask(self) -> tuple[int, Any] | None:
        if not self._coming:
            if self._missing:
                return None
            self._x = self.generate()
            self._coming.extend(enumerate(self._x))
            self._missing = len(self._x)
            self._costs = [None] * self._missing
        return self._coming.popleft()

    def tell(self, token: int, x: Any, cost: Any) -> None:  # noqa: ARG002
        self._costs[token] = cost
        self._missing -= 1
        if not self._missing:
            self.update(self._x, self._costs)


def starts(start: str, task: Task) -> Iterator[Any]:
    """Where the first search and its restarts begin: at ``random``, or at first in the ``centre`` of the box."""
    rng = np.random.default_rng(task.seed)
    if start not in ("random", "centre"):
        raise ValueError(f"a start is 'random' or 'centre', got {start!r}")
    if start == "centre":
        yield np.zeros(task.dim)
    while True:
        yield rng.uniform(LOW, HIGH, task.dim)


class Pycma(Generations):
    """CMA-ES of ``cma`` with its own bounds; restarts with twice the population when it stops."""

    def __init__(self, task: Task, start: str = "random", **options: Any) -> None:
        import cma

        super().__init__()
        self._new = cma.CMAEvolutionStrategy
        self._where = starts(start, task)
        self._options = {"verbose": -9, "seed": task.seed, "bounds": [LOW, HIGH]}
        if task.in_flight > 1:
            self._options["popsize"] = task.in_flight
        self._options |= options
        self._start()

    def _start(self) -> None:
        self._es = self._new(next(self._where), SIGMA, dict(self._options))

    def generate(self) -> Sequence[Any]:
        return self._es.ask()

    def update(self, x: Sequence[Any], costs: list[Any]) -> None:
        self._es.tell(x, costs)
        if self._es.stop():
            self._options["popsize"] = 2 * self._es.popsize
            self._options["seed"] += 1
            self._start()


class Cmaes(Generations):
    """One of the algorithms of ``cmaes``: ``CMA``, ``SepCMA``, ``XNES``, ..."""

    def __init__(self, task: Task, algorithm: str = "CMA", **options: Any) -> None:
        import cmaes

        super().__init__()
        self._rng = np.random.default_rng(task.seed)
        self._algorithm = getattr(cmaes, algorithm)
        self._options = {"bounds": np.array([[LOW, HIGH]] * task.dim), "seed": task.seed}
        if task.in_flight > 1:
            self._options["population_size"] = task.in_flight
        self._options |= options
        self._dim = task.dim
        self._start()

    def _start(self) -> None:
        self._es = self._algorithm(mean=self._rng.uniform(LOW, HIGH, self._dim), sigma=SIGMA, **self._options)

    def generate(self) -> Sequence[Any]:
        return [self._es.ask() for _ in range(self._es.population_size)]

    def update(self, x: Sequence[Any], costs: list[Any]) -> None:
        self._es.tell(list(zip(x, costs, strict=True)))
        if self._es.should_stop():
            self._options["population_size"] = 2 * self._es.population_size
            self._options["seed"] += 1
            self._start()


class Deap(Generations):
    """DEAP's operators in the loop of its ``eaSimple``: tournament, blend crossover, Gaussian mutation, no elitism.

    The defaults are the original L2L's. As there, bounds hold after each operator, a child that is a copy of its parent
    is not evaluated again, and the second of two equal children is mutated with probability ``again_prob``.
    """

    def __init__(
        self,
        task: Task,
        *,
        pop_size: int = 50,
        cx_prob: float = 0.5,
        mut_prob: float = 0.3,
        ind_prob: float = 0.02,
        tourn_size: int = 15,
        mate_par: float = 0.5,
        mut_par: float = 1.0,
        again_prob: float = 0.8,
    ) -> None:
        from deap import base, creator, tools

        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a name that is there already
            creator.create("Cost", base.Fitness, weights=(-1.0,) * task.n_objectives)
            creator.create("Individual", list, fitness=creator.Cost)
        self._random, self._tools, self._individual = random.random, tools, creator.Individual
        self._clone = base.Toolbox().clone
        self._size, self._tourn = pop_size, tourn_size
        self._cx, self._mut, self._again = cx_prob, mut_prob, again_prob
        self._alpha, self._sigma, self._indpb = mate_par, mut_par, ind_prob
        self._pop: list[Any] = []
        self._dim, self._several = task.dim, task.n_objectives > 1

    def generate(self) -> Sequence[Any]:
        if not self._pop:
            self._pop = [
                self._individual(random.uniform(LOW, HIGH) for _ in range(self._dim)) for _ in range(self._size)
            ]
            return self._pop
        while not (changed := self._bred()):
            pass
        return changed

    def _bred(self) -> list[Any]:
        self._pop = [self._clone(x) for x in self._tools.selTournament(self._pop, self._size, self._tourn)]
        for one, other in zip(self._pop[::2], self._pop[1::2], strict=False):
            if self._random() < self._cx:
                self._tools.cxBlend(one, other, self._alpha)
                self._bound(one)
                self._bound(other)
        for x in self._pop:
            if self._random() < self._mut:
                self._mutate(x)
        for i, one in enumerate(self._pop) if self._again else ():
            for other in self._pop[i + 1 :]:
                if one == other and self._random() < self._again:
                    self._mutate(other)
        return [x for x in self._pop if not x.fitness.valid]

    def _mutate(self, x: Any) -> None:
        self._tools.mutGaussian(x, 0, self._sigma, self._indpb)
        self._bound(x)

    def _bound(self, x: Any) -> None:
        x[:] = [min(max(value, LOW), HIGH) for value in x]
        del x.fitness.values

    def update(self, x: Sequence[Any], costs: list[Any]) -> None:
        for individual, cost in zip(x, costs, strict=True):
            individual.fitness.values = tuple(cost) if self._several else (cost,)


class Pymoo(Generations):
    """Any algorithm of pymoo with ask and tell."""

    def __init__(self, task: Task, algorithm: str = "DE", **options: Any) -> None:
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination

        super().__init__()
        self._algorithm = _pymoo_class(algorithm)(**options)
        self._problem = Problem(n_var=task.dim, n_obj=task.n_objectives, xl=LOW, xu=HIGH)
        self._algorithm.setup(self._problem, termination=NoTermination(), seed=task.seed, verbose=False)

    def generate(self) -> Sequence[Any]:
        self._infills = self._algorithm.ask()
        return self._infills.get("X")

    def update(self, x: Sequence[Any], costs: list[Any]) -> None:  # noqa: ARG002
        self._infills.set("F", np.array(costs).reshape(len(costs), -1))
        self._algorithm.tell(infills=self._infills)


def _pymoo_class(name: str) -> Callable[..., Any]:
    from importlib import import_module

    for module in ("soo.nonconvex", "moo"):
        full = f"pymoo.algorithms.{module}.{name.lower()}"
        if find_spec(full):
            return getattr(import_module(full), name)
    raise ValueError(f"pymoo has no algorithm {name!r}")


class Optuna(Peer):
    """Any sampler of Optuna."""

    def __init__(self, task: Task, sampler: str = "TPESampler", **options: Any) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        made = getattr(optuna.samplers, sampler)(seed=task.seed, **options)
        self._study = optuna.create_study(sampler=made, directions=["minimize"] * task.n_objectives)
        self._space = {f"x{i}": optuna.distributions.FloatDistribution(LOW, HIGH) for i in range(task.dim)}

    def ask(self) -> tuple[Any, Any]:
        trial = self._study.ask(self._space)
        return trial, np.array(list(trial.params.values()))

    def tell(self, token: Any, x: Any, cost: Any) -> None:  # noqa: ARG002
        self._study.tell(token, cost if np.ndim(cost) == 0 else list(cost))


class Nevergrad(Peer):
    """Any optimizer of Nevergrad: its newest wizards that do not crash on NumPy 2.4, as NGOpt and NgIohTuned do."""

    def __init__(self, task: Task, algorithm: str = "") -> None:
        import nevergrad

        box = nevergrad.p.Array(shape=(task.dim,)).set_bounds(LOW, HIGH)
        box.random_state.seed(task.seed)
        new = nevergrad.optimizers.registry[algorithm or ("Shiwa" if task.in_flight > 1 else "NGOpt16")]
        self._optimizer = new(box, budget=task.budget, num_workers=task.in_flight)
        if task.n_objectives > 1:
            self._optimizer.num_objectives = task.n_objectives

    def ask(self) -> tuple[Any, Any]:
        candidate = self._optimizer.ask()
        return candidate, candidate.value

    def tell(self, token: Any, x: Any, cost: Any) -> None:  # noqa: ARG002
        self._optimizer.tell(token, cost if np.ndim(cost) == 0 else list(cost))


class Uniform(Peer):
    """Random search."""

    def __init__(self, task: Task) -> None:
        self._rng, self._dim = np.random.default_rng(task.seed), task.dim

    def ask(self) -> tuple[None, Any]:
        return None, self._rng.uniform(LOW, HIGH, self._dim)

    def tell(self, token: Any, x: Any, cost: Any) -> None: ...


def lq_cma(cost: Callable[[Any], float], task: Task, start: str = "random") -> None:
    """Run ``cma.fmin_lq_surr2``, which calls the function itself, one x after another, until it raises."""
    import cma

    options: dict[str, Any] = {"verbose": -9, "seed": task.seed, "bounds": [LOW, HIGH]}
    for x in starts(start, task):
        _, es = cma.fmin_lq_surr2(cost, x, SIGMA, dict(options))
        options |= {"popsize": 2 * es.popsize, "seed": options["seed"] + 1}


# Name: the module it needs, and how to make it; `name:ALGORITHM` picks another of the same library.
PEERS: dict[str, tuple[str, Callable[..., Peer]]] = {
    "cma": ("cma", Pycma),
    "cmaes": ("cmaes", Cmaes),
    "optuna-tpe": ("optuna", Optuna),
    "optuna": ("optuna", Optuna),
    "nevergrad": ("nevergrad", Nevergrad),
    "pymoo": ("pymoo", Pymoo),
    "pymoo-de": ("pymoo", Pymoo),
    "pymoo-ga": ("pymoo", lambda task, algorithm="GA", **options: Pymoo(task, algorithm, **options)),
    "deap-ga": (
        "deap",
        lambda task: Deap(task, mut_prob=0.2, ind_prob=0.2, tourn_size=3, again_prob=0.0),
    ),
    "original-ga": ("deap", Deap),  # with the defaults of its library
    "published-ga": (  # with the options of its published use cases
        "deap",
        lambda task: Deap(task, pop_size=32, cx_prob=0.7, mut_prob=0.7, ind_prob=0.45, tourn_size=4),
    ),
    "random": ("numpy", Uniform),
}
SEQUENTIAL = {"lq-cma": ("cma", lq_cma)}  # these call the function themselves


def missing(name: str) -> str:
    """Return why a peer cannot run, or nothing."""
    base = name.partition(":")[0]
    known = PEERS.get(base) or SEQUENTIAL.get(base)
    if known is None:
        return f"no peer is called {name!r}: expected one of {', '.join([*PEERS, *SEQUENTIAL])}"
    return "" if find_spec(known[0]) else f"{known[0]} is not installed"


def make(name: str, task: Task, **options: Any) -> Peer:
    """Make a peer by its name."""
    base, _, algorithm = name.partition(":")
    seed_globally(task)
    return PEERS[base][1](task, *([algorithm] if algorithm else []), **options)


def sequential(name: str) -> Callable[[Callable[[Any], float], Task], None] | None:
    """Return the peer of this name that calls the function itself, if it does."""
    base, _, start = name.partition(":")
    if base not in SEQUENTIAL:
        return None

    def run(cost: Callable[[Any], float], task: Task) -> None:
        seed_globally(task)
        SEQUENTIAL[base][1](cost, task, *([start] if start else []))

    return run


def seed_globally(task: Task) -> None:
    """Seed the global generators, for those that draw from them."""
    random.seed(task.seed)
    np.random.seed(task.seed % 2**32)
