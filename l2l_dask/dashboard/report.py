"""The report: one self-contained HTML file about a trajectory, for a supplement or an e-mail."""

from __future__ import annotations

import json
import math
import os
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.resources import Resources

from l2l_dask.dashboard import plots
from l2l_dask.errors import StoreError
from l2l_dask.space import Categorical
from l2l_dask.trajectory import Trajectory

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
{script}
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
th {{ border-bottom: 1px solid #999; font-weight: 600; }}
pre {{ background: #f4f4f4; padding: .6rem; overflow-x: auto; font-size: 12px; }}
.quiet {{ color: #666; }}
</style></head><body>
{body}
{plots}
</body></html>
"""
_MOST_ROWS = 60
_MOST_ERRORS = 5


def write(trajectory: Trajectory, out: Path) -> None:
    """Write the report.

    Raises
    ------
    StoreError
        If the file cannot be written.
    """
    temporary = out.with_name(f".{out.name}-{os.getpid()}")
    try:
        temporary.write_text(html(trajectory), encoding="utf-8")
        os.replace(temporary, out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def html(trajectory: Trajectory) -> str:
    """Return the report as one page; whatever a user or an error wrote is shown, not run."""
    figures = [plots.fitness(trajectory, i) for i in range(len(trajectory.objectives))]
    figures += _traces(trajectory)
    script, divs = components(tuple(figures))
    n = len(trajectory.objectives)
    name = trajectory.layout.root.name
    body = [
        f"<h1>{escape(name)}</h1>",
        _summary(trajectory),
        *divs[:n],
        _best(trajectory),
        *divs[n:],
        _failures(trajectory),
        _provenance(trajectory),
    ]
    return _PAGE.format(
        title=escape(name),
        script=Resources(mode="inline", components=["bokeh"]).render(),
        body="\n".join(body),
        plots=script,
    )


def _summary(trajectory: Trajectory) -> str:
    counts, labels = trajectory.counts(), trajectory.experiment["labels"]
    failed = counts["failed"] + counts["timed_out"] + counts["crashed"]
    stopped = f"{counts['stopped']} stopped early, " if counts["stopped"] else ""
    words = (
        f"{labels['optimizer']} on {labels['optimizee']}: {counts['total']} evaluations, {counts['done']} done, "
        f"{stopped}{failed} failed; {trajectory.state}."
    )
    explanation = trajectory.experiment.get("explanation", "")
    return "".join(f"<p>{escape(text)}</p>" for text in (words, explanation) if text)


def _traces(trajectory: Trajectory) -> list[Any]:
    """Plot what the best individual saved, where it is a curve."""
    targets = trajectory.targets()
    return [
        plots.trace(name, values, targets.get(name), f"{name} of individual {best.id}, the best")
        for best in trajectory.ranking(1)
        for name, values in trajectory.saved(best.id).items()
        if values.ndim == 1 and values.dtype.kind in "fiu" and len(values) > 1
    ]


def _best(trajectory: Trajectory) -> str:
    rows = []
    for best in trajectory.ranking(1):
        fitness = ", ".join(f"{name} = {value:.6g}" for name, value in best.fitness.items())
        rows.append(f"<h2>The best: individual {best.id}, {escape(fitness)}</h2>")
        rows.append("<table><tr><th>parameter</th><th>value</th><th>range</th></tr>")
        shown = list(best.params.items())
        rows += [
            f"<tr><td>{escape(name)}</td><td>{escape(_short(value))}</td>"
            f"<td class='quiet'>{escape(_range(trajectory.space[name]))}</td></tr>"
            for name, value in shown[:_MOST_ROWS]
        ]
        rows.append("</table>")
        if len(shown) > _MOST_ROWS:
            rows.append(f"<p class='quiet'>and {len(shown) - _MOST_ROWS} more parameters</p>")
    return "\n".join(rows)


def _range(parameter: Any) -> str:
    if isinstance(parameter, Categorical):
        return "one of " + ", ".join(map(str, parameter.choices))
    if parameter.low is None:
        return f"around {parameter.loc:g}, spread {parameter.scale:g}"
    return f"{parameter.low:g} to {parameter.high:g}" + (", logarithmic" if parameter.log else "")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    text = json.dumps(value.tolist()) if hasattr(value, "tolist") else str(value)
    return text if len(text) < 120 else text[:117] + "..."


def _failures(trajectory: Trajectory) -> str:
    failed = np.flatnonzero([bool(text) for text in trajectory.record["error"]]).tolist()
    if not failed:
        return ""
    parts = [f"<h2>Failures: {len(failed)}</h2>"]
    for id in failed[:_MOST_ERRORS]:
        parts.append(f"<p>individual {id}</p><pre>{escape(trajectory.error(id))}</pre>")
    return "\n".join(parts)


def _provenance(trajectory: Trajectory) -> str:
    experiment = trajectory.experiment
    facts = {
        "optimizer": experiment["optimizer"],
        "run": {k: v for k, v in experiment["run"].items() if k != "initial"},
        "versions": experiment.get("versions", {}),
    }
    return f"<h2>How it was made</h2><pre>{escape(json.dumps(facts, indent=1))}</pre>"
