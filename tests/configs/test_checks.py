import re

import numpy as np
import pytest
from keras import ops

from keras_diffusion.configs.checks import (
    check_choice,
    check_flag,
    check_number,
    check_text,
    check_whole,
    did_you_mean,
    shown,
)


class Huge:
    def __repr__(self):
        return "x" * 10_000_000


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_whole_numbers_become_ints(value):
    number = check_whole("steps", value, least=1)
    assert type(number) is int and number == 3


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int8(2), np.array(2.0)])
def test_numbers_become_floats(value):
    number = check_number("eta", value, least=0)
    assert type(number) is float and number == 2.0


def test_scalars_of_the_backend_are_numbers():
    assert check_number("eta", ops.convert_to_tensor(0.5)) == 0.5
    assert check_whole("steps", ops.convert_to_tensor(4)) == 4


@pytest.mark.parametrize("value", [True, 2.0, "2", None, [2], float("nan"), 0, -1, 11, np.zeros(2), {}, 10**4000])
def test_what_is_no_whole_number(value):
    with pytest.raises(ValueError, match=r"^`steps` must be an integer ≥ 1 and ≤ 10\. Received: steps="):
        check_whole("steps", value, least=1, most=10)


@pytest.mark.parametrize(
    "value", [True, "0.5", None, [0.5], float("nan"), float("inf"), -0.1, 1.0, np.ones(2), 10**400, 1j, object]
)
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match=r"^`share` must be a finite number ≥ 0 and < 1\. Received: share="):
        check_number("share", value, least=0, below=1)


def test_infinity_where_it_is_allowed():
    assert check_number("s_tmax", float("inf"), above=0, finite=False) == float("inf")
    with pytest.raises(ValueError, match="`s_tmax` must be a number > 0. Received: s_tmax=nan"):
        check_number("s_tmax", float("nan"), above=0, finite=False)


def test_none_where_it_is_allowed():
    assert check_whole("size", None, optional=True) is None
    assert check_number("size", None, optional=True) is None
    assert check_flag("size", None, optional=True) is None
    assert check_text("size", None, optional=True) is None
    with pytest.raises(ValueError, match="`size` must be an integer, or None. Received: size='x'"):
        check_whole("size", "x", optional=True)


def test_a_rule_of_ones_own():
    with pytest.raises(ValueError, match="Etas are shares. Received: eta=2$"):
        check_number("eta", 2, most=1, rule="Etas are shares")


@pytest.mark.parametrize("value", [0, 1, "yes", None, np.zeros(2)])
def test_what_is_no_flag(value):
    with pytest.raises(ValueError, match="`shuffle` must be True or False. Received: shuffle="):
        check_flag("shuffle", value)


def test_flags():
    assert check_flag("shuffle", np.True_) is True and check_flag("shuffle", False) is False


@pytest.mark.parametrize("value", [True, 1.0, "1", [1], np.zeros(3), {}, None])
def test_what_is_no_choice(value):
    with pytest.raises(ValueError, match="`channels` is one of 1, 3. Received: channels="):
        check_choice("channels", value, (1, 3))


def test_choices_and_what_was_meant():
    assert check_choice("channels", np.int64(3), (1, 3)) == 3
    with pytest.raises(ValueError, match=r"Received: variance='Fixed_smal'\. Did you mean 'fixed_small'\?$"):
        check_choice("variance", "Fixed_smal", ("fixed_small", "fixed_large"))
    assert did_you_mean("zebra", ("eta", "order")) == ""
    assert did_you_mean(3, ("eta",)) == ""


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000_000,
        Huge(),
        np.zeros((1000, 1000)),
        list(range(10**6)),
        {i: "y" * 10**6 for i in range(20)},
        [[["z" * 10**6] * 50] * 50] * 50,
        10**10_000,
        b"\0" * 10**7,
    ],
    ids=["text", "object", "array", "list", "dict", "nested", "integer", "bytes"],
)
def test_long_values_are_shortened(value):
    assert len(shown(value)) <= 601


def test_what_is_shown_of_a_value():
    assert shown(np.zeros((100, 3), "float32")) == "<ndarray of shape (100, 3), float32>"
    assert shown(np.float32(0.5)) == "0.5" and shown(np.array([1, 2])) == "array([1, 2])"
    assert shown("abc") == "'abc'" and shown({"a": [1, None]}) == "{'a': [1, None]}"
    assert re.fullmatch(r"<\w+ of shape \(20, 2\), float32>", shown(ops.zeros((20, 2), "float32")))
