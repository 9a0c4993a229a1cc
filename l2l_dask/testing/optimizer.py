"""The contract of an optimizer, as a test.

In a plug-in's own tests::

    from l2l_dask.testing import check_optimizer

    def test_contract():
        check_optimizer(MyOptimizer)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from l2l_dask.curves import observes
from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Evaluations, Objectives, maximize, minimize
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Categorical, Floats, Integer, Real, Space
from l2l_dask.testing._session import (
    Factory,
    Outputs,
    Session,
    Setting,
    all_fail,
    every_third_fails,
    none_fail,
)

_BARRIER_WITHIN = 500  # individuals: an optimizer that proposes more than that without a result has no barrier


def default_spaces() -> dict[str, Space]:
    """Return the spaces that the contract is checked on, by name."""
    return {
        "real": Space({"a": Real(-5.0, 5.0), "b": Real(0.0, 100.0)}),
        "one-dimensional": Space({"a": Real(0.0, 1.0)}),
        "logarithmic": Space({"a": Real(1e-3, 1e3, log=True), "n": Integer(1, 1000, log=True)}),
        "integer": Space({"n": Integer(-3, 12), "m": Integer(0, 1), "k": Integer(0, 30)}),
        "categorical": Space({"c": Categorical(list("abcdef")), "d": Categorical([True, False, None, 1, 2, 3])}),
        "two-point": Space({"c": Categorical(["only", "these"])}),
        "mixed": Space({"a": Real(0.0, 1.0), "n": Integer(1, 9), "c": Categorical(["x", "y", "z"])}),
        "conditional": Space(
            {
                "rate": Real(0.1, 10.0, when={"model": ["lif", "adex"]}),
                "model": Categorical(["lif", "adex", "poisson"]),
                "n": Integer(1, 4, when={"model": "adex"}),
                "w": Real(-1.0, 1.0, shape=(2,), when={"n": [3, 4]}),
            }
        ),
        "unbounded": Space({"w": Real(loc=1.0, scale=5.0), "a": Real(0.0, 1.0), "c": Categorical(["x", "y"])}),
        "shaped": Space({"w": Real(-1.0, 1.0, shape=(2, 2)), "c": Categorical(["x", "y"], shape=(3,))}),
    }


def check_optimizer(
    factory: Factory,
    *,
    spaces: Mapping[str, Space] | None = None,
    evaluations: int = 120,
    outputs: Outputs | None = None,
    skip: Collection[str] = (),
) -> None:
    """Check an optimizer against the contract of :class:`l2l_dask.optimizer.Optimizer`.

    Parameters
    ----------
    factory
        The class, or a function ``factory(space, objectives, *, seed)`` that sets its options.
    spaces
        Name -> space; real, integer, categorical, mixed, conditional, unbounded and array-valued ones if None. Those
        that the optimizer says it cannot search must be refused at once.
    evaluations
        Individuals per rule and space: enough to go past the optimizer's first phase (an initial design, a generation).
    outputs
        For each name in ``needs``, a function that makes the optimizee's array from the encoded vector.
    skip
        Names of rules that are not to be checked; see :data:`RULES`.

    Raises
    ------
    AssertionError
        Naming the optimizer, the space, the rule that was broken and what came instead.
    """
    unknown = set(skip) - set(RULES)
    if unknown:
        raise ValueError(f"skip names {sorted(unknown)}, expected some of {sorted(RULES)}")
    searched = 0
    for label, space in (default_spaces() if spaces is None else spaces).items():
        setting = Setting(factory, label, space, Objectives(minimize("loss")), evaluations, outputs or {})
        if not _is_searched(setting):
            continue
        searched += 1
        for name, rule in RULES.items():
            if name not in skip:
                rule(setting)
    if not searched:
        raise AssertionError(f"{getattr(factory, '__name__', factory)!r} searches none of the spaces given")


def _is_searched(setting: Setting) -> bool:
    """Whether the optimizer takes the space; it must refuse what its class attributes exclude, and only that."""
    rule = "what `spaces` excludes is refused with an OptimizerError at once, and nothing else is"
    try:
        optimizer = setting.new()
    except OptimizerError as error:
        if "\n" in str(error) or not str(error):
            setting.fail("errors are one line that says what was expected", repr(str(error)))
        claimed = getattr(setting.factory, "spaces", None)
        if claimed is not None and _wanted(setting.space) <= claimed:
            setting.fail(rule, f"the class says that it searches {sorted(claimed)}, yet it refused: {error}")
        return False
    except Exception as error:
        raise AssertionError(f"{setting.name} on the {setting.label} space: {rule}: it raised {error!r}") from error
    if not isinstance(optimizer, Optimizer):
        setting.fail("an optimizer is an l2l_dask.Optimizer", f"got {type(optimizer).__name__}")
    if not _wanted(setting.space) <= optimizer.spaces:
        setting.fail(rule, f"the class searches only {sorted(optimizer.spaces)}, yet it took the space")
    return True


def _wanted(space: Space) -> set[str]:
    extra = {"conditional"} if space.conditional else set()
    return set(space.kinds) | extra | (set() if space.bounded.all() else {"unbounded"})


def _rule_objectives(setting: Setting) -> None:
    """Take as many objectives as `max_objectives` says, refuse more."""
    most = setting.new().max_objectives
    n = 3 if most is None else most + 1
    several = Objectives([minimize(f"loss{i}") for i in range(n)])
    if most is None:
        setting.session(objectives=several).drive(setting.evaluations // 2)
        return
    try:
        setting.factory(setting.space, several, seed=setting.seed)
    except OptimizerError:
        return
    setting.fail("more objectives than max_objectives are refused with an OptimizerError", f"it took {n}")


def _rule_directions(setting: Setting) -> None:
    rule = "an optimizer sees costs, always minimised: the direction of the objective changes nothing"
    reference = setting.session().drive(setting.evaluations)
    reference.same(setting.session(objectives=Objectives(maximize("gain"))).drive(setting.evaluations), rule)


def _rule_reproducible(setting: Setting) -> None:
    """Propose the same for the same seed and events, and leave the global random generators alone."""
    state, python_state = np.random.get_state(), random.getstate()
    try:
        np.random.seed(1)
        random.seed(1)
        before, python_before = repr(np.random.get_state()), random.getstate()
        reference = setting.session().drive(setting.evaluations)
        if repr(np.random.get_state()) != before or random.getstate() != python_before:
            setting.fail("randomness comes from self.rng alone", "the global random state was changed")
        np.random.seed(2)
        random.seed(2)
        again = setting.session().drive(setting.evaluations)
    finally:
        np.random.set_state(state)
        random.setstate(python_state)
    reference.same(again, "the same seed and the same events lead to the same candidates")


def _rule_instances(setting: Setting) -> None:
    rule = "two instances share no state"
    steps = [setting.evaluations // 4] * 4
    alone = setting.session()
    for i, n in enumerate(steps):
        alone.drive(n, schedule=i)
    first, second = setting.session(), setting.session(seed=setting.seed + 1)
    for i, n in enumerate(steps):
        second.drive(n, schedule=10 + i, fails=every_third_fails)
        first.drive(n, schedule=i)
    alone.same(first, rule)


def _rule_splitting(setting: Setting) -> None:
    rule = "ask(5) equals five ask(1)"
    for n in (0, setting.evaluations // 3, setting.evaluations):
        for finish in (True, False):
            at_once, split = (setting.session().drive(n, finish=finish) for _ in range(2))
            at_once.ask(5)
            for _ in range(5):
                split.ask(1)
            at_once.same(split, rule)


def _rule_barrier(setting: Setting) -> None:
    rule = "an ask that proposes nothing changes nothing"
    plain, asked_more = setting.session(), setting.session()
    for _ in range(2):
        for session in (plain, asked_more):
            n = session.n
            while len(session.ask(7)):
                if session.n - n > _BARRIER_WITHIN:
                    return
        for n in (1, 5, 2):
            if len(asked_more.ask(n)):
                setting.fail(rule, f"ask(7) proposed nothing, then ask({n}) proposed something without a result")
        for session in (plain, asked_more):
            session.tell_all(every_third_fails)
            if not session.done:
                session.ask_or_stall(3)
        plain.same(asked_more, rule)


def _rule_failures(setting: Setting) -> None:
    """Failures neither stall nor poison: Session checks what comes after them."""
    n = setting.evaluations
    setting.session().drive(n, fails=all_fail)
    setting.session().drive(n, fails=lambda id: id < n // 2)
    setting.session().drive(n, fails=every_third_fails)
    survivor = setting.session().drive(n, fails=lambda id: id != n // 4)
    survivor.drive(n // 2)


def _rule_order(setting: Setting) -> None:
    rule = "results that come together count in the order of their ids"
    ascending, descending = setting.session(), setting.session()
    for n in (setting.evaluations // 2, setting.evaluations // 4, 5):
        for session, step in ((ascending, 1), (descending, -1)):
            while len(session.waiting) < n and not session.done:
                if not session.ask_or_stall(n - len(session.waiting)):
                    break
            session.tell(session.results(sorted(session.waiting)[::step], every_third_fails))
    ascending.same(descending, rule)


def _rule_late(setting: Setting) -> None:
    """Go on while some results come very late, one by one, unless there is a barrier."""
    session = setting.session()
    session.ask(6)
    held = set(session.waiting)
    while session.n < setting.evaluations and not session.done:
        prompt = [i for i in session.waiting if i not in held]
        if not session.ask_or_stall(4) and not prompt:
            if session.optimizer.asynchronous and not session.done:
                setting.fail("an asynchronous optimizer proposes without waiting", f"it waits for {sorted(held)}")
            prompt = [min(held)]
            held.remove(min(held))
        if prompt:
            session.tell(session.results(prompt))
    for i in sorted(session.waiting, reverse=True):
        session.tell(session.results([i]))
    if not session.done:
        session.ask_or_stall(3)


def _guesses(setting: Setting, n: int, seed: int = 7) -> Floats:
    return setting.space.snap(setting.space.sample(np.random.default_rng(seed), n))


def _with_adoptions(setting: Setting) -> Session:
    """Adopt before anything, in between and while results are awaited; some fail, the first are told last."""
    n = setting.evaluations
    session = setting.session()
    session.adopt(_guesses(setting, 3))
    session.drive(n // 3, schedule=1, fails=every_third_fails, finish=False)
    session.adopt(_guesses(setting, 1, 8))
    session.drive(n // 3, schedule=2, fails=every_third_fails)
    session.ask(2)
    session.adopt(_guesses(setting, 2, 9))
    return session


def _rule_adoption(setting: Setting) -> None:
    late = setting.session()
    late.adopt(_guesses(setting, 3))
    own = 0
    while own < setting.evaluations // 2 and not late.done:
        k = len(late.ask(3))
        own += k
        prompt = [i for i in late.waiting if i > 2]
        if not k and not prompt:
            break
        if prompt:
            late.tell(late.results(prompt))
    late.tell_all()
    late.drive(setting.evaluations // 2)
    _with_adoptions(setting).drive(setting.evaluations // 3, schedule=3)
    swamped = setting.session()
    swamped.adopt(_guesses(setting, setting.evaluations))
    swamped.drive(setting.evaluations // 4, fails=every_third_fails)


def _rule_exact_replay(setting: Setting) -> None:
    rule = "replaying the recorded events through a fresh optimizer proposes the same, and goes on the same"
    recorded = _with_adoptions(setting)
    replayed = setting.session().replay(recorded.events)
    recorded.same(replayed, rule)
    for session in (recorded, replayed):
        session.drive(setting.evaluations // 3, schedule=3)
    recorded.same(replayed, rule)


def _rule_trusted_replay(setting: Setting) -> None:
    rule = "a replay that adopts what was asked and tells the results goes on, always in the same way"
    events = _with_adoptions(setting).events
    first, second = (setting.session().replay(events, trusted=True) for _ in range(2))
    for session in (first, second):
        session.drive(setting.evaluations // 3, schedule=4)
    first.same(second, rule)


def _rule_arguments(setting: Setting) -> None:
    """Take read-only arrays; neither change nor keep the caller's."""
    rule = "arguments are neither changed nor kept"
    frozen, scribbled = setting.session(), setting.session()
    guesses = _guesses(setting, 2)
    frozen.adopt(_readonly(guesses.copy()))
    scribbled.adopt(guesses)
    guesses[:] = 0.987
    for i in range(max(4, setting.evaluations // 8)):
        for session in (frozen, scribbled):
            if not session.done:
                session.ask_or_stall(8)
            told = session.results(sorted(session.waiting), (none_fail, every_third_fails, all_fail)[i % 3])
            if not len(told):
                continue
            if session is frozen:
                ids, x, cost = map(_readonly, (told.ids, told.x, told.cost))
                session.tell(Evaluations(ids, x, cost, told.outputs))
                continue
            copies = [array.copy() for array in (told.ids, told.x, told.cost)]
            session.tell(told)
            for name, array, copy in zip(("ids", "x", "cost"), (told.ids, told.x, told.cost), copies, strict=True):
                if not np.array_equal(array, copy, equal_nan=True):
                    setting.fail(rule, f"tell changed {name}")
            told.x[:], told.cost[:] = 0.987, -1e9
    frozen.same(scribbled, rule)


def _readonly(array: Any) -> Any:
    array.flags.writeable = False
    return array


def _rule_observe(setting: Setting) -> None:
    """Stop the same individuals on the same reports, also when they are shown again by a replay, and forget them."""
    if not observes(setting.new()):
        return
    rule = "observe stops the same individuals for the same events"
    n = setting.evaluations
    first, second = (setting.session().drive_with_curves(n // 2) for _ in range(2))
    first.same_stops(second, rule)
    first.same(second, rule)
    rule = "replaying recorded events, observations among them, stops and proposes the same, and goes on the same"
    replayed = setting.session().replay(first.events)
    trusting = setting.session().replay(first.events, trusted=True)
    for session in (first, replayed, trusting):
        session.adopt(_guesses(setting, 2))
        session.drive_with_curves(n // 2, schedule=1)
    first.same_stops(replayed, rule)
    first.same(replayed, rule)
    _check_forgotten(setting, first, "every id, though all of them were told")


def _check_forgotten(setting: Setting, session: Session, what: str) -> None:
    rule = "what is kept of an individual in flight is given back when it is told"
    if len(session.optimizer.untold):
        setting.fail(rule, f"all were told, yet untold is {session.optimizer.untold.tolist()}")
    if session.n < 20:
        return
    for name, value in vars(session.optimizer).items():
        if isinstance(value, Mapping) and set(range(session.n)) <= set(value):
            setting.fail(rule, f"the attribute {name!r} still holds {what}")


def _rule_memory(setting: Setting) -> None:
    session = setting.session().drive(setting.evaluations, fails=all_fail)
    _check_forgotten(setting, session, "every id, though all of them failed")


RULES: dict[str, Callable[[Setting], None]] = {
    "objectives": _rule_objectives,
    "directions": _rule_directions,
    "reproducible": _rule_reproducible,
    "instances": _rule_instances,
    "splitting": _rule_splitting,
    "barrier": _rule_barrier,
    "failures": _rule_failures,
    "order": _rule_order,
    "late": _rule_late,
    "adoption": _rule_adoption,
    "exact replay": _rule_exact_replay,
    "trusted replay": _rule_trusted_replay,
    "arguments": _rule_arguments,
    "observe": _rule_observe,
    "memory": _rule_memory,
}
