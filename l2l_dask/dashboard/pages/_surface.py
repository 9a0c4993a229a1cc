"""Two chosen parameters: the fitness over both, and where the search was looking at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColorBar, ColumnDataSource, LinearColorMapper, LogColorMapper, Select, Slider, Toggle
from bokeh.palettes import Viridis256

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.dashboard.pages._axis import Axis, label_choices
from l2l_dask.evaluation import Ids
from l2l_dask.space import Floats
from l2l_dask.trajectory import Trajectory

CELLS, MOST_ROWS, MOST_SMOOTHED = 32, 20_000, 2_000
_WIDTH = 0.06  # of the kernel, where an axis is 1 long
_BEST, _SMOOTH = "best of each cell", "smooth mean, with contours"
_WINDOW, _STEPS, _PLAY = 200, 100, 250  # individuals, steps from end to end, milliseconds


def cells(t: Trajectory, x: Axis, y: Axis, objective: int) -> tuple[Floats, int]:
    """Return the best fitness in each cell (rows along y, NaN in an empty one), and how many that is made from."""
    ids = rows(t, objective, MOST_ROWS)
    h, v = x.heights(x.values(t, ids)), y.heights(y.values(t, ids))
    known = ~(np.isnan(h) | np.isnan(v))
    column_, row = ((np.minimum(a[known] * n, n - 1)).astype(int) for a, n in ((h, _count(x)), (v, _count(y))))
    best = np.full((_count(y), _count(x)), np.inf)
    np.minimum.at(best, (row, column_), t.cost[ids[known], objective])
    return common.finite(best) * common.sign(t, objective), int(known.sum())


def smoothed(t: Trajectory, x: Axis, y: Axis, objective: int, log: bool) -> tuple[Floats, int]:
    """Return a weighted mean of the fitness around the middle of each cell (NaN where nobody is near)."""
    ids = rows(t, objective, MOST_SMOOTHED)
    h, v = x.heights(x.values(t, ids)), y.heights(y.values(t, ids))
    known = ~(np.isnan(h) | np.isnan(v))
    values = t.record["fitness"][ids[known], objective]
    values = np.log(values) if log else np.clip(values, *np.quantile(values, [0.02, 0.98])) if len(values) else values
    across, along = (
        np.exp(-0.5 * (((np.arange(n) + 0.5) / n - a[known, None]) / _WIDTH) ** 2)
        for a, n in ((h, _count(x)), (v, _count(y)))
    )
    weight = along.T @ across
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (along * values[:, None]).T @ across / weight
    mean[weight < 0.5] = np.nan
    return np.exp(mean) if log else mean, int(known.sum())


def rows(t: Trajectory, objective: int, most: int) -> Ids:
    """Return an even sample of those that are done, and the best of them."""
    ids = np.union1d(np.arange(0, len(t), max(1, -(-len(t) // most))), common.best_ids(t, 100, objective))
    return ids[~np.isnan(common.finite(t.cost[ids, objective]))]


def _count(axis: Axis) -> int:
    return len(axis.choices) or CELLS


def edges(axis: Axis) -> Floats:
    """Return the borders of an axis's cells, in natural units."""
    if axis.choices:
        return np.arange(len(axis.choices) + 1, dtype=np.float64) - 0.5
    return np.array([axis.value(h) for h in np.linspace(0, 1, CELLS + 1)])


class Surface:
    """Both plots, the choice of parameters, and the slider."""

    def __init__(self, page: common.StorePage, objective: int = 0) -> None:
        self._page, self._objective = page, objective
        labels = page.trajectory.space.labels[:1000]
        options = [(str(j), label) for j, label in enumerate(labels)]
        self._x = Select(title="Across", options=options, value="0", width=180)
        self._y = Select(title="Up", options=options, value=str(min(1, len(labels) - 1)), width=180)
        self._kind = Select(title="Colour", options=[_BEST, _SMOOTH], value=_BEST, width=220)
        self._slider = Slider(title="Individuals up to", start=0, end=1, value=1, step=1, sizing_mode="stretch_width")
        self._slider.min_width = 200
        self._play = Toggle(label="Play", width=90, align="end")
        self._playing: Any = None
        self._cells = ColumnDataSource({name: [] for name in ("left", "right", "bottom", "top", "value")})
        self._contours = ColumnDataSource({"xs": [], "ys": []})
        self._now = ColumnDataSource({"id": [], "x": [], "y": [], "fitness": []})
        self._before = ColumnDataSource({"x": [], "y": []})
        page.selection.join(self._now)
        for select in (self._x, self._y):
            page.when(select, "value", self._make)
        page.when(self._kind, "value", self._colour)
        page.when(self._slider, "value", self._move)
        common.when(self._play, "active", self._run)
        self._place = common.flow()
        save = page.download({"cells": lambda: dict(self._cells.data)})
        self.root = column(
            common.flow(self._x, self._y, self._kind, self._play, self._slider),
            self._place,
            save,
            sizing_mode="stretch_width",
        )
        self._make()

    def show(self, objective: int) -> None:
        """Colour by another objective."""
        self._objective = objective
        self._make()

    def _make(self) -> None:
        t = self._page.trajectory
        self.x, self.y = Axis(t, int(self._x.value)), Axis(t, int(self._y.value))
        self.fitness = Axis(t, -1 - self._objective)
        self._surface, self._population = self._figure(), self._figure()
        self._cover(self._surface)
        self._populate(self._population)
        self._place.children = [self._surface, self._population]
        self._end = -1
        self.refresh()

    def _figure(self) -> Any:
        scales = {f"{d}_axis_type": "log" if a.log else "linear" for d, a in (("x", self.x), ("y", self.y))}
        x, y = edges(self.x), edges(self.y)
        reach = {"x_range": common.reach((x[0], x[-1])), "y_range": common.reach((y[0], y[-1]))}
        drawn = common.plot("", self.x.name, self.y.name, height=380, **reach, **scales)
        label_choices(drawn.xaxis[0], self.x.choices)
        label_choices(drawn.yaxis[0], self.y.choices)
        return drawn

    def _cover(self, drawn: Any) -> None:
        """Draw cells, contours and the scale of the colours."""
        t, name = self._page.trajectory, self._page.trajectory.objectives.names[self._objective]
        of = self.fitness
        palette = Viridis256[::-1] if common.sign(t, self._objective) > 0 else Viridis256
        mapper = LogColorMapper if of.log else LinearColorMapper
        self._colours = colours = mapper(palette=palette, low=of.low, high=of.high, nan_color="rgba(0, 0, 0, 0)")
        drawn.grid.visible = False
        quads = drawn.quad("left", "right", "top", "bottom", source=self._cells, line_color=None,
                           fill_color={"field": "value", "transform": colours})  # fmt: skip
        drawn.multi_line("xs", "ys", source=self._contours, line_color="white", line_width=1.2, line_alpha=0.8)
        scale = {"title": theme.as_it_is(name), "width": 12, "padding": 4, **theme.BESIDE}
        drawn.add_layout(ColorBar(color_mapper=colours, **scale), "right")
        common.hover(drawn, quads, (name, "@value"), (self.x.name, "@left to @right"), (self.y.name, "@bottom to @top"))

    def _populate(self, drawn: Any) -> None:
        """Draw who was tried at a time, and before."""
        drawn.scatter("x", "y", source=self._before, size=3, color=common.QUIET, alpha=0.3, legend_label="before")
        now = drawn.scatter("x", "y", source=self._now, size=7, color=common.DOTS, alpha=0.7, legend_label="now",
                            nonselection_alpha=0.15, selection_color=common.CHOSEN)  # fmt: skip
        common.hover(drawn, now, ("individual", "@id"), ("fitness", "@fitness"))
        common.legend(drawn)
        common.brushable(drawn)

    def refresh(self) -> None:
        """Show what is new."""
        self._follow()
        self._colour()
        n = len(self._page.trajectory)
        if n != self._end:
            at_end = self._end < 0 or self._slider.value >= self._end
            self._end = n
            self._slider.update(end=max(1, n), step=max(1, n // _STEPS))
            if at_end and self._slider.value != max(1, n):
                self._slider.value = max(1, n)  # and so it moves
            else:
                self._move()

    def _follow(self) -> None:
        """Let the axes and the colours follow what there is."""
        once = self._page.followed.once
        fitness, x, y = (once(Axis, axis.dimension) for axis in (self.fitness, self.x, self.y))
        if not self.fitness.serves(fitness):
            self.fitness = fitness
            self._colours.update(low=fitness.low, high=fitness.high)
        if self.x.serves(x) and self.y.serves(y):
            return
        self.x, self.y = x, y
        for drawn in (self._surface, self._population):
            for shown, axis in ((drawn.x_range, x), (drawn.y_range, y)):
                borders = edges(axis)
                common.follow(shown, (borders[0], borders[-1]))

    def _colour(self) -> None:
        t, smooth = self._page.trajectory, self._kind.value == _SMOOTH
        if smooth:
            values, based = smoothed(t, self.x, self.y, self._objective, self.fitness.log)
        else:
            values, based = cells(t, self.x, self.y, self._objective)
        x, y = edges(self.x), edges(self.y)
        row, col = np.nonzero(np.isfinite(values))
        self._cells.data = {
            "left": x[col],
            "right": x[col + 1],
            "bottom": y[row],
            "top": y[row + 1],
            "value": values[row, col],
        }
        self._contours.data = self._lines(values) if smooth else {"xs": [], "ys": []}
        name, done = t.objectives.names[self._objective], int(np.isfinite(t.cost[:, self._objective]).sum())
        theme.entitle(self._surface, f"{name}, {self._kind.value}: {based:,} of {done:,} done")

    def _lines(self, values: Floats) -> dict[str, Any]:
        """Draw lines of equal fitness, where both parameters are numbers."""
        from bokeh.plotting.contour import contour_data

        known = values[np.isfinite(values)]
        if self.x.choices or self.y.choices or len(known) < 4 or not known.max() > known.min():
            return {"xs": [], "ys": []}
        heights = (np.arange(CELLS) + 0.5) / CELLS
        across, along = (np.array([axis.value(h) for h in heights]) for axis in (self.x, self.y))
        levels = np.unique(np.quantile(known, np.linspace(0.1, 0.9, 7)))
        data = contour_data(across, along, np.ma.masked_invalid(values), levels, want_fill=False).line_data
        return {"xs": list(data.xs), "ys": list(data.ys)} if data is not None else {"xs": [], "ys": []}

    def _move(self) -> None:
        """Show those who were tried up to where the slider is."""
        t = self._page.trajectory
        end = min(int(self._slider.value), len(t))
        window = max(1, min(_WINDOW, len(t) // 5))
        ids = np.arange(max(0, end - window), end)
        before = (
            np.unique(np.linspace(0, max(0, end - window), 1000).astype(np.int64))[:-1] if end > window else ids[:0]
        )
        fitness = common.finite(t.record["fitness"][ids, self._objective])
        self._now.data = {"id": ids, "x": self.x.values(t, ids), "y": self.y.values(t, ids), "fitness": fitness}
        self._before.data = {"x": self.x.values(t, before), "y": self.y.values(t, before)}
        self._page.selection.mark(self._now)
        shown = f"individuals {ids[0]:,} to {ids[-1]:,}" if len(ids) else "no individuals yet"
        known = fitness[~np.isnan(fitness)]
        middle = f", median {np.median(known):.4g}" if len(known) else ""
        theme.entitle(self._population, f"Population: {shown} of {len(t):,}{middle}")

    def _run(self) -> None:
        """Play, from the beginning if it is at the end."""
        document = self.root.document
        self._play.label = "Stop" if self._play.active else "Play"
        if self._playing is not None and document is not None:
            document.remove_periodic_callback(self._playing)
        self._playing = None
        if self._play.active and document is not None:
            if self._slider.value >= self._slider.end:
                self._slider.value = 0
            self._playing = document.add_periodic_callback(self.step, _PLAY)

    def step(self) -> None:
        """Go on by a step; at the end, stop."""
        self._slider.value = min(self._slider.end, self._slider.value + self._slider.step)
        if self._slider.value >= self._slider.end:
            self._play.active = False
