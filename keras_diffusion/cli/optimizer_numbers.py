"""What the numbers of `[optimizer]` and `[optimizer.learning_rate]` may be: Keras takes any, and trains with them."""

from keras_diffusion.cli.config import ConfigError
from keras_diffusion.configs.checks import check_flag, check_number, check_whole

_POSITIVE = ("epsilon", "clipnorm", "clipvalue", "global_clipnorm", "warmup_target", "t_mul", "m_mul", "power")
_SHARES = ("beta_1", "beta_2", "rho", "momentum", "ema_momentum")
_COUNTS = ("gradient_accumulation_steps", "ema_overwrite_frequency", "decay_steps", "first_decay_steps")
_FLAGS = ("amsgrad", "nesterov", "centered", "use_ema", "staircase", "cycle")


def check_optimizer_numbers(options, where="[optimizer]"):
    """Raises a ConfigError for a number that no optimizer can train with.

    Args:
        options: dict of the section; options without a rule are left to Keras.
        where: the section, for the message.
    """
    for name, value in options.items():
        try:
            _check(name, value)
        except ValueError as error:
            raise ConfigError(f"{where} {error}") from None
    if isinstance(options.get("learning_rate"), dict):
        check_optimizer_numbers(options["learning_rate"], "[optimizer.learning_rate]")


def _check(name, value):
    if name == "learning_rate" and not isinstance(value, dict):
        check_number(name, value, above=0)
    elif name in _POSITIVE:
        check_number(name, value, above=0, optional=True)
    elif name in _SHARES:
        check_number(name, value, 0, below=1)
    elif name in ("weight_decay", "alpha", "initial_learning_rate", "end_learning_rate"):
        check_number(name, value, 0, optional=True)
    elif name in _COUNTS:
        check_whole(name, value, 1, optional=True)
    elif name == "warmup_steps":
        check_whole(name, value, 0)
    elif name in _FLAGS:
        check_flag(name, value)
