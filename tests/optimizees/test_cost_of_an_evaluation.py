"""The benchmark of what an evaluation costs: also of any program, and of an optimizee of the original L2L."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "simulators.py"


def benchmark(*arguments):
    command = [sys.executable, SCRIPT, *arguments, "--rounds", "1"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("name", ["any-program", "from-l2l", "few-shot"])
def test_an_evaluation_is_compared_with_the_bare_call(name):
    done = benchmark(name)
    assert (done.returncode, done.stderr) == (0, "")
    line = done.stdout.splitlines()[1].split()
    assert line[0] == name
    assert all(float(milliseconds) > 0 for milliseconds in line[1:4])  # bare, here, in a child process
    assert {"here", "child"} <= set(line)


@pytest.mark.parametrize("name", ["nest-resevoir", "bbob"])
def test_a_name_that_is_not_measured_is_refused_in_one_line(name):
    done = benchmark(name)
    assert done.returncode == 1
    assert done.stderr.startswith("expected some of few-shot, arbor-cell, ")
    assert done.stderr.endswith(f"from-l2l, got {name!r}\n")
    assert done.stderr.count("\n") == 1
