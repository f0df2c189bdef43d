"""The diffusion model: a network that learns to denoise, and what it needs to be trained with `fit` and sampled with `generate`.

One training step:

    t ~ time distribution,  ε ~ N(0, I)
    x_t  = α(t)·x0 + σ(t)·ε                        noise schedule
    ŷ    = network(c_in·x_t, noise condition, …)   conditions dropped now and then, for guidance
    loss = mean w(λ)·|ŷ − y|²,   y = a·x0 + b·ε    loss weighting, predictor

It happens in `call` and `compute_loss`, so Keras's own training step runs it on every backend: `fit`, callbacks, gradient accumulation,
learning-rate schedules, mixed precision and `steps_per_execution` are Keras's.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion import predictors, samplers, schedulers
from keras_diffusion.core.broadcast import expand_to_rank
from keras_diffusion.core.gaussian import mix
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import check_seed
from keras_diffusion.core.registry import serializable
from keras_diffusion.denoisers import NetworkDenoiser
from keras_diffusion.guidance import ClassifierFreeGuidance, ReplaceKnown
from keras_diffusion.models import inputs as checked
from keras_diffusion.models.generation import Generator, finish, initial_state, progress_bar, sampling_levels
from keras_diffusion.models.presets import load_preset, save_preset
from keras_diffusion.models.state import KeepsStateMixin, RandomStateMixin, reset_seed, seed_generator
from keras_diffusion.training import WeightAverage, get_loss_weighting, get_time_distribution

_TRAINING, _VALIDATION = 0, 1  # streams of random numbers


@serializable
class DiffusionModel(KeepsStateMixin, RandomStateMixin, keras.Model):
    """Trains a denoising network and samples from it.

    Args:
        network: built `keras.Model` on a dict `{"x", "noise_level", **conditions}`, such as `networks.UNet`.
        noise_schedule: `NoiseSchedule`, or its name. Default "cosine".
        predictor: `Predictor`, or its name: what the network is asked for. Default "v".
        loss_weighting: `LossWeighting`, or its name; None (default) is the plain squared error of the network's output.
        time_distribution: `TimeDistribution`, or its name: which noise levels training draws. Default "uniform".
        condition_dropout: share of training samples whose conditions are replaced by the null condition, in [0, 1]. Needed for
            classifier-free guidance. Default 0.1.
        ema: decay of the average of the weights, in [0, 1), or None for no average. Default 0.999.
        autoencoder: layer or model with `encode` and `decode`; the diffusion then runs on its latents. Default None.
        null_context: context that means "no context", `(D,)` or `(L, D)`; for networks with a context. Default zeros.
        noise_bands: number of equal bands of t whose mean loss is reported apart ("loss_t25" is the cleanest of 4, t ≤ 0.25). Default 4.
        seed: int, of all random numbers of training; None (default) takes a new one.

    Call arguments:
        data: samples `(B, *sample_shape)`, float in [−1, 1] or uint8, or a dict with them under "images" and the conditions under
            "labels" `(B,)` and "context" `(B, L, D)`.
        training: whether dropout drops and conditions are dropped.

    Returns:
        dict with "output" and "target" `(B, ...)`, "weight" `(B,)` and "t" `(B,)`, from which `compute_loss` makes the loss.

    Raises:
        ValueError: batches of another shape than the network takes, unknown or missing conditions, labels out of range, NaN.

    Example:

    >>> network = keras_diffusion.networks.UNet((8, 8, 1), widths=(32, 64), num_classes=10)
    >>> model = keras_diffusion.DiffusionModel(network)
    >>> model.compile(optimizer="adam")
    >>> model.fit({"images": images, "labels": labels}, epochs=20)
    >>> digits = model.generate(conditions={"labels": [3, 1, 4]}, num_steps=30, guidance_scale=2.0)
    """

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
        **kwargs,
    ):
        # Level maths must not run in half precision: only the network follows a mixed policy.
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not 0 <= condition_dropout <= 1:
            raise ValueError(
                f"`condition_dropout` is a share of samples and must lie in [0, 1]. Received: condition_dropout={condition_dropout}"
            )
        self.network = network
        self.noise_schedule = schedulers.get(noise_schedule)
        self.predictor = predictors.get(predictor)
        self.loss_weighting = get_loss_weighting(loss_weighting)
        self.time_distribution = get_time_distribution(time_distribution)
        self.condition_dropout = condition_dropout
        self.ema = ema
        self.average = WeightAverage(network, ema, name="average") if ema is not None else None
        self.autoencoder = autoencoder
        self.seed = seed
        self._base_seed = check_seed(seed)
        self.training_noise = seed_generator(self._base_seed, _TRAINING, "training_noise")
        self.validation_noise = seed_generator(self._base_seed, _VALIDATION, "validation_noise")
        self.null_context = None if null_context is None else np.asarray(null_context, "float32")
        self.noise_bands = noise_bands
        self._band_metrics = [keras.metrics.Mean(name=f"loss_t{round(100 * (i + 1) / noise_bands)}") for i in range(noise_bands)]
        self._generator, self._guided_generators = Generator(self._make_denoiser), {}
        self.built = True

    # Training -----------------------------------------------------------------------------------------------------------------------

    @property
    def sample_shape(self):
        """Shape of one sample of the network, without the batch axis."""
        shape = getattr(self.network, "sample_shape", None)
        return tuple(shape or self.network.input["x"].shape[1:])

    def call(self, data, training=False):
        if self.autoencoder is None:
            x0, conditions = checked.unpack_batch(data, self.sample_shape, self._condition_keys)
        else:
            x0, conditions = checked.unpack_batch(data, (None,) * len(self.sample_shape), self._condition_keys)
            x0 = ops.stop_gradient(ops.cast(self.autoencoder.encode(x0), "float32"))
        seed = self.training_noise if training else self.validation_noise
        batch = ops.shape(x0)[0]
        # One uniform number spread over the batch: every batch sees all noise levels evenly (Kingma et al. 2021, arXiv:2107.00630).
        u = keras.random.uniform((), seed=seed) + ops.arange(batch, dtype="float32") / ops.cast(batch, "float32")
        u = ops.clip(u - ops.floor(u), 1e-6, 1.0 - 1e-6)
        t = self.time_distribution.quantile(u, self.noise_schedule)
        alpha, sigma = self.noise_schedule(t)
        eps = keras.random.normal(ops.shape(x0), seed=seed)
        if training and conditions and self.condition_dropout:
            drop = keras.random.uniform((batch,), seed=seed) < self.condition_dropout
            null = self._null_conditions(like=conditions)
            conditions = {key: ops.where(expand_to_rank(drop, value), null[key], value) for key, value in conditions.items()}
        x_t = mix(x0, eps, alpha, sigma)
        scale = expand_to_rank(self.predictor.input_scale(alpha, sigma), x0)
        level = Levels(t, alpha, sigma)
        inputs = {"x": scale * x_t, "noise_level": self.predictor.noise_condition(level), **conditions}
        weight = self.loss_weighting.on_output(level.log_snr, self.predictor.x0_error_scale(alpha, sigma))
        return {
            "output": ops.cast(self.network(inputs, training=training), "float32"),
            "target": self.predictor.target(x0, eps, alpha, sigma),
            "weight": weight,
            "t": t,
        }

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean over the batch of w·mean|output − target|², plus the network's own losses.

        Args:
            y_pred: what `call` returned.
            sample_weight: `(B,)`, factor on each sample's loss, or None.
            training: whether to move the average of the weights.

        Raises:
            ValueError: a `y`, for which a diffusion model has no use, or a loss given to `compile`.
        """
        if y is not None:
            raise ValueError(
                "A diffusion model learns from samples alone; labels are a condition of the network. Pass one dict, "
                '{"images": images, "labels": labels}, instead of a pair (x, y).'
            )
        if self._compile_loss is not None:
            raise ValueError(
                "The loss follows from `predictor` and `loss_weighting`; call compile(optimizer=...) without `loss` and `metrics`."
            )
        error = ops.square(y_pred["output"] - y_pred["target"])
        error = y_pred["weight"] * ops.mean(error, axis=tuple(range(1, len(error.shape))))
        for i, metric in enumerate(self._band_metrics):
            inside = ops.logical_and(y_pred["t"] > i / self.noise_bands, y_pred["t"] <= (i + 1) / self.noise_bands)
            metric.update_state(error, sample_weight=ops.cast(inside, "float32"))
        if training and self.average is not None:
            self.average.update(self.network, every=self.optimizer.gradient_accumulation_steps or 1)
        loss = ops.mean(error if sample_weight is None else error * ops.cast(sample_weight, error.dtype))
        return sum(self.losses, loss)

    def fit(self, x=None, y=None, **kwargs):
        """Keras's `fit`, on arrays, dicts of arrays, `tf.data`, torch `DataLoader`, grain or `PyDataset`.

        In-memory arrays are checked for NaN, labels out of range and images that were not scaled. Data sets that order themselves
        (`data.Batches`) are read in their own order. After an exception or Ctrl-C the model keeps the weights of its last step.
        """
        checked.check_arrays(x, self.num_classes, len(self.sample_shape))
        if getattr(x, "shuffles_itself", False):
            kwargs["shuffle"] = False
        if "validation_data" in kwargs:
            kwargs["validation_data"] = checked.readable(kwargs["validation_data"])
        if getattr(self, "optimizer", None) is not None and not self.optimizer.built:
            # Before the first step: TensorFlow could not make them after a first step that failed, nor load them from a file.
            self.optimizer.build(self.trainable_variables)
        with self._state_kept():
            return super().fit(checked.readable(x), y, **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        """Keras's `evaluate`, with the same noise every time, so that losses of different epochs and models can be compared."""
        reset_seed(self.validation_noise, self._base_seed, _VALIDATION)
        with self._state_kept():
            return super().evaluate(checked.readable(x), y, **kwargs)

    # Sampling -----------------------------------------------------------------------------------------------------------------------

    def denoiser(self, conditions=None, guidance_scale=1.0, weights="ema"):
        """The trained network as a `Denoiser`.

        Args:
            conditions: dict of conditions with one row per sample of the batch that will be denoised ("labels" `(B,)`, "context"
                `(B, L, D)`); conditions left out are null.
            guidance_scale: w of classifier-free guidance; 1 (default) is off.
            weights: "ema" (default), the average, where there is one; or "raw".

        Returns:
            `Denoiser`: (x, level) → (x0, ε).
        """
        given, _ = checked.generation_conditions(conditions, None, self.network)
        tensors = {key: ops.convert_to_tensor(value) for key, value in given.items()}
        return self._make_denoiser(self._weight_values(weights), tensors, guidance_scale, {}, guided=guidance_scale != 1.0)

    def generate(
        self,
        num_samples=None,
        conditions=None,
        num_steps=50,
        sampler="dpmpp_2m",
        guidance_scale=1.0,
        seed=None,
        init=None,
        strength=1.0,
        mask=None,
        trajectory=False,
        weights="ema",
        verbose="auto",
        spacing=None,
        guidance=None,
        batch_size=None,
        clip="auto",
        dtype="float32",
    ):
        """Samples from the model.

        Args:
            num_samples: number of samples N; default: as many as the conditions have rows, else 1.
            conditions: dict: "labels", ints or `(N,)`; "context", `(L, D)` or `(N, L, D)`. Conditions left out are null.
            num_steps: number of steps ≥ 1. Default 50.
            sampler: `Sampler`, its name, or a dict with options. Default "dpmpp_2m".
            guidance_scale: w of classifier-free guidance: uncond + w·(cond − uncond). 1 (default) is off.
            seed: int; sample i depends on (seed, i) alone, not on the batch nor the backend. None (default) takes a new one.
            init: images to start from instead of pure noise, `(N, ...)` or one for all, float in [−1, 1] or uint8.
            strength: how far back `init` is noised, in [0, 1]: the walk starts at t = strength. 0 returns `init`. Default 1.
            mask: `(N, H, W, 1)` or broadcastable to it: 1 where `init` is to be kept, 0 where the model fills in.
            trajectory: also return x after every step.
            weights: "ema" (default), the average, where there is one; or "raw".
            verbose: 1 shows a progress bar, 0 does not, "auto" (default) does on a terminal.
            spacing: `Spacing`, its name, or a dict with options; None (default) takes the schedule's own.
            guidance: function (denoiser) → denoiser, applied last, such as `StaticThreshold` or one with options bound by `partial`.
                It becomes part of the compiled program.
            batch_size: samples per batch; None (default): all at once. Does not change the samples.
            clip: whether to clip to [−1, 1]; "auto" (default): images yes, vectors no.
            dtype: "float32" (default), or "uint8" for pixels from 0 to 255.

        Returns:
            array `(N, *sample_shape)` in [−1, 1] or uint8; with `trajectory`, a pair of it and of float32 `(num_steps, N, *sample_shape)`.

        Raises:
            ValueError: arguments out of range, conditions that the network does not take, unknown names.
        """
        conditions, num_samples = checked.generation_conditions(conditions, num_samples, self.network)
        if guidance_scale != 1.0 and not conditions:
            raise ValueError(
                "Guidance strengthens a condition, and none is given. "
                f"Received: guidance_scale={guidance_scale}; the network's conditions are: {', '.join(self._condition_keys) or 'none'}"
            )
        if not 0 <= strength <= 1:
            raise ValueError(f"`strength` is the time that generation starts from and must lie in [0, 1]. Received: strength={strength}")
        if init is None and (strength != 1.0 or mask is not None):
            raise ValueError(f"`strength` and `mask` act on `init`: pass the images too. Received: strength={strength}, init=None")
        sampler = samplers.get(sampler)
        spacing = schedulers.get_spacing(spacing or self.noise_schedule.spacing)
        seed = check_seed(seed)
        size = batch_size or num_samples
        shape = self._sizes_known(init)
        if init is not None:
            init = checked.start_images(init, num_samples, shape)
        levels = sampling_levels(self.noise_schedule, spacing, num_steps, strength or 1.0)
        values = self._weight_values(weights)
        parts = []
        bar = progress_bar(verbose, num_steps * -(-num_samples // size))
        for k, first in enumerate(range(0, num_samples, size)):
            rows = slice(first, min(first + size, num_samples))
            start = None if init is None else init[rows]
            if strength == 0:
                parts.append((start, np.repeat(start[None], num_steps, axis=0)))
                continue
            x = initial_state(levels, seed, range(num_samples)[rows], shape, start)
            extra = {} if mask is None else {"known": start, "mask": _rows_of_mask(mask, rows, num_samples)}
            given = {key: value[rows] for key, value in conditions.items()}
            scale = np.float32(guidance_scale)
            progress = bar and (lambda done, k=k: bar(k * num_steps + done))
            generator = self._generator if guidance is None else self._guided_generator(guidance)
            parts.append(
                generator.run(
                    sampler,
                    levels,
                    self.noise_schedule,
                    x,
                    values,
                    given,
                    scale,
                    extra,
                    guidance_scale != 1.0,
                    seed,
                    first,
                    trajectory,
                    progress,
                )
            )
        x = np.concatenate([part[0] for part in parts])
        if self.autoencoder is not None:
            x = np.concatenate([ops.convert_to_numpy(self.autoencoder.decode(x[i : i + size])) for i in range(0, num_samples, size)])
        x = finish(x, x.ndim > 2 if clip == "auto" else clip, dtype)
        return (x, np.concatenate([part[1] for part in parts], axis=1)) if trajectory else x

    def _make_denoiser(self, values, conditions, scale, extra, guided):
        """The denoiser that `generate` walks with, made of tensors; runs inside the compiled program."""
        null = self._null_conditions(like=conditions)
        denoiser = NetworkDenoiser(self.network, self.predictor, {**null, **conditions}, values)
        if guided:
            denoiser = ClassifierFreeGuidance(denoiser, NetworkDenoiser(self.network, self.predictor, null, values), scale)
        return ReplaceKnown(denoiser, extra["known"], extra["mask"]) if "mask" in extra else denoiser

    def _guided_generator(self, guidance):
        if guidance not in self._guided_generators:
            self._guided_generators[guidance] = Generator(lambda *given, guided: guidance(self._make_denoiser(*given, guided=guided)))
        return self._guided_generators[guidance]

    @property
    def _condition_keys(self):
        return checked.condition_keys_of(self.network)

    @property
    def num_classes(self):
        """Number of classes of the network's labels, or None."""
        return getattr(self.network, "num_classes", None)

    def _null_conditions(self, like=()):
        """One row of each of the network's conditions that means "no condition"; a context as long as the one in `like`."""
        null = {}
        if "labels" in self._condition_keys:
            null["labels"] = ops.full((1,), self.network.null_labels, "int32")
        if "context" in self._condition_keys:
            context = np.zeros(self.network.context_dim, "float32") if self.null_context is None else self.null_context
            context = ops.convert_to_tensor(context if context.ndim == 2 else context[None])[None]
            length = like["context"].shape[1] if "context" in like else context.shape[1]
            null["context"] = ops.broadcast_to(context, (1, length, context.shape[2]))
        return null

    def _weight_values(self, weights):
        if weights not in ("ema", "raw"):
            raise ValueError(f"`weights` must be 'ema' or 'raw'. Received: weights={weights!r}")
        network = self.network if weights == "raw" or self.average is None else self.average.network
        return [variable.value for variable in network.variables]

    def _sizes_known(self, init):
        """The network's sample shape, free axes taken from `init`."""
        shape = self.sample_shape
        if None in shape and init is not None:
            shape = tuple(np.shape(init)[-len(shape) :])
        if None in shape:
            raise ValueError(
                f"The network takes samples of any size, so generation needs an `init` to know which. Its sample shape: {shape}"
            )
        return shape

    # Saving -------------------------------------------------------------------------------------------------------------------------

    def get_config(self):
        parts = ("network", "noise_schedule", "predictor", "loss_weighting", "time_distribution", "autoencoder")
        plain = ("condition_dropout", "ema", "noise_bands", "seed")
        return {
            "name": self.name,
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in parts},
            **{name: getattr(self, name) for name in plain},
            "null_context": None if self.null_context is None else self.null_context.tolist(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        objects = {k: v for k, v in config.items() if isinstance(v, dict) and "class_name" in v}
        loaded = {k: keras.saving.deserialize_keras_object(v, custom_objects=custom_objects) for k, v in objects.items()}
        return cls(**{**config, **loaded})

    def get_compile_config(self):
        # As saved by Keras, the config names the optimizer's class of one backend and that backend's way to compile: neither would work
        # after loading on another.
        config = super().get_compile_config()
        if config:
            config["jit_compile"] = "auto"
            optimizer = config.get("optimizer")
            if isinstance(optimizer, dict) and str(optimizer.get("module", "")).startswith("keras."):
                config["optimizer"] = {**optimizer, "module": "keras.optimizers", "registered_name": None}
        return config

    def save_to_preset(self, directory, overwrite=False):
        """Writes a folder with `config.json`, `model.weights.h5` and `metadata.json`; see `from_preset`.

        Args:
            directory: path of the folder to make.
            overwrite: whether an existing preset may be replaced. Default False.

        Raises:
            FileExistsError: the folder exists and `overwrite` is False.
        """
        save_preset(self, directory, overwrite)

    @classmethod
    def from_preset(cls, directory, load_weights=True):
        """Loads what `save_to_preset` wrote, on any backend.

        Args:
            directory: path of the folder.
            load_weights: False for the architecture with new weights. Default True.

        Raises:
            FileNotFoundError: no preset there.
        """
        return load_preset(cls, directory, load_weights)


def _rows_of_mask(mask, rows, num_samples):
    mask = np.asarray(mask, "float32")
    if not np.all(np.isfinite(mask)) or mask.min() < 0 or mask.max() > 1:
        raise ValueError("A mask is 1 where `init` is kept and 0 where the model fills in. Received: values outside [0, 1]")
    return mask[rows] if mask.ndim and len(mask) == num_samples else mask
