"""Trajectories: made whole or not at all, read at any time, and one line where they cannot be."""

import json
import math
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import xarray

from l2l_dask import Categorical, Integer, Objectives, Real, Space, maximize, minimize
from l2l_dask.errors import L2LError, OptimizerError
from l2l_dask.evaluation import Candidates, Evaluation, Status
from l2l_dask.trajectory import Writer, columns, create, load, send
from l2l_dask.trajectory.layout import Layout, read_json, write_json

SPACE = Space({"kind": Categorical(["a", "b"]), "n": Integer(1, 8, when={"kind": "b"}), "w": Real(-1, 1, shape=2)})
LOSS = Objectives(minimize("loss"))


def made(folder, objectives=LOSS, capacity=10, name="store"):
    store = folder / f"{name}.zarr"
    create(store, {"space": SPACE.to_dict(), "objectives": objectives.to_dict()}, SPACE, objectives, capacity)
    return store


def asked(writer, event, first, n, **info):
    x = np.random.default_rng(first).random((n, SPACE.dim))
    writer.asked(event, Candidates(x, info, np.arange(first, first + n)), 0)


def done(id, *fitness):
    return Evaluation(id, Status.DONE, 1, fitness or (float(id),), worker=f"w{id}", started=1.0, finished=2.0)


def filled(store, *fitness):
    """Write individuals with these fitnesses, NaN for a failed one; two more stay pending."""
    writer = Writer(store, SPACE)
    asked(writer, 0, 0, len(fitness) + 2)
    failed = [Evaluation(i, Status.FAILED, 1, error="E: no") for i, f in enumerate(fitness) if math.isnan(f)]
    writer.results(failed + [done(i, f) for i, f in enumerate(fitness) if not math.isnan(f)])
    writer.told(1, range(len(fitness)))
    return writer


def one_line(call, *arguments):
    with pytest.raises(L2LError) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_xarray_opens_a_store_without_warnings_with_labelled_dimensions_running_and_ended(tmp_path):
    store = made(tmp_path)
    writer = filled(store, 3.0, math.nan)
    writer.fold()
    for rows in (10, 4):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            opened = xarray.open_zarr(store).load()
        assert opened.params.dims == ("evaluation", "parameter")
        assert opened.x.dims == ("evaluation", "dimension")
        assert opened.fitness.dims == ("evaluation", "objective")
        assert opened.status.dims == opened.told.dims == ("evaluation",)
        assert opened.parameter.values.tolist() == ["kind", "n", "w[0]", "w[1]"]
        assert opened.fitness.sel(objective="loss").values[:4].tolist() == pytest.approx(
            [3, *[math.nan] * 3], nan_ok=True
        )
        assert opened.params.attrs["choices"] == {"kind": ["a", "b"]}
        assert opened.status.attrs["flag_meanings"].split()[1 + opened.status.values[1]] == "failed"
        assert opened.status.values.tolist() == [1, 2, 0, 0] + [-1] * (rows - 4)
        if rows == 10:
            writer.close()


def test_the_best_are_the_best_by_direction_ties_go_to_the_first_and_failures_never_win(tmp_path):
    filled(made(tmp_path), 2.0, math.nan, 1.0, 1.0, -0.0).close()
    assert [i.id for i in load(tmp_path / "store.zarr").ranking(9)] == [4, 2, 3, 0]
    store = made(tmp_path, Objectives(maximize("gain")), name="max")
    filled(store, 2.0, math.nan, 3.0, 3.0).close()
    best = load(store).ranking(2)
    assert [(i.id, i.fitness, i.status) for i in best] == [(i, {"gain": 3.0}, Status.DONE) for i in (2, 3)]
    assert load(made(tmp_path, name="empty")).best is None


def test_counts_name_every_status(tmp_path):
    filled(made(tmp_path), 2.0, math.nan, 1.0).close()
    assert load(tmp_path / "store.zarr").counts() == {"total": 5, "done": 2, "failed": 1, "pending": 2} | dict.fromkeys(
        ("timed_out", "crashed", "stopped", "cancelled"), 0
    )


def test_an_individual_has_the_parameters_that_are_active_and_a_wrong_number_is_one_line(tmp_path):
    filled(made(tmp_path), 2.0, 1.0).close()
    trajectory = load(tmp_path / "store.zarr")
    for id in range(len(trajectory)):
        params = trajectory.individual(id).params
        assert ("n" in params) == (params["kind"] == "b")
        assert params["w"].tolist() == trajectory.record["params"][id, 2:].tolist()
    for id in (-1, 4):
        assert f"individuals 0 to 3, not {id}" in one_line(trajectory.individual, id)


def test_the_whole_error_is_found_although_a_crash_tore_the_line_before_it(tmp_path):
    store = made(tmp_path)
    writer = Writer(store, SPACE)
    asked(writer, 0, 0, 2)
    with writer.layout.errors.open("a") as file:
        file.write('\n{"id": 0, "attempt": 1, "err')
    writer.results([Evaluation(1, Status.FAILED, 2, error="E: \udcff\nits traceback \udcff")])
    writer.close()
    trajectory = load(store)
    assert trajectory.record["error"][1] == "E: ?"
    assert trajectory.error(1) == "E: \udcff\nits traceback \udcff"
    assert trajectory.error(0) == ""


def test_a_driver_that_was_killed_while_it_added_a_column_is_no_obstacle(tmp_path, monkeypatch):
    store = made(tmp_path)
    writer = Writer(store, SPACE)

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("zarr.consolidate_metadata", killed)
    with pytest.raises(KeyboardInterrupt):
        asked(writer, 0, 0, 1, generation=np.array([7]))
    monkeypatch.undo()
    writer.abandon()
    writer = Writer(store, SPACE)
    asked(writer, 0, 0, 1, generation=np.array([8]))
    writer.close()
    assert load(store).record["generation"].tolist() == [8]


@pytest.mark.parametrize("name", ["status", "x", "objective", "evaluation", "a/b", "", ".l2l", "zarr.json"])
def test_an_optimizer_cannot_name_what_the_store_names(tmp_path, name):
    writer = Writer(made(tmp_path), SPACE)
    assert repr(name) in one_line(lambda: asked(writer, 0, 0, 1, **{name: np.zeros(1)}))
    writer.close()
    assert len(load(tmp_path / "store.zarr")) == 0


def test_what_an_optimizer_names_must_be_numbers_and_keep_its_width(tmp_path):
    writer = Writer(made(tmp_path), SPACE)
    for values in (np.array(["a"]), np.zeros((1, 2, 2)), np.zeros(1, complex)):
        with pytest.raises(OptimizerError, match="expected numbers"):
            asked(writer, 0, 0, 1, a=values)
    asked(writer, 0, 0, 1, a=np.zeros((1, 2)))
    for values in (np.zeros((1, 3)), np.zeros(1)):
        with pytest.raises(OptimizerError, match=r"as many values .* as before, 2"):
            asked(writer, 1, 1, 1, a=values)
    writer.close()


def test_create_refuses_what_exists_and_another_suffix_and_leaves_nothing_if_it_fails(tmp_path):
    store = made(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    assert f"l2l resume {store}" in one_line(made, tmp_path)
    assert "must end in .zarr" in one_line(create, tmp_path / "a.txt", {}, SPACE, LOSS, 1)
    (tmp_path / "file").touch()
    assert "cannot be created" in one_line(made, tmp_path / "file")
    assert sorted(path for path in tmp_path.rglob("*")) == [*before[:0], tmp_path / "file", *before]


def edited(store, **changed):
    content = json.loads((store / "zarr.json").read_text())
    content["attributes"]["l2l_dask"] |= changed
    (store / "zarr.json").write_text(json.dumps(content))


def test_another_version_of_the_format_is_refused_with_what_to_do(tmp_path):
    store = made(tmp_path)
    edited(store, format=99)
    for call in (load, lambda store: Writer(store, SPACE), lambda store: send(store, "stop")):
        assert "has format 99, this version of l2l_dask reads format 1: use the version" in one_line(call, store)


DAMAGE = {
    "empty": lambda s: (s / "zarr.json").write_bytes(b""),
    "torn": lambda s: os.truncate(s / "zarr.json", 100),
    "bytes": lambda s: (s / "zarr.json").write_bytes(b"\xff\xfe"),
    "list": lambda s: (s / "zarr.json").write_text("[]"),
    "attributes": lambda s: (s / "zarr.json").write_text('{"attributes": 3}'),
    "gone": lambda s: (s / "zarr.json").unlink(),
    "foreign": lambda s: (s / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}'),
    "zarr": lambda s: (s / "zarr.json").write_text(
        (s / "zarr.json").read_text().replace('"zarr_format": 3', '"zarr_format": 9')
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_store_is_one_line_for_readers_and_writers_and_is_given_back(tmp_path, damage):
    store = made(tmp_path)
    filled(store, 1.0, 2.0).close()
    shutil.copytree(store, tmp_path / "copy.zarr", ignore=shutil.ignore_patterns(".l2l"))
    DAMAGE[damage](store)
    for call in (load, lambda store: Writer(store, SPACE)):
        assert str(store) in one_line(call, store)
    shutil.copytree(tmp_path / "copy.zarr", store, dirs_exist_ok=True)
    Writer(store, SPACE).close()


def test_a_state_that_a_power_failure_damaged_is_interrupted_and_a_damaged_description_is_one_line(tmp_path):
    store = made(tmp_path)
    Layout(store).state.write_text("")
    assert load(store).state == "interrupted"
    Layout(store).state.unlink()
    assert load(store).state == "queued"
    edited(store, experiment={})
    assert "'space'" in one_line(load, store)


def test_a_folder_that_is_no_store_is_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "none.zarr"):
        assert "there is no store at" in one_line(load, path)


def test_a_driver_that_is_gone_is_seen_as_interrupted(tmp_path):
    store = made(tmp_path)
    writer = Writer(store, SPACE)
    writer.set_state("running")
    assert load(store).state == "running"
    lease = read_json(writer.layout.lease)
    writer.close()
    write_json(writer.layout.lease, lease | {"pid": 2**22 + 1})
    assert load(store).state == "interrupted"
    write_json(writer.layout.lease, lease | {"machine": "elsewhere"})
    assert load(store).state == "running"
    os.utime(writer.layout.lease, (0, time.time() - 3600))
    assert load(store).state == "interrupted"


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from l2l_dask.errors import StoreError
from l2l_dask.evaluation import Candidates, Evaluation, Status
from l2l_dask.space import Space
from l2l_dask.trajectory import Writer, load

store = Path(sys.argv[1])
space = load(store).space
writer = Writer(store, space)
writer.asked(0, Candidates(np.random.default_rng(0).random((500, space.dim)), {}, np.arange(500)), 0)
writer.fold()
size = writer.layout.journal(writer.epoch).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
writer.results([Evaluation(i, Status.DONE, 1, (1.0,)) for i in range(9)])
writer.told(1, range(9))
for step in (lambda: writer.commit(durable=False), writer.fold, writer.close):
    try:
        step()
    except StoreError as error:
        print(error)
"""


def test_what_could_not_be_journalled_is_not_folded_either(tmp_path):
    """Else a disk that is full half-way through a fold would leave a row that was told and has no result."""
    store = made(tmp_path, capacity=500)
    run = subprocess.run([sys.executable, "-c", FULL_DISK, store], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout.splitlines() == 3 * [f"{Layout(store).journal(1)} cannot be written: File too large"]
    writer = Writer(store, SPACE)
    assert len(writer.record.pending) == 500
    assert (writer.record["told"] == -1).all()
    writer.close()


def test_a_reader_who_loads_a_later_chunk_later_sees_the_rows_before_the_first_gap(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "_MIN_ROWS", 4)
    monkeypatch.setattr(columns, "_MAX_ROWS", 4)
    store = made(tmp_path)
    writer = Writer(store, SPACE)
    asked(writer, 0, 0, 3)
    writer.fold()
    early = (store / "status/c/0").read_bytes()
    asked(writer, 1, 3, 4)
    writer.close()
    assert len(load(store)) == 7
    (store / "status/c/0").write_bytes(early)
    assert load(store).counts()["total"] == len(load(store)) == 3


def _write_at_full_speed(store, gate, over):
    """Write rows whose every value follows from their id."""
    writer, rng = Writer(store, SPACE), np.random.default_rng(0)
    event, n, pending, untold = 0, 0, [], []
    gate.set()
    while not over.is_set():
        info = {"twice": 2 * np.arange(n, n + 7)} if n > 100 else {}
        writer.asked(
            event, Candidates(np.repeat(np.arange(n, n + 7)[:, None] / 1e6, 4, axis=1), info, np.arange(n, n + 7)), 0
        )
        pending, n = [*pending, *range(n, n + 7)], n + 7
        ended = rng.permutation(pending)[: len(pending) - 5].tolist()
        writer.results([_of(i) for i in ended])
        pending, untold = sorted(set(pending) - set(ended)), untold + ended
        writer.told(event + 1, sorted(untold[:6]))
        untold, event = untold[6:], event + 2
        writer.commit(durable=False)
        writer.fold()
    writer.close()


def _of(i):
    fitness, error = ((i / 3,), "") if i % 3 else ((), f"E: {i}")
    status = Status.DONE if fitness else Status.FAILED
    places = {"worker": f"w{i}", "host": f"h{i}", "submitted": 1.0, "started": 2.0 + i, "finished": 3.0 + i}
    return Evaluation(i, status, 1 + i % 2, fitness, error=error, **places)


def check_snapshot(t):
    """Check that every row is whole: none, or all, of what follows from its id."""
    record, ids = t.record, np.arange(len(t))
    ended = record["status"] != Status.PENDING
    assert np.array_equal(record["x"][:, 0], ids / 1e6)
    assert np.array_equal(record["asked"] // 2, ids // 7)
    assert np.array_equal(record["status"][ended], np.where(ids % 3, Status.DONE, Status.FAILED)[ended])
    assert np.array_equal(record["fitness"][:, 0], np.where(ended & (ids % 3 > 0), ids / 3, np.nan), equal_nan=True)
    assert np.array_equal(record["finished"], np.where(ended, 3.0 + ids, np.nan), equal_nan=True)
    assert np.array_equal(record["attempt"], np.where(ended, 1 + ids % 2, 0))
    assert (record["told"][~ended] == -1).all()
    assert record["error"].tolist() == [f"E: {i}" if e and not i % 3 else "" for i, e in enumerate(ended)]
    assert [h for h, e in zip(record["host"].tolist(), ended, strict=True) if e] == [f"h{i}" for i in ids[ended]]
    if "twice" in record.columns:
        assert np.array_equal(record["twice"], np.where(ids > 104, 2 * ids, -1))
    return ended


def test_every_load_of_a_store_that_is_written_at_full_speed_is_consistent(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "_MIN_ROWS", 64)
    monkeypatch.setattr(columns, "_MAX_ROWS", 64)
    monkeypatch.setattr("l2l_dask.trajectory.writer._SEGMENT_BYTES", 10_000)
    store = made(tmp_path, capacity=64)
    context = multiprocessing.get_context("fork")
    gate, over = context.Event(), context.Event()
    writer = context.Process(target=_write_at_full_speed, args=(store, gate, over))
    writer.start()
    try:
        assert gate.wait(60)
        lengths, before, until = [0], None, time.monotonic() + 120
        while lengths[-1] <= 200 or len(Layout(store).segments()) < 2 or len(set(lengths)) <= 5:
            assert time.monotonic() < until
            trajectory = load(store)
            ended = check_snapshot(trajectory)
            if before is not None:
                assert len(trajectory) >= len(before[0])
                assert ended[: len(before[1])][before[1]].all(), "a result was taken back"
                was_told = before[0]["told"] >= 0
                now = trajectory.record["told"][: len(was_told)]
                assert np.array_equal(now[was_told], before[0]["told"][was_told]), "a told row changed"
            before = trajectory.record, ended
            lengths.append(len(trajectory))
    finally:
        over.set()
        writer.join(60)
    assert writer.exitcode == 0
    assert len(set(lengths)) > 5, "the reader saw the store grow"
    check_snapshot(load(store))


def test_others_may_read_a_store(tmp_path):
    before = os.umask(0o022)
    try:
        store = made(tmp_path)
        filled(store, 1.0).close()
    finally:
        os.umask(before)
    private = [p for p in store.rglob("*") if not stat.S_IMODE(p.stat().st_mode) & stat.S_IROTH]
    assert private == []
