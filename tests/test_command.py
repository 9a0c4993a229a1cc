"""CommandOptimizee: any command line as an optimizee."""

import json
import os
import signal
import subprocess
import sys
import time

import cloudpickle
import numpy as np
import pytest

from l2l_dask import Categorical, Integer, Real, Space, maximize, minimize
from l2l_dask.command import CommandOptimizee
from l2l_dask.errors import ConfigError, EvaluationError
from l2l_dask.evaluation import Candidate
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee

SPACE = Space({"tau_m": Real(5, 50), "n": Integer(1, 8)})
PARAMS = {"tau_m": 12.5, "n": 3}


LOSS = minimize("loss")


def literal(text):
    return text.replace("{", "{{").replace("}", "}}")


def python(code, *words):
    return [sys.executable, "-c", literal(code), *words]


def run(optimizee, params=PARAMS, id=7, scratch=None):
    return optimizee.evaluate(params, Context(Candidate(id, params, 1), scratch))


def printing(text, objectives=LOSS):
    return CommandOptimizee(["printf", "%s", literal(text)], SPACE, objectives)


def failure(optimizee, **kwargs):
    with pytest.raises(EvaluationError) as caught:
        run(optimizee, **kwargs)
    return str(caught.value)


def words(command, params, space):
    return CommandOptimizee(command, space, minimize("f")).words(params, Context(Candidate(7, params, 1)))


def test_parameters_are_filled_into_the_words_of_a_string():
    context = Context(Candidate(7, PARAMS, 1))
    optimizee = CommandOptimizee("sim --tau={tau_m} 'a b' {n} {id} {seed}", SPACE, minimize("f"))
    assert optimizee.words(PARAMS, context) == ["sim", "--tau=12.5", "a b", "3", "7", str(context.seed)]


def test_a_value_never_splits_a_word_and_meets_no_shell():
    space = Space({"name": Categorical(["a b", "$HOME; ls", "{n}"])})
    for name in space["name"].choices:
        assert words("echo {name}", {"name": name}, space) == ["echo", name]


def test_values_are_written_so_that_they_read_back_exactly():
    space = Space({"x": Real(0, 1), "w": Real(0, 1, shape=(2, 2)), "on": Categorical([True, None])})
    params = {"x": 0.1 + 0.2, "w": np.array([[1 / 3, 0.5], [0.25, 1e-17]]), "on": True}
    x, w, on = words(["{x}", "{w}", "{on}"], params, space)
    assert float(x) == params["x"]
    assert json.loads(w) == params["w"].tolist()
    assert json.loads(on) is True


def test_doubled_braces_stand_for_themselves():
    assert words("awk {{print}} {{{n}}}", PARAMS, SPACE) == ["awk", "{print}", "{3}"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"kind": "tree", "depth": 4}, ["fit", "-v", "tree", "--depth", "4", "--d=4", "end"]),
        ({"kind": "line"}, ["fit", "-v", "line", "end"]),
    ],
)
def test_words_and_options_of_an_inactive_parameter_are_left_out(params, expected):
    space = Space({"kind": Categorical(["tree", "line"]), "depth": Integer(1, 9, when={"kind": "tree"})})
    assert words("fit -v {kind} --depth {depth} --d={depth} end", params, space) == expected


def test_an_inactive_parameter_is_absent_from_standard_input():
    space = Space({"kind": Categorical(["tree", "line"]), "depth": Integer(1, 9, when={"kind": "tree"})})
    code = "import json, sys; print(len(json.load(sys.stdin)))"
    optimizee = CommandOptimizee(python(code), space, minimize("f"))
    assert run(optimizee, {"kind": "line"}) == (1.0,)
    assert run(optimizee, {"kind": "tree", "depth": 2}) == (2.0,)


def test_parameters_come_as_json_on_standard_input():
    code = "import json, sys; p = json.load(sys.stdin); print(p['tau_m'] * p['n'])"
    assert run(CommandOptimizee(python(code), SPACE, minimize("f"))) == (37.5,)


def test_parameters_come_as_a_file_in_the_working_folder(tmp_path):
    code = (
        "import json, sys, os; print(json.load(open(sys.argv[1]))['n'] + (os.path.dirname(sys.argv[1]) == sys.argv[2]))"
    )
    optimizee = CommandOptimizee(python(code, "{params}", "{workdir}"), SPACE, minimize("f"))
    assert run(optimizee, scratch=tmp_path) == (4.0,)


def test_no_working_folder_is_made_unless_it_is_asked_for(tmp_path):
    run(printing("1"), scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_ignores_its_input_is_no_failure():
    params = {"w": np.zeros(50_000)}
    space = Space({"w": Real(-1, 1, shape=(50_000,))})
    assert run(CommandOptimizee("echo 1", space, minimize("f")), params) == (1.0,)


@pytest.mark.parametrize(
    ("printed", "fitness"),
    [
        ("progress 10%\n0.25\n\n  \n", (0.25,)),
        ("-1e-3", (-1e-3,)),
        (".5", (0.5,)),
        ("10%\r20%\r0.75\n", (0.75,)),
        ("x" * 70_000 + "\n" + " " * 50_000 + "0.5", (0.5,)),
        ("[2]", (2.0,)),
        ('{"loss": 3, "other": "ignored"}', (3.0,)),
    ],
)
def test_the_fitness_is_the_last_line_that_is_not_empty(printed, fitness):
    assert run(printing(printed)) == fitness


@pytest.mark.parametrize("printed", ['{"acc": 0.5, "loss": 2}', "[2, 0.5]"])
def test_several_objectives_come_as_a_list_or_by_name(printed):
    assert run(printing(printed, [minimize("loss"), maximize("acc")])) == (2.0, 0.5)


@pytest.mark.parametrize("printed", ["", "\n", "loss = 3", "nan", "[1, 2]", '{"los": 1}', '"x"', "null", "[1"])
def test_output_without_a_fitness_is_an_error_that_shows_the_command(printed):
    message = failure(printing(printed))
    assert "fitness" in message
    assert "printf" in message


def test_a_failing_command_is_an_error_with_its_exit_code_that_keeps_what_it_printed(child_of):
    code = "import sys; print('a word'); sys.stderr.write(''.join(f'line {i}\\n' for i in range(99))); sys.exit(3)"
    ended = child_of(CommandOptimizee(python(code, "{n}"), SPACE, minimize("f"))).evaluate(Candidate(0, PARAMS, 1))
    said, _, printed = ended.error.partition("\nprinted:\n")
    first, *tail = said.splitlines()
    assert "exit code 3" in first
    assert first.endswith(" 3")
    assert tail == [f"line {i}" for i in range(79, 99)]
    assert set(printed.splitlines()) == {"a word", *(f"line {i}" for i in range(99))}


def test_a_command_that_a_signal_ends_is_an_error_that_names_the_signal():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert "was killed by SIGKILL" in failure(CommandOptimizee(python(code), SPACE, minimize("f")))


def test_a_program_or_folder_that_does_not_exist_is_an_error_that_names_it(tmp_path):
    assert "no-such-program" in failure(CommandOptimizee("no-such-program {n}", SPACE, minimize("f")))
    gone = tmp_path / "gone"
    assert str(gone) in failure(CommandOptimizee("echo 1", SPACE, minimize("f"), cwd=gone))


def test_a_program_that_cannot_be_started_is_named_by_the_path_that_was_tried(tmp_path):
    (tmp_path / "plain").write_text("#!/bin/sh\necho 1\n")
    for in_workdir in (False, True):
        for program, why in (("gone", "No such file or directory"), ("plain", "Permission denied")):
            optimizee = CommandOptimizee(
                f"./{program} {{n}}", SPACE, minimize("f"), cwd=tmp_path, in_workdir=in_workdir
            )
            message = failure(optimizee, scratch=tmp_path)
            assert f"cannot be started ({why}: {tmp_path / program}): ./{program} 3" in message
            assert "workdir" not in message


def test_output_that_is_not_utf8_is_read():
    code = "import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\n5\\n')"
    assert run(CommandOptimizee(python(code), SPACE, minimize("f"))) == (5.0,)


def test_it_runs_where_it_was_made_and_not_where_it_is_evaluated(tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    (tmp_path / "value").write_text("1")
    (tmp_path / "made" / "value").write_text("2")
    monkeypatch.chdir(tmp_path / "made")
    here, above = (CommandOptimizee("cat value", SPACE, minimize("f"), cwd=cwd) for cwd in (None, ".."))
    monkeypatch.chdir(tmp_path)
    assert run(here) == (2.0,)
    monkeypatch.chdir("/")
    assert run(above) == (1.0,)


def test_environment_variables_are_added(monkeypatch):
    monkeypatch.setenv("L2L_TEST_OLD", "1")
    code = "import os; print(int(os.environ['L2L_TEST_OLD']) + int(os.environ['L2L_TEST_NEW']))"
    assert run(CommandOptimizee(python(code), SPACE, minimize("f"), env={"L2L_TEST_NEW": 2})) == (3.0,)
    assert "L2L_TEST_NEW" not in os.environ


def test_it_runs_in_the_process_group_of_the_evaluation():
    code = "import os; print(os.getpgid(0))"
    assert run(CommandOptimizee(python(code), SPACE, minimize("f"))) == (float(os.getpgid(0)),)


def test_killing_the_group_of_the_evaluation_ends_the_command(tmp_path):
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    packed = cloudpickle.dumps((CommandOptimizee(python(child), SPACE, minimize("f")), Candidate(0, PARAMS, 1)))
    (tmp_path / "packed").write_bytes(packed)
    code = (
        "import pickle, sys; from l2l_dask.optimizee import Context; "
        "optimizee, candidate = pickle.load(open(sys.argv[1], 'rb')); "
        "optimizee.evaluate(candidate.params, Context(candidate))"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "packed"], start_new_session=True) as evaluation:
        pid = _wait_for(lambda: int((tmp_path / "pid").read_text()))
        os.killpg(evaluation.pid, signal.SIGKILL)
    _wait_for(lambda: _is_gone(pid) or None)


def _wait_for(look, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = look()
        except (OSError, ValueError):
            found = None
        if found is not None:
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def _is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sim {tau}", "unknown placeholder {tau}: expected one of tau_m, n, seed, id, folder, workdir, params"),
        ("awk '{print $1}'", "unknown placeholder {print $1}"),
        ("", "a command is a string or a list of strings, got ''"),
        ([], "a command is a string or a list of strings, got []"),
        (["a", 1], "a command is a string or a list of strings, got ['a', 1]"),
        ("echo 'a", "cannot be split into words"),
    ],
)
def test_a_command_that_cannot_work_is_refused_in_one_line(command, message):
    with pytest.raises(ConfigError) as caught:
        CommandOptimizee(command, SPACE, minimize("f"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parameter_cannot_have_a_placeholder_s_name():
    with pytest.raises(ConfigError, match="cannot be called 'seed'"):
        CommandOptimizee("echo 1", Space({"seed": Integer(1, 2)}), minimize("f"))


def test_the_contract_holds():
    code = "import json, sys; p = json.load(sys.stdin); print(p['tau_m'] * p['n'] + int(sys.argv[1]))"
    check_optimizee(CommandOptimizee(python(code, "{seed}"), SPACE, minimize("f")), samples=2)


DEPTH = Space({"kind": Categorical(["tree", "line"]), "depth": Integer(1, 9, when={"kind": "tree"})})


def test_environment_variables_hold_parameters_and_one_that_is_not_active_is_left_out():
    code = "import os; print(int(os.environ.get('DEPTH', 0)) + 10 * (os.environ['KIND'] == 'a tree'))"
    optimizee = CommandOptimizee(python(code), DEPTH, minimize("f"), env={"KIND": "a {kind}", "DEPTH": "{depth}"})
    assert run(optimizee, {"kind": "tree", "depth": 4}) == (14.0,)
    assert run(optimizee, {"kind": "line"}) == (0.0,)
