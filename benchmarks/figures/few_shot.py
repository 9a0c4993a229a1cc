"""Few-shot learning: what the outer loop finds against random search and a standard learner, on unseen tasks.

Run ``python benchmarks/figures/few_shot.py`` (about five minutes on an idle core); it prints the tables of
docs/learning-to-learn.md and draws its figure. With words it runs these parts only, without the figure: ``rates``,
``initial-weights``, ``plasticity``, ``common-seeds``, ``hyperband``.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from _common import CHANCE, IMAGES, OURS, SECOND, TARGET, Duel, table
from numpy.typing import NDArray

from l2l_dask import Experiment
from l2l_dask.evaluation import Candidate
from l2l_dask.executors import Simulated
from l2l_dask.trajectory import FINAL, Trajectory
from optimizees.few_shot import FewShot

SEEDS = (4, 5, 6)  # the settings were chosen with 1, 2 and 3
STEPS = 81  # of the inner loop that hyperband cuts short


def duration(candidate: Candidate, rng: np.random.Generator) -> float:  # noqa: ARG001
    """Return how long an evaluation takes on the virtual clock."""
    return float(rng.uniform(0.9, 1.1))


@dataclass(frozen=True)
class Contest:
    """A search that is compared with random search on the same budget."""

    learner: FewShot
    optimizer: str
    evaluations: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def search(self, folder: Path, optimizer: str, seed: int, **run: Any) -> Trajectory:
        options = self.options if optimizer == self.optimizer else {}
        store = Path(tempfile.mkdtemp(dir=folder)) / f"{optimizer}.zarr"
        run = {"final": 10, "cluster": "serial"} | run
        experiment = Experiment(
            self.learner,
            optimizer,
            optimizer_options=options,
            evaluations=self.evaluations,
            seed=seed,
            store=store,
            **run,
        )
        # Two virtual workers, so that anybody gets these very numbers; a real stop spares work in this process only.
        return experiment.run(None if self.optimizer == "hyperband" else Simulated(2, duration))

    def duels(self, folder: Path, seeds: Sequence[int]) -> list[Duel]:
        return [
            Duel(seed, self.search(folder, self.optimizer, seed), self.search(folder, "random", seed)) for seed in seeds
        ]


CONTESTS = {
    "rates": Contest(FewShot("reaching", "rates"), "cma-es", 1000, {"pop_size": 40}),
    "initial-weights": Contest(
        FewShot("sinusoids", "initial-weights", batch=25, width=16, depth=1),
        "cma-es",
        4000,
        {"sigma": 1.0, "pop_size": 30, "separable": True},
    ),
    "plasticity": Contest(
        FewShot("reaching", "plasticity", shots=5, steps=20, batch=25), "cma-es", 2000, {"pop_size": 40}
    ),
    "hyperband": Contest(
        FewShot("sinusoids", "rates", steps=STEPS), "hyperband", 150, {"min_resource": 9, "max_resource": STEPS}
    ),
}


def common_seeds(folder: Path, seeds: Sequence[int]) -> None:
    """Let all individuals learn the same 50 tasks, and print what that is worth on others."""
    contest = CONTESTS["initial-weights"]
    print("initial-weights, seeds = common, no final round")
    for seed in seeds:
        best = contest.search(folder, "cma-es", seed, seeds="common", final=0).best
        assert best is not None
        unseen = contest.learner.held_out(best.params)["loss_after"]
        print(f"  seed {seed}: fitness {best.fitness['query_loss']:.3f}, held-out loss_after {unseen:.3f}")


def inner_steps(trajectory: Trajectory) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return inner steps spent, and the best fitness so far, after each result of the search itself."""
    ids = np.flatnonzero(trajectory.record["origin"] != FINAL)
    ids = ids[np.argsort(trajectory.record["told"][ids], kind="stable")]
    spent = np.cumsum([trajectory.saved(int(i))["learning_curve"][-1, 0] for i in ids])
    return spent, np.fmin.accumulate(np.nan_to_num(trajectory.cost[ids, 0], nan=np.inf))


def print_work(duels: Sequence[Duel]) -> None:
    for who in ("ours", "chance"):
        spent = [inner_steps(getattr(duel, who))[0][-1] for duel in duels]
        stopped = [getattr(duel, who).counts()["stopped"] for duel in duels]
        print(f"  inner steps, {who}: {[int(s) for s in spent]}, median {statistics.median(spent):.0f}; {stopped=}")


def draw(found: Mapping[str, Sequence[Duel]], path: Path) -> None:
    """Draw the four panels."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    draw_unseen(axes[0, 0], found)
    weights = CONTESTS["initial-weights"].learner
    best = [duel.ours.best for duel in found["initial-weights"]]
    chance = [duel.chance.best for duel in found["initial-weights"]]
    curves = {
        "standard": (TARGET, [weights.standard().curve]),
        "random search": (CHANCE, [weights.examine(b.params).curve for b in chance if b]),
        "search": (OURS, [weights.examine(b.params).curve for b in best if b]),
    }
    for label, (colour, lines) in curves.items():
        for line in lines:
            axes[0, 1].plot(line, "o-", color=colour, ms=3, label=label if line is lines[0] else None)
    axes[0, 1].set(xlabel="inner step", ylabel="loss on unseen tasks", title="initial weights: the inner loop", ylim=0)
    axes[0, 1].legend(frameon=False)
    assert best[0] is not None
    draw_example(axes[1, 0], weights, best[0].params)
    for duel in found["hyperband"]:
        for trajectory, colour, label in ((duel.chance, CHANCE, "random"), (duel.ours, SECOND, "hyperband")):
            spent, so_far = inner_steps(trajectory)
            axes[1, 1].plot(spent / 1000, so_far, color=colour, label=label if duel.seed == SEEDS[0] else None)
    axes[1, 1].set(xlabel="inner steps spent (thousands)", ylabel="best fitness so far", ylim=(0, 4.5))
    axes[1, 1].set_title(f"{CONTESTS['hyperband'].evaluations} learners of {STEPS} steps each")
    axes[1, 1].legend(frameon=False)
    figure.savefig(path, dpi=100)


def draw_unseen(axes: Any, found: Mapping[str, Sequence[Duel]]) -> None:
    """Draw the losses on unseen tasks after learning, of all that learned."""
    names = ["rates", "initial-weights", "plasticity"]
    for x, name in enumerate(names):
        learner = CONTESTS[name].learner
        for shift, colour, label in ((0, CHANCE, "random search"), (0.22, OURS, "search")):
            bests = [(duel.ours if label == "search" else duel.chance).best for duel in found[name]]
            losses = [learner.examine(b.params).curve[-1] for b in bests if b]
            axes.plot(np.full(len(losses), x + shift), losses, "o", color=colour, label=None if x else label)
        axes.plot(x - 0.22, learner.standard().curve[-1], "D", color=TARGET, label=None if x else "standard")
    axes.set_yscale("log")
    axes.set_xticks(range(3), [f"{n}\n({CONTESTS[n].learner.tasks})" for n in names])
    axes.set(ylabel="loss on unseen tasks, after learning", title="what was found", xlim=(-0.5, 2.5))
    axes.legend(frameon=False)


def draw_example(axes: Any, learner: FewShot, params: Mapping[str, Any]) -> None:
    """Draw a sinusoid being learned."""
    grid, _ = learner.family.grid(101)
    responses = learner.examine(dict(params)).responses
    target = learner.targets()["response"].values
    axes.plot(grid, target, color=TARGET, lw=2, ls="--", label="the task")
    axes.plot(learner.example.support_x[0], learner.example.support_y[0], "o", color=TARGET, label="its samples")
    for step, alpha in ((0, 0.35), (1, 0.6), (learner.steps, 1.0)):
        axes.plot(grid, responses[step], color=OURS, alpha=alpha, label=f"after {step} step{'s' if step != 1 else ''}")
    axes.plot(grid, learner.standard().responses[-1], color=CHANCE, label=f"standard, after {learner.steps}")
    axes.set(xlabel="input", ylabel="output", title="a new sinusoid, from 10 samples", ylim=(-3.6, 5.4))
    axes.legend(frameon=False, fontsize=7, ncols=2)


def main(parts: Sequence[str]) -> None:
    folder, found = Path(tempfile.mkdtemp(prefix="l2l-figure-")), {}
    for name, contest in CONTESTS.items():
        if parts and name not in parts:
            continue
        found[name] = contest.duels(folder, SEEDS)
        title = f"{name} on {contest.learner.tasks}: {contest.optimizer} {contest.options}, {contest.evaluations} each"
        table(found[name], contest.learner.held_out, title)
        if name == "hyperband":
            print_work(found[name])
    if not parts or "common-seeds" in parts:
        common_seeds(folder, SEEDS)
    if not parts:
        draw(found, IMAGES / "learning-to-learn.png")


if __name__ == "__main__":
    main(sys.argv[1:])
