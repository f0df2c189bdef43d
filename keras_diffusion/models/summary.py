"""What a diffusion model is, in a few lines of text."""

import sys
import textwrap

from keras_diffusion.configs.checks import shown
from keras_diffusion.models.validation import AUGMENTATION_KEY, CONCAT_KEY, concat_channels_of, condition_keys_of


def short(model):
    """A model's class, network, schedule and predictor, as `repr` shows them."""
    network = getattr(model, "network", None)
    if network is None or getattr(model, "predictor", None) is None:  # not made yet
        return f"<{type(model).__name__}>"
    return (
        f"{type(model).__name__}(network={type(network).__name__}({model.sample_shape}), "
        f"noise_schedule={type(model.noise_schedule).__name__}, predictor={type(model.predictor).__name__})"
    )


def show(model, line_length=None, print_fn=None):
    """Writes `lines` by `print_fn`, or to standard output."""
    for line in lines(model, line_length or 80):
        if print_fn is None:
            sys.stdout.write(f"{line}\n")
        else:
            print_fn(line)


def lines(model, line_length=80):
    """A list of texts, such as "Predictor:          VPredictor()", of at most `line_length` characters each."""
    average = "none" if model.average is None else f"decay {model.average.decay:g}"
    described = {
        "Samples": shown(model.sample_shape),
        "Noise schedule": repr(model.noise_schedule),
        "Predictor": repr(model.predictor),
        "Loss weighting": repr(model.loss_weighting),
        "Time distribution": repr(model.time_distribution),
        "Average of weights": average,
        "Conditions": ", ".join(_conditions(model.network)) or "none",
    }
    wrapped = []
    for name, value in described.items():
        wrapped += textwrap.wrap(f"{name + ':':<20}{value}", max(line_length, 24), subsequent_indent=" " * 20)
    return wrapped


def _conditions(network):
    for key in condition_keys_of(network):
        if key == CONCAT_KEY:
            yield f"{key} ({concat_channels_of(network)} channels)"
        elif key == AUGMENTATION_KEY:
            yield f"{key} ({network.augmentation_dim} numbers)"
        else:
            size, unit = (network.num_classes, "classes") if key == "labels" else (network.context_dim, "numbers each")
            yield f"{key} ({size} {unit})"
