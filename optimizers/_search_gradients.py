"""What evolution strategies share that follow the gradient of the expected fitness of a Gaussian.

References
----------
.. [1] D. Wierstra, T. Schaul, T. Glasmachers, Y. Sun, J. Peters, J. Schmidhuber, "Natural evolution strategies",
   Journal of Machine Learning Research 15, 2014.
.. [2] D. Brockhoff, A. Auger, N. Hansen, D. V. Arnold, T. Hohm, "Mirrored sampling and sequential selection for
   evolution strategies", PPSN XI, 2010.
.. [3] N. Hansen, "Injecting external solutions into CMA-ES", INRIA research report 7748, 2011.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from l2l_dask.errors import OptimizerError, SpaceError
from l2l_dask.evaluation import Objectives
from l2l_dask.space import Floats, Space
from optimizers._generations import Generations, Results
from optimizers._options import check_count, check_number

_WIDEST = 1e6  # standard deviation of an unbounded dimension: on a slope without end it must not overflow
_FARTHEST = 1e9


def utilities(cost: Floats) -> Floats:
    r"""Turn costs into utilities: fitness shaping ([1]_, section 3.1).

    .. math:: u_k = \frac{\max(0, \ln(n/2 + 1) - \ln k)}{\sum_j \max(0, \ln(n/2 + 1) - \ln j)} - \frac{1}{n}

    k is the rank, 1 for the best. Equals share the mean of theirs, so that nothing moves on a plateau.

    Parameters
    ----------
    cost : (n,) array
        Ascending.
    """
    n = len(cost)
    u: Floats = np.maximum(0.0, math.log(n / 2 + 1) - np.log(np.arange(1, n + 1)))
    u = u / u.sum() - 1.0 / n
    if (cost[1:] == cost[:-1]).any():
        _, which, counts = np.unique(cost, return_inverse=True, return_counts=True)
        u = (np.bincount(which, u) / counts)[which]
    return u


def default_pop_size(dim: int, *, mirrored: bool) -> int:
    """Return 4 + floor(3 ln dim) ([1]_, table 1), the next even number if pairs are drawn."""
    n = 4 + int(3 * math.log(dim))
    return n + n % 2 if mirrored else n


class SearchGradients(Generations):
    """Base of evolution strategies that draw a mean plus transformed standard normal noise, and learn from the noise.

    An algorithm writes :meth:`_point`, :meth:`_noise_of` and :meth:`_ascend`.

    Nobody waits, so a result may be of an older distribution. It counts with the noise it was drawn with, which makes
    its part of the gradient that of the distribution that it was drawn from (a stale gradient, as in asynchronous
    stochastic gradient descent). To the mean, :meth:`_late` adds what keeps results of several generations from all
    making the same step. Someone who was adopted gets the noise that would have drawn it, at most of length sqrt(d) + 2
    d / (d + 2) ([3]_, there for the same purpose).

    Parameters
    ----------
    pop_size
        Results per update.
    mirrored_sampling
        Whether each noise vector is followed by its negative [2]_.
    fitness_shaping
        Whether the gradient is that of :func:`utilities`; otherwise of the fitness divided by the number of results.
    mu
        A parameter set to start from.
    """

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int,
        pop_size: int,
        mirrored_sampling: bool,
        fitness_shaping: bool,
        mu: Mapping[str, Any] | None,
        n_iteration: int | None,
        stop_criterion: float | None,
        synchronous: bool,
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
        if mirrored_sampling and pop_size % 2:
            raise OptimizerError(f"pop_size must be even with mirrored_sampling, got {pop_size}")
        self.mirrored_sampling, self.fitness_shaping = mirrored_sampling, fitness_shaping
        self.mean: Floats = np.where(space.bounded, 0.5, 0.0)
        if mu is not None:
            try:
                self.mean = space.encode(mu)
            except (SpaceError, TypeError) as error:
                raise OptimizerError(f"mu must be a parameter set: {error}") from error
        self._mirror: Floats | None = None
        self._delay = 0.0  # mean age of the results of the present update, in generations
        self._widest_sd = np.where(space.bounded, 1.0, _WIDEST)

    def _first_sd(self, sigma: float | None) -> Floats:
        """Return the standard deviations (dim,) to start with: the space's own if ``sigma`` is None."""
        if sigma is None:
            first: Floats = np.where(self.space.bounded, math.sqrt(1 / 12), 1.0)
        else:
            first = np.full(self.space.dim, check_number("sigma", sigma, 1e-12, 1e6))
        return np.clip(first, self._least_sd, self._widest_sd)

    @abstractmethod
    def _deviation(self, noise: Floats) -> Floats:
        """Return how far from the mean standard normal noise (dim,) or (n, dim) draws."""

    @abstractmethod
    def _noise_of(self, deviation: Floats) -> Floats:
        """Return the noise (dim,) that makes a deviation; the inverse of :meth:`_deviation`."""

    @abstractmethod
    def _ascend(self, weights: Floats, noise: Floats, late: Floats) -> None:
        """Follow the gradient.

        Parameters
        ----------
        weights : (n,) array
            Utilities, or fitness / n: the gradient is the sum of these times the derivative of the log-density.
        noise : (n, dim) array
            What each of the n results was drawn with.
        late : (dim,) array
            What :meth:`_late` adds to a step of the mean at learning rate 1 along the natural gradient.
        """

    def _draw(self) -> tuple[Floats, tuple[Floats, Floats, int]]:
        if self._mirror is not None:
            noise, self._mirror = -self._mirror, None
        else:
            noise = self.rng.standard_normal(self.space.dim)
            self._mirror = noise if self.mirrored_sampling else None
        x = self.mean + self._deviation(noise)
        return x, (noise, x, self.generation)

    def _forget(self) -> None:
        self._mirror = None

    def _note(self, x: Floats) -> tuple[Floats, Floats, int]:
        noise, d = self._noise_of(x - self.mean), self.space.dim
        length = float(np.linalg.norm(noise))
        noise = noise * min(1.0, (math.sqrt(d) + 2 * d / (d + 2)) / length) if length > 0 else noise
        return noise, self.mean + self._deviation(noise), self.generation

    def _learn(self, results: Results) -> int:
        weights = utilities(results.cost) if self.fitness_shaping else -results.cost / len(results)
        noise, x, drawn = (np.array(part) for part in zip(*results.notes, strict=True))
        self._delay = self.generation - float(drawn.mean())
        self._ascend(weights, noise, self._late(weights, noise, x))
        return 0

    def _late(self, weights: Floats, noise: Floats, x: Floats) -> Floats:
        r"""Return what late results add to the step of the mean.

        A utility is a weight :math:`w_k = u_k + 1/n \ge 0` and a baseline -1/n. The weights pull to where the good ones
        are, seen from the mean of now, so that generations in flight do not each make the step that one has made; the
        baseline, which only takes away noise, is that of the distribution each was drawn from. So the step is
        :math:`\sum_k w_k (x_k - \mu) - \frac 1 n \sum_k y_k`, with :math:`y_k` the deviation of the noise; beside the
        textbook's :math:`\sum_k u_k y_k` that is :math:`\sum_k w_k (x_k - \mu - y_k)`, and 0 if none is late.
        """
        if not (self.asynchronous and self.fitness_shaping):
            return np.zeros(self.space.dim)
        late: Floats = (weights + 1.0 / len(weights)) @ (x - self.mean - self._deviation(noise))
        return late

    def _moved(self, step: Floats) -> None:
        """Move the mean, within the bounds."""
        mean = np.clip(self.mean + step, -_FARTHEST, _FARTHEST)
        self.mean = self.space.clip(np.where(np.isfinite(mean), mean, self.mean))
