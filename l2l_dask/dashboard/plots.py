"""The plots of a trajectory that does not change, for the report and for notebooks: those that the pages show live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import unescape
from typing import Any, TypeVar

import numpy as np
from bokeh.models import BoxSelectTool, Image, LassoSelectTool, NumeralTickFormatter, Row, TapTool
from numpy.typing import NDArray

from l2l_dask.dashboard import data_workers, theme
from l2l_dask.dashboard.followed import Followed
from l2l_dask.dashboard.importance import MOST_ROWS, importance
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.dashboard.pages import _course as course
from l2l_dask.dashboard.pages._axis import Axis
from l2l_dask.dashboard.pages._details import plots as saved_plots
from l2l_dask.dashboard.pages._pareto import MOST_FRONT
from l2l_dask.dashboard.pages.parameters import Parameters
from l2l_dask.dashboard.pages.search import Search
from l2l_dask.dashboard.pages.workers import Workers
from l2l_dask.errors import ConfigError
from l2l_dask.evaluation import Ids
from l2l_dask.space import Floats
from l2l_dask.trajectory import Trajectory

MOST_OBJECTIVES = 4  # that have plots of their own
# Individuals times parameters, and parameters, from which on importance takes longer than a second or two.
MOST_WORK, MOST_SHUFFLED = 30_000, 20
_MOST_MATRICES = 4
_MOST_SINGLE = 1e38  # a number in single precision
_LOW = 300  # pixels, of a plot beside another
_SELECTING = (BoxSelectTool, LassoSelectTool, TapTool)
T = TypeVar("T")


@dataclass(frozen=True)
class Drawn:
    """A plot, or several that belong together.

    Attributes
    ----------
    panels
        Bokeh's figures.
    caption
        What they show, of how many, in words.
    wide
        Whether they want the whole width.
    """

    panels: list[Any]
    caption: str
    wide: bool = False


class _Search(Search):
    most = 2_000  # as pictures that stay sharp in print

    def again_over_time(self) -> Any:
        """Plot the fitness once more, over time, so that both plots may be shown."""
        self._plots[0] = self._fitness()
        self._over.active = 1
        self._turn()
        self._say(self._bests())
        return self._plots[0]


class Still(Followed):
    """A store that does not change, where a page expects one that is followed."""

    def __init__(self, trajectory: Trajectory) -> None:
        super().__init__(trajectory.layout.root, trajectory.layout.root.name)
        self._trajectory = trajectory
        self.version = 1


def fitness(trajectory: Trajectory, objective: int = 0, *, over_time: bool = False) -> Any:
    """Plot the fitness of all individuals, in the order in which they ended, and the best so far.

    Returns
    -------
    bokeh.plotting.figure
    """
    page = Search(Still(trajectory), {})
    page.choose(objective, over_time=over_time)
    return _still(page.figures[0])


class Plots:
    """All plots of a trajectory; nothing is computed before it is asked for.

    Parameters
    ----------
    trajectory
        As it is now: what comes later is not drawn.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self._still = Still(trajectory)

    @property
    def done(self) -> int:
        """How many have a fitness."""
        return self.once(common.n_done)

    def once(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function(trajectory, *arguments)``, once however often it is asked for."""
        return self._still.once(function, *arguments)

    @cached_property
    def front(self) -> Ids:
        """The Pareto front, in the order of the objectives; nobody with one objective."""
        found = course.course(self._still).front
        if found is None:
            return np.empty(0, dtype=np.int64)
        ids: Ids = found.ids[np.lexsort(self.trajectory.cost[found.ids].T[::-1])]
        return ids

    @cached_property
    def _search(self) -> _Search:
        return _Search(self._still, {})

    @cached_property
    def _parameters(self) -> Parameters:
        return Parameters(self._still, {})

    def search(self, objective: int = 0) -> list[Drawn]:
        """Plot the fitness over evaluations and over time, by generation if there are any, and its distribution."""
        page, name = self._search, self.trajectory.objectives.names[objective]
        page.make()  # others than those that were returned before
        page.choose(objective, over_time=False)
        over_evaluations, *others = page.figures
        over_time = page.again_over_time()
        what = f"{name} ({self._way(objective)}) of each individual (points), and the best so far (line)"
        shown = [
            _drawn([over_evaluations], f"{what}, in the order in which evaluations ended", wide=True),
            _drawn([over_time], f"{what}, by the time at which evaluations ended"),
        ]
        if len(others) > 1:
            shown.append(_drawn(others[:1], f"{name} in each generation: quartiles (band), median and best (lines)"))
        shown.append(
            _drawn(others[-1:], f"How often which {name} was found, by all (bars) and by the last tenth (line)")
        )
        return shown

    def pareto(self) -> list[Drawn]:
        """Plot the Pareto front, by pairs of objectives, and its hypervolume over evaluations."""
        part, t = self._search.pareto, self.trajectory
        if part is None or not len(self.front):
            return []
        *pairs, volume = part.figures
        volume.title.text = ""
        names, n = t.objectives.names, len(t.objectives)
        ways = ", ".join(f"{name} {self._way(k)}" for k, name in enumerate(names))
        many = common.counted(min(len(self.front), MOST_FRONT), len(self.front), "members")
        some = f", the {part.some}" if part.some else ""
        among = common.counted(len(self._search.sample), self.done)
        reference = (course.course(self._still).front or course.Front()).reference
        corner = ", ".join(f"{a} {b:.4g}" for a, b in zip(names, t.objectives.cost(reference).tolist(), strict=True))
        return [
            _drawn(pairs, f"Pareto front (orange: {many}{some}) among all (blue: {among}): {ways}", wide=n > 2),
            _drawn([volume], f"Hypervolume: how much of a box the front dominates after how many evaluations. The box "
                   f"reaches from the best of each objective to {corner}, a tenth beyond the worst of the front"),
        ]  # fmt: skip

    def parallel(self) -> list[Drawn]:
        """Plot parallel coordinates of the best and a sample, for the first parameters."""
        part = self._parameters.parts[0]
        source = part.figure.renderers[0].data_source
        lines = {name: [np.round(line, 4).tolist() for line in source.data[name]] for name in ("xs", "ys")}
        source.data = dict(source.data) | lines  # a third of the size of as many small arrays
        n = len(part.axes) - len(self.trajectory.objectives)
        axes = common.counted(n, self.trajectory.space.dim, "parameters", verb="")
        what = f"A line for each individual, across axes for {axes} and each objective"
        return [_drawn([part.figure], f"{what}; a parameter that is not active is passed below its axis", wide=True)]

    def each(self) -> list[Drawn]:
        """Plot each of the first parameters against the fitness by the first objective."""
        part, names = self._parameters.parts[1], self.trajectory.objectives.names
        n = common.counted(len(part.axes), self.trajectory.space.dim, "parameters", verb="")
        shown = common.counted(len(part.sample), self.done, "done")
        what = f"Each of {n} against {names[0]} ({self._way(0)}): {shown}, the 100 best among them"
        return [_drawn(part.figures, what, wide=True)]

    def importance(self) -> list[Drawn] | str:
        """Plot how much each parameter matters to the first objective; if that takes long, say how to see it."""
        rows, dimensions = min(self.done, MOST_ROWS), self.trajectory.space.dim
        if rows * dimensions > MOST_WORK or dimensions > MOST_SHUFFLED:
            return "Which parameters matter was not computed here, as it takes long: l2l dashboard does, on demand."
        try:
            found = self.once(importance)
        except ConfigError as error:
            return f"{str(error).capitalize()}."
        part = self._parameters.parts[2]
        part.show(found)
        return [_drawn([part.figure], str(found))]

    def workers(self) -> list[Drawn]:
        """Plot how busy the workers were, how long evaluations took, and what generations cost in waiting."""
        busy, durations = self.once(data_workers.busy), self.once(data_workers.durations)
        if not np.isfinite(durations.median):
            return []
        share, took, *waits = Workers(self._still, {}).figures
        shown = [
            _drawn([share], f"How many workers there were, and how many evaluated; {busy.shown}"),
            _drawn([took], "How long evaluations took"),
        ]
        if waits and len(waits[0].renderers[0].data_source.data["generation"]):
            shown.append(_drawn(waits, "Which part of its workers' time went by in waiting for a generation's last"))
        return shown

    def saved(self, id: int) -> tuple[list[Drawn], str]:
        """Plot what an individual saved and reported, and say what of it is not drawn."""
        drawn, said = [], []
        for model in saved_plots(self.trajectory, id):
            if isinstance(model, Row):
                drawn += model.children
            else:
                said.append(unescape(model.text))
        images = [figure for figure in drawn if isinstance(figure.renderers[0].glyph, Image)]
        courses = [figure for figure in drawn if figure not in images]
        for figure in images[_MOST_MATRICES:]:
            drawn.remove(figure)
            said.append(f"{theme.title_of(figure)}: not drawn here")
        for figure in images:
            source = figure.renderers[0].data_source
            source.data = {"image": [_lighter(image) for image in source.data["image"]]}
        what = f"Saved by individual {id}, the best"
        return [_drawn([figure], what, wide=figure in courses) for figure in drawn], " ".join(said)

    def _way(self, objective: int) -> str:
        return self.once(Axis, -1 - objective).way


def _lighter(image: Floats) -> NDArray[Any]:
    """Halve what a matrix takes, whose numbers are shown as one of 256 colours."""
    known = np.abs(image[np.isfinite(image)])
    return image.astype(np.float32) if known.max(initial=0.0) < _MOST_SINGLE else image


def _drawn(panels: list[Any], what: str, *, wide: bool = False) -> Drawn:
    """Take the titles into the caption, where there is one panel, and all that a server would have to answer."""
    for panel in panels:
        _still(panel)
        panel.output_backend = "svg"
        if panel.xaxis.axis_label == "evaluation":
            panel.xaxis.formatter = NumeralTickFormatter(format="0,0")
        if not wide:
            panel.height = min(panel.height, _LOW)
    title = theme.title_of(panels[0])
    if len(panels) > 1 or not title:
        return Drawn(panels, f"{what}.", wide)
    panels[0].title.text = ""
    return Drawn(panels, f"{what}. {title}.", wide)


def _still(figure: Any) -> Any:
    """Leave what a figure can do without a server."""
    figure.toolbar.tools = [tool for tool in figure.toolbar.tools if not isinstance(tool, _SELECTING)]
    figure.toolbar.update(active_drag=None, active_tap=None)
    for model in figure.references():
        model._callbacks.clear()
        model._event_callbacks.clear()
    figure.subscribed_events = set()
    return figure
