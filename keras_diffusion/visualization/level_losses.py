"""How well a model denoises at each noise level: its loss over t, or over the log-SNR."""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import initial_noise
from keras_diffusion.models import validation
from keras_diffusion.runtime.compile import Compiled
from keras_diffusion.visualization.figures import COLOURS, new_axes, plain_numbers, styled, written

_TIMES = (0.02, 0.98)


class LevelLosses(NamedTuple):
    """Losses of single samples at noise levels, float64.

    Attributes:
        t: times `(L,)`.
        log_snr: log(α²/σ²) there, `(L,)`.
        losses: `(L, N)`, of each of N samples at each level.
    """

    t: np.ndarray
    log_snr: np.ndarray
    losses: np.ndarray


def level_losses(model, batch, times=24, seed=0, weights="ema"):
    """Losses of a model at given noise levels, sample by sample.

    Training draws a level for each sample, and `fit` reports means over a few bands of t. Here every sample is seen at
    every level, with the same noise, so that the curve is smooth and two models can be compared point by point.

    Args:
        model: `DiffusionModel`.
        batch: samples `(N, ...)`, or a dict of "images" and conditions: held-out data, such as
            `data.load("digits", split="test", batch_size=256)[0]`.
        times: number of levels, evenly spaced in t from 0.02 to 0.98 (default 24); or the times, in (0, 1].
        seed: int, of the noise. Default 0.
        weights: "ema" (default), the average's, or "raw", the network's own.

    Returns:
        `LevelLosses`: t and log-SNR `(L,)`, losses `(L, N)`: the weighted squared error that training minimizes, a mean
        over the values of a sample.

    Raises:
        ValueError: times out of range, other weights, or a batch that does not fit the model.

    Example:

    >>> losses = kd.visualization.level_losses(model, np.zeros((16, 8, 8, 1), "float32"), times=5)
    >>> losses.t.round(2), losses.losses.shape
    (array([0.02, 0.26, 0.5 , 0.74, 0.98]), (5, 16))
    """
    if weights not in ("ema", "raw"):
        raise ValueError(f"`weights` is 'ema' or 'raw'. Received: weights={weights!r}")
    if np.ndim(times) == 0:
        times = np.linspace(*_TIMES, check_whole("times", times, 1))
    times = np.asarray(times, "float64")
    if times.ndim != 1 or not times.size or not (times > 0).all() or not (times <= 1).all():
        raise ValueError(f"`times` are a number of levels, or times in (0, 1]. Received: times={times}")
    network = model.averaged_network() if weights == "ema" else model.network
    shape = model.sample_shape if model.autoencoder is None else (None,) * len(model.sample_shape)
    told = getattr(network, "augmentation_dim", None)
    x0, conditions = validation.unpack_batch(batch, shape, model.batch_keys(batch), told)
    conditions = model.encode_conditions(conditions)
    x0 = ops.convert_to_tensor(x0, "float32")
    if model.autoencoder is not None:
        x0 = ops.cast(model.autoencoder.encode(x0), "float32")
    eps = ops.convert_to_tensor(initial_noise(seed, range(len(x0)), tuple(x0.shape[1:])), "float32")
    losses_at = Compiled(lambda x0, t, eps, conditions: _losses(model, network, x0, t, eps, conditions))
    found = [
        ops.convert_to_numpy(losses_at(x0, ops.full((len(x0),), t, "float32"), eps, conditions)) for t in times.tolist()
    ]
    return LevelLosses(times, model.noise_schedule.levels(times).log_snr, np.array(found, "float64"))


def _losses(model, network, x0, t, eps, conditions):
    """As in `DiffusionModel.outputs_at` and `compute_loss`, of another network and without the mean over samples."""
    alpha, sigma = model.noise_schedule(t)
    level = Levels(t, alpha, sigma)
    output = network(model.inputs_at(x0, level, eps, conditions), training=False)
    error = ops.square(ops.cast(output[..., : x0.shape[-1]], "float32") - model.predictor.target(x0, eps, alpha, sigma))
    weight = model.loss_weighting.on_output(level.log_snr, model.predictor.x0_error_scale(alpha, sigma))
    return weight * ops.mean(error, axis=tuple(range(1, len(error.shape))))


@styled
def plot_level_losses(losses, path=None, over="t", title=None, log=True):
    """Draws losses over the noise level: their mean, and a band between the quartiles of the samples.

    Args:
        losses: what `level_losses` returned; or a dict of names and such.
        path: file to write (.png, .pdf or .svg), or None.
        over: "t" (default) or "log_snr".
        title: str or None.
        log: whether the axis of the loss is logarithmic. Default True.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: another `over`, or nothing to draw.

    Example:

    >>> losses = kd.visualization.level_losses(model, np.zeros((16, 8, 8, 1), "float32"), times=5)
    >>> figure = kd.visualization.plot_level_losses({"untrained": losses}, over="log_snr")
    """
    labels = {"t": "t", "log_snr": "log-SNR, log(α²/σ²)"}
    if over not in labels:
        raise ValueError(f"`over` is 't' or 'log_snr'. Received: over={over!r}")
    several = losses if isinstance(losses, dict) else {"mean, and quartiles of the samples": losses}
    if not several:
        raise ValueError("There must be losses to draw. Received: an empty dict")
    figure, (axes,) = new_axes((6.0, 3.8), title)
    for i, (name, curve) in enumerate(several.items()):
        x, colour = getattr(curve, over), COLOURS[i % len(COLOURS)]
        axes.fill_between(x, *np.quantile(curve.losses, [0.25, 0.75], axis=1), color=colour, alpha=0.25, linewidth=0)
        axes.plot(x, curve.losses.mean(axis=1), color=colour, label=name)
    axes.set(xlabel=labels[over], ylabel="loss", yscale="log" if log else "linear")
    if log:
        for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            formatter(plain_numbers())
    axes.legend()
    return written(figure, path)
