"""NestReadout: the weights onto the output neurons decide, and the Kalman filter finds them."""

import importlib.util
import pickle
from importlib.util import find_spec

import numpy as np
import pytest

from l2l_dask import Experiment, registry
from l2l_dask.errors import PluginError
from l2l_dask.evaluation import Candidate
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee
from optimizees._digits import Images, split, winners_accuracy
from optimizees._nest import fresh_kernel
from optimizees._reservoir import Reservoir
from optimizees.nest_readout import NestReadout

if not (find_spec("nest") and find_spec("sklearn")):  # not by importing: NEST must be imported as the optimizee does
    pytest.skip("needs the extra l2l-dask[nest]", allow_module_level=True)

SMALL = {"classes": 3, "neurons": 40, "images": 30, "test_images": 60, "duration": 30.0, "pause": 5.0}


@pytest.fixture(scope="module")
def small():
    optimizee = NestReadout(**SMALL)
    optimizee.setup()
    return optimizee


def weights(optimizee, seed=1, scale=2.0):
    shape = optimizee.space["weights"].shape
    return {"weights": scale * np.random.default_rng(seed).normal(size=shape)}


def evaluated(optimizee, params, seed=1):
    context = Context(Candidate(0, params, seed))
    return optimizee.evaluate(params, context), context


def test_there_is_a_weight_without_bounds_from_each_neuron_to_each_output(small):
    assert small.space["weights"].shape == (40, 3)
    assert not small.space.bounded.any()


def test_the_observation_is_the_spike_counts_in_units_of_those_that_are_wanted():
    params, counts = None, []
    for wanted in (6.0, 12.0):
        optimizee = NestReadout(**SMALL, wanted_spikes=wanted)
        params = weights(optimizee)
        context = evaluated(optimizee, params)[1]
        counts.append(optimizee.simulate(params, context.seed))
        np.testing.assert_allclose(context.saved["observation"] * wanted, counts[-1], rtol=1e-6)
    np.testing.assert_array_equal(counts[0], counts[1])
    assert counts[0].shape == (30, 3)


def test_the_target_is_one_for_the_neuron_of_the_digit_shown(small):
    target = evaluated(small, weights(small))[1].saved["target"]
    np.testing.assert_array_equal(target.argmax(axis=1), split(30, 60, 3)[0].labels)
    np.testing.assert_array_equal(target.sum(axis=1), 1)


def test_the_fitness_is_the_share_of_images_whose_own_neuron_spikes_most(small):
    params = weights(small)
    fitness, context = evaluated(small, params)
    observed, labels = context.saved["observation"], split(30, 60, 3)[0].labels
    shares = [(row[label] == row.max()) / (row == row.max()).sum() for row, label in zip(observed, labels, strict=True)]
    assert fitness == pytest.approx(np.mean(shares))


def test_neurons_that_spike_equally_often_share_the_image():
    counts = np.array([[2, 2, 0], [0, 0, 0], [1, 3, 0], [3, 1, 0]])
    images = Images(np.zeros((4, 64)), np.array([0, 1, 0, 0]))
    assert winners_accuracy(counts.astype(float), images) == pytest.approx((1 / 2 + 1 / 3 + 0 + 1) / 4)


def test_without_weights_the_outputs_are_alike_and_the_fitness_is_chance(small):
    params = {"weights": np.zeros((40, 3))}
    counts = small.simulate(params, 1)
    assert (counts == counts[:, :1]).all()
    assert counts.any()
    assert evaluated(small, params)[0] == pytest.approx(1 / 3)


def test_each_output_has_its_own_column_of_weights(small):
    quiet, loud = small.simulate({"weights": np.zeros((40, 3))}, 1), np.zeros((40, 3))
    loud[:, 1] = 4.0
    changed = small.simulate({"weights": loud}, 1)
    assert (changed[:, 1] > quiet[:, 1]).all()
    np.testing.assert_array_equal(changed[:, [0, 2]], quiet[:, [0, 2]])


def test_the_reservoir_stays_and_the_noise_of_its_input_is_the_seed_s(small):
    params = weights(small)
    np.testing.assert_array_equal(small.simulate(params, 1), small.simulate(params, 1))
    assert not np.array_equal(small.simulate(params, 1), small.simulate(params, 2))
    wirings = []
    for seed in (1, 2):
        small.simulate(params, seed)
        kernel = importlib.import_module("nest")
        links = kernel.GetConnections(synapse_model="static_synapse")
        wirings.append(sorted(zip(links.source, links.target, links.weight, strict=True)))
    assert wirings[0] == wirings[1]


def test_another_network_is_another_reservoir(small):
    params = weights(small)
    other = NestReadout(**SMALL, network=2)
    assert not np.array_equal(other.simulate(params, 1), small.simulate(params, 1))


def test_a_reservoir_that_was_found_can_be_handed_over(small):
    found = {"tau_m": 20.0, "input_weight": 3.0, "input_rate": 100.0, "ridge": 30.0}
    optimizee = NestReadout(**SMALL, reservoir=found)
    assert optimizee.reservoir == Reservoir(tau_m=20.0, input_weight=3.0, input_rate=100.0)
    params = weights(small)
    assert not np.array_equal(optimizee.simulate(params, 1), small.simulate(params, 1))


def test_the_contract_holds():
    check_optimizee(NestReadout(**SMALL), simulator="nest")


def test_the_order_of_evaluations_and_other_networks_in_between_change_nothing(small):
    params = [weights(small, seed) for seed in (1, 2)]
    forwards = [small.simulate(p, 1) for p in params]
    fresh_kernel(9).Create("iaf_psc_delta", 10)
    backwards = [small.simulate(p, 1) for p in reversed(params)][::-1]
    np.testing.assert_array_equal(forwards, backwards)


def test_a_copy_evaluates_the_same(small):
    copy = pickle.loads(pickle.dumps(small))
    assert evaluated(copy, weights(small))[0] == evaluated(small, weights(small))[0]


def test_held_out_shows_the_test_images_alone(small, monkeypatch):
    params = weights(small)
    assert small.held_out(params) == small.held_out(params) != small.held_out(params, seed=2)
    search, test = split(30, 60, 3)
    # Were the images of the search shown too, these counts would have more rows.
    shown = []
    monkeypatch.setattr(
        "optimizees.nest_readout.winners_accuracy", lambda counts, images: shown.append((counts, images)) or 0.5
    )
    assert small.held_out(params) == {"test_accuracy": 0.5}
    counts, images = shown[0]
    assert counts.shape == (60, 3)
    np.testing.assert_array_equal(images.pixels, test.pixels)
    assert not {row.tobytes() for row in images.pixels} & {row.tobytes() for row in search.pixels}


def test_the_filter_finds_weights_that_name_images_it_has_not_seen(small, tmp_path):
    run = Experiment(
        small,
        "enkf",
        optimizer_options={"pop_size": 60, "gamma": 0.1},
        store=tmp_path / "enkf.zarr",
        evaluations=120,
        seed=1,
        cluster="serial",
    ).run()
    accuracy = run.to_dataframe().sort_values("told")["accuracy"].to_numpy()
    assert accuracy[-60:].mean() > accuracy[:60].max()
    assert small.held_out(run.best.params)["test_accuracy"] > 0.6 > 1.5 / 3


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_filter_beats_random_search_with_the_same_budget(tmp_path):
    best = {}
    for name, options in (("enkf", {"pop_size": 160, "gamma": 0.1}), ("random", {})):
        best[name] = (
            Experiment(
                NestReadout(),
                name,
                optimizer_options=options,
                store=tmp_path / f"{name}.zarr",
                evaluations=960,
                seed=1,
                workers=2,
            )
            .run()
            .best
        )
    fitness = {name: individual.fitness["accuracy"] for name, individual in best.items()}
    held_out = {name: NestReadout().held_out(individual.params)["test_accuracy"] for name, individual in best.items()}
    print(fitness, held_out)
    assert fitness["enkf"] > 0.9 > 0.75 > fitness["random"]
    assert held_out["enkf"] > 0.8 > 0.6 > held_out["random"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "classes: expected an integer from 2 to 10, got 1"),
        ({"classes": 11}, "classes: expected an integer from 2 to 10, got 11"),
        ({"neurons": 3}, "neurons: expected at least 5"),
        ({"images": 7}, "images: expected at least 8, two for each class, got 7"),
        ({"images": 600}, r"there are \d+ images of 4 classes, got 600 \+ 300"),
        ({"wanted_spikes": 0.0}, "wanted_spikes: expected a finite number above 0, got 0.0"),
        ({"network": 0}, "network: expected an integer from 1 to 4294967295, got 0"),
        ({"reservoir": {"tau": 3.0}}, "reservoir: expected some of input_weight, .*, got tau"),
        ({"reservoir": {"tau_m": -3.0}}, "reservoir: tau_m: expected .*got -3"),
        ({"reservoir": {"indegree": 0}}, "reservoir: indegree: expected .*got 0"),
        ({"reservoir": {"delay": 0.5}}, "reservoir: delay: expected .*got 0.5"),
        ({"classes": 3.7}, "classes: expected an integer from 2 to 10, got 3.7"),
        ({"neurons": 40.9}, "neurons: expected an integer, got 40.9"),
        ({"images": 120.9}, "images: expected an integer, got 120.9"),
        ({"test_images": "all"}, "test_images: expected an integer, got 'all'"),
        ({"network": 1.5}, "network: expected an integer from 1 to 4294967295, got 1.5"),
        ({"wanted_spikes": "8"}, "wanted_spikes: expected a finite number above 0, got '8'"),
        ({"reservoir": {"tau_m": "a"}}, "reservoir: tau_m: expected a finite number, got 'a'"),
        ({"reservoir": {"tau_m": True}}, "reservoir: tau_m: expected a finite number, got True"),
        ({"reservoir": ["tau_m"]}, "reservoir: expected numbers by their names, some of .*, got"),
        ({"reservoir": {3: 1.0}}, "reservoir: expected some of input_weight, .*, got 3"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(PluginError, match=message):
        NestReadout(**options)


def test_the_registry_knows_and_checks_every_option():
    plugin = registry.find("optimizees", "nest-readout")
    described = registry.options(plugin)
    assert plugin is NestReadout
    assert set(described) == {
        "classes",
        "neurons",
        "images",
        "test_images",
        "duration",
        "pause",
        "wanted_spikes",
        "coding",
        "network",
        "reservoir",
    }
    assert all(option.doc for option in described.values())
    with pytest.raises(PluginError, match="option 'classes'"):
        registry.build(plugin, "nest-readout", {"classes": "four"})


@pytest.mark.parametrize("package", ["nest", "sklearn"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(package, monkeypatch):
    found = importlib.util.find_spec
    missing = lambda name: None if name == package else found(name)  # noqa: E731
    monkeypatch.setattr("optimizees._simulators.find_spec", missing)
    with pytest.raises(PluginError, match=r"(NEST|scikit-learn).*not installed.*l2l-dask\[nest\]"):
        NestReadout()
