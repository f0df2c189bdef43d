"""Checks the numbers of `[optimizer]` and `[optimizer.learning_rate]`: Keras would train with any."""

from functools import partial

from keras_diffusion.cli.config import config_errors
from keras_diffusion.configs.checks import check_flag, check_number, check_whole

# A check, a function of a name and a value, and the options that it is for.
_CHECKS = (
    (
        partial(check_number, above=0, optional=True),
        ("epsilon", "clipnorm", "clipvalue", "global_clipnorm", "warmup_target", "t_mul", "m_mul", "power"),
    ),
    (
        partial(check_number, least=0, optional=True),
        ("weight_decay", "alpha", "initial_learning_rate", "end_learning_rate"),
    ),
    (partial(check_number, least=0, below=1), ("beta_1", "beta_2", "rho", "momentum", "ema_momentum")),
    (
        partial(check_whole, least=1, optional=True),
        ("gradient_accumulation_steps", "ema_overwrite_frequency", "decay_steps", "first_decay_steps"),
    ),
    (partial(check_whole, least=0), ("warmup_steps",)),
    (check_flag, ("amsgrad", "nesterov", "centered", "use_ema", "staircase", "cycle")),
)
_CHECK_OF = {name: check for check, names in _CHECKS for name in names}


def check_optimizer_numbers(options, where="[optimizer]"):
    """Raises a ConfigError for a number that no optimizer can train with.

    Args:
        options: dict of the section; options without a rule are left to Keras.
        where: the section, for the message.
    """
    with config_errors(f"{where} "):
        for name, value in options.items():
            if name in _CHECK_OF:
                _CHECK_OF[name](name, value)
            elif name == "learning_rate" and not isinstance(value, dict):
                check_number(name, value, above=0)
    if isinstance(options.get("learning_rate"), dict):
        check_optimizer_numbers(options["learning_rate"], "[optimizer.learning_rate]")
