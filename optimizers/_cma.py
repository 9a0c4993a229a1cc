"""One run of CMA-ES, as the library `cmaes` has it, on a space: bounds, integers with margin, injected vectors.

References
----------
.. [1] N. Hansen, "The CMA evolution strategy: a tutorial", arXiv:1604.00772, 2016.
.. [2] R. Ros, N. Hansen, "A simple modification in CMA-ES achieving linear time and space complexity", PPSN X, 2008.
.. [3] N. Hansen, "Injecting external solutions into CMA-ES", arXiv:1110.4181, 2011.
.. [4] R. Hamano, S. Saito, M. Nomura, S. Shirakawa, "CMA-ES with margin: lower-bounding marginal probability for
   mixed-integer black-box optimization", GECCO 2022.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask.parameters import column
from l2l_dask.space import Floats, Space

_TRIES = 3  # draws until one is within the bounds; the last is projected onto them
_FAR = 1e9  # in units of an unbounded parameter's scale: on a plateau the mean must not drift to infinity


def centre(space: Space) -> Floats:
    """Return the middle of the bounded dimensions and the ``loc`` of the unbounded ones, encoded."""
    return np.where(space.bounded, 0.5, 0.0)


class Strategy:
    """The distribution N(m, sigma^2 C), drawn from and updated.

    A *raw* vector is one in the continuous space of the distribution: what is told. What is evaluated differs from it
    in integers and categoricals only.

    A draw outside the bounds is drawn again and, the third time, projected onto them: the library's own way, with less
    patience, as nearly every draw of very many parameters is outside.

    Parameters
    ----------
    space
        What is searched.
    mean
        The initial m, encoded.
    sigma
        The initial step size.
    pop_size
        Vectors per update (lambda); ``None`` for 4 + 3 ln(dim), rounded down ([1]_, eq. 48).
    separable
        Whether C is diagonal [2]_.

    Attributes
    ----------
    library : cmaes.CMA or cmaes.SepCMA
        Whose state this is.
    pop_size : int
    n_told : int
        Vectors that it was updated with.
    """

    def __init__(
        self, space: Space, mean: Floats, sigma: float, pop_size: int | None = None, *, separable: bool = False
    ) -> None:
        from cmaes import CMA, SepCMA  # not at the top: `l2l --help` has no use for it

        self.separable = separable and space.dim > 1  # one dimension is separable anyway
        new: Any = SepCMA if self.separable else CMA
        self.library = new(np.array(mean, dtype=float), float(sigma), seed=0, population_size=pop_size)
        self.pop_size: int = self.library.population_size
        self._rates = self.library._c1, self.library._cmu
        self.n_told = 0
        self._dim = space.dim
        discrete = space.n_values > 0
        self._box = space.bounded & ~discrete
        self._boxed, self._free = bool(self._box.any()), not space.bounded.all()
        self._margin = Margin(space, 1.0 / (space.dim * self.pop_size)) if discrete.any() else None
        self._root: Floats | None = None

    @property
    def generation(self) -> int:
        return int(self.library.generation)

    @property
    def mean(self) -> Floats:
        mean: Floats = self.library._mean
        return mean

    @property
    def sigma(self) -> float:
        return float(self.library._sigma)

    @property
    def variances(self) -> Floats:
        """The diagonal of C."""
        c: Floats = self.library._C
        return c if self.separable else c.diagonal()

    def draw(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw one vector.

        Returns
        -------
        x : (dim,) array
            What is to be evaluated, integers not yet moved to the middle of their bin.
        raw : (dim,) array
        """
        for attempt in range(_TRIES):
            raw = self.mean + self.library._sigma * self._correlated(rng.standard_normal(self._dim))
            if not self._boxed or attempt == _TRIES - 1:
                break
            inside = (raw >= 0.0) & (raw <= 1.0)
            if inside.all() or inside[self._box].all():
                break
        if self._boxed:
            np.clip(raw, 0.0, 1.0, out=raw, where=self._box)
        if self._free:
            np.clip(raw, -_FAR, _FAR, out=raw)
        return (raw if self._margin is None else self._margin.spread(raw, self.mean)), raw

    def _correlated(self, z: Floats) -> Floats:
        """Turn z ~ N(0, I) into y ~ N(0, C) ([1]_, eq. 39)."""
        if self._root is None:
            root = self.library._eigen_decomposition()
            self._root = root if self.separable else root[0] * root[1]
        y: Floats = self._root * z if self.separable else self._root.dot(z)
        return y

    def clipped(self, raw: Floats) -> Floats:
        """Shorten the steps from the mean of vectors (k, dim) that were not drawn from this distribution.

        Their Mahalanobis length is at most c_y = sqrt(n) + 2n / (n + 2), about that of the longest of a few draws: "too
        long steps need to be tightly renormalized" [3]_.
        """
        n, step = self._dim, (raw - self.mean) / self.sigma
        if self.separable:
            white = step / self.library._eigen_decomposition()
        else:
            b, d = self.library._eigen_decomposition()
            white = step.dot(b) / d
        length = np.sqrt(np.square(white).sum(axis=1))
        longest = math.sqrt(n) + 2.0 * n / (n + 2.0)
        long = length > longest
        if long.any():
            raw = raw.copy()
            raw[long] = self.mean + self.sigma * step[long] * (longest / length[long])[:, None]
        return raw

    def tell(self, raw: Floats, cost: Floats, *, rate: float = 1.0) -> None:
        """Update from exactly ``pop_size`` raw vectors (pop_size, dim) and their costs, all finite.

        ``rate`` multiplies the learning rates c_1 and c_mu of C.
        """
        library = self.library
        library._c1, library._cmu = rate * self._rates[0], rate * self._rates[1]
        with np.errstate(all="ignore"):  # a run that has degenerated is over: see `stopped`
            library.tell(list(zip(raw, cost.tolist(), strict=True)))
            self.n_told += len(raw)
            self._root = None
            if self._margin is not None:
                scale = self.sigma * np.sqrt(self.variances[self._margin.where])
                self._margin.correct(self.mean, scale)

    @property
    def stopped(self) -> bool:
        """Whether the run is over by the library's criteria, or by its numbers."""
        library = self.library
        if not (np.isfinite(library._mean).all() and 0.0 < library._sigma < math.inf and np.isfinite(library._C).all()):
            return True
        with np.errstate(all="ignore"):
            return bool((self.variances <= 0.0).any() or library.should_stop())


class Margin:
    """Keeps the probability that an integer changes at or above ``alpha`` ([4]_, as in ``cmaes.CMAwM``).

    The distribution of an integer is widened by a factor (the diagonal of the matrix A), and its mean is moved, such
    that the values on both sides of the mean's own are drawn with a probability of at least alpha / 2 each; at the ends
    the next value with alpha. Unlike the library's, it takes bins of unequal width, as logarithmic integers have.

    Parameters
    ----------
    space
        With at least one integer or categorical dimension.
    alpha
        1 / (dim pop_size) is the paper's.

    Attributes
    ----------
    where : (k,) array of int
        The integer and categorical dimensions.
    factor : (k,) array
        The diagonal of A.
    """

    def __init__(self, space: Space, alpha: float) -> None:
        self.where: NDArray[np.intp] = np.flatnonzero(space.n_values > 0)
        self.alpha = alpha
        self.factor = np.ones(len(self.where))
        self._last = space.n_values[self.where] - 1
        columns = np.array([column(p) for p in space.values() for _ in range(p.size)], dtype=float)[self.where]
        self._offset, self._width, self._log = columns[:, 0], columns[:, 1], columns[:, 2] > 0
        self._any_log = bool(self._log.any())

    def spread(self, raw: Floats, mean: Floats) -> Floats:
        """Turn a raw vector into the one that is evaluated: A (raw - m) + m on these dimensions, within [0, 1]."""
        x, m = raw.copy(), mean[self.where]
        x[self.where] = np.clip((raw[self.where] - m) * self.factor + m, 0.0, 1.0)
        return x

    def limits(self, m: Floats) -> tuple[Floats, Floats]:
        """Return the ends, encoded, of the bins that ``m`` (k,) is in; of the two inner ones at either end."""
        natural = self._offset + np.clip(m, 0.0, 1.0) * self._width
        if self._any_log:
            first = np.exp(self._offset)
            natural = np.where(self._log, np.exp(natural) - first, natural - self._offset)
        else:
            natural = natural - self._offset
        bin = np.minimum(np.floor(natural), self._last)
        return self._end(np.clip(bin - 1, 0, self._last - 1)), self._end(np.minimum(bin, self._last - 1))

    def _end(self, bin: Floats) -> Floats:
        """Return where a bin ends and the next begins."""
        end: Floats = (bin + 1.0) / self._width
        if self._any_log:
            first = np.exp(np.where(self._log, self._offset, 0.0))
            end = np.where(self._log, (np.log(first + bin + 1.0) - self._offset) / self._width, end)
        return end

    def correct(self, mean: Floats, scale: Floats) -> None:
        """Correct the mean (dim,), in place, and the factors after an update.

        Parameters
        ----------
        mean
            m of all dimensions.
        scale : (k,) array
            Standard deviation of the raw vectors in these dimensions.
        """
        from scipy.special import ndtr, ndtri

        alpha, m = self.alpha, mean[self.where]
        low, up = self.limits(m)
        sd = scale * self.factor
        below, above = ndtr((low - m) / sd), ndtr((m - up) / sd)
        at_end = np.maximum(below, above) > 0.5
        # At an end (and for two values): the mean goes where the value inside has probability alpha.
        moved = up + np.sign(m - up) * sd * -ndtri(alpha)
        end_m = np.where(np.minimum(below, above) < alpha, moved, m)
        # Elsewhere: at least alpha / 2 on both sides, what is missing from the middle one; then the mean and the width
        # follow from the two probabilities.
        middle = 1.0 - below - above
        below, above = np.maximum(below, alpha / 2), np.maximum(above, alpha / 2)
        excess = (1.0 - below - above - middle) / (below + middle + above - 1.5 * alpha)
        p, q = (np.clip(b + excess * (b - alpha / 2), 1e-10, 0.5 - 1e-10) for b in (below, above))
        to_low, to_up = -ndtri(p), -ndtri(q)
        inside = ~at_end & (up > low)
        self.factor = np.where(inside, (up - low) / ((to_low + to_up) * scale), self.factor)
        inside_m = np.where(inside, (low * to_up + up * to_low) / (to_low + to_up), m)
        mean[self.where] = np.where(at_end, end_m, inside_m)
