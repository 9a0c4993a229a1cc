"""The process that evaluates: whatever an optimizee does to it becomes a record, and nothing else is harmed."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from l2l_dask import FunctionOptimizee, Optimizee, Real, Space, minimize
from l2l_dask.evaluating import Where, evaluate
from l2l_dask.evaluation import Candidate, Status

SPACE = Space({"x": Real(0, 1)})
NOWHERE = Where("nowhere.zarr", "", 1)
MB = 1_000_000


def candidate(id=0, x=0.5, attempt=1):
    return Candidate(id, {"x": x}, seed=7, attempt=attempt)


def first_line(evaluation):
    return evaluation.error.partition("\n")[0]


def noisy(params, context):
    context.report(1, 0.5)
    return params["x"] ** 2 + context.rng.normal() + context.seed


def test_a_child_gives_what_an_evaluation_in_place_gives(child_of):
    child, here = child_of(noisy), FunctionOptimizee(noisy, SPACE, minimize("f"))
    for id in range(3):
        there = child.evaluate(candidate(id, id / 3, attempt=2))
        assert there.status is Status.DONE
        expected = evaluate(here, candidate(id, id / 3, attempt=2), NOWHERE)
        assert (there.id, there.attempt, there.fitness, there.curve) == (
            id,
            2,
            expected.fitness,
            expected.curve,
        )
        assert there.started <= there.finished


def test_a_child_stays_warm(child_of):
    child = child_of(lambda params: os.getpid())
    pids = {child.evaluate(candidate(id)).fitness for id in range(4)}
    assert len(pids) == 1
    assert pids != {(os.getpid(),)}


def test_setup_runs_once_in_a_process(child_of):
    class Counting(Optimizee):
        space, objectives = SPACE, minimize("f")
        n = 0

        def setup(self):
            self.n += 1

        def evaluate(self, params, context):
            return self.n

    child = child_of(Counting())
    assert [child.evaluate(candidate(id)).fitness for id in range(3)] == [(1.0,)] * 3


def test_an_exception_is_recorded_with_its_traceback_and_what_was_printed(child_of):
    def broken(params):
        print("about to fail")
        raise ValueError(f"x is {params['x']}")

    failed = child_of(broken).evaluate(candidate())
    assert failed.status is Status.FAILED
    assert first_line(failed) == "ValueError: x is 0.5"
    assert "in broken" in failed.error
    assert failed.error.endswith("printed:\nabout to fail")


def test_what_an_earlier_evaluation_printed_is_not_quoted(child_of):
    def broken(params, context):
        print(f"this is number {context.id}")
        raise ValueError

    child = child_of(broken)
    child.evaluate(candidate(1))
    assert child.evaluate(candidate(2)).error.endswith("printed:\nthis is number 2")


def test_only_the_end_of_much_output_is_quoted(child_of):
    def chatty(params):
        os.write(1, b"a" * MB + b"end")
        raise ValueError

    error = child_of(chatty).evaluate(candidate()).error
    assert error.endswith("aaaend")
    assert len(error) < 10_000


def test_what_c_code_prints_is_caught_too(child_of):
    def broken(params):
        libc = ctypes.CDLL(None)
        libc.puts(b"said by C")
        libc.fflush(None)
        raise ValueError

    assert "said by C" in child_of(broken).evaluate(candidate()).error


def test_nothing_printed_reaches_our_own_output(child_of, capfd):
    def chatty(params):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        os.write(1, b"to 1")
        os.write(2, b"to 2")
        return 1.0

    assert child_of(chatty).evaluate(candidate()).status is Status.DONE
    assert capfd.readouterr() == ("", "")


def crash_if_odd(how):
    def function(params, context):
        if context.id % 2:
            how()
        return float(os.getpid())

    return function


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (lambda: os._exit(3), "ProcessError: the process exited with status 3"),
        (lambda: ctypes.string_at(0), "ProcessError: the process was killed by SIGSEGV"),
        (lambda: os.abort(), "ProcessError: the process was killed by SIGABRT"),
        (
            lambda: os.kill(os.getpid(), signal.SIGRTMIN + 1),
            f"ProcessError: the process was killed by signal {signal.SIGRTMIN + 1}",
        ),
    ],
    ids=["exit", "segfault", "abort", "real-time signal"],
)
def test_a_process_that_dies_is_recorded_as_crashed_and_the_next_evaluation_works(child_of, how, reason):
    child = child_of(crash_if_odd(how))
    before = child.evaluate(candidate(0))
    crashed = child.evaluate(candidate(1))
    assert (crashed.status, crashed.id) == (Status.CRASHED, 1)
    assert first_line(crashed) == reason
    after = child.evaluate(candidate(2))
    assert after.status is Status.DONE
    assert after.fitness != before.fitness


def test_a_process_that_died_between_two_evaluations_is_nobodys_fault(child_of, wait_until, alive):
    child = child_of(lambda params: os.getpid())
    (pid,) = child.evaluate(candidate(0)).fitness
    os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: not alive(int(pid)))
    assert child.evaluate(candidate(1)).status is Status.DONE


def test_one_that_sleeps_for_ever_is_timed_out_with_all_that_it_started(child_of, tmp_path, wait_until, alive):
    note = tmp_path / "pids"

    def sleepy(params, context):
        if context.id:
            return 1.0
        grandchild = subprocess.Popen(["sleep", "1000"])
        note.write_text(f"{os.getpid()} {grandchild.pid}")
        return time.sleep(1000)

    child = child_of(sleepy, timeout=6.0)
    child.evaluate(candidate(1))  # the start of the process does not count
    begun = time.monotonic()
    timed_out = child.evaluate(candidate(0))
    assert 6.0 <= time.monotonic() - begun < 60
    assert timed_out.status is Status.TIMED_OUT
    assert first_line(timed_out) == "TimeoutError: took longer than 6 s"
    assert 6.0 <= timed_out.seconds < 60
    for pid in note.read_text().split():
        wait_until(lambda pid=pid: not alive(int(pid)))
    assert child.evaluate(candidate(1)).status is Status.DONE


def test_one_that_holds_the_interpreters_lock_is_timed_out(child_of):
    def stuck(params):
        ctypes.PyDLL(None).sleep(1000)

    assert child_of(stuck, timeout=0.5).evaluate(candidate()).status is Status.TIMED_OUT


def test_one_that_eats_memory_past_the_limit_is_recorded_as_crashed(child_of):
    def hungry(params, context):
        if context.id:
            block = b"1" * (300 * MB)
            time.sleep(1000)
            return len(block)
        return 1.0

    child = child_of(hungry, memory_limit=200 * MB)
    assert child.evaluate(candidate(0)).status is Status.DONE
    crashed = child.evaluate(candidate(1))
    assert crashed.status is Status.CRASHED
    assert first_line(crashed).startswith("MemoryError: used ")
    assert first_line(crashed).endswith(" MB, the limit is 200 MB")
    assert child.evaluate(candidate(0)).status is Status.DONE


def test_memory_of_what_it_started_counts(child_of):
    def parent_of_a_hungry_one(params):
        code = f"block = b'1' * {300 * MB}; import time; time.sleep(1000)"
        subprocess.run([sys.executable, "-c", code], check=False)

    crashed = child_of(parent_of_a_hungry_one, memory_limit=200 * MB).evaluate(candidate())
    assert crashed.status is Status.CRASHED
    assert "the limit is 200 MB" in crashed.error


def test_memory_that_forks_share_counts_once(child_of):
    def sharing(params):
        block = b"1" * (120 * MB)
        forks = []
        while len(forks) < 4:
            forks.append(os.fork())
            if not forks[-1]:
                time.sleep(1000)
        time.sleep(1.5)  # in which its memory is measured twice
        for pid in forks:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return len(block)

    done = child_of(sharing, memory_limit=250 * MB).evaluate(candidate())
    assert done.status is Status.DONE, done.error


def test_other_processes_are_not_looked_at(child_of, monkeypatch):
    def every_process(*_):
        raise AssertionError("all of /proc was read")

    monkeypatch.setattr(psutil, "_ppid_map", every_process, raising=False)
    monkeypatch.setattr(psutil._psplatform, "ppid_map", every_process)

    def patient(params):
        started = subprocess.Popen(["sleep", "1000"])
        time.sleep(1.2)  # in which its memory is measured twice
        started.kill()
        return 1.0

    assert child_of(patient, memory_limit=10_000 * MB).evaluate(candidate()).status is Status.DONE


def test_a_changed_directory_is_changed_back(child_of, tmp_path):
    def wanderer(params):
        here = os.getcwd()
        os.chdir("/")
        return float(here == str(tmp_path))

    child = child_of(wanderer, cwd=str(tmp_path))
    assert [child.evaluate(candidate(id)).fitness for id in range(2)] == [(1.0,), (1.0,)]


def test_threads_that_go_on_do_no_harm(child_of):
    def threaded(params):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        threading.Thread(target=time.sleep, args=(1000,)).start()
        return float(os.getpid())

    child = child_of(threaded)
    assert child.evaluate(candidate(0)).fitness == child.evaluate(candidate(1)).fitness


def test_forks_do_no_harm_even_one_that_returns(child_of):
    def forking(params, context):
        if os.fork() == 0:
            return -1.0 if context.id else os._exit(0)
        os.wait()
        return float(context.id)

    child = child_of(forking)
    assert [child.evaluate(candidate(id)).fitness for id in range(4)] == [(0.0,), (1.0,), (2.0,), (3.0,)]


def test_a_fork_that_returns_leaves_the_work_folder_and_what_was_saved_alone(child_of):
    def forking(params, context):
        (context.workdir / "file").write_text("3.0")
        context.save("who", [1])
        fork = os.fork()
        if fork == 0:
            if context.id:
                raise ValueError("in the fork")
            return 0.0
        os.waitpid(fork, 0)
        return float((context.workdir / "file").read_text())

    child = child_of(forking)
    assert [child.evaluate(candidate(id)).fitness for id in range(2)] == [(3.0,), (3.0,)]


def test_a_fork_that_returns_from_setup_does_not_answer(child_of):
    class Forking(Optimizee):
        space, objectives = SPACE, minimize("f")

        def setup(self):
            self.fork = os.fork()
            if self.fork:
                os.waitpid(self.fork, 0)

        def evaluate(self, params, context):
            return float(self.fork > 0)

    assert [e.fitness for e in child_of(Forking()).evaluate([candidate(id) for id in range(3)])] == [(1.0,)] * 3


@pytest.mark.parametrize("error", [SystemExit("enough"), KeyboardInterrupt("enough"), GeneratorExit("enough")])
def test_an_exception_that_would_end_a_program_fails_the_evaluation_alone(child_of, error):
    def leaving(params, context):
        if context.id:
            raise error
        return float(os.getpid())

    child = child_of(leaving)
    before = child.evaluate(candidate(0))
    failed = child.evaluate(candidate(1))
    assert failed.status is Status.FAILED
    assert first_line(failed) == f"{type(error).__name__}: enough"
    assert child.evaluate(candidate(0)).fitness == before.fitness


def test_the_first_line_of_an_error_is_its_message_not_its_note(child_of):
    def noted(params):
        error = ValueError("the message")
        error.add_note("a note")
        raise error

    assert first_line(child_of(noted).evaluate(candidate())) == "ValueError: the message"
