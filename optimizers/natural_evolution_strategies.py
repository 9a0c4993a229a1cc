"""Separable natural evolution strategies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from l2l_dask.evaluation import Objectives
from l2l_dask.space import Floats, Space
from optimizers._options import check_number
from optimizers._search_gradients import SearchGradients, default_pop_size


class NaturalEvolutionStrategies(SearchGradients):
    r"""Separable natural evolution strategies (SNES): a mean and a width per dimension follow the natural gradient.

    For :math:`x_k = \mu + \sigma s_k,\ s_k \sim N(0, I)` and utilities :math:`u_k` ([1]_, algorithm 6; all elementwise)

    .. math:: \mu \leftarrow \mu + \eta_\mu\,\sigma \sum_k u_k s_k, \qquad
              \sigma \leftarrow \sigma \exp\Big(\frac{\eta_\sigma}{2} \sum_k u_k (s_k^2 - 1)\Big)

    Its cost is linear in the dimension; ``xnes`` also learns which dimensions depend on each other. Draws are reflected
    at the bounds, the mean is clipped to them.

    Asynchronous, an update is made of every ``pop_size`` results, whichever distribution they were drawn from: the
    widths learn from the noise that each was drawn with, the mean goes to where the good ones are, seen from the mean
    of now. ``synchronous=True`` is the textbook's: all of ``pop_size`` are drawn from one distribution and awaited.

    Parameters
    ----------
    learning_rate_mu
        Of the mean.
    learning_rate_sigma
        Of the widths; ``None`` for (3 + ln d) / (5 sqrt d), d being the number of dimensions ([1]_, table 1).
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
            learning_rate_sigma = (3 + math.log(d)) / (5 * math.sqrt(d))
        self.learning_rate_mu = check_number("learning_rate_mu", learning_rate_mu, 0, 1e6)
        self.learning_rate_sigma = check_number("learning_rate_sigma", learning_rate_sigma, 0, 1e6)
        self.sd = self._first_sd(sigma)

    def _deviation(self, noise: Floats) -> Floats:
        return self.sd * noise

    def _noise_of(self, deviation: Floats) -> Floats:
        return deviation / self.sd

    def _ascend(self, weights: Floats, noise: Floats, late: Floats) -> None:
        self._moved(self.learning_rate_mu * (self.sd * (weights @ noise) + late))
        exponent = self.learning_rate_sigma / 2 * (weights @ (noise**2 - 1.0))
        self.sd = np.clip(self.sd * np.exp(np.clip(exponent, -50.0, 50.0)), self._least_sd, self._widest_sd)
