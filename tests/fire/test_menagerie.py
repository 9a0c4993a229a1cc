"""One search in which almost every individual does something terrible: each is recorded as what it was."""

import ctypes
import math
import os
import subprocess
import sys
import threading
import time

import dask
import psutil
import pytest
from distributed import Client, LocalCluster

from l2l_dask import Experiment, Real, Space, minimize
from l2l_dask.evaluation import Status

SLEEP = ["sleep", f"1000.{os.getpid()}"]  # as no other test's
LIMIT = "900MB"


class OddError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, lock):
        super().__init__("odd")
        self.lock = lock


def raises():
    raise OddError(threading.Lock())


def sleeps():
    subprocess.Popen(SLEEP)
    time.sleep(1000)


def exits():
    os._exit(7)


def segfaults():
    ctypes.string_at(0)


def eats():
    hoard = []
    while len(hoard) < 120:  # 1.2 GB, were it not for the limit
        hoard.append(bytearray(os.urandom(1)) * (10 * 2**20))
        time.sleep(0.005)
    time.sleep(1000)


def forks():
    if os.fork() == 0:
        return 666.0  # from a process that nobody asked for
    return 1.0


def starts_threads():
    for _ in range(5):
        threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
    return 1.0


def moves():
    os.chdir("/")
    return 1.0


def prints():
    libc = ctypes.CDLL(None)
    for _ in range(20_000):
        libc.puts(b"x" * 200)
    libc.fflush(None)
    raise ValueError("after 4 MB")


def leaves_a_process():
    subprocess.Popen(SLEEP)
    return 1.0


def leaves_a_session():
    subprocess.Popen(SLEEP, start_new_session=True)
    return 1.0


DONE, FAILED, TIMED_OUT, CRASHED = Status.DONE, Status.FAILED, Status.TIMED_OUT, Status.CRASHED
# What each does, the status it must have, and the beginning of the reason.
BEASTS = [
    (raises, FAILED, "OddError: odd"),
    (lambda: math.nan, FAILED, "EvaluationError: expected a finite number for 'f', got nan"),
    (lambda: -math.inf, FAILED, "EvaluationError: expected a finite number for 'f', got -inf"),
    (lambda: None, FAILED, "EvaluationError: expected a finite number for 'f', got None"),
    (lambda: "good", FAILED, "EvaluationError: expected a finite number for 'f', got 'good'"),
    (lambda: [1.0, 2.0], FAILED, "EvaluationError: expected a finite number for 'f', got 2 values: [1.0, 2.0]"),
    (sleeps, TIMED_OUT, "TimeoutError: took longer than 12 s"),
    (exits, CRASHED, "ProcessError: the process exited with status 7"),
    (segfaults, CRASHED, "ProcessError: the process was killed by SIGSEGV"),
    (eats, CRASHED, "MemoryError: used "),
    (forks, DONE, ""),
    (starts_threads, DONE, ""),
    (moves, DONE, ""),
    (prints, FAILED, "ValueError: after 4 MB"),
    (leaves_a_process, DONE, ""),
    (leaves_a_session, DONE, ""),
    (lambda: sys.exit("enough"), FAILED, "SystemExit: enough"),
]
TAME = 4  # harmless ones at the end


@pytest.fixture(scope="module")
def zoo():
    """Workers with a memory limit, as a batch job's have."""
    options = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        LocalCluster(memory_limit=LIMIT, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


def search(store, function, evaluations, **options):
    options |= {"space": Space({"x": Real(0, 1)}), "objectives": minimize("f"), "evaluations": evaluations}
    return Experiment(function, "random", store=store, timeout=12.0, retries=1, max_failures_in_a_row=0, **options)


@pytest.mark.parametrize("bundle", [False, True], ids=["alone", "in bundles"])
def test_each_is_recorded_as_what_it_was_and_no_slot_and_no_process_is_left_behind(zoo, tmp_path, wait_until, bundle):
    def fitness(params, context):
        if context.id < len(BEASTS):
            return BEASTS[context.id][0]()
        time.sleep(0.2)
        return 1.0

    ended = search(tmp_path / "zoo.zarr", fitness, len(BEASTS) + TAME, bundle=bundle).run(zoo)
    assert ended.state == "finished"
    reasons = [ended.error(id) for id in range(len(BEASTS))]
    statuses = [Status(s) for s in ended.record["status"].tolist()]
    assert statuses == [status for _, status, _ in BEASTS] + [DONE] * TAME
    for reason, (beast, _, expected) in zip(reasons, BEASTS, strict=True):
        assert expected in reason.partition("\n")[0], beast
        assert bool(reason) == bool(expected)
    assert reasons[13].endswith("x" * 200)  # the tail of what it printed
    crashed = ended.record["status"] == CRASHED
    assert ended.record["attempt"].tolist() == [2 if c else 1 for c in crashed]
    after = search(tmp_path / "after.zarr", lambda params: time.sleep(0.3) or 1.0, 10).run(zoo)
    assert set(after.record["worker"].tolist()) == {"0", "1"}

    def left():
        return [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == SLEEP]

    wait_until(lambda: not left())
