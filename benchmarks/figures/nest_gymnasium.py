"""A spiking network learns to drive the mountain car: the table and the figure of docs/nest-gymnasium.md.

``python benchmarks/figures/nest_gymnasium.py`` takes about six minutes on two idle cores.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from _common import CHANCE, IMAGES, OURS, TARGET, Duel, best_so_far, duels, middle, table

from optimizees.nest_gymnasium import Episode, NestGymnasium, starts

mpl.use("agg")

from matplotlib import pyplot as plt

OPTIMIZER, EVALUATIONS, SEEDS = "steady-state-ga", 800, (1, 2, 3)
FINAL = {"final": 10}  # one episode says little: the ten best are evaluated again, ten times each
GOAL, UNSEEN = 0.5, 20
PUSHES = ((0, "left", TARGET), (1, "none", CHANCE), (2, "right", OURS))


def main() -> None:
    optimizee = NestGymnasium()
    found = duels(optimizee, OPTIMIZER, EVALUATIONS, SEEDS, run=FINAL)
    table(found, optimizee.held_out, f"MountainCar-v0, {EVALUATIONS} evaluations, {UNSEEN} unseen starts")
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    canvas, axes = plt.subplots(1, 3, figsize=(9.6, 3.2), layout="constrained")
    figure(axes, optimizee, found)
    canvas.savefig(IMAGES / "nest-gymnasium.png", dpi=100)


def figure(axes: Sequence[Any], optimizee: NestGymnasium, found: Sequence[Duel]) -> None:
    """Draw the searches, and what the best networks of the middle one do from unseen starts."""
    _searches(axes[0], found)
    median = middle(found)
    ours, chance = (
        optimizee.play(search.best.params, starts(1, UNSEEN, unseen=True), optimizee.environment.limit)
        for search in (median.ours, median.chance)
    )
    _drives(axes[1], ours, chance)
    _policy(axes[2], ours)


def _searches(axes: Any, found: Sequence[Duel]) -> None:
    for searches, color, name in (
        ([duel.chance for duel in found], CHANCE, "random"),
        ([duel.ours for duel in found], OURS, OPTIMIZER),
    ):
        curves = [best_so_far(search)[:EVALUATIONS] for search in searches]  # without what is evaluated again
        for curve in curves:
            axes.plot(range(1, len(curve) + 1), curve, color=color, lw=0.8, alpha=0.6)
        medians = [statistics.median(values) for values in zip(*curves, strict=True)]
        axes.plot(range(1, len(medians) + 1), medians, color=color, lw=2.2, label=f"{name}, median of {len(found)}")
        again = [search.best.fitness["furthest"] for search in searches]  # type: ignore[union-attr]
        axes.plot([EVALUATIONS * 1.05] * len(again), again, "o", color=color, ms=4)
    axes.axhline(GOAL, color="black", lw=0.8, ls=":")
    axes.annotate("goal", (0, GOAL), xytext=(2, 2), textcoords="offset points")
    axes.set(xlabel="evaluations", ylabel="best furthest position + bonus", title="the search")
    axes.legend(frameon=False, loc="lower right", fontsize=8, borderaxespad=0)


def _drives(axes: Any, ours: Sequence[Episode], chance: Sequence[Episode]) -> None:
    for episodes, color, name in ((chance, CHANCE, "best of random"), (ours, OURS, f"best of {OPTIMIZER}")):
        for i, episode in enumerate(episodes):
            axes.plot(episode.observations[:, 0], color=color, lw=0.8, alpha=0.7, label=None if i else name)
    axes.axhline(GOAL, color="black", lw=0.8, ls=":")
    axes.set(xlabel="step", ylabel="position", ylim=(-1.25, 0.95), title=f"{UNSEEN} unseen starts")
    axes.legend(frameon=False, loc="upper right", fontsize=8, borderaxespad=0)


def _policy(axes: Any, episodes: Sequence[Episode]) -> None:
    for action, name, color in PUSHES:
        seen = [episode.observations[:-1][episode.actions == action] for episode in episodes]
        x, v = ([state[i] for states in seen for state in states] for i in (0, 1))
        axes.scatter(x, v, s=3, color=color, label=name)
    axes.set(xlabel="position", ylabel="velocity per step", title="where the network pushes", ylim=(-0.072, 0.105))
    axes.legend(frameon=False, loc="upper center", ncols=3, fontsize=8, markerscale=3, handletextpad=0.1)


if __name__ == "__main__":
    main()
