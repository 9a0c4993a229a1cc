"""Synthetic stores of any size, fast: their arrays are written in large slabs, in the format that a driver writes.

``make(path, 1_000_000)`` takes some seconds. The search that they show gets better in time, on workers that are busy
one after the other, with evaluations that fail, and, if wanted, generations, learning curves, saved arrays, numbers
that are none, and text that must not be run.

What ``make`` takes: ``space`` of one's own, or a ``rich`` one with all kinds of parameters; ``failures``, the share
that fails, in one way or another; ``odd``: some fitness is NaN, infinite or huge, and some times are missing, as no
driver writes it; ``generation``, the size of generations, which wait for their last (0: none); ``seconds``, the median
of what an evaluation takes; ``pending``: so many of the last rows have no result yet; ``budget``, by default ``n``;
``state``, by default "finished", or "running" where some are pending; ``curves`` and ``saved``: so many of the first
rows have a learning curve, or a trace and a matrix (the best has these too); ``evil``: HTML and scripts wherever a user
or an error can write; ``spread``: fitness is a mean of repeats, with a standard deviation.
"""

import heapq
import json
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import zarr

from l2l_dask import Categorical, Integer, Objectives, Real, Space, Target, maximize, minimize
from l2l_dask.evaluation import Status
from l2l_dask.saving import save_arrays, saved_folder
from l2l_dask.trajectory import create
from l2l_dask.trajectory.columns import create_array, info_column, quiet_zarr
from l2l_dask.trajectory.layout import Layout, write_json

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>&amp;"
T0 = 1_760_000_000.0  # when the search began
OBJECTIVES = (minimize("loss"), maximize("rate_of_success"), minimize("energy"))
PLAIN = Space({"tau": Real(1e-3, 1, log=True), "g": Real(-5, 5), "delay": Real(0, 10), "n": Integer(1, 100)})
RICH = Space(
    {
        "tau": Real(1e-3, 1, log=True),
        "g": Real(-5, 5),
        "n": Integer(1, 1000, log=True),
        "rule": Categorical(["stdp", "hebb", "none"]),
        "window": Real(1, 100, when={"rule": ["stdp", "hebb"]}),
        "w": Real(-1, 1, shape=(2, 2)),
        "bias": Real(loc=0.0, scale=2.0),
    }
)
_FAILURES = (Status.FAILED, Status.TIMED_OUT, Status.CRASHED)
_SLAB = 1 << 17


@dataclass(frozen=True)
class _Plan:
    """When and where rows are evaluated: seconds since the beginning, and workers."""

    submitted: np.ndarray
    started: np.ndarray
    finished: np.ndarray
    worker: np.ndarray


def make(
    path,
    n,
    *,
    objectives=1,
    space=None,
    rich=False,
    failures=0.03,
    odd=False,
    generation=0,
    workers=16,
    hosts=4,
    seconds=20.0,
    pending=0,
    budget=None,
    state=None,
    curves=0,
    saved=0,
    evil=False,
    spread=False,
    since=T0,
    seed=1,
):
    """Write a store of ``n`` evaluations, as the top of this file says, and return its path."""
    path, rng = Path(path), np.random.default_rng(seed)
    space = space or _space(rich, evil)
    names = Objectives(OBJECTIVES[:objectives])
    plan = _plan(n, workers, seconds, generation, rng)
    x = _points(n, space, rng)
    fitness, status = _outcomes(x, objectives, failures, pending, rng)
    if odd:
        _spoil(fitness, plan, rng)
    done = status == Status.DONE
    fitness[~done] = np.nan
    columns = _rows(plan, status, x, space, fitness, workers, hosts, generation, since)
    columns["error"], errors = _errors(status, evil)
    if spread:
        columns["fitness_sd"] = np.abs(fitness) / 10
    folders, arrays = _saved(n, names.cost(fitness)[:, 0], curves, saved, rng)
    columns["saved"] = folders
    create(path, _experiment(space, names, generation, evil), space, names, max(n, 1), targets=_targets(saved))
    _write(path, columns)
    says = {"state": state or ("running" if pending else "finished"), "epoch": 1, "evaluations": budget or n}
    _write_beside(path, arrays, errors, says)
    return path


def _targets(saved):
    return {"trace": Target(np.sin(np.linspace(0, 9, 500)), 0.1, "mV", "time (ms)")} if saved else None


def _write_beside(path, arrays, errors, says):
    """Write what stands beside the Zarr arrays."""
    layout = Layout(path)
    for folder, values in arrays.items():
        save_arrays(path / folder, values)
    if errors:
        layout.errors.write_text("".join("\n" + json.dumps(entry) for entry in errors), encoding="utf-8")
    write_json(layout.state, says)


def _space(rich, evil):
    parameters = dict(RICH if rich else PLAIN)
    if evil:
        parameters[f"{EVIL}"] = Categorical([EVIL, "</script>", "good"])
    return Space(parameters)


def _experiment(space, objectives, generation, evil):
    text = EVIL if evil else ""
    return {
        "space": space.to_dict(),
        "objectives": objectives.to_dict(),
        "optimizer": {"name": f"synthetic{text}", "options": {"population": generation} if generation else {}},
        "optimizee": {"name": f"synthetic{text}", "options": {}},
        "run": {"seed": 1},
        "labels": {"optimizer": f"synthetic{text}", "optimizee": f"synthetic{text}"},
        "explanation": f"Made by a test {text}" if evil else "",
        "versions": {"python": "3"},
        "id": uuid.uuid4().hex,
    }


def _plan(n, workers, seconds, generation, rng):
    took = seconds * rng.lognormal(0, 0.5, n)
    where, started, finished = np.empty(n, int), np.empty(n), np.empty(n)
    lasts, free = took.tolist(), [(0.0, w) for w in range(workers)]
    begin = 0.0
    for i, last in enumerate(lasts):
        if generation and i and i % generation == 0:
            begin = max(free)[0]  # the barrier: all wait for the last
        at, w = heapq.heappop(free)
        at = max(at, begin)
        where[i], started[i], finished[i] = w, at, at + last
        heapq.heappush(free, (at + last, w))
    return _Plan(started - 0.02, started, finished, where)


def _points(n, space, rng):
    """Draw vectors that gather around an optimum in time."""
    x, width = space.sample(rng, n), np.linspace(1, 0.15, n)[:, None]
    optimum = np.where(space.bounded, 0.4, 0.0)
    return space.snap(optimum + (x - optimum) * width)


def _outcomes(x, objectives, failures, pending, rng):
    n = len(x)
    away = ((x - 0.4) ** 2 * np.linspace(1, 3, x.shape[1])).sum(axis=1)
    noise = rng.lognormal(0, 0.3, (n, 3))
    other = ((x - 0.7) ** 2).sum(axis=1)
    fitness = np.stack([away * noise[:, 0] + 1e-4, 1 / (1 + other * noise[:, 1]), x[:, 0] * noise[:, 2] + 0.1], axis=1)
    status = np.full(n, int(Status.DONE), dtype="i1")
    fails = rng.random(n) < failures
    status[fails] = rng.choice([int(s) for s in _FAILURES], fails.sum(), p=[0.7, 0.2, 0.1])
    if pending:
        status[-pending:] = Status.PENDING
    return fitness[:, :objectives].copy(), status


def _spoil(fitness, plan, rng):
    n = len(fitness)
    for k, value in enumerate((np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0)):
        fitness[k::61] = value
    some = rng.random(n) < 0.01
    for times in (plan.submitted, plan.started, plan.finished):
        times[some] = np.nan


def _rows(plan, status, x, space, fitness, workers, hosts, generation, since):
    n, ended = len(x), status != Status.PENDING
    rows = np.arange(n)
    if generation:
        asked, told = 2 * (rows // generation), 2 * (rows // generation) + 1
    else:
        rank = np.empty(n, int)
        rank[np.argsort(plan.finished, kind="stable")] = rows
        asked, told = 2 * rows, 2 * (rank + workers) + 1
    named = np.array([f"worker-{w:03d}" for w in range(workers)], dtype="T")
    at = np.array([f"node{w % hosts}" for w in range(workers)], dtype="T")
    columns = {
        "x": x,
        "params": space.natural(x),
        "fitness": fitness,
        "asked": asked,
        "told": np.where(ended, told, -1),
        "attempt": ended.astype("i4"),
        "submitted": np.where(ended, since + plan.submitted, np.nan),
        "started": np.where(ended, since + plan.started, np.nan),
        "finished": np.where(ended, since + plan.finished, np.nan),
        "worker": named[plan.worker],
        "host": at[plan.worker],
        "status": status,
    }
    for name in ("worker", "host"):
        columns[name][~ended] = ""
    if generation:
        columns["generation"] = rows // generation
    return columns


def _errors(status, evil):
    texts = {
        Status.FAILED: f"ValueError: the network is silent{EVIL if evil else ''}",
        Status.TIMED_OUT: "it took more than 60 s",
        Status.CRASHED: "its process ended by signal 11",
    }
    column = np.full(len(status), "", dtype="T")
    for which, text in texts.items():
        column[status == which] = text
    failed = np.flatnonzero(status == Status.FAILED)[:1000].tolist()
    whole = texts[Status.FAILED] + "\nTraceback (most recent call last):\n  File 'model.py', line 7, in simulate\n"
    return column, [{"id": id, "attempt": 1, "error": whole} for id in failed]


def _saved(n, cost, curves, saved, rng):
    folders, arrays = np.full(n, "", dtype="T"), {}
    done = np.flatnonzero(np.isfinite(cost))
    best = done[np.argsort(cost[done])][:1].tolist() if saved else []
    for id in [*range(min(n, max(curves, saved))), *best]:
        folder = saved_folder(id, 1, 1)
        folders[id] = folder
        arrays[folder] = values = {}
        if id < curves:
            steps = np.arange(1, 51)
            values["learning_curve"] = np.stack([steps, np.exp(-steps / 20) + rng.normal(0, 0.02, 50)], axis=1)
        if id < saved or id in best:
            values["trace"] = np.sin(np.linspace(0, 9, 500) + rng.normal(0, 0.2)) + rng.normal(0, 0.1, 500)
            values["matrix"] = rng.normal(0, 1, (20, 20))
    return folders, arrays


def _write(path, columns):
    with quiet_zarr():
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        rows = group["status"].chunks[0]
        for name, values in columns.items():
            if name not in group:
                create_array(group, _column(name, values), max(1, len(columns["status"])), rows)
        zarr.consolidate_metadata(group.store)
        for name in sorted(columns, key=lambda name: name == "status"):
            values = columns[name]
            for start in range(0, len(values), _SLAB):
                group[name][start : start + _SLAB] = values[start : start + _SLAB]


def _column(name, values):
    column = info_column(name, values)
    return replace(column, dimension="objective") if name == "fitness_sd" else column
