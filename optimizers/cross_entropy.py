"""The cross-entropy method."""

from __future__ import annotations

from typing import ClassVar, Literal

from l2l_dask.evaluation import Objectives
from l2l_dask.optimizer import ALL_SPACES
from l2l_dask.space import Floats, Space
from optimizers._distributions import Distribution, kept
from optimizers._generations import Generations, Results
from optimizers._options import check_count, check_number


class CrossEntropy(Generations):
    r"""The cross-entropy method: fit a distribution to the best individuals, draw from it, and so on.

    Of ``pop_size`` results the best :math:`N_e = \lfloor\rho N\rfloor` (at least 2) and those that equal the worst of
    them are the elite; the parameters v that fit them best enter the distribution by smoothed updating ([1]_, main CE
    algorithm for optimization; [2]_ for Gaussians):

    .. math:: v_t = s\,v_{t-1} + (1 - s)\,\tilde v_t

    v are the mean and the covariance (its maximum-likelihood estimate), or what describes each component of a mixture,
    matched with the nearest old one; for categoricals the frequencies of the choices. The covariance is full where
    there are at least two of the elite per dimension and component; otherwise the dimensions are independent, as in
    [2]_. The first individuals come from the space itself. Draws are reflected at the bounds.

    Asynchronous, draws never wait, and an update is made of every ``pop_size`` results, whichever distribution they
    were drawn from: some of the elite may be of an older, wider one, which slows its contraction. ``synchronous=True``
    is the textbook's: all ``pop_size`` individuals come from one distribution and are awaited.

    Unlike in the original L2L, one-dimensional spaces are taken, mixtures are smoothed, and who is kept beyond the
    elite is decided by their own fitness.

    Parameters
    ----------
    pop_size
        Results per update (N).
    rho
        Part of them that are elite.
    smoothing
        Part of the old parameters in the new ones (s), from 0 to below 1. Larger is slower and more robust.
    temp_decay
        0, or the factor by which a temperature T, 1 at first, falls with each update; one who is not elite is kept with
        probability min(1, exp(-d / T)) where its fitness is worse by d than that of the last of the elite.
    n_iteration
        Updates after which it is done; ``None`` for as many as the experiment's evaluations allow.
    distribution
        ``gaussian``, ``noisy-gaussian`` [3]_, ``bayesian-gaussian-mixture`` or ``noisy-mixture``; mixtures need
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
    synchronous
        Whether all of ``pop_size`` individuals are awaited before the next are drawn.

    References
    ----------
    .. [1] P.-T. de Boer, D. P. Kroese, S. Mannor, R. Y. Rubinstein, "A tutorial on the cross-entropy method", Annals of
       Operations Research 134, 2005.
    .. [2] D. P. Kroese, S. Porotsky, R. Y. Rubinstein, "The cross-entropy method for continuous multi-extremal
       optimization", Methodology and Computing in Applied Probability 8, 2006.
    .. [3] I. Szita, A. Lőrincz, "Learning Tetris using the noisy cross-entropy method", Neural Computation 18(12),
       2006.
    """

    source: ClassVar[str] = "de Boer, Kroese, Mannor and Rubinstein, Annals of Operations Research 134, 2005"
    spaces: ClassVar[frozenset[str]] = ALL_SPACES

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int = 50,
        rho: float = 0.2,
        smoothing: float = 0.2,
        temp_decay: float = 0.0,
        n_iteration: int | None = None,
        distribution: Literal["gaussian", "noisy-gaussian", "bayesian-gaussian-mixture", "noisy-mixture"] = "gaussian",
        noise_magnitude: float = 0.01,
        noise_decay: float = 0.95,
        n_components: int = 2,
        stop_criterion: float | None = None,
        synchronous: bool = False,
    ) -> None:
        super().__init__(
            space,
            objectives,
            seed=seed,
            pop_size=check_count("pop_size", pop_size, 2),
            n_iteration=n_iteration,
            stop_criterion=stop_criterion,
            synchronous=synchronous,
        )
        self.rho = check_number("rho", rho, 0, 1)
        self.smoothing = check_number("smoothing", smoothing, 0, 0.999)
        self.temp_decay = check_number("temp_decay", temp_decay, 0, 1)
        self.temperature = 1.0 if temp_decay else 0.0
        self.distribution = Distribution(
            space,
            distribution,
            n_elite=self._n_elite(pop_size),
            noise_magnitude=noise_magnitude,
            noise_decay=noise_decay,
            n_components=n_components,
            least_sd=self._least_sd,
        )

    def _n_elite(self, n: int) -> int:
        return max(2, int(self.rho * n + 1e-9))  # 0.29 * 100 is a little less than 29

    def _draw(self) -> tuple[Floats, None]:
        return (self.distribution.draw(self.rng) if self.generation else self.space.sample(self.rng, 1)[0]), None

    def _learn(self, results: Results) -> int:
        keep = kept(self.rng, results.cost, self._n_elite(len(results)), self.temperature)
        self.distribution.fit(self.rng, results.x[keep], self.smoothing)
        self.temperature *= self.temp_decay
        return 0
