"""The workers: who evaluated what and when, and how much of their time they waited."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, FactorRange, Spinner

from l2l_dask.dashboard import data_workers as data
from l2l_dask.dashboard import theme
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.dashboard.times import UNIT_NAMES, unit
from l2l_dask.evaluation import Ids, Status
from l2l_dask.space import Floats
from l2l_dask.trajectory.layout import LIVE

_ROWS = 32  # workers at once
_MANY = 100_000  # evaluations, from which on an update renews one plot
_TOOLS = "xpan,xbox_zoom,xwheel_zoom,save,reset"


class Workers(common.StorePage):
    """A Gantt chart, the busy share, durations, and what generations cost in waiting."""

    title: ClassVar[str] = "Workers"
    slug: ClassVar[str] = "workers"

    def build(self) -> list[Any]:
        self._number = Spinner(title="Page of workers", low=1, high=1, value=1, step=1, width=130, visible=False)
        self.when(self._number, "value", self._show_gantt)
        self._said, self._chosen = common.words(), common.words()
        self.selection.listen(lambda _ids: self._say_chosen())
        names = ("id", "worker", "left", "right", "seconds", "status", "colour")
        self._intervals = ColumnDataSource({name: [] for name in names})
        self._runs = ColumnDataSource({name: [] for name in names})
        self._shares = ColumnDataSource({"generation": [], "share": []})
        self._next_part = 0
        for source in (self._intervals, self._runs):
            self.selection.join(source)
        self._place = column([], sizing_mode="stretch_width")
        self._make()
        return [
            self._said,
            self._number,
            self._place,
            self.download(
                {
                    "timeline": self._table,
                    "busy": self._slices_table,
                    "durations": self._durations_table,
                    "waiting": self._waits_table,
                }
            ),
        ]

    def _make(self) -> None:
        """Draw all plots anew, for the times as they are now."""
        self._scale, self._unit = self._unit_now()
        for source in (self._intervals, self._runs):
            source.data = {name: [] for name in source.data}
        self._gantt, self._share = self._make_gantt(), self._make_share()
        self._durations, self._waits = self._make_durations(), self._make_waits()
        self._say()
        for part in self._parts():
            part()
        self._place.children = [self._gantt, self._chosen, common.flow(*self.figures)]

    @property
    def figures(self) -> list[Any]:
        """How busy they were, how long evaluations took, and what generations cost in waiting if there are any."""
        return [self._share, self._durations, *([self._waits] if self._waits is not None else [])]

    def _parts(self) -> tuple[Callable[[], None], ...]:
        return self._show_gantt, self._show_share, self._show_durations, self._show_waits

    def _unit_now(self) -> tuple[float, str]:
        running = self._running()
        return unit(max(float(self.followed.once(data.busy).edges[-1]), running.end if len(running.id) else 0.0))

    def update(self) -> None:
        self._say()
        if len(self.trajectory) < _MANY:
            for part in self._parts():
                part()
        else:  # one after the other: each of them looks at all times
            self._next_part = (self._next_part + 1) % len(self._parts())
            self._parts()[self._next_part]()

    def tick(self) -> None:
        if self.followed.underway or len(self._runs.data["id"]):
            self._show_running()

    def _say(self) -> None:
        t = self.trajectory
        waiting = int((t.record["status"] == Status.PENDING).sum())
        running = ""
        if waiting:
            drawn = " yet: those that run for more than a second are drawn" if t.state in LIVE else ""
            running = f" {waiting:,} have no result{drawn}."
        common.say(
            self._said,
            f"Times are in {UNIT_NAMES[self._unit]} since the first individual was submitted.{running}",
        )

    def _say_chosen(self) -> None:
        drawn = np.concatenate([np.asarray(source.data["id"], int) for source in (self._intervals, self._runs)])
        self.say_chosen(self._chosen, drawn=int(np.isin(self.selection.ids, drawn).sum()))

    # Who evaluated what, since when.

    def _make_gantt(self) -> Any:
        x, y = common.reach((0.0, 1.0)), FactorRange()
        drawn = common.plot("", f"time ({self._unit})", "", x_range=x, y_range=y, tools=_TOOLS)
        named = {"legend_field": "status"}, {"legend_label": "running"}
        for source, legend in zip((self._intervals, self._runs), named, strict=True):
            common.hover(drawn, self._bar(drawn, source, **legend), ("individual", "@id"), ("worker", "@worker"),
                         ("status", "@status"), ("seconds", "@seconds{0.000}"))  # fmt: skip
        common.legend(drawn)
        drawn.legend.click_policy = "none"
        self._legend = drawn.legend[0].items[-1]
        drawn.add_tools("box_select", "tap")
        drawn.ygrid.visible = False
        return drawn

    def _bar(self, drawn: Any, source: ColumnDataSource, **legend: str) -> Any:
        return drawn.hbar(
            y="worker",
            left="left",
            right="right",
            height=0.8,
            source=source,
            fill_color="colour",
            line_color="white",
            line_alpha=0.6,
            line_width=0.5,
            nonselection_alpha=0.2,
            selection_line_color=common.CHOSEN,
            **legend,
        )

    def _running(self) -> data.Running:
        found = self.followed.once(data.gantt)
        return data.running(self.trajectory, found, self.followed.underway, time.time())

    def _show_gantt(self) -> None:
        """Show the workers of the page that is chosen."""
        found, running = self.followed.once(data.gantt), self._running()
        pages = max(1, -(-len(running.names) // _ROWS))
        page = min(max(int(self._number.value or 1), 1), pages)
        self._number.update(high=pages, title=f"Workers, page (of {pages})", visible=pages > 1)
        self._rows = slice((page - 1) * _ROWS, page * _ROWS)
        here = self._on_page(found.row)
        status = [Status(s) for s in found.status[here].tolist()]
        if not np.array_equal(found.id[here], np.asarray(self._intervals.data["id"])):
            self._intervals.data = self._columns(running.names, found, found.end, here) | {
                "status": [s.label.replace("_", " ") for s in status],
                "colour": [common.STATUS_COLOURS[s] for s in status],
            }
            self.selection.mark(self._intervals)
        self._show_running()
        last = min(self._rows.stop, len(running.names))
        some = f"; workers {self._rows.start + 1} to {last}" if pages > 1 else ""
        said = f"Who evaluated what: {found.shown}" if len(found.id) else "No evaluation has ended yet"
        theme.entitle(self._gantt, said + some)

    def _show_running(self) -> None:
        """Show what runs up to now, beside what has ended."""
        running = self._running()
        factors = [name or "?" for name in running.names[self._rows]][::-1]
        if self._gantt.y_range.factors != factors:
            self._gantt.y_range.factors = factors
            self._gantt.height = 150 + 18 * len(factors)
        here = self._on_page(running.row)
        end = np.maximum(running.end, running.start)  # two clocks may differ
        self._runs.data = self._columns(running.names, running, end, here) | {
            "status": ["running"] * len(here),
            "colour": [common.STATUS_COLOURS[Status.PENDING]] * len(here),
        }
        self.selection.mark(self._runs)
        self._legend.visible = bool(len(here))
        self._look_at_all()

    def _on_page(self, row: Ids) -> Ids:
        return np.flatnonzero((row >= self._rows.start) & (row < self._rows.stop))

    def _columns(self, names: list[str], found: data.Gantt | data.Running, end: Floats, here: Ids) -> dict[str, Any]:
        return {
            "id": found.id[here],
            "worker": [names[r] or "?" for r in found.row[here].tolist()],
            "left": found.start[here] / self._scale,
            "right": end[here] / self._scale,
            "seconds": (end - found.start)[here],
        }

    def _look_at_all(self) -> None:
        """Let the axis end at the last that is drawn."""
        drawn = [source.data for source in (self._intervals, self._runs) if len(source.data["id"])]
        if drawn:
            ends = float(min(d["left"].min() for d in drawn)), float(max(d["right"].max() for d in drawn))
            common.follow(self._gantt.x_range, ends)

    # How busy they were.

    def _make_share(self) -> Any:
        self._slices = ColumnDataSource({name: [] for name in ("time", "busy", "workers", "share")})
        drawn = common.plot("", f"time ({self._unit})", "workers (mean over a slice)")
        drawn.y_range.start = 0
        drawn.step("time", "workers", source=self._slices, mode="after", color=common.QUIET, line_width=2,
                   line_dash="dashed", legend_label="workers")  # fmt: skip
        busy = drawn.step("time", "busy", source=self._slices, mode="after", color=common.DOTS, line_width=2,
                          legend_label="busy")  # fmt: skip
        common.hover(drawn, busy, ("busy", "@busy{0.0}"), ("workers", "@workers{0.0}"), ("share", "@share{0 %}"))
        common.legend(drawn)
        return drawn

    def _show_share(self) -> None:
        if self._unit_now() != (self._scale, self._unit):
            self._make()  # each plot says its unit
            return
        found = self.followed.once(data.busy)
        self._slices.data = {
            "time": found.edges / self._scale,
            "busy": common.to_the_edge(found.busy),
            "workers": common.to_the_edge(found.workers),
            "share": common.to_the_edge(found.share),
        }
        whole = found.busy.sum() / found.workers.sum() if found.workers.sum() > 0 else 0.0
        theme.entitle(self._share, f"Busy: {min(whole, 1.0):.0%} of the workers' time")

    def _slices_table(self) -> dict[str, Any]:
        return {name: values[:-1] for name, values in self._slices.data.items()}  # the last only ends the lines

    # How long evaluations took.

    def _make_durations(self) -> Any:
        self._bins = ColumnDataSource({name: [] for name in ("left", "right", "count")})
        self._log = self.followed.once(data.durations).log
        drawn = common.plot("", "seconds", "evaluations", x_axis_type="log" if self._log else "linear")
        drawn.y_range.start = 0
        bars = drawn.quad("left", "right", "count", 0, source=self._bins, color=common.DOTS, line_color=None)
        common.hover(drawn, bars, ("seconds", "@left to @right"), ("evaluations", "@count"))
        return drawn

    def _show_durations(self) -> None:
        found = self.followed.once(data.durations)
        if found.log != self._log:
            self._make()  # a figure keeps its scales
            return
        self._bins.data = {"left": found.edges[:-1], "right": found.edges[1:], "count": found.counts}
        middle = f", median {found.median:.3g} s" if np.isfinite(found.median) else ""
        theme.entitle(self._durations, f"{int(found.counts.sum()):,} durations{middle}")

    def _durations_table(self) -> dict[str, Any]:
        names = {"left": "from (s)", "right": "to (s)", "count": "evaluations"}
        return {names[name]: values for name, values in self._bins.data.items()}

    # What a barrier costs.

    def _make_waits(self) -> Any:
        if self.followed.once(data.waits) is None:
            return None
        drawn = common.plot("", "generation", "waiting for its last (%)", y_range=(0, 100))
        drawn.line("generation", "share", source=self._shares, color=common.BEST, line_width=1.5)
        dots = drawn.scatter("generation", "share", source=self._shares, color=common.BEST, size=4)
        common.hover(drawn, dots, ("generation", "@generation"), ("waiting", "@share{0.0} %"))
        return drawn

    def _show_waits(self) -> None:
        found = self.followed.once(data.waits)
        if found is None:
            return
        if self._waits is None:
            self._make()  # the first generation has come
            return
        self._shares.data = {"generation": found.generation, "share": 100 * found.share}
        mean = f" {found.share.mean():.0%}" if len(found.share) else ""
        theme.entitle(self._waits, f"Waiting{mean}: {found.shown}")

    def _table(self) -> dict[str, Any]:
        names = {"left": f"started ({self._unit})", "right": f"finished ({self._unit})"}
        ended, running = self._intervals.data, self._runs.data
        return {names.get(n, n): [*ended[n], *running[n]] for n in ended if n != "colour"}

    def _waits_table(self) -> dict[str, Any]:
        return {"generation": self._shares.data["generation"], "waiting (%)": self._shares.data["share"]}
