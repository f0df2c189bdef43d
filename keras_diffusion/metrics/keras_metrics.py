"""Metrics of features in the form of Keras: batches in by `update_state`, a number out by `result`.

    metric = kd.metrics.FrechetDistance()
    for real, generated in batches:
        metric.update_state(extractor(real), extractor(generated))
    metric.result()

What they hold lives on the host, in NumPy and float64, and in no Keras variables: JAX has no float64 unless all of a
program has it, and sums of 50,000 float32 features are off in the fourth digit. So a value is the same on every backend
and equal to that of the function of the same features. The price: they do not run inside compiled programs, and `fit`
cannot take them. They are for the loop that has the features at hand.
"""

import keras
import numpy as np

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_flag
from keras_diffusion.configs.registry import serializable
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS
from keras_diffusion.metrics.features import check_features
from keras_diffusion.metrics.frechet import FD, frechet_distance
from keras_diffusion.metrics.statistics import FeatureStatistics


class _HostMetric(ArgumentsMixin, keras.metrics.Metric):
    """Base of the metrics here: two sides that grow by batches.

    Attributes:
        real, generated: what is known of each side.
    """

    def __init__(self, keep_real=False, **kwargs):
        super().__init__(**kwargs)
        check_flag("keep_real", keep_real)
        self.real = self.generated = None
        self._start(("real", "generated"))

    def update_state(self, real=None, generated=None, sample_weight=None):
        """Adds a batch to one side, or to both.

        Args:
            real: `(N, width)`, features of real samples (Keras's `y_true`), or None.
            generated: `(M, width)`, of generated samples (`y_pred`), or None.
            sample_weight: must be None: every sample counts once.

        Raises:
            ValueError: weights, other shapes, NaN, or tensors of a program that is being compiled.
        """
        if sample_weight is not None:
            raise ValueError("Metrics of features count every sample once. Received: sample_weight")
        for side, batch in (("real", real), ("generated", generated)):
            if batch is not None:
                self._add(side, check_features(side, _on_host(side, batch)))

    def reset_state(self):
        """Forgets all batches; those of real samples stay with `keep_real`."""
        self._start(("generated",) if self.keep_real else ("real", "generated"))

    def _start(self, sides):
        raise NotImplementedError

    def _add(self, side, features):
        raise NotImplementedError


@serializable
class FrechetDistance(_HostMetric):
    """Fréchet distance of features as a Keras metric; on Inception features FID. See `FD`.

    Holds the mean and the covariance of each side, 2 · 8 · width² bytes, however many samples there are.

    Args:
        allow_singular: whether no more samples than features are accepted. Default False.
        keep_real: whether `reset_state` leaves the real side as it is. Default False.

    Call arguments:
        real: `(N, width)`, features of real samples, or None.
        generated: `(M, width)`, features of generated samples, or None.
        sample_weight: must be None.

    Returns:
        float, from `result`.

    Attributes:
        real, generated: `FeatureStatistics`. Those of several processes `merge`, and `real` may be replaced by some
            that were saved.

    Example:

    >>> metric = kd.metrics.FrechetDistance()
    >>> for batch in np.random.default_rng(0).normal(0.0, 1.0, (10, 50, 4)):
    ...     metric.update_state(real=batch, generated=batch + 0.5)
    >>> round(metric.result(), 6)  # 4·0.5²
    1.0

    Reference:
        Heusel et al., arXiv:1706.08500, equation 6.
    """

    def __init__(self, allow_singular=False, keep_real=False, **kwargs):
        super().__init__(keep_real, **{"name": "frechet_distance", **kwargs})
        check_flag("allow_singular", allow_singular)

    def result(self):
        """FD between the two sides, a float.

        Raises:
            ValueError: too few samples on a side.
        """
        width = max(side.mean.size if side.mean is not None else 1 for side in (self.real, self.generated))
        FD(self.allow_singular).check_counts(width, generated=self.generated.count, real=self.real.count)
        return frechet_distance(self.generated, self.real)

    def _start(self, sides):
        for side in sides:
            setattr(self, side, FeatureStatistics())

    def _add(self, side, features):
        getattr(self, side).update(features)


@serializable
class SampleMetric(_HostMetric):
    """Any metric of features by name, as a Keras metric. Holds the features themselves, on the host.

    Args:
        metric: whatever `kd.metrics.get` takes: a name, a dict such as `{"name": "mind", "projections": 100}`, or a
            `FeatureMetric`. Default "mind".
        keep_real: whether `reset_state` leaves the real side as it is. Default False.

    Call arguments:
        real: `(N, width)`, features of real samples (of training samples for metrics that need those), or None.
        generated: `(M, width)`, features of generated samples, or None.
        sample_weight: must be None.

    Returns:
        float, from `result`.

    Example:

    >>> metric = kd.metrics.SampleMetric("coverage")
    >>> for batch in np.random.default_rng(0).normal(0.0, 1.0, (10, 50, 4)):
    ...     metric.update_state(real=batch, generated=batch + 0.01)
    >>> metric.result()
    1.0
    """

    def __init__(self, metric="mind", keep_real=False, **kwargs):
        self.function = FEATURE_METRICS.get(metric)
        super().__init__(keep_real, **{"name": self.function.name, **kwargs})

    def result(self):
        """The value of the metric, a float; `estimate` has its standard error as well.

        Raises:
            ValueError: too few samples on a side.
        """
        return self.estimate().value

    def estimate(self):
        """The value of the metric with its standard error.

        Returns:
            `Estimate`.

        Raises:
            ValueError: too few samples on a side.
        """
        sides = {"generated": self.generated.all()}
        if self.function.uses_real:
            sides["real"] = self.real.all()
        if "training" in self.function.needs:
            sides["training"] = self.real.all()
        return self.function(**sides)

    def _start(self, sides):
        for side in sides:
            setattr(self, side, _Rows(side))

    def _add(self, side, features):
        getattr(self, side).add(features)


@serializable
class KernelDistance(SampleMetric):
    """Kernel distance of features as a Keras metric; on Inception features KID. See `KID`. Holds the features.

    Args:
        subsets: number of pairs of subsets, or None for the estimate from all pairs. Default 100.
        subset_size: samples of a subset. Default 1000.
        seed: of the subsets, ≥ 0. Default 2020.
        keep_real: whether `reset_state` leaves the real side as it is. Default False.

    Call arguments:
        real: `(N, width)`, features of real samples, or None.
        generated: `(M, width)`, features of generated samples, or None.
        sample_weight: must be None.

    Returns:
        float, from `result`.

    Example:

    >>> metric = kd.metrics.KernelDistance(subsets=None)
    >>> metric.update_state(np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]]))
    >>> metric.result()
    9.5

    Reference:
        Bińkowski et al., arXiv:1801.01401, section 4.
    """

    fixed_arguments = ("metric",)

    def __init__(self, subsets=100, subset_size=1000, seed=2020, keep_real=False, **kwargs):
        metric = {"name": "kid", "subsets": subsets, "subset_size": subset_size, "seed": seed}
        super().__init__(metric, keep_real, **{"name": "kernel_distance", **kwargs})


class _Rows:
    """Features of one side, batch by batch, without copies until they are wanted."""

    def __init__(self, side):
        self.side, self.batches = side, []

    def add(self, features):
        if self.batches and self.batches[0].shape[1] != features.shape[1]:
            raise ValueError(
                f"All features have one width. Received: {features.shape[1]} {self.side} features after "
                f"{self.batches[0].shape[1]}"
            )
        self.batches.append(features.copy())

    def all(self):
        if not self.batches:
            raise ValueError(f"There are no {self.side} samples yet: add some by `update_state`. Received: none")
        self.batches = [np.concatenate(self.batches)] if len(self.batches) > 1 else self.batches
        return self.batches[0]


def _on_host(side, batch):
    try:
        return keras.ops.convert_to_numpy(batch) if keras.ops.is_tensor(batch) else batch
    except Exception as error:  # each backend has its own for tensors without a value
        raise ValueError(
            "Metrics of features hold float64 statistics on the host, so they cannot run inside a compiled program, as "
            "`fit` and `evaluate` are. Call `update_state` with the features when they are there, or use "
            f"`kd.metrics.get`. Received: {side} of type {type(batch).__name__}"
        ) from error
