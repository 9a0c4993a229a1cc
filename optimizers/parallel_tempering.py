"""Parallel tempering: Metropolis chains at a ladder of temperatures, which they exchange."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Objectives
from l2l_dask.space import Floats, Space
from optimizers._chains import Chain, Chains, accepts
from optimizers._options import check_count
from optimizers._schedules import Schedule

_RANGE = 1e-4  # of the lowest temperature to the highest, where none are given


class ParallelTempering(Chains):
    r"""Metropolis chains at a geometric ladder of temperatures; neighbours exchange theirs.

    Hot chains cross barriers, cold ones look closely. Two chains at neighbouring temperatures exchange them with
    probability :math:`\min(1, e^{(1/T_i - 1/T_j)(E_i - E_j)})` [1]_ [2]_, which leaves each temperature's distribution
    :math:`\propto e^{-E/T}` as it is. To exchange temperatures is to exchange states, but what a chain has in flight
    stays its own. In between each chain steps as in simulated annealing, with a variance of steps in proportion to the
    temperature (until a ladder that cools is at a ten thousandth).

    Asynchronous, it never waits: after each of its steps a chain tries to exchange with the neighbour above and below
    in turn, while others' results are awaited; with more workers than chains further candidates are drawn in case
    those before are rejected, and judged in the order drawn [3]_. No evaluation is judged against another state than
    that from which it was drawn, so the stationary distribution is the same, provided that how long an evaluation
    takes does not depend on its cost. With ``synchronous=True``, which needs no such proviso, all chains step, then the
    pairs (0, 1), (2, 3), ... or (1, 2), (3, 4), ... try to exchange, in turn.

    Failed evaluations are rejected. The first individuals are random, the chains start at the best of them.

    Parameters
    ----------
    n_parallel_runs
        Number of chains and of temperatures.
    noisy_step
        Standard deviation of a step at the highest temperature, in encoded units: 1 is a bounded parameter's range, or
        an unbounded one's ``scale``. Colder chains' steps are smaller by the root of the temperature.
    n_iteration
        Steps of each chain after which it is done; ``None`` for as many as the experiment's evaluations allow.
    stop_criterion
        A fitness, in the user's direction, at which it is done.
    temperature_bounds
        Lowest and highest temperature, in units of the fitness; ``None`` for the spread of 20 random individuals'
        fitness and a ten thousandth of it.
    cooling_schedule
        ``constant``, or a schedule of simulated annealing by which the whole ladder cools.
    temp_decay
        Decay of the multiplicative schedules; ``None`` for 0.99 (default), 0.85 (exponential) or 1 (the others).
    evaluations
        The experiment's budget, which it fills in: where additive schedules end.
    synchronous
        Whether to await the results of all chains before exchanges and the next step of any.

    References
    ----------
    .. [1] R. H. Swendsen, J.-S. Wang, "Replica Monte Carlo simulation of spin-glasses", Physical Review Letters 57,
       1986.
    .. [2] D. J. Earl, M. W. Deem, "Parallel tempering: theory, applications, and new perspectives", Physical Chemistry
       Chemical Physics 7, 2005.
    .. [3] A. E. Brockwell, "Parallel Markov chain Monte Carlo simulation by pre-fetching", Journal of Computational and
       Graphical Statistics 15(1), 2006.
    """

    source: ClassVar[str] = "Swendsen and Wang, Physical Review Letters 57, 1986; Earl and Deem, PCCP 7, 2005"

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        n_parallel_runs: int = 8,
        noisy_step: float = 0.4,
        n_iteration: int | None = None,
        stop_criterion: float | None = None,
        temperature_bounds: tuple[float, float] | None = None,
        cooling_schedule: str = "constant",
        temp_decay: float | None = None,
        evaluations: int | None = None,
        synchronous: bool = False,
    ) -> None:
        runs = check_count("n_parallel_runs", n_parallel_runs, 2)
        steps = None if n_iteration is None else check_count("n_iteration", n_iteration, 1)
        if steps is None and evaluations is not None:
            steps = max(1, check_count("evaluations", evaluations, 1) // runs)
        super().__init__(
            space,
            objectives,
            seed=seed,
            n_parallel_runs=runs,
            noisy_step=noisy_step,
            n_iteration=n_iteration,
            stop_criterion=stop_criterion,
            schedule=Schedule(cooling_schedule, decay=temp_decay, n=steps),
            scaled=temperature_bounds is None,
            synchronous=synchronous,
        )
        self.ladder: Floats = np.ones(runs)  # temperatures, ascending
        if temperature_bounds is not None:
            self.ladder = np.geomspace(*_checked(temperature_bounds), runs)
        self._scaled = temperature_bounds is None
        self._tried = [0] * runs  # per level, exchanges tried from there
        self._odd = False

    def _begin(self, scale: float) -> None:
        if self._scaled:
            self.ladder = np.geomspace(_RANGE * scale, scale, self.n_parallel_runs)

    def temperature(self, chain: Chain) -> float:
        """Return the temperature at which a chain is, in units of the cost."""
        return float(self.ladder[chain.level]) * self._schedule(chain.results)

    def _relative(self, chain: Chain) -> float:
        return float(self.ladder[chain.level] / self.ladder[-1]) * max(self._schedule(chain.results), _RANGE)

    def _judged(self, chain: Chain) -> None:
        """Try to exchange with the level above or below, in turn."""
        level = chain.level
        self._tried[level] += 1
        other = level + (1 if (level + self._tried[level]) % 2 else -1)
        if 0 <= other < len(self.chains):
            self._exchange(min(level, other))

    def _sweep(self) -> None:
        for level in range(int(self._odd), len(self.chains) - 1, 2):
            self._exchange(level)
        self._odd = not self._odd

    def _exchange(self, level: int) -> None:
        """Exchange the temperatures of a level and that above with the probability of [2]_."""
        low, high = (next(c for c in self.chains if c.level == at) for at in (level, level + 1))
        cold, hot = self.temperature(low), self.temperature(high)
        if cold > 0.0 and accepts(self.rng, (1.0 / cold - 1.0 / hot) * (high.cost - low.cost), 1.0):
            low.level, high.level = high.level, low.level


def _checked(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds if isinstance(bounds, tuple | list) and len(bounds) == 2 else (math.nan, math.nan)
    numbers = all(isinstance(b, int | float) and not isinstance(b, bool) for b in (low, high))
    if not numbers or not 0.0 < low <= high < math.inf:
        raise OptimizerError(f"temperature_bounds must be two positive numbers (lowest, highest), got {bounds!r}")
    return float(low), float(high)
