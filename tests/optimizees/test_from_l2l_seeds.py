"""What is random in an optimizee of the original L2L comes from the individual's seed, and each stream is its own."""

import random

import numpy as np

from l2l_dask import maximize
from l2l_dask.evaluation import Candidate, Objectives
from l2l_dask.optimizee import Context
from l2l_dask.shipping import pack, unpack
from optimizees import from_l2l


class Original:
    """One number from 0 to 1."""

    def create_individual(self):
        return {"x": random.random()}

    def simulate(self, traj):
        return 0.0


def evaluated(problem, seed=1):
    context = Context(Candidate(0, {"x": 0.5}, seed))
    return Objectives(problem.objectives).parse(problem.evaluate(context.candidate.params, context)), context


class Holding(Original):
    """Generators of all kinds, in all places; one of them twice."""

    def __init__(self):
        self.random_state = np.random.RandomState(1)
        self.random_state.normal()  # it has a second number ready, which no seed may leave there
        self.python = random.Random(1)
        self.nested = {"streams": [np.random.default_rng(1), np.random.default_rng(1)], "again": self.random_state}

        class Part:
            rng = None

        self.part = Part()
        self.part.rng = np.random.Generator(np.random.Philox(1))

    def simulate(self, traj):
        assert self.nested["again"] is self.random_state
        streams = [rng.normal() for rng in (self.random_state, *self.nested["streams"], self.part.rng)]
        return (*streams, self.random_state.normal(), self.python.gauss(0, 1), np.random.normal(), random.gauss(0, 1))


def test_with_reseed_every_generator_wherever_it_is_held_has_a_stream_of_its_own():
    original = Holding()
    reseeded = from_l2l(original, reseed=True, objectives=[maximize(f"f{i}") for i in range(8)])
    first, again, other = (evaluated(reseeded, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert len({*first, *other}) == 16
    assert evaluated(unpack(pack(reseeded)))[0] == first


def test_a_batch_is_given_a_seed_for_each_set_so_that_noise_need_not_depend_on_the_neighbours():
    class Seeded(Original):
        def simulate(self, traj):
            assert len(traj.seeds) == traj.inner_params == 3
            return [np.random.default_rng(seed).random() for seed in traj.seeds]

    problem = from_l2l(Seeded(), n_inner_params=3)
    contexts = [Context(Candidate(i, {"x": 0.5}, 1)) for i in range(3)]
    params = [c.candidate.params for c in contexts]
    together = problem.evaluate_batch(params, contexts)
    assert together == [(np.random.default_rng(context.seed).random(),) for context in contexts]
    assert problem.evaluate_batch(params[::-1], contexts[::-1]) == together[::-1]
    assert problem.evaluate_batch(params[1:], contexts[1:]) == together[1:]
    assert [problem.evaluate(p, c) for p, c in zip(params, contexts, strict=True)] == together


def test_one_alone_is_given_its_seed_too_unless_the_trajectory_says_otherwise():
    class Seeded(Original):
        def simulate(self, traj):
            return traj.seeds[0]

    _, context = evaluated(from_l2l(Original()))
    assert evaluated(from_l2l(Seeded()))[0] == (context.seed,)
    assert evaluated(from_l2l(Seeded(), trajectory={"seeds": [5]}))[0] == (5.0,)
