"""What an experiment does, in a line above its pages; pause, unpause and stop; and who did so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from bokeh.models import Button, Column, Div, Row

from l2l_dask.dashboard.followed import Followed
from l2l_dask.dashboard.pages.experiments import line
from l2l_dask.errors import L2LError
from l2l_dask.trajectory.actions import actions, note

_log = logging.getLogger(__name__)
_SHOWN = 5
_LIVE = {"running": ("pause", "stop"), "paused": ("unpause", "stop")}


class Status:
    """The line.

    Parameters
    ----------
    command
        What sends a command to a store's driver; without it there are no buttons.
    by
        Whose address is put down as that of who pressed one.
    """

    def __init__(self, command: Callable[[Path, str], str] | None, by: str) -> None:
        self._command, self._by = command, by
        self._followed: Followed | None = None
        self._text = Div(sizing_mode="stretch_width", disable_math=True)
        self._said = Div(sizing_mode="stretch_width", disable_math=True, visible=False)
        self._buttons = {
            "pause": Button(label="Pause", name="pause", width=90),
            "unpause": Button(label="Unpause", name="unpause", width=90),
            "stop": Button(label="Stop", name="stop", width=90),
            "really": Button(label="Stop it: sure?", name="really", button_type="danger", width=120),
            "keep": Button(label="Go on", name="keep", width=90),
        }
        for name, button in self._buttons.items():
            button.visible = False
            button.on_click(lambda name=name: self._press(name))
        self._asked = False
        self._words: Any = None
        row = Row(children=list(self._buttons.values()), sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})
        self.root = Column(children=[self._text, row, self._said], name="status", sizing_mode="stretch_width")

    def show(self, followed: Followed) -> None:
        """Say how far it is."""
        self._followed = followed
        words = (followed.summary, followed.actions)
        if words != self._words:
            self._words = words
            self._text.text = _html(followed)
        self._offer(followed.trajectory.state)

    def _offer(self, state: str) -> None:
        offered = _LIVE.get(state, ()) if self._command else ()
        if self._asked and "stop" in offered:
            offered = ("really", "keep")
        for name, button in self._buttons.items():
            if button.visible != (name in offered):
                button.visible = name in offered

    def _press(self, name: str) -> None:
        """Do what a button says; to stop takes two of them."""
        followed = self._followed
        if followed is None or self._command is None:
            return
        self._asked = name == "stop"
        if name not in ("stop", "keep"):
            what = "stop" if name == "really" else name
            try:
                self._say(self._command(followed.store, what))
                note(followed.store, what, self._by)  # what was refused is not on record
            except L2LError as error:
                self._say(str(error))
        self._offer(followed.trajectory.state)

    def _say(self, text: str) -> None:
        _log.info("%s (from %s)", text, self._by)
        self._said.text = f"<p class='quiet' role='status'>{escape(text)}</p>"
        self._said.visible = True


def _html(followed: Followed) -> str:
    trajectory, summary = followed.trajectory, followed.summary
    told = line(followed.name, summary)
    reason = str(trajectory.details.get("reason", "")).partition("\n")[0]
    state = f"<span class='state'>{escape(told['state'])}</span>" + (f" ({escape(reason)})" if reason else "")
    parts = [state, escape(told["progress"]) + " evaluations"]
    parts += [f"{told['failed']} failed"] if told["failed"] else []
    if told["best"]:
        parts.append(f"best {escape(summary.objective)} = {escape(told['best'])}")
    parts += [told["rate"]] if told["rate"] else []
    parts += [f"{told['left']} left"] if told["left"] else []
    html = f"<div>{' &middot; '.join(parts)}</div><div class='quiet'>{escape(told['what'])}</div>"
    done = actions(followed.store)
    if done:
        lines = "".join(
            f"<tr><td>{escape(a.at)}</td><td>{escape(a.what)}</td><td>{escape(a.by)}</td></tr>"
            for a in done[: -_SHOWN - 1 : -1]
        )
        html += f"<details><summary>{len(done)} action(s) from the dashboard</summary><table>{lines}</table></details>"
    return html
