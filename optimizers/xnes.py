"""Exponential natural evolution strategies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from l2l_dask.evaluation import Objectives
from l2l_dask.space import Floats, Space
from optimizers._options import check_number
from optimizers._search_gradients import SearchGradients, default_pop_size

_FASTEST = 5.0  # logarithm of the largest factor of an update
_RATE_OF_DELAYED = 2.0  # times the delay in generations: a B that follows late results faster overshoots


class XNES(SearchGradients):
    r"""Exponential natural evolution strategies (xNES): a mean and a full covariance follow the natural gradient.

    For :math:`x_k = \mu + \sigma B s_k,\ s_k \sim N(0, I),\ \det B = 1` and utilities :math:`u_k` ([1]_, algorithm 5)

    .. math::
        G_\delta &= \sum_k u_k s_k, & G_M &= \sum_k u_k (s_k s_k^T - I), \\
        G_\sigma &= \operatorname{tr}(G_M) / d, & G_B &= G_M - G_\sigma I, \\
        \mu &\leftarrow \mu + \eta_\mu\,\sigma B\,G_\delta, &
        \sigma &\leftarrow \sigma\,e^{\eta_\sigma G_\sigma / 2}, \quad B \leftarrow B\,e^{\eta_B G_B / 2}

    The matrix exponential is that of a matrix whose rank is the number of results, so an update costs O(n d^2). Draws
    are reflected at the bounds, the mean is clipped to them.

    Asynchronous, an update is made of every ``pop_size`` results, whichever distribution they were drawn from: width
    and shape learn from the noise that each was drawn with, the mean goes to where the good ones are, seen from the
    mean of now. ``synchronous=True`` is the textbook's: all of ``pop_size`` are drawn from one distribution and
    awaited.

    Parameters
    ----------
    learning_rate_mu
        Of the mean.
    learning_rate_sigma
        Of the width sigma and of the shape B; ``None`` for (9 + 3 ln d) / (5 d sqrt d), d being the number of
        dimensions ([1]_, table 1). Asynchronous, at most 2 / (1 + the delay of the results in generations).
    mu
        A parameter set to start from; ``None`` for the middle of the space.
    sigma
        Width to start with, in encoded units: 1 is a bounded parameter's range, or an unbounded one's ``scale``;
        ``None`` for the space's own standard deviation, 0.29 and 1. An integer's is at least a quarter of its widest
        bin.
    mirrored_sampling
        Whether each noise vector is followed by its negative.
    fitness_shaping
        Whether ranks count instead of the fitness itself.
    pop_size
        Results per update; even with mirrored sampling. ``None`` for 4 + floor(3 ln d), or the next even number.
    n_iteration
        Updates after which it is done; ``None`` for as many as the experiment's evaluations allow.
    stop_criterion
        A fitness at which it is done; ``None`` for none.
    synchronous
        Whether all of ``pop_size`` individuals are awaited before the next are drawn.

    References
    ----------
    .. [1] D. Wierstra, T. Schaul, T. Glasmachers, Y. Sun, J. Peters, J. Schmidhuber, "Natural evolution strategies",
       Journal of Machine Learning Research 15, 2014.
    """

    source: ClassVar[str] = "Wierstra et al., Journal of Machine Learning Research 15, 2014"

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        learning_rate_mu: float = 1.0,
        learning_rate_sigma: float | None = None,
        mu: Mapping[str, Any] | None = None,
        sigma: float | None = None,
        mirrored_sampling: bool = True,
        fitness_shaping: bool = True,
        pop_size: int | None = None,
        n_iteration: int | None = None,
        stop_criterion: float | None = None,
        synchronous: bool = False,
    ) -> None:
        d = space.dim
        super().__init__(
            space,
            objectives,
            seed=seed,
            pop_size=default_pop_size(d, mirrored=mirrored_sampling) if pop_size is None else pop_size,
            mirrored_sampling=mirrored_sampling,
            fitness_shaping=fitness_shaping,
            mu=mu,
            n_iteration=n_iteration,
            stop_criterion=stop_criterion,
            synchronous=synchronous,
        )
        if learning_rate_sigma is None:
            learning_rate_sigma = (9 + 3 * math.log(d)) / (5 * d * math.sqrt(d))
        self.learning_rate_mu = check_number("learning_rate_mu", learning_rate_mu, 0, 1e6)
        self.learning_rate_sigma = check_number("learning_rate_sigma", learning_rate_sigma, 0, 1e6)
        sd = self._first_sd(sigma)
        self.sigma = math.exp(float(np.log(sd).mean()))
        self.shape: Floats = np.diag(sd / self.sigma)  # B

    def _deviation(self, noise: Floats) -> Floats:
        return self.sigma * (noise @ self.shape.T)

    def _noise_of(self, deviation: Floats) -> Floats:
        return np.asarray(np.linalg.lstsq(self.sigma * self.shape, deviation, rcond=None)[0], dtype=float)

    def _ascend(self, weights: Floats, noise: Floats, late: Floats) -> None:
        d = self.space.dim
        self._moved(self.learning_rate_mu * (self._deviation(weights @ noise) + late))
        rate = self.learning_rate_sigma
        if self._delay > 0:
            rate = min(rate, _RATE_OF_DELAYED / (1.0 + self._delay))
        g_sigma = float(weights @ ((noise**2).sum(axis=1) / d - 1.0))
        self.sigma *= math.exp(min(max(rate / 2 * g_sigma, -_FASTEST), _FASTEST))
        self.shape = self._grown(rate, weights, noise)
        self._keep_within()

    def _keep_within(self) -> None:
        """Keep each dimension's standard deviation from vanishing and from overflowing."""
        sd = self.sigma * np.linalg.norm(self.shape, axis=1)
        kept = np.clip(sd, self._least_sd, self._widest_sd)
        if (sd == kept).all():
            return
        # The product is changed row by row; sigma becomes the geometric mean of the standard deviations.
        scaled = self.sigma * self.shape * (kept / np.maximum(sd, 1e-300))[:, None]
        lost = sd < 1e-300
        scaled[lost] = np.diag(kept)[lost]
        self.sigma = math.exp(float(np.log(kept).mean()))
        self.shape = scaled / self.sigma

    def _grown(self, rate: float, weights: Floats, noise: Floats) -> Floats:
        """Return B exp(eta_B / 2 (S^T U S - tr(S^T U S) / d I)), with the rows of S the noise and U the utilities.

        With S^T = Q R, which has few columns, exp(Q C Q^T) = I + Q (exp(C) - I) Q^T, C = R U R^T.
        """
        n, d = noise.shape
        q, r = np.linalg.qr(noise.T) if n < d else (np.eye(d), noise.T)
        values, vectors = np.linalg.eigh(rate / 2 * (r * weights) @ r.T)
        values = np.clip(values, -_FASTEST, _FASTEST)
        factor = q @ vectors
        grown: Floats = self.shape + (self.shape @ factor * np.expm1(values)) @ factor.T
        return grown * math.exp(-float(values.sum()) / d)
