"""Noisy fitness: repeats, seeds, and the best evaluated again at the end."""

import json

import numpy as np
import pytest

from l2l_dask import Experiment, Optimizee, Real, Space, maximize, minimize
from l2l_dask.evaluation import Candidate, Sampling
from l2l_dask.executors import Serial
from l2l_dask.registry import find
from l2l_dask.trajectory import FINAL, OPTIMIZER, RETRY, load

SPACE = Space({"x": Real(-5, 5)})
NOISE = 8.0
Random = find("optimizers", "random")


def noisy(params, context):
    """The parabola, which is 0 at best, with noise about as large as the parabola is deep."""
    return params["x"] ** 2 + NOISE * context.rng.normal()


def search(store, function=noisy, evaluations=150, **options):
    options = {"space": SPACE, "objectives": minimize("f"), "cluster": "serial", "seed": 3} | options
    return Experiment(function, "random", store=store, evaluations=evaluations, **options)


def truth(individual):
    return individual.params["x"] ** 2


def test_the_naive_best_is_wrong_and_the_best_on_fresh_seeds_is_right(tmp_path):
    naive = search(tmp_path / "naive.zarr").run().best
    claimed = naive.fitness["f"]
    assert claimed < truth(naive) - NOISE  # it claims what it is not: f is never below 0

    ended = search(tmp_path / "final.zarr", final=15, final_repeats=100).run()
    error = NOISE / np.sqrt(100)  # of a mean of as many
    assert abs(ended.best.fitness["f"] - truth(ended.best)) < 4 * error
    finalists = np.flatnonzero(ended.record["origin"] == FINAL)
    best_there_is = (ended.record["params"][finalists, 0] ** 2).min()
    assert truth(ended.best) <= best_there_is + 4 * error
    assert truth(ended.best) < truth(naive)


def test_the_finalists_are_the_best_of_the_search_as_new_rows_that_name_the_old(tmp_path):
    ended = search(tmp_path / "a.zarr", evaluations=40, final=5, final_repeats=3).run()
    record = ended.record
    assert len(ended) == 45
    assert record["origin"].tolist() == [OPTIMIZER] * 40 + [FINAL] * 5
    assert record["retry_of"][40:].tolist() == np.argsort(record["fitness"][:40, 0]).tolist()[:5]
    assert record["x"][40:].tolist() == record["x"][record["retry_of"][40:]].tolist()
    assert ended.best.id == 40 + int(np.argmin(record["fitness"][40:, 0]))


def test_of_a_maximised_objective_the_largest_are_the_finalists(tmp_path):
    options = {"objectives": maximize("f"), "final": 3, "final_repeats": 2}
    record = search(tmp_path / "a.zarr", evaluations=30, **options).run().record
    assert record["retry_of"][30:].tolist() == np.argsort(-record["fitness"][:30, 0]).tolist()[:3]


def test_repeats_record_mean_and_standard_deviation(tmp_path):
    trajectory = search(tmp_path / "a.zarr", evaluations=3, repeats=5).run()
    sampling = Sampling(repeats=5)
    for id, x in enumerate(trajectory.record["params"][:, 0].tolist()):
        drawn = [
            x**2 + NOISE * np.random.default_rng(candidate.seeds()).normal()
            for r in range(5)
            for candidate in [sampling.sampled(Candidate(id, {}, 3, repeat=r))]
        ]
        assert trajectory.record["fitness"][id, 0] == pytest.approx(np.mean(drawn))
        assert trajectory.record["fitness_sd"][id, 0] == pytest.approx(np.std(drawn, ddof=1))


@pytest.mark.parametrize(("seeds", "equal"), [("common", True), ("independent", False)])
def test_with_common_seeds_equal_individuals_have_equal_fitness(tmp_path, seeds, equal):
    initial = [{"x": 1.0}, {"x": 1.0}]
    trajectory = search(tmp_path / "a.zarr", evaluations=2, repeats=2, seeds=seeds, initial=initial).run()
    first, second = trajectory.record["fitness"][:, 0].tolist()
    assert (first == second) is equal


@pytest.mark.parametrize("seeds", ["common", "independent"])
def test_no_two_evaluations_that_should_differ_share_a_seed(seeds):
    search, final = Sampling(3, seeds, 2, 4), set()
    seen = set()
    for id in range(4):
        for r in range(3):
            seen.add(tuple(search.sampled(Candidate(id, {}, 1, repeat=r)).seeds().generate_state(2)))
        for r in range(4):
            final.add(tuple(search.sampled(Candidate(id, {}, 1, repeat=r), final=5).seeds().generate_state(2)))
    assert len(seen) == (3 if seeds == "common" else 12)
    assert len(final) == 4  # the finalists are compared on the same seeds,
    assert not seen & final  # and these are fresh


def test_an_interrupted_final_is_finished_by_a_resume_and_not_made_twice(tmp_path):
    stopped = {"at": 33}

    def fragile(params, context):
        if context.id == stopped["at"]:
            raise KeyboardInterrupt
        return noisy(params, context)

    store = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        search(store, fragile, evaluations=30, final=5, final_repeats=2).run()
    stopped["at"] = None
    ended = Experiment.resume(store, optimizee=_as_optimizee(fragile))
    whole = search(tmp_path / "b.zarr", evaluations=30, final=5, final_repeats=2).run()
    assert ended.state == "finished"
    assert ended.record["fitness"].tolist() == whole.record["fitness"].tolist()


def test_a_search_that_is_extended_evaluates_its_best_again_at_its_new_end(tmp_path):
    store = tmp_path / "a.zarr"
    search(store, evaluations=20, final=3, final_repeats=2).run()
    assert len(Experiment.resume(store)) == 23  # it is finished: nothing to do
    ended = Experiment.resume(store, evaluations=30)
    origin = ended.record["origin"].tolist()
    assert origin == [OPTIMIZER] * 20 + [FINAL] * 3 + [OPTIMIZER] * 10 + [FINAL] * 3
    assert ended.best.id >= 33
    searched = np.flatnonzero(ended.record["origin"] == OPTIMIZER)
    best = searched[np.argsort(ended.record["fitness"][searched, 0])][:3]
    assert sorted(ended.record["retry_of"][33:].tolist()) == sorted(best.tolist())


def test_a_search_that_is_killed_right_after_it_was_extended_is_extended_all_the_same(tmp_path):
    class KilledError(BaseException):
        pass

    class Deadly(Serial):
        def submit(self, candidates):
            raise KilledError

    store = tmp_path / "a.zarr"
    search(store, evaluations=6, final=2, final_repeats=2).run()
    with pytest.raises(KilledError):
        Experiment.resume(store, evaluations=12, client=Deadly())
    ended = Experiment.resume(store)
    assert ended.state == "finished"
    assert ended.record["origin"].tolist() == [OPTIMIZER] * 6 + [FINAL] * 2 + [OPTIMIZER] * 6 + [FINAL] * 2


def test_a_resume_with_more_time_evaluates_nothing_again_that_was(tmp_path):
    store = tmp_path / "a.zarr"
    n = len(search(store, evaluations=20, final=3).run())
    for _ in range(2):
        assert len(Experiment.resume(store, wall_time=60)) == n


def test_two_rounds_of_finals_have_different_seeds(tmp_path):
    store = tmp_path / "a.zarr"
    search(store, evaluations=20, final=1, final_repeats=3).run()
    ended = Experiment.resume(store, evaluations=21)
    first, second = np.flatnonzero(ended.record["origin"] == FINAL).tolist()
    assert ended.record["retry_of"][first] == ended.record["retry_of"][second]  # the same individual,
    assert ended.record["fitness"][first] != ended.record["fitness"][second]  # and a fresh look at it


def test_a_vector_that_was_asked_often_is_one_finalist(tmp_path):
    initial = [{"x": 1.0}] * 10 + [{"x": 2.0}] * 10
    ended = search(tmp_path / "a.zarr", evaluations=20, initial=initial, final=5, final_repeats=2).run()
    finalists = ended.record["origin"] == FINAL
    assert sorted(ended.record["params"][finalists, 0].tolist()) == pytest.approx([1.0, 2.0])
    for x, row in zip(ended.record["params"][finalists, 0], ended.record["retry_of"][finalists], strict=True):
        rivals = np.isclose(ended.record["params"][:20, 0], x)
        assert ended.record["fitness"][row, 0] == ended.record["fitness"][:20, 0][rivals].min()


def test_failures_that_are_retried_come_on_top_of_the_budget_and_a_final_follows(tmp_path, l2l):
    def fragile(params, context):
        if context.id < 3:
            raise ValueError("three bad ones")
        return noisy(params, context)

    store = tmp_path / "a.zarr"
    search(store, fragile, evaluations=12, final=2).run()
    ended = Experiment.resume(store, retry_failed=True)
    origin = ended.record["origin"].tolist()
    assert origin == [OPTIMIZER] * 12 + [FINAL] * 2 + [RETRY] * 3 + [FINAL] * 2
    said = l2l("show", "a.zarr").stdout
    assert "12 of 12 evaluations, 4 of the best again, 3 of the failed again: 16 done, 3 failed" in said


def test_an_optimizer_that_cannot_take_the_finalists_is_one_line(tmp_path):
    class Proud(Random):
        def _adopt(self, ids, x):
            raise ValueError("not mine")

    experiment = Experiment(
        noisy,
        Proud,
        space=SPACE,
        objectives=minimize("f"),
        store=tmp_path / "a.zarr",
        evaluations=5,
        final=2,
        cluster="serial",
    )
    ended = experiment.run()
    assert ended.state == "failed"
    assert ended.details["reason"].startswith("the optimizer raised ValueError: not mine")


def test_show_says_what_was_evaluated_again_and_how_much_fitness_scatters(tmp_path, l2l):
    ended = search(tmp_path / "a.zarr", evaluations=20, final=3, final_repeats=4).run()
    said = l2l("show", "a.zarr").stdout.splitlines()
    best = ended.best
    assert said[2] == "20 of 20 evaluations, 3 of the best again: 23 done"
    assert said[4] == (
        f"individual {best.id}  f = {best.fitness['f']:.6g} (sd {best.sd['f']:.3g}), again individual {best.repeats_of}"
    )
    content = json.loads(l2l("show", "a.zarr", "--json").stdout)
    assert content["best"]["repeats_of"] == best.repeats_of
    assert content["best"]["sd"] == best.sd


def test_a_stopped_search_has_no_final(tmp_path):
    def stopping(params, context):
        if context.id == 5:
            from l2l_dask.trajectory import send

            send(tmp_path / "a.zarr", "stop")
            import time

            time.sleep(0.7)
        return params["x"]

    ended = search(tmp_path / "a.zarr", stopping, evaluations=1000, final=3).run()
    assert ended.state == "stopped"
    assert not (load(tmp_path / "a.zarr").record["origin"] == FINAL).any()


def _as_optimizee(function):
    class Again(Optimizee):
        space, objectives = SPACE, minimize("f")

        def evaluate(self, params, context):
            return function(params, context)

    return Again()
