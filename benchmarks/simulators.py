"""What an evaluation costs beside the bare simulator call: in this process, and in a worker's child process.

    python benchmarks/simulators.py [NAME ...] [--rounds N]

Each round calls the three in turn, with the same parameters and seed; the medians of the rounds are compared. The bar
is 3 % + 10 ms over the bare call, and each line says whether the two others are within it or above. A simulator that is
not installed is named and left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from l2l_dask import registry, shipping
from l2l_dask.child import Payload
from l2l_dask.errors import L2LError
from l2l_dask.evaluating import Where, evaluate
from l2l_dask.evaluation import Candidate
from l2l_dask.process import Child

NAMES = {
    "few-shot": {},
    "arbor-cell": {},
    "neuron-cell": {},
    "nest-reservoir": {},
    "nest-readout": {},
    "nest-gymnasium": {},
    "tvb-brain": {},
    "netlogo": {},
}
NOWHERE = Where("nowhere.zarr", "", 1)


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measured(optimizee: Any, rounds: int) -> list[float]:
    """Return the median seconds of the bare call, of an evaluation here, and of one in a child process."""
    optimizee.setup()
    child = Child(Payload(shipping.pack(optimizee), NOWHERE))
    x = optimizee.space.sample(np.random.default_rng(1), rounds + 1)
    times: list[list[float]] = [[], [], []]
    try:
        for i, params in enumerate(map(optimizee.space.decode, x)):
            candidate = Candidate(i, params, 1)
            seed = 1 + int(candidate.seeds().generate_state(1)[0]) % (2**31 - 2)
            taken = [
                seconds(lambda: optimizee.simulate(params, seed)),  # noqa: B023
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
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    print(f"{'':16s} {'bare':>9s} {'here':>9s} {'child':>9s} {'bar':>9s}   (ms, medians of {arguments.rounds} rounds)")
    for name in arguments.names:
        try:
            optimizee = registry.build(registry.find("optimizees", name), name, NAMES[name])
            bare, here, child = (1000 * s for s in measured(optimizee, arguments.rounds))
        except L2LError as error:
            print(f"{name:16s} left out: {error}")
            continue
        print(
            f"{name:16s} {bare:9.1f} {here:9.1f} {child:9.1f} {_bar(bare):9.1f}   "
            f"here {verdict(bare, here)}, child {verdict(bare, child)}"
        )


if __name__ == "__main__":
    main()
