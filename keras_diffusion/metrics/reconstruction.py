"""How good are an autoencoder's reconstructions, as a set? rFID, and the like.

    real pictures ──▶ Reference ────────────────── features ──┐
                         └─ pictures ─▶ reconstruct ─ features ──┴─▶ metrics ──▶ MetricResult, with its floor

PSNR and SSIM compare a picture with its original, and a blurred picture does well by them. A distance between the sets
of features sees that all pictures are blurred. As is usual, the originals are those that were reconstructed, so that a
perfect autoencoder has a distance of 0, and a good one may stay below the floor, which is of other pictures.
"""

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.metrics.evaluator import Evaluator
from keras_diffusion.metrics.reference import Reference
from keras_diffusion.models.guided_denoiser import check_weights

RECONSTRUCTION_METRICS = ("fd", "mind")


class ReconstructionEvaluator(Evaluator):
    """Measures the reconstructions of autoencoders, whose originals' features and floors are computed once.

    Args:
        data: held-out pictures, as in `Reference`; or a `Reference`.
        metrics: names, dicts with options, or `FeatureMetric`s. Default: "fd", which is rFID in the features of
            Inception, and "mind".
        extractor: as in `Reference`; default "auto".
        num_samples: how many are reconstructed; all, where there are fewer. Default 1000.
        floor_halvings: how often the originals are halved for the floor; 0 for no floor. Default 5.
        cache: as in `Reference`.

    Attributes:
        metrics: list of `FeatureMetric`s.
        reference: `Reference`.

    Raises:
        ValueError: unknown metrics, too few pictures for one of them.

    Example:

    >>> evaluator = ReconstructionEvaluator(test, metrics=["mind"], num_samples=500)
    >>> print(evaluator(model)["mind"])

    Reference:
        Rombach et al. 2022, arXiv:2112.10752, section 4.1 and table 8.
    """

    made = "reconstructed"

    def __init__(
        self, data, metrics=RECONSTRUCTION_METRICS, extractor="auto", num_samples=1000, floor_halvings=5, cache=None
    ):
        num_samples = check_whole("num_samples", num_samples, 2)
        reference = data if isinstance(data, Reference) else Reference(data, extractor, 2 * num_samples, cache)
        count = max(2, min(num_samples, len(reference)))
        super().__init__(reference, metrics, num_samples=count, floor_halvings=floor_halvings)

    def __call__(self, model, weights="ema", batch_size=64):
        """Reconstructs the pictures with a model and measures the set.

        Args:
            model: `AutoencoderModel`.
            weights, batch_size: as in `AutoencoderModel.reconstruct`.

        Returns:
            dict from the metrics' names to `MetricResult`s.
        """
        return self.measure(self.reconstruct(model, weights, batch_size), **self.facts(model, weights))

    def reconstruct(self, model, weights="ema", batch_size=64):
        """The pictures after encoding and decoding.

        Args:
            model: `AutoencoderModel`.
            weights, batch_size: as in `AutoencoderModel.reconstruct`.

        Returns:
            float32 array `(num_samples, H, W, C)` in [−1, 1].

        Raises:
            ValueError: as `AutoencoderModel.reconstruct`.
        """
        return model.reconstruct(self.originals, weights=weights, batch_size=batch_size)

    @property
    def originals(self):
        """The pictures that are reconstructed `(num_samples, H, W, C)`, float32 in [−1, 1]."""
        return self.reference.images[: self.num_real]

    def facts(self, model, weights):
        """What `MetricResult` says of how reconstructions were made.

        Args:
            model: `AutoencoderModel`.
            weights: "ema" or "raw".

        Returns:
            dict with "weights".
        """
        averaged = check_weights(weights) == "ema" and model.averaged_autoencoder() is not model.autoencoder
        return {"weights": "ema" if averaged else "raw"}
