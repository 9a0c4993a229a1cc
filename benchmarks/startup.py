"""How long until something happens: the command line, the import, the first evaluation; and what a child process costs.

Every figure is the median of several fresh processes, with the smallest and the largest.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from l2l_dask import FunctionOptimizee, Real, Space, minimize, shipping
from l2l_dask.child import Payload
from l2l_dask.evaluating import Where, evaluate
from l2l_dask.evaluation import Candidate
from l2l_dask.process import Child
from l2l_dask.trajectory import load

ROUNDS = 5
EVALUATIONS = 2000
MODEL = """
import numpy as np

def sphere(params):
    return float(np.square(params["x"]).sum())
"""
CONFIG = """
[optimizee]
name = "model.py:sphere"
[space]
x = {low = -5.0, high = 5.0, shape = [10]}
[objectives]
f = "minimize"
[run]
evaluations = 20
store = "run.zarr"
"""
# What `import l2l_dask` and all that it offers bring along from others.
DEPENDENCIES = "import numpy, zarr, msgpack, pydantic, cloudpickle, psutil, scipy.stats"
EVERYTHING = "import l2l_dask\nfor name in l2l_dask.__all__: getattr(l2l_dask, name)"


def python(code: str) -> float:
    """Return the seconds that a fresh interpreter takes for ``code``."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun


def help_text() -> float:
    """Return the seconds of ``l2l --help``."""
    begun = time.perf_counter()
    subprocess.run([Path(sys.executable).with_name("l2l"), "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def first_evaluation() -> float:
    """Return the seconds from ``l2l run`` to the start of the first evaluation, with two local workers."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.py").write_text(MODEL)
        (Path(folder) / "run.toml").write_text(CONFIG)
        command = [Path(sys.executable).with_name("l2l"), "run", "run.toml", "--workers", "2", "--no-report"]
        begun = time.time()
        subprocess.run(command, check=True, cwd=folder, capture_output=True)
        return float(np.min(load(Path(folder) / "run.zarr").record["started"])) - begun


def child() -> float:
    """Return the milliseconds that a child process adds to an evaluation."""
    optimizee = FunctionOptimizee(lambda params: params["x"], Space({"x": Real(0, 1)}), minimize("f"))
    where = Where("nowhere.zarr", "", 1)
    process = Child(Payload(shipping.pack(optimizee), where))
    try:
        process.evaluate([Candidate(0, {"x": 0.5}, 1)])

        def seconds(one: Callable[[Candidate], object]) -> float:
            begun = time.perf_counter()
            for id in range(EVALUATIONS):
                one(Candidate(id, {"x": 0.5}, 1))
            return time.perf_counter() - begun

        there = seconds(lambda candidate: process.evaluate([candidate]))
        here = seconds(lambda candidate: evaluate(optimizee, candidate, where))
        return 1000 * (there - here) / EVALUATIONS
    finally:
        process.close()


def main() -> None:
    """Print a line for each figure."""
    print(f"{'':44} {'median':>8} {'min':>8} {'max':>8}   wanted")
    for label, measure, wanted in (
        ("l2l --help, s", help_text, "< 0.3"),
        ("python -c pass, s", lambda: python("pass"), ""),
        ("import l2l_dask, s", lambda: python("import l2l_dask"), "< 0.3"),
        ("all its names, s", lambda: python(EVERYTHING), ""),
        ("  of which its dependencies, s", lambda: python(DEPENDENCIES), ""),
        ("first evaluation after l2l run, s", first_evaluation, "< 3"),
        ("a child process, ms per evaluation", child, "< 1"),
    ):
        figures = [measure() for _ in range(ROUNDS)]
        middle = statistics.median(figures)
        print(f"{label:44} {middle:8.3f} {min(figures):8.3f} {max(figures):8.3f}   {wanted}", flush=True)


if __name__ == "__main__":
    main()
