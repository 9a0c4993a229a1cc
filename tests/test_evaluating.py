"""One evaluation in place: what the optimizee returns, saves and raises becomes a record."""

import os
import sys
import time

import numpy as np
import pytest

from l2l_dask import FunctionOptimizee, Optimizee, Real, Space, minimize
from l2l_dask.evaluating import CURVE, Where, described, evaluate, evaluate_all, missing_outputs
from l2l_dask.evaluation import Candidate, Evaluation, Sampling, Status
from l2l_dask.saving import load_arrays, saved_folder

NOWHERE = Where("nowhere.zarr", "some-uuid", 1)


@pytest.fixture
def store(tmp_path):
    """What a worker sees of a store."""
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / "zarr.json").write_text('{"attributes": {"l2l_dask": {"uuid": "our-uuid"}}}')
    return folder


def run(function, where=NOWHERE, scratch=None, id=3, attempt=2):
    optimizee = FunctionOptimizee(function, Space({"x": Real(0, 1)}), minimize("f"))
    return evaluate(optimizee, Candidate(id, {"x": 0.5}, 7, {"generation": 4}, attempt), where, scratch)


def test_a_result_names_its_individual_its_attempt_and_when_it_ran():
    before = time.time()
    done = run(lambda params: params["x"])
    assert (done.id, done.attempt, done.status, done.fitness, done.error) == (3, 2, Status.DONE, (0.5,), "")
    assert before <= done.started <= done.finished <= time.time()
    assert done.worker == str(os.getpid())


def test_a_fitness_that_is_none_fails_in_one_line_without_traceback():
    failed = run(lambda params: float("nan"))
    assert (failed.status, failed.fitness) == (Status.FAILED, ())
    assert failed.error == "EvaluationError: expected a finite number for 'f', got nan"
    assert failed.started <= failed.finished


def test_an_exception_fails_with_one_line_and_the_traceback():
    def broken(params):
        raise RuntimeError("two\n   lines")

    failed = run(broken)
    first, _, rest = failed.error.partition("\n")
    assert failed.status is Status.FAILED
    assert first == "RuntimeError: two lines"
    assert rest.startswith("Traceback")
    assert "in broken" in rest


def test_leaving_the_program_fails_the_evaluation():
    def leaving(params):
        raise SystemExit(0)

    assert run(leaving).error.startswith("SystemExit: 0\n")


def test_a_syntax_error_is_described_by_its_message():
    with pytest.raises(SyntaxError) as caught:
        compile("a b", "some_file.py", "exec")
    assert described(caught.value).startswith("SyntaxError: invalid syntax\n")


def test_an_endless_traceback_is_cut_at_its_start():
    def ping(n):
        pong(n - 1)

    def pong(n):  # in turns, so that the traceback is not summed up
        if n < 0:
            raise ValueError("the end" * 1000)
        ping(n - 1)

    with pytest.raises(ValueError, match="the end") as caught:
        ping(400)
    first, _, rest = described(caught.value).partition("\n")
    assert len(first) == 500
    assert len(rest) <= 20_000
    assert rest.rstrip().endswith("the end")


def test_an_optimizee_cannot_change_the_candidate():
    candidate = Candidate(0, {"x": 0.5}, 7)
    optimizee = FunctionOptimizee(lambda params: params.pop("x"), Space({"x": Real(0, 1)}), minimize("f"))
    evaluate(optimizee, candidate, NOWHERE)
    assert candidate.params == {"x": 0.5}


def test_the_context_says_what_the_optimizer_named():
    assert run(lambda params, context: context.info["generation"] + context.attempt + context.id).fitness == (9.0,)


def test_the_learning_curve_travels_and_is_saved():
    def learning(params, context):
        for step in range(3):
            context.report(step, step**2)
        return 1.0

    done = run(learning)
    assert done.curve == ((0.0, 0.0), (1.0, 1.0), (2.0, 4.0))
    assert done.saved == (CURVE,)
    np.testing.assert_array_equal(done.arrays[CURVE], [[0, 0], [1, 1], [2, 4]])


def saving(params, context):
    context.save("trace", np.arange(5.0))
    context.save("matrix", [[1, 2], [3, 4]])
    return 1.0


def test_saved_arrays_travel_where_the_worker_may_not_write(store):
    (store / "saved").write_text("in the way, as a folder without permission is")  # root may write everywhere
    done = run(saving, Where(str(store), "our-uuid", 5))
    assert (done.status, done.fitness, done.saved, done.stored) == (Status.DONE, (1.0,), ("trace", "matrix"), False)
    assert set(done.arrays) == {"trace", "matrix"}


def test_saved_arrays_are_written_into_the_store_where_the_worker_sees_it(store):
    done = run(saving, Where(str(store), "our-uuid", 5))
    assert done.saved == ("trace", "matrix")
    assert done.arrays == {}
    arrays = load_arrays(store / saved_folder(3, 5, 2))
    assert sorted(arrays) == ["matrix", "trace"]
    np.testing.assert_array_equal(arrays["trace"], np.arange(5.0))
    np.testing.assert_array_equal(arrays["matrix"], [[1, 2], [3, 4]])


@pytest.mark.parametrize("uuid", ["another-uuid", None], ids=["another store of that name", "no folder"])
def test_saved_arrays_travel_with_the_result_where_the_store_is_out_of_reach(store, uuid):
    where = Where(str(store) if uuid else str(store / "elsewhere"), "another-uuid", 5)
    done = run(saving, where)
    assert done.saved == ("trace", "matrix")
    np.testing.assert_array_equal(done.arrays["trace"], np.arange(5.0))
    np.testing.assert_array_equal(done.arrays["matrix"], [[1, 2], [3, 4]])
    assert [path.name for path in store.iterdir()] == ["zarr.json"]


def test_what_the_optimizer_needs_travels_although_the_store_is_in_reach(store):
    done = run(saving, Where(str(store), "our-uuid", 5, needs=("trace",)))
    assert sorted(done.arrays) == ["trace"]
    assert sorted(load_arrays(store / saved_folder(3, 5, 2))) == ["matrix", "trace"]


def test_an_array_is_saved_as_it_was_when_it_was_saved():
    def reusing(params, context):
        buffer = np.zeros(3)
        context.save("before", buffer)
        buffer += 1
        return 1.0

    np.testing.assert_array_equal(run(reusing).arrays["before"], np.zeros(3))


@pytest.mark.parametrize("name", ["", "../escape", "a/b", ".hidden", "a b", "a\0b"])
def test_a_saved_name_that_is_no_file_name_fails_the_evaluation(name, store):
    def escaping(params, context):
        context.save(name, [1.0])
        return 1.0

    failed = run(escaping, Where(str(store), "our-uuid", 5))
    assert failed.error.startswith("EvaluationError: save: a name may hold letters")
    assert [path.name for path in store.iterdir()] == ["zarr.json"]


def test_an_array_of_objects_fails_the_evaluation():
    def odd(params, context):
        context.save("odd", [object()])
        return 1.0

    assert "must be an array of numbers or strings" in run(odd).error


def test_what_a_failed_evaluation_had_saved_is_kept_to_find_out_why(store):
    def failing(params, context):
        saving(params, context)
        raise ValueError

    failed = run(failing, Where(str(store), "our-uuid", 5))
    kept = run(saving, Where(str(store), "our-uuid", 5))
    assert failed.status is Status.FAILED
    assert failed.stored
    assert failed.saved == kept.saved != ()


@pytest.mark.parametrize("ends", [lambda: 1.0, lambda: None, lambda: 1 / 0, lambda: sys.exit()])
def test_the_work_folder_is_removed_however_the_evaluation_ends(tmp_path, ends):
    seen = []

    def at_work(params, context):
        (context.workdir / "deep").mkdir()
        (context.workdir / "deep" / "file").write_text("x")
        seen.append(context.workdir)
        return ends()

    run(at_work, scratch=tmp_path)
    assert seen[0].parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_no_work_folder_is_made_unless_it_is_asked_for(tmp_path):
    run(lambda params: float(len(list(tmp_path.iterdir()))), scratch=tmp_path)
    assert run(lambda params: float(len(list(tmp_path.iterdir()))), scratch=tmp_path).fitness == (0.0,)


def test_a_result_without_what_the_optimizer_needs_is_a_failure():
    done = Evaluation(0, Status.DONE, fitness=(1.0,), saved=("trace",))
    assert missing_outputs(done, ("trace",)) is done
    assert missing_outputs(done, ()) is done
    lacking = missing_outputs(done, ("trace", "observation"))
    assert (lacking.status, lacking.fitness) == (Status.FAILED, ())
    assert "context.save('observation', ..)" in lacking.error
    crashed = Evaluation(0, Status.CRASHED, error="ProcessError: gone")
    assert missing_outputs(crashed, ("observation",)) is crashed


def test_what_one_evaluation_does_to_an_array_does_not_reach_the_next_repeat():
    def scaling(params, context):
        params["w"] *= 2
        context.info["parents"][:] += 1
        return params["w"].sum() + context.info["parents"].sum()

    given, parents = np.array([0.1, 0.2, 0.3]), np.zeros(2)
    candidate = Sampling(repeats=4).sampled(Candidate(0, {"w": given}, 7, {"parents": parents}))
    optimizee = FunctionOptimizee(scaling, Space({"w": Real(0, 1, shape=3)}), minimize("f"))
    done = evaluate(optimizee, candidate, NOWHERE)
    assert done.fitness == pytest.approx((3.2,))
    assert done.spread == (0.0,)
    np.testing.assert_array_equal([*given, *parents], [0.1, 0.2, 0.3, 0, 0])


class Batch(Optimizee):
    """Takes four at once, by the given function."""

    space, objectives, batch_size = Space({"x": Real(0, 1)}), minimize("f"), 4

    def __init__(self, evaluate_batch):
        self.evaluate_batch = evaluate_batch

    def evaluate(self, params, context):
        raise NotImplementedError


def four(**more):
    return [Candidate(id, {"x": id / 10}, 7, **more) for id in range(4)]


def test_after_a_batch_that_failed_each_starts_afresh(tmp_path):
    def spoiling(params, contexts):
        for p, c in zip(params, contexts, strict=True):
            (c.workdir / "made once").mkdir()
            p["w"] += 1
        if len(contexts) > 1:
            raise ValueError("not all at once")
        return [float(p["w"].sum()) for p in params]

    jobs = [Candidate(id, {"w": np.full(2, id)}, 7) for id in range(4)]
    ended = evaluate_all(Batch(spoiling), jobs, NOWHERE, tmp_path)
    assert [e.fitness for e in ended] == [(2.0 * id + 2,) for id in range(4)], ended
    assert list(tmp_path.iterdir()) == []


def test_the_time_of_one_that_is_tried_alone_is_its_own():
    def splitting(params, contexts):
        if len(contexts) > 1:
            raise ValueError("not all at once")
        time.sleep(0.01)
        return [p["x"] for p in params]

    started = [e.started for e in evaluate_all(Batch(splitting), four(), NOWHERE)]
    assert len(set(started)) == 4


def test_why_a_batch_was_split_is_printed(capsys):
    def splitting(params, contexts):
        if len(contexts) > 1:
            raise ValueError("not all at once")
        return [p["x"] for p in params]

    evaluate_all(Batch(splitting), four(), NOWHERE)
    assert "ValueError: not all at once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("returned", "got"),
    [(1.0, "a float"), (None, "a NoneType"), ({"f": 1.0}, "a dict"), ("1", "a str"), ([1.0] * 7, "7")],
)
def test_a_batch_that_returns_something_else_fails_with_what_was_expected(returned, got):
    ended = evaluate_all(Batch(lambda params, contexts: returned), four(), NOWHERE)
    expected = f"EvaluationError: evaluate_batch: expected a sequence of 1, one entry per parameter set, got {got}"
    assert {e.error for e in ended} == {expected}
