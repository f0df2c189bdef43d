"""A switch that breaks self-attention: its map is replaced by the identity, so that every position sees itself alone.

    softmax(q·kᵀ/√d)·v   →   v

What a network then predicts keeps textures and loses structure, and guidance can lead away from it. The switch is read
when a layer is called; in compiled programs that is when they are traced. No weight changes.

Reference: Ahn et al. 2024, "Self-rectifying diffusion sampling with perturbed-attention guidance", arXiv:2403.17377.
"""

import contextlib
import contextvars

_SELECTED = contextvars.ContextVar("perturbed_attention", default=None)


@contextlib.contextmanager
def perturbed_attention(select):
    """A context in which the self-attention of some blocks is the identity.

    Args:
        select: function from a block's name to whether it is one of them.
    """
    token = _SELECTED.set(select)
    try:
        yield
    finally:
        _SELECTED.reset(token)


def is_perturbed(name):
    """Whether the self-attention of the block `name` is to be the identity now."""
    select = _SELECTED.get()
    return select is not None and bool(select(name))
