"""SNPE: the posterior of a linear Gaussian model by its closed form; rounds, failures and what it leaves alone."""

import importlib.util
from functools import partial

import numpy as np
import pytest

from l2l_dask import Evaluations, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.snpe import SNPE

COST = Objectives(minimize("distance"))
PLANE = Space({"theta": Real(shape=(2,))})
SMALL = {"n_initial": 20, "n_per_round": 20, "hidden_features": 4, "num_transforms": 1, "max_num_epochs": 1}


def tell(optimizer, candidates, observations):
    """Tell results; an observation of None is a failure."""
    cost = np.array([[np.nan if g is None else 1.0] for g in observations])
    optimizer.tell(Evaluations(candidates.ids, candidates.x, cost, {"observation": observations}))


@pytest.mark.skipif(importlib.util.find_spec("sbi") is not None, reason="sbi is installed")
def test_without_sbi_it_says_what_to_install():
    with pytest.raises(OptimizerError, match=r"^snpe needs sbi: pip install 'l2l-dask\[sbi\]'$"):
        SNPE(PLANE, COST)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n_initial", 19),
        ("n_per_round", 0),
        ("density_estimator", "mdn"),
        ("hidden_features", 0),
        ("num_transforms", 0),
        ("max_num_epochs", 0),
        ("n_iteration", 0),
        ("stop_criterion", "low"),
        ("target", "nowhere.npy"),
    ],
)
def test_a_bad_option_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option}\b.*must be.*$"):
        SNPE(PLANE, COST, **{option: value})


@pytest.mark.parametrize("in_flight", [1, 50])
def test_the_posterior_of_a_linear_gaussian_model_is_that_of_its_closed_form(in_flight):
    # theta ~ N(0, I), g = A theta + noise of variance 0.25: the posterior is N(m, P), P = (I + A'A/0.25)^-1 = I/6 and
    # m = P A' y / 0.25 = (1.2, 0.1). A flow trained with 800 simulations is off by a part of P's standard deviations,
    # 0.41; the prior's mean is 2.9 of them away, and 2.4 times as wide.
    pytest.importorskip("sbi")
    a, y = np.array([[1.0, 0.5], [-0.5, 1.0]]), np.array([1.5, -0.6])
    given = {"n_initial": 500, "n_per_round": 300, "hidden_features": 16, "num_transforms": 2, "max_num_epochs": 100}
    optimizer = SNPE(PLANE, COST, seed=1, target=y.tolist(), **given)
    rng, flying = np.random.default_rng(0), []
    while optimizer.round < 2:
        flying += [optimizer.ask(1) for _ in range(in_flight - len(flying))]
        c = flying.pop(rng.integers(len(flying)))
        tell(optimizer, c, [a @ c.x[0] + 0.5 * rng.standard_normal(2) if rng.random() < 0.95 else None])
    sample = optimizer.ask(1000).x
    covariance = np.linalg.inv(np.eye(2) + a.T @ a / 0.25)
    mean, sd = covariance @ a.T @ y / 0.25, np.sqrt(np.diag(covariance))
    assert (np.abs(sample.mean(axis=0) - mean) < 0.5 * sd).all()
    assert (np.abs(sample.std(axis=0) / sd - 1) < 0.5).all()


def test_the_first_round_is_from_the_prior_and_later_ones_wait_only_if_asked_to():
    pytest.importorskip("sbi")
    for synchronous in (False, True):
        optimizer = SNPE(PLANE, COST, target=[0.0, 0.0], synchronous=synchronous, **SMALL)
        first = optimizer.ask(25)
        assert len(first) == (20 if synchronous else 25)
        assert len(optimizer.ask(5)) == (0 if synchronous else 5)
        tell(optimizer, first, list(first.x))
        second = optimizer.ask(30)
        assert second.info["generation"].tolist() == [1] * (20 if synchronous else 30)


def test_training_leaves_the_random_state_the_threads_and_the_folder_alone(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sbi")
    import torch

    monkeypatch.chdir(tmp_path)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    optimizer = SNPE(PLANE, COST, target=[0.0, 0.0], **SMALL)
    for _ in range(3):
        asked = optimizer.ask(20)
        tell(optimizer, asked, list(asked.x))
    assert optimizer.round == 2
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("given", [{}, {"synchronous": True, "density_estimator": "nsf", "n_iteration": 2}], ids=str)
def test_it_keeps_the_contract(given):
    pytest.importorskip("sbi")
    outputs = {"observation": lambda x: np.array([x.sum(), x[0]]), "target": lambda x: np.array([0.9, 0.3])}
    spaces = {"integer": default_spaces()["integer"], "unbounded": Space({"w": Real(loc=1.0, scale=5.0)})}
    check_optimizer(partial(SNPE, **SMALL | given), spaces=spaces, evaluations=45, outputs=outputs)
