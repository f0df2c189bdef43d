"""Training and sampling on one device and on eight virtual ones, in one process; writes what came out as JSON.

Run by test_many_devices.py.
"""

import json
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["KERAS_BACKEND"] = "jax"

import jax

jax.config.update("jax_disable_most_optimizations", True)

import keras
import numpy as np

import keras_diffusion as kd

LEARNING_RATE = 1e-2
rng = np.random.default_rng(0)
IMAGES = {"images": rng.uniform(-1, 1, (48, 4, 4, 2)).astype("float32"), "labels": (np.arange(48) % 3).astype("int32")}
NETWORKS = {
    "dit": lambda: kd.networks.NETWORKS.get(
        {
            "name": "dit",
            "input_shape": (4, 4, 2),
            "patch_size": 2,
            "emb_features": 16,
            "num_layers": 1,
            "num_heads": 2,
            "num_classes": 3,
        }
    ),
    "unet": lambda: kd.networks.UNet(
        (4, 4, 2), widths=(8,), attention=(True,), num_classes=3, num_res_blocks=1, num_heads=2
    ),
}
found = {}


class Losses(keras.callbacks.Callback):
    """The loss after every batch."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(logs["loss"]))


def train(network, specification, accumulate=None, epochs=2):
    """(model, losses) of a short training."""
    keras.distribution.set_distribution(specification and kd.distribution.make(specification))
    keras.utils.set_random_seed(0)
    model = kd.DiffusionModel(NETWORKS[network](), seed=0, ema=0.9)
    model.compile(keras.optimizers.Adam(LEARNING_RATE, gradient_accumulation_steps=accumulate))
    losses = Losses()
    model.fit(kd.data.Batches(IMAGES, 16, seed=0), epochs=epochs, verbose=0, callbacks=[losses])
    return model, np.array(losses.values)


def gap(a, b):
    """The largest difference of two trees of arrays."""
    pairs = zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True)
    return max(float(np.abs(np.asarray(p, "float64") - np.asarray(q, "float64")).max()) for p, q in pairs)


def weights(model):
    return [np.asarray(variable.value) for variable in model.variables]


def compare(network, one, specification, **options):
    """Trains on several devices as `one` was trained on one, notes how far apart they are, returns the model."""
    many, losses = train(network, specification, **options)
    found[f"{network} {specification}"] = {"loss": gap(losses, one[1]), "weights": gap(weights(many), weights(one[0]))}
    return many


def draw(model, **options):
    return model.generate(conditions={"labels": np.arange(options["num_samples"]) % 3}, seed=3, verbose=0, **options)


def sample(one, many):
    """Samples of two models with the same weights, on one device and on several."""
    many.set_weights(one.get_weights())
    distribution = keras.distribution.distribution()
    init = rng.uniform(-1, 1, (5, 4, 4, 2)).astype("float32")
    cases = {
        "eight, guided, stochastic": {"num_samples": 8, "num_steps": 3, "sampler": "ddpm", "guidance_scale": 2.0},
        "five, in all steps": {"num_samples": 5, "num_steps": 3, "trajectory": True},
        "five, inpainting": {
            "num_samples": 5,
            "num_steps": 2,
            "init": init,
            "mask": np.eye(4)[..., None],
            "strength": 0.8,
        },
        "five, adaptive": {"num_samples": 5, "sampler": "dpm_adaptive"},
    }
    seen = []
    for name, options in cases.items():
        keras.distribution.set_distribution(None)
        alone = draw(one, **options)
        keras.distribution.set_distribution(distribution)
        found[name] = gap(draw(many, **options), alone)
    draw(many, num_samples=5, num_steps=2, on_step=lambda step: seen.append(step.x.shape))
    found["hook"] = seen
    keras.distribution.set_distribution(None)
    alone = one.log_likelihood(
        init, {"labels": [0, 1, 2, 0, 1]}, num_steps=2, method="euler", divergence="hutchinson", seed=0
    )
    keras.distribution.set_distribution(distribution)
    together = many.log_likelihood(
        init, {"labels": [0, 1, 2, 0, 1]}, num_steps=2, method="euler", divergence="hutchinson", seed=0
    )
    found["log-likelihood"] = gap(alone, together)


def watch_placement(model):
    """How x lies on the devices when it comes out of the compiled loop."""
    from keras_diffusion.runtime.devices import BatchPlacement

    shardings, original = [], BatchPlacement.to_host
    BatchPlacement.to_host = lambda self, tensor, axis=0: (
        shardings.append(tensor.sharding) or original(self, tensor, axis)
    )
    draw(model, num_samples=16, num_steps=3, trajectory=True)
    BatchPlacement.to_host = original
    found["x"], found["trajectory"] = ([str(s.spec), len(s.device_set)] for s in shardings)


def message(function, *args, **options):
    try:
        function(*args, **options)
    except ValueError as error:
        return str(error)
    return "no error"


def errors(model):
    few = {key: value[:20] for key, value in IMAGES.items()}
    found["error, arrays"] = message(model.evaluate, few, batch_size=16, verbose=0)
    found["error, batches"] = message(model.fit, kd.data.Batches(few, 16, drop_remainder=False), verbose=0)
    found["error, stream"] = message(
        model.evaluate, (({k: v[:9] for k, v in few.items()},) for _ in range(1)), verbose=0, steps=1
    )
    found["error, count"] = message(kd.distribution.make, "data=16")


def axes_of(model):
    """The spec of each weight that is split, in network, average and optimizer."""
    groups = (model.network.weights, model.average.network.weights, model.optimizer.variables)
    return [
        {v.path: [str(a) for a in v.value.sharding.spec] for v in group if any(v.value.sharding.spec)}
        for group in groups
    ]


def resume(folder, one):
    """An epoch on 4 × 2 devices, then one on eight from its state, against two on one device."""
    losses = []
    for specification, epochs in (("data=4,model=2", 1), ("data=8", 2)):
        keras.distribution.set_distribution(kd.distribution.make(specification))
        keras.utils.set_random_seed(0)
        model = kd.DiffusionModel(NETWORKS["dit"](), seed=0, ema=0.9)
        model.compile(keras.optimizers.Adam(LEARNING_RATE, gradient_accumulation_steps=2))
        data, callback = kd.data.Batches(IMAGES, 16, seed=0), Losses()
        state = kd.callbacks.Resume(folder, data=data)
        model.fit(data, epochs=epochs, verbose=0, callbacks=[state, callback])
        losses += callback.values
    found["resumed"] = gap(np.array(losses), one[1])


def main(out):
    one = train("dit", None, accumulate=2)
    eight = compare("dit", one, "data=8", accumulate=2)
    sample(one[0], eight)
    watch_placement(eight)
    errors(eight)
    split = compare("dit", one, "data=4,model=2", accumulate=2)
    network, average, optimizer = axes_of(split)
    found["split"] = network
    found["average like network"] = network == average
    found["split in the optimizer"] = len(optimizer)
    split.set_weights(one[0].get_weights())
    found["sampled from split weights"] = gap(
        draw(split, num_samples=6, num_steps=2), draw(one[0], num_samples=6, num_steps=2)
    )
    resume(os.path.join(os.path.dirname(out), "state"), one)
    compare("unet", train("unet", None, epochs=1), "data=4,model=2", epochs=1)
    with open(out, "w") as file:
        json.dump(found, file, indent=1)


main(sys.argv[1])
