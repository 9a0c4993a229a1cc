"""Simulated annealing: independent Metropolis chains that cool."""

from __future__ import annotations

import math
from typing import ClassVar

from l2l_dask.evaluation import Objectives
from l2l_dask.space import Space
from optimizers._chains import Chain, Chains
from optimizers._options import check_count, check_number
from optimizers._schedules import Schedule


class SimulatedAnnealing(Chains):
    r"""Independent Metropolis chains, each cooling by its own steps.

    A candidate of a rise :math:`\Delta E` of the cost is accepted with probability
    :math:`\min(1, e^{-\Delta E / T})` ([1]_, p. 672). Steps are Gaussian, with a variance in proportion to the
    temperature, as in Boltzmann annealing [2]_, down to that of ``temp_end``, reflected at bounds.

    Asynchronous, it never waits: where there are more workers than chains, a chain draws further candidates from its
    state in case those before are rejected ([3]_). They are judged in the order drawn, and those drawn from a state
    that the chain has left are not judged at all, so that each chain is distributed as if it went one by one,
    whatever the order in which results come. The price is evaluations that decide nothing, the more of them the more
    is accepted: few when it is cold. With ``synchronous=True`` each chain has one candidate in flight, and all of
    them are awaited before the next: the original's way.

    A chain's clock is the number of results that came of its candidates, judged or not, so that the schedule ends with
    the budget. Failed evaluations are rejected. The first individuals are random, the chains start at the best of them.

    Parameters
    ----------
    n_parallel_runs
        Number of chains. More explore more, with fewer steps each.
    noisy_step
        Standard deviation of a step at the first temperature, in encoded units: 1 is a bounded parameter's range, or an
        unbounded one's ``scale``. It shrinks as the root of the temperature.
    temp_decay
        Decay of the multiplicative schedules. ``None`` for 0.85 (exponential), 1 (the others) or, for the default, what
        brings it to ``temp_end`` with ``n_iteration`` or the experiment's evaluations (0.99 if neither is known).
    n_iteration
        Steps of each chain after which it is done; ``None`` for as many as the experiment's evaluations allow.
    stop_criterion
        A fitness, in the user's direction, at which it is done.
    cooling_schedule
        constant, default (geometric), logarithmic, exponential, linear-multiplicative, quadratic-multiplicative,
        linear-additive, quadratic-additive, exponential-additive or trigonometric-additive; the formulas are in
        ``optimizers/_schedules.py``. The additive ones end with ``n_iteration`` or the experiment's evaluations.
    temperature
        First temperature, in units of the fitness: a rise of that much is accepted with probability 0.37. ``None``
        for the spread of 20 random individuals' fitness ([4]_).
    temp_end
        Last temperature of the default and the additive schedules, as a part of the first. Steps of any schedule get
        no smaller than they are there: others go on to cool, and would only propose again where the chain is.
    evaluations
        The experiment's budget, which it fills in: where these schedules end.
    synchronous
        Whether to await the results of all chains before the next step of any.

    References
    ----------
    .. [1] S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi, "Optimization by simulated annealing", Science 220, 1983.
    .. [2] L. Ingber, "Very fast simulated re-annealing", Mathematical and Computer Modelling 12(8), 1989.
    .. [3] A. E. Brockwell, "Parallel Markov chain Monte Carlo simulation by pre-fetching", Journal of Computational and
       Graphical Statistics 15(1), 2006.
    .. [4] S. R. White, "Concepts of scale in simulated annealing", ICCD 1984.
    """

    source: ClassVar[str] = "Kirkpatrick, Gelatt and Vecchi, Science 220, 1983; schedules: Nourani and Andresen, 1998"

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        n_parallel_runs: int = 4,
        noisy_step: float = 0.3,
        temp_decay: float | None = None,
        n_iteration: int | None = None,
        stop_criterion: float | None = None,
        cooling_schedule: str = "default",
        temperature: float | None = None,
        temp_end: float = 1e-4,
        evaluations: int | None = None,
        synchronous: bool = False,
    ) -> None:
        steps = None if n_iteration is None else check_count("n_iteration", n_iteration, 1)
        if steps is None and evaluations is not None:
            runs = check_count("n_parallel_runs", n_parallel_runs, 1)
            steps = max(1, check_count("evaluations", evaluations, 1) // runs)
        self._least = check_number("temp_end", temp_end, 1e-300, 0.5)
        if temp_decay is None and cooling_schedule == "default" and steps is not None:
            temp_decay = self._least ** (1.0 / steps)
        super().__init__(
            space,
            objectives,
            seed=seed,
            n_parallel_runs=n_parallel_runs,
            noisy_step=noisy_step,
            n_iteration=n_iteration,
            stop_criterion=stop_criterion,
            schedule=Schedule(cooling_schedule, decay=temp_decay, end=temp_end, n=steps),
            scaled=temperature is None,
            synchronous=synchronous,
        )
        self._first = math.nan if temperature is None else check_number("temperature", temperature, 1e-300, math.inf)

    def _begin(self, scale: float) -> None:
        if math.isnan(self._first):
            self._first = scale

    def temperature(self, chain: Chain) -> float:
        """Return the temperature at which a chain is, in units of the cost."""
        return self._first * self._schedule(chain.results)

    def _relative(self, chain: Chain) -> float:
        return max(self._schedule(chain.results), self._least)
