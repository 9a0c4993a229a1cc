"""What an optimizer is told of its experiment, what it says of its own choices, and what helps a user to choose one."""

import pytest

from l2l_dask import Categorical, Experiment, Objectives, Real, Space, maximize, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates
from l2l_dask.optimizer import Optimizer
from l2l_dask.registry import find
from l2l_dask.trajectory import load

SPACE = Space({"x": Real(0, 1)})


class Curious(Optimizer):
    def __init__(self, space, objectives, *, seed=0, evaluations: int | None = None, workers: int | None = None):
        super().__init__(space, objectives, seed=seed)
        self.explanation = f"told {evaluations} and {workers}"

    def _ask(self, n):
        return Candidates(self.space.sample(self.rng, n))

    def _tell(self, evaluations):
        pass


def fitness(params):
    return params["x"]


@pytest.fixture
def search(tmp_path):
    def search(optimizer=Curious, **options):
        fixed = {"space": SPACE, "objectives": minimize("f"), "store": tmp_path / "a.zarr", "cluster": "serial"}
        return Experiment(fitness, optimizer, evaluations=5, **fixed, **options)

    return search


def test_an_optimizer_that_takes_the_budget_and_the_slots_is_told_them_and_its_words_are_recorded(search, tmp_path):
    experiment = search()
    assert experiment.explanation == "told 5 and None"  # the number of slots is known once it runs
    ended = experiment.run()
    assert ended.experiment["optimizer"]["options"] == {"evaluations": 5, "workers": 1}
    assert ended.experiment["explanation"] == "told 5 and 1"


def test_what_the_user_says_goes_before_what_the_experiment_knows(search):
    experiment = search(optimizer_options={"evaluations": 50}, workers=7)
    assert experiment.explanation == "told 50 and 7"


def test_a_resumed_search_is_told_what_it_began_with(search, tmp_path):
    search().run()
    Experiment.resume(tmp_path / "a.zarr", evaluations=8)
    assert len(load(tmp_path / "a.zarr")) == 8
    assert load(tmp_path / "a.zarr").experiment["optimizer"]["options"] == {"evaluations": 5, "workers": 1}


class Settled(Curious):
    def __init__(self, space, objectives, *, seed=0, evaluations: int = 3, workers: int | None = None):
        super().__init__(space, objectives, seed=seed, evaluations=evaluations, workers=workers)


def test_a_default_of_the_optimizers_own_stays(search):
    assert search(Settled, workers=7).explanation == "told 3 and 7"


def test_an_optimizer_that_does_not_ask_is_told_nothing(search):
    ended = search("random").run()
    assert ended.experiment["optimizer"]["options"] == {}
    assert ended.experiment["explanation"] == ""


@pytest.mark.parametrize(
    ("space", "objectives", "able", "unable"),
    [
        (Space({"c": Categorical(["a", "b"])}), [minimize("f")], {"random", "steady-state-ga", "optuna"}, {"cma-es"}),
        (SPACE, [minimize("f"), minimize("g")], {"nsga-2", "mo-cma-es", "random"}, {"genetic", "cma-es"}),
    ],
    ids=["a categorical", "two objectives"],
)
def test_an_algorithm_that_cannot_names_all_that_can(space, objectives, able, unable):
    with pytest.raises(OptimizerError, match=r": choose one of ") as caught:
        find("optimizers", "cma-es")(space, Objectives(objectives))
    named = set(str(caught.value).partition("choose one of ")[2].split(", "))
    assert able <= named
    assert not unable & named
    for name in named:
        assert not find("optimizers", name).unsuitable(space, Objectives(objectives))


def test_the_pareto_front_of_a_search_is_what_none_of_the_others_beats(search, tmp_path):
    def both(params):
        return params["x"], (1 - params["x"]) if params["x"] < 0.5 else 2.0

    both_ways = {"space": SPACE, "objectives": [minimize("f"), minimize("g")], "cluster": "serial"}
    ended = Experiment(both, "qmc", store=tmp_path / "b.zarr", evaluations=16, **both_ways).run()
    assert [i.fitness["f"] for i in ended.front] == sorted(x for x in ended.record["fitness"][:, 0] if x < 0.5)


def test_of_those_that_are_equally_good_by_the_first_objective_the_next_decides_which_is_the_best(search, tmp_path):
    def both(params):
        return 1.0, params["x"]

    both_ways = {"space": SPACE, "objectives": [minimize("f"), maximize("g")], "cluster": "serial"}
    ended = Experiment(both, "qmc", store=tmp_path / "b.zarr", evaluations=16, **both_ways).run()
    assert ended.best.id == ended.front[0].id == ended.record["fitness"][:, 1].argmax()
