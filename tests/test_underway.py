"""What is said to be evaluated just now."""

import os

import pytest

from l2l_dask.trajectory import underway
from l2l_dask.trajectory.layout import Layout
from l2l_dask.trajectory.live import Live
from l2l_dask.underway import LONG, Board, Runs, Underway


def told(key, *ids, worker="tcp://1", begun=5.0):
    return {"worker": worker, "name": worker[-1], "begun": [[key, list(ids), begun]]}


def test_what_has_run_for_a_while_is_told_once_and_what_ended_before_never():
    runs = Runs()
    runs.begin("a", [0], 10.0)
    runs.begin("b", [1, 2], 10.5)
    runs.begin("c", [3], 10.0)
    runs.end("c")
    assert runs.news(10.0 + LONG) == [("a", [0], 10.0)]
    assert runs.news(10.5 + LONG) == [("b", [1, 2], 10.5)]
    assert runs.news(100.0) == []
    runs.end("a")  # which was told


def test_what_was_submitted_runs_from_the_word_of_its_worker_until_it_is_gone():
    board = Board()
    board.expect(["a", "b"])
    assert board.all() == []
    board.hear(told("a", 0, 1))
    board.hear(told("b", 2, worker="tcp://2", begun=6.0))
    assert board.all() == [Underway(0, "1", 5.0), Underway(1, "1", 5.0), Underway(2, "2", 6.0)]
    board.gone("a")
    assert board.all() == [Underway(2, "2", 6.0)]


def test_word_that_comes_after_the_result_counts_for_nothing():
    board = Board()
    board.expect(["a"])
    board.gone("a")
    board.hear(told("a", 0))
    assert board.all() == []


def test_what_was_lost_with_its_worker_runs_again_when_another_says_so():
    board = Board()
    board.expect(["a", "b"])
    board.hear(told("a", 0))
    board.hear(told("b", 1, worker="tcp://2"))
    board.lost("tcp://1")
    assert board.all() == [Underway(1, "2", 5.0)]
    board.hear(told("a", 0, worker="tcp://3", begun=9.0))
    assert board.all() == [Underway(1, "2", 5.0), Underway(0, "3", 9.0)]


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "a.zarr")
    layout.private.mkdir(parents=True)
    return layout


def test_the_word_beside_a_store_is_read_as_it_was_written_and_goes_with_its_driver(layout):
    live, runs = Live(layout), [Underway(3, "w", 7.25)]
    live.write(runs)
    assert underway(layout.root) == runs
    live.remove()
    assert underway(layout.root) == []
    live.write(runs)
    Live(layout)  # of the next driver
    assert underway(layout.root) == []


def test_what_did_not_change_is_not_written_again(layout):
    live = Live(layout)
    live.write([Underway(3, "w", 7.25)])
    before = os.stat(layout.underway)
    live.write([Underway(3, "w", 7.25)])
    assert os.stat(layout.underway).st_ino == before.st_ino


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"underway": 3}', '{"underway": [[1, "w"]]}', '{"underway": [["x", 1, 2]]}']
)
def test_word_that_makes_no_sense_is_no_word(layout, text):
    layout.underway.write_text(text)
    assert underway(layout.root) == []
