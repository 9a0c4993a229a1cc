"""Buttons that save what is shown, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any, TypeAlias

from bokeh.document.events import MessageSentEvent
from bokeh.models import Button, Div, Dropdown, Row

Table: TypeAlias = Callable[[], Mapping[str, Iterable[Any]]]


def save_as_csv(
    tables: Mapping[str, Table],
    prefix: str = "",
    lasting: Callable[[Callable[..., None]], Callable[..., None]] = lambda save: save,
) -> Row:
    """Make a button that saves a table, or a menu if there are several.

    Parameters
    ----------
    tables
        What gives the columns, by title; of each table, by its name.
    prefix
        What the files' names begin with, before that of the table.
    lasting
        Wraps what the button calls.
    """
    said = Div(sizing_mode="stretch_width", disable_math=True, styles={"align-self": "center"})
    pressed: Any

    def save(name: str) -> None:
        if name not in tables:
            return
        columns = tables[name]()
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(columns)
        rows = list(zip(*columns.values(), strict=True))
        writer.writerows(rows)
        file = f"{prefix}{name.replace(' ', '-')}.csv"
        if pressed.document is not None:
            saved = MessageSentEvent(pressed.document, "l2l-save", {"name": file, "text": text.getvalue()})
            pressed.document.callbacks.trigger_on_change(saved)  # dashboard.js hands it to the browser
        said.text = escape(f"{file}: {len(rows):,} rows that are shown here; everything: l2l export STORE OUT.csv")

    if len(tables) == 1:
        [only] = tables
        pressed = Button(label=f"{only.capitalize()} as CSV", width=150)
        pressed.on_click(lasting(lambda: save(only)))
    else:
        pressed = Dropdown(label="Save as CSV", menu=[(name.capitalize(), name) for name in tables], width=150)
        pressed.on_click(lasting(lambda event: save(event.item)))
    return Row(children=[pressed, said], sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})
