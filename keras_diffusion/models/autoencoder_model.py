"""The autoencoder model: what maps pictures to latents and back, trained with `fit`.

One training step:

    mean, log σ² = encoder(x)
    z     = mean + σ·ε,  ε ~ N(0, I)             bottleneck: or rounded (fsq), or the nearest code (vq)
    x̂     = decoder(z)
    loss  = Σ weight·|x̂ − x|  +  kl_weight·KL(N(mean, σ²) ‖ N(0, I))  +  perceptual_weight·LPIPS(x̂, x)
            −  discriminator_weight·λ·mean D(x̂)          with a discriminator, training/adversarial.py

As in `DiffusionModel`, all of it is `call` and `compute_loss`, so Keras's own training step runs it on every backend.
Errors are means over the numbers of a picture; the divergence is the sum over the latent numbers, in nats.
"""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_number, shown
from keras_diffusion.configs.registry import serializable
from keras_diffusion.core.noise import check_seed
from keras_diffusion.layers.bottleneck import BOTTLENECKS, KLBottleneck, divergence
from keras_diffusion.models import arguments, latent_statistics, validation
from keras_diffusion.models.autoencoder_watcher import AutoencoderWatcher, BottleneckUse
from keras_diffusion.models.batch_checks import without_invalid
from keras_diffusion.models.evaluation_method import evaluate_reconstructions
from keras_diffusion.models.optimizers import get_optimizer
from keras_diffusion.models.random_state import seed_generator
from keras_diffusion.models.resumable_model import ResumableModel
from keras_diffusion.models.validation import SAMPLE_KEY, WEIGHT_KEY
from keras_diffusion.models.weight_guard import reads_weights
from keras_diffusion.networks import get_discriminator
from keras_diffusion.networks.autoencoder import scaled
from keras_diffusion.networks.quantized_autoencoder import QuantizedAutoencoder
from keras_diffusion.runtime.devices import run_batch
from keras_diffusion.training import RECONSTRUCTION_LOSSES, WeightAverage, reconstruction_weights
from keras_diffusion.training.adversarial import Adversary, inputs_of, last_layer
from keras_diffusion.training.adversarial_optimizer import AdversarialOptimizer
from keras_diffusion.training.perceptual import PerceptualLoss
from keras_diffusion.training.reconstruction import SMALLEST_SIDE, signal_to_noise, structural_similarity

_TRAINING = 0  # stream of random numbers, as in DiffusionModel


@serializable
class AutoencoderModel(ResumableModel):
    """Trains an autoencoder, whose latents a `DiffusionModel` can then learn.

    Args:
        autoencoder: model with `moments`, which gives (mean, log variance) of pictures before scaling, with `decode`,
            and the numbers `channels` and `latent_channels`, such as `networks.AutoencoderKL`.
        bottleneck: `Bottleneck`, or its name: "kl" (default), "fsq" or "vq". With the last two, what is trained is a
            `networks.QuantizedAutoencoder` around `autoencoder`; one that is such already keeps its own.
        reconstruction: "l1" (default), "l2", "ssim" (1 − SSIM), or a dict from these names to weights: their sum.
        kl_weight: factor on the divergence of "kl", ≥ 0. Default 1e-6, with which latents hardly lose anything.
        perceptual: what says how different two pictures look: `metrics.LPIPS`, a Keras model of features or of
            distances, or a function of two batches `(B, H, W, C)` that returns `(B,)`; see `training.PerceptualLoss`.
            It is frozen, and no part of saved files: pass it again to go on training. Default None.
        perceptual_weight: factor on it, > 0. Default 1.
        ema: decay of the average of the weights, in [0, 1), or None for no average. It is what validation,
            `reconstruct` and `measure_latents` use. Default 0.999.
        seed: int, of all random numbers of training; None (default) takes a new one.
        discriminator: what learns to tell reconstructions from originals, and whose doubts the autoencoder learns to
            raise: "patch" for a `networks.PatchDiscriminator`, a dict with this name and its arguments, or a Keras
            model from pictures to logits. States of training hold it; presets and `.keras` files do not: pass it again
            to go on training. Default None.
        discriminator_weight: factor on the autoencoder's part of it, > 0. Default 0.5.
        discriminator_start: number of training steps, in batches, before it counts and learns. Default 0; better once
            reconstructions are as good as they get without it.
        discriminator_optimizer: its own optimizer: a Keras optimizer, a name, or a dict such as `{"name": "adam",
            "learning_rate": 1e-4}`. None (default): Adam with a learning rate of 2e-4 and betas of 0.5 and 0.9.
        adaptive_weight: whether `discriminator_weight` is multiplied by the ratio of the gradients of reconstruction
            and discriminator at the kernel of the decoder's last layer. Default True.

    Call arguments:
        data: pictures `(B, H, W, channels)`, float in [−1, 1] or uint8, or a dict with them under "images"; what else
            is in it is left alone, but for "sample_weight" `(B,)`.
        training: whether latents are drawn. Otherwise they are the mean, of the averaged weights.

    Returns:
        dict with "pictures" and "originals" `(B, H, W, channels)`, "mean" and "log_variance" `(B, h, w,
        latent_channels)`, the bottleneck's "losses", a dict of `(B,)`, and perhaps "codes" `(B, h, w)` and "features"
        `(B, H, W, C)`, what the decoder's last layer was given; from which `compute_loss` makes the loss.

    Raises:
        ValueError: no such autoencoder; unknown losses or bottlenecks; weights out of range; pictures of another size
            than the autoencoder takes.

    Example:

    >>> autoencoder = kd.networks.AutoencoderKL(widths=(32, 64), latent_channels=3, attention=False)
    >>> model = kd.models.AutoencoderModel(autoencoder)
    >>> model.compile(kd.keras.optimizers.AdamW(1e-3))
    >>> model.fit(train, validation_data=test, epochs=20)
    >>> model.measure_latents(train)
    >>> latent_diffusion = kd.DiffusionModel(network, autoencoder=model.averaged_autoencoder())

    Reference:
        Rombach et al. 2022, arXiv:2112.10752, section 3.1 and appendix G; Kingma & Welling 2013, arXiv:1312.6114;
        Esser et al. 2021, arXiv:2012.09841, on the discriminator.
    """

    #: As in `DiffusionModel`: None turns off what is expected of pictures.
    value_range = (-1.0, 1.0)
    num_classes = None  # labels are left alone
    trained = "autoencoder"

    def __init__(
        self,
        autoencoder,
        bottleneck="kl",
        reconstruction="l1",
        kl_weight=1e-6,
        perceptual=None,
        perceptual_weight=1.0,
        ema=0.999,
        seed=None,
        discriminator=None,
        discriminator_weight=0.5,
        discriminator_start=0,
        discriminator_optimizer=None,
        adaptive_weight=True,
        **kwargs,
    ):
        # Losses are float32 whatever the policy: only the autoencoder's layers follow a mixed one.
        super().__init__(**{**kwargs, "dtype": "float32"})
        arguments.check_trainable_autoencoder(autoencoder)
        self.reconstruction = reconstruction_weights(reconstruction)
        self.kl_weight = check_number("kl_weight", kl_weight, 0)
        self.perceptual_weight = check_number("perceptual_weight", perceptual_weight, above=0)
        self.perceptual = None if perceptual is None else PerceptualLoss(perceptual)
        self.autoencoder = _with_codes(autoencoder, BOTTLENECKS.get(bottleneck))
        self._normal = KLBottleneck(name="kl_bottleneck")
        self.ema, self.seed = ema, seed
        self.average = WeightAverage(self.autoencoder, ema, name="average") if ema is not None else None
        self.training_noise = seed_generator(check_seed(seed), _TRAINING, "training_noise")
        self._means = {
            name: keras.metrics.Mean(name=name)
            for name in (*self.loss_weights, *(["kl_per_dim"] if self._is_normal else []), "psnr", "ssim")
        }
        self._bottleneck_use = BottleneckUse(autoencoder.latent_channels, self.bottleneck.num_codes)
        self.adversary = None  # without a discriminator
        if discriminator is not None:
            network = _discriminator(discriminator, autoencoder)
            self.adversary = Adversary(network, discriminator_weight, discriminator_start, adaptive_weight)
            if adaptive_weight:
                last_layer(self.autoencoder)  # there must be one
        self._discriminator_optimizer = discriminator_optimizer and get_optimizer(discriminator_optimizer)
        self._data = AutoencoderWatcher(self)
        self._metrics.append(self._data.checks)  # no attribute: those get a place in files
        self.built = True

    @property
    def sample_shape(self):
        """Shape of one picture, (None, None, channels)."""
        return (None, None, self.autoencoder.channels)

    @property
    def bottleneck(self):
        """The `Bottleneck` of the autoencoder that is trained."""
        return self._bottleneck_of(self.autoencoder)

    def _bottleneck_of(self, autoencoder):
        return getattr(autoencoder, "bottleneck", self._normal)

    @property
    def loss_weights(self):
        """What the loss is made of: a dict from the names of its parts, as logged, to their factors."""
        perceptual = {} if self.perceptual is None else {"perceptual_loss": self.perceptual_weight}
        own = {"kl": self.kl_weight}
        return {
            **{f"{name}_loss": weight for name, weight in self.reconstruction.items()},
            **perceptual,
            **{name: own.get(name, 1.0) for name in self.bottleneck.loss_names},
        }

    @property
    def _is_normal(self):
        """Whether latents are drawn from distributions."""
        return self.bottleneck.needs_variance

    # Training ---------------------------------------------------------------------------------------------------------

    def call(self, data, training=False):
        originals, _ = validation.unpack_batch(_pictures(data), self.sample_shape, ())
        originals, _ = without_invalid(originals, {}, None, None)
        network = self.autoencoder if training or self.average is None else self.average.network
        mean, log_variance = (ops.cast(moment, "float32") for moment in network.moments(originals))
        noise = None
        if training and self._is_normal:
            noise = keras.random.normal(ops.shape(mean), seed=self.training_noise)
        found = self._bottleneck_of(network)(mean, log_variance, noise)
        latents = scaled(network, found.pop("latents"))
        if self.adversary is not None and self.adversary.adaptive:
            with inputs_of(last_layer(network)) as given:
                pictures = network.decode(latents)
            found["features"] = given[-1]
        else:
            pictures = network.decode(latents)
        pictures = ops.cast(pictures, "float32")
        return {"pictures": pictures, "originals": originals, "mean": mean, "log_variance": log_variance, **found}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean over the batch of the weighted sum of `loss_weights`, plus the network's own losses.

        With a discriminator there are gradients besides, its own and those that it sends to the autoencoder: of a term
        whose value is 0.

        Args:
            x: the batch, whose values are looked at; its key "sample_weight" counts before the argument of this name.
            y_pred: what `call` returned.
            sample_weight: `(B,)`, factor on each picture's loss, or None.
            training: whether to move the average of the weights.

        Raises:
            ValueError: a `y`, for which an autoencoder has no use, or a loss given to `compile`.
        """
        self._check_compiled(y)
        pictures, originals = y_pred["pictures"], y_pred["originals"]
        parts = {**self._reconstruction_errors(pictures, originals), **y_pred["losses"]}
        error = sum(weight * parts[name] for name, weight in self.loss_weights.items())
        x = x if isinstance(x, dict) else {SAMPLE_KEY: x}
        if x.get(WEIGHT_KEY) is not None:
            sample_weight = x[WEIGHT_KEY]
        weights = ops.ones_like(error)
        if sample_weight is not None:
            weights = validation.batch_weights(sample_weight, error)
            error = error * weights
        self._data.checks.update_state({SAMPLE_KEY: x[SAMPLE_KEY]}, sample_weight)
        self._note(parts, y_pred)
        if training and self.average is not None:
            self.average.update(self.autoencoder, every=self.optimizer.gradient_accumulation_steps or 1)
        loss = sum(self.losses, ops.mean(error))
        return loss if self.adversary is None else loss + self._opposition(y_pred, weights, training)

    def _reconstruction_errors(self, pictures, originals):
        """Errors of pictures by name, each `(B,)`."""
        parts = {f"{name}_loss": RECONSTRUCTION_LOSSES[name](pictures, originals) for name in self.reconstruction}
        if self.perceptual is not None:
            parts["perceptual_loss"] = self.perceptual(pictures, originals)
        return parts

    def _opposition(self, y_pred, weights, training):
        """What the discriminator adds to the loss; see `Adversary`."""
        originals, factors = y_pred["originals"], self.loss_weights

        def reconstruction(pictures):
            errors = self._reconstruction_errors(pictures, originals)
            return ops.mean(weights * sum(factors[name] * error for name, error in errors.items()))

        last = None
        if "features" in y_pred:
            network = self.autoencoder if training or self.average is None else self.average.network
            last = last_layer(network), y_pred["features"]
        return self.adversary.opposition(y_pred["pictures"], originals, weights, reconstruction, last, training)

    def _check_compiled(self, y):
        if y is not None:
            raise ValueError(
                "An autoencoder learns from pictures alone. Received: y. Pass the pictures, or a dict with them under "
                "'images', as x"
            )
        if self._compile_loss is not None:
            raise ValueError(
                "The loss follows from `reconstruction`, `perceptual` and the bottleneck; call compile(optimizer=...) "
                f"without `loss` and `metrics`. Received: loss={shown(self._compile_loss._user_loss)}"
            )

    def _note(self, parts, y_pred):
        """Updates the metrics with a batch."""
        pictures, originals = (ops.clip(y_pred[key], -1.0, 1.0) for key in ("pictures", "originals"))
        values = {**parts, "psnr": signal_to_noise(pictures, originals)}
        if min(size or SMALLEST_SIDE for size in originals.shape[1:3]) >= SMALLEST_SIDE:
            values["ssim"] = structural_similarity(pictures, originals)
        if self._is_normal:
            per_number = divergence(y_pred["mean"], y_pred["log_variance"])
            values["kl_per_dim"] = ops.mean(per_number, axis=(1, 2, 3))
            self._bottleneck_use.update_state(per_number=per_number)
        if "codes" in y_pred:
            self._bottleneck_use.update_state(codes=y_pred["codes"])
        for name, value in values.items():
            self._means[name].update_state(ops.stop_gradient(value))

    def fit(self, x=None, y=None, **kwargs):
        """Keras's `fit`, on arrays, dicts of arrays, `tf.data`, torch `DataLoader`, grain, generators or `PyDataset`.

        Values are checked as in `DiffusionModel.fit`. At the end of an epoch there is a warning, once, of latent
        channels that carry nothing.

        Args:
            x: pictures, or a dict with them under "images", or what yields such batches.
            y: None.
            kwargs: as in Keras; `validation_data` like `x`.

        Raises:
            ValueError: values that are no pictures.
        """
        return super().fit(self._data.before_fit(x, kwargs, _pictures), y, **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        """Keras's `evaluate`, of the averaged weights and without noise in the latents.

        Data as in `fit`, and checked likewise: an error at the end names the first bad batch.
        """
        with self._data.evaluating(x, kwargs, _pictures) as x:
            if not kwargs.get("_use_cached_eval_dataset"):  # not within `fit`
                self.weight_guard.require_weights("evaluate")
                self.prepare_weights()
            return super().evaluate(x, y, **kwargs)

    def train_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Keras's `train_on_batch`, with data as in `fit`, whose values are checked at once."""
        with self._data.single_batch("train_on_batch", _pictures(x), sample_weight) as x:
            return super().train_on_batch(x, y, return_dict=return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Keras's `test_on_batch`, with data as in `fit`, whose values are checked at once."""
        with self._data.single_batch("test_on_batch", _pictures(x), sample_weight) as x:
            return super().test_on_batch(x, y, return_dict=return_dict)

    def check_batches(self):
        """Raises a ValueError if a step of the running epoch of `fit` was given a batch that breaks a rule."""
        self._data.refuse()

    # The average of the weights ---------------------------------------------------------------------------------------

    def averaged_autoencoder(self):
        """The autoencoder whose weights "ema" stands for: the average's, or `autoencoder` where there is none or
        nothing has been averaged yet.
        """
        return self._averaged()

    # Use --------------------------------------------------------------------------------------------------------------

    @reads_weights
    def reconstruct(self, images, weights="ema", batch_size=64):
        """Pictures after encoding and decoding.

        Args:
            images: `(N, H, W, channels)`, float in [−1, 1] or uint8.
            weights: "ema" (default) for the average, or "raw".
            batch_size: pictures at a time. Default 64.

        Returns:
            float32 array `(N, H, W, channels)`, within [−1, 1].

        Raises:
            ValueError: pictures of another shape or scale; other weights.
        """
        network = self._network_of(weights)
        parts = [
            run_batch(lambda x: network.decode(network.encode(x)), batch)
            for batch in latent_statistics.batches_of(images, self.sample_shape, batch_size)
        ]
        return np.clip(np.concatenate(parts), -1.0, 1.0)

    evaluate_reconstructions = evaluate_reconstructions

    @reads_weights
    def measure_latents(self, data, per_channel=False, weights="ema", batch_size=64):
        """Measures the latents of data, and sets the autoencoder's `scale` and `shift` so that they have unit variance.

        One pass over the data, with sums in float64. With one number for all channels, latents are divided by their
        standard deviation, as Stable Diffusion's; with one per channel, each has mean 0 and variance 1 afterwards.
        What a model has learned of latents of another scale is lost on the new ones: measure before training it.

        Args:
            data: pictures, or what yields batches of them, as in `fit`.
            per_channel: whether each latent channel gets a mean and a scale of its own. Default False.
            weights: "ema" (default) for the average, or "raw".
            batch_size: pictures at a time, where data are arrays. Default 64.

        Returns:
            `LatentStatistics`, of the latents before scaling.

        Raises:
            ValueError: no data, other weights, latents that do not vary or are not finite.

        Example:

        >>> model.measure_latents(train).std
        3.1...
        """
        network = self._network_of(weights)
        batches = latent_statistics.batches_of(data, self.sample_shape, batch_size)
        statistics = latent_statistics.measure(network, batches)
        scale, shift = statistics.scaling(per_channel)
        for target in (self.autoencoder, *([] if self.average is None else [self.average.network])):
            latent_statistics.set_scaling(target, scale, shift)
        return statistics

    def _network_of(self, weights):
        return self.averaged_autoencoder() if arguments.check_weights(weights) == "ema" else self.autoencoder

    # Compiling --------------------------------------------------------------------------------------------------------

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        """Keras's `compile`, of the autoencoder's optimizer; the discriminator has one of its own."""
        super().compile(optimizer, *args, **kwargs)
        if self.adversary is not None and self.optimizer is not None:
            steps = self.optimizer.gradient_accumulation_steps
            own = self._discriminator_optimizer or keras.optimizers.Adam(
                2e-4, beta_1=0.5, beta_2=0.9, gradient_accumulation_steps=steps
            )
            self.optimizer = AdversarialOptimizer(self.optimizer, own, self.adversary.discriminator)

    # Saving -----------------------------------------------------------------------------------------------------------

    def save(self, filepath, *args, **kwargs):
        """Keras's `save`, without the discriminator; raises as `save_weights` does."""
        with self._alone():
            return super().save(filepath, *args, **kwargs)

    def save_to_preset(self, directory, overwrite=False):
        """As in `DiffusionModel`; without the discriminator, which has done its work."""
        with self._alone():
            super().save_to_preset(directory, overwrite)

    @contextlib.contextmanager
    def _alone(self):
        """A context in which files get nothing of the discriminator."""
        if self.adversary is None:
            yield
            return
        adversary, optimizer = self.adversary, getattr(self, "optimizer", None)  # None before `compile`
        self.adversary = None
        self._tracker.untrack(adversary)  # from the layers, which Keras saves by themselves too
        if optimizer is not None:
            self.optimizer = optimizer.parts.model
        try:
            yield
        finally:
            self.adversary = adversary
            if optimizer is not None:
                self.optimizer = optimizer

    def get_config(self):
        plain = ("reconstruction", "kl_weight", "perceptual_weight", "ema", "seed")
        return {
            "name": self.name,
            "autoencoder": keras.saving.serialize_keras_object(self.autoencoder),
            **{name: getattr(self, name) for name in plain},
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        autoencoder = keras.saving.deserialize_keras_object(config["autoencoder"], custom_objects=custom_objects)
        return cls(**{**config, "autoencoder": autoencoder})


def _with_codes(autoencoder, bottleneck):
    """The autoencoder that is trained: the given one, unless a bottleneck makes codes of its latents."""
    if bottleneck.num_codes is None or hasattr(autoencoder, "bottleneck"):
        return autoencoder
    return QuantizedAutoencoder(autoencoder, bottleneck)


def _discriminator(identifier, autoencoder):
    """The discriminator that is meant; one that is made has the autoencoder's channels and dtype policy."""
    if isinstance(identifier, (str, dict)) and "class_name" not in identifier:
        given = {"name": identifier} if isinstance(identifier, str) else identifier
        identifier = {"channels": autoencoder.channels, "dtype": autoencoder.dtype_policy, **given}
    return get_discriminator(identifier)


def _pictures(data):
    """Of a batch or of data, what an autoencoder looks at: a dict where `data` is one or holds arrays."""
    if isinstance(data, dict):
        return {key: data[key] for key in (SAMPLE_KEY, WEIGHT_KEY) if key in data}
    return data
