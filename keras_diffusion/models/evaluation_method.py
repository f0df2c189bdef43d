"""`evaluate_generation`, a method of every `DiffusionModel`, and `evaluate_reconstructions`, of an `AutoencoderModel`.

The evaluators are above this floor, in `metrics/`: that room is found by its name, when a method is called.
"""

import importlib


def evaluate_generation(
    self,
    data,
    metrics=("fd", "mind", "precision", "recall"),
    extractor="auto",
    num_samples=1000,
    sampler=None,
    num_steps=50,
    guidance_scale=1.0,
    seed=0,
    weights="ema",
    training_data=None,
    floor_halvings=5,
    cache=None,
    **options,
):
    """How good the model's samples are, against real ones, with the floor that perfect samples would reach.

    The samples have the labels or captions of the real ones, in their proportions.

    Args:
        data: real samples: `data.Batches`, an array `(M, ...)`, a dict of arrays, or batches of these. With 2·N of
            them the floor has N samples on each side.
        metrics: names of `metrics.names()`, dicts with options, or objects. Default: Fréchet distance, MIND,
            precision and recall.
        extractor: what turns images into features, as in `metrics.get_extractor`; "auto" (default) suits the data.
        num_samples: N, how many are generated. Default 1000.
        sampler, num_steps, guidance_scale: as in `generate`.
        seed: int ≥ 0, of the noise: other models and other settings start from the same. Default 0.
        weights: "ema" (default), the average, where there is one; or "raw".
        training_data: what the model was trained on, for "auth_pct", which looks for copies. Default None.
        floor_halvings: random halvings of the real data for the floor; 0 for none. Default 5.
        cache: folder in which the features of real samples are kept, by content. Default None.
        options: further arguments of `generate`, such as `batch_size`, `guidance` and `verbose`; `conditions` in
            place of those of the data.

    Returns:
        dict from the metrics' names to `metrics.MetricResult`s, each of which prints as one line.

    Raises:
        ValueError: fewer samples than a metric needs, data or names that do not fit, and as `generate`.

    Example:

    >>> results = model.evaluate_generation(batches, num_samples=1000, num_steps=20)
    >>> print(results["fd"])
    """
    room = importlib.import_module("keras_diffusion.metrics")
    evaluator = room.GenerationEvaluator(data, metrics, extractor, num_samples, training_data, floor_halvings, cache)
    walk = {"sampler": sampler, "num_steps": num_steps, "guidance_scale": guidance_scale, "seed": seed}
    return evaluator(self, weights=weights, **walk, **options)


def evaluate_reconstructions(
    self,
    data,
    metrics=("fd", "mind"),
    extractor="auto",
    num_samples=1000,
    weights="ema",
    batch_size=64,
    floor_halvings=5,
    cache=None,
):
    """How good the reconstructions are as a set: rFID and other distances between features, each with its floor.

    PSNR and SSIM, of each picture and its original, are what `evaluate` returns.

    Args:
        data: held-out pictures: `data.Batches`, an array `(M, H, W, C)`, a dict of arrays, or batches of these. With
            2·N of them the floor has N on each side.
        metrics: names of `metrics.names()`, dicts with options, or objects. Default: Fréchet distance, which is rFID
            in the features of Inception, and MIND.
        extractor: what turns pictures into features, as in `metrics.get_extractor`; "auto" (default) suits the data.
        num_samples: N, how many are reconstructed; all, where there are fewer. Default 1000.
        weights: "ema" (default) for the average, or "raw".
        batch_size: pictures at a time. Default 64.
        floor_halvings: random halvings of the originals for the floor; 0 for none. Default 5.
        cache: folder in which the features of originals are kept, by content. Default None.

    Returns:
        dict from the metrics' names to `metrics.MetricResult`s, each of which prints as one line.

    Raises:
        ValueError: fewer pictures than a metric needs, data or names that do not fit, and as `reconstruct`.

    Example:

    >>> results = model.evaluate_reconstructions(test, metrics=["mind"], num_samples=500)
    >>> print(results["mind"])
    """
    room = importlib.import_module("keras_diffusion.metrics")
    evaluator = room.ReconstructionEvaluator(data, metrics, extractor, num_samples, floor_halvings, cache)
    return evaluator(self, weights=weights, batch_size=batch_size)
