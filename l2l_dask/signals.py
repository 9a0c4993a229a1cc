"""Ctrl-C, SIGTERM and a closed terminal, turned into commands for the driver."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from l2l_dask.loop import Control

if TYPE_CHECKING:
    from l2l_dask.driver import Driver

_AT_ONCE = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def obeying(driver: Driver) -> Iterator[None]:
    """Within the block, the first Ctrl-C stops asking and the second stops at once; SIGTERM and SIGHUP do that too.

    On a thread other than the main one signals are not ours, and this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = 0

    def obey(number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        at_once = number in _AT_ONCE or pressed > 1
        if at_once and not driver.threaded:
            raise KeyboardInterrupt  # the evaluation runs on this very thread
        driver.command(Control("stop-now" if at_once else "stop", f"interrupted by {signal.Signals(number).name}"))

    ours = [n for n in (signal.SIGINT, *_AT_ONCE) if signal.getsignal(n) is not signal.SIG_IGN]  # nohup means it
    before = {number: signal.signal(number, obey) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
