"""The figures: from a trajectory's columns to Bokeh models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import Legend, LegendItem
from bokeh.plotting import figure
from numpy.typing import NDArray

from l2l_dask.dashboard.pages._common import is_logarithmic
from l2l_dask.dashboard.theme import BLUE, GREY, ORANGE, new_figure
from l2l_dask.evaluation import Status
from l2l_dask.optimizee import Target
from l2l_dask.trajectory import Trajectory

MOST_POINTS = 10_000
_MOST_VECTORS = 3_000  # points; beyond, a vector graphic gets slow


def fitness(trajectory: Trajectory, objective: int = 0) -> figure:
    """Plot the fitness of all individuals, in the order in which they ended, and the best so far."""
    record, sign = trajectory.record, trajectory.objectives.cost(np.ones(len(trajectory.objectives)))[objective]
    cost = trajectory.cost[:, objective]
    ended = np.flatnonzero(record["status"] != Status.PENDING)
    ended = ended[np.argsort(record["told"][ended], kind="stable")]
    number = np.arange(1, len(ended) + 1)
    good = ~np.isnan(cost[ended])
    number, ids, values = number[good], ended[good], cost[ended][good]
    best = np.minimum.accumulate(values) if len(values) else values
    shown = thinned(len(values))
    o = trajectory.objectives[objective]
    count = "" if len(shown) == len(values) else f", {len(shown)} of {len(values)} shown"
    plot = new_figure(
        f"{o.name} ({o.direction.removesuffix('e')}ed{count})",
        "evaluation",
        o.name,
        y_axis_type="log" if is_logarithmic(values * sign) else "linear",
        output_backend="svg" if len(shown) <= _MOST_VECTORS else "canvas",
    )
    points = ColumnDataSource({"number": number[shown], "fitness": values[shown] * sign, "id": ids[shown]})
    steps = ColumnDataSource(_corners(number, best * sign))
    each = plot.scatter("number", "fitness", source=points, size=4, color=BLUE, alpha=0.35)
    line = plot.step("number", "best", source=steps, mode="after", line_width=2.5, color=ORANGE)
    plot.add_tools(HoverTool(renderers=[each], tooltips=[("individual", "@id"), (o.name, "@fitness")]))
    _legend(plot, [("each individual", each), ("best so far", line)], "top_right" if sign > 0 else "bottom_right")
    return plot


def trace(name: str, values: NDArray[np.floating], target: Target | None, title: str) -> figure:
    """Plot a saved one-dimensional array over what it should look like."""
    axis = target or Target(values)
    plot = new_figure(title, axis.step_label, axis.label or name, output_backend="svg")
    items = []
    if target is not None:
        x = np.arange(len(target.values)) * target.step
        items.append(("target", plot.line(x, target.values, line_width=4, color=GREY, alpha=0.7)))
    x = np.arange(len(values)) * axis.step
    items.append(("best individual", plot.line(x, np.asarray(values, float), line_width=1.5, color=BLUE)))
    _legend(plot, items)
    return plot


def thinned(n: int, most: int = MOST_POINTS) -> NDArray[np.intp]:
    """Choose at most ``most`` of ``n`` points, evenly."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(np.intp)


def _corners(number: NDArray[np.int_], best: NDArray[np.floating]) -> dict[str, Any]:
    """Keep where the best changes, and the end."""
    if not len(best):
        return {"number": number, "best": best}
    keep = np.flatnonzero(np.diff(best, prepend=np.nan) != 0)
    keep = np.union1d(keep, [len(best) - 1])
    return {"number": number[keep], "best": best[keep]}


def _legend(plot: figure, items: Sequence[tuple[str, Any]], location: Any = "top_right") -> None:
    entries = [LegendItem(label=label, renderers=[glyph]) for label, glyph in items]
    legend = Legend(items=entries, orientation="horizontal", location=location)
    legend.border_line_color = None
    legend.background_fill_alpha = 0.8
    plot.add_layout(legend)
