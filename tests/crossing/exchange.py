"""One side of the comparison of backends; run by test_crossing.py in a process per backend.

`python exchange.py write FOLDER` saves networks and a trained model, with what they compute; with `parts` as a further
argument, every other exported object too. `python exchange.py read FOLDER [parts]` loads and compares.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

import keras_diffusion as kd
from keras_diffusion.predictors import PREDICTORS
from keras_diffusion.schedulers import SCHEDULES, SPACINGS
from keras_diffusion.training.loss_weighting import LOSS_WEIGHTINGS
from keras_diffusion.training.time_distribution import TIME_DISTRIBUTIONS

RNG = np.random.default_rng(0)
T = np.linspace(0.02, 0.98, 25).astype("float32")
X, Y = (RNG.standard_normal((25, 4, 3)).astype("float32") for _ in range(2))
MIXTURE = kd.denoisers.MixtureDenoiser([0.4, 0.6], [[-1.0, 0.5], [0.7, -0.2]], [0.3, 0.2])
POINTS = RNG.standard_normal((6, 2)).astype("float32")
NOISE = RNG.standard_normal((16, 3, 6, 2)).astype("float32")


def parts():
    """name → (object, function of the object to a list of arrays): everything whose config is enough to
    make it again.
    """
    cosine = kd.schedulers.get("cosine")
    alpha, sigma = cosine.levels(T)[1:]
    made = {}
    for name in SCHEDULES.names():
        schedule = kd.schedulers.get(name, **({"betas": [0.1, 0.2, 0.3, 0.5]} if name == "discrete" else {}))
        made[f"schedule {name}"] = (
            schedule,
            lambda s: [*s(T), s.time(ops.convert_to_tensor(np.linspace(-5, 5, 9, dtype="float32")))],
        )
    for name in PREDICTORS.names():
        made[f"predictor {name}"] = (
            kd.predictors.get(name),
            lambda p: [*p.split(Y, X, alpha, sigma), p.target(X, Y, alpha, sigma)],
        )
    for name in SPACINGS.names():
        made[f"spacing {name}"] = (kd.schedulers.get_spacing(name), lambda s: [s(cosine, 10)])
    for name in TIME_DISTRIBUTIONS.names():
        made[f"times {name}"] = (
            kd.training.get_time_distribution(name),
            lambda d: [d.quantile(ops.convert_to_tensor(T), cosine)],
        )
    for name in set(LOSS_WEIGHTINGS.names()) - {"none"}:
        log_snr = ops.convert_to_tensor(np.linspace(-8, 8, 9, dtype="float32"))
        made[f"weighting {name}"] = (kd.training.get_loss_weighting(name), lambda w, log_snr=log_snr: [w(log_snr)])
    levels = cosine.levels(np.linspace(0.98, 0.0, 8))
    for name in kd.samplers.SAMPLERS.names():
        made[f"sampler {name}"] = (
            kd.samplers.get(name),
            lambda s: list(
                s.sample(levels.sigma[0] * POINTS, MIXTURE, levels, noise_for(s, levels), cosine, trajectory=True)
            ),
        )
    made["denoiser mixture"] = (MIXTURE, lambda d: list(d(POINTS, cosine.levels(0.5))))
    return made


def noise_for(sampler, levels):
    """As many rows of noise as the sampler's table has."""
    return NOISE[: sampler.step_ends(sampler.check(levels))[-1] + 1]


def networks():
    """name → network, and the inputs it takes."""
    small = {"widths": (8, 16), "num_res_blocks": 1, "zero_init": False}
    return {
        "mlp": kd.networks.MLP((2,), width=16, depth=2, num_classes=3),
        "unet": kd.networks.UNet((8, 12, 3), num_classes=3, context_dim=5, attention=True, num_heads=2, **small),
        "unet-1d": kd.networks.UNet(
            (16, 2), norm="rms", time_embedding="sinusoidal", time_injection="scale_shift", **small
        ),
    }


def network_inputs(network):
    rng = np.random.default_rng(1)
    inputs = {"x": rng.standard_normal((3, *network.sample_shape)), "noise_level": np.array([-1.0, 0.0, 1.0])}
    if "labels" in network.condition_keys:
        inputs["labels"] = np.array([0, 1, 3])
    if "context" in network.condition_keys:
        inputs["context"] = rng.standard_normal((3, 4, network.context_dim))
    return {key: value.astype("int32" if key == "labels" else "float32") for key, value in inputs.items()}


def arrays(values):
    return [np.asarray(ops.convert_to_numpy(v), "float64") for v in values]


def model_samples(model):
    """Stochastic samples: noise inside the loop is the same on every backend, too."""
    return arrays(
        [
            model.generate(conditions={"labels": [0, 1, 2]}, num_steps=5, sampler=s, seed=3, guidance_scale=2.0)
            for s in ("ddpm", "heun")
        ]
    )


def first_weights():
    """name → weights that a network starts with; of one seed, the same on every backend."""
    keras.utils.set_random_seed(7)
    return {f"first weights {name}": arrays(network.trainable_weights) for name, network in networks().items()}


def write_parts(folder):
    configs, results = {}, first_weights()
    for name, (part, compute) in parts().items():
        configs[name] = keras.saving.serialize_keras_object(part)
        results[name] = arrays(compute(part))
    (folder / "configs.json").write_text(json.dumps(configs))
    save_results(folder / "parts.npz", results)


def write_models(folder):
    results = {}
    for name, network in networks().items():
        network.save(folder / f"{name}.keras")
        results[f"network {name}"] = arrays([network(network_inputs(network))])
    model = kd.DiffusionModel(networks()["mlp"], seed=0, ema=0.9)
    model.compile("adam")
    rng = np.random.default_rng(2)
    data = {"images": rng.standard_normal((32, 2)).astype("float32"), "labels": rng.integers(0, 3, 32).astype("int32")}
    model.fit(data, epochs=3, verbose=0)
    model.save(folder / "model.keras")
    results["model"] = model_samples(model)
    save_results(folder / "models.npz", results)


def save_results(path, results):
    np.savez(path, **{f"{name}/{i}": a for name, values in results.items() for i, a in enumerate(values)})


def comparison(path, worst):
    """A function that compares values with those of the file and notes the largest difference in `worst`."""
    expected = np.load(path)

    def compare(name, values, tolerance):
        for i, value in enumerate(arrays(values)):
            want = expected[f"{name}/{i}"]
            error = np.max(np.abs(value - want)) / max(1.0, np.max(np.abs(want)))
            worst[name] = max(error, worst.get(name, 0.0))
            assert error <= tolerance, f"{name}, output {i}: relative difference {error:.2e} > {tolerance:.0e}"

    return compare


def read_parts(folder, worst):
    compare = comparison(folder / "parts.npz", worst)
    for name, weights in first_weights().items():
        compare(name, weights, 0.0)
    configs = json.loads((folder / "configs.json").read_text())
    for name, (_, compute) in parts().items():
        # An adaptive sampler's step lengths amplify rounding: its first errors are little else.
        compare(
            name, compute(keras.saving.deserialize_keras_object(configs[name])), 1e-3 if "adaptive" in name else 1e-5
        )


def read_models(folder, worst):
    compare = comparison(folder / "models.npz", worst)
    for name in networks():
        network = keras.saving.load_model(folder / f"{name}.keras")
        compare(f"network {name}", [network(network_inputs(network))], 1e-5 if name == "mlp" else 1e-4)
    model = keras.saving.load_model(folder / "model.keras")
    compare("model", model_samples(model), 1e-4)
    batch = {"images": np.zeros((8, 2), "float32"), "labels": np.zeros(8, "int32")}
    assert np.isfinite(model.fit(batch, verbose=0).history["loss"]).all()  # the optimizer came along


def write(folder, others):
    if others:
        write_parts(folder)
    write_models(folder)


def read(folder, others):
    worst = {}
    if others:
        read_parts(folder, worst)
    read_models(folder, worst)
    print(f"{len(worst)} objects agree; largest difference {max(worst.values()):.1e} ({max(worst, key=worst.get)})")


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]), others=sys.argv[3:] == ["parts"])
