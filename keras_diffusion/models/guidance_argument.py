"""What the argument `guidance` of `generate` means: how two predictions are combined, and what is wrapped around the
result.

guidance = "adaptive_projected"                                        a name of `keras_diffusion.guidance`
guidance = {"name": "adaptive_projected", "eta": 0.2}                  with options
guidance = "static_threshold"                                          a threshold, by name or as a dict with options
guidance = partial(StaticThreshold, limit=1.0)                         a function: denoiser → denoiser
guidance = ["rescale", {"name": "dynamic_threshold", "quantile": 0.99}]    several, from the inside to the outside
guidance = "none"                                                      nothing is wrapped around: no thresholds

A model may have a guidance of its own (`DiffusionModel(sampling_defaults=…)`). The part that the caller leaves out
stays: a combination leaves its thresholds, a threshold its combination.
"""

import inspect
from typing import Any, NamedTuple

from keras_diffusion import guidance as guidances
from keras_diffusion.configs.checks import shown, suggestion
from keras_diffusion.denoisers.denoiser import Denoiser
from keras_diffusion.guidance import PairGuidance
from keras_diffusion.guidance.threshold import THRESHOLDS
from keras_diffusion.runtime.value_key import value_key

_NONE = "none"


class Guiding(NamedTuple):
    """A checked `guidance` argument.

    Attributes:
        name: how the conditional and the unconditional prediction are combined: a name, a class, or None for the
            model's default.
        options: options of it that the compiled program depends on, pairs of names and values.
        numbers: options that are numbers, a dict: arguments of the compiled program, as the guidance scale is.
        wrappers: functions denoiser → denoiser, in the order in which they are applied.
    """

    name: Any
    options: tuple
    numbers: dict
    wrappers: tuple

    @classmethod
    def none(cls):
        """No guidance, and nothing wrapped around."""
        return cls(None, (), {}, ())

    @property
    def structure(self):
        """What the compiled program depends on, hashable."""
        return (
            value_key(self.name),
            value_key(self.options),
            tuple(sorted(self.numbers)),
            tuple(map(value_key, self.wrappers)),
        )

    @property
    def needs_empty(self):
        """Whether it asks for a third prediction, without any condition."""
        return self.name is not None and "empty" in guidances.GUIDANCES.parameters(self.name)

    def combine(self, conditional, unconditional, scale, numbers, empty=None):
        """The guided denoiser of two others; `numbers` are those of this guidance, as tensors, `empty` a third denoiser
        if asked for.
        """
        guided = guidances.get(
            self.name or "classifier_free",
            conditional=conditional,
            unconditional=unconditional,
            scale=scale,
            **dict(self.options),
            **self.numbers,
        )
        if self.needs_empty:
            guided.empty = empty
        vars(guided).update(
            numbers
        )  # the constructor has checked them as plain numbers: tensors inside a program have no value
        return guided

    def wrap(self, denoiser):
        """The denoiser inside of all wrappers."""
        for wrapper in self.wrappers:
            denoiser = wrapper(denoiser)
            if not callable(denoiser):
                raise ValueError(
                    f"A function in `guidance` returns a denoiser. Received: {shown(denoiser)} from {shown(wrapper)}"
                )
        return denoiser


class Threshold(NamedTuple):
    """A threshold by name, denoiser → denoiser; equal ones are one key of compiled programs.

    Attributes:
        name: name of a threshold.
        options: pairs of names and values.
    """

    name: str
    options: tuple

    def __call__(self, denoiser):
        return THRESHOLDS.get(self.name, denoiser=denoiser, **dict(self.options))


def read_guidance(guidance, guidance_scale, own=None, own_wrappers=True):
    """`Guiding` of a name, a dict, a function, a list of these, or None.

    Args:
        guidance: what the caller says; None: nothing.
        guidance_scale: w; at 1 there is no combination.
        own: the model's own guidance, which stands where the caller says nothing; its combination only where there is a
            scale.
        own_wrappers: whether its thresholds do too.

    Raises:
        ValueError: something else, more than one combination or one that does not come first, a combination with a
            scale of 1, at which there is none, or bad options.
    """
    combination, wrappers = _combination_and_wrappers(guidance)
    if combination is not None and guidance_scale == 1.0:
        raise ValueError(
            "At scale 1 the conditional prediction is not guided. "
            f"Received: guidance={combination!r}, guidance_scale=1. Give a `guidance_scale` as well"
        )
    own_combination, thresholds = _combination_and_wrappers(own)
    if combination is None and guidance_scale != 1.0 and guidance != []:
        combination = own_combination
    if wrappers is None and own_wrappers:
        wrappers = thresholds
    if combination is None:
        return Guiding(None, (), {}, wrappers or ())
    options = dict(combination) if isinstance(combination, dict) else {"name": combination}
    given = sorted({"conditional", "unconditional", "scale", "empty"} & set(options))
    if given:
        raise ValueError(
            "The model itself gives the two predictions and `guidance_scale`. Received: guidance with "
            f"{', '.join(given)}"
        )
    nothing = Denoiser()
    guidances.get(options, conditional=nothing, unconditional=nothing, scale=guidance_scale)  # raises for wrong options
    name, numbers = options.pop("name"), {key: value for key, value in options.items() if isinstance(value, float)}
    structure = tuple(sorted((key, value) for key, value in options.items() if key not in numbers))
    return Guiding(name, structure, numbers, wrappers or ())


def check_two_scales(guiding, conditions):
    """Raises ValueError where guidance has a scale for known channels and another for the rest, and one of these is not
    given.
    """
    if guiding.needs_empty and not ("concat" in conditions and len(conditions) > 1):
        raise ValueError(
            "Two scales are for known channels, “concat”, and for another condition beside them. "
            f"Received: guidance={guiding.name!r}, conditions={sorted(conditions)}. For one of these, pass "
            "guidance_scale alone"
        )


def _combination_and_wrappers(guidance):
    """(combination or None, wrappers or None where nothing is said about them), of a `guidance` argument."""
    if guidance is None:
        return None, None
    entries = list(guidance) if isinstance(guidance, (list, tuple)) else [guidance]
    wrong = [entry for entry in entries if not isinstance(entry, (str, dict)) and not callable(entry)]
    if wrong:
        raise ValueError(
            "Guidance is a name, a dict with options, a function denoiser → denoiser, or a list of these. "
            f"Received: guidance={shown(guidance)}. Known names: {', '.join(_known_names())}"
        )
    combinations = [entry for entry in entries if _is_combination(entry)]
    if len(combinations) > 1 or (combinations and not _is_combination(entries[0])):
        raise ValueError(
            "A name or dict says how the conditional and the unconditional prediction are combined: once, and before "
            "anything is wrapped "
            f"around the result. Received: guidance={shown(guidance)}. Put it first"
        )
    wrappers = tuple(_wrapper(entry) for entry in entries if not _is_combination(entry) and entry != _NONE)
    silent = combinations and len(entries) == 1
    return combinations[0] if combinations else None, None if silent else wrappers


def _wrapper(entry):
    """A function denoiser → denoiser; thresholds may be names and dicts."""
    if not isinstance(entry, (str, dict)):
        return entry
    options = {"name": entry} if isinstance(entry, str) else dict(entry)
    if "denoiser" in options:
        raise ValueError(f"The model itself gives the denoiser of a threshold. Received: guidance={entry!r}")
    THRESHOLDS.get(options, denoiser=Denoiser())  # raises where options are wrong
    return Threshold(options.pop("name"), tuple(sorted(options.items())))


def _is_combination(entry):
    """Whether an entry names, or is, a `PairGuidance`; raises for names that are not known."""
    if not isinstance(entry, (str, dict)):
        return inspect.isclass(entry) and issubclass(entry, PairGuidance)
    name = entry.get("name") if isinstance(entry, dict) else entry
    if not isinstance(name, str) and not inspect.isclass(name):
        raise ValueError(
            f"Guidance given as a dict needs the key 'name'. Received: guidance={shown(entry)}. Known names: "
            f"{', '.join(_known_names())}"
        )
    if entry == _NONE or name in THRESHOLDS:
        return False
    if name not in guidances.GUIDANCES:
        raise ValueError(
            f"Unknown guidance: {shown(name)}. Known names: {', '.join(_known_names())}. Received: "
            f"guidance={shown(entry)}{suggestion(name, _known_names())}"
        )
    return True


def _known_names():
    return [*guidances.GUIDANCES.names(), *THRESHOLDS.names(), _NONE]
