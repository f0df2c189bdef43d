"""Which sampler, how many steps, what guidance? Quality against network evaluations, for one's own model.

    cell = (sampler, steps, guidance)  ──▶  (evaluations of the network for a sample, metric)

All cells start from the same noise, have the same conditions, and are measured against the same real samples. What
counts is how often the network runs: two methods with the same steps may cost one evaluation of it or three, and
guidance doubles them.
"""

import dataclasses
import json

from keras_diffusion import samplers as sampler_room
from keras_diffusion.configs.checks import check_choice, check_number, check_whole, shown
from keras_diffusion.metrics.generation import GenerationEvaluator, sampler_text
from keras_diffusion.metrics.result import Floor, MetricResult
from keras_diffusion.models.generate import spacing_of
from keras_diffusion.models.guidance_argument import read_guidance
from keras_diffusion.models.sampling_defaults import DEFAULT_SAMPLER
from keras_diffusion.models.sampling_levels import sampling_levels
from keras_diffusion.samplers.walk import course_of, noise_kind

SAMPLERS = ("ddim", "dpmpp_2m", "unipc", "heun")
STEPS = (4, 8, 16, 32)


@dataclasses.dataclass(frozen=True)
class SweepCell:
    """One way of sampling and how good it was.

    Args:
        sampler: name, with options.
        num_steps: steps.
        guidance_scale: 1 is none.
        evaluations: how often the network saw a sample, a number; guidance shows it twice in a step.
        result: `MetricResult`; None where the samples were not finite.
    """

    sampler: str
    num_steps: int
    guidance_scale: float
    evaluations: float
    result: MetricResult | None


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The cells of a sweep, in the order in which they were measured.

    Args:
        title: of the metric.
        better: "lower" or "higher".
        cells: tuple of `SweepCell`s.
        floor: `Floor` of the metric, or None.
    """

    title: str
    better: str
    cells: tuple
    floor: Floor | None

    def curves(self):
        """The cells by sampler and guidance, each in the order of their evaluations.

        Returns:
            dict from labels, such as "heun, guidance 2", to lists of `SweepCell`s.
        """
        several = len({cell.guidance_scale for cell in self.cells}) > 1
        found = {}
        for cell in self.cells:
            label = f"{cell.sampler}, guidance {cell.guidance_scale:g}" if several else cell.sampler
            found.setdefault(label, []).append(cell)
        return {label: sorted(cells, key=lambda cell: cell.evaluations) for label, cells in found.items()}

    def best(self, evaluations=None):
        """The best cell.

        Args:
            evaluations: how many a sample may cost; None (default): any number.

        Returns:
            `SweepCell`, or None where there is none.
        """
        within = [c for c in self.cells if c.result and (evaluations is None or c.evaluations <= evaluations)]
        best = None
        for cell in within:
            best = cell if best is None or cell.result.improves_on(best.result) else best
        return best

    def cheapest(self):
        """The cell of the fewest evaluations among those as good as the best, up to the standard error of that.

        Returns:
            `SweepCell`, or None where there is none.
        """
        best = self.best()
        if best is None:
            return None
        margin = best.result.standard_error or 0.0
        limit = best.result.value + (margin if self.better == "lower" else -margin)
        good = [c for c in self.cells if c.result and not _beyond(c.result.value, limit, self.better)]
        return min(good, key=lambda cell: cell.evaluations)

    def table(self):
        """The cells as a table in Markdown, and the floor in its last row.

        Returns:
            text.
        """
        lines = [f"| sampler | steps | guidance | evaluations | {self.title} |", "|---|---:|---:|---:|---:|"]
        best = self.best()
        for cell in self.cells:
            value = "not finite" if cell.result is None else cell.result.shown()
            value = f"**{value}**" if cell is best else value
            guidance = "–" if cell.guidance_scale == 1.0 else f"{cell.guidance_scale:g}"
            lines.append(f"| {cell.sampler} | {cell.num_steps} | {guidance} | {cell.evaluations:g} | {value} |")
        if self.floor is not None:
            word = "floor" if self.better == "lower" else "ceiling"
            lines.append(f"| *{word}: real against real, {self.floor.n:,} each* | | | | {self.floor.value:.4g} |")
        return "\n".join(lines) + "\n"

    def to_dict(self):
        """The sweep as a dict that JSON can hold.

        Returns:
            dict.
        """
        cells = [
            {**vars(cell), "result": None if cell.result is None else cell.result.to_dict()} for cell in self.cells
        ]
        return {
            "title": self.title,
            "better": self.better,
            "floor": None if self.floor is None else self.floor._asdict(),
            "cells": cells,
        }

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`.

        Args:
            values: dict, such as a parsed `sweep.json`.

        Returns:
            `Sweep`.

        Raises:
            ValueError: missing or unknown keys, values of other types.
        """
        _check_keys("A sweep", values, ("title", "better", "floor", "cells"))
        check_choice("better", values["better"], ("lower", "higher"))
        floor, cells = values["floor"], values["cells"]
        if floor is not None:
            _check_keys("A floor", floor, Floor._fields)
            check_number("value", floor["value"])
        if not isinstance(cells, list):
            raise ValueError(f"The cells of a sweep are a list. Received: {shown(cells)}")
        read = tuple(_cell(values) for values in cells)
        return cls(str(values["title"]), values["better"], read, None if floor is None else Floor(**floor))

    def to_json(self):
        """The sweep as JSON.

        Returns:
            text.
        """
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(values):
    _check_keys("A cell", values, [field.name for field in dataclasses.fields(SweepCell)])
    result = values["result"]
    return SweepCell(
        str(values["sampler"]),
        check_whole("num_steps", values["num_steps"], 1),
        check_number("guidance_scale", values["guidance_scale"]),
        check_number("evaluations", values["evaluations"], above=0.0),
        None if result is None else MetricResult.from_dict(result),
    )


def _check_keys(what, values, keys):
    if not isinstance(values, dict) or set(values) != set(keys):
        raise ValueError(f"{what} is a dict with the keys {', '.join(keys)}. Received: {shown(values)}")


def _beyond(value, limit, better):
    """Whether a value is worse than a limit, or NaN."""
    return not (value <= limit if better == "lower" else value >= limit)


def sweep(
    model,
    data,
    samplers=SAMPLERS,
    steps=STEPS,
    guidance_scales=(1.0,),
    metric="mind",
    extractor="auto",
    num_samples=1000,
    seed=0,
    weights="ema",
    floor_halvings=5,
    cache=None,
    progress=None,
    **options,
):
    """Measures a model under every combination of samplers, steps and guidance scales.

    Args:
        model: `DiffusionModel`.
        data, extractor, num_samples, floor_halvings, cache: as in `GenerationEvaluator`.
        samplers: names, or dicts with options. Default: "ddim", "dpmpp_2m", "unipc", "heun".
        steps: numbers of steps. Default: 4, 8, 16, 32.
        guidance_scales: numbers; 1 is none. Default: only that.
        metric: one, as in `metrics.get`. Default "mind".
        seed: int ≥ 0, of the noise, the same for all. Default 0.
        weights: "ema" (default) or "raw".
        progress: function of (cells done, cells in all, the `SweepCell` just measured), or None.
        options: further arguments of `DiffusionModel.generate`, the same for all.

    Returns:
        `Sweep`.

    Raises:
        ValueError: nothing to sweep over, unknown names, as `GenerationEvaluator` and `generate`.

    Example:

    >>> found = sweep(model, batches, samplers=["ddim", "heun"], steps=[4, 8], num_samples=500)
    >>> print(found.table())
    """
    if not (samplers and steps and guidance_scales):
        raise ValueError(
            "A sweep needs samplers, steps and guidance scales. Received: "
            f"samplers={shown(samplers)}, steps={shown(steps)}, guidance_scales={shown(guidance_scales)}"
        )
    evaluator = data if isinstance(data, GenerationEvaluator) else None
    if evaluator is None:
        evaluator = GenerationEvaluator(data, [metric], extractor, num_samples, None, floor_halvings, cache)
    (measure,) = evaluator.metrics[:1]
    ways = [(sampler, n, float(scale)) for scale in guidance_scales for sampler in samplers for n in steps]
    for sampler, n, scale in ways:  # wrong names are an error now, not after an hour
        network_evaluations(model, sampler, n, scale, options.get("spacing"), options.get("guidance"))
    cells = []
    for sampler, n, scale in ways:
        walk = {"sampler": sampler, "num_steps": n, "guidance_scale": scale, "seed": seed, "weights": weights}
        try:
            result = evaluator(model, **walk, **options)[measure.name]
        except FloatingPointError:
            result = None
        cost = network_evaluations(model, sampler, n, scale, options.get("spacing"), options.get("guidance"))
        cells.append(SweepCell(sampler_text(sampler), n, scale, cost, result))
        if progress:
            progress(len(cells), len(ways), cells[-1])
    floor = next((cell.result.floor for cell in cells if cell.result), None)
    return Sweep(measure.title, measure.better, tuple(cells), floor)


def network_evaluations(model, sampler=None, num_steps=50, guidance_scale=1.0, spacing=None, guidance=None):
    """How often the network sees a sample on its way.

    Args:
        model: `DiffusionModel`.
        sampler, num_steps, guidance_scale, spacing, guidance: as in `DiffusionModel.generate`. Guidance shows each
            sample twice, with and without its condition; with two scales, three times.

    Returns:
        int. Of an adaptive sampler, what the last walk took, `model.sampling_report`; 0 before there was one.

    Raises:
        ValueError: unknown names or options.
    """
    own = model.sampling_defaults
    sampler = sampler_room.get(own.get("sampler", DEFAULT_SAMPLER) if sampler is None else sampler)
    guiding = read_guidance(guidance, guidance_scale, own.get("guidance"))
    views = 1 if guidance_scale == 1.0 else 2 + bool(guiding.needs_empty)
    levels = sampling_levels(model.noise_schedule, spacing_of(model, spacing), num_steps, 1.0)
    if isinstance(sampler, sampler_room.AdaptiveSampler):
        return views * int((getattr(model, "sampling_report", None) or {}).get("nfe", 0))
    course = course_of(sampler, levels, model.noise_schedule, noise_kind(sampler, None))
    return views * (course.in_loop * sampler.evaluations_per_step + (course.rows - course.in_loop))
