"""Denoisers: whatever returns (x0, ε) for a noisy x.

A network with its predictor, the exact posterior mean of a known density, guidance around either: a sampler sees no
difference. A plain function of (x, level) that returns such a pair does as well.
"""

import keras
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.core.broadcast import expand_to_rank, per_sample
from keras_diffusion.core.function_denoiser import as_denoiser
from keras_diffusion.core.levels import Prediction
from keras_diffusion.core.precision import solver_dtype


class Denoiser(ArgumentsMixin):
    """Base class: `denoiser(x, level) -> Prediction(x0, eps)`.

    Call arguments:
        x: noisy samples `(B, ...)`.
        level: `Levels` of scalars `()` or per-sample vectors `(B,)`, σ > 0.

    Returns:
        `Prediction`, both fields shaped like `x`.

    Attributes:
        memory: what a denoiser that remembers keeps from call to call within a walk, a pytree of tensors; None outside
            of walks.
    """

    memory = None

    def __call__(self, x, level):
        raise NotImplementedError(f"{type(self).__name__} must implement __call__(x, level)")

    def together(self, other, x, level):
        """Two denoisers at the same samples, in one evaluation where they share a network.

        Args:
            other: a `Denoiser`.
            x: noisy samples `(B, ...)`.
            level: their `Levels`, of scalars `()` or vectors `(B,)`.

        Returns:
            (self(x, level), other(x, level)), two `Prediction`s.
        """
        return self(x, level), other(x, level)

    def parts(self):
        """This denoiser and all that it wraps."""
        wrapped = {id(value): value for value in vars(self).values() if isinstance(value, Denoiser)}
        return [self, *(part for denoiser in wrapped.values() for part in denoiser.parts())]

    def initial_memory(self, x):
        """The memory at the beginning of a walk, see `core/denoiser_memory.py`.

        Args:
            x: samples `(B, ...)`.

        Returns:
            pytree of tensors; None (default) for denoisers that remember nothing.
        """
        return None


class Wrapper(Denoiser):
    """Base class of denoisers around another one.

    Args:
        denoiser: the `Denoiser` to wrap, or a function of (x, level) that returns (x0, ε).

    Raises:
        ValueError: anything else.
    """

    def __init__(self, denoiser):
        self.denoiser = as_denoiser(denoiser, "denoiser")


def as_tensors(x, level):
    """x and the level as tensors of the solver's type."""
    x = ops.convert_to_tensor(x, dtype=solver_dtype())
    return x, level.map(lambda v: ops.convert_to_tensor(v, dtype=x.dtype))


def with_x0(x, x0, level):
    """The prediction whose x0 is `x0`; ε follows from x = α·x0 + σ·ε."""
    x, level = as_tensors(x, level)
    alpha, sigma = expand_to_rank(level.alpha, x), expand_to_rank(level.sigma, x)
    return Prediction(x0, (x - alpha * x0) / sigma)


class NetworkDenoiser(Denoiser):
    """A network seen through its predictor, with its conditions bound.

    Args:
        network: callable on a dict `{"x": (B, ...), "noise_level": (B,), **conditions}`.
        predictor: `Predictor` that says what the network's output means.
        conditions: dict of tensors with leading axis B, e.g. `{"labels": (B,)}`, or 1 for a row that serves all.
            "concat", which lies beside x, may be of size 1 along its other axes too. Default none.
        values: list of values to use in place of `network.variables` (an average of the weights). Default: the
            network's own.

    Example:

    >>> network = kd.networks.MLP((2,), width=8, depth=1, num_classes=3)
    >>> denoise = kd.denoisers.NetworkDenoiser(network, kd.predictors.get("v"), {"labels": np.array([0, 2])})
    >>> x0, eps = denoise(x, level)
    """

    def __init__(self, network, predictor, conditions=None, values=None):
        self.conditions, self.values = dict(conditions or {}), values

    def __call__(self, x, level):
        x, level = as_tensors(x, level)
        scale = expand_to_rank(self.predictor.input_scale(level.alpha, level.sigma), x)
        inputs = {"x": scale * x, "noise_level": per_sample(self.predictor.noise_condition(level), x), **self._rows(x)}
        return self.predictor.split(self._run(inputs), x, level.alpha, level.sigma)

    def _rows(self, x):
        def shape(key, value):
            inner = x.shape[1:-1] if key == "concat" and all(n == 1 for n in value.shape[1:-1]) else value.shape[1:-1]
            return (x.shape[0], *inner, *value.shape[-1:]) if len(value.shape) > 1 else (x.shape[0],)

        return {key: ops.broadcast_to(value, shape(key, value)) for key, value in self.conditions.items()}

    def _run(self, inputs):
        if self.values is None:
            return self.network(inputs, training=False)
        with keras.StatelessScope(state_mapping=list(zip(self.network.variables, self.values, strict=True))):
            return self.network(inputs, training=False)

    def together(self, other, x, level):
        same = isinstance(other, NetworkDenoiser) and other.network is self.network and other.values is self.values
        if not same or other.conditions.keys() != self.conditions.keys():
            return super().together(other, x, level)
        mine, others = self._rows(x), other._rows(x)
        both = {key: ops.concatenate([mine[key], others[key]]) for key in mine}
        twice = level.map(lambda v: ops.concatenate([v, v]) if len(v.shape) else v)
        x0, eps = NetworkDenoiser(self.network, self.predictor, both, self.values)(ops.concatenate([x, x]), twice)
        (x0, other_x0), (eps, other_eps) = ops.split(x0, 2), ops.split(eps, 2)
        return Prediction(x0, eps), Prediction(other_x0, other_eps)
