"""The embedded cluster, started from a user's own script."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack
from multiprocessing import spawn, util

import dask

from l2l_dask.cluster.local import _SHIELD, local
from l2l_dask.trajectory import load

UNGUARDED = """
    import multiprocessing
    import os
    from pathlib import Path
    from l2l_dask import Experiment, Real, Space, minimize

    with Path("runs").open("a") as file:
        file.write("run\\n")

    FACTOR = 3.0

    def fitness(params, context):
        if context.id == 5 and not Path("killed").exists():
            Path("killed").touch()
            guard = int(Path(f"/proc/{os.getppid()}/stat").read_text().split(")")[1].split()[1])
            os.kill(guard, 9)  # the worker: its nanny starts another
        return FACTOR * params["x"]

    def search():
        Experiment(fitness, "random", space=Space({"x": Real(0, 1)}), objectives=minimize("f"), evaluations=20,
                   store="a.zarr", seed=1, workers=2).run()
"""


def run(tmp_path, script):
    (tmp_path / "script.py").write_text(script)
    return subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_script_that_guards_nothing_just_works_also_when_a_worker_is_started_again(tmp_path):
    ran = run(tmp_path, textwrap.dedent(UNGUARDED) + "\nsearch()\n")
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    ended = load(tmp_path / "a.zarr")
    assert ended.counts()["done"] == 20
    assert ended.record["fitness"][:, 0].tolist() == (3 * ended.record["params"][:, 0]).tolist()
    assert (tmp_path / "killed").exists()
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_worker_that_takes_long_to_start_again_is_not_given_up(wait_until):
    def names():
        return [worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}), local(1) as client:
        (worker,) = client.run(os.getpid).values()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not names())
        wait_until(lambda: names() == [0])
        client.submit(time.sleep, 1.0).result(30)  # nor is it ended a moment later


def test_the_users_own_multiprocessing_goes_on_working(tmp_path):
    script = (
        textwrap.dedent(UNGUARDED)
        + """
def double(x):
    return 2 * x

if __name__ == "__main__":
    search()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(double, [1, 2]) == [2, 4]
"""
    )
    ran = run(tmp_path, script)
    assert ran.returncode == 0, ran.stderr


def test_multiprocessing_is_as_it_was_when_the_last_cluster_has_ended():
    def state():
        return spawn.get_preparation_data, util._args_from_interpreter_flags

    before = state()
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(_SHIELD.up())
        within = state()
        second.enter_context(_SHIELD.up())
        first.close()  # not in the order in which they began
        assert state() == within != before
    assert state() == before
