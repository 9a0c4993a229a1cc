"""CMA-ES, on the library `cmaes`: asynchronous or by generations, with restarts."""

from __future__ import annotations

import math
from collections import deque
from typing import ClassVar, Literal

import numpy as np

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Objectives
from l2l_dask.space import Floats, Space
from optimizers._cma import Strategy, centre
from optimizers._generations import Generations, Results
from optimizers._options import check_count, check_number

_SEPARABLE_ABOVE = 100  # dimensions: [2]
_RESTARTS = ("ipop", "bipop", "none")


class CMAES(Generations):
    r"""CMA-ES: draw from a normal distribution, move it and shape it by the ranks of the results ([1]_, eq. 39 to 47).

    It learns scales and correlations, and is the choice where parameters depend on each other and more than about 50
    evaluations per parameter can be afforded. The updates are those of the library ``cmaes``, with negative weights.
    Above 100 dimensions C is diagonal: "for dimensions larger than a hundred, even on the non-separable Rosenbrock
    function, the sep-CMA-ES needs fewer function evaluations" [2]_. Draws outside the bounds are drawn again and, the
    third time, projected. Integers keep a margin of probability to change [3]_. When a run has converged, another
    starts at a random place, with twice the population (IPOP, [4]_) or by two regimes (BIPOP, [5]_).

    Asynchronous, no draw waits, and an update is made of every :math:`\lambda` results, whichever distribution they
    were drawn from. With k candidates in flight, these are k / 2 results old in the mean. They would pull the mean
    back to where it was, were they not to compete with what has been found since: so the better half of what an update
    learns from are the best of its :math:`\lambda` results and those of the last :math:`l = k / (2\lambda)` updates,
    rounded, and the worse half are the worst of the :math:`\lambda`. Vectors that are not of the present distribution
    are injected, their steps clipped ([6]_; re-injecting the best gives "an elitist variant of CMA-ES with weighted
    multi-recombination"). As these are learned from up to 1 + l times, the learning rates of C are divided by
    :math:`\sqrt{1 + l}`. With one candidate in flight l = 0: that is the textbook's algorithm. The rule for l and the
    rates was chosen on all 24 functions of BBOB in 2, 5, 10 and 20 dimensions with 32 in flight.

    ``synchronous=True`` is the textbook's algorithm however many are in flight: :math:`\lambda` individuals come from
    one distribution and are awaited. In both, failed evaluations are replaced by further draws, and individuals that
    were adopted (a user's guesses, retries) count as injected.

    Parameters
    ----------
    pop_size
        Results per update, :math:`\lambda`, of the first run; ``None`` for 4 + 3 ln(dim), rounded down. Larger is
        slower and more robust.
    sigma
        Initial standard deviation in encoded units: 1 is a bounded parameter's range, or an unbounded one's ``scale``.
    restarts
        What follows a run that has converged: ``ipop``, ``bipop``, or ``none`` to be done.
    separable
        Whether C is diagonal, which is faster and learns sooner, but no correlations; ``None`` for above 100
        dimensions.
    n_iteration
        Updates after which it is done; ``None`` for as many as the experiment's evaluations allow.
    stop_criterion
        A fitness at which it is done; ``None`` for none.
    synchronous
        Whether a generation is awaited before the next is drawn.

    Attributes
    ----------
    strategy : Strategy
        The present run.
    run : int
        Number of restarts so far.

    References
    ----------
    .. [1] N. Hansen, "The CMA evolution strategy: a tutorial", arXiv:1604.00772, 2016.
    .. [2] R. Ros, N. Hansen, "A simple modification in CMA-ES achieving linear time and space complexity", PPSN X,
       2008.
    .. [3] R. Hamano, S. Saito, M. Nomura, S. Shirakawa, "CMA-ES with margin: lower-bounding marginal probability for
       mixed-integer black-box optimization", GECCO 2022.
    .. [4] A. Auger, N. Hansen, "A restart CMA evolution strategy with increasing population size", CEC 2005.
    .. [5] N. Hansen, "Benchmarking a bi-population CMA-ES on the BBOB-2009 function testbed", GECCO 2009.
    .. [6] N. Hansen, "Injecting external solutions into CMA-ES", arXiv:1110.4181, 2011.
    """

    source: ClassVar[str] = "Hansen, arXiv:1604.00772, 2016; Auger and Hansen, CEC 2005; Hamano et al., GECCO 2022"

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int | None = None,
        sigma: float = 0.3,
        restarts: Literal["ipop", "bipop", "none"] = "ipop",
        separable: bool | None = None,
        n_iteration: int | None = None,
        stop_criterion: float | None = None,
        synchronous: bool = False,
    ) -> None:
        size = 4 + math.floor(3 * math.log(space.dim)) if pop_size is None else check_count("pop_size", pop_size, 4)
        super().__init__(
            space,
            objectives,
            seed=seed,
            pop_size=size,
            n_iteration=n_iteration,
            stop_criterion=stop_criterion,
            synchronous=synchronous,
        )
        self.sigma = check_number("sigma", sigma, 1e-6, 10)
        if restarts not in _RESTARTS:
            raise OptimizerError(f"restarts must be one of {', '.join(_RESTARTS)}, got {restarts!r}")
        if separable is not None and not isinstance(separable, bool):
            raise OptimizerError(f"separable must be true, false or left out, got {separable!r}")
        self.restarts = restarts
        self.separable = space.dim > _SEPARABLE_ABOVE if separable is None else separable
        self.run = 0
        self._schedule = Schedule(size, self.sigma, bipop=restarts == "bipop")
        self._most = math.inf  # vectors that the present run is told
        self._start(centre(space), size, self.sigma)

    def _start(self, mean: Floats, pop_size: int, sigma: float) -> None:
        self.strategy = Strategy(self.space, mean, sigma, pop_size, separable=self.separable)
        self.pop_size = pop_size
        self._recent: deque[tuple[Floats, Floats]] = deque()  # of the last updates, the best: cost, raw

    def _draw(self) -> tuple[Floats, tuple[int, int, Floats]]:
        x, raw = self.strategy.draw(self.rng)
        return x, (self.run, self.strategy.generation, raw)

    def _learn(self, results: Results) -> int:
        strategy, size = self.strategy, self.pop_size
        of_run = [i for i, note in enumerate(results.notes) if note is None or note[0] == self.run]
        if len(of_run) < size:
            return size - len(of_run)
        notes = [results.notes[i] for i in of_run]
        cost = results.cost[of_run]
        raw = np.array([results.x[i] if n is None else n[2] for i, n in zip(of_run, notes, strict=True)])
        foreign = np.array([n is None or n[1] != strategy.generation for n in notes])
        lag = round((len(self._untold) if self.asynchronous else 0) / (2 * size))
        while len(self._recent) > lag:
            self._recent.popleft()
        pools = [(cost, raw, foreign), *((c, r, np.ones(len(c), dtype=bool)) for c, r in self._recent)]
        good = [np.concatenate(part) for part in zip(*pools, strict=True)]
        mu = size // 2  # whose weights are positive; of equals the newest come first
        elite, rest = np.argsort(good[0], kind="stable")[:mu], slice(len(cost) - (size - mu), None)
        told, told_raw, injected = (
            np.concatenate([g[elite], own[rest]]) for g, own in zip(good, (cost, raw, foreign), strict=True)
        )
        if injected.any():
            told_raw[injected] = strategy.clipped(told_raw[injected])
        self._recent.append((cost[:mu], raw[:mu]))
        strategy.tell(told_raw, told, rate=1 / math.sqrt(1 + lag))
        if strategy.stopped or strategy.n_told >= self._most:
            self._restart()
        return 0

    def _restart(self) -> None:
        if self.restarts == "none":
            self._stop()
            return
        self.run += 1
        pop_size, sigma, self._most = self._schedule.next(self.rng, self.strategy.n_told)
        self._start(self.space.sample(self.rng, 1)[0], pop_size, sigma)


class Schedule:
    r"""Populations and step sizes of restarts.

    IPOP: each run has twice the population of the one before ([4]_ of :class:`CMAES`).

    BIPOP ([5]_): a run belongs to the regime that has used fewer evaluations so far, the first one to neither. In the
    first regime the population doubles from run to run. In the second it is
    :math:`\lfloor\lambda\,(\lambda_l / 2\lambda)^{U^2}\rfloor`, with :math:`\lambda_l` the last of the first regime
    and U uniform, with a step size of :math:`\sigma\,10^{-2U'}` and at most half of the evaluations of the last run of
    the first.
    """

    def __init__(self, pop_size: int, sigma: float, *, bipop: bool) -> None:
        self._pop_size, self._sigma, self._bipop = pop_size, sigma, bipop
        self._large = pop_size
        self._used = [0, 0]
        self._regime: int | None = None
        self._last_large = 0

    def next(self, rng: np.random.Generator, used: int) -> tuple[int, float, float]:
        """Return population, step size and most evaluations of the next run, the last having used ``used``."""
        if self._regime is not None:
            self._used[self._regime] += used
        if self._regime == 0:
            self._last_large = used
        self._regime = int(self._bipop and self._used[1] < self._used[0])
        if self._regime == 0:
            self._large *= 2
            return self._large, self._sigma, math.inf
        ratio = self._large / (2 * self._pop_size)
        pop_size = math.floor(self._pop_size * ratio ** (rng.random() ** 2))
        return pop_size, self._sigma * 10 ** (-2 * rng.random()), self._last_large / 2
