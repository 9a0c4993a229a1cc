"""Metropolis chains with their evaluations in flight.

References
----------
.. [1] N. Metropolis et al., "Equation of state calculations by fast computing machines", Journal of Chemical Physics
   21, 1953.
.. [2] S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi, "Optimization by simulated annealing", Science 220, 1983.
.. [3] A. E. Brockwell, "Parallel Markov chain Monte Carlo simulation by pre-fetching", Journal of Computational and
   Graphical Statistics 15(1), 2006.
.. [4] S. R. White, "Concepts of scale in simulated annealing", ICCD 1984.
.. [5] L. Ingber, "Very fast simulated re-annealing", Mathematical and Computer Modelling 12(8), 1989.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.parameters import Integer
from l2l_dask.space import Floats, Space
from optimizers._operators import reflected, widest_bin
from optimizers._options import check_count, check_number, checked_goal
from optimizers._schedules import Schedule

_FOUNDERS = 20  # random vectors from whose costs a temperature is estimated
_PATIENCE = 100  # results of a chain that wait for an earlier one of it
_NOBODY = -1


def accepts(rng: np.random.Generator, rise: float, temperature: float) -> bool:
    """Decide by the Metropolis rule whether a rise of the cost is accepted.

    With probability 1 if it is none, else exp(-rise / T): [1]_; [2]_, p. 672. A rise of NaN is not accepted.
    """
    if rise <= 0.0:
        return True
    return temperature > 0.0 and rng.random() < math.exp(-rise / temperature)


class Walk:
    """Symmetric random steps: that to y from x is as probable as that to x from y, for every kind of dimension.

    A real is moved by Gaussian noise and reflected at its bounds. An integer is moved by noise of a bin's width at
    least, the less often the finer the steps are; of the categoricals one at a time takes another of its choices. So
    the Metropolis rule needs no correction, and constant cost is visited evenly: values in natural units, or by
    their logarithm where the scale is logarithmic.
    """

    def __init__(self, space: Space) -> None:
        self._space, self._bounded = space, space.bounded
        kinds = np.array(space.kinds)
        self._categorical, self._integer = np.flatnonzero(kinds == "categorical"), kinds == "integer"
        each = [p for p in space.values() for _ in range(p.size)]
        # A logarithmic integer's bins differ in width: its walk goes on from where it is, not from the bin's centre.
        self._latent = np.array([isinstance(p, Integer) and p.log for p in each])
        self._width = np.array([widest_bin(p) for p in each])
        self._any_integer, self._any_latent = bool(self._integer.any()), bool(self._latent.any())
        self._any_discrete = bool((space.n_values > 0).any())
        self._rarest = 1.0 / max(1, int(self._integer.sum()))

    def step(self, rng: np.random.Generator, x: Floats, sd: float) -> Floats:
        """Return a vector to which the walk goes from ``x`` in a step of standard deviation ``sd``."""
        z = rng.standard_normal(len(x))
        noise = sd * z
        if self._any_integer:
            coarse = self._integer & (sd < self._width)
            moved = rng.random(len(x)) * self._width < np.maximum(sd, self._rarest * self._width)
            noise = np.where(coarse, np.where(moved, self._width * z, 0.0), noise)
        noise[self._categorical] = 0.0
        x = reflected(x + noise, self._bounded)
        if len(self._categorical):
            self._exchange(rng, x)
        return self.snapped(x) if self._any_discrete else x

    def snapped(self, x: Floats) -> Floats:
        """Return where a walk goes on that arrived at ``x``."""
        snapped = self._space.snap(x)
        return np.where(self._latent, x, snapped) if self._any_latent else snapped

    def _exchange(self, rng: np.random.Generator, x: Floats) -> None:
        """Give one categorical another of its choices: always if there is nothing else, or every other time."""
        where = self._categorical[int(rng.random() * len(self._categorical))]
        turn, other = rng.random(2)
        n = int(self._space.n_values[where])
        if n > 1 and (turn < 0.5 or len(self._categorical) == len(x)):
            old = min(int(x[where] * n), n - 1)
            x[where] = ((old + 1 + int(other * (n - 1))) % n + 0.5) / n


@dataclass
class Try:
    """A candidate drawn from a chain's state; its cost is NaN until it is known."""

    id: int
    x: Floats
    cost: float = math.nan
    known: bool = False


@dataclass
class Chain:
    """A chain: where it is, and what was drawn from there and not yet judged, in the order drawn."""

    index: int
    level: int
    x: Floats
    cost: float
    id: int
    results: int = 0
    asked: int = 0
    tries: dict[int, Try] = field(default_factory=dict)

    def move(self, x: Floats, cost: float, id: int) -> None:
        """Go to ``x``; what was drawn from the old state is not judged any more."""
        self.x, self.cost, self.id = x, cost, id
        self.tries.clear()


class Chains(Optimizer):
    """Several Metropolis chains in one search; what a temperature is, and what else happens, is the algorithm's.

    Asynchronous: a chain that awaits a result and is to propose more draws further candidates from the state that it
    is in, in case those before are rejected (pre-fetching, [3]_). They are judged in the order in which they were
    drawn, whatever the order in which they arrive; once one is accepted the chain has moved and the others are not
    judged. So each chain is exactly a Metropolis chain, and its stationary distribution is what it would be one by
    one. Only one that :data:`_PATIENCE` later ones of its chain have overtaken is given up, as if rejected.

    The first individuals are random: the best of them are the chains' first states, and their costs say what a
    temperature is (the interquartile range, as a standard deviation: [4]_). A failed evaluation is a rejected one. An
    adopted individual becomes the state of the chain that is worst off, if it is better.
    """

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int,
        n_parallel_runs: int,
        noisy_step: float,
        n_iteration: int | None,
        stop_criterion: float | None,
        schedule: Schedule,
        scaled: bool,
        synchronous: bool,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.n_parallel_runs = check_count("n_parallel_runs", n_parallel_runs, 1)
        self.noisy_step = check_number("noisy_step", noisy_step, 1e-12, 1e6)
        self.n_iteration = None if n_iteration is None else check_count("n_iteration", n_iteration, 1)
        self._goal = checked_goal(self.objectives, stop_criterion)
        self.asynchronous = not synchronous
        self.chains: list[Chain] = []
        self._schedule = schedule
        self._walk = Walk(space)
        self._flying: dict[int, tuple[int, Floats]] = {}  # id -> chain and vector, of those that were drawn here
        self._founders: list[tuple[float, int, Floats]] = []
        self._wanted = max(n_parallel_runs, _FOUNDERS) if scaled else n_parallel_runs
        self._stopped = False
        self._swept = 0  # chains that have proposed in this sweep, if synchronous

    @abstractmethod
    def _begin(self, scale: float) -> None:
        """Fix temperatures; ``scale`` is the spread of random vectors' costs."""

    @abstractmethod
    def temperature(self, chain: Chain) -> float:
        """Return the temperature at which a chain is, in units of the cost."""

    @abstractmethod
    def _relative(self, chain: Chain) -> float:
        """Return that in units of the highest, above 0: a step's variance is in proportion to it."""

    def _judged(self, chain: Chain) -> None:
        """Note that a candidate of ``chain`` was accepted or rejected, where there is no barrier."""

    def _sweep(self) -> None:
        """Note that a candidate of every chain was, where there is one."""

    @property
    def done(self) -> bool:
        if self._stopped:
            return True
        most = self.n_iteration
        return most is not None and bool(self.chains) and all(chain.asked >= most for chain in self.chains)

    def _ask(self, n: int) -> Candidates:
        rows, chains, temperatures, parents = [], [], [], []
        for id in range(self.n_asked, self.n_asked + n):
            chain = self._next()
            if chain is None and (self.chains or not self._wants_founder()):
                break
            if chain is None:
                x = self._walk.snapped(self.space.sample(self.rng, 1)[0])
            else:
                # Boltzmann annealing generates with a variance in proportion to the temperature ([5]_, section 2.1).
                x = self._walk.step(self.rng, chain.x, self.noisy_step * math.sqrt(self._relative(chain)))
                chain.tries[id] = Try(id, x)
                chain.asked += 1
                self._swept += 1
            index = _NOBODY if chain is None else chain.index
            self._flying[id] = (index, x)
            rows.append(self.space.snap(x))
            chains.append(index)
            temperatures.append(math.nan if chain is None else self.temperature(chain))
            parents.append(_NOBODY if chain is None else chain.id)
        info = {
            "chain": np.array(chains, dtype=np.int64),
            "temperature": np.array(temperatures, dtype=float),
            "parents": np.array(parents, dtype=np.int64),
        }
        return Candidates(np.array(rows).reshape(-1, self.space.dim), info)

    def _wants_founder(self) -> bool:
        flying = sum(index == _NOBODY for index, _ in self._flying.values()) if not self.asynchronous else 0
        return not self._stopped and (self.asynchronous or len(self._founders) + flying < self._wanted)

    def _next(self) -> Chain | None:
        """Return the chain that proposes next, if any: that which awaits the fewest results."""
        if self.done or not self.chains:
            return None
        if not self.asynchronous:
            return self.chains[self._swept] if self._swept < len(self.chains) else None
        most = math.inf if self.n_iteration is None else self.n_iteration
        free = (chain for chain in self.chains if chain.asked < most)
        return min(free, key=lambda chain: (len(chain.tries), chain.results), default=None)

    def _tell(self, evaluations: Evaluations) -> None:
        for i, (id, cost) in enumerate(zip(evaluations.ids.tolist(), evaluations.cost[:, 0].tolist(), strict=True)):
            index, x = self._flying.pop(id, (None, evaluations.x[i]))
            if cost <= self._goal:
                self._stopped = True
            if index is None or index == _NOBODY:
                self._found(cost, id, x, adopted=index is None)
            else:
                self._result(self.chains[index], id, cost)
        awaited = not self.asynchronous and any(index != _NOBODY for index, _ in self._flying.values())
        if not self.asynchronous and self._swept == len(self.chains) > 0 and not awaited:
            self._swept = 0
            self._sweep()

    def _found(self, cost: float, id: int, x: Floats, *, adopted: bool) -> None:
        """Take the result of a vector that no chain proposed."""
        if not math.isfinite(cost):
            return
        if self.chains:
            worst = max(self.chains, key=lambda chain: (chain.cost, -chain.index))
            if adopted and cost < worst.cost:
                worst.move(self._walk.snapped(x), cost, id)
            if adopted:  # time goes on for the chains when a record is trusted
                youngest = min(self.chains, key=lambda chain: chain.results)
                youngest.asked, youngest.results = youngest.asked + 1, youngest.results + 1
            return
        self._founders.append((cost, id, self._walk.snapped(x)))
        if len(self._founders) < self._wanted:
            return
        self._begin(_spread(np.array([cost for cost, _, _ in self._founders])))
        best = sorted(self._founders, key=lambda founder: founder[:2])[: self.n_parallel_runs]
        self.chains = [Chain(i, i, x, cost, id) for i, (cost, id, x) in enumerate(best)]
        self._founders = []

    def _result(self, chain: Chain, id: int, cost: float) -> None:
        chain.results += 1
        drawn = chain.tries.get(id)
        if drawn is None:
            return  # the chain has moved since
        drawn.cost, drawn.known = cost, True
        first = next(iter(chain.tries.values()))
        if not first.known and sum(other.known for other in chain.tries.values()) > _PATIENCE:
            del chain.tries[first.id]
        self._judge(chain)

    def _judge(self, chain: Chain) -> None:
        """Accept or reject what was drawn from the chain's state, in the order drawn, as far as results are known."""
        while chain.tries:
            drawn = next(iter(chain.tries.values()))
            if not drawn.known:
                return
            del chain.tries[drawn.id]
            if accepts(self.rng, drawn.cost - chain.cost, self.temperature(chain)):
                chain.move(drawn.x, drawn.cost, drawn.id)
            if self.asynchronous:
                self._judged(chain)


def _spread(costs: Floats) -> float:
    """Return a standard deviation that outliers do not spoil; 1 if all are equal."""
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.quantile(costs, [0.25, 0.75])
        spread = float(high - low) / 1.349 or float(np.std(costs))
    return spread if 0.0 < spread < math.inf else 1.0
