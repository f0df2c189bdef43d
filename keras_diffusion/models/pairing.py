"""Which predictors a noise schedule allows.

At t = 1 many schedules have no signal left: α = 0 (cosine, flow matching, tables rescaled to zero terminal SNR). x_t is
ε itself there, so a network that predicts ε says nothing about the sample, and x0 = (x_t − σ·ε)/α is 0/0: the first
step of a walk would make NaN.
"""

from keras import ops

_SMALLEST = 1e-7  # of |α·b − σ·a|/σ: below it, float32 loses x0 in rounding


def check_pair(schedule, predictor):
    """Raises unless what the network predicts says something about x0 at the schedule's noisiest level.

    Args:
        schedule: `NoiseSchedule`.
        predictor: `Predictor`.

    Raises:
        ValueError: a predictor that is undefined at t = 1, such as ε where α = 0.
    """
    level = schedule.levels(1.0)
    if level.alpha > _SMALLEST * level.sigma:
        return
    alpha, sigma = (ops.convert_to_tensor(float(value), "float32") for value in (level.alpha, level.sigma))
    a, b = (float(ops.convert_to_numpy(value)) for value in predictor.row(alpha, sigma))
    if abs(level.alpha * b - level.sigma * a) > _SMALLEST * level.sigma:
        return
    raise ValueError(
        f"At t = 1 this schedule has no signal (α = {level.alpha:.3g}): x_t is the noise itself, and a network that "
        "predicts it says "
        f"nothing about the sample. Received: noise_schedule={type(schedule).__name__}, "
        f"predictor={type(predictor).__name__}. "
        f"Predict something else: predictor='v', 'x0' or 'velocity'. {_other_schedule(schedule)}"
    )


def _other_schedule(schedule):
    if getattr(schedule, "zero_terminal_snr", False):
        return "Or leave the table as it was: zero_terminal_snr=False"
    if hasattr(schedule, "log_snr_min"):
        return "Or end with some signal: noise_schedule={'name': 'cosine', 'log_snr_min': -15}"
    if hasattr(schedule, "max_beta"):
        return f"Or end with some signal: max_beta=0.999. Received: max_beta={schedule.max_beta}"
    return "Or take a schedule that ends with some signal, such as 'linear' or 'cosine_beta'"
