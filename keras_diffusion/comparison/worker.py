"""The measurements of one process: `KERAS_BACKEND=torch python -m keras_diffusion.comparison.worker INPUTS OUT`.

1. samples: the first call compiles, the next ones are timed
2. training: `fit` on the given batches; a step lasts from the end of one to the end of the next, reading data included
3. memory: the peak so far
4. layers: one forward pass with the initial weights, in float32, that keeps every layer's output

It writes result.json and arrays.npz to the folder OUT, and lines of progress to stdout, which the parent process shows.
"""

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

import keras_diffusion.networks  # their classes must be known before a model can be built  # noqa: F401
from keras_diffusion.comparison.activations import activations
from keras_diffusion.comparison.given_noise import GivenNoiseModel
from keras_diffusion.comparison.inputs import PROGRESS, read_arrays
from keras_diffusion.configs.file_configs import build_from_file
from keras_diffusion.runtime.files import atomic_path, write_json
from keras_diffusion.runtime.hardware import devices, package_version, peak_memory

_TIMED_CALLS = 3  # of sampling, after the one that compiles
_KEPT = 2**16  # values of a layer's output, chosen at random if there are more


def measure(inputs, out, custom_objects=None):
    """Runs everything on the backend of this process.

    Args:
        inputs: folder of `write_inputs`.
        out: folder for `result.json` and `arrays.npz`; created if missing.
        custom_objects: classes of the model from outside this library, as in `DiffusionModel.from_preset`. Default:
            none.
    """
    backend = keras.backend.backend()
    spec = json.loads((inputs / "spec.json").read_text(encoding="utf-8"))
    result = {
        "devices": devices(),
        "versions": {"keras": keras.__version__, backend: package_version(backend)},
        "memory": {"before": peak_memory()["bytes"]},
    }
    _say("loading")
    model = GivenNoiseModel.read(inputs / "model", custom_objects)
    start_weights = model.network.get_weights()
    result["sampling"], samples = _sample(model, inputs, spec["settings"])
    result["training"] = _train(model, inputs, spec)
    result["memory"].update(peak_memory())
    _say("layers")
    network = in_float32(model.network)
    network.set_weights(start_weights)
    outputs = activations(network, read_arrays(inputs, "forward"))
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "arrays.npz") as temporary:
        np.savez(temporary, samples=samples, **{f"layer/{name}": _some(values) for name, values in outputs.items()})
    write_json(out / "result.json", result)


def _sample(model, inputs, settings):
    given = read_arrays(inputs, "sample")
    latents = given.pop("latents")
    options = {"verbose": 0, **{key: settings[key] for key in ("num_steps", "sampler", "seed")}}
    seconds = []
    for call in range(1 + _TIMED_CALLS):
        _say("sampling", call, 1 + _TIMED_CALLS)
        start = time.perf_counter()
        samples = model.generate(len(latents), given or None, latents=latents, **options)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}, samples


def _train(model, inputs, spec):
    settings = spec["settings"]
    model.compile(build_from_file(spec["optimizer"]))
    clock = _Clock(settings["steps"])
    model.fit(
        read_arrays(inputs, "train"), batch_size=settings["batch_size"], shuffle=False, verbose=0, callbacks=[clock]
    )
    return {"seconds": clock.seconds, "losses": clock.losses}


class _Clock(keras.callbacks.Callback):
    """Records the loss of every step, and the time since the last; reading the loss waits for the device."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.seconds, self.losses = steps, [], []

    def on_train_begin(self, logs=None):
        self._last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["step_loss"]))
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        _say("training", batch + 1, self.steps)
        self._last = time.perf_counter()


def in_float32(network):
    """The network itself, or a float32 copy if some of it computes in another type."""
    if all(layer.compute_dtype == "float32" for layer in network._flatten_layers()):
        return network
    return type(network).from_config({**network.get_config(), "dtype": "float32"})


def _some(values):
    values = values.reshape(-1)
    if values.size <= _KEPT:
        return values
    return values[np.random.default_rng(values.size).integers(0, values.size, _KEPT)]


def _say(phase, done=0, total=0):
    sys.stdout.write(f"{PROGRESS}{json.dumps({'phase': phase, 'done': done, 'total': total})}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    measure(Path(sys.argv[1]), Path(sys.argv[2]))
