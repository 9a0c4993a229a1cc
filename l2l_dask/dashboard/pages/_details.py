"""One individual: its parameters, its error, its learning curve and the arrays that it saved."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColorBar, Div, LinearColorMapper
from numpy.typing import NDArray

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.errors import StoreError
from l2l_dask.optimizee import Target
from l2l_dask.reports import CURVE
from l2l_dask.space import Floats
from l2l_dask.trajectory import Individual, Trajectory

_MOST_PARAMETERS, _MOST_ARRAYS, _MOST_SAMPLES, _MOST_PIXELS = 300, 12, 4_000, 300
_MOST_BYTES = 100 << 20  # of what one individual saved
_LONGEST = 20_000  # characters of an error
_ROW = "<tr><td>{}</td><td>{}</td></tr>"


class Details:
    """What is known of the individual that is chosen."""

    def __init__(self, page: common.StorePage) -> None:
        self._page = page
        self.id: int | None = None
        self._shown = ""
        self.root = column([], sizing_mode="stretch_width")

    def show(self, id: int | None) -> None:
        """Show one, or none."""
        t = self._page.trajectory
        if id is None or not 0 <= id < len(t):
            self.id, self.root.children = None, []
            return
        self.id, self._shown = id, self._row(id)
        individual = t.individual(id)
        status = individual.status.label.replace("_", " ")
        search = self._page.address("search", id=id)
        head = common.words(f"Individual {id}: {status}", heading=True)
        links = {"Where it is in the search": search, "Among others": self._page.address("parameters", id=id)}
        where = common.words()
        common.say(where, "", links=links)
        self.root.children = [
            head,
            where,
            common.flow(*self._tables(t, individual)),
            *self._error(t, id),
            *plots(t, id),
        ]

    def renew(self) -> None:
        """Show it again, if anything became of it since."""
        if self.id is not None and self._row(self.id) != self._shown:
            self.show(self.id)

    def _row(self, id: int) -> str:
        """Return what changes when an evaluation ends, or is made again."""
        record = self._page.trajectory.record
        return repr([record[name][id].tolist() for name in ("status", "attempt", "finished", "fitness")])

    def _tables(self, t: Trajectory, individual: Individual) -> list[Div]:
        facts = {name: _fitness(individual, name) for name in individual.fitness} | _facts(t, individual)
        listed = [
            (f"{name}[{','.join(map(str, i))}]" if i else name, np.asarray(value, dtype=object)[i])
            for name, value in individual.params.items()
            for i in np.ndindex(np.shape(value))
        ]
        more = len(listed) - _MOST_PARAMETERS
        cut = f"<p>and {more:,} more: <code>l2l export STORE OUT.csv</code></p>" if more > 0 else ""
        return [
            _div(_table("Result", facts)),
            _div(_table("Parameters", {name: _short(value) for name, value in listed[:_MOST_PARAMETERS]}) + cut),
        ]

    def _error(self, t: Trajectory, id: int) -> list[Div]:
        text = common.error_text(t, id, _LONGEST)
        if not text:
            return []
        style = "overflow-x: auto; max-height: 24rem; white-space: pre-wrap; overflow-wrap: anywhere"
        return [_div(f'<pre style="{style}">{escape(text)}</pre>')]


def _div(html: str) -> Div:
    styles = {"overflow-wrap": "anywhere"}  # a name without blanks may be wider than a phone
    return Div(text=html, disable_math=True, sizing_mode="stretch_width", min_width=common.NARROWEST, styles=styles)


def _table(title: str, rows: dict[str, str]) -> str:
    cells = "".join(_ROW.format(escape(name), escape(value)) for name, value in rows.items())
    return f"<table><thead><tr><th colspan='2'>{title}</th></tr></thead><tbody>{cells}</tbody></table>"


def _fitness(individual: Individual, name: str) -> str:
    sd = f" (sd {individual.sd[name]:.3g})" if individual.sd else ""
    return f"{individual.fitness[name]:.8g}{sd}"


def _facts(t: Trajectory, individual: Individual) -> dict[str, str]:
    record, id = t.record, individual.id
    seconds = float(record["finished"][id] - record["started"][id])
    began = float(record["submitted"][id])
    facts = {
        "attempt": str(record["attempt"][id]),
        "worker": str(record["worker"][id]),
        "host": str(record["host"][id]),
        "took": f"{seconds:.4g} s" if math.isfinite(seconds) else "",
        "submitted": str(np.datetime64(int(began), "s")) + " UTC" if 0 < began < 1e11 else "",
        "again individual": "" if individual.repeats_of is None else str(individual.repeats_of),
    }
    for name, value in record.info(id).items():
        facts[name] = _short(value)
    return {name: text for name, text in facts.items() if text}


def _short(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.8g}"
    text = str(value)
    return text if len(text) < 200 else text[:197] + "..."


def plots(t: Trajectory, id: int) -> list[Any]:
    """Plot what it saved, in a row; what cannot be plotted is named in text."""
    folder = str(t.record["saved"][id])
    if not folder:
        return []
    try:
        size = sum(path.stat().st_size for path in (t.layout.root / folder).glob("*.npy"))
        if size > _MOST_BYTES:
            return [common.words(f"It saved {size / 2**20:,.0f} MiB in {folder}: too much to show here.")]
        arrays, targets = t.saved(id), t.targets()
    except (StoreError, OSError, ValueError, EOFError) as error:
        return [common.words(f"What it saved cannot be read: {error}")]
    shown: list[Any] = []
    named: list[str] = []
    for name, values in list(arrays.items())[:_MOST_ARRAYS]:
        drawn = _plotted(name, values, targets.get(name))
        if drawn is None:
            named.append(f"{name}: {values.dtype} {values.shape}")
        else:
            shown.append(drawn)
    named += [f"{len(arrays) - _MOST_ARRAYS} more arrays"] if len(arrays) > _MOST_ARRAYS else []
    words = [common.words("Saved and not drawn: " + "; ".join(named))] if named else []
    return [common.flow(*shown), *words]


def _plotted(name: str, values: NDArray[Any], target: Target | None) -> Any:
    if values.dtype.kind not in "biuf" or not values.size:
        return None
    if name == CURVE and values.ndim == 2 and values.shape[1] == 2:
        return _curve(values.astype(float))
    if values.ndim == 1 and len(values) > 1:
        return _trace(name, values.astype(float), target)
    return _matrix(name, values) if values.ndim == 2 and min(values.shape) > 1 else None


def _curve(points: Floats) -> Any:
    drawn = common.plot(f"Learning curve: {len(points):,} reports", "step", "reported value", height=300)
    some = points[:: -(-len(points) // _MOST_SAMPLES)]
    drawn.line(common.finite(some[:, 0]), common.finite(some[:, 1]), line_width=1.5, color=theme.ORANGE)
    drawn.scatter(common.finite(some[:, 0]), common.finite(some[:, 1]), size=4, color=theme.ORANGE)
    return drawn


def _trace(name: str, values: Floats, target: Target | None) -> Any:
    axis = target or Target(values)
    step = -(-len(values) // _MOST_SAMPLES)
    some = f", every {step}th" if step > 1 else ""
    drawn = common.plot(f"{name}: {len(values):,} samples{some}", axis.step_label, axis.label or name, height=300)
    if target is not None:
        wanted = np.asarray(target.values, dtype=np.float64)
        every = -(-len(wanted) // _MOST_SAMPLES)
        x = np.arange(0, len(wanted), every) * axis.step
        drawn.line(x, common.finite(wanted[::every]), line_width=4, color=theme.GREY, alpha=0.7, legend_label="target")
    x = np.arange(0, len(values), step) * axis.step
    drawn.line(x, common.finite(values[::step]), line_width=1.5, color=theme.SKY, legend_label="this individual")
    common.legend(drawn)
    return drawn


def _matrix(name: str, values: NDArray[Any]) -> Any:
    rows, columns = (-(-n // _MOST_PIXELS) for n in values.shape)
    image = common.finite(values[::rows, ::columns].astype(float))
    some = f", every {rows}th row and {columns}th column" if rows * columns > 1 else ""
    title = f"{name}: {values.shape[0]:,} x {values.shape[1]:,}{some}"
    known = image[~np.isnan(image)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    colours = LinearColorMapper(palette=theme.PALETTE, low=low, high=high if high > low else low + 1,
                                nan_color="rgba(0, 0, 0, 0)")  # fmt: skip
    drawn = common.plot(title, "column", "row", height=340, x_range=(0, values.shape[1]), y_range=(values.shape[0], 0))
    drawn.image([image], x=0, y=0, dw=values.shape[1], dh=values.shape[0], color_mapper=colours)
    drawn.grid.visible = False
    drawn.add_layout(ColorBar(color_mapper=colours, width=12, padding=4, **theme.BESIDE), "right")
    return drawn
