"""Products of vectors with Jacobians, inside and outside of compiled loops."""

import keras
import numpy as np
from golden_data import array, tensor
from keras import ops

from keras_diffusion.core.autodiff import pullback
from keras_diffusion.runtime.compile import Compiled

X = np.random.default_rng(0).standard_normal((3, 2))
MATRIX = np.array([[1.0, 2.0], [-0.5, 3.0]])


def function(x):
    y = ops.matmul(ops.square(x), tensor(MATRIX))
    return y, ops.sum(y)


def test_value_aux_and_product():
    y, aux, vjp = pullback(function, tensor(X))
    np.testing.assert_allclose(array(y), X**2 @ MATRIX, rtol=1e-5)
    np.testing.assert_allclose(array(aux), (X**2 @ MATRIX).sum(), rtol=1e-5)
    for v in (np.ones((3, 2)), np.arange(6.0).reshape(3, 2)):
        np.testing.assert_allclose(array(vjp(tensor(v))), 2 * X * (v @ MATRIX.T), rtol=1e-5)


def test_a_function_that_ignores_its_argument_has_derivative_zero():
    constant = tensor(np.ones((3, 2)))
    y, _, vjp = pullback(lambda x: (constant * 1.0, ()), tensor(X))
    np.testing.assert_array_equal(array(vjp(y)), 0)


def test_inside_a_compiled_loop():
    """x ← x − 0.1·∂(Σx²)/∂x, five times: x·0.8⁵."""

    def descend(x):
        def body(i, x):
            y, _, vjp = pullback(lambda x: (ops.sum(ops.square(x)), ()), x)
            return x - 0.1 * vjp(ops.ones_like(y))

        return ops.fori_loop(0, 5, body, x)

    np.testing.assert_allclose(array(Compiled(descend)(tensor(X))), X * 0.8**5, rtol=1e-5)
    assert keras.backend.backend() != "torch" or not Compiled(descend)(tensor(X)).requires_grad
