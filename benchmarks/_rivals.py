"""Which algorithms of other libraries are the same as ours, or the nearest there is, for ``ask_tell.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import _peers
import numpy as np
from _peers import HIGH, LOW, Deap, Generations, Peer, Task


class DeapNsga2(Deap):
    """NSGA-II of DEAP's own example: simulated binary crossover, polynomial mutation."""

    def generate(self) -> Sequence[Any]:
        tools = self._tools
        if not self._pop:
            return super().generate()
        children = [self._clone(x) for x in tools.selTournamentDCD(self._pop, len(self._pop))]
        for one, other in zip(children[::2], children[1::2], strict=False):
            if self._random() <= 0.9:
                tools.cxSimulatedBinaryBounded(one, other, eta=20.0, low=LOW, up=HIGH)
            for x in (one, other):
                tools.mutPolynomialBounded(x, eta=20.0, low=LOW, up=HIGH, indpb=1.0 / self._dim)
                del x.fitness.values
        return children

    def update(self, x: Sequence[Any], costs: list[Any]) -> None:
        super().update(x, costs)
        everyone = x if x is self._pop else self._pop + list(x)
        self._pop = self._tools.selNSGA2(everyone, self._size)


class Ribs(Generations):
    """MAP-Elites of pyribs: a grid of 20 x 20 over the first two parameters, Gaussian emitter, batches of 16."""

    def __init__(self, task: Task, batch: int = 16) -> None:
        from ribs.archives import GridArchive
        from ribs.emitters import GaussianEmitter
        from ribs.schedulers import Scheduler

        super().__init__()
        archive = GridArchive(solution_dim=task.dim, dims=[20, 20], ranges=[(LOW, HIGH)] * 2, seed=task.seed)
        emitter = GaussianEmitter(
            archive,
            sigma=0.5,
            x0=np.zeros(task.dim),
            lower_bounds=[LOW] * task.dim,
            upper_bounds=[HIGH] * task.dim,
            batch_size=batch,
            seed=task.seed,
        )
        self._scheduler = Scheduler(archive, [emitter])

    def generate(self) -> Sequence[Any]:
        return self._scheduler.ask()

    def update(self, x: Sequence[Any], costs: list[Any]) -> None:
        self._scheduler.tell(-np.array(costs), np.asarray(x)[:, :2])


class DeapMoCma(Generations):
    """MO-CMA-ES of DEAP: each of ``pop_size`` parents has one child."""

    def __init__(self, task: Task, pop_size: int = 50) -> None:
        from deap import base, cma, creator

        super().__init__()
        creator.create("Costs", base.Fitness, weights=(-1.0,) * task.n_objectives)
        creator.create("Vector", list, fitness=creator.Costs)
        self._vector, self._dim, self._size = creator.Vector, task.dim, pop_size
        self._new = cma.StrategyMultiObjective
        self._strategy: Any = None

    def generate(self) -> Sequence[Any]:
        if self._strategy is None:
            return [self._vector(x) for x in np.random.uniform(LOW, HIGH, (self._size, self._dim))]
        return self._strategy.generate(self._vector)

    def update(self, x: Sequence[Any], costs: list[Any]) -> None:
        for individual, cost in zip(x, costs, strict=True):
            individual.fitness.values = tuple(cost)
        if self._strategy is None:
            self._strategy = self._new(list(x), sigma=_peers.SIGMA, mu=self._size, lambda_=self._size)
        else:
            self._strategy.update(x)


def registered(name: str, **options: Any) -> Callable[[Task], Peer]:
    """Return how to make a peer of ``_peers.py``."""
    return lambda task: _peers.make(name, task, **options)


Rivals = dict[str, tuple[str, Callable[[Task], Peer]]]

# For each registered name: {label: (module, how to make it)}. A label with "~" is not the same algorithm, but the
# nearest; populations are of 50 or so where their size makes a difference to the cost.
RIVALS: dict[str, Rivals] = {
    "random": {
        "numpy uniform": ("numpy", registered("random")),
        "optuna RandomSampler": ("optuna", registered("optuna:RandomSampler")),
        "nevergrad RandomSearch": ("nevergrad", registered("nevergrad:RandomSearch")),
    },
    "qmc": {
        "optuna QMCSampler": ("optuna", registered("optuna:QMCSampler")),
        "nevergrad ScrHaltonSearch": ("nevergrad", registered("nevergrad:ScrHaltonSearch")),
    },
    "steady-state-ga": {
        "~deap GA": ("deap", registered("deap-ga")),
        "~pymoo GA": ("pymoo", registered("pymoo:GA", pop_size=50)),
    },
    "genetic": {
        "deap, as the original": ("deap", registered("original-ga")),
        "~pymoo GA": ("pymoo", registered("pymoo:GA", pop_size=50)),
    },
    "cross-entropy": {"~nevergrad EDA": ("nevergrad", registered("nevergrad:EDA"))},
    "es": {"~nevergrad ES": ("nevergrad", registered("nevergrad:ES"))},
    "nes": {"~cmaes SepCMA": ("cmaes", registered("cmaes:SepCMA"))},
    "xnes": {"cmaes XNES": ("cmaes", registered("cmaes:XNES"))},
    "cma-es": {
        "cmaes CMA": ("cmaes", registered("cmaes")),
        "cma": ("cma", registered("cma")),
        "~nevergrad CMA": ("nevergrad", registered("nevergrad:CMA")),
        "optuna CmaEsSampler": ("optuna", registered("optuna:CmaEsSampler")),
    },
    "surrogate-cma-es": {},  # and lq-cma, which calls the function itself
    "differential-evolution": {
        "nevergrad DE": ("nevergrad", registered("nevergrad:DE")),
        "pymoo DE": ("pymoo", registered("pymoo:DE")),
    },
    "particle-swarm": {
        "nevergrad PSO": ("nevergrad", registered("nevergrad:PSO")),
        "pymoo PSO": ("pymoo", registered("pymoo:PSO")),
    },
    "nsga-2": {
        "deap NSGA-II": ("deap", lambda task: DeapNsga2(task, pop_size=100)),
        "pymoo NSGA2": ("pymoo", registered("pymoo:NSGA2")),
        "optuna NSGAIISampler": ("optuna", registered("optuna:NSGAIISampler", population_size=100)),
    },
    "mo-cma-es": {"deap MO-CMA-ES": ("deap", DeapMoCma)},
    "map-elites": {"ribs, Gaussian emitter": ("ribs", Ribs)},
    "optuna": {"optuna TPESampler": ("optuna", registered("optuna:TPESampler"))},
    "nevergrad": {"nevergrad TwoPointsDE": ("nevergrad", registered("nevergrad:TwoPointsDE"))},
    "pymoo": {"pymoo DE": ("pymoo", registered("pymoo:DE"))},
}
DRIVES = {"surrogate-cma-es": {"cma fmin_lq_surr2": "lq-cma"}}
SEVERAL = {"nsga-2": 2, "mo-cma-es": 2}  # objectives
