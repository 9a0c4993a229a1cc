"""The linear-quadratic model of a cost, fitted by weighted least squares, and what measures its trustworthiness.

References
----------
.. [1] N. Hansen, "A global surrogate assisted CMA-ES", GECCO 2019.
.. [2] D. M. Allen, "The relationship between variable selection and data augmentation and a method for prediction",
   Technometrics 16(1), 1974.
.. [3] M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33(3), 1945.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from l2l_dask.space import Floats

LINEAR, DIAGONAL, FULL = range(3)
_MOST_WEIGHT = 20.0  # of the best; that of the worst is 1 ([1]_, section 3)
_RIDGE = 1e-11  # of the normal equations, relative
_LEAST_SPARE = 1e-6  # of 1 - leverage


def coefficients(dim: int) -> tuple[int, int, int]:
    """Return the number of coefficients of the linear, the diagonal and the full model ([1]_, table 1)."""
    return dim + 1, 2 * dim + 1, dim * (dim + 3) // 2 + 1


@lru_cache(maxsize=16)
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    i, j = np.triu_indices(n, 1)
    return i, j


def kendall_tau(a: Floats, b: Floats) -> float:
    r"""Return Kendall's :math:`\tau_b` ([3]_) of two rankings: 1 if they agree, 0 if one of them says nothing."""
    i, j = _pairs(len(a))
    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    pairs = math.sqrt(np.count_nonzero(x)) * math.sqrt(np.count_nonzero(y))
    return float(x.dot(y)) / pairs if pairs else 0.0


class LQModel:
    r"""A model :math:`\beta_0 + \sum \beta_i z_i [+ \sum \beta_{ii} z_i^2 [+ \sum_{i<j} \beta_{ij} z_i z_j]]`.

    The coefficients minimise :math:`\sum w_k^2 (\text{model}(z_k) - f_k)^2` with weights w that fall linearly with the
    rank of f, from 20 for the best to 1 ([1]_, section 3). The origin is moved to the best point and the coordinates
    are scaled, which changes nothing but rounding errors.

    Parameters
    ----------
    z : (k, n) array
        Best first.
    f : (k,) array
        Ascending.
    kind
        ``LINEAR``, ``DIAGONAL`` or ``FULL``.
    """

    def __init__(self, z: Floats, f: Floats, kind: int) -> None:
        self.kind, self._dim = kind, z.shape[1]
        self._origin: Floats = z[0].copy()
        self._base = float(f[0])
        self._scale = math.sqrt(np.square(z - z[0]).mean()) or 1.0
        self._weights = np.linspace(_MOST_WEIGHT, 1.0, len(f))
        self._y = f - f[0]
        self._rows = self._features(z) * self._weights[:, None]
        right = self._y * self._weights
        normal = self._rows.T.dot(self._rows)
        normal.flat[:: len(normal) + 1] *= 1.0 + _RIDGE
        self._factor: Any = None
        try:
            self._factor = cho_factor(normal, lower=True, check_finite=False)
        except LinAlgError:  # the data do not determine the coefficients: the smallest that fit
            self.beta: Floats = np.linalg.lstsq(self._rows, right, rcond=_RIDGE)[0]
            return
        beta = cho_solve(self._factor, self._rows.T.dot(right), check_finite=False)
        left_over = right - self._rows.dot(beta)  # refined once: as exact as an orthogonal factorisation would be
        self.beta = beta + cho_solve(self._factor, self._rows.T.dot(left_over), check_finite=False)

    def _features(self, z: Floats) -> Floats:
        u, n = (z - self._origin) / self._scale, self._dim
        features = np.empty((len(u), coefficients(n)[self.kind]))
        features[:, 0] = 1.0
        features[:, 1 : n + 1] = u
        if self.kind >= DIAGONAL:
            np.square(u, out=features[:, n + 1 : 2 * n + 1])
        if self.kind == FULL:
            i, j = _pairs(n)
            np.multiply(u[:, i], u[:, j], out=features[:, 2 * n + 1 :])
        return features

    def predict(self, z: Floats) -> Floats:
        """Return the model's values at ``z`` (k, n)."""
        values: Floats = self._base + self._features(z).dot(self.beta)
        return values

    def left_out(self, rows: NDArray[np.intp]) -> Floats:
        """Return what the model, fitted without the point, would predict for each of these of its points.

        The residual of a point that is left out is its residual divided by 1 minus its leverage ([2]_).
        """
        a = self._rows[rows]
        fitted = a.dot(self.beta) / self._weights[rows]
        if self._factor is None:
            return np.asarray(self._base + fitted)
        leverage = np.einsum("ij,ji->i", a, cho_solve(self._factor, a.T, check_finite=False))
        residual = (self._y[rows] - fitted) / np.maximum(1.0 - leverage, _LEAST_SPARE)
        return np.asarray(self._base + self._y[rows] - residual)

    @property
    def origin(self) -> Floats:
        """The best point (n,)."""
        return self._origin

    @property
    def gradient(self) -> Floats:
        """The gradient (n,) at the best point."""
        return np.asarray(self.beta[1 : self._dim + 1] / self._scale)

    @property
    def curvature(self) -> Floats:
        """The second derivatives (n,) along the axes; tiny where there is none."""
        n = self._dim
        h = 2.0 * self.beta[n + 1 : 2 * n + 1] / self._scale**2 if self.kind >= DIAGONAL else np.zeros(n)
        tiny = np.finfo(float).tiny
        return np.asarray(np.where(np.abs(h) < tiny, tiny, h))

    @property
    def hessian(self) -> Floats:
        """The second derivatives (n, n)."""
        n = self._dim
        h: Floats = np.zeros((n, n))
        if self.kind == FULL:
            h[_pairs(n)] = self.beta[2 * n + 1 :] / self._scale**2
            h += h.T
        h.flat[:: n + 1] = self.curvature
        return h


def stationary(x: Floats, gradient: Floats, hessian: Floats, box: NDArray[np.bool_]) -> Floats:
    """Return where the gradient of a quadratic function vanishes, or points out of the box [0, 1].

    One after the other, the element that would leave the box the furthest is held at its face, and the others are found
    anew; none is released again. Where the Hessian has negative eigenvalues the result is no minimum: who evaluates it
    learns that.

    Parameters
    ----------
    x : (n,) array
        Where ``gradient`` is taken.
    gradient : (n,) array
    hessian : (n, n) array
    box : (n,) array of bool
        The elements that are bounded.
    """
    step, free = np.zeros(len(x)), np.ones(len(x), dtype=bool)
    while free.any():
        slope = gradient[free] + hessian[np.ix_(free, ~free)].dot(step[~free])
        step[free] = -np.linalg.lstsq(hessian[np.ix_(free, free)], slope, rcond=1e-13)[0]
        beyond = np.where(free & box, np.maximum(-(x + step), x + step - 1.0), -1.0)
        first = int(np.argmax(beyond))
        if beyond[first] <= 0.0:
            break
        step[first] = float(x[first] + step[first] > 0.5) - x[first]
        free[first] = False
    return x + step
