"""FewShot: its tasks are new each time, and what the outer loop finds learns unseen ones."""

import math
import pickle
import warnings

import numpy as np
import pytest

from l2l_dask import Experiment, Status, registry
from l2l_dask.errors import PluginError
from l2l_dask.evaluation import Candidate
from l2l_dask.executors import Simulated
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee
from optimizees import few_shot
from optimizees._tasks import FAMILIES
from optimizees.few_shot import FewShot

MODES = ["rates", "initial-weights", "plasticity"]
SMALL = {"batch": 8, "width": 5, "steps": 4, "shots": 3}


def middle(optimizee):
    return optimizee.space.decode(np.where(optimizee.space.bounded, 0.5, 0.3))


def evaluated(optimizee, params, id=0):
    context = Context(Candidate(id, params, 1))
    return optimizee.evaluate(params, context), context


@pytest.mark.parametrize("tasks", FAMILIES)
@pytest.mark.parametrize("learn", MODES)
def test_the_contract_holds(tasks, learn):
    check_optimizee(FewShot(tasks, learn, **SMALL), samples=2)


@pytest.mark.parametrize("learn", MODES)
def test_the_fitness_is_the_last_point_of_the_curve_and_the_curve_is_that_of_the_simulation(learn):
    optimizee = FewShot(learn=learn, **SMALL)
    params = middle(optimizee)
    fitness, context = evaluated(optimizee, params)
    course = optimizee.simulate(params, context.seed)
    assert course.losses.shape == (1 + 4, 8)
    assert context.curve == list(enumerate(course.losses.mean(axis=1).tolist()))
    assert fitness == context.curve[-1][1]


def test_the_curve_is_the_loss_on_query_samples_recomputed_from_the_weights():
    optimizee = FewShot("reaching", "initial-weights", **SMALL)
    params = middle(optimizee)
    _, context = evaluated(optimizee, params)
    tasks = optimizee.family.draw(few_shot._rng(context.seed, few_shot._SEARCHED), 8, 3, few_shot._QUERY)
    for task in range(8):  # by plain loops over tasks, layers and steps
        weights = [np.vstack([params[f"biases_{i}"], params[f"weights_{i}"]]) for i in (1, 2, 3)]
        losses = []
        for _ in range(5):
            losses.append(plain_loss(weights, tasks.query_x[task], tasks.query_y[task]))
            gradients = optimizee.network.gradients(
                [w[None] for w in weights], tasks.support_x[[task]], tasks.support_y[[task]]
            )
            weights = [w - r * g[0] for w, r, g in zip(weights, params["rates"], gradients, strict=True)]
        np.testing.assert_allclose(losses, optimizee.simulate(params, context.seed).losses[:, task])


def plain_loss(weights, x, y):
    for i, w in enumerate(weights):
        x = x @ w[1:] + w[0]
        x = np.tanh(x) if i < len(weights) - 1 else x
    return ((x - y) ** 2).sum(axis=1).mean()


def test_learning_from_one_task_s_samples_does_not_change_another_s():
    optimizee = FewShot(learn="initial-weights", **SMALL)
    many, one = optimizee, FewShot(learn="initial-weights", **SMALL | {"batch": 1})
    params = middle(optimizee)
    assert one.simulate(params, 9).responses == pytest.approx(many.simulate(params, 3).responses)


@pytest.mark.parametrize("learn", MODES)
def test_every_individual_gets_tasks_of_its_own_and_one_seed_the_same_tasks(learn):
    optimizee = FewShot(learn=learn, **SMALL)
    params = middle(optimizee)
    assert evaluated(optimizee, params, 1)[0] == evaluated(optimizee, params, 1)[0]
    assert evaluated(optimizee, params, 1)[0] != evaluated(optimizee, params, 2)[0]


@pytest.mark.parametrize("steps", [1, 60])  # far off, and not finite
@pytest.mark.parametrize("tasks", FAMILIES)
def test_a_learner_that_diverges_has_the_worst_loss_and_no_failure(tasks, steps):
    optimizee = FewShot(tasks, "initial-weights", **SMALL | {"steps": steps})
    params = middle(optimizee) | {"rates": np.full(3, 1e3)}
    fitness, context = evaluated(optimizee, params)
    assert math.isfinite(fitness)
    assert fitness == FAMILIES[tasks].worst
    assert np.isfinite([value for _, value in context.curve]).all()


def test_a_response_that_diverged_is_saved_without_infinities_or_warnings():
    optimizee = FewShot("sinusoids", "initial-weights", steps=5)
    params = middle(optimizee) | {"rates": np.full(3, 1e8)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, context = evaluated(optimizee, params)
    response = context.saved["response"]
    assert response.dtype == np.float32
    assert np.isnan(response).any()
    assert not np.isinf(response).any()


def test_the_saved_response_is_that_of_the_example_and_comes_near_its_target():
    good = FewShot("reaching", steps=300)
    fitness, context = evaluated(
        good, {"rates": np.full(3, 0.05), "scales": np.ones(3), "momentum": 0.5, "decay": 1e-6, "clip": 10.0}
    )
    target = good.targets()["response"]
    np.testing.assert_allclose(target.values, np.cos(np.linspace(-math.pi, math.pi, 101) - math.pi / 3), atol=1e-6)
    assert target.step == pytest.approx(3.6)
    assert np.sqrt(np.mean((context.saved["response"] - target.values) ** 2)) < 0.15
    assert fitness < 0.05


def test_a_copy_made_at_any_time_evaluates_the_same():
    optimizee = FewShot(learn="plasticity", **SMALL)
    params = middle(optimizee)
    fitness, _ = evaluated(optimizee, params)
    assert evaluated(pickle.loads(pickle.dumps(optimizee)), params)[0] == fitness


@pytest.mark.parametrize("learn", MODES)
def test_held_out_tasks_are_none_that_an_evaluation_draws(learn, monkeypatch):
    optimizee, drawn = FewShot(learn=learn, **SMALL | {"batch": few_shot._UNSEEN}), []
    family = type(optimizee.family)
    draw = family.draw
    monkeypatch.setattr(family, "draw", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    params = middle(optimizee)
    first = optimizee.held_out(params, seed=1)
    unseen = {float(x) for tasks in drawn for x in tasks.support_x.ravel()}
    del drawn[:]
    for seed in range(1, 6):  # the seed of held_out too, and as many tasks
        optimizee.simulate(params, seed)
    assert len(drawn) == 5
    assert not unseen & {float(x) for tasks in drawn for x in tasks.support_x.ravel()}
    assert optimizee.held_out(params, seed=1) == first != optimizee.held_out(params, seed=2)
    assert list(first) == ["loss_before", "loss_after", "standard_before", "standard_after"]


def test_held_out_does_not_depend_on_the_size_of_the_search_s_batch():
    one, other = (FewShot("reaching", **SMALL | {"batch": batch}) for batch in (4, 9))
    assert one.held_out(middle(one)) == other.held_out(middle(one))


def test_the_standard_learner_takes_the_best_of_its_rates_and_learns():
    optimizee = FewShot("reaching", shots=5, width=8, depth=1)
    found = optimizee.held_out(middle(optimizee))
    assert found["standard_after"] == optimizee.standard().curve[-1]
    assert found["standard_after"] < 0.4 * found["standard_before"]
    for rate in few_shot._STANDARD_RATES:
        assert found["standard_after"] < 1.3 * optimizee._textbook(rate, 1, few_shot._HELD_OUT).curve[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "chess"}, "tasks: expected one of sinusoids, reaching, got 'chess'"),
        ({"learn": "all"}, "learn: expected one of rates, initial-weights, plasticity, got 'all'"),
        ({"shots": 0}, "shots: expected an integer from 1 on, got 0"),
        ({"steps": 2.5}, "steps: expected an integer from 1 on, got 2.5"),
        ({"batch": True}, "batch: expected an integer from 1 on, got True"),
        ({"width": -1}, "width: expected an integer from 1 on, got -1"),
        ({"depth": 0}, "depth: expected an integer from 1 on, got 0"),
        ({"shots": "ten"}, "shots: expected an integer from 1 on, got 'ten'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(PluginError, match=message):
        FewShot(**options)


def test_integers_of_numpy_are_integers():
    assert FewShot(steps=np.int64(3), width=np.int32(4)).space == FewShot(steps=3, width=4).space


def test_the_registry_knows_and_checks_every_option():
    plugin = registry.find("optimizees", "few-shot")
    described = registry.options(plugin)
    assert plugin is FewShot
    assert list(described) == ["tasks", "learn", "shots", "steps", "batch", "width", "depth"]
    assert all(option.doc for option in described.values())
    with pytest.raises(PluginError, match=r"option 'learn'.*got 'all'"):
        registry.build(plugin, "few-shot", {"learn": "all"})


@pytest.mark.parametrize(("learn", "dim"), [("rates", 3 + 3 + 3), ("plasticity", 3 * 6 + 3)])
def test_the_space_has_its_parameters_for_each_layer(learn, dim):
    assert FewShot(learn=learn).space.dim == dim


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_initial_weights_are_those_of_every_synapse_and_bias(depth):
    rates, weights = depth + 1, (1 + 1) * 7 + (depth - 1) * (7 + 1) * 7 + (7 + 1) * 1
    assert FewShot(learn="initial-weights", width=7, depth=depth).space.dim == rates + weights


def test_hyperband_stops_learners_early_and_spares_inner_work(tmp_path):
    optimizee = FewShot("reaching", **SMALL | {"steps": 27})
    search = Experiment(
        optimizee,
        "hyperband",
        optimizer_options={"max_resource": 27},
        store=tmp_path / "a.zarr",
        evaluations=60,
        seed=1,
        cluster="serial",
    )
    ended = search.run()
    curves = [ended.saved(id)["learning_curve"] for id in range(60)]
    last = np.array([curve[-1, 0] for curve in curves])
    stopped = ended.record["status"] == Status.STOPPED
    assert stopped.sum() > 30
    assert set(last[stopped]) <= {1, 3, 9}
    assert (last[~stopped] == 27).all()
    assert last.sum() < 0.4 * 27 * 60
    first = np.array([curve[1, 1] for curve in curves])
    assert np.median(first[~stopped]) < np.median(first[stopped])


SEARCHES = {
    "rates": (FewShot("reaching", "rates"), "cma-es", {"pop_size": 40}, 1000, 0.7),
    "initial-weights": (
        FewShot("sinusoids", "initial-weights", batch=25, width=16, depth=1),
        "cma-es",
        {"sigma": 1.0, "pop_size": 30, "separable": True},
        4000,
        0.7,
    ),
    "plasticity": (
        FewShot("reaching", "plasticity", shots=5, steps=20, batch=25),
        "cma-es",
        {"pop_size": 40},
        2000,
        0.6,
    ),
}


def best_of(optimizee, optimizer, options, evaluations, store):
    search = Experiment(
        optimizee, optimizer, optimizer_options=options, store=store, evaluations=evaluations, seed=1, final=10
    )
    return search.run(Simulated(2, lambda candidate, rng: rng.uniform(0.9, 1.1))).best


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("learn", MODES)
def test_the_search_finds_a_better_learner_of_unseen_tasks_than_random_search(learn, tmp_path):
    optimizee, optimizer, options, evaluations, less = SEARCHES[learn]
    ours = best_of(optimizee, optimizer, options, evaluations, tmp_path / "ours.zarr")
    chance = best_of(optimizee, "random", {}, evaluations, tmp_path / "random.zarr")
    unseen, unseen_by_chance = optimizee.held_out(ours.params), optimizee.held_out(chance.params)
    print(learn, ours.fitness, unseen, chance.fitness, unseen_by_chance)
    assert ours.fitness["query_loss"] < less * chance.fitness["query_loss"]
    assert unseen["loss_after"] < less * unseen_by_chance["loss_after"]
    assert unseen["loss_after"] < 0.75 * unseen["loss_before"]  # it learns
    assert unseen["loss_after"] < 0.9 * unseen["standard_after"]
    assert unseen["loss_after"] < 2 * ours.fitness["query_loss"]
