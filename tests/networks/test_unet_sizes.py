import pytest

from keras_diffusion.networks import UNET_SIZES, UNet, name_of_size, unet_size


@pytest.mark.parametrize(
    "size, shape, widths, blocks",
    [
        ("tiny", (32, 32, 3), [16, 32, 64, 64], 1),
        ("base", (8, 8, 1), [64, 128], 2),
        ("large", (28, 28, 1), [128, 256, 512], 2),
        ("small", (None, None, 3), [32, 64, 128, 128], 1),
        ("small", (48, 1), [32, 64, 128, 128], 1),
        (None, (9, 9, 3), [32], 1),
        (None, (64, 64, 3), [16, 32, 64, 64], 1),
        (None, (96, 64, 3), [16, 32, 64, 64], 1),
    ],
)
def test_sizes(size, shape, widths, blocks):
    options = unet_size(size, shape)
    assert options == {"widths": widths, "num_res_blocks": blocks}
    assert name_of_size(options, shape) == (size or ("small" if max(shape) <= 32 else "tiny"))


def test_a_network_of_a_size():
    network = UNet((8, 8, 1), **unet_size("tiny", (8, 8, 1)), num_classes=2)
    assert network.count_params() < 200_000


def test_other_widths_have_no_name():
    assert name_of_size({"widths": [8], "num_res_blocks": 1}, (8, 8, 1)) is None


@pytest.mark.parametrize("size", ["huge", 3, ["tiny"]])
def test_unknown_sizes(size):
    with pytest.raises(ValueError, match="is one of 'tiny', 'small', 'base', 'large'. Received: size="):
        unet_size(size, (8, 8, 1))
    assert UNET_SIZES == ("tiny", "small", "base", "large")
