"""Derivatives of a function of one tensor on any backend, inside a compiled loop or outside.

Guidance by a classifier or by a measurement, and the divergence in a likelihood, need vector-Jacobian products. Keras
has no function for them; each backend has.
"""

import keras


def pullback(function, x):
    """A function's value, and the function v ↦ vᵀ·∂y/∂x.

    Args:
        function: from a tensor shaped like `x` to a pair: a tensor y, and anything else that it computed on the way.
        x: tensor of any shape.

    Returns:
        (y, aux, vjp): what `function` returned, and `vjp`, which takes a tensor shaped like y and returns one shaped
        like `x`. It may be called any number of times.

    Example:

    >>> y, _, vjp = pullback(lambda x: (ops.sum(x**2), None), x)
    >>> gradient = vjp(ops.ones_like(y))     # 2·x
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        y, vjp, aux = jax.vjp(function, x, has_aux=True)
        return y, aux, lambda v: vjp(v)[0]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y, aux = function(x)
        options = {"unconnected_gradients": tf.UnconnectedGradients.ZERO}
        return y, aux, lambda v: tape.gradient(y, x, output_gradients=v, **options)
    import torch

    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        y, aux = function(leaf)

    def vjp(v):
        if not y.requires_grad:
            return torch.zeros_like(leaf)
        (gradient,) = torch.autograd.grad(y, leaf, v, retain_graph=True, allow_unused=True)
        return torch.zeros_like(leaf) if gradient is None else gradient

    detached = keras.tree.map_structure(lambda value: value.detach() if torch.is_tensor(value) else value, aux)
    return y.detach(), detached, vjp
