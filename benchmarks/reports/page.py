"""docs/results.md and its plots, from the measured rows alone."""

import itertools
import math

import numpy as np
from scipy import stats

from keras_diffusion.metrics import Sweep
from keras_diffusion.visualization import plot_sweep
from keras_diffusion.visualization.figures import COLOURS, TEXT, new_axes, styled, written
from reports import digits, latents
from reports.samplers import SIZES as SWEEP_SIZES

PAGE = """# Results

Which sampler, how many steps, how near to the truth? What follows is measured on data that are part of the
package, and written by

```text
make reports
```

(`benchmarks/reports`), in three hours or so on two CPU cores; `benchmarks/results/reports.json` holds every row. Small
pictures and short trainings: take from it what to try first on your own data, and measure there
([how](evaluating.md)).
"""

DIGITS = """
## Predictor, weighting and schedule

A small U-Net ({widths} channels) learns 8×8 digits for each recipe: {steps} steps of {batch_size} pictures with
Adam at {learning_rate}, then {n:,} digits by `dpmpp_2m` in {num_steps} steps, without guidance.

{recipes}

MIND of their pixels against {n_real:,} real digits, smaller is better; ± is half of the 95 % interval of the mean
over {seeds} seeds (Student's t), the smallest in bold. *Read* is the share that a classifier of real digits reads as
the digit that was asked for. What the numbers lie between:

| | MIND | read |
|---|---:|---:|
| real against real, {floor_n} each; {held_out} held-out digits read | {floor:.2f} | {read_real:.1%} |
| the mean picture | {mean[mind]:.1f} | {mean[read]:.1%} |
| noise | {noise[mind]:.1f} | {noise[read]:.1%} |

![MIND of every recipe with its interval, and the floor as a dashed line](images/results-recipes.png)

"""

SAMPLERS = """
## Sampler and steps

One model (the network of examples/digits.toml, {sweep_steps:,} steps), many ways of sampling, all from the same noise:

![MIND over network evaluations for four samplers, with and without guidance](images/results-sweep.png)

{sweep}
± is one standard error. With four evaluations `unipc` leads and `ddim` lags; with eight `dpmpp_2m` and `unipc` are
where `ddim` is with sixteen.
From sixteen on all of them reach the floor, and differ by less than their errors. (A little below it, as this model has
seen four fifths of these digits, and its {sweep_n:,} stand against halves of {floor_n}.) Guidance of 2 costs twice the
evaluations and takes digits away from the data: more steps do not bring them back. For your own model:
`keras-diffusion sweep RUN`.
"""

MIXTURES = """
## Against exact densities

Mixtures of Gaussians in the plane, whose density is known; an MLP of three layers learns each from {data:,} samples
in {steps:,} steps of {batch_size}. {n:,} samples are drawn by `dpmpp_2m` in {num_steps} steps:

{mixtures}

± is half of the 95 % interval of the mean over {seeds} seeds (Student's t). *Distance* is the sliced Wasserstein
distance from {n:,} fresh samples; *nats* the mean of −log p of the samples under the true density (less than of real
samples: rare places are missing); *near a mode* is within four of its standard deviations; *rarest* the share of the
mode with the least weight.

All modes are reached, and in proportion, the one of 1 % too. What the networks have not learned is sharpness: of 100
samples some eight lie between the 25 narrow modes (standard deviation 0.05). The distance does not see that, and is
that of real samples; the density does. The sampler is not to blame: with the exact denoiser in place of a network it
draws what the mixture itself does.
"""

LATENTS = """
## Latents against pixels

An autoencoder with a quarter as many latent numbers as the pictures have learns {image_size}×{image_size} pictures of
shapes, and another of emoji, in batches of {batch_size}. Of held-out pictures:

{autoencoders}

± is a standard error. Time is that of the processor, of all cores together. Then a U-Net of the latents ({latents}
channels) and one of the pixels ({pixels}) learn the training pictures for {minutes:g} minutes of it each,
without captions, with Adam at 0.001 and v-prediction; {n} samples of each are drawn by `dpmpp_2m` in {num_steps}
steps:

{models}

MIND of the pixels, smaller is better; the floor is that of real pictures against real ones, {floor_n} each. *Readable*
is the share in which there are one or two things, all of them with a known shape; of real pictures {read_real:.1%}.
The last column is for one picture, decoding included. One seed each. In so short a time neither has learned to draw.
The model of latents took more steps in it, and comes nearer; what its autoencoder took before is not counted.
"""

WORDS = """
## Words

How often a model draws the colours, forms, sizes and places that a caption names is counted in
[words](words.md#is-it-right), by `python benchmarks/shapes.py RUN`.
"""

_QUALITY = {"psnr": ".1f", "ssim": ".3f"}  # of reconstructions, with the digits that are shown


def interval(values):
    """(mean, half the width of its 95 % interval) of a few values; None for the half of one value."""
    values = np.array(values, "float64")
    if len(values) < 2:
        return float(values.mean()), None
    return float(values.mean()), float(
        stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    )


def shown(values, form):
    """An interval as text; a row that is missing as a dash."""
    if not values or any(value is None for value in values):
        return "not finite" if values else "–"
    mean, half = interval(values)
    return f"{mean:{form}}" + ("" if half is None else f" ± {half:{form}}")


def recipes(rows):
    """[(recipe, MIND of each seed, share read of each seed)] in the order of the table."""
    found = []
    for recipe in digits.RECIPES:
        own = rows.of("digits", *recipe)
        found.append((recipe, [row["mind"] for row in own], [row["read"] for row in own]))
    return found


def recipe_table(rows):
    """Markdown: a line for predictor and weighting, two columns for each schedule."""
    schedules = digits.SCHEDULES
    heads = [f"{schedule}: MIND | read" for schedule in schedules]
    lines = [f"| predictor | weighting | {' | '.join(heads)} |", "|---|---|" + "---:|" * (2 * len(schedules))]
    found = {recipe: (minds, read) for recipe, minds, read in recipes(rows)}
    means = {r: interval(minds)[0] for r, (minds, _) in found.items() if minds and None not in minds}
    best = min(means, key=means.get)
    for predictor, weighting in itertools.product(digits.PREDICTORS, digits.WEIGHTINGS):
        cells = []
        for schedule in schedules:
            recipe = (predictor, weighting, schedule)
            minds, read = found.get(recipe, ((), ()))
            text = shown(minds, ".2f")
            cells += [f"**{text}**" if recipe == best else text, shown(read, ".1%")]
        lines.append(f"| {predictor} | {weighting} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mixture_table(rows):
    """Markdown: for each problem real samples, the exact denoiser, the networks, a Gaussian."""
    heads = "| mixture | samples of | distance | nats | modes reached | near a mode | rarest |"
    lines = [heads, "|---|---|" + "---:|" * 5]
    ways = {
        "real": "the mixture itself",
        "exact": "the exact denoiser",
        "network": "trained networks",
        "gaussian": "a Gaussian of its mean and covariance",
    }
    for problem in dict.fromkeys(key.rsplit(" real", 1)[0] for key in rows.parts["mixtures"] if key.endswith(" real")):
        for way, title in ways.items():
            own = rows.of("mixtures", problem, way)
            forms = {"sliced_wasserstein": ".3f", "nats": ".2f", "covered": ".0%", "near": ".1%", "rarest": ".1%"}
            cells = [shown([row[field] for row in own], form) for field, form in forms.items()]
            lines.append(f"| {problem} | {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def autoencoder_table(rows):
    """Markdown: how well the autoencoders reconstruct."""
    lines = ["| pictures | PSNR | SSIM | n | weights | steps | time |", "|---|" + "---:|" * 6]
    for source in latents.SOURCES:
        for row in rows.of("latents", source, "autoencoder"):
            psnr, ssim = (f"{row[name]:{form}} ± {row[name + '_error']:{form}}" for name, form in _QUALITY.items())
            cells = [f"{psnr} dB", ssim, str(row["n"]), f"{row['weights']:,}", f"{row['steps']:,}"]
            lines.append(f"| {source} | {' | '.join(cells)} | {row['seconds'] / 60:.1f} min |")
    return "\n".join(lines)


def latent_table(rows):
    """Markdown: a line for each data set and way."""
    lines = [
        "| pictures | diffusion of | MIND | floor | readable | steps | weights | time |",
        "|---|---|" + "---:|" * 6,
    ]
    for source in latents.SOURCES:
        for way in latents.WAYS:
            for row in rows.of("latents", source, way):
                read = "–" if row["read"] is None else f"{row['read']:.1%}"
                cells = [f"{row['mind']:.1f}", f"{row['floor']:.1f}", read, f"{row['steps']:,}", f"{row['weights']:,}"]
                lines.append(f"| {source} | {way} | {' | '.join(cells)} | {row['sampling_ms']:.0f} ms |")
    return "\n".join(lines)


@styled
def plot_recipes(rows, path):
    """Draws MIND of every recipe with its interval, and the floor.

    Args:
        rows: `Rows`.
        path: file to write.
    """
    figure, (axes,) = new_axes((7.0, 6.2), None)
    found = [entry for entry in recipes(rows) if entry[1] and None not in entry[1]]
    for place, (recipe, minds, _) in enumerate(reversed(found)):
        colour = COLOURS[digits.PREDICTORS.index(recipe[0])]
        mean, half = interval(minds)
        axes.errorbar(mean, place, xerr=half or 0.0, fmt="o", color=colour, markersize=5)
        axes.plot(minds, [place] * len(minds), "|", color=colour, alpha=0.5)
    axes.set_yticks(range(len(found)), [" · ".join(recipe) for recipe, *_ in reversed(found)], fontsize=8)
    (reference,) = rows.of("digits", "reference")
    axes.axvline(reference["floor"], color=TEXT, linestyle=(0, (5, 4)), linewidth=1.2)
    axes.set(xlabel="MIND of pixels, lower is better; dashed: real against real", xscale="log")
    axes.xaxis.set_major_formatter(lambda x, position: f"{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, position: f"{x:g}")
    return written(figure, path)


def sweep_of(rows):
    """The measured `Sweep`."""
    return Sweep.from_dict(rows.of("samplers", "sweep")[0])


def draw(rows, folder):
    """Writes the plots of what is measured."""
    if are_complete(rows):
        plot_recipes(rows, folder / "results-recipes.png")
    plot_sweep(sweep_of(rows), folder / "results-sweep.png")


def render(rows, seeds=5):
    """The page: the parts that are measured, recipes when all seeds are.

    Args:
        rows: `Rows`.
        seeds: how many.

    Returns:
        text.
    """
    parts = [PAGE]
    if are_complete(rows, seeds):
        parts.append(_digits(rows, seeds))
    if rows.of("samplers", "sweep"):
        found = sweep_of(rows)
        sizes = {"sweep_steps": SWEEP_SIZES["steps"], "sweep_n": SWEEP_SIZES["n"], "floor_n": found.floor.n}
        parts.append(SAMPLERS.format(sweep=found.table(), **sizes))
    if rows.of("mixtures", "sizes"):
        (sizes,) = rows.of("mixtures", "sizes")
        counted = len(rows.of("mixtures", "ring of 8", "network"))
        parts.append(MIXTURES.format(mixtures=mixture_table(rows), seeds=counted, **sizes))
    if all(rows.of("latents", source, way) for source in latents.SOURCES for way in latents.WAYS):
        parts.append(_latents(rows))
    return "".join([*parts, WORDS])


def are_complete(rows, seeds=5):
    """Whether each recipe is measured with as many seeds."""
    return all(len(minds) >= seeds for _, minds, _ in recipes(rows))


def _digits(rows, seeds):
    (reference,) = rows.of("digits", "reference")
    return DIGITS.format(recipes=recipe_table(rows), seeds=seeds, **{**reference, **reference["sizes"]})


def _latents(rows):
    (sizes,), (first,) = rows.of("latents", "sizes"), rows.of("latents", latents.SOURCES[0], "pixels")
    tables = {"autoencoders": autoencoder_table(rows), "models": latent_table(rows)}
    widths = {way: ", ".join(map(str, sizes[way])) for way in latents.WAYS}
    return LATENTS.format(minutes=sizes["seconds"] / 60, **tables, **{**first, **sizes, **widths})
