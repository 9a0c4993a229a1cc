"""Parallel coordinates: a line for each individual, and ranges on the axes that choose individuals."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import numpy as np
from bokeh.events import SelectionGeometry
from bokeh.layouts import column
from bokeh.models import Button, ColumnDataSource, Div, LabelSet, LinearColorMapper, MultiChoice, Range1d

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.dashboard.pages._axis import Axis, short
from l2l_dask.dashboard.pages._selection import MOST_KEPT
from l2l_dask.evaluation import Ids
from l2l_dask.trajectory import Trajectory

MOST_LINES, MOST_BEST, MOST_AXES, FIRST_AXES = 1_000, 100, 16, 8
_INACTIVE = -0.06  # where a line passes an axis whose parameter is not active


class Parallel:
    """The plot, the choice of its axes, and what its ranges choose."""

    def __init__(self, page: common.StorePage) -> None:
        self._page = page
        t = page.trajectory
        # This widget, unlike all others, takes its labels for HTML.
        options = [(str(j), escape(label)) for j, label in enumerate(t.space.labels[:1000])]
        self._chosen = MultiChoice(
            title=f"Parameters (at most {MOST_AXES} at once)",
            options=options,
            value=[value for value, _ in options[:FIRST_AXES]],
            max_items=MOST_AXES,
            sizing_mode="stretch_width",
        )
        page.when(self._chosen, "value", self._lay_out)
        self._lines = ColumnDataSource({"id": [], "xs": [], "ys": [], "colour": [], "fitness": []})
        self._brushes = ColumnDataSource({"left": [], "right": [], "bottom": [], "top": []})
        self._ends = ColumnDataSource({"x": [], "y": [], "text": [], "offset": []})
        self._colours = LinearColorMapper(palette=theme.LINES, low=0.0, high=1.0)
        self._clear = Button(label="Clear ranges", width=120)
        self._clear.on_click(page.lasting(self.clear))
        self._said: Div = common.words()
        self.ranges: dict[int, tuple[float, float]] = {}
        self._held: Ids = np.empty(0, dtype=np.int64)  # in the ranges, when they were drawn
        self._drawn: tuple[int, ...] = ()
        self._plot = self._make()
        page.selection.join(self._lines)
        page.selection.listen(lambda _ids: self._tell())
        self._lay_out()
        buttons = common.flow(self._clear, page.download({"parallel": self._table}))
        self.root = column(self._chosen, self._plot, buttons, self._said, sizing_mode="stretch_width")

    @property
    def figure(self) -> Any:
        """The plot."""
        return self._plot

    def _make(self) -> Any:
        plot = common.plot("", "", "", tools="box_select,tap,save,reset", height=420, x_range=Range1d(-0.5, 1.5))
        plot.y_range = Range1d(-0.16, 1.16)
        plot.yaxis.visible = plot.ygrid.visible = False
        plot.xgrid.grid_line_width = 2
        plot.xaxis.major_label_orientation = 0.5
        lines = plot.multi_line(
            "xs",
            "ys",
            source=self._lines,
            line_color={"field": "colour", "transform": self._colours},
            line_alpha=theme.LINE_ALPHA,
            nonselection_line_alpha=0.05,
            selection_line_alpha=1.0,
        )
        bands = plot.quad(
            "left", "right", "top", "bottom", source=self._brushes, fill_color=common.CHOSEN, fill_alpha=0.35
        )
        bands.glyph.line_color = common.CHOSEN
        plot.add_layout(LabelSet(x="x", y="y", text="text", y_offset="offset", source=self._ends, text_align="center",
                                 text_font_size="11px", text_color=common.QUIET))  # fmt: skip
        box = plot.tools[0]
        box.renderers = [bands]  # lines know no boxes: the server finds out whom a range holds
        plot.toolbar.active_drag = box
        plot.tools[1].renderers = [lines]
        common.hover(plot, lines, ("individual", "@id"), ("fitness", "@fitness"))
        plot.on_event(SelectionGeometry, self._page.lasting(self._brush))
        return plot

    def _lay_out(self) -> None:
        """Make the axes anew."""
        self.axes = self._axes_now()
        self.ranges = {}
        self._draw_axes()
        self.refresh()

    def _axes_now(self) -> list[Axis]:
        picked = [int(value) for value in self._chosen.value]
        objectives = [-1 - k for k in range(len(self._page.trajectory.objectives))]
        return [self._page.followed.once(Axis, j) for j in [*picked, *objectives]]

    def _draw_axes(self) -> None:
        n = len(self.axes)
        self._plot.x_range.update(start=-0.5, end=n - 0.5)
        self._plot.xaxis.ticker = list(range(n))
        self._plot.xaxis.major_label_overrides = {
            i: theme.as_it_is(short(axis.name, 24)) for i, axis in enumerate(self.axes)
        }
        marks = [(i, h, text) for i, axis in enumerate(self.axes) for h, text in axis.marks()]
        self._ends.data = {
            "x": [i for i, _, _ in marks],
            "y": [h for _, h, _ in marks],
            "text": [text for _, _, text in marks],
            "offset": [4 if h == 1 else -16 if h == 0 else 2 for _, h, _ in marks],
        }
        self._drawn = ()
        self._show_ranges()

    def _follow(self) -> None:
        """Make axes anew that do not serve any more; ranges on them hold the same values."""
        now = self._axes_now()
        if all(axis.serves(other) for axis, other in zip(self.axes, now, strict=True)):
            return
        self.ranges = {i: _moved(held, self.axes[i], now[i]) for i, held in self.ranges.items()}
        self.axes = now
        self._draw_axes()

    def refresh(self) -> None:
        """Draw the lines of those that are shown now."""
        self._follow()
        t = self._page.trajectory
        ids = self._page.followed.once(shown_ids)
        kept = np.setdiff1d(self._page.selection.ids, ids)[:MOST_KEPT]
        ids = np.concatenate([kept[common.is_done(t)[kept]], ids])
        done, drawn = self._page.done, tuple(ids.tolist())
        if drawn != self._drawn:
            self._drawn = drawn
            self._lines.data = self._of(t, ids)
            self._page.selection.mark(self._lines)
        some = f", the {MOST_BEST} best and an even sample" if len(ids) < done else ""
        text = f"Parallel coordinates: {common.counted(len(ids), done, 'done')}{some}; the brighter, the better"
        theme.entitle(self._plot, f"{text} ({t.objectives.names[0]})", theme.WIDE_TITLE)
        self._tell()

    def _of(self, t: Trajectory, ids: Ids) -> dict[str, Any]:
        heights = np.stack([axis.heights(axis.values(t, ids)) for axis in self.axes], axis=1)
        heights[np.isnan(heights)] = _INACTIVE
        place = np.arange(len(self.axes), dtype=float)
        last = self.axes[-len(t.objectives)]
        return {
            "id": ids,
            "xs": [place] * len(ids),
            "ys": list(heights),
            "colour": _goodness(t, last.heights(last.values(t, ids))),
            "fitness": common.finite(t.record["fitness"][ids, 0]),
        }

    def _brush(self, event: SelectionGeometry) -> None:
        """Let a box that was drawn over axes be their range."""
        box: Any = event.geometry
        if not event.final or box.get("type") != "rect":
            return
        self.brush(box["x0"], box["x1"], box["y0"], box["y1"])

    def brush(self, left: float, right: float, bottom: float, top: float) -> None:
        """Choose those whose values on the axes from ``left`` to ``right`` are between two heights."""
        left, right, bottom, top = *sorted((left, right)), *sorted((bottom, top))
        for i in range(max(0, math.ceil(left)), min(len(self.axes) - 1, math.floor(right)) + 1):
            self.ranges[i] = (max(bottom, 0.0), min(top, 1.0))
        self._show_ranges()
        if self.ranges:
            self._held = self.inside()
            self._page.selection.choose(self._held)

    def clear(self) -> None:
        """Take all ranges away."""
        self.ranges = {}
        self._show_ranges()
        self._page.selection.choose(())

    def inside(self) -> Ids:
        """Return all individuals that the ranges hold, drawn or not."""
        t = self._page.trajectory
        held = common.is_done(t)
        for i, (low, high) in self.ranges.items():
            heights = self.axes[i].heights(self.axes[i].values(t))
            with np.errstate(invalid="ignore"):
                held &= (heights >= low) & (heights <= high)
        return np.flatnonzero(held)

    def _show_ranges(self) -> None:
        at = list(self.ranges.items())
        self._brushes.data = {
            "left": [i - 0.1 for i, _ in at],
            "right": [i + 0.1 for i, _ in at],
            "bottom": [low for _, (low, _) in at],
            "top": [high for _, (_, high) in at],
        }
        self._clear.disabled = not at

    def _table(self) -> dict[str, Any]:
        ids = np.asarray(self._lines.data["id"], dtype=np.int64)
        return {"id": ids, **{axis.name: axis.words(axis.values(self._page.trajectory, ids)) for axis in self.axes}}

    def _tell(self) -> None:
        chosen = self._page.selection.ids
        if self.ranges and not np.array_equal(chosen, self._held):  # others were chosen elsewhere
            self.ranges = {}
            self._show_ranges()
        if not len(chosen):
            common.say(self._said, "Draw a box across one axis or several to choose the individuals inside; more boxes "
                       "narrow the choice. Inactive parameters pass below their axis.")  # fmt: skip
            return
        ranges = " and ".join(
            filter(None, (self.axes[i].within(low, high) for i, (low, high) in sorted(self.ranges.items())))
        )
        users = {*self._page.trajectory.objectives.names, *self._page.trajectory.space.labels}
        done = "record.status = done" if "status" in users else "status = done"
        self._page.say_chosen(self._said, f"{ranges} and {done}" if ranges else "")


def shown_ids(t: Trajectory) -> Ids:
    """Return whose lines are drawn: the best and an even sample, the best last, so that they lie on top."""
    step = 1
    while len(t) > (MOST_LINES - MOST_BEST) * step:
        step *= 2
    best = common.best_ids(t, MOST_BEST)
    ids = np.union1d(np.arange(0, len(t), step), best)
    cost = t.cost[ids]
    ids, cost = ids[np.isfinite(cost).all(axis=1)], cost[np.isfinite(cost).all(axis=1)]
    return ids[np.argsort(-cost[:, 0], kind="stable")]


def _moved(held: tuple[float, float], before: Axis, now: Axis) -> tuple[float, float]:
    """Return the same range on another axis; what it left open stays so."""
    low, high = np.nan_to_num(now.heights(np.array([before.value(height) for height in held]))).tolist()
    return low if held[0] > 0 else 0.0, high if held[1] < 1 else 1.0


def _goodness(t: Trajectory, heights: Any) -> Any:
    """Return 1 for the best and 0 for the worst that the axis shows."""
    return 1 - heights if common.sign(t, 0) > 0 else heights
