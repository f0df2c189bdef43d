import keras
import pytest

from keras_diffusion import networks
from keras_diffusion.layers.weight_budget import weight_budget
from keras_diffusion.runtime import limits


class Refused(Exception):
    pass


def small():
    return networks.MLP((2,), width=8, depth=1)


def test_a_network_of_its_own_size_is_built_and_nothing_stays():
    before = keras.layers.Layer.__init__, keras.layers.Layer.add_weight
    shapes = [tuple(weight.shape) for weight in small().weights]
    with limits.raised(spare_weights=1), weight_budget(shapes):
        with weight_budget(shapes):
            assert small().count_params() == sum(keras.ops.size(weight) for weight in small().weights)
        assert keras.layers.Layer.add_weight is not before[1]
    assert (keras.layers.Layer.__init__, keras.layers.Layer.add_weight) == before


@pytest.mark.parametrize("name, options", [("spare_weights", {"width": 1 << 17}), ("layers", {"depth": 1 << 17})])
def test_a_larger_one_is_refused_before_there_is_memory_for_it(name, options):
    with pytest.raises(Refused, match=rf"about as many weights.*raised\({name}=…\)"), weight_budget([(8, 8)], Refused):
        networks.MLP((2,), **options)
    with limits.raised(weights=100), pytest.raises(Refused, match=r"raised\(weights=…\)"), weight_budget(None, Refused):
        small()
    assert small().count_params() > 100


def test_other_errors_stay_what_they_are():
    with pytest.raises(KeyError), weight_budget([(8, 8)], Refused):
        raise KeyError("a")
