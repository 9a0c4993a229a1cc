"""What a long search costs: a free function on ten thousand virtual workers, whose durations are log-normal.

Run ``python benchmarks/million.py [n]``: n evaluations (default 1,000,000) with random search and with the steady-state
genetic algorithm. The driver kills itself at the end; another process resumes the store, up to where it would go on.
CPU time is of all threads of the driver, and on a machine that does other things as well the more telling one.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from l2l_dask import Experiment, Real, Space, minimize
from l2l_dask.executors import Simulated

OPTIMIZERS = ("random", "steady-state-ga")
WORKERS = 10_000
DIMENSIONS = 4
SEARCH, RESUME = "search", "resume"


def duration(_, rng):
    return rng.lognormal()


def free(params):
    return float(sum((value - 0.3) ** 2 for value in params.values()))


class Watched(Simulated):
    """Notes the clocks after each tenth, and the memory when all workers are busy and at each tenth; then it dies."""

    def __init__(self, n):
        super().__init__(WORKERS, duration)
        self.n, self.ended, self.memory = n, 0, []
        self.clocks = [(time.process_time(), time.perf_counter())]

    def collect(self, timeout):
        if self.ended == self.n // 20:
            self.memory.append(psutil.Process().memory_info().rss)
        ended = super().collect(timeout)
        self.ended += len(ended)
        if self.ended % (self.n // 10) == 0:
            self.clocks.append((time.process_time(), time.perf_counter()))
            self.memory.append(psutil.Process().memory_info().rss)
        if self.ended >= self.n:
            print(json.dumps({"clocks": self.clocks, "memory": self.memory}), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return ended


class Stopwatch(Simulated):
    """Says how long it took until the first evaluation could be submitted, and ends there."""

    def __init__(self):
        super().__init__(WORKERS, duration)
        self.began = time.process_time(), time.perf_counter()

    def start(self, *_):
        cpu, wall = self.began
        taken = [time.process_time() - cpu, time.perf_counter() - wall]
        print(json.dumps(taken), flush=True)
        os._exit(0)


def search(name, n, store):
    space = Space({f"x{i}": Real(0, 1) for i in range(DIMENSIONS)})
    experiment = Experiment(
        free, name, space=space, objectives=minimize("f"), store=store, evaluations=n + WORKERS, cluster="serial"
    )
    experiment.run(Watched(n))


def resume(store):
    Experiment.resume(store, optimizee=free, client=Stopwatch())


def call(*words):
    """Run this file in a process of its own, and read the line that it printed."""
    run = subprocess.run([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True, check=False)
    if not run.stdout:  # the search ends by a kill of its own making, but not before it said what it saw
        raise SystemExit(f"{words[0]} ended with status {run.returncode}")
    return json.loads(run.stdout.splitlines()[-1])


def report(name, n, store):
    found = call(SEARCH, name, n, store)
    clocks, memory = found["clocks"], found["memory"]
    print(f"{name}, {n} evaluations")
    for kind, what in enumerate(("CPU", "wall")):
        tenths = [(after[kind] - before[kind]) / (n // 10) * 1e6 for before, after in itertools.pairwise(clocks)]
        print(f"  us per evaluation, {what:<5}" + "".join(f"{tenth:7.0f}" for tenth in tenths), end="")
        print(f"   last/first {tenths[-1] / tenths[0]:.2f}")
    grown = [(now - memory[0]) / 1e6 for now in memory[1:]]
    print(f"  memory beyond {memory[0] / 1e6:.0f} MB, MB{'':<1}" + "".join(f"{mb:7.0f}" for mb in grown))
    files = [path for path in store.rglob("*") if path.is_file()]
    journal = sum(path.stat().st_size for path in files if path.name.startswith("journal-")) / 1e6
    whole = sum(path.stat().st_size for path in files) / 1e6
    print(f"  files {len(files)}, per thousand evaluations {len(files) / n * 1000:.2f}; ", end="")
    print(f"journal {journal:.0f} MB of {whole:.0f} MB")
    cpu, wall = call(RESUME, store)
    print(f"  resumed in {wall:.1f} s ({cpu:.1f} s CPU), {wall / n * 1e6:.0f} us per evaluation", flush=True)


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for name in OPTIMIZERS:
            report(name, n, Path(folder) / f"{name}.zarr")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["search", name, n, store]:
            search(name, int(n), store)
        case ["resume", store]:
            resume(store)
        case _:
            main()
