"""The life of the process that evaluates: how it starts, what it leaves, with whom it ends."""

import gc
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time

import cloudpickle
import pytest

from l2l_dask import FunctionOptimizee, Optimizee, Real, Space, minimize, shipping
from l2l_dask.child import Payload
from l2l_dask.evaluating import Where
from l2l_dask.evaluation import Candidate, Status
from l2l_dask.process import Child, ClosedError

SPACE = Space({"x": Real(0, 1)})
NOWHERE = Where("nowhere.zarr", "", 1)
MB = 1_000_000


def candidate(id=0, x=0.5, attempt=1):
    return Candidate(id, {"x": x}, seed=7, attempt=attempt)


def first_line(evaluation):
    return evaluation.error.partition("\n")[0]


def test_a_setup_that_raises_fails_each_evaluation(child_of):
    class Unready(Optimizee):
        space, objectives = SPACE, minimize("f")

        def setup(self):
            print("looking for the simulator")
            raise RuntimeError("no simulator here")

        def evaluate(self, params, context):
            return 1.0

    child = child_of(Unready())
    for id in range(2):
        failed = child.evaluate(candidate(id))
        assert (failed.id, failed.status) == (id, Status.FAILED)
        assert first_line(failed) == "RuntimeError: no simulator here"
        assert failed.error.endswith("printed:\nlooking for the simulator")


def test_a_setup_that_kills_its_process_is_recorded_as_crashed(child_of):
    class Deadly(Optimizee):
        space, objectives = SPACE, minimize("f")

        def setup(self):
            os._exit(9)

        def evaluate(self, params, context):
            return 1.0

    assert child_of(Deadly()).evaluate(candidate()).status is Status.CRASHED


def test_an_optimizee_whose_module_is_missing_in_the_child_fails_each_evaluation(child_of, tmp_path):
    file = tmp_path / "only_here.py"
    file.write_text("def fitness(params):\n    return 2 * params['x']\n")
    spec = importlib.util.spec_from_file_location("only_here", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["only_here"] = module
    try:
        spec.loader.exec_module(module)
        optimizee = FunctionOptimizee(module.fitness, SPACE, minimize("f"))
        by_reference = Payload(cloudpickle.dumps(optimizee), NOWHERE)
        by_value = child_of(optimizee)
    finally:
        del sys.modules["only_here"]
    blind = Child(by_reference, 30)
    try:
        for id in range(2):
            failed = blind.evaluate([candidate(id)])[0]
            assert failed.status is Status.FAILED
            assert first_line(failed) == "ModuleNotFoundError: No module named 'only_here'"
    finally:
        blind.close()
    seeing = Child(Payload(by_reference.optimizee, NOWHERE, paths=(str(tmp_path),)), 30)
    try:
        assert seeing.evaluate([candidate()])[0].fitness == (1.0,)
    finally:
        seeing.close()
    assert by_value.evaluate(candidate()).fitness == (1.0,)


def test_a_result_that_cannot_be_pickled_is_no_fitness(child_of):
    child = child_of(lambda params: threading.Lock())
    failed = child.evaluate(candidate())
    assert failed.status is Status.FAILED
    assert "expected a finite number for 'f', got <unlocked" in first_line(failed)


def test_an_exception_that_cannot_be_pickled_is_recorded_all_the_same(child_of):
    class OddError(Exception):
        def __init__(self, a, b):
            super().__init__("odd")
            self.lock = threading.Lock()

        def __reduce__(self):
            raise TypeError("not me")

    def odd(params):
        raise OddError(1, 2)

    assert first_line(child_of(odd).evaluate(candidate())).endswith("OddError: odd")


def test_the_work_folder_is_the_evaluations_own_and_is_removed(child_of, temp):
    def at_work(params, context):
        (context.workdir / "file").write_text("x")
        return float(len(list(context.workdir.iterdir())))

    child = child_of(at_work)
    assert [child.evaluate(candidate(id)).fitness for id in range(2)] == [(1.0,), (1.0,)]
    (scratch,) = temp.iterdir()
    assert [path.name for path in scratch.iterdir()] == ["printed"]


def test_no_file_is_left_after_close(child_of, temp):
    def untidy(params, context):
        (context.workdir / "file").write_text("x")
        os._exit(1)

    child = child_of(untidy)
    child.evaluate(candidate())
    assert list(temp.iterdir())
    child.close()
    gc.collect()
    assert list(temp.iterdir()) == []


def test_no_process_is_left_after_close(child_of, wait_until, alive):
    child = child_of(lambda params: os.getpid())
    (pid,) = child.evaluate(candidate()).fitness
    assert alive(int(pid))
    child.close()
    wait_until(lambda: not alive(int(pid)))


@pytest.mark.parametrize("busy_with", ["setup", "evaluate"])
def test_a_child_that_is_closed_while_it_works_ends_at_once_and_starts_nothing_new(
    tmp_path, temp, child_of, wait_until, alive, busy_with
):
    class Endless(Optimizee):
        space, objectives = SPACE, minimize("f")

        def busy(self, with_what):
            if with_what == busy_with:
                with (tmp_path / "pids").open("a") as file:
                    file.write(f"{os.getpid()}\n")
                time.sleep(1000)

        def setup(self):
            self.busy("setup")

        def evaluate(self, params, context):
            return self.busy("evaluate")

    child, came = child_of(Endless(), timeout=None), []

    def evaluate():
        try:
            came.append(child.evaluate([candidate(id) for id in range(5)]))
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=evaluate, daemon=True)
    thread.start()
    wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().endswith("\n"))
    child.close()
    thread.join(30)
    assert [type(c) for c in came] == [ClosedError]
    (pid,) = (tmp_path / "pids").read_text().split()
    wait_until(lambda: not alive(int(pid)))
    assert list(temp.iterdir()) == []
    with pytest.raises(ClosedError):
        child.evaluate([candidate()])


def test_a_busy_child_and_all_that_it_started_die_with_the_process_that_started_it(tmp_path, wait_until, alive):
    note = tmp_path / "pid"
    code = f"""
        import os, pathlib, signal, subprocess, threading, time
        from l2l_dask import FunctionOptimizee, Real, Space, minimize, shipping
        from l2l_dask.child import Payload
        from l2l_dask.evaluating import Where
        from l2l_dask.evaluation import Candidate
        from l2l_dask.process import Child, ClosedError
        def busy(params):
            started = subprocess.Popen(["sleep", "1000"])
            pathlib.Path({str(note)!r}).write_text(f"{{os.getpid()}} {{started.pid}} ")
            time.sleep(1000)
        optimizee = FunctionOptimizee(busy, Space({{"x": Real(0, 1)}}), minimize("f"))
        child = Child(Payload(shipping.pack(optimizee), Where("", "", 1)))
        threading.Thread(target=child.evaluate, args=[[Candidate(0, {{"x": 0.5}}, 1)]]).start()
        while not os.path.exists({str(note)!r}) or not os.path.getsize({str(note)!r}):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pids = [int(pid) for pid in note.read_text().split()]
    assert len(pids) == 2
    wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.fixture
def short_of_patience(temp):
    """A child that ends when it has nothing to do for a second; it leaves a process of its own behind."""

    def leaving(params, context):
        left = subprocess.Popen(["sleep", "1000"])
        return {"pid": os.getpid(), "left": left.pid}

    optimizee = FunctionOptimizee(leaving, SPACE, [minimize("pid"), minimize("left")])
    child = Child(Payload(shipping.pack(optimizee), NOWHERE, idle=1.0), 30)
    yield child
    child.close()


def test_a_child_without_work_ends_by_itself_with_what_it_left_and_is_started_again(
    short_of_patience, wait_until, alive
):
    before = short_of_patience.evaluate([candidate(0)])[0]
    assert before.status is Status.DONE
    wait_until(lambda: not any(alive(int(pid)) for pid in before.fitness))
    after = short_of_patience.evaluate([candidate(1)])[0]
    assert after.status is Status.DONE
    assert after.fitness != before.fitness


def test_no_work_is_given_to_a_child_that_is_about_to_end(short_of_patience):
    for id in range(4):
        assert short_of_patience.evaluate([candidate(id)])[0].status is Status.DONE
        time.sleep(0.91 + 0.03 * id)


def test_a_candidate_and_its_evaluation_travel_as_plain_pickles():
    sent = candidate(3)
    assert pickle.loads(pickle.dumps(sent)) == sent
