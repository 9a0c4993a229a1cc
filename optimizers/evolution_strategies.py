"""Evolution strategies with a fixed Gaussian, as in the original L2L."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from l2l_dask.evaluation import Objectives
from l2l_dask.space import Floats, Space
from optimizers._options import check_number
from optimizers._search_gradients import SearchGradients


class EvolutionStrategies(SearchGradients):
    r"""Evolution strategies after Salimans et al.: ascend the expected fitness of a Gaussian of fixed width.

    For :math:`x_k = \theta + \sigma\varepsilon_k,\ \varepsilon_k \sim N(0, I)` the gradient of the expected fitness is
    :math:`E[f(\theta + \sigma\varepsilon)\,\varepsilon] / \sigma` ([1]_, section 2), and (algorithm 1)

    .. math:: \theta \leftarrow \theta + \alpha\,\frac{1}{n\sigma}\sum_k f_k\,\varepsilon_k,

    which is the original L2L's, whose noise contains :math:`\sigma`. With fitness shaping, :math:`f_k` are utilities of
    the ranks ([2]_, section 3.1). As :math:`\sigma` is fixed it finds a region rather than a point: ``nes`` and
    ``xnes`` adapt it. It starts in the middle of the space. Draws are reflected at the bounds, :math:`\theta` is
    clipped to them.

    Asynchronous, an update is made of every ``pop_size`` results with the noise that each was drawn with, although
    :math:`\theta` may have moved since (a stale gradient, harmless as long as its steps are small compared with
    :math:`\sigma`). ``synchronous=True`` is the textbook's: all of ``pop_size`` are drawn around one :math:`\theta` and
    awaited.

    Parameters
    ----------
    learning_rate
        Alpha, for encoded units.
    noise_std
        Sigma, in encoded units: 1 is a bounded parameter's range, or an unbounded one's ``scale``. (The original's
        example has 1 in natural units.) An integer's is at least a quarter of its widest bin.
    mirrored_sampling
        Whether each noise vector is followed by its negative.
    fitness_shaping
        Whether ranks count instead of the fitness itself.
    pop_size
        Results per update; even with mirrored sampling, which it counts in.
    n_iteration
        Updates after which it is done; ``None`` for as many as the experiment's evaluations allow.
    stop_criterion
        A fitness at which it is done; ``None`` for none.
    mu
        A parameter set to start from; ``None`` for the middle of the space.
    synchronous
        Whether all of ``pop_size`` individuals are awaited before the next are drawn.

    References
    ----------
    .. [1] T. Salimans, J. Ho, X. Chen, S. Sidor, I. Sutskever, "Evolution strategies as a scalable alternative to
       reinforcement learning", arXiv 1703.03864, 2017.
    .. [2] D. Wierstra, T. Schaul, T. Glasmachers, Y. Sun, J. Peters, J. Schmidhuber, "Natural evolution strategies",
       Journal of Machine Learning Research 15, 2014.
    """

    source: ClassVar[str] = "Salimans, Ho, Chen, Sidor and Sutskever, arXiv 1703.03864, 2017"

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        learning_rate: float = 0.1,
        noise_std: float = 0.1,
        mirrored_sampling: bool = True,
        fitness_shaping: bool = True,
        pop_size: int = 20,
        n_iteration: int | None = None,
        stop_criterion: float | None = None,
        mu: Mapping[str, Any] | None = None,
        synchronous: bool = False,
    ) -> None:
        super().__init__(
            space,
            objectives,
            seed=seed,
            pop_size=pop_size,
            mirrored_sampling=mirrored_sampling,
            fitness_shaping=fitness_shaping,
            mu=mu,
            n_iteration=n_iteration,
            stop_criterion=stop_criterion,
            synchronous=synchronous,
        )
        self.learning_rate = check_number("learning_rate", learning_rate, 0, 1e6)
        self.noise_std = check_number("noise_std", noise_std, 1e-9, 1e6)
        self._sd = np.maximum(self.noise_std, self._least_sd)

    def _deviation(self, noise: Floats) -> Floats:
        return self._sd * noise

    def _noise_of(self, deviation: Floats) -> Floats:
        return deviation / self._sd

    def _ascend(self, weights: Floats, noise: Floats, late: Floats) -> None:  # noqa: ARG002
        # Utilities stand for f_k: the division by n is not in them. That of a fitness is.
        n = len(weights) if self.fitness_shaping else 1
        self._moved(self.learning_rate / n * (weights @ noise) / self._sd)
