"""Known channels beside the sample, the condition "concat": training on them, sampling with them, guidance, and what is
refused.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.core.levels import Levels
from keras_diffusion.models import inpainting_condition, pix2pix_condition


def unet(channels=1, known=1, **options):
    return kd.networks.UNet(
        (4, 4, channels), widths=(8,), num_res_blocks=1, attention=False, concat_channels=known, **options
    )


def drawn(network, seed=0):
    """The network with random weights: the last layer of a fresh one gives 0."""
    rng = np.random.default_rng(seed)
    network.set_weights([0.2 * rng.standard_normal(w.shape).astype("float32") for w in network.get_weights()])
    return network


def signs(n, seed=0):
    return np.sign(np.random.default_rng(seed).standard_normal((n, 4, 4, 1))).astype("float32") * 0.8


@pytest.fixture(scope="module")
def model():
    return kd.DiffusionModel(drawn(unet(known=2, num_classes=3)), seed=0, ema=None)


@pytest.fixture(scope="module")
def conditions():
    return {
        "concat": np.random.default_rng(1).uniform(-1, 1, (3, 4, 4, 2)).astype("float32"),
        "labels": np.array([0, 1, 2]),
    }


NETWORKS = {
    "mlp": lambda n: n.MLP((2,), width=8, depth=1, concat_channels=3),
    "flax_unet": lambda n: n.FlaxUNet((4, 4, 3), widths=(8,), attention=None, embedding_dim=16, concat_channels=2),
    "unet_2d": lambda n: n.UNet2D((4, 4, 3), widths=(8,), num_res_blocks=1, head_dim=4, concat_channels=2),
    "unet_2d_condition": lambda n: n.UNet2DCondition((4, 4, 3), (8,), 1, context_dim=4, num_heads=2, concat_channels=2),
    "unet_3d": lambda n: n.UNet3D((2, 4, 4, 3), widths=(8,), num_heads=2, num_res_blocks=1, concat_channels=2),
    "edm_unet": lambda n: n.EDMUNet((4, 4, 3), (8,), 8, 1, encoder="residual", concat_channels=2),
    "dit": lambda n: n.SimpleDiT((4, 4, 3), 2, 16, 1, 2, concat_channels=2),
    "udit": lambda n: n.SimpleUDiT((4, 4, 3), 2, 16, 2, 2, concat_channels=2),
    "uvit": lambda n: n.UViT((4, 4, 3), 2, 16, 2, 2, add_residualblock_output=True, concat_channels=2),
    "mmdit": lambda n: n.SimpleMMDiT((4, 4, 3), 2, 16, 1, 2, context_dim=4, concat_channels=2),
    "hierarchical_mmdit": lambda n: n.HierarchicalMMDiT(
        (4, 4, 3), 2, (16,), (1,), (2,), context_dim=4, concat_channels=2
    ),
    "ssm_dit": lambda n: n.HybridSSMAttentionDiT((4, 4, 3), 2, 16, 1, 2, concat_channels=2),
}


_SLOW = (
    "flax_unet",
    "unet_3d",
    "udit",
    "uvit",
    "mmdit",
    "hierarchical_mmdit",
    "ssm_dit",
)  # what all backends see in the others


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in _SLOW else ()) for name in NETWORKS]
)
def test_networks_see_them_and_give_the_samples_channels(name):
    network = drawn(NETWORKS[name](kd.networks))
    network = type(network).from_config(network.get_config())
    drawn(network)
    rng, shape = np.random.default_rng(0), network.sample_shape
    inputs = {"x": rng.standard_normal((2, *shape)).astype("float32"), "noise_level": np.array([-1.0, 1.0], "float32")}
    if "context" in network.condition_keys:
        inputs["context"] = np.ones((2, 3, 4), "float32")
    assert network.condition_keys[-1] == "concat"
    known = rng.standard_normal((2, *shape[:-1], network.concat_channels)).astype("float32")
    one, other = (ops.convert_to_numpy(network({**inputs, "concat": c})) for c in (known, known + 1))
    assert one.shape == (2, *shape) and np.abs(one - other).max() > 1e-4
    with pytest.raises(ValueError, match="`concat` lies beside the samples.*Received: concat.shape="):
        network({**inputs, "concat": known[..., :1]})


def test_x_is_scaled_and_noised_but_known_channels_are_not():
    model = kd.DiffusionModel(unet(), "variance_exploding", "edm", ema=None)
    x0, known, eps = signs(2), signs(2, seed=1), np.ones((2, 4, 4, 1), "float32")
    t = ops.convert_to_tensor(np.array([0.7, 0.9], "float32"))
    alpha, sigma = model.noise_schedule(t)
    inputs = model.inputs_at(
        ops.convert_to_tensor(x0), Levels(t, alpha, sigma), ops.convert_to_tensor(eps), {"concat": known}
    )
    np.testing.assert_array_equal(inputs["concat"], known)
    scale = ops.convert_to_numpy(model.predictor.input_scale(alpha, sigma)).reshape(2, 1, 1, 1)
    assert scale.max() < 0.9  # else the next line would say nothing
    noisy = x0 + ops.convert_to_numpy(sigma).reshape(2, 1, 1, 1) * eps
    np.testing.assert_allclose(ops.convert_to_numpy(inputs["x"]), scale * noisy, rtol=1e-5)


@pytest.mark.slow
def test_training_learns_to_copy_what_is_known():
    model = kd.DiffusionModel(unet(), seed=0, ema=0.9)
    model.compile(keras.optimizers.Adam(1e-2))
    x = signs(256)
    history = model.fit({"images": x, "concat": x}, epochs=12, batch_size=32, verbose=0)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    known = signs(4, seed=5)
    told = model.generate(conditions={"concat": known}, num_steps=8, seed=0)
    guessed = model.generate(4, num_steps=8, seed=0)
    assert np.abs(told - known).mean() < 0.25 < 0.5 < np.abs(guessed - known).mean()


@pytest.mark.slow
def test_uint8_is_scaled_as_samples_are():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 1)).astype("uint8")
    model = kd.DiffusionModel(drawn(unet()), seed=0, ema=None)
    of_pixels = model.generate(conditions={"concat": pixels}, num_steps=2, seed=0)
    np.testing.assert_allclose(
        of_pixels, model.generate(conditions={"concat": pixels / 127.5 - 1}, num_steps=2, seed=0), atol=1e-5
    )
    losses = []
    for known in (pixels, (pixels / 127.5 - 1).astype("float32")):
        model = kd.DiffusionModel(drawn(unet()), seed=0, ema=None)
        model.compile("sgd")
        losses.append(model.evaluate({"images": signs(4), "concat": known}, verbose=0))
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.slow
def test_samples_do_not_depend_on_batches_and_compile_once(model, conditions):
    options = {"num_steps": 3, "seed": 0, "conditions": conditions}
    whole, steps = model.generate(**options, trajectory=True)
    assert steps.shape == (3, 3, 4, 4, 1)
    np.testing.assert_allclose(model.generate(**options, batch_size=2), whole, atol=1e-5)
    assert (
        np.abs(
            model.generate(**{**options, "conditions": {**conditions, "concat": -conditions["concat"]}}) - whole
        ).max()
        > 1e-3
    )
    traces = model.programs.traces
    model.generate(**{**options, "conditions": {**conditions, "concat": conditions["concat"][0]}, "num_samples": 3})
    if keras.backend.backend() != "torch":  # which compiles nothing, and counts calls
        assert model.programs.traces == traces


@pytest.mark.slow
def test_left_out_means_zeros(model, conditions):
    zeros = {**conditions, "concat": np.zeros((3, 4, 4, 2), "float32")}
    left_out = model.generate(conditions={"labels": conditions["labels"]}, num_steps=2, seed=0)
    np.testing.assert_allclose(left_out, model.generate(conditions=zeros, num_steps=2, seed=0), atol=1e-5)


def predictions(model, labels, concat):
    x = ops.convert_to_tensor(np.random.default_rng(2).standard_normal((3, 4, 4, 1)).astype("float32"))
    level = model.noise_schedule.levels(0.5).map(lambda v: ops.convert_to_tensor(v, "float32"))

    def x0(**options):
        return ops.convert_to_numpy(model.denoiser(**options)(x, level).x0)

    given = [{"labels": labels, "concat": concat}, {"concat": concat}, {"labels": labels}, {}]
    return x0, [x0(conditions=conditions) for conditions in given]


def test_guidance_keeps_known_channels_in_both_predictions(model, conditions):
    x0, (both, known, _, none) = predictions(model, conditions["labels"], conditions["concat"])
    assert np.abs(known - none).max() > 1e-3
    np.testing.assert_allclose(x0(conditions=conditions, guidance_scale=3.0), known + 3 * (both - known), atol=1e-4)


@pytest.mark.slow
def test_guidance_exaggerates_known_channels_that_are_alone(model, conditions):
    x0, (_, known, _, none) = predictions(model, conditions["labels"], conditions["concat"])
    guided = x0(conditions={"concat": conditions["concat"]}, guidance_scale=3.0)
    np.testing.assert_allclose(guided, none + 3 * (known - none), atol=1e-4)


def test_two_scales(model, conditions):
    """InstructPix2Pix: uncond + s_I·(image − uncond) + s_T·(full − image)."""
    x0, (both, known, _, none) = predictions(model, conditions["labels"], conditions["concat"])
    guided = x0(conditions=conditions, guidance_scale=3.0, guidance={"name": "two_scales", "concat_scale": 1.7})
    np.testing.assert_allclose(guided, none + 1.7 * (known - none) + 3 * (both - known), atol=1e-4)


@pytest.mark.slow
def test_two_scales_are_arguments_of_one_program_and_keep_negative_conditions(model, conditions):
    def generate(concat_scale, **options):
        guidance = {"name": "pix2pix", "concat_scale": concat_scale}
        return model.generate(
            conditions=conditions, num_steps=2, seed=0, guidance_scale=2.0, guidance=guidance, **options
        )

    plain = model.generate(conditions=conditions, num_steps=2, seed=0, guidance_scale=2.0)
    np.testing.assert_allclose(generate(1.0), plain, atol=1e-5)
    generators = len(model.programs)
    assert np.abs(generate(1.5) - plain).max() > 1e-4 and len(model.programs) == generators
    negative = {"labels": np.array([1, 2, 0])}
    assert np.abs(generate(1.5, negative_conditions=negative) - generate(1.5)).max() > 1e-5
    for bad in ({"concat": conditions["concat"]}, {"labels": [0]}):
        with pytest.raises(ValueError, match="for known channels, “concat”, and for another condition beside them"):
            model.generate(conditions=bad, guidance_scale=2.0, guidance="two_scales")


def test_each_kind_of_condition_is_dropped_by_itself():
    model = kd.DiffusionModel(unet(num_classes=3), condition_dropout=0.2, ema=None)
    assert model.dropout_shares({"labels": 0, "concat": 0}) == {"drop": 0.2, "drop_concat": 0.2}
    model = kd.DiffusionModel(unet(num_classes=3), condition_dropout=0.2, concat_dropout=0.0, ema=None)
    assert model.dropout_shares({"labels": 0, "concat": 0}) == {"drop": 0.2}
    assert kd.DiffusionModel(unet(), condition_dropout=0.2).dropout_shares({"concat": 0}) == {"drop_concat": 0.2}
    given = {"labels": ops.convert_to_tensor(np.array([0, 1], "int32")), "concat": ops.ones((2, 4, 4, 1))}
    dropped = model.drop_conditions(
        given, drop=ops.convert_to_tensor([True, False]), drop_concat=ops.convert_to_tensor([False, True])
    )
    assert ops.convert_to_numpy(dropped["labels"]).tolist() == [3, 1]
    np.testing.assert_array_equal(ops.convert_to_numpy(dropped["concat"])[:, 0, 0, 0], [1, 0])
    config = model.get_config()
    assert kd.DiffusionModel.from_config(config).concat_dropout == 0.0
    with pytest.raises(ValueError, match="concat_dropout=1.5"):
        kd.DiffusionModel(unet(), concat_dropout=1.5)


@pytest.mark.parametrize(
    "network, text",
    [
        (
            lambda: kd.networks.UNet((4, 4, 5), widths=(8,), out_channels=1),
            r"5 channels in and 1 out.*, concat_channels=4",
        ),
        (lambda: kd.networks.UNet((4, 4, 9), widths=(8,), out_channels=4), "9 channels in and 4 out"),
        (
            lambda: kd.networks.UNet((4, 4, 3), widths=(8,), out_channels=5),
            "3 channels in and 5 out.*6 for a learned variance",
        ),
        (lambda: kd.networks.MLP((2,), width=8, depth=1, out_channels=3), "2 channels in and 3 out"),
    ],
)
def test_outputs_that_are_not_of_the_sample_are_refused(network, text):
    with pytest.raises(ValueError, match=text):
        kd.DiffusionModel(network())


def test_a_learned_variance_beside_known_channels():
    model = kd.DiffusionModel(drawn(unet(known=2, out_channels=2)), ema=None)
    assert model.generate(2, num_steps=2, seed=0).shape == (2, 4, 4, 1)


def test_predictors_refuse_outputs_of_fewer_channels():
    x, output = np.zeros((2, 4, 4, 5), "float32"), np.zeros((2, 4, 4, 1), "float32")
    with pytest.raises(ValueError, match=r"shape \(2, 4, 4, 1\), x_t of shape \(2, 4, 4, 5\)"):
        kd.predictors.get("v").split(output, x, 0.6, 0.8)


def batch(**changes):
    return {"images": signs(4), "concat": np.zeros((4, 4, 4, 2), "float32"), "labels": np.zeros(4, "int32"), **changes}


@pytest.mark.parametrize(
    "data, text",
    [
        (batch(concat=np.zeros((4, 4, 4), "float32")), r"concat.shape=\((4|None), 4, 4\)"),
        (batch(concat=np.zeros((4, 4, 2, 2), "float32")), r"concat.shape=\((4|None), 4, 2, 2\)"),
        (batch(concat=np.zeros((4, 4, 4, 3), "float32")), r"concat.shape=\((4|None), 4, 4, 3\)"),
        (batch(concat=np.zeros((4, 4, 4, 2), "int32")), "concat of dtype int32"),
        (
            batch(concat=np.full((4, 4, 4, 2), np.nan, "float32")),
            "concat with NaN or infinite values, first in sample 0",
        ),
        ({key: value for key, value in batch().items() if key != "concat"}, "missing: concat"),
    ],
)
def test_bad_training_data(model, data, text):
    model.compile("sgd")
    with pytest.raises(ValueError, match=text):
        model.fit(data, verbose=0)


@pytest.mark.parametrize(
    "concat, text",
    [
        (np.zeros((3, 4, 2, 2)), r"Received: concat of shape \(3, 4, 2, 2\), samples of shape \(4, 4, 1\)"),
        (np.zeros((3, 4, 4, 1)), r"\(N, size, size, 2\).*Received: concat of shape \(3, 4, 4, 1\)"),
        (np.zeros((2, 4, 4, 2)), "rows: {'concat': 2}"),
        (np.full((3, 4, 4, 2), np.inf), "concat with NaN or infinite values"),
        ("mask", "an array of numbers|Known channels lie beside"),
    ],
)
def test_bad_conditions(model, concat, text):
    with pytest.raises(ValueError, match=text):
        model.generate(3, {"concat": concat}, num_steps=2)


def test_networks_without_them_say_so():
    model = kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1))
    with pytest.raises(ValueError, match="conditions are: none. Received: concat"):
        model.generate(2, {"concat": np.zeros((2, 1))}, num_steps=2)
    with pytest.raises(ValueError, match="`concat_channels` must be an integer ≥ 0.*concat_channels=-1"):
        kd.networks.MLP((2,), concat_channels=-1)


# Stable Diffusion's conditions ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def autoencoder():
    return kd.networks.AutoencoderKL(widths=(8, 8), num_res_blocks=1, norm_groups=4, scale=0.5, shift=0.25)


@pytest.mark.slow
def test_inpainting_condition_is_a_mask_and_latents_of_the_rest(autoencoder):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3)).astype("uint8")
    mask = np.zeros((8, 12), "float32")
    mask[:4, :6] = 1  # what is kept
    concat = inpainting_condition(images, mask, autoencoder)
    assert concat.shape == (2, 4, 6, 5) and concat.dtype == np.float32
    filled = np.ones((4, 6), "float32")
    filled[:2, :3] = 0
    np.testing.assert_array_equal(concat[..., 0], np.stack([filled, filled]))
    grey = np.where(mask[..., None] > 0, images / 127.5 - 1, 0.0).astype("float32")
    np.testing.assert_allclose(
        concat[..., 1:], ops.convert_to_numpy(autoencoder.encode(ops.convert_to_tensor(grey))), atol=1e-5
    )
    for same in (mask[..., None], np.stack([mask, mask]), np.stack([mask, mask])[..., None]):
        np.testing.assert_array_equal(inpainting_condition(images, same, autoencoder), concat)
    with pytest.raises(ValueError, match=r"2 samples of shape \(8, 12, 1\).*mask of shape \(4, 6\)"):
        inpainting_condition(images, mask[::2, ::2], autoencoder)
    with pytest.raises(ValueError, match="A mask is 1 where the image is kept.*outside"):
        inpainting_condition(images, 255 * mask, autoencoder)


def test_pix2pix_condition_is_the_unscaled_mode(autoencoder):
    image = np.random.default_rng(0).uniform(-1, 1, (8, 8, 3)).astype("float32")
    concat = pix2pix_condition(image, autoencoder)
    scaled = ops.convert_to_numpy(autoencoder.encode(ops.convert_to_tensor(image[None])))
    np.testing.assert_allclose(concat, scaled / autoencoder.scale + autoencoder.shift, atol=1e-5)


def test_pix2pix_condition_of_an_autoencoder_without_distributions():
    tiny = kd.networks.AutoencoderTiny(8, (1, 1), (1, 1), latent_channels=2, scale=2.0)
    image = np.random.default_rng(0).uniform(-1, 1, (8, 8, 3)).astype("float32")
    means = ops.convert_to_numpy(tiny.means(ops.convert_to_tensor(image[None])))
    np.testing.assert_allclose(pix2pix_condition(image, tiny), means, atol=1e-5)


@pytest.mark.slow
def test_text_to_image_takes_them(autoencoder):
    network = kd.networks.UNet2DCondition(
        widths=(8, 8), num_res_blocks=1, num_heads=2, context_dim=8, concat_channels=5
    )
    encoder = kd.text.CLIPTextEncoder(vocabulary_size=16, max_length=4, width=8, depth=1, num_heads=2)
    model = kd.models.TextToImage(
        drawn(network), encoder, lambda texts: np.full((len(np.atleast_1d(texts)), 4), 3), autoencoder
    )
    image = np.random.default_rng(0).uniform(-1, 1, (8, 12, 3)).astype("float32")
    mask = np.zeros((8, 12), "float32")
    options = {"num_steps": 2, "seed": 0, "num_samples": 2}
    images = model.text_to_image("a bench", concat=inpainting_condition(image, mask, autoencoder), **options)
    assert images.shape == (2, 8, 12, 3)
    other = model.text_to_image("a bench", concat=inpainting_condition(image, mask + 1, autoencoder), **options)
    assert np.abs(images - other).max() > 1e-4
    with pytest.raises(ValueError, match="Known channels have the size of the samples"):
        model.text_to_image("a bench", concat=inpainting_condition(image, mask, autoencoder), size=8, **options)
