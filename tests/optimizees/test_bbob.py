"""BBOB: values equal COCO's, optima are optima."""

import pickle

import numpy as np
import pytest

from l2l_dask import registry
from l2l_dask.errors import PluginError
from l2l_dask.evaluation import Candidate
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee
from optimizees.bbob import BBOB

FUNCTIONS = range(1, 25)

# (dim, instance, phase of the point); the last point lies outside the domain, where the boundary penalty acts.
CASES = ((2, 1, 0), (5, 2, 1), (10, 4, 2), (5, 71, 3))

# Function -> its value in each of CASES, computed with cocoex 2.8.2, suite "bbob".
COCO = {
    1: (97.19741088, 440.97828488000005, 45.459188960000006, 307.57635184000003),
    2: (2965670.8432718823, 1377833.733380406, 1107730.6430871394, 19610288.149763353),
    3: (-287.887064413382, 252.95101410813, 616.5460180810087, 658.8797272814323),
    4: (141.69835730230494, 266.26165485094134, 9322.436063837673, 6065.084128646955),
    5: (52.827999999999996, 723.0331957546268, 1175.9756215146253, 18.41188455348005),
    6: (47.77353289891383, 300675.36595991685, 1023361.7788080198, 1099979.9897855574),
    7: (335.37908306525344, 905.4749519386783, 566.6259115460697, 2002.5147343893982),
    8: (91486.51292288332, 409658.79715009267, 448196.2959887418, 694760.698067282),
    9: (10210.391684778324, 88728.89192663493, 300600.1401425826, 622019.4194310597),
    10: (2333582.6024893955, 9663975.3915948, 27698013.293761093, 53383911.73409946),
    11: (11948979.531909268, 121766.63415766195, 32191569.74931435, 29979886.776013218),
    12: (1100590652.1827216, 626723428.1728839, 536580995.0993522, 1021532954.0464728),
    13: (914.815681093764, 1786.601881364037, 3017.64957861534, 1420.519426124361),
    14: (-46.72451479913248, -125.52392108608908, 137.2419794930933, 122.67749408983529),
    15: (1096.432892033109, 693.775779365522, 652.7602592652138, 126.84011149616191),
    16: (102.17038584216189, -287.5948403239568, -363.3855327381673, 233.94536136216263),
    17: (-9.307438203481688, 39.73618860987805, 68.98748099846013, 1410.7507033713098),
    18: (-8.331450447266565, 78.98871185211824, 205.15803377280844, 2431.8618530792955),
    19: (-53.301772363942966, 116.79694829727254, 5.931324888983319, 313.00334067576523),
    20: (48351.03618435528, 83248.76712663197, 77166.3509494682, 132474.29367135878),
    21: (64.90820064812694, 65.54158132025978, 46.01939013188192, 2.6484928461381543),
    22: (-952.2358074961903, 1081.3747385250774, 382.24849704842956, 243.65278114461069),
    23: (36.57420057772945, 17.510465680344687, -209.6272736032747, 272.80901628849335),
    24: (120.35741703557005, 282.10096339027075, 447.82727931391327, 44421.99734361491),
}


def point(dim, phase):
    amplitude = 6.5 if phase == 3 else 4.5
    return np.round(amplitude * np.sin(1.7 * np.arange(1, dim + 1) + phase), 3)


def value(optimizee, x):
    params = {"x": np.asarray(x, float)}
    return optimizee.evaluate(params, Context(Candidate(0, params, 1)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_equal_those_of_coco(function):
    values = [value(BBOB(function, dim, instance), point(dim, phase)) for dim, instance, phase in CASES]
    np.testing.assert_allclose(values, COCO[function], rtol=1e-9)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dim", [2, 3, 40])
def test_no_point_is_better_than_the_optimum(function, dim):
    bbob = BBOB(function, dim, instance=3)
    rng = np.random.default_rng(0)
    near = bbob.x_opt + 10.0 ** rng.uniform(-6, 0, (50, 1)) * rng.normal(size=(50, dim))
    points = np.concatenate([rng.uniform(-5, 5, (50, dim)), near])
    assert value(bbob, bbob.x_opt) == pytest.approx(bbob.f_opt, abs=1e-9)
    assert min(value(bbob, x) for x in points) > bbob.f_opt - 1e-9


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_optimum_lies_in_the_space_and_is_no_view_of_the_state(function):
    bbob = BBOB(function, 4)
    bbob.space.encode({"x": bbob.x_opt})
    bbob.x_opt[:] = 99
    assert np.all(np.abs(bbob.x_opt) <= 5)


def test_instances_differ_and_are_reproducible():
    values = [value(BBOB(15, 3, instance), np.zeros(3)) for instance in (1, 2, 1)]
    assert values[0] == values[2] != values[1]


def test_a_pickled_instance_has_the_same_values_before_and_after_setup():
    bbob = BBOB(21, 3)
    before = pickle.loads(pickle.dumps(bbob))
    bbob.setup()
    after = pickle.loads(pickle.dumps(bbob))
    assert value(before, np.ones(3)) == value(after, np.ones(3)) == value(bbob, np.ones(3))


@pytest.mark.parametrize("function", [1, 7, 21, 24])
def test_the_contract_holds(function):
    check_optimizee(BBOB(function, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"function": 25}, "function: expected an integer from 1 to 24, got 25"),
        ({"dim": 1}, "dim: expected an integer from 2 on, got 1"),
        ({"instance": 0}, "instance: expected an integer from 1 on, got 0"),
        ({"function": True}, "function: expected an integer from 1 to 24, got True"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(PluginError) as caught:
        BBOB(**options)
    assert str(caught.value) == message


def test_an_integer_of_numpy_is_one():
    assert BBOB(np.int64(3), np.int64(2)).space == BBOB(3, 2).space


def test_the_registry_knows_every_option():
    plugin = registry.find("optimizees", "bbob")
    described = registry.options(plugin)
    assert plugin is BBOB
    assert list(described) == ["function", "dim", "instance"]
    assert all(option.doc for option in described.values())
