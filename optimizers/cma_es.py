"""CMA-ES, on the library `cmaes`: asynchronous or by generations, with restarts."""

from __future__ import annotations

import math
from collections import deque
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Objectives
from l2l_dask.space import Floats, Space
from optimizers._cma import Strategy, centre
from optimizers._generations import Generations, Results
from optimizers._options import check_count, check_number

_SEPARABLE_ABOVE = 100  # dimensions: [2]
_MOST_LATE = 4  # populations in flight
_RESTARTS = ("ipop", "bipop", "none")


class _Drawn(NamedTuple):
    """Where a candidate comes from; the m and sigma that it was drawn with."""

    run: int
    generation: int
    raw: Floats
    mean: Floats
    sigma: float


class CMAES(Generations):
    r"""CMA-ES: draw from a normal distribution, move it and shape it by the ranks of the results ([1]_, eq. 39 to 47).

    It learns scales and correlations, and is the choice where parameters depend on each other and many evaluations per
    parameter can be afforded; where few can, ``surrogate-cma-es`` is. The updates are those of the library
    ``cmaes``, with negative weights.
    Above 100 dimensions C is diagonal: "for dimensions larger than a hundred, even on the non-separable Rosenbrock
    function, the sep-CMA-ES needs fewer function evaluations" [2]_. Draws outside the bounds are drawn again and, the
    third time, projected. Integers keep a margin of probability to change [3]_. When a run has converged, another
    starts at a random place, with twice the population (IPOP, [4]_) or by two regimes (BIPOP, [5]_).

    Asynchronous, no draw waits, and an update is made of every :math:`\lambda` results, whichever distribution they
    were drawn from. With k candidates in flight they are up to k results old. Three things follow, all without effect
    where one is in flight, which is the textbook's algorithm:

    - The mean would be pulled back to where it was; so the results compete with the best of the last
      :math:`k / (2\lambda)` updates, rounded, and the mean moves to the best of all these, their steps clipped
      (re-injecting the best gives "an elitist variant of CMA-ES with weighted multi-recombination", [6]_).
    - C learns from the steps that were drawn, relative to the mean and sigma of that time, and sigma in part
      (:meth:`~optimizers._cma.Strategy.tell_late`): relative to the present mean, they would tell where it has been.
    - No more than four populations are in flight: :math:`\lambda` is at least a quarter of the workers.

    The rules were chosen on all 24 functions of BBOB (share of targets, budget 100 dim, dimensions 5 and 10) and on the
    convergence on sphere, ellipsoid and Rosenbrock's function, with 32 and 128 in flight.

    ``synchronous=True`` is the textbook's algorithm however many are in flight: :math:`\lambda` individuals come from
    one distribution and are awaited. In both, failed evaluations are replaced by further draws, and individuals that
    were adopted (a user's guesses, retries) count as injected.

    Parameters
    ----------
    pop_size
        Results per update, :math:`\lambda`, of the first run; ``None`` for 4 + 3 ln(dim), rounded down, or a quarter of
        the workers if that is more and nothing is awaited. Larger is slower and more robust.
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
    workers
        Evaluations at a time, which the experiment fills in.

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
        workers: int | None = None,
    ) -> None:
        at_once = 1 if workers is None else check_count("workers", workers, 1)
        size = max(4 + math.floor(3 * math.log(space.dim)), 0 if synchronous else math.ceil(at_once / _MOST_LATE))
        size = size if pop_size is None else check_count("pop_size", pop_size, 4)
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

    def _draw(self) -> tuple[Floats, _Drawn]:
        strategy = self.strategy
        x, raw = strategy.draw(self.rng)
        return x, _Drawn(self.run, strategy.generation, raw, *strategy.origin)

    def _learn(self, results: Results) -> int:
        strategy, size = self.strategy, self.pop_size
        of_run = [i for i, drawn in enumerate(results.notes) if drawn is None or drawn.run == self.run]
        if len(of_run) < size:
            return size - len(of_run)
        of_run = of_run[:size]  # more come only where many were adopted
        cost, drawn = results.cost[of_run], [results.notes[i] or self._adopted(results.x[i]) for i in of_run]
        raw = np.array([d.raw for d in drawn])
        lag = round(len(self._untold) / (2 * size)) if self.asynchronous else 0
        while len(self._recent) > lag:
            self._recent.popleft()
        mu = size // 2
        if self._recent or any(d.generation != strategy.generation for d in drawn):
            pool_cost, pool_raw = (np.concatenate(p) for p in zip((cost, raw), *self._recent, strict=True))
            best = np.argsort(pool_cost, kind="stable")[:mu]  # of equals the newest
            steps = (raw - np.array([d.mean for d in drawn])) / np.array([[d.sigma] for d in drawn])
            strategy.tell_late(pool_raw[best], steps, cost)
        else:
            strategy.tell(raw, cost)
        self._recent.append((cost[:mu], raw[:mu]))
        if strategy.stopped or strategy.n_told >= self._most:
            self._restart()
        return 0

    def _adopted(self, x: Floats) -> _Drawn:
        """Inject a vector as if it had been drawn, its step clipped."""
        strategy = self.strategy
        return _Drawn(self.run, strategy.generation, strategy.clipped(x[None])[0], *strategy.origin)

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
