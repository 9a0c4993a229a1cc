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
_LOOKED_AT_EVERY = 5  # updates: the library's criteria cost as much as its update
_OF_STEPS = 0.7  # a in `tell_late`
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
        self.n_told = 0
        self._dim = space.dim
        discrete = space.n_values > 0
        self._box = space.bounded & ~discrete
        self._boxed, self._all_boxed = bool(self._box.any()), bool(self._box.all())
        self._free = not space.bounded.all()
        self._margin = Margin(space, 1.0 / (space.dim * self.pop_size)) if discrete.any() else None
        self._root: Floats | None = None
        self._origin: tuple[Floats, float] | None = None

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
    def origin(self) -> tuple[Floats, float]:
        """Copies of m and sigma, which no update changes."""
        if self._origin is None:
            self._origin = self.mean.copy(), self.sigma
        return self._origin

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
        for _ in range(_TRIES):
            raw = self.mean + self.library._sigma * self._correlated(rng.standard_normal(self._dim))
            if not self._boxed:
                break
            boxed = raw if self._all_boxed else raw[self._box]
            if boxed.min() >= 0.0 and boxed.max() <= 1.0:
                break
        else:
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
        length = np.sqrt(np.square(self._white(step)).sum(axis=1))
        longest = math.sqrt(n) + 2.0 * n / (n + 2.0)
        long = length > longest
        if long.any():
            raw = raw.copy()
            raw[long] = self.mean + self.sigma * step[long] * (longest / length[long])[:, None]
        return raw

    def _white(self, step: Floats) -> Floats:
        """Turn y (k, dim) into D^-1 B^T y, whose length is that of C^(-1/2) y."""
        if self.separable:
            scaled: Floats = step / self.library._eigen_decomposition()
            return scaled
        b, d = self.library._eigen_decomposition()
        white: Floats = step.dot(b) / d
        return white

    def tell(self, raw: Floats, cost: Floats) -> None:
        """Update from exactly ``pop_size`` raw vectors (pop_size, dim) and their costs, all finite: the library's."""
        with np.errstate(all="ignore"):  # a run that has degenerated is over: see `stopped`
            self.library.tell(list(zip(raw, cost.tolist(), strict=True)))
        self._told(len(raw))

    def tell_late(self, parents: Floats, steps: Floats, cost: Floats) -> None:
        r"""Update from results of candidates that were drawn from earlier distributions.

        Three steps are told apart. The mean moves to the weighted mean of the parents, :math:`m + \sigma y_w` ([1]_,
        eq. 41 and 42). C learns from the steps with which the candidates were drawn (eq. 47, the rank-mu part), their
        ranks among each other, and from the path of :math:`y_w` (eq. 45). Sigma learns (eq. 43 and 44) from a path of
        :math:`a s_w + (1 - a) y_w`, where :math:`s_w` is the weighted mean of the steps of the best candidates:
        without selection its length is what eq. 44 expects, however old the candidates are, while parents that stay the
        same make :math:`y_w` short and sigma shrink; alone, :math:`s_w` does not know how far the mean has gone since.

        Parameters
        ----------
        parents : (mu, dim) array
            Raw, the best first.
        steps : (lambda, dim) array
            (x - m) / sigma at the time when it was drawn, the best candidate first.
        cost : (lambda,) array
            Ascending.
        """
        lib, n, mu = self.library, self._dim, self.pop_size // 2
        w = lib._weights
        with np.errstate(all="ignore"):
            y_w = w[:mu] @ ((self.clipped(parents) - lib._mean) / lib._sigma)
            path = _OF_STEPS * (w[:mu] @ steps[:mu]) + (1.0 - _OF_STEPS) * y_w
            white_path = self._white(path)
            if not self.separable:
                white_path = lib._eigen_decomposition()[0].dot(white_path)
            length = np.square(self._white(steps[: len(w)])).sum(axis=1)
            lib._g += 1
            place = 2 * (lib._g % lib._funhist_term)
            lib._funhist_values[place : place + 2] = cost[0], cost[-1]
            lib._mean += lib._sigma * y_w
            c_s, c_c = lib._c_sigma, lib._cc
            lib._p_sigma = (1 - c_s) * lib._p_sigma + math.sqrt(c_s * (2 - c_s) * lib._mu_eff) * white_path
            norm = np.linalg.norm(lib._p_sigma)
            lib._sigma *= math.exp(min(1.0, c_s / lib._d_sigma * (norm / lib._chi_n - 1)))  # at most 1: [3]
            h = norm / math.sqrt(1 - (1 - c_s) ** (2 * (lib._g + 1))) < (1.4 + 2 / (n + 1)) * lib._chi_n
            lib._pc = (1 - c_c) * lib._pc + float(h) * math.sqrt(c_c * (2 - c_c) * lib._mu_eff) * y_w
            w_io = w * np.where(w >= 0, 1.0, n / (length + 1e-8))  # eq. 46
            learned = steps[: len(w)]
            if self.separable:
                rank_one, rank_mu = np.square(lib._pc), w_io @ np.square(learned)
            else:
                rank_one, rank_mu = np.outer(lib._pc, lib._pc), (learned.T * w_io) @ learned
            kept = 1 + lib._c1 * float(not h) * c_c * (2 - c_c) - lib._c1 - lib._cmu * w.sum()
            lib._C = kept * lib._C + lib._c1 * rank_one + lib._cmu * rank_mu
            lib._B = lib._D = None
        self._told(len(steps))

    def _told(self, n: int) -> None:
        self.n_told += n
        self._root = self._origin = None
        if self._margin is not None:
            with np.errstate(all="ignore"):
                self._margin.correct(self.mean, self.sigma * np.sqrt(self.variances[self._margin.where]))

    @property
    def stopped(self) -> bool:
        """Whether the run is over by its numbers or, which is looked at after every fifth update, by the library's."""
        library = self.library
        if not (0.0 < library._sigma < math.inf and math.isfinite(library._mean.sum() + library._C.sum())):
            return True
        if library.generation % _LOOKED_AT_EVERY:
            return False
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
