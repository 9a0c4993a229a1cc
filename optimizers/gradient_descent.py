"""Gradient descent with gradients estimated from perturbed evaluations."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Ids, Objectives
from l2l_dask.space import Floats, Space
from optimizers._generations import Generations, Results
from optimizers._options import check_count, check_number

_METHODS = ("classic", "stochastic", "adam", "adamax", "rmsprop")
_ADAM_EPSILON = 1e-8
_RMSPROP_DELTA = 1e-6
_LEAST_SINGULAR = 1e-8  # relative: directions in which the evaluations hardly differ tell nothing
_FARTHEST = 1e9
_MANY = 100  # dimensions, beyond which a gradient is only estimated within the plane through the perturbations


def slope(x: Floats, cost: Floats, centre: Floats, width: Floats) -> Floats:
    r"""Estimate the gradient at ``centre`` by weighted least squares.

    The plane :math:`a + g^T x` is fitted with weights :math:`(1 + \|(x - c) / w\|^2 / d)^{-2}`, so that what lies far
    from the centre, compared with the width of the perturbations, counts little. With fewer evaluations than unknowns g
    is the shortest of those that fit, as the original's pseudo-inverse gives.

    Parameters
    ----------
    x : (n, dim) array
    cost : (n,) array
    centre, width : (dim,) array

    Returns
    -------
    (dim,) array
    """
    far = (((x - centre) / width) ** 2).mean(axis=1)
    weights = (1.0 + far) ** -2.0
    weights /= weights.sum()
    root = np.sqrt(weights)[:, None]
    # Centred, the intercept drops out: it must not enter the norm.
    dx, dy = x - weights @ x, cost - weights @ cost
    return np.asarray(np.linalg.lstsq(root * dx, root[:, 0] * dy, rcond=_LEAST_SINGULAR)[0], dtype=float)


class GradientDescent(Generations):
    r"""Gradient descent as in the original L2L: gradients are estimated from evaluations around the present point.

    Per update the present point and ``n_random_steps`` perturbations of it are evaluated, a plane is fitted to them by
    least squares, and its slope g makes a step (t counts from 1):

    - ``classic``: :math:`\theta \leftarrow \theta - \alpha g`.
    - ``stochastic``: the same with :math:`g + \delta\,\lambda^t z,\ z \sim N(0, I)` (as the original; noise that decays
      was studied in [1]_).
    - ``adam`` ([2]_, algorithm 1): :math:`m = \beta_1 m + (1 - \beta_1) g,\ v = \beta_2 v + (1 - \beta_2) g^2,\
      \theta \leftarrow \theta - \alpha\,\frac{m}{1 - \beta_1^t} \big/ \big(\sqrt{v / (1 - \beta_2^t)} + 10^{-8}\big)`.
    - ``adamax`` ([2]_, algorithm 2): :math:`u = \max(\beta_2 u, |g|),\
      \theta \leftarrow \theta - \frac{\alpha}{1 - \beta_1^t}\,m / u`; the original had no bias correction.
    - ``rmsprop`` ([3]_, algorithm 8.5): :math:`r = \rho r + (1 - \rho) g^2,\
      \theta \leftarrow \theta - \alpha\,g / \sqrt{r + 10^{-6}}`.

    It starts in the middle of the space, or, if individuals are given to try first, at the first of them. Everything
    is in encoded units. Perturbations are reflected at the bounds, the present point is clipped to them. Steps of
    ``adam`` and ``adamax`` do not depend on the units of the fitness; those of the others do.

    Asynchronous, perturbations are drawn around the present point without waiting, and every n_random_steps + 1 results
    make a step, whichever point they were drawn around; those that lie far from the present one count less.
    ``synchronous=True`` is the textbook's: all are around one point and are awaited.

    Parameters
    ----------
    method
        ``classic``, ``stochastic``, ``adam``, ``adamax`` or ``rmsprop``.
    learning_rate
        Alpha.
    exploration_step_size
        Standard deviation of the perturbations, in encoded units: 1 is a bounded parameter's range, or an unbounded
        one's ``scale``. An integer's is at least half of its widest bin.
    n_random_steps
        Perturbations per update; ``None`` for twice the number of dimensions (at least 5), beyond 100 dimensions for
        half of it, at most 200: with about as many as dimensions the fit would amplify what is not linear.
    first_order_decay
        Beta 1 of ``adam`` and ``adamax``.
    second_order_decay
        Beta 2 of ``adam`` and ``adamax``.
    momentum_decay
        Rho of ``rmsprop``.
    stochastic_deviation
        Standard deviation (delta) of the noise that ``stochastic`` adds to the gradient.
    stochastic_decay
        Factor (lambda) by which it falls with each update.
    n_iteration
        Updates after which it is done; ``None`` for as many as the experiment's evaluations allow.
    stop_criterion
        A fitness at which it is done; ``None`` for none.
    synchronous
        Whether all evaluations for a step are awaited before the next are drawn.

    References
    ----------
    .. [1] A. Neelakantan et al., "Adding gradient noise improves learning for very deep networks", arXiv 1511.06807,
       2015.
    .. [2] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    .. [3] I. Goodfellow, Y. Bengio, A. Courville, "Deep learning", MIT Press, 2016.
    """

    source: ClassVar[str] = "Kingma and Ba, ICLR 2015; Goodfellow, Bengio and Courville, Deep learning, 2016"

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        method: Literal["classic", "stochastic", "adam", "adamax", "rmsprop"] = "adam",
        learning_rate: float = 0.02,
        exploration_step_size: float = 0.02,
        n_random_steps: int | None = None,
        first_order_decay: float = 0.9,
        second_order_decay: float = 0.999,
        momentum_decay: float = 0.9,
        stochastic_deviation: float = 0.1,
        stochastic_decay: float = 0.99,
        n_iteration: int | None = None,
        stop_criterion: float | None = None,
        synchronous: bool = False,
    ) -> None:
        if n_random_steps is None:
            n_random_steps = max(5, 2 * space.dim) if space.dim <= _MANY else min(space.dim // 2, 2 * _MANY)
        super().__init__(
            space,
            objectives,
            seed=seed,
            pop_size=check_count("n_random_steps", n_random_steps, 1) + 1,
            n_iteration=n_iteration,
            stop_criterion=stop_criterion,
            synchronous=synchronous,
        )
        if method not in _METHODS:
            raise OptimizerError(f"method must be one of {', '.join(_METHODS)}; got {method!r}")
        self.method = method
        self.learning_rate = check_number("learning_rate", learning_rate, 0, 1e9)
        width = check_number("exploration_step_size", exploration_step_size, 1e-9, 1e3)
        self._width: Floats = np.maximum(width, 2.0 * self._least_sd)
        self.first_order_decay = check_number("first_order_decay", first_order_decay, 0, 0.999999)
        self.second_order_decay = check_number("second_order_decay", second_order_decay, 0, 0.999999)
        self.momentum_decay = check_number("momentum_decay", momentum_decay, 0, 0.999999)
        self.stochastic_deviation = check_number("stochastic_deviation", stochastic_deviation, 0, 1e9)
        self.stochastic_decay = check_number("stochastic_decay", stochastic_decay, 0, 1)
        self.current: Floats = np.where(space.bounded, 0.5, 0.0)
        self.n_steps = 0
        self._first, self._second = np.zeros(space.dim), np.zeros(space.dim)  # moments
        self._asked_in = -1  # the generation in which the present point was asked last

    def _draw(self) -> tuple[Floats, None]:
        if self._asked_in != self.generation:
            self._asked_in = self.generation
            return self.current, None
        return self.current + self._width * self.rng.standard_normal(self.space.dim), None

    def _adopt(self, ids: Ids, x: Floats) -> None:
        if ids[0] == 0:
            self.current = self.space.clip(x[0])
            self._asked_in = self.generation
        super()._adopt(ids, x)

    def _learn(self, results: Results) -> int:
        self.step(slope(results.x, results.cost, self.current, self._width))
        return 0

    def step(self, gradient: Floats) -> None:
        """Move the present point down a gradient of the cost (dim,)."""
        self.n_steps += 1
        with np.errstate(over="ignore", invalid="ignore"):
            moved = self.current - self._downhill(gradient, self.n_steps)
        moved = np.clip(np.where(np.isfinite(moved), moved, self.current), -_FARTHEST, _FARTHEST)
        self.current = self.space.clip(moved)

    def _downhill(self, g: Floats, t: int) -> Floats:
        alpha, beta1, beta2 = self.learning_rate, self.first_order_decay, self.second_order_decay
        if self.method == "classic":
            return alpha * g
        if self.method == "stochastic":
            deviation = self.stochastic_deviation * self.stochastic_decay**t
            return alpha * (g + deviation * self.rng.standard_normal(len(g)))
        if self.method == "rmsprop":
            self._second = self.momentum_decay * self._second + (1.0 - self.momentum_decay) * g**2
            return alpha * g / np.sqrt(self._second + _RMSPROP_DELTA)
        self._first = beta1 * self._first + (1.0 - beta1) * g
        unbiased = self._first / (1.0 - beta1**t)
        if self.method == "adam":
            self._second = beta2 * self._second + (1.0 - beta2) * g**2
            return alpha * unbiased / (np.sqrt(self._second / (1.0 - beta2**t)) + _ADAM_EPSILON)
        self._second = np.maximum(beta2 * self._second, np.abs(g))
        return alpha * unbiased / np.where(self._second > 0, self._second, 1.0)
