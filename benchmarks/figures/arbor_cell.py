"""Two cells, a step and a ramp, two objectives: NSGA-II against random search, the front, and currents held out.

``python benchmarks/figures/arbor_cell.py`` prints the table of docs/arbor-cell.md and draws its figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from _common import CHANCE, IMAGES, OURS, TARGET, Duel, course, duels, middle, table
from numpy.typing import NDArray

from l2l_dask.space import Params
from l2l_dask.trajectory import Trajectory
from optimizees.arbor_cell import ArborCell

EVALUATIONS, SEEDS = 2000, (1, 2, 3)
OPTIMIZER, OPTIONS = "nsga-2", {"pop_size": 50}


def optimizee() -> ArborCell:
    """Return what examples/arbor-cells.toml searches."""
    return ArborCell(["nr5a1", "rorb"], 0.25, 100, stimulus=["step", "ramp"], errors=["features", "trace"])


def front(trajectory: Trajectory) -> NDArray[np.float64]:
    """Return the fitness of the individuals on the Pareto front, (n, 2)."""
    return np.array([list(individual.fitness.values()) for individual in trajectory.front])


def _fronts(axes: Any, found: list[Duel]) -> None:
    for duel in found:
        for colour, marker, trajectory in ((CHANCE, "s", duel.chance), (OURS, "o", duel.ours)):
            axes.plot(*front(trajectory).T, color=colour, marker=marker, markersize=4, linewidth=1)
    axes.set(xlabel="feature error (tolerances)", ylabel="trace error (mV)", xscale="log")
    axes.set_title("Pareto fronts, one line for each seed", fontsize="medium")


def _held_out(axes: Any, cells: ArborCell, which: int, found: Mapping[str, Params]) -> None:
    cell, (kind, current) = cells.cells[which], list(cells.held_out_currents().items())[which]
    for who, colour, width in (("random search", CHANCE, 1.0), ("published", TARGET, 2.0), (OPTIMIZER, OURS, 1.0)):
        voltage = cells.trace(found[who], cell, current)
        axes.plot(0.1 * np.arange(len(voltage)), voltage, color=colour, linewidth=width, label=who)
    axes.set(xlabel="time (ms)", ylabel="soma (mV)", ylim=(-95, 75))
    axes.set_title(f"held out: {kind} of {current.amplitude:.2f} nA into {cell.morphology}", fontsize="medium")
    axes.legend(frameon=False, fontsize="small", ncols=3, loc="upper center")


def main() -> None:
    """Run the searches, print the table and draw the figure."""
    cells = optimizee()
    found = duels(cells, OPTIMIZER, EVALUATIONS, SEEDS, **OPTIONS)
    table(found, cells.held_out, f"arbor-cell, two cells, {EVALUATIONS} evaluations")
    for who, runs in ((OPTIMIZER, [duel.ours for duel in found]), ("random", [duel.chance for duel in found])):
        print(f"  smallest trace error of {who}:", [round(float(front(run)[:, 1].min()), 1) for run in runs])
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    course(axes[0, 0], found, OPTIMIZER, "best feature error (tolerances)")
    _fronts(axes[0, 1], found)
    median = middle(found)
    ours, chance = median.ours.best, median.chance.best
    assert ours is not None
    assert chance is not None
    params = {OPTIMIZER: ours.params, "random search": chance.params, "published": cells.published}
    for which in (0, 1):
        _held_out(axes[1, which], cells, which, params)
    figure.savefig(IMAGES / "arbor-cell.png", dpi=100)


if __name__ == "__main__":
    main()
