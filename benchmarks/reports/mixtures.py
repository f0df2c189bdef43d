"""Networks trained on mixtures of Gaussians in the plane, against the exact density."""

import numpy as np

import keras_diffusion as kd
from keras_diffusion.models.sampling_levels import sampling_levels

SIZES = {"width": 128, "depth": 3, "batch_size": 512, "steps": 3000, "n": 10_000, "num_steps": 100, "data": 50_000}
TOLERANCE = 4.0  # standard deviations of a mode: 99.97 % of its samples are nearer


def problems():
    """{name: `MixtureDenoiser`}, scaled to a variance near 1."""
    angles = 2.0 * np.pi * np.arange(8) / 8
    ring = 1.3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-1.5, 1.5, 5)]), axis=-1).reshape(25, 2)
    rare = np.array([[-0.5, -0.5], [2.0, 0.0], [0.0, 2.0]])
    return {
        "ring of 8": kd.denoisers.MixtureDenoiser(np.ones(8), ring, 8 * [0.1]),
        "grid of 25": kd.denoisers.MixtureDenoiser(np.ones(25), grid, 25 * [0.05]),
        "90, 9 and 1 %": kd.denoisers.MixtureDenoiser([0.9, 0.09, 0.01], rare, [0.2, 0.2, 0.2]),
    }


def measure(rows, seeds, sizes=None):
    """For each problem: real samples, a Gaussian, the exact denoiser under the same sampler, and trained networks.

    Args:
        rows: `Rows`.
        seeds: how many networks.
        sizes: dict in place of some of SIZES.
    """
    sizes = {**SIZES, **(sizes or {})}
    known = problems()
    rows.put("mixtures", ("sizes",), sizes)
    ways = [("real",), ("gaussian",), ("exact",), *(("network", seed) for seed in range(seeds))]
    rows.measure(
        "mixtures",
        [(problem, *way) for problem in known for way in ways],
        lambda problem, way, seed=0: compared(_samples(known[problem], way, seed, sizes), known[problem], sizes),
    )


def samples_of(density, n, seed):
    """`n` samples of the density itself, float32."""
    return np.asarray(kd.keras.ops.convert_to_numpy(density.sample(n, seed=seed)), "float32")


def compared(samples, density, sizes):
    """One row: distance from fresh samples of the density, nats, and modes."""
    found = kd.metrics.mode_coverage(samples, density.means, TOLERANCE * density.stds)
    distance = kd.metrics.sliced_wasserstein(samples, samples_of(density, sizes["n"], 1000))
    shares = found.counts / max(1, found.counts.sum())
    return {
        "sliced_wasserstein": float(distance.value),
        "nats": float(kd.metrics.negative_log_likelihood(samples, density).value),
        "covered": found.covered,
        "near": found.near,
        "rarest": float(shares[np.argmin(density.weights)]),
    }


def _samples(density, way, seed, sizes):
    n = sizes["n"]
    if way == "real":
        return samples_of(density, n, 2000)
    data = samples_of(density, sizes["data"], 3000)
    if way == "gaussian":
        return np.random.default_rng(0).multivariate_normal(data.mean(axis=0), np.cov(data.T), n).astype("float32")
    if way == "exact":
        return _by_exact_denoiser(density, n, sizes["num_steps"])
    walk = {"sampler": "dpmpp_2m", "num_steps": sizes["num_steps"], "seed": seed}
    return trained(data, seed, sizes).generate(n, verbose=0, **walk)


def _by_exact_denoiser(density, n, num_steps):
    """What a perfect network would draw: all that is left is the sampler's error."""
    schedule = kd.schedulers.get("cosine")
    levels = sampling_levels(schedule, kd.schedulers.get_spacing(schedule.spacing), num_steps)
    noise = np.random.default_rng(0).standard_normal((n, 2))
    x = kd.samplers.get("dpmpp_2m").sample(levels.sigma[0] * noise, density, levels, schedule=schedule)
    return np.array(x, "float32")


def trained(data, seed, sizes):
    """A network of the plane that learned from samples."""
    kd.keras.utils.set_random_seed(seed)
    steps, batch = sizes["steps"], sizes["batch_size"]
    network = kd.networks.MLP((2,), width=sizes["width"], depth=sizes["depth"])
    model = kd.DiffusionModel(network, "cosine", "v", ema=0.995, seed=seed)
    model.value_range = None
    model.compile(kd.keras.optimizers.Adam(kd.keras.optimizers.schedules.CosineDecay(2e-3, steps)))
    batches = kd.data.Batches(data, batch, batches_per_epoch=steps, seed=seed, value_range=None)
    model.fit(batches, epochs=1, verbose=0)
    return model
