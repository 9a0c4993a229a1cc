"""All experiments of a folder, and the best so far of those that are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
from bokeh.models import Column, ColumnDataSource, Div, HoverTool, RadioButtonGroup

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.pages._common import equal, is_logarithmic, say, when, words
from l2l_dask.dashboard.pages._saving import save_as_csv
from l2l_dask.dashboard.summary import Curve, Summary, line
from l2l_dask.dashboard.times import UNIT_NAMES, unit

if TYPE_CHECKING:
    from l2l_dask.dashboard.followed import Stores

_MOST_COMPARED = 24
_AXES = ("evaluations", "seconds")


class Experiments:
    """The page.

    The table is the page's own (``static/dashboard.js``): it gets its lines, and says which are chosen, in the tags of
    two models.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._rows = Div(name="rows", visible=False, tags=[{"rows": [], "none": "looking ..."}])
        self._chosen = Div(name="chosen", visible=False)
        when(self._chosen, "tags", self._compare)
        self._axis = RadioButtonGroup(labels=["over evaluations", "over time"], active=0, width=260)
        when(self._axis, "active", self._compare)
        self._place, self._note = Column(sizing_mode="stretch_width"), words()
        self._save = save_as_csv({"comparison": self._table})
        self._plotted: Any = None
        shown = [self._rows, self._chosen, self._axis, self._place, self._note, self._save]
        self.root = Column(children=shown, sizing_mode="stretch_width")
        self._compare()

    def update(self) -> None:
        """Show what is new."""
        summaries = self._stores.overview()
        none = ""
        if not summaries:
            none = (
                f"no experiments below {self._stores.root} yet"
                if self._stores.scanned
                else "looking for experiments ..."
            )
        told = [{"rows": [line(name, summary) for name, summary in summaries.items()], "none": none}]
        if told != self._rows.tags:
            self._rows.tags = told
        self._compare()

    def _compare(self) -> None:
        """Plot those that are chosen."""
        summaries = self._stores.overview()
        names = [name for name in map(str, self._chosen.tags) if name in summaries and not summaries[name].problem]
        shown = {name: summaries[name] for name in names[:_MOST_COMPARED]}
        axis = _AXES[self._axis.active or 0]
        curves = {name: each.over_time if axis == "seconds" else each.over_evaluations for name, each in shown.items()}
        longest = max((float(curve.x[-1]) for curve in curves.values() if len(curve.x)), default=0.0)
        size, per = unit(longest) if axis == "seconds" else (1.0, "")
        scale = _scale(curves)
        self._curves, self._size = curves, size
        sources = {name: _steps(curve, size, scale) for name, curve in curves.items()}
        what = (axis, per, scale, tuple((name, summary.objective) for name, summary in shown.items()))
        if self._plotted is None or self._plotted[0] != what:
            self._plotted = what, {name: ColumnDataSource(data) for name, data in sources.items()}
            self._axis.visible = self._save.visible = bool(shown)
            self._x = f"{UNIT_NAMES[per]} since the first was submitted" if per else axis
            self._place.children = self._figure(shown, self._x, len(names), scale)
        else:
            for name, data in sources.items():
                source = self._plotted[1][name]
                if not equal(source.data, data):
                    source.data = data
        together = {"Search pages of these together": f"search?{urlencode([('store', name) for name in shown])}"}
        say(self._note, _remarks(shown, curves, scale), links=together if len(shown) > 1 else None)

    def _table(self) -> dict[str, Any]:
        """Return where the lines have their corners."""
        table: dict[str, Any] = {"experiment": [], self._x: [], "best": []}
        for name, curve in self._curves.items():
            table["experiment"] += [name] * len(curve.x)
            table[self._x] += (curve.x / self._size).tolist()
            table["best"] += curve.best.tolist()
        return table

    def _figure(self, shown: Mapping[str, Summary], x: str, chosen: int, scale: str) -> list[Any]:
        if not shown:
            text = "Choose experiments in the table to compare their best so far."
            return (
                [Div(text=f"<p class='quiet'>{text}</p>", sizing_mode="stretch_width")]
                if self._stores.summaries
                else []
            )
        objectives = sorted({summary.objective for summary in shown.values()})
        some = f" ({len(shown)} of {chosen} chosen)" if len(shown) < chosen else ""
        plot = theme.new_figure(
            f"best so far{some}", x, " / ".join(objectives), name="comparison", height=400, y_axis_type=scale
        )
        for i, name in enumerate(shown):
            color, dash = theme.CYCLE[i % len(theme.CYCLE)], theme.DASHES[i // len(theme.CYCLE) % len(theme.DASHES)]
            source = self._plotted[1][name]
            drawn = plot.line("x", "y", source=source, line_width=2.5, color=color, line_dash=dash, legend_label=name)
            hover = [("experiment", "$name"), (x.partition(" ")[0], "@x{0,0.[00]}"), ("best", "@y")]
            drawn.name = name
            plot.add_tools(HoverTool(renderers=[drawn], tooltips=hover, visible=i == 0))
        plot.add_layout(plot.legend[0], "below")
        plot.legend[0].click_policy = "mute"
        plot.legend[0].location = "left"
        return [plot]


def _scale(curves: Mapping[str, Curve]) -> str:
    """Choose an axis: one that reaches 0 does not flatten what is above."""
    values = np.concatenate([np.empty(0), *(curve.best for curve in curves.values())])
    return "log" if not (values < 0).any() and is_logarithmic(values[values > 0]) else "linear"


def _steps(curve: Curve, size: float, scale: str) -> dict[str, Any]:
    """Return the corners of a step line, by units of that size."""
    best = np.where(curve.best > 0, curve.best, np.nan) if scale == "log" else curve.best
    return {"x": np.repeat(curve.x / size, 2)[1:], "y": np.repeat(best, 2)[:-1]}


def _remarks(shown: Mapping[str, Summary], curves: Mapping[str, Curve], scale: str) -> str:
    """Say what the plot does not show by itself."""
    said = []
    zero = [name for name, curve in curves.items() if scale == "log" and (curve.best == 0).any()]
    if zero:
        said.append(f"A logarithmic axis has no 0, which is left out of {', '.join(zero)}.")
    up = [name for name, summary in shown.items() if summary.is_maximized]
    down = [name for name in shown if name not in up]
    if up and down:
        said.append(f"Higher is better for {', '.join(up)}, lower for {', '.join(down)}.")
    return " ".join(said)
