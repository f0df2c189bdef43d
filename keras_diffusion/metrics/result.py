"""What a metric found, with everything that the number depends on.

    FD 12.3 ± 0.4 (floor 1.9) · 1,000 generated against 1,000 real · classifier, 64 features · EMA · dpmpp_2m, 20 steps

A score says little by itself: it moves with the number of samples, with the features and how pictures were resized for
them, with the weights, the sampler, its steps and the guidance. And no model reaches 0. The **floor** is what perfect
samples would get: the same metric between two halves of the real data.
"""

import dataclasses
import json
import math
from typing import NamedTuple

from keras_diffusion.configs.checks import check_choice, check_whole, shown
from keras_diffusion.runtime.documents import parse_json

_MADE = ("generated", "reconstructed")
_WEIGHTS = {"ema": "EMA", "raw": "raw weights"}


class Floor(NamedTuple):
    """A metric between halves of the real data: what samples of the true distribution would get.

    Attributes:
        value: mean over the halvings, a number.
        spread: standard deviation over the halvings, a number; None for a single one.
        n: samples in each half.
        halvings: number of random halvings.
    """

    value: float
    spread: float | None
    n: int
    halvings: int


@dataclasses.dataclass(frozen=True)
class MetricResult:
    """The value of a metric and what it was measured on; as text, one line.

    Args:
        name: of the metric, as `metrics.get` knows it.
        title: of the metric, for tables.
        better: "lower" or "higher".
        value: the metric, a number.
        n_generated: samples that were generated, or reconstructed.
        n_real: real samples that they were compared with; None for a metric that compares with none.
        standard_error: of the value, a number; None (default) where there is no estimate of it.
        floor: `Floor`, or None (default) where too few real samples were there to halve.
        extractor: name of what the features come from.
        width: number of features.
        preprocessing: how pictures were resized for the extractor, a name; "none" where they were not.
        weights: "ema", the average of the weights, or "raw", the network's own.
        sampler: its name, with options.
        num_steps: steps of the sampler.
        guidance_scale: 1 is none.
        seed: of the generated samples.
        options: arguments of the metric that differ from their defaults, a dict.
        made: "generated" (default), or "reconstructed" from the real samples.

    Raises:
        ValueError: `better`, `weights` or `made` that are none of these, numbers of samples below 1.

    Example:

    >>> print(MetricResult("fd", "FD", "lower", 12.31, 1000, 1000, 0.42, Floor(1.9, 0.1, 1000, 5)))
    FD 12.3 ± 0.4 (floor 1.9) · 1,000 generated against 1,000 real
    """

    name: str
    title: str
    better: str
    value: float
    n_generated: int
    n_real: int | None
    standard_error: float | None = None
    floor: Floor | None = None
    extractor: str | None = None
    width: int | None = None
    preprocessing: str | None = None
    weights: str | None = None
    sampler: str | None = None
    num_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    options: dict = dataclasses.field(default_factory=dict)
    made: str = "generated"

    def __post_init__(self):
        check_choice("better", self.better, ("lower", "higher"))
        if self.weights is not None:
            check_choice("weights", self.weights, tuple(_WEIGHTS))
        check_choice("made", self.made, _MADE)
        check_whole("n_generated", self.n_generated, 1)
        check_whole("n_real", self.n_real, 1, optional=True)

    def __str__(self):
        parts = [
            f"{self.title} {self.shown()}{self._floor_shown()}",
            f"{self.n_generated:,} {self.made}" + ("" if self.n_real is None else f" against {self.n_real:,} real"),
            self._features_shown(),
            _WEIGHTS.get(self.weights),
            self._walk_shown(),
            None if self.seed is None else f"seed {self.seed}",
        ]
        return " · ".join(part for part in parts if part)

    def shown(self):
        """The value with its standard error, if it has one.

        Returns:
            text, such as "12.3 ± 0.4".
        """
        return with_error(self.value, self.standard_error)

    def improves_on(self, other):
        """Whether this value is better than another one.

        Args:
            other: `MetricResult` or a number; None for nothing yet.

        Returns:
            bool; False for NaN.
        """
        if other is None:
            return math.isfinite(self.value)
        other = getattr(other, "value", other)
        return self.value < other if self.better == "lower" else self.value > other

    def to_dict(self):
        """The result as a dict that JSON can hold.

        Returns:
            dict, as `from_dict` takes it. A value that is not finite is text: "nan", "inf".
        """
        found = {**vars(self), "floor": None if self.floor is None else self.floor._asdict()}
        return {key: _for_json(value) for key, value in found.items()}

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`.

        Args:
            values: dict.

        Returns:
            `MetricResult`.

        Raises:
            ValueError: missing or unknown keys, values of other types.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        needed = {name for name, field in known.items() if _is_needed(field)}
        if not isinstance(values, dict) or not needed <= set(values) <= set(known):
            raise ValueError(
                f"A result is a dict with the keys {', '.join(sorted(needed))}, and perhaps "
                f"{', '.join(sorted(set(known) - needed))}. Received: {shown(values)}"
            )
        floor = values.get("floor")
        try:
            floor = None if floor is None else Floor(**{k: _from_json(v) for k, v in floor.items()})
            numbers = {name: _from_json(values[name]) for name in ("value", "standard_error") if name in values}
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"A result has numbers, and a floor with value, spread, n, halvings: {error}") from error
        return cls(**{**values, **numbers, "floor": floor})

    def to_json(self):
        """The result as JSON.

        Returns:
            text.
        """
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text):
        """The inverse of `to_json`.

        Args:
            text: str or bytes.

        Returns:
            `MetricResult`.

        Raises:
            ValueError: no JSON, or as `from_dict`.
        """
        return cls.from_dict(parse_json(text, "result"))

    def _floor_shown(self):
        if self.floor is None:
            return " (no floor)"
        word = "floor" if self.better == "lower" else "ceiling"  # where more is better, perfect samples get no more
        value = _rounded(self.floor.value, _decimals(self.value, self.standard_error, at_least=self.floor.value))
        fewer = self.floor.n < min(self.n_generated, self.n_real or self.n_generated)
        return f" ({word} {value}{f' at {self.floor.n:,}' if fewer else ''})"

    def _features_shown(self):
        if self.extractor is None:
            return None
        width = "" if self.width is None else f", {self.width:,} features"
        prepared = "" if self.preprocessing in (None, "none") else f", {self.preprocessing}"
        return f"{self.extractor}{width}{prepared}"

    def _walk_shown(self):
        guidance = "" if self.guidance_scale in (None, 1.0) else f", guidance {self.guidance_scale:g}"
        steps = "" if self.num_steps is None else f", {self.num_steps} steps"
        return None if self.sampler is None else f"{self.sampler}{steps}{guidance}"


def with_error(value, error=None):
    """A number as far as it is known: with its error to one digit, or with four digits.

    Args:
        value: a number.
        error: its standard error, or None.

    Returns:
        text, such as "12.3 ± 0.4".
    """
    if error is None or not math.isfinite(error):
        return _rounded(value, _decimals(value, None))
    decimals = _decimals(value, error)
    return f"{_rounded(value, decimals)} ± {_rounded(error, decimals)}"


def _decimals(value, error, at_least=None):
    """Decimals of a value: as many as its error has to its first digit, or for four digits in all."""
    if error:
        first, digits = error, 1 if f"{error:e}"[0] != "1" else 2  # 0.14 is not 0.1
    else:
        first, digits = value, 4
    decimals = _places(first, digits)
    return decimals if at_least is None else max(decimals, min(_places(at_least, 2), decimals + 4))


def _places(number, digits):
    """Decimals that show so many digits of a number."""
    return max(0, digits - 1 - math.floor(math.log10(abs(number)))) if number and math.isfinite(number) else 0


def _rounded(value, decimals):
    return f"{value:,.{min(decimals, 12)}f}" if math.isfinite(value) else str(value)


def _is_needed(field):
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _for_json(value):
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: _for_json(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value):
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, bool) or (isinstance(value, str) and value not in ("nan", "inf", "-inf")):
        raise ValueError(f"{shown(value)} is no number")
    return float(value)
