"""What an experiment does, in a line above its pages; pause, unpause and stop; and who did so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from bokeh.models import Button, Column, Div, Row

from l2l_dask.dashboard.followed import Followed
from l2l_dask.dashboard.summary import line
from l2l_dask.errors import L2LError
from l2l_dask.trajectory.actions import actions, note
from l2l_dask.trajectory.layout import State

_log = logging.getLogger(__name__)
_SHOWN = 5
# One that is queued may wait paused: which of the two it is, its service knows.
_OFFERED: dict[State, tuple[str, ...]] = {
    "running": ("pause", "stop"),
    "paused": ("unpause", "stop"),
    "queued": ("pause", "unpause", "stop"),
}


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
            "keep": Button(label="Do not stop", name="keep", width=110),
        }
        for name, button in self._buttons.items():
            button.visible = False
            button.on_click(lambda name=name: self._press(name))
        self._asked = False
        self._said_of: str | None = None  # the state that makes what was said out of date by its change
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
        if self._said_of not in (None, followed.trajectory.state):
            self._said.visible, self._said_of = False, None
        self._offer(followed.trajectory.state)

    def _offer(self, state: State) -> None:
        offered = _OFFERED.get(state, ()) if self._command else ()
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
            self._said_of = followed.trajectory.state
            self._say(self._done(self._command, followed.store, "stop" if name == "really" else name))
        self._offer(followed.trajectory.state)

    def _done(self, command: Callable[[Path, str], str], store: Path, what: str) -> str:
        """Send a command and put it on record, which what was refused is not; return what came of both."""
        try:
            said = command(store, what)
        except L2LError as error:
            return str(error)
        try:
            note(store, what, self._by)
        except L2LError as error:
            self._said_of = None  # nothing else will tell
            return f"{said}; this could not be put on record: {error}"
        return said

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
        html += f"<details><summary>{len(done)} action(s) on record</summary><table>{lines}</table></details>"
    return html
