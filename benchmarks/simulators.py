"""What an evaluation costs beside the bare simulator call: in this process, and in a worker's child process.

    python benchmarks/simulators.py [NAME ...] [--rounds N]

Each round calls the three in turn, with the same parameters and seed; the medians of the rounds are compared. The bar
is 3 % + 10 ms over the bare call, and each line says whether the two others are within it or above. A simulator that is
not installed is named and left out. The last two are those of the examples: a program that a script would start with
its input file, and an optimizee of the original L2L whose ``simulate`` is called.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from figures._awk_neuron import EXAMPLES, driven

from l2l_dask import config, description, registry, shipping
from l2l_dask.capture import Capture
from l2l_dask.child import Payload
from l2l_dask.errors import L2LError
from l2l_dask.evaluating import Where, evaluate
from l2l_dask.evaluation import Candidate
from l2l_dask.optimizee import Context
from l2l_dask.process import Child
from l2l_dask.space import Params
from optimizees import L2LTrajectory
from optimizees._l2l_trajectory import Individual

BUILT_IN = (
    "few-shot",
    "arbor-cell",
    "neuron-cell",
    "nest-reservoir",
    "nest-readout",
    "nest-gymnasium",
    "tvb-brain",
    "netlogo",
)
NAMES = (*BUILT_IN, "any-program", "from-l2l")
NOWHERE = Where("nowhere.zarr", "", 1)


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def found(name: str) -> tuple[Any, Callable[[Params, int], Any]]:
    """Return an optimizee and its bare call."""
    if name in BUILT_IN:
        optimizee = registry.build(registry.find("optimizees", name), name, {})
        return optimizee, optimizee.simulate
    optimizee = description.problem_of(config.read(EXAMPLES / f"{name}.toml"), EXAMPLES).optimizee
    if name == "any-program":
        return optimizee, lambda params, _: driven(params, 0.5)
    simulate = optimizee.function.simulate
    return optimizee, lambda params, _: simulate(L2LTrajectory(individual=Individual(params)))


def measured(optimizee: Any, bare: Callable[[Params, int], Any], rounds: int) -> list[float]:
    """Return the median seconds of the bare call, of an evaluation here, and of one in a child process."""
    optimizee.setup()
    child = Child(Payload(shipping.pack(optimizee), NOWHERE))
    x = optimizee.space.sample(np.random.default_rng(1), rounds + 1)
    times: list[list[float]] = [[], [], []]
    try:
        for i, params in enumerate(map(optimizee.space.decode, x)):
            candidate = Candidate(i, params, 1)
            seed = Context(candidate).seed
            taken = [
                seconds(lambda: bare(params, seed)),  # noqa: B023
                seconds(lambda: evaluate(optimizee, candidate, NOWHERE)),  # noqa: B023
                seconds(lambda: child.evaluate([candidate])),  # noqa: B023
            ]
            if i:  # the first round warms up
                for kept, new in zip(times, taken, strict=True):
                    kept.append(new)
    finally:
        child.close()
    return [median(kept) for kept in times]


def verdict(bare: float, taken: float) -> str:
    """Say whether milliseconds are within the bar."""
    over = taken - _bar(bare)
    return "within" if over <= 0 else f"ABOVE by {over:.1f}"


def _bar(bare: float) -> float:
    return 1.03 * bare + 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in NAMES:
            sys.exit(f"expected some of {', '.join(NAMES)}, got {name!r}")
    print(f"{'':16s} {'bare':>9s} {'here':>9s} {'child':>9s} {'bar':>9s}   (ms, medians of {arguments.rounds} rounds)")
    for name in arguments.names:
        try:
            with Capture()():  # what a program prints here is not the table's
                bare, here, child = (1000 * s for s in measured(*found(name), arguments.rounds))
        except L2LError as error:
            print(f"{name:16s} left out: {error}")
            continue
        print(
            f"{name:16s} {bare:9.1f} {here:9.1f} {child:9.1f} {_bar(bare):9.1f}   "
            f"here {verdict(bare, here)}, child {verdict(bare, child)}"
        )


if __name__ == "__main__":
    main()
