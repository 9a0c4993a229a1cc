"""A clock that is set by hours, forth and back, in the driver, its workers and the processes that evaluate."""

import os

import numpy as np
import pytest

from l2l_dask import load

# Imported by every Python that finds it: the time of day jumps four times a second, the same in all processes.
JUMPING = """
import time

_true, _true_ns = time.time, time.time_ns

def _set():
    return (0, 3 * 3600, -5 * 3600, 40, -86400)[int(time.monotonic() * 4) % 5]

time.time = lambda: _true() + _set()
time.time_ns = lambda: _true_ns() + _set() * 10**9
"""
MODEL = """
import os, time

def fitness(params, context):
    began, earlier = time.monotonic(), time.time()
    jumped = 0
    while time.monotonic() < began + 0.3:
        time.sleep(0.01)
        jumped += abs(time.time() - earlier) > 30
        earlier = time.time()
    if context.id == 3 and context.attempt == 1:
        os.abort()
    if context.id == 5:
        time.sleep(3600)
    return jumped
"""
MORE = "timeout = 10\nretries = 1\nretry_on = ['crashed']\n[cluster]\nprofile = 'local'\nworkers = 2\n"


@pytest.fixture
def jumping(write):
    """The environment in which the clock jumps."""
    write({"sitecustomize.py": JUMPING}, "clock")
    paths = [str(write({}, "clock")), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def test_time_outs_retries_durations_the_lease_and_the_progress_do_not_heed_it(
    jumping, write, experiment_file, call, tmp_path
):
    folder = write({"model.py": MODEL, "e.toml": experiment_file(evaluations=16, more=MORE)})
    done = call("l2l", "run", "e.toml", "--no-report", env=jumping)
    assert done.returncode == 0, done.stderr
    ended = load(folder / "a.zarr")
    assert ended.state == "finished"
    assert {name: n for name, n in ended.counts().items() if n} == {"done": 15, "timed_out": 1, "total": 16}
    assert ended.record["status"][5] == 3
    assert ended.record["attempt"].tolist() == [1] * 3 + [2] + [1] * 12
    took = ended.record["finished"] - ended.record["started"]
    evaluated = np.arange(16) != 5
    assert (took[evaluated] >= 0.3).all()
    assert (took[evaluated] < 300).all()
    assert 10 <= took[5] < 300
    assert ended.record["fitness"][evaluated].max() >= 1, "the clock did jump while they were evaluated"
    assert len({round(day / 3600) for day in ended.record["started"].tolist()}) > 1
    assert not [word for line in done.stderr.splitlines() for word in line.split() if word.startswith("-")]
    assert call("l2l", "resume", "a.zarr", "--evaluations", 18, "--no-report", env=jumping).returncode == 0
    assert len(load(folder / "a.zarr")) == 18
