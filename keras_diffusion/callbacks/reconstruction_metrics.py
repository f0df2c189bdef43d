"""Scores of reconstructions every few epochs: rFID, which sees blur that PSNR does not."""

from keras_diffusion.callbacks.generation_metrics import GenerationMetrics
from keras_diffusion.configs.checks import check_whole
from keras_diffusion.metrics.reconstruction import RECONSTRUCTION_METRICS, ReconstructionEvaluator
from keras_diffusion.models.guided_denoiser import check_weights


class ReconstructionMetrics(GenerationMetrics):
    """Measures an autoencoder's reconstructions of held-out pictures at the end of every `every`-th epoch and of the
    last one.

    In everything else it is `GenerationMetrics`: where values go, and which epoch is kept.

    Args:
        data: held-out pictures, as in `metrics.ReconstructionEvaluator`. Or such an evaluator.
        metrics: names, dicts with options, or objects. Default: "fd" and "mind".
        every: int ≥ 1, in epochs. Default 1.
        num_samples: how many pictures; all, where there are fewer. Default 1000.
        extractor: as in `metrics.get_extractor`. Default "auto".
        weights: "ema" (default) for the average of the weights, or "raw".
        batch_size: pictures at a time. Default 64.
        best, monitor, cache, tensorboard: as in `GenerationMetrics`.

    Attributes:
        results: dict from numbers of finished epochs to dicts of `MetricResult`s.
        evaluator: `ReconstructionEvaluator`; None before training begins.
        best_result: the best `MetricResult` of `monitor`, or None.

    Raises:
        ValueError: numbers out of range, other weights, a `monitor` that is not measured; when training starts, what
            `ReconstructionEvaluator` refuses, a model without `reconstruct`.

    Example:

    >>> scores = ReconstructionMetrics(test, metrics=["mind"], every=5)
    >>> model.fit(train, epochs=50, callbacks=[scores, MetricsJSONL("run/metrics.jsonl")])
    """

    _needed, _models, _evaluator = "reconstruct", "AutoencoderModel", ReconstructionEvaluator

    def __init__(
        self,
        data,
        metrics=RECONSTRUCTION_METRICS,
        every=1,
        num_samples=1000,
        extractor="auto",
        weights="ema",
        batch_size=64,
        best=None,
        monitor=None,
        cache=None,
        tensorboard=None,
    ):
        super().__init__(
            data,
            metrics,
            every,
            num_samples,
            extractor,
            best=best,
            monitor=monitor,
            cache=cache,
            tensorboard=tensorboard,
        )
        self.options = {"weights": check_weights(weights), "batch_size": check_whole("batch_size", batch_size, 1)}
