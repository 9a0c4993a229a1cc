"""The part of the search page about several objectives at once."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import BasicTickFormatter, ColumnDataSource

from l2l_dask.dashboard.pages import _common as common
from l2l_dask.dashboard.pages import _course as course
from l2l_dask.dashboard.pages._axis import Axis

if TYPE_CHECKING:
    from l2l_dask.dashboard.pages.search import Search

MOST_FRONT = 2_000  # members of a front that are drawn
_MOST_PAIRS = 6


class Pareto:
    """Several objectives: the front, by pairs, and how much it dominates."""

    def __init__(self, page: Search) -> None:
        self._page = page
        self._drawn: tuple[int, ...] = ()
        self._axes: list[Axis] = []
        names = page.trajectory.objectives.names
        self._pairs = list(combinations(range(len(names)), 2))[:_MOST_PAIRS]
        self._front = ColumnDataSource({"id": [], **{f"f{k}": [] for k in range(len(names))}})
        page.selection.join(self._front)
        self._steps = ColumnDataSource({"number": [], "volume": []})
        self._said = common.words()
        self._volume = common.plot("Hypervolume", "evaluation", "share of the box that is dominated")
        self._volume.xaxis.formatter = BasicTickFormatter(use_scientific=False)
        self._volume.line("number", "volume", source=self._steps, color=common.BEST, line_width=2.5)
        self._place = common.flow()
        heading = common.words("Pareto front", heading=True)
        save = page.download({"front": self._table, "hypervolume": self._volume_table})
        self.root = column(heading, self._said, self._place, save, sizing_mode="stretch_width")

    @property
    def figures(self) -> list[Any]:
        """The front, by pairs, and how much it dominates."""
        return list(self._place.children)

    @property
    def some(self) -> str:
        """Which of the pairs are drawn; empty if all are."""
        n = len(self._page.trajectory.objectives)
        of = n * (n - 1) // 2
        return f"first {len(self._pairs)} of {of} pairs" if len(self._pairs) < of else ""

    def refresh(self, front: course.Front) -> None:
        """Draw the front as it is now."""
        t, ids = self._page.trajectory, front.ids[:MOST_FRONT]
        axes = [self._page.followed.once(Axis, -1 - k) for k in range(len(t.objectives))]
        self._follow(axes)
        if tuple(ids.tolist()) != self._drawn:
            self._drawn = tuple(ids.tolist())
            ids = ids[np.lexsort(t.cost[ids].T[::-1])]
            self._front.data = {"id": ids, **{f"f{k}": t.record["fitness"][ids, k] for k in range(len(t.objectives))}}
            self._page.selection.mark(self._front)
        steps = {"number": list(front.number), "volume": list(front.volume)}  # theirs grow
        if not common.equal(self._steps.data, steps):
            self._steps.data = steps
        some = f" The {self.some}." if self.some else ""
        corner = t.objectives.cost(front.reference).tolist() if len(front.reference) else []
        named = zip(t.objectives.names, corner, strict=False)
        worst = ", ".join(f"{name} {value:.4g}" for name, value in named)
        box = f" The hypervolume is the share of the box from the best of each to {worst}." if worst else ""
        shown = f"{len(front.ids):,} of {self._page.done:,} individuals are on the front: nobody beats them."
        common.say(self._said, shown + some + box)

    def _follow(self, axes: list[Axis]) -> None:
        """Let the axes show what there is now."""
        drawn, self._axes = self._axes, axes
        if [axis.log for axis in drawn] != [axis.log for axis in axes]:
            pairs = [self._plot(axes[i], axes[j], f"f{i}", f"f{j}") for i, j in self._pairs]
            self._place.children = [*pairs, self._volume]  # a figure keeps its scales
        elif all(axis.serves(now) for axis, now in zip(drawn, axes, strict=True)):
            self._axes = drawn
        else:
            for plot, (i, j) in zip(self.figures, self._pairs, strict=False):
                common.follow(plot.x_range, axes[i].range)
                common.follow(plot.y_range, axes[j].range)

    def _plot(self, x: Axis, y: Axis, across: str, up: str) -> Any:
        drawn = common.plot(
            f"{y.name} against {x.name}",
            f"{x.name} ({x.way})",
            f"{y.name} ({y.way})",
            x_axis_type="log" if x.log else "linear",
            y_axis_type="log" if y.log else "linear",
            x_range=common.reach(x.range),
            y_range=common.reach(y.range),
        )
        drawn.scatter(across, up, source=self._page.sample.source, size=4, color=common.DOTS, alpha=0.3,
                      nonselection_alpha=0.08, selection_color=common.CHOSEN, legend_label="all")  # fmt: skip
        front = drawn.scatter(across, up, source=self._front, size=7, color=common.BEST, line_color=None,
                              nonselection_alpha=0.4, selection_color=common.CHOSEN, legend_label="front")  # fmt: skip
        if len(self._axes) == 2:
            drawn.line(across, up, source=self._front, color=common.BEST, line_width=1.5, alpha=0.7)
        common.hover(drawn, front, ("individual", "@id"), (x.name, f"@{across}"), (y.name, f"@{up}"))
        common.legend(drawn)
        common.brushable(drawn)
        return drawn

    def _table(self) -> dict[str, Any]:
        data = self._front.data
        named = {f"fitness: {name}": data[f"f{k}"] for k, name in enumerate(self._page.trajectory.objectives.names)}
        return {"id": data["id"], **named}

    def _volume_table(self) -> dict[str, Any]:
        return {"evaluation": self._steps.data["number"], "hypervolume": self._steps.data["volume"]}
