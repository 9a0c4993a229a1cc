"""NestReservoir: the digits are told apart by the spikes of the network, on images and networks not seen before."""

import importlib.util
import pickle
from dataclasses import asdict
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import get_args

import numpy as np
import pytest

from l2l_dask import Experiment, registry
from l2l_dask.errors import PluginError
from l2l_dask.evaluation import Candidate
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee
from optimizees import _digits
from optimizees._digits import Coding, Images, Ridge, Showing, cross_validated, split
from optimizees._nest import fresh_kernel
from optimizees._reservoir import Reservoir, neuron
from optimizees.nest_reservoir import NestReservoir

if not (find_spec("nest") and find_spec("sklearn")):  # not by importing: NEST must be imported as the optimizee does
    pytest.skip("needs the extra l2l-dask[nest]", allow_module_level=True)

SMALL = {"neurons": 50, "images": 100, "test_images": 100, "duration": 20.0, "pause": 5.0, "read_from": 0.0}
START = asdict(Reservoir()) | {"ridge": 100.0}
ACTIVE = {"bias": 30.0, "tau_m": 12.0, "weight": 0.1, "inhibition": 7.0, "indegree": 10, "input_weight": 30.0}


@pytest.fixture(scope="module")
def small():
    optimizee = NestReservoir(**SMALL)
    optimizee.setup()
    return optimizee


def evaluated(optimizee, params, seed=1):
    context = Context(Candidate(0, params, seed))
    return optimizee.evaluate(params, context), context


# The digits and the read-out


def test_the_images_are_those_that_scikit_learn_loads():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    pixels, labels = _digits._load()
    np.testing.assert_array_equal(pixels * 16, theirs.data)
    np.testing.assert_array_equal(labels, theirs.target)


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_the_test_images_are_others_and_the_same_however_many_the_search_has(classes):
    few, test = split(40, 60, classes)
    more, same = split(120, 60, classes)
    np.testing.assert_array_equal(test.pixels, same.pixels)
    np.testing.assert_array_equal(more.pixels[:40], few.pixels)
    assert not {row.tobytes() for row in test.pixels} & {row.tobytes() for row in more.pixels}
    assert set(test.labels) == set(more.labels) == set(range(classes))


def test_the_test_images_of_a_few_classes_are_not_among_those_that_a_reservoir_for_all_was_searched_with():
    from optimizees.nest_readout import NestReadout

    searched = {row.tobytes() for row in NestReservoir()._images.pixels}
    readout = NestReadout()
    assert not searched & {row.tobytes() for row in readout._test.pixels}


@pytest.mark.parametrize("coding", get_args(Coding))
def test_a_pixel_s_spikes_follow_its_brightness_and_stay_within_its_image(coding):
    showing = Showing(duration=30.0, pause=10.0, rate=200.0, coding=coding)
    pixels = np.tile(np.linspace(0, 1, 64), (400, 1))
    trains = showing.spike_times(pixels, np.random.default_rng(1))
    counts = np.array([len(train) for train in trains])
    assert counts[0] == 0
    np.testing.assert_allclose(counts, pixels.sum(axis=0) * 200 * 0.030, atol=5 * np.sqrt(counts.max()))
    times = np.concatenate(trains)
    assert ((times % 40 >= 1) & (times % 40 <= 30) & (times == np.round(times))).all()
    assert all((np.diff(train) > 0).all() for train in trains)


def test_regular_spikes_come_at_the_interval_that_the_brightness_says_and_poisson_spikes_at_any():
    trains = {}
    for coding in get_args(Coding):
        showing = Showing(duration=60.0, pause=10.0, rate=100.0, coding=coding)
        trains[coding] = showing.spike_times(np.ones((300, 1)), np.random.default_rng(1))[0]
    regular, poisson = (np.diff(train)[np.diff(train // 70) == 0] for train in trains.values())
    np.testing.assert_allclose(regular, 1000 / 100)
    assert poisson.std() > 5
    counts, varying = (np.bincount((train // 70).astype(int), minlength=300) for train in trains.values())
    assert set(counts) == {6}
    assert varying.std() == pytest.approx(np.sqrt(6), rel=0.2)
    assert len(set(trains["regular"] % 70 % 10)) == 10  # each image's first spike is at another moment


def test_spikes_are_counted_with_the_image_during_which_they_came():
    kernel = fresh_kernel(1, 1.0)
    times = {0: [1.0, 8.0, 25.0], 2: [9.0, 10.0]}  # each 2 ms before it is recorded: 1 ms of delay on either side
    sources = kernel.Create("spike_generator", 3, params=[{"spike_times": times.get(i, [])} for i in range(3)])
    relays, recorder = kernel.Create("parrot_neuron", 3), kernel.Create("spike_recorder")
    kernel.Connect(sources, relays, "one_to_one", {"delay": 1.0})
    kernel.Connect(relays, recorder)
    kernel.Simulate(40.0)
    showing = Showing(7.0, 3.0, 100.0)
    np.testing.assert_array_equal(showing.counts(recorder, relays, 3), [[2, 0, 1], [0, 0, 1], [1, 0, 0]])
    late = showing.counts(recorder, relays, 3, start=3.0)  # after 3, 13 and 23 ms: not the spike at 3 ms
    np.testing.assert_array_equal(late, [[1, 0, 1], [0, 0, 0], [1, 0, 0]])


def test_no_spikes_at_all_are_counted_too():
    kernel = fresh_kernel(1, 1.0)
    cells, recorder = kernel.Create("iaf_psc_delta", 5), kernel.Create("spike_recorder")
    kernel.Connect(cells, recorder)
    kernel.Simulate(30.0)
    assert not Showing(7.0, 3.0, 100.0).counts(recorder, cells, 3).any()


def test_the_closed_form_of_leave_one_out_is_what_leaving_one_out_gives():
    rng = np.random.default_rng(1)
    images = split(60, 20)[0]
    # A feature that is centred and scaled alike without any one of the images: the closed form leaves that as it is.
    features = images.pixels[:, :30] + rng.normal(0, 0.5, (60, 30))
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    ours = cross_validated(features, images, 50.0)
    theirs = []
    for i in range(60):
        kept = np.arange(60) != i
        x, y = features[kept], np.eye(10)[images.labels[kept]]
        centre, offset = x.mean(axis=0), y.mean(axis=0)
        x = x - centre
        weights = np.linalg.solve(x.T @ x + 50.0 * np.eye(30), x.T @ (y - offset))
        theirs.append(((features[i] - centre) @ weights + offset).argmax())
    np.testing.assert_array_equal(ours, theirs)


def test_cross_validation_does_not_see_the_label_of_the_image_that_is_left_out():
    rng = np.random.default_rng(2)
    images = Images(np.zeros((200, 64)), rng.integers(0, 10, 200))
    features = rng.normal(size=(200, 150))
    seen = Ridge.fitted(features, images, 1.0).predicted(features)
    assert (seen == images.labels).mean() > 0.9
    assert (cross_validated(features, images, 1.0) == images.labels).mean() < 0.2


# The network


def test_the_default_reservoir_tells_most_digits_and_a_silent_one_none(small):
    fitness, _ = evaluated(small, START)
    assert fitness > 0.5
    silent = START | {"input_weight": 0.5, "input_degree": 1, "bias": 0.0}
    assert not small.simulate(silent, 1).any()
    assert evaluated(small, silent)[0] < 0.15


def test_the_image_is_read_from_what_the_network_does_after_it_has_gone():
    options = SMALL | {"pause": 20.0, "read_from": 30.0}
    silent = NestReservoir(**options).simulate(START, 1)  # which is at rest without input
    assert not silent.any()
    optimizee = NestReservoir(**options)
    params = START | ACTIVE  # whose neurons spike without input too
    early, late = NestReservoir(**(options | {"read_from": 0.0})).simulate(params, 1), optimizee.simulate(params, 1)
    assert (late <= early).all()
    assert 0 < late.sum() < early.sum()
    assert evaluated(optimizee, params)[0] > 0.25  # chance is 0.1


def test_the_fitness_is_the_share_on_the_diagonal_of_the_saved_confusion(small):
    fitness, context = evaluated(small, START)
    confusion = context.saved["confusion"]
    assert fitness == pytest.approx(np.trace(confusion) / confusion.sum())
    labels = split(100, 100)[0].labels
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(labels, minlength=10))


def test_every_parameter_of_the_space_changes_the_spikes_or_their_reading(small):
    counts = small.simulate(START, 1)
    for name, bounds in small.space.items():
        changed = START | {name: bounds.low if START[name] != bounds.low else bounds.high}
        if name == "ridge":
            assert evaluated(small, changed)[1].saved["confusion"].tolist() != (
                evaluated(small, START)[1].saved["confusion"].tolist()
            )
        else:
            assert not np.array_equal(small.simulate(changed, 1), counts), name


def test_a_neuron_without_input_is_depolarised_by_its_bias():
    for tau_m in (5.0, 50.0):
        kernel = fresh_kernel(1, 1.0)
        cell = kernel.Create("iaf_psc_delta", params=neuron(tau_m, bias=8.0))
        kernel.Simulate(20 * tau_m)
        assert cell.V_m == pytest.approx(cell.E_L + 8.0, abs=1e-3)


def test_the_wiring_is_the_one_described():
    kernel = fresh_kernel(3, 1.0)
    reservoir = Reservoir(input_degree=7, indegree=12, delay=3, weight=0.5, inhibition=4.0)
    images = split(20, 20)[0].pixels
    cells = reservoir.build(kernel, 50, images, Showing(10.0, 0.0, 100.0), np.random.default_rng(1))
    for target in cells:
        links = [kernel.GetConnections(source, target) for source in (cells[:40], cells[40:])]
        assert [len(link) for link in links] == [12, 3]
        assert [set(np.atleast_1d(link.weight)) for link in links] == [{0.5}, {-2.0}]
        assert {float(d) for link in links for d in np.atleast_1d(link.delay)} == {3.0}
    assert len(kernel.GetConnections(target=cells)) == 50 * (7 + 12 + 3)


def test_another_seed_is_another_network_and_the_same_seed_the_same(small):
    again, other = small.simulate(START, 1), small.simulate(START, 2)
    np.testing.assert_array_equal(again, small.simulate(START, 1))
    assert not np.array_equal(again, other)


def test_the_contract_holds():
    check_optimizee(NestReservoir(**SMALL), simulator="nest")


def test_pickling_takes_little_and_changes_nothing(small):
    packed = pickle.dumps(small)
    assert len(packed) < 1000 + len(pickle.dumps(small.space))
    assert evaluated(pickle.loads(packed), START)[0] == evaluated(small, START)[0]


def test_a_simulation_in_arbor_in_between_changes_nothing(small):
    if not (find_spec("arbor") and find_spec("bmtk")):
        pytest.skip("needs the extra l2l-dask[arbor]")
    from optimizees.arbor_cell import ArborCell

    cell = ArborCell(duration=20)
    cell.setup()
    middle = cell.space.decode(np.full(cell.space.dim, 0.5))
    before, cell_before = small.simulate(START, 1), evaluated(cell, middle)[0]
    small.simulate(START | {"tau_m": 20.0}, 2)
    np.testing.assert_array_equal(small.simulate(START, 1), before)
    assert evaluated(cell, middle)[0] == cell_before


# What the search never sees


def test_held_out_is_measured_on_the_test_images_alone(monkeypatch):
    optimizee = NestReservoir(**SMALL)
    known = optimizee.held_out(START)
    assert known == optimizee.held_out(START)
    assert known["test_accuracy"] > 0.4
    search, test = split(SMALL["images"], SMALL["test_images"])
    rotated = Images(test.pixels, (test.labels + 1) % 10)  # the read-out does not know these labels
    monkeypatch.setattr("optimizees.nest_reservoir.split", lambda *numbers: (search, rotated))
    assert optimizee.held_out(START)["test_accuracy"] < 0.2
    assert evaluated(optimizee, START)[0] == evaluated(NestReservoir(**SMALL), START)[0]


def test_held_out_averages_networks_that_the_search_does_not_use(small, monkeypatch):
    used = []
    monkeypatch.setattr(
        "optimizees.nest_reservoir.fresh_kernel", lambda seed, step: used.append(seed) or fresh_kernel(seed, step)
    )
    small.held_out(START, seed=1)
    small.held_out(START, seed=2)
    small.simulate(START, 1)
    assert len(set(used)) == len(used) == 7


def test_the_pixels_themselves_are_a_baseline(small):
    assert 0.6 < small.pixels_held_out()["test_accuracy"] < 1


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_search_finds_a_better_reservoir_than_random_search(tmp_path):
    best = {}
    for name in ("surrogate-cma-es", "random"):
        store = tmp_path / f"{name}.zarr"
        best[name] = Experiment(NestReservoir(), name, store=store, evaluations=150, seed=1, workers=2).run().best
    fitness = {name: individual.fitness["accuracy"] for name, individual in best.items()}
    held_out = {name: NestReservoir().held_out(individual.params)["test_accuracy"] for name, individual in best.items()}
    print(fitness, held_out)
    assert fitness["surrogate-cma-es"] > 0.92 > fitness["random"]
    assert held_out["surrogate-cma-es"] > held_out["random"] + 0.03


# Options, and what is missing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neurons": 4}, "neurons: expected at least 5, .*got 4"),
        ({"images": 19}, "images: expected at least 20, two for each class, got 19"),
        ({"test_images": 0}, "test_images: expected at least 20, .*got 0"),
        ({"images": 1500}, "there are 1797 images of 10 classes, got 1500 \\+ 1000"),
        ({"duration": 0.0}, "duration: expected a multiple of 1 ms, at least 1, got 0.0"),
        ({"duration": float("nan")}, "duration: expected .* got nan"),
        ({"duration": "long"}, "duration: expected a finite number, got 'long'"),
        ({"neurons": 40.5}, "neurons: expected an integer, got 40.5"),
        ({"images": 120.5}, "images: expected an integer, got 120.5"),
        ({"coding": "latency"}, "coding: expected one of regular, poisson, got 'latency'"),
        ({"read_from": 60.0}, "read_from: expected ms from 0 to below duration \\+ pause = 60, got 60.0"),
        ({"read_from": -1.0}, "read_from: expected .* got -1.0"),
        ({"read_from": float("nan")}, "read_from: expected .* got nan"),
        ({"pause": 2.5}, "pause: expected a multiple of 1 ms, at least 0, got 2.5"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(PluginError, match=message):
        NestReservoir(**options)


def test_an_integer_of_numpy_is_kept_as_one_of_python():
    assert type(NestReservoir(neurons=np.int64(50)).neurons) is int


def test_the_registry_knows_every_option():
    plugin = registry.find("optimizees", "nest-reservoir")
    described = registry.options(plugin)
    assert plugin is NestReservoir
    assert list(described) == ["neurons", "images", "test_images", "duration", "pause", "read_from", "coding"]
    assert all(option.doc for option in described.values())


@pytest.mark.parametrize("package", ["nest", "sklearn"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(package, monkeypatch):
    found = importlib.util.find_spec
    missing = lambda name: None if name == package else found(name)  # noqa: E731
    monkeypatch.setattr("optimizees._simulators.find_spec", missing)
    with pytest.raises(PluginError, match=r"(NEST|scikit-learn).*not installed.*l2l-dask\[nest\]"):
        NestReservoir()


def test_a_scikit_learn_without_the_digits_is_named(monkeypatch, tmp_path):
    spec = ModuleSpec("sklearn", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(_digits, "find_spec", lambda name: spec)
    with pytest.raises(PluginError, match=r"has no datasets/data/digits.csv.gz: pip install"):
        _digits._load.__wrapped__()
