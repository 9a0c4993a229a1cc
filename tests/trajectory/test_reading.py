"""What others find in a store: readers while arrays are made anew, tables, commands, and saved arrays."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from l2l_dask import Objectives, Optimizer, Real, Space, minimize
from l2l_dask.errors import StoreError
from l2l_dask.evaluation import Candidates, Evaluation, Status
from l2l_dask.replay import replay
from l2l_dask.saving import save_arrays, saved_folder
from l2l_dask.trajectory import Record, Writer, create, load, opening, reader, send
from l2l_dask.trajectory.layout import Layout, sent

SPACE = Space({"a": Real(0, 1), "b": Real(0, 1)})
LOSS = Objectives(minimize("loss"))


@pytest.fixture
def store(tmp_path):
    store = tmp_path / "store.zarr"
    create(store, {"space": SPACE.to_dict(), "objectives": LOSS.to_dict()}, SPACE, LOSS, 10)
    return store


@pytest.fixture
def synced(monkeypatch):
    """The files and folders that are brought to the disk."""
    done, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (done.append(Path(os.readlink(f"/proc/self/fd/{file}"))), fsync(file))
    )
    return done


def ask(writer, n=3, **info):
    writer.asked(0, Candidates(np.full((n, 2), 0.5), info, np.arange(n)), 0)


@pytest.fixture
def overtaken(store, go_on, killed, monkeypatch):
    """Let something happen to a damaged store just after a reader has loaded the status."""
    writer = Writer(store, SPACE)
    go_on(writer, SPACE.dim, 1)
    killed(writer)
    os.truncate(store / "error/c/0", 0)

    def overtake(act):
        def between(status):
            monkeypatch.setattr(reader, "rows_in_use", rows_in_use)
            act()
            return rows_in_use(status)

        rows_in_use = reader.rows_in_use
        monkeypatch.setattr(reader, "rows_in_use", between)

    return overtake


def test_a_reader_that_began_before_the_arrays_were_made_anew_says_so(store, overtaken):
    overtaken(lambda: opening._emptied(Layout(store), SPACE, LOSS, 10, lambda: None))
    with pytest.raises(StoreError, match="are not whole again"):
        load(store)


def test_a_reader_that_was_overtaken_by_a_driver_that_made_the_arrays_anew_reads_them_again(
    store, overtaken, monkeypatch
):
    def mended(columns):
        monkeypatch.setattr(reader, "Record", Record)
        Writer(store, SPACE).close(trim=False)
        return Record(columns)

    overtaken(lambda: opening._emptied(Layout(store), SPACE, LOSS, 10, lambda: None))
    monkeypatch.setattr(reader, "Record", mended)
    record = load(store).record
    assert record["status"].tolist() == [1, 2, 0]
    assert record["fitness"][0] == 0.0
    assert not np.isnan(record["x"]).any()


def test_nothing_of_a_result_is_seen_before_its_status(store):
    writer = Writer(store, SPACE)
    ask(writer)
    writer.fold()
    writer.results(
        [Evaluation(0, Status.DONE, 1, (0.5,), worker="w", host="h", submitted=0.5, started=1.0, finished=2.0)]
    )
    writer.commit(durable=False)
    writer._apply()
    for name in sorted(writer._chunks._dirty[0] - {"status"}):
        writer._chunks._write(0, name)
    seen = load(store).to_dataframe().iloc[0]
    assert (seen["status"], seen["worker"], seen["host"]) == ("pending", "", "")
    assert np.isnan(seen["loss"])
    writer.abandon()


def test_without_the_file_of_errors_an_error_is_its_first_line(store):
    writer = Writer(store, SPACE)
    ask(writer)
    writer.results([Evaluation(0, Status.FAILED, 1, error="E: no\nand why")])
    writer.close()
    assert load(store).error(0) == "E: no\nand why"
    Layout(store).errors.unlink()
    assert load(store).error(0) == "E: no"


def test_a_note_that_is_called_as_the_spread_of_an_objective_is_a_column_of_its_own(store):
    writer = Writer(store, SPACE)
    ask(writer, loss_sd=np.array([7, 8, 9]))
    writer.results([Evaluation(i, Status.DONE, 1, (0.5,), spread=(0.25,)) for i in range(3)])
    writer.close()
    table = load(store).to_dataframe()
    assert table["loss_sd"].tolist() == [0.25] * 3
    assert table["record.loss_sd"].tolist() == [7, 8, 9]


@pytest.mark.parametrize("line", ["stop", "", "{}", "[1]", '{"command": "halt"}', '{"command": ["stop"]}', "\xff"])
def test_a_line_that_is_no_command_is_skipped_with_one_warning_and_the_others_are_obeyed_once(store, line, caplog):
    layout = Layout(store)
    send(store, "pause")
    with layout.control.open("a", encoding="latin-1") as file:
        file.write(line + "\n")
    send(store, "unpause")
    assert sent(layout, 0) == ["pause", "unpause"]
    assert sent(layout, 2) == []
    send(store, "stop")
    assert sent(layout, 2) == ["stop"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{layout.control}: expected one of stop, stop-now, pause, unpause" in caplog.text


@pytest.mark.parametrize(("seconds", "durable"), [(0.5, False), (3600.0, True)])
def test_what_a_long_evaluation_saved_is_on_the_disk_with_all_names_that_lead_to_it(store, synced, seconds, durable):
    writer = Writer(store, SPACE)
    synced.clear()
    arrays = {"trace": np.zeros(3)}
    writer.keep(Evaluation(0, Status.DONE, 1, (1.0,), saved=("trace",), arrays=arrays, started=0.0, finished=seconds))
    folder = store / saved_folder(0, 1, 1)
    assert synced == ([folder / "trace.npy", folder, folder.parent, store / "saved", store] if durable else [])
    writer.abandon()


class Needing(Optimizer):
    """Needs a saved array."""

    needs = ("trace",)

    def _ask(self, n):
        return Candidates(np.full((n, 2), 0.5))

    def _tell(self, evaluations):
        pass


def test_a_saved_array_that_is_damaged_is_named_when_a_search_is_resumed(store):
    writer = Writer(store, SPACE)
    ask(writer, 1)
    writer.results([Evaluation(0, Status.DONE, 1, (1.0,), saved=("trace",))])
    save_arrays(store / saved_folder(0, 1, 1), {"trace": np.zeros(300)})
    writer.told(1, [0])
    writer.close()
    path = store / saved_folder(0, 1, 1) / "trace.npy"
    replay(Needing(SPACE, LOSS, seed=1), load(store).record, store)
    for left in (0, 20, 200):
        os.truncate(path, left)
        with pytest.raises(StoreError, match=f"{path} cannot be read"):
            replay(Needing(SPACE, LOSS, seed=1), load(store).record, store)


def test_a_process_that_read_a_store_ends_without_a_word_however_busy_the_machine_is(store):
    code = f"""
import time
from pathlib import Path
from l2l_dask.trajectory import load
from zarr.core import sync
load(Path({str(store)!r}))
sync.loop[0].call_soon_threadsafe(time.sleep, 0.6)  # zarr waits 0.2 s for its thread, and then complains
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
