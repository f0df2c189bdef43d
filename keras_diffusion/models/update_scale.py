"""A learning rate of its own for a part of a model: what an optimizer changes there is scaled.

    θ ← θ + f·(θ' − θ),    θ': what the optimizer makes of θ

For optimizers whose steps are proportional to the learning rate, as Keras's are, that is f times the rate, with weight
decay and everything else that belongs to the step. (Scaling gradients would not do: Adam divides them by their own
size.) It happens around `apply`, within the compiled step of every backend, and has no state to be saved.
"""

import functools

from keras import ops


def scale_updates(optimizer, variables, factor):
    """Makes an optimizer change some variables less, or more.

    Args:
        optimizer: Keras optimizer; of a `LossScaleOptimizer`, the inner one is meant.
        variables: function without arguments that gives these variables, a list, at each step.
        factor: f, a number > 0; None for an optimizer as it was made.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    apply = getattr(optimizer.apply, "unscaled", optimizer.apply)
    if factor is None:
        optimizer.apply = apply
        return

    @functools.wraps(apply)
    def scaled(grads, trainable_variables=None):
        parts = [variable for variable in variables() if variable.trainable]
        before = [ops.copy(ops.convert_to_tensor(variable)) for variable in parts]
        apply(grads, trainable_variables)
        for variable, value in zip(parts, before):
            changed = ops.convert_to_tensor(variable)
            variable.assign(value + ops.cast(factor, changed.dtype) * (changed - value))

    scaled.unscaled = apply
    optimizer.apply = scaled
