"""Full-size files of KerasCV's Stable Diffusion, and their loading, in processes of their own.

python tests/keras_cv_full.py write diffusion_model FOLDER     KerasCV: weights file, inputs and outputs
python tests/keras_cv_full.py load diffusion_model FOLDER      this library: prints error, seconds and peak memory
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

CLASSES = {
    "diffusion_model": ("diffusion_model", "DiffusionModel"),
    "diffusion_model_2": ("diffusion_model", "DiffusionModelV2"),
    "text_encoder": ("text_encoder", "TextEncoder"),
    "text_encoder_2": ("text_encoder", "TextEncoderV2"),
    "image_encoder": ("image_encoder", "ImageEncoder"),
    "decoder": ("decoder", "Decoder"),
}
# 16×16 latents: at 8×8, the lowest level would be a single position, whose attention to itself says nothing.
_ARGUMENTS = {
    "diffusion_model": (128, 128, 77),
    "diffusion_model_2": (128, 128, 77),
    "text_encoder": (77,),
    "text_encoder_2": (77,),
}


def values(shape, name, rng):
    """Random weights, repeated in blocks: drawing a billion would take longer than the rest."""
    block = rng.standard_normal(min(int(np.prod(shape)), 1 << 20), dtype="float32")
    if len(shape) == 1:
        return 0.1 * block + ("gamma" in name)
    return np.resize(block, shape) * np.float32(0.5 if "embedd" in name else np.prod(shape[:-1]) ** -0.5)


def write(component, folder):
    """Builds KerasCV's model, gives it random weights, writes them in the layout of Keras 2, with inputs
    and outputs.
    """
    import importlib

    import h5py
    import keras
    from keras_cv_models import call, timestep_embedding

    module, name = CLASSES[component]
    module = importlib.import_module(f"keras_cv.src.models.stable_diffusion.{module}")
    keras.initializers.GlorotUniform.__call__ = lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype)
    arguments = _ARGUMENTS.get(component, (64, 64) if component == "decoder" else ())
    model = getattr(module, name)(*arguments, download_weights=False)
    rng = np.random.default_rng(0)
    with h5py.File(folder / f"{component}.h5", "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.12.0"
        for layer in model.layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [f"{weight.path}:0".encode() for weight in layer.weights]
            for weight in layer.weights:
                value = values(weight.shape, weight.path, rng)
                weight.assign(value)
                group[f"{weight.path}:0"] = value
    if component.startswith("diffusion_model"):
        x, timesteps = rng.standard_normal((2, 16, 16, 4), dtype="float32"), np.array([981.0, 21.0], "float32")
        context = rng.standard_normal((2, 77, 1024 if component.endswith("2") else 768), dtype="float32")
        embedding = np.stack([timestep_embedding(t, 320) for t in timesteps]).astype("float32")
        inputs, outputs = {"x": x, "noise_level": timesteps, "context": context}, call(model, x, embedding, context)
    elif component.startswith("text_encoder"):
        tokens = rng.integers(0, 49408, (2, 77)).astype("int32")
        inputs, outputs = {"tokens": tokens}, call(model, tokens, np.arange(77, dtype="int32")[None].repeat(2, 0))
    else:
        x = rng.standard_normal((1, 64, 64, 3) if component == "image_encoder" else (1, 8, 8, 4), dtype="float32")
        inputs, outputs = {"x": x}, call(model, x)
    np.savez(folder / f"{component}.npz", outputs=outputs, **inputs)


def load(component, folder):
    """Loads the file; the peak memory is that of the process when the weights are in place."""
    from keras import ops

    from keras_diffusion import checkpoints

    path, stored = folder / f"{component}.h5", dict(np.load(folder / f"{component}.npz"))
    start = time.perf_counter()
    network = checkpoints.load(path, verbose=1).network
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    expected = stored.pop("outputs")
    function = {"image_encoder": "encode", "decoder": "decode"}.get(component, "__call__")
    outputs = ops.convert_to_numpy(
        getattr(network, function)(stored if len(stored) > 1 else next(iter(stored.values())))
    )
    error = float(np.abs(outputs - expected).max() / np.abs(expected).max())
    print(
        json.dumps(
            {"error": error, "seconds": seconds, "memory": peak / path.stat().st_size, "spread": float(expected.std())}
        )
    )


if __name__ == "__main__":
    {"write": write, "load": load}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
