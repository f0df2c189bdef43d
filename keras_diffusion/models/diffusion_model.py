"""The diffusion model: a network that learns to denoise, and what it needs to be trained with `fit` and sampled with
`generate`.

One training step:

    t ~ time distribution,  ε ~ N(0, I)
    x_t  = α(t)·x0 + σ(t)·ε                        noise schedule
    ŷ    = network(c_in·x_t, noise condition, …)   conditions dropped now and then, for guidance
    loss = mean w(λ)·|ŷ − y|²,   y = a·x0 + b·ε    loss weighting, predictor

It happens in `call` and `compute_loss`, so Keras's own training step runs it on every backend: `fit`, callbacks,
gradient accumulation, learning-rate schedules, mixed precision and `steps_per_execution` are Keras's. Sampling is in
`generate.py`; how training stops and goes on, and what files hold, in `resumable_model.py`.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion import predictors, schedulers
from keras_diffusion.configs.checks import check_whole, shown
from keras_diffusion.configs.labels import check_class_names
from keras_diffusion.configs.registry import serializable
from keras_diffusion.core.broadcast import expand_to_rank
from keras_diffusion.core.gaussian import mix
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import check_seed
from keras_diffusion.models import adapters, arguments, latents, summary, validation
from keras_diffusion.models.batch_checks import without_invalid
from keras_diffusion.models.data_watcher import DataWatcher
from keras_diffusion.models.evaluation_method import evaluate_generation
from keras_diffusion.models.guided_denoiser import null_conditions
from keras_diffusion.models.known_channels import check_output
from keras_diffusion.models.pairing import check_pair
from keras_diffusion.models.random_state import reset_seed, seed_generator
from keras_diffusion.models.resumable_model import ResumableModel
from keras_diffusion.models.sampling_loop import Programs
from keras_diffusion.models.sampling_methods import SamplingMethods
from keras_diffusion.models.weight_guard import reads_weights
from keras_diffusion.networks.network import MASK_KEY, check_beside
from keras_diffusion.training import WeightAverage, get_loss_weighting, get_time_distribution

_TRAINING, _VALIDATION = 0, 1  # streams of random numbers


@serializable
class DiffusionModel(SamplingMethods, ResumableModel):
    """Trains a denoising network and samples from it.

    Args:
        network: built `keras.Model` on a dict `{"x", "noise_level", **conditions}`, such as `networks.UNet`.
        noise_schedule: `NoiseSchedule`, or its name. Default "cosine".
        predictor: `Predictor`, or its name: what the network is asked for. Default "v".
        loss_weighting: `LossWeighting`, or its name; None (default) is the plain squared error of the network's output.
        time_distribution: `TimeDistribution`, or its name: which noise levels training draws. Default "uniform".
        condition_dropout: share of training samples whose labels and context are replaced by the null condition, in [0,
            1]. Needed for classifier-free guidance. Default 0.1.
        concat_dropout: share of those whose known channels ("concat") are replaced by zeros, drawn apart from
            `condition_dropout`. Needed for guidance by them. None (default): as `condition_dropout`.
        ema: decay of the average of the weights, in [0, 1), or None for no average. Default 0.999.
        autoencoder: layer or model with `encode` and `decode`, which is frozen; the diffusion then runs on its latents.
            `fit` warns where they are far from unit variance. Default None.
        null_context: context that means "no context", `(D,)` or `(L, D)`; for networks with a context. Default zeros.
        null_context_mask: which vectors of `null_context` are seen where contexts have masks, booleans `(L,)`. None
            (default): all of them.
        noise_bands: number of equal bands of t whose mean loss is reported apart ("loss_t25" is the cleanest of 4, t ≤
            0.25). Default 4.
        seed: int, of all random numbers of training; None (default) takes a new one.
        sampling_defaults: dict of what `generate` does unless told otherwise: "sampler", "spacing" and "guidance", by
            names and dicts; loaded checkpoints have it from their source. None (default): what `generate` says.
        class_names: list of texts, one per class of the network, or None (default). Labels may then be given by name.
        sample_latents: whether training draws latents from the distributions that the autoencoder tells of pictures.
            Default False: it takes their means.

    Call arguments:
        data: samples `(B, *sample_shape)`, float in [−1, 1] or uint8, or a dict with them under "images" and the
            conditions under "labels" `(B,)`, "context" `(B, L, D)` and "concat" `(B, ..., K)`, float in [−1, 1] or
            uint8, which is not noised: of the samples' size, or, where there is an autoencoder, of the latents'. Beside
            a context there may be a "context_mask" `(B, L)`, false where it is padding. Where the network is told of
            augmentation, "augmentation" `(B, A)`, zeros if it is left out. Where there is an autoencoder, the samples
            may be what it made of pictures, before its scale (`data.pack`): "moments" `(B, h, w, 2·D)`, means and log
            variances, or "latents" `(B, h, w, D)`.
        training: whether dropout drops and conditions are dropped.

    Returns:
        dict with "output" and "target" `(B, ...)`, "weight" `(B,)` and "t" `(B,)`, from which `compute_loss` makes the
        loss; of latents also their "spread" `(B,)`, the standard deviation of the batch.

    Raises:
        ValueError: a network whose output has other channels than its samples (twice as many are a learned variance); a
            predictor that is undefined at the schedule's end, such as "epsilon" where α(1) = 0; batches of another
            shape than the network takes, unknown or missing conditions, labels out of range, NaN.

    Example:

    >>> network = keras_diffusion.networks.UNet((8, 8, 1), widths=(32, 64), num_classes=10)
    >>> model = keras_diffusion.DiffusionModel(network)
    >>> model.compile(optimizer="adam")
    >>> model.fit({"images": images, "labels": labels}, epochs=20)
    >>> digits = model.generate(conditions={"labels": [3, 1, 4]}, num_steps=30, guidance_scale=2.0)
    """

    #: Range of pictures. None turns off what is expected of pictures: that something is below 0, and nothing as large
    #: as 255.
    value_range = (-1.0, 1.0)
    evaluate_generation = evaluate_generation

    def __init__(
        self,
        network,
        noise_schedule="cosine",
        predictor="v",
        loss_weighting=None,
        time_distribution="uniform",
        condition_dropout=0.1,
        ema=0.999,
        autoencoder=None,
        null_context=None,
        noise_bands=4,
        seed=None,
        sampling_defaults=None,
        concat_dropout=None,
        class_names=None,
        null_context_mask=None,
        sample_latents=False,
        **kwargs,
    ):
        # Level maths must not run in half precision: only the network follows a mixed policy.
        super().__init__(**{**kwargs, "dtype": "float32"})
        arguments.check_network(network)
        arguments.check_autoencoder(autoencoder)
        self.condition_dropout = arguments.check_share("condition_dropout", condition_dropout)
        self.concat_dropout = arguments.check_share("concat_dropout", concat_dropout, optional=True)
        self.noise_bands = check_whole("noise_bands", noise_bands, 1, 100)
        check_output(network)
        self.network = network
        self.noise_schedule = schedulers.get(noise_schedule)
        self.predictor = predictors.get(predictor)
        check_pair(self.noise_schedule, self.predictor)
        self.loss_weighting = get_loss_weighting(loss_weighting)
        self.time_distribution = get_time_distribution(time_distribution)
        self.ema = ema
        self.average = WeightAverage(network, ema, name="average") if ema is not None else None
        self.autoencoder = autoencoder
        if isinstance(autoencoder, keras.layers.Layer):
            autoencoder.trainable = False  # weight decay would change it, though no gradient does
        self.sample_latents = latents.check_sampling(sample_latents, autoencoder)
        self.seed = seed
        self.class_names = check_class_names(class_names, getattr(network, "num_classes", None))
        self._base_seed = check_seed(seed)
        self.training_noise = seed_generator(self._base_seed, _TRAINING, "training_noise")
        self.validation_noise = seed_generator(self._base_seed, _VALIDATION, "validation_noise")
        self.null_context = arguments.check_null_context(null_context, network)
        self.null_context_mask = arguments.check_null_mask(null_context_mask, self.null_context)
        self.sampling_defaults = sampling_defaults
        self._band_metrics = [
            keras.metrics.Mean(name=f"loss_t{round(100 * (i + 1) / noise_bands)}") for i in range(noise_bands)
        ]
        self._data = DataWatcher(self)
        # No attributes: those get a place in files. And no `+=`, which would be one: Keras then forgets later metrics.
        self._metrics.append(self._data.checks)
        if autoencoder is not None:
            self._metrics.append(self._data.latents)
        self.programs = Programs()
        self.built = True

    # Training ---------------------------------------------------------------------------------------------------------

    @property
    def sample_shape(self):
        """Shape of one sample of the network, without the batch axis."""
        shape = getattr(self.network, "sample_shape", None)
        return tuple(shape or self.network.input["x"].shape[1:])

    def call(self, data, training=False):
        known = (self.batch_keys(data), getattr(self.network, "augmentation_dim", None))
        seed = self.training_noise if training else self.validation_noise
        if self.autoencoder is None:
            x0, conditions = validation.unpack_batch(data, self.sample_shape, *known)
        else:
            draws = seed if self.sample_latents else None
            x0, conditions = latents.unpack(data, self.autoencoder, self.sample_shape, known, draws)
        if "concat" in conditions:
            check_beside(
                "concat", conditions["concat"].shape, tuple(x0.shape), validation.concat_channels_of(self.network)
            )
        x0, conditions = without_invalid(x0, conditions, self.num_classes, getattr(self.network, "null_labels", None))
        batch = ops.shape(x0)[0]
        # One uniform number spread over the batch: every batch sees all noise levels evenly (Kingma et al. 2021,
        # arXiv:2107.00630).
        u = keras.random.uniform((), seed=seed) + ops.arange(batch, dtype="float32") / ops.cast(batch, "float32")
        u = ops.clip(u - ops.floor(u), 1e-6, 1.0 - 1e-6)
        t = self.time_distribution.quantile(u, self.noise_schedule)
        eps = keras.random.normal(ops.shape(x0), seed=seed)
        if training:
            shares = self.dropout_shares(conditions)
            drop = {key: keras.random.uniform((batch,), seed=seed) < share for key, share in shares.items()}
            conditions = self.drop_conditions(conditions, **drop)
        outputs = self.outputs_at(x0, t, eps, self.encode_conditions(conditions), training)
        return outputs if self.autoencoder is None else {**outputs, "spread": ops.zeros_like(t) + ops.std(x0)}

    def batch_keys(self, data):
        """The conditions that a batch of training data holds: those of the network, and the context's mask, if any.

        Args:
            data: the batch.

        Returns:
            tuple of keys.
        """
        mask = isinstance(data, dict) and MASK_KEY in data and getattr(self.network, "takes_context_mask", False)
        return (*self.condition_keys, MASK_KEY) if mask else tuple(self.condition_keys)

    def null_text(self):
        """The context that means "no context".

        Returns:
            (context, mask): float32 `(L, D)` and booleans `(L,)`; L is 1 for one vector that stands for all.
        """
        dim = getattr(self.network, "context_dim", None)
        context = np.zeros((1, dim), "float32") if self.null_context is None else np.atleast_2d(self.null_context)
        return context, np.ones(len(context), bool) if self.null_context_mask is None else self.null_context_mask

    def encode_conditions(self, conditions):
        """The network's conditions, from those of a batch; for use inside a training step.

        Args:
            conditions: dict of tensors `(B, ...)` with the keys `batch_keys`.

        Returns:
            dict of tensors with the keys `condition_keys`.
        """
        return conditions

    def dropout_shares(self, conditions):
        """What training drops at random.

        Args:
            conditions: dict of tensors `(B, ...)`.

        Returns:
            dict from arguments of `drop_conditions` ("drop", "drop_concat") to shares of samples, in (0, 1].
        """
        shares = {}
        if set(conditions) - {"concat", "augmentation"}:
            shares["drop"] = self.condition_dropout
        if "concat" in conditions:
            shares["drop_concat"] = self.condition_dropout if self.concat_dropout is None else self.concat_dropout
        return {key: share for key, share in shares.items() if share}

    def drop_conditions(self, conditions, drop=None, drop_concat=None):
        """Replaces the conditions of some samples by the null condition.

        Networks without a null class keep their labels. Of augmentation, which happened, all samples are told.

        Args:
            conditions: dict of tensors `(B, ...)`.
            drop: booleans `(B,)`, for labels and context; None (default) drops none.
            drop_concat: booleans `(B,)`, likewise for known channels.

        Returns:
            dict of tensors like `conditions`.
        """
        dropped = dict(conditions)
        for key, value in null_conditions(self, like=conditions).items():
            where = {"concat": drop_concat, "augmentation": None}.get(key, drop)
            if where is not None and key in conditions:
                dropped[key] = ops.where(expand_to_rank(where, conditions[key]), value, conditions[key])
        return dropped

    def outputs_at(self, x0, t, eps, conditions=None, training=False):
        """What `call` returns, for given times and noise in place of drawn ones: a function of its arguments, the same
        on all backends.

        Args:
            x0: clean samples (latents, where there is an autoencoder) `(B, *sample_shape)`, float32.
            t: times `(B,)` in (0, 1].
            eps: standard normal noise like `x0`.
            conditions: dict of tensors, one row per sample, for all of the network's conditions.
            training: whether dropout drops.

        Returns:
            dict with "output", "target", "weight" and "t", as in `call`.
        """
        alpha, sigma = self.noise_schedule(t)
        level = Levels(t, alpha, sigma)
        output = self.network(self.inputs_at(x0, level, eps, conditions), training=training)
        return {
            "output": ops.cast(output[..., : x0.shape[-1]], "float32"),  # less a learned variance
            "target": self.predictor.target(x0, eps, alpha, sigma),
            "weight": self.loss_weighting.on_output(level.log_snr, self.predictor.x0_error_scale(alpha, sigma)),
            "t": t,
        }

    def inputs_at(self, x0, level, eps, conditions=None):
        """The network's input for x_t = α·x0 + σ·ε.

        Args:
            x0: clean samples (latents, where there is an autoencoder) `(B, *sample_shape)`.
            level: `Levels` of `(B,)`.
            eps: standard normal noise, shaped like `x0`.
            conditions: dict of tensors, one row per sample, or None.

        Returns:
            dict `{"x": (B, *sample_shape), "noise_level": (B,), **conditions}`.
        """
        scale = expand_to_rank(self.predictor.input_scale(level.alpha, level.sigma), x0)
        x_t = mix(x0, eps, level.alpha, level.sigma)
        return {"x": scale * x_t, "noise_level": self.predictor.noise_condition(level), **(conditions or {})}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean over the batch of w·mean|output − target|², plus the network's own losses.

        Args:
            x: the batch, whose values are looked at; its key "sample_weight" counts before the argument of this name.
            y_pred: what `call` returned.
            sample_weight: `(B,)`, factor on each sample's loss, also in the noise bands; or None. Weights are not
                normalized: the loss is their mean product with the samples' losses.
            training: whether to move the average of the weights.

        Raises:
            ValueError: a `y`, for which a diffusion model has no use, or a loss given to `compile`.
        """
        if y is not None:
            received = f"of shape {tuple(y.shape)}" if hasattr(y, "shape") else f"a {type(y).__name__}"
            raise ValueError(
                "A diffusion model learns from samples alone; labels are a condition of the network. Received: "
                f'y, {received}. Pass one dict, {{"images": images, "labels": labels}}, instead of a pair '
                '(x, y); weights of samples are its key "sample_weight".'
            )
        if self._compile_loss is not None:
            raise ValueError(
                "The loss follows from `predictor` and `loss_weighting`; call compile(optimizer=...) without `loss` "
                f"and `metrics`. Received: loss={shown(self._compile_loss._user_loss)}"
            )
        error = ops.square(y_pred["output"] - y_pred["target"])
        error = y_pred["weight"] * ops.mean(error, axis=tuple(range(1, len(error.shape))))
        if isinstance(x, dict) and x.get(validation.WEIGHT_KEY) is not None:
            sample_weight = x[validation.WEIGHT_KEY]
        if sample_weight is not None:
            error = error * validation.batch_weights(sample_weight, error)
        if x is not None:
            self._data.checks.update_state(x, sample_weight)
        for i, metric in enumerate(self._band_metrics):
            inside = ops.logical_and(y_pred["t"] > i / self.noise_bands, y_pred["t"] <= (i + 1) / self.noise_bands)
            metric.update_state(error, sample_weight=ops.cast(inside, "float32"))
        if "spread" in y_pred:
            self._data.latents.update_state(y_pred["spread"])
        if training and self.average is not None:
            self.average.update(self.network, every=self.optimizer.gradient_accumulation_steps or 1)
        return sum(self.losses, ops.mean(error))

    def fit(self, x=None, y=None, **kwargs):
        """Keras's `fit`, on arrays, dicts of arrays, `tf.data`, torch `DataLoader`, grain, generators or `PyDataset`.

        Args:
            x: samples; or a dict of them under "images", the conditions, and perhaps weights `(N,)` under
                "sample_weight"; or what yields such batches. In place of pictures there may be latents, see the class.
            y: None; labels are a condition.
            kwargs: as in Keras. `sample_weight` `(N,)` and `class_weight` (a dict from labels to numbers) are for
                arrays in memory; batches hold their weights, or are (samples, None, weights). `validation_data`:
                samples, or (samples, None, weights).

        Values are checked: NaN, labels out of range, pictures that were not scaled, negative weights. Of arrays in
        memory that is an error before training; of all else the step that meets it notes it, and training stops soon,
        at the end of the epoch at the latest, with the number of the batch. Pictures with nothing below 0 cause a
        warning.

        Data sets that order themselves (`data.Batches`) are read in their own order. Under a `keras.distribution` the
        devices must divide every batch, also the last one. After an exception or Ctrl-C the model keeps the weights of
        its last step: a first Ctrl-C waits for the step to end, a second one stops at once.

        Raises:
            ValueError: values as above, weights of another length than the samples, more classes than the network has.
        """
        return super().fit(self._data.before_fit(x, kwargs), y, **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        """Keras's `evaluate`, with the same noise every time, so that losses of different epochs and models can be
        compared.

        Data as in `fit`, and checked likewise: an error at the end names the first bad batch.
        """
        with self._data.evaluating(x, kwargs) as x, self.weight_guard.running("evaluate"):
            reset_seed(self.validation_noise, self._base_seed, _VALIDATION)
            return super().evaluate(x, y, **kwargs)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """Keras's `train_on_batch`, with data as in `fit`, whose values are checked at once."""
        with self._data.single_batch("train_on_batch", x, sample_weight, class_weight) as x:
            return super().train_on_batch(x, y, return_dict=return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Keras's `test_on_batch`, with data as in `fit`, whose values are checked at once."""
        with self._data.single_batch("test_on_batch", x, sample_weight) as x:
            return super().test_on_batch(x, y, return_dict=return_dict)

    def check_batches(self):
        """Raises a ValueError if a step of the running epoch of `fit` was given a batch that breaks a rule."""
        self._data.refuse()

    # The average of the weights ---------------------------------------------------------------------------------------

    def restart_average(self):
        """Sets the average of the weights to the network's present weights; its warm-up begins anew.

        Call it after putting weights into `model.network` (`load_weights`, `set_weights`, `assign`) of a model that has
        been trained: `generate` and `save_to_preset` would otherwise go on with the average of the old ones. A model
        that has not been trained yet needs no call: until the first training step, its average is whatever the network
        holds.

        Raises:
            ValueError: a model without an average.

        Example:

        >>> model.network.load_weights("pretrained.weights.h5")
        >>> model.restart_average()
        >>> images = model.generate(4)
        """
        if self.average is None:
            raise ValueError(
                "This model keeps no average of its weights. Received: ema=None. Make the model with ema=0.999, for "
                "example"
            )
        self.average.restart(self.network)

    def averaged_network(self):
        """The network whose weights "ema" stands for: the average's, or `network` where there is none or nothing has
        been averaged yet.
        """
        return self._averaged()

    # Adapters ---------------------------------------------------------------------------------------------------------

    @reads_weights
    def enable_lora(self, rank, alpha=None, target="attention"):
        """Adds low-rank adapters to the network and freezes all its other weights, so that `fit` trains the adapters
        alone.

        What the model makes does not change at first. A compiled model is compiled anew, with an optimizer of the same
        config. Where training was short and fast, network and average may lie far apart: adapters trained on the one
        then suit the other less. `model.network.set_weights(model.average.network.get_weights())` beforehand trains
        them on the average.

        Args:
            rank: r ≥ 1 of the adapters; from 4 to 64 is usual.
            alpha: α, a number > 0: what an adapter adds is scaled by α/r. None (default) takes the rank: a factor of 1.
            target: "attention" (default): queries, keys, values and outputs of every attention; "dense": every dense
                layer; or a list of names of dense layers, `["to_q", "to_v"]`.

        Raises:
            ValueError: a rank that is no integer ≥ 1, an alpha that is not > 0, a network that has adapters or that is
                not of this library, no layer of the target.

        Example:

        >>> model.enable_lora(8)
        >>> model.compile(keras.optimizers.Adam(1e-3))
        >>> model.fit(images, epochs=10)
        >>> keras_diffusion.checkpoints.save_lora(model, "style.safetensors")

        Reference: Hu et al., "LoRA: low-rank adaptation of large language models", arXiv:2106.09685.
        """
        adapters.add(self, "enable_lora", rank, alpha, target)

    def add_adapters(self, table):
        """`enable_lora` with a rank and an alpha for each layer.

        Args:
            table: dict from paths of dense layers in the network to (rank, alpha), as `model.network.adapters` gives
                it.

        Raises:
            ValueError: as `enable_lora`; a path that is none of a dense layer.
        """
        adapters.add(self, "add_adapters", table)

    @reads_weights
    def merge_lora(self):
        """Adds what the adapters learned to the kernels and removes them: what the model makes stays, up to rounding.

        Raises:
            ValueError: a model without adapters.
        """
        adapters.end(self, "merge_lora")

    def remove_lora(self):
        """Removes the adapters: the model is what it was before `enable_lora`.

        Raises:
            ValueError: a model without adapters.
        """
        adapters.end(self, "remove_lora")

    # Looking at the model ---------------------------------------------------------------------------------------------

    def summary(self, line_length=None, positions=None, print_fn=None, **kwargs):
        """Keras's `summary`, after lines on what is trained: noise schedule, predictor, loss, average, conditions.

        Args:
            line_length, positions, kwargs: as in Keras.
            print_fn: function of a text; None (default) writes to standard output.
        """
        summary.show(self, line_length, print_fn)
        super().summary(line_length, positions, print_fn, **kwargs)

    def __repr__(self):
        return summary.short(self)

    # Saving -----------------------------------------------------------------------------------------------------------

    def get_config(self):
        parts = ("network", "noise_schedule", "predictor", "loss_weighting", "time_distribution", "autoencoder")
        plain = ("condition_dropout", "concat_dropout", "ema", "noise_bands", "seed")
        return {
            "name": self.name,
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in parts},
            **{name: getattr(self, name) for name in plain},
            # Only where there are some: older versions read the configs of models without.
            **({} if self.class_names is None else {"class_names": list(self.class_names)}),
            "null_context": None if self.null_context is None else self.null_context.tolist(),
            **({} if self.null_context_mask is None else {"null_context_mask": self.null_context_mask.tolist()}),
            **({"sample_latents": True} if self.sample_latents else {}),
            "sampling_defaults": self.sampling_defaults or None,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        objects = {k: v for k, v in config.items() if isinstance(v, dict) and "class_name" in v}
        loaded = {
            k: keras.saving.deserialize_keras_object(v, custom_objects=custom_objects) for k, v in objects.items()
        }
        return cls(**{**config, **loaded})
