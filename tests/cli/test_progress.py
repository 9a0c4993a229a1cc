"""The progress line."""

import os
import pty
import re
import select
import subprocess
import sys

import pytest

from l2l_dask.cli.progress import bar
from l2l_dask.progress import Progress, line


def test_a_terminal_shows_a_line_that_is_renewed_and_fits_it(home, set_seconds):
    set_seconds(0.02)
    ours, theirs = pty.openpty()
    width = 100
    environment = os.environ | {"COLUMNS": str(width), "TERM": "xterm"}
    (home / "broken").touch()
    driver = subprocess.Popen(
        [sys.executable, "-m", "l2l_dask", "run", "e.toml", "--evaluations", "150", "--no-report"],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=theirs,
        stdin=theirs,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while driver.poll() is None or select.select([ours], [], [], 0)[0]:
        try:
            shown += os.read(ours, 100_000)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert driver.communicate()[0] == b""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    lines = [part for part in re.split(r"[\r\n]+", text) if "workers busy" in part]
    assert len(lines) > 3
    assert max(len(part.rstrip()) for part in lines) <= width
    pattern = r"\S+ \d+/150  best [\d.e-]+  \d+ failed  \d+:\d\d left  [\d.]+/s  1/1 workers busy  \d+:\d\d"
    assert any(re.fullmatch(pattern, part.strip()) for part in lines), lines


RUNNING = {"ended": 250, "failed": 3, "total": 1000, "best": 0.123456789, "in_flight": 5, "slots": 4} | {
    "paused": False,
    "stopping": False,
    "seconds": 3723.0,
    "rate": 2.5,
}


def test_the_progress_line_says_all_where_there_is_room():
    bar = "━" * 5 + "─" * 15
    expected = f"{bar} 250/1000  best 0.123457  3 failed  5:00 left  2.5/s  4/4 workers busy  1:02:03"
    assert line(Progress(**RUNNING), 0) == line(Progress(**RUNNING), 200) == expected


@pytest.mark.parametrize("width", range(30, 100))
def test_the_progress_line_drops_the_least_important_where_there_is_none(width):
    full, cut = line(Progress(**RUNNING), 0), line(Progress(**RUNNING), width)
    assert full.startswith(cut)
    assert len(cut) <= max(width, len("━" * 20 + " 250/1000  best 0.123457"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"paused": True}, "paused"),
        ({"stopping": True}, "stopping: waits for 5 running (Ctrl-C again: at once)"),
        ({"slots": 0, "in_flight": 0}, "waiting for workers"),
    ],
)
def test_the_progress_line_says_what_is_unusual_first(changed, said):
    assert line(Progress(**RUNNING | changed), 0).split("  ")[1] == said


def test_before_the_first_result_there_is_no_best_and_no_time_left():
    p = Progress(**RUNNING | {"ended": 0, "failed": 0, "best": None, "rate": 0.0})
    assert line(p, 0) == "─" * 20 + " 0/1000  0/s  4/4 workers busy  1:02:03"


@pytest.mark.parametrize(("exists", "said"), [(True, "go on with: l2l resume"), (False, "nothing was started")])
def test_a_ctrl_c_that_finds_no_driver_says_how_to_go_on_too(tmp_path, capsys, exists, said):
    store = tmp_path / "a.zarr"
    if exists:
        store.mkdir()
    with pytest.raises(SystemExit) as caught, bar(store):
        raise KeyboardInterrupt
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (130, "")
    assert err.startswith(f"interrupted: {said}")
