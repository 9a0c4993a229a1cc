"""FACE: the cross-entropy method with a sample size of its own choice."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Objectives
from l2l_dask.optimizer import ALL_SPACES
from l2l_dask.space import Floats, Space
from optimizers._distributions import Distribution, kept
from optimizers._generations import Generations, Results
from optimizers._options import check_count, check_number


class FACE(Generations):
    r"""The fully adaptive cross-entropy method: as many individuals per update as it takes to improve.

    Distributions are fitted as by :class:`~optimizers.cross_entropy.CrossEntropy`; the number of the elite is fixed. Of
    each sample of ``min_pop_size`` results, :math:`S_t` is the best and :math:`\gamma_t` that of the last of the elite.
    If :math:`S_t` is better than in the update before, or :math:`\gamma_t` is, the distribution is updated; else
    ``n_expand`` more results are added to the sample, until either is, or there are ``max_pop_size``: then it is done,
    having found what can be found with samples of that size ([1]_, section on the fully adaptive CE algorithm, FACE,
    where the result of such a stop is called unreliable if the elite still differ). That includes the case that all
    fitnesses are equal.

    Asynchronous, the sample grows as results come, whichever distribution they were drawn from, and nothing waits for a
    decision. ``synchronous=True`` is the textbook's: the sample, and then each expansion of it, is awaited.

    Parameters
    ----------
    min_pop_size
        Results with which an update is tried first.
    max_pop_size
        Results with which an update is tried last.
    n_elite
        Number of the elite.
    smoothing
        Part of the old parameters in the new ones, from 0 to below 1. Larger is slower and more robust.
    temp_decay
        0, or the factor by which a temperature T, 1 at first, falls with each update; one who is not elite is kept with
        probability min(1, exp(-d / T)) where its fitness is worse by d than that of the last of the elite.
    n_iteration
        Updates after which it is done; ``None`` for as many as the experiment's evaluations allow.
    distribution
        ``gaussian``, ``noisy-gaussian``, ``bayesian-gaussian-mixture`` or ``noisy-mixture``; mixtures need
        scikit-learn.
    noise_magnitude
        Variance that the noisy distributions add in the first update, in encoded units: 1 is the square of a bounded
        parameter's range.
    noise_decay
        Factor by which this variance falls with each update.
    n_components
        Most components of a mixture.
    stop_criterion
        A fitness at which it is done; ``None`` for none.
    n_expand
        Results by which a sample grows that has brought no improvement.
    synchronous
        Whether a sample, and each expansion of it, is awaited before more are drawn.

    References
    ----------
    .. [1] P.-T. de Boer, D. P. Kroese, S. Mannor, R. Y. Rubinstein, "A tutorial on the cross-entropy method", Annals of
       Operations Research 134, 2005.
    """

    source: ClassVar[str] = "de Boer, Kroese, Mannor and Rubinstein, Annals of Operations Research 134, 2005"
    spaces: ClassVar[frozenset[str]] = ALL_SPACES

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        min_pop_size: int = 50,
        max_pop_size: int = 500,
        n_elite: int = 10,
        smoothing: float = 0.2,
        temp_decay: float = 0.0,
        n_iteration: int | None = None,
        distribution: Literal["gaussian", "noisy-gaussian", "bayesian-gaussian-mixture", "noisy-mixture"] = "gaussian",
        noise_magnitude: float = 0.01,
        noise_decay: float = 0.95,
        n_components: int = 2,
        stop_criterion: float | None = None,
        n_expand: int = 10,
        synchronous: bool = False,
    ) -> None:
        super().__init__(
            space,
            objectives,
            seed=seed,
            pop_size=check_count("min_pop_size", min_pop_size, 2),
            n_iteration=n_iteration,
            stop_criterion=stop_criterion,
            synchronous=synchronous,
        )
        self.max_pop_size = check_count("max_pop_size", max_pop_size, min_pop_size)
        self.n_elite = check_count("n_elite", n_elite, 2)
        if n_elite > min_pop_size:
            raise OptimizerError(f"n_elite must be at most min_pop_size = {min_pop_size}, got {n_elite}")
        self.n_expand = check_count("n_expand", n_expand, 1)
        self.smoothing = check_number("smoothing", smoothing, 0, 0.999)
        self.temp_decay = check_number("temp_decay", temp_decay, 0, 1)
        self.temperature = 1.0 if temp_decay else 0.0
        self.best, self.gamma = math.inf, math.inf  # S and gamma of the last update, as costs
        self.distribution = Distribution(
            space,
            distribution,
            n_elite=n_elite,
            noise_magnitude=noise_magnitude,
            noise_decay=noise_decay,
            n_components=n_components,
            least_sd=self._least_sd,
        )

    def _draw(self) -> tuple[Floats, None]:
        return (self.distribution.draw(self.rng) if self.generation else self.space.sample(self.rng, 1)[0]), None

    def _learn(self, results: Results) -> int:
        best, gamma = float(results.cost[0]), float(results.cost[min(self.n_elite, len(results)) - 1])
        if not (best < self.best or gamma < self.gamma):
            more = min(self.n_expand, self.max_pop_size - len(results))
            if more <= 0:
                self._stop()
            return max(0, more)
        self.best, self.gamma = best, gamma
        keep = kept(self.rng, results.cost, self.n_elite, self.temperature)
        self.distribution.fit(self.rng, results.x[keep], self.smoothing)
        self.temperature *= self.temp_decay
        return 0
