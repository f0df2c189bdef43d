"""Draws the pictures of docs/explanation: `python benchmarks/explanation.py --out docs/images`, about a minute.

Every picture is a function of its own and can be drawn alone: `--only levels averages`. All but the times of
`compiled_programs` come out the same again.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import keras_diffusion as kd
from keras_diffusion.visualization import COLOURS, STYLE

TEXT = STYLE["text.color"]
PREDICTORS = dict(zip(("epsilon", "x0", "v", "velocity"), COLOURS, strict=False))


def cosine_grid(num_steps):
    """(schedule, levels) of the cosine schedule, even in t."""
    schedule = kd.schedulers.get("cosine")
    return schedule, kd.schedulers.get_spacing("linspace").levels(schedule, num_steps)


def walk(sampler, denoise, num_steps, start, **options):
    """The samples, or what `trajectory` asks for, of a walk from standard normal noise."""
    schedule, levels = cosine_grid(num_steps)
    sampler = kd.samplers.get(sampler)
    return sampler.sample(levels.sigma[0] * start, denoise, levels, schedule=schedule, **options), levels


def path(sampler, denoise, num_steps, start):
    """x at every level of a walk, the first included, and the levels."""
    (_, xs), at = walk(sampler, denoise, num_steps, start, trajectory=True)
    return np.concatenate([at.sigma[0] * start[None], np.array(xs)]), at


def levels():
    """A picture along three schedules, and their log-SNR."""
    emoji = kd.data.load("emoji", split="all").source
    picture = emoji.arrays["images"][emoji.captions.index("tropical fish")] / 127.5 - 1.0
    noise = np.random.default_rng(0).standard_normal(picture.shape)
    times = np.linspace(0.0, 1.0, 7)
    figure = plt.figure(figsize=(11, 3.6), constrained_layout=True)
    left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1))
    axes = left.subplots(3, len(times))
    curve = right.subplots()
    t = np.linspace(0.01, 0.99, 200)
    for row, name in zip(axes, ("cosine", "linear", "flow"), strict=True):
        schedule = kd.schedulers.get(name)
        for axis, level in zip(row, zip(*schedule.levels(times), strict=True), strict=True):
            x = (level[1] * picture + level[2] * noise) / np.hypot(level[1], level[2])
            axis.imshow(np.clip(0.5 + 0.4 * x, 0, 1))
            axis.set_xticks([], [])
            axis.set_yticks([], [])
            axis.grid(False)
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(name)
        curve.plot(t, schedule.levels(t).log_snr, label=name)
    for axis, at in zip(axes[0], times, strict=True):
        axis.set_title(f"t = {at:.2f}", fontsize=9)
    curve.set(xlabel="t", ylabel="log(α²/σ²)", ylim=(-12, 12))
    curve.legend()
    return figure


def parameterizations():
    """Rows as arrows, and how much of a network's error reaches x0 and ε."""
    figure, (plane, of_x0, of_eps) = plt.subplots(1, 3, figsize=(11, 3.4), constrained_layout=True)
    schedule = kd.schedulers.get("cosine")
    level = schedule.levels(0.3)
    arrow = {"arrowstyle": "-|>", "lw": 2, "shrinkA": 0, "shrinkB": 0}
    rows = {name: kd.predictors.get(name).row(level.alpha, level.sigma) for name in PREDICTORS}
    for name, row in {"x_t": (level.alpha, level.sigma), **rows}.items():
        a, b = (float(part) for part in row)
        colour = PREDICTORS.get(name, TEXT)
        plane.annotate("", (a, b), (0, 0), arrowprops={**arrow, "color": colour})
        plane.annotate(
            name,
            (a, b),
            xytext=(6 if a >= 0 else -6, 4),
            textcoords="offset points",
            color=colour,
            ha="left" if a >= 0 else "right",
        )
    plane.set(xlim=(-1.7, 1.7), ylim=(-0.2, 1.3), xlabel="a, share of x0", ylabel="b, share of ε", aspect="equal")
    plane.set_title("rows at t = 0.3")
    t = np.linspace(0.002, 0.998, 300)
    grid = schedule.levels(t)
    for name, colour in PREDICTORS.items():
        a, b = map(kd.keras.ops.convert_to_numpy, kd.predictors.get(name).row(grid.alpha, grid.sigma))
        determinant = np.abs(grid.alpha * b - grid.sigma * a)
        of_x0.plot(t, grid.sigma / determinant, color=colour, label=name)
        of_eps.plot(t, grid.alpha / determinant, color=colour, label=name)
    for axis, title in ((of_x0, "error of x0"), (of_eps, "error of ε")):
        axis.set(xlabel="t", ylim=(0, 3), title=f"{title} for an error of 1")
    of_x0.legend(loc="upper left")
    return figure


def samplers():
    """The table of DPM-Solver++ 2M on eight steps, and walks of two methods."""
    denoise = kd.denoisers.MixtureDenoiser([0.7, 0.3], [[-1.0], [1.5]], [0.3, 0.2])
    noise = np.random.default_rng(3).standard_normal((4, 1))
    figure, (table, walks) = plt.subplots(1, 2, figsize=(11, 3.8), constrained_layout=True)
    _, grid = cosine_grid(8)
    plan = kd.samplers.get("dpmpp_2m").plan(grid)
    columns = {name: np.ravel(column) for name, column in plan.items() if np.size(column) == 8}
    for name, column in columns.items():
        table.plot(range(1, 9), column, "o-", label=name)
    table.set(xlabel="row: step 1 to 8", ylabel="entry of the table", title="dpmpp_2m, 8 steps")
    table.legend()
    fine, at = path("dpmpp_2m", denoise, 1000, noise)
    walks.plot(at.t, fine[:, :, 0], color=TEXT, lw=1, label=["1,000 steps", *[None] * 3])
    many = np.random.default_rng(4).standard_normal((400, 1))
    exact = path("dpmpp_2m", denoise, 1000, many)[0][-1]
    for name, style, colour in (("ddim", "o--", COLOURS[1]), ("dpmpp_2m", "s--", COLOURS[0])):
        error = np.sqrt(((path(name, denoise, 8, many)[0][-1] - exact) ** 2).mean())
        xs, at = path(name, denoise, 8, noise)
        label = f"{name}, 8 steps: error {error:.2f}"
        walks.plot(at.t, xs[:, :, 0], style, color=colour, ms=4, lw=0.8, label=[label, *[None] * 3])
    walks.set(xlabel="t", ylabel="x", title="from the same noise", xlim=(1.02, -0.02))
    walks.legend(loc="upper right", fontsize=8)
    walks.set_ylim(-3, 4.2)
    return figure


def denoisers():
    """Samples with the five denoisers of the page, from the same noise."""
    left, right = [-1.0, 0.0], [1.0, 0.0]
    everything = kd.denoisers.MixtureDenoiser([0.5, 0.5], [left, right], [0.4, 0.4])
    one_class = kd.denoisers.MixtureDenoiser([1.0], [right], [0.4])

    def half(x, level):
        x0, _ = everything(x, level)
        x0 = kd.keras.ops.maximum(x0, kd.keras.ops.flip(-x0, axis=-1))
        return x0, (x - level.alpha * x0) / level.sigma

    panels = {
        "everything": everything,
        "one class": one_class,
        "guided, w = 3": kd.guidance.ClassifierFreeGuidance(one_class, everything, scale=3.0),
        "second coordinate ½": kd.guidance.ReplaceKnown(
            everything, known=np.array([[0.0, 0.5]]), mask=np.array([0.0, 1.0])
        ),
        "a function": half,
    }
    noise = np.random.default_rng(0).standard_normal((500, 2))
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 2.6), sharex=True, sharey=True, constrained_layout=True)
    for axis, (title, denoise) in zip(axes, panels.items(), strict=True):
        samples, _ = walk("dpmpp_2m", denoise, 20, noise)
        axis.scatter(*np.array(samples).T, s=4, alpha=0.6, linewidths=0)
        axis.set(title=title, xlim=(-2.6, 2.6), ylim=(-1.7, 1.7), aspect="equal")
    return figure


def compiled_programs():
    """Seconds of one call of `generate`, and of the same with one thing changed."""
    model = kd.DiffusionModel(kd.networks.MLP((2,), width=32, depth=2, num_classes=3), seed=0)
    base = {"num_samples": 64, "conditions": {"labels": 1}, "num_steps": 20, "guidance_scale": 2.0, "seed": 0}
    changes = {
        "first call": {},
        "the same again": {},
        "60 steps": {"num_steps": 60},
        "Karras spacing": {"spacing": "karras"},
        "w = 5": {"guidance_scale": 5.0},
        "another seed": {"seed": 1},
        "other labels": {"conditions": {"labels": 2}},
        "65 samples": {"num_samples": 65},
        "another sampler": {"sampler": "ddim"},
        "guidance off": {"guidance_scale": 1.0},
    }
    times = {}
    for name, change in changes.items():
        start = time.perf_counter()
        model.generate(**{**base, **change}, verbose=0)
        times[name] = time.perf_counter() - start
    figure, axis = plt.subplots(figsize=(9, 3.4), constrained_layout=True)
    compiled = [seconds > 5 * times["the same again"] and seconds > 0.1 for seconds in times.values()]
    bars = axis.barh(list(times), list(times.values()), color=[COLOURS[new] for new in compiled])
    axis.bar_label(bars, fmt="%.2f", padding=4)
    axis.invert_yaxis()
    axis.set(xlabel="seconds", title="orange: compiled")
    axis.grid(False, axis="y")
    return figure


def randomness():
    """A stochastic walk with 8, 32 and 128 steps: independent noise, and one Brownian path."""
    denoise = kd.denoisers.MixtureDenoiser([0.5, 0.5], [[-1.0], [1.0]], [0.3, 0.3])
    noise = np.random.default_rng(1).standard_normal((1, 1))
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), sharey=True, constrained_layout=True)
    for axis, kind in zip(axes, ("independent", "brownian"), strict=True):
        for num_steps in (8, 32, 128):
            (_, xs), at = walk("dpmpp_2m_sde", denoise, num_steps, noise, trajectory=True, noise=kind, seed=4)
            xs = np.concatenate([[at.sigma[0] * noise[0, 0]], np.array(xs)[:, 0, 0]])
            axis.plot(at.t, xs, "o-", ms=3, lw=1, label=f"{num_steps} steps")
        axis.set(title=f'noise="{kind}"', xlabel="t", xlim=(1.02, -0.02))
    axes[0].set_ylabel("x")
    axes[0].legend()
    return figure


def averages():
    """A weight while it is trained, its averages, and the losses of raw and averaged weights."""
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 4096)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype("float32")
    steps, decays = 600, (0.9, 0.99)
    model = kd.DiffusionModel(kd.networks.MLP((2,), width=64, depth=2), ema=0.99, seed=0)
    model.compile(kd.keras.optimizers.Adam(5e-3))
    model.fit(circle[:128], batch_size=128, epochs=1, verbose=0)
    names = [weight.path for weight in model.network.trainable_weights]
    place = next(i for i, name in enumerate(names) if "kernel" in name)
    raw, losses = [], []
    rng = np.random.default_rng(1)
    for step in range(steps):
        model.train_on_batch(circle[rng.integers(0, len(circle), 128)])
        raw.append(kd.keras.ops.convert_to_numpy(model.network.trainable_weights[place]).ravel()[5])
        if step % 20 == 19:
            losses.append([held_out(model, weights, circle[:1024]) for weights in ("raw", "ema")])
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), constrained_layout=True)
    left.plot(raw, lw=0.7, color=TEXT, label="the weight")
    for decay in decays:
        average, track = raw[0], []
        for n, value in enumerate(raw):
            keep = min(decay, (1 + n) / (10 + n))
            average = keep * average + (1 - keep) * value
            track.append(average)
        left.plot(track, label=f"average, decay {decay}")
    right.semilogy(range(20, steps + 1, 20), losses, label=["raw weights", "average, decay 0.99"])
    left.set(xlabel="step", title="one weight")
    right.set(xlabel="step", title="squared error of v on 1,024 points, fixed noise")
    for axis in (left, right):
        axis.legend()
    return figure


def held_out(model, weights, points):
    """Mean squared error of x0 at fixed levels and noise."""
    denoise = model.denoiser(weights=weights)
    rng = np.random.default_rng(2)
    schedule = model.noise_schedule
    errors = []
    for t in (0.2, 0.4, 0.6, 0.8):
        level = schedule.levels(t)
        eps = rng.standard_normal(points.shape)
        x0, noise = denoise((level.alpha * points + level.sigma * eps).astype("float32"), level)
        v = level.alpha * (np.array(noise) - eps) - level.sigma * (np.array(x0) - points)
        errors.append((v**2).mean())
    return float(np.mean(errors))


PICTURES = {
    "levels": levels,
    "parameterizations": parameterizations,
    "samplers": samplers,
    "denoisers": denoisers,
    "compiled-programs": compiled_programs,
    "randomness": randomness,
    "averages": averages,
}


def main(arguments=None):
    """Draws them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--only", nargs="*", default=list(PICTURES), choices=list(PICTURES), metavar="NAME")
    options = parser.parse_args(arguments)
    with matplotlib.rc_context(STYLE):
        for name in options.only:
            figure = PICTURES[name]()
            figure.savefig(options.out / f"explanation-{name}.png", dpi=110)
            plt.close(figure)
            print(options.out / f"explanation-{name}.png")


if __name__ == "__main__":
    main()
