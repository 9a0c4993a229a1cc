"""A real terminal: Ctrl-C, and a window that is closed."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from contextlib import suppress

import psutil
import pytest

from l2l_dask.trajectory import load

PROMPT = 40.0
CTRL_C = b"\x03"


def _as_a_terminal_does():
    """Be in its foreground, with no signal ignored: who runs the tests may ignore some (nohup)."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """A window with a command in it, which reads what is typed and shows what is said."""

    def __init__(self, folder, *words):
        self.shown, self.window = b"", None
        self.window, inside = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "l2l_dask", *words],
            cwd=folder,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
            start_new_session=True,
            preexec_fn=_as_a_terminal_does,
        )
        os.close(inside)
        self._open = True
        self._eyes = threading.Thread(target=self._look, daemon=True)
        self._eyes.start()

    def _look(self):
        os.set_blocking(self.window, False)
        while self._open:
            with suppress(BlockingIOError):
                try:
                    self.shown += os.read(self.window, 10_000)
                    continue
                except BlockingIOError:
                    threading.Event().wait(0.02)
                except OSError:  # nobody is at the other end any more
                    return

    def press(self, key):
        os.write(self.window, key)

    def said(self):
        """Return all that was shown until the end, but for the echo of the keys."""
        assert self.process.wait(PROMPT) is not None
        self._eyes.join(PROMPT)  # until nobody is at the other end any more
        return self.shown.decode(errors="replace").replace("^C", "")

    def close(self):
        """Close the window, as a click on its corner does."""
        if self._open:
            self._open = False
            self._eyes.join()
            os.close(self.window)

    def end(self):
        self.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def terminal(store, ended, wait_until):
    """Run the experiment in a terminal, and wait until it evaluates."""
    opened = []

    def terminal(*options):
        opened.append(Terminal(store.parent, "run", "e.toml", "--no-report", *options))
        process = opened[-1].process
        wait_until(lambda: process.poll() is not None or ended() >= 4, seconds=60)
        assert process.poll() is None, opened[-1].shown.decode()
        return opened[-1]

    yield terminal
    for each in opened:
        each.end()


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["serial", "local"])
def test_a_window_that_is_closed_stops_the_run_at_once_and_leaves_nothing_behind(
    terminal, store, profile, wait_until, l2l
):
    window = terminal("--cluster", profile)
    family = psutil.Process(window.process.pid).children(recursive=True)
    assert bool(family) == (profile == "local")
    window.close()
    assert window.process.wait(PROMPT) == 130
    wait_until(lambda: not any(process.is_running() for process in family))
    left = load(store)
    assert left.state == ("stopped" if profile == "local" else "interrupted")
    assert profile == "serial" or left.details["reason"] == "interrupted by SIGHUP"
    told = left.record["told"] >= 0
    resumed = l2l("resume", store, "--evaluations", len(left) + 4, "--cluster", "serial", "--no-report")
    assert resumed.returncode == 0, resumed.stderr
    gone_on = load(store)
    assert (gone_on.state, len(gone_on)) == ("finished", len(left) + 4)
    for name in ("x", "fitness", "told"):
        assert gone_on.record[name][: len(left)][told].tobytes() == left.record[name][told].tobytes()


@pytest.mark.slow
def test_ctrl_c_in_a_window_says_that_it_waits_and_lets_what_runs_end(
    terminal, store, begun, set_seconds, n_long, wait_until
):
    window = terminal("--cluster", "local")
    set_seconds(3)
    wait_until(n_long)
    window.press(CTRL_C)
    assert window.process.wait(PROMPT) == 130
    shown = window.said()
    assert "stopping: waits for" in shown
    assert "stopped: interrupted by SIGINT" in shown
    assert f"go on with: l2l resume {store}" in shown
    assert "Traceback" not in shown
    assert load(store).state == "stopped"
    assert load(store).counts()["done"] == begun()


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["serial", "local"])
def test_ctrl_c_again_and_again_in_a_window_stops_at_once_without_a_traceback(
    terminal, store, set_seconds, n_long, profile, wait_until
):
    window = terminal("--cluster", profile)
    set_seconds(1000)
    wait_until(lambda: n_long() == 1 + (profile == "local"))

    def over():
        if window.process.poll() is None:
            window.press(CTRL_C)  # of an impatient finger
        return window.process.poll() is not None

    wait_until(over, PROMPT)
    assert window.process.returncode == 130
    shown = window.said()
    assert "Traceback" not in shown
    assert f"go on with: l2l resume {store}" in shown
    assert load(store).state in ("stopped", "interrupted")
    assert load(store).counts()["pending"] >= 1
