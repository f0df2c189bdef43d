"""Pictures in tiles: the same as the whole where the overlap covers the reach, one program for all tiles."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.networks import AutoencoderKL, AutoencoderTiny
from keras_diffusion.networks.tiles import in_tiles
from keras_diffusion.runtime.compile import Compiled


@pytest.fixture(scope="module")
def tiny():
    """An autoencoder of convolutions that halves once, and sees about seven positions of latents far."""
    keras.utils.set_random_seed(0)
    return AutoencoderTiny(4, (1, 1), (1, 1), latent_channels=2, scale=[0.5, 2.0])


def drawn(*shape):
    return np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype("float32")


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def test_tiles_are_the_whole_where_the_overlap_covers_the_reach(tiny):
    latents, images = drawn(2, 51, 70, 2), drawn(2, 102, 76, 3)
    tiles = {"tile_size": 72, "tile_overlap": 44}
    np.testing.assert_allclose(numpy(tiny.decode(latents, **tiles)), numpy(tiny.decode(latents)), atol=1e-5)
    np.testing.assert_allclose(numpy(tiny.encode(images, **tiles)), numpy(tiny.encode(images)), atol=1e-5)
    near = numpy(tiny.decode(latents, tile_size=72, tile_overlap=28))  # about twice the reach of 13 pixels
    assert 1e-6 < 127.5 * np.abs(near - numpy(tiny.decode(latents))).max() < 1.0  # of 255
    no_overlap = numpy(tiny.decode(latents, tile_size=72, tile_overlap=0))
    assert np.abs(no_overlap - numpy(tiny.decode(latents))).max() > 1e-3  # borders show: the test above could fail


def test_all_tiles_are_one_program(tiny):
    tiny.decode(drawn(1, 40, 60, 2), tile_size=24)
    program = vars(tiny)["_programs"]["decoder"]
    before = program.traces
    tiny.decode(drawn(1, 33, 85, 2), tile_size=24, tile_overlap=10)
    assert keras.backend.backend() == "torch" or program.traces == before  # torch has no programs


def test_a_batch_in_parts(tiny):
    latents = drawn(5, 6, 7, 2)
    np.testing.assert_allclose(numpy(tiny.decode(latents, batch_size=2)), numpy(tiny.decode(latents)), atol=1e-5)
    both = tiny.decode(latents, tile_size=8, tile_overlap=4, batch_size=2)
    np.testing.assert_allclose(numpy(both), numpy(tiny.decode(latents, tile_size=8, tile_overlap=4)), atol=1e-5)


def test_programs_see_new_weights(tiny):
    latents, weights = drawn(1, 12, 12, 2), tiny.get_weights()
    before = numpy(tiny.decode(latents, tile_size=16))
    tiny.set_weights([weight + 0.01 for weight in weights])
    assert np.abs(numpy(tiny.decode(latents, tile_size=16)) - before).max() > 1e-3
    tiny.set_weights(weights)


@pytest.mark.parametrize("length", [8, 9, 15, 40, 41])
@pytest.mark.parametrize("overlap", [0, 1, 3, 7])
def test_weights_add_up_to_one(length, overlap):
    x = drawn(1, 2 * length, 6, 1)
    np.testing.assert_allclose(in_tiles(lambda x: x, x, 8, overlap, (2, 2)), x, atol=1e-6)


def test_tiles_that_differ_are_blended_without_a_step():
    """Norms see a tile alone: what it changes in one tile must not end at once."""
    values = iter(np.linspace(0.0, 1.0, 4))
    result = in_tiles(lambda x: 0.0 * x + float(next(values)), drawn(1, 32, 104, 1), 32, 8, (1, 1))[0, 0, :, 0]
    steps = np.diff(result)
    assert result[0] == 0.0 and result[-1] == 1.0 and 0.0 < steps.max() <= (1.0 / 3.0) / 2 + 1e-6


def test_attributes_serve_where_nothing_is_given():
    keras.utils.set_random_seed(0)
    autoencoder = AutoencoderKL((4, 4), num_res_blocks=1, norm_groups=2)
    latents, images = drawn(1, 10, 10, 4), drawn(1, 20, 20, 3)
    whole, tiled = numpy(autoencoder.decode(latents)), numpy(autoencoder.decode(latents, 12, 4))
    means = numpy(autoencoder.moments(images, 12, 4)[0])
    assert np.abs(tiled - whole).max() > 1e-4
    autoencoder.tile_size, autoencoder.tile_overlap = 12, 4
    np.testing.assert_array_equal(numpy(autoencoder.decode(latents)), tiled)
    np.testing.assert_array_equal(numpy(autoencoder.moments(images)[0]), means)
    assert "tile_size" not in autoencoder.get_config()
    if keras.backend.backend() != "torch":  # within a compiled function the whole
        np.testing.assert_allclose(
            numpy(Compiled(autoencoder.decode)(ops.convert_to_tensor(latents))), whole, atol=1e-5
        )


@pytest.mark.parametrize(
    "options, text",
    [
        ({"tile_size": 9}, "here a multiple of 2.*Received: tile_size=9. Sizes that work: 8 or 10"),
        ({"tile_size": 0}, "`tile_size` must be an integer ≥ 2"),
        ({"tile_size": 8, "tile_overlap": 3}, "Received: tile_overlap=3. Sizes that work: 2 or 4"),
        ({"tile_size": 8, "tile_overlap": 8}, "share less than a tile.*tile_size=8, tile_overlap=8. A quarter is 2"),
        ({"batch_size": 0}, "`batch_size` must be an integer ≥ 1"),
    ],
)
def test_errors(tiny, options, text):
    with pytest.raises(ValueError, match=text):
        tiny.decode(drawn(1, 6, 6, 2), **options)
