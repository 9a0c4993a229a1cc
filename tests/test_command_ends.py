"""CommandOptimizee and ends: of programs that take too long, leave something behind, or print until the last moment."""

import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from l2l_dask import Integer, Real, Space, minimize
from l2l_dask.command import CommandOptimizee, _followed
from l2l_dask.evaluation import Candidate, Status
from l2l_dask.optimizee import Context

SPACE = Space({"tau_m": Real(5, 50), "n": Integer(1, 8)})
PARAMS = {"tau_m": 12.5, "n": 3}
BIN = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"


def python(code, *words):
    return [sys.executable, "-c", code.replace("{", "{{").replace("}", "}}"), *words]


def run(optimizee):
    return optimizee.evaluate(PARAMS, Context(Candidate(7, PARAMS, 1)))


@pytest.mark.parametrize("held", ["", ">/dev/null", "2>/dev/null", ">/dev/null 2>&1"])
def test_what_is_left_in_the_background_is_not_waited_for_and_ended_with_the_process(
    held, child_of, wait_until, alive, tmp_path
):
    script = f"sleep 1000 {held} & echo $! > {tmp_path / 'pid'}; printf 37"
    child = child_of(CommandOptimizee(["sh", "-c", script], SPACE, minimize("f")), timeout=100.0)
    began = time.monotonic()
    ended = child.evaluate(Candidate(0, PARAMS, 1))
    assert ended.fitness == (37.0,)
    assert time.monotonic() - began < 100
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    child.close()
    wait_until(lambda: not alive(pid))


def test_in_this_very_process_it_is_not_waited_for_either(tmp_path):
    script = f"sleep 1000 & echo $! > {tmp_path / 'pid'}; printf 37"
    began = time.monotonic()
    try:
        assert run(CommandOptimizee(["sh", "-c", script], SPACE, minimize("f"))) == (37.0,)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert time.monotonic() - began < 100


def test_what_comes_a_moment_after_its_end_is_read(monkeypatch):
    monkeypatch.setattr("l2l_dask.command.GRACE", 60.0)
    assert run(CommandOptimizee(["sh", "-c", "(sleep 0.3; echo 37) &"], SPACE, minimize("f"))) == (37.0,)


def test_what_was_printed_before_its_end_is_read_however_late_that_is_noticed(monkeypatch):
    monkeypatch.setattr("l2l_dask.command.GRACE", -1.0)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(["sh", "-c", "read line; echo why >&2; echo 37"], **pipes) as process:

        def poll():
            process.stdin.close()  # only now it goes on
            return process.wait()

        monkeypatch.setattr(process, "poll", poll)
        assert _followed(process) == ("37", "why")


def test_what_it_prints_is_passed_on_before_its_line_is_complete(child_of):
    script = "printf 'Enter licence key: ' >&2; sleep 1000"
    optimizee = CommandOptimizee(["sh", "-c", script], SPACE, minimize("f"))
    child = child_of(optimizee, time_is_up=lambda printed: b"Enter licence key" in printed)
    ended = child.evaluate(Candidate(0, PARAMS, 1))
    assert ended.status is Status.TIMED_OUT
    assert ended.error.endswith("printed:\nEnter licence key: ")


STUBBORN = """
import os, pathlib, signal, sys, time
def ended(*_):
    pathlib.Path(sys.argv[1]).write_text("cleaned up")
    if not int(sys.argv[2]):
        sys.exit(1)
signal.signal(signal.SIGTERM, ended)
print("ready", flush=True)
while True:
    time.sleep(0.01)
"""


@pytest.mark.parametrize("stubborn", [0, 1])
def test_a_program_that_takes_too_long_may_clean_up_and_is_ended_all_the_same(
    stubborn, child_of, tmp_path, monkeypatch, wait_until
):
    monkeypatch.setattr("l2l_dask.family.GRACE", 6.0)
    optimizee = CommandOptimizee(python(STUBBORN, str(tmp_path / "said"), str(stubborn)), SPACE, minimize("f"))
    child = child_of(optimizee, time_is_up=lambda printed: b"ready" in printed)
    ended = child.evaluate(Candidate(0, PARAMS, 1))
    assert ended.status is Status.TIMED_OUT
    assert "printed:\nready" in ended.error
    assert (tmp_path / "said").read_text() == "cleaned up"
    wait_until(
        lambda: not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path / "said") in (p.info["cmdline"] or ())]
    )


RANKS = """
import os, sys, time
rank = int(os.environ["PMI_RANK"])
open(f"{sys.argv[1]}/rank-{rank}-{os.getpid()}", "w").close()
if sys.argv[2] == "hang":
    time.sleep(1000)
if rank == 0:
    print(os.environ["PMI_SIZE"])
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_mpiexec_starts_ranks_and_takes_them_along_when_it_takes_too_long(hangs, child_of, tmp_path, wait_until, alive):
    mpiexec = shutil.which("mpiexec", path=BIN)
    command = [mpiexec, "-n", "2", *python(RANKS, str(tmp_path), "hang" if hangs else "")]
    child = child_of(
        CommandOptimizee(command, SPACE, minimize("f")),
        timeout=60.0,
        time_is_up=lambda _: hangs and len(list(tmp_path.glob("rank-*"))) == 2,
    )
    ended = child.evaluate(Candidate(0, PARAMS, 1))
    ranks = [int(path.name.rpartition("-")[2]) for path in tmp_path.glob("rank-*")]
    assert len(ranks) == 2
    if hangs:
        assert ended.status is Status.TIMED_OUT
        wait_until(lambda: not any(alive(pid) for pid in ranks))
    else:
        assert ended.fitness == (2.0,)


def test_why_a_program_failed_is_kept_however_much_it_printed_before_and_in_whatever_encoding(child_of, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    code = (
        "import sys; sys.stdout.buffer.write('progress \u2713\\n'.encode() * 3000); sys.stdout.flush(); "
        "sys.stderr.write('FATAL: bad config'); sys.exit(3)"
    )
    ended = child_of(CommandOptimizee(python(code), SPACE, minimize("f"))).evaluate(Candidate(0, PARAMS, 1))
    assert "exit code 3" in ended.error
    assert "FATAL: bad config" in ended.error


def test_what_was_not_begun_when_another_took_too_long_is_begun_once(child_of, tmp_path):
    script = f"echo {{id}} >> {tmp_path / 'begun'}; test {{id}} != 0 || (echo hangs; sleep 1000); echo 1"
    optimizee = CommandOptimizee(["sh", "-c", script], SPACE, minimize("f"))
    child = child_of(optimizee, time_is_up=lambda printed: b"hangs" in printed)
    ended = child.evaluate([Candidate(id, PARAMS, 1) for id in range(4)])
    assert [e.status for e in ended] == [Status.TIMED_OUT, *[Status.DONE] * 3]
    assert (tmp_path / "begun").read_text().split() == ["0", "1", "2", "3"]
