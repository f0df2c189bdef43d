"""What a diffusion model is made of."""

import keras

import keras_diffusion as kd


def test_a_model_has_two_bases_beside_the_model_of_keras():
    bases = kd.DiffusionModel.__mro__
    assert len(bases[: bases.index(keras.Model)]) <= 3
