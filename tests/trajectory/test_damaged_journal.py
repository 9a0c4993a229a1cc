"""A journal that is damaged, or cannot be read or written: nothing is lost that is there, and nothing in silence."""

import errno
import json
import os

import numpy as np
import pytest
import zarr

from l2l_dask import Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError, StoreError
from l2l_dask.evaluation import Candidates, Evaluation, Status
from l2l_dask.trajectory import Writer, chunks, columns, create, load, opening
from l2l_dask.trajectory.files import Files
from l2l_dask.trajectory.journal import Journal, goes_on, pack, read
from l2l_dask.trajectory.layout import Layout

SPACE = Space({"a": Real(0, 1), "b": Real(0, 1)})
LOSS = Objectives(minimize("loss"))


def made(store, capacity=10):
    create(store, {"space": SPACE.to_dict(), "objectives": LOSS.to_dict()}, SPACE, LOSS, capacity)
    return store


@pytest.fixture
def left(tmp_path, go_on, killed):
    """A store with nine rows, whose driver was killed."""
    store = made(tmp_path / "store.zarr")
    writer = Writer(store, SPACE)
    go_on(writer, SPACE.dim, 3)
    killed(writer)
    return store


def files_of(store):
    return {path: path.read_bytes() for path in store.rglob("*") if path.is_file() and ".l2l" not in path.parts}


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def one_line(call, *arguments):
    with pytest.raises(StoreError) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_flipped_bit_in_the_newest_segment_takes_no_row_back_and_is_one_warning(left, rows_of, caplog):
    before, path = rows_of(left), Layout(left).journal(1)
    flip(path, path.stat().st_size // 2)
    writer = Writer(left, SPACE)
    writer.close(trim=False)
    np.testing.assert_equal(rows_of(left), before)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{path} is damaged after" in caplog.text


def test_a_flipped_bit_in_the_last_record_of_what_the_arrays_hold_is_a_warning(left, rows_of, caplog):
    before, path = rows_of(left), Layout(left).journal(1)
    flip(path, path.stat().st_size - 2)
    Writer(left, SPACE).close(trim=False)
    np.testing.assert_equal(rows_of(left), before)
    assert f"{path} is damaged after" in caplog.text


def test_a_torn_record_or_one_that_was_appended_late_is_no_damage(tmp_path):
    path, whole = tmp_path / "journal.log", [pack({"kind": "tell", "event": i, "ids": [i]}) for i in range(4)]
    path.write_bytes(whole[0] + whole[1][:-3])
    assert not goes_on(path, len(whole[0]))
    path.write_bytes(b"".join(whole))
    assert not goes_on(path, len(whole[0]))
    flip(path, len(whole[0]) + 2)
    assert goes_on(path, len(whole[0])), "also where the flipped bit is of the length"


def test_arrays_that_the_journal_cannot_make_anew_are_left_as_they_are(left, go_on, killed):
    path = Layout(left).journal(1)
    flip(path, path.stat().st_size // 2)
    writer = Writer(left, SPACE)
    go_on(writer, SPACE.dim, 1)
    killed(writer)
    os.truncate(left / "x/c/0/0", 0)
    before = files_of(left)
    assert "its journal cannot make its arrays anew" in one_line(Writer, left, SPACE)
    assert files_of(left) == before
    assert not Layout(left).rebuilding.exists()


def test_arrays_that_hold_more_than_a_damaged_journal_are_left_as_they_are(left):
    path = Layout(left).journal(1)
    flip(path, path.stat().st_size // 2)
    os.truncate(left / "x/c/0/0", 0)
    before = files_of(left)
    assert "it says less than can still be read of them" in one_line(Writer, left, SPACE)
    assert files_of(left) == before


def test_a_journal_that_lacks_rows_makes_no_arrays(left):
    path = Layout(left).journal(1)
    records = [record for record in read(path) if record.get("first") != 3]
    path.write_bytes(b"".join(map(pack, records)))
    for file in ("x/c/0/0", "status/c/0", "asked/c/0", "told/c/0"):
        os.truncate(left / file, 0)
    before = files_of(left)
    assert "does not say how row 3 was asked for" in one_line(Writer, left, SPACE)
    assert files_of(left) == before


def test_a_journal_that_could_not_be_cut_takes_no_more_and_the_arrays_hold_no_more(tmp_path, monkeypatch):
    store = made(tmp_path / "store.zarr")
    writer = Writer(store, SPACE)
    writer.asked(0, Candidates(np.zeros((3, 2)), {}, np.arange(3)), 0)
    writer.fold()
    writer.results([Evaluation(i, Status.DONE, 1, (1.0,)) for i in range(3)])

    def torn(file, data):
        monkeypatch.setattr(os, "write", refused)
        return write(file, data[:20])

    def refused(*_):
        raise OSError(errno.EIO, "Input/output error")

    write = os.write
    monkeypatch.setattr(os, "write", torn)
    monkeypatch.setattr(os, "ftruncate", refused)
    one_line(lambda: writer.commit(durable=False))
    monkeypatch.undo()
    for step in (lambda: writer.commit(durable=False), writer.fold, writer.close):
        assert one_line(step) == f"{writer.layout.journal(1)} cannot be written: Input/output error"
    assert load(store).counts()["pending"] == 3
    again = Writer(store, SPACE)
    assert len(again.record.pending) == 3
    again.close()


def test_after_a_sync_that_failed_a_journal_takes_no_more(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal.log")
    journal.add({"kind": "tell"})

    def refused(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refused)
    one_line(lambda: journal.append(durable=True))
    monkeypatch.undo()
    one_line(lambda: journal.append(durable=True))
    assert list(read(journal.path)) == []
    journal.close()


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "ESTALE", "ETIMEDOUT"])
def test_a_disk_that_is_full_or_away_is_no_damage(left, monkeypatch, error):
    def refused(*_, **__):
        raise OSError(getattr(errno, error), "refused")

    before = files_of(left)
    with monkeypatch.context() as patch:
        patch.setattr(chunks, "described", refused)
        assert one_line(Writer, left, SPACE).endswith("refused")
    with monkeypatch.context() as patch:
        patch.setattr(columns.zarr, "open_group", refused)
        for call in (lambda: Writer(left, SPACE), lambda: load(left)):
            assert "damaged" not in one_line(call)
    assert files_of(left) == before


@pytest.mark.parametrize("at", ["newest", "whole_bytes", "read", "files.clean", "files.sync_store"])
def test_a_journal_that_cannot_be_read_is_one_line(left, monkeypatch, at):
    def refused(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(f"{opening.__name__}.{at}", refused)
    assert one_line(Writer, left, SPACE).endswith("Input/output error")


def test_a_full_disk_while_arrays_are_made_anew_is_one_line_and_mended_later(left, monkeypatch, rows_of):
    before = rows_of(left)
    os.truncate(left / "x/c/0/0", 0)

    async def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Files, "set", full)
        assert one_line(Writer, left, SPACE) == f"{left} cannot be written: No space left on device"
    Writer(left, SPACE).close(trim=False)
    np.testing.assert_equal(rows_of(left), before)


@pytest.mark.parametrize("capacity", [9, 30])
@pytest.mark.parametrize("at", [0, 3, 99])
def test_a_driver_that_was_killed_while_it_resized_leaves_no_trace(left, monkeypatch, killed, rows_of, capacity, at):
    before = rows_of(left)
    writer = Writer(left, SPACE)

    def dying(array, shape):
        resized.append(array)
        if len(resized) > at:
            raise KeyboardInterrupt
        resize(array, shape)

    def died(*_):
        raise KeyboardInterrupt

    resized, resize = [], zarr.Array.resize
    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "resize", dying)
        patch.setattr(chunks.zarr, "consolidate_metadata", died)
        with pytest.raises(KeyboardInterrupt):
            writer._chunks.resize(capacity)
    killed(writer)
    Writer(left, SPACE).close(trim=False)
    own = {
        json.loads(path.read_text())["shape"][0] for path in left.glob("*/zarr.json") if path.parent.name != "parameter"
    }
    listed = zarr.open_group(left, mode="r", use_consolidated=True)
    told = {array.shape[0] for name, array in listed.arrays() if name not in columns.LABELS}
    assert own - {1} == told
    assert len(told) == 1
    np.testing.assert_equal(rows_of(left), before)


def test_what_was_noted_as_integers_is_not_cut_to_them_later(tmp_path):
    writer = Writer(made(tmp_path / "store.zarr"), SPACE)
    writer.asked(0, Candidates(np.zeros((1, 2)), {"step": np.array([1])}, np.arange(1)), 0)
    expected = "info 'step': expected integers as before, got float64; note floats from the start"
    with pytest.raises(OptimizerError, match=expected):
        writer.asked(1, Candidates(np.zeros((1, 2)), {"step": np.array([0.5])}, np.arange(1, 2)), 0)
    writer.asked(1, Candidates(np.zeros((1, 2)), {"rate": np.array([0.5])}, np.arange(1, 2)), 0)
    writer.asked(2, Candidates(np.zeros((1, 2)), {"rate": np.array([2])}, np.arange(2, 3)), 0)
    writer.close()
    record = load(tmp_path / "store.zarr").record
    np.testing.assert_equal(record["rate"], [np.nan, 0.5, 2.0])
    assert record["step"].tolist() == [1, -1, -1]
