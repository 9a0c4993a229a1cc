"""NetLogo itself: runs are reproducible, what goes wrong is said in one line, and Python ends when it is told to.

These tests run a real NetLogo, and are skipped where NETLOGO_HOME does not say where one is.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from l2l_dask import Experiment, Integer, Space
from l2l_dask.errors import EvaluationError
from l2l_dask.evaluation import Candidate
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee
from optimizees import _netlogo_workspace
from optimizees.netlogo import NetLogo

pytestmark = pytest.mark.skipif(
    not os.environ.get("NETLOGO_HOME"),
    reason="runs a real NetLogo: set NETLOGO_HOME to the folder where it is installed",
)

SECTION = "@#$#@#$#@\n"
VIEW = (
    "GRAPHICS-WINDOW\n210\n10\n320\n120\n2\n2\n20.0\n1\n10\n1\n1\n1\n0\n0\n0\n1\n-2\n2\n-2\n2\n0\n0\n1\nticks\n30.0\n"
)
LEVEL = "SLIDER\n1\n2\n3\n4\nLevel of water\nlevel\n0\n10\n2.5\n0.5\n1\nm\nHORIZONTAL\n"
NUMBER = "SLIDER\n1\n2\n3\n4\nNIL\nHow-many\n1\n9\n4\n1\n1\nNIL\nVERTICAL\n"
CODE = """globals [total hidden words numbers]
to setup clear-all set total 0 reset-ticks end
to go set total total + level + random-float 0.001 tick end
to tell [what] set words what end
to crash ask patch 0 0 [ set pcolor 1 / (level - level) ] end
"""


def model_text(code=CODE, interface=(VIEW, LEVEL, NUMBER), version="NetLogo 4.1.3"):
    shape = "default\ntrue\n0\nPolygon -7500403 true true 150 20 60 270 240 270\n\n"
    parts = [code, "\n".join(interface) + "\n", "", shape, version + "\n", "", "", "", "", ""]
    return SECTION.join(parts)


@pytest.fixture
def own(tmp_path):
    """Make an optimizee of a model of the user's own, with four steps of one tick."""

    def build(text=None, **options):
        path = tmp_path / "water.nlogo"
        path.write_text(text or model_text())
        given = {"fitness": {"total": "total"}, "parameters": ["level"], "ticks": 4, "interval": 1, "repeats": 1}
        return NetLogo(str(path), **given | options)

    return build


def evaluated(optimizee, params, id=0):
    context = Context(Candidate(id, params, 1))
    return optimizee.evaluate(params, context), context


def middle(optimizee):
    return optimizee.space.decode(np.full(optimizee.space.dim, 0.5))


@pytest.fixture
def ants():
    return NetLogo(ticks=40, repeats=1)


def test_the_contract_holds(ants):
    check_optimizee(ants, simulator="jpype", samples=2)


def test_ants_bring_food_home_and_the_course_of_it_is_saved_and_reported():
    ants = NetLogo(ticks=150, repeats=2)
    fitness, context = evaluated(ants, middle(ants))
    course = context.saved["food"]
    assert course.shape == (15,)
    assert course[-1] == fitness["food"] > course[0] == 0
    assert (np.diff(course) >= 0).all()
    assert [step for step, _ in context.curve] == [*range(10, 151, 10), 300]
    assert context.curve[-1][1] == fitness["food"]


def test_each_parameter_of_the_ants_changes_what_they_bring_home():
    ants = NetLogo(ticks=150, repeats=1, record={"trail": "sum [trail] of patches", "x": "sum [xcor] of turtles"})
    params = middle(ants)
    before = ants.simulate(params, 1).courses
    for name, parameter in ants.space.items():
        after = ants.simulate(params | {name: parameter.high}, 1).courses
        assert any(not np.array_equal(before[key], after[key]) for key in before), name


def test_runs_with_the_same_seed_are_the_same_and_with_another_are_not(ants):
    ants.record = {"x": "sum [xcor] of turtles"}
    params = middle(ants)
    first, again, other = (ants.simulate(params, seed).courses["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_run_does_not_see_what_another_has_set(own):
    optimizee = own(fitness={"level": "level", "n": "how-many"}, parameters={"level": [0, 10]})
    optimizee.setup()
    file = evaluated(optimizee, {})[0]
    assert file == {"level": 2.5, "n": 4}
    assert evaluated(optimizee, {"level": 9.0, "how-many": 2})[0] == {"level": 9, "n": 2}
    assert evaluated(optimizee, {})[0] == file


@pytest.mark.parametrize("name", ["how-many", "How-Many"])
def test_what_is_set_after_setup_is_in_setup_as_in_the_file_whatever_ran_before(name, own):
    code = CODE.replace("set total 0", "set total how-many set how-many 1").replace("total + level", "total + how-many")
    optimizee = own(model_text(code), fitness={"f": "100 * floor total + how-many"}, ticks=1, after_setup=name)
    found = [evaluated(optimizee, {"how-many": n})[0]["f"] for n in (7, 2, 7)]
    assert found == [1107, 602, 1107]


def test_a_slider_whose_name_a_command_sets_otherwise_is_as_in_the_file_too(own):
    code = CODE.replace("total + level", "total + level set level level + 1")
    optimizee = own(model_text(code), commands={"level": "tell {}"}, ticks=1)
    found = [evaluated(optimizee, {"level": 9.0})[0]["total"] for _ in range(2)]
    assert found == [pytest.approx(2.5, abs=0.01)] * 2


def test_files_that_a_run_left_open_are_closed_before_the_next(own, tmp_path):
    (tmp_path / "numbers.txt").write_text("1 2 3\n")
    code = CODE.replace("set total 0", 'file-open "numbers.txt" set hidden file-read')
    optimizee = own(model_text(code), fitness="hidden")
    assert [evaluated(optimizee, {"level": 1.0})[0]["hidden"] for _ in range(3)] == [1, 1, 1]


def test_the_size_of_the_world_is_that_of_the_file_again_in_the_next_run(own):
    code = CODE.replace("set total 0", "set hidden count patches if level > 5 [ resize-world -3 3 -4 4 ]")
    optimizee = own(model_text(code), fitness={"before": "hidden", "after": "count patches"})
    found = [evaluated(optimizee, {"level": level})[0] for level in (1.0, 6.0, 1.0)]
    assert found == [{"before": 25, "after": after} for after in (25, 63, 25)]


@pytest.mark.parametrize("measure", ["end", "mean"])
def test_the_learning_curve_is_the_first_run_s_course_and_then_the_mean_of_the_runs(measure, own):
    optimizee = own(measure=measure, repeats=3, record={"copy": "total"})
    runs = optimizee.simulate({"level": 2.0}, Context(Candidate(0, {}, 1)).seed)
    fitness, context = evaluated(optimizee, {"level": 2.0})
    course = runs.courses["total"][0]
    first = course if measure == "end" else np.cumsum(course) / np.arange(1, 5)
    means = np.cumsum(runs.fitness[:, 0]) / np.arange(1, 4)
    assert [tick for tick, _ in context.curve] == [1, 2, 3, 4, 8, 12]
    np.testing.assert_allclose([value for _, value in context.curve], [*first, *means[1:]], rtol=1e-12)
    assert context.curve[-1][1] == fitness["total"]


def test_a_parameter_that_is_not_given_may_be_one_that_is_set_after_setup(own):
    optimizee = own(parameters=["level", "how-many"], after_setup=["how-many"], fitness="how-many")
    assert evaluated(optimizee, {"level": 1.0})[0] == {"how-many": 4}


def test_the_fitness_is_the_reporter_s_at_the_end_or_its_mean_over_the_run(own):
    end, mean = own(), own(measure="mean")
    assert evaluated(end, {"level": 2.0})[0]["total"] == pytest.approx(8, abs=0.01)
    assert evaluated(mean, {"level": 2.0})[0]["total"] == pytest.approx((2 + 4 + 6 + 8) / 4, abs=0.01)


def test_a_run_ends_as_soon_as_the_stop_condition_holds_and_stays_as_it_was(own):
    optimizee = own(stop="ticks >= 3", ticks=10, interval=2, record={"ticks": "ticks"})
    _, context = evaluated(optimizee, {"level": 1.0})
    assert context.saved["ticks"].tolist() == [2, 3, 3, 3, 3]


def test_the_last_look_is_at_the_end_of_the_run(own):
    for stop in ("", "false"):
        optimizee = own(ticks=5, interval=2, stop=stop, record={"ticks": "ticks"})
        assert evaluated(optimizee, {"level": 1.0})[1].saved["ticks"].tolist() == [2, 4, 5]


@pytest.mark.parametrize("value", [0.1 + 0.2, -2.5e-7, 123456789012.25, 7])
def test_a_number_arrives_exactly(value, own):
    assert evaluated(own(fitness="level"), {"level": value})[0] == {"level": value}


def test_lists_are_recorded_and_given_as_lists(own):
    optimizee = own(
        parameters={"numbers": {"low": 0, "high": 9, "shape": [3]}, "words": {"choices": ["a\\b", 'c "d"']}},
        fitness="length words",
        record={"numbers": "numbers"},
        commands={"words": "tell {}"},
        after_setup=["numbers", "words"],
    )
    params = {"numbers": np.array([1.5, 2.0, 3.0]), "words": 'c "d"'}
    fitness, context = evaluated(optimizee, params)
    assert fitness == {"length words": 5}
    np.testing.assert_array_equal(context.saved["numbers"], np.tile([1.5, 2.0, 3.0], (4, 1)))


def test_a_reporter_that_fails_in_the_midst_of_a_run_leaves_a_gap(own):
    optimizee = own(record={"late": "ifelse-value (ticks > 2) [ticks] [1 / (ticks - ticks)]"})
    saved = evaluated(optimizee, {"level": 1.0})[1].saved["late"]
    np.testing.assert_array_equal(saved, [np.nan, np.nan, 3, 4])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (model_text(CODE + "to broken foo end\n"), {}, r"water.nlogo cannot be opened \(line 6 of its code\): .*FOO"),
        ("hello", {"parameters": {"level": [0, 1]}}, "water.nlogo cannot be opened"),
        (model_text(version="NetLogo 99.9"), {}, "water.nlogo cannot be opened: unknown NetLogo version: NetLogo 99.9"),
        (None, {"setup": "prepare"}, r"'prepare' failed in water.nlogo \(option setup\): Nothing named PREPARE"),
        (None, {"go": "run-on"}, r"'repeat 1 \[ run-on \]' failed in water.nlogo \(option go\): Nothing named RUN-ON"),
        (None, {"go": "crash"}, r"failed in water.nlogo \(option go\): (?i:division by zero)"),
        (None, {"fitness": {"f": "nobody-knows"}}, "water.nlogo cannot report 'nobody-knows': Nothing named NOBODY-"),
        (None, {"fitness": {"f": '"much"'}}, "f: expected a number from the reporter '\"much\"', got 'much'"),
        (None, {"fitness": {"f": "level > 0"}}, "f: expected a number from the reporter 'level > 0', got True"),
        (None, {"fitness": {"f": "[1 2]"}}, r"f: expected a number from the reporter '\[1 2\]', got \[1.0, 2.0\]"),
        (
            None,
            {"fitness": {"f": "1 / (ticks - 4)"}},
            r"f: '1 / \(ticks - 4\)' failed at the end of the run: (?i:division)",
        ),
        (None, {"record": {"r": "n-values ticks [1]"}}, "record: 'r' must give numbers, or lists of always the same"),
        (None, {"parameters": {"depth": [0, 1]}}, "'depth' cannot be set by 'set depth .*' in water.nlogo: Nothing"),
        (
            None,
            {"parameters": {"hidden": [1, 2]}},
            "overwrites the global 'hidden', which was 1.5 and is 0.0 after it: list .* or make it a slider",
        ),
        (
            model_text(CODE.replace("set total 0", "set level 1")),
            {"parameters": ["Level"]},
            "'setup' in water.nlogo overwrites the slider 'Level', which was 5.0 and is 1.0 after it: list it in",
        ),
        (
            None,
            {"parameters": {"hidden": {"choices": [False]}}},
            "overwrites the global 'hidden', which was False and is 0.0",
        ),
        (None, {"after_setup": ["levl"]}, "after_setup: expected some of what is searched, level, got 'levl'"),
        (
            None,
            {"commands": {"levl": "set level {}"}},
            "commands: expected some of what is searched, level, got 'levl'",
        ),
        (None, {"parameters": {"level": {"choices": ["a"]}}}, "'level' cannot be set by 'set level \"a\"'"),
    ],
)
def test_what_fails_in_netlogo_is_said_in_one_line_and_the_next_evaluation_works(text, options, message, own):
    optimizee = own(text, **options)
    with pytest.raises(EvaluationError, match=message) as failed:
        evaluated(optimizee, middle(optimizee))
    assert "\n" not in str(failed.value)
    assert evaluated(own(), {"level": 2.0})[0]["total"] == pytest.approx(8, abs=0.01)


def test_another_thread_gets_the_same(ants):
    params, got = middle(ants), []
    thread = threading.Thread(target=lambda: got.append(ants.simulate(params, 1).fitness))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(got[0], ants.simulate(params, 1).fitness)


def test_a_copy_evaluates_the_same_although_the_file_is_gone(own, tmp_path):
    optimizee = own()
    copy = pickle.loads(pickle.dumps(optimizee))
    before = evaluated(optimizee, {"level": 2.0})[0]
    (tmp_path / "water.nlogo").unlink()
    _netlogo_workspace._MACHINE.drop(copy.model)
    assert evaluated(copy, {"level": 2.0})[0] == before


def test_held_out_seeds_are_none_that_a_search_uses(own):
    optimizee = own(repeats=20)
    asked = []
    runs = optimizee._runs
    optimizee._runs = lambda params, seeds, *rest: asked.append(list(seeds)) or runs(params, seeds, *rest)
    found, again, other = (optimizee.held_out({"level": 2.0}, seed) for seed in (1, 1, 2))
    assert found == again != other
    assert found["total"] == pytest.approx(8, abs=0.01)
    assert 0 < found["total_sd"] < 0.01
    searched_seeds = {seed for individual in range(1000) for seed in optimizee._seeds(individual)}
    assert len(set(asked[0])) == 10
    assert searched_seeds.isdisjoint(asked[0])
    fixed = own(seeds=asked[0][:3])
    fixed._runs = lambda params, seeds, *rest: asked.append(list(seeds)) or runs(params, seeds, *rest)
    fixed.held_out({"level": 2.0})
    assert set(asked[-1]).isdisjoint(asked[0][:3])


def test_the_space_of_the_experiment_takes_the_place_of_the_sliders(own, tmp_path):
    ended = Experiment(
        own(),
        "random",
        space=Space({"How-many": Integer(1, 3)}),
        store=tmp_path / "a.zarr",
        evaluations=2,
        cluster="serial",
    ).run()
    assert ended.counts()["done"] == 2
    assert list(ended.best.params) == ["How-many"]


ENDING = """
import sys
from optimizees.netlogo import NetLogo
ants = NetLogo(ticks=int(sys.argv[1]), repeats=1)
ants.setup()
params = ants.space.decode([0.5] * ants.space.dim)
print("ready", flush=True)
print(ants.simulate(params, 1).fitness, flush=True)
"""


def test_python_ends_after_it_has_run_netlogo():
    done = subprocess.run([sys.executable, "-c", ENDING, "5"], timeout=60, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["ready", "[[0.]]"]
    assert not done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_long_run_at_once(number):
    process = subprocess.Popen(
        [sys.executable, "-c", ENDING, "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -number
    assert (b"KeyboardInterrupt" in errors) == (number == signal.SIGINT)


def test_a_java_option_that_does_not_exist_is_named():
    code = ENDING.replace("repeats=1", "repeats=1, jvm_options=['-Xnonsense']")
    done = subprocess.run([sys.executable, "-c", code, "5"], timeout=60, capture_output=True, text=True, check=False)
    assert r"EvaluationError: Java does not start with ['-Xnonsense']" in done.stderr.splitlines()[-1]


def _best(optimizer, seed, store):
    options = {"evaluations": 150, "seed": seed, "workers": 2, "timeout": 60}
    return Experiment(NetLogo(), optimizer, store=store, **options).run().best


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_search_finds_better_ants_than_random_search_with_the_same_budget(tmp_path):
    ours, chance = [], []
    for seed in (1, 2, 3):
        ours.append(_best("surrogate-cma-es", seed, tmp_path / f"ours-{seed}.zarr"))
        chance.append(_best("random", seed, tmp_path / f"random-{seed}.zarr"))
    found, luck = (np.median([best.fitness["food"] for best in all_of]) for all_of in (ours, chance))
    unseen, unseen_luck = (
        np.median([NetLogo().held_out(b.params)["food"] for b in all_of]) for all_of in (ours, chance)
    )
    print(f"search {found:g}, held out {unseen:g}; random {luck:g}, held out {unseen_luck:g}")
    assert found > 1.05 * luck
    assert unseen > 1.05 * unseen_luck
    assert unseen > 0.8 * found
