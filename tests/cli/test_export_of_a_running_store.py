"""What another process reads of a store while its driver writes as fast as it can: whole rows, all up to a point."""

import itertools
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from l2l_dask.cli.commands import cli
from l2l_dask.trajectory import load

SECONDS = 5.0
PATIENCE = 60.0  # more seconds, until all have seen the store grow
MODEL = """
def fitness(params, context):
    if params["b"] > 1.9:
        raise ValueError(f"b is {params['b']!r}")
    return params["a"] - params["b"] + params["n"] + 0.1 * len(params["kind"])
"""
CONFIG = """
[optimizee]
name = "model.py:fitness"
[space]
a = {low = 0.0, high = 1.0}
b = {low = 0.0, high = 2.0}
n = {low = 0, high = 7, type = "integer"}
kind = {choices = ["lif", "adex"]}
[objectives]
loss = "minimize"
[optimizer]
name = "steady-state-ga"
options = {pop_size = 12}
[run]
evaluations = 1
seed = 1
max_failures_in_a_row = 0
store = "run.zarr"
[cluster]
profile = "serial"
"""
# A driver that writes its arrays after every few evaluations, in many small chunks.
HASTY = """
from l2l_dask import cli, driver
from l2l_dask.trajectory import columns, writer
driver._FOLD, writer._SHARE = 0.002, 1
columns._MIN_ROWS = columns._MAX_ROWS = 64
cli.main()
"""
PENDING, DONE, FAILED = range(3)
LABELS = {"pending": PENDING, "done": DONE, "failed": FAILED}


def of_table(table):
    """Turn what was exported as a table into columns by name."""
    assert table["id"].tolist() == list(range(len(table)))
    columns = {name: table[name].to_numpy() for name in ("a", "b", "n", "loss", "asked", "told", "attempt", "finished")}
    kind, error = table["kind"].tolist(), ["" if pd.isna(text) else text for text in table["error"]]
    return columns | {"status": table["status"].map(LABELS).to_numpy(), "kind": kind, "error": error}


def of_dataset(dataset):
    """Turn rows of a store, or of what was exported as NetCDF, into columns by name."""
    kinds, params = ["lif", "adex"], dataset.params
    columns = {name: params.sel(parameter=name).values for name in ("a", "b", "n")}
    columns |= {name: dataset[name].values for name in ("status", "asked", "told", "attempt", "finished")}
    kind = [kinds[int(code)] for code in params.sel(parameter="kind").values]
    return columns | {"loss": dataset.fitness.sel(objective="loss").values, "kind": kind} | {"error": _text(dataset)}


def _text(dataset):
    return dataset.error.values.astype(object).tolist()


def read(out):
    if out.suffix == ".csv":
        return of_table(pd.read_csv(out, converters=dict.fromkeys(("a", "b", "loss", "finished"), _real)))
    if out.suffix == ".parquet":
        return of_table(pd.read_parquet(out).reset_index())
    with xr.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset.evaluation.values.tolist() == list(range(dataset.sizes["evaluation"]))
        return of_dataset(dataset.load())


def _real(text):
    return float(text or "nan")


def read_with_xarray(store):
    """Read the rows in use as docs/trajectory-format.md says: of pending ones only the parameters count."""
    opened = xr.open_zarr(store)
    status = opened.status.load()
    unused = np.flatnonzero(status == -1)
    n = unused[0] if len(unused) else len(status)
    rows = of_dataset(opened.isel(evaluation=slice(n)).drop_vars("status").load().assign(status=status[:n]))
    pending = rows["status"] == PENDING
    for name, nothing in {"loss": np.nan, "told": -1, "attempt": 0, "finished": np.nan}.items():
        rows[name] = np.where(pending, nothing, rows[name])
    rows["error"] = ["" if waits else text for waits, text in zip(pending, rows["error"], strict=True)]
    return rows


def check(rows):
    """Check that each row is whole: all of it follows from its parameters and its status."""
    status, b = rows["status"], rows["b"].tolist()
    pending, done, failed = (status == code for code in (PENDING, DONE, FAILED))
    assert (pending | done | failed).all()
    assert (failed == ~pending & (rows["b"] > 1.9)).all()
    loss = rows["a"] - rows["b"] + rows["n"] + 0.1 * np.array([len(kind) for kind in rows["kind"]])
    assert np.array_equal(rows["loss"], np.where(done, loss, np.nan), equal_nan=True)
    assert np.isfinite(rows["loss"][done].astype(float)).all()
    assert rows["error"] == [f"ValueError: b is {b[i]!r}" if fails else "" for i, fails in enumerate(failed)]
    assert (rows["asked"] >= 0).all()
    assert (np.diff(rows["asked"]) >= 0).all(), "ids are in the order of asking"
    # One worker: a result is told before anything else happens, and the next is asked for after that.
    assert np.array_equal(rows["told"] > rows["asked"], ~pending)
    assert np.array_equal(rows["told"] == -1, pending)
    assert np.array_equal(rows["attempt"], np.where(pending, 0, 1))
    assert np.array_equal(np.isfinite(rows["finished"]), ~pending)
    assert pending.sum() <= 2
    return len(status)


def check_that_nothing_was_taken_back(rows, later):
    told = rows["status"] != PENDING
    for name, values in rows.items():
        before, after = np.asarray(values)[told], np.asarray(later[name])[: len(told)][told]
        assert before.tolist() == after.tolist() or np.array_equal(before, after, equal_nan=True), name


@pytest.fixture(params=["as it is", "hasty"])
def running(request, tmp_path, wait_until):
    """Start an experiment, as it is or with a driver that writes without end, and return its process."""
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "run.toml").write_text(CONFIG)
    program, budget = (["-c", HASTY], "15000") if request.param == "hasty" else (["-m", "l2l_dask"], "100000")
    command = [sys.executable, *program, "run", "run.toml", "--no-report", "--evaluations", budget]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=_heeding)
    store = tmp_path / "run.zarr"
    try:
        wait_until(lambda: process.poll() is not None or (store.exists() and len(load(store))))
        yield process
    finally:
        process.kill()
        process.communicate()


def _heeding():
    """A shell may have told its background jobs to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_every_export_of_a_running_store_is_consistent(running, tmp_path, l2l):
    store, lengths = tmp_path / "run.zarr", {}
    outs = [tmp_path / f"out{suffix}" for suffix in (".csv", ".parquet", ".nc")]
    assert l2l("export", store, outs[0]).returncode == 0, "the command itself"
    before, until = read(outs[0]), time.monotonic() + SECONDS
    check(before)
    for number in itertools.count():
        late = time.monotonic() - until
        if number >= 4 * 3 and late > 0 and (late > PATIENCE or all(seen[-1] > seen[0] for seen in lengths.values())):
            break
        out = [*outs, None][number % 4]
        if out:
            cli.main(["export", str(store), str(out)], standalone_mode=False)
        rows = read(out) if out else read_with_xarray(store)
        lengths.setdefault(out, []).append(check(rows))
        check_that_nothing_was_taken_back(before, rows)
        before = rows
    assert running.poll() is None, running.communicate()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    for out, seen in lengths.items():
        assert seen[-1] > seen[0] > 0, f"{out} did not grow"
    cli.main(["export", str(store), str(outs[0])], standalone_mode=False)
    ended = read(outs[0])
    assert check(ended) >= max(max(seen) for seen in lengths.values())
    check_that_nothing_was_taken_back(before, ended)
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {"model.py", "run.toml", "run.zarr", *(out.name for out in outs)}
    assert not list(store.rglob("*.partial"))
