"""Search quality on the 24 BBOB functions: one evaluation at a time, and 32 in flight on a virtual clock, beside peers.

What is measured: 51 targets for each problem (function and instance) lie log-spaced between 1e2 and 1e-8 above its
optimum. The *share* is the fraction of all (problem, target) pairs that are reached within 100 x dim evaluations: a
target counts if the best value so far is at most the optimum plus the target. Evaluations are counted in the order of
their completion, those still in flight when the budget is asked included; time is not counted, so nobody is punished
for idle slots. How many there are stands beside it: *busy* is the share of the slots' virtual time that was used until
the last evaluation began. And *in time* is the share reached in the time in which slots that never idle do the budget.

With n in flight, n slots are filled by ask; each evaluation lasts for a log-normal time (sigma 1, mean 1, the k-th
evaluation of a problem as long for everybody); the earliest to complete is told, and its slot asks again. An algorithm
with generations asks for none until its last one is complete, and its slots idle meanwhile.

Everybody searches the box [-5, 5]^dim. Seeds follow from ``--seed``, dimension, function and instance alone. Peers are
what their users get (see ``_peers.py``): ``cma`` starts at a random point of the box with its bounds, a step size of 2
and its own population, or one as large as the slots are many.

    python benchmarks/bbob.py --dim 5 --instances 3 --peers cma,lq-cma,random --json peers.json
    python benchmarks/bbob.py --read peers.json --optimizers cma-es:synchronous=true,pop_size=32,steady-state-ga
    python benchmarks/bbob.py --read peers.json --none          # the table of what is there
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import math
import os
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import _peers
import numpy as np

from l2l_dask import Evaluations, Objectives, Real, Space, minimize
from l2l_dask.registry import build, find, options

TARGETS = np.logspace(2, -8, 51)
GROUPS = {"separable": (1, 5), "moderate": (6, 9), "ill-cond.": (10, 14), "multi-mod.": (15, 19), "weak": (20, 24)}
PER_DIM = 100
OURS = "random,genetic,steady-state-ga,differential-evolution,cma-es,surrogate-cma-es"
PEERS = "cma,lq-cma,original-ga"


class Cell(NamedTuple):
    """One search. ``ours`` tells a registered optimizer from a peer of the same name."""

    ours: bool
    name: str
    dim: int
    in_flight: int
    function: int
    instance: int
    seed: int

    @property
    def label(self) -> str:
        return self.name if self.ours else f"{self.name} (peer)"


class Ours(_peers.Peer):
    """A registered optimizer, through its public ask and tell."""

    def __init__(self, spec: str, task: _peers.Task) -> None:
        name, given = parsed(spec)
        plugin = find("optimizers", name)
        for option, value in (("evaluations", task.budget), ("workers", task.in_flight)):
            if option in options(plugin):
                given.setdefault(option, value)
        self._space = Space({"x": Real(_peers.LOW, _peers.HIGH, shape=(task.dim,))})
        fixed = {"space": self._space, "objectives": Objectives(minimize("f")), "seed": task.seed}
        self.optimizer = build(plugin, name, given, **fixed)

    def ask(self) -> tuple[Any, Any] | None:
        candidates = self.optimizer.ask(1)
        return (candidates, self._space.decode(candidates.x[0])["x"]) if len(candidates) else None

    def tell(self, token: Any, x: Any, cost: float) -> None:  # noqa: ARG002
        self.optimizer.tell(Evaluations(token.ids, token.x, np.array([[cost]])))


def parsed(spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``name:option=value,option=value``."""
    name, _, rest = spec.partition(":")
    given = {}
    for item in filter(None, rest.split(",")):
        option, _, value = item.partition("=")
        try:
            given[option] = json.loads(value)
        except json.JSONDecodeError:
            given[option] = value
    return name, given


def listed(text: str) -> list[str]:
    """Split at commas, but for those between the options of one name."""
    names: list[str] = []
    for item in filter(None, text.split(",")):
        if "=" in item and ":" not in item:
            names[-1] += "," + item
        else:
            names.append(item)
    return names


class Objective:
    """A problem of COCO that notes when each target was reached."""

    def __init__(self, cell: Cell) -> None:
        import cocoex

        from optimizees.bbob import BBOB  # COCO does not tell the optimum's value; these are its to 3e-13

        chosen = f"dimensions:{cell.dim} function_indices:{cell.function} instance_indices:{cell.instance}"
        self._suite = cocoex.Suite("bbob", "instances:1-15", chosen)
        self._problem = self._suite[0]
        self._optimum = BBOB(cell.function, cell.dim, cell.instance).f_opt
        self.evaluations, self.best, self.hits, self.times = 0, math.inf, [], []

    def value(self, x: Any) -> float:
        """Evaluate, and count nothing yet."""
        return float(self._problem(np.asarray(x, dtype=float)))

    def note(self, value: float, now: float = 0.0) -> None:
        """Count an evaluation that is complete."""
        self.evaluations += 1
        if value < self.best:
            self.best = value
            while len(self.hits) < len(TARGETS) and value <= self._optimum + TARGETS[len(self.hits)]:
                self.hits.append(self.evaluations)
                self.times.append(now)

    @property
    def gap(self) -> float:
        return self.best - self._optimum


class Over(Exception):  # noqa: N818
    """The budget is used."""


def drive(peer: _peers.Peer, objective: Objective, budget: int, slots: int, rng: np.random.Generator) -> float:
    """Keep ``slots`` evaluations in flight until the budget is used; return the share of their time that was."""
    flying: list[tuple[float, int, Any, Any, float]] = []
    lasts = rng.lognormal(-0.5, 1.0, budget)
    starts = np.zeros(budget)
    now, asked = 0.0, 0
    while True:
        while asked < budget and len(flying) < slots:
            got = peer.ask()
            if got is None:
                break
            token, x = got
            heapq.heappush(flying, (now + lasts[asked], asked, token, x, objective.value(x)))
            starts[asked] = now
            asked += 1
        if not flying:
            used = np.minimum(lasts, starts.max() - starts)[:asked]
            return float(used.sum() / (slots * starts.max())) if starts.any() else 1.0
        now, _, token, x, value = heapq.heappop(flying)
        objective.note(value, now * slots / lasts.sum())
        peer.tell(token, x, value)


def alone(run: Callable[..., None], objective: Objective, task: _peers.Task) -> None:
    """Let an optimizer that calls the function itself use the budget."""

    def cost(x: Any) -> float:
        if objective.evaluations >= task.budget:
            raise Over
        value = objective.value(x)
        objective.note(value)
        return value

    with contextlib.suppress(Over):
        run(cost, task)


def search(cell: Cell) -> dict[str, Any]:
    """Run one search, and return its row."""
    warnings.simplefilter("ignore")
    objective = Objective(cell)
    for_seed, for_time = np.random.SeedSequence([cell.seed, cell.dim, cell.function, cell.instance]).spawn(2)
    seed = int(for_seed.generate_state(1)[0] % (2**31 - 1)) + 1
    task = _peers.Task(cell.dim, PER_DIM * cell.dim, cell.in_flight, seed)
    start, busy = time.process_time(), 1.0
    if not cell.ours and (run := _peers.sequential(cell.name)):
        alone(run, objective, task)
    else:
        peer = Ours(cell.name, task) if cell.ours else _peers.make(cell.name, task)
        busy = drive(peer, objective, task.budget, cell.in_flight, np.random.default_rng(for_time))
    reached = {"hits": objective.hits, "times": objective.times, "gap": objective.gap}
    took = {"evaluations": objective.evaluations, "busy": busy, "seconds": time.process_time() - start}
    return cell._asdict() | reached | took


def cells(given: argparse.Namespace) -> list[Cell]:
    """List the searches that were asked for, without the peers that are missing."""
    who = [(True, name) for name in listed(given.optimizers)]
    for name in listed(given.peers):
        if why := _peers.missing(name):
            print(f"skipped {name}: {why}", file=sys.stderr)
        else:
            who.append((False, name))
    chosen = []
    for dim in given.dim:
        for n in given.in_flight:
            for ours, name in who:
                if n > 1 and not ours and _peers.sequential(name):
                    print(f"{name} with {n} in flight: it evaluates one after another", file=sys.stderr)
                    continue
                problems = [(f, i) for f in given.functions for i in range(1, given.instances + 1)]
                chosen += [Cell(ours, name, dim, n, f, i, given.seed) for f, i in problems]
    return chosen


def run(wanted: Iterable[Cell], jobs: int) -> Iterable[dict[str, Any]]:
    """Run searches in processes of their own; what fails is left out, counted, and named."""
    wanted, failed = list(wanted), Counter()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(search, cell): cell for cell in wanted}
        for n, future in enumerate(as_completed(futures), 1):
            cell = futures[future]
            if error := future.exception():
                failed[cell.label] += 1
                if failed[cell.label] == 1:
                    where = f"dim {cell.dim}, f{cell.function}, instance {cell.instance}"
                    print(f"\n{cell.label} failed ({where}): {type(error).__name__}: {error}", file=sys.stderr)
            else:
                yield future.result()
            if sys.stderr.isatty():
                print(f"\r{n}/{len(wanted)} {cell.label:40.40}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for label, times in failed.items():
        print(f"{label} failed {times} times", file=sys.stderr)


def share(rows: list[dict[str, Any]]) -> float:
    """Return the fraction of the (problem, target) pairs that were reached."""
    return sum(len(row["hits"]) for row in rows) / (len(rows) * len(TARGETS))


def in_time(rows: list[dict[str, Any]]) -> float:
    """Return the share that is reached while slots that never idle do the budget."""
    if any("times" not in row for row in rows):
        return math.nan
    return sum(sum(time <= 1.0 for time in row["times"]) for row in rows) / (len(rows) * len(TARGETS))


def error(rows: list[dict[str, Any]]) -> float:
    """Return the standard error of the share over instances (and seeds), functions being fixed."""
    by: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by[row["instance"], row["seed"]].append(row)
    shares = [share(some) for some in by.values()]
    return float(np.std(shares, ddof=1) / math.sqrt(len(shares))) if len(shares) > 1 else math.nan


def tables(rows: list[dict[str, Any]], groups: bool) -> None:
    """Print a table for each dimension and number in flight, best first."""
    by: dict[tuple[int, int], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by[row["dim"], row["in_flight"]][Cell(*(row[f] for f in Cell._fields)).label].append(row)
    for (dim, n), found in sorted(by.items()):
        before = by.get((dim, 1), {})
        evaluations, problems = (
            PER_DIM * dim,
            max(len({(r["function"], r["instance"]) for r in f}) for f in found.values()),
        )
        print(f"\ndimension {dim}, {n} in flight, {evaluations} evaluations, at most {problems} problems")
        heads = "".join(f"{head:>11}" for head in GROUPS) if groups else ""
        print(f"{'':44}{'share':>7}{'+-':>6}{'problems':>9}{'in time':>8}{'busy':>6}{'s/run':>8}{'/ one':>7}{heads}")
        for label, some in sorted(found.items(), key=lambda item: (len(item[1]) < problems, -share(item[1]))):
            ratio = (
                share(some) / share(before[label]) if n > 1 and label in before and share(before[label]) else math.nan
            )
            line = f"{label:44.44}{share(some):7.3f}{error(some):6.3f}{len(some):9d}"
            line += f"{in_time(some):8.3f}"
            line += f"{np.mean([r['busy'] for r in some]):6.2f}{np.mean([r['seconds'] for r in some]):8.2f}{ratio:7.2f}"
            for low, high in GROUPS.values() if groups else ():
                part = [r for r in some if low <= r["function"] <= high]
                line += f"{share(part):11.3f}" if part else f"{'':11}"
            print(line)
        few = {f"{label} ({len(some)})" for label, some in found.items() if len(some) < problems}
        if few:
            print("not on all problems, so not comparable: " + ", ".join(sorted(few)))
        early = {label for label, some in found.items() if any(r["evaluations"] < evaluations for r in some)}
        if early:
            print("ended before the budget, at times: " + ", ".join(sorted(early)))


def curve(rows: list[dict[str, Any]], one: str, other: str) -> None:
    """Print after how many evaluations ``one`` has reached as many targets as ``other`` does with all of them."""
    by: dict[tuple[int, int], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by[row["dim"], row["in_flight"]][row["name"]].append(row)
    for (dim, n), found in sorted(by.items()):
        common = {(r["function"], r["instance"], r["seed"]) for r in found.get(one, ())}
        common &= {(r["function"], r["instance"], r["seed"]) for r in found.get(other, ())}
        if not common:
            continue
        ours, theirs = (
            sorted(hit for r in found[name] if (r["function"], r["instance"], r["seed"]) in common for hit in r["hits"])
            for name in (one, other)
        )
        budget, level = PER_DIM * dim, len(theirs) / (len(common) * len(TARGETS))
        reached = ours[len(theirs) - 1] if theirs and len(ours) >= len(theirs) else math.nan
        print(
            f"dimension {dim}, {n} in flight: {other} ends at {level:.3f}; {one} is there after {reached} of {budget} "
            f"evaluations: {reached / budget:.2f}"
        )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dim", type=numbers, default=[5], help="2,5,10,20,40 are COCO's (default 5)")
    add("--functions", type=numbers, default=list(range(1, 25)), help="as 1-5,8 (default: all 24)")
    add("--instances", type=int, default=3, help="so many, from 1 on, at most 15 (default 3)")
    add("--in-flight", type=numbers, default=[1, 32], help="default 1,32")
    add("--optimizers", default=None, help=f"registered names, with options: a,b:x=1,y=2,c (default {OURS})")
    add("--peers", default=None, help=f"of {', '.join([*_peers.PEERS, *_peers.SEQUENTIAL])} (default {PEERS})")
    add("--none", action="store_true", help="run nothing: show what --read brings")
    add("--seed", type=int, default=1)
    add("--jobs", type=int, default=2, help="processes (default 2)")
    add("--groups", action="store_true", help="the share by groups of functions, too")
    add("--curve", nargs="*", metavar="NAME", help="when the first has the final level of the second")
    add("--read", nargs="*", default=[], metavar="FILE", help="rows of earlier runs, which are not run again")
    add("--json", type=Path, metavar="OUT", help="write all rows")
    given = parser.parse_args()
    if not 1 <= given.instances <= 15:
        parser.error(f"--instances: expected 1 to 15, got {given.instances}")
    if given.curve is not None:
        given.curve = given.curve or ["steady-state-ga", "original-ga"]
        if len(given.curve) != 2:
            parser.error(f"--curve: expected two names, got {given.curve}")
    chosen = given.optimizers is not None or given.peers is not None
    given.optimizers = given.optimizers if given.optimizers is not None else "" if chosen else OURS
    given.peers = given.peers if given.peers is not None else "" if chosen else PEERS
    return given


def numbers(text: str) -> list[int]:
    """Read ``1-3,7``."""
    parts = [part.partition("-") for part in text.split(",")]
    return [n for low, _, high in parts for n in range(int(low), int(high or low) + 1)]


def main() -> None:
    given = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # for the processes
    found = {}
    for file in given.read:
        for row in json.loads(Path(file).read_text())["rows"]:
            found[Cell(*(row[f] for f in Cell._fields))] = row
    try:
        if not given.none and (wanted := [cell for cell in cells(given) if cell not in found]):
            for row in run(wanted, given.jobs):
                found[Cell(*(row[f] for f in Cell._fields))] = row
    finally:
        rows = [found[cell] for cell in sorted(found)]
        if given.json and rows:
            given.json.write_text(json.dumps({"targets": TARGETS.tolist(), "rows": rows}))
    tables(rows, given.groups)
    if given.curve:
        curve(rows, *given.curve)


if __name__ == "__main__":
    main()
