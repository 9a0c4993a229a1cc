"""An experiment that the tests of the commands run, and steer by files in its folder."""

import json
import os

import pytest

from l2l_dask.trajectory import load

MODEL = """
import os, time

def fitness(params, context):
    with open("begun", "a") as file:
        file.write(f"{context.id}\\n")
    if os.path.exists("broken") and context.id % 2:
        raise ValueError("odd")
    seconds = float(open("seconds").read())
    if seconds > 100:
        open(f"long-{context.id}", "w").close()
    time.sleep(seconds)
    context.report(1, params["x"])
    return {"error": params["x"], "score": context.id}
"""

EXPERIMENT = """
[optimizee]
name = "model.py:fitness"
[space]
x = {low = 0.0, high = 1.0}
kind = {choices = ["a", "b"]}
[objectives]
error = "minimize"
score = "maximize"
[optimizer]
name = "random"
[run]
evaluations = 12
seed = 1
store = "runs/a.zarr"
[cluster]
profile = "serial"
"""

ENDLESS = ("--evaluations", 100_000, "--no-report")


# The objective `error` has the name of a column of the record, `score` is the individual's number.
@pytest.fixture
def home(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    _set_seconds(tmp_path, 0)
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    return tmp_path


@pytest.fixture
def store(home):
    return home / "runs" / "a.zarr"


@pytest.fixture
def finished(home, store, l2l):
    done = l2l("run", "e.toml", "--json", "--no-report")
    assert done.returncode == 0, done.stderr
    return store


@pytest.fixture
def start(home, store, l2l, wait_until):
    """Start an endless experiment, and wait until it is under way."""

    def start(*options, seconds=0.02, enough=5, **popen):
        _set_seconds(home, seconds)
        process = l2l.start("run", "e.toml", *ENDLESS, *options, **popen)
        wait_until(lambda: process.poll() is not None or _n_done(store) >= enough)
        assert process.poll() is None, process.communicate()
        return process

    return start


def _set_seconds(home, seconds):
    (home / "new-seconds").write_text(str(seconds))
    os.replace(home / "new-seconds", home / "seconds")


def _n_done(store):
    return load(store).counts()["done"] if store.exists() else 0


def _only_json(done):
    assert done.stdout.endswith("\n")
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


@pytest.fixture
def set_seconds(home):
    """Say how long an evaluation takes from now on."""
    return lambda seconds: _set_seconds(home, seconds)


@pytest.fixture
def n_done():
    """Count what a store holds."""
    return _n_done


@pytest.fixture
def only_json():
    """Parse standard output, which must be one JSON object on one line."""
    return _only_json
