"""Digits in NEST: a reservoir's hyper-parameters, and weights onto spiking outputs, each against random search.

Writes docs/images/nest-digits.png and prints the tables of docs/nest-digits.md; the searches take about ten minutes on
two idle cores.
"""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from _common import CHANCE, IMAGES, OURS, SECOND, TARGET, Duel, duels, middle, progress, table

from optimizees.nest_readout import NestReadout
from optimizees.nest_reservoir import NestReservoir

SEEDS = (1, 2, 3)
TUNED, TUNED_EVALUATIONS = "surrogate-cma-es", 150
LEARNT, LEARNT_EVALUATIONS, ENKF = "enkf", 960, {"pop_size": 160, "gamma": 0.1}
GUESS = {
    "input_weight": 30.0,
    "input_degree": 16,
    "weight": 0.1,
    "inhibition": 7.0,
    "indegree": 10,
    "tau_m": 12.0,
    "delay": 2,
    "bias": 30.0,
    "input_rate": 300.0,
    "ridge": 100.0,
}


def main() -> None:
    reservoir, readout = NestReservoir(), NestReadout()
    tuned = duels(reservoir, TUNED, TUNED_EVALUATIONS, SEEDS)
    table(tuned, reservoir.held_out, f"nest-reservoir, {TUNED_EVALUATIONS} evaluations, {TUNED} against random")
    guess, pixels = reservoir.held_out(GUESS), reservoir.pixels_held_out()
    print(f"  first guess {guess}, pixels {pixels}")
    for duel in tuned:
        print(f"  seed {duel.seed}", {name: round(value, 3) for name, value in duel.ours.best.params.items()})
    learnt = duels(readout, LEARNT, LEARNT_EVALUATIONS, SEEDS, **ENKF)
    table(learnt, readout.held_out, f"nest-readout, {LEARNT_EVALUATIONS} evaluations, {LEARNT} {ENKF} against random")
    figure, axes = plt.subplots(2, 3, figsize=(12, 7), width_ratios=(1.2, 1, 1), layout="constrained")
    progress(axes[0, 0], tuned, TUNED, "best accuracy so far", "nest-reservoir")
    confusion(axes[0, 1], middle(tuned))
    levels = {"pixels, no network": (pixels, TARGET), "a first guess": (guess, SECOND)}
    unseen(axes[0, 2], tuned, reservoir, TUNED, levels)
    progress(axes[1, 0], learnt, LEARNT, "best accuracy so far", "nest-readout")
    outputs(axes[1, 1], middle(learnt))
    unseen(axes[1, 2], learnt, readout, LEARNT, {})
    figure.savefig(IMAGES / "nest-digits.png", dpi=75)


def confusion(axes: Any, duel: Duel) -> None:
    counts = duel.ours.saved(duel.ours.best.id)["confusion"]
    shown = axes.imshow(counts, cmap="Blues", vmax=counts.max())
    axes.figure.colorbar(shown, ax=axes, label="images")
    axes.set(xlabel="digit that was named", ylabel="digit shown", xticks=range(10), yticks=range(10))
    axes.set_title("The best reservoir")


def outputs(axes: Any, duel: Duel) -> None:
    saved = duel.ours.saved(duel.ours.best.id)
    shown = saved["target"].argmax(axis=1)
    means = np.array([saved["observation"][shown == digit].mean(axis=0) for digit in range(shown.max() + 1)])
    image = axes.imshow(means * NestReadout().wanted_spikes, cmap="Blues", vmin=0)
    axes.figure.colorbar(image, ax=axes, label="mean spikes in an image")
    ticks = range(len(means))
    axes.set(
        xlabel="output neuron", ylabel="digit shown", xticks=ticks, yticks=ticks, title="The best weights' outputs"
    )


def unseen(axes: Any, found: list[Duel], optimizee: Any, optimizer: str, levels: dict[str, Any]) -> None:
    for place, (colour, runs) in enumerate(
        ((OURS, [duel.ours for duel in found]), (CHANCE, [duel.chance for duel in found]))
    ):
        for run in runs:
            claimed = run.best.fitness["accuracy"]
            held_out = optimizee.held_out(run.best.params)["test_accuracy"]
            axes.plot([place - 0.2, place + 0.2], [claimed, held_out], "-", color=colour, lw=1)
            axes.plot(place - 0.2, claimed, "o", color="white", markeredgecolor=colour, markeredgewidth=1.5)
            axes.plot(place + 0.2, held_out, "o", color=colour)
    for label, (level, colour) in levels.items():
        axes.axhline(level["test_accuracy"], color=colour, ls="--", lw=1.5, label=label)
    axes.plot([], [], "o", color="white", markeredgecolor="black", label="in the search")
    axes.plot([], [], "o", color="black", label="unseen images")
    axes.set(xticks=[0, 1], xticklabels=[optimizer, "random search"], xlim=(-0.6, 1.6), ylabel="accuracy")
    axes.set_title("Unseen images, fresh noise")
    axes.legend(frameon=False, loc="lower left", fontsize=9)


if __name__ == "__main__":
    main()
