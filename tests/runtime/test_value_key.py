import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.guidance import DPS, DynamicThreshold, MaskOperator, StaticThreshold
from keras_diffusion.runtime.recent import Recent
from keras_diffusion.runtime.value_key import value_key

LIMIT = 1.0


def scaled(factor, *more):
    return lambda x: x * factor * LIMIT + sum(more)


def with_default(default=(1, 2)):
    def function(x, more=default):
        return x, more

    return function


def nested(factor):
    return lambda x: (lambda y: y * factor * LIMIT)(x)


SAME = [
    lambda: functools.partial(StaticThreshold, limit=1.0),
    lambda: functools.partial(DynamicThreshold, quantile=0.9, limit=2.0),
    lambda: functools.partial(functools.partial(StaticThreshold, limit=0.5), keep_eps=True),
    lambda: functools.partial(DPS, measurement=np.ones((2, 2)), operator=MaskOperator(np.ones((2, 2))), noise_std=0.1),
    lambda: functools.partial(StaticThreshold, limit=ops.ones((2,))),
    lambda: scaled(2.0),
    lambda: nested(3.0),
    lambda: with_default(),
    lambda: {"a": [1, (2.0, None)], "b": {3}},
    lambda: np.arange(3),
    lambda: float("nan"),
]


@pytest.mark.parametrize("make", SAME)
def test_what_is_made_anew_is_the_same(make):
    first, second = make(), make()
    assert value_key(first) == value_key(second) and hash(value_key(first)) == hash(value_key(second))


DIFFERENT = [
    (functools.partial(StaticThreshold, limit=1.0), functools.partial(StaticThreshold, limit=2.0)),
    (functools.partial(StaticThreshold, limit=1.0), functools.partial(DynamicThreshold, limit=1.0)),
    (functools.partial(StaticThreshold, None, 1.0), functools.partial(StaticThreshold, None, 1)),
    (scaled(2.0), scaled(3.0)),
    (scaled(2.0), scaled(2.0, 1)),
    (nested(2.0), nested(3.0)),
    (with_default((1, 2)), with_default((1, 3))),
    (MaskOperator(np.ones(2)), MaskOperator(np.zeros(2))),
    (np.arange(3), np.arange(3.0)),
    (np.zeros(2), np.array([0.0, -0.0])),
    (True, 1),
    ([1], (1,)),
    (object(), object()),
]


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_what_differs(first, second):
    assert value_key(first) != value_key(second)


def test_a_global_that_a_function_reads_is_part_of_it(monkeypatch):
    before, inside = value_key(scaled(2.0)), value_key(nested(2.0))
    monkeypatch.setitem(globals(), "LIMIT", 2.0)
    assert value_key(scaled(2.0)) != before and value_key(nested(2.0)) != inside


def test_layers_are_themselves():
    assert value_key(keras.layers.Dense(1)) != value_key(keras.layers.Dense(1))
    layer = keras.layers.Dense(1)
    assert value_key(layer) == value_key(layer) and value_key(layer.call) == value_key(layer.call)


def test_recent_things_are_kept_and_others_go():
    table, made = Recent(3), []
    for key in [1, 2, 3, 1, 4, 1, 2]:
        table.get(key, lambda key=key: made.append(key))
    assert made == [1, 2, 3, 4, 2] and len(table) == 3
    table.clear()
    assert len(table) == 0 and table.values() == []
