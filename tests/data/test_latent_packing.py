"""Packed latents: training on them is training on the pictures, and what is damaged or of others is named."""

import io
import json
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.data.latent_manifest import MANIFEST
from keras_diffusion.networks.autoencoder import scaled

SIDE, COUNT = 8, 10


def pictures(count=COUNT):
    rng = np.random.default_rng(0)
    captions = [[f"number {i}", f"no. {i}"] for i in range(count)]
    images = rng.integers(0, 256, (count, SIDE, SIDE, 3), "uint8")
    return {"images": images, "labels": np.arange(count) % 2, "captions": captions}


def make_autoencoder(seed=0, **options):
    kd.keras.utils.set_random_seed(seed)
    options = {"widths": (4, 4), "num_res_blocks": 1, "latent_channels": 2, "attention": False, **options}
    autoencoder = kd.networks.AutoencoderKL(**options)
    if options["latent_channels"] == 2:
        autoencoder.set_scaling([1.5, 0.7], [0.1, -0.2])
    return autoencoder


@pytest.fixture(scope="module")
def autoencoder():
    return make_autoencoder()


@pytest.fixture(scope="module")
def packed(autoencoder, tmp_path_factory):
    """A folder of moments, mirrored ones too; tests must not change it."""
    folder = tmp_path_factory.mktemp("latents") / "moments"
    return kd.data.pack(pictures(), folder, shard_size=4, autoencoder=autoencoder, flip=True, batch_size=4).folder


def make_model(autoencoder, **options):
    kd.keras.utils.set_random_seed(1)
    network = kd.networks.UNet((4, 4, 2), widths=(4,), num_res_blocks=1, attention=False, num_classes=2)
    model = kd.DiffusionModel(network, autoencoder=autoencoder, seed=0, **options)
    jit_compile = False if kd.keras.backend.backend() == "tensorflow" else "auto"
    model.compile(kd.keras.optimizers.Adam(1e-2), jit_compile=jit_compile)
    return model


class Losses(kd.keras.callbacks.Callback):
    """The loss of every step."""

    def __init__(self):
        super().__init__()
        self.values, self._sum = [], 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = float(logs["loss"]) * (batch + 1)  # Keras's is the mean so far
        self._sum = 0.0 if batch == 0 else self._sum
        self.values.append(total - self._sum)
        self._sum = total


def losses(autoencoder, data, held_out=None, **options):
    """The losses of each step, and of the validation."""
    watch = Losses()
    model = make_model(autoencoder, **options)
    history = model.fit(data, validation_data=held_out, epochs=3, verbose=0, callbacks=[watch]).history
    return watch.values + history.get("val_loss", [])


@pytest.mark.parametrize("sampled", [False, True])
def test_training_on_moments_is_training_on_pictures(autoencoder, packed, sampled):
    options = {"batch_size": 3, "seed": 4, "validation_fraction": 0.3}
    curves = []
    for source, flip in ((pictures(), {"horizontal_flip": True}), (packed, {})):
        train = kd.data.load(source, **options, **flip)
        held_out = kd.data.load(source, split="validation", **options)
        curves.append(losses(autoencoder, train, held_out, sample_latents=sampled))
    assert len(curves[0]) == 3 * 2 + 3 and np.std(curves[0]) > 1e-3
    np.testing.assert_allclose(*curves, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_batches_hold_what_the_encoder_says_of_the_pictures(autoencoder, packed):
    options = {"batch_size": 3, "seed": 4, "captions": True}
    train = kd.data.load(pictures(), horizontal_flip=True, **options)
    ours = kd.data.load(packed, **options)
    assert ours.image_shape == (SIDE, SIDE, 3) and ours.num_classes == 2 and len(ours) == len(train)
    for epoch in (0, 3):
        train.epoch = ours.epoch = epoch
        for i in range(len(train)):
            expected, batch = train[i], ours[i]
            assert set(batch) == {"moments", "labels", "captions"}
            for key in ("labels", "captions"):
                np.testing.assert_array_equal(batch[key], expected[key])
            moments = np.concatenate(autoencoder.moments(expected["images"]), axis=-1)
            np.testing.assert_allclose(batch["moments"], moments, atol=1e-6)
    plain = kd.data.load(packed, horizontal_flip=False, shuffle=False, batch_size=COUNT)[0]["moments"]
    mirrored = np.concatenate(
        autoencoder.moments(kd.data.load(pictures(), batch_size=COUNT).samples(range(COUNT))["images"][:, :, ::-1]),
        axis=-1,
    )
    assert np.abs(plain[:, :, ::-1] - mirrored).max() > 1e-3, "mirrored latents are not those of the mirrored picture"
    held_out = kd.data.load(packed, split="validation", validation_fraction=0.3, batch_size=3)
    assert not held_out.horizontal_flip and pickle.loads(pickle.dumps(held_out))[0]["moments"].shape == (3, 4, 4, 4)
    np.testing.assert_array_equal(ours.samples([2])["moments"], plain[2:3])
    tolerant = kd.data.load(packed, on_error="skip", **options)
    np.testing.assert_array_equal(tolerant[1]["moments"], kd.data.load(packed, **options)[1]["moments"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["means", "samples"])
def test_means_and_samples(autoencoder, tmp_path, kind):
    images = kd.data.load(pictures(), shuffle=False, batch_size=COUNT)[0]["images"]
    options = {"autoencoder": autoencoder, "latents": kind}
    one, other = (
        kd.data.pack(pictures(), tmp_path / name, batch_size=n, **options) for name, n in (("a", 3), ("b", 10))
    )
    assert str(one) == f"10 latents in 1 tar files in {tmp_path / 'a'}"
    found, same = (kd.data.load(p.folder, shuffle=False, batch_size=COUNT)[0]["latents"] for p in (one, other))
    np.testing.assert_allclose(found, same, atol=1e-6)
    mean, log_variance = (np.asarray(part) for part in autoencoder.moments(images))
    if kind == "means":
        np.testing.assert_allclose(scaled(autoencoder, found), autoencoder.encode(images), atol=1e-6)
    else:
        noise = (found - mean) / np.exp(0.5 * log_variance)
        assert abs(noise.mean()) < 0.15 and abs(noise.std() - 1.0) < 0.15
        half = kd.data.pack(pictures(), tmp_path / "half", dtype="float16", **options)
        rounded = kd.data.load(half.folder, shuffle=False, batch_size=COUNT)[0]["latents"]
        assert rounded.dtype == "float32" and 0 < np.abs(rounded - found).max() <= 2**-11 * np.abs(found).max()
        sizes = [kd.data.load(p.folder, batch_size=1).latents.sample_bytes for p in (half, one)]
        assert sizes == [128 + 2 * 4 * 4 * 2, 128 + 4 * 4 * 4 * 2]


@pytest.mark.slow
def test_the_same_bytes_whatever_the_scale_and_the_decoder(packed, tmp_path):
    autoencoder = make_autoencoder()
    autoencoder.set_scaling(3.0)
    autoencoder.decoder.weights[0].assign(np.ones(autoencoder.decoder.weights[0].shape))
    options = {"shard_size": 4, "flip": True, "batch_size": 4}
    again = kd.data.pack(pictures(), tmp_path / "a", autoencoder=autoencoder, **options)
    for file in packed.iterdir():
        assert (again.folder / file.name).read_bytes() == file.read_bytes()
    autoencoder.encoder.weights[0].assign(2.0 * ops.convert_to_tensor(autoencoder.encoder.weights[0]))
    other = kd.data.pack(pictures(), tmp_path / "b", autoencoder=autoencoder, **options)
    assert (other.folder / MANIFEST).read_bytes() != (packed / MANIFEST).read_bytes()
    kd.AutoencoderModel(make_autoencoder(), ema=None).save_to_preset(tmp_path / "preset")
    loaded = kd.AutoencoderModel.from_preset(tmp_path / "preset").averaged_autoencoder()
    make_model(loaded).fit(kd.data.load(packed, batch_size=5), verbose=0)  # has the fingerprint of then


@pytest.mark.slow
def test_autoencoders_without_a_distribution(tmp_path):
    inner = make_autoencoder(latent_channels=3)
    tiny = kd.networks.AutoencoderTiny(4, (1, 1), (1, 1), latent_channels=2)
    coded = kd.networks.QuantizedAutoencoder(inner, kd.layers.FSQBottleneck((8, 6, 5)), scale=2.0)
    for name, model in (("tiny", tiny), ("coded", coded)):
        with pytest.raises(ValueError, match="which has none. Pass latents='means'"):
            kd.data.pack(pictures(), tmp_path / name, autoencoder=model)
        folder = kd.data.pack(pictures(), tmp_path / name, autoencoder=model, latents="means", batch_size=5).folder
        found = kd.data.load(folder, shuffle=False, batch_size=COUNT)[0]["latents"]
        images = kd.data.load(pictures(), shuffle=False, batch_size=COUNT)[0]["images"]
        np.testing.assert_allclose(scaled(model, found), model.encode(images), atol=1e-6)
        with pytest.raises(ValueError, match="Leave sample_latents out"):
            kd.DiffusionModel(kd.networks.UNet((4, 4, 2), widths=(4,)), autoencoder=model, sample_latents=True)

    class Otherwise(type(tiny)):
        def encode(self, images, **options):
            return super().encode(images) + 1.0

    with pytest.raises(ValueError, match="encodes otherwise"):
        kd.data.pack(
            pictures(), tmp_path / "c", autoencoder=Otherwise(4, (1, 1), (1, 1), latent_channels=2), latents="means"
        )


@pytest.mark.slow
def test_words_beside_latents(autoencoder, packed, tmp_path):
    encoder, tokenizer = kd.text.small_encoder([t for both in pictures()["captions"] for t in both], width=8, depth=1)
    curves = []
    for source, cache, flip in ((pictures(), None, True), (packed, tmp_path / "texts", None)):
        kd.keras.utils.set_random_seed(1)
        network = kd.networks.UNet((4, 4, 2), widths=(4,), num_res_blocks=1, attention=(True,), context_dim=8)
        options = {"noise_schedule": "cosine", "predictor": "v", "seed": 0}
        model = kd.models.TextToImage(network, encoder, tokenizer, autoencoder, text_cache=cache, **options)
        model.compile(kd.keras.optimizers.SGD(1e-2))
        flips = {} if flip is None else {"horizontal_flip": flip}
        data = kd.data.load(source, batch_size=5, captions=True, seed=0, **flips)
        curves.append(model.fit(data, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(*curves, rtol=1e-5)


@pytest.mark.slow
def test_latents_of_arrays(autoencoder):
    model = make_model(autoencoder)
    moments = np.random.default_rng(0).standard_normal((4, 4, 4, 4)).astype("float32")
    data = {"moments": moments, "labels": np.zeros(4, "int32")}
    assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()
    assert "sample_latents" not in model.get_config()
    with pytest.raises(ValueError, match="moments with NaN"):
        model.fit({**data, "moments": np.full_like(moments, np.nan)}, verbose=0)
    with pytest.raises(ValueError, match="moments with NaN.* batch 1"):
        model.fit(iter([{**data, "moments": np.full_like(moments, np.nan)}]), steps_per_epoch=1, verbose=0)
    with pytest.raises(ValueError, match=r"moments of shape \(.*4, 4, 2\), another channels"):
        model.fit({**data, "moments": moments[..., :2]}, verbose=0)
    with pytest.raises(ValueError, match="unknown: moments. Latents are for a DiffusionModel with the autoencoder"):
        make_model(None).fit(data, verbose=0)


def rewritten(folder, change, shard="part-00001.tar"):
    """Rewrites a tar file: `change` takes (name, content) and returns such pairs."""
    with tarfile.open(folder / shard) as archive:
        members = [(m.name, archive.extractfile(m).read()) for m in archive]
    with tarfile.open(folder / shard, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in (pair for member in members for pair in change(*member)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def told(folder, **values):
    """Changes `latents.json`."""
    known = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**known, **values}))


def cut(folder, size):
    path = folder / "part-00001.tar"
    path.write_bytes(path.read_bytes()[:size])


def without_array(name, content):
    return [] if name == "00000005.npy" else [(name, content)]


def without_record(name, content):
    return [] if name == "00000007.json" else [(name, content)]


def with_nan(name, content):
    broken = content[:-4] + np.float32(np.nan).tobytes()
    return [(name, broken if name == "00000005.npy" else content)]


def pickled(name, content):
    return [(name, b"\x80\x04c" + content[3:] if name == "00000005.npy" else content)]


def longer(name, content):
    return [(name, content + b"more" if name == "00000005.npy" else content)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: cut(f, 2100), "Cannot read .*part-00001.tar.* as a tar file"),
        (lambda f: cut(f, 2000), "hold 10 samples, as latents.json says. Received: "),
        (lambda f: (f / "part-00002.tar").unlink(), "without part-00002.tar. Copy the folder again"),
        (lambda f: (f / MANIFEST).unlink(), "latents.json is missing: were they packed to the end"),
        (lambda f: rewritten(f, without_array), "00000005' with .json of .* bytes. Pack the pictures again"),
        (lambda f: rewritten(f, without_record), "hold 10 samples with a .json, as latents.json says. Received: 9"),
        (lambda f: rewritten(f, longer), ".npy of 644 bytes"),
        (lambda f: rewritten(f, pickled), "part-00001.tar: 00000005.npy, which holds something else"),
        (lambda f: rewritten(f, with_nan), "NaN or infinity in .*part-00001.tar: 00000005.npy. Pack"),
        (lambda f: told(f, shape=[4, 4, 3]), r"an array \(2, 4, 4, 6\) of float32, a .npy of 896 bytes. Received"),
        (lambda f: told(f, shape=[10**9, 10**9, 3]), "number of values of shape"),
        (lambda f: told(f, samples=10**15), "without part-00003.tar"),
        (lambda f: told(f, kind=["moments"]), "kind="),
        (lambda f: told(f, version=2), "version 2"),
        (lambda f: told(f, num_classes=1, class_names=None), "numbers below 1, as latents.json says. Received: 1 in"),
        (lambda f: told(f, fingerprint="../../etc"), "fingerprint="),
        (lambda f: told(f, further=1), "other keys: further"),
        (lambda f: (f / MANIFEST).write_text("{"), "no JSON"),
    ],
)
def test_damage_is_named(packed, tmp_path, damage, message):
    folder = tmp_path / "copy"
    shutil.copytree(packed, folder)
    damage(folder)
    with pytest.raises(ValueError, match=message):
        batches = kd.data.load(folder, batch_size=2, shuffle=False)
        [batches[i] for i in range(len(batches))]


@pytest.mark.slow
def test_an_interrupted_packing_leaves_nothing(autoencoder, tmp_path):
    def stop(numbers):
        for number in numbers:
            if number == 7:
                raise KeyboardInterrupt
            yield number

    with pytest.raises(KeyboardInterrupt):
        kd.data.pack(pictures(), tmp_path / "a", 2, autoencoder=autoencoder, progress=stop, batch_size=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_wrong_uses_are_named(autoencoder, packed, tmp_path):
    data = kd.data.load(packed, batch_size=5)
    other = make_autoencoder(seed=3)
    with pytest.raises(ValueError, match="moments 4×4×2 of 8×8×3 pictures and mirrored by AutoencoderKL .*Pack the"):
        make_model(other).fit(data, verbose=0)
    with pytest.raises(ValueError, match="fingerprint .* for a model with the AutoencoderKL"):
        make_model(other).evaluate(data, verbose=0)
    with pytest.raises(ValueError, match="fingerprint"):
        make_model(other).fit({key: pictures(5)[key] for key in ("images", "labels")}, validation_data=data, verbose=0)
    with pytest.raises(ValueError, match="for a DiffusionModel without an autoencoder"):
        make_model(None).fit(data, verbose=0)
    trained = kd.AutoencoderModel(make_autoencoder(), ema=None)
    trained.compile("adam")
    with pytest.raises(ValueError, match="for a AutoencoderModel. Train it on the pictures"):
        trained.fit(data, verbose=0)
    with pytest.raises(ValueError, match="measured on pictures"):
        trained.measure_latents(data)
    with pytest.raises(ValueError, match="compared with pictures"):
        kd.metrics.GenerationEvaluator(data, ["mind"], num_samples=4)
    network = kd.networks.UNet((8, 8, 2), widths=(4,), attention=False)
    model = kd.DiffusionModel(network, autoencoder=autoencoder)
    model.compile("adam")
    with pytest.raises(ValueError, match=r"takes latents of shape \(8, 8, 2\)"):
        model.fit(kd.data.load(packed, batch_size=5), verbose=0)
    with pytest.raises(ValueError, match="image_size= is for pictures, before they are encoded"):
        kd.data.load(packed, image_size=4)
    with pytest.raises(ValueError, match="augmented before they are encoded"):
        kd.data.load(packed, batch_size=2, augment=lambda images, rng: images)
    means = kd.data.pack(pictures(), tmp_path / "means", autoencoder=autoencoder, latents="means").folder
    with pytest.raises(ValueError, match="Pack with flip=True"):
        kd.data.load(means, batch_size=2, horizontal_flip=True)
    with pytest.raises(ValueError, match="latents='moments', or leave sample_latents out"):
        make_model(autoencoder, sample_latents=True).fit(kd.data.load(means, batch_size=5), verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": "mean"}, "latents"),
        ({"dtype": "int8"}, "dtype"),
        ({"autoencoder": None, "flip": True}, "flip= is for latents"),
        ({"autoencoder": kd.layers.FSQBottleneck((8, 6))}, "`moments` or `means`"),
        ({"data": np.zeros((2, 8, 8, 1))}, r"takes pictures \(height, width, 3\). Received: shape=\(8, 8, 1\)"),
        ({"data": [np.zeros((8, 8, 3)), np.zeros((8, 6, 3))]}, r"one size.*\(8, 6, 3\), sample 1. Pass image_size"),
        ({"data": kd.data.Batches(np.zeros((2, 8, 8, 3)), 1, horizontal_flip=True)}, "Pass flip=True"),
        ({"data": kd.data.Batches(np.zeros((2, 8, 8, 3)), 1, augment=lambda x, rng: x)}, "without augmentation"),
        ({"data": kd.data.load(np.zeros((2, 9, 8, 3)), image_size=8, batch_size=1, crop="random")}, "depend on chance"),
    ],
)
def test_what_cannot_be_packed(autoencoder, tmp_path, change, message):
    options = {"data": pictures(2), "autoencoder": autoencoder, **change}
    with pytest.raises(ValueError, match=message):
        kd.data.pack(options.pop("data"), tmp_path / "a", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_latents_that_are_not_finite_are_left_out_or_end_it(tmp_path):
    autoencoder = make_autoencoder()
    last = autoencoder.encoder.weights[-1]  # the bias of the moments
    last.assign(np.full(last.shape, 1e5))
    options = {"autoencoder": autoencoder, "latents": "means"}
    with pytest.raises(
        ValueError, match="float16 can hold. Received: latents up to .* of sample 0. Use dtype='float32'"
    ):
        kd.data.pack(pictures(), tmp_path / "a", dtype="float16", **options)
    images = pictures()["images"].astype("float32") / 127.5 - 1
    images[3, 0, 0, 0] = np.nan
    packed = kd.data.pack([{"image": image} for image in images], tmp_path / "b", on_error="skip", **options)
    assert packed.samples == 9 and list(packed.skipped) == [3] and "finite" in packed.skipped[3]
    report = str(kd.data.inspect(kd.data.load(packed.folder, batch_size=1)))
    assert "left out   1" in report and "means in float32" in report and "readable   9 of 9" in report
