"""NEST in the process: imported so that it prints nothing, used from any thread, with a fresh kernel each time."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from l2l_dask.errors import PluginError
from optimizees._nest import fresh_kernel
from optimizees.nest_reservoir import NestReservoir

if not (find_spec("nest") and find_spec("sklearn")):  # not by importing: NEST must be imported as the optimizee does
    pytest.skip("needs the extra l2l-dask[nest]", allow_module_level=True)


def in_a_new_process(code, **environment):
    """Run code in a fresh interpreter, in which the variables that NEST's import looks at are as given."""
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "PYNEST_QUIET")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=kept | environment, timeout=120, check=False)


def test_scikit_learn_is_read_but_not_imported():
    code = "import sys; from optimizees.nest_reservoir import *; NestReservoir(); sys.exit('sklearn' in sys.modules)"
    done = in_a_new_process(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_nest_that_cannot_be_imported_is_an_error_with_the_reason(monkeypatch):
    optimizee = NestReservoir()
    monkeypatch.setitem(sys.modules, "nest", None)
    with pytest.raises(PluginError, match=r"NEST cannot be imported .*l2l-dask\[nest\]"):
        optimizee.setup()


@pytest.mark.parametrize(
    ("seed", "resolution", "message"),
    [(0, 1.0, "seed: expected"), (2**32, 1.0, "seed: expected"), (1, 0.0, "resolution: expected")],
)
def test_a_kernel_that_cannot_be_is_refused(seed, resolution, message):
    with pytest.raises(PluginError, match=message):
        fresh_kernel(seed, resolution)


def test_a_fresh_kernel_is_empty_and_has_one_thread_whatever_was_before():
    kernel = fresh_kernel(5, 0.1)
    kernel.Create("iaf_psc_delta", 3)
    kernel.Simulate(1.0)
    kernel = fresh_kernel(7, 0.5)
    assert kernel.network_size == 0
    assert (kernel.rng_seed, kernel.resolution, kernel.local_num_threads) == (7, 0.5, 1)


IN_A_THREAD = """
import os, threading
{first}
from optimizees._nest import fresh_kernel
def use():
    try:
        kernel = fresh_kernel(1)
        kernel.Create("iaf_psc_delta")
        kernel.Simulate(10.0)
        print(kernel.biological_time, os.environ.get("OMP_NUM_THREADS"))
    except Exception as error:
        print(error)
thread = threading.Thread(target=use)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("threads", [None, "3"])
def test_nest_can_be_used_from_a_thread_prints_nothing_and_leaves_the_environment_alone(threads):
    done = in_a_new_process(IN_A_THREAD.format(first=""), **({"OMP_NUM_THREADS": threads} if threads else {}))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"10.0 {threads}\n", "")


def test_a_nest_that_was_imported_otherwise_is_refused_in_a_thread_where_it_would_end_the_process():
    done = in_a_new_process(IN_A_THREAD.format(first="import nest"), PYNEST_QUIET="1")
    assert done.returncode == 0
    assert "can only be used from the main thread" in done.stdout
