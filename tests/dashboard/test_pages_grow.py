"""Pages that are opened early, and stay open: what they draw later is where it can be seen."""

from dataclasses import replace

import numpy as np
import pytest
from bokeh.document import Document
from bokeh.models import Axis as Axis_
from bokeh.models import Button, ColorBar, ColumnDataSource, PlainText, Select, Slider, Spinner, Title, Toggle

from l2l_dask import Categorical, Objectives, Real, Space, maximize, minimize
from l2l_dask.dashboard import theme
from l2l_dask.dashboard.pages import PAGES, Individuals, Parameters, Search, Workers
from l2l_dask.dashboard.pages._axis import Axis
from l2l_dask.dashboard.plots import Still
from l2l_dask.evaluation import Status
from l2l_dask.trajectory import load

N = 2000
QUICK = {"objectives": 2, "failures": 0.0, "seconds": 0.01}  # the unit of time stays, and so do the plots
_rng = np.random.default_rng(1)
AWAY = np.where(np.arange(N) < 40, 1.0, 0.1)  # how far from the best the search is: the first 40 are far off
FAR = 1000 + 500 * AWAY[:, None] * _rng.random((N, 2))
DECADES = 1e5 * 10 ** (4 * AWAY[:, None] * _rng.random((N, 2)))
FAR[:, 1], DECADES[:, 1] = 3000 - FAR[:, 1], 1e14 / DECADES[:, 1]  # the second is maximised


class Growing(Still):
    """A store, of which some rows are to be seen, with other columns."""

    def __init__(self, store):
        super().__init__(load(store))
        self.whole = self.trajectory

    def see(self, n, **columns):
        t = self.whole
        rows = type(t.record)({name: values[:n] for name, values in (t.record.columns | columns).items()})
        self._trajectory = replace(t, record=rows)
        self.version += 1


@pytest.fixture(scope="module")
def made(kept):
    return lambda name="a", n=500, **options: Growing(kept(name, n, **options))


@pytest.fixture
def grown(made):
    """Open a page early, and let its store grow: ``grown(page, n, fitness)``."""

    def grown(page, first, fitness):
        followed = made("two", N, **QUICK)
        followed.see(first, fitness=fitness)
        shown = page(followed, {})
        followed.see(N, fitness=fitness)
        shown.update()
        shown.update()  # with other scales, a part comes after the others
        return shown

    return grown


def fills(shown, values):
    """Tell whether nearly all values are in a range, and not in a corner of it."""
    values, ends = np.asarray(values), np.array([shown.start, shown.end])
    inside = values[(values >= ends[0]) & (values <= ends[1])]
    if ends[0] > 0 and ends[1] / ends[0] > 100:
        inside, ends = np.log(inside), np.log(ends)
    return len(inside) > 0.9 * len(values) and np.ptp(inside) > 0.25 * np.ptp(ends)


early = pytest.mark.parametrize(("first", "fitness"), [(0, FAR), (40, FAR), (0, DECADES), (40, DECADES)])


@early
def test_the_search_opened_early_shows_what_comes(grown, first, fitness):
    page = grown(Search, first, fitness)
    drawn, data = page.figures[0], page.sample.source.data
    assert fills(drawn.y_range, data["f0"])
    assert (drawn.y_range.reset_start, drawn.y_range.reset_end) == (drawn.y_range.start, drawn.y_range.end)
    assert np.sum(page._bins.data["all"]) > 90
    pairs = page.pareto.figures[0]
    assert fills(pairs.x_range, data["f0"])
    assert fills(pairs.y_range, data["f1"])


@early
def test_each_parameter_opened_early_shows_what_comes(grown, first, fitness):
    page = grown(Parameters, first, fitness)
    each = page.parts[1]
    assert all(fills(drawn.y_range, each.sample.source.data["fitness"]) for drawn in each.figures)
    assert "the worst beyond the axis" in each._said.text


@early
def test_parallel_coordinates_opened_early_spread_what_comes(grown, first, fitness):
    parallel = grown(Parameters, first, fitness).parts[0]
    heights = np.array(parallel._lines.data["ys"])[:, -2:]
    assert np.mean((heights > 0) & (heights < 1)) > 0.9
    assert (np.ptp(np.quantile(heights, [0.1, 0.9], axis=0), axis=0) > 0.3).all()
    said = parallel._ends.data["text"][-2:]
    assert said == [text for _, text in parallel.axes[-1].marks()]


@early
def test_the_surface_opened_early_has_colours_for_what_comes(grown, first, fitness):
    surface = grown(Parameters, first, fitness)._surface
    values, (low, high) = surface._cells.data["value"], (surface._colours.low, surface._colours.high)
    assert np.mean((values >= low) & (values <= high)) > 0.9
    assert np.ptp([low, high]) < 2 * np.ptp(fitness[40:, 0])


def test_parameters_without_bounds_get_wider_axes(made):
    followed = made("rich", 1000, rich=True)
    params = followed.whole.record["params"].copy()
    params[10:, -1] = 50 * params[10:, -1] + 1000
    followed.see(10, params=params)
    page = Parameters(followed, {})
    surface = page._surface
    surface._x.value = str(len(followed.whole.space.labels) - 1)
    followed.see(1000, params=params)
    page.update()
    page.update()
    assert surface._surface.x_range.end > 1000
    assert surface._cells.data["right"].max() > 1000


def test_an_axis_stays_while_it_serves(made):
    followed = made("two", N, **QUICK)
    fitness = 1000 + 500 * np.random.default_rng(2).random((N, 2))
    followed.see(1000, fitness=fitness)
    page = Search(followed, {})
    before = page.figures[0].y_range.start, page.figures[0].y_range.end
    followed.see(N, fitness=fitness)
    page.update()
    assert (page.figures[0].y_range.start, page.figures[0].y_range.end) == before
    assert page.axis.serves(Axis(followed.trajectory, -1))


def test_who_looks_closer_is_left_alone_until_a_reset(made):
    followed = made("two", N, **QUICK)
    followed.see(40, fitness=FAR)
    page = Search(followed, {})
    shown = page.figures[0].y_range
    shown.update(start=1200.0, end=1300.0)
    followed.see(N, fitness=FAR)
    page.update()
    assert (shown.start, shown.end) == (1200.0, 1300.0)
    assert shown.reset_end < 1100


def test_the_axis_of_times_follows_again_after_a_reset(made):
    followed = made()
    followed.see(400)
    page = Workers(followed, {})
    shown = page._gantt.x_range
    first = shown.start, shown.end
    shown.update(start=first[1] / 4, end=first[1] / 2)
    followed.see(450)
    page.update()
    assert (shown.start, shown.end) == (first[1] / 4, first[1] / 2)
    assert shown.reset_end > first[1]
    shown.update(start=shown.reset_start, end=shown.reset_end)  # what a browser does
    followed.see(500)
    page.update()
    assert shown.end == shown.reset_end == page._intervals.data["right"].max()


def test_a_range_across_an_axis_stays_at_its_values(made):
    followed = made("two", N, **QUICK)
    followed.see(40, fitness=FAR)
    page = Parameters(followed, {})
    parallel = page.parts[0]
    last = len(parallel.axes) - 2
    parallel.brush(last - 0.1, last + 0.1, 0.0, 0.05)
    value = parallel.axes[last].value(0.05)
    chosen = page.selection.ids
    followed.see(N, fitness=FAR)
    page.update()
    low, high = parallel.ranges[last]
    assert low == 0
    assert parallel.axes[last].value(high) == pytest.approx(min(value, parallel.axes[last].high))
    np.testing.assert_array_equal(page.selection.ids, chosen)


def test_an_individual_that_is_open_is_renewed_when_it_ends(made):
    followed = made()
    whole = followed.whole.record
    pending, fitness = whole["status"].copy(), whole["fitness"].copy()
    pending[25], fitness[25] = Status.PENDING, np.nan
    followed.see(30, status=pending, fitness=fitness)
    page = Individuals(followed, {"id": "25"})
    page._took = 1.0  # as of a million: the table waits to be asked
    assert "pending" in page._details.root.children[0].text
    followed.see(500)
    page.update()
    assert "pending" not in page._details.root.children[0].text
    before = page._details.root.children
    followed.see(500)
    page.update()
    assert page._details.root.children == before


@pytest.mark.parametrize("kind", [Search, Workers])
def test_when_nobody_is_chosen_nothing_is_said(made, kind):
    followed = made()
    followed.see(500)
    page = kind(followed, {})
    page.selection.choose([3])
    assert "1 of 500 individuals chosen" in page._chosen.text
    page.selection.choose([])
    assert page._chosen.text == ""


def test_step_lines_reach_the_end_of_their_last_slice(made):
    followed = made()
    followed.see(500)
    search, workers = Search(followed, {}), Workers(followed, {})
    bins, late = search._bins.data, search._late.data
    assert late["edge"].tolist() == [*bins["left"], bins["right"][-1]]
    assert late["late"].tolist() == [*bins["late"], bins["late"][-1]]
    slices = workers._slices.data
    assert len(slices["time"]) == 1 + len(workers._slices_table()["time"])
    assert slices["time"][-1] * workers._scale == pytest.approx(
        np.nanmax(followed.whole.record["finished"]) - 1.76e9, rel=0.01
    )
    assert slices["busy"][-1] == slices["busy"][-2]


@pytest.mark.parametrize(("state", "live"), [("running", True), ("interrupted", False)])
def test_what_has_no_result_runs_only_where_the_store_is_live(made, state, live):
    followed = made("some", 500, pending=2)
    followed.whole = replace(followed.whole, state=state)
    followed.see(500)
    page = Workers(followed, {})
    assert "2 have no result" in page._said.text
    assert ("those that run" in page._said.text) is live


TEX = r"$$\chi^2$$"


def _texts(page):
    """Return what Bokeh would look through for TeX."""
    document = Document()
    document.add_root(page.root)
    for model in document.models:
        if isinstance(model, Title):
            yield model.text
        elif isinstance(model, ColorBar):
            yield model.title
        elif isinstance(model, Axis_):
            yield model.axis_label
            yield from model.major_label_overrides.values()
    document.clear()


@pytest.mark.parametrize("page", [Search, Parameters])
def test_names_that_look_like_tex_are_shown_as_they_are(made, page):
    space = Space({TEX: Real(0, 1), "kind": Categorical([TEX, "b"])})
    followed = made("tex", 500, objectives=2, space=space, failures=0.0)
    followed.whole = replace(followed.whole, objectives=Objectives((minimize(TEX), maximize("rate"))))
    followed.see(500)
    shown = page(followed, {})
    shown.update()
    texts = list(_texts(shown))
    assert [text for text in texts if isinstance(text, str) and "$$" in text] == []
    assert any(isinstance(text, PlainText) and TEX in text.text and "500" in text.text for text in texts)


def test_a_title_breaks_into_lines_that_a_phone_has_room_for(made):
    followed = made()
    followed.see(500)
    shown = Parameters(followed, {}).parts[0].figure
    assert max(map(len, shown.title.text.split("\n"))) <= 44
    assert theme.title_of(shown).endswith("the brighter, the better (loss)")
    named = theme.new_figure(TEX, TEX, TEX)
    before = named.title.text
    theme.entitle(named, TEX)
    assert named.title.text is before  # or each update would send it


def _light(colour):
    part = np.asarray(colour) / 255
    return np.where(part <= 0.03928, part / 12.92, ((part + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("paper", ["#ffffff", "#15181c"])
def test_lines_stand_out_from_light_and_dark_backgrounds(paper):
    behind, ink = (np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in of]) for of in ([paper], theme.LINES))
    for alpha, least in ((1.0, 2.0), (theme.LINE_ALPHA, 1.8)):
        lights = [0.05 + _light(alpha * ink + (1 - alpha) * behind), 0.05 + _light(behind)]
        assert (np.maximum(*lights) / np.minimum(*lights)).min() > least
    assert (np.diff(_light(ink)) > 0).all()  # told apart without colours


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_a_store_that_was_replaced_does_nothing(made, page):
    followed = made()
    followed.see(500)
    shown = page(followed, {"id": "400"})
    followed.incarnation += 1
    followed.see(0)
    document = Document()
    document.add_root(shown.root)
    sources = [model for model in document.models if isinstance(model, ColumnDataSource)]
    before = [dict(source.data) for source in sources]
    for model in list(document.models):
        if isinstance(model, Toggle):
            model.active = not model.active
        elif isinstance(model, Select):
            model.value = model.options[-1][0] if isinstance(model.options[-1], tuple) else model.options[-1]
        elif isinstance(model, Slider | Spinner):
            model.value = 3
        elif isinstance(model, Button):
            for callback in model._event_callbacks["button_click"]:
                callback()
    for source in sources:
        if len(source.data.get("id", ())):
            source.selected.indices = [0]
    assert [dict(source.data) for source in sources] == before
    assert shown.selection.ids.tolist() == [400]
    document.clear()


def test_each_step_of_the_hypervolume_is_drawn(made):
    followed = made("two", N, **QUICK)
    followed.see(100)
    page, steps, drawn = Search(followed, {}), [], []
    source = page.pareto._steps
    source.on_change("data", lambda attr, old, new: drawn.append(len(new["number"])))
    for n in range(150, N, 50):
        followed.see(n)
        page.update()
        steps.append(len(source.data["number"]))
    assert len(set(steps)) > 3
    assert set(drawn) == set(steps)
