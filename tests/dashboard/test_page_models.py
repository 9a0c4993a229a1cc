"""What the pages about one experiment show, without a server: their models, made from synthetic stores."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from bokeh.document import Document
from bokeh.document.events import MessageSentEvent
from bokeh.models import Div, GlyphRenderer, HoverTool, LinearScale, LogScale, MultiChoice, TableColumn

from l2l_dask import Real, Space
from l2l_dask.dashboard.followed import Followed
from l2l_dask.dashboard.importance import importance
from l2l_dask.dashboard.pages import PAGES, Individuals, Parameters, Search, Workers, _course
from l2l_dask.dashboard.pages._common import is_logarithmic
from l2l_dask.dashboard.pages._surface import _SMOOTH
from l2l_dask.dashboard.plots import Still
from l2l_dask.errors import ConfigError
from l2l_dask.evaluation import Status
from l2l_dask.pareto import non_dominated
from l2l_dask.trajectory import load

from .models import models


def saved(row):
    """Press a button for data, and return the CSV that the browser is handed."""
    document, handed = Document(), []
    document.add_root(row)
    document.on_change(handed.append)
    for callback in row.children[0]._event_callbacks["button_click"]:
        callback()
    document.clear()
    return next(e.msg_data["text"] for e in handed if isinstance(e, MessageSentEvent)).splitlines()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("n", [0, 1, 10])
def test_a_page_shows_a_search_that_has_hardly_begun(made, page, n):
    followed = made("few", 10, objectives=2, generation=5)
    whole = followed.trajectory
    followed.see(replace(whole, record=type(whole.record)({k: v[:n] for k, v in whole.record.columns.items()})))
    shown = page(followed, {})
    followed.see(whole)
    shown.update()


@pytest.mark.parametrize("page", PAGES)
def test_nan_infinite_and_huge_fitness_reach_no_plot(made, page):
    shown = page(made("odd", 2000, odd=True, rich=True, objectives=2), {})
    shown.update()
    for renderer in models(shown, GlyphRenderer):
        for values in renderer.data_source.data.values():
            numbers = np.asarray(values)
            if numbers.dtype.kind == "f":
                assert not np.isinf(numbers).any()
                assert not (np.abs(numbers) > 1e100).any()


@pytest.mark.parametrize("page", PAGES)
def test_what_users_wrote_is_escaped_wherever_a_widget_takes_html(made, stores, page):
    evil = made("evil", 200, evil=True, rich=True, objectives=2, saved=2, curves=2)
    failed = np.flatnonzero(evil.trajectory.record["status"] == Status.FAILED)[0]
    shown = page(evil, {"id": str(failed)})
    html = [div.text for div in models(shown, Div)]
    html += [label for choice in models(shown, MultiChoice) for _, label in choice.options]
    html += [column.title for column in models(shown, TableColumn)]
    assert not any("<script" in text or "<img" in text for text in html)
    for tool in models(shown, HoverTool):
        assert "{safe}" not in str(tool.tooltips)
        assert "@$name" not in str(tool.tooltips)


def test_the_search_page_draws_the_best_so_far_and_counts_what_it_shows(made):
    followed = made()
    page, t = Search(followed, {}), followed.trajectory
    order = np.argsort(t.record["told"], kind="stable")
    best = np.fmin.accumulate(t.cost[order, 0])
    drawn = page._best[0].data
    assert drawn["best"][-1] == np.nanmin(t.cost)
    assert drawn["number"][-1] == len(t)
    assert drawn["best"].tolist() == [best[int(n) - 1] for n in drawn["number"]]
    assert page._plots[0].title.text.startswith(f"loss: {page.done} done")


def test_the_course_of_a_search_is_the_same_taken_in_parts_and_at_once(made):
    t = made("two", 3000, objectives=2, generation=100).trajectory
    whole, parts = _course.Course(2), _course.Course(2)
    whole.follow(t)
    for n in (700, 1500, 1501, 3000):
        parts.follow(replace(t, record=type(t.record)({k: v[:n] for k, v in t.record.columns.items()})))
    assert parts.ended == whole.ended == 3000
    assert sorted(parts.number.tolist()) == list(range(1, 3001))
    for a, b in zip(parts.best, whole.best, strict=True):
        assert a.cost[-1] == b.cost[-1]
    front = np.flatnonzero(non_dominated(t.cost))
    np.testing.assert_array_equal(whole.front.ids, front)
    np.testing.assert_array_equal(parts.front.ids, front)
    assert np.diff(whole.front.volume).min() >= 0


def test_the_course_of_one_store_does_not_wait_for_that_of_another(made, monkeypatch):
    large, small = made("many", 5000), made()
    follow, begun, over = _course.Course.follow, threading.Event(), threading.Event()

    def slow(course, t):
        if t is large.trajectory:
            begun.set()
            assert over.wait(30)
        follow(course, t)

    monkeypatch.setattr(_course.Course, "follow", slow)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(_course.course, large)
        try:
            assert begun.wait(30)
            assert pool.submit(_course.course, small).result(30).ended == 500
        finally:
            over.set()
        assert waiting.result(30).ended == 5000


def test_a_store_that_was_replaced_has_a_course_of_its_own(tmp_path, stores):
    followed = Followed(stores.make(tmp_path / "a.zarr", 30), "a.zarr")
    followed.renew()
    assert _course.course(followed).ended == 30
    (tmp_path / "a.zarr").rename(tmp_path / "old")
    stores.make(tmp_path / "a.zarr", 20, objectives=2)
    followed._looked = 0.0
    followed.renew()
    found = _course.course(followed)
    assert (found.ended, len(found.best)) == (20, 2)


def test_the_hypervolume_is_the_share_of_the_box_that_the_front_dominates(made):
    t = made("two", 3000, objectives=2, generation=100).trajectory
    course = _course.Course(2)
    course.follow(t)
    front = course.front
    cost = (t.cost[front.ids] - front.ideal) / (front.reference - front.ideal)
    cost = cost[np.argsort(cost[:, 0])]
    exact = ((np.append(cost[1:, 0], 1) - cost[:, 0]) * (1 - cost[:, 1])).sum()
    assert front.volume[-1] == pytest.approx(exact, abs=0.005)


def test_turning_the_pages_of_parameters_leaves_nothing_behind(made):
    page = Parameters(made("wide", 200, space=Space({"w": Real(-1, 1, shape=(250,))})), {})
    joined = len(page.selection._sources)
    for number in (2, 32, 1):
        page._each._number.value = number
        assert len(page._each.sample.source.data) == 2 + len(page._each.axes)
    assert len(page.selection._sources) == joined


def test_the_best_by_the_objective_that_is_shown_are_drawn(made):
    followed = made("objectives", 5000, objectives=3)
    page = Parameters(followed, {})
    page._objective.value = "2"
    best = np.argsort(np.where(np.isnan(followed.trajectory.cost[:, 2]), np.inf, followed.trajectory.cost[:, 2]))
    assert set(best[:100].tolist()) <= set(page._each.sample.source.data["id"].tolist())


def test_hundreds_of_parameters_come_in_pages(made):
    page = Parameters(made("wide", 200, space=Space({"w": Real(-1, 1, shape=(250,))})), {})
    assert len(page._each._place.children) == 8
    page._each._number.value = 31
    assert [axis.name for axis in page._each.axes] == [f"w[{i}]" for i in range(240, 248)]
    assert "parameters 241 to 248 of 250" in page._each._said.text


def test_the_slider_shows_who_was_tried_at_a_time(made):
    page = Parameters(made(), {})
    page._surface._slider.value = 250
    assert page._surface._now.data["id"].tolist() == list(range(150, 250))
    page._surface.step()
    assert page._surface._now.data["id"][-1] == 254


def test_a_smooth_surface_has_contours(made):
    page = Parameters(made(), {})
    page._surface._kind.value = _SMOOTH
    assert len(page._surface._contours.data["xs"]) > 0
    assert np.isfinite(page._surface._cells.data["value"]).all()


def test_the_importance_finds_the_parameter_that_matters_and_says_what_it_is_based_on(made):
    pytest.importorskip("sklearn")
    page = Parameters(made("many", 5000), {})
    page._matters.compute()
    assert page._matters.found.names[0] in ("tau", "g", "delay", "n")
    assert "made from 3,000 of" in page._matters._said.text
    assert len(saved(page._matters.root.children[-1])) == 5
    with pytest.raises(ConfigError, match="at least 30"):
        importance(made("few", 10, objectives=2, generation=5).trajectory)


def of_rows(t, n, **columns):
    """Return the first rows of a trajectory, with other columns."""
    return replace(
        t, record=type(t.record)({name: values[:n] for name, values in (t.record.columns | columns).items()})
    )


@pytest.mark.parametrize("page", [Search, Parameters])
def test_the_axes_of_fitness_follow_it_to_another_scale(made, page):
    followed = made("two", 3000, objectives=2, generation=100)
    whole = followed.trajectory
    wide = np.geomspace(1, 1e4, 3000)[:, None] * [1, 1]

    def scales(shown):
        if page is Parameters:
            return {type(plot.y_scale) for plot in shown._each._place.children}
        (fitness, generations, distribution), (pairs, _) = shown._plots, shown._pareto._place.children
        found = fitness.y_scale, generations.y_scale, distribution.x_scale, pairs.x_scale, pairs.y_scale
        return {type(scale) for scale in found}

    followed.see(of_rows(whole, 0))
    shown = page(followed, {})
    for fitness, scale in ((wide, LogScale), (wide - 10, LinearScale)):
        followed.see(of_rows(whole, 3000, fitness=fitness))
        shown.update()
        assert scales(shown) == {scale}


def test_plots_of_generations_come_with_the_first(made):
    followed = made("gens", 1000, generation=100)
    whole = followed.trajectory
    followed.see(of_rows(whole, 0))
    del followed.trajectory.record.columns["generation"]
    search, workers = Search(followed, {}), Workers(followed, {})
    assert (len(search._plots), workers._waits) == (2, None)
    before = search._tables()["generations"]()
    assert len(before["generation"]) == 0
    followed.see(whole)
    search.update()
    workers.update()
    assert len(search._plots) == 3
    after = search._tables()["generations"]()
    assert (list(before), len(after["generation"])) == (list(after), 10)
    assert workers._waits.title.text.startswith("Waiting ")


def test_the_unit_of_time_grows_with_the_search(made):
    followed = made()
    whole = followed.trajectory
    followed.see(of_rows(whole, 10))
    search, workers = Search(followed, {}), Workers(followed, {})
    assert (search._unit, workers._unit) == ("s", "s")
    followed.see(whole)
    search.update()
    workers.update()
    assert (search._unit, workers._unit) == ("min", "min")
    assert workers._gantt.xaxis[0].axis_label == "time (min)"
    t, data = followed.trajectory, workers._intervals.data
    start = t.record["started"][data["id"]] - np.nanmin(t.record["submitted"])
    np.testing.assert_allclose(data["left"], start / 60)


def test_durations_get_a_logarithmic_axis_when_they_span_decades(made):
    followed = made()
    whole = followed.trajectory
    took = np.geomspace(0.1, 50, len(whole))
    page = Workers(followed, {})
    assert isinstance(page._durations.x_scale, LinearScale)
    followed.see(of_rows(whole, len(whole), finished=whole.record["started"] + took))
    page.update()
    assert isinstance(page._durations.x_scale, LogScale)


def test_the_best_so_far_of_other_stores_is_drawn_beside(made):
    page = Search(made(), {}, [made("gens", 1000, generation=100)])
    assert [source.data["number"][-1] for source in page._best] == [500, 1000]
    labels = [item.label.value for item in page._plots[0].legend[0].items]
    assert labels[1:] == ["best so far of a.zarr", "best so far of gens.zarr"]


def test_the_timeline_names_workers_and_what_became_of_each_evaluation(made):
    page = Workers(made("gens", 1000, generation=100), {})
    shown = page._intervals.data
    assert set(shown["worker"]) == {f"worker-{i:03d}" for i in range(16)}
    assert "failed" in shown["status"]
    assert page._waits.title.text.startswith("Waiting ")


def test_the_table_is_sorted_filtered_and_paged_on_the_server(made):
    followed = made()
    page, t = Individuals(followed, {}), followed.trajectory
    assert page._source.data["id"].tolist() == list(range(50))
    page.turn(1)
    assert page._source.data["id"].tolist() == list(range(50, 100))
    page._sort.value = "loss"
    assert page._source.data["id"][0] == np.nanargmin(t.record["fitness"][:, 0])
    assert page._number.value == 1
    page._filter.value = "status = failed"
    failed = np.flatnonzero(t.record["status"] == Status.FAILED)
    assert set(page._source.data["id"].tolist()) <= set(failed.tolist())
    page._filter.value = "nonsense = = 3"
    assert page._problem.visible
    assert len(saved(page.root.children[6])) == 1 + min(50, len(failed))


def test_an_id_in_the_address_opens_that_individual_with_what_it_saved(made):
    page = Individuals(made("curves", 300, curves=5, saved=5), {"id": "3"})
    assert page._details.id == 3
    titles = [figure.title.text for figure in page._details.root.children[-1].children]
    assert titles == ["Learning curve: 50 reports", "matrix: 20 x 20", "trace: 500 samples"]


@pytest.mark.parametrize("typed", ["x", "-1", "99999999999999", "1;2", "⁷", ""])
def test_ids_in_the_address_that_are_none_are_let_be(made, typed):
    assert Individuals(made(), {"id": typed})._details.id is None


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [([1, 1000], True), ([1, 50], False), ([0, 1000], False), ([-1, 1000], False), ([], False), ([5], False)],
)
def test_a_logarithmic_axis_is_for_positive_values_over_decades(values, logarithmic):
    assert is_logarithmic(np.array(values, float)) is logarithmic


def test_lines_of_errors_that_hold_none_hide_no_other(tmp_path, stores):
    t = load(stores.make(tmp_path / "a.zarr", 500))
    failed = int(np.flatnonzero(t.record["status"] == Status.FAILED)[0])
    with t.layout.errors.open("a") as file:
        file.write(f'{{"error": "whose?"}}\n[1]\n{{"id": {failed}}}\n{{"id": {failed}, "error": "too silent"}}\n')
    shown = [div.text for div in models(Individuals(Still(t), {"id": str(failed)}), Div)]
    assert any(text.startswith("<pre") and ">too silent<" in text for text in shown)
