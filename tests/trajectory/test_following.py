"""Following a store: after each update it is what ``load`` finds, and only what changed was read."""

import contextlib
import os
import shutil
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule

from l2l_dask import Objectives, Real, Space, minimize
from l2l_dask.errors import StoreError
from l2l_dask.evaluation import Candidates, Evaluation, Status
from l2l_dask.trajectory import Following, Writer, create, following, load, opening
from l2l_dask.trajectory.layout import Layout, read_json, write_json

from .test_oracle import Oracle, as_rows, small_chunks  # noqa: F401  (a fixture)

SPACE = Space({"a": Real(0, 1), "b": Real(0, 1)})
LOSS = Objectives(minimize("loss"))
PLACES = {"worker": "w", "host": "h", "submitted": 0.5, "started": 1.0, "finished": 2.0}


def assert_same(one, other):
    """Assert that two trajectories are equal, NaN and all."""
    assert one.record.columns.keys() == other.record.columns.keys()
    for name, values in other.record.columns.items():
        assert one.record[name].dtype == values.dtype
        np.testing.assert_array_equal(one.record[name], values, err_msg=name)
    for name in ("layout", "experiment", "objectives", "state", "details"):
        assert getattr(one, name) == getattr(other, name)
    assert one.space.to_dict() == other.space.to_dict()


class Followed(Oracle):
    """Whatever is written, killed, torn and opened again: who follows it finds what a reader finds."""

    def open(self):
        super().open()
        if not hasattr(self, "following"):
            self.following, self.before = Following(self.store), []

    @rule()
    def update(self):
        version = self.following.version
        change = self.following.update()
        assert_same(self.following.trajectory, load(self.store))
        rows, touched = as_rows(self.following.trajectory), set(change.ids.tolist())
        assert change.version == self.following.version >= version
        assert touched <= set(range(change.first)) <= set(range(len(self.before)))
        for id, row in enumerate(self.before[: change.first]):
            if id not in touched:
                np.testing.assert_equal({name: rows[id][name] for name in row}, row)
        if change.version == version:
            assert len(rows) == change.first == len(self.before)
        self.before = rows

    @rule()
    def fold_and_update(self):
        self.fold()
        self.update()


TestAgainstALoad = Followed.TestCase
TestAgainstALoad.pytestmark = [pytest.mark.timeout(900)]
TestAgainstALoad.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def store(tmp_path):
    store = tmp_path / "store.zarr"
    new(store)
    return store


def new(store, capacity=10):
    create(store, {"space": SPACE.to_dict(), "objectives": LOSS.to_dict()}, SPACE, LOSS, capacity)


@pytest.fixture
def reads(monkeypatch):
    """The arrays of which parts were read, and how many rows each."""
    found, read = [], following._read

    def counted(folder, *arguments):
        result = read(folder, *arguments)
        found.extend((folder.name, len(values)) for _, values in result.parts)
        return result

    monkeypatch.setattr(following, "_read", counted)
    return found


def ask(writer, first, n, **info):
    writer.asked(2 * first, Candidates(np.full((n, 2), 0.5), info, np.arange(first, first + n)), 0)


def end(writer, *ids, **more):
    writer.results([Evaluation(id, Status.DONE, 1, (id / 3,), **PLACES, **more) for id in ids])


def settle(store):
    """Make all files older than the clock's tick, as they are in the long run."""
    past = time.time_ns() - 3_000_000_000
    for path in [store, *store.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # the lease, which is being rewritten
            os.utime(path, ns=(past, past + path.stat().st_ino % 1000))


def test_where_nothing_changed_no_chunk_is_looked_at(store, go_on, monkeypatch):
    writer = Writer(store, SPACE)
    go_on(writer, SPACE.dim, 2)
    settle(store)
    followed = Following(store)
    assert followed.update().first == 0
    monkeypatch.delattr(following, "_read")
    change = followed.update()
    assert (change.version, change.first, change.ids.tolist()) == (1, 6, [])
    writer.close()


def test_only_chunks_that_changed_are_read(store, go_on, reads):
    writer = Writer(store, SPACE)
    go_on(writer, SPACE.dim, 2)
    settle(store)
    followed = Following(store)
    followed.update()
    reads.clear()
    writer.told(100, [])
    end(writer, 2)
    writer.fold()
    change = followed.update()
    assert (change.first, change.ids.tolist()) == (6, [2])
    assert {name for name, _ in reads} == {
        "fitness", "status", "attempt", "submitted", "started", "finished", "worker", "host"
    }  # fmt: skip
    assert_same(followed.trajectory, load(store))
    writer.close()


def test_an_array_that_comes_later_is_read_whole_and_its_rows_have_changed(store):
    writer, followed = Writer(store, SPACE), Following(store)
    ask(writer, 0, 4)
    end(writer, 0, 1)
    writer.fold()
    followed.update()
    end(writer, 2, spread=(0.25,))
    ask(writer, 4, 2, generation=np.array([1, 1]))
    writer.fold()
    change = followed.update()
    assert (change.first, change.ids.tolist()) == (4, [2])
    assert followed.trajectory.record["fitness_sd"][:4, 0].tolist()[2] == 0.25
    assert followed.trajectory.record["generation"].tolist() == [-1] * 4 + [1, 1]
    writer.close()


def test_a_result_that_was_read_before_its_status_is_masked_and_shown_with_it(store):
    writer, followed = Writer(store, SPACE), Following(store)
    ask(writer, 0, 3)
    writer.fold()
    settle(store)
    followed.update()
    end(writer, 1)
    writer.commit(durable=False)
    writer._apply()
    for name in sorted(writer._chunks._dirty[0] - {"status"}):
        writer._chunks._write(0, name)
    past = time.time_ns() - 1_000_000_000
    for path in store.rglob("c/**/*"):
        os.utime(path, ns=(past, past))
    followed.update()
    assert np.isnan(followed.trajectory.record["fitness"][1, 0])
    assert followed.trajectory.record["worker"].tolist() == ["", "", ""]
    writer._chunks._write(0, "status")
    change = followed.update()
    assert change.ids.tolist() == [1]
    assert_same(followed.trajectory, load(store))
    assert followed.trajectory.record["worker"].tolist() == ["", "w", ""]
    writer.abandon()


def test_another_store_in_the_place_of_one_is_read_from_scratch(store, go_on):
    writer, followed = Writer(store, SPACE), Following(store)
    go_on(writer, SPACE.dim, 3)
    writer.close()
    followed.update()
    shutil.rmtree(store)
    new(store)
    writer = Writer(store, SPACE)
    ask(writer, 0, 2)
    writer.close()
    change = followed.update()
    assert (change.version, change.first, change.ids.tolist()) == (2, 0, [])
    assert_same(followed.trajectory, load(store))
    assert len(followed.trajectory) == 2


def test_arrays_that_are_made_anew_are_a_problem_meanwhile_and_then_read(store, go_on, killed):
    writer, followed = Writer(store, SPACE), Following(store)
    go_on(writer, SPACE.dim, 2)
    followed.update()
    killed(writer)
    opening._emptied(Layout(store), SPACE, LOSS, 10, lambda: None)
    with pytest.raises(StoreError, match="are not whole again"):
        followed.update()
    assert len(followed.trajectory) == 6
    Writer(store, SPACE).close()
    followed.update()
    assert_same(followed.trajectory, load(store))


def test_a_store_that_vanishes_is_a_problem_and_is_followed_on_when_it_is_back(store, go_on, tmp_path):
    writer, followed = Writer(store, SPACE), Following(store)
    go_on(writer, SPACE.dim, 2)
    writer.close()
    followed.update()
    shown = followed.trajectory
    os.rename(store, tmp_path / "elsewhere.zarr")
    with pytest.raises(StoreError, match="there is no store at"):
        followed.update()
    assert followed.trajectory is shown
    os.rename(tmp_path / "elsewhere.zarr", store)
    assert followed.update().version == 1
    assert followed.trajectory is shown


@pytest.mark.parametrize("name", ["fitness", "status", "worker"])
def test_a_chunk_that_is_half_written_is_a_problem_in_one_line_until_it_is_whole(store, go_on, name):
    writer, followed = Writer(store, SPACE), Following(store)
    go_on(writer, SPACE.dim, 2)
    followed.update()
    path = min(path for path in (store / name / "c").rglob("*") if path.is_file())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(StoreError, match="is it damaged") as raised:
            followed.update()
        assert "\n" not in str(raised.value)
    path.write_bytes(whole)
    assert followed.update().ids.tolist() == []
    assert_same(followed.trajectory, load(store))
    writer.close()


def test_a_store_of_another_version_is_a_problem_until_it_is_not(store):
    content, followed = read_json(store / "zarr.json"), Following(store)
    content["attributes"]["l2l_dask"]["format"] = 99
    write_json(store / "zarr.json", content)
    with pytest.raises(StoreError, match="has format 99"):
        followed.update()
    with pytest.raises(StoreError, match="has not been read yet"):
        followed.trajectory
    content["attributes"]["l2l_dask"]["format"] = 1
    write_json(store / "zarr.json", content)
    followed.update()
    assert_same(followed.trajectory, load(store))


def test_a_driver_that_was_killed_is_seen_as_interrupted_and_another_as_running(store, go_on, killed):
    writer, followed = Writer(store, SPACE), Following(store)
    writer.set_state("running")
    go_on(writer, SPACE.dim, 1)
    followed.update()
    assert followed.trajectory.state == "running"
    killed(writer)
    assert followed.update().version == 2
    assert followed.trajectory.state == "interrupted"
    writer = Writer(store, SPACE)
    writer.set_state("running")
    followed.update()
    assert followed.trajectory.state == "running"
    writer.close()


def test_columns_that_are_not_wanted_are_not_read(store, go_on, reads):
    writer = Writer(store, SPACE)
    go_on(writer, SPACE.dim, 1)
    writer.close()
    followed = Following(store, without=["x", "submitted"])
    followed.update()
    assert {"x", "submitted"}.isdisjoint(followed.trajectory.record.columns)
    assert {"x", "submitted"}.isdisjoint({name for name, _ in reads})
    assert followed.trajectory.best.id == 0


def test_what_is_followed_cannot_be_written(store, go_on):
    writer = Writer(store, SPACE)
    go_on(writer, SPACE.dim, 1)
    writer.close()
    followed = Following(store)
    followed.update()
    with pytest.raises(ValueError, match="read-only"):
        followed.trajectory.record["fitness"][:] = 0
