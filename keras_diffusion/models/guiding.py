"""What the argument `guidance` of `generate` means: how two predictions are combined, and what is wrapped around the result.

guidance = "adaptive_projected"                                        a name of `keras_diffusion.guidance`
guidance = {"name": "adaptive_projected", "eta": 0.2}                  with options
guidance = partial(StaticThreshold, limit=1.0)                         a function: denoiser → denoiser
guidance = ["rescale", partial(DynamicThreshold, quantile=0.99)]       several, from the inside to the outside
"""

import inspect
from typing import Any, NamedTuple

from keras_diffusion import guidance as guidances
from keras_diffusion.guidance import PairGuidance


class Guiding(NamedTuple):
    """A checked `guidance` argument.

    Fields:
        name: how the conditional and the unconditional prediction are combined: a name, a class, or None for the model's default.
        options: options of it that the compiled program depends on, pairs of names and values.
        numbers: options that are numbers, a dict: arguments of the compiled program, as the guidance scale is.
        wrappers: functions denoiser → denoiser, in the order in which they are applied.
    """

    name: Any
    options: tuple
    numbers: dict
    wrappers: tuple

    @property
    def structure(self):
        """What the compiled program depends on, hashable."""
        return self.name, repr(self.options), tuple(sorted(self.numbers)), self.wrappers

    def combine(self, conditional, unconditional, scale, numbers):
        """The guided denoiser of two others; `numbers` are those of this guidance, as tensors."""
        guided = guidances.get(
            self.name or "classifier_free",
            conditional=conditional,
            unconditional=unconditional,
            scale=scale,
            **dict(self.options),
            **self.numbers,
        )
        vars(guided).update(numbers)  # the constructor has checked them as plain numbers: tensors inside a program have no value
        return guided

    def wrap(self, denoiser):
        """The denoiser inside of all wrappers."""
        for wrapper in self.wrappers:
            denoiser = wrapper(denoiser)
        return denoiser


def read_guidance(guidance, guidance_scale):
    """`Guiding` of a name, a dict, a function, a list of these, or None.

    Raises:
        ValueError: something else, more than one combination or one that does not come first, a combination with a scale of 1, at which
            there is none, or bad options.
    """
    entries = [] if guidance is None else list(guidance) if isinstance(guidance, (list, tuple)) else [guidance]
    wrong = [entry for entry in entries if not isinstance(entry, (str, dict)) and not callable(entry)]
    combinations = [entry for entry in entries if _is_combination(entry)]
    if wrong:
        raise ValueError(
            "Guidance is a name, a dict with options, a function denoiser → denoiser, or a list of these. "
            f"Received: guidance={guidance!r}. Known names: {', '.join(guidances.GUIDANCES.names())}"
        )
    if not combinations:
        return Guiding(None, (), {}, tuple(entries))
    if len(combinations) > 1 or not _is_combination(entries[0]):
        raise ValueError(
            "A name or dict says how the conditional and the unconditional prediction are combined: once, and before anything is wrapped "
            f"around the result. Received: guidance={guidance!r}. Put it first"
        )
    if guidance_scale == 1.0:
        raise ValueError(
            "At scale 1 the conditional prediction is not guided. "
            f"Received: guidance={combinations[0]!r}, guidance_scale=1. Give a guidance_scale as well"
        )
    (entry,) = combinations
    options = dict(entry) if isinstance(entry, dict) else {"name": entry}
    given = sorted({"conditional", "unconditional", "scale"} & set(options))
    if given:
        raise ValueError(f"The model itself gives the two predictions and `guidance_scale`. Received: guidance with {', '.join(given)}")
    guidances.get(options, conditional=None, unconditional=None, scale=guidance_scale)  # raises where options are wrong
    name, numbers = options.pop("name"), {key: value for key, value in options.items() if isinstance(value, float)}
    structure = tuple(sorted((key, value) for key, value in options.items() if key not in numbers))
    return Guiding(name, structure, numbers, tuple(entries[1:]))


def _is_combination(entry):
    return isinstance(entry, (str, dict)) or (inspect.isclass(entry) and issubclass(entry, PairGuidance))
