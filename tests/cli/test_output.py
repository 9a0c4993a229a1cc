"""What simulators print: not on the terminal unless asked for, and kept with the evaluations that fail."""

import json

import pytest

MODEL = """
import ctypes
import os

def fitness(params):
    ctypes.CDLL(None).puts(b"NEST says hello from C++")
    os.write(2, b"and complains\\n")
    if params["x"] > 0.5:
        raise ValueError("diverged")
    return params["x"]
"""

EXPERIMENT = """
[optimizee]
name = "model.py:fitness"
[space]
x = {{low = 0.0, high = 1.0}}
[objectives]
f = "minimize"
[optimizer]
name = "random"
[run]
evaluations = 6
initial = [{{x = 0.75}}]
[cluster]
profile = "{profile}"
workers = 1
"""


@pytest.fixture(params=["serial", "local"])
def home(request, tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "e.toml").write_text(EXPERIMENT.format(profile=request.param))
    return tmp_path


def test_it_is_kept_with_what_failed_and_reaches_the_terminal_only_when_asked_for(home, l2l):
    done = l2l("run", "e.toml", "--json", "--no-report")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "finished"  # one object and nothing else
    assert "hello" not in done.stderr
    assert "complains" not in done.stderr
    from l2l_dask import load

    error = load(home / "runs" / "e.zarr").error(0)
    assert error.startswith("ValueError: diverged")
    kept = error.partition("printed:\n")[2]
    assert sorted(kept.splitlines()) == ["NEST says hello from C++", "and complains"]

    shown = l2l("run", "e.toml", "--store", "shown.zarr", "--show-output", "--no-report")
    assert (shown.stdout + shown.stderr).count("NEST says hello from C++") >= 6
