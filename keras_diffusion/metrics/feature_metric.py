"""Metrics from features: the base class, what a metric returns, and the table of names.

    value ± standard error = metric(features of generated samples, features of real samples)

Features are arrays `(N, width)`, a row for each sample: what an extractor makes of pictures, or vectors as they are.
All sums are float64 on the host, so that a value does not depend on the backend.
"""

from typing import NamedTuple

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.registry import Registry
from keras_diffusion.metrics.features import check_features
from keras_diffusion.metrics.statistics import FeatureStatistics

FEATURE_METRICS = Registry("metric")


class Estimate(NamedTuple):
    """What a metric returns.

    Attributes:
        value: float.
        standard_error: float: how much `value` would vary if all samples were drawn anew, as a standard deviation.
            None where there is no estimate of it. The class of the metric says how it is made.
    """

    value: float
    standard_error: float | None = None

    def __str__(self):
        return f"{self.value:.4g}" + ("" if self.standard_error is None else f" ± {self.standard_error:.2g}")


@FEATURE_METRICS.base
class FeatureMetric(ArgumentsMixin):
    """Base class: a number from features of generated and of real samples.

    A subclass defines `measure`, and where it matters `minimum`.

    Call arguments:
        generated: `(N, width)`, features of generated samples, finite; logits `(N, classes)` where `needs` says so.
        real: `(M, width)`, of real samples; None where `uses_real` is False.
        training: `(K, width)`, of the samples that the model was trained on, where `needs` has "training".

    Returns:
        `Estimate`.

    Attributes:
        name: in the table of names.
        title: as tables show it.
        better: "lower" or "higher".
        needs: what must be given: "features" or "logits", and "training" where training data is compared with.
        uses_real: whether `real` counts.
        takes_statistics: whether `real` may be a `FeatureStatistics`.
        why: one sentence: why fewer samples than `minimum` do not suffice, and what to do instead.
    """

    name = ""
    title = ""
    better = "lower"
    needs: tuple[str, ...] = ("features",)
    uses_real = True
    takes_statistics = False
    why = "With a single sample there is no distribution to compare."

    def minimum(self, width):
        """The fewest samples on each side.

        Args:
            width: number of features.

        Returns:
            int; `why` says the reason.
        """
        return 2

    def measure(self, generated, real, training):
        """The metric itself, which subclasses define; what it is given is checked.

        Args:
            generated: float `(N, width)`.
            real: float `(M, width)`, a `FeatureStatistics` where `takes_statistics`, None where it does not count.
            training: float `(K, width)`, or None.

        Returns:
            `Estimate`.

        Raises:
            ValueError: what a metric cannot take beyond what `__call__` has checked.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement measure(generated, real, training)")

    def check_counts(self, width, **counts):
        """Refuses numbers of samples below `minimum`.

        Args:
            width: number of features.
            counts: numbers of samples by side: `generated=1000, real=5000`; None is passed over.

        Raises:
            ValueError: too few samples; says how many are needed, and why.
        """
        least = self.minimum(width)
        if any(count is not None and count < least for count in counts.values()):
            given = ", ".join(f"{count:,} {side}" for side, count in counts.items() if count is not None)
            raise ValueError(
                f"{self.title} of {width:,} {self.needs[0]} needs at least {least:,} samples on each side. {self.why} "
                f"Received: {given}"
            )

    def __call__(self, generated, real=None, training=None):
        given = {"generated": check_features("generated", generated)}
        if self.uses_real:
            given["real"] = self._other_side("real", real)
        if "training" in self.needs:
            given["training"] = self._other_side("training", training)
        widths = {side: value.mean.size if _known(value) else value.shape[1] for side, value in given.items()}
        if len(set(widths.values())) > 1:
            raise ValueError(
                f"{self.title} compares features of one extractor, which have one width. Received: "
                f"{', '.join(f'{width} features of {side} samples' for side, width in widths.items())}"
            )
        counts = {side: value.count if _known(value) else len(value) for side, value in given.items()}
        self.check_counts(widths["generated"], **counts)
        return self.measure(given["generated"], given.get("real"), given.get("training"))

    def _other_side(self, side, value):
        if value is None:
            raise ValueError(
                f"{self.title} compares generated samples with {side} ones, whose {self.needs[0]} it needs too. "
                f"Received: {side}=None"
            )
        if not _known(value):
            return check_features(side, value)
        if not self.takes_statistics:
            raise ValueError(
                f"{self.title} needs every sample: {self.needs[0]} (N, width), not their mean and covariance. "
                f"Received: {side}={value!r}"
            )
        return value


def _known(value):
    """Whether `value` is the mean and covariance of features instead of the features."""
    return isinstance(value, FeatureStatistics)
