"""Stores as drivers leave them that were killed."""

import numpy as np
import pytest

from l2l_dask.evaluation import Candidates, Evaluation, Status
from l2l_dask.trajectory import load
from l2l_dask.trajectory.layout import read_json, write_json

NOBODY = 2**22 + 1  # Linux gives no process a larger id than 2**22


def _killed(writer):
    """Leave a writer as kill -9 does: its lease is a dead process's, and what was not appended is gone."""
    writer._lease._over.set()
    writer._lease._thread.join()
    writer._journal.close()
    write_json(writer.layout.lease, read_json(writer.layout.lease) | {"pid": NOBODY})


def _suspended(writer):
    """Leave a writer as a machine that is frozen: its lease is another's for the taking, and it may come back."""
    writer._lease._over.set()
    writer._lease._thread.join()
    write_json(writer.layout.lease, read_json(writer.layout.lease) | {"released": True})


def _as_rows(trajectory):
    """Return a trajectory's rows as plain dicts, but for ``params``, which may be NaN."""
    listed = {name: values.tolist() for name, values in trajectory.record.columns.items() if name != "params"}
    return [{name: values[i] for name, values in listed.items()} for i in range(len(trajectory))]


def _go_on(writer, dim, rounds):
    """Ask for three, let some end in different ways, and tell of them; again and again, each round in a fold."""
    record = writer.record
    first, event = len(record), record.n_events
    for _ in range(rounds):
        ids = np.arange(first, first + 3)
        x = np.random.default_rng(first).random((3, dim))
        info = {"generation": ids // 3, "parents": np.stack([ids - 1, ids - 2], axis=1)}
        writer.asked(event, Candidates(x, info, ids), 0)
        places = {"worker": "w", "host": "h", "submitted": 0.5, "started": 1.0, "finished": 2.0}
        done = Evaluation(first, Status.DONE, 1, (first / 3,), spread=(0.25,), saved=("trace",), **places)
        failed = Evaluation(first + 1, Status.FAILED, 2, error=f"E: {first}\nmore", **places)
        writer.results([done, failed])
        writer.told(event + 1, [first, first + 1])
        writer.commit(durable=False)
        writer.fold()
        first, event = first + 3, event + 2


@pytest.fixture(scope="session")
def killed():
    return _killed


@pytest.fixture(scope="session")
def suspended():
    return _suspended


@pytest.fixture(scope="session")
def go_on():
    return _go_on


@pytest.fixture(scope="session")
def rows_of():
    return lambda store: _as_rows(load(store))
