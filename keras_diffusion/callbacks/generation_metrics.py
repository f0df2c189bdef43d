"""Scores of generated samples every few epochs: is the model still getting better, and which epoch was the best?

    epoch ends ──▶ samples of the average, from the same noise ──▶ metrics ──▶ logs, the curve
                                                                       └─ better than before? ──▶ a preset

The loss of a diffusion model says little about its pictures. These numbers do, and cost a few hundred samples each.
"""

import warnings
from pathlib import Path

import keras

from keras_diffusion.callbacks.event_file import EventFile
from keras_diffusion.configs.checks import check_path, check_whole, shown
from keras_diffusion.metrics.evaluator import Evaluator
from keras_diffusion.metrics.generation import GenerationEvaluator
from keras_diffusion.metrics.result import MetricResult
from keras_diffusion.runtime.devices import is_writer, wait_for_all, writing
from keras_diffusion.runtime.files import read_json, write_json


class GenerationMetrics(keras.callbacks.Callback):
    """Measures generated samples at the end of every `every`-th epoch and of the last one.

    The values go into the logs of the epoch under the metrics' names, where callbacks that come later find them:
    `MetricsJSONL`, Keras's `TensorBoard` and `History`, so name this one first. Of epochs between, the logs hold none.

    All epochs have the same noise and conditions, and are measured against the same real samples. Nothing here draws
    from the random state of training: a run that was interrupted has the values of one that was not.

    Args:
        data: real samples, as in `metrics.GenerationEvaluator`; the training data, as a rule. Or such an evaluator.
        metrics: names, dicts with options, or objects. Default: "mind", which needs few samples.
        every: int ≥ 1, in epochs. Default 1.
        num_samples: how many are generated. Default 500.
        extractor: as in `metrics.get_extractor`. Default "auto".
        seed: int ≥ 0, of the noise. Default 0.
        best: folder for the model of the best epoch, a preset; or None (default). Beside it, `<best>.json` has the
            results.
        monitor: name of the metric that says which epoch is the best. None (default): the first one.
        cache: folder in which the features of real samples are kept, by content. Default None.
        tensorboard: log directory, or None. Values are then also written to its sub-directory "metrics"; this needs no
            package.
        options: further arguments of `generate`: `num_steps`, `sampler`, `guidance_scale`, `weights` (default "ema") …

    Attributes:
        results: dict from numbers of finished epochs to dicts of `MetricResult`s.
        evaluator: `GenerationEvaluator`; None before training begins.
        best_result: the best `MetricResult` of `monitor`, or None.

    Raises:
        ValueError: numbers out of range, a `monitor` that is not measured; when training starts, what
            `GenerationEvaluator` refuses, a model without `generate`.

    Example:

    >>> scores = GenerationMetrics(batches, metrics=["mind"], every=5, best="run/best", num_steps=20)
    >>> model.fit(batches, epochs=50, callbacks=[scores, MetricsJSONL("run/metrics.jsonl")])
    """

    #: What the model must have, which models do, and what measures them.
    _needed, _models = "generate", "DiffusionModel"
    _evaluator: type[Evaluator] = GenerationEvaluator

    def __init__(
        self,
        data,
        metrics=("mind",),
        every=1,
        num_samples=500,
        extractor="auto",
        seed=0,
        best=None,
        monitor=None,
        cache=None,
        tensorboard=None,
        **options,
    ):
        super().__init__()
        self.every = check_whole("every", every, 1, rule="every must be an integer ≥ 1")
        check_whole("num_samples", num_samples, 2)
        seed = check_whole("seed", seed, 0, 2**64 - 1)
        self.best = None if best is None else Path(check_path("best", best))
        self.options = {"verbose": 0, "weights": "ema", "seed": seed, **options}
        self.evaluator = data if isinstance(data, self._evaluator) else None
        self._data, self._made_with = data, (metrics, extractor, num_samples, cache)
        self.monitor = monitor
        self.tensorboard = None if tensorboard is None else Path(tensorboard) / "metrics"
        self.results, self.best_result = {}, None
        self._events, self._begun = None, False

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, self._needed):
            raise ValueError(
                f"{type(self).__name__} needs a model with {self._needed}(), such as {self._models}. Received: "
                f"{type(self.model).__name__}"
            )
        if self.evaluator is None:
            metrics, extractor, num_samples, cache = self._made_with
            self.evaluator = self._evaluator(self._data, metrics, extractor, num_samples, cache=cache)
        names = [metric.name for metric in self.evaluator.metrics]
        self.monitor = names[0] if self.monitor is None else self.monitor
        if self.monitor not in names:
            raise ValueError(
                f"`monitor` is one of the metrics measured: {', '.join(names)}. Received: {shown(self.monitor)}"
            )
        self._begun = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._begun:  # not in on_train_begin: a later callback may still set the epoch at which training resumes
            self.best_result = None if epoch == 0 else self._recorded()
            self._begun = True

    def on_epoch_end(self, epoch, logs=None):
        last = epoch + 1 == (self.params or {}).get("epochs")
        if (epoch + 1) % self.every and not last:
            return
        found = self.measure(epoch + 1)
        if logs is not None:
            logs.update({name: result.value for name, result in found.items()})

    def measure(self, epoch):
        """Measures the model now.

        Args:
            epoch: number of finished epochs.

        Returns:
            dict from names to `MetricResult`s; empty, with a warning, if samples are not finite.

        Raises:
            OSError: the preset of the best epoch could not be written.
        """
        try:
            found = self.evaluator(self.model, **self.options)
        except FloatingPointError as error:
            # A score is no reason to stop training; TerminateOnNonFinite does that.
            warnings.warn(f"{type(self).__name__}: nothing was measured after epoch {epoch}: {error}", stacklevel=2)
            return {}
        self.results[epoch] = found
        if self.tensorboard is not None and is_writer():
            self._events = self._events or EventFile(self.tensorboard)
            for name, result in found.items():
                self._events.scalar(name, result.value, step=epoch)
        if found[self.monitor].improves_on(self.best_result):
            self.best_result = found[self.monitor]
            if self.best is not None:
                self._save(epoch, found)
        return found

    @property
    def record(self):
        """The file with the results of the best epoch, beside its preset; None without one."""
        return None if self.best is None else self.best.with_name(f"{self.best.name}.json")

    def _save(self, epoch, found):
        with writing(self.model) as writer:
            if writer:
                self.model.save_to_preset(self.best, overwrite=True)
                results = {name: result.to_dict() for name, result in found.items()}
                # Last: a killed run then measures this epoch again, and saves it again.
                write_json(self.record, {"epoch": epoch, "monitor": self.monitor, "results": results})
        wait_for_all("best")

    def _recorded(self):
        """The best result of the run that goes on, or None."""
        if self.record is None or not self.record.is_file():
            return None
        found = read_json(self.record)
        results = found.get("results")
        if found.get("monitor") != self.monitor or not isinstance(results, dict) or self.monitor not in results:
            raise ValueError(
                f"A run goes on with the metric that it began with. Received: {str(self.record)!r}, of "
                f"{shown(found.get('monitor'))}, with monitor={self.monitor!r}. Delete the file, or choose another "
                "`best`"
            )
        return MetricResult.from_dict(results[self.monitor])
