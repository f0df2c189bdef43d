import keras
import numpy as np
from golden_data import array, tensor

from keras_diffusion.core.compile import Compiled


def test_result_equals_the_function_for_pytrees():
    def function(tree, scale):
        return {"sum": tree["a"] + tree["b"][0], "scaled": scale * tree["a"]}

    tree = {"a": tensor([1.0, 2.0]), "b": (tensor([3.0, 4.0]),)}
    result = Compiled(function)(tree, tensor(10.0))
    np.testing.assert_array_equal(array(result["sum"]), [4, 6])
    np.testing.assert_array_equal(array(result["scaled"]), [10, 20])


def test_other_values_do_not_trace_again_but_other_shapes_do():
    compiled = Compiled(lambda x, y: x + y)
    for value in (1.0, 2.0, 3.0):
        np.testing.assert_array_equal(array(compiled(tensor([value]), tensor(1.0))), [value + 1])
    calls_without_tracing = 3 if keras.backend.backend() == "torch" else 1
    assert compiled.traces == calls_without_tracing
    np.testing.assert_array_equal(array(compiled(tensor([1.0, 2.0]), tensor(1.0))), [2, 3])
    assert compiled.traces == calls_without_tracing + 1
    compiled(tensor([5.0]), tensor(1.0))  # the first program is still there
    assert compiled.traces == calls_without_tracing + (2 if keras.backend.backend() == "torch" else 1)


def test_structures_of_the_same_shapes_are_told_apart():
    compiled = Compiled(lambda tree: tree["a"] - tree["b"] if "b" in tree else tree["a"] - tree["c"])
    one, two = tensor([1.0]), tensor([2.0])
    assert array(compiled({"a": two, "b": one})) == 1
    assert array(compiled({"a": one, "c": two})) == -1


def test_no_gradients_are_recorded_on_torch():
    variable = keras.Variable(np.ones(2, "float32"))
    result = Compiled(lambda x: x * variable.value)(tensor([1.0, 2.0]))
    assert not getattr(result, "requires_grad", False)
