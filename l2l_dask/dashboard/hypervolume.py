"""How much of the space of costs a Pareto front dominates: exactly, for two and three objectives."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from l2l_dask.space import Floats


def hypervolume(cost: Floats, reference: Floats) -> float:
    """Return the volume of what some costs dominate, up to a reference point.

    Parameters
    ----------
    cost : (n, m) array
        Always minimised; rows that are not better than the reference by all objectives count for nothing, as do NaN.
    reference : (m,) array
        The corner of the box. There are one, two or three objectives.

    Notes
    -----
    Two objectives: the area under a staircase. Three: a sweep along the third, over the area that the staircase of the
    other two covers up to there; each point enters the staircase once and leaves it once, so that n points take
    n log n steps, and as many moves in a list.
    """
    reference = np.asarray(reference, dtype=float)
    with np.errstate(invalid="ignore"):
        # A cost of -inf would dominate an infinite volume.
        cost = cost[(cost < reference).all(axis=1) & np.isfinite(cost).all(axis=1)]
    if not len(cost):
        return 0.0
    if cost.shape[1] == 1:
        return float(reference[0] - cost.min())
    stairs = _Stairs(float(reference[0]), float(reference[1]))
    if cost.shape[1] == 2:
        for x, y in cost[np.lexsort(cost.T)].tolist():
            stairs.add(x, y)
        return stairs.area
    volume, height = 0.0, float(cost[:, 2].min())
    for x, y, z in cost[np.argsort(cost[:, 2], kind="stable")].tolist():
        volume += stairs.area * (z - height)
        height = z
        stairs.add(x, y)
    return volume + stairs.area * (float(reference[2]) - height)


class _Stairs:
    """Points of which none is nowhere worse than another, by the first coordinate, and the area that they dominate."""

    def __init__(self, x_end: float, y_end: float) -> None:
        self._x, self._y = [-np.inf, x_end], [y_end, -np.inf]  # guards at both ends
        self.area = 0.0

    def add(self, x: float, y: float) -> None:
        """Add a point; those that it dominates leave."""
        xs, ys = self._x, self._y
        at = bisect_left(xs, x)
        if ys[at - 1] <= y or (xs[at] == x and ys[at] <= y):
            return
        end, top = at, ys[at - 1]
        left = x
        while ys[end] >= y:  # the last guard is lower than all
            self.area += (xs[end] - left) * (top - y)
            left, top = xs[end], ys[end]
            end += 1
        self.area += (xs[end] - left) * (top - y)
        xs[at:end], ys[at:end] = [x], [y]
