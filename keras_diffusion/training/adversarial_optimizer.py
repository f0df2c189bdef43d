"""Two optimizers as one, for a model and the discriminator that it is trained against.

Keras's training step knows one optimizer. This one hands the gradients of the discriminator's weights to an optimizer
of their own, and all others to the model's.
"""

import types

import keras
from keras import ops

from keras_diffusion.configs.checks import shown


class AdversarialOptimizer(keras.optimizers.Optimizer):
    """Two optimizers, each with its own variables.

    Where all gradients of the discriminator are 0, as before its start, its optimizer takes no step: neither weights
    nor moments nor the count of steps move, by which Adam corrects its first steps.

    Args:
        model: Keras optimizer of the model; learning rate, iterations and accumulation of gradients are what it says.
        discriminator: Keras optimizer of the discriminator.
        owned: layer whose weights are the discriminator's.

    Raises:
        ValueError: an optimizer that scales the loss, which is one number for both.
    """

    def __init__(self, model, discriminator, owned, name="adversarial"):
        for optimizer in (model, discriminator):
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.loss_scale_factor:
                raise ValueError(
                    "A discriminator is trained without loss scaling. Received: "
                    f"{shown(type(optimizer).__name__)} with a loss scale. 'mixed_bfloat16' needs none"
                )
        super().__init__(learning_rate=0.0, name=name)
        # Not as attributes: Keras would save their variables twice.
        self.parts = types.SimpleNamespace(model=model, discriminator=discriminator, owned=owned)
        self.gradient_accumulation_steps = model.gradient_accumulation_steps

    def build(self, variables):
        if self.built:
            return
        for optimizer, own in zip(self._optimizers, self._split(variables, variables)):
            if not optimizer.built:
                optimizer.build(own)
        self._trainable_variables = list(variables)
        self.built = True

    @property
    def variables(self):
        return [variable for optimizer in self._optimizers for variable in optimizer.variables]

    @property
    def iterations(self):
        return self.parts.model.iterations

    @property
    def learning_rate(self):
        return self.parts.model.learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self.parts.model.learning_rate = value

    def apply(self, grads, trainable_variables=None):
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        self.build(variables)
        own, of_discriminator = self._split(grads, variables), self._split(variables, variables)
        self.parts.model.apply(own[0], of_discriminator[0])
        self._apply_to_discriminator(own[1], of_discriminator[1])

    def _apply_to_discriminator(self, grads, variables):
        optimizer = self.parts.discriminator
        moves = ops.any(ops.stack([ops.any(gradient != 0) for gradient in grads if gradient is not None]))
        kept = [*variables, *optimizer.variables]
        before = [ops.copy(ops.convert_to_tensor(variable)) for variable in kept]
        optimizer.apply(grads, variables)
        for variable, value in zip(kept, before):
            variable.assign(ops.where(moves, ops.convert_to_tensor(variable), value))

    def finalize_variable_values(self, var_list):
        for optimizer, own in zip(self._optimizers, self._split(var_list, var_list)):
            optimizer.finalize_variable_values(own)

    @property
    def _optimizers(self):
        return self.parts.model, self.parts.discriminator

    def _split(self, values, variables):
        """Values, one for each variable, as two lists: the model's and the discriminator's."""
        owned = {id(variable) for variable in self.parts.owned.variables}
        pairs = list(zip(values, variables, strict=True))
        return [v for v, of in pairs if id(of) not in owned], [v for v, of in pairs if id(of) in owned]
