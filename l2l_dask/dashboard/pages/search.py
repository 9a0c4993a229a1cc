"""How the search goes: the fitness of all and the best so far, generations, the distribution, and the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from bokeh.layouts import column
from bokeh.models import BasicTickFormatter, ColumnDataSource, RadioButtonGroup, Select, Toggle

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.dashboard.pages import _course as course
from l2l_dask.dashboard.pages._axis import Axis
from l2l_dask.dashboard.pages._pareto import MOST_FRONT, Pareto
from l2l_dask.dashboard.pages._selection import Sample
from l2l_dask.dashboard.times import unit
from l2l_dask.evaluation import FAILURES, Ids, Status
from l2l_dask.trajectory import Trajectory

_VECTORS = 2_000  # individuals, up to which pictures are saved as SVG
_BINS = 40


class Search(common.StorePage):
    """The page; the best so far of other stores is drawn beside."""

    title: ClassVar[str] = "Search"
    slug: ClassVar[str] = "search"
    most: ClassVar[int] = common.MOST_POINTS  # individuals that are drawn

    def build(self) -> list[Any]:
        t = self.trajectory
        names = t.objectives.names
        self._objective = Select(
            title="Fitness", options=[(str(k), n) for k, n in enumerate(names)], value="0", width=220
        )
        self._objective.visible = len(names) > 1
        self._over = RadioButtonGroup(labels=["over evaluations", "over time"], active=0, align="end", width=230)
        self._whole = Toggle(label="The worst too", width=130, align="end")
        self._said, self._chosen = common.words(), common.words()
        self.selection.listen(lambda _ids: self.say_chosen(self._chosen))
        self.sample = Sample(self._columns, self.selection, self.most)
        self._place, self._below = (column([], sizing_mode="stretch_width") for _ in range(2))
        self.when(self._objective, "value", self.make)
        self.when(self._whole, "active", self.make)
        self.when(self._over, "active", self._turn)
        self._of_generations = ColumnDataSource({name: [] for name in ("number", "median", "low", "high", "best")})
        self._pareto: Pareto | None = None
        self.make()
        return [common.flow(self._objective, self._over, self._whole), self._said, self._place, self._chosen]

    def later(self) -> list[Callable[[], list[Any]]]:
        return [self._make_below]

    def _make_below(self) -> list[Any]:
        self._pareto = Pareto(self) if len(self.trajectory.objectives) > 1 else None
        self._plots += self._others()
        self._refresh_below()
        self._below.children = [common.flow(*self._plots[1:])]
        save = self.download(self._tables())
        return [self._below, save, *([self._pareto.root] if self._pareto else [])]

    @property
    def objective(self) -> int:
        """Which of the objectives is shown."""
        return int(self._objective.value)

    @property
    def figures(self) -> list[Any]:
        """Its plots about one objective: fitness, generations if there are any, and the distribution."""
        return list(self._plots)

    @property
    def pareto(self) -> Pareto | None:
        """Its plots about several objectives at once."""
        return self._pareto

    def choose(self, objective: int, *, over_time: bool) -> None:
        """Choose what is drawn, as its widgets do."""
        self._objective.value, self._over.active = str(objective), int(over_time)

    def make(self) -> None:
        """Draw the plots about one objective anew."""
        self.axis, (self._scale, self._unit), _ = self._fits()
        self._seen: tuple[float, float] = self.axis.range
        self._plots = [self._fitness(), *(self._others() if self.is_whole else [])]
        self._refresh(again=True)
        self._place.children, self._below.children = self._plots[:1], [common.flow(*self._plots[1:])]
        self._turn()

    def _others(self) -> list[Any]:
        generations = "generation" in self.trajectory.record.columns
        return [*([self._by_generation()] if generations else []), self._distribution()]

    def _fits(self) -> tuple[Axis, tuple[float, str], bool]:
        """Return what the plots are made for: the axis, the unit of time, and whether there are generations."""
        seconds = course.course(self.followed).best[0].seconds
        last = float(seconds[-1]) if len(seconds) else 0.0
        axis = self.followed.once(Axis, -1 - self.objective)
        return axis, unit(last), "generation" in self.trajectory.record.columns

    def update(self) -> None:
        axis, (_, per), generations = self._fits()
        if (axis.log, per, generations) != (self.axis.log, self._unit, len(self._plots) > 2):
            self.make()  # a figure keeps its scales
        else:
            self._refresh()

    def _refresh(self, *, again: bool = False) -> None:
        t, found = self.trajectory, course.course(self.followed)
        best = self._bests()
        always = [common.best_ids(t, 10, k) for k in range(len(t.objectives))]
        if found.front is not None:
            always.append(found.front.ids[:MOST_FRONT])
        self.sample.update(t, np.unique(np.concatenate(always)), again=again)
        self._say(best)
        if self.is_whole:
            self._refresh_below()

    def _refresh_below(self) -> None:
        if self._pareto is not None:
            self._pareto.refresh(course.course(self.followed).front or course.Front())
        self._histogram()
        if len(self._plots) > 2:
            self._generations()

    # What is drawn of individuals.

    def _columns(self, t: Trajectory, ids: Ids) -> dict[str, Any]:
        found = course.course(self.followed)
        fitness = common.finite(t.record["fitness"][ids])
        return {
            "number": found.number[ids],
            "seconds": common.finite((t.record["finished"][ids] - found.began) / self._scale),
            **{f"f{k}": fitness[:, k] for k in range(len(t.objectives))},
        }

    def _fitness(self) -> Any:
        """Plot all, and the best so far: of other stores too."""
        few = len(self.trajectory) <= _VECTORS
        self._best = [ColumnDataSource({"number": [], "best": []}) for _ in (self, *self.others)]
        drawn = common.plot(
            "",
            "evaluation",
            f"{self.axis.name} ({self.axis.way})",
            height=400,
            y_axis_type="log" if self.axis.log else "linear",
            y_range=common.reach(self._range()),
            output_backend="svg" if few else "canvas",
        )
        self._dots = drawn.scatter("number", f"f{self.objective}", source=self.sample.source, size=5, alpha=0.45,
                                   color=common.DOTS, nonselection_alpha=0.12, selection_color=common.CHOSEN,
                                   selection_alpha=1.0, legend_label="each individual")  # fmt: skip
        colours = theme.CYCLE[1:]
        for i, (source, followed) in enumerate(zip(self._best, (self.followed, *self.others), strict=True)):
            label = f"best so far of {followed.name}" if self.others else "best so far"
            colour, dash = colours[i % len(colours)], theme.DASHES[i // len(colours) % len(theme.DASHES)]
            drawn.step("number", "best", source=source, mode="after", line_width=2.5, color=colour, line_dash=dash,
                       legend_label=label)  # fmt: skip
        common.hover(drawn, self._dots, ("individual", "@id"), (self.axis.name, f"@f{self.objective}"))
        common.legend(drawn)
        common.brushable(drawn)
        return drawn

    def _range(self) -> tuple[float, float]:
        start, end = self._seen
        if self._whole.active:
            values = common.finite(self.trajectory.record["fitness"][:, self.objective])
            if not np.isnan(values).all():
                start, end = min(start, float(np.nanmin(values))), max(end, float(np.nanmax(values)))
        return start, end

    def _turn(self) -> None:
        """Let evaluations or time go to the right."""
        over_time = self._over.active == 1
        self._dots.glyph.x = "seconds" if over_time else "number"
        drawn = self._plots[0]
        drawn.xaxis.formatter = BasicTickFormatter(use_scientific=over_time)
        drawn.xaxis.axis_label = f"time since the first was submitted ({self._unit})" if over_time else "evaluation"
        self._bests()

    def _bests(self) -> list[float]:
        """Draw the best so far, and return what it is now, by each store that knows it."""
        ends: list[float] = []
        for source, followed in zip(self._best, (self.followed, *self.others), strict=True):
            objective = self._same_objective(followed.trajectory)
            if objective is None:
                continue
            best = course.course(followed).best[objective]
            over_time = self._over.active == 1
            sign = common.sign(followed.trajectory, objective)
            data = {"number": best.seconds / self._scale if over_time else best.number, "best": best.cost * sign}
            if not common.equal(source.data, data):
                source.data = data
            ends += (best.cost[-1:] * sign).tolist()
        self._follow_range(ends)
        return ends

    def _same_objective(self, t: Trajectory) -> int | None:
        """Return another store's objective of the same name."""
        names = t.objectives.names
        return names.index(self.axis.name) if self.axis.name in names else None

    def _follow_range(self, ends: Sequence[float]) -> None:
        """Let the axis show what there is now, and the best of all stores."""
        now = self.followed.once(Axis, -1 - self.objective)
        if now.log != self.axis.log:
            return  # the next update makes the plots anew
        low, high = self._seen
        ends = [end for end in ends if end > 0 or not self.axis.log]
        if not self.axis.serves(now) or not all(low <= end <= high for end in ends):
            self.axis = now
            self._seen = min([now.range[0], *ends]), max([now.range[1], *ends])
        elif not self._whole.active:
            return
        common.follow(self._plots[0].y_range, self._range())

    def _say(self, best: Sequence[float]) -> None:
        t = self.trajectory
        done, counts = self.done, np.bincount(t.record["status"], minlength=len(Status)).tolist()
        failed = sum(counts[s] for s in FAILURES)
        value = f"; the best {self.axis.name} is {best[0]:.6g}" if best else ""
        ended = f"{len(t) - counts[Status.PENDING]:,} of {len(t):,} individuals have ended"
        common.say(self._said, f"{ended}, {done:,} with a fitness, {failed:,} failed{value}.")
        clipped = self.followed.once(Axis, -1 - self.objective).clipped and not self._whole.active
        beyond = ", the worst beyond the axis" if clipped else ""
        shown = common.counted(len(self.sample), done, "done")
        theme.entitle(self._plots[0], f"{self.axis.name}: {shown}{beyond}")

    # Generations.

    def _by_generation(self) -> Any:
        drawn = common.plot("", "generation", self.axis.name, y_axis_type="log" if self.axis.log else "linear")
        source = self._of_generations = ColumnDataSource(dict(self._of_generations.data))
        drawn.varea("number", "low", "high", source=source, color=common.DOTS, alpha=0.3, legend_label="quartiles")
        drawn.line("number", "median", source=source, color=common.DOTS, line_width=2, legend_label="median")
        best = drawn.line("number", "best", source=source, color=common.BEST, line_width=2, legend_label="best of it")
        common.hover(drawn, best, ("generation", "@number"), ("best", "@best"), ("median", "@median"))
        common.legend(drawn)
        return drawn

    def _generations(self) -> None:
        found = self.followed.once(course.generations, self.objective)
        if found is None:
            return
        data = {"number": found.number, "median": found.median, "low": found.quartile, "high": found.three}
        data["best"] = found.best
        if not common.equal(self._of_generations.data, data):
            self._of_generations.data = data
        shown = common.counted(len(found.number), found.of, "generations")
        theme.entitle(self._plots[1], f"{self.axis.name} by generation: {shown}")

    # Distribution.

    def _distribution(self) -> Any:
        drawn = common.plot(
            "", self.axis.name, "share of individuals (%)", x_axis_type="log" if self.axis.log else "linear"
        )
        self._bins = ColumnDataSource({name: [] for name in ("left", "right", "all", "late")})
        self._late = ColumnDataSource({"edge": [], "late": []})
        bars = drawn.quad("left", "right", "all", 0, source=self._bins, color=common.DOTS, alpha=0.6,
                          line_color=None, legend_label="all")  # fmt: skip
        drawn.step("edge", "late", source=self._late, mode="after", color=common.BEST, line_width=2,
                   legend_label="the last tenth")  # fmt: skip
        common.hover(drawn, bars, (self.axis.name, "@left to @right"), ("all", "@all %"), ("last tenth", "@late %"))
        common.legend(drawn)
        return drawn

    def _histogram(self) -> None:
        t, axis = self.trajectory, self.axis
        heights = np.linspace(0, 1, _BINS + 1)
        edges = np.array([axis.value(h) for h in heights])
        values = t.record["fitness"][:: max(1, len(t) // 50_000), self.objective]
        values = values[np.isfinite(values)]
        late = values[-max(1, len(values) // 10) :]
        shares = [100 * course.histogram(part, edges) for part in (values, late)]
        self._bins.data = {"left": edges[:-1], "right": edges[1:], "all": shares[0], "late": shares[1]}
        self._late.data = {"edge": edges, "late": common.to_the_edge(shares[1])}
        inside = int(((values >= edges[0]) & (values <= edges[-1])).sum())
        based = common.counted(len(values), self.done, "done", verb="counted")
        beyond = f", {len(values) - inside:,} beyond the axis" if inside < len(values) else ""
        theme.entitle(self._plots[-1], f"Distribution: {based}{beyond}")

    # What may be saved.

    def _tables(self) -> dict[str, Callable[[], dict[str, Any]]]:
        return {
            "individuals": self._table,
            "best so far": self._best_table,
            "generations": self._generations_table,
            "distribution": self._distribution_table,
        }

    def _table(self) -> dict[str, Any]:
        names = self.trajectory.objectives.names
        data = self.sample.source.data
        table = {"id": data["id"], "evaluation": data["number"], f"time ({self._unit})": data["seconds"]}
        return table | {f"fitness: {name}": data[f"f{k}"] for k, name in enumerate(names)}

    def _best_table(self) -> dict[str, Any]:
        rows = [
            (followed.name, *row)
            for source, followed in zip(self._best, (self.followed, *self.others), strict=True)
            for row in zip(source.data["number"], source.data["best"], strict=True)
        ]
        x = f"time ({self._unit})" if self._over.active == 1 else "evaluation"
        columns: Iterable[Any] = zip(*rows, strict=True) if rows else ((), (), ())
        return dict(zip(("experiment", x, f"best {self.axis.name}"), columns, strict=True))

    def _generations_table(self) -> dict[str, Any]:
        names = {"number": "generation", "low": "lower quartile", "high": "upper quartile"}
        return {names.get(name, name): values for name, values in self._of_generations.data.items()}

    def _distribution_table(self) -> dict[str, Any]:
        names = {"left": "from", "right": "to", "all": "all (%)", "late": "last tenth (%)"}
        return {names[name]: values for name, values in self._bins.data.items()}
