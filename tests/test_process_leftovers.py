"""What a process leaves behind, gathers, or says that nobody understands."""

import os
import signal
import subprocess
import sys
import time

import pytest

from l2l_dask import Optimizee, Real, Space, minimize
from l2l_dask.evaluation import Candidate, Status

SPACE = Space({"x": Real(0, 1)})
MB = 1_000_000


def candidate(id=0):
    return Candidate(id, {"x": 0.5}, seed=7)


def first_line(evaluation):
    return evaluation.error.partition("\n")[0]


def in_a_session_of_its_own():
    return [subprocess.Popen(["sleep", "1000"], start_new_session=True).pid]


def orphaned():
    """Start a process whose parent ends: two forks, and a session of its own."""
    code = (
        "import subprocess as s; "
        "print(s.Popen(['sleep', '1000'], stdout=s.DEVNULL, stderr=s.DEVNULL, start_new_session=True).pid)"
    )
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(started.stdout)]


@pytest.mark.parametrize("start", [in_a_session_of_its_own, orphaned])
@pytest.mark.parametrize("end", ["takes too long", "crashes", "is closed", "worker is gone"])
def test_what_left_the_session_ends_with_the_process_too(child_of, tmp_path, wait_until, alive, start, end):
    note = tmp_path / "pids"

    def leaving(params):
        (pid,) = start()
        note.write_text(f"{pid}")
        if end == "takes too long":
            print("waits", flush=True)
            time.sleep(1000)
        if end == "crashes":
            os._exit(1)
        return 1.0

    child = child_of(leaving, timeout=60.0, time_is_up=lambda printed: b"waits" in printed)
    ended = child.evaluate(candidate())
    pid = int(note.read_text())
    if end == "takes too long":
        assert ended.status is Status.TIMED_OUT
    elif end == "crashes":
        assert first_line(ended) == "ProcessError: the process exited with status 1"
    else:
        assert ended.status is Status.DONE
        assert alive(pid)
        if end == "is closed":
            child.close()
        else:
            os.kill(child._process.pid, signal.SIGTERM)  # what the kernel sends then
    wait_until(lambda: not alive(pid))


def test_orphans_that_end_are_not_taken_for_the_process(child_of):
    def orphaning(params):
        for _ in range(3):
            subprocess.run(["sh", "-c", "setsid true & setsid sh -c 'exit 3' &"], check=True)
        time.sleep(0.1)
        return float(os.getpid())

    child = child_of(orphaning)
    assert child.evaluate(candidate(0)).fitness == child.evaluate(candidate(1)).fitness


def hoarding(params, context):
    """Keep 20 MB more each time, in an evaluation that ends before anybody looks."""
    vars(os).setdefault("hoard", []).append(b"1" * 20 * MB)
    return float(os.getpid())


def test_a_process_that_gathers_memory_over_short_evaluations_is_started_anew_and_nobody_is_blamed(
    child_of, monkeypatch
):
    monkeypatch.setattr("l2l_dask.process._LOOK", 0.0)
    child = child_of(hoarding, memory_limit=200 * MB)
    monkeypatch.setattr(child, "_await_answer", lambda: None)  # nobody looks meanwhile
    ended = child.evaluate([candidate(id) for id in range(24)])
    assert {e.status for e in ended} == {Status.DONE}
    assert len({e.fitness for e in ended}) > 1


def test_a_warm_process_that_uses_too_much_gets_no_more_work(child_of, monkeypatch):
    monkeypatch.setattr("l2l_dask.process._LOOK", 0.0)

    def greedy(params):
        vars(os)["hoard"] = b"1" * 300 * MB
        return float(os.getpid())

    child = child_of(greedy, memory_limit=200 * MB)
    monkeypatch.setattr(child, "_await_answer", lambda: None)  # nobody looks meanwhile
    first, second = child.evaluate(candidate(0)), child.evaluate(candidate(1))
    assert (first.status, second.status) == (Status.DONE, Status.DONE)
    assert first.fitness != second.fitness


def test_a_setup_that_uses_more_than_the_limit_is_told(child_of):
    class Greedy(Optimizee):
        space, objectives = SPACE, minimize("f")

        def setup(self):
            self.hoard = b"1" * 300 * MB

        def evaluate(self, params, context):
            return 1.0

    failed = child_of(Greedy(), memory_limit=200 * MB).evaluate(candidate())
    assert first_line(failed).startswith("MemoryError: setup() left ")


class Unreadable(str):
    """A name that can be sent, but not received."""

    def __reduce__(self):
        return int, ("not here",)


def test_an_answer_that_cannot_be_read_fails_the_individual_alone(child_of):
    def odd(params, context):
        context.save(Unreadable("trace") if context.id == 1 else "trace", [1.0])
        return float(os.getpid())

    ended = child_of(odd).evaluate([candidate(id) for id in range(3)])
    assert [e.status for e in ended] == [Status.DONE, Status.FAILED, Status.DONE]
    assert first_line(ended[1]) == (
        "its process could not be understood: ValueError: invalid literal for int() with base 10: 'not here'"
    )


def test_an_error_of_ours_while_we_listen_does_not_put_the_process_out_of_step(child_of, monkeypatch):
    child = child_of(lambda params, context: float(context.id))
    listen = child._await_answer

    def short_of_memory():
        monkeypatch.setattr(child, "_await_answer", listen)
        raise MemoryError("just now")

    monkeypatch.setattr(child, "_await_answer", short_of_memory)
    ended = [child.evaluate(candidate(id)) for id in range(3)]
    assert [e.fitness for e in ended] == [(0.0,), (1.0,), (2.0,)]
