"""CPU microseconds per individual that ask and tell cost, for each registered optimizer.

Run ``python benchmarks/ask_tell.py [n]``: n individuals (default 5000) with 16 in flight, one by one as when results
trickle in, and by 16 as when the outer loop collects many at once. The best of three runs.
"""

from __future__ import annotations

import sys
import time
from collections import deque

import numpy as np

from l2l_dask import Evaluations, Objectives, Optimizer, Real, Space, minimize
from l2l_dask.registry import find, names

DIMENSIONS = (10, 100, 1000)
IN_FLIGHT = 16


def microseconds(optimizer: Optimizer, n: int, batch: int = 1) -> float:
    """Ask and tell about ``n`` individuals, ``batch`` at a time; return the time per individual."""
    waiting = deque()
    n_told = 0
    start = time.process_time()
    while n_told < n and not (optimizer.done and not waiting):
        while len(waiting) < max(1, IN_FLIGHT // batch):
            candidates = optimizer.ask(batch)
            if not len(candidates):
                break
            waiting.append(candidates)
        told = waiting.popleft()
        cost = np.square(told.x - 0.3).sum(axis=1, keepdims=True)
        optimizer.tell(Evaluations(told.ids, told.x, cost))
        n_told += len(told)
    return (time.process_time() - start) / n_told * 1e6


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    print("us per individual" + "".join(f"{f'dim {d}, by {b}':>16}" for d in DIMENSIONS for b in (1, 16)))
    for name in names("optimizers"):
        cells = []
        for dim in DIMENSIONS:
            for batch in (1, 16):
                space = Space({"x": Real(0, 1, shape=(dim,))})
                plugin = find("optimizers", name)
                runs = [microseconds(plugin(space, Objectives(minimize("cost"))), n, batch) for _ in range(3)]
                cells.append(f"{min(runs):>16.1f}")
        print(f"{name:<17}" + "".join(cells))


if __name__ == "__main__":
    main()
