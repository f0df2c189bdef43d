"""Sampler × steps × guidance, for one model of digits: what `keras-diffusion sweep` measures."""

import keras_diffusion as kd
from reports import digits

SIZES = {
    "widths": (32, 64),
    "batch_size": 64,
    "steps": 2400,
    "n": 1000,
    "samplers": ("ddim", "dpmpp_2m", "unipc", "heun"),
    "num_steps": (4, 8, 16, 32),
    "guidance_scales": (1.0, 2.0),
}


def measure(rows, seeds, sizes=None):
    """Trains one model, and sweeps; the whole sweep is one row.

    Args:
        rows: `Rows`.
        seeds: not used: the cells have the same noise, and their errors say how they depend on it.
        sizes: dict in place of some of SIZES.
    """
    sizes = {**SIZES, **(sizes or {})}
    rows.measure("samplers", [("sweep",)], lambda key: _sweep(sizes))


def _sweep(sizes):
    found = kd.metrics.sweep(
        trained(sizes),
        digits.evaluator_of(sizes["n"]),
        samplers=sizes["samplers"],
        steps=sizes["num_steps"],
        guidance_scales=sizes["guidance_scales"],
    )
    return found.to_dict()


def trained(sizes):
    """The model of examples/digits.toml, without its held-out pictures."""
    steps = sizes["steps"]
    data = kd.data.load("digits", batch_size=sizes["batch_size"], batches_per_epoch=steps, seed=0)
    kd.keras.utils.set_random_seed(0)
    network = kd.networks.UNet((8, 8, 1), widths=sizes["widths"], num_res_blocks=1, attention="auto", num_classes=10)
    model = kd.DiffusionModel(network, "cosine", "v", ema=0.998, seed=0)
    warmup = max(1, steps // 24)
    rate = kd.keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=2e-3, warmup_steps=warmup)
    model.compile(kd.keras.optimizers.Adam(rate))
    model.fit(data, epochs=1, verbose=0)
    return model
