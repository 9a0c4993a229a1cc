"""NestGymnasium: the network is the one described, any environment will do, and what cannot be is said."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2l_dask import Experiment
from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.evaluation import Candidate
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee
from optimizees._gymnasium import Encoding, Environment, MostActive, PopulationMean
from optimizees.nest_gymnasium import NestGymnasium, starts

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra l2l-dask[gymnasium]")
if importlib.util.find_spec("nest") is None:  # it is for the optimizee to import it: quietly
    pytest.skip("needs the extra l2l-dask[gymnasium]", allow_module_level=True)

CLASSIC = ["Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
SMALL: dict[str, Any] = {"neurons_per_dim": 6, "hidden": 3, "max_steps": 12, "tuning_width": 0.2}


class Echo(gymnasium.Env):
    """An environment of which everything can be chosen; its observation is the number of the step."""

    def __init__(self, observations=None, actions=None, shape=(2,), fails=False, value=0.0):
        box = gymnasium.spaces.Box
        self.observation_space = observations or box(-np.inf, np.inf, shape)
        self.action_space = actions or gymnasium.spaces.Discrete(3)
        self.shape, self.fails, self.value = shape, fails, value

    def _observation(self):
        self.array[:] = self.value + self.step_number
        return self.array  # always the same one

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_number, self.array = 0, np.zeros(self.shape)
        return self._observation(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        if self.fails:
            raise RuntimeError("the environment broke")
        self.step_number += 1
        return self._observation(), 0.5, False, False, {}


@pytest.fixture(autouse=True, scope="module")
def _registered():
    gymnasium.register("Echo-v0", entry_point=lambda **options: Echo(**options), max_episode_steps=4)
    yield
    del gymnasium.registry["Echo-v0"]


def drawn(optimizee, seed=1):
    return optimizee.space.decode(optimizee.space.sample(np.random.default_rng(seed), 1)[0])


def evaluated(optimizee, params, id=0):
    context = Context(Candidate(id, params, 1))
    return optimizee.evaluate(params, context), context


def along_the_velocity(optimizee):
    """Weights by which the car always pushes where it is going: known to drive it out of the valley."""
    params = {name: np.zeros(parameter.shape) for name, parameter in optimizee.space.items()}
    velocity = np.arange(30) / 29 - 0.5
    params["input_weights"][0, 30:], params["input_weights"][1, 30:] = 20 * (velocity > 0), 20 * (velocity < 0)
    params["output_weights"][2, 0] = params["output_weights"][0, 1] = 20
    return params


def test_the_default_is_the_published_network():
    optimizee = NestGymnasium()
    assert optimizee.space["input_weights"].shape == (5, 30 + 30)
    assert optimizee.space["output_weights"].shape == (3, 5)
    assert optimizee.space.dim == 315
    assert {(p.low, p.high) for p in optimizee.space.values()} == {(-20, 20)}
    assert (optimizee.max_steps, optimizee.fitness, optimizee.episodes) == (109, "furthest", 1)


def reference(optimizee, params, start):
    """The same network as plain equations, in its own steps of 0.5 ms: an episode's positions and spike counts."""
    w1, w2 = params["input_weights"], params["output_weights"]
    (hidden, inputs), outputs, h, tau, capacitance = w1.shape, len(w2), 0.5, 10.0, 250.0
    decay, drive = math.exp(-h / tau), tau / capacitance * (1 - math.exp(-h / tau))
    v, refractory = np.zeros(inputs + hidden + outputs), np.zeros(inputs + hidden + outputs)
    late = [np.zeros(len(v)) for _ in range(2)]  # a delay of 1 ms
    environment = gymnasium.make("MountainCar-v0", max_episode_steps=optimizee.max_steps)
    observation, _ = environment.reset(seed=start)
    positions, spikes, over = [observation[0]], [], False
    while not over:
        current = np.zeros(len(v))
        current[:inputs] = 1000 * optimizee.encoding.activations(observation)
        counts = np.zeros(outputs, int)
        for _ in range(round(optimizee.step_ms / h)):
            free = refractory == 0
            v[free] = (v * decay + drive * current + late[0])[free]
            refractory[~free] -= 1
            fired = v >= 15
            v[fired], refractory[fired] = 0, 2.0 / h
            arriving = np.zeros(len(v))
            arriving[inputs : inputs + hidden] = w1 @ fired[:inputs]
            arriving[inputs + hidden :] = w2 @ fired[inputs : inputs + hidden]
            late = [late[1], arriving]
            counts += fired[inputs + hidden :]
        action = max(range(outputs), key=lambda i: (counts[i], v[inputs + hidden + i]))
        observation, _, terminated, truncated, _ = environment.step(action)
        over = terminated or truncated
        positions.append(observation[0])
        spikes.append(counts)
    return np.array(positions), np.array(spikes)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nest_simulates_the_equations_on_the_page(seed):
    optimizee = NestGymnasium(neurons_per_dim=10, hidden=4, max_steps=30, episodes=2)
    params = drawn(optimizee, seed)
    params = {"input_weights": np.abs(params["input_weights"]), "output_weights": params["output_weights"] + 10}
    episodes = optimizee.simulate(params, seed)
    for episode, start in zip(episodes, starts(seed, 2), strict=True):
        positions, spikes = reference(optimizee, params, start)
        np.testing.assert_array_equal(episode.observations[:, 0], positions)
        np.testing.assert_array_equal(episode.spikes, spikes)
        assert spikes.sum() > 20


def test_an_episode_does_not_depend_on_those_before_it():
    optimizee = NestGymnasium(max_steps=20)
    params, three = drawn(optimizee), [2, 4, 6]
    together = optimizee.play(params, three)
    for start, episode in zip(three, together, strict=True):
        alone = optimizee.play(params, [start])[0]
        np.testing.assert_array_equal(alone.observations, episode.observations)
        np.testing.assert_array_equal(alone.spikes, episode.spikes)
    assert len({episode.observations[0, 0] for episode in together}) == 3


def test_a_network_that_pushes_along_the_velocity_reaches_the_goal_from_unseen_starts():
    optimizee = NestGymnasium()
    found = optimizee.held_out(along_the_velocity(optimizee), number=3)
    assert found["solved"] == 3
    assert found["mean_return"] == -found["mean_steps"]  # each step costs 1
    assert 80 < found["mean_steps"] < 200


def test_furthest_is_the_position_and_for_the_goal_the_fraction_of_the_steps_left():
    optimizee = NestGymnasium(max_steps=200)
    params = along_the_velocity(optimizee)
    fitness, context = evaluated(optimizee, params)
    steps, position = len(context.saved["actions"]), context.saved["observations"][:, 0].max()
    assert position >= 0.5
    assert steps < 200
    assert fitness == pytest.approx(position + (200 - steps) / 200)
    params["output_weights"] *= 0
    fitness, context = evaluated(optimizee, params)
    assert fitness == pytest.approx(context.saved["observations"][:, 0].max())
    assert fitness < 0


def test_the_fitness_is_the_mean_over_the_episodes():
    optimizee = NestGymnasium(**SMALL, episodes=3)
    params = drawn(optimizee)
    fitness, context = evaluated(optimizee, params)
    episodes = optimizee.simulate(params, context.seed)
    assert fitness == pytest.approx(np.mean([episode.observations[:, 0].max() for episode in episodes]))
    np.testing.assert_array_equal(context.saved["observations"], episodes[0].observations)


def test_options_reach_the_environment_and_return_is_the_sum_of_the_rewards():
    optimizee = NestGymnasium("Echo-v0", fitness="return", environment_options={"value": 7.0})
    fitness, context = evaluated(optimizee, drawn(optimizee))
    assert fitness == 4 * 0.5
    np.testing.assert_array_equal(context.saved["observations"][:, 0], [7, 8, 9, 10, 11])
    cart = NestGymnasium("CartPole-v1", **SMALL)
    fitness, context = evaluated(cart, drawn(cart))
    assert cart.fitness == "return"
    assert fitness == len(context.saved["actions"])


@pytest.mark.parametrize("name", CLASSIC)
def test_every_environment_of_classic_control_runs(name):
    optimizee = NestGymnasium(name, **SMALL)
    space = gymnasium.make(name).action_space
    fitness, context = evaluated(optimizee, drawn(optimizee))
    actions, observations = context.saved["actions"], context.saved["observations"]
    assert math.isfinite(fitness)
    assert len(actions) == len(context.saved["spikes"]) == len(observations) - 1 <= 12
    assert all(space.contains(space.dtype.type(action) if not np.ndim(action) else action) for action in actions)
    assert optimizee.fitness == ("furthest" if "Mountain" in name else "return")
    assert np.isfinite([optimizee.encoding.low, optimizee.encoding.high]).all()


@pytest.mark.parametrize(("name", "simulator"), [("MountainCar-v0", "nest"), ("Pendulum-v1", "gymnasium")])
def test_the_contract_holds(name, simulator):
    check_optimizee(NestGymnasium(name, **SMALL), simulator=simulator, samples=2)


def test_held_out_starts_are_never_those_of_an_evaluation():
    of_evaluations = {start for seed in range(1, 400) for start in starts(seed, 5)}
    held_out = {start for seed in range(1, 400) for start in starts(seed, 5, unseen=True)}
    assert not of_evaluations & held_out
    assert len(of_evaluations) == len(held_out) == 399 * 5


def test_held_out_plays_the_environment_s_whole_episodes_and_repeats_itself(monkeypatch):
    played, of_class = [], NestGymnasium.play
    monkeypatch.setattr(NestGymnasium, "play", lambda *given: played.append(given[2:]) or of_class(*given))
    optimizee = NestGymnasium(**SMALL)
    params = drawn(optimizee)
    first = optimizee.held_out(params, number=2)
    assert optimizee.held_out(params, number=2) == first
    optimizee.held_out(params, seed=2, number=2)
    assert [limit for _, limit in played] == [200] * 3
    assert played[0][0] == played[1][0] != played[2][0]
    assert first == {"mean_return": -200, "mean_steps": 200, "solved": 0}


def test_held_out_needs_a_start_and_a_seed():
    optimizee = NestGymnasium(**SMALL)
    with pytest.raises(PluginError, match="number: expected an integer from 1 on, got 0"):
        optimizee.held_out(drawn(optimizee), number=0)
    with pytest.raises(PluginError, match="seed: expected an integer from 0 on, got -1"):
        optimizee.held_out(drawn(optimizee), seed=-1)


def test_solved_follows_the_threshold_that_the_environment_is_registered_with():
    cart = NestGymnasium("CartPole-v1", **SMALL)
    assert cart.held_out(drawn(cart), number=2)["solved"] == 0
    always = NestGymnasium("Echo-v0")
    assert set(always.held_out(drawn(always), number=1)) == {"mean_return", "mean_steps"}


def test_input_neurons_are_driven_by_how_near_the_observation_is_to_what_they_prefer():
    code = Encoding(np.array([0.0, -1.0]), np.array([10.0, 1.0]), 11, 0.1)
    position, velocity = code.activations([3.0, 5.0]).reshape(2, 11)
    np.testing.assert_allclose(position[2:5], [math.exp(-0.5), 1, math.exp(-0.5)])
    assert position[[0, 1, 5, 6, 10]].max() == 0
    np.testing.assert_allclose(velocity[-2:], [math.exp(-0.5), 1])  # what is outside is as the nearest end


def test_the_most_active_wins_and_of_several_the_one_nearest_to_a_spike():
    three = MostActive(3, first=5)
    assert not three.needs_potentials(np.array([0, 1, 2]))
    assert three.action(np.array([0, 1, 2]), None) == 7
    assert three.needs_potentials(np.array([2, 1, 2]))
    assert three.action(np.array([2, 1, 2]), np.array([-69.0, -50.0, -60.0])) == 7
    assert three.action(np.array([2, 1, 2]), np.array([-60.0, -50.0, -69.0])) == 5


def test_a_continuous_action_is_the_mean_of_the_preferred_values():
    population = PopulationMean(np.array([-2.0, 0.0]), np.array([2.0, 1.0]), 3, (2,), "float32")
    assert population.neurons == 6
    action = population.action(np.array([0, 1, 3, 2, 0, 0]), None)
    np.testing.assert_allclose(action, [3 / 4 * 2, 0])
    assert action.dtype == np.float32
    np.testing.assert_allclose(population.action(np.zeros(6, int), None), [0, 0.5])  # the middle where none spiked


def test_ranges_are_given_or_the_bounds_or_what_random_play_reaches():
    bounded = NestGymnasium("MountainCar-v0", **SMALL).encoding
    np.testing.assert_allclose([bounded.low, bounded.high], [[-1.2, -0.07], [0.6, 0.07]])
    cart = NestGymnasium("CartPole-v1", **SMALL).encoding
    np.testing.assert_allclose([cart.low[0], cart.high[0]], [-4.8, 4.8])
    assert -6 < cart.low[1] < -0.5 < 0.5 < cart.high[1] < 6
    again = NestGymnasium("CartPole-v1", **SMALL).encoding
    np.testing.assert_array_equal([again.low, again.high], [cart.low, cart.high])
    given = NestGymnasium("CartPole-v1", ranges=[[-2, 2]] * 4, **SMALL).encoding
    np.testing.assert_array_equal([given.low, given.high], [[-2] * 4, [2] * 4])
    echo = NestGymnasium("Echo-v0").encoding  # it counts the steps
    np.testing.assert_array_equal([echo.low, echo.high], [[0, 0], [4, 4]])


def test_a_dimension_that_never_changes_gets_a_range_all_the_same():
    constant = gymnasium.spaces.Box(np.float32([3, -1]), np.float32([3, 1]))
    code = NestGymnasium("Echo-v0", environment_options={"observations": constant}).encoding
    np.testing.assert_array_equal([code.low, code.high], [[2.5, -1], [3.5, 1]])


def test_observations_of_any_shape_are_taken_apart_and_actions_may_start_elsewhere():
    actions = gymnasium.spaces.Discrete(2, start=-1)
    optimizee = NestGymnasium("Echo-v0", environment_options={"shape": (2, 3), "actions": actions}, neurons_per_dim=2)
    assert optimizee.space["input_weights"].shape == (5, 2 * 3 * 2)
    silent = {name: np.zeros(parameter.shape) for name, parameter in optimizee.space.items()}
    saved = evaluated(optimizee, silent)[1].saved
    assert saved["observations"].shape == (5, 6)
    assert set(saved["actions"]) == {-1}  # the first: all output neurons are equally far from a spike


def test_the_smallest_network_has_one_hidden_and_one_output_neuron():
    one = gymnasium.spaces.Discrete(1)
    optimizee = NestGymnasium("Echo-v0", environment_options={"actions": one, "shape": (1,)}, hidden=1)
    assert optimizee.space["output_weights"].shape == (1, 1)
    assert evaluated(optimizee, drawn(optimizee))[0] == 4 * 0.5


def test_an_environment_that_breaks_fails_this_evaluation_and_not_the_next():
    optimizee, broken = NestGymnasium(**SMALL), NestGymnasium("Echo-v0", ranges=[[0, 1]] * 2, max_steps=2)
    params = drawn(optimizee)
    fitness = evaluated(optimizee, params)[0]
    object.__setattr__(broken.environment, "options", {"fails": True})
    with pytest.raises(RuntimeError, match="broke"):
        evaluated(broken, drawn(broken))
    assert evaluated(optimizee, params)[0] == fitness


def test_an_observation_that_is_not_finite_is_a_failed_evaluation():
    optimizee = NestGymnasium("Echo-v0", ranges=[[0, 1]] * 2, environment_options={"value": math.nan})
    with pytest.raises(EvaluationError, match=r"not finite: \[nan nan\]"):
        evaluated(optimizee, drawn(optimizee))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observations": gymnasium.spaces.Discrete(4)}, r"expected observations that are .* \(Box\), got Discrete"),
        ({"actions": gymnasium.spaces.MultiBinary(4)}, r"expected discrete \(Discrete\) or continuous .* MultiBinary"),
        ({"actions": gymnasium.spaces.Box(-np.inf, 1, (1,))}, "expected actions within bounds, got Box"),
    ],
)
def test_spaces_that_have_no_code_are_refused(options, message):
    with pytest.raises(PluginError, match=message):
        NestGymnasium("Echo-v0", environment_options=options)


@pytest.mark.parametrize(("package", "called"), [("nest", "NEST"), ("gymnasium", "Gymnasium")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(package, called, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("optimizees._simulators.find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(PluginError, match=rf"{called} is not installed: pip install 'l2l-dask\[gymnasium\]'"):
        NestGymnasium()


def test_its_module_can_be_imported_without_either_simulator():
    code = "import sys; sys.modules.update(nest=None, gymnasium=None); import optimizees.nest_gymnasium"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_environment_of_another_package_is_named_with_its_module(monkeypatch, tmp_path):
    (tmp_path / "valley_of_ours.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('OurCar-v0', entry_point='gymnasium.envs.classic_control:MountainCarEnv', "
        "max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    environment = Environment.find("valley_of_ours:OurCar-v0", {})
    assert (environment.id, environment.limit) == ("OurCar-v0", 7)
    optimizee = NestGymnasium("valley_of_ours:OurCar-v0", fitness="furthest")
    assert len(evaluated(optimizee, drawn(optimizee))[1].saved["actions"]) == 7


def test_one_network_has_another_fitness_from_another_start_so_the_example_evaluates_its_best_again():
    optimizee = NestGymnasium()
    fitness = [evaluated(optimizee, along_the_velocity(optimizee), id)[0] for id in range(12)]
    assert max(fitness) - min(fitness) > 0.5
    example = Path(__file__).parents[2] / "examples" / "nest-gymnasium.toml"
    assert tomllib.loads(example.read_text())["run"]["final"] > 1


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_search_finds_a_driver_and_random_search_does_not(tmp_path):
    best = {}
    for name in ("steady-state-ga", "random"):
        store = tmp_path / f"{name}.zarr"
        search = Experiment(NestGymnasium(), name, store=store, evaluations=800, seed=1, workers=2, final=10)
        best[name] = search.run().best
    fitness = {name: individual.fitness["furthest"] for name, individual in best.items()}
    held_out = {name: NestGymnasium().held_out(individual.params)["solved"] for name, individual in best.items()}
    print(fitness, held_out)
    assert fitness["steady-state-ga"] > 0.15 > 0.0 > fitness["random"]  # means of ten episodes of 109 steps
    assert held_out["steady-state-ga"] >= 14 > 10 > held_out["random"]  # of 20
