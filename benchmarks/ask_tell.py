"""CPU microseconds that ask and tell cost for each evaluation, beside the same algorithm of other libraries.

Ours are asked and told with 16 in flight: one by one, as when results trickle in, and by 16, as when the outer loop
collects many at once. A library's is used as its users do: by whole generations where it has them, else one by one. In
each round all of a row run one after another in one process with one thread, and the best of three rounds counts. The
function's own time does not. A ratio below 1 means that ours costs less; ``~`` marks a rival that is not the same
algorithm but the nearest there is. A run ends after ``--seconds``; a figure from less than all evaluations has a star.

    python benchmarks/ask_tell.py --optimizers cma-es,differential-evolution:pop_size=50 --dim 10,100
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import _peers
import numpy as np
from _rivals import DRIVES, RIVALS, SEVERAL
from bbob import Over, listed, parsed

from l2l_dask import Evaluations, Objectives, Optimizer, Real, Space, minimize
from l2l_dask.registry import build, find, names

IN_FLIGHT = 16
ROUNDS = 3
WARM_UP = 64  # evaluations before the first round: imports, compilers
clock = time.process_time


class Meter:
    """Counts evaluations and the CPU seconds of asking and telling, until enough of either."""

    def __init__(self, n: int, seconds: float, n_objectives: int) -> None:
        self._n, self._limit, self._several = n, seconds, n_objectives > 1
        self.n, self.seconds = 0, 0.0
        self._begun = clock()

    @property
    def over(self) -> bool:
        return self.n >= self._n or clock() - self._begun > self._limit

    def timed(self, call: Callable[..., Any], *given: Any) -> Any:
        start = clock()
        result = call(*given)
        self.seconds += clock() - start
        return result

    def costs(self, x: Any) -> Any:
        """Return the sphere function's values, or the squared distances from two points."""
        x = np.asarray(x, dtype=float)
        one = np.square(x - 1.3).sum(axis=-1)
        return np.stack([one, np.square(x + 1.3).sum(axis=-1)], axis=-1) if self._several else one

    @property
    def result(self) -> dict[str, Any]:
        return {"us": self.seconds / max(self.n, 1) * 1e6, "n": self.n, "cut": self.n < self._n}


def ours(optimizer: Optimizer, meter: Meter, batch: int) -> None:
    """Ask and tell, ``batch`` at a time."""
    waiting: deque[Any] = deque()
    while not meter.over:
        while len(waiting) < max(1, IN_FLIGHT // batch):
            candidates = meter.timed(optimizer.ask, batch)
            if not len(candidates):
                break
            waiting.append(candidates)
        if not waiting:
            return
        told = waiting.popleft()
        costs = meter.costs(10.0 * told.x - 5.0).reshape(len(told), -1)
        meter.timed(optimizer.tell, Evaluations(told.ids, told.x, costs))
        meter.n += len(told)


def theirs(peer: _peers.Peer, meter: Meter) -> None:
    """Ask and tell by generations, or one by one with as many in flight."""
    if isinstance(peer, _peers.Generations):
        while not meter.over:
            x = meter.timed(peer.generate)
            costs = meter.costs(x).tolist()
            meter.timed(peer.update, x, costs)
            meter.n += len(x)
        return
    waiting: deque[Any] = deque()
    while not meter.over:
        while len(waiting) < IN_FLIGHT:
            waiting.append(meter.timed(peer.ask))
        token, x = waiting.popleft()
        meter.timed(peer.tell, token, x, meter.costs(x).tolist())
        meter.n += 1


def driven(name: str, task: _peers.Task, meter: Meter) -> None:
    """Let a peer that calls the function itself do so; what is not the function's time is its own."""
    inside = 0.0

    def cost(x: Any) -> float:
        nonlocal inside
        start = clock()
        if meter.over:
            raise Over
        meter.n += 1
        value = float(meter.costs(x))
        inside += clock() - start
        return value

    start = clock()
    try:
        _peers.sequential(name)(cost, task)
    except Over:
        meter.seconds = clock() - start - inside


def runs(spec: str, dim: int, n: int) -> tuple[dict[str, Callable[[Meter], None]], list[str]]:
    """Return what stands in a row, by label, and who is missing."""
    name, given = parsed(spec)
    several = SEVERAL.get(name, 1)
    task = _peers.Task(dim, n, IN_FLIGHT, 1, several)
    alone = _peers.Task(dim, n, 1, 1, several)  # populations of their own size
    space = Space({"x": Real(_peers.LOW, _peers.HIGH, shape=(dim,))})
    objectives = Objectives([minimize(f"f{i}") for i in range(several)])

    def new() -> Optimizer:
        return build(find("optimizers", name), name, dict(given), space=space, objectives=objectives, seed=1)

    row: dict[str, Callable[[Meter], None]] = {
        "by 1": lambda meter: ours(new(), meter, 1),
        "by 16": lambda meter: ours(new(), meter, IN_FLIGHT),
    }
    missing = []
    for label, (module, make) in RIVALS.get(name, {}).items():
        if find_spec(module) is None:
            missing.append(f"{label}: {module} is not installed")
        elif module == "nevergrad":
            row[label] = lambda meter, make=make: theirs(make(task), meter)  # it wants to know how many are in flight
        else:
            row[label] = lambda meter, make=make: theirs(make(alone), meter)
    for label, peer in DRIVES.get(name, {}).items():
        if why := _peers.missing(peer):
            missing.append(f"{label}: {why}")
        else:
            row[label] = lambda meter, peer=peer: driven(peer, alone, meter)
    return row, missing


def measure(spec: str, dim: int, n: int, seconds: float) -> dict[str, Any]:
    """Measure a row: all in turn, three times after a warm-up."""
    warnings.simplefilter("ignore")
    row, missing = runs(spec, dim, n)
    best: dict[str, Any] = {}
    said = {reason.partition(":")[0]: reason.partition(": ")[2] for reason in missing}
    for around in range(ROUNDS + 1):
        for label, run in row.items():
            if label in said or (label in best and best[label]["cut"]):
                continue  # what was cut is not measured again
            meter = Meter(n if around else WARM_UP, seconds, SEVERAL.get(spec.partition(":")[0], 1))
            try:
                run(meter)
            except Exception as error:  # whatever a library raises: the others are measured all the same
                said[label] = f"{type(error).__name__}: {error}"[:200]
                continue
            if around and meter.n and (label not in best or meter.result["us"] < best[label]["us"]):
                best[label] = meter.result
    return {"name": spec, "dim": dim, "best": best, "said": said}


def show(result: dict[str, Any]) -> None:
    """Print what was measured of one algorithm and dimension."""
    best = result["best"]

    def figure(label: str) -> str:
        return f"{best[label]['us']:.1f}{'*' if best[label]['cut'] else ' '}" if label in best else "- "

    lead = f"{result['name']:26.26}{result['dim']:5d}{figure('by 1'):>10}{figure('by 16'):>10}"
    for label in [label for label in best if label not in ("by 1", "by 16")] or [""]:
        line = lead
        if label:
            line += f"  {label:26}{figure(label):>10}"
            for ours in ("by 1", "by 16"):
                line += f"{best[ours]['us'] / best[label]['us']:8.2f}" if ours in best else f"{'-':>8}"
        print(line, flush=True)
        lead = " " * len(lead)
    for label, reason in result["said"].items():
        print(f"    {label}: {reason}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--optimizers", help="registered names, with options: a,b:x=1,y=2,c (default: all that can be imported)")
    add("--dim", default="10,100,1000", help="default 10,100,1000")
    add("--evaluations", type=int, default=1000, help="of each run (default 1000)")
    add("--seconds", type=float, default=1.0, help="after which a run ends (default 1)")
    add("--json", type=Path, metavar="OUT", help="write all figures")
    given = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # for the process that measures
    print(f"us per evaluation, {given.evaluations} evaluations, at most {given.seconds:g} s a run (* cut)")
    print(f"{'':26}{'dim':>5}{'by 1 ':>10}{'by 16 ':>10}  {'beside':26}{'':10}{'ratio 1':>8}{'16':>8}")
    results = []
    for spec in listed(given.optimizers) if given.optimizers else names("optimizers"):
        for dim in map(int, given.dim.split(",")):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                results.append(pool.submit(measure, spec, dim, given.evaluations, given.seconds).result())
            show(results[-1])
    if given.json:
        given.json.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
