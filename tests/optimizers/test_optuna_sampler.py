"""OptunaSampler: the samplers' own proposals in natural units, asynchronous, resumable."""

import importlib.util
import logging
import sys
from functools import partial

import numpy as np
import pytest

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.optuna_sampler import OptunaSampler

optuna = pytest.importorskip("optuna")
COST = Objectives(minimize("cost"))
TWO = Objectives([minimize("f"), minimize("g")])
NUMBERS = Space({"a": Real(-5, 5), "b": Real(1e-3, 1e3, log=True), "n": Integer(1, 9), "m": Integer(1, 64, log=True)})
MIXED = Space({**NUMBERS, "c": Categorical(["x", None, 3.5]), "w": Real(0, 1, shape=(2,))})
CONDITIONAL = Space(
    {"rate": Real(0.1, 10, when={"model": "lif"}), "model": Categorical(["lif", "adex"]), "k": Integer(0, 3)}
)


def numbers(trial):
    return {
        "a": trial.suggest_float("a", -5, 5),
        "b": trial.suggest_float("b", 1e-3, 1e3, log=True),
        "n": trial.suggest_int("n", 1, 9),
        "m": trial.suggest_int("m", 1, 64, log=True),
    }


def mixed(trial):
    drawn = numbers(trial) | {"c": trial.suggest_categorical("c", ["x", None, 3.5])}
    return drawn | {"w": [trial.suggest_float("w[0]", 0, 1), trial.suggest_float("w[1]", 0, 1)]}


def conditional(trial):
    drawn = {"model": trial.suggest_categorical("model", ["lif", "adex"]), "k": trial.suggest_int("k", 0, 3)}
    return drawn | ({"rate": trial.suggest_float("rate", 0.1, 10)} if drawn["model"] == "lif" else {})


def tell(optimizer, ids, x, cost):
    cost = np.array(cost, dtype=float).reshape(len(ids), -1)
    optimizer.tell(Evaluations(np.array(ids), np.array(x), cost))


def both(space, suggest, objectives, sampler, options, library_options, rounds=12):
    """Lead the adapter and the library alone through the same asks and results, two in flight of three."""
    optimizer = OptunaSampler(space, objectives, seed=5, sampler=sampler, sampler_options=options)
    study = optuna.create_study(
        directions=["minimize"] * len(objectives),
        sampler=getattr(optuna.samplers, sampler)(seed=5, **library_options),
    )
    costs = np.random.default_rng(0).random((3 * rounds, len(objectives)))
    ours, theirs, waiting = [], [], {}
    for i in range(3 * rounds):
        candidate = optimizer.ask(1)
        trial = study.ask()
        ours.append(space.decode(candidate.x[0]))
        theirs.append(suggest(trial))
        waiting[i] = candidate.x[0]
        if len(waiting) == 3:
            for j in sorted(waiting, reverse=True)[:2]:
                failed = j % 5 == 4
                tell(optimizer, [j], [waiting.pop(j)], [np.nan] * len(objectives) if failed else costs[j])
                if failed:
                    study.tell(j, state=optuna.trial.TrialState.FAIL)
                else:
                    study.tell(j, costs[j].tolist())
    return ours, theirs


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            if isinstance(value, float | list):
                np.testing.assert_allclose(a[name], value, rtol=1e-12, atol=1e-12)
            else:
                assert a[name] == value
                assert type(a[name]) is type(value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("sampler", "options", "library_options", "objectives"),
    [
        ("TPESampler", None, {}, COST),
        (
            "TPESampler",
            {"n_startup_trials": 4, "multivariate": False},
            {"n_startup_trials": 4, "multivariate": False},
            TWO,
        ),
        ("RandomSampler", None, {}, TWO),
        ("QMCSampler", {"qmc_type": "halton"}, {"qmc_type": "halton", "warn_independent_sampling": False}, COST),
        ("NSGAIISampler", {"population_size": 6}, {"population_size": 6}, TWO),
    ],
)
def test_it_proposes_what_the_sampler_alone_proposes(sampler, options, library_options, objectives):
    assert_same(*both(MIXED, mixed, objectives, sampler, options, library_options))


@pytest.mark.filterwarnings("ignore")
def test_cma_es_proposes_what_the_sampler_alone_proposes():
    options = {"popsize": 5, "warn_independent_sampling": False}
    assert_same(*both(NUMBERS, numbers, COST, "CmaEsSampler", options, options))


@pytest.mark.filterwarnings("ignore")
def test_of_conditional_parameters_only_the_active_ones_are_suggested_parents_first():
    assert_same(*both(CONDITIONAL, conditional, COST, "TPESampler", None, {"group": True}))


def test_an_unbounded_parameter_is_searched_within_five_scales():
    space = Space({"w": Real(loc=10.0, scale=2.0, shape=(200,))})
    values = space.decode(OptunaSampler(space, COST, sampler="RandomSampler").ask(1).x[0])["w"]
    assert 0 <= values.min() < 2
    assert 18 < values.max() <= 20


def test_adopted_individuals_are_trials_with_their_parameters():
    for sampler in ("TPESampler", "NSGAIISampler"):
        optimizer = OptunaSampler(CONDITIONAL, COST, sampler=sampler)
        optimizer.ask(1)
        x = np.array(
            [CONDITIONAL.encode(p) for p in ({"model": "lif", "k": 2, "rate": 1.0}, {"model": "adex", "k": 0})]
        )
        optimizer.adopt([1, 2], x)
        tell(optimizer, [2], x[1:], [0.5])
        trials = optimizer._study.trials
        assert [t.number for t in trials] == [0, 1, 2]
        assert trials[1].params == pytest.approx({"model": "lif", "k": 2, "rate": 1.0})
        assert trials[2].params == {"model": "adex", "k": 0}
        assert trials[2].value == 0.5
        assert trials[1].state == optuna.trial.TrialState.RUNNING


def test_choices_that_python_takes_for_equal_are_told_apart():
    choices = [True, False, 1, 0, None]
    space = Space({"c": Categorical(choices)})
    optimizer = OptunaSampler(space, COST, sampler="RandomSampler")
    assert {repr(space.decode(x)["c"]) for x in optimizer.ask(100).x} == {repr(c) for c in choices}
    optimizer.adopt([100], space.encode({"c": 1})[None])
    assert optimizer._study.trials[100].params == {"c": 2}


def test_a_failed_evaluation_is_a_failed_trial():
    optimizer = OptunaSampler(NUMBERS, TWO)
    x = optimizer.ask(2).x
    tell(optimizer, [0, 1], x, [[1.0, np.nan], [1.0, 2.0]])
    states = optuna.trial.TrialState
    assert [t.state for t in optimizer._study.trials] == [states.FAIL, states.COMPLETE]


def test_it_is_done_when_the_sampler_is():
    space = Space({"c": Categorical(["x", "y"]), "n": Integer(1, 2)})
    optimizer = OptunaSampler(space, COST, sampler="BruteForceSampler")
    seen = set()
    while not optimizer.done:
        candidate = optimizer.ask(1)
        seen.add(tuple(space.decode(candidate.x[0]).values()))
        tell(optimizer, candidate.ids, candidate.x, [1.0])
    assert seen == {("x", 1), ("x", 2), ("y", 1), ("y", 2)}
    assert optimizer.n_asked == 4
    assert len(optimizer.ask(3)) == 0


def test_what_costs_the_square_of_the_evaluations_is_resumed_by_telling_alone():
    assert OptunaSampler(NUMBERS, COST).replay == "tell"
    assert OptunaSampler(NUMBERS, COST, sampler="CmaEsSampler").replay == "exact"


class Heard(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def test_optuna_says_nothing_and_its_verbosity_is_left_alone():
    heard, before = Heard(), optuna.logging.get_verbosity()
    logging.getLogger("optuna").addHandler(heard)
    try:
        space = Space({"c": Categorical(["x", "y"]), "a": Real(0, 1)})
        options = {"warn_independent_sampling": True}
        optimizer = OptunaSampler(space, COST, sampler="CmaEsSampler", sampler_options=options)
        for _ in range(4):
            candidate = optimizer.ask(1)
            tell(optimizer, candidate.ids, candidate.x, [1.0])
        assert heard.messages == []
        optuna.create_study()  # somebody else's
        assert len(heard.messages) == 1
        assert optuna.logging.get_verbosity() == before
    finally:
        logging.getLogger("optuna").removeHandler(heard)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": "TPE"}, r"^sampler must be .* did you mean TPESampler"),
        ({"sampler": "nsgaisampler"}, r"^sampler must be .* did you mean NSGAII"),
        ({"sampler": "no.such:Thing"}, r"^sampler must be .*ModuleNotFoundError"),
        ({"sampler": 3}, r"^sampler must be a name"),
        ({"sampler": "GridSampler"}, r"^sampler_options must be .*search_space"),
        ({"sampler": "BruteForceSampler"}, r"^sampler_options must be .*step"),
        ({"sampler_options": {"n_startup": 3}}, r"^sampler_options must be .*n_startup"),
        ({"sampler_options": {"seed": 3}}, r"^sampler_options must leave out \['seed'\]"),
        ({"sampler_options": [3]}, r"^sampler_options must be a table"),
        ({"sampler_options": {"n_startup_trials": {1}}}, r"^sampler_options must hold"),
        ({"sampler_options": {"n_startup_trials": "many"}}, r"^sampler_options must be"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(given, message):
    with pytest.raises(OptimizerError, match=message) as raised:
        OptunaSampler(NUMBERS, COST, **given)
    assert "\n" not in str(raised.value)


def test_a_sampler_for_one_objective_refuses_two():
    with pytest.raises(OptimizerError, match=r"^CmaEsSampler takes 1 objective\(s\), got 2: .*NSGAIISampler"):
        OptunaSampler(NUMBERS, TWO, sampler="CmaEsSampler")


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OptimizerError, match=r"^optuna needs optuna: pip install 'l2l-dask\[algorithms\]'$"):
        OptunaSampler(NUMBERS, COST)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_gp_without_torch_says_so():
    with pytest.raises(OptimizerError, match=r"^GPSampler needs torch"):
        OptunaSampler(NUMBERS, COST, sampler="GPSampler")


@pytest.mark.parametrize(
    ("space", "given"),
    [
        ("conditional", {"sampler_options": {"n_startup_trials": 5, "n_ei_candidates": 4}}),
        ("shaped", {"sampler": "RandomSampler"}),
        ("logarithmic", {"sampler": "QMCSampler", "sampler_options": {"scramble": True}}),
        ("conditional", {"sampler": "NSGAIISampler", "sampler_options": {"population_size": 6}}),
        ("unbounded", {"sampler": "CmaEsSampler", "sampler_options": {"popsize": 5}}),
        ("two-point", {"sampler": "GridSampler", "sampler_options": {"search_space": {"c": ["only", "these"]}}}),
        ("two-point", {"sampler": "optuna.samplers:NSGAIIISampler"}),
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_samplers(space, given):
    check_optimizer(partial(OptunaSampler, **given), spaces={space: default_spaces()[space]}, evaluations=20)
