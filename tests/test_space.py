"""Space: encoding is exact, bounded and conditional, and says in one line what is wrong."""

import json
import math
import tomllib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from l2l_dask import Categorical, Integer, Real, Space
from l2l_dask.errors import SpaceError

examples = settings(max_examples=60, deadline=None, derandomize=True)

numbers = st.floats(-1e9, 1e9, allow_nan=False)
positive = st.floats(1e-9, 1e9)
shapes = st.sampled_from([(), (3,), (2, 2)])
choices = st.lists(st.none() | st.booleans() | st.text(max_size=3) | st.integers(-9, 9), min_size=1, max_size=5)


@st.composite
def reals(draw):
    shape = draw(shapes)
    if draw(st.booleans()):
        return Real(loc=draw(numbers), scale=draw(positive), shape=shape)
    log = draw(st.booleans())
    low, high = sorted([draw(positive if log else numbers) for _ in range(2)])
    assume(low < high)
    return Real(low, high, log=log, shape=shape)


@st.composite
def integers(draw):
    log = draw(st.booleans())
    bounds = st.integers(1, 2**40) if log else st.integers(-(2**50), 2**50)
    low, high = sorted([draw(bounds), draw(bounds)])
    assume(low < high)
    return Integer(low, high, log=log, shape=draw(shapes))


@st.composite
def categoricals(draw):
    options = draw(choices)
    distinct = [c for i, c in enumerate(options) if not any(type(c) is type(d) and c == d for d in options[:i])]
    return Categorical(distinct, shape=draw(shapes))


spaces = st.lists(reals() | integers() | categoricals(), min_size=1, max_size=4).map(
    lambda parameters: Space({f"p{i}": p for i, p in enumerate(parameters)})
)
seeds = st.integers(0, 2**32)

CONDITIONAL = Space(
    {
        "w": Real(-1.0, 1.0, shape=(2,), when={"n": [3, 4]}),
        "n": Integer(1, 4, when={"model": "adex"}),
        "model": Categorical(["lif", "adex", "poisson"]),
        "rate": Real(0.1, 10.0, log=True, when={"model": ["lif", "adex"]}),
    }
)


@examples
@given(spaces, seeds)
def test_decoding_and_encoding_give_back_integers_and_categoricals_exactly_and_reals_to_a_few_ulp(space, seed):
    for x in space.sample(np.random.default_rng(seed), 3):
        params = space.decode(x)
        again = space.decode(space.encode(params))
        for name, p in space.items():
            if not isinstance(p, Real):
                assert np.array_equal(again[name], params[name]), name
                continue
            # A few ulp of the largest number on the way: the range or, on a logarithmic scale, the logarithm.
            span = abs(p.loc) + p.scale if p.low is None else abs(p.low) + abs(p.high)
            tolerance = 8 * np.spacing(span)
            if p.log:
                tolerance = 16 * np.finfo(float).eps * (1 + max(abs(math.log(p.low)), abs(math.log(p.high)))) * p.high
            assert np.abs(np.subtract(again[name], params[name])).max() <= tolerance


@examples
@given(spaces, seeds)
def test_decoded_values_lie_within_their_bounds_whatever_the_vector(space, seed):
    rng = np.random.default_rng(seed)
    corners = [np.zeros(space.dim), np.ones(space.dim), np.full(space.dim, 1 - 2.0**-53)]
    for x in [*corners, *rng.normal(0.5, 2.0, (3, space.dim))]:
        for name, value in space.decode(x).items():
            p = space[name]
            assert np.shape(value) == p.shape
            for element in np.asarray(value, dtype=object).ravel():
                if isinstance(p, Categorical):
                    assert any(type(element) is type(c) and element == c for c in p.choices)
                else:
                    assert p.low is None or p.low <= element <= p.high
                    assert isinstance(p, Real) or element == int(element)


@examples
@given(spaces, seeds)
def test_samples_of_bounded_dimensions_lie_in_the_unit_interval_and_all_are_finite(space, seed):
    x = space.sample(np.random.default_rng(seed), 20)
    assert x.shape == (20, space.dim)
    assert np.isfinite(x).all()
    assert ((x[:, space.bounded] >= 0) & (x[:, space.bounded] <= 1)).all()


@examples
@given(spaces, seeds, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_sampling_row_by_row_equals_sampling_at_once(space, seed, parts):
    at_once, split = np.random.default_rng(seed), np.random.default_rng(seed)
    expected = space.sample(at_once, sum(parts))
    assert np.array_equal(np.concatenate([space.sample(split, n) for n in parts]), expected)
    assert at_once.random() == split.random()


@examples
@given(spaces, seeds)
def test_snapped_vectors_are_what_encoding_gives_and_decode_to_the_same(space, seed):
    for x in space.sample(np.random.default_rng(seed), 3):
        snapped = space.snap(x)
        assert np.array_equal(space.snap(snapped), snapped)
        assert np.array_equal(space.natural(snapped), space.natural(x))
        discrete = space.n_values > 0
        assert np.array_equal(snapped[~discrete], x[~discrete])
        assert np.array_equal(space.encode(space.decode(x))[discrete], snapped[discrete])


@examples
@given(spaces)
def test_a_space_survives_its_description_in_json(space):
    described = json.loads(json.dumps(space.to_dict()))
    again = Space.from_dict(described)
    assert again.to_dict() == space.to_dict()
    assert again.labels == space.labels
    x = space.sample(np.random.default_rng(0), 3)
    assert np.array_equal(again.natural(x), space.natural(x))


def test_a_conditional_space_survives_its_description():
    again = Space.from_dict(json.loads(json.dumps(CONDITIONAL.to_dict())))
    x = CONDITIONAL.sample(np.random.default_rng(0), 50)
    assert np.array_equal(again.natural(x), CONDITIONAL.natural(x), equal_nan=True)


@examples
@given(seeds)
def test_a_parameter_is_present_exactly_when_its_condition_and_its_parents_hold(seed):
    for x in CONDITIONAL.sample(np.random.default_rng(seed), 10):
        params = CONDITIONAL.decode(x)
        expected = {"model"}
        expected |= {"rate"} if params["model"] in ("lif", "adex") else set()
        expected |= {"n"} if params["model"] == "adex" else set()
        expected |= {"w"} if params.get("n") in (3, 4) else set()
        assert set(params) == expected
        active = {
            label.partition("[")[0] for label, on in zip(CONDITIONAL.labels, CONDITIONAL.active(x), strict=True) if on
        }
        assert active == expected
        assert np.array_equal(np.isnan(CONDITIONAL.natural(x)), ~CONDITIONAL.active(x))
        again = CONDITIONAL.decode(CONDITIONAL.encode(params))
        assert again.keys() == params.keys()
        assert all(np.allclose(again[k], params[k]) for k in params if k != "model")


@examples
@given(seeds)
def test_many_vectors_at_once_are_treated_as_each_by_itself(seed):
    x = CONDITIONAL.sample(np.random.default_rng(seed), 6).reshape(2, 3, -1)
    for function in (CONDITIONAL.natural, CONDITIONAL.active, CONDITIONAL.snap, CONDITIONAL.clip):
        each = np.array([[function(row) for row in rows] for rows in x])
        assert np.array_equal(function(x), each, equal_nan=True)


@pytest.mark.parametrize("parameter", [Integer(0, 9), Integer(1, 50, log=True), Categorical(list("abcdefghij"))])
def test_every_value_of_a_discrete_parameter_has_a_vector(parameter):
    space = Space({"p": parameter})
    values = parameter.choices if isinstance(parameter, Categorical) else range(parameter.low, parameter.high + 1)
    assert [space.decode(space.encode({"p": v}))["p"] for v in values] == list(values)


def test_linear_bins_have_equal_width_and_logarithmic_ones_equal_ratio():
    x = np.linspace(0, 1, 10_001)[:-1, None]
    assert np.bincount(Space({"n": Integer(0, 3)}).natural(x)[:, 0].astype(int)).tolist() == [2500] * 4
    counts = np.bincount(Space({"n": Integer(1, 10, log=True)}).natural(x)[:, 0].astype(int))[1:]
    expected = [math.log((n + 0.5) / (n - 0.5)) / math.log(10.5 / 0.5) * 10_000 for n in range(1, 11)]
    assert np.abs(counts - expected).max() <= 1


def test_labels_kinds_and_dimensions_follow_the_order_and_shapes_of_the_parameters():
    space = Space({"a": Real(0, 1), "w": Integer(0, 1, shape=(2, 2)), "c": Categorical(["x"], shape=(1,))})
    assert space.labels == ("a", "w[0,0]", "w[0,1]", "w[1,0]", "w[1,1]", "c[0]")
    assert space.kinds == ("real", *["integer"] * 4, "categorical")
    assert space.dim == 6
    assert space.n_values.tolist() == [0, 2, 2, 2, 2, 1]


def test_unbounded_reals_encode_to_standard_units():
    space = Space({"w": Real(loc=5.0, scale=2.0)})
    assert space.encode({"w": 9.0}).tolist() == [2.0]
    assert space.bounded.tolist() == [False]


def test_true_and_one_are_different_choices():
    space = Space({"c": Categorical([1, True, "1"])})
    for value in (1, True, "1"):
        decoded = space.decode(space.encode({"c": value}))["c"]
        assert decoded == value
        assert type(decoded) is type(value)


def test_a_toml_table_makes_a_space():
    table = tomllib.loads(
        """
        tau_m = {low = 5, high = 50, log = true}
        n = {low = 1, high = 8, type = "integer"}
        model = {choices = ["lif", "adex"]}
        w = {loc = 0.0, scale = 2.0, shape = [3], when = {model = "adex"}}
        """
    )
    space = Space.from_dict(table)
    assert space.to_dict() == {
        "tau_m": {"type": "real", "low": 5, "high": 50, "log": True},
        "n": {"type": "integer", "low": 1, "high": 8, "log": False},
        "model": {"type": "categorical", "choices": ["lif", "adex"]},
        "w": {"type": "real", "loc": 0.0, "scale": 2.0, "shape": [3], "when": {"model": ["adex"]}},
    }


BAD = {
    "empty space": (lambda: Space({}), "at least one parameter"),
    "not a mapping": (lambda: Space([Real(0, 1)]), "at least one parameter"),
    "bracket in a name": (lambda: Space({"a[0]": Real(0, 1)}), r"without '\['"),
    "not a parameter": (lambda: Space({"a": (0, 1)}), "'a' must be Real, Integer or Categorical"),
    "low >= high": (lambda: Real(1, 1), "low must be smaller than high, got low=1, high=1"),
    "low >= high in a table": (lambda: Space.from_dict({"a": {"low": 2, "high": 1}}), "'a': low must be smaller"),
    "one bound": (lambda: Real(0), "both low and high, or neither"),
    "nan bound": (lambda: Real(0, math.nan), "high must be a finite number, got nan"),
    "log of zero": (lambda: Real(0, 1, log=True), "needs low > 0, got low=0"),
    "log without bounds": (lambda: Real(log=True), "needs low and high"),
    "no scale": (lambda: Real(scale=0), "scale must be positive, got 0"),
    "scale with bounds": (lambda: Real(0, 1, scale=2), "without bounds"),
    "infinite range": (lambda: Real(-1e308, 1e308), "high - low must be finite"),
    "fraction": (lambda: Integer(0.5, 2), "low must be an integer, got 0.5"),
    "huge integer": (lambda: Integer(0, 2**60), "lose precision"),
    "log integer of zero": (lambda: Integer(0, 5, log=True), "needs 1 <= low"),
    "no choices": (lambda: Categorical([]), "at least one value"),
    "choices as text": (lambda: Categorical("abc"), "a list"),
    "choice twice": (lambda: Categorical(["a", "a"]), "must differ, got 'a' twice"),
    "choice of a list": (lambda: Categorical([[1]]), "strings, numbers, booleans or None"),
    "shape": (lambda: Real(0, 1, shape=(0,)), "shape must be positive integers"),
    "unknown type": (lambda: Space.from_dict({"a": {"type": "float"}}), "'a': type must be one of"),
    "unknown key": (lambda: Space.from_dict({"a": {"low": 0, "hihg": 1}}), r"'a': unknown \['hihg'\]"),
    "no bounds": (lambda: Space.from_dict({"a": {"type": "integer"}}), "'a': integer needs low and high"),
    "not a table": (lambda: Space.from_dict({"a": 3}), "'a': expected a table like"),
    "log as text": (lambda: Space.from_dict({"a": {"low": 1, "high": 2, "log": "yes"}}), "'a': log must be true"),
    "unknown parent": (lambda: Space({"a": Real(0, 1, when={"b": 1})}), "'a': when= names 'b'"),
    "own parent": (lambda: Space({"a": Integer(0, 1, when={"a": 1})}), "'a': when= names 'a'"),
    "real parent": (
        lambda: Space({"a": Real(0, 1), "b": Real(0, 1, when={"a": 0.5})}),
        "scalar Integer or Cat",
    ),
    "impossible value": (
        lambda: Space({"a": Integer(0, 1), "b": Real(0, 1, when={"a": 2})}),
        "expected a value from 0 to 1, got 2",
    ),
    "circle": (
        lambda: Space({"a": Integer(0, 1, when={"b": 1}), "b": Integer(0, 1, when={"a": 1})}),
        r"\['a', 'b'\] go in a circle",
    ),
    "unknown name": (lambda: CONDITIONAL.encode({"tau": 1}), r"unknown parameters \['tau'\]"),
    "missing": (lambda: CONDITIONAL.encode({"model": "lif"}), "'rate' is missing"),
    "inactive": (lambda: CONDITIONAL.encode({"model": "poisson", "rate": 1.0}), "'rate' is not active"),
    "outside": (
        lambda: CONDITIONAL.encode({"model": "lif", "rate": 11.0}),
        "'rate': expected a value from 0.1 to 10",
    ),
    "not a choice": (lambda: CONDITIONAL.encode({"model": "hh"}), "'model': expected one of"),
    "wrong shape": (lambda: Space({"w": Real(0, 1, shape=(2,))}).encode({"w": 0.5}), r"'w': expected shape \(2,\)"),
    "not a number": (lambda: Space({"a": Real(0, 1)}).encode({"a": "x"}), "'a': expected a finite number, got 'x'"),
    "boolean for a number": (lambda: Space({"a": Real(0, 1)}).encode({"a": True}), "finite number, got True"),
    "half an integer": (lambda: Space({"n": Integer(0, 9)}).encode({"n": 1.5}), "expected an integer, got 1.5"),
    "vector too short": (lambda: CONDITIONAL.natural([0.5]), "vectors of length 5"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_sense_is_refused_in_one_line_that_says_what_was_expected(case):
    make, message = BAD[case]
    with pytest.raises(SpaceError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
