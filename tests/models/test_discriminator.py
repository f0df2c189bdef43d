"""An autoencoder against a discriminator: gradients, start, two optimizers in one step, resuming, files."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from test_autoencoder_model import PICTURES, Small, make, same, stable_diffusions

import keras_diffusion as kd
from keras_diffusion.core.autodiff import pullback
from keras_diffusion.training.adversarial import Adversary, inputs_of, last_layer

PATCH = {"name": "patch", "widths": (8,)}


def arrays(layer):
    return [ops.convert_to_numpy(weight).copy() for weight in layer.weights]


def opposed(start=0, **options):
    return make(discriminator=PATCH, discriminator_start=start, **options)


def linear_critic():
    """D(x) = 3·mean(x) at each of two halves of a picture, with a weight to learn."""
    critic = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.AveragePooling2D((2, 4)), keras.layers.Dense(1, use_bias=False)]
    )
    critic.layers[-1].set_weights([np.full((1, 1), 3.0, "float32")])
    return critic


def test_losses_and_gradients_are_those_of_the_formulas():
    """Against derivatives by hand: D(x̂) = 3·mean of a half, so that all of it has a closed form."""
    rng = np.random.default_rng(0)
    x, made, features = rng.normal(size=(3, 2, 4, 4, 1))
    last = keras.layers.Conv2D(1, 1)
    last.build((None, 4, 4, 1))
    adversary = Adversary(linear_critic(), weight=0.5)
    x, made, features, weights = (ops.convert_to_tensor(v.astype("float32")) for v in (x, made, features, np.ones(2)))

    def error(pictures):
        return ops.mean(ops.square(pictures - x))

    def term(pictures):
        return adversary.opposition(pictures, x, weights, error, (last, features)), ()

    value, _, derivative = pullback(term, made)
    gradient = ops.convert_to_numpy(derivative(ops.ones_like(value)))
    x, made, features = (ops.convert_to_numpy(v).astype("float64") for v in (x, made, features))
    # mean D(x̂) = 3·mean(x̂), whose derivative is 3/32 at each of the 32 numbers; L2's is (x̂ − x)/16.
    wish, rebuilt = np.full(made.shape, -3 / 32), (made - x) / 16
    ratio = abs((rebuilt * features).sum()) / (abs((wish * features).sum()) + 1e-6)  # W is one number: ∂x̂/∂W = h
    np.testing.assert_allclose(gradient, 0.5 * ratio * wish, rtol=1e-4)
    logs = {name: float(ops.convert_to_numpy(mean.result())) for name, mean in adversary.means.items()}
    real, fake = (3 * v.reshape(2, 2, 8).mean(axis=2) for v in (x, made))
    hinge = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    expected = {
        "discriminator_loss": hinge,
        "generator_loss": -fake.mean(),
        "discriminator_accuracy": 0.5 * ((real > 0).mean() + (fake < 0).mean()),
        "adaptive_weight": ratio,
    }
    assert float(ops.convert_to_numpy(value)) == 0.0
    assert logs == pytest.approx(expected, rel=1e-4)


def test_the_discriminator_follows_its_own_loss():
    model = opposed(ema=None, discriminator_optimizer={"name": "adam", "learning_rate": 1e-2})
    critic = model.adversary.discriminator
    made = model.reconstruct(PICTURES)

    def hinge():
        real, fake = (ops.convert_to_numpy(critic(images)) for images in (PICTURES, made))
        return np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()

    before = hinge()
    model.optimizer.learning_rate = 0.0  # the autoencoder stays
    logs = model.fit(PICTURES, batch_size=16, epochs=12, verbose=0).history
    assert hinge() < 0.7 * before and logs["discriminator_accuracy"][-1] > 0.9 > logs["discriminator_accuracy"][0]


def test_before_its_start_nothing_changes():
    plain, waiting = make(ema=None), opposed(start=4, ema=None)
    critic = arrays(waiting.adversary.discriminator)
    logs = [model.fit(PICTURES, batch_size=8, epochs=2, verbose=0, shuffle=False) for model in (plain, waiting)]
    for a, b in zip(arrays(plain.autoencoder), arrays(waiting.autoencoder), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(logs[0].history["loss"], logs[1].history["loss"], atol=1e-6)
    for a, b in zip(critic, arrays(waiting.adversary.discriminator), strict=True):
        np.testing.assert_array_equal(a, b)
    steps = waiting.optimizer.parts.discriminator.iterations
    assert int(ops.convert_to_numpy(steps)) == 0 and logs[1].history["adaptive_weight"] == [0.0, 0.0]
    logs = [model.fit(PICTURES, batch_size=8, verbose=0, shuffle=False) for model in (plain, waiting)]
    assert int(ops.convert_to_numpy(steps)) == 2 and logs[1].history["adaptive_weight"][0] > 0
    assert not same(plain.autoencoder, waiting.autoencoder)
    moved = zip(critic, arrays(waiting.adversary.discriminator), strict=True)
    assert not all(np.array_equal(a, b) for a, b in moved)


def test_interrupted_training_continues_exactly(tmp_path):
    def batches():
        return kd.data.Batches(PICTURES, batch_size=8, seed=5, drop_remainder=True)

    whole = opposed(start=3, seed=1)
    losses = whole.fit(batches(), epochs=4, verbose=0).history
    first, read = opposed(start=3, seed=1), batches()
    first.fit(read, epochs=2, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path, data=read)])
    second, read = opposed(start=3, seed=2), batches()
    rest = second.fit(read, epochs=4, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path, data=read)]).history
    for name in ("loss", "discriminator_loss", "adaptive_weight"):
        np.testing.assert_array_equal(losses[name][2:], rest[name])
    assert same(whole, second)
    for a, b in zip(whole.optimizer.variables, second.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


def test_a_state_tree_holds_both_optimizers():
    model, other = (opposed(autoencoder=stable_diffusions(), seed=seed) for seed in (0, 3))
    rng = np.random.default_rng(0)
    for each in (model, other):
        each.optimizer.build(each.trainable_variables)
        for variable in each.optimizer.variables:
            variable.assign(rng.integers(1, 99, variable.shape).astype("float32"))
    other.set_state_tree(model.get_state_tree("numpy_array"))
    for a, b in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    assert same(model, other)


def test_files_of_finished_models_know_no_discriminator(tmp_path):
    model = opposed()
    model.fit(PICTURES, batch_size=8, verbose=0)
    before = arrays(model)
    model.save_to_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    with kd.containers.open_container(tmp_path / "preset" / "model.weights.h5") as container:
        assert not [name for name in container.tensors if "advers" in name or "discriminator" in name]
    assert "discriminator" not in json.dumps(json.loads((tmp_path / "preset" / "config.json").read_text()))
    for loaded in (
        kd.AutoencoderModel.from_preset(tmp_path / "preset", custom_objects={"tests>Small": Small}),
        keras.saving.load_model(tmp_path / "model.keras"),
    ):
        assert loaded.adversary is None and same(model.autoencoder, loaded.autoencoder)
    own = model.optimizer.parts.model.variables
    for a, b in zip(own, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    assert all(np.array_equal(a, b) for a, b in zip(before, arrays(model), strict=True))
    model.fit(PICTURES, batch_size=8, verbose=0)  # goes on against the discriminator
    assert int(ops.convert_to_numpy(model.adversary.num_steps)) == 4


def test_a_model_that_was_never_compiled_is_saved(tmp_path):
    for name, discriminator in (("with", "patch"), ("without", None)):
        kd.AutoencoderModel(Small(), discriminator=discriminator).save_to_preset(tmp_path / name)
        assert kd.AutoencoderModel.from_preset(tmp_path / name, custom_objects={"tests>Small": Small}).adversary is None


@pytest.mark.slow
def test_accumulated_gradients_move_both_together():
    model = opposed(ema=None)
    model.compile(keras.optimizers.SGD(1e-2, gradient_accumulation_steps=2))
    parts = (model.autoencoder, model.adversary.discriminator)
    before = [arrays(part) for part in parts]
    model.train_on_batch(PICTURES[:8])
    assert all(np.array_equal(a, b) for old, part in zip(before, parts) for a, b in zip(old, arrays(part)))
    model.train_on_batch(PICTURES[8:])
    for old, part in zip(before, parts):
        assert not all(np.array_equal(a, b) for a, b in zip(old, arrays(part)))


def test_codes_mixed_precision_weights_and_another_discriminator():
    autoencoder = kd.networks.AutoencoderKL(
        widths=(4, 4), num_res_blocks=1, latent_channels=3, attention=False, dtype="mixed_bfloat16"
    )
    model = make(kd.layers.FSQBottleneck((5, 4, 3)), autoencoder=autoencoder, discriminator=PATCH)
    assert model.adversary.discriminator.dtype_policy.name == "mixed_bfloat16"
    data = {"images": PICTURES, "sample_weight": np.linspace(0, 1, 16).astype("float32")}
    logs = model.fit(data, batch_size=8, validation_data=PICTURES[:8], verbose=0).history
    assert np.isfinite(logs["discriminator_loss"]).all() and logs["adaptive_weight"][0] > 0
    assert np.isfinite(logs["val_generator_loss"]).all()
    critic = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    fixed = make(discriminator=critic, adaptive_weight=False)
    logs = fixed.fit(PICTURES, batch_size=16, verbose=0).history
    assert "adaptive_weight" not in logs and np.isfinite(logs["discriminator_loss"]).all()


def test_the_last_layer_is_the_one_that_makes_the_pictures():
    autoencoder = kd.networks.AutoencoderKL(widths=(4, 4), num_res_blocks=1, latent_channels=3, attention=False)
    layer = last_layer(kd.networks.QuantizedAutoencoder(autoencoder, kd.layers.FSQBottleneck((3, 3, 3))))
    with inputs_of(layer) as found:
        pictures = autoencoder.decode(np.ones((1, 4, 4, 3), "float32"))
    assert layer.name == "conv_out" and "call" not in vars(layer)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(found[0])), ops.convert_to_numpy(pictures), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discriminator": "patches"}, "Unknown discriminator.*Did you mean 'patch'"),
        ({"discriminator": PATCH, "discriminator_weight": 0}, "`discriminator_weight` must be"),
        ({"discriminator": PATCH, "discriminator_start": -1}, "counts training steps before"),
        ({"discriminator": PATCH, "discriminator_optimizer": "sdg"}, "Did you mean 'sgd'"),
        ({"discriminator": PATCH, "discriminator_optimizer": {"name": "adam", "rate": 1}}, "cannot be made.*rate"),
        (
            {"discriminator": PATCH, "discriminator_optimizer": {"name": "adam", "learning_rate": float("nan")}},
            "`learning_rate` .*Received: learning_rate=nan",
        ),
        ({"discriminator": {"name": "patch", "widths": (8, 8, 8)}}, "at least 16×16"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options).train_on_batch(PICTURES[:2])


def test_what_does_not_go_with_a_discriminator():
    model = make(discriminator=PATCH)
    with pytest.raises(ValueError, match="without loss scaling.*mixed_bfloat16"):
        model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()))

    class Plain(Small):
        def __init__(self, **options):
            super().__init__(**options)
            self.decode, self.decoder = self.decoder, None

    with pytest.raises(ValueError, match="Pass adaptive_weight=False"):
        make(autoencoder=Plain(), discriminator=PATCH)
