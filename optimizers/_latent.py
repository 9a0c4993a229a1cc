"""Vectors of independent standard normal numbers in place of encoded ones: the prior of Bayesian methods."""

from __future__ import annotations

import numpy as np

from l2l_dask.space import Floats, Space

_FARTHEST = 8.0  # standard deviations: beyond it 1 - Phi(z) is no number near 1


class Latent:
    """The space with a standard normal prior in every dimension.

    A bounded dimension is the normal distribution function of its latent one: uniform, as the space samples it. So
    there are no bounds that a proposal could cross, and densities need no normalisation.
    """

    def __init__(self, space: Space) -> None:
        self._space, self._bounded = space, space.bounded

    def sample(self, rng: np.random.Generator) -> Floats:
        """Draw one (dim,) latent vector from the prior."""
        return np.clip(rng.standard_normal(self._space.dim), -_FARTHEST, _FARTHEST)

    def encoded(self, z: Floats) -> Floats:
        """Return the encoded vectors, integers and categoricals in the centre of their bin."""
        from scipy.special import ndtr

        return self._space.snap(np.where(self._bounded, ndtr(z), np.clip(z, -1e9, 1e9)))

    def latent(self, x: Floats) -> Floats:
        """Return latent vectors of encoded ones."""
        from scipy.special import ndtri

        inside = np.clip(x, 1e-15, 1.0 - 1e-15)
        z: Floats = np.where(self._bounded, ndtri(np.where(self._bounded, inside, 0.5)), x)
        return z
