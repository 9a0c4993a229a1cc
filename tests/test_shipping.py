"""Which code travels with an object, and which is found where it arrives."""

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from l2l_dask import FunctionOptimizee, Real, Space, minimize, shipping


@pytest.fixture
def module_in(tmp_path, monkeypatch):
    """Make a module ``model`` in a folder."""

    def module_in(folder):
        path = tmp_path / folder / "model.py"
        path.parent.mkdir(parents=True)
        path.write_text("def fitness(params):\n    return 42.0\n")
        spec = importlib.util.spec_from_file_location("model", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "model", module)
        spec.loader.exec_module(module)
        monkeypatch.syspath_prepend(str(path.parent))
        return module

    return module_in


def travels(packed):
    return len(packed) > 200


def test_a_users_module_travels(module_in):
    packed = shipping.pack(module_in("project").fitness)
    assert travels(packed)
    assert shipping.unpack(packed)({}) == 42.0


@pytest.mark.parametrize("folder", ["home/.local/lib/python3.11/site-packages", "usr/lib/python3/dist-packages"])
def test_an_installed_module_is_found_where_it_arrives(module_in, folder):
    module = module_in(folder)
    assert not travels(shipping.pack(module.fitness))
    assert shipping.importable(module.fitness) == "model:fitness"
    assert not [path for path in shipping.user_paths() if path.endswith(folder)]


def test_what_the_user_registered_stays_registered(module_in):
    module = module_in("project")
    shipping.pack(module.fitness)
    assert "model" not in cloudpickle.list_registry_pickle_by_value()
    cloudpickle.register_pickle_by_value(module)
    try:
        shipping.pack(module.fitness)
        assert "model" in cloudpickle.list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(module)


OPENED_ELSEWHERE = """
import sys
from l2l_dask import shipping
fitness = shipping.unpack(sys.stdin.buffer.read())["it"]
print(fitness({"x": 1.0}), "model_with_helpers" in sys.modules, sys.modules["its_helper"].__file__)
try:
    fitness({"x": None})
except TypeError:
    import traceback
    traceback.print_exc(file=sys.stdout)
"""


@pytest.fixture
def with_helpers(tmp_path, monkeypatch):
    """Make a module that imports another beside it at once, and one when it is called."""
    (tmp_path / "its_helper.py").write_text("def doubled(x):\n    return 2 * (x + 0)\n")
    (tmp_path / "its_later_helper.py").write_text("ONE = 1\n")
    (tmp_path / "model_with_helpers.py").write_text(
        "from its_helper import doubled\n\n\ndef fitness(params):\n    import its_later_helper\n\n"
        "    return doubled(params['x']) + its_later_helper.ONE\n\n\n"
        "class Callable:\n    def __call__(self, params):\n        return fitness(params)\n\n"
        "    def method(self, params):\n        return fitness(params)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("model_with_helpers")
    for name in ("model_with_helpers", "its_helper", "its_later_helper"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", ["function", "partial", "callable object", "method", "one that refers to it"])
def test_what_a_users_module_imports_travels_too_and_shows_in_tracebacks(with_helpers, tmp_path_factory, kind):
    thing = {
        "function": with_helpers.fitness,
        "partial": functools.partial(with_helpers.fitness),
        "callable object": with_helpers.Callable(),
        "method": with_helpers.Callable().method,
        "one that refers to it": lambda params: with_helpers.fitness(params),
    }[kind]
    optimizee = FunctionOptimizee(thing, Space({"x": Real(0, 1)}), minimize("f"))
    packed = shipping.pack({"it": optimizee.function, "optimizee": optimizee})
    run = subprocess.run(
        [sys.executable, "-c", OPENED_ELSEWHERE],
        input=packed,
        capture_output=True,
        check=True,
        cwd=tmp_path_factory.mktemp("elsewhere"),
    )
    lines = run.stdout.decode().splitlines()
    there = kind == "one that refers to it"
    assert lines[0] == f"3.0 {there} {Path(with_helpers.__file__).parent / 'its_helper.py'}"
    assert "    return 2 * (x + 0)" in lines


def test_a_helper_that_is_found_where_it_arrives_is_used(with_helpers, tmp_path):
    packed = shipping.pack(with_helpers.fitness)
    (tmp_path / "its_helper.py").write_text("def doubled(x):\n    return 20 * x\n")
    code = f"import sys; sys.path.append({str(tmp_path)!r})\n" + OPENED_ELSEWHERE.replace('["it"]', "")
    run = subprocess.run([sys.executable, "-c", code], input=packed, capture_output=True, check=False)
    assert run.stdout.decode().startswith("21.0 False")
