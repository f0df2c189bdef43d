"""How good are a model's samples? Generate, extract features, measure: with everything that the numbers depend on.

    real data ──▶ Reference ──────────────── features ──┐
                     └─ conditions ─▶ generate ─ features ──┴─▶ metrics ──▶ MetricResult, with its floor

The generated samples have the labels or captions of real ones, in their proportions, and start from the noise of
(seed, i): two models, or two epochs, are compared on the same noise and conditions.
"""

import numpy as np

from keras_diffusion import samplers
from keras_diffusion.configs.checks import check_whole
from keras_diffusion.metrics.conditions import conditions_of, repeated
from keras_diffusion.metrics.evaluator import Evaluator
from keras_diffusion.models.guided_denoiser import check_weights
from keras_diffusion.models.sampling_defaults import DEFAULT_SAMPLER

_BATCH = 256  # samples that are generated together


class GenerationEvaluator(Evaluator):
    """Measures models against one set of real data, whose features and floors are computed once.

    Args:
        data: real samples, as in `Reference`; or a `Reference`.
        metrics: names, dicts with options, or `FeatureMetric`s. Default: "fd", "mind", "precision", "recall".
        extractor: as in `Reference`; default "auto".
        num_samples: how many are generated, and compared with as many real ones, or all where there are fewer. Default
            1000.
        training_data: what the model was trained on, for metrics that look for copies, as `data`. Default None.
        floor_halvings: how often the real data are halved for the floor; 0 for no floor. Default 5.
        cache: as in `Reference`.

    Attributes:
        metrics: list of `FeatureMetric`s.
        reference: `Reference`.

    Raises:
        ValueError: unknown metrics, too few samples for one of them, or no training data for one that needs them.

    Example:

    >>> evaluator = GenerationEvaluator(batches, metrics=["mind"], num_samples=500)
    >>> for steps in (5, 10, 20):
    ...     print(evaluator(model, num_steps=steps)["mind"])
    """

    def __call__(self, model, **options):
        """Generates samples of a model and measures them.

        Args:
            model: `DiffusionModel`.
            options: as in `generate`, and `weights`: see there.

        Returns:
            dict from the metrics' names to `MetricResult`s.
        """
        real_labels = options.get("conditions") is None and "labels" in model.condition_keys
        matched = real_labels and np.ndim(self.reference.samples.get("labels")) == 1
        return self.measure(self.generate(model, **options), matched, **walk_of(model, options))

    def generate(self, model, num_steps=50, guidance_scale=1.0, seed=0, batch_size=None, conditions=None, **options):
        """Samples of a model under the conditions of the real data.

        Args:
            model: `DiffusionModel`; with captions, a `TextToImage`.
            num_steps: steps of the sampler. Default 50.
            guidance_scale: strength of guidance; 1 (default) is none.
            seed: int ≥ 0, of the noise. Default 0.
            batch_size: samples that are generated together; None (default): up to 256.
            conditions: dict in place of those of the data, as in `generate`, one row per sample or one for all.
            options: further arguments of `DiffusionModel.generate`.

        Returns:
            array `(num_samples, *sample_shape)` in [−1, 1].

        Raises:
            ValueError: as `DiffusionModel.generate`.
        """
        batch_size = check_whole("batch_size", batch_size, 1, optional=True)
        batches = -(-self.num_samples // (batch_size or _BATCH))
        batch_size = batch_size or -(-self.num_samples // batches)
        count = batches * batch_size  # whole batches: a smaller last one would be another program
        rows = np.arange(count) % len(self.reference)
        if conditions is None:
            options |= conditions_of(model, self.reference.samples, rows, guidance_scale, options.get("weights", "ema"))
        else:
            options["conditions"] = {key: repeated(value, count) for key, value in conditions.items()}
        if options.get("size") is None and None in model.sample_shape:
            options["size"] = self.reference.images.shape[1:-1]
        options = {"verbose": 0, **options}
        samples = model.generate(
            count, num_steps=num_steps, guidance_scale=guidance_scale, seed=seed, batch_size=batch_size, **options
        )
        return np.asarray(samples)[: self.num_samples]


def walk_of(model, options):
    """What `MetricResult` says of how samples were made.

    Args:
        model: `DiffusionModel`.
        options: arguments of `generate`, a dict.

    Returns:
        dict with "weights", "sampler", "num_steps", "guidance_scale" and "seed".
    """
    averaged = check_weights(options.get("weights", "ema")) == "ema" and model.averaged_network() is not model.network
    sampler = options.get("sampler")
    return {
        "weights": "ema" if averaged else "raw",
        "sampler": sampler_text(
            model.sampling_defaults.get("sampler", DEFAULT_SAMPLER) if sampler is None else sampler
        ),
        "num_steps": options.get("num_steps", 50),
        "guidance_scale": float(options.get("guidance_scale", 1.0)),
        "seed": options.get("seed", 0),
    }


def sampler_text(sampler):
    """A sampler as text: "dpmpp_2m", "ddim, eta=1.0"."""
    if isinstance(sampler, dict):
        return ", ".join(str(value) if key == "name" else f"{key}={value}" for key, value in sampler.items())
    return sampler if isinstance(sampler, str) else repr(samplers.get(sampler))
