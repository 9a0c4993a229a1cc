"""How much of the slots' time is used when evaluations last differently long.

Evaluations sleep for a log-normal time (sigma 1, mean 1 s), the same times for every optimizer; 32 slots on one machine
(sleeping costs no core). The share that is used is measured from the first start until the last individual was
submitted: after that the slots drain, whatever the optimizer. A generation waits for its slowest one; steady state
waits for none.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

from l2l_dask import Experiment, Real, Space, Trajectory, minimize

WORKERS, THREADS = 4, 8
SLOTS = WORKERS * THREADS
ROUNDS = 3
EVALUATIONS = 1000
SPACE = Space({"x": Real(-5, 5, shape=(10,))})
CASES: dict[str, dict[str, Any]] = {
    "steady-state-ga": {"pop_size": 32},
    "genetic": {"pop_size": 32},
}


def sleeping(params: dict[str, Any], context: Any) -> float:
    """Sleep for a log-normal time with sigma 1 and mean 1 s, and return the sphere function."""
    time.sleep(context.rng.lognormal(-0.5, 1.0))
    return float((params["x"] ** 2).sum())


def used(trajectory: Trajectory) -> tuple[float, float]:
    """Return the share of the slots' time that was used before the last ones drained, and the seconds until then."""
    record = trajectory.record
    begin, end = record["started"].min(), record["submitted"].max()
    busy = np.minimum(record["finished"], end) - np.minimum(record["started"], end)
    return float(busy.sum() / (SLOTS * (end - begin))), float(end - begin)


def main(evaluations: int) -> None:
    """Print a line for each optimizer and round."""
    print(f"{SLOTS} slots, {evaluations} evaluations")
    print(f"{'':18} {'used':>6} {'seconds':>8}")
    shares: dict[str, list[float]] = {name: [] for name in CASES}
    options = {"n_workers": WORKERS, "threads_per_worker": THREADS, "host": "127.0.0.1"}
    with LocalCluster(**options, dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
        for _ in range(ROUNDS):
            for name, settings in CASES.items():
                with tempfile.TemporaryDirectory() as folder:
                    ended = Experiment(
                        sleeping,
                        name,
                        optimizer_options=settings,
                        space=SPACE,
                        objectives=minimize("f"),
                        store=Path(folder) / "bench.zarr",
                        evaluations=evaluations,
                    ).run(client)
                    share, seconds = used(ended)
                shares[name].append(share)
                print(f"{name:18} {share:6.3f} {seconds:8.1f}", flush=True)
    for name, found in shares.items():
        print(f"{name:18} {statistics.median(found):6.3f} in the middle")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EVALUATIONS)
