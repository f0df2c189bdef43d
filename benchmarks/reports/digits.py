"""predictor × weighting × schedule on 8×8 digits: a small U-Net for each recipe and seed, the same steps for all."""

import itertools
import time

import numpy as np

import keras_diffusion as kd

PREDICTORS = ("epsilon", "x0", "v", "velocity")
WEIGHTINGS = ("none", "min_snr")
SCHEDULES = ("cosine", "linear", "flow")
ENDS_IN_NOISE = ("cosine", "flow")  # α = 0 at t = 1: x is the noise, and a network that predicts it says nothing
RECIPES = tuple(
    (predictor, weighting, schedule)
    for predictor, weighting, schedule in itertools.product(PREDICTORS, WEIGHTINGS, SCHEDULES)
    if not (predictor == "epsilon" and schedule in ENDS_IN_NOISE)
)
SIZES = {"widths": [16, 32], "batch_size": 32, "steps": 600, "learning_rate": 2e-3, "n": 1000, "num_steps": 20}


def measure(rows, seeds, sizes=None, recipes=RECIPES):
    """Trains a model for each recipe and seed, draws digits, and measures them.

    Args:
        rows: `Rows`.
        seeds: how many.
        sizes: dict in place of some of SIZES.
        recipes: tuples (predictor, weighting, schedule).
    """
    sizes = {**SIZES, **(sizes or {})}
    train = kd.data.load("digits", batch_size=sizes["batch_size"], batches_per_epoch=sizes["steps"], seed=0)
    examined = everything("digits", "train")
    judge = kd.metrics.train_classifier(examined["images"], examined["labels"])
    evaluator = evaluator_of(sizes["n"])
    rows.put("digits", ("reference",), {**_reference(evaluator, judge), "sizes": sizes})
    rows.measure(
        "digits",
        [(*recipe, seed) for seed in range(seeds) for recipe in recipes],
        lambda *key: _row(*key, train, judge, evaluator, sizes),
    )


def everything(source, split):
    """All samples of a split, in one batch."""
    data = kd.data.load(source, split=split, batch_size=1, shuffle=False)
    return kd.data.load(source, split=split, batch_size=data.num_samples, shuffle=False)[0]


def evaluator_of(n):
    """Compares `n` digits with all real ones, by their pixels."""
    real = kd.data.load("digits", split="all", seed=0)
    return kd.metrics.GenerationEvaluator(real, ["mind"], extractor="pixels", num_samples=n)


def _reference(evaluator, judge):
    """What real digits, noise, and the mean picture reach."""
    floor, held_out = evaluator.floor("mind", matched=True), everything("digits", "validation")
    real = evaluator.reference.images[: evaluator.num_samples]
    rng = np.random.default_rng(0)
    apart = {
        "mean": np.broadcast_to(real.mean(axis=0), real.shape) + 1e-3 * rng.standard_normal(real.shape),
        "noise": np.clip(rng.standard_normal(real.shape), -1.0, 1.0),
    }
    labels = np.arange(len(real)) % 10
    return {
        "floor": floor.value,
        "floor_n": floor.n,
        "n_real": evaluator.num_real,
        "read_real": kd.metrics.classifier_accuracy(judge, held_out["images"], held_out["labels"]),
        "held_out": len(held_out["labels"]),
        **{
            kind: {
                "mind": evaluator.measure(images.astype("float32"))["mind"].value,
                "read": kd.metrics.classifier_accuracy(judge, images, labels),
            }
            for kind, images in apart.items()
        },
    }


def _row(predictor, weighting, schedule, seed, train, judge, evaluator, sizes):
    kd.keras.utils.set_random_seed(seed)
    network = kd.networks.UNet((8, 8, 1), widths=sizes["widths"], num_res_blocks=1, num_classes=10)
    model = kd.DiffusionModel(network, schedule, predictor, loss_weighting=weighting, ema=0.99, seed=seed)
    model.compile(kd.keras.optimizers.Adam(sizes["learning_rate"]))
    began = time.perf_counter()
    model.fit(train, epochs=1, verbose=0)
    seconds = time.perf_counter() - began
    try:
        images = evaluator.generate(model, sampler="dpmpp_2m", num_steps=sizes["num_steps"], seed=seed)
    except FloatingPointError:
        return {"mind": None, "read": None, "seconds": seconds}
    labels = evaluator.reference.samples["labels"][: len(images)]
    found = evaluator.measure(images)["mind"]
    return {
        "mind": found.value,
        "read": float(kd.metrics.classifier_accuracy(judge, images, labels)),
        "seconds": round(seconds, 1),
    }
