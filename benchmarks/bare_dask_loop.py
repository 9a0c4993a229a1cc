"""What a durable, isolated evaluation costs beside the bare Dask loop, on one cluster, in one run.

The bare loop is ``submit`` and ``as_completed`` with as many in flight, no child process, and nothing kept. Ours
evaluates in child processes, and every result is in the journal before the optimizer is told. Rates are those of steady
state: the first tenth of the evaluations is left out. They take turns; the ratio is of neighbours.

The last case is ours in bundles, individuals that share a future, beside the same bare loop.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster, as_completed

from l2l_dask import Experiment, Real, Space, minimize

WORKERS = 2
ROUNDS = 3
BARE = 1500  # evaluations of the bare loop
# seconds per evaluation, in bundles, evaluations
CASES = ((0.0, False, 1500), (0.01, False, 1500), (0.0, True, 30_000))
IN_FLIGHT = 18  # of the bare loop beside bundles: as many futures per slot as we have without
SPACE = Space({"x": Real(-5, 5, shape=(10,))})


def sphere(params: dict[str, np.ndarray], seconds: float) -> float:
    """Sleep and return the sphere function."""
    if seconds:
        time.sleep(seconds)
    return float((params["x"] ** 2).sum())


def bare(client: Client, seconds: float, evaluations: int, in_flight: int) -> float:
    """Return the evaluations per second of the bare loop."""
    rng = np.random.default_rng(1)

    def submit() -> object:
        return client.submit(sphere, SPACE.decode(SPACE.sample(rng, 1)[0]), seconds, pure=False)

    completed = as_completed([submit() for _ in range(in_flight)])
    asked, finished = in_flight, []
    for future in completed:
        future.result()
        finished.append(time.time())
        if asked < evaluations:
            asked += 1
            completed.add(submit())
    return steady(np.array(finished))


def ours(client: Client, seconds: float, evaluations: int, *, bundle: bool) -> tuple[float, int]:
    """Return our evaluations per second, and the most that were in flight."""
    most = 0

    def note(progress: object) -> None:
        nonlocal most
        most = max(most, progress.in_flight)  # type: ignore[attr-defined]

    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(
            lambda params: sphere(params, seconds),
            "random",
            space=SPACE,
            objectives=minimize("f"),
            store=Path(folder) / "bench.zarr",
            evaluations=evaluations,
            bundle=bundle,
        )
        ended = experiment.run(client, on_progress=note)
        return steady(np.sort(ended.record["finished"])), most


def steady(finished: np.ndarray) -> float:
    """Return the rate without the first tenth."""
    later = finished[len(finished) // 10 :]
    return (len(later) - 1) / (later[-1] - later[0])


def main() -> None:
    """Print a line per round and the medians."""
    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        for seconds, bundle, evaluations in CASES:
            how = "in bundles" if bundle else "a future each"
            print(f"\n{seconds * 1000:g} ms per evaluation, {how}, {WORKERS} workers, {evaluations} evaluations")
            print(f"{'bare/s':>8} {'ours/s':>8} {'ratio':>6} {'in flight':>10}")
            ratios = []
            for _ in range(ROUNDS):
                rate, in_flight = ours(client, seconds, evaluations, bundle=bundle)
                reference = bare(client, seconds, BARE, IN_FLIGHT if bundle else in_flight)
                ratios.append(rate / reference)
                print(f"{reference:8.1f} {rate:8.1f} {ratios[-1]:6.2f} {in_flight:10d}", flush=True)
            print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
