"""Damage: whatever a power failure or a kill left of the arrays, the journal has every row."""

import json
import logging
import os
import shutil
import time

import numpy as np
import pytest

from l2l_dask import Objectives, Real, Space, minimize
from l2l_dask.errors import LockedError, StoreError
from l2l_dask.evaluation import Candidates
from l2l_dask.trajectory import Writer, columns, create, load, mended, opening, writer
from l2l_dask.trajectory.journal import claim, history, newest, pack, read, whole_bytes
from l2l_dask.trajectory.layout import Layout

SPACE = Space({"a": Real(0, 1), "b": Real(0, 1)})
LOSS = Objectives(minimize("loss"))


def made(store):
    create(store, {"space": SPACE.to_dict(), "objectives": LOSS.to_dict()}, SPACE, LOSS, 10)
    return store


@pytest.fixture(scope="module", autouse=True)
def small():
    """Make chunks of a few rows, and segments of a few records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_MIN_ROWS", 4)
        patch.setattr(columns, "_MAX_ROWS", 4)
        patch.setattr(writer, "_SEGMENT_BYTES", 1500)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, go_on, killed):
    """A store of three epochs with several segments each: one was killed and its last record torn, one closed."""
    store = made(tmp_path_factory.mktemp("whole") / "store.zarr")
    first = Writer(store, SPACE)
    go_on(first, SPACE.dim, 5)
    first.told(99, [2])
    first.commit(durable=False)
    killed(first)
    torn = first._journal.path
    os.truncate(torn, torn.stat().st_size - 3)
    second = Writer(store, SPACE)
    go_on(second, SPACE.dim, 4)
    second.close()
    third = Writer(store, SPACE)
    go_on(third, SPACE.dim, 5)
    killed(third)
    return store


def test_the_store_that_is_damaged_has_several_segments_in_each_epoch(whole, rows_of):
    segments = Layout(whole).segments()
    assert {epoch for epoch, _ in segments} == {1, 2, 3}
    assert all(sum(of == epoch for of, _ in segments) > 1 for epoch in (1, 2, 3))
    assert len(load(whole)) == 42
    assert not any(row["told"] == 99 for row in rows_of(whole))


FILES = [
    *(f"{name}/c/{chunk}" for name in ("status", "told", "error") for chunk in (0, 10)),
    *(f"{name}/c/{chunk}/0" for name in ("x", "parents") for chunk in (0, 10)),
    *("fitness_sd/c/0/0", "fitness_sd/c/5/0", "parameter/c/0", "x/zarr.json", "status/zarr.json", "parents/zarr.json"),
]
DAMAGE = {
    "emptied": lambda path: os.truncate(path, 0),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", FILES)
def test_every_row_comes_back_whatever_became_of_a_file_of_the_arrays(whole, tmp_path, file, damage, rows_of):
    store = tmp_path / "store.zarr"
    shutil.copytree(whole, store)
    DAMAGE[damage](store / file)
    Writer(store, SPACE).close(trim=False)
    np.testing.assert_equal(rows_of(store), rows_of(whole))
    assert not Layout(store).rebuilding.exists()
    Writer(store, SPACE).close()
    np.testing.assert_equal(rows_of(store), rows_of(whole))


def test_all_chunks_that_were_not_synced_may_be_lost_together(whole, tmp_path, rows_of):
    store = tmp_path / "store.zarr"
    shutil.copytree(whole, store)
    lost = [path for path in store.rglob("c/**/*") if path.is_file()]
    assert any("x" in path.parts for path in lost), "those of two dimensions are a folder deeper"
    for path in lost:
        os.truncate(path, 0)
    Writer(store, SPACE).close(trim=False)
    np.testing.assert_equal(rows_of(store), rows_of(whole))


def test_a_reader_says_in_a_line_what_mends_a_damaged_store_and_mended_does_so_with_one_warning(
    whole, tmp_path, caplog
):
    store = tmp_path / "store.zarr"
    shutil.copytree(whole, store)
    os.truncate(store / "x/c/2/0", 5)
    with pytest.raises(StoreError, match=r"is it damaged\? .*; `l2l resume STORE` makes its arrays anew") as caught:
        load(store)
    assert len(str(caught.value).splitlines()) == 1
    with caplog.at_level(logging.WARNING):
        assert len(mended(store)) == 42
    assert [len(record.message.splitlines()) for record in caplog.records] == [1]
    assert "its arrays are made anew from the journal" in caplog.text
    caplog.clear()
    assert len(mended(store)) == 42
    assert not caplog.records


def test_a_store_is_mended_although_the_driver_that_did_so_was_killed(whole, tmp_path, monkeypatch, rows_of):
    store = tmp_path / "store.zarr"
    shutil.copytree(whole, store)
    os.truncate(store / "x/c/2/0", 5)

    def dying(chunks):
        if Layout(store).rebuilding.exists() and (store / "status/c/3").exists():
            raise KeyboardInterrupt
        flush(chunks)

    flush = opening.Chunks.flush
    monkeypatch.setattr(opening.Chunks, "flush", dying)
    with pytest.raises(KeyboardInterrupt):
        Writer(store, SPACE)
    monkeypatch.undo()
    assert Layout(store).rebuilding.exists()
    with pytest.raises(StoreError, match="not whole again; `l2l resume STORE` makes"):
        load(store)
    monkeypatch.setattr(columns, "_MIN_ROWS", 4)
    monkeypatch.setattr(columns, "_MAX_ROWS", 4)
    Writer(store, SPACE).close(trim=False)
    np.testing.assert_equal(rows_of(store), rows_of(whole))


def test_what_a_driver_that_was_replaced_appended_afterwards_is_no_part_of_the_history(
    tmp_path, go_on, killed, rows_of
):
    store = made(tmp_path / "store.zarr")
    sleeping = Writer(store, SPACE)
    go_on(sleeping, SPACE.dim, 1)
    path = sleeping._journal.path
    killed(sleeping)
    taker = Writer(store, SPACE)
    go_on(taker, SPACE.dim, 1)
    taker.close()
    expected = rows_of(store)
    with path.open("ab") as awake:
        awake.write(pack({"kind": "tell", "event": 77, "ids": [0]}))
    assert any(record.get("event") == 77 for record in read(path))
    os.truncate(store / "told/c/0", 0)
    Writer(store, SPACE).close(trim=False)
    np.testing.assert_equal(rows_of(store), expected)


def test_without_its_whole_journal_a_damaged_store_is_left_as_it_is(whole, tmp_path):
    store = tmp_path / "store.zarr"
    shutil.copytree(whole, store)
    os.truncate(store / "x/c/2/0", 5)
    Layout(store).journal(1, 1).unlink()
    before = sorted((path, path.stat().st_size) for path in store.rglob("c/**/*"))
    with pytest.raises(StoreError, match=r"journal-000001-000001.log is not whole"):
        Writer(store, SPACE)
    assert sorted((path, path.stat().st_size) for path in store.rglob("c/**/*")) == before


def test_a_segment_names_the_one_before_it_and_what_must_be_there(whole):
    layout = Layout(whole)
    headers = {at: next(read(layout.journal(*at))) for at in layout.segments()}
    assert headers[1, 0]["before"] is None
    assert headers[1, 0]["rows"] == 0
    assert headers[1, 1]["before"] == [1, 0, layout.journal(1, 0).stat().st_size]
    last = max(segment for epoch, segment in headers if epoch == 1)
    torn = layout.journal(1, last)
    assert headers[2, 0]["before"] == [1, last, whole_bytes(torn)]
    assert whole_bytes(torn) < torn.stat().st_size
    assert headers[2, 0]["rows"] == 15
    assert headers[2, 0]["chunks"]["status"] == headers[2, 0]["chunks"]["x"] == [0, 1, 2, 3]
    assert [path for path, _ in history(layout)] == [layout.journal(*at) for at in sorted(headers)]
    assert newest(layout) == max(headers)


def test_a_segment_that_was_not_started_counts_for_nothing(whole, tmp_path, rows_of):
    store = tmp_path / "store.zarr"
    shutil.copytree(whole, store)
    layout = Layout(store)
    epoch, segment = newest(layout)
    claim(layout.journal(epoch, segment + 1))
    layout.journal(epoch, segment + 1).write_bytes(b"\x01\x02\x03")
    assert newest(layout) == (epoch, segment)
    Writer(store, SPACE).close(trim=False)
    np.testing.assert_equal(rows_of(store), rows_of(whole))


def test_opening_a_store_reads_no_older_segment(whole, tmp_path, rows_of):
    store = tmp_path / "store.zarr"
    shutil.copytree(whole, store)
    layout = Layout(store)
    for at in layout.segments()[:-1]:
        layout.journal(*at).write_bytes(b"")
    Writer(store, SPACE).close(trim=False)
    np.testing.assert_equal(rows_of(store), rows_of(whole))


def test_a_writer_removes_what_a_kill_left_half_written_and_nothing_else(whole, tmp_path):
    store = tmp_path / "store.zarr"
    shutil.copytree(whole, store)
    left = [store / "x/c/0/0.0f.partial", store / f".zarr.json-{'a1' * 16}", store / f".l2l/.state.json-{'b2' * 16}"]
    kept = [store / "saved/000000/0-1-1/trace.partial", store / "report.html"]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    Writer(store, SPACE).close(trim=False)
    assert [path.exists() for path in left] == [False] * 3
    assert all(path.exists() for path in kept)


def test_creating_a_store_removes_what_was_left_of_it_long_ago_alone(tmp_path):
    old, new, other = (tmp_path / name for name in (".a.zarr-0123abcd", ".a.zarr-89abcdef", ".b.zarr-0123abcd"))
    for folder in (old, new, other):
        folder.mkdir()
        (folder / "zarr.json").touch()
    for folder in (old, other):
        os.utime(folder, (0, time.time() - 4000))
    made(tmp_path / "a.zarr")
    assert [folder.exists() for folder in (old, new, other)] == [False, True, True]


def test_a_driver_that_lost_its_store_does_not_rotate_its_journal(tmp_path, go_on):
    store = made(tmp_path / "store.zarr")
    lost = Writer(store, SPACE)
    claim(lost.layout.journal(2))
    before = lost.layout.segments()
    with pytest.raises(LockedError):
        go_on(lost, SPACE.dim, 9)
    assert lost.layout.segments() == before
    lost.abandon()


def test_the_arrays_hold_nothing_that_the_journal_on_the_disk_does_not(tmp_path, monkeypatch):
    writer_ = Writer(made(tmp_path / "store.zarr"), SPACE)
    done, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (done.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    monkeypatch.setattr(writer_._chunks, "flush", lambda: done.append("flush"))
    writer_.asked(0, Candidates(np.zeros((1, 2)), {}, np.arange(1)), 0)
    writer_.commit(durable=False)
    assert done == []
    writer_.fold()
    assert done == [str(writer_._journal.path), "flush"]
    monkeypatch.undo()
    writer_.abandon()


def test_metadata_of_the_store_name_a_checksum_for_every_chunk(whole):
    for path in whole.glob("*/zarr.json"):
        codecs = json.loads(path.read_text())["codecs"]
        assert {"name": "zstd", "configuration": {"level": 0, "checksum": True}} in codecs
