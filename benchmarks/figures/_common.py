"""What the figures of the simulations share: a search against random search with the same budget, and its table."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask import Experiment
from l2l_dask.space import Params
from l2l_dask.trajectory import Trajectory

IMAGES = Path(__file__).parents[2] / "docs" / "images"
OURS, CHANCE = "#0072B2", "#999999"  # Okabe and Ito's blue, and grey: told apart by everyone
TARGET, SECOND = "#D55E00", "#009E73"


@dataclass(frozen=True)
class Duel:
    """A search and a random one with the same budget and seed."""

    seed: int
    ours: Trajectory
    chance: Trajectory


def duels(
    optimizee: Any,
    optimizer: str,
    evaluations: int,
    seeds: Sequence[int],
    *,
    run: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> list[Duel]:
    """Run the search and random search, each with every seed, on two local workers; ``run`` is for both."""
    folder = Path(tempfile.mkdtemp(prefix="l2l-figure-"))
    ended = []
    for seed in seeds:
        both = []
        for name, its in ((optimizer, options), ("random", {})):
            store = folder / f"{name}-{seed}.zarr"
            budget = {"evaluations": evaluations, "seed": seed, "workers": 2} | dict(run)
            both.append(Experiment(optimizee, name, optimizer_options=its, store=store, **budget).run())
        ended.append(Duel(seed, *both))
    return ended


def middle(found: Sequence[Duel]) -> Duel:
    """Return the duel whose search ended in the middle, by the fitness of its best in the first objective."""
    return sorted(found, key=lambda duel: next(iter(duel.ours.best.fitness.values())))[len(found) // 2]  # type: ignore[union-attr]


def best_so_far(trajectory: Trajectory) -> NDArray[np.float64]:
    """Return the best fitness of the first objective after each evaluation, in the user's direction."""
    cost = trajectory.cost[np.argsort(trajectory.record["told"], kind="stable")]
    best = np.fmin.accumulate(np.where(np.isfinite(cost), cost, np.inf))
    return np.asarray(trajectory.objectives.cost(best)[:, 0])  # a cost of a cost is the fitness


def course(axes: Any, found: Sequence[Duel], optimizer: str, label: str) -> None:
    """Plot the best so far of all searches and all random ones: the median, and the range."""
    for who, colour, runs in (
        (optimizer, OURS, [best_so_far(duel.ours) for duel in found]),
        ("random search", CHANCE, [best_so_far(duel.chance) for duel in found]),
    ):
        low, median, high = np.quantile(runs, [0, 0.5, 1], axis=0)
        x = np.arange(1, len(median) + 1)
        axes.plot(x, median, color=colour, label=who)
        axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.set(xlabel="evaluations", ylabel=label, yscale="log")
    axes.set_title(f"search (median and range of {len(found)} seeds)", fontsize="medium")
    axes.legend(frameon=False)


def progress(axes: Any, found: Sequence[Duel], optimizer: str, label: str, title: str) -> None:
    """Plot the best so far of each search and each random one, thin, and their medians."""
    for colour, who, all_of in (
        (OURS, optimizer, [best_so_far(duel.ours) for duel in found]),
        (CHANCE, "random search", [best_so_far(duel.chance) for duel in found]),
    ):
        for one in all_of:
            axes.plot(np.arange(1, len(one) + 1), one, color=colour, alpha=0.35, lw=1)
        axes.plot(np.arange(1, len(one) + 1), np.median(all_of, axis=0), color=colour, lw=2.5, label=who)
    axes.set(xlabel="evaluations", ylabel=label, title=f"{title} ({len(found)} seeds, median)")
    axes.legend(frameon=False, loc="lower right")


def table(found: Sequence[Duel], held_out: Callable[[Params], Mapping[str, float]], title: str) -> None:
    """Print what each search found and how that does on what it has not seen, with the medians."""
    print(title)
    rows: dict[str, list[dict[str, float]]] = {"search": [], "random": []}
    for duel in found:
        for who, trajectory in (("search", duel.ours), ("random", duel.chance)):
            best = trajectory.best
            assert best is not None
            rows[who].append({**best.fitness, **{f"held-out {k}": v for k, v in held_out(best.params).items()}})
            print(f"  seed {duel.seed} {who:7s}", {k: round(v, 4) for k, v in rows[who][-1].items()})
    for who, values in rows.items():
        print(f"  median {who:6s}", {k: round(statistics.median(v[k] for v in values), 4) for k in values[0]})
