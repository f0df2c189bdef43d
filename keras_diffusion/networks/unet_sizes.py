"""Sizes of a `UNet` by name, for a given size of its samples.

    size      first width   residual blocks    weights at 32×32×3
    tiny           16              1                  0.9 M
    small          32              1                  3.5 M
    base           64              2                 21.9 M
    large         128              2                 87.4 M

Widths grow from level to level by 1, 2, 4, 4: a further doubling would put most of the weights where there are 4×4
positions. There is one level more for each halving down to 4 positions, at most four. The work of a training step grows
with the square of the width and with the number of pixels: each name costs about four to six times the one before it,
and twice the side four times as much.
"""

from keras_diffusion.configs.checks import check_choice

_GROWTH = (1, 2, 4, 4)
_SIZES = {"tiny": (16, 1), "small": (32, 1), "base": (64, 2), "large": (128, 2)}

#: The names, smallest first.
UNET_SIZES = tuple(_SIZES)


def unet_size(size, input_shape):
    """Options of a `UNet` of a named size.

    Args:
        size: "tiny", "small", "base", "large", or None: what two CPU cores train in reasonable time, "small" for
            samples of up to 32 positions a side, else "tiny".
        input_shape: shape of one sample, `(L, C)` or `(H, W, C)`; None on an axis of any size.

    Returns:
        dict with "widths" and "num_res_blocks".

    Raises:
        ValueError: an unknown name.

    Example:

    >>> shape = (32, 32, 3)
    >>> size = keras_diffusion.networks.unet_size("small", shape)
    >>> network = keras_diffusion.networks.UNet(shape, **size, num_classes=10)
    """
    axes = [n for n in input_shape[:-1] if n is not None]
    if size is None:
        size = "small" if max(axes, default=0) <= 32 else "tiny"
    rule = f"A size of a U-Net is one of {', '.join(map(repr, _SIZES))}"
    first, blocks = _SIZES[check_choice("size", size, UNET_SIZES, rule)]
    levels = 1
    while levels < len(_GROWTH) and all(n % 2**levels == 0 and n // 2**levels >= 4 for n in axes):
        levels += 1
    return {"widths": [first * factor for factor in _GROWTH[:levels]], "num_res_blocks": blocks}


def name_of_size(options, input_shape):
    """The name of a size, from a `UNet`'s options.

    Args:
        options: dict with "widths" and "num_res_blocks".
        input_shape: shape of one sample, as for `unet_size`.

    Returns:
        one of `UNET_SIZES`, or None where no size has these widths and blocks.

    Example:

    >>> keras_diffusion.networks.name_of_size({"widths": [32, 64, 128, 128], "num_res_blocks": 1}, (32, 32, 3))
    'small'
    """
    for name in UNET_SIZES:
        if all(options.get(key) == value for key, value in unet_size(name, input_shape).items()):
            return name
    return None
