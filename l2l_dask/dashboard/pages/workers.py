"""The workers: who evaluated what and when, and how much of their time they waited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, FactorRange, Range1d, Spinner

from l2l_dask.dashboard import data_workers as data
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.evaluation import Status

_ROWS = 32  # workers at once
_MANY = 100_000  # evaluations, from which on an update renews one plot
_TOOLS = "xpan,xbox_zoom,xwheel_zoom,save,reset"


class Workers(common.StorePage):
    """A Gantt chart, the busy share, durations, and what generations cost in waiting."""

    title: ClassVar[str] = "Workers"
    slug: ClassVar[str] = "workers"

    def build(self) -> list[Any]:
        self._number = Spinner(title="Page of workers", low=1, high=1, value=1, step=1, width=130, visible=False)
        common.when(self._number, "value", self._show_gantt)
        self._said, self._chosen = common.words(), common.words()
        self.selection.listen(lambda _ids: self.say_chosen(self._chosen))
        names = ("id", "worker", "left", "right", "seconds", "status", "colour")
        self._intervals = ColumnDataSource({name: [] for name in names})
        self.selection.join(self._intervals)
        self._place = column([], sizing_mode="stretch_width")
        self._make()
        return [
            self._said,
            self._number,
            self._place,
            column(
                common.download(f"{self.store}-timeline.csv", self._table),
                common.download(f"{self.store}-busy.csv", lambda: dict(self._slices.data)),
                sizing_mode="stretch_width",
            ),
        ]

    def _make(self) -> None:
        """Draw all plots anew, for the times as they are now."""
        self._scale, self._unit = self._unit_now()
        self._intervals.data = {name: [] for name in self._intervals.data}
        self._gantt, self._share = self._make_gantt(), self._make_share()
        self._durations, self._waits = self._make_durations(), self._make_waits()
        self._say()
        for part in self._parts():
            part()
        below = [self._share, self._durations, *([self._waits] if self._waits is not None else [])]
        self._place.children = [self._gantt, self._chosen, common.flow(*below)]

    def _parts(self) -> tuple[Callable[[], None], ...]:
        return self._show_gantt, self._show_share, self._show_durations, self._show_waits

    def _unit_now(self) -> tuple[float, str]:
        return common.unit(float(self.followed.once(data.busy).edges[-1]))

    def update(self) -> None:
        self._say()
        if len(self.trajectory) < _MANY:
            for part in self._parts():
                part()
        else:  # one after the other: each of them looks at all times
            self._turn = (self._turn + 1) % len(self._parts())
            self._parts()[self._turn]()

    _turn = 0

    def _say(self) -> None:
        t = self.trajectory
        waiting = int((t.record["status"] == Status.PENDING).sum())
        running = f" {waiting:,} have no result yet: where they run is known once they end." if waiting else ""
        common.say(
            self._said,
            f"Times are in {common.UNIT_NAMES[self._unit]} since the first individual was submitted.{running}",
        )

    # Who evaluated what, since when.

    def _make_gantt(self) -> Any:
        drawn = common.plot("", f"time ({self._unit})", "", y_range=FactorRange(), x_range=Range1d(0, 1), tools=_TOOLS)
        self._bars = drawn.hbar(
            y="worker",
            left="left",
            right="right",
            height=0.8,
            source=self._intervals,
            fill_color="colour",
            line_color="white",
            line_alpha=0.6,
            line_width=0.5,
            nonselection_alpha=0.2,
            selection_line_color=common.CHOSEN,
            legend_field="status",
        )
        common.hover(drawn, self._bars, ("individual", "@id"), ("worker", "@worker"), ("status", "@status"),
                     ("seconds", "@seconds{0.000}"))  # fmt: skip
        common.legend(drawn)
        drawn.legend.click_policy = "none"
        drawn.add_tools("box_select", "tap")
        drawn.ygrid.visible = False
        return drawn

    def _show_gantt(self) -> None:
        """Show the workers of the page that is chosen."""
        t, found = self.trajectory, self.followed.once(data.gantt)
        pages = max(1, -(-len(found.names) // _ROWS))
        page = min(max(int(self._number.value or 1), 1), pages)
        self._number.update(high=pages, title=f"Workers, page (of {pages})", visible=pages > 1)
        names = found.names[(page - 1) * _ROWS : page * _ROWS]
        here = np.flatnonzero((found.row >= (page - 1) * _ROWS) & (found.row < page * _ROWS))
        labels = [name or "?" for name in found.names]
        left, right = found.start[here], found.end[here]
        columns: dict[str, Any] = {
            "id": found.id[here],
            "worker": [labels[row] for row in found.row[here].tolist()],
            "left": left / self._scale,
            "right": right / self._scale,
            "seconds": right - left,
            "status": [Status(s).label.replace("_", " ") for s in found.status[here].tolist()],
            "colour": [common.STATUS_COLOURS[Status(s)] for s in found.status[here].tolist()],
        }
        if not np.array_equal(found.id[here], np.asarray(self._intervals.data["id"])):
            factors = [name or "?" for name in names][::-1]
            if self._gantt.y_range.factors != factors:
                self._gantt.y_range.factors = factors
                self._gantt.height = 150 + 18 * len(factors)
            self._intervals.data = columns
            self.selection.mark(self._intervals)
            if len(here):
                self._gantt.x_range.update(start=float(left.min()) / self._scale, end=float(right.max()) / self._scale)
        some = f"; workers {(page - 1) * _ROWS + 1} to {(page - 1) * _ROWS + len(names)}" if pages > 1 else ""
        self._gantt.title.text = f"Who evaluated what: {found.shown}{some}" if len(t) else "No evaluations yet"

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
            "time": found.edges[:-1] / self._scale,
            "busy": found.busy,
            "workers": found.workers,
            "share": found.share,
        }
        whole = found.busy.sum() / found.workers.sum() if found.workers.sum() > 0 else 0.0
        self._share.title.text = f"Busy: {min(whole, 1.0):.0%} of the workers' time"

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
        self._durations.title.text = f"{int(found.counts.sum()):,} durations{middle}"

    # What a barrier costs.

    def _make_waits(self) -> Any:
        if self.followed.once(data.waits) is None:
            return None
        self._shares = ColumnDataSource({"generation": [], "share": []})
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
        self._waits.title.text = f"Waiting{mean}: {found.shown}"

    def _table(self) -> dict[str, Any]:
        names = {"left": f"started ({self._unit})", "right": f"finished ({self._unit})"}
        shown = self._intervals.data
        return {names.get(name, name): shown[name] for name in shown if name != "colour"}
