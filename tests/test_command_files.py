"""CommandOptimizee and files: inputs made from templates, a fitness that is written to a file, a folder of its own."""

import re
import sys

import numpy as np
import pytest

from l2l_dask import Categorical, Integer, Real, Space, minimize
from l2l_dask.command import CommandOptimizee
from l2l_dask.errors import ConfigError, EvaluationError
from l2l_dask.evaluation import Candidate
from l2l_dask.optimizee import Context

SPACE = Space({"tau_m": Real(5, 50), "n": Integer(1, 8)})
DEPTH = Space({"kind": Categorical(["tree", "line"]), "depth": Integer(1, 9, when={"kind": "tree"})})
PARAMS = {"tau_m": 12.5, "n": 3}


def literal(text):
    return text.replace("{", "{{").replace("}", "}}")


def python(code, *words):
    return [sys.executable, "-c", literal(code), *words]


def run(optimizee, params=PARAMS, id=7, scratch=None):
    return optimizee.evaluate(params, Context(Candidate(id, params, 1), scratch))


def failure(optimizee, **kwargs):
    with pytest.raises(EvaluationError) as caught:
        run(optimizee, **kwargs)
    return str(caught.value)


TEMPLATE = """\
tau = {{ tau_m }}  # seed {{ seed }}, {{ id }}
{% for v in w %}
w {{ v }}
{% endfor %}
{% if depth is defined %}depth {{ depth }}{% else %}flat{% endif %}
"""


@pytest.fixture
def templated(tmp_path):
    (tmp_path / "model.in").write_text(TEMPLATE)
    space = Space(
        {"tau_m": Real(0, 1), "w": Real(0, 1, shape=(2,)), "on": Categorical([True, False])}
        | {"depth": Integer(1, 9, when={"on": True})}
    )
    code = "import sys; sys.stderr.write(open(sys.argv[1]).read()); print(1)"
    return CommandOptimizee(
        python(code, "{workdir}/in/model.txt"),
        space,
        minimize("f"),
        cwd=tmp_path,
        templates={"model.in": "in/model.txt"},
    )


def test_an_input_file_is_made_from_a_template_in_the_individual_s_own_folder(templated, capfd, tmp_path):
    params = {"tau_m": 0.1 + 0.2, "w": np.array([1 / 3, 1e-17]), "on": True, "depth": 3}
    (tmp_path / "model.in").unlink()  # the workers may not see it: it was read where the optimizee was made
    run(templated, params, scratch=tmp_path)
    written = capfd.readouterr().err.split()
    seed = Context(Candidate(7, params, 1)).seed
    assert written == f"tau = {0.1 + 0.2!r} # seed {seed}, 7 w {1 / 3!r} w 1e-17 depth 3".split()


def test_a_template_can_ask_whether_a_parameter_is_active(templated, capfd, tmp_path):
    run(templated, {"tau_m": 0.5, "w": np.zeros(2), "on": False}, scratch=tmp_path)
    assert capfd.readouterr().err.split()[-1] == "flat"


def test_a_template_that_uses_an_inactive_parameter_is_a_failed_evaluation_that_names_it(tmp_path):
    (tmp_path / "t").write_text("{{ depth }}")
    optimizee = CommandOptimizee("echo 1", DEPTH, minimize("f"), cwd=tmp_path, templates={"t": "t"})
    assert run(optimizee, {"kind": "tree", "depth": 4}, scratch=tmp_path) == (1.0,)
    message = failure(optimizee, params={"kind": "line"}, scratch=tmp_path)
    assert "template t" in message
    assert "'depth' is undefined" in message


@pytest.mark.parametrize(
    ("templates", "text", "message"),
    [
        (
            {"t": "t"},
            "a {{ tau }}",
            r"unknown placeholder {{ tau }}: expected one of tau_m, n, .*, workdir$",
        ),
        ({"t": "t"}, "a\n{% if %}", "t has an error in line 2"),
        ({"gone": "t"}, "", "gone cannot be read: .*No such file"),
        ({"t": "/etc/passwd"}, "", "below the individual's own folder, got '/etc/passwd'"),
        ({"t": "t"}, "{% include 'other' %}", "uses another one"),
        ({"t": "../t"}, "", r"below the individual's own folder, got '\.\./t'"),
    ],
)
def test_a_template_that_cannot_work_is_refused(templates, text, message, tmp_path):
    (tmp_path / "t").write_text(text)
    with pytest.raises(ConfigError, match=message):
        CommandOptimizee("echo 1", SPACE, minimize("f"), cwd=tmp_path, templates=templates)


def test_seed_and_id_are_numbers_in_a_template(tmp_path):
    (tmp_path / "t").write_text("{{ seed + 1 }} {% if id % 2 %}odd{% endif %} {{ folder }} {{ workdir }}")
    optimizee = CommandOptimizee("cat {workdir}/t", SPACE, minimize("f"), cwd=tmp_path, templates={"t": "t"})
    with pytest.raises(EvaluationError, match=rf"'\d+ odd {tmp_path} {tmp_path}/l2l-7-\w+'"):
        run(optimizee, scratch=tmp_path)


@pytest.mark.parametrize(("command", "in_workdir"), [("{workdir}/run.sh", True), ("{workdir}/run.sh", False)])
def test_a_script_made_from_a_template_can_be_run_if_the_template_can(command, in_workdir, tmp_path):
    (tmp_path / "s.sh").write_text("#!/bin/sh\necho {{ n }}\n")
    (tmp_path / "s.sh").chmod(0o555)
    options = {"cwd": tmp_path, "templates": {"s.sh": "run.sh"}, "in_workdir": in_workdir}
    assert run(CommandOptimizee(command, SPACE, minimize("f"), **options), scratch=tmp_path) == (3.0,)
    message = failure(CommandOptimizee("./run.sh", SPACE, minimize("f"), **options), scratch=tmp_path)
    assert f"{tmp_path / 'run.sh'}): ./run.sh; the one made from a template is {{workdir}}/run.sh" in message
    (tmp_path / "s.sh").chmod(0o444)
    message = failure(CommandOptimizee(command, SPACE, minimize("f"), **options), scratch=tmp_path)
    assert "Permission denied" in message
    assert "made from a template" not in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"templates": {"t": "out"}, "fitness_file": "./out"}, "the template t and fitness_file are both './out' in"),
        (
            {"templates": {"t": "o", "u": "o"}},
            r"the template t and the template u are both 'o' in \{workdir\}: give one",
        ),
        ({"templates": {"t": "params.json"}}, r"the template t and \{params\} are both 'params.json'"),
        ({"fitness_file": "params.json"}, r"\{params\} and fitness_file are both 'params.json'"),
        ({"templates": ["t"]}, r"templates: expected a table, \{NAME = VALUE\}, got \['t'\]"),
        ({"templates": {"t": 1}}, "templates: expected a path below the individual's own folder, got 1"),
        ({"env": ["A"]}, r"env: expected a table, \{NAME = VALUE\}, got \['A'\]"),
        ({"fitness_file": 1}, "fitness_file: expected a path below the individual's own folder, got 1"),
    ],
)
def test_files_that_would_overwrite_each_other_and_options_of_the_wrong_type_are_refused(options, message, tmp_path):
    for name in ("t", "u"):
        (tmp_path / name).write_text("1\n")
    with pytest.raises(ConfigError, match=message):
        CommandOptimizee("cat {params}", SPACE, minimize("f"), cwd=tmp_path, **options)


def test_a_template_may_be_called_params_json_where_no_other_file_is(tmp_path):
    (tmp_path / "t").write_text("{{ n }}\n")
    templates = {"t": "params.json"}
    optimizee = CommandOptimizee("cat {workdir}/params.json", SPACE, minimize("f"), cwd=tmp_path, templates=templates)
    assert run(optimizee, scratch=tmp_path) == (3.0,)


@pytest.mark.parametrize(
    "written", ["37.5", "progress\n37.5\n", '{"f": 37.5}', '{\n  "f": 37.5,\n  "other": [1]\n}\n', "[\n37.5\n]"]
)
def test_the_fitness_is_read_from_a_file(written, tmp_path):
    code = "import sys; open(sys.argv[1], 'w').write(sys.argv[2]); print('done')"
    optimizee = CommandOptimizee(
        python(code, "{workdir}/out-{id}", literal(written)), SPACE, minimize("f"), fitness_file="out-{id}"
    )
    assert run(optimizee, scratch=tmp_path) == (37.5,)


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("x", "the last line of out is no fitness"),
        ("", "the last line of out is no fitness .*'nothing'"),
        ("[1, 2]", "out holds no fitness .*got 2 values"),
        ('{\n  "g": 1\n}\n', "out holds no fitness .*'f'"),
    ],
)
def test_a_file_without_a_fitness_is_an_error_that_says_what_it_holds(written, what, tmp_path):
    code = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    optimizee = CommandOptimizee(
        python(code, "{workdir}/out", literal(written)), SPACE, minimize("f"), fitness_file="out"
    )
    assert re.search(what, failure(optimizee, scratch=tmp_path), re.DOTALL)


def test_a_fitness_file_that_is_not_written_is_an_error_that_names_it(tmp_path):
    message = failure(CommandOptimizee("echo 1", SPACE, minimize("f"), fitness_file="out"), scratch=tmp_path)
    assert "left no fitness in" in message
    assert "/out (No such file or directory)" in message


def test_a_program_can_run_in_the_individual_s_own_folder(tmp_path):
    program = tmp_path / "simulate"
    program.write_text("#!/bin/sh\nset -e\npwd > here\ntest -s params.json\ntest -s $1\necho 2\n")
    program.chmod(0o755)
    optimizee = CommandOptimizee("./simulate {params}", SPACE, minimize("f"), cwd=tmp_path, in_workdir=True)
    assert run(optimizee, scratch=tmp_path) == (2.0,)
    assert not (tmp_path / "here").exists()


def test_unknown_placeholders_are_refused_wherever_they_stand():
    with pytest.raises(ConfigError, match=r"the environment variable A has an unknown placeholder \{tau\}"):
        CommandOptimizee("echo 1", SPACE, minimize("f"), env={"A": "{tau}"})
    with pytest.raises(ConfigError, match=r"fitness_file has an unknown placeholder \{tau\}"):
        CommandOptimizee("echo 1", SPACE, minimize("f"), fitness_file="{tau}")


@pytest.mark.parametrize("name", ["/tmp/result", "../result"])
def test_a_fitness_file_is_the_individual_s_own(name):
    with pytest.raises(ConfigError, match="fitness_file: expected a path below the individual's own folder"):
        CommandOptimizee("echo 1", SPACE, minimize("f"), fitness_file=name)


def test_the_experiment_s_folder_is_named_behind_a_launcher(tmp_path):
    (tmp_path / "simulate").write_text("echo 3\n")
    optimizee = CommandOptimizee("sh {folder}/simulate", SPACE, minimize("f"), cwd=tmp_path, in_workdir=True)
    assert run(optimizee, scratch=tmp_path) == (3.0,)


def test_one_that_was_pickled_before_there_were_files_still_works():
    old = CommandOptimizee("echo 4", SPACE, minimize("f"))
    for name in ("fitness_file", "in_workdir", "template_files", "_templates"):
        del old.__dict__[name]
    assert run(old) == (4.0,)
