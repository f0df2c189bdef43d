import keras
import numpy as np
import pytest
from golden_data import array, tensor
from keras import ops

from keras_diffusion.runtime import compile as compiling
from keras_diffusion.runtime.compile import Compiled


def _jax_on_a_cpu():
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu" and jax.local_device_count() == 1


on_a_cpu = pytest.mark.skipif(not _jax_on_a_cpu(), reason="options of XLA on CPUs")


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


@pytest.fixture
def options():
    """`compiler_options`, without what it remembers from before."""
    compiling.compiler_options.cache_clear()
    yield compiling.compiler_options
    compiling.compiler_options.cache_clear()


@on_a_cpu
def test_convolutions_are_left_to_the_library_that_uses_all_cores(options):
    import jax

    def convolve(x, kernel):
        return ops.conv(x, kernel, padding="same", data_format="channels_last")

    x, kernel = tensor(np.ones((2, 8, 8, 32))), tensor(np.ones((3, 3, 32, 32)))
    texts = [jax.jit(convolve, compiler_options=o).lower(x, kernel).compile().as_text() for o in (None, options())]
    if "__ynn_fusion" not in texts[0]:
        pytest.skip("this XLA leaves convolutions to no such library by itself: before jaxlib 0.10")
    assert "__ynn_fusion" not in texts[1]


@on_a_cpu
def test_flags_of_the_user_win(options, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
    assert options() is None


@on_a_cpu
def test_several_devices_use_the_cores_as_they_are(options, monkeypatch):
    import jax

    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    assert options() is None


@on_a_cpu
def test_an_xla_that_does_not_know_the_option_compiles_without(options, monkeypatch):
    monkeypatch.setattr(compiling, "_LIBRARY", "xla_cpu_option_of_another_version")
    assert options() is None
    np.testing.assert_array_equal(array(Compiled(lambda x: x + x)(tensor([1.0]))), [2])


@on_a_cpu
@pytest.mark.parametrize("method", ["fit", "evaluate", "generate"])
def test_models_are_compiled_with_the_options(method, make_model, blobs, monkeypatch):
    model = make_model()
    monkeypatch.setattr(compiling, "compiler_options", lambda: {"xla_cpu_no_such_option": "1"})
    call = {
        "fit": lambda: model.fit(blobs, batch_size=32, verbose=0),
        "evaluate": lambda: model.evaluate(blobs, batch_size=32, verbose=0),
        "generate": lambda: model.generate(2, {"labels": [0, 1]}, num_steps=2, verbose=0),
    }[method]
    with pytest.raises(Exception, match="xla_cpu_no_such_option"):
        call()
