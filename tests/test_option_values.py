"""Every numeric option of everything that has a name refuses what is no number, with the library's own error."""

import inspect

import pytest

from keras_diffusion.guidance.pair import GUIDANCES
from keras_diffusion.predictors.predictor import PREDICTORS
from keras_diffusion.samplers.sampler import SAMPLERS
from keras_diffusion.schedulers.noise_schedule import SCHEDULES
from keras_diffusion.schedulers.time_spacing import SPACINGS
from keras_diffusion.training.loss_weighting import LOSS_WEIGHTINGS
from keras_diffusion.training.time_distribution import TIME_DISTRIBUTIONS

REGISTRIES = [SAMPLERS, SCHEDULES, SPACINGS, PREDICTORS, LOSS_WEIGHTINGS, TIME_DISTRIBUTIONS, GUIDANCES]
NAN, INF = float("nan"), float("inf")
BAD = [NAN, INF, -INF, "text", "0.5", True, None, [], {}, [1.0, "x"], b"1", 1j, 10**400, object()]
PARTS = {"conditional": None, "unconditional": None, "empty": None, "scale": 2.0, "betas": [0.1, 0.2]}

# What is no mistake: σ/α without an upper end, ρ = ∞ is the logarithm.
RIGHT = {
    ("s_tmax", INF),
    ("tau_start", INF),
    ("tau_end", INF),
    ("rho", INF),
    ("log_snr_min", -INF),
    ("log_snr_min", INF),
}


def cases():
    for registry in REGISTRIES:
        for name in registry.names():
            for option, default in registry.options(name).items():
                if option in PARTS or option in ("sampler", "spacing"):
                    continue
                for bad in BAD:
                    yield registry, name, option, default, bad


def is_right(option, default, bad):
    if any(option == o and bad == b for o, b in RIGHT):
        return True
    if bad is None and (default is None or option in ("log_snr_min", "log_snr_max", "rescale")):
        return True
    if bad == [] and isinstance(default, tuple):
        return True
    return isinstance(default, bool) and bad is True


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda r: r.kind)
def test_options_refuse_what_they_cannot_be(registry):
    wrong, count = [], 0
    for owner, name, option, default, bad in cases():
        if owner is not registry or is_right(option, default, bad):
            continue
        needed = {k: v for k, v in PARTS.items() if registry.options(name).get(k, 0) is inspect.Parameter.empty}
        count += 1
        try:
            registry.get(name, **{**needed, option: bad})
        except ValueError as error:
            if "Received:" not in str(error):
                wrong.append((name, option, bad, str(error)))
        except Exception as error:
            wrong.append((name, option, bad, repr(error)))
        else:
            wrong.append((name, option, bad, "accepted"))
    assert not wrong and count, "\n".join(map(str, wrong))
