"""Grid search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import ALL_SPACES, Optimizer
from l2l_dask.parameters import Categorical, Floats, Parameter, Real, column
from l2l_dask.space import Space
from optimizers._options import check_count

_POINTS = 5
_MOST = 1_000_000  # points of one axis
_SAME = 1e-9  # how far a point may be off the grid and still be on it


class GridSearch(Optimizer):
    """Try every combination of evenly spaced values, the last parameter varying fastest.

    Reals take ``n`` points from bound to bound on their (possibly logarithmic) scale, integers and categoricals all
    their values. Every element of an array-valued parameter is an axis of its own. Combinations that differ in inactive
    parameters only are asked once; grid points that were adopted are not asked again. The seed has no effect. Any
    number of objectives is taken.

    Parameters
    ----------
    n
        Points per real parameter; or name -> points, for parameters of any kind. With names, reals that are not named
        take 5 points. (The original L2L's ``(low, high, n)`` makes n + 1 points; here the bounds are the space's.)

    References
    ----------
    .. [1] R. A. Fisher, "The design of experiments", 1935: factorial designs.
    """

    source: ClassVar[str] = "Fisher, The design of experiments, 1935: factorial designs"
    spaces: ClassVar[frozenset[str]] = ALL_SPACES - {"unbounded"}
    max_objectives: int | None = None

    def __init__(
        self, space: Space, objectives: Objectives, *, seed: int = 0, n: int | Mapping[str, int] = _POINTS
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        named = dict(n) if isinstance(n, Mapping) else {}
        if set(named) - set(space):
            raise OptimizerError(f"n names {sorted(set(named) - set(space))}, expected some of {list(space)}")
        reals = _POINTS if isinstance(n, Mapping) else check_count("n", n, 1)
        axes = {name: _axis(name, p, named.get(name), reals) for name, p in space.items()}
        self._axes = [axes[name] for name, p in space.items() for _ in range(p.size)]
        self._order = _parents_first(space)
        # The next point, as a mixed-radix number: one digit per dimension.
        self._digits = [0] * space.dim
        self._x = np.array([axis[0] for axis in self._axes])
        self._exhausted = False
        self._adopted: set[tuple[int, ...]] = set()

    @property
    def size(self) -> int:
        """Number of points of the full grid, duplicates by inactive parameters included."""
        return math.prod(len(axis) for axis in self._axes)

    @property
    def done(self) -> bool:
        return self._exhausted

    def _ask(self, n: int) -> Candidates:
        rows: list[Floats] = []
        while len(rows) < n and not self._exhausted:
            rows.append(self._x.copy())
            self._advance()
        return self._proposal(rows)

    def _advance(self) -> None:
        """Move on to the next point that is to be asked."""
        self._count()
        while self._adopted and not self._exhausted and tuple(self._digits) in self._adopted:
            self._adopted.remove(tuple(self._digits))
            self._count()

    def _count(self) -> None:
        """Add one to the number; an inactive dimension keeps the digit 0.

        Parents come before their children, so a dimension that is inactive here is so whatever the lower digits are:
        all of those points are passed over at once.
        """
        for dimension in reversed(self._order):
            digit = self._digits[dimension] + 1
            if digit < len(self._axes[dimension]) and self._is_active(dimension):
                self._set(dimension, digit)
                return
            self._set(dimension, 0)
        self._exhausted = True

    def _is_active(self, dimension: int) -> bool:
        return not self.space.conditional or bool(self.space.active(self._x)[dimension])

    def _set(self, dimension: int, digit: int) -> None:
        self._digits[dimension] = digit
        self._x[dimension] = self._axes[dimension][digit]

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        for row in self.space.snap(x):
            digits = self._digits_of(row)
            if digits is None or self._exhausted:
                continue
            if digits == tuple(self._digits):
                self._advance()
            elif self._is_ahead(digits):
                self._adopted.add(digits)

    def _digits_of(self, x: Floats) -> tuple[int, ...] | None:
        """Return the number of the grid point that ``x`` is, None if it is none."""
        digits = [int(np.abs(axis - value).argmin()) for axis, value in zip(self._axes, x.tolist(), strict=True)]
        active = self.space.active(x)
        for dimension, digit in enumerate(digits):
            if not active[dimension]:
                digits[dimension] = 0
            elif abs(self._axes[dimension][digit] - x[dimension]) > _SAME:
                return None
        return tuple(digits)

    def _is_ahead(self, digits: tuple[int, ...]) -> bool:
        return [digits[d] for d in self._order] > [self._digits[d] for d in self._order]

    def _tell(self, evaluations: Evaluations) -> None:
        pass


def _axis(name: str, parameter: Parameter, n: int | None, reals: int) -> Floats:
    """Return the encoded points of one element of a parameter, ascending."""
    if n is not None:
        check_count(f"n[{name!r}]", n, 1)
    offset, width, log, n_values = column(parameter)
    count = n if n is not None else n_values or reals
    if isinstance(parameter, Real):
        return np.linspace(0.0, 1.0, count) if count > 1 else np.array([0.5])
    if min(count, n_values) > _MOST:
        raise OptimizerError(f"{name!r} has {n_values} values, expected at most {_MOST}: give n = {{{name} = ..}}")
    low = 0 if isinstance(parameter, Categorical) else parameter.low
    if count >= n_values:
        values = low + np.arange(n_values, dtype=float)
    else:
        first, last = (offset, offset + width) if log else (low, low + n_values - 1.0)
        spread = np.linspace(first, last, count) if count > 1 else np.array([(first + last) / 2])
        values = np.unique(np.clip(np.round(np.exp(spread) if log else spread), low, low + n_values - 1))
    scaled = np.log(values) - offset if log else values - offset + 0.5
    axis: Floats = scaled / width
    return axis


def _parents_first(space: Space) -> list[int]:
    """Order the dimensions as in the space, but each parameter after those that its conditions name."""
    names: list[str] = []

    def place(name: str) -> None:
        for parent in space[name].conditions:
            place(parent)
        if name not in names:
            names.append(name)

    for name in space:
        place(name)
    first = dict(zip(space, np.cumsum([0, *(p.size for p in space.values())]).tolist(), strict=False))
    return [first[name] + i for name in names for i in range(space[name].size)]
