"""Kill -9, for real: the command line is killed again and again, and resumed."""

import os
import random
import re
import resource
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from l2l_dask import Experiment
from l2l_dask.registry import find, names
from l2l_dask.trajectory import load
from l2l_dask.trajectory.journal import read
from l2l_dask.trajectory.layout import Layout

NOT_REPEATED = {"submitted", "started", "finished", "worker", "host", "attempt", "saved"}
PATIENCE = 60.0
MODEL = """
import os, time

def fitness(params, context):
    time.sleep(float(os.environ.get("PACE", 0)))
    if context.id % 4 == 1:
        context.save("noise", context.rng.random(3))
    if context.id % 13 == 5:
        raise ValueError("an unlucky number")
    more = params.get("n", 0) + params.get("rate", 0.5) + len(params.get("kind", ""))
    return (params["a"] - 0.3) ** 2 + params["b"] * context.rng.random() + more
"""
CONFIG = """
[optimizee]
name = "model.py:fitness"
[space]
a = {{low = 0.0, high = 1.0}}
b = {{low = 0.1, high = 10.0, log = true}}
{more}
[objectives]
loss = "minimize"
[optimizer]
name = "{optimizer}"
options = {options}
[run]
evaluations = {evaluations}
seed = 4
store = "run.zarr"
initial = [{{a = 0.5, b = 1.0{also}}}, {{a = 0.1, b = 2.0{also}}}]
"""
# What an optimizer that takes it searches besides two reals: for each kind of space, parameters and initial values.
MORE = {
    "integer": ("n = {low = 1, high = 9}", ", n = 3"),
    "categorical": ('kind = {choices = ["a", "bb"]}', ', kind = "a"'),
    "conditional": ('rate = {low = 0.0, high = 1.0, when = {kind = "bb"}}', ""),
}
OPTIONS = {
    "genetic": "{pop_size = 20}",
    "grid": "{n = 12}",
    "qmc": '{engine = "halton"}',
    "steady-state-ga": "{pop_size = 10}",
}


class Site:
    """A folder with an experiment, run by a process of its own that can be killed."""

    def __init__(self, folder, evaluations, pace, *options, optimizer="steady-state-ga", kinds=()):
        self.folder, self.options, self.layout = folder, options, Layout(folder / "run.zarr")
        (folder / "model.py").write_text(MODEL)
        more, also = ("\n".join(MORE[kind][0] for kind in kinds), "".join(MORE[kind][1] for kind in kinds))
        described = {"optimizer": optimizer, "options": OPTIONS.get(optimizer, "{}")}
        config = CONFIG.format(evaluations=evaluations, more=more, also=also, **described)
        (folder / "run.toml").write_text(config)
        self.environment = os.environ | {"PACE": str(pace), "L2L_TEST_SITE": str(folder)}

    def start(self, **options):
        begun = self.layout.root.exists()
        command = ["resume", "run.zarr"] if begun else ["run", "run.toml"]
        return subprocess.Popen(
            [sys.executable, "-m", "l2l_dask", *command, *self.options, "--no-report"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def finish(self):
        self.environment |= {"PACE": "0"}
        process = self.start()
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        return load(self.layout.root)

    def kill_after(self, seconds, size=0):
        """Start a driver, and kill it some seconds after it has journalled ``size`` bytes."""
        epochs, process, until = len(self.layout.epochs()), self.start(), time.monotonic() + PATIENCE
        try:
            while size and not (len(self.layout.epochs()) > epochs and self.journalled() >= size):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.01)
            time.sleep(seconds)
            assert process.poll() is None, f"it ended before it was killed: {process.stderr.read()}"
        finally:
            process.kill()
            process.communicate()

    def journalled(self):
        """Count the bytes in the newest journal."""
        return self.layout.journal(self.layout.epochs()[-1]).stat().st_size

    def tells(self):
        """List what all drivers told their optimizers: (id, event number)."""
        records = [record for epoch in self.layout.epochs() for record in read(self.layout.journal(epoch))]
        return [(id, record["event"]) for record in records if record["kind"] == "tell" for id in record["ids"]]

    def processes(self):
        """List the processes that this site started, by their environment, however far down."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("L2L_TEST_SITE") == str(self.folder) and process.is_running():
                    found.append(process)
            except psutil.Error:
                continue
        return found


def repeated(trajectory):
    """Return all that must come again to the bit; ``saved`` without the epoch and the attempt."""
    record = trajectory.record
    columns = {
        name: values.tolist() if values.dtype.kind == "T" else values.tobytes()
        for name, values in record.columns.items()
        if name not in NOT_REPEATED
    }
    columns["saved in"] = [re.sub(r"-\d+-\d+$", "", place) for place in record["saved"]]
    arrays = [{name: a.tobytes() for name, a in trajectory.saved(i).items()} for i in range(len(trajectory))]
    return columns | {"arrays": arrays}


def uninterrupted(site):
    """Run the same experiment in this process, in one go."""
    return Experiment.from_config(site.folder / "run.toml", store=site.folder / "once.zarr", cluster="serial").run()


class Witness:
    """Looks at the store after every kill: what was told then must be so at the end."""

    def __init__(self):
        self.seen = []

    def look(self, site):
        if site.layout.root.exists():
            trajectory = load(site.layout.root)
            assert trajectory.state in ("queued", "interrupted")
            self.seen.append(trajectory.record)

    def check(self, ended):
        assert self.seen
        for record in self.seen:
            told = np.flatnonzero(record["told"] >= 0)
            for name in record.columns:
                np.testing.assert_equal(ended.record[name][told].tolist(), record[name][told].tolist(), name)


def check_each_was_told_once(site, ended):
    record = ended.record
    assert ended.state == "finished"
    assert ended.counts()["done"] + ended.counts()["failed"] == len(ended)
    assert (record["status"] == np.where(np.arange(len(ended)) % 13 == 5, 2, 1)).all()
    assert sorted(site.tells()) == list(enumerate(record["told"].tolist()))


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_instants_ends_as_if_it_had_not_been(tmp_path):
    site, rng, witness = Site(tmp_path, 1500, 0.01, "--cluster", "serial"), random.Random(), Witness()
    for number in range(20):
        if number % 3 == 0:  # while it starts
            site.kill_after(rng.uniform(0.1, 1.5))
        else:
            site.kill_after(rng.uniform(0.0, 0.4), size=1)
        witness.look(site)
    ended = site.finish()
    check_each_was_told_once(site, ended)
    witness.check(ended)
    assert repeated(ended) == repeated(uninterrupted(site))
    assert site.processes() == []


@pytest.mark.parametrize("optimizer", names("optimizers"))
def test_a_run_with_each_optimizer_killed_at_three_random_instants_ends_as_if_it_had_not_been(tmp_path, optimizer):
    takes = find("optimizers", optimizer).spaces
    kinds = [kind for kind in MORE if kind in takes and (kind != "conditional" or "categorical" in takes)]
    site = Site(tmp_path, 400, 0.004, "--cluster", "serial", optimizer=optimizer, kinds=kinds)
    rng, witness, sizes = random.Random(), Witness(), []
    for size in (1, 0, 1):  # while it evaluates, and while it resumes
        site.kill_after(rng.uniform(0.0, 0.3) if size else rng.uniform(0.05, 1.0), size)
        witness.look(site)
        sizes.append(len(witness.seen[-1]))
    ended, once = site.finish(), uninterrupted(site)
    check_each_was_told_once(site, ended)
    witness.check(ended)
    assert sizes == sorted(sizes)
    assert sizes[-1] < len(ended) == 400, "it was killed before its end"
    assert repeated(ended) == repeated(once)
    assert sum(bool(arrays) for arrays in repeated(once)["arrays"]) == 100
    assert site.processes() == []
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {
        *("model.py", "run.toml", "run.zarr", "once.zarr")
    }


@pytest.mark.slow
def test_a_run_on_a_local_cluster_killed_five_times_loses_nothing_told_and_leaves_no_process(tmp_path):
    site, rng, witness = Site(tmp_path, 600, 0.02, "--workers", "2"), random.Random(), Witness()
    for _ in range(5):
        site.kill_after(rng.uniform(0.0, 0.3), size=rng.randrange(1, 8000))
        witness.look(site)
        until = time.monotonic() + 10
        while left := site.processes():
            assert time.monotonic() < until, [process.cmdline() for process in left]
            time.sleep(0.1)
    ended = site.finish()
    check_each_was_told_once(site, ended)
    witness.check(ended)


def test_a_disk_that_fills_up_is_one_line_and_the_run_goes_on_when_there_is_room(tmp_path):
    site = Site(tmp_path, 300, 0, "--cluster", "serial")
    full = (30_000, resource.RLIM_INFINITY)
    process = site.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, full))
    _, err = process.communicate(timeout=PATIENCE)
    last = err.splitlines()[-1]
    assert process.returncode == 1
    assert last.endswith("journal-000001-000000.log cannot be written: File too large")
    assert "Traceback" not in err
    assert load(site.layout.root).state == "interrupted"
    ended = site.finish()
    check_each_was_told_once(site, ended)
    assert repeated(ended) == repeated(uninterrupted(site))
