"""The registry finds plug-ins by name, module or file, reads their options and checks what is given."""

import sys
from importlib.metadata import EntryPoint
from typing import Literal

import pytest

from l2l_dask import Objectives, Optimizer, Real, Space, minimize, registry
from l2l_dask.errors import OptimizerError, PluginError
from optimizers.random_search import RandomSearch
from optimizers.steady_state_ga import SteadyStateGA

NAMES = [
    "auto",
    "cma-es",
    "cross-entropy",
    "differential-evolution",
    "enkf",
    "es",
    "face",
    "genetic",
    "gradient-descent",
    "grid",
    "hyperband",
    "map-elites",
    "mo-cma-es",
    "nes",
    "nevergrad",
    "nsga-2",
    "optuna",
    "parallel-tempering",
    "particle-swarm",
    "pymoo",
    "qmc",
    "random",
    "simulated-annealing",
    "smc-abc",
    "snpe",
    "steady-state-ga",
    "surrogate-cma-es",
    "xnes",
]
FIXED = {"space": Space({"x": Real(0, 1)}), "objectives": Objectives(minimize("cost")), "seed": 1}


class Plugin:
    """Do something.

    More about it::

        Parameters of no interest

    Parameters
    ----------
    needed
        What must be given.
    first, second : int
        Two at once,
        over two lines.

        And a paragraph.
    kind
        One of two.

    Notes
    -----
    needed
        Not this one.
    """

    def __init__(
        self,
        space,
        objectives,
        *,
        needed: int,
        first: int = 1,
        second: float = 2.0,
        kind: Literal["a", "b"] = "a",
        seed=0,
        undocumented: list[int] | None = None,
    ):
        if needed < 0:
            raise ValueError(f"needed must not be negative, got {needed}")
        self.given = (needed, first, second, kind, undocumented)


def build(**given):
    return registry.build(Plugin, "plugin", given, **FIXED)


def test_a_name_that_is_nearly_right_is_answered_with_those_near_it():
    with pytest.raises(PluginError, match="expected one of cma-es, mo-cma-es, "):
        registry.find("optimizers", "cma_es")


def test_the_optimizers_of_this_distribution_are_found_by_name():
    assert registry.names("optimizers") == NAMES
    assert registry.find("optimizers", "random") is RandomSearch
    for name in registry.names("optimizers"):
        assert issubclass(registry.find("optimizers", name), Optimizer)


def test_a_plug_in_is_found_by_module_and_attribute():
    assert registry.find("optimizers", "optimizers.steady_state_ga:SteadyStateGA") is SteadyStateGA


def test_a_plug_in_is_found_in_a_file_beside_which_it_may_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "neighbour_of_plugin.py").write_text("VALUE = 42\n")
    (tmp_path / "plugin.py").write_text(
        "from neighbour_of_plugin import VALUE\ndef fitness(params):\n    return VALUE\n"
    )
    assert registry.find("optimizees", "plugin.py:fitness", tmp_path)({}) == 42
    absolute = registry.find("optimizees", f"{tmp_path / 'plugin.py'}:fitness")
    assert absolute is registry.find("optimizees", "plugin.py:fitness", tmp_path)


def test_files_of_the_same_name_in_different_folders_are_different(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.py").write_text(f"NAME = {folder!r}\n")
        assert registry.find("optimizees", "model.py:NAME", tmp_path / folder) == folder


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "no-such-thing",
            r"no optimizer is called 'no-such-thing': expected one of .*random.*, or package.module:name",
        ),
        ("no_such_module:Thing", "'no_such_module:Thing' cannot be imported"),
        ("broken_module:f", "'broken_module:f' cannot be imported: ZeroDivisionError"),
        ("leaving_module:f", "'leaving_module:f' cannot be imported: SystemExit: good bye"),
        ("random:f", r"random has no 'f'.*; .*/random.py is named by 'random.py:f'"),
        (
            "optimizers.mine:f",
            r"No module named 'optimizers.mine'.*/optimizers/mine.py is named by 'optimizers/mine.py:f'",
        ),
        ("optimizers.qmc:NoSuchThing", "optimizers.qmc has no 'NoSuchThing'"),
        ("nowhere.py:f", "there is no file .*nowhere.py"),
        ("broken.py:f", "broken.py cannot be imported: ZeroDivisionError"),
        ("typo.py:f", "typo.py cannot be imported: SyntaxError"),
        ("empty.py:f", "empty.py has no 'f'"),
    ],
)
def test_what_cannot_be_found_is_named_in_one_line(tmp_path, monkeypatch, reference, message):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    (tmp_path / "leaving_module.py").write_text("raise SystemExit('good\\nbye')\n")
    (tmp_path / "random.py").write_text("f = 1\n")
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "mine.py").write_text("f = 1\n")
    (tmp_path / "typo.py").write_text("def f(:\n")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(PluginError, match=message) as caught:
        registry.find("optimizers", reference, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_could_not_be_imported_is_read_again_once_it_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mended.py").write_text("1 / 0\n")
    with pytest.raises(PluginError):
        registry.find("optimizees", "mended.py:f", tmp_path)
    (tmp_path / "mended.py").write_text("f = 'mended now'\n")
    assert registry.find("optimizees", "mended.py:f", tmp_path) == "mended now"


def test_a_file_that_changed_is_loaded_anew_also_within_a_second(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    for number in (1, 2, 1):
        (tmp_path / "changing.py").write_text(f"f = {number}\n")
        assert registry.find("optimizees", "changing.py:f", tmp_path) == number
    again = registry.load_file(tmp_path / "changing.py")
    assert registry.load_file(tmp_path / "changing.py") is again


def test_a_file_that_would_get_another_folders_helper_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helper_of_two.py").write_text(f"NAME = {folder!r}\n")
        (tmp_path / folder / "model.py").write_text("from helper_of_two import NAME\n")
    assert registry.find("optimizees", "model.py:NAME", tmp_path / "one") == "one"
    with pytest.raises(PluginError, match=r"two/model.py imports 'helper_of_two', which is .*/one/helper") as caught:
        registry.find("optimizees", "model.py:NAME", tmp_path / "two")
    assert "rename one of them" in str(caught.value)
    (tmp_path / "two" / "model.py").write_text("import random\nNAME = 'two'\n")
    (tmp_path / "two" / "random.py").write_text("")  # Python's own is meant
    assert registry.find("optimizees", "model.py:NAME", tmp_path / "two") == "two"
    sys.modules.pop("helper_of_two")


def test_a_shadowed_plug_in_names_the_path_that_shadows_it(tmp_path, monkeypatch):
    (tmp_path / "shadowed_plugins").mkdir()
    (tmp_path / "shadowed_plugins" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("mine", "shadowed_plugins.gone:Thing", "l2l_dask.optimizers")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(PluginError, match=f"'shadowed_plugins' was found at {tmp_path / 'shadowed_plugins'}"):
        registry.find("optimizers", "mine")


def test_a_third_partys_entry_point_is_found_like_our_own(monkeypatch):
    point = EntryPoint("theirs", "optimizers.random_search:RandomSearch", "l2l_dask.optimizers")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "l2l_dask.optimizers" else [])
    assert registry.names("optimizers") == ["theirs"]
    assert registry.find("optimizers", "theirs") is RandomSearch


def test_options_are_read_off_the_signature_and_the_docstring():
    assert registry.options(Plugin) == {
        "needed": registry.Option(..., "What must be given."),
        "first": registry.Option(1, "Two at once, over two lines. And a paragraph."),
        "second": registry.Option(2.0, "Two at once, over two lines. And a paragraph."),
        "kind": registry.Option("a", "One of two."),
        "undocumented": registry.Option(None, ""),
    }


def test_options_of_a_plug_in_without_any_are_none():
    assert registry.options(RandomSearch) == {}


def test_building_passes_what_was_given_and_leaves_the_defaults():
    assert build(needed=3, second=1, kind="b").given == (3, 1, 1.0, "b", None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"needed": 1, "frist": 2}, "plugin has no option 'frist': expected some of .*'first'"),
        ({}, "plugin needs the option 'needed'"),
        ({"needed": "many"}, "plugin: option 'needed': .*integer.*, got 'many'"),
        ({"needed": 1.5}, "plugin: option 'needed': .*integer.*, got 1.5"),
        ({"needed": 1, "kind": "c"}, "plugin: option 'kind': .*'a' or 'b'.*, got 'c'"),
        ({"needed": 1, "undocumented": 3}, "plugin: option 'undocumented': .*list.*, got 3"),
        ({"needed": -1}, "plugin: needed must not be negative, got -1"),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_one_line(given, message):
    with pytest.raises(PluginError, match=message) as caught:
        build(**given)
    assert "\n" not in str(caught.value)


def test_an_option_that_the_optimizer_refuses_keeps_its_kind_of_error_and_gains_the_name():
    with pytest.raises(OptimizerError, match=r"^steady-state-ga: pop_size must be an integer of at least 4, got 1$"):
        registry.build(SteadyStateGA, "steady-state-ga", {"pop_size": 1}, **FIXED)


def test_options_of_registered_optimizers_have_types_that_are_checked():
    with pytest.raises(PluginError, match=r"qmc: option 'engine': .*'sobol', 'halton' or 'latin'"):
        registry.build(registry.find("optimizers", "qmc"), "qmc", {"engine": "dice"}, **FIXED)
    grid = registry.build(registry.find("optimizers", "grid"), "grid", {"n": {"x": 3}}, **FIXED)
    assert grid.size == 3
