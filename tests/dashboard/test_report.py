"""The report: one page that needs nothing else, whatever is in the trajectory."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from l2l_dask import Categorical, Integer, Optimizee, Real, Space, Target, maximize, minimize
from l2l_dask.dashboard import plots, report
from l2l_dask.errors import StoreError
from l2l_dask.executors import Simulated
from l2l_dask.experiment import Experiment
from l2l_dask.trajectory import load

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>&amp;"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "link", "br", "img", "hr", "input"}


# Counts what is drawn, inside Bokeh's shadow trees too, and notes what goes wrong, where --dump-dom shows it.
SPY = """<script>
const errors = [], html = document.documentElement; let alerts = 0;
html.dataset.errors = ""; html.dataset.alerts = 0; html.dataset.drawn = 0;
window.addEventListener("error", e => { errors.push(e.message); html.dataset.errors = errors.join("; "); });
window.addEventListener("unhandledrejection", e => { errors.push(e.reason); html.dataset.errors = errors.join("; "); });
console.error = (...words) => { errors.push(words.join(" ")); html.dataset.errors = errors.join("; "); };
window.alert = () => { html.dataset.alerts = ++alerts; };
const drawn = root => root.querySelectorAll("svg,canvas").length +
  [...root.querySelectorAll("*")].reduce((n, e) => n + (e.shadowRoot ? drawn(e.shadowRoot) : 0), 0);
setInterval(() => { html.dataset.drawn = drawn(document); }, 100);
</script>"""


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
        context.save("trace", np.sin(np.arange(50.0) * params["x"]))
        context.save("matrix", np.zeros((3, 3)))
        context.save("word", np.array(["a", "b"]))
        return [params["x"]] * len(self.objectives) if isinstance(self.objectives, list) else params["x"]

    def targets(self):
        return {"trace": Target(np.sin(np.arange(50.0)), 0.1, "U (mV)", "time (ms)")}


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
    figure = plots.fitness(ended)
    shown = figure.renderers[0].data_source.data
    assert shown["id"].tolist() == [1, 3, 5, 7]
    assert shown["number"].tolist() == [2, 4, 6, 8]
    assert shown["fitness"].tolist() == ended.record["fitness"][1::2, 0].tolist()


def test_a_report_of_failures_alone_has_no_best(run):
    page = page_of(run(Model(broken="all"), max_failures_in_a_row=0))
    assert "0 done, 8 failed" in page.text
    assert "The best" not in page.text


def test_a_report_of_nothing_done_yet_can_be_written(tmp_path):
    experiment = Experiment(Model(), "random", store=tmp_path / "a.zarr", evaluations=8, cluster="serial")
    experiment.create()
    page = page_of(load(tmp_path / "a.zarr"))
    assert "0 evaluations, 0 done, 0 failed; queued." in page.text


def test_each_objective_has_its_figure_in_its_own_direction(run):
    ended = run(Model([minimize("rmse"), maximize("score")]))
    assert page_of(ended).text.count("rmse = ") == 1
    values = ended.record["fitness"][:, 0]
    for objective, accumulate in enumerate([np.minimum.accumulate, np.maximum.accumulate]):
        figure = plots.fitness(ended, objective)
        order = np.argsort(ended.record["told"], kind="stable")
        steps = figure.renderers[1].data_source.data
        best = accumulate(values[order])
        assert steps["best"].tolist() == [best[n - 1] for n in steps["number"]]
        assert steps["best"][-1] == best[-1]
    titles = [plots.fitness(ended, objective).title.text for objective in range(2)]
    assert titles == ["rmse (minimized)", "score (maximized)"]


def test_a_saved_curve_is_drawn_over_its_target(run):
    ended = run(Model())
    best = ended.best
    figures = report._traces(ended)
    assert [figure.title.text for figure in figures] == [f"trace of individual {best.id}, the best"]
    target, found = (renderer.data_source.data for renderer in figures[0].renderers)
    np.testing.assert_allclose(target["x"], np.arange(50) * 0.1)
    np.testing.assert_allclose(target["y"], np.sin(np.arange(50.0)))
    np.testing.assert_allclose(found["y"], np.sin(np.arange(50.0) * best.params["x"]))
    assert figures[0].xaxis.axis_label == "time (ms)"
    assert figures[0].yaxis.axis_label == "U (mV)"


def test_more_points_than_serve_are_thinned_and_counted(run, monkeypatch):
    monkeypatch.setattr(plots, "MOST_POINTS", 40)
    monkeypatch.setattr(plots.thinned, "__defaults__", (40,))
    ended = run(Model(), 100, executor=Simulated(4, lambda candidate, rng: 1.0))
    figure = plots.fitness(ended)
    assert figure.title.text == "rmse (minimized, 40 of 100 shown)"
    each, best = (renderer.data_source.data for renderer in figure.renderers)
    assert len(each["id"]) == 40
    assert best["best"][-1] == ended.record["fitness"].min()  # the line is of all


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (5, 5), (10_000, 10_000), (10_001, 10_000), (1_000_000, 10_000)])
def test_thinning_keeps_both_ends_and_no_more_than_serve(n, expected):
    kept = plots.thinned(n)
    assert len(kept) == len(set(kept.tolist())) == expected
    if n:
        assert (kept[0], kept[-1]) == (0, n - 1)


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


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_draws_the_report_without_errors(run, tmp_path):
    space = Space({"x": Real(0.5, 1), "kind": Categorical([EVIL, "b"])})
    ended = run(Model([minimize("rmse"), maximize(f"s{EVIL}")], space, broken=(2,)))
    out = tmp_path / "out.html"
    page = report.html(ended).replace("<head>", f"<head>{SPY}", 1)
    out.write_text(page, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --disable-dev-shm-usage"
    shown = subprocess.run(
        [
            CHROMIUM,
            *flags.split(),
            "--virtual-time-budget=10000",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            out.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = dict(re.findall(r'data-(drawn|errors|alerts)="([^"]*)"', shown.stdout))
    assert said["errors"] == ""
    assert said["alerts"] == "0"
    assert int(said["drawn"]) >= 3  # two objectives and the trace


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
