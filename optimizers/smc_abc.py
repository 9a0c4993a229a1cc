"""Approximate Bayesian computation by sequential Monte Carlo, asynchronous."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._latent import Latent
from optimizers._options import check_count, check_number, checked_goal

_NOBODY = -1
_JITTER = 1e-9  # least standard deviation of the kernel, relative to the prior's


class Population(NamedTuple):
    """A weighted sample of the posterior.

    Attributes
    ----------
    x : (n, dim) array
        Encoded vectors.
    weights : (n,) array
        Their sum is 1.
    costs : (n,) array
        Distances, none above ``epsilon``.
    epsilon : float
        The threshold.
    """

    x: Floats
    weights: Floats
    costs: Floats
    epsilon: float


class _Proposal:
    """Where particles are drawn: a mixture of Gaussians around a population's, or the prior."""

    def __init__(self, z: Floats | None = None, weights: Floats | None = None) -> None:
        self._centres, self._weights = z, weights
        if z is None or weights is None:
            return
        self._cumulated = np.cumsum(weights)
        mean = weights @ z
        variance = 2.0 * (weights @ (z - mean) ** 2) + _JITTER**2  # [2]_, section 2: twice the weighted variance
        self._root = np.diag(np.sqrt(variance))
        if 1.0 / (weights @ weights) > 2 * z.shape[1]:  # enough particles for a covariance ([4]_, eq. 2)
            covariance = 2.0 * ((weights[:, None] * (z - mean)).T @ (z - mean))
            self._root = np.linalg.cholesky(covariance + 1e-10 * np.diag(variance))
        self._inverse = np.linalg.inv(self._root)
        self._whitened = z @ self._inverse.T
        self._log_norm = float(np.log(np.diag(self._root)).sum())

    def draw(self, rng: np.random.Generator, latent: Latent) -> tuple[Floats, int]:
        """Draw a particle; return the index of the one that it was drawn around too."""
        if self._centres is None:
            return latent.sample(rng), _NOBODY
        chosen = min(int(np.searchsorted(self._cumulated, rng.random() * self._cumulated[-1])), len(self._centres) - 1)
        z: Floats = self._centres[chosen] + self._root @ rng.standard_normal(self._centres.shape[1])
        return z, chosen

    def log_weight(self, z: Floats) -> float:
        """Return the logarithm of prior over proposal density, the importance weight of [1]_, step S2.3."""
        if self._centres is None or self._weights is None:
            return 0.0
        distances = ((self._whitened - self._inverse @ z) ** 2).sum(axis=1)
        logs = np.log(np.maximum(self._weights, 1e-300)) - 0.5 * distances
        top = float(logs.max())
        return -0.5 * float(z @ z) - (top + math.log(np.exp(logs - top).sum()) - self._log_norm)


class _Particle(NamedTuple):
    cost: float
    id: int
    z: Floats
    log_weight: float


class SMCABC(Optimizer):
    r"""Approximate Bayesian computation by sequential Monte Carlo: a sample of all parameters that fit.

    The cost is a distance from what was measured; the prior is uniform within bounds, and normal, by ``loc`` and
    ``scale``, without. From the prior on, populations of ``pop_size`` particles are accepted below thresholds
    :math:`\epsilon_t` that fall [1]_: each is the ``alpha`` quantile of the costs of the population before. A particle
    is drawn around one of the last population, by weight, by a Gaussian of twice their weighted covariance ([2]_; of
    the variances alone if there are few for the dimension), and weighs
    :math:`w = \pi(z) / \sum_j w_j K(z | z_j)`. It is drawn in coordinates z in which the prior is standard normal, so
    that there are no bounds and densities need no normalisation. The simulations' random numbers are part of the
    method: independent seeds, one evaluation each.

    Asynchronous, it never waits (dynamic scheduling and look-ahead [3]_ [5]_): as soon as ``pop_size`` are accepted the
    next population begins, and what is still in flight, drawn from an older one, enters it if it is close enough, with
    the weight of the density that it was drawn from: so none is lost, also if it is slow because of its parameters.
    Particles of the last population that are below the new threshold stay, with their weights ([6]_). With
    ``synchronous=True`` only as many are in flight as are still to be accepted, those of a population are all awaited,
    and none stays: the textbook.

    Failed evaluations are rejected. An adopted individual weighs as if it had been drawn when it was adopted.

    Parameters
    ----------
    pop_size
        Particles of a population.
    alpha
        Quantile of the costs of one population that is the threshold of the next.
    n_iteration
        Populations after which it is done; ``None`` for as many as the experiment's evaluations allow.
    stop_criterion
        A fitness, in the user's direction: it is done with the first population of which the threshold is that good.
    synchronous
        Whether to await all of a population.

    References
    ----------
    .. [1] T. Toni et al., "Approximate Bayesian computation scheme for parameter inference and model selection in
       dynamical systems", Journal of the Royal Society Interface 6, 2009.
    .. [2] M. A. Beaumont, J.-M. Cornuet, J.-M. Marin, C. P. Robert, "Adaptive approximate Bayesian computation",
       Biometrika 96, 2009.
    .. [3] E. Klinger, D. Rickert, J. Hasenauer, "pyABC: distributed, likelihood-free inference", Bioinformatics 34,
       2018.
    .. [4] S. Filippi et al., "On optimality of kernels for approximate Bayesian computation using sequential Monte
       Carlo", Statistical Applications in Genetics and Molecular Biology 12, 2013.
    .. [5] E. Alamoudi et al., "A wall-time minimizing parallelization strategy for approximate Bayesian computation",
       PLoS ONE 19, 2024.
    .. [6] M. Lenormand, F. Jabot, G. Deffuant, "Adaptive approximate Bayesian computation for complex models",
       Computational Statistics 28, 2013.
    """

    source: ClassVar[str] = "Toni et al., J. R. Soc. Interface 6, 2009; Beaumont et al., Biometrika 96, 2009"

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int = 100,
        alpha: float = 0.5,
        n_iteration: int | None = None,
        stop_criterion: float | None = None,
        synchronous: bool = False,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.pop_size = check_count("pop_size", pop_size, 4)
        self.alpha = check_number("alpha", alpha, 0.01, 0.99)
        self.n_iteration = None if n_iteration is None else check_count("n_iteration", n_iteration, 1)
        self._goal = checked_goal(self.objectives, stop_criterion)
        self.asynchronous = not synchronous
        self.iteration = 0  # populations so far
        self._latent = Latent(space)
        self._epsilon = math.inf  # of the population that is being gathered
        self._kernel, self._ids = _Proposal(), np.empty(0, dtype=np.int64)
        self._accepted: list[_Particle] = []
        self._last: tuple[list[_Particle], float] = ([], math.inf)
        self._flying: dict[int, tuple[Floats, _Proposal]] = {}

    @property
    def population(self) -> Population:
        """The last complete population; an empty one before the first."""
        particles, epsilon = self._last
        z = np.array([p.z for p in particles]).reshape(-1, self.space.dim)
        costs = np.array([p.cost for p in particles], dtype=float)
        return Population(self._latent.encoded(z), _weights(particles), costs, epsilon)

    @property
    def done(self) -> bool:
        enough = self.n_iteration is not None and self.iteration >= self.n_iteration
        return enough or (self.iteration > 0 and self._last[1] <= self._goal)

    def _ask(self, n: int) -> Candidates:
        if self.done:
            n = 0
        elif not self.asynchronous:
            n = max(0, min(n, self.pop_size - len(self._accepted) - len(self._flying)))
        rows, parents = np.empty((n, self.space.dim)), np.full(n, _NOBODY, dtype=np.int64)
        for i in range(n):
            z, around = self._kernel.draw(self.rng, self._latent)
            self._flying[self.n_asked + i] = (z, self._kernel)
            rows[i] = z
            if around != _NOBODY:
                parents[i] = self._ids[around]
        info = {
            "generation": np.full(n, self.iteration, dtype=np.int64),
            "parents": parents,
            "epsilon": np.full(n, self._epsilon),
        }
        return Candidates(self._latent.encoded(rows), info)

    def _adopt(self, ids: Ids, x: Floats) -> None:
        for id, z in zip(ids.tolist(), self._latent.latent(x), strict=True):
            self._flying[id] = (z, self._kernel)

    def _tell(self, evaluations: Evaluations) -> None:
        for id, cost in zip(evaluations.ids.tolist(), evaluations.cost[:, 0].tolist(), strict=True):
            z, proposal = self._flying.pop(id)
            if not math.isfinite(cost) or cost > self._epsilon or self.done:
                continue
            self._accepted.append(_Particle(cost, id, z, proposal.log_weight(z)))
            if self.asynchronous and len(self._accepted) >= self.pop_size:
                self._complete()
        if not self.asynchronous and len(self._accepted) >= self.pop_size and not self._flying:
            self._complete()

    def _complete(self) -> None:
        """Make a population of the accepted, and begin the next."""
        particles = sorted(self._accepted, key=lambda p: p.id)
        reached = max(p.cost for p in particles)
        self._last = (particles, self._epsilon if math.isfinite(self._epsilon) else reached)
        self.iteration += 1
        weights = _weights(particles)
        self._epsilon = _quantile(np.array([p.cost for p in particles]), weights, self.alpha)
        self._kernel = _Proposal(np.array([p.z for p in particles]), weights)
        self._ids = np.array([p.id for p in particles], dtype=np.int64)
        self._accepted = []
        if self.asynchronous:
            close = [p for p in particles if p.cost <= self._epsilon]
            self._accepted = close[-min(self.pop_size - 1, math.ceil(self.alpha * self.pop_size)) :]


def _weights(particles: list[_Particle]) -> Floats:
    """Return the weights, of sum 1."""
    if not particles:
        return np.empty(0)
    logs = np.array([p.log_weight for p in particles])
    weights: Floats = np.exp(logs - logs.max())
    weights /= weights.sum()
    return weights


def _quantile(costs: Floats, weights: Floats, alpha: float) -> float:
    """Return the smallest cost that at least a weight of ``alpha`` does not exceed."""
    order = np.argsort(costs, kind="stable")
    reached = np.cumsum(weights[order]) >= alpha - 1e-12
    return float(costs[order][int(np.argmax(reached))])
