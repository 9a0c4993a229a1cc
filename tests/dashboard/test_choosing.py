"""Who is chosen in one plot is so everywhere, by id."""

import re
from urllib.parse import unquote

import numpy as np
import pytest
from bokeh.models import Div

from l2l_dask.dashboard.data_table import select
from l2l_dask.dashboard.pages import PAGES, Parameters, Search, Workers
from l2l_dask.dashboard.pages._axis import Axis
from l2l_dask.evaluation import Status

from .models import models


def test_choosing_in_one_plot_chooses_in_all_by_id(made):
    page = Search(made("two", 3000, objectives=2, generation=100), {})
    wanted = page._pareto._front.data["id"][:3]
    page._pareto._front.selected.indices = [0, 1, 2]
    here = np.asarray(page.sample.source.data["id"])[page.sample.source.selected.indices]
    assert sorted(here.tolist()) == sorted(wanted.tolist())
    assert "3 of 3,000 individuals chosen" in page._chosen.text
    assert "individuals?store=two.zarr&amp;id=" in page._chosen.text


def test_a_range_on_an_axis_chooses_all_inside_drawn_or_not(made):
    followed = made("many", 5000)
    page, t = Parameters(followed, {}), followed.trajectory
    page._parallel.brush(0.8, 1.2, 0.5, 0.75)  # across the second axis: g, from -5 to 5
    g = t.record["params"][:, 1]
    inside = np.flatnonzero((g >= 0) & (g <= 2.5) & np.isfinite(t.cost[:, 0]))
    np.testing.assert_array_equal(page.selection.ids, inside)
    assert len(page._parallel._lines.data["id"]) < len(inside)
    where = re.search(r"filter=([^\"&]*)", page._parallel._said.text)[1]
    assert where.startswith("%22g%22%20%3E%3D%20")
    page._parallel.clear()
    assert len(page.selection.ids) == 0


def test_what_a_range_chooses_is_what_its_link_to_the_table_filters(made):
    followed = made("rich", 1000, rich=True)
    page = Parameters(followed, {})
    page._parallel.brush(0.8, 1.2, 0.3, 0.8)  # g
    page._parallel.brush(2.8, 3.2, -0.1, 0.6)  # rule: stdp or hebb
    chosen = page.selection.ids
    where = unquote(re.search(r"filter=([^\"&]*)", page._parallel._said.text)[1])
    assert '("rule" = "stdp" or "rule" = "hebb")' in where
    np.testing.assert_array_equal(select(followed.trajectory, where), chosen)


def test_the_link_to_the_table_names_those_that_were_chosen_elsewhere_after_a_range(made):
    page = Parameters(made("many", 5000), {})
    page._parallel.brush(0.8, 1.2, 0.5, 0.75)
    page._each.sample.source.selected.indices = list(range(60))
    assert "60 of 5,000 individuals chosen (0, " in page._parallel._said.text
    assert "filter=" not in page._parallel._said.text
    assert page._parallel.ranges == {}
    assert page._parallel._brushes.data["left"] == []


@pytest.mark.parametrize("page", PAGES)
def test_who_is_chosen_on_a_page_is_so_on_the_others_to_which_it_leads(made, page):
    followed = made("gens", 1000, generation=100)
    chosen = np.flatnonzero(followed.trajectory.record["status"] == Status.DONE)[:120:3]
    first = page(followed, {})
    first.selection.choose(chosen)
    [said] = [shown.text for shown in models(first, Div) if "See them in" in shown.text]
    links = dict(re.findall(r'(\w+)\?store=gens.zarr&amp;id=([0-9,]+)"', said))
    assert set(links) == {other.slug for other in PAGES} - {page.slug}
    for other in PAGES:
        if other is not page:
            led = other(followed, {"id": links[other.slug]})
            np.testing.assert_array_equal(led.selection.ids, chosen)
            assert any("40 of 1,000 individuals chosen (" in shown.text for shown in models(led, Div))


def test_who_is_chosen_in_the_address_is_marked_in_the_plots(made):
    followed = made("gens", 1000, generation=100)
    chosen = np.flatnonzero(followed.trajectory.record["status"] == Status.DONE)[:120:3]
    address = {"id": ",".join(map(str, chosen))}
    for source in (
        Search(followed, address).sample.source,
        Parameters(followed, address)._each.sample.source,
        Workers(followed, address)._intervals,
    ):
        drawn = np.asarray(source.data["id"])
        marked = np.sort(drawn[source.selected.indices])
        assert len(marked)
        np.testing.assert_array_equal(marked, np.intersect1d(drawn, chosen))


def test_where_few_of_those_that_are_chosen_are_drawn_that_is_said(made):
    followed = made("many", 5000)
    first = Workers(followed, {"id": "0,1,2"})  # each worker shows its last
    assert "3 of 5,000 individuals chosen (0, 1, 2). 0 of them are drawn here." in first._chosen.text
    last = followed.trajectory.record["finished"].argmax()
    assert "drawn here" not in Workers(followed, {"id": str(last)})._chosen.text


def test_the_filter_of_a_range_is_as_exact_as_the_range(made):
    axis = Axis(made().trajectory, 0)
    low, high = axis.value(1 / 3), axis.value(2 / 3)
    assert axis.within(1 / 3, 2 / 3) == f'"tau" >= {low!r} and "tau" <= {high!r}'
