"""Text to image: a diffusion model in the latents of an autoencoder, steered by a text encoder.

    prompts ──▶ tokenizer ──▶ text encoder ──▶ context ──┐
    negative prompts ─────────── the same ─────▶ null ───┼─▶ diffusion ──▶ latents ──▶ decoder ──▶ images
    seed ──▶ noise of the latents' size ─────────────────┘

Training: captions ──▶ tokens, on the host ──▶ text encoder, in the compiled step ──▶ context. Those dropped for
guidance become the tokens of the empty text.

Guidance leads from the negative prompts to the prompts: y_negative + w·(y_prompt − y_negative), both in one batch. The
negative prompt is the empty text unless another is given.
"""

import keras
from keras import ops

from keras_diffusion.configs.checks import check_flag, check_number
from keras_diffusion.configs.registry import serializable
from keras_diffusion.models.caption_training import CaptionTraining
from keras_diffusion.models.captions import ENCODED, ENCODED_MASK
from keras_diffusion.models.embedding_cache import EmbeddingCache
from keras_diffusion.models.guided_denoiser import check_weights
from keras_diffusion.models.update_scale import scale_updates
from keras_diffusion.models.weight_guard import reads_weights
from keras_diffusion.networks.network import MASK_KEY
from keras_diffusion.training import WeightAverage

_SCHEDULE = {"name": "scaled_linear", "spacing": {"name": "leading", "offset": 1}}
_PREDICTOR = {"name": "epsilon", "condition": "timestep"}
_SIZE = 512


@serializable
class TextToImage(CaptionTraining):
    """A `DiffusionModel` that takes words. The defaults are the conventions of Stable Diffusion 1 and 2.1-base.

    Args:
        network: network with a context, and perhaps "concat", such as `networks.UNet2DCondition`.
        text_encoder: model from tokens `(B, L)` to contexts `(B, L, D)`, such as `text.CLIPTextEncoder`. Where it has a
            method `token_mask` (see `text.TextEncoder`), the network does not see the padding.
        tokenizer: function from a list of texts to tokens `(N, L)`, such as `text.CLIPTokenizer`.
        autoencoder: as in `DiffusionModel`, such as `networks.AutoencoderKL`; it is not trained. None (default): the
            network makes images.
        noise_schedule: None (default): "scaled_linear", sampled at every (1000 // n)-th timestep plus one.
        predictor: None (default): "epsilon", with timesteps as the noise condition.
        ema: default None: a second copy of a billion weights is for training only. A trained text encoder has an
            average too.
        train_text_encoder: whether `fit` trains the text encoder with the network. Default False.
        text_learning_rate: factor on the learning rate for a trained text encoder, a number > 0; 0.1 changes it a tenth
            as fast as the network. None (default): 1.
        text_cache: folder, or `text.EmbeddingCache`, in which a frozen encoder's contexts of captions are kept: `fit`
            then encodes each text once, before the first step. Neither configs nor presets hold it. Default None.
        options: as in `DiffusionModel`. `null_context=model.encode_text("")[0]` lets training drop conditions the way
            sampling does where batches hold contexts; those of captions become the empty text's anyway.

    `fit` takes captions beside the images, in `data.Batches` made with `captions=True` or in a dict, or tokens `(B, L)`
    under "tokens", or contexts `(B, L, D)` under "context".

    Raises:
        ValueError: as `DiffusionModel`; an encoder whose contexts are not as wide as the network takes them; a learning
            rate for an encoder that is not trained, a cache for one that is.

    Example:

    >>> vocabulary = "bpe_simple_vocab_16e6.txt.gz"
    >>> model = keras_diffusion.checkpoints.load_text_to_image("stable-diffusion", bpe_path=vocabulary)
    >>> images = model.text_to_image("a watercolour of a lighthouse", num_samples=4, num_steps=25, dtype="uint8")

    Trained on words of one's own:

    >>> data = kd.data.load("shapes", batch_size=64, captions=True)
    >>> encoder, tokenizer = kd.text.small_encoder(data.source.captions)
    >>> network = kd.networks.UNet(data.image_shape, widths=(32, 64), context_dim=64)
    >>> model = TextToImage(
    ...     network, encoder, tokenizer, noise_schedule="cosine", predictor="v", ema=0.999, train_text_encoder=True
    ... )
    >>> model.compile("adam")
    >>> model.fit(data, epochs=20)
    """

    def __init__(
        self,
        network,
        text_encoder,
        tokenizer,
        autoencoder=None,
        noise_schedule=None,
        predictor=None,
        ema=None,
        train_text_encoder=False,
        text_learning_rate=None,
        text_cache=None,
        **options,
    ):
        check_flag("train_text_encoder", train_text_encoder)
        factor = _checked_factor(text_learning_rate, train_text_encoder)
        _check_widths(network, text_encoder)
        super().__init__(
            network,
            _SCHEDULE if noise_schedule is None else noise_schedule,
            _PREDICTOR if predictor is None else predictor,
            autoencoder=autoencoder,
            ema=ema,
            **options,
        )
        self.text_encoder, self.tokenizer, self.train_text_encoder = text_encoder, tokenizer, train_text_encoder
        self.text_learning_rate, self.text_cache = factor, _checked_cache(text_cache, train_text_encoder)
        text_encoder.trainable = train_text_encoder
        if autoencoder is not None:
            autoencoder.trainable = False
        averaged = train_text_encoder and ema is not None
        self.text_average = WeightAverage(text_encoder, ema, name="text_average") if averaged else None

    # Training ---------------------------------------------------------------------------------------------------------

    def encode_conditions(self, conditions):
        """Tokens become the context, and its mask where the encoder hides padding."""
        conditions = dict(conditions)
        if ENCODED in conditions:
            names = {ENCODED: "context", ENCODED_MASK: MASK_KEY}
            return {names.get(key, key): value for key, value in conditions.items()}
        if "tokens" not in conditions:
            return conditions
        tokens = ops.cast(conditions.pop("tokens"), "int32")
        context = {"context": ops.cast(self.text_encoder(tokens), "float32")}
        return {**conditions, **context, **self._masks(tokens)}

    def _masks(self, tokens):
        """{"context_mask": booleans `(B, L)`} of tokens, or {} where the network is to see them all."""
        token_mask = getattr(self.text_encoder, "token_mask", None)
        taken = token_mask is not None and getattr(self.network, "takes_context_mask", False)
        mask = token_mask(tokens) if taken else None
        return {} if mask is None else {MASK_KEY: mask}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """As `DiffusionModel`'s; it moves the average of the text encoder as well."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training and self.text_average is not None:
            self.text_average.update(self.text_encoder, every=self.optimizer.gradient_accumulation_steps or 1)
        return loss

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        """As `DiffusionModel`'s; the text encoder learns at its own rate."""
        super().compile(optimizer, *args, **kwargs)
        if self.optimizer is not None:
            scale_updates(self.optimizer, lambda: self.text_encoder.trainable_variables, self.text_learning_rate)

    def prepare_weights(self):
        """As `DiffusionModel`'s, of both averages."""
        super().prepare_weights()
        if self.text_average is not None:
            self.text_average.follow(self.text_encoder)

    def weights_loaded(self):
        """As `DiffusionModel`'s, of both averages."""
        super().weights_loaded()
        if self.text_average is not None:
            self.text_average.loaded(self.text_encoder)

    def restart_average(self):
        """As `DiffusionModel`'s, of both averages."""
        super().restart_average()
        if self.text_average is not None:
            self.text_average.restart(self.text_encoder)

    def state_prefixes(self):
        """As `DiffusionModel`'s, of both averages."""
        own = {} if self.text_average is None else {"text_average/": self.text_average}
        return {**super().state_prefixes(), **own}

    # Words ------------------------------------------------------------------------------------------------------------

    @reads_weights
    def encode_text(self, texts, weights="ema"):
        """Contexts of texts.

        Args:
            texts: a string or a list of N strings.
            weights: "ema" (default), the average of the text encoder's weights where there is one, or "raw".

        Returns:
            float32 array `(N, L, D)`.

        Raises:
            ValueError: a text of too many tokens; other weights.
        """
        return self.text_conditions(texts, weights)["context"]

    @reads_weights
    def text_conditions(self, texts, weights="ema"):
        """Texts as conditions of `generate`.

        Args:
            texts: a string or a list of N strings.
            weights: as in `encode_text`.

        Returns:
            dict with "context", float32 array `(N, L, D)`, and "context_mask", booleans `(N, L)`, where the encoder
            hides padding.

        Raises:
            ValueError: as `encode_text`.
        """
        average = self.text_average if check_weights(weights) == "ema" else None
        encoder = self.text_encoder if average is None or average.is_unused() else average.network
        return self._encoded(self.tokenizer(texts), encoder)

    def _encoded(self, tokens, encoder=None):
        """Tokens as `text_conditions` has them, by the text encoder or another one."""
        encoder = self.text_encoder if encoder is None else encoder
        context = ops.convert_to_numpy(encoder.predict_on_batch(tokens))
        return {"context": context, **{key: ops.convert_to_numpy(mask) for key, mask in self._masks(tokens).items()}}

    def text_to_image(
        self,
        prompts,
        negative_prompts="",
        num_samples=None,
        size=None,
        guidance_scale=7.5,
        num_steps=50,
        seed=None,
        concat=None,
        **options,
    ):
        """Images of texts.

        Args:
            prompts: a string, or a list with one string per image.
            negative_prompts: what the images should not show, likewise. Default "": nothing in particular.
            num_samples: number of images N; default: as many as there are prompts. A single prompt serves all.
            size: height and width in pixels, an int or a pair; the network says which multiples work. None (default):
                the network's own, else 512; with `init`, `latents` or `concat` their size.
            guidance_scale: how strongly the prompts count; 1 is no guidance. Default 7.5.
            num_steps: default 50.
            seed: int; image i depends on (seed, i). None (default) takes a new one.
            concat: what is known beside the latents, `(N, h, w, K)`, or one for all, for networks that take some: of
                inpainting (`models.inpainting_condition`), InstructPix2Pix (`models.pix2pix_condition`) and their like.
                Both predictions of guidance see it, as in diffusers; `guidance={"name": "two_scales", "concat_scale":
                1.5}` gives it a scale of its own.
            options: as in `generate`: sampler, spacing, init, strength, batch_size, dtype, … KerasCV's own pipeline is
                `sampler="ddim", spacing="linspace"`.

        Returns:
            array `(N, H, W, channels)`, float32 in [−1, 1] or uint8.

        Raises:
            ValueError: a text of too many tokens; a size that the networks cannot take; see `generate`.
        """
        weights = options.get("weights", "ema")
        conditions = self.text_conditions(prompts, weights)
        if concat is not None:
            conditions["concat"] = concat
        elif num_samples is None:
            num_samples = len(conditions["context"])
        if size is None and concat is None and None in self.sample_shape:
            size = _SIZE
        if guidance_scale != 1.0:
            options["negative_conditions"] = self.text_conditions(negative_prompts, weights)
        options |= {"guidance_scale": guidance_scale, "num_steps": num_steps, "seed": seed, "size": size}
        return self.generate(num_samples, conditions, **options)

    def get_config(self):
        parts = {
            name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("text_encoder", "tokenizer")
        }
        trained = {"train_text_encoder": True} if self.train_text_encoder else {}  # older versions read the others
        rate = {} if self.text_learning_rate is None else {"text_learning_rate": self.text_learning_rate}
        return {**super().get_config(), **parts, **trained, **rate}


def _checked_cache(text_cache, trained):
    """`text_cache` as an `EmbeddingCache`, or None."""
    if text_cache is not None and trained:
        raise ValueError(
            "What a trained text encoder makes of a text changes with every step. Received: train_text_encoder=True "
            "and a text_cache. Leave the cache out, or freeze the encoder"
        )
    cached = text_cache is None or isinstance(text_cache, EmbeddingCache)
    return text_cache if cached else EmbeddingCache(text_cache)


def _checked_factor(text_learning_rate, trained):
    """`text_learning_rate` as a float, or None."""
    rule = "`text_learning_rate` is a factor on the learning rate of the text encoder, > 0"
    factor = check_number("text_learning_rate", text_learning_rate, above=0, rule=rule, optional=True)
    if factor is not None and not trained:
        raise ValueError(
            f"A frozen text encoder does not learn. Received: text_learning_rate={factor}, train_text_encoder=False. "
            "Leave the rate out, or pass train_text_encoder=True"
        )
    return factor


def _check_widths(network, text_encoder):
    """Raises unless the network takes contexts, as wide as those of the encoder."""
    takes, gives = getattr(network, "context_dim", None), getattr(text_encoder, "width", None)
    if "context" not in getattr(network, "condition_keys", ("context",)) or (takes and gives and takes != gives):
        raise ValueError(
            "The network of a text-to-image model takes contexts as wide as its text encoder makes them. Received: a "
            f"network with context_dim={takes}, an encoder of width {gives}. Make it with context_dim={gives}"
        )
