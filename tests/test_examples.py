"""The examples run as they stand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from l2l_dask import Experiment, load
from l2l_dask.executors import Simulated
from l2l_dask.trajectory import Trajectory

EXAMPLES = Path(__file__).parents[1] / "examples"


NEEDS = {"netlogo.toml": "NETLOGO_HOME"}  # what no package brings


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.toml")))
def test_an_example_runs_and_nothing_fails(name: str, tmp_path: Path) -> None:
    needed = NEEDS.get(name)
    if needed and needed not in os.environ:
        pytest.skip(f"needs {needed} to be set")
    for path in EXAMPLES.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    ended = Experiment.from_config(tmp_path / name, cluster="serial", evaluations=8).run()
    assert ended.state == "finished"
    counts = ended.counts()
    assert counts["total"] >= 8
    assert counts["done"] + counts["stopped"] == counts["total"]
    assert tmp_path in ended.layout.root.parents  # paths in the file are relative to it
    assert not (tmp_path / "examples").exists()


def _best_of(optimizer: str, seed: int, store: Path) -> float:
    """Run the demo's problem and budget on two virtual workers."""
    experiment = Experiment.from_config(EXAMPLES / "arbor-cell.toml", store=store, seed=seed)
    plan = experiment.plan
    experiment = Experiment(
        plan.problem.optimizee, optimizer, store=store, evaluations=plan.config.run.evaluations, seed=seed
    )
    two = Simulated(2, lambda candidate, rng: rng.uniform(0.5, 1.5))
    ended: Trajectory = experiment.run(two)
    return float(load(store).cost.min()) if ended.state == "finished" else np.nan


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_the_demo_fits_better_than_random_search_with_the_same_budget(seed: int, tmp_path: Path) -> None:
    ours = _best_of("steady-state-ga", seed, tmp_path / "ours.zarr")
    chance = _best_of("random", seed, tmp_path / "random.zarr")
    print(f"seed {seed}: steady-state-ga {ours:.3g}, random {chance:.3g}")
    assert ours < 0.5 * chance
