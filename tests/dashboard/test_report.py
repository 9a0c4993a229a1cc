"""The report: one page that needs nothing else, whatever is in the trajectory."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from l2l_dask import Categorical, Integer, Optimizee, Real, Space, Target, maximize, minimize
from l2l_dask.dashboard import plots, report
from l2l_dask.errors import StoreError
from l2l_dask.experiment import Experiment
from l2l_dask.trajectory import load

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>&amp;"
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """What a browser would fetch, run and show."""

    def __init__(self, html):
        super().__init__()
        self.fetched, self.tags, self.words, self._open = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


def page_of(trajectory):
    html = report.html(trajectory)
    page = Page(html)
    assert page.fetched == []
    assert not re.search(r"@import|url\(\s*['\"]?https?:", html.partition("<style>")[2].partition("</style>")[0])
    return page


class Model(Optimizee):
    """One objective or two, a trace with a target, some failures."""

    def __init__(self, objectives=minimize("rmse"), space=None, broken=()):  # noqa: B008
        self.objectives, self.broken = objectives, broken
        self.space = space or Space({"x": Real(0.5, 1)})

    def evaluate(self, params, context):
        if context.id in self.broken or self.broken == "all":
            raise ValueError(EVIL)
        context.report(1, 0.5)
        context.report(2, 0.25)
        context.save("trace", np.sin(np.arange(50.0) * params["x"]))
        context.save("matrix", np.zeros((3, 3)))
        context.save("word", np.array(["a", "b"]))
        return [params["x"]] * len(self.objectives) if isinstance(self.objectives, list) else params["x"]

    def targets(self):
        return {"trace": Target(np.sin(np.arange(50.0)), 0.1, "U (mV)", "time (ms)")}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Leave importance to the test that is about it: it takes a second."""
    monkeypatch.setattr(plots, "MOST_WORK", 0)


@pytest.fixture
def run(tmp_path):
    def run(optimizee, evaluations=8, optimizer="random", name="a", executor=None, **options):
        experiment = Experiment(
            optimizee, optimizer, store=tmp_path / f"{name}.zarr", evaluations=evaluations, cluster="serial", **options
        )
        return experiment.run(executor)

    return run


def test_a_report_says_what_was_run_and_what_came_of_it(run):
    page = page_of(run(Model()))
    assert "random on" in page.text
    assert "8 evaluations, 8 done, 0 failed; finished." in page.text
    assert "The best: individual" in page.text
    assert "0.5 to 1" in page.text
    assert "Failures" not in page.text
    assert '"numpy"' in page.text


def test_a_report_fetches_nothing_and_is_well_formed(run):
    page = page_of(run(Model()))
    assert page._open == []
    assert page.tags.count("html") == page.tags.count("body") == page.tags.count("title") == 1


def test_what_users_and_errors_wrote_is_shown_and_not_run(run):
    space = Space({"x": Real(0.5, 1), f"p{EVIL}": Categorical([EVIL, "b"])})
    page = page_of(run(Model(minimize(f"f{EVIL}"), space, broken=(1,)), name=f"a{EVIL.replace('/', '')}"))
    assert page.text.count(EVIL) >= 4
    assert "img" not in page.tags
    assert "Failures: 1" in page.text
    scripts = page.tags.count("script")
    assert scripts == page_of(run(Model(), name="b")).tags.count("script")


def test_failed_rows_are_left_out_of_the_figure_and_the_first_are_quoted(run):
    ended = run(Model(broken=range(0, 8, 2)))
    page = page_of(ended)
    assert "4 done, 4 failed" in page.text
    assert "Failures: 4" in page.text
    assert "individual 0" in page.text
    assert "Traceback" in page.text
    shown = plots.fitness(ended).renderers[0].data_source.data
    assert shown["id"].tolist() == [1, 3, 5, 7]
    assert shown["number"].tolist() == [2, 4, 6, 8]
    assert shown["f0"].tolist() == ended.record["fitness"][1::2, 0].tolist()


def test_a_report_of_failures_alone_has_no_best(run):
    page = page_of(run(Model(broken="all"), max_failures_in_a_row=0))
    assert "0 done, 8 failed" in page.text
    assert "The best" not in page.text


def test_a_report_of_nothing_done_yet_can_be_written(tmp_path):
    experiment = Experiment(Model(), "random", store=tmp_path / "a.zarr", evaluations=8, cluster="serial")
    experiment.create()
    page = page_of(load(tmp_path / "a.zarr"))
    assert "0 evaluations, 0 done, 0 failed; queued." in page.text


def test_each_objective_has_its_figures_in_its_own_direction(run):
    ended = run(Model([minimize("rmse"), maximize("score")]))
    text = page_of(ended).text
    assert text.count("The best, by rmse: individual") == 1
    order = np.argsort(ended.record["told"], kind="stable")
    for objective, accumulate in enumerate([np.minimum.accumulate, np.maximum.accumulate]):
        best = accumulate(ended.record["fitness"][order, objective])
        for over_time in (False, True):
            steps = plots.fitness(ended, objective, over_time=over_time).renderers[1].data_source.data
            assert steps["best"][-1] == best[-1]
            assert set(steps["best"].tolist()) == set(best.tolist())
    assert "rmse (minimized) of each individual" in text
    assert "score (maximized) of each individual" in text


def test_all_objectives_are_of_the_same_individuals_with_the_best_by_each(tmp_path, stores):
    made = plots.Plots(load(stores.make(tmp_path / "a.zarr", 5000, objectives=3)))
    drawn = [made.search(k) for k in range(3)]
    dots = {id(part.panels[0].renderers[0].data_source) for first, second, *_ in drawn for part in (first, second)}
    assert len(dots) == 1
    for k, (first, second, *_) in enumerate(drawn):
        points, steps = (renderer.data_source.data for renderer in first.panels[0].renderers)
        assert first.panels[0].renderers[0].glyph.y == f"f{k}"
        assert steps["number"][-1] == 5000
        assert steps["best"][-1] in points[f"f{k}"]
        assert second.panels[0].renderers[1].data_source.data["best"].tolist() == steps["best"].tolist()


def test_over_evaluations_and_over_time_are_two_plots_of_the_same_individuals(run):
    first, second, *_ = plots.Plots(run(Model())).search()
    over_evaluations, over_time = first.panels[0].renderers[0], second.panels[0].renderers[0]
    assert over_evaluations.data_source is over_time.data_source
    assert (over_evaluations.glyph.x, over_time.glyph.x) == ("number", "seconds")


def test_what_was_plotted_stays_as_it_is_when_it_is_asked_for_again(tmp_path, stores):
    made = plots.Plots(load(stores.make(tmp_path / "a.zarr", 200, objectives=2)))
    wanted = ["evaluation", "time since the first was submitted (min)"]
    for objective in (0, 1, 0):
        drawn = made.search(objective)
        assert [each.panels[0].xaxis[0].axis_label for each in drawn[:2]] == wanted
    assert [each.panels[0].xaxis[0].axis_label for each in made.search(1)[:2]] == wanted


def test_what_the_best_saved_and_reported_is_drawn(run):
    ended = run(Model())
    best = ended.best
    drawn, left = plots.Plots(ended).saved(best.id)
    curve, matrix, trace = (each.panels[0] for each in drawn)
    assert curve.renderers[0].data_source.data["y"].tolist() == [0.5, 0.25]
    assert matrix.renderers[0].data_source.data["image"][0].shape == (3, 3)
    target, found = (renderer.data_source.data for renderer in trace.renderers)
    np.testing.assert_allclose(target["x"], np.arange(50) * 0.1)
    np.testing.assert_allclose(target["y"], np.sin(np.arange(50.0)))
    np.testing.assert_allclose(found["y"], np.sin(np.arange(50.0) * best.params["x"]))
    assert trace.xaxis.axis_label == "time (ms)"
    assert trace.yaxis.axis_label == "U (mV)"
    assert left == "Saved and not drawn: word: <U1 (2,)"
    assert f"Saved by individual {best.id}, the best. trace: 50 samples." in page_of(ended).text


def test_more_matrices_than_serve_are_named(run):
    class Many(Model):
        def evaluate(self, params, context):
            for i in range(6):
                context.save(f"m{i}", np.zeros((4, 4)))
            return params["x"]

    drawn, left = plots.Plots(ended := run(Many())).saved(ended.best.id)
    assert len(drawn) == 4
    assert left == "m4: 4 x 4: not drawn here m5: 4 x 4: not drawn here"


def test_parameters_of_every_kind_are_shown(run):
    space = Space(
        {
            "x": Real(0.5, 1, log=True),
            "n": Integer(1, 8),
            "w": Real(loc=0, scale=2, shape=(250,)),
            "kind": Categorical(["tree", "line"]),
            "depth": Integer(1, 9, when={"kind": "tree"}),
        }
    )
    ended = run(Model(space=space), 30)
    inactive = {"kind": "line"}
    text = page_of(ended).text
    best = ended.best.params
    assert "0.5 to 1, logarithmic" in text
    assert "1 to 8" in text
    assert "around 0, spread 2" in text
    assert "one of tree, line" in text
    assert ("1 to 9" in text) == (best["kind"] != inactive["kind"])


def test_many_parameters_are_cut_and_counted(run):
    page = page_of(run(Model(space=Space({"x": Real(0.5, 1)} | {f"p{i}": Real(0, 1) for i in range(99)}))))
    assert "and 40 more parameters" in page.text


def test_a_report_is_written_whole_or_not_at_all(run, tmp_path):
    ended = run(Model())
    out = tmp_path / "out.html"
    report.write(ended, out)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(StoreError, match="cannot be written"):
        report.write(ended, tmp_path / "missing" / "out.html")
    with pytest.raises(StoreError, match="cannot be written"):
        report.write(ended, tmp_path / "a.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "out.html"]


def test_it_counts_those_that_were_stopped_and_says_what_the_optimizer_chose(tmp_path):
    def learning(params, context):
        for step in range(1, 10):
            context.report(step, params["x"])
        return params["x"]

    searched = {"space": Space({"x": Real(0, 1)}), "objectives": minimize("f"), "evaluations": 20, "cluster": "serial"}
    stopped = Experiment(learning, "hyperband", store=tmp_path / "a.zarr", **searched).run()
    counts = stopped.counts()
    assert counts["stopped"] > 0
    told = f"20 evaluations, {counts['done']} done, {counts['stopped']} stopped early, 0 failed; finished."
    assert told in Page(report.html(stopped)).text
    chosen = Experiment(learning, "auto", store=tmp_path / "b.zarr", **searched).run()
    assert chosen.experiment["explanation"] in Page(report.html(chosen)).text


def dominated(cost, i):
    """By the definition, one against each."""
    return any((other <= cost[i]).all() and (other < cost[i]).any() for other in cost)


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_front_is_exactly_those_whom_nobody_beats(tmp_path, stores, objectives):
    t = load(stores.make(tmp_path / "a.zarr", 500, objectives=objectives))
    done = [id for id in range(len(t)) if np.isfinite(t.record["fitness"][id]).all()]
    cost = t.record["fitness"][done] * [1, -1, 1][:objectives]
    front = {id for i, id in enumerate(done) if not dominated(cost, i)}
    pairs, volume = plots.Plots(t).pareto()
    for panel in pairs.panels:
        assert set(panel.renderers[1].data_source.data["id"].tolist()) == front
    assert len(pairs.panels) == objectives * (objectives - 1) // 2
    assert (np.diff(volume.panels[0].renderers[0].data_source.data["volume"]) >= 0).all()
    section = next(part for part in report.contents(t) if part.title == "Pareto front")
    listed = [int(row[0]) for row in section.tables[0].rows]
    assert set(listed) <= front
    assert len(listed) == len(set(listed)) == min(20, len(front))
    assert (f"20 of {len(front)} members of the front" in section.tables[0].note) == (len(front) > 20)
    assert f"{len(front)} of {len(done)} individuals are on the Pareto front" in section.texts[0]
    assert f"orange: {len(front)} members" in pairs.caption


def test_every_figure_says_what_it_shows_and_of_how_many(tmp_path, stores):
    t = load(stores.make(tmp_path / "a.zarr", 9000, rich=True, generation=50, objectives=2, saved=1, failures=0))
    drawn = [each for section in report.contents(t) for each in section.drawn]
    for each in drawn:
        assert re.search(r"\d", each.caption), each.caption
        assert each.caption.endswith(".")
    captions = " ".join(each.caption for each in drawn)
    for said in (
        "loss (minimized) of each individual (points), and the best so far (line)",
        "rate_of_success (maximized) of each individual",
        "loss in each generation",
        ". loss by generation: 180 generations.",
        "How often which loss was found",
        "across axes for 8 of 10 parameters and each objective",
        "of 9,000 done shown, the 100 best and an even sample",
        "Each of 8 of 10 parameters against loss (minimized)",
        "means over 200 slices of the time, from 9,000 evaluations",
        "How long evaluations took. 9,000 durations, median",
    ):
        assert said in captions
    shown = len(drawn[0].panels[0].renderers[0].data_source.data["id"])
    assert shown < 4000
    assert f". loss: {shown:,} of 9,000 done shown" in captions


def test_nothing_that_asks_a_server_is_left_in_a_figure(tmp_path, stores):
    t = load(stores.make(tmp_path / "a.zarr", 100, objectives=2))
    for panel in (panel for section in report.contents(t) for each in section.drawn for panel in each.panels):
        kinds = {type(tool).__name__ for tool in panel.tools}
        assert not kinds & {"BoxSelectTool", "LassoSelectTool", "TapTool"}
        assert not any(model._callbacks or model._event_callbacks for model in panel.references())
        assert panel.output_backend == "svg"


def test_importance_is_shown_where_it_takes_little(tmp_path, stores, monkeypatch):
    pytest.importorskip("sklearn")
    t = load(stores.make(tmp_path / "a.zarr", 200))
    monkeypatch.setattr(plots, "MOST_WORK", 1000)
    assert "Permutation importance of a random forest" in page_of(t).text
    monkeypatch.setattr(plots, "MOST_WORK", 100)
    text = page_of(t).text
    assert "Permutation importance" not in text
    assert "l2l dashboard does, on demand" in text
    monkeypatch.setattr(plots, "MOST_WORK", 1000)
    few = load(stores.make(tmp_path / "b.zarr", 5))
    assert "Importance needs at least 30 individuals that are done" in page_of(few).text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 60, "odd": True, "evil": True, "rich": True, "objectives": 3, "spread": True}, "The best, by loss"),
        ({"n": 30, "failures": 1.0, "objectives": 2}, "No evaluation has a fitness yet: there is nothing to draw."),
        ({"n": 5, "pending": 5}, "No evaluation has a fitness yet"),
        ({"n": 0, "objectives": 2}, "0 evaluations, 0 done, 0 failed"),
        ({"n": 1, "failures": 0.0, "generation": 5, "objectives": 2}, "1 of 1 individuals are on the Pareto front"),
    ],
)
def test_whatever_came_of_a_search_has_a_report(tmp_path, stores, options, said):
    options = dict(options)
    assert said in page_of(load(stores.make(tmp_path / "a.zarr", options.pop("n"), **options))).text


def test_ways_to_fail_are_counted(tmp_path, stores):
    t = load(stores.make(tmp_path / "a.zarr", 300, failures=0.5))
    table = next(part for part in report.contents(t) if part.title.startswith("Failures")).tables[0]
    errors = t.record["error"].tolist()
    assert {row[0]: int(row[1]) for row in table.rows} == {kind: errors.count(kind) for kind in set(errors) - {""}}


def test_a_store_of_a_million_has_a_small_report(tmp_path, stores):
    t = load(stores.make(tmp_path / "a.zarr", 1_000_000, objectives=2, rich=True, saved=1, workers=64))
    html = report.html(t)
    assert len(html.encode()) < 4_000_000
    assert re.search(r"\d,\d{3} of 970,\d{3} done shown", html)


def test_much_that_the_best_saved_keeps_a_report_small(run):
    class Much(Model):
        def evaluate(self, params, context):
            for i in range(20):
                context.save(f"{i:02}", context.rng.normal(size=(700, 500) if i % 3 == 0 else 9001))
            return [params["x"]] * 4

    ended = run(Much([minimize(name) for name in "abcd"]), 4)
    html = report.html(ended)
    assert len(html.encode()) < 6_000_000
    assert "every 3th" in html
    assert "8 more arrays" in Page(html).text
