"""The comparison on the page of all experiments, without a server: its axes, and what it says beside the plot."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bokeh.models import LinearScale, LogScale
from bokeh.plotting import figure

from l2l_dask.dashboard.followed import Followed
from l2l_dask.dashboard.pages.experiments import Experiments
from l2l_dask.dashboard.summary import Curve, Summary


def summary(best, seconds=100.0, *, up=False):
    best = np.array(best, dtype=float)
    over = Curve(np.arange(1, len(best) + 1), best)
    time = Curve(np.linspace(0, seconds, len(best)), best)
    return Summary(None, objective="f", is_maximized=up, over_evaluations=over, over_time=time)


@pytest.fixture
def compare():
    """Choose experiments on a page; return the page and its plot."""

    def compare(summaries, *, in_time=False):
        stores = SimpleNamespace(root=Path("runs"), scanned=True, summaries=summaries, overview=lambda: summaries)
        page = Experiments(stores)
        page._axis.active = int(in_time)
        page._chosen.tags = list(summaries)
        (plot,) = page.root.select({"type": figure})
        return page, plot

    return compare


def test_one_that_reaches_0_does_not_flatten_the_others_and_that_is_said(compare):
    page, plot = compare({"zero.zarr": summary([100, 1, 0]), "other.zarr": summary([50, 0.1, 1e-5])})
    assert isinstance(plot.y_scale, LogScale)
    drawn = plot.renderers[0].data_source.data["y"]
    assert drawn[:4].tolist() == [100, 100, 1, 1]
    assert np.isnan(drawn[4:]).all()
    assert "no 0, which is left out of zero.zarr." in page._note.text
    saved = page._table()
    assert saved["experiment"] == ["zero.zarr"] * 3 + ["other.zarr"] * 3
    assert saved["evaluations"] == [1, 2, 3] * 2
    assert saved["best"] == [100, 1, 0, 50, 0.1, 1e-5]


def test_below_0_the_axis_stays_linear(compare):
    page, plot = compare({"a.zarr": summary([100, 1, -1]), "b.zarr": summary([50, 0.1, 0])})
    assert isinstance(plot.y_scale, LinearScale)
    assert "no 0" not in page._note.text


@pytest.mark.parametrize(
    ("seconds", "named", "last"), [(90, "seconds", 90), (3 * 3600, "hours", 3), (6 * 86_400, "days", 6)]
)
def test_time_has_a_unit_that_fits_the_longest(compare, seconds, named, last):
    _, plot = compare({"a.zarr": summary([3, 2, 1], seconds), "b.zarr": summary([3, 2, 1], 1)}, in_time=True)
    assert plot.xaxis[0].axis_label == f"{named} since the first was submitted"
    assert plot.renderers[0].data_source.data["x"][-1] == pytest.approx(last)


def test_what_is_better_is_said_where_it_differs(compare):
    both = {"cost.zarr": summary([3, 2]), "rate.zarr": summary([1, 2], up=True)}
    assert "Higher is better for rate.zarr, lower for cost.zarr." in compare(both)[0]._note.text
    assert "is better" not in compare({"a.zarr": both["cost.zarr"], "b.zarr": both["cost.zarr"]})[0]._note.text


def test_those_that_are_compared_lead_to_their_pages_together(compare):
    page, _ = compare({"a&b.zarr": summary([3, 2]), "below/c.zarr": summary([3, 1])})
    assert 'href="search?store=a%26b.zarr&amp;store=below%2Fc.zarr"' in page._note.text
    assert "href" not in compare({"a.zarr": summary([3, 2])})[0]._note.text


def test_what_is_new_is_drawn_into_the_same_plot(compare):
    summaries = {"a.zarr": summary([3, 2])}
    page, plot = compare(summaries)
    summaries["a.zarr"] = summary([3, 2, 1])
    page.update()
    assert list(page.root.select({"type": figure})) == [plot]
    assert plot.renderers[0].data_source.data["y"].tolist() == [3, 3, 2, 2, 1]


def test_another_curve_with_the_same_corners_is_drawn(compare):
    summaries = {"a.zarr": summary([3, 2])}
    page, plot = compare(summaries)
    summaries["a.zarr"] = summary([5, 4])
    page.update()
    assert plot.renderers[0].data_source.data["y"].tolist() == [5, 5, 4]


def test_a_summary_says_what_is_better(tmp_path, stores):
    followed = Followed(stores.make(tmp_path / "a.zarr", 10), "a.zarr")
    followed.renew()
    assert (followed.summary.objective, followed.summary.is_maximized) == ("loss", False)
