"""``l2l run`` on worker jobs of a real Slurm: the file of the laptop, jobs that are lost, and what is refused."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from l2l_dask import load
from l2l_dask.cluster.batch import batch
from l2l_dask.cluster.profiles import Profile

MODEL = """
import os, time
def slow(params, context):
    if os.path.exists("met"):  # nobody evaluates anything before three jobs are there
        open(os.path.join("met", os.environ["SLURM_JOB_ID"]), "w").close()
        while len(os.listdir("met")) < 3:
            time.sleep(0.05)
    time.sleep(0.0 if os.path.exists("hurry") else 0.2)
    return (params["x"] - 0.3) ** 2
"""
CONFIG = """
[optimizee]
name = "model.py:slow"
[space]
x = {low = -1.0, high = 1.0}
[objectives]
loss = "minimize"
[optimizer]
name = "random"
[run]
evaluations = 40
seed = 1
"""
CLUSTER = """
[cluster]
profile = "slurm"
workers = 3
options = {cores = 1, memory = "500 MB", walltime = "00:10:00", interface = "lo"}
"""


@pytest.fixture
def home(tmp_path):
    for name, text in (("model.py", MODEL), ("search.toml", CONFIG), ("cluster.toml", CLUSTER)):
        (tmp_path / name).write_text(text)
    return tmp_path


def l2l(home: Path, environment, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "l2l_dask", *words],
        cwd=home,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def left(slurm):
    return [job for job in slurm.jobs() if not job.ended and job.state != "COMPLETING"]


def told(store):
    try:
        return load(store).counts()["done"]
    except Exception:  # which is not there yet
        return 0


def test_the_file_of_the_laptop_runs_on_the_cluster_and_tries_the_same(slurm, home):
    here = l2l(home, slurm.environment, "run", "search.toml", "--store", "here.zarr")
    assert here.wait(120) == 0, here.stdout.read()
    (home / "met").mkdir()
    there = l2l(home, slurm.environment, "run", "search.toml", "--cluster", "cluster.toml", "--store", "there.zarr")
    assert there.wait(120) == 0, there.stdout.read()
    a, b = load(home / "here.zarr"), load(home / "there.zarr")
    np.testing.assert_array_equal(a.record["x"], b.record["x"])
    np.testing.assert_array_equal(np.sort(a.record["fitness"], axis=0), np.sort(b.record["fitness"], axis=0))
    assert len(set(b.record["worker"].tolist())) == 3
    until(lambda: not left(slurm), 60)
    names = {path.name for path in home.iterdir() if path.suffix != ".toml"}
    assert names == {"here.zarr", "met", "model.py", "there.zarr"}


def test_a_job_that_is_cancelled_costs_nothing_and_is_replaced(slurm, home, workers):
    running = l2l(home, slurm.environment, "run", "search.toml", "--cluster", "cluster.toml", "--evaluations", "1000")
    store = home / "runs/search.zarr"
    until(lambda: len(workers(store)) == 3)
    slurm.cancel(left(slurm)[0].id)
    until(lambda: len(workers(store)) == 4)
    (home / "hurry").touch()
    assert running.wait(120) == 0, running.stdout.read()
    counts = load(store).counts()
    assert counts["done"] == counts["total"] == 1000
    assert len(workers(store)) == 4


def test_jobs_that_wait_say_why_in_slurm_s_words(slurm, tmp_path):
    wanted = Profile("slurm", {"cores": 99, "memory": "500 MB", "interface": "lo"})
    with batch(wanted, 1, tmp_path / "jobs") as (_, workers):
        until(lambda: re.fullmatch(r"1 of 1 worker jobs wait \((Resources|PartitionConfig)\)", workers.waits), 30)
    until(lambda: not left(slurm), 60)


def test_ctrl_c_leaves_no_job_and_the_search_goes_on_elsewhere(slurm, home):
    running = l2l(home, slurm.environment, "run", "search.toml", "--cluster", "cluster.toml", "--evaluations", "5000")
    store = home / "runs/search.zarr"
    until(lambda: told(store) > 5)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert "l2l resume" in running.stdout.read()
    until(lambda: not left(slurm), 60)
    before = told(store)
    resumed = l2l(home, {}, "resume", str(store), "--cluster", "local", "--evaluations", f"{before + 20}")
    assert resumed.wait(120) == 0, resumed.stdout.read()
    assert load(store).counts()["done"] == before + 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('interface = "lo"', 'interface = "lo", queue = "bach"'), "l2l: `sbatch` refused a job: .*nvalid partition"),
        (("workers = 3\n", ""), "l2l: slurm: how many worker jobs"),
    ],
)
def test_what_the_batch_system_refuses_is_one_line_and_nothing_is_left(slurm, home, change, message):
    (home / "cluster.toml").write_text(CLUSTER.replace(*change))
    refused = l2l(home, slurm.environment, "run", "search.toml", "--cluster", "cluster.toml")
    assert refused.wait(60) == 2
    words = refused.stdout.read()
    assert len(words.splitlines()) == 1
    assert re.match(message, words)
    assert not list(home.rglob("*.zarr"))
    assert not list(home.rglob("*.jobs"))
    assert not left(slurm)
