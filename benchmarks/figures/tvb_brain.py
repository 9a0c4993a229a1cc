"""The figure and the table of docs/tvb-brain.md: ``python benchmarks/figures/tvb_brain.py``, a quarter of an hour."""

from __future__ import annotations

import os
from typing import Any

import matplotlib as mpl
import numpy as np
from _common import CHANCE, IMAGES, OURS, SECOND, Duel, best_so_far, duels, middle, table
from numpy.typing import NDArray

from optimizees._functional_connectivity import similarity
from optimizees.tvb_brain import TVBBrain

OPTIMIZER, EVALUATIONS, SEEDS = "surrogate-cma-es", 100, (1, 2, 3)


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    brain = TVBBrain(duration=3500, transient=500)  # as in examples/tvb-brain.toml
    brain.setup()
    found = duels(brain, OPTIMIZER, EVALUATIONS, SEEDS)
    checked: dict[str, dict[str, float]] = {}

    def held_out(params: Any) -> dict[str, float]:
        key = repr(params)
        if key not in checked:
            checked[key] = brain.held_out(params)
        return checked[key]

    table(found, held_out, f"{OPTIMIZER} against random search, {EVALUATIONS} evaluations, seeds {SEEDS}")
    print("structure alone:", round(similarity(brain.connectome.weights, brain.target_fc), 3))
    _draw(brain, found, held_out)


def _draw(brain: TVBBrain, found: list[Duel], held_out: Any) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot

    ours = middle(found).ours
    best = ours.best
    assert best is not None
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6.8), layout="constrained")
    _matrices(figure, axes[0], brain.target_fc, ours.saved(best.id)["fc"])
    _course(axes[1, 0], found)
    _check(axes[1, 1], brain, [held_out(duel.ours.best.params) for duel in found if duel.ours.best], found, held_out)
    figure.savefig(IMAGES / "tvb-brain.png", dpi=100, pil_kwargs={"optimize": True})


def _matrices(figure: Any, axes: Any, target: NDArray[Any], simulated: NDArray[Any]) -> None:
    titles = ("measured: mean of 5 people", f"simulated: best of one search, r = {similarity(simulated, target):.2f}")
    order = np.r_[0 : len(target) : 2, 1 : len(target) : 2]  # AAL2 alternates left and right
    for axis, matrix, title in zip(axes, (target, simulated), titles, strict=True):
        image = axis.imshow(matrix[np.ix_(order, order)], vmin=-0.2, vmax=1.0, cmap="cividis", interpolation="nearest")
        axis.set(title=title, xlabel="region (left, then right)", ylabel="region (left, then right)")
    figure.colorbar(image, ax=axes, label="functional connectivity (r)", shrink=0.9)


def _course(axis: Any, found: list[Duel]) -> None:
    for n, duel in enumerate(found):
        for trajectory, colour, label, style in (
            (duel.ours, OURS, OPTIMIZER, "-"),
            (duel.chance, CHANCE, "random search", "--"),
        ):
            best = best_so_far(trajectory)
            axis.plot(1 + np.arange(len(best)), best, style, color=colour, label="" if n else label, lw=1.8)
    axis.set(xlabel="evaluations", ylabel="best fitness so far (r less penalty)", ylim=(0.2, None))
    axis.set_title(f"the search, {len(found)} seeds")
    axis.legend(loc="lower right")


def _check(axis: Any, brain: TVBBrain, ours: list[dict[str, float]], found: list[Duel], held_out: Any) -> None:
    chance = [held_out(duel.chance.best.params) for duel in found if duel.chance.best]
    keys = ("r_target", "r_unseen_subjects")
    for values, colour, shift, label in ((ours, OURS, -0.12, OPTIMIZER), (chance, CHANCE, 0.12, "random search")):
        for place, key in enumerate(keys):
            axis.plot([place + shift] * len(values), [v[key] for v in values], "o", color=colour, ms=8, alpha=0.8)
        axis.plot([], [], "o", color=colour, label=label)
    assert brain.unseen_fc is not None
    for place, fc in enumerate((brain.target_fc, brain.unseen_fc)):
        alone = similarity(brain.connectome.weights, fc)
        axis.hlines(alone, place - 0.3, place + 0.3, color="black", ls=":", label="" if place else "structure alone")
    between = ours[0]["r_between_subjects"]
    axis.hlines(between, 0.7, 1.3, color=SECOND, ls="--", label="measured: 5 and 2 other people")
    axis.set_xticks(range(len(keys)), ["the 5 people\nof the target", "2 people\nnever seen"])
    axis.set(xlim=(-0.5, 1.5), ylim=(0.2, 1.15), ylabel="r of simulated and measured FC")
    axis.set_title("held-out check: fresh noise")
    axis.legend(loc="upper left", fontsize=8)


if __name__ == "__main__":
    main()
