"""check_optimizer accepts what keeps the contract, and catches each broken rule by name."""

import random
from typing import ClassVar

import numpy as np
import pytest

from l2l_dask import Candidates, Integer, Optimizer, Real, Space
from l2l_dask.errors import OptimizerError
from l2l_dask.optimizer import ALL_SPACES
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import RULES, default_spaces

SPACES = {name: default_spaces()[name] for name in ("real", "mixed", "conditional")}


class Walker(Optimizer):
    """Keeps every rule: steps away from the best so far."""

    def __init__(self, space, objectives, *, seed=0):
        super().__init__(space, objectives, seed=seed)
        self.best, self.cost = None, np.inf

    def step(self):
        if self.best is None:
            return self.space.sample(self.rng, 1)[0]
        return self.space.clip(self.best + 0.1 * self.rng.standard_normal(self.space.dim))

    def _ask(self, n):
        return self._proposal([self.step() for _ in range(n)], known=[self.best is not None] * n)

    def _tell(self, evaluations):
        for x, cost in zip(evaluations.x, evaluations.cost[:, 0], strict=True):
            if cost < self.cost:
                self.best, self.cost = x, cost


class Generations(Walker):
    """Keeps every rule, with a barrier after every ten."""

    asynchronous = False
    places = 10

    def _ask(self, n):
        n = min(n, self.places)
        self.places -= n
        return super()._ask(n)

    def _adopt(self, ids, x):
        self.places = max(0, self.places - len(ids))

    def _tell(self, evaluations):
        super()._tell(evaluations)
        if not len(self.untold) and not self.places:
            self.places = 10


class OwnSeed(Walker):
    def step(self):
        return np.random.default_rng().random(self.space.dim)


class ChangesGlobalState(Walker):
    def step(self):
        return np.random.rand(self.space.dim)


class ChangesPythonState(Walker):
    def step(self):
        return np.full(self.space.dim, random.random())


class ReadsGlobalState(Walker):
    def step(self):
        return np.full(self.space.dim, np.random.get_state()[1][5] / 2**32)


class DrawsByColumn(Walker):
    def _ask(self, n):
        return Candidates(self.rng.random((self.space.dim, n)).T)


class DrawsAtBarrier(Generations):
    def _ask(self, n):
        self.rng.random()
        return super()._ask(n)


class CountsSuccesses(Generations):
    successes = 0

    def _tell(self, evaluations):
        Walker._tell(self, evaluations)
        self.successes += int(np.isfinite(evaluations.cost).sum())
        if self.successes >= 10:
            self.successes, self.places = 0, 10


class Averages(Walker):
    def _tell(self, evaluations):
        weights = np.exp(-evaluations.cost)
        self.best = (weights * evaluations.x).sum(0) / weights.sum()


class LeavesTheBounds(Walker):
    def step(self):
        return super().step() + 0.2


class WantsItsOwn(Walker):
    def __init__(self, space, objectives, *, seed=0):
        super().__init__(space, objectives, seed=seed)
        self.own = set()

    def _ask(self, n):
        self.own.update(range(self.n_asked, self.n_asked + n))
        return super()._ask(n)

    def _tell(self, evaluations):
        for i in evaluations.ids.tolist():
            self.own.remove(i)


class WaitsForAll(Generations):
    asynchronous = True


class Shares(Walker):
    seen: ClassVar = []

    def step(self):
        return np.full(self.space.dim, 1 / (2 + len(self.seen)))

    def _tell(self, evaluations):
        self.seen.extend(evaluations.ids)


class LooksAtDirection(Walker):
    def _tell(self, evaluations):
        sign = 1 if self.objectives[0].direction == "minimize" else -1
        for x, cost in zip(evaluations.x, sign * evaluations.cost[:, 0], strict=True):
            if cost < self.cost:
                self.best, self.cost = x, cost


class InfoOfText(Walker):
    def _ask(self, n):
        return self._proposal([self.step() for _ in range(n)], why=["because"] * n)


class InfoComesAndGoes(Walker):
    def _ask(self, n):
        return self._proposal([self.step() for _ in range(n)], **({"again": [1] * n} if self.n_asked else {}))


class InfoTooShort(Walker):
    def _ask(self, n):
        return self._proposal([self.step() for _ in range(n)], lonely=[1])


class GivesMore(Walker):
    def _ask(self, n):
        return super()._ask(n + 1)


class GoesOnWhenDone(Walker):
    @property
    def done(self):
        return self.n_asked > 20


class IsDoneForNow(Generations):
    @property
    def done(self):
        return not self.places


class KeepsIds(Walker):
    def __init__(self, space, objectives, *, seed=0):
        super().__init__(space, objectives, seed=seed)
        self.born = {}

    def _ask(self, n):
        self.born.update(dict.fromkeys(range(self.n_asked, self.n_asked + n), 0))
        return super()._ask(n)

    def _adopt(self, ids, x):
        self.born.update(dict.fromkeys(ids.tolist(), 0))


class ChangesArguments(Walker):
    def tell(self, evaluations):
        super().tell(evaluations)
        if evaluations.cost.flags.writeable:
            evaluations.cost[:] = 0


class KeepsArguments(Walker):
    kept = None

    def adopt(self, ids, x):
        super().adopt(ids, x)
        self.kept = x

    def step(self):
        return self.space.clip(self.kept[0]) if self.kept is not None else super().step()


class TakesLastTold(Walker):
    def tell(self, evaluations):
        super().tell(evaluations)
        self.best = np.array(evaluations.x[-1])


class TakesAnySpace(Walker):
    spaces = frozenset({"real"})

    def _check_abilities(self):
        pass


class RefusesWhatItClaims(Walker):
    def __init__(self, space, objectives, *, seed=0):
        super().__init__(space, objectives, seed=seed)
        if space.conditional:
            raise OptimizerError("no")


class RefusesWithValueError(Walker):
    def __init__(self, space, objectives, *, seed=0):
        super().__init__(space, objectives, seed=seed)
        if space.conditional:
            raise ValueError("no")


class RefusesAtLength(Walker):
    spaces = ALL_SPACES - {"conditional"}

    def _check_abilities(self):
        if self.space.conditional:
            raise OptimizerError("no\nreally not")


class TakesAnyNumberOfObjectives(Walker):
    def _check_abilities(self):
        pass


class LooksAtRequest(Generations):
    """ask(7) that gives 3 is replayed as ask(3)."""

    def _ask(self, n):
        self.scale = 1 / n
        return super()._ask(n)

    def step(self):
        return self.space.clip(super().step() * self.scale)


class ForgetsAdopted(Generations):
    """Adopted ones do not fill the generation, so the barrier never lifts after a trusted replay."""

    def __init__(self, space, objectives, *, seed=0):
        super().__init__(space, objectives, seed=seed)
        self.told = 0

    def _adopt(self, ids, x):
        self.places = 0

    def _tell(self, evaluations):
        self.told += len(evaluations) if self.n_asked < 20 else 0
        if self.told >= 10:
            self.told, self.places = 0, 10


class StopsStrangers(Walker):
    def _observe(self, reports):
        return [max(reports, default=0) + 1]


BROKEN = [
    (OwnSeed, "reproducible", "the same seed and the same events lead to the same candidates"),
    (ChangesGlobalState, "reproducible", "the global random state was changed"),
    (ChangesPythonState, "reproducible", "the global random state was changed"),
    (ReadsGlobalState, "reproducible", "the same seed and the same events lead to the same candidates"),
    (DrawsByColumn, "splitting", r"ask\(5\) equals five ask\(1\)"),
    (DrawsAtBarrier, "barrier", "an ask that proposes nothing changes nothing"),
    (CountsSuccesses, "failures", "proposes something once every result is in"),
    (Averages, "failures", "ask must accept every call .* not finite"),
    (LeavesTheBounds, "failures", r"within \[0, 1\] on bounded dimensions"),
    (WantsItsOwn, "adoption", "tell must accept every call .* KeyError"),
    (WantsItsOwn, "trusted replay", "tell must accept every call .* KeyError"),
    (WaitsForAll, "late", "an asynchronous optimizer proposes without waiting"),
    (Shares, "instances", "two instances share no state"),
    (LooksAtDirection, "directions", "the direction of the objective changes nothing"),
    (InfoOfText, "failures", "info is named numeric arrays"),
    (InfoComesAndGoes, "failures", "of the same form in every ask"),
    (InfoTooShort, "failures", "ask must accept every call .* must have [2-5] rows, got 1"),
    (GivesMore, "failures", "ask must accept every call .* asked for at most"),
    (GoesOnWhenDone, "splitting", "an optimizer that is done proposes nothing"),
    (IsDoneForNow, "barrier", "an optimizer that is done stays done"),
    (KeepsIds, "memory", "'born' still holds every id"),
    (ChangesArguments, "arguments", "tell changed cost"),
    (KeepsArguments, "arguments", "arguments are neither changed nor kept"),
    (TakesLastTold, "order", "results that come together count in the order of their ids"),
    (TakesAnySpace, None, "yet it took the space"),
    (RefusesWhatItClaims, None, "yet it refused: no"),
    (RefusesWithValueError, None, "refused with an OptimizerError at once, .* ValueError"),
    (RefusesAtLength, None, "errors are one line"),
    (TakesAnyNumberOfObjectives, "objectives", "more objectives than max_objectives"),
    (LooksAtRequest, "exact replay", "replaying the recorded events through a fresh optimizer proposes the same"),
    (ForgetsAdopted, "trusted replay", "proposes something once every result is in"),
    (StopsStrangers, "observe", "observe returns a list of ids out of those reported"),
]


@pytest.mark.parametrize("optimizer", [Walker, Generations])
def test_an_optimizer_that_keeps_the_contract_passes(optimizer):
    check_optimizer(optimizer, evaluations=40)


@pytest.mark.parametrize(("optimizer", "rule", "message"), BROKEN, ids=[f"{b[0].__name__}-{b[1]}" for b in BROKEN])
def test_each_broken_rule_is_caught_by_the_rule_it_breaks(optimizer, rule, message):
    with pytest.raises(AssertionError, match=message) as caught:
        check_optimizer(optimizer, spaces=SPACES, evaluations=60, skip=set(RULES) - {rule})
    assert str(caught.value).startswith(f"{optimizer.__name__} on the ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("optimizer", sorted({b[0] for b in BROKEN}, key=lambda c: c.__name__))
def test_a_broken_optimizer_does_not_pass_the_whole_contract(optimizer):
    with pytest.raises(AssertionError):
        check_optimizer(optimizer, spaces=SPACES, evaluations=60)


def test_every_rule_is_broken_by_some_optimizer_above():
    assert {rule for _, rule, _ in BROKEN if rule} == set(RULES)


def test_a_space_that_is_refused_as_announced_is_skipped():
    class RealOnly(Walker):
        spaces = frozenset({"real"})

    check_optimizer(RealOnly, spaces=SPACES, evaluations=20)


def test_a_contract_checked_on_no_space_fails():
    class Nothing(Walker):
        spaces = frozenset()

    with pytest.raises(AssertionError, match="searches none of the spaces given"):
        check_optimizer(Nothing, spaces=SPACES)


def test_a_factory_may_set_options_and_a_space_of_ones_own_be_given():
    spaces_seen = []

    def factory(space, objectives, *, seed):
        spaces_seen.append(space)
        return Walker(space, objectives, seed=seed)

    own = Space({"n": Integer(0, 3), "x": Real(0, 1)})
    check_optimizer(factory, spaces={"own": own}, evaluations=20)
    assert set(map(id, spaces_seen)) == {id(own)}


def test_needed_outputs_are_brought_with_every_result():
    class Needs(Walker):
        needs = ("trace",)

        def _tell(self, evaluations):
            for x, cost, trace in zip(evaluations.x, evaluations.cost[:, 0], evaluations.outputs["trace"], strict=True):
                assert (trace is None) == np.isnan(cost)
                assert trace is None or np.array_equal(trace, 2 * x)

    check_optimizer(Needs, spaces=SPACES, evaluations=20, outputs={"trace": lambda x: 2 * x})
    with pytest.raises(AssertionError, match=r"context\.save"):
        check_optimizer(Needs, spaces=SPACES, evaluations=20)


def test_an_unknown_rule_to_skip_is_refused():
    with pytest.raises(ValueError, match="expected some of"):
        check_optimizer(Walker, skip={"memories"})
