"""Every registered optimizer keeps the contract, refuses bad options in one line and documents all of them."""

from functools import partial

import numpy as np
import pytest

from l2l_dask import Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.registry import find, names, options
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces

OPTIMIZERS = names("optimizers")
SPACE = Space({"x": Real(0, 1), "n": Integer(1, 3)})
COST = Objectives(minimize("cost"))
HARD_SPACES = {name: default_spaces()[name] for name in ("two-point", "conditional", "unbounded")}

# What an optimizee that is observed saves, made from the encoded vector.
OUTPUTS = {"observation": lambda x: np.array([x[0], x.sum()]), "target": lambda x: np.array([0.3, 0.3 * len(x)])}
# Fewer, but beyond the first, random ones: libraries that take milliseconds for each, and what chooses one of these.
EVALUATIONS = {"optuna": 16, "nevergrad": 32, "auto": 40}

VARIANTS = [
    ("genetic", {"pop_size": 2}),
    ("genetic", {"pop_size": 7, "n_iteration": 3, "cx_prob": 1.0, "mut_prob": 1.0, "ind_prob": 1.0, "tourn_size": 1}),
    ("grid", {"n": 2}),
    ("grid", {"n": 1}),
    ("qmc", {"engine": "halton"}),
    ("qmc", {"engine": "halton", "scramble": False}),
    ("qmc", {"engine": "latin", "design_size": 7}),
    ("qmc", {"scramble": False}),
    ("steady-state-ga", {"pop_size": 4, "cx_prob": 0.0, "ind_prob": 1.0}),
    ("steady-state-ga", {"pop_size": 10, "cx_prob": 1.0, "mut_prob": 0.0, "diff_prob": 0.0, "mate_par": 0.0}),
    ("steady-state-ga", {"pop_size": 10, "diff_prob": 1.0, "diff_par": 10.0, "mut_par": 1.0, "mate_par": 10.0}),
]

BAD = [
    ("genetic", "pop_size", 1),
    ("genetic", "cx_prob", 1.1),
    ("genetic", "mut_prob", -0.1),
    ("genetic", "ind_prob", 2),
    ("genetic", "n_iteration", 0),
    ("genetic", "tourn_size", 0),
    ("genetic", "mate_par", -1),
    ("genetic", "mut_par", float("nan")),
    ("grid", "n", 0),
    ("grid", "n", {"x": 0}),
    ("grid", "n", {"y": 3}),
    ("qmc", "engine", "van der Corput"),
    ("qmc", "design_size", 1),
    ("steady-state-ga", "pop_size", 3),
    ("steady-state-ga", "cx_prob", True),
    ("steady-state-ga", "diff_prob", 1.5),
    ("steady-state-ga", "mut_prob", "often"),
    ("steady-state-ga", "ind_prob", -1),
    ("steady-state-ga", "tourn_size", 1.5),
    ("steady-state-ga", "mate_par", -0.5),
    ("steady-state-ga", "diff_par", -0.5),
    ("steady-state-ga", "mut_par", 1.5),
]


@pytest.fixture(params=OPTIMIZERS)
def name(request):
    """Every registered optimizer whose library is installed."""
    try:
        find("optimizers", request.param)(SPACE, COST)
    except OptimizerError as error:
        if "pip install" in str(error):
            pytest.skip(str(error))
        raise
    return request.param


def test_it_keeps_the_contract_with_its_defaults(name):
    check_optimizer(find("optimizers", name), outputs=OUTPUTS, evaluations=EVALUATIONS.get(name, 120))


@pytest.mark.parametrize(("name", "given"), VARIANTS, ids=str)
def test_it_keeps_the_contract_with_other_options(name, given):
    check_optimizer(partial(find("optimizers", name), **given), spaces=HARD_SPACES, evaluations=40)


@pytest.mark.parametrize(("name", "option", "value"), BAD, ids=str)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(name, option, value):
    with pytest.raises(OptimizerError, match=rf"^{option}\b.*(must be|expected).*$"):
        find("optimizers", name)(SPACE, COST, **{option: value})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_option_has_a_default_and_is_documented(name):
    for option, described in options(find("optimizers", name)).items():
        assert described.default is not ..., option
        assert described.doc.endswith((".", ".)")), option


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_names_its_source(name):
    assert find("optimizers", name).source


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_a_seed_that_is_no_natural_number_is_refused(name, seed):
    with pytest.raises(OptimizerError, match="seed must be a non-negative integer"):
        find("optimizers", name)(SPACE, COST, seed=seed)
