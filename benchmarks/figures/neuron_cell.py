"""A published cell in NEURON: surrogate CMA-ES against random search, a current held out, and the cell in Arbor.

``python benchmarks/figures/neuron_cell.py`` prints the tables of docs/neuron-cell.md and draws its figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import process_time
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from _common import CHANCE, IMAGES, OURS, SECOND, TARGET, Duel, course, duels, middle, table

from l2l_dask.space import Params
from optimizees._currents import Current
from optimizees._spike_features import features
from optimizees.arbor_cell import ArborCell, Morphology
from optimizees.neuron_cell import ModelName, NeuronCell

OPTIMIZER, SEEDS = "surrogate-cma-es", (1, 2, 3)
EVALUATIONS: Mapping[ModelName, int] = {"allen": 600, "hh": 300}
COMPARED: tuple[Morphology, ...] = ("nr5a1", "rorb", "scnn1a", "pvalb-470522102", "pvalb-469628681")
_TIMED = 5


def _responses(axes: Any, cell: NeuronCell, current: Current, found: Mapping[str, Params], title: str) -> None:
    for who, colour, width in (("random search", CHANCE, 1.0), ("published", TARGET, 2.0), (OPTIMIZER, OURS, 1.0)):
        voltage = cell.trace(found[who], current)
        axes.plot(0.1 * np.arange(len(voltage)), voltage, color=colour, linewidth=width, label=who)
    axes.set(xlabel="time (ms)", ylabel="soma (mV)", ylim=(-95, 75))
    axes.set_title(title, fontsize="medium")
    axes.legend(frameon=False, fontsize="small", ncols=3, loc="upper center", columnspacing=1.0, handlelength=1.0)


def _simulators(axes: Any, cell: NeuronCell) -> None:
    """Draw the first spikes of the published cell in both simulators."""
    voltages = cell.trace({}), ArborCell("nr5a1").trace({})
    for voltage, who, colour, style in zip(voltages, ("NEURON", "Arbor"), (OURS, SECOND), ("-", "--"), strict=True):
        axes.plot(0.1 * np.arange(len(voltage)), voltage, style, color=colour, label=who)
    axes.set(xlabel="time (ms)", ylabel="soma (mV)", xlim=(60, 130), ylim=(-95, 75))
    axes.set_title("the published cell in two simulators", fontsize="medium")
    axes.legend(frameon=False, fontsize="small", ncols=2, loc="upper center")


def _compare() -> None:
    """Print what differs between the simulators, and how long each takes."""
    print("the published cells under 0.2 nA for 200 ms: NEURON, Arbor")
    for morphology in COMPARED:
        cells = NeuronCell("allen", morphology), ArborCell(morphology)
        line = []
        for cell in cells:
            found = features(cell.trace({}), cells[0]._step)
            began = process_time()
            for _ in range(_TIMED):
                cell.trace({})
            seconds = (process_time() - began) / _TIMED
            line.append((found["spike_count"], round(found["latency"], 2), round(seconds, 3)))
        print(f"  {morphology:16s} spikes, latency (ms), seconds of CPU time", *line)


def main() -> None:
    """Run the searches, print the tables and draw the figure."""
    _compare()
    found: dict[str, list[Duel]] = {}
    for model, evaluations in EVALUATIONS.items():
        found[model] = duels(NeuronCell(model), OPTIMIZER, evaluations, SEEDS)
        table(found[model], NeuronCell(model).held_out, f"neuron-cell, model {model}, {evaluations} evaluations")
    draw(found["allen"])


def draw(found: list[Duel]) -> None:
    """Draw the figure from the searches with the published cell."""
    cell = NeuronCell("allen")
    median = middle(found)
    ours, chance = median.ours.best, median.chance.best
    assert ours is not None
    assert chance is not None
    params = {OPTIMIZER: ours.params, "random search": chance.params, "published": cell.published}
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    course(axes[0, 0], found, OPTIMIZER, "best feature error (tolerances)")
    _simulators(axes[0, 1], cell)
    _responses(axes[1, 0], cell, cell.current, params, f"the step of the search, {cell.current.amplitude:.2f} nA")
    noise = cell.held_out_currents()["noise"]
    _responses(axes[1, 1], cell, noise, params, f"held out: noise of {noise.amplitude:.2f} nA")
    figure.savefig(IMAGES / "neuron-cell.png", dpi=100)


if __name__ == "__main__":
    main()
