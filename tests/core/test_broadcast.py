import numpy as np
import pytest
from golden_data import array, tensor

from keras_diffusion.core.broadcast import expand_to_rank, per_sample


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 4, 4, 2)])
def test_a_vector_gets_the_rank_of_the_samples(shape):
    expanded = expand_to_rank(tensor([1.0, 2.0, 3.0]), tensor(np.ones(shape)))
    assert tuple(expanded.shape) == (3,) + (1,) * (len(shape) - 1)
    np.testing.assert_array_equal(array(expanded).reshape(-1), [1, 2, 3])


def test_scalars_stay_as_they_are():
    scalar = tensor(2.0)
    assert expand_to_rank(scalar, tensor(np.ones((3, 2)))) is scalar
    assert expand_to_rank(2.0, tensor(np.ones((3, 2)))) == 2.0


def test_per_sample_repeats_a_scalar_and_keeps_a_vector():
    x = tensor(np.ones((3, 2)))
    np.testing.assert_array_equal(array(per_sample(tensor(2.0), x)), [2, 2, 2])
    vector = tensor([1.0, 2.0, 3.0])
    assert per_sample(vector, x) is vector
