"""A user's file that changed between run and resume is named, and the run goes on with the new code."""

import pytest

from l2l_dask import load

FILES = {
    "model.py": "import helper\n\n\ndef fitness(params):\n    return helper.SCALE * params['x']\n",
    "helper.py": "SCALE = 1\n",
    "climber.py": """
from l2l_dask import Optimizer

class Climber(Optimizer):
    '''Draws.'''

    def _ask(self, n):
        return self._proposal(self.space.sample(self.rng, n))

    def _tell(self, evaluations):
        pass
""",
    "simulate.sh": "#!/bin/sh\necho 1\n",
}
COMMAND = """
[optimizee]
command = "sh ./simulate.sh {x}"
[space]
x = {low = 0.0, high = 1.0}
[objectives]
f = "minimize"
[run]
evaluations = 3
store = "a.zarr"
[cluster]
profile = "serial"
"""


@pytest.fixture
def begun(write, call):
    """Run three evaluations, and return the folder."""

    def begun(config, folder="."):
        folder = write(FILES | {"e.toml": config}, folder)
        done = call("l2l", "run", "e.toml", "--no-report", cwd=folder)
        assert done.returncode == 0, done.stderr
        return folder

    return begun


@pytest.fixture
def resumed(call):
    """Resume with three evaluations more; what is said, but for the progress."""

    def resumed(evaluations, status=0, **options):
        done = call("l2l", "resume", "a.zarr", "--evaluations", evaluations, "--no-report", **options)
        assert done.returncode == status, done.stderr
        return [line for line in done.stderr.splitlines() if "changed" in line]

    return resumed


def fitness_over_x(store):
    record = load(store).record
    return (record["fitness"][:, 0] / record["params"][:, 0]).round(9).tolist()


def test_a_helper_of_the_optimizee_that_changed_is_named_and_the_new_one_is_used(
    begun, resumed, write, experiment_file, tmp_path
):
    begun(experiment_file(evaluations=3, optimizer="climber.py:Climber", more="[cluster]\nprofile='serial'\n"))
    recorded = load(tmp_path / "a.zarr").experiment["sources"]
    assert {what: sorted(files) for what, files in recorded.items()} == {
        "optimizee": ["helper.py", "model.py"],
        "optimizer": ["climber.py"],
    }
    assert resumed(4) == []
    write({"helper.py": "SCALE = 2\n"})
    assert resumed(6) == [
        "a.zarr: helper.py of the optimizee changed since this search began: it goes on with the new code and keeps "
        "the results of the old; to go on with the old, put the file back"
    ]
    assert fitness_over_x(tmp_path / "a.zarr") == [1.0] * 4 + [2.0] * 2
    write({"helper.py": FILES["helper.py"]})
    assert resumed(7) == []
    assert resumed(7) == [], "nothing is left to do"
    assert fitness_over_x(tmp_path / "a.zarr") == [1.0] * 4 + [2.0] * 2 + [1.0]


def test_an_optimizers_file_that_changed_is_named_before_the_replay_differs(
    begun, resumed, write, experiment_file, tmp_path
):
    begun(experiment_file(evaluations=3, optimizer="climber.py:Climber", more="[cluster]\nprofile='serial'\n"))
    write({"climber.py": FILES["climber.py"].replace("Draws", "Draws at random")})
    (harmless,) = resumed(4)
    assert "climber.py of the optimizer changed since this search began" in harmless
    write({"climber.py": FILES["climber.py"].replace("self.rng, n)", "self.rng, n) / 2")})
    said = resumed(6, status=2)
    assert len(said) == 2
    assert said[0].endswith(
        "goes on with the new code if that asks for the same again; to go on with the old, put the file back"
    )
    assert said[1].startswith("l2l: the optimizer does not repeat what it did: individual 0 was asked with")
    assert said[1].endswith("Put them back, or go on from the recorded results with --trust-record")
    assert len(load(tmp_path / "a.zarr")) == 4


def test_a_script_that_a_command_line_names_is_watched_too_also_in_a_folder_that_moved(begun, resumed, tmp_path):
    moved = begun(COMMAND, "before").rename(tmp_path / "after")
    assert resumed(4, cwd=moved) == []
    (moved / "simulate.sh").write_text("echo 2\n")
    (line,) = resumed(5, cwd=moved)
    assert "simulate.sh of the optimizee changed" in line
    assert load(moved / "a.zarr").record["fitness"][:, 0].tolist() == [1.0, 1.0, 1.0, 1.0, 2.0]


def test_a_template_of_a_command_is_watched_too(begun, resumed, write, tmp_path):
    write({"input.in": "{{ x }}\n"})
    options = 'options = {templates = {"input.in" = "input"}}\n'
    begun(COMMAND.replace("{x}", "{workdir}/input").replace("[space]", f"{options}[space]"))
    assert sorted(load(tmp_path / "a.zarr").experiment["sources"]["optimizee"]) == ["input.in", "simulate.sh"]
    write({"input.in": "{{ x }} {{ id }}\n"})
    (line,) = resumed(4)
    assert "input.in of the optimizee changed" in line


READER = """
from pathlib import Path
from l2l_dask import Optimizee, Real, Space, minimize

class Reader(Optimizee):
    space, objectives = Space({"x": Real(0, 1)}), minimize("f")

    def __init__(self, data: str = ""):
        self.factor = float(Path(data).read_text())

    def evaluate(self, params, context):
        return self.factor * params["x"]
"""


def test_a_path_among_an_optimizee_s_options_starts_at_the_experiment_s_folder(write, call, tmp_path):
    config = COMMAND.replace(
        'command = "sh ./simulate.sh {x}"', 'name = "reader.py:Reader"\noptions = {data = "data/f"}'
    )
    write(
        {"reader.py": READER, "e.toml": config.partition("[space]")[0] + "[run]" + config.partition("[run]")[2]}, "home"
    )
    write({"f": "3"}, "home/data")
    done = call("l2l", "run", "home/e.toml", "--no-report")
    assert done.returncode == 0, done.stderr
    assert fitness_over_x(tmp_path / "home" / "a.zarr") == [3.0] * 3


def test_the_file_that_makes_what_another_one_defines_is_watched_too(write, call, resumed, tmp_path):
    config = COMMAND.replace('command = "sh ./simulate.sh {x}"', 'name = "problem.py:problem"')
    config = config.partition("[space]")[0] + "[run]" + config.partition("[run]")[2]
    made = "from reader import Reader\n\nproblem = Reader('f')\n"
    home = write({"reader.py": READER, "problem.py": made, "f": "3", "e.toml": config}, "home")
    done = call("l2l", "run", "home/e.toml", "--no-report")
    assert done.returncode == 0, done.stderr
    assert sorted(load(home / "a.zarr").experiment["sources"]["optimizee"]) == ["problem.py", "reader.py"]
    write({"problem.py": made + "# changed\n"}, "home")
    (line,) = resumed(4, cwd=home)
    assert "problem.py of the optimizee changed" in line
