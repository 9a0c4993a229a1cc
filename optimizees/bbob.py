"""The 24 noiseless BBOB functions as optimizees: problems whose optimum is known, and which cost microseconds."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np

from l2l_dask.evaluation import minimize
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.space import Floats, Params, Real, Space
from optimizees._bbob_functions import FORMULAS
from optimizees._bbob_instances import Instance
from optimizees._options import check_integer


class BBOB(Optimizee):
    """One noiseless function of the Black-Box Optimization Benchmarking test bed.

    Instances are COCO's own: ``BBOB(function=7, dim=5, instance=2)`` has the values, the optimum and the offset of the
    problem ``bbob_f007_i02_d05`` of COCO's suite ``bbob``, up to rounding. COCO defines dimensions 2 to 40; beyond, the
    same formulas and generators go on. The fitness includes ``f_opt``, so that a search is judged by
    ``fitness - f_opt``.

    Parameters
    ----------
    function
        Number of the function, from 1 (sphere) to 24 (Lunacek bi-Rastrigin).
    dim
        Dimension of the search space, from 2.
    instance
        Number of the instance, from 1: it decides where the optimum is, its value and the rotations.

    Attributes
    ----------
    x_opt : (dim,) array
        Where the optimum is.
    f_opt : float
        The value there.
    """

    source: ClassVar[str] = "Hansen, Finck, Ros, Auger (2009), INRIA research report RR-6829"

    def __init__(self, function: int = 1, dim: int = 5, instance: int = 1) -> None:
        function = check_integer("function", function, 1, len(FORMULAS))
        dim = check_integer("dim", dim, 2)
        instance = check_integer("instance", instance, 1)
        self.function, self.dim, self.instance = function, dim, instance
        self.space = Space({"x": Real(-5, 5, shape=(dim,))})
        self.objectives = minimize("f")
        self._formula = FORMULAS[function - 1]

    @cached_property
    def _problem(self) -> Instance:
        return Instance(self.function, self.dim, self.instance)

    @property
    def x_opt(self) -> Floats:
        return self._problem.x_opt.copy()

    @property
    def f_opt(self) -> float:
        return self._problem.f_opt

    def setup(self) -> None:
        """Draw optimum and rotations, which the first evaluation would do otherwise."""
        self._value(self._problem.x_opt)

    def _value(self, x: Floats) -> float:
        return self._formula(x, self._problem) + self._problem.f_opt

    def evaluate(self, params: Params, context: Context) -> float:  # noqa: ARG002
        return self._value(np.asarray(params["x"], dtype=float))
