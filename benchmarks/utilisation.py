"""How much of the slots' time is used when evaluations last differently long.

Evaluations sleep for a log-normal time (sigma 1, mean 1 s), the same times for every optimizer; 32 slots on one machine
(sleeping costs no core). The share that is used is measured from the first start until the last individual was
submitted: after that the slots drain, whatever the optimizer. A generation waits for its slowest one; steady state
waits for none. Of what is lost, a part is the start of 32 processes at once on few cores; the second figure leaves it
out, and counts from when each slot had begun.
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
SPACE = Space({"x": Real(-5, 5, shape=(10,))})
EVALUATIONS = {"steady-state-ga": 2000, "genetic": 480}


def sleeping(params: dict[str, Any], context: Any) -> float:
    """Sleep for a log-normal time with sigma 1 and mean 1 s, and return the sphere function."""
    time.sleep(context.rng.lognormal(-0.5, 1.0))
    return float((params["x"] ** 2).sum())


def used(trajectory: Trajectory, begin: float) -> tuple[float, float]:
    """Return the share of the slots' time that was used from ``begin`` until the last ones drain, and the seconds."""
    record = trajectory.record
    end = record["submitted"].max()
    busy = np.clip(record["finished"], begin, end) - np.clip(record["started"], begin, end)
    return float(busy.sum() / (SLOTS * (end - begin))), float(end - begin)


def main(evaluations: dict[str, int]) -> None:
    """Print a line for each optimizer and round."""
    print(f"{SLOTS} slots")
    print(f"{'':18} {'evaluations':>11} {'used':>6} {'once begun':>10} {'seconds':>8}")
    shares: dict[str, list[float]] = {name: [] for name in evaluations}
    options = {"n_workers": WORKERS, "threads_per_worker": THREADS, "host": "127.0.0.1"}
    with LocalCluster(**options, dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
        for _ in range(ROUNDS):
            for name, n in evaluations.items():
                with tempfile.TemporaryDirectory() as folder:
                    ended = Experiment(
                        sleeping,
                        name,
                        optimizer_options={"pop_size": 32},
                        space=SPACE,
                        objectives=minimize("f"),
                        store=Path(folder) / "bench.zarr",
                        evaluations=n,
                    ).run(client)
                started = np.sort(ended.record["started"])
                share, seconds = used(ended, started[0])
                begun, _ = used(ended, started[SLOTS - 1])
                shares[name].append(share)
                print(f"{name:18} {n:11d} {share:6.3f} {begun:10.3f} {seconds:8.1f}", flush=True)
    for name, found in shares.items():
        print(f"{name:18} {statistics.median(found):6.3f} in the middle")


if __name__ == "__main__":
    main(dict.fromkeys(EVALUATIONS, int(sys.argv[1])) if len(sys.argv) > 1 else EVALUATIONS)
