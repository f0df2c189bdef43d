import pytest

from keras_diffusion.cli.config import ConfigError
from keras_diffusion.cli.optimizer_numbers import check_optimizer_numbers

NAN = float("nan")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"learning_rate": -1e-3},
            r"\[optimizer\] `learning_rate` must be a finite number > 0. Received: learning_rate=-0.001",
        ),
        ({"learning_rate": "fast"}, r"Received: learning_rate='fast'"),
        ({"learning_rate": NAN}, r"Received: learning_rate=nan"),
        ({"learning_rate": True}, r"Received: learning_rate=True"),
        ({"weight_decay": -0.1}, r"\[optimizer\] `weight_decay` must be a finite number ≥ 0, or None"),
        ({"beta_1": 1.0}, r"`beta_1` must be a finite number ≥ 0 and < 1"),
        ({"beta_2": "0.9"}, r"Received: beta_2='0.9'"),
        ({"epsilon": 0.0}, r"`epsilon` must be a finite number > 0"),
        ({"clipnorm": 0}, r"`clipnorm` must be a finite number > 0"),
        ({"gradient_accumulation_steps": 0}, r"`gradient_accumulation_steps` must be an integer ≥ 1"),
        ({"gradient_accumulation_steps": 1.5}, r"Received: gradient_accumulation_steps=1.5"),
        ({"amsgrad": "yes"}, r"`amsgrad` must be True or False"),
        (
            {"learning_rate": {"name": "cosine_decay", "initial_learning_rate": NAN}},
            r"\[optimizer.learning_rate\] `initial_learning_rate`",
        ),
        (
            {"learning_rate": {"name": "cosine_decay", "decay_steps": 0}},
            r"\[optimizer.learning_rate\] `decay_steps` must be an integer ≥ 1",
        ),
        ({"learning_rate": {"name": "cosine_decay", "warmup_steps": -1}}, r"`warmup_steps` must be an integer ≥ 0"),
    ],
)
def test_numbers_that_nothing_trains_with(options, message):
    with pytest.raises(ConfigError, match=message):
        check_optimizer_numbers(options)


def test_usual_numbers():
    rate = {
        "name": "cosine_decay",
        "initial_learning_rate": 0,
        "decay_steps": 100,
        "warmup_target": 1e-3,
        "warmup_steps": 10,
        "alpha": 0,
    }
    check_optimizer_numbers({"name": "adamw", "learning_rate": rate, "weight_decay": 0, "beta_1": 0.9})
    check_optimizer_numbers({"name": "sgd", "learning_rate": 1, "momentum": 0.9, "nesterov": True, "clipnorm": None})
