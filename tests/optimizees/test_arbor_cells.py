"""ArborCell with several cells, currents and objectives, and what it holds out."""

import math
import pickle
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from l2l_dask import Experiment, registry
from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.evaluation import Candidate
from l2l_dask.executors import Simulated
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee
from optimizees import _arbor
from optimizees._allen import published
from optimizees._currents import Current
from optimizees._spike_features import error, features
from optimizees._trace_errors import rms, spike_distance, spike_times
from optimizees.arbor_cell import ArborCell

EXAMPLE = Path(__file__).parents[2] / "examples" / "arbor-cells.toml"
TWO = ["nr5a1", "pvalb-470522102"]  # of different kinds: they share some channels only


@pytest.fixture(scope="module")
def cells():
    cells = ArborCell(TWO, [0.2, 0.3], 60, stimulus=["step", "ramp"], errors=["features", "trace", "spikes"])
    cells.setup()
    return cells


@pytest.fixture(scope="module")
def some(cells):
    return cells.space.decode(np.full(cells.space.dim, 0.45))


def evaluated(cell, params):
    context = Context(Candidate(0, params, 1))
    return cell.evaluate(params, context), context.saved


def test_the_published_models_fit_without_error_in_every_objective(cells):
    assert cells.objectives.names == ("feature_error", "trace_error", "spike_distance")
    assert evaluated(cells, cells.published)[0] == [0, 0, 0]


def test_searched_are_factors_of_the_channels_that_all_cells_have(cells):
    channels = [{name.removeprefix("gbar_") for name in published(m).conductances} for m in TWO]
    shared = channels[0] & channels[1]
    assert "NaTs" in channels[0] - shared
    assert "NaV" in channels[1] - shared
    assert set(cells.space) == {f"scale_{channel}" for channel in shared}
    assert len(ArborCell(["nr5a1", "rorb", "scnn1a"]).space) == len(channels[0])


@pytest.mark.parametrize("decades", [1, 2])
def test_the_factors_bounds_are_powers_of_ten_for_the_mean_conductance_and_hold_1_off_the_middle(decades):
    cells = ArborCell(["nr5a1", "rorb"], decades=decades)
    one, other = (published(m).conductances for m in ("nr5a1", "rorb"))
    for name in cells.space:
        bounds, gbar = cells.space[name], name.replace("scale_", "gbar_")
        low = math.log10(bounds.low * math.sqrt(one[gbar] * other[gbar]))
        assert low == pytest.approx(round(low), abs=1e-9)
        assert bounds.high / bounds.low == pytest.approx(10**decades)
        assert (decades - 1) / 2 <= -math.log10(bounds.low) <= (decades + 1) / 2
    assert np.ptp(cells.space.encode(cells.published)) > 0.25 / decades


@pytest.mark.parametrize("which", [0, 1])
def test_a_factor_multiplies_each_cell_s_own_conductance_and_leaves_its_other_channels(cells, which):
    conductances = published(TWO[which]).conductances
    alone = ArborCell(TWO[which], 0.2, 60)
    scaled = cells.trace({"scale_Kv3_1": 0.5, "scale_Ih": 2.0}, cells.cells[which], cells.currents[0])
    by_hand = conductances | {"gbar_Kv3_1": 0.5 * conductances["gbar_Kv3_1"], "gbar_Ih": 2 * conductances["gbar_Ih"]}
    np.testing.assert_array_equal(scaled, alone.trace(by_hand))
    assert not np.array_equal(scaled, alone.trace(conductances))


def test_every_cell_responds_to_every_current_under_a_name_of_its_own(cells, some):
    fitness, saved = evaluated(cells, some)
    names = [f"voltage-{m}-{s}-{a}" for m, s, a in product(TWO, ["step", "ramp"], [0.2, 0.3])]
    assert list(saved) == list(cells.targets()) == names
    assert len({voltage.tobytes() for voltage in saved.values()}) == len(names)
    assert len(fitness) == 3


def test_each_objective_is_the_mean_over_the_responses(cells, some):
    fitness, saved = evaluated(cells, some)
    pairs = [(saved[name].astype(float), target.values.astype(float)) for name, target in cells.targets().items()]
    spikes = [[spike_times(v, 0.1) for v in pair] for pair in pairs]
    step = cells._step
    by_hand = [
        np.mean([error(features(a, step), features(b, step)) for a, b in pairs]),
        np.mean([rms(a, b) for a, b in pairs]),
        np.mean([spike_distance(a, b) for a, b in spikes]),
    ]
    assert fitness == pytest.approx(by_hand, rel=1e-3)
    assert min(fitness) > 0


def test_objectives_come_in_the_order_that_was_asked_for(some):
    there = ArborCell(TWO, 0.2, 60, errors=["trace", "features"])
    back = ArborCell(TWO, 0.2, 60, errors=["features", "trace"])
    assert there.objectives.names == ("trace_error", "feature_error")
    assert evaluated(there, some)[0] == evaluated(back, some)[0][::-1]


def test_a_list_of_one_is_that_one():
    alone = ArborCell("rorb", 0.2, 60)
    listed = ArborCell(["rorb"], [0.2], 60, stimulus=["step"], errors="features")
    params = alone.space.decode(np.full(alone.space.dim, 0.4))
    assert listed.space == alone.space
    assert evaluated(listed, params)[0] == evaluated(alone, params)[0]
    assert list(evaluated(listed, params)[1]) == ["voltage"]


def test_a_subclass_can_say_what_the_target_is():
    class Recorded(ArborCell):
        def target_traces(self):
            return self.simulate(self.published, 0) + 3.0

    cell = Recorded("rorb", 0.2, 60, errors="trace")
    assert evaluated(cell, cell.published)[0] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("recorded", "got"),
    [
        (lambda traces: np.repeat(traces, 4, axis=1), r"\(2, 6400\)"),  # at 40 kHz
        (lambda traces: traces[:, :-1], r"\(2, 1599\)"),
        (lambda traces: traces[:1], r"\(1, 1600\)"),
        (lambda traces: traces[0], r"\(1600,\)"),
        (lambda traces: [traces[0], traces[1, :-1]], "no array of numbers: "),
        (lambda traces: np.where(traces == traces[0, 7], np.nan, traces), "[1-9][0-9]* that are not finite"),
    ],
)
def test_a_recording_that_does_not_match_the_responses_is_refused(recorded, got):
    class Recorded(ArborCell):
        def target_traces(self):
            return recorded(self.simulate(self.published, 0))

    message = rf"target_traces: expected \(2, 1600\) numbers .*, sampled every 0.1 ms, got {got}"
    with pytest.raises(PluginError, match=message):
        Recorded("rorb", [0.2, 0.3], 60).setup()


@pytest.mark.parametrize("name", ["scale_Foo", "gbar_NaTs"])
def test_a_factor_that_there_is_not_is_refused(name, cells):
    with pytest.raises(EvaluationError, match=f"parameters: expected some of {', '.join(cells.space)}, got '{name}'"):
        cells.simulate({name: 1.0}, 1)


@pytest.mark.parametrize("stimulus", ["step", "ramp", "noise"])
def test_a_current_starts_after_50_ms_and_is_off_at_its_end(stimulus):
    cell = ArborCell("nr5a1", -0.1, 60, stimulus=stimulus)  # hyperpolarising: no spikes
    voltage = cell.trace(cell.published)
    before, during, after = voltage[300:500], voltage[500:1100], voltage[-1]
    assert np.ptp(before) < 1
    assert during.min() < before.mean() - 4
    assert during.min() < after - 3


def test_a_step_by_its_corners_is_the_step(monkeypatch):
    cell = ArborCell("nr5a1", 0.25, 60)
    step = cell.trace(cell.published)
    # A ramp is given to Arbor by its corners: let it have the step's.
    monkeypatch.setattr(Current, "points", lambda _: (np.array([50.0, 110.0]), np.array([0.25, 0.25])))
    cornered = cell.trace(cell.published, current=Current("ramp", 0.25, 60))
    np.testing.assert_allclose(cornered, step, atol=1e-6)


def test_options_come_from_an_experiment_file_as_one_value_or_a_list():
    options = {"morphology": TWO, "amplitude": 1, "stimulus": ["noise"], "errors": ["trace"]}
    cells = registry.build(ArborCell, "arbor-cell", options)
    assert cells.currents == [Current("noise", 1.0, 200.0)]
    assert [cell.morphology for cell in cells.cells] == TWO


def test_the_contract_holds_for_several_cells_currents_and_objectives():
    check_optimizee(
        ArborCell(TWO, 0.2, 30, stimulus=["ramp", "noise"], errors=["features", "spikes"]), simulator="arbor"
    )


def test_a_set_up_optimizee_with_several_cells_can_be_copied(cells, some):
    assert evaluated(pickle.loads(pickle.dumps(cells)), some)[0] == evaluated(cells, some)[0]


def test_what_is_held_out_was_never_searched_with(cells, some, monkeypatch):
    seen, respond = [], _arbor.Cell.response

    def listen(cell, conductances, current):
        seen.append(current)
        return respond(cell, conductances, current)

    monkeypatch.setattr(_arbor.Cell, "response", listen)
    noisy = ArborCell(TWO, [0.2, 0.3], 60, stimulus=["step", "noise"])
    noisy.held_out(some, seed=0)
    assert {current.shape for current in seen} == {"step", "noise"}
    for current, searched in product(seen, noisy.currents):
        assert not np.array_equal(current.points(), searched.points())
    assert max(current.amplitude for current in seen) > 0.3


def test_the_published_models_err_in_nothing_that_is_held_out_and_others_do(cells, some):
    best, other = cells.held_out(cells.published), cells.held_out(some)
    errors = [name for name in best if name.endswith(("error", "distance"))]
    assert len(errors) == 6
    assert all(best[name] == 0 < other[name] for name in errors)
    assert best["step_spikes"] == best["step_target_spikes"] == other["step_target_spikes"] > 5


def test_held_out_noise_is_another_for_each_seed_and_the_same_for_the_same(cells, some):
    first, again, other = (cells.held_out(some, seed) for seed in (1, 1, 2))
    assert first == again
    assert {name for name in first if first[name] != other[name]} >= {"noise_feature_error", "noise_trace_error"}
    assert all(first[name] == other[name] for name in first if name.startswith("step"))


def test_cells_that_were_searched_without_a_current_are_held_out_with_one():
    quiet = ArborCell("nr5a1", 0.0, 60)
    assert all(current.amplitude > 0 for current in quiet.held_out_currents().values())
    assert ArborCell("nr5a1", [-0.3, 0.1]).held_out_currents()["step"].amplitude == pytest.approx(-0.375)


def _searched(optimizer, options, store):
    """Run the example's problem and budget on two virtual workers."""
    plan = Experiment.from_config(EXAMPLE, store=store).plan
    experiment = Experiment(
        plan.problem.optimizee,
        optimizer,
        optimizer_options=options,
        store=store,
        evaluations=plan.config.run.evaluations,
        seed=1,
    )
    return experiment.run(Simulated(2, lambda candidate, rng: rng.uniform(0.5, 1.5)))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_cells_are_fitted_better_than_by_random_search_also_where_it_was_held_out(tmp_path):
    plan = Experiment.from_config(EXAMPLE, store=tmp_path / "not-run.zarr").plan
    ours = _searched(plan.config.optimizer.name, plan.config.optimizer.options, tmp_path / "ours.zarr")
    chance = _searched("random", {}, tmp_path / "random.zarr")
    cells = plan.problem.optimizee
    held, held_by_chance = cells.held_out(ours.best.params), cells.held_out(chance.best.params)
    print(ours.best.fitness, held, chance.best.fitness, held_by_chance)
    assert ours.best.fitness["feature_error"] < 0.5 * chance.best.fitness["feature_error"]
    for name in ("step_feature_error", "noise_feature_error"):
        assert held[name] < held_by_chance[name]
