"""What a diffusion model is made of."""

import keras

import keras_diffusion as kd


def test_a_model_has_two_bases_beside_the_model_of_keras():
    bases = kd.DiffusionModel.__mro__
    assert len(bases[: bases.index(keras.Model)]) <= 3


def test_no_class_hides_the_layers_that_torch_keeps_apart():
    network = kd.networks.MLP((2,), width=4, depth=1)
    model = kd.DiffusionModel(network, ema=0.9)
    hidden = [cls.__name__ for cls in type(model).__mro__ for name in ("average", "network") if name in vars(cls)]
    assert not hidden and model.average.decay == 0.9
