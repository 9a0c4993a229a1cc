"""Following a store of a million rows costs what is new, not what is there."""

import time

import numpy as np
import pytest

from l2l_dask.evaluation import Candidates, Evaluation, Status
from l2l_dask.trajectory import Following, Writer, load

from ..dashboard.stores import make  # noqa: TID252  the same stores, of any size

PLACES = {"worker": "worker-001", "host": "node1", "submitted": 0.5, "started": 1.0, "finished": 2.0}


@pytest.mark.slow
def test_a_thousand_new_rows_after_a_million_are_shown_in_a_tenth_of_a_second(tmp_path):
    store = make(tmp_path / "store.zarr", 1_000_000)
    followed = Following(store)
    followed.update()
    writer = Writer(store, followed.trajectory.space)
    writer.reserve(1_100_000)
    n, took, nothing = 1_000_000, [], []
    for _ in range(6):
        ids, x = np.arange(n, n + 1000), np.random.default_rng(n).random((1000, 4))
        writer.asked(10 * n, Candidates(x, {}, ids), 0)
        writer.results([Evaluation(id, Status.DONE, 1, (id / 3,), **PLACES) for id in ids.tolist()])
        writer.told(10 * n + 1, ids.tolist())
        writer.fold()
        time.sleep(0.1)
        took.append(_seconds(followed.update))
        nothing.append(_seconds(followed.update))
        n += 1000
        assert len(followed.trajectory) == n
    print(f"{1000 * min(took):.0f} ms, {1000 * min(nothing):.1f} ms where nothing changed")
    for name, values in load(store).record.columns.items():
        np.testing.assert_array_equal(followed.trajectory.record[name], values, err_msg=name)
    writer.close()
    assert min(took) < 0.1
    assert min(nothing) < 0.02


def _seconds(function):
    began = time.process_time()
    function()
    return time.process_time() - began
