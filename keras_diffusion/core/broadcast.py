"""Shapes: a level is one number per batch or one per sample; a sample may have any rank."""

from keras import ops


def expand_to_rank(value, like):
    """Appends axes to a per-sample `value` so that it multiplies `like`.

    Args:
        value: tensor `(B,)`, or a scalar `()` or Python number, which is returned as it is.
        like: tensor `(B, ...)` of the wanted rank.

    Returns:
        `value` shaped `(B, 1, ..., 1)`, or the scalar.
    """
    rank = len(getattr(value, "shape", ()))
    if rank == 0:
        return value
    return ops.reshape(value, (-1,) + (1,) * (len(like.shape) - 1))


def sample_axes(x):
    """All axes of samples but the batch.

    Args:
        x: tensor `(B, ...)`.

    Returns:
        tuple of ints, (1, 2, …).
    """
    return tuple(range(1, len(x.shape)))


def per_sample(value, like):
    """A number for the batch as one for each sample.

    Args:
        value: tensor `()` or `(B,)`.
        like: tensor `(B, ...)`.

    Returns:
        tensor `(B,)`.
    """
    if len(value.shape) == 1:
        return value
    return ops.broadcast_to(ops.reshape(value, (1,)), (ops.shape(like)[0],))
