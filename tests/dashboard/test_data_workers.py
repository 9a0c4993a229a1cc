"""What the workers did: against slow and simple sums, with times that are missing, and at a million rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2l_dask.dashboard import data_workers
from l2l_dask.dashboard.data_workers import busy, durations, gantt, waits
from l2l_dask.trajectory import load

from .measuring import measured
from .stores import make


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return load(make(tmp_path_factory.mktemp("plain") / "s.zarr", 300, workers=4, pending=5, since=1000.0))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return load(make(tmp_path_factory.mktemp("odd") / "s.zarr", 500, workers=4, odd=True, generation=20, evil=True))


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return load(make(tmp_path_factory.mktemp("empty") / "s.zarr", 3, pending=3, generation=2))


def test_the_last_evaluations_of_each_worker_are_shown(plain):
    shown = gantt(plain, per_worker=3)
    assert shown.names == [f"worker-{w:03d}" for w in range(4)]
    assert shown.shown == "the last 12 of 295 evaluations shown, of 4 workers"
    worker, finished = plain.record["worker"], plain.record["finished"]
    for row, name in enumerate(shown.names):
        mine = np.flatnonzero((worker == name) & ~np.isnan(finished))
        expected = sorted(mine[np.argsort(finished[mine])][-3:].tolist())
        assert shown.id[shown.row == row].tolist() == expected
    np.testing.assert_allclose(shown.end - shown.start, (finished - plain.record["started"])[shown.id])
    assert (shown.start >= 0).all()


def test_no_more_evaluations_are_shown_than_a_plot_holds(plain):
    assert len(gantt(plain, per_worker=50, most=10).id) == 8
    assert len(gantt(plain, per_worker=50, most=3).id) == 3


def test_of_many_evaluations_those_are_shown_that_ended_last(plain, monkeypatch):
    monkeypatch.setattr(data_workers, "_NAMED", 20)
    finished = plain.record["finished"]
    last = np.argsort(finished)[: np.isfinite(finished).sum()][-20:]
    assert sorted(gantt(plain).id.tolist()) == sorted(last.tolist())
    assert busy(plain).shown.endswith("from 295 evaluations, workers from 20 of them")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), min_size=1, max_size=30), st.integers(1, 9))
def test_how_many_are_busy_is_their_time_in_a_slice(intervals, slices):
    start = np.array([s for s, _ in intervals])
    end = start + [d for _, d in intervals]
    edges = np.linspace(start.min(), max(end.max(), start.min() + 1), slices + 1)
    found = data_workers._at_once(start, end, edges)
    for mean, low, high in zip(found, edges[:-1], edges[1:], strict=True):
        inside = np.clip(np.minimum(end, high) - np.maximum(start, low), 0, None).sum()
        assert mean == pytest.approx(inside / (high - low), abs=1e-6)


def test_workers_that_go_from_one_evaluation_to_the_next_are_busy(plain):
    found = busy(plain, slices=10)
    assert found.workers[2:8] == pytest.approx(4)
    assert found.share[2:8] == pytest.approx(1, abs=1e-6)
    assert found.shown == "means over 10 slices of the time, from 295 evaluations"


def test_durations_are_counted_once_each(plain):
    found = durations(plain)
    assert found.counts.sum() == 295
    assert found.shown == "295 evaluations counted in 60 bins"
    seconds = plain.record["finished"] - plain.record["started"]
    assert found.median == pytest.approx(np.nanmedian(seconds))
    assert not found.log


def test_durations_over_decades_are_counted_on_a_logarithmic_axis(tmp_path):
    t = load(make(tmp_path / "s.zarr", 200))
    t.record["finished"][:] = t.record["started"] + np.geomspace(0.001, 1000, 200)
    found = durations(t)
    assert found.log
    assert found.counts.sum() == 200
    assert found.edges[[0, -1]] == pytest.approx([0.001, 1000], rel=1e-3)


def test_the_share_waited_at_a_barrier_is_what_comes_after_each_workers_last(odd):
    found = waits(odd)
    assert found.shown == "25 generations shown"
    record = odd.record
    known = record["finished"] >= record["started"]
    for g, share in zip(found.generation.tolist(), found.share.tolist(), strict=True):
        rows = known & (record["generation"] == g)
        first, last = record["started"][rows].min(), record["finished"][rows].max()
        names = set(record["worker"][rows].tolist())
        ends = [record["finished"][rows & (record["worker"] == name)].max() for name in names]
        assert share == pytest.approx(sum(last - end for end in ends) / (len(names) * (last - first)))
    assert 0 < found.share.mean() < 0.7


def test_where_there_are_many_generations_some_are_shown(odd, monkeypatch):
    monkeypatch.setattr(data_workers, "_MOST_GENERATIONS", 5)
    assert waits(odd).shown == "5 of 25 generations shown"
    assert waits(odd).generation.tolist() == [0, 6, 12, 18, 24]


def test_without_generations_nobody_waits(plain):
    assert waits(plain) is None


def test_before_the_first_result_there_is_nothing_to_show_and_it_says_so(empty):
    assert gantt(empty).names == []
    assert gantt(empty).shown == "0 evaluations, of 0 workers"
    assert busy(empty).shown == durations(empty).shown == "no evaluations yet"
    assert np.isnan(busy(empty).share).all()
    assert waits(empty).shown == "no generations yet"


def test_times_that_are_none_reach_no_plot(odd):
    for name, value in (("finished", np.inf), ("started", -np.inf), ("submitted", 1e300)):
        odd.record[name][7:9] = value
    for found in (gantt(odd), busy(odd), durations(odd), waits(odd)):
        for values in vars(found).values():
            if isinstance(values, np.ndarray) and values.dtype.kind == "f":
                assert np.isfinite(values).all()
                assert (np.abs(values) < 1e6).all()


@pytest.mark.slow
def test_a_million_evaluations_are_summed_up_in_a_part_of_a_second(tmp_path):
    t = load(make(tmp_path / "s.zarr", 1_000_000, workers=200, generation=1000))
    for function in (gantt, busy, durations, waits):
        with measured() as cost:
            found = function(t)
        print(function.__name__, f"{1000 * cost.seconds:.0f} ms", found.shown)
        assert cost.seconds < 0.6
