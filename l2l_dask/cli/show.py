"""``l2l list`` and ``l2l show``."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from l2l_dask.errors import L2LError, StoreError
from l2l_dask.evaluation import FAILURES
from l2l_dask.trajectory import FINAL, RETRY, Individual, Trajectory, load
from l2l_dask.trajectory.layout import stores_below


def summary(trajectory: Trajectory, best: int = 1) -> dict[str, Any]:
    """Sum a trajectory up, in JSON types."""
    ranked = [_individual(individual) for individual in trajectory.ranking(best)]
    started, finished = trajectory.record["started"], trajectory.record["finished"]
    known = ~np.isnan(finished)
    budget = int(trajectory.details.get("evaluations", len(trajectory)))
    origin = trajectory.record["origin"]
    again = {"final": int((origin == FINAL).sum()), "retried": int((origin == RETRY).sum())}
    return {
        "store": str(trajectory.layout.root),
        "state": trajectory.state,
        "reason": str(trajectory.details.get("reason", "")),
        "evaluations": trajectory.counts() | {"budget": budget} | again,
        "objectives": trajectory.objectives.to_dict(),
        **trajectory.experiment.get("labels", {"optimizer": "?", "optimizee": "?"}),
        "explanation": trajectory.experiment.get("explanation", ""),
        "best": ranked[0] if ranked else None,
        "ranking": ranked,
        **({"front": [_individual(i) for i in trajectory.front]} if len(trajectory.objectives) > 1 else {}),
        "seconds": float(finished[known].max() - np.nanmin(started)) if known.any() else 0.0,
    }


def _individual(individual: Individual) -> dict[str, Any]:
    params = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in individual.params.items()}
    told = {"id": individual.id, "fitness": individual.fitness, "params": params}
    more = {"sd": individual.sd, "repeats_of": individual.repeats_of}
    return told | {name: value for name, value in more.items() if value is not None}


def one_store(store: Path, best: int, *, as_json: bool) -> None:
    """Print one store's summary."""
    trajectory = load(store)
    content = summary(trajectory, best) | {"store": str(store)}
    if as_json:
        json.dump(content, sys.stdout)
        sys.stdout.write("\n")
        return
    console = Console(highlight=False, soft_wrap=True)
    reason = f" ({content['reason'].partition(chr(10))[0]})" if content["reason"] else ""
    console.print(f"[bold]{escape(str(store))}[/bold]: {content['state']}{escape(reason)}")
    console.print(f"{escape(str(content['optimizer']))} on {escape(str(content['optimizee']))}")
    if content["explanation"]:
        console.print(escape(content["explanation"]))
    console.print(counted(content["evaluations"]))
    for rank in content["ranking"]:
        console.print(f"\n[bold]individual {rank['id']}[/bold]  {escape(fitness_of(rank))}")
        for name, value in rank["params"].items():
            console.print(f"  {escape(name)} = {escape(_short(value))}")
    if "front" in content:
        console.print(_front(content["front"], list(content["objectives"])))
    for id in np.flatnonzero([bool(text) for text in trajectory.record["error"]])[:3].tolist():
        console.print(f"\n[red]individual {id} failed[/red]: {escape(str(trajectory.record['error'][id]))}")
    if content["state"] in ("stopped", "interrupted", "failed"):
        console.print(f"\ngo on with: l2l resume {escape(str(store))}")


def _front(front: list[dict[str, Any]], names: list[str]) -> Table:
    """Tabulate the individuals that no other beats in all objectives, at most twenty of them, evenly."""
    shown = (
        [front[i] for i in np.unique(np.linspace(0, len(front) - 1, min(len(front), 20)).astype(int))] if front else []
    )
    some = f", {len(shown)} of which are" if len(shown) < len(front) else ""
    table = Table(box=None, title=f"\nPareto front: {len(front)} individual(s){some}", title_justify="left")
    for name in ("individual", *names):
        table.add_column(escape(name), justify="right")
    for one in shown:
        table.add_row(str(one["id"]), *(f"{value:.6g}" for value in one["fitness"].values()))
    return table


def counted(counts: dict[str, int]) -> str:
    """Say the counts that are not zero."""
    sums = ("total", "budget", "final", "retried")
    parts = [f"{n} {label.replace('_', ' ')}" for label, n in counts.items() if n and label not in sums]
    again = f", {counts['final']} of the best again" if counts["final"] else ""
    again += f", {counts['retried']} of the failed again" if counts["retried"] else ""
    searched = counts["total"] - counts["final"] - counts["retried"]
    return f"{searched} of {counts['budget']} evaluations{again}: {', '.join(parts) or 'none yet'}"


def fitness_of(rank: dict[str, Any]) -> str:
    """Say an individual's fitness, how much it scatters, and whom it repeats."""
    parts = [f"{name} = {value:.6g}{_scatter(rank, name)}" for name, value in rank["fitness"].items()]
    again = f", again individual {rank['repeats_of']}" if "repeats_of" in rank else ""
    return ", ".join(parts) + again


def _scatter(rank: dict[str, Any], name: str) -> str:
    return f" (sd {rank['sd'][name]:.3g})" if "sd" in rank else ""


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = json.dumps(value, default=str)
    return text if len(text) < 100 else f"{text[:97]}..."


def table_of_stores(folder: Path, *, as_json: bool) -> None:
    """Print a line for each store below a folder."""
    if not folder.is_dir():
        raise StoreError(f"there is no folder {folder}")
    rows = [_row(store) for store in stores_below(folder)]
    if as_json:
        json.dump({"experiments": rows}, sys.stdout)
        sys.stdout.write("\n")
        return
    table, titles = Table(box=None), ("store", "state", "done", "stopped", "failed", "of", "best")
    for title in titles:
        table.add_column(title, justify="left" if title in ("store", "state") else "right", overflow="fold")
    for row in rows:
        if "problem" in row:
            table.add_row(escape(row["store"]), "[red]unreadable[/red]", *[""] * (len(titles) - 2))
            continue
        n = row["evaluations"]
        failed = sum(n[status.label] for status in FAILURES)
        fitness = next(iter(row["best"]["fitness"].values()), math.nan) if row["best"] else math.nan
        shown = "" if math.isnan(fitness) else f"{fitness:.6g}"
        table.add_row(
            escape(row["store"]), row["state"], *map(str, (n["done"], n["stopped"], failed, n["budget"])), shown
        )
    console = Console()
    console.print(table if rows else f"no experiments below {folder}")


def _row(store: Path) -> dict[str, Any]:
    try:
        return summary(load(store)) | {"store": str(store)}
    except L2LError as error:
        return {"store": str(store), "problem": str(error)}
