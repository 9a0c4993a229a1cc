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
from l2l_dask.registry import find
from l2l_dask.trajectory import load

NOT_REPEATED = {"submitted", "started", "finished", "worker", "host", "attempt", "saved"}
PATIENCE = 60.0
MODEL = """
import os, time

from l2l_dask.registry import find

HERE = os.path.dirname(os.path.abspath(__file__))
DRIVER = os.urandom(8).hex()


class Noting(find("optimizers", "OPTIMIZER")):
    def _tell(self, evaluations):
        with open(f"{HERE}/told", "a") as file:
            file.write("".join(f"{DRIVER} {id}\\n" for id in evaluations.ids))
        super()._tell(evaluations)


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
name = "model.py:Noting"
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
        self.folder, self.options, self.store = folder, options, folder / "run.zarr"
        (folder / "model.py").write_text(MODEL.replace("OPTIMIZER", optimizer))
        more, also = ("\n".join(MORE[kind][0] for kind in kinds), "".join(MORE[kind][1] for kind in kinds))
        options = OPTIONS.get(optimizer, "{}")
        config = CONFIG.format(evaluations=evaluations, more=more, also=also, options=options)
        (folder / "run.toml").write_text(config)
        self.environment = os.environ | {"PACE": str(pace), "L2L_TEST_SITE": str(folder)}

    def start(self, **options):
        begun = self.store.exists()
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
        return load(self.store)

    def kill_after(self, seconds, n=0):
        """Start a driver, and kill it some seconds after it has told its optimizer ``n`` more."""
        drivers, before = len(self.tells()), self.told()
        process, until = self.start(), time.monotonic() + PATIENCE
        try:
            while n and not (len(tells := self.tells()) > drivers and len(tells[-1]) >= before + n):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.01)
            time.sleep(seconds)
            assert process.poll() is None, f"it ended before it was killed: {process.stderr.read()}"
        finally:
            process.kill()
            process.communicate()

    def told(self):
        """Count what a reader sees as told."""
        return int((load(self.store).record["told"] >= 0).sum()) if self.store.exists() else 0

    def tells(self):
        """List what each driver told its optimizer, replays included: ids in their order."""
        path, tells = self.folder / "told", {}
        text = path.read_text() if path.exists() else ""
        for line in text[: text.rfind("\n") + 1].splitlines():  # the last one may be half written
            driver, id = line.split()
            tells.setdefault(driver, []).append(int(id))
        return list(tells.values())

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
        if site.store.exists():
            trajectory = load(site.store)
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
    assert (record["told"] >= 0).all()
    order = np.lexsort((np.arange(len(ended)), record["told"])).tolist()
    assert all(told == order[: len(told)] for told in site.tells()), "by every driver, in the same order"


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_instants_ends_as_if_it_had_not_been(tmp_path):
    site, rng, witness = Site(tmp_path, 1500, 0.01, "--cluster", "serial"), random.Random(), Witness()
    for number in range(20):
        if number % 3 == 0:  # while it starts
            site.kill_after(rng.uniform(0.1, 1.5))
        else:
            site.kill_after(rng.uniform(0.0, 0.4), n=1)
        witness.look(site)
    ended = site.finish()
    check_each_was_told_once(site, ended)
    witness.check(ended)
    assert repeated(ended) == repeated(uninterrupted(site))
    assert site.processes() == []


@pytest.mark.parametrize("optimizer", ["steady-state-ga", "genetic", "qmc", "surrogate-cma-es", "cma-es"])
def test_a_run_with_each_optimizer_killed_at_three_random_instants_ends_as_if_it_had_not_been(tmp_path, optimizer):
    takes = find("optimizers", optimizer).spaces
    kinds = [kind for kind in MORE if kind in takes and (kind != "conditional" or "categorical" in takes)]
    site = Site(tmp_path, 400, 0.05, "--cluster", "serial", optimizer=optimizer, kinds=kinds)
    rng, witness, sizes = random.Random(), Witness(), []
    for n in (1, 0, 1):  # while it evaluates, and while it resumes
        site.kill_after(rng.uniform(0.0, 0.3) if n else rng.uniform(0.05, 1.0), n)
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
        *("model.py", "run.toml", "run.zarr", "once.zarr", "told")
    }


@pytest.mark.slow
def test_a_run_on_a_local_cluster_killed_five_times_loses_nothing_told_and_leaves_no_process(tmp_path):
    site, rng, witness = Site(tmp_path, 600, 0.1, "--workers", "2"), random.Random(), Witness()
    for _ in range(5):
        site.kill_after(rng.uniform(0.0, 0.3), n=rng.randrange(1, 60))
        witness.look(site)
        until = time.monotonic() + PATIENCE
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
    assert re.search(r"journal-[0-9-]+\.log cannot be written: File too large$", last)
    assert "Traceback" not in err
    assert load(site.store).state == "interrupted"
    ended = site.finish()
    check_each_was_told_once(site, ended)
    assert repeated(ended) == repeated(uninterrupted(site))
