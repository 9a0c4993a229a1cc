"""Distributions that are fitted to the best individuals: Gaussians for numbers, frequencies for categoricals.

References
----------
.. [1] R. Y. Rubinstein, D. P. Kroese, "The cross-entropy method", Springer, 2004.
.. [2] D. P. Kroese, S. Porotsky, R. Y. Rubinstein, "The cross-entropy method for continuous multi-extremal
   optimization", Methodology and Computing in Applied Probability 8, 2006.
.. [3] I. Szita, A. Lőrincz, "Learning Tetris using the noisy cross-entropy method", Neural Computation 18(12), 2006.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import OptimizerError
from l2l_dask.space import Floats, Space
from optimizers._options import check_count, check_number

KINDS = ("gaussian", "noisy-gaussian", "bayesian-gaussian-mixture", "noisy-mixture")
_RELATIVE_JITTER = 1e-10  # of a variance: a covariance of full rank, though the elite may lie on a line
# Of a component's variance, in terms of all the elite's, and of its mean, in results. With scikit-learn's own, 1, a
# mixture of few elite hardly contracts.
_PRIOR = 0.01
_LEAST_PROBABILITY = 1e-3  # of all choices of a categorical together, however long they have not been among the elite


def kept(rng: np.random.Generator, cost: Floats, n_elite: int, temperature: float) -> NDArray[np.intp]:
    """Choose what a distribution is fitted to: the elite, and with a temperature some that are not.

    The elite are all whose cost is at most gamma, the cost of the ``n_elite``-th best: the indicator of [1]_, algorithm
    for optimization, which takes in everybody who equals the worst of them. Another is kept with probability
    exp(-(cost - gamma) / T), after simulated annealing.

    Parameters
    ----------
    cost : (n,) array
        Ascending.
    temperature
        T; 0 keeps the elite alone, and draws no random number.
    """
    gamma = cost[min(n_elite, len(cost)) - 1]
    keep = cost <= gamma
    if temperature > 0 and not keep.all():
        with np.errstate(over="ignore"):  # far, or cold
            probability = np.exp(-(cost[~keep] - gamma) / temperature)
        keep[~keep] = rng.random(len(probability)) < probability
    return np.flatnonzero(keep)


@dataclass(frozen=True)
class _Gaussians:
    """K weighted Gaussians: weights (K,), means (K, d), and covariances (K, d, d) or variances (K, d)."""

    weights: Floats
    means: Floats
    spreads: Floats

    def smoothed(self, old: _Gaussians, smoothing: float) -> _Gaussians:
        """Return smoothing * old + (1 - smoothing) * new, parameter by parameter ([1]_, smoothed updating).

        Components have no order, so each new one is smoothed with its own old one: they are matched so that the squared
        distances of their means are least in sum. One without a partner is in the mixture with its part of the weight.
        """
        from scipy.optimize import linear_sum_assignment  # slow to import

        if smoothing == 0:
            return self
        new_part, old_part = (1.0 - smoothing) * self.weights, smoothing * old.weights
        distances = ((self.means[:, None, :] - old.means) ** 2).sum(axis=2)
        i, j = linear_sum_assignment(distances)
        alone, left = np.setdiff1d(range(len(self.weights)), i), np.setdiff1d(range(len(old.weights)), j)
        mix = (1.0 - smoothing, smoothing)
        return _Gaussians(
            np.concatenate([new_part[i] + old_part[j], new_part[alone], old_part[left]]),
            np.concatenate([mix[0] * self.means[i] + mix[1] * old.means[j], self.means[alone], old.means[left]]),
            np.concatenate(
                [mix[0] * self.spreads[i] + mix[1] * old.spreads[j], self.spreads[alone], old.spreads[left]]
            ),
        )


class Distribution:
    """A distribution on encoded vectors; its numbers and its categoricals are independent of each other.

    It begins as the space's own: its mean and variance on numbers, all choices alike on categoricals. Covariances are
    full where there are at least two of the elite per dimension and component, otherwise the dimensions are
    independent, as in [2]_: a covariance of fewer samples than dimensions would confine the search to the plane through
    them.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    n_elite
        To how many individuals it will be fitted.
    noise_magnitude
        Variance Z_0 that the noisy kinds add in the first update ([3]_).
    noise_decay
        Z_t = Z_0 noise_decay^t.
    n_components
        Of a mixture.
    least_sd : (dim,) array
        Standard deviations below which it does not fall.
    """

    def __init__(
        self,
        space: Space,
        kind: str,
        *,
        n_elite: int,
        noise_magnitude: float,
        noise_decay: float,
        n_components: int,
        least_sd: Floats,
    ) -> None:
        if kind not in KINDS:
            raise OptimizerError(f"distribution must be one of {', '.join(KINDS)}; got {kind!r}")
        if "mixture" in kind:
            _require_sklearn(kind)
        self.n_components = check_count("n_components", n_components, 1) if "mixture" in kind else 1
        self.noise_decay = check_number("noise_decay", noise_decay, 0, 1)
        magnitude = check_number("noise_magnitude", noise_magnitude, 0, 1e6)
        self.noise = magnitude if kind.startswith("noisy") else 0.0
        categorical = np.array([k == "categorical" for k in space.kinds])
        self._numeric, self._categorical = np.flatnonzero(~categorical), np.flatnonzero(categorical)
        self._least_variance = least_sd[self._numeric] ** 2
        self.full = n_elite >= 2 * len(self._numeric) * self.n_components
        bounded = space.bounded[self._numeric]
        self._now = self._of_one(np.where(bounded, 0.5, 0.0), np.where(bounded, 1 / 12, 1.0))
        self._n_values = space.n_values[self._categorical]
        most = int(self._n_values.max(initial=1))
        self.frequencies: Floats = (np.arange(most) < self._n_values[:, None]) / self._n_values[:, None]
        self._set()

    @property
    def weights(self) -> Floats:
        """(K,) array, which sums to 1."""
        return self._now.weights

    @property
    def means(self) -> Floats:
        """(K, d) array, d being the number of dimensions that are not categorical."""
        return self._now.means

    @property
    def covariances(self) -> Floats:
        """(K, d, d) array, without noise and least variances."""
        return self._now.spreads if self.full else np.array([np.diag(v) for v in self._now.spreads])

    def _of_one(self, mean: Floats, variance: Floats) -> _Gaussians:
        return _Gaussians(np.ones(1), mean[None], (np.diag(variance) if self.full else variance)[None])

    def draw(self, rng: np.random.Generator) -> Floats:
        """Draw one (dim,) vector; its numbers may lie outside the bounds."""
        x = np.empty(len(self._numeric) + len(self._categorical))
        if len(self._numeric):
            k = int(np.searchsorted(self._cumulative, rng.random())) if len(self._cumulative) else 0
            z = rng.standard_normal(len(self._numeric))
            x[self._numeric] = self._now.means[k] + (self._factors[k] @ z if self.full else self._factors[k] * z)
        if len(self._categorical):
            codes = (rng.random((len(self._categorical), 1)) >= self._choice_below).sum(axis=1)
            x[self._categorical] = (codes + 0.5) / self._n_values
        return x

    def fit(self, rng: np.random.Generator, x: Floats, smoothing: float) -> None:
        """Move to the distribution that fits ``x`` (n, dim) best, by a part of 1 - ``smoothing``."""
        if len(self._numeric):
            self._now = self._fitted(rng, x[:, self._numeric]).smoothed(self._now, smoothing)
        if len(self._categorical):
            codes = np.floor(x[:, self._categorical] * self._n_values).astype(int)
            counted = (codes[:, :, None] == np.arange(self.frequencies.shape[1])).mean(axis=0)
            self.frequencies = smoothing * self.frequencies + (1.0 - smoothing) * counted
        self._set()
        self.noise *= self.noise_decay

    def _fitted(self, rng: np.random.Generator, x: Floats) -> _Gaussians:
        mean = x.mean(axis=0)
        variance = ((x - mean) ** 2).mean(axis=0)
        if self.n_components > 1 and len(x) > 1:
            scale = np.sqrt(np.maximum(variance, self._least_variance))
            return self._mixture(rng, (x - mean) / scale, mean, scale)
        if not self.full:
            return self._of_one(mean, variance)
        return _Gaussians(np.ones(1), mean[None], ((x - mean).T @ (x - mean) / len(x))[None])

    def _mixture(self, rng: np.random.Generator, z: Floats, mean: Floats, scale: Floats) -> _Gaussians:
        from sklearn.mixture import BayesianGaussianMixture

        d = z.shape[1]
        model = BayesianGaussianMixture(
            n_components=min(self.n_components, len(z)),
            init_params="k-means++",
            mean_precision_prior=_PRIOR,
            covariance_prior=_PRIOR * (np.eye(d) if self.full else np.ones(d)),
            covariance_type="full" if self.full else "diag",
            weight_concentration_prior_type="dirichlet_distribution",
            random_state=int(rng.integers(2**31)),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it might converge further, or that some of the elite are equal
            model.fit(z)
        scales = np.outer(scale, scale) if self.full else scale**2
        return _Gaussians(model.weights_, mean + model.means_ * scale, model.covariances_ * scales)

    def _set(self) -> None:
        """Prepare for drawing: add the noise, keep the variances from vanishing, factorise."""
        self._cumulative = np.cumsum(self._now.weights)[:-1]
        spreads = self._now.spreads.copy()
        variances = np.einsum("kii->ki", spreads) if self.full else spreads  # a view
        variances[:] = np.maximum(variances * (1.0 + _RELATIVE_JITTER) + self.noise, self._least_variance)
        self._factors = np.linalg.cholesky(spreads) if self.full else np.sqrt(spreads)
        if len(self._categorical):
            alike = (np.arange(self.frequencies.shape[1]) < self._n_values[:, None]) / self._n_values[:, None]
            likely = (1.0 - _LEAST_PROBABILITY) * self.frequencies + _LEAST_PROBABILITY * alike
            self._choice_below = np.where(alike > 0, np.cumsum(likely, axis=1), 2.0)
            self._choice_below[np.arange(len(self._n_values)), self._n_values - 1] = (
                2.0  # though it may sum to 1 - 1e-16
            )


def _require_sklearn(kind: str) -> None:
    try:
        import sklearn.mixture  # noqa: F401
    except ImportError as error:
        raise OptimizerError(f"{kind} needs scikit-learn: pip install 'l2l-dask[algorithms]'") from error
