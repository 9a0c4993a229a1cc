"""What NetLogo's optimizee knows and says without NetLogo: models are read, values are written, options are checked."""

import math
import pickle

import numpy as np
import pytest

from l2l_dask import Categorical, Integer, Real, Space, registry
from l2l_dask.errors import EvaluationError, PluginError
from optimizees import _netlogo_workspace, _simulators, netlogo
from optimizees._netlogo_files import extensions, home, jars, literal, searched, widgets
from optimizees._netlogo_workspace import Model
from optimizees.netlogo import NetLogo

SECTION = "@#$#@#$#@\n"
VIEW = (
    "GRAPHICS-WINDOW\n210\n10\n320\n120\n2\n2\n20.0\n1\n10\n1\n1\n1\n0\n0\n0\n1\n-2\n2\n-2\n2\n0\n0\n1\nticks\n30.0\n"
)
LEVEL = "SLIDER\n1\n2\n3\n4\nLevel of water\nlevel\n0\n10\n2.5\n0.5\n1\nm\nHORIZONTAL\n"
NUMBER = "SLIDER\n1\n2\n3\n4\nNIL\nHow-many\n1\n9\n4\n1\n1\nNIL\nVERTICAL\n"
EDGE = "SLIDER\n1\n2\n3\n4\nNIL\nedge\n0\nmax-pxcor\n1\n1\n1\nNIL\nHORIZONTAL\n"
FIXED = "SLIDER\n1\n2\n3\n4\nNIL\nfixed\n3\n3\n3\n1\n1\nNIL\nHORIZONTAL\n"
OPEN = "SWITCH\n1\n2\n3\n4\nNIL\nopen?\n0\n1\n-1000\n"
MODE = 'CHOOSER\n1\n2\n3\n4\nNIL\nmode\n"fast and \\"loose\\"" 2 0.5 true\n0\n'
LABEL = "INPUTBOX\n1\n2\n3\n4\nlabel-text\nred\n1\n0\nString\n"
NOTE = "TEXTBOX\n1\n2\n3\n4\nSLIDER of nothing\n11\n0.0\n0\n"
WIDGETS = (LEVEL, NUMBER, EDGE, FIXED, OPEN, MODE, LABEL, NOTE)


def model_text(interface=(VIEW, LEVEL, NUMBER)):
    shape = "default\ntrue\n0\nPolygon -7500403 true true 150 20 60 270 240 270\n\n"
    parts = ["to setup end\n", "\n".join(interface) + "\n", "", shape, "NetLogo 4.1.3\n", "", "", "", "", ""]
    return SECTION.join(parts)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Make an optimizee of a model of the user's own, with what looks like an installation of NetLogo."""
    (tmp_path / "NetLogo.jar").touch()
    monkeypatch.setenv("NETLOGO_HOME", str(tmp_path))

    def build(text=None, **options):
        path = tmp_path / "water.nlogo"
        path.write_text(text or model_text())
        given = {"fitness": {"total": "total"}, "parameters": ["level"], "ticks": 4, "interval": 1, "repeats": 1}
        return NetLogo(str(path), **given | options)

    return build


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.1, "0.1"),
        (3, "3"),
        (-2.5e-7, "-2.5E-07"),
        (True, "true"),
        (np.float64(0.5), "0.5"),
        (np.bool_(False), "false"),
        ('say "a\\b"\n', '"say \\"a\\\\b\\"\\n"'),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), "[[1.0 2.0] [3.0 4.0]]"),
        (["a", 1, [True]], '["a" 1 [true]]'),
    ],
)
def test_a_value_is_written_as_netlogo_does(value, written):
    assert literal(value) == written


@pytest.mark.parametrize("value", [None, math.nan, math.inf, [1.0, None], 1j])
def test_what_netlogo_does_not_have_is_refused(value):
    with pytest.raises(EvaluationError, match="expected a number, true, false, a text or a list"):
        literal(value)


def test_widgets_are_read_off_a_model_and_become_parameters():
    found = widgets(model_text(interface=(VIEW, *WIDGETS)))
    assert list(found) == ["level", "how-many", "edge", "fixed", "open?", "mode", "label-text"]
    assert found["level"].parameter() == Real(0.0, 10.0)
    assert found["how-many"].parameter() == Integer(1, 9)
    assert found["open?"].parameter() == Categorical([True, False])
    assert found["mode"].parameter() == Categorical(['fast and "loose"', 2, 0.5, True])


def test_what_is_empty_in_a_widget_leaves_it_a_widget():
    chooser = "CHOOSER\n1\n2\n3\n4\nNIL\nmode\n\n0\n"
    text = "INPUTBOX\n1\n2\n3\n4\nlabel-text\n\n1\n0\nString\n"
    found = widgets(model_text(interface=(VIEW, chooser, text, LEVEL)))
    assert [(name, widget.kind) for name, widget in found.items()] == [
        ("mode", "chooser"),
        ("label-text", "input"),
        ("level", "slider"),
    ]
    with pytest.raises(PluginError, match="the chooser 'mode' has no range: give its range"):
        found["mode"].parameter()


def test_windows_line_ends_make_no_difference():
    text = model_text(interface=(VIEW, *WIDGETS))
    assert widgets(text.replace("\n", "\r\n")) == widgets(text)


def test_the_widgets_of_netlogo_7_are_read_too():
    text = """<?xml version="1.0" encoding="utf-8"?>
    <model version="NetLogo 7.0.0"><widgets>
    <slider variable="level" display="Level of water" min="0" max="10" step="0.5" default="2.5"></slider>
    <slider variable="How-many" min="1" max="9" step="1" default="4"></slider>
    <switch variable="open?" on="true"></switch>
    <chooser variable="mode" current="0"><choice type="string" value="2"></choice><choice type="double" value="2">
    </choice></chooser><input variable="label-text" type="string">red</input><button>go</button>
    </widgets><code>to go end</code></model>"""
    found = widgets(text)
    assert {name: found[name] for name in ("level", "how-many", "open?", "label-text")} == {
        name: widget
        for name, widget in widgets(model_text(interface=(VIEW, *WIDGETS))).items()
        if name in ("level", "how-many", "open?", "label-text")
    }
    assert found["mode"].parameter() == Categorical(["2", 2])
    with pytest.raises(PluginError, match="the model is not valid XML"):
        widgets("<model>")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("edge", r"the slider 'edge' goes from '0' to 'max-pxcor'.*only NetLogo can compute: give its range"),
        ("fixed", r"the slider 'fixed' goes from 3 to 3, which is no range: give its range"),
        ("label-text", r"the input 'label-text' has no range: give its range"),
        ("nothing", r"m.nlogo has no slider, switch or chooser 'nothing', it has level, How-many, edge"),
    ],
)
def test_a_widget_without_a_range_is_named_with_what_to_do(name, message):
    found = widgets(model_text(interface=(VIEW, *WIDGETS)))
    with pytest.raises(PluginError, match=message):
        searched([name], found, "m.nlogo")


def test_a_range_beside_the_slider_s_has_its_kind_of_numbers():
    found = widgets(model_text(interface=(VIEW, *WIDGETS)))
    given = {"how-many": [2, 5], "level": [2, 5], "hidden": [0, 1], "drop": {"low": 1, "high": 8, "log": True}}
    assert searched(given, found, "m.nlogo") == {
        "how-many": Integer(2, 5),
        "level": Real(2, 5),
        "hidden": Real(0, 1),
        "drop": Real(1, 8, log=True),
    }
    with pytest.raises(PluginError, match=r"parameters: expected \[low, high\], got \[1\]"):
        searched({"level": [1]}, found, "m.nlogo")


@pytest.mark.parametrize(
    ("files", "main", "also"),
    [
        (["NetLogo.jar", "lib/scala-library.jar", "lib/asm.jar"], "NetLogo.jar", ["asm.jar", "scala-library.jar"]),
        (["app/NetLogo.jar", "app/asm.jar"], "app/NetLogo.jar", ["asm.jar"]),
        (["app/netlogo-6.2.0.jar", "app/parboiled.jar"], "app/netlogo-6.2.0.jar", ["parboiled.jar"]),
        (
            ["lib/app/netlogo-6.4.0.jar", "lib/app/asm.jar", "lib/other.jar"],
            "lib/app/netlogo-6.4.0.jar",
            ["asm.jar"],
        ),
        (["Java/netlogo-6.4.0.jar", "Java/asm.jar"], "Java/netlogo-6.4.0.jar", ["asm.jar"]),
        (
            ["NetLogo 6.2.2.app/Contents/Java/netlogo-6.2.2.jar", "NetLogo 6.2.2.app/Contents/Java/asm.jar"],
            "NetLogo 6.2.2.app/Contents/Java/netlogo-6.2.2.jar",
            ["asm.jar"],
        ),
        (["lib/app/netlogo-7.0.0.jar", "lib/app/asm.jar"], "lib/app/netlogo-7.0.0.jar", ["asm.jar"]),
        (["netlogo-6.9.0.jar", "netlogo-6.10.0.jar", "netlogo-6.9.0-sources.jar"], "netlogo-6.10.0.jar", []),
    ],
)
def test_the_jars_of_every_version_s_layout_are_found(files, main, also, tmp_path):
    for file in [*files, "extensions/array/array.jar"]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = jars(tmp_path)
    assert found[0] == tmp_path / main
    assert [jar.name for jar in found[1:]] == also
    if len(found[0].relative_to(tmp_path).parts) <= 3:
        assert extensions(found[0]) == tmp_path / "extensions"


def test_where_netlogo_is_must_be_known_and_true(monkeypatch, tmp_path):
    monkeypatch.delenv("NETLOGO_HOME", raising=False)
    with pytest.raises(PluginError, match="set the environment variable NETLOGO_HOME to its folder"):
        NetLogo()
    with pytest.raises(PluginError, match=r"there is no folder .*nowhere: NETLOGO_HOME must be where NetLogo is"):
        NetLogo(netlogo_home=str(tmp_path / "nowhere"))
    monkeypatch.setenv("NETLOGO_HOME", str(tmp_path))
    with pytest.raises(PluginError, match=r"there is no NetLogo in .*: expected NetLogo.jar, or netlogo-<version>.jar"):
        NetLogo()
    (tmp_path / "other").mkdir()
    assert home(str(tmp_path / "other")) == tmp_path / "other"


def test_a_missing_jpype_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setattr(_simulators, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r"JPype, .*is not installed: pip install 'l2l-dask\[netlogo\]'"):
        NetLogo()


def test_a_missing_java_is_a_failed_evaluation_that_says_so(own, monkeypatch):
    import jpype

    def start(*args, **options):
        raise jpype.JVMNotFoundException("No JVM shared library file (libjvm.so) found.")

    monkeypatch.setattr(_netlogo_workspace, "_MACHINE", _netlogo_workspace._Machine())
    monkeypatch.setattr(jpype, "isJVMStarted", lambda: False)
    monkeypatch.setattr(jpype, "startJVM", start)
    optimizee = own()
    optimizee.setup()  # which has no record of its own to tell it in
    with pytest.raises(EvaluationError, match=r"NetLogo needs Java, and none was found: install it, or set JAVA_HOME"):
        optimizee.simulate({"level": 1.0}, seed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ticks": 0}, "ticks: expected an integer from 1 on, got 0"),
        ({"ticks": 2.5}, "ticks: expected an integer from 1 on, got 2.5"),
        ({"interval": 0}, "interval: expected an integer from 1 on, got 0"),
        ({"repeats": 0}, "repeats: expected an integer from 1 on, got 0"),
        ({"repeats": 1.5}, "repeats: expected an integer from 1 on, got 1.5"),
        ({"measure": "max"}, "measure: expected 'end' or 'mean', got 'max'"),
        ({"go": " "}, "go: expected a command of NetLogo, got ' '"),
        ({"fitness": None}, r"fitness: expected what is to be measured, as \{food = .*got None"),
        ({"fitness": {"total": " "}}, "fitness: expected what is to be measured"),
        ({"minimize": ["cost"]}, r"minimize: expected some of \['total'\], got 'cost'"),
        ({"record": {"a b": "1"}}, "record: expected reporters by names of letters"),
        ({"record": {"total": "1"}}, "record: 'total' is a fitness, whose course is saved anyway"),
        ({"commands": {"level": "set level 1"}}, r"commands: expected \{\} for the value of 'level'"),
        ({"seeds": []}, r"seeds: expected one or several different integers, got \[\]"),
        ({"seeds": [1, 1]}, "seeds: expected one or several different integers"),
        ({"seeds": [2**31]}, "seeds: expected an integer from -2147483648 to 2147483647, got 2147483648"),
        ({"seeds": [1.5]}, "seeds: expected an integer from -2147483648 to 2147483647, got 1.5"),
        ({"parameters": ["depth"]}, "water.nlogo has no slider, switch or chooser 'depth', it has level, How-many"),
    ],
)
def test_impossible_options_are_refused(options, message, own):
    with pytest.raises(PluginError, match=message):
        own(**options)


def test_a_model_that_does_not_exist_is_named(own, tmp_path):
    with pytest.raises(PluginError, match=r'there is no model .*/nothing.nlogo: expected "ants" or the path'):
        own().__class__("nothing.nlogo", fitness="1")


def test_all_sliders_with_a_range_are_searched_unless_said_otherwise(own):
    text = model_text(interface=(VIEW, *WIDGETS))
    assert own(text, parameters=None).space == Space({"level": Real(0.0, 10.0), "How-many": Integer(1, 9)})


def test_the_objectives_have_the_names_and_directions_that_the_options_say(own):
    found = own(fitness={"total": "total", "cost": "level"}, minimize=["cost"]).objectives
    assert found.to_dict() == {"total": "maximize", "cost": "minimize"}
    named = own(fitness={"food": "total", "f": "level"}, minimize="food", jvm_options="-Xmx2g")
    assert named.objectives.to_dict() == {"food": "minimize", "f": "maximize"}  # a text is one name, not its letters
    assert named.jvm_options == ("-Xmx2g",)
    assert own(fitness="count patches").objectives.to_dict() == {"count patches": "maximize"}


def test_the_registry_knows_every_option():
    plugin = registry.find("optimizees", "netlogo")
    described = registry.options(plugin)
    assert plugin is NetLogo
    assert all(option.doc for option in described.values())
    assert {"model", "fitness", "parameters", "ticks", "repeats", "seeds", "jvm_options"} <= set(described)
    with pytest.raises(PluginError, match=r"option 'measure'.*got 'max'"):
        registry.build(plugin, "netlogo", {"measure": "max"})


def test_the_model_that_comes_with_the_package_has_a_slider_for_each_parameter():
    found = widgets((netlogo._OWN / "ants.nlogo").read_text())
    for name, parameter in netlogo._ANTS.items():
        slider = found[name].parameter()
        assert (parameter.low, parameter.high) == (slider.low, slider.high), name


def test_the_file_runs_where_it_is_as_it_was_and_else_a_copy_of_it(tmp_path):
    path = tmp_path / "m.nlogo"
    path.write_text("first")
    model = pickle.loads(pickle.dumps(Model.read(path)))
    with model.file() as file:
        assert file == path
    for change in (lambda: path.write_text("second"), path.unlink):
        change()
        with model.file() as file:
            assert file != path
            assert (file.name, file.read_text()) == ("m.nlogo", "first")
        assert not file.exists()
