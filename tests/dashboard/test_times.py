"""What is made of times: who waited, who was there, and how fast it goes; from times that were set down by hand."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from l2l_dask.dashboard.data_workers import busy, pauses, waits
from l2l_dask.dashboard.importance import importance
from l2l_dask.dashboard.methods import paragraph
from l2l_dask.dashboard.summary import summed_up
from l2l_dask.evaluation import Status
from l2l_dask.trajectory import Record, load
from l2l_dask.underway import Underway

HOUR = 3600.0


@pytest.fixture
def timed(tmp_path, stores):
    """Make a trajectory of rows (worker, started, finished, generation); without an end they are pending."""

    def timed(rows, state="finished"):
        t = load(stores.make(tmp_path / "a.zarr", len(rows), generation=2, failures=0.0))
        worker, started, finished, generation = zip(*rows, strict=True)
        columns = dict(t.record.columns) | {
            "worker": np.array(worker, dtype=object),
            "started": np.array(started),
            "submitted": np.array(started),
            "finished": np.array(finished),
            "generation": np.array(generation),
            "status": np.where(np.isnan(finished), Status.PENDING, Status.DONE).astype(np.int8),
        }
        details = {**t.details, "evaluations": 2 * len(rows)}
        return replace(t, record=Record(columns), state=state, details=details)

    return timed


def test_who_goes_on_with_the_next_generation_does_not_wait_for_the_last(timed):
    rows = [("a", 10.0, 20.0, 0), ("b", 10.0, 14.0, 0), ("b", 15.0, 19.0, 1), ("a", 20.0, 24.0, 1)]
    found = waits(timed(rows))
    # Of generation 0, from 10 to 20, b waited from 14 to 15; of generation 1, from 15 to 24, it waited from 19 on.
    assert found.share.tolist() == pytest.approx([1 / 20, 5 / 18])


def test_at_a_barrier_all_wait_for_the_last(timed):
    rows = [("a", 10.0, 20.0, 0), ("b", 10.0, 14.0, 0), ("b", 21.0, 25.0, 1), ("a", 21.0, 23.0, 1)]
    assert waits(timed(rows)).share.tolist() == pytest.approx([6 / 20, 2 / 8])


@pytest.fixture
def resumed(timed):
    """Two workers that are always busy, ten minutes in the evening and ten the next morning."""
    times = [start + 100.0 * k for start in (1000.0, 1000.0 + 10 * HOUR) for k in range(6)]
    return timed([(name, t, t + 100.0, 0) for t in times for name in ("0", "1")])


def test_a_night_in_which_nothing_ran_counts_for_no_worker(resumed):
    assert pauses(resumed) == [(1600.0, 1000.0 + 10 * HOUR)]
    found = busy(resumed)
    assert np.nansum(found.busy) == pytest.approx(np.nansum(found.workers), rel=1e-6)
    assert found.workers.min() == pytest.approx(0.0, abs=1e-9)
    summary = summed_up(resumed)
    assert (summary.rate, summary.workers) == (pytest.approx(24 / 1200), 2)
    assert "it took 10.2 hours (9.83 hours of it without any evaluation)" in paragraph(resumed)


def test_a_long_evaluation_is_no_pause(timed):
    rows = [("a", 1000.0, 1010.0, 0), ("b", 1000.0, 9000.0, 0), ("a", 8000.0, 8010.0, 0)]
    assert pauses(timed(rows)) == []


@pytest.fixture
def now(monkeypatch):
    """The time at which a summary is made, however long a test takes."""
    now = time.time()
    monkeypatch.setattr("l2l_dask.dashboard.summary.time", SimpleNamespace(time=lambda: now))
    return now


def test_the_rate_of_long_evaluations_is_of_the_last_that_came(timed, now):
    # Four workers, five minutes each: a result every 75 s, the last of them 70 s ago.
    ends = now - 70.0 - 75.0 * np.arange(40)
    rows = [(str(k % 4), end - 300.0, end, 0) for k, end in enumerate(ends)]
    waiting = [("", np.nan, np.nan, 0)] * 4
    summary = summed_up(timed(rows + waiting, "running"), [Underway(40, "new", now)])
    assert summary.rate == pytest.approx(20 / (70 + 20 * 75))
    assert summary.workers == 5
    assert summary.seconds_left == pytest.approx(48 / summary.rate)


def test_before_twenty_came_the_rate_is_of_all(timed, now):
    rows = [(str(k), now - 200.0, now - 100.0, 0) for k in range(4)]
    assert summed_up(timed(rows, "running")).rate == pytest.approx(4 / 200)


@pytest.mark.parametrize("state", ["paused", "interrupted"])
def test_what_neither_runs_nor_has_ended_has_no_rate(timed, state):
    rows = [("a", 1000.0, 1010.0, 0)] * 3
    summary = summed_up(timed(rows, state))
    assert (summary.rate, summary.workers, summary.seconds_left) == (None, 0, None)


def test_importance_is_right_where_many_have_the_same_fitness(tmp_path, stores):
    t = load(stores.make(tmp_path / "a.zarr", 600, failures=0.0))
    fitness = np.where(t.record["x"][:, 1] > 0.5, 1.0, 0.0)[:, None]
    found = importance(replace(t, record=Record(dict(t.record.columns) | {"fitness": fitness})))
    assert found.names[0] == t.space.labels[1]
    assert found.score > 0.95
