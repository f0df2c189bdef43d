"""KerasCV's Stable Diffusion in small: its own blocks, put together as in its own models, and files in the layout of
Keras 2.

Needs keras_cv, and with it TensorFlow. `python tests/keras_cv_models.py tests/golden/keras_cv.npz` writes the golden
data.
"""

import itertools
import json
import sys

import h5py
import keras
import numpy as np

WIDTHS = (32, 64)


def unet(kcv, version=1, widths=WIDTHS, size=8, context=(7, 16)):
    """`DiffusionModel` (version 1) or `DiffusionModelV2`, with other widths, one block per level, 2 heads."""
    blocks, levels = kcv.diffusion_model, len(widths)

    def transform(x, width):
        return blocks.SpatialTransformer(2, width // 2, fully_connected=version == 2)([x, text])

    text = keras.Input(context, name="context")
    embedding = keras.Input((widths[0],), name="timestep_embedding")
    latent = keras.Input((size, size, 4), name="latent")
    time = keras.layers.Activation("swish")(keras.layers.Dense(4 * widths[0])(embedding))
    time = keras.layers.Dense(4 * widths[0])(time)
    x = blocks.PaddedConv2D(widths[0], kernel_size=3, padding=1)(latent)
    skips = [x]
    for i, width in enumerate(widths):
        x = blocks.ResBlock(width)([x, time])
        x = transform(x, width) if i < levels - 1 else x
        skips.append(x)
        if i < levels - 1:
            x = blocks.PaddedConv2D(width, 3, strides=2, padding=1)(x)
            skips.append(x)
    x = blocks.ResBlock(widths[-1])([x, time])
    x = blocks.ResBlock(widths[-1])([transform(x, widths[-1]), time])
    for i, width in reversed(list(enumerate(widths))):
        for _ in range(2):
            x = blocks.ResBlock(width)([keras.layers.Concatenate()([x, skips.pop()]), time])
            x = transform(x, width) if i < levels - 1 else x
        x = blocks.Upsample(width)(x) if i > 0 else x
    x = keras.layers.Activation("swish")(keras.layers.GroupNormalization(epsilon=1e-5)(x))
    return keras.Model([latent, embedding, text], blocks.PaddedConv2D(4, kernel_size=3, padding=1)(x))


def text_encoder(kcv, version=1, vocabulary=20, width=16, length=7):
    """`TextEncoder` (version 1) or `TextEncoderV2`: two layers, two heads."""
    blocks = kcv.text_encoder
    activation = blocks.quick_gelu if version == 1 else blocks.ops.gelu
    tokens, positions = (keras.Input((length,), dtype="int32", name=name) for name in ("tokens", "positions"))
    x = blocks.CLIPEmbedding(vocabulary, width, length)([tokens, positions])
    for _ in range(2):
        x = blocks.CLIPEncoderLayer(width, 2, activation=activation)(x)
    return keras.Model([tokens, positions], keras.layers.LayerNormalization(epsilon=1e-5)(x))


def image_encoder(kcv, widths=WIDTHS):
    """`ImageEncoder`: one block per level."""
    block, convolution = kcv.image_encoder.ResnetBlock, kcv.image_encoder.PaddedConv2D
    layers = [convolution(widths[0], 3, padding=1), block(widths[0])]
    for before, width in itertools.pairwise(widths):
        layers += [convolution(before, 3, padding=((0, 1), (0, 1)), strides=2), block(width)]
    layers += [block(widths[-1]), kcv.image_encoder.AttentionBlock(widths[-1]), block(widths[-1])]
    layers += [keras.layers.GroupNormalization(epsilon=1e-5), keras.layers.Activation("swish")]
    layers += [convolution(8, 3, padding=1), convolution(8, 1), keras.layers.Lambda(lambda x: x[..., :4] * 0.18215)]
    return keras.Sequential([keras.Input((None, None, 3)), *layers])


def decoder(kcv, widths=WIDTHS, size=8):
    """`Decoder`: two blocks per level."""
    block, convolution = kcv.decoder.ResnetBlock, kcv.decoder.PaddedConv2D
    layers = [keras.layers.Rescaling(1.0 / 0.18215), convolution(4, 1), convolution(widths[-1], 3, padding=1)]
    layers += [block(widths[-1]), kcv.decoder.AttentionBlock(widths[-1]), block(widths[-1])]
    for i, width in reversed(list(enumerate(widths))):
        layers += [block(width), block(width)]
        layers += [keras.layers.UpSampling2D(2), convolution(width, 3, padding=1)] if i > 0 else []
    layers += [
        keras.layers.GroupNormalization(epsilon=1e-5),
        keras.layers.Activation("swish"),
        convolution(3, 3, padding=1),
    ]
    return keras.Sequential([keras.Input((size, size, 4)), *layers])


def layout_of(model):
    """Names and shapes of a model's weights as Keras 2 writes them: [[layer, [[weight, shape], …]], …]."""
    return [[layer.name, [[w.path, list(w.shape)] for w in layer.trainable_weights]] for layer in model.layers]


def values(layout, seed=0):
    """A random array for each weight of a layout, in order."""
    rng = np.random.RandomState(seed)
    for name, shape in (weight for _, weights in layout for weight in weights):
        spread = 0.1 if len(shape) == 1 else 1.0 / np.sqrt(np.prod(shape[:-1])) if "embedd" not in name else 0.5
        yield (spread * rng.standard_normal(shape) + ("gamma" in name)).astype("float32")


def randomize(model, seed=0):
    """Sets the weights of a model to the `values` of its layout."""
    for weight, value in zip(
        (w for layer in model.layers for w in layer.trainable_weights), values(layout_of(model), seed), strict=True
    ):
        weight.assign(value)
    return model


def write(layout, arrays, path):
    """Writes a weights file of Keras 2."""
    arrays = iter(arrays)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer, _ in layout]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.12.0"
        for layer, weights in layout:
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{name}:0".encode() for name, _ in weights]
            for name, _ in weights:
                group[f"{name}:0"] = next(arrays)
    return path


def timestep_embedding(timestep, dim):
    """What `StableDiffusion` makes of a timestep: cosines, then sines."""
    angles = timestep * np.exp(-np.log(10000.0) * np.arange(dim // 2) / (dim // 2))
    return np.concatenate([np.cos(angles), np.sin(angles)])


def call(model, *inputs):
    """Output of a model, as an array."""
    return keras.ops.convert_to_numpy(model(list(inputs) if len(inputs) > 1 else inputs[0], training=False))


def inputs_of(component, seed=1):
    """Inputs for the small models: what `UNet2DCondition`, `CLIPTextEncoder` and `AutoencoderKL` take."""
    rng = np.random.RandomState(seed)
    if component.startswith("diffusion_model"):
        x, context = rng.standard_normal((2, 8, 8, 4)), rng.standard_normal((2, 7, 16))
        return {
            "x": x.astype("float32"),
            "noise_level": np.array([7.0, 980.0], "float32"),
            "context": context.astype("float32"),
        }
    if component.startswith("text_encoder"):
        return rng.randint(0, 20, (2, 7)).astype("int32")
    return rng.standard_normal((2, 8, 8, 3) if component == "image_encoder" else (2, 8, 8, 4)).astype("float32")


def outputs_of(component, model, inputs):
    """Outputs of KerasCV's model of a component."""
    if component.startswith("diffusion_model"):
        embedding = np.stack([timestep_embedding(t, WIDTHS[0]) for t in inputs["noise_level"]]).astype("float32")
        return call(model, inputs["x"], embedding, inputs["context"])
    if component.startswith("text_encoder"):
        return call(model, inputs, np.arange(inputs.shape[1], dtype="int32")[None].repeat(len(inputs), 0))
    return call(model, inputs)


SMALL = {
    "diffusion_model_1": lambda kcv: unet(kcv, 1),
    "diffusion_model_2": lambda kcv: unet(kcv, 2),
    "text_encoder_1": lambda kcv: text_encoder(kcv, 1),
    "text_encoder_2": lambda kcv: text_encoder(kcv, 2),
    "image_encoder": image_encoder,
    "decoder": decoder,
}


def pipeline_inputs():
    """Tokens of two prompts and of the empty one, and the noise to start from."""
    tokens = np.array([[18, 3, 4, 5, 19, 19, 19], [18, 9, 19, 19, 19, 19, 19], [18, 19, 19, 19, 19, 19, 19]], "int32")
    return tokens, np.random.RandomState(2).standard_normal((2, 8, 8, 4)).astype("float32")


def pipeline(models):
    """Five steps of KerasCV's own sampling loop with the small models; the decoder's output, before it
    becomes uint8.
    """
    from keras_cv.src.models.stable_diffusion.stable_diffusion import StableDiffusionBase

    tokens, noise = pipeline_inputs()
    contexts = outputs_of("text_encoder_1", models["text_encoder_1"], tokens)
    decoded = []

    class Decoder:
        def predict_on_batch(self, latent):
            decoded.append(models["decoder"].predict_on_batch(latent))
            return decoded[-1]

    class Small(StableDiffusionBase):
        diffusion_model, decoder = models["diffusion_model_1"], Decoder()

        def _get_unconditional_context(self):
            return contexts[2:]

        def _get_timestep_embedding(self, timestep, batch_size):
            return super()._get_timestep_embedding(timestep, batch_size, dim=WIDTHS[0])

    pipeline = Small(jit_compile=False)
    pipeline.generate_image(
        contexts[:2], batch_size=2, num_steps=5, unconditional_guidance_scale=3.0, diffusion_noise=noise
    )
    return decoded[0]


def main(path):
    """Writes layouts and outputs of the small models."""
    from keras_cv.src.models import stable_diffusion
    from keras_cv.src.models.stable_diffusion import decoder, diffusion_model, image_encoder, text_encoder  # noqa: F401

    models, layouts, outputs = {}, {}, {}
    for component, make in SMALL.items():
        model = models[component] = randomize(make(stable_diffusion))
        layouts[component] = layout_of(model)
        outputs[component] = outputs_of(component, model, inputs_of(component))
    np.savez_compressed(path, pipeline=pipeline(models), layouts=json.dumps(layouts), **outputs)


if __name__ == "__main__":
    main(sys.argv[1])
