"""The user's modules: workers that cannot import them, and folders and files whose names are taken."""

import os

import pytest

from l2l_dask import load

PROJECT = {
    "model.py": """
import helper
from pkg.deep import tripled

def fitness(params):
    import late
    from pkg import other
    return helper.doubled(params["x"]) + tripled(params["x"]) + late.ONE + other.ONE
""",
    "helper.py": "import further\n\n\ndef doubled(x):\n    return further.TWO * x\n",
    "further.py": "import helper\n\nTWO = 2\n",  # in a circle
    "late.py": "ONE = 1\n",
    "pkg/__init__.py": "",
    "pkg/other.py": "from .deep.numbers import ONE\n",
    "pkg/deep/__init__.py": "from . import numbers\n\n\ndef tripled(x):\n    return numbers.THREE * x\n",
    "pkg/deep/numbers.py": "ONE, THREE = 1, 3\n",
}
SCRIPT = """
import sys
from l2l_dask import Experiment, Real, Space, minimize
{defined}
ended = Experiment({name}, "random", space=Space({{"x": Real(0, 1)}}), objectives=minimize("f"), evaluations=6,
                   store="a.zarr", seed=1, cluster={cluster!r}).run()
print(ended.state)
"""
THERE = """
import helper
import model

def there(params):
    import late
    return model.fitness(params) + 0 * late.ONE
"""


def check(store, slope=5.0, level=2.0):
    ended = load(store)
    assert ended.state == "finished", ended.details
    assert ended.counts()["done"] == len(ended) == 6
    x, f = ended.record["params"][:, 0], ended.record["fitness"][:, 0]
    assert f.tolist() == pytest.approx((slope * x + level).tolist())


@pytest.mark.parametrize(
    "how", ["l2l", "script", pytest.param("standard input", marks=pytest.mark.soak), "resumed from elsewhere"]
)
def test_workers_that_see_none_of_the_users_files_evaluate_a_project(elsewhere, write, experiment_file, call, how):
    """Modules beside the model, those which they import, packages with relative imports, imports inside functions."""
    folder = write(PROJECT | {"e.toml": experiment_file()})
    if how == "l2l":
        done = call("l2l", "run", "e.toml", "--cluster", elsewhere.address, "--no-report")
    elif how == "resumed from elsewhere":
        imported = {"defined": "from model import fitness\n", "name": "fitness", "cluster": "serial"}
        write({"script.py": SCRIPT.format(**imported).replace("evaluations=6", "evaluations=3")})
        assert call("python", "script.py").returncode == 0
        folder.rename(folder.parent / "moved")
        folder.mkdir()
        (folder.parent / "moved" / "a.zarr").rename(folder / "a.zarr")
        words = ("resume", "a.zarr", "--cluster", elsewhere.address, "--evaluations", 6, "--no-report")
        done = call("l2l", *words, cwd=folder)
    else:
        script = SCRIPT.format(defined=THERE, name="there", cluster=elsewhere.address)
        write({"script.py": script})
        done = call("python", "script.py") if how == "script" else call("python", "-", stdin=script)
    assert done.returncode == 0, done.stderr
    check(folder / "a.zarr")


def test_a_file_that_the_workers_do_not_see_is_named_when_the_run_ends(elsewhere, write, experiment_file, call):
    model = "from pathlib import Path\n\ndef fitness(params):\n    return len(Path('data.txt').read_text())\n"
    folder = write({"model.py": model, "data.txt": "three", "e.toml": experiment_file(evaluations=40)})
    there = call("l2l", "run", "e.toml", "--cluster", elsewhere.address, "--no-report")
    assert there.returncode == 1
    assert "FileNotFoundError" in there.stderr
    assert "data.txt" in there.stderr
    here = call("l2l", "run", "e.toml", "--cluster", "serial", "--store", "b.zarr", "--evaluations", 3, "--no-report")
    assert here.returncode == 0, here.stderr
    assert load(folder / "b.zarr").record["fitness"][:, 0].tolist() == [5.0, 5.0, 5.0]


# Names of plug-ins' packages, of libraries that we use, and of modules of Python's own.
TAKEN = {
    "optimizees/mine.py": "",
    "optimizers/__init__.py": "1 / 0",
    **dict.fromkeys(["l2l_dask.py", "random.py", "numpy.py", "zarr.py", "dask.py"], "1 / 0"),
}


@pytest.mark.parametrize("where", ["local", "serial", "elsewhere"])
def test_the_command_works_in_a_folder_where_all_names_are_taken(write, experiment_file, call, where, request):
    model = "import random\n\ndef fitness(params):\n    return random.Random(1).random() + params['x']\n"
    folder = write(TAKEN | {"model.py": model, "e.toml": experiment_file()})
    cluster = request.getfixturevalue("elsewhere").address if where == "elsewhere" else where
    workers = ["--workers", "1"] if where == "local" else []
    done = call("l2l", "run", "e.toml", "--cluster", cluster, "--no-report", *workers)
    assert done.returncode == 0, done.stderr
    check(folder / "a.zarr", 1.0, 0.13436424411240122)


@pytest.mark.parametrize("name", ["types"])
def test_local_workers_start_in_a_folder_with_a_file_named_like_a_module_that_they_start_with(
    write, experiment_file, call, name
):
    folder = write({f"{name}.py": "1 / 0", "model.py": "def fitness(params):\n    return params['x']\n"})
    write({"e.toml": experiment_file()})
    done = call("l2l", "run", "e.toml", "--workers", "1", "--no-report")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    check(folder / "a.zarr", 1.0, 0.0)


@pytest.mark.parametrize("group", ["optimizees", "optimizers"])
@pytest.mark.parametrize(("content", "said"), [("", "No module named"), ("raise OSError('two\\nlines')", "two lines")])
def test_a_package_that_hides_the_plug_ins_is_named_with_what_to_do(write, call, group, content, said):
    plugin = {"optimizees": '"bbob"', "optimizers": "lambda params: params['x']"}[group]
    folder = write({f"{group}/__init__.py": content})
    write({"script.py": SCRIPT.format(defined="", name=plugin, cluster="serial")})
    done = call("python", "script.py")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("l2l_dask.errors.PluginError: ")
    assert said in last
    assert f"was found at {folder / group}: if that hides the installed package, rename it" in last


def test_a_model_is_imported_once_by_the_driver_however_many_workers_there_are(write, experiment_file, call):
    model = "import os\n\nopen('imported', 'a').write('once\\n')\n\ndef fitness(params):\n    return params['x']\n"
    folder = write({"model.py": model, "e.toml": experiment_file()})
    done = call("l2l", "run", "e.toml", "--workers", "2", "--no-report")
    assert done.returncode == 0, done.stderr
    assert (folder / "imported").read_text() == "once\n"


def test_what_a_model_started_at_its_import_does_not_keep_it_from_running(write, experiment_file, call):
    model = "import threading\n\nEVENT = threading.Event()\nthreading.Thread(target=EVENT.wait, daemon=True).start()\n"
    model += "\ndef fitness(params):\n    return params['x']\n"
    folder = write({"model.py": model, "e.toml": experiment_file()})
    done = call("l2l", "run", "e.toml", "--cluster", "serial", "--no-report")
    assert done.returncode == 0, done.stderr
    check(folder / "a.zarr", 1.0, 0.0)
    model = model.replace("return params", "return EVENT.is_set() or params")
    write({"model.py": model})
    before = sorted(os.listdir(folder))
    refused = call("l2l", "run", "e.toml", "--cluster", "serial", "--store", "b.zarr", "--no-report")
    assert refused.returncode == 2
    assert refused.stderr.startswith("l2l: fitness cannot be sent to a worker (TypeError: cannot pickle")
    assert len(refused.stderr.splitlines()) == 1
    assert sorted(os.listdir(folder)) == before
