"""Drivers that were taken for dead and come back: whatever they were about to do, the taker's store stays as it is."""

import os

import numpy as np
import pytest

from l2l_dask import Objectives, Real, Space, minimize
from l2l_dask.errors import LockedError
from l2l_dask.evaluation import Candidates
from l2l_dask.trajectory import Writer, create, load, opening
from l2l_dask.trajectory import lease as leases
from l2l_dask.trajectory.layout import Layout, read_json, write_json

SPACE = Space({"a": Real(0, 1), "b": Real(0, 1)})
LOSS = Objectives(minimize("loss"))
NEVER = 1e6  # seconds to the next beat, which would take back what a test writes into the lease


@pytest.fixture
def store(tmp_path):
    store = tmp_path / "store.zarr"
    create(store, {"space": SPACE.to_dict(), "objectives": LOSS.to_dict()}, SPACE, LOSS, 10)
    return store


def test_a_lease_that_the_old_holder_wrote_late_is_written_anew_and_nobody_is_stopped(store, suspended):
    old = Writer(store, SPACE)
    late = dict(old._lease._content)
    suspended(old)
    taker = Writer(store, SPACE)
    write_json(taker.layout.lease, late)
    taker.fold()
    assert read_json(taker.layout.lease)["epoch"] == taker.epoch == 2
    with pytest.raises(LockedError):
        old.fold()
    taker.close()


def ask(writer, event, first, n=3, **info):
    ids = np.arange(first, first + n)
    writer.asked(event, Candidates(np.full((n, 2), 0.5), info, ids), 0)


def shape_of(store):
    """Return the sizes of all files of the arrays, and their metadata."""
    paths = sorted(path for path in store.glob("*/**/*") if path.is_file() and ".l2l" not in path.parts)
    return {path: path.read_bytes() for path in paths}


def test_what_a_replaced_driver_appends_while_its_store_is_opened_is_not_folded(
    store, go_on, suspended, monkeypatch, rows_of
):
    old = Writer(store, SPACE)
    go_on(old, SPACE.dim, 1)
    suspended(old)

    def measured_and_then_appended(path):
        length = whole_bytes(path)
        ask(old, 2, 3)
        old.commit(durable=False)
        return length

    whole_bytes = opening.whole_bytes
    monkeypatch.setattr(opening, "whole_bytes", measured_and_then_appended)
    taker = Writer(store, SPACE)
    monkeypatch.undo()
    assert len(taker.record) == 3
    go_on(taker, SPACE.dim, 1)
    taker.close(trim=False)
    expected = rows_of(store)
    os.truncate(store / "fitness/c/0/0", 0)
    Writer(store, SPACE).close(trim=False)
    np.testing.assert_equal(rows_of(store), expected)


def test_a_driver_that_comes_back_while_it_made_the_arrays_anew_leaves_the_takers_alone(
    store, go_on, killed, monkeypatch, rows_of
):
    first = Writer(store, SPACE)
    go_on(first, SPACE.dim, 1)
    killed(first)
    os.truncate(store / "x/c/0/0", 0)

    def frozen(layout, *arguments):
        monkeypatch.undo()
        write_json(layout.lease, read_json(layout.lease) | {"released": True})
        taker = Writer(store, SPACE)
        go_on(taker, SPACE.dim, 2)
        taker.close()
        return emptied(layout, *arguments)

    monkeypatch.setattr(leases, "BEAT", NEVER)
    emptied = opening._emptied
    monkeypatch.setattr(opening, "_emptied", frozen)
    with pytest.raises(LockedError, match="taken over"):
        Writer(store, SPACE)
    assert len(rows_of(store)) == 9
    assert not Layout(store).rebuilding.exists()


@pytest.mark.parametrize("at", ["flush", "sync"])
def test_a_driver_that_comes_back_while_it_opened_a_store_starts_no_journal(
    store, go_on, suspended, monkeypatch, at, rows_of
):
    first = Writer(store, SPACE)
    go_on(first, SPACE.dim, 1)
    suspended(first)

    def frozen(chunks):
        monkeypatch.undo()
        real(chunks)
        write_json(first.layout.lease, read_json(first.layout.lease) | {"released": True})
        Writer(store, SPACE).close()

    monkeypatch.setattr(leases, "BEAT", NEVER)
    real = getattr(opening.Chunks, at)
    monkeypatch.setattr(opening.Chunks, at, frozen)
    with pytest.raises(LockedError, match="taken over"):
        Writer(store, SPACE)
    assert first.layout.journal(2).stat().st_size == 0
    assert len(rows_of(store)) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda old: ask(old, 2, 3, 3, fresh=np.arange(3)),
        lambda old: old.reserve(20),
        lambda old: old._chunks.resize(2),
        lambda old: old._chunks.flush(),
        lambda old: (ask(old, 2, 3, 30), old._apply()),
    ],
    ids=["a further array", "reserve", "trim", "flush", "backlog"],
)
def test_a_driver_that_comes_back_changes_no_array(store, go_on, suspended, change):
    old = Writer(store, SPACE)
    go_on(old, SPACE.dim, 1)
    suspended(old)
    taker = Writer(store, SPACE)
    taker.reserve(40)
    go_on(taker, SPACE.dim, 4)
    ask(taker, 99, 15, 3, fresh=np.arange(3))
    taker.close()
    before = shape_of(store)
    with pytest.raises(LockedError, match="taken over"):
        change(old)
    assert shape_of(store) == before
    assert len(load(store)) == 18
