"""The ants of NetLogo: a search against random search, what the best ants do, and how that holds on unseen seeds.

``NETLOGO_HOME`` must point to a NetLogo. Writes docs/images/netlogo.png and prints the table of docs/netlogo.md; the
searches take about ten minutes on two idle cores.
"""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from _common import CHANCE, IMAGES, OURS, SECOND, Duel, duels, middle, progress, table

from optimizees.netlogo import NetLogo

OPTIMIZER, EVALUATIONS, SEEDS = "surrogate-cma-es", 150, (1, 2, 3)
UNSEEN = list(range(900_001, 900_011))  # seeds of NetLogo for the courses that are drawn
SIDE = 51  # patches


def main() -> None:
    ants = NetLogo()
    found = duels(ants, OPTIMIZER, EVALUATIONS, SEEDS)
    table(found, ants.held_out, f"ants, {EVALUATIONS} evaluations of 2 x 400 ticks, {OPTIMIZER} against random")
    print("  as in the file", {name: round(value, 4) for name, value in ants.held_out({}).items()})
    draw(found)


def draw(found: list[Duel]) -> None:
    median = middle(found)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.7), width_ratios=(1.1, 1.1, 1), layout="constrained")
    progress(axes[0], found, OPTIMIZER, "best food so far (units)", "The search")
    courses(axes[1], median)
    trails(axes[2], median.ours.best.params)
    figure.savefig(IMAGES / "netlogo.png", dpi=75)


def courses(axes: Any, duel: Duel) -> None:
    ants = NetLogo(seeds=UNSEEN)
    for colour, label, params in (
        (OURS, "found by the search", duel.ours.best.params),
        (CHANCE, "found at random", duel.chance.best.params),
        (SECOND, "as in the file", {}),
    ):
        runs = ants.simulate(params, 0)
        food = runs.courses["food"]
        middle, spread = food.mean(axis=0), food.std(axis=0, ddof=1)
        axes.plot(runs.ticks, middle, color=colour, lw=2.5, label=label)
        axes.fill_between(runs.ticks, middle - spread, middle + spread, color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="ticks", ylabel="food brought home (units)", title="Ten unseen seeds (mean, SD)", ylim=(0, None))
    axes.legend(frameon=False, loc="upper left")


def trails(axes: Any, params: dict[str, Any]) -> None:
    record = {"trail": "world-map false", "left": "world-map true"}
    seen = NetLogo(seeds=UNSEEN[:1], ticks=200, interval=200, record=record).simulate(params, 0).courses
    trail, left = (seen[name][0, -1].reshape(SIDE, SIDE) for name in ("trail", "left"))
    half = SIDE / 2
    shown = axes.imshow(np.log10(trail + 1e-3), cmap="Greys", extent=(-half, half, -half, half))
    y, x = np.nonzero(left)
    axes.scatter(x - SIDE // 2, SIDE // 2 - y, s=5, marker="s", color="#E69F00", label="food left")
    axes.scatter(0, 0, s=60, marker="^", color=OURS, label="nest")
    axes.figure.colorbar(shown, ax=axes, label="log10 of pheromone")
    axes.set(xlabel="x (patches)", ylabel="y (patches)", title="The best ants' trails, tick 200")
    axes.legend(loc="lower left", fontsize=7)


if __name__ == "__main__":
    main()
