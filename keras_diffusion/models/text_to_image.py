"""Text to image: a diffusion model in the latents of an autoencoder, steered by a text encoder.

    prompts ──▶ tokenizer ──▶ text encoder ──▶ context ──┐
    negative prompts ─────────── the same ─────▶ null ───┼─▶ diffusion ──▶ latents ──▶ decoder ──▶ images
    seed ──▶ noise of the latents' size ─────────────────┘

Guidance leads from the negative prompts to the prompts: y_negative + w·(y_prompt − y_negative), both in one batch. The
negative prompt is the empty text unless another is given.
"""

import keras
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.models.diffusion_model import DiffusionModel

_SCHEDULE = {"name": "scaled_linear", "spacing": {"name": "leading", "offset": 1}}
_PREDICTOR = {"name": "epsilon", "condition": "timestep"}
_SIZE = 512


@serializable
class TextToImage(DiffusionModel):
    """A `DiffusionModel` that takes words. The defaults are the conventions of Stable Diffusion 1 and 2.1-base.

    Args:
        network: network with a context, and perhaps "concat", such as `networks.UNet2DCondition`.
        text_encoder: model from tokens `(B, L)` to contexts `(B, L, D)`, such as `text.CLIPTextEncoder`. It is not
            trained.
        tokenizer: function from a list of texts to tokens `(N, L)`, such as `text.CLIPTokenizer`.
        autoencoder: as in `DiffusionModel`, such as `networks.AutoencoderKL`; it is not trained. None (default): the
            network makes images.
        noise_schedule: None (default): "scaled_linear", sampled at every (1000 // n)-th timestep plus one.
        predictor: None (default): "epsilon", with timesteps as the noise condition.
        ema: default None: a second copy of a billion weights is for training only.
        options: as in `DiffusionModel`. `null_context=model.encode_text("")[0]` lets training drop conditions the way
            sampling does.

    Example:

    >>> vocabulary = "bpe_simple_vocab_16e6.txt.gz"
    >>> model = keras_diffusion.checkpoints.load_text_to_image("stable-diffusion", bpe_path=vocabulary)
    >>> images = model.text_to_image("a watercolour of a lighthouse", num_samples=4, num_steps=25, dtype="uint8")
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
        **options,
    ):
        super().__init__(
            network,
            _SCHEDULE if noise_schedule is None else noise_schedule,
            _PREDICTOR if predictor is None else predictor,
            autoencoder=autoencoder,
            ema=ema,
            **options,
        )
        self.text_encoder, self.tokenizer = text_encoder, tokenizer
        for part in (text_encoder, autoencoder):
            if part is not None:
                part.trainable = False

    def encode_text(self, texts):
        """Contexts of texts.

        Args:
            texts: a string or a list of N strings.

        Returns:
            float32 array `(N, L, D)`.

        Raises:
            ValueError: a text of too many tokens.
        """
        return ops.convert_to_numpy(self.text_encoder.predict_on_batch(self.tokenizer(texts)))

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
                512, or with `init`, `latents` or `concat` their size.
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
        context = self.encode_text(prompts)
        conditions = {"context": context}
        if concat is not None:
            conditions["concat"] = concat
        elif num_samples is None:
            num_samples = len(context)
        if size is None and concat is None:
            size = _SIZE
        if guidance_scale != 1.0:
            options["negative_conditions"] = {"context": self.encode_text(negative_prompts)}
        options |= {"guidance_scale": guidance_scale, "num_steps": num_steps, "seed": seed, "size": size}
        return self.generate(num_samples, conditions, **options)

    def get_config(self):
        parts = {
            name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("text_encoder", "tokenizer")
        }
        return {**super().get_config(), **parts}
