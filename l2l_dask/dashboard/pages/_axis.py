"""Axes for parameters and objectives: their ends, their ticks, and what is where on them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.space import Categorical, Floats
from l2l_dask.trajectory import Trajectory

_FAR = 1000  # times as far from the median as the quartile
_MARGIN = 0.04  # of an axis, beyond its ends
_LEAST = 0.3  # of an axis, that is still in use


class Axis:
    """One axis: from natural units to a height between 0 and 1, and back.

    Parameters
    ----------
    dimension
        Of the parameter; -1 - k for objective k.
    """

    def __init__(self, trajectory: Trajectory, dimension: int) -> None:
        self.dimension = dimension
        if dimension >= 0:
            self.name = trajectory.space.labels[dimension]
            self.column = f"params.{self.name}" if self.name in trajectory.objectives.names else self.name
            self.choices = choices_of(trajectory, dimension)
            self.log = is_log_dimension(trajectory, dimension)
            self.low, self.high = span(trajectory, dimension)
            self.clipped, self.minimised = False, True
            return
        self.minimised = common.sign(trajectory, -1 - dimension) > 0
        self.name, self.choices = trajectory.objectives.names[-1 - dimension], []
        self.column = self.name
        self.low, self.high, self.log, self.clipped = _fitness_span(trajectory, -1 - dimension)

    @property
    def way(self) -> str:
        """In which direction an objective gets better."""
        return "minimized" if self.minimised else "maximized"

    def values(self, trajectory: Trajectory, ids: Any = slice(None)) -> Floats:
        """Return the natural values of individuals."""
        name, j = ("params", self.dimension) if self.dimension >= 0 else ("fitness", -1 - self.dimension)
        values: Floats = trajectory.record[name][ids, j]
        return values

    def heights(self, values: Floats) -> Floats:
        """Return where on the axis values are: NaN stays so."""
        values = common.finite(values)
        if self.log:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = common.finite(np.log(values))
        low, high = self._ends
        heights: Floats = np.clip((values - low) / (high - low), 0.0, 1.0)
        return heights

    def value(self, height: float) -> float:
        """Return what is at a height."""
        low, high = self._ends
        value = low + height * (high - low)
        return math.exp(value) if self.log else value

    @property
    def range(self) -> tuple[float, float]:
        """The ends for a figure's axis: a little beyond."""
        low, high = self._ends
        margin = _MARGIN * (high - low)
        low, high = low - margin, high + margin
        return (math.exp(low), math.exp(high)) if self.log else (low, high)

    def serves(self, now: Axis) -> bool:
        """Tell whether this one, drawn a while ago, still shows what there is now, and not in a corner."""
        (low, high), (first, last) = self._ends, now._ends
        margin = _MARGIN * (high - low)
        inside = low - margin <= first and last <= high + margin
        return self.log == now.log and inside and last - first >= _LEAST * (high - low)

    @property
    def _ends(self) -> tuple[float, float]:
        return (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)

    def words(self, values: Floats) -> list[Any]:
        """Return values as a table shows them: the choices of categoricals, None where inactive."""
        known = [None if math.isnan(v) else v for v in values.tolist()]
        return [None if v is None else self.choices[int(v)] for v in known] if self.choices else known

    def marks(self) -> list[tuple[float, str]]:
        """Name the ends, or the choices of a categorical: (height, text)."""
        if not self.choices:
            return [(0.0, self.end(0.0)), (1.0, self.end(1.0))]
        last = max(1, len(self.choices) - 1)
        return [(i / last, short(c)) for i, c in enumerate(self.choices) if i % (1 + last // 10) == 0]

    def end(self, height: float) -> str:
        """Say what is at an end of the axis."""
        worse = 1 if self.minimised else 0
        return f"{self.value(height):.4g}" + (" and worse" if self.clipped and height == worse else "")

    def within(self, low: float, high: float) -> str:
        """Say that a value is between two heights, in the terms of the individuals' filter."""
        name = json.dumps(self.column, ensure_ascii=False)
        if self.choices:
            last = len(self.choices) - 1
            picked = [c for i, c in enumerate(self.choices) if low <= i / max(1, last) <= high]
            return (
                "(" + " or ".join(f"{name} = {json.dumps(choice, ensure_ascii=False)}" for choice in picked) + ")"
                if picked
                else ""
            )
        parts = [f"{name} >= {float(self.value(low))!r}"] if low > 0 else []
        parts += [f"{name} <= {float(self.value(high))!r}"] if high < 1 else []
        return " and ".join(parts)


def short(text: str, most: int = 14) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _fitness_span(trajectory: Trajectory, objective: int) -> tuple[float, float, bool, bool]:
    """Return the ends of an objective's axis, whether it is logarithmic, and whether there is worse beyond.

    The worst twentieth is left beyond, and what is so good that it cannot be meant.
    """
    values = common.finite(trajectory.record["fitness"][:: max(1, len(trajectory) // 20_000), objective])
    values = values[~np.isnan(values)]
    if not len(values):
        return 0.0, 1.0, False, False
    sign = common.sign(trajectory, objective)
    best = common.finite(trajectory.record["fitness"][common.best_ids(trajectory, 1, objective), objective])
    cost = sign * np.append(values, best[~np.isnan(best)])
    quarter, middle, last = np.quantile(cost, [0.25, 0.5, 0.95])
    first = max(float(cost.min()), middle - _FAR * (middle - quarter)) if middle > quarter else float(cost.min())
    low, high = sorted((sign * first, sign * float(last)))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return low, high, low > 0 and high / low > 100, bool(cost.max() > last)


def choices_of(trajectory: Trajectory, dimension: int) -> list[str]:
    """Return the choices of a categorical dimension; none of another."""
    name = trajectory.space.labels[dimension].partition("[")[0]
    parameter = trajectory.space[name]
    return [str(choice) for choice in parameter.choices] if isinstance(parameter, Categorical) else []


def is_log_dimension(trajectory: Trajectory, dimension: int) -> bool:
    """Tell whether a parameter is searched on a logarithmic scale."""
    return bool(getattr(trajectory.space[trajectory.space.labels[dimension].partition("[")[0]], "log", False))


def span(trajectory: Trajectory, dimension: int) -> tuple[float, float]:
    """Return the ends of a parameter's range: what was tried, where it has no bounds."""
    parameter = trajectory.space[trajectory.space.labels[dimension].partition("[")[0]]
    if isinstance(parameter, Categorical):
        return 0.0, max(1.0, len(parameter.choices) - 1.0)
    if parameter.low is not None and parameter.high is not None:
        return float(parameter.low), float(parameter.high)
    values = trajectory.record["params"][:, dimension]
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def label_choices(axis: Any, choices: list[str]) -> None:
    """Let a figure's axis name the choices of a categorical parameter."""
    if choices:
        some = range(0, len(choices), max(1, len(choices) // 12))
        axis.ticker = list(some)
        axis.major_label_overrides = {i: theme.as_it_is(short(choices[i])) for i in some}
