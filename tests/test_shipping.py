"""Which code travels with an object, and which is found where it arrives."""

import importlib.util
import sys

import cloudpickle
import pytest

from l2l_dask import shipping


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
