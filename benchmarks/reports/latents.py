"""Diffusion in latents against diffusion in pixels, trained for equally long, and the autoencoders that it needs."""

import time

import numpy as np

import keras_diffusion as kd

SIZES = {
    "image_size": 32,
    "batch_size": 32,
    "autoencoder": {"widths": [32, 64], "num_res_blocks": 1, "latent_channels": 3, "attention": False},
    "autoencoder_steps": {"shapes": 500, "emoji": 1200},
    "pixels": [32, 64, 128],
    "latents": [64, 128],
    "seconds": 480,
    "n": 500,
    "num_steps": 20,
}
WAYS = ("pixels", "latents")
SOURCES = ("shapes", "emoji")
_READABLE = 0.8  # overlap of what is drawn with the shape that it is most like


class TimeLimit(kd.keras.callbacks.Callback):
    """Ends a training after so much of the processor's time, not counting the first step, which compiles.

    That of the processor rather than of the clock, on which a busy machine takes longer for the same work.

    Args:
        seconds: > 0.

    Attributes:
        steps: number of steps taken.
    """

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.steps, self._began = seconds, 0, None

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self._began is None:
            self._began = time.process_time()
        if time.process_time() - self._began > self.seconds:
            self.model.stop_training = True


def measure(rows, seeds, sizes=None, sources=SOURCES):
    """For each data set trains an autoencoder, a model of pixels and one of its latents; draws, and measures.

    Args:
        rows: `Rows`.
        seeds: not used: one model each, which takes long enough.
        sizes: dict in place of some of SIZES.
        sources: names of data sets.
    """
    sizes = {**SIZES, **(sizes or {})}
    rows.put("latents", ("sizes",), sizes)
    for source in sources:
        trained = {}
        keys = [(source, way) for way in ("autoencoder", *WAYS)]
        rows.measure("latents", keys, lambda source, way, trained=trained: _row(source, way, trained, sizes))


def _row(source, way, trained, sizes):
    """Measures one; the autoencoder is trained when it is first needed."""
    if way != "pixels" and source not in trained:
        trained[source] = autoencoder_of(source, sizes)
    if way == "autoencoder":
        return trained[source][1]
    return diffusion_of(source, trained[source][0] if way == "latents" else None, sizes)


def batches(source, sizes, steps=None, split="train"):
    """Pictures alone, of a size; for training without an end."""
    options = {"image_size": sizes["image_size"], "batch_size": sizes["batch_size"], "split": split, "seed": 0}
    options |= {"shuffle": False} if steps is None else {"batches_per_epoch": steps}
    return kd.data.without_labels(kd.data.load(source, **options))


def held_out(source, sizes):
    """`n` pictures, or all that there are, that no model here has seen; floats in [−1, 1]."""
    data, found, count = batches(source, sizes, split="validation"), [], 0
    for number in range(len(data)):
        found.append(data[number]["images"])
        count += len(found[-1])
        if count >= sizes["n"]:
            break
    return np.concatenate(found)[: sizes["n"]]


def autoencoder_of(source, sizes):
    """(autoencoder whose latents have been measured, its row)."""
    kd.keras.utils.set_random_seed(0)
    network = kd.networks.AutoencoderKL(**sizes["autoencoder"])
    model, steps = kd.AutoencoderModel(network, ema=0.99, seed=0), sizes["autoencoder_steps"][source]
    model.compile(kd.keras.optimizers.Adam(rate(steps)))
    began = time.process_time()
    model.fit(batches(source, sizes, steps), epochs=1, verbose=0)
    seconds = time.process_time() - began
    pictures = held_out(source, sizes)
    remade = model.reconstruct(pictures)
    scores = {"psnr": kd.metrics.psnr(remade, pictures), "ssim": kd.metrics.ssim(remade, pictures)}
    means = {name: float(values.mean()) for name, values in scores.items()}
    errors = {f"{name}_error": float(values.std(ddof=1) / np.sqrt(len(values))) for name, values in scores.items()}
    model.measure_latents(batches(source, sizes, 20), per_channel=True)
    row = {**means, **errors, "n": len(pictures), "seconds": round(seconds), "weights": network.count_params()}
    return model.averaged_autoencoder(), {**row, "steps": steps}


def rate(steps):
    """A learning rate that rises for a tenth of the steps, then falls along a cosine."""
    warmup = max(1, steps // 10)
    return kd.keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=1e-3, warmup_steps=warmup)


def diffusion_of(source, autoencoder, sizes):
    """The row of a model of pixels, or of the latents of an autoencoder."""
    kd.keras.utils.set_random_seed(0)
    side = sizes["image_size"] // (autoencoder.size_multiple if autoencoder is not None else 1)
    widths = sizes["pixels" if autoencoder is None else "latents"]
    channels = 3 if autoencoder is None else autoencoder.latent_channels
    network = kd.networks.UNet((side, side, channels), widths=widths, num_res_blocks=1)
    model = kd.DiffusionModel(network, autoencoder=autoencoder, ema=0.998, seed=0)
    model.compile(kd.keras.optimizers.Adam(1e-3))
    limit = TimeLimit(sizes["seconds"])
    model.fit(batches(source, sizes, 10**6), epochs=1, verbose=0, callbacks=[limit])
    evaluator = kd.metrics.GenerationEvaluator(
        batches(source, sizes), ["mind"], extractor="pixels", num_samples=sizes["n"]
    )
    options = {"sampler": "dpmpp_2m", "num_steps": sizes["num_steps"]}
    evaluator.generate(model, **options)  # compiles
    began = time.process_time()
    images = evaluator.generate(model, **options)
    seconds = time.process_time() - began
    found = evaluator.measure(images)["mind"]
    return {
        "mind": found.value,
        "floor": found.floor.value,
        "floor_n": found.floor.n,
        "read": readable(images) if source == "shapes" else None,
        "read_real": readable(evaluator.reference.images[: sizes["n"]]) if source == "shapes" else None,
        "steps": limit.steps,
        "sampling_ms": round(1e3 * seconds / len(images), 1),
        "weights": network.count_params(),
    }


def readable(images):
    """The share of pictures in which there are one or two things, each of a known shape."""
    found = [kd.data.read_shapes(image) for image in images]
    return float(np.mean([0 < len(things) < 3 and all(t.overlap > _READABLE for t in things) for things in found]))
