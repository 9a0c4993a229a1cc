"""What the tests under fire share: a process in whose forks files fail, and what must come again to the bit."""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from l2l_dask.trajectory import load

NOT_REPEATED = {"submitted", "started", "finished", "worker", "host", "attempt", "saved"}
KNOWN_AT_THE_END = {"status", "fitness", "error", "error text", "saved in", "arrays"}
MODEL = """
from optimizers.random_search import RandomSearch
from optimizers.steady_state_ga import SteadyStateGA


def note(what, ids):
    with open("notes", "a") as file:
        file.writelines(f"{what} {id}\\n" for id in ids)


def fitness(params, context):
    note("evaluated", [context.id])
    if context.id % 3 == 0:
        context.save("noise", context.rng.random(3))
    if context.id % 5 == 3:
        raise ValueError("an unlucky number")
    return (params["a"] - 0.3) ** 2 + params["b"] * context.rng.random()


class Random(RandomSearch):
    def _tell(self, evaluations):
        note("told", evaluations.ids)
        super()._tell(evaluations)


class Genetic(SteadyStateGA):
    def _tell(self, evaluations):
        note("told", evaluations.ids)
        super()._tell(evaluations)
"""
CONFIG = """
[optimizee]
name = "model.py:fitness"
[space]
a = {{low = 0.0, high = 1.0}}
b = {{low = 0.1, high = 10.0, log = true}}
[objectives]
loss = "minimize"
[optimizer]
name = "{optimizer}"
options = {options}
[run]
evaluations = {evaluations}
seed = 4
store = "run.zarr"
initial = [{{a = 0.5, b = 1.0}}]
[cluster]
profile = "serial"
"""
OPTIMIZERS = {
    "Random": ("model.py:Random", "{}"),
    "Genetic": ("model.py:Genetic", "{pop_size = 6}"),
    "grid": ("grid", "{n = 3}"),  # has nothing more to ask after 9: the arrays are then cut
}


class Range:
    """Runs the command line in forks of one process that has imported everything."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-B", str(Path(__file__).with_name("_range.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, folder, words, fault):
        print(json.dumps({"folder": str(folder), "words": words, "fault": fault}), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.communicate(timeout=60)


class Site:
    """A folder with an experiment, driven by processes whose files fail."""

    def __init__(self, folder, fire, optimizer, evaluations):
        folder.mkdir()
        self.folder, self._fire = folder, fire
        self.store = folder / "run.zarr"
        (folder / "model.py").write_text(MODEL)
        name, options = OPTIMIZERS[optimizer]
        (folder / "run.toml").write_text(CONFIG.format(optimizer=name, options=options, evaluations=evaluations))

    def drive(self, kind="", at=0, once=False, *, more=()):
        """Run, or go on where there is a store; return the exit status, negative for a signal, and what was met."""
        words = ["resume", "run.zarr"] if self.store.exists() else ["run", "run.toml"]
        ended = self._fire(
            self.folder, [*words, *map(str, more), "--no-report"], {"kind": kind, "at": at, "once": once}
        )
        return ended["code"], ended

    @property
    def said(self):
        return (self.folder / "said").read_text()

    @property
    def operations(self):
        """The operations of the last process, in their order: what was done, and the path it was done to."""
        return json.loads((self.folder / "operations").read_text())

    def notes(self, what):
        """List the ids that were evaluated, or told, in their order, by all processes so far."""
        path = self.folder / "notes"
        lines = path.read_text().split() if path.exists() else []
        return [int(id) for said, id in zip(lines[::2], lines[1::2], strict=True) if said == what]


@pytest.fixture(scope="session")
def fire():
    fire = Range()
    yield fire
    fire.close()


@pytest.fixture(scope="session")
def site_of(fire):
    """Make a folder with an experiment."""
    return lambda folder, optimizer, evaluations=15: Site(folder, fire, optimizer, evaluations)


def _columns(trajectory):
    columns = {name: v for name, v in trajectory.record.columns.items() if name not in NOT_REPEATED}
    n, place = range(len(trajectory)), str(trajectory.layout.root.parent)
    columns["saved in"] = np.array([re.sub(r"-\d+-\d+$", "", s) for s in trajectory.record["saved"]], object)
    arrays = [{name: a.tobytes() for name, a in trajectory.saved(i).items()} for i in n]
    texts = [trajectory.error(i).replace(place, "") for i in n]
    return columns | {"arrays": np.array(arrays, object), "error text": np.array(texts, object)}


def _bits(values):
    return values.tolist() if values.dtype.kind in "OTU" else [row.tobytes() for row in values]


@pytest.fixture(scope="session")
def repeated():
    """Return all that must come again to the bit, by column; ``saved`` without the epoch and the attempt."""
    return lambda trajectory: {name: _bits(values) for name, values in _columns(trajectory).items()}


@pytest.fixture(scope="session")
def lengths():
    """Return the lengths of a store's arrays, as their own metadata and as the consolidated ones have them."""

    def lengths(store):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)  # on the folder .l2l
            groups = [zarr.open_group(store, mode="r", use_consolidated=use) for use in (False, True)]
            known = [{name: array.shape[0] for name, array in group.arrays()} for group in groups]
        return [{n for name, n in each.items() if name not in ("parameter", "objective")} for each in known]

    return lengths


@pytest.fixture(scope="session")
def check_whole_rows():
    """Check that what a reader sees is what an uninterrupted run has, as far as it goes; return it."""

    def check_whole_rows(store, once):
        trajectory, whole = load(store), _columns(once)
        status = trajectory.record["status"]
        asked, ended = np.arange(len(status)), np.flatnonzero(status > 0)
        for name, values in _columns(trajectory).items():
            rows = ended if name in KNOWN_AT_THE_END else asked
            if name == "told":
                rows = np.flatnonzero(values >= 0)
            assert _bits(values[rows]) == _bits(whole[name][rows]), name
        with xarray.open_zarr(store) as opened:
            done = np.flatnonzero(opened["status"].load() == 1)
            assert done.tolist() == np.flatnonzero(status == 1).tolist()
            assert _bits(opened["fitness"].values[done]) == _bits(whole["fitness"][done])
        return trajectory

    return check_whole_rows


STEERED = """
import os, time

from optimizers.random_search import RandomSearch

HERE = os.path.dirname(os.path.abspath(__file__))


def fitness(params, context):
    with open(f"{HERE}/begun", "a") as file:
        file.write(f"{context.id}\\n")
    seconds = float(open(f"{HERE}/seconds").read())
    if seconds > 1:
        open(f"{HERE}/long-{context.id}", "w").close()
    time.sleep(seconds)
    return params["x"]


class Thinker(RandomSearch):
    def _tell(self, evaluations):
        if 3 in evaluations.ids:
            open(f"{HERE}/thinking", "w").close()
            time.sleep(1000)
        super()._tell(evaluations)
"""
STEERED_CONFIG = """
[optimizee]
name = "model.py:fitness"
[space]
x = {low = 0.0, high = 1.0}
[objectives]
f = "minimize"
[optimizer]
name = "random"
[run]
evaluations = 100_000
seed = 1
store = "run.zarr"
[cluster]
profile = "local"
workers = 2
"""


@pytest.fixture
def store(tmp_path):
    """The store of an experiment in the test's folder, endless, that is steered while it runs: ``l2l run e.toml``."""
    (tmp_path / "model.py").write_text(STEERED)
    (tmp_path / "e.toml").write_text(STEERED_CONFIG)
    (tmp_path / "seconds").write_text("0.1")
    return tmp_path / "run.zarr"


@pytest.fixture
def set_seconds(store):
    """Say how long an evaluation takes from now on."""

    def set_seconds(seconds):
        (store.parent / "new-seconds").write_text(str(seconds))
        os.replace(store.parent / "new-seconds", store.parent / "seconds")  # nobody reads half of it

    return set_seconds


@pytest.fixture
def n_long(store):
    """Count the evaluations that began and take longer than a second."""
    return lambda: len(list(store.parent.glob("long-*")))


@pytest.fixture
def ended(store):
    """Count what is evaluated."""
    return lambda: int((load(store).record["status"] > 0).sum()) if store.exists() else 0


@pytest.fixture
def begun(store):
    """Count what began to be evaluated."""
    return lambda: len((store.parent / "begun").read_text().split())


@pytest.fixture
def begin(l2l, store, ended, wait_until):
    """Start a driver, and wait until it evaluates."""

    def begin(*words, n=4, **options):
        before = ended()
        driver = l2l.start(*(words or ("run", "e.toml")), "--no-report", **options)
        wait_until(lambda: driver.poll() is not None or ended() >= before + n, seconds=60)
        assert driver.poll() is None, driver.communicate()
        return driver

    return begin
