"""Quasi-Monte Carlo search: low-discrepancy points instead of random ones."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives, optimizer_rng
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._options import check_count

Engine = Literal["sobol", "halton", "latin"]

_ENGINES = ("sobol", "halton", "latin")
_BLOCK = 64  # a power of two, which Sobol's balance asks for
_SAME = 1e-9  # relative: another CPU computes the same points to within this


class QMC(Optimizer):
    """Fill the space evenly with a low-discrepancy sequence.

    Any first part of a Sobol or Halton sequence covers the space more evenly than random points do, so the search can
    be stopped or prolonged at any time. Sobol's points are best used in powers of two. Unbounded parameters go through
    the normal quantile function. It learns nothing from results and takes any number of objectives.

    Parameters
    ----------
    engine
        ``"sobol"`` [1]_ (up to 21201 dimensions), ``"halton"`` [2]_ (best below about 20 dimensions), or ``"latin"``:
        one Latin hypercube [3]_ of ``design_size`` points after another.
    scramble
        Randomise the sequence by the seed [4]_; without it a sequence starts in a corner and is the same for every
        seed, and a Latin hypercube's points lie in the middle of their cells.
    design_size
        Points in each Latin hypercube; of no effect on the other engines.

    References
    ----------
    .. [1] S. Joe, F. Y. Kuo, "Constructing Sobol sequences with better two-dimensional projections", SIAM Journal on
       Scientific Computing 30(5), 2008.
    .. [2] J. H. Halton, "On the efficiency of certain quasi-random sequences of points in evaluating multi-dimensional
       integrals", Numerische Mathematik 2, 1960.
    .. [3] M. D. McKay, R. J. Beckman, W. J. Conover, "A comparison of three methods for selecting values of input
       variables", Technometrics 21(2), 1979.
    .. [4] A. B. Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 14(4), 1998.
    """

    source: ClassVar[str] = "Joe and Kuo, SIAM Journal on Scientific Computing 30(5), 2008; scipy.stats.qmc"
    max_objectives: int | None = None

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        engine: Engine = "sobol",
        scramble: bool = True,
        design_size: int = 128,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        if engine not in _ENGINES:
            raise OptimizerError(f"engine must be one of {list(_ENGINES)}, got {engine!r}")
        self.engine = engine
        self.design_size = check_count("design_size", design_size, 2)
        if engine == "sobol" and space.dim > qmc.Sobol.MAXDIM:
            raise OptimizerError(f"sobol has at most {qmc.Sobol.MAXDIM} dimensions, got {space.dim}: choose 'halton'")
        kind: Any = {"sobol": qmc.Sobol, "halton": qmc.Halton, "latin": qmc.LatinHypercube}[engine]
        self._sequence = kind(space.dim, scramble=bool(scramble), rng=optimizer_rng(seed))
        self._points, self._used = np.empty((0, space.dim)), 0

    def _upcoming(self, n: int) -> Floats:
        """Return the next ``n`` points without using them up."""
        while len(self._points) - self._used < n:
            unit = self._sequence.random(self.design_size if self.engine == "latin" else _BLOCK)
            self._points = np.concatenate([self._points[self._used :], self._encoded(unit)])
            self._used = 0
        return self._points[self._used : self._used + n]

    def _encoded(self, unit: Floats) -> Floats:
        free = ~self.space.bounded
        if free.any():
            unit[:, free] = ndtri(np.clip(unit[:, free], 2.0**-53, 1.0 - 2.0**-53))
        return unit

    def _ask(self, n: int) -> Candidates:
        x = self._upcoming(n)
        self._used += n
        return Candidates(x)

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        """Advance past points that were adopted, as a trusted record does; anything else skips nothing."""
        for row in x:
            if np.allclose(row, self._upcoming(1)[0], rtol=_SAME, atol=_SAME):
                self._used += 1

    def _tell(self, evaluations: Evaluations) -> None:
        pass
