"""ArborCell with one cell and one current: the published model is the optimum, and what is missing is said."""

import importlib.util
import math
import pickle
import subprocess
import sys
from importlib.machinery import ModuleSpec
from typing import get_args

import numpy as np
import pytest

from l2l_dask import registry
from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.evaluation import Candidate
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee
from optimizees import _arbor, _simulators
from optimizees._allen import Morphology
from optimizees._spike_features import error, features
from optimizees.arbor_cell import ArborCell

MORPHOLOGIES = get_args(Morphology)


@pytest.fixture(scope="module")
def cell():
    cell = ArborCell(duration=100)
    cell.setup()
    return cell


def evaluated(cell, params):
    context = Context(Candidate(0, params, 1))
    return cell.evaluate(params, context), context.saved["voltage"]


@pytest.mark.parametrize("morphology", MORPHOLOGIES)
def test_every_cell_spikes_and_its_published_conductances_fit_without_error(morphology):
    cell = ArborCell(morphology, amplitude=0.25, duration=100)
    fitness, voltage = evaluated(cell, cell.published)
    assert fitness == 0
    assert features(voltage, cell._step)["spike_count"] >= 3


@pytest.mark.parametrize("morphology", MORPHOLOGIES)
@pytest.mark.parametrize("decades", [1, 2, 3])
def test_the_bounds_are_powers_of_ten_around_the_published_values(morphology, decades):
    cell = ArborCell(morphology, decades=decades)
    for name, value in cell.published.items():
        bounds = cell.space[name]
        assert bounds.log
        assert math.log10(bounds.low) == pytest.approx(round(math.log10(bounds.low)))
        assert bounds.high / bounds.low == pytest.approx(10**decades)
        assert (decades - 1) / 2 <= math.log10(value / bounds.low) <= (decades + 1) / 2
    assert np.ptp(cell.space.encode(cell.published)) > 0.25 / decades


def test_the_fitness_is_the_error_of_the_saved_trace_s_features(cell):
    params = cell.space.decode(np.full(cell.space.dim, 0.6))
    fitness, voltage = evaluated(cell, params)
    target = features(cell.targets()["voltage"].values, cell._step)
    assert fitness == pytest.approx(error(features(voltage, cell._step), target), rel=1e-3)
    assert fitness > 1


def test_the_trace_covers_the_step_and_50_ms_before_and_after_it(cell):
    voltage, target = cell.trace(cell.published), cell.targets()["voltage"]
    assert len(voltage) * target.step == pytest.approx(50 + 100 + 50)
    np.testing.assert_array_equal(target.values, voltage.astype(np.float32))
    assert target.values.dtype == np.float32
    before, during = voltage[:500], voltage[500:1500]
    assert np.ptp(before) < 1 < np.ptp(during)


def test_the_target_is_that_of_the_step_which_was_asked_for():
    quiet = ArborCell(amplitude=0.0, duration=20).targets()["voltage"].values
    assert len(quiet) == 1200
    assert np.ptp(quiet) < 1


def test_every_conductance_changes_the_trace(cell):
    published = cell.trace(cell.published)
    for name, value in cell.published.items():
        assert not np.array_equal(cell.trace(cell.published | {name: 2 * value}), published), name


def test_a_conductance_that_is_not_searched_is_as_published(cell):
    some = {"gbar_NaTs": 0.3}
    np.testing.assert_array_equal(cell.trace(some), cell.trace(cell.published | some))


@pytest.mark.parametrize("name", ["gbar_Foo", "NaTs", "scale_NaTs"])
def test_a_conductance_that_the_cell_does_not_have_is_refused(name, cell):
    known = ", ".join(cell.published)
    for call in (cell.trace, cell.held_out, lambda params: evaluated(cell, params)):
        with pytest.raises(EvaluationError, match=f"parameters: expected some of {known}, got '{name}'"):
            call({name: 1.0})


def test_the_contract_holds():
    check_optimizee(ArborCell(duration=60), simulator="arbor")


def test_a_copy_made_at_any_time_evaluates_the_same(cell):
    copies = [pickle.loads(pickle.dumps(c)) for c in (ArborCell(duration=100), cell)]
    params = cell.space.decode(np.full(cell.space.dim, 0.4))
    assert evaluated(copies[0], params)[0] == evaluated(copies[1], params)[0] == evaluated(cell, params)[0]


def test_bmtk_is_read_but_not_imported():
    """In a process of its own, where nothing has been imported yet."""
    code = "import sys; from optimizees.arbor_cell import *; cell = ArborCell(duration=5); cell.setup(); cell.trace({})"
    code += "; sys.exit('bmtk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_potential_that_is_not_finite_is_a_failed_evaluation(cell, monkeypatch):
    monkeypatch.setattr(cell, "simulate", lambda params, seed: np.full((1, 2000), np.nan))
    with pytest.raises(EvaluationError, match="not finite"):
        evaluated(cell, cell.published)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"morphology": "purkinje"}, "morphology: expected one of scnn1a, rorb, nr5a1, .*, got 'purkinje'"),
        ({"amplitude": math.nan}, "amplitude: expected a finite number, got nan"),
        ({"amplitude": "x"}, "amplitude: expected a finite number, got 'x'"),
        ({"duration": 0}, "duration: expected a finite number from 1 on, got 0"),
        ({"duration": math.inf}, "duration: expected a finite number from 1 on, got inf"),
        ({"decades": 0}, "decades: expected an integer from 1 on, got 0"),
        ({"decades": 1.5}, "decades: expected an integer from 1 on, got 1.5"),
        ({"morphology": []}, r"morphology: expected one or several different values, got \[\]"),
        ({"morphology": ["rorb", "rorb"]}, "morphology: expected one or several different values"),
        ({"amplitude": [0.1, math.inf]}, "amplitude: expected a finite number, got inf"),
        ({"stimulus": "chirp"}, "stimulus: expected one of step, ramp, noise, got 'chirp'"),
        ({"errors": ["features", "isi"]}, "errors: expected one of features, trace, spikes, got 'isi'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(PluginError, match=message):
        ArborCell(**options)


def test_the_registry_knows_and_checks_every_option():
    plugin = registry.find("optimizees", "arbor-cell")
    described = registry.options(plugin)
    assert plugin is ArborCell
    assert list(described) == ["morphology", "amplitude", "duration", "decades", "stimulus", "errors"]
    assert all(option.doc for option in described.values())
    with pytest.raises(PluginError, match=r"option 'morphology'.*got 'purkinje'"):
        registry.build(plugin, "arbor-cell", {"morphology": "purkinje"})


@pytest.mark.parametrize("package", ["arbor", "bmtk"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(package, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(_simulators, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(PluginError, match=rf"(?i){package}.*not installed.*l2l-dask\[arbor\]"):
        ArborCell()


def test_a_bmtk_without_the_cell_is_named(monkeypatch, tmp_path):
    spec = ModuleSpec("bmtk", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "bmtk" else found(name))
    with pytest.raises(PluginError, match=r"has no biophysical_neuron_models/473863035_fit.json: pip install"):
        ArborCell()


def test_an_arbor_that_cannot_be_imported_is_an_error_with_the_reason(monkeypatch):
    cell = ArborCell(duration=20)
    monkeypatch.setitem(sys.modules, "arbor", None)
    with pytest.raises(PluginError, match=r"cannot be imported .*l2l-dask\[arbor\]"):
        cell.setup()


@pytest.mark.parametrize(("flags", "died"), [("sse avx", True), ("sse avx", False), ("sse avx avx2", True)])
def test_a_processor_without_avx2_is_named_before_it_ends_the_process(flags, died, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags} fma\n")
    ended = subprocess.CompletedProcess([], -4 if died else 0)
    monkeypatch.setattr(_arbor, "_CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(_arbor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(_arbor.subprocess, "run", lambda *args, **kwargs: ended)
    monkeypatch.delitem(sys.modules, "arbor", raising=False)
    if died and "avx2" not in flags:
        with pytest.raises(PluginError, match="needs a processor with AVX2"):
            _arbor._require_avx2()
    else:
        _arbor._require_avx2()
