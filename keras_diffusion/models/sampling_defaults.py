"""How a model is sampled unless `generate` is told otherwise: what a checkpoint was sampled with goes along with it.

    sampling_defaults = {"sampler": {"name": "ddpm", "variance": "fixed_large"}, "guidance": "static_threshold"}

    key         as in `generate`            None, or left out
    sampler     name or dict                "dpmpp_2m"
    spacing     name or dict                the noise schedule's own
    guidance    names, dicts, a list        no threshold; "classifier_free" where there is a scale

Names and numbers only, so that presets and `.keras` files keep them.
"""

from keras_diffusion import samplers, schedulers
from keras_diffusion.models.guidance_argument import read_guidance

DEFAULT_SAMPLER = "dpmpp_2m"
_KEYS = ("sampler", "spacing", "guidance")


def check_sampling_defaults(defaults):
    """A copy of `defaults` without empty entries, {} for None.

    Raises:
        ValueError: another key, unknown names or options, objects in place of names, or a sampler that walks upwards.
    """
    if defaults is None:
        return {}
    unknown = sorted(map(str, set(defaults) - set(_KEYS))) if isinstance(defaults, dict) else [repr(defaults)]
    if unknown:
        raise ValueError(
            f"How a model is sampled is a dict with some of the keys {', '.join(_KEYS)}. "
            f"Received: sampling_defaults with {', '.join(unknown)}"
        )
    defaults = {key: _plain(key, value) for key, value in defaults.items() if value is not None}
    if samplers.get(defaults.get("sampler", DEFAULT_SAMPLER)).ascends:
        raise ValueError(
            f"Samples are made walking down. Received: sampling_defaults with sampler={defaults['sampler']!r}"
        )
    schedulers.get_spacing(defaults.get("spacing", "linspace"))
    read_guidance(defaults.get("guidance"), 2.0)
    return defaults


def _plain(key, value):
    """`value` with lists for tuples; raises where it is not made of names, numbers, lists and dicts."""
    if isinstance(value, (list, tuple)):
        return [_plain(key, entry) for entry in value]
    if isinstance(value, dict):
        return {name: _plain(key, entry) for name, entry in value.items()}
    if not isinstance(value, (str, bool, int, float)) and value is not None:
        raise ValueError(
            "How a model is sampled is kept in its files, so it is given by names and dicts with options. Received: "
            f"{key}={value!r} in "
            "`sampling_defaults`. Pass objects and functions to `generate`"
        )
    return value
