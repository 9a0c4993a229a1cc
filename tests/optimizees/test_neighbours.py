"""Simulators side by side in one process: none changes what another one computes, in whatever order they come."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import Any

import pytest

from l2l_dask import registry
from l2l_dask.errors import PluginError

SMALL: dict[str, dict[str, Any]] = {  # a name, and after a space what tells two of the same name apart
    "nest-reservoir": {"neurons": 30, "images": 40, "test_images": 20},
    "nest-readout": {"neurons": 30, "images": 40, "test_images": 20},
    "arbor-cell": {"duration": 30},
    "neuron-cell": {"duration": 30},
    "neuron-cell hh": {"model": "hh", "duration": 30},
    "nest-gymnasium": {"max_steps": 10},
    "tvb-brain": {"duration": 1500.0, "transient": 300.0},
    "netlogo": {"ticks": 20, "repeats": 1},
    "few-shot": {"batch": 4},
}

PROGRAM = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from l2l_dask import registry
from l2l_dask.evaluation import Candidate
from l2l_dask.optimizee import Context

order, small, in_main_thread = json.loads(sys.argv[1])
made = {}
for name in dict.fromkeys(order):
    kind = name.split()[0]
    made[name] = registry.build(registry.find("optimizees", kind), kind, small[name])
for optimizee in made.values():
    optimizee.setup()

def evaluated():
    found = {}
    for name in order:
        optimizee = made[name]
        params = optimizee.space.decode(optimizee.space.sample(np.random.default_rng(3), 1)[0])
        fitness = optimizee.evaluate(params, Context(Candidate(5, params, 1)))
        values = list(fitness.values()) if isinstance(fitness, dict) else np.atleast_1d(fitness).tolist()
        found.setdefault(name, []).append([float(value).hex() for value in values])
    return found

found = evaluated() if in_main_thread else ThreadPoolExecutor(1).submit(evaluated).result()
print("found", json.dumps(found), flush=True)
"""


def evaluated(order: list[str], *, as_on_a_worker: bool = False) -> dict[str, list[list[str]]]:
    """Evaluate in a fresh process, one optimizee after the other, all set up before the first.

    As on a worker is in another thread than the imports, and with as many OpenMP threads as there are cores.
    """
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if not as_on_a_worker:
        environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", PROGRAM, json.dumps([order, SMALL, not as_on_a_worker])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("found "))
    found: dict[str, list[list[str]]] = json.loads(line.removeprefix("found "))
    return found


def installed() -> list[str]:
    names = []
    for name, options in SMALL.items():
        try:
            kind = name.split()[0]
            registry.build(registry.find("optimizees", kind), kind, options)
            names.append(name)
        except PluginError as error:
            print(f"left out: {error}")
    return names


@pytest.mark.slow
def test_same_seed_same_fitness_in_any_order_and_next_to_any_other_simulator() -> None:
    names = installed()
    assert len(names) > 2
    first = evaluated([*names, *names])
    for name in names:
        here, again = first[name]
        assert here == again, f"{name}: evaluated twice in one process"
    shuffled = random.Random(1).sample(names, len(names))
    for order, as_on_a_worker in ((names[::-1], True), (shuffled, False), (shuffled[::-1], True)):
        other = evaluated(order, as_on_a_worker=as_on_a_worker)
        for name in names:
            assert other[name] == first[name][:1], f"{name}: in another process, in the order {order}"


@pytest.mark.parametrize("missing", ["nest", "arbor", "neuron", "tvb", "gymnasium", "jpype"])
def test_where_a_simulator_is_missing_the_others_work_and_it_is_named_with_its_extra(missing: str) -> None:
    program = f"""
import importlib.abc, importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name.split(".")[0] == {missing!r} else find_spec(name, *more)
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from l2l_dask import registry
from l2l_dask.errors import PluginError
for name in registry.names("optimizees"):
    plugin = registry.find("optimizees", name)
    registry.options(plugin)
    try:
        registry.build(plugin, name, {{}})
        print("works", name)
    except PluginError as error:
        print("refused", name, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    affected = {
        "nest": {"nest-reservoir", "nest-readout", "nest-gymnasium"},
        "arbor": {"arbor-cell"},
        "neuron": {"neuron-cell"},
        "tvb": {"tvb-brain"},
        "gymnasium": {"nest-gymnasium"},
        "jpype": {"netlogo"},
    }[missing]
    extra = {"jpype": "netlogo"}.get(missing, missing)
    assert affected <= {name for _, name, *_ in lines}
    for kind, name, *message in lines:
        if name in affected:
            assert kind == "refused"
            assert "not installed" in message[0], message
            assert f"l2l-dask[{extra}]" in message[0] or "l2l-dask[gymnasium]" in message[0], message
        elif name != "netlogo":  # which also needs a NetLogo
            assert kind == "works", (name, message)
