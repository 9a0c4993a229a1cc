"""The report: one self-contained HTML file about a trajectory, for a supplement or an e-mail."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.embed import components
from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader

from l2l_dask.dashboard import data_workers, methods
from l2l_dask.dashboard.pages._common import error_text
from l2l_dask.dashboard.plots import MOST_OBJECTIVES, Drawn, Plots
from l2l_dask.dashboard.times import duration
from l2l_dask.errors import StoreError
from l2l_dask.evaluation import FAILURES
from l2l_dask.space import Categorical
from l2l_dask.trajectory import Trajectory
from l2l_dask.trajectory.layout import write_atomically

_MOST_ROWS = 60  # parameters of the best
_MOST_MEMBERS, _MOST_COLUMNS = 20, 8  # of the table of a front
_NARROW = 30  # characters of a parameter there
_MOST_ERRORS, _MOST_KINDS = 5, 10
_WIDE = 200  # characters of an error's first line
_LONGEST = 5_000  # characters of an error

# What is put into it is escaped, but for Bokeh's own scripts.
_templates = Environment(loader=PackageLoader("l2l_dask.dashboard", "static"), autoescape=True)


@dataclass(frozen=True)
class Table:
    """A table, and what it leaves out."""

    head: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass(frozen=True)
class Block:
    """Text as it is, line by line."""

    text: str
    title: str = ""


@dataclass
class Section:
    """A part of the report, in the order in which it is shown."""

    title: str = ""
    texts: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    drawn: list[Drawn] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


def write(trajectory: Trajectory, out: Path) -> None:
    """Write the report.

    Raises
    ------
    StoreError
        If the file cannot be written.
    """
    try:
        write_atomically(out, html(trajectory).encode())
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror}") from error


def html(trajectory: Trajectory) -> str:
    """Return the report as one page; whatever a user or an error wrote is shown, not run."""
    sections = contents(trajectory)
    panels: list[Any] = []
    shown = []
    number = 0
    for section in sections:
        figures = []
        for drawn in section.drawn:
            number += 1
            ids = range(len(panels), len(panels) + len(drawn.panels))
            panels += drawn.panels
            figures.append({"number": number, "caption": drawn.caption, "wide": drawn.wide, "ids": ids})
        shown.append(vars(section) | {"figures": figures})
    document = Document()
    with document.models.freeze():  # else all are looked through for each of them
        for panel in panels:
            document.add_root(panel)
    script, places = components(panels) if panels else ("", ())
    return _templates.get_template("report.html").render(
        title=trajectory.layout.root.name,
        bokeh=Resources(mode="inline", components=["bokeh"]).render() if panels else "",
        sections=shown,
        places=places,
        script=script,
    )


def contents(trajectory: Trajectory) -> list[Section]:
    """Return what the report says and shows, in its order."""
    plots = Plots(trajectory)
    searches = [plots.search(k) for k in range(_drawn_objectives(plots))]
    parts = [
        _summary(trajectory, [first for first, *_ in searches]),
        _best(plots),
        Section("The search", drawn=[drawn for _, *others in searches for drawn in others]),
        _front(plots),
        _parameters(plots),
        _workers(plots),
        _failures(trajectory),
        Section("Methods", [methods.paragraph(trajectory)]),
        _again(trajectory),
        _provenance(trajectory),
    ]
    return [part for part in parts if any((part.texts, part.tables, part.drawn, part.blocks))]


def _drawn_objectives(plots: Plots) -> int:
    return min(len(plots.trajectory.objectives), MOST_OBJECTIVES) if plots.done else 0


def _summary(t: Trajectory, drawn: list[Drawn]) -> Section:
    counts, labels = t.counts(), t.experiment.get("labels", {})
    failed = sum(counts[status.label] for status in FAILURES)
    stopped = f"{counts['stopped']:,} stopped early, " if counts["stopped"] else ""
    words = (
        f"{labels.get('optimizer', '?')} on {labels.get('optimizee', '?')}: {counts['total']:,} evaluations, "
        f"{counts['done']:,} done, {stopped}{failed:,} failed; {t.state}."
    )
    texts = [words, t.experiment.get("explanation", "")]
    n = len(t.objectives)
    if drawn and n > len(drawn):
        texts.append(f"Plots are of the first {len(drawn)} of {n} objectives.")
    if not drawn:
        texts.append("No evaluation has a fitness yet: there is nothing to draw.")
    return Section("", [text for text in texts if text], drawn=drawn)


def _best(plots: Plots) -> Section:
    t = plots.trajectory
    for best in t.ranking(1):
        fitness = ", ".join(
            f"{name} = {value:.6g}" + (f" (sd {best.sd[name]:.3g})" if best.sd else "")
            for name, value in best.fitness.items()
        )
        shown = list(best.params.items())
        rows = [[name, _short(value), _range(t.space[name])] for name, value in shown[:_MOST_ROWS]]
        more = f"and {len(shown) - _MOST_ROWS:,} more parameters" if len(shown) > _MOST_ROWS else ""
        drawn, left = plots.saved(best.id)
        first = f", by {t.objectives.names[0]}" if len(t.objectives) > 1 else ""
        title = f"The best{first}: individual {best.id}, {fitness}"
        return Section(title, [left] if left else [], [Table(["parameter", "value", "range"], rows, more)], drawn)
    return Section()


def _range(parameter: Any) -> str:
    if isinstance(parameter, Categorical):
        return "one of " + ", ".join(map(str, parameter.choices))
    if parameter.low is None:
        return f"around {parameter.loc:g}, spread {parameter.scale:g}"
    return f"{parameter.low:g} to {parameter.high:g}" + (", logarithmic" if parameter.log else "")


def _short(value: Any, most: int = 120) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    text = _numbers(value.tolist()) if hasattr(value, "tolist") else str(value)
    return _cut(text, most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _numbers(value: Any) -> str:
    return f"[{', '.join(map(_numbers, value))}]" if isinstance(value, list) else _short(value)


def _front(plots: Plots) -> Section:
    """List members of the front, from end to end."""
    t, ids = plots.trajectory, plots.front
    if not len(ids):
        return Section()
    some = ids[np.unique(np.linspace(0, len(ids) - 1, min(len(ids), _MOST_MEMBERS)).round().astype(int))]
    names, labels = t.objectives.names, list(t.space)
    rows = []
    for each in map(t.individual, some.tolist()):
        values = [_short(each.params[name], _NARROW) if name in each.params else "" for name in labels[:_MOST_COLUMNS]]
        rows.append([str(each.id), *(f"{value:.6g}" for value in each.fitness.values()), *values])
    notes = []
    if len(some) < len(ids):
        notes.append(f"{len(some)} of {len(ids):,} members of the front, evenly chosen in the order of {names[0]}.")
    if len(labels) > _MOST_COLUMNS:
        notes.append(f"The first {_MOST_COLUMNS} of {len(labels):,} parameters.")
    text = f"{len(ids):,} of {plots.done:,} individuals are on the Pareto front: nobody beats them."
    table = Table(["individual", *names, *labels[:_MOST_COLUMNS]], rows, " ".join(notes))
    return Section("Pareto front", [text], [table], plots.pareto())


def _parameters(plots: Plots) -> Section:
    if not plots.done:
        return Section()
    matters = plots.importance()
    texts, drawn = ([matters], []) if isinstance(matters, str) else ([], matters)
    return Section("Parameters", texts, drawn=[*plots.parallel(), *plots.each(), *drawn])


def _workers(plots: Plots) -> Section:
    """Say in numbers how busy the workers were, and draw it."""
    drawn = plots.workers()
    if not drawn:
        return Section()
    busy, took = plots.once(data_workers.busy), plots.once(data_workers.durations)
    waits = plots.once(data_workers.waits)
    whole = float(busy.busy.sum() / busy.workers.sum()) if busy.workers.sum() > 0 else 0.0
    words = f"The workers were busy for {min(whole, 1.0):.0%} of their time. "
    words += f"Half of all evaluations took at most {duration(took.median)}, the longest "
    words += f"{duration(took.longest)}."
    if waits is not None and len(waits.share):
        words += f" In waiting for the last of a generation {waits.share.mean():.0%} of the time went by."
    return Section("Workers", [words], drawn=drawn)


def _failures(t: Trajectory) -> Section:
    failed = np.flatnonzero(t.record["error"] != "").tolist()
    if not failed:
        return Section()
    kinds = Counter(t.record["error"][failed].tolist())
    rows = [[_cut(kind, _WIDE), f"{n:,}"] for kind, n in kinds.most_common(_MOST_KINDS)]
    more = f"and {len(kinds) - _MOST_KINDS:,} more ways to fail" if len(kinds) > _MOST_KINDS else ""
    blocks = [Block(error_text(t, id, _LONGEST), f"individual {id}") for id in failed[:_MOST_ERRORS]]
    few = len(blocks) < len(failed)
    texts = [f"The first {len(blocks)} are quoted; l2l export STORE OUT.csv has all."] if few else []
    return Section(f"Failures: {len(failed):,}", texts, [Table(["error", "individuals"], rows, more)], blocks=blocks)


def _again(t: Trajectory) -> Section:
    optimizer = t.experiment.get("optimizer", {}).get("name", "NAME")
    version = t.experiment.get("versions", {}).get("l2l-dask", "")
    text = (
        "With one evaluation at a time, the same seed gives the same search. With several, the order in which results "
        "arrive is the machine's: the store is the record of what was found, and l2l export makes a table of it."
    )
    return Section(
        "How to reproduce and cite it",
        [text],
        blocks=[
            Block(f"l2l run {t.layout.root.stem}.toml", "The search is run again by"),
            Block(methods.experiment_file(t), "with this in that file, in whose folder relative paths start:"),
            Block(
                f"The l2l_dask developers: l2l_dask{f', version {version}' if version else ''}.",
                f"The software is cited as follows, beside the source of its method, which l2l optimizers {optimizer} "
                "names:",
            ),
        ],
    )


def _provenance(t: Trajectory) -> Section:
    kept: Iterable[str] = ("optimizee", "optimizer", "run", "cluster", "folder", "sources", "versions")
    facts: dict[str, Any] = {name: t.experiment[name] for name in kept if name in t.experiment}
    if "run" in facts:
        facts["run"] = {name: value for name, value in facts["run"].items() if name != "initial"}
    text = json.dumps(facts, indent=1, ensure_ascii=False, default=str)
    return Section("How it was made", blocks=[Block(text, "What the store records, with digests of the files.")])
