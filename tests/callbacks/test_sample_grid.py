import keras
import numpy as np
import pytest
from PIL import Image

from keras_diffusion.callbacks import SampleGrid
from keras_diffusion.callbacks.event_file import EventFile
from keras_diffusion.visualization import png_bytes


class Painter(keras.Model):
    """A model with one weight, whose `generate` returns what it was asked for as grey values."""

    def __init__(self, shape=(4, 4, 1)):
        super().__init__()
        self.shape = shape
        self.dense = keras.layers.Dense(1)
        self.calls = []
        self.value = 0.0

    def call(self, x, training=False):
        return self.dense(x)

    def generate(self, num_samples=None, conditions=None, seed=None, num_steps=50, verbose="auto"):
        self.calls.append(
            {
                "num_samples": num_samples,
                "conditions": conditions,
                "seed": seed,
                "num_steps": num_steps,
                "verbose": verbose,
            }
        )
        n = num_samples if conditions is None else len(conditions["labels"])
        return np.full((n, *self.shape), self.value, "float32")


def fit(callback, epochs=5, model=None):
    model = model or Painter()
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=epochs, verbose=0, callbacks=[callback])
    return model


def test_writes_every_second_epoch_and_the_last(tmp_path):
    fit(SampleGrid(tmp_path / "samples", every=2))
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [
        "epoch-0002.png",
        "epoch-0004.png",
        "epoch-0005.png",
    ]
    with Image.open(tmp_path / "samples" / "epoch-0002.png") as image:
        assert image.size == (4 * 65 + 1, 4 * 65 + 1)


def test_a_video_is_a_row_of_its_frames(tmp_path):
    fit(SampleGrid(tmp_path, num_samples=2, scale=1), epochs=1, model=Painter((3, 4, 6, 1)))
    with Image.open(tmp_path / "epoch-0001.png") as image:
        assert image.size == (3 * 7 + 1, 2 * 5 + 1)


def test_the_same_seed_each_time_and_options_reach_generate(tmp_path):
    labels = np.arange(3)
    model = fit(SampleGrid(tmp_path, conditions={"labels": labels}, num_steps=7), epochs=2)
    assert [(c["num_samples"], c["seed"], c["num_steps"], c["verbose"]) for c in model.calls] == [(None, 0, 7, 0)] * 2
    assert model.calls[0]["conditions"]["labels"] is labels


def test_default_is_sixteen_samples(tmp_path):
    assert fit(SampleGrid(tmp_path, seed=4), epochs=1).calls[0] == {
        "num_samples": 16, "conditions": None, "seed": 4, "num_steps": 50, "verbose": 0,
    }  # fmt: skip


def test_samples_that_are_not_finite_warn_and_do_not_stop_training(tmp_path):
    model = Painter()
    model.value = np.nan
    with pytest.warns(UserWarning, match="samples after epoch 1 hold NaN"):
        fit(SampleGrid(tmp_path), epochs=2, model=model)
    assert list(tmp_path.iterdir()) == [] and len(model.calls) == 2


def test_model_without_generate(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="needs a model with generate.*Received: Sequential"):
        fit(SampleGrid(tmp_path), model=model)


@pytest.mark.parametrize("option", [{"every": 0}, {"num_samples": 0}, {"every": 1.5}])
def test_bad_options(tmp_path, option):
    name, value = next(iter(option.items()))
    with pytest.raises(ValueError, match=f"{name} must be an integer ≥ 1. Received: {name}={value}"):
        SampleGrid(tmp_path, **option)


def test_tensorboard_gets_the_same_pictures(tmp_path):
    fit(SampleGrid(tmp_path / "png", every=1, tensorboard=tmp_path / "logs"), epochs=2)
    files = list((tmp_path / "logs" / "samples").iterdir())
    assert len(files) == 1 and "tfevents" in files[0].name
    content = files[0].read_bytes()
    for epoch in (1, 2):
        assert (tmp_path / "png" / f"epoch-000{epoch}.png").read_bytes() in content


def test_crc_of_the_standard():
    # RFC 3720, appendix B.4: CRC-32C of 32 zero bytes is 0x8A9136AA; masked as TFRecord does.
    from keras_diffusion.callbacks.event_file import _masked_crc

    crc = 0x8A9136AA
    expected = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert _masked_crc(bytes(32)) == expected.to_bytes(4, "little")


@pytest.mark.slow
def test_tensorflow_reads_the_event_file(tmp_path):
    tf = pytest.importorskip("tensorflow")
    events, image = EventFile(tmp_path), np.random.default_rng(0).integers(0, 256, (300, 200, 3), "uint8")
    events.image("samples", image, png_bytes(image), step=300)
    records = [
        tf.compat.v1.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(events.path))
    ]  # checks both checksums
    assert records[0].file_version == "brain.Event:2" and records[0].wall_time > 1.7e9
    value = records[1].summary.value[0]
    assert (records[1].step, value.tag, value.image.height, value.image.width, value.image.colorspace) == (
        300,
        "samples",
        300,
        200,
        3,
    )
    np.testing.assert_array_equal(tf.io.decode_png(value.image.encoded_image_string).numpy(), image)
