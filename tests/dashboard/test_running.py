"""What is evaluated just now, on the workers' page."""

import time

import numpy as np
import pytest
from bokeh.models import ColumnDataSource, FactorRange

from l2l_dask import Real, Space, minimize
from l2l_dask.dashboard.data_workers import began, gantt, running
from l2l_dask.dashboard.followed import Followed
from l2l_dask.dashboard.pages import Workers
from l2l_dask.evaluation import Status
from l2l_dask.experiment import Experiment
from l2l_dask.trajectory import load
from l2l_dask.trajectory.layout import Layout
from l2l_dask.trajectory.live import Live
from l2l_dask.underway import Underway

SOURCES = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => m.type == "ColumnDataSource" && m.data.status)
    .flatMap(m => [...m.data.status].map((s, i) => [s, m.data.id[i], m.data.worker[i], m.data.seconds[i]]))"""


def sleep(params):
    time.sleep(600 if params["x"] > 0.5 else 0.05)
    return params["x"]


@pytest.fixture
def some(tmp_path, stores):
    """A store of a hundred, of whom the last ten have no result."""
    store = stores.make(tmp_path / "a.zarr", 100, pending=10)
    return load(store)


def test_what_runs_is_drawn_from_its_begin_to_now_and_its_worker_may_be_new(some):
    zero, found = began(some), gantt(some)
    waiting, done = (np.flatnonzero((some.record["status"] == Status.PENDING) == pending) for pending in (True, False))
    one, two = waiting[:2].tolist()
    told = [
        Underway(one, "new", zero + 3.0),
        Underway(two, found.names[1], zero + 4.0),
        Underway(int(done[0]), found.names[0], zero + 5.0),  # its result came just now
        Underway(10_000, found.names[0], zero + 5.0),  # whose row is not read yet
    ]
    shown = running(some, found, told, zero + 9.0)
    assert shown.names == [*found.names, "new"]
    assert shown.row.tolist() == [len(found.names), 1]
    assert shown.id.tolist() == [one, two]
    assert shown.start == pytest.approx([3.0, 4.0], abs=1e-6)
    assert shown.end == pytest.approx(9.0, abs=1e-6)


@pytest.fixture
def followed(some):
    followed = Followed(some.layout.root, "a.zarr")
    followed.renew()
    return followed


def test_bars_of_what_runs_grow_with_the_time_and_go_when_it_ends(followed, some):
    one = int(np.flatnonzero(some.record["status"] == Status.PENDING)[0])
    page = Workers(followed, {})
    (axis,) = (r for r in page.root.references() if isinstance(r, FactorRange))
    assert "new" not in axis.factors

    def bars():
        sources = [s.data for s in page.root.references() if isinstance(s, ColumnDataSource) and "status" in s.data]
        return [
            (int(id), worker, seconds)
            for data in sources
            for id, worker, seconds, status in zip(*map(data.get, ("id", "worker", "seconds", "status")), strict=True)
            if status == "running"
        ]

    page.tick()
    assert bars() == []
    followed.underway = [Underway(one, "new", time.time() - 100)]
    page.tick()
    ((id, worker, first),) = bars()
    assert (id, worker) == (one, "new")
    assert first >= 100
    assert "new" in axis.factors
    page.tick()
    assert bars()[0][2] > first
    followed.underway = []
    page.tick()
    assert bars() == []


@pytest.mark.parametrize(("state", "believed"), [("running", True), ("interrupted", False)])
def test_word_of_what_runs_counts_as_long_as_its_driver_does(tmp_path, stores, state, believed):
    store, told = stores.make(tmp_path / "a.zarr", 100, pending=10, state=state), Underway(99, "w", 1.0)
    Live(Layout(store)).write([told])
    followed = Followed(store, "a.zarr")
    followed.renew()
    assert followed.underway == ([told] if believed else [])


def test_a_running_experiment_shows_who_evaluates_what_since_when(serve, look, tmp_path, wait_until):
    experiment = Experiment(
        sleep,
        "random",
        space=Space({"x": Real(0, 1)}),
        objectives=minimize("f"),
        store=tmp_path / "run.zarr",
        evaluations=20,
        cluster="local",
        workers=2,
    )
    handle = experiment.start()
    try:
        viewer = look(serve(tmp_path))
        wait_until(lambda: (tmp_path / "run.zarr" / ".l2l" / "underway.json").exists())
        viewer.open("workers?store=run.zarr")

        def runs():
            return [bar[1:] for bar in viewer.page.evaluate(SOURCES) if bar[0] == "running"]

        wait_until(lambda: len(runs()) == 2)
        first = {}

        def growing():
            return sorted(worker for id, worker, now in runs() if now > first.setdefault(id, now) + 1)

        wait_until(lambda: growing() == ["0", "1"])
        viewer.page.screenshot(path=tmp_path / "running.png")
    finally:
        handle.stop(now=True)
        handle.wait(60)
