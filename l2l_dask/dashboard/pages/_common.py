"""What the pages share: a plot, the individuals that it draws, and their selection by id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import numpy as np
from bokeh.layouts import column, group_tools
from bokeh.models import Div, GridPlot, HoverTool, Range1d, Row, Toolbar
from numpy.typing import NDArray

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.pages._saving import Table, save_as_csv
from l2l_dask.dashboard.pages._selection import MOST_KEPT, Selection
from l2l_dask.errors import StoreError
from l2l_dask.evaluation import Ids, Status
from l2l_dask.space import Floats
from l2l_dask.trajectory import Trajectory

if TYPE_CHECKING:
    from l2l_dask.dashboard.followed import Followed

DOTS, BEST, CHOSEN, QUIET = theme.SKY, theme.ORANGE, theme.VERMILLION, theme.GREY
STATUS_COLOURS = {
    Status.DONE: theme.SKY,
    Status.FAILED: theme.VERMILLION,
    Status.TIMED_OUT: theme.ORANGE,
    Status.CRASHED: theme.PURPLE,
    Status.STOPPED: theme.BLUE,
    Status.CANCELLED: theme.GREY,
    Status.PENDING: theme.GREEN,
}
MOST_POINTS = 5_000
_HUGE = 1e100  # Bokeh's axes hang on numbers near the end of what there is
NARROWEST = 300  # pixels, of a plot: a phone is 360 wide


def plot(title: str, x: str, y: str, **options: Any) -> Any:
    """Make an empty figure that fills its place, and stands below another one on a phone."""
    # No drag is active: a finger could not scroll past the plot.
    return theme.new_figure(title, x, y, **({"min_width": NARROWEST, "active_drag": None} | options))


def reach(ends: tuple[float, float]) -> Range1d:
    """Make the range of an axis that :func:`follow` may change."""
    return Range1d(*ends, reset_start=ends[0], reset_end=ends[1])


def follow(shown: Range1d, ends: tuple[float, float]) -> None:
    """Let an axis reach from one end to the other: at once, or with the next reset where somebody looks closer."""
    at_rest = (shown.start, shown.end) == (shown.reset_start, shown.reset_end)
    shown.update(reset_start=ends[0], reset_end=ends[1])
    if at_rest:
        shown.update(start=ends[0], end=ends[1])


def when(model: Any, name: str, function: Callable[[], None]) -> None:
    """Call when a property of a model changes."""

    def changed(attr: str, old: Any, new: Any) -> None:  # noqa: ARG001  (Bokeh asks for these names)
        function()

    model.on_change(name, changed)


def brushable(drawn: Any) -> None:
    """Let individuals be chosen in a plot: by a box, a lasso or a tap."""
    drawn.add_tools("box_select", "lasso_select", "tap")


def with_one_toolbar(plots: Row) -> GridPlot:
    """Let small plots share their tools: a bar for each is much of what a browser has to make."""
    tools = [tool for drawn in plots.children for tool in drawn.tools]
    for drawn in plots.children:
        drawn.toolbar_location = None
    shared = group_tools(tools, ignore={"overlay", "renderers", "tooltips"})
    bar = Toolbar(tools=shared, logo=None, active_drag=None, active_scroll=None)
    return GridPlot(children=[(plots, 0, 0)], toolbar=bar, toolbar_location="above", sizing_mode="stretch_width")


def hover(drawn: Any, renderer: Any, *rows: tuple[str, str]) -> None:
    """Show facts about what is under the pointer; names come from users, so their braces are taken out."""
    drawn.add_tools(HoverTool(renderers=[renderer], tooltips=[(name.replace("{", "("), what) for name, what in rows]))


def legend(drawn: Any, place: str = "above") -> None:
    """Put the legend where it hides no point; a click on an entry hides what it names."""
    if not drawn.legend:
        return
    drawn.add_layout(drawn.legend[0], place)
    drawn.legend.orientation = "horizontal"
    drawn.legend.click_policy = "hide"
    drawn.legend.border_line_color = None
    drawn.legend.background_fill_alpha = 0.0
    drawn.legend.padding = 2
    drawn.legend.label_text_font_size = "12px"
    # Bokeh lays the plot out before it draws what stands beside the labels, which as SVG would be 150 high until then.
    drawn.legend.stylesheets = ["svg { width: 20px; height: 20px; }"]


def flow(*children: Any) -> Row:
    """Set models beside one another, and below where there is no room."""
    return Row(children=list(children), sizing_mode="stretch_width", spacing=12, styles={"flex-wrap": "wrap"})


def words(text: str = "", *, heading: bool = False, **options: Any) -> Div:
    """Show plain text: whatever is in it is shown, not run."""
    shown = Div(sizing_mode="stretch_width", disable_math=True, **options)
    say(shown, text, heading=heading)
    return shown


def say(shown: Div, text: str, *, heading: bool = False, links: Mapping[str, str] | None = None) -> None:
    """Replace the text of :func:`words`.

    Parameters
    ----------
    links
        Addresses to follow, by what to call them: they come after the text.
    """
    html = f"<h2>{escape(text)}</h2>" if heading else escape(text)
    for name, address in (links or {}).items():
        html += f' <a href="{escape(address)}">{escape(name)}</a>'
    if shown.text != html:
        shown.text = html


def counted(shown: int, of: int, what: str = "individuals", *, verb: str = "shown") -> str:
    """Say what is drawn of how many."""
    return f"{of:,} {what}" if shown >= of else f"{shown:,} of {of:,} {what} {verb}".rstrip()


def error_text(trajectory: Trajectory, id: int, most: int) -> str:
    """Return why an individual failed, cut if it is longer; empty if it did not."""
    try:
        text = trajectory.error(id)
    except StoreError as error:
        text = f"its error cannot be read: {error}"
    return text if len(text) <= most else f"{text[:most]}\n... (cut)"


def equal(data: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two sources hold the same numbers."""
    return data.keys() == other.keys() and all(np.array_equal(data[name], other[name], equal_nan=True) for name in data)


def finite(values: Floats) -> Floats:
    """Turn what no plot can draw into NaN: infinities, and what is as good as infinite."""
    with np.errstate(invalid="ignore"):
        shown: Floats = np.where(np.abs(values) < _HUGE, values, np.nan)
    return shown


def to_the_edge(values: Floats) -> Floats:
    """Repeat the last value, for a step line that is to reach the end of its slice."""
    return np.append(values, values[-1:])


def is_logarithmic(values: NDArray[Any]) -> bool:
    """Tell whether a logarithmic axis serves: all positive, over more than two decades."""
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() / values.min() > 100)


def sign(trajectory: Trajectory, objective: int) -> float:
    """Return 1 for an objective that is minimised, -1 for one that is maximised."""
    return float(trajectory.objectives[objective].sign)


def best_ids(trajectory: Trajectory, k: int, objective: int = 0) -> Ids:
    """Return the ``k`` best individuals by one objective, in no order."""
    cost = trajectory.cost[:, objective]
    some = np.sort(cost[:: max(1, len(cost) // 10_000)])
    some = some[np.isfinite(some)]
    ids = np.flatnonzero(np.isfinite(cost))
    if len(ids) > 20 * k and len(some):
        # Few are better than this: sorting those is much faster than sorting all.
        near = ids[cost[ids] <= some[min(len(some) - 1, 10 + 4 * k * len(some) // len(cost))]]
        ids = near if len(near) >= k else ids
    best: Ids = ids[np.argpartition(cost[ids], k - 1)[:k]] if len(ids) > k else ids
    return best


def is_done(trajectory: Trajectory) -> NDArray[np.bool_]:
    """Tell who has a fitness, a finite one by each objective."""
    done: NDArray[np.bool_] = np.isfinite(trajectory.cost[:, 0])
    for costs in trajectory.cost.T[1:]:
        done &= np.isfinite(costs)
    return done


def n_done(trajectory: Trajectory) -> int:
    """Count them."""
    return int(is_done(trajectory).sum())


class StorePage:
    """A page about one store, for one viewer; made on a thread of its own.

    Parameters
    ----------
    followed
        The store: it can be read at this moment, and ``followed.trajectory`` may have no rows yet.
    arguments
        Of the address, which anybody may have typed: ``id``, individuals that are chosen at first, with commas
        between them.
    others
        More stores that can be read, to compare with.
    at_once
        Whether to make all of it; else what a browser shows first, and :meth:`more` makes the rest.

    Attributes
    ----------
    title
        In the navigation.
    slug
        In its address, ``/SLUG?store=NAME``.
    root
        The Bokeh model that holds everything.
    """

    title: ClassVar[str]
    slug: ClassVar[str]

    def __init__(
        self,
        followed: Followed,
        arguments: Mapping[str, str],
        others: Sequence[Followed] = (),
        *,
        at_once: bool = True,
    ) -> None:
        self.followed, self.arguments, self.others = followed, arguments, others
        self._incarnations = [each.incarnation for each in (followed, *others)]
        self.selection = Selection(lambda: self.is_current)
        self.selection.ids = self._named(arguments.get("id", ""))
        self._later = self.later()
        self.root = column(self.build(), sizing_mode="stretch_width", name=self.slug)
        self.selection.choose(self.selection.ids)  # says who they are
        while at_once and not self.is_whole:
            self.add(self.more())

    @property
    def trajectory(self) -> Trajectory:
        return self.followed.trajectory

    @property
    def done(self) -> int:
        """How many have a fitness."""
        return self.followed.once(n_done)

    @property
    def store(self) -> str:
        """The store's name, for the files that are saved from here."""
        return PurePosixPath(self.followed.name).stem

    @property
    def is_current(self) -> bool:
        """Whether its stores are still those that it was made for."""
        return self._incarnations == [each.incarnation for each in (self.followed, *self.others)]

    def lasting(self, function: Callable[..., None]) -> Callable[..., None]:
        """Wrap what a widget calls: it does nothing from when the store is another one until the new page is there."""

        @wraps(function)
        def called(*arguments: Any) -> None:
            if self.is_current:
                function(*arguments)

        return called

    def when(self, model: Any, name: str, function: Callable[[], None]) -> None:
        """Call when a property of a model changes, as long as the store is the same."""
        when(model, name, self.lasting(function))

    def download(self, tables: Mapping[str, Table]) -> Row:
        """Make what saves tables that the page shows."""
        return save_as_csv(tables, f"{self.store}-", self.lasting)

    def _named(self, text: str) -> Ids:
        """Read ids that anybody may have typed."""
        ids = [int(part) for part in text[:10_000].split(",") if part.isascii() and part.isdigit() and len(part) < 12]
        return np.unique(np.array([id for id in ids if id < len(self.trajectory)], dtype=np.int64))

    def address(self, slug: str, **query: Any) -> str:
        """Return the address of another page about this store."""
        more = "".join(f"&{name}={quote(str(value), safe=',')}" for name, value in query.items())
        return f"{slug}?store={quote(self.followed.name, safe='')}{more}"

    def say_chosen(self, shown: Div, where: str = "", *, drawn: int | None = None) -> None:
        """Say who is chosen, with the ways to the other pages about them.

        Parameters
        ----------
        where
            What they have in common, as a filter of the individuals' page.
        drawn
            How many of them the page draws, where that may be few.
        """
        from l2l_dask.dashboard.pages import PAGES  # which imports this

        ids, links, some = self.selection.ids, {}, ""
        if not len(ids):
            say(shown, "")
            return
        if len(ids) <= MOST_KEPT:
            some = " (" + ", ".join(map(str, ids[:10].tolist())) + (", ..." if len(ids) > 10 else "") + ")"
            query = ",".join(map(str, ids.tolist()))
            links = {page.title: self.address(page.slug, id=query) for page in PAGES if page.slug != self.slug}
        elif where:
            links = {"Individuals": self.address("individuals", filter=where)}
        what = f"{len(ids):,} of {len(self.trajectory):,} individuals chosen{some}."
        if drawn is not None and drawn < len(ids):
            what += f" {drawn:,} of them {'is' if drawn == 1 else 'are'} drawn here."
        say(shown, what + (" See them in" if links else ""), links=links)

    def build(self) -> list[Any]:
        """Make the models of the page."""
        raise NotImplementedError

    def later(self) -> list[Callable[[], list[Any]]]:
        """Say what makes the models below, part by part: a browser draws the first ones before these."""
        return []

    @property
    def is_whole(self) -> bool:
        """Whether all of it is made."""
        return not self._later

    def more(self) -> list[Any]:
        """Make the next part, on a thread of its own too."""
        return self._later.pop(0)()

    def add(self, part: list[Any]) -> None:
        """Show a part below those that are there."""
        self.root.children = [*self.root.children, *part]

    def update(self) -> None:
        """Show what changed since the last call, or since the page was made: ``followed.trajectory`` is the new one.

        Called once all is made, when there is something new alone, at most twice a second, on the server's only
        thread: with a million rows it must take less than 300 ms. What several viewers need is best computed by
        ``followed.once(function, *arguments)``. If the store is replaced by another, a new page is made instead.
        """
        raise NotImplementedError

    def tick(self) -> None:
        """Show what changes with the time alone: called twice a second, and quick."""
