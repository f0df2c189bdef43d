"""Training an autoencoder: losses, average, exact resume, saving, and the scale of its latents."""

import re
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.networks.autoencoder import scaled

PICTURES = np.random.default_rng(0).uniform(-1, 1, (16, 8, 8, 3)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class Small(keras.Model):
    """The least that can be trained: three convolutions compile in a second."""

    size_multiple = 2

    def __init__(self, channels=3, latent_channels=3, scale=0.5, shift=0.25, **options):
        super().__init__(**options)
        self.channels, self.latent_channels, self.scale, self.shift = channels, latent_channels, scale, shift
        layers = keras.layers
        self.encoder = keras.Sequential([keras.Input((None, None, channels)), layers.Conv2D(2 * latent_channels, 2, 2)])
        self.decoder = keras.Sequential(
            [
                keras.Input((None, None, latent_channels)),
                layers.Conv2D(8, 1, activation="swish"),
                layers.Conv2DTranspose(channels, 2, 2),
            ]
        )
        self.built = True

    def moments(self, images):
        return ops.split(self.encoder(images), 2, axis=-1)

    def encode(self, images):
        return scaled(self, self.moments(images)[0])

    def decode(self, latents):
        return self.decoder(latents / np.float32(self.scale) + np.float32(self.shift))

    def call(self, images):
        return self.decode(self.encode(images))

    def get_config(self):
        names = ("name", "channels", "latent_channels", "scale", "shift")
        return {name: getattr(self, name) for name in names}


def make(bottleneck="kl", rate=1e-2, seed=0, autoencoder=None, **options):
    keras.utils.set_random_seed(seed)
    model = kd.AutoencoderModel(autoencoder or Small(), bottleneck, **{"ema": 0.9, **options}, seed=seed)
    model.compile(keras.optimizers.Adam(rate))
    return model


def stable_diffusions():
    """A tiny one of the kind that is usual."""
    return kd.networks.AutoencoderKL(
        widths=(4, 4), num_res_blocks=1, latent_channels=3, attention=False, scale=0.5, shift=0.25
    )


def same(one, other):
    pairs = zip(one.weights, other.weights, strict=True)
    return all(np.array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b)) for a, b in pairs)


def test_fit_learns_and_logs_each_part_of_the_loss():
    model = make(reconstruction={"l1": 1.0, "ssim": 0.5}, kl_weight=1e-4)
    logs = model.fit(PICTURES, batch_size=8, epochs=8, validation_data=PICTURES[:8], verbose=0).history
    assert logs["l1_loss"][-1] < 0.9 * logs["l1_loss"][0]
    assert {"loss", "l1_loss", "ssim_loss", "kl", "kl_per_dim", "psnr", "ssim"} == {k for k in logs if "val" not in k}
    parts = np.array(logs["l1_loss"]) + 0.5 * np.array(logs["ssim_loss"]) + 1e-4 * np.array(logs["kl"])
    np.testing.assert_allclose(logs["loss"], parts, rtol=1e-4)
    np.testing.assert_allclose(logs["kl"], 4 * 4 * 3 * np.array(logs["kl_per_dim"]), rtol=1e-4)


def test_validation_measures_the_average_without_noise():
    model = make()
    model.fit(PICTURES, batch_size=8, epochs=2, verbose=0)
    logs = model.evaluate(PICTURES, batch_size=8, verbose=0, return_dict=True)
    made = model.reconstruct(PICTURES)
    np.testing.assert_allclose(logs["psnr"], kd.metrics.psnr(made, PICTURES).mean(), atol=1e-3)
    np.testing.assert_allclose(logs["ssim"], kd.metrics.ssim(made, PICTURES).mean(), atol=1e-4)
    raw = model.reconstruct(PICTURES, weights="raw")
    assert not np.allclose(raw, made, atol=1e-4)
    assert model.averaged_autoencoder() is model.average.network


def test_the_divergence_is_the_sum_over_latent_numbers():
    model = make()
    outputs = model.call(PICTURES[:2])
    mean, log_variance = (ops.convert_to_numpy(outputs[key]).astype("float64") for key in ("mean", "log_variance"))
    expected = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(ops.convert_to_numpy(outputs["losses"]["kl"]), expected, rtol=1e-4)


def test_interrupted_training_continues_exactly(tmp_path):
    data = {"images": PICTURES, "labels": np.arange(16)}

    def batches():
        return kd.data.Batches(data, batch_size=8, seed=5, drop_remainder=True)

    whole = make(seed=1)
    losses = whole.fit(batches(), epochs=4, verbose=0).history["loss"]
    first, read = make(seed=1), batches()
    first.fit(read, epochs=2, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path, data=read)])
    second, read = make(seed=2), batches()
    rest = second.fit(read, epochs=4, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path, data=read)])
    np.testing.assert_array_equal(losses[2:], rest.history["loss"])
    assert same(whole, second)


@pytest.mark.slow
def test_a_preset_keeps_weights_average_and_scale(tmp_path):
    model = make(reconstruction={"l2": 2.0}, autoencoder=stable_diffusions())
    model.fit(PICTURES, batch_size=8, verbose=0)
    model.measure_latents(PICTURES)
    model.save_to_preset(tmp_path / "preset")
    loaded = kd.AutoencoderModel.from_preset(tmp_path / "preset")
    assert same(model, loaded) and loaded.reconstruction == {"l2": 2.0}
    assert loaded.autoencoder.scale == model.autoencoder.scale != 0.5
    np.testing.assert_allclose(loaded.reconstruct(PICTURES), model.reconstruct(PICTURES), atol=1e-6)


@pytest.mark.parametrize("per_channel", [False, True])
def test_measured_latents_have_unit_variance(per_channel):
    model = make(autoencoder=stable_diffusions())
    before = model.reconstruct(PICTURES)
    statistics = model.measure_latents(kd.data.Batches(PICTURES, batch_size=4), per_channel)
    network = model.averaged_autoencoder()
    latents = ops.convert_to_numpy(network.encode(PICTURES)).astype("float64")
    assert statistics.num_latents == 16 * 4 * 4
    axes = (0, 1, 2) if per_channel else None
    np.testing.assert_allclose(latents.std(axis=axes), 1.0, rtol=1e-4)
    if per_channel:
        np.testing.assert_allclose(latents.mean(axis=axes), 0.0, atol=1e-4)
    np.testing.assert_allclose(model.reconstruct(PICTURES), before, atol=1e-5)  # the decoder undoes it


def test_pictures_in_memory_are_taken_in_parts():
    model = make()
    np.testing.assert_allclose(model.reconstruct(PICTURES, batch_size=5), model.reconstruct(PICTURES), atol=1e-6)
    statistics = model.measure_latents(PICTURES, batch_size=5)
    assert statistics.num_latents == len(PICTURES) * 4 * 4


@pytest.mark.parametrize("bottleneck", [kd.layers.FSQBottleneck((5, 4, 3)), kd.layers.VQBottleneck(8, 3)])
def test_codes(bottleneck):
    model = make(bottleneck)
    logs = model.fit(PICTURES, batch_size=8, epochs=4, verbose=0).history
    assert logs["l1_loss"][-1] < logs["l1_loss"][0] and 0 < logs["codes_used"][-1] <= 1
    network = model.averaged_autoencoder()
    codes = ops.convert_to_numpy(network.codes(PICTURES))
    assert codes.shape == (16, 4, 4) and 0 <= codes.min() <= codes.max() < bottleneck.num_codes
    model.measure_latents(PICTURES)
    np.testing.assert_allclose(ops.convert_to_numpy(network.encode(PICTURES)).std(), 1.0, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("bottleneck", ["fsq", "vq"])
def test_a_preset_keeps_codes(bottleneck, tmp_path):
    inner = kd.networks.AutoencoderKL(widths=(4, 4), num_res_blocks=1, attention=False)
    model = make(bottleneck, autoencoder=inner)
    model.measure_latents(PICTURES, per_channel=True)
    model.save_to_preset(tmp_path / "preset")
    loaded = kd.AutoencoderModel.from_preset(tmp_path / "preset")
    np.testing.assert_allclose(loaded.reconstruct(PICTURES), model.reconstruct(PICTURES), atol=1e-6)


def test_perceptual_losses():
    features = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3, activation="relu")])
    pair = [keras.Input((8, 8, 3)) for _ in range(2)]
    distance = keras.Model(pair, ops.mean(ops.abs(pair[0] - pair[1]), axis=(1, 2, 3)))
    kinds = [features, distance, lambda x, y: ops.mean(ops.abs(x - y), axis=(1, 2, 3))]
    logs = []
    for kind in kinds:
        model = make(perceptual=kind, perceptual_weight=0.5, kl_weight=0)
        logs.append(model.evaluate(PICTURES, batch_size=16, verbose=0, return_dict=True))
        np.testing.assert_allclose(logs[-1]["loss"], logs[-1]["l1_loss"] + 0.5 * logs[-1]["perceptual_loss"], rtol=1e-4)
        if kind is features:
            before = ops.convert_to_numpy(features.layers[0].kernel).copy()
            model.fit(PICTURES, batch_size=16, verbose=0)
            np.testing.assert_array_equal(before, ops.convert_to_numpy(features.layers[0].kernel))
    assert logs[1]["perceptual_loss"] == pytest.approx(logs[2]["perceptual_loss"], rel=1e-5)


def test_posterior_collapse_is_named_once():
    model = make(kl_weight=10.0)
    with pytest.warns(UserWarning, match="Posterior collapse") as found:
        model.fit(PICTURES, batch_size=16, epochs=40, verbose=0)
    texts = [str(warning.message) for warning in found if "collapse" in str(warning.message)]
    named = [channel for text in texts for channel in re.search(r"channel ([\d, ]+);", text)[1].split(", ")]
    assert sorted(named) == ["0", "1", "2"] and all("Lower `kl_weight`, now 10" in text for text in texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make().fit(PICTURES, batch_size=16, epochs=1, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-2, 1.0])
def test_a_diffusion_model_warns_once_of_latents_without_unit_variance(scale):
    network = kd.networks.UNet((4, 4, 3), widths=(8,), num_res_blocks=1, attention=False)
    autoencoder = stable_diffusions()
    mean = ops.convert_to_numpy(autoencoder.moments(PICTURES)[0])
    autoencoder.set_scaling(scale / float(mean.std()))
    model = kd.DiffusionModel(network, autoencoder=autoencoder)
    model.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.1))
    before = autoencoder.get_weights()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(PICTURES, batch_size=8, epochs=2, verbose=0)
    told = [str(w.message) for w in found if "unit variance" in str(w.message)]
    assert len(told) == (scale < 0.5) and all("measure_latents" in text for text in told)
    for a, b in zip(before, autoencoder.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)  # weight decay leaves it alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reconstruction": "l3"}, "`reconstruction` is one of l1, l2, ssim.*'l3'"),
        ({"reconstruction": {}}, "`reconstruction` is one of"),
        ({"reconstruction": {"l1": -1}}, "must be a finite number > 0"),
        ({"kl_weight": -1}, "`kl_weight` must be"),
        ({"perceptual": 3}, "`perceptual` is a Keras model"),
        ({"bottleneck": "vae"}, "Unknown bottleneck"),
        ({"bottleneck": "vq"}, "here 3. Received: dim=4"),
        ({"bottleneck": "fsq"}, r"here 3. Received: levels=\(8, 5, 5, 5\)"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_bad_data():
    model = make()
    with pytest.raises(ValueError, match="takes samples of shape"):
        model.fit(PICTURES[..., :1], batch_size=8, verbose=0)
    with pytest.raises(ValueError, match="learns from pictures alone"):
        model.fit(PICTURES, PICTURES, batch_size=8, verbose=0)
    with pytest.raises(ValueError, match=r"Float pictures lie in \[-1, 1\]"):
        model.fit(127.5 * (PICTURES + 1), batch_size=8, verbose=0)
    with pytest.raises(ValueError, match="`autoencoder` is a Keras model with `moments`"):
        kd.AutoencoderModel(keras.layers.Dense(2))
    constant = make()
    constant.autoencoder.encoder.set_weights([np.zeros_like(w) for w in constant.autoencoder.encoder.get_weights()])
    with pytest.raises(ValueError, match="Only latents that vary"):
        constant.measure_latents(PICTURES)


def test_a_single_batch_is_checked_too():
    model = make()
    assert np.isfinite(model.train_on_batch({"images": PICTURES[:8], "labels": np.arange(8)}, return_dict=True)["loss"])
    for run in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="NaN"):
            run(np.full_like(PICTURES[:8], np.nan))
