"""Kill -9 of everything that takes part in an experiment, at random instants: nothing told is lost, resume ends right.

The processes of a test are told by a mark in their environment, however far down they are.
"""

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest

from l2l_dask import Experiment
from l2l_dask.trajectory import load

MARK = "L2L_TEST_FIRE"
PATIENCE = 90.0
ENDLESS = 100_000
MODEL = """
import os, time

from optimizers.random_search import RandomSearch
from optimizers.steady_state_ga import SteadyStateGA

HERE = os.path.dirname(os.path.abspath(__file__))


def fitness(params, context):
    if os.path.exists(f"{HERE}/slow"):
        time.sleep(0.02 + 0.03 * context.rng.random())
    if context.id % 7 == 1:
        context.save("where", [params["a"], params["b"]])
    if context.id % 13 == 5:
        raise ValueError("an unlucky number")
    return (params["a"] - 0.3) ** 2 + params["b"] * (context.seed % 1000 + context.id % 10)


def note(told):
    with open(f"{HERE}/told", "a") as file:
        file.write("".join(f"{id}\\n" for id in told.ids))


class Random(RandomSearch):
    def _tell(self, evaluations):
        note(evaluations)
        super()._tell(evaluations)


class Genetic(SteadyStateGA):
    def _tell(self, evaluations):
        note(evaluations)
        super()._tell(evaluations)
"""
CONFIG = f"""
[optimizee]
name = "model.py:fitness"
[space]
a = {{low = 0.0, high = 1.0}}
b = {{low = 0.1, high = 10.0, log = true}}
[objectives]
loss = "minimize"
[optimizer]
name = "model.py:OPTIMIZER"
[run]
evaluations = {ENDLESS}
seed = 4
store = "run.zarr"
retries = 100
"""


class Field:
    """An experiment on the embedded cluster, and what is killed and started again.

    Parameters
    ----------
    optimizer
        "Random" or "Genetic".
    """

    options = ("--cluster", "local", "--workers", "2")

    def __init__(self, folder, optimizer):
        self.folder, self.store = folder, folder / "run.zarr"
        (folder / "model.py").write_text(MODEL)
        (folder / "run.toml").write_text(CONFIG.replace("OPTIMIZER", optimizer))
        (folder / "slow").touch()
        self.environment = os.environ | {MARK: str(folder), "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s"}
        self.said = (folder / "said").open("w+")
        self.driver, self.started = None, []

    def start(self, *command, cwd=None):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", *map(str, command)],
            cwd=cwd or self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.said,
            stderr=self.said,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def drive(self, *more):
        """Start a driver: run, or resume."""
        words = ["resume", "run.zarr"] if self.store.exists() else ["run", "run.toml"]
        self.driver = self.start("l2l_dask", *words, *self.options, *more, "--no-report")

    def wait_until(self, condition, what):
        until = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < until, f"waited in vain for {what}:\n{self.all_said()[-4000:]}"
            time.sleep(0.05)
        return found

    def all_said(self):
        return (self.folder / "said").read_text()

    def processes(self, *roles):
        """List the living processes of this experiment, of these roles."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                ours = process.environ().get(MARK) == str(self.folder)
                if ours and process.status() != psutil.STATUS_ZOMBIE and (not roles or role(process) in roles):
                    found.append(process)
        return found

    def ended(self):
        """Count what is evaluated."""
        return int((load(self.store).record["status"] > 0).sum()) if self.store.exists() else 0

    def wait_for_progress(self, n):
        """Wait until ``n`` more are evaluated."""
        before = self.ended()

        def progress():
            assert self.driver.poll() is None, self.all_said()[-4000:]
            return self.ended() >= before + n

        self.wait_until(progress, "progress")

    def kill(self, victim, rng):
        """Kill one, and start what nobody else does."""
        if victim == "driver":
            self.driver.kill()
            self.driver.wait()
            self.drive()
            return
        process = rng.choice(self.wait_until(lambda: self.processes(victim), f"a living {victim}"))
        with suppress(psutil.NoSuchProcess):
            process.kill()

    def close(self):
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self.started:
            process.wait()
        self.said.close()


class ClusterField(Field):
    """An experiment on a cluster as a user starts it: a scheduler, and two workers with their nannies."""

    def __init__(self, folder, optimizer):
        super().__init__(folder, optimizer)
        self.file = folder / "scheduler.json"
        self.options = ("--cluster", str(self.file))
        self.start_scheduler()

    def start_scheduler(self):
        self.file.unlink(missing_ok=True)
        options = ["--no-dashboard", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", self.file]
        self.scheduler = self.start("distributed.cli.dask_scheduler", *options)
        self.wait_until(self._is_written, "the scheduler")
        self.nannies = [self.start_worker() for _ in range(2)]

    def _is_written(self):
        with suppress(OSError, ValueError):
            return json.loads(self.file.read_text())["address"]
        return False

    def start_worker(self):
        place = self.folder / f"worker-{len(self.started)}"
        place.mkdir()
        options = ["--nthreads", "2", "--no-dashboard", "--host", "127.0.0.1", "--local-directory", place]
        return self.start("distributed.cli.dask_worker", "--scheduler-file", self.file, *options, cwd=place)

    def kill(self, victim, rng):
        if victim == "nanny":
            number = rng.randrange(2)
            self.nannies[number].kill()
            self.nannies[number].wait()
            self.nannies[number] = self.start_worker()
        elif victim == "scheduler":
            self.scheduler.kill()
            self.scheduler.wait()
            assert self.driver.wait(PATIENCE) in (1, 2), self.all_said()[-4000:]  # 2 if it was about to connect
            last = [line for line in self.all_said().splitlines() if line.startswith("l2l: ")][-1]
            assert last.endswith(f"go on with: l2l resume {self.store}"), last
            for nanny in self.nannies:
                nanny.kill()
                nanny.wait()
            self.wait_until(lambda: not self.processes(), "the end of all workers and what they started")
            self.start_scheduler()
            self.drive()
        else:
            super().kill(victim, rng)


def role(process):
    line = process.cmdline()
    if "l2l_dask.child" in line:
        return "guard" if os.getsid(process.pid) == process.pid else "child"
    if any("spawn_main" in word for word in line):
        return "worker"
    return "other"


@pytest.fixture
def field_of(tmp_path):
    fields = []

    def field_of(kind, optimizer):
        fields.append(kind(tmp_path, optimizer))
        return fields[-1]

    yield field_of
    for field in fields:
        field.close()


class Witness:
    """Looks at the store: what was told at the last look is unchanged at this one."""

    def __init__(self, field):
        self.field, self.seen = field, None

    def look(self):
        now = load(self.field.store)
        if self.seen is not None:
            told = np.flatnonzero(self.seen.record["told"] >= 0)
            for name, before in self.seen.record.columns.items():
                np.testing.assert_array_equal(now.record[name][told], before[told], name)
        self.seen = now
        return now


def kill_and_go_on(field, victims, seed):
    """Kill them one after the other, each at a random instant of a running experiment; return how it ended."""
    rng, witness = random.Random(seed), Witness(field)
    rng.shuffle(victims)
    field.drive()
    for victim in victims:
        field.wait_for_progress(rng.randrange(1, 40))
        time.sleep(rng.uniform(0.0, 0.3))
        witness.look()
        field.kill(victim, rng)
        witness.look()
    field.wait_for_progress(20)
    field.driver.kill()
    field.driver.wait()
    seen = witness.look()
    (field.folder / "slow").unlink()
    field.drive("--evaluations", len(seen) + 50)
    assert field.driver.wait(PATIENCE) == 0, field.all_said()[-4000:]
    return witness.look()


def check_all_are_there(field, ended):
    """Every individual is evaluated, as its number and its parameters want it, and told once, in the order it was."""
    record, ids = ended.record, np.arange(len(ended))
    assert ended.state == "finished"
    unlucky = ids % 13 == 5
    assert record["status"].tolist() == np.where(unlucky, 2, 1).tolist()
    told = [int(id) for id in (field.folder / "told").read_text().split()]
    assert list(dict.fromkeys(told)) == np.lexsort((ids, record["told"])).tolist()
    saving = np.flatnonzero(ids % 7 == 1)
    assert np.flatnonzero(record["saved"] != "").tolist() == saving.tolist()
    for id in saving[:: max(1, len(saving) // 50)].tolist():
        assert ended.saved(id)["where"].tobytes() == record["params"][id].tobytes()


def check_it_is_the_serial_run(field, ended):
    once = Experiment.from_config(
        field.folder / "run.toml", store=field.folder / "once.zarr", cluster="serial", evaluations=len(ended)
    ).run()
    for name in ("x", "params", "fitness", "status", "error"):
        np.testing.assert_array_equal(ended.record[name], once.record[name], name)


def check_nothing_lives_on(field):
    """What evaluates ends with the driver, all else with what started it."""
    field.wait_until(lambda: not field.processes("child", "guard"), "the end of what evaluated")
    for process in field.started:
        process.kill()
        process.wait()
    field.wait_until(lambda: not field.processes(), f"the end of {field.processes()}")


def survive(field, victims, seed):
    ended = kill_and_go_on(field, victims, seed)
    check_all_are_there(field, ended)
    check_nothing_lives_on(field)
    return ended


@pytest.mark.slow
def test_a_search_survives_the_death_of_all_that_takes_part_in_it(field_of):
    field = field_of(ClusterField, "Random")
    victims = ["child"] * 2 + ["guard", "worker", "worker", "driver", "driver", "nanny", "scheduler"]
    check_it_is_the_serial_run(field, survive(field, victims, seed=1))


@pytest.mark.slow
def test_a_search_on_the_embedded_cluster_survives_the_death_of_all_that_takes_part_in_it(field_of):
    field = field_of(Field, "Genetic")
    survive(field, ["child", "guard", "worker", "worker", "driver", "driver"], seed=2)


HUNDRED = {"child": 22, "guard": 10, "worker": 20, "driver": 24, "nanny": 12, "scheduler": 12}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("optimizer", ["Random", "Genetic"])
def test_a_search_survives_a_hundred_deaths(field_of, optimizer):
    field = field_of(ClusterField, optimizer)
    ended = survive(field, [victim for victim, n in HUNDRED.items() for _ in range(n)], seed=3)
    if optimizer == "Random":
        check_it_is_the_serial_run(field, ended)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("optimizer", ["Random", "Genetic"])
def test_a_search_on_the_embedded_cluster_survives_a_hundred_deaths(field_of, optimizer):
    field = field_of(Field, optimizer)
    victims = ["child"] * 25 + ["guard"] * 10 + ["worker"] * 30 + ["driver"] * 35
    ended = survive(field, victims, seed=4)
    if optimizer == "Random":
        check_it_is_the_serial_run(field, ended)
