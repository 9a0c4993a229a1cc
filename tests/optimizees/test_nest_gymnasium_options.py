"""NestGymnasium's options: all are listed, and what cannot be is refused by name."""

import importlib.util
import math

import pytest

from l2l_dask import registry
from l2l_dask.errors import PluginError
from optimizees.nest_gymnasium import NestGymnasium

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra l2l-dask[gymnasium]")
if importlib.util.find_spec("nest") is None:  # it is for the optimizee to import it: quietly
    pytest.skip("needs the extra l2l-dask[gymnasium]", allow_module_level=True)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    gymnasium.register("Endless-v0", entry_point="gymnasium.envs.classic_control:MountainCarEnv")
    yield
    del gymnasium.registry["Endless-v0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"environment": "NoSuch-v0"}, "environment: expected the id .* got 'NoSuch-v0': .*NoSuch"),
        ({"environment": "no_such_module:CartPole-v1"}, "environment: expected the id .*no_such_module"),
        ({"environment_options": {"wind": 1}}, "'MountainCar-v0' cannot be made with environment_options.*wind"),
        ({"max_steps": 0}, "max_steps: expected an integer from 1 on, got 0"),
        ({"environment": "Endless-v0"}, "max_steps: expected a number, since 'Endless-v0' has no limit of its own"),
        ({"episodes": 0}, "episodes: expected an integer from 1 on, got 0"),
        ({"fitness": "speed"}, "fitness: expected 'auto', 'furthest' or 'return', got 'speed'"),
        ({"ranges": [[0, 1]]}, "ranges: expected .* for each of the 2 dimensions .* got "),
        ({"ranges": [[0, 1], [1, 0]]}, "ranges: expected .low, high. with low < high"),
        ({"neurons_per_dim": 1}, "neurons_per_dim: expected an integer from 2 on, got 1"),
        ({"hidden": 0}, "hidden: expected an integer from 1 on, got 0"),
        ({"neurons_per_action": 1}, "neurons_per_action: expected an integer from 2 on, got 1"),
        ({"tuning_width": 0}, "tuning_width: expected a finite number above 0, got 0"),
        ({"step_ms": 2.5}, "step_ms: expected a multiple of 1.0 ms, got 2.5"),
        ({"max_weight": math.inf}, "max_weight: expected a finite number above 0, got inf"),
        ({"environment": 5}, "environment: expected the id .* got 5"),
        ({"environment_options": 5}, "environment_options: expected arguments of gymnasium.make .* got 5"),
        ({"max_steps": 2.5}, "max_steps: expected an integer from 1 on, got 2.5"),
        ({"episodes": 1.5}, "episodes: expected an integer from 1 on, got 1.5"),
        ({"episodes": True}, "episodes: expected an integer from 1 on, got True"),
        ({"ranges": 5}, "ranges: expected .* got 5"),
        ({"ranges": [1, 2]}, r"ranges: expected .* got \[1, 2\]"),
        ({"ranges": [[0, 1], [1]]}, r"ranges: expected .* got \[\[0, 1\], \[1\]\]"),
        ({"ranges": [["a", "b"], [0, 1]]}, "ranges: expected .* got "),
        ({"ranges": [[0, math.nan], [0, 1]]}, "ranges: expected .* got "),
        ({"step_ms": "20"}, "step_ms: expected a finite number above 0, got '20'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(PluginError, match=message):
        NestGymnasium(**options)


def test_the_registry_knows_and_checks_every_option():
    plugin = registry.find("optimizees", "nest-gymnasium")
    described = registry.options(plugin)
    assert plugin is NestGymnasium
    assert next(iter(described)) == "environment"
    assert all(option.doc for option in described.values())
    built = registry.build(plugin, "nest-gymnasium", {"environment": "CartPole-v1", "ranges": [[-1, 1]] * 4})
    assert built.environment.limit == built.max_steps == 500
