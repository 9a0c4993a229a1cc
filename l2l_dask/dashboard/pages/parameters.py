"""The parameters: which values were tried, and how good they were."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from bokeh.layouts import column
from bokeh.models import Button, CDSView, ColumnDataSource, FactorRange, Range1d, Select, Spinner

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.importance import Importance, importance
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.dashboard.pages._axis import Axis, label_choices
from l2l_dask.dashboard.pages._parallel import Parallel
from l2l_dask.dashboard.pages._selection import Sample
from l2l_dask.dashboard.pages._surface import Surface
from l2l_dask.errors import L2LError
from l2l_dask.evaluation import Ids
from l2l_dask.trajectory import Trajectory

_AT_ONCE = 8  # plots of one parameter: a browser takes a tenth of a second for each
_MOST_DOTS = 2_000  # in each of these
_MOST_BARS = 20
_one_at_a_time = threading.Lock()


class Parameters(common.StorePage):
    """Parallel coordinates, each parameter against fitness, two against fitness, and importance."""

    title: ClassVar[str] = "Parameters"
    slug: ClassVar[str] = "parameters"

    def build(self) -> list[Any]:
        names = self.trajectory.objectives.names
        self._objective = Select(
            title="Fitness", options=[(str(k), n) for k, n in enumerate(names)], value="0", width=220
        )
        self._objective.visible = len(names) > 1
        self.when(self._objective, "value", self._show)
        self._parallel = Parallel(self)
        return [self._parallel.root]

    def later(self) -> list[Callable[[], list[Any]]]:
        return [self._make_each, self._make_surface]

    def _make_each(self) -> list[Any]:
        self._each = Each(self)
        return [self._objective, common.words("Each parameter against fitness", heading=True), self._each.root]

    def _make_surface(self) -> list[Any]:
        self._surface, self._matters = Surface(self, self.objective), Matters(self)
        return [
            common.words("Two parameters", heading=True),
            self._surface.root,
            common.words("Importance", heading=True),
            self._matters.root,
        ]

    @property
    def objective(self) -> int:
        """Which of the objectives is shown."""
        return int(self._objective.value)

    @property
    def parts(self) -> tuple[Parallel, Each, Matters]:
        """Parallel coordinates, each parameter against fitness, and importance."""
        return self._parallel, self._each, self._matters

    def update(self) -> None:
        self._parallel.refresh()
        if self._is_logarithmic() != self._each.fitness.log:
            self._each.make()  # a figure keeps its scales
        else:
            self._each.refresh()
            if self._is_logarithmic() == self._surface.fitness.log:
                self._surface.refresh()
            else:
                self._surface.show(self.objective)

    def tick(self) -> None:
        if self._is_logarithmic() != self._surface.fitness.log:  # not along with the others: it takes a while
            self._surface.show(self.objective)

    def _is_logarithmic(self) -> bool:
        return self.followed.once(Axis, -1 - self.objective).log

    def _show(self) -> None:
        self._each.make()
        if self.is_whole:
            self._surface.show(self.objective)


class Each:
    """A plot for each of some parameters, and pages of them."""

    def __init__(self, page: Parameters) -> None:
        self._page = page
        self._pages = -(-page.trajectory.space.dim // _AT_ONCE)
        self._number = Spinner(title=f"Page, of {self._pages}", low=1, high=self._pages, value=1, step=1, width=110)
        self._number.visible = self._pages > 1
        page.when(self._number, "value", self.make)
        self._said = common.words()
        self._grid = column([], sizing_mode="stretch_width")
        self.sample = Sample(self._columns, page.selection, _MOST_DOTS)
        save = page.download({"parameters": self._table})
        self.root = column(self._number, self._said, self._grid, save, sizing_mode="stretch_width")
        self.make()

    @property
    def figures(self) -> list[Any]:
        """A plot for each of the parameters of the page."""
        return list(self._place.children)

    def make(self) -> None:
        """Plot the parameters of the page that is chosen."""
        t = self._page.trajectory
        first = (min(max(int(self._number.value or 1), 1), self._pages) - 1) * _AT_ONCE
        self.axes = [Axis(t, j) for j in range(first, min(first + _AT_ONCE, t.space.dim))]
        self._grid.children = []  # these would look for columns that go
        self.fitness = self._page.followed.once(Axis, -1 - self._page.objective)
        self._heights, view = common.reach(self.fitness.range), CDSView()
        self.refresh(again=True)
        drawn = [self._plot(k, axis, self.fitness, self._heights, view) for k, axis in enumerate(self.axes)]
        self._place = common.flow(*drawn)
        self._grid.children = [common.with_one_toolbar(self._place)]

    def refresh(self, *, again: bool = False) -> None:
        """Draw those that are new, or all."""
        t = self._page.trajectory
        self.sample.update(t, self._page.followed.once(common.best_ids, 100, self._page.objective), again=again)
        now = self._page.followed.once(Axis, -1 - self._page.objective)
        if not self.fitness.serves(now):
            self.fitness = now
            common.follow(self._heights, now.range)
        beyond = ", the worst beyond the axis" if now.clipped else ""
        text = f"{common.counted(len(self.sample), self._page.done, 'individuals that are done')}{beyond}; parameters "
        text += f"{self.axes[0].dimension + 1} to {self.axes[-1].dimension + 1} of {t.space.dim}."
        common.say(self._said, text)

    def _columns(self, t: Trajectory, ids: Ids) -> dict[str, Any]:
        fitness = common.finite(t.record["fitness"][ids, self._page.objective])
        return {"fitness": fitness, **{f"p{k}": axis.values(t, ids) for k, axis in enumerate(self.axes)}}

    def _plot(self, k: int, axis: Axis, fitness: Axis, heights: Range1d, view: CDSView) -> Any:
        # What plots share need not be sent and made for each: there may be eight of them.
        drawn = common.plot(
            "",
            axis.name,
            fitness.name,
            height=240,
            tools="wheel_zoom,save,reset",
            x_axis_type="log" if axis.log else "linear",
            y_axis_type="log" if fitness.log else "linear",
            y_range=heights,
        )
        label_choices(drawn.xaxis[0], axis.choices)
        dots = drawn.scatter(f"p{k}", "fitness", source=self.sample.source, view=view, size=4, color=common.DOTS,
                             alpha=0.4, nonselection_alpha=0.06, selection_color=common.CHOSEN,
                             selection_alpha=0.9)  # fmt: skip
        common.hover(drawn, dots, ("individual", "@id"), (axis.name, f"@p{k}"), (fitness.name, "@fitness"))
        common.brushable(drawn)
        return drawn

    def _table(self) -> dict[str, Any]:
        t, ids = self._page.trajectory, np.asarray(self.sample.source.data["id"], dtype=np.int64)
        named = {axis.name: axis.words(axis.values(t, ids)) for axis in self.axes}
        return {
            "id": ids,
            f"fitness: {t.objectives.names[self._page.objective]}": self.sample.source.data["fitness"],
        } | named


class Matters:
    """Importance, when somebody asks for it: it takes seconds, in a thread of its own."""

    def __init__(self, page: Parameters) -> None:
        self._page = page
        self._button = Button(label="Compute importance", width=180)
        self._button.on_click(page.lasting(self.compute))
        self._said = common.words("Which parameters matter: a model is fitted on request, which takes some seconds.")
        self._bars = ColumnDataSource({"name": [], "mean": [], "low": [], "high": []})
        self._plot = common.plot("", "share of variance lost", "", height=360, y_range=FactorRange())
        bars = self._plot.hbar(y="name", right="mean", height=0.7, source=self._bars, color=common.DOTS)
        self._plot.segment("low", "name", "high", "name", source=self._bars, color=common.BEST, line_width=3)
        common.hover(self._plot, bars, ("parameter", "@name"), ("importance", "@mean"))
        self._plot.visible = False
        self._save = page.download({"importance": self._table})
        self._save.visible = False
        self.root = column(self._button, self._said, self._plot, self._save, sizing_mode="stretch_width")
        self.found: Importance | None = None

    @property
    def figure(self) -> Any:
        """The plot of the result."""
        return self._plot

    def compute(self) -> None:
        """Begin."""
        self._button.disabled = True
        common.say(self._said, "Computing ...")
        document, t, objective = self.root.document, self._page.trajectory, self._page.objective

        def work() -> None:
            with _one_at_a_time:
                try:
                    found: Importance | str = importance(t, objective)
                except L2LError as error:
                    found = str(error)
                except Exception as error:  # whatever a library makes of the data: the page goes on
                    found = f"importance cannot be computed: {type(error).__name__}: {error}"
            if document is None:
                self.show(found)
            else:
                document.add_next_tick_callback(partial(self.show, found))

        if document is None:
            work()
        else:
            threading.Thread(target=work, name="l2l-importance", daemon=True).start()

    def show(self, found: Importance | str) -> None:
        """Show the result, or why there is none."""
        self._button.disabled = False
        common.say(self._said, str(found))
        if isinstance(found, str):
            return
        self.found = found
        n = min(_MOST_BARS, len(found.names))
        mean, sd = found.mean[:n], found.sd[:n]
        self._plot.y_range.factors = found.names[:n][::-1]
        self._bars.data = {"name": found.names[:n], "mean": mean, "low": mean - sd, "high": mean + sd}
        theme.entitle(self._plot, f"{common.counted(n, len(found.names), 'parameters')}, the most important first")
        self._plot.height = 110 + 22 * n
        self._plot.visible = self._save.visible = True

    def _table(self) -> dict[str, Any]:
        found = self.found
        return {"parameter": found.names, "importance": found.mean, "sd": found.sd} if found else {"parameter": []}
