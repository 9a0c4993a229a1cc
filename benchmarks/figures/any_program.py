"""A neuron in awk: CMA-ES against random search, and the neurons that they found driven by another current.

``python benchmarks/figures/any_program.py`` prints the table of docs/any-program.md and draws its figure, in a minute.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from _awk_neuron import EXAMPLES, driven
from _common import CHANCE, IMAGES, OURS, TARGET, Duel, course, duels, table

from l2l_dask import config, description
from l2l_dask.space import Params

mpl.use("agg")

from matplotlib import pyplot as plt

OPTIMIZER, SEEDS = "cma-es", (1, 2, 3)
RIGHT, UNSEEN = {"a": 0.7, "b": 0.8, "tau": 12.5}, 0.8  # the search drives the neuron with 0.5


def held_out(params: Params) -> dict[str, float]:
    """Return what the neuron does at a current that no evaluation has seen."""
    return driven(params, UNSEEN)


def main() -> None:
    """Run the searches, print the table and draw the figure."""
    read = config.read(EXAMPLES / "any-program.toml")
    neuron, evaluations = description.problem_of(read, EXAMPLES).optimizee, read.run.evaluations
    found = duels(neuron, OPTIMIZER, evaluations, SEEDS, run={"timeout": read.run.timeout})
    table(found, held_out, f"the neuron in awk, {evaluations} evaluations, held out: a current of {UNSEEN}")
    print("  the right neuron", held_out(RIGHT))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    course(axes[0], found, OPTIMIZER, "best error so far")
    _periods(axes[1], found)
    figure.savefig(IMAGES / "any-program.png", dpi=100)


def _periods(axes: Any, found: list[Duel]) -> None:
    for place, (colour, runs) in enumerate(
        ((OURS, [duel.ours for duel in found]), (CHANCE, [duel.chance for duel in found]))
    ):
        periods = [held_out(run.best.params)["period"] for run in runs if run.best]
        axes.plot([place] * len(periods), periods, "o", color=colour, alpha=0.8)
    axes.axhline(held_out(RIGHT)["period"], color=TARGET, ls="--", label="the right neuron")
    axes.set(xticks=[0, 1], xticklabels=[OPTIMIZER, "random search"], xlim=(-0.5, 1.5), ylabel="period")
    axes.set_title(f"held out: driven by {UNSEEN} and not 0.5, {len(found)} seeds", fontsize="medium")
    axes.legend(frameon=False)


if __name__ == "__main__":
    main()
