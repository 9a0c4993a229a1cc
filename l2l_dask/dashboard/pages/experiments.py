"""All experiments of a folder, and the best so far of those that are chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import Column, ColumnDataSource, Div, HoverTool, RadioButtonGroup

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.pages._common import is_logarithmic, when
from l2l_dask.dashboard.summary import Curve, Summary

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
        self._place = Column(sizing_mode="stretch_width")
        self._plotted: Any = None
        self.root = Column(children=[self._rows, self._chosen, self._axis, self._place], sizing_mode="stretch_width")
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
        sources = {
            name: _steps(summary.over_time if axis == "seconds" else summary.over_evaluations)
            for name, summary in shown.items()
        }
        logarithmic = is_logarithmic(np.concatenate([np.empty(0), *(data["y"] for data in sources.values())]))
        what = (axis, logarithmic, tuple((name, summary.objective) for name, summary in shown.items()))
        if self._plotted is None or self._plotted[0] != what:
            self._plotted = what, {name: ColumnDataSource(data) for name, data in sources.items()}
            self._axis.visible = bool(shown)
            self._place.children = self._figure(shown, axis, len(names), "log" if logarithmic else "linear")
            return
        for name, data in sources.items():
            source = self._plotted[1][name]
            if len(source.data["x"]) != len(data["x"]) or not np.array_equal(source.data["x"], data["x"]):
                source.data = data

    def _figure(self, shown: Mapping[str, Summary], axis: str, chosen: int, scale: str) -> list[Any]:
        if not shown:
            text = "Choose experiments in the table to compare their best so far."
            return (
                [Div(text=f"<p class='quiet'>{text}</p>", sizing_mode="stretch_width")]
                if self._stores.summaries
                else []
            )
        objectives = sorted({summary.objective for summary in shown.values()})
        some = f" ({len(shown)} of {chosen} chosen)" if len(shown) < chosen else ""
        x = "evaluations" if axis == "evaluations" else "seconds since the first evaluation began"
        plot = theme.new_figure(
            f"best so far{some}", x, " / ".join(objectives), name="comparison", height=400, y_axis_type=scale
        )
        for i, name in enumerate(shown):
            color, dash = theme.CYCLE[i % len(theme.CYCLE)], theme.DASHES[i // len(theme.CYCLE) % len(theme.DASHES)]
            source = self._plotted[1][name]
            line = plot.line("x", "y", source=source, line_width=2.5, color=color, line_dash=dash, legend_label=name)
            hover = [("experiment", "$name"), (axis, "@x{0,0.[0]}"), ("best", "@y")]
            line.name = name
            plot.add_tools(HoverTool(renderers=[line], tooltips=hover, visible=i == 0))
        plot.add_layout(plot.legend[0], "below")
        plot.legend[0].click_policy = "mute"
        plot.legend[0].location = "left"
        return [plot]


def _steps(curve: Curve) -> dict[str, Any]:
    """Return the corners of a step line."""
    return {"x": np.repeat(curve.x, 2)[1:], "y": np.repeat(curve.best, 2)[:-1]}


def line(name: str, summary: Summary) -> dict[str, Any]:
    """Say a store's summary in words, beside the numbers to sort by."""
    share = summary.ended / summary.budget if summary.budget else 0.0
    best = summary.best
    return {
        "name": name,
        "what": summary.what,
        "problem": summary.problem,
        "state": summary.state,
        "progress": "" if summary.problem else f"{summary.ended:,} of {summary.budget:,}",
        "best": "" if best is None else f"{best:.6g}",
        "rate": "" if summary.rate is None else f"{_two(summary.rate)}/s",
        "failed": f"{summary.failed:,}" if summary.failed else "",
        "workers": str(summary.workers) if summary.workers else "",
        "left": "" if summary.seconds_left is None else duration(summary.seconds_left),
        "sort": {
            "progress": min(share, 1.0),
            "best": best if best is not None and math.isfinite(best) else None,
            "rate": summary.rate,
            "failed": summary.failed,
            "workers": summary.workers,
            "left": summary.seconds_left,
        },
    }


def _two(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Say a time roughly."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"
