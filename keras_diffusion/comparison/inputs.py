"""The inputs of all backends: one folder, written once and read by a process per backend.

model/         the initial weights, as a preset
arrays.npz     train/…    x0 (latents, if there is an autoencoder), t, eps and conditions of all training steps
               sample/…   latents and conditions of the samples
               forward/…  one input of the network, to compare its layers
spec.json      the settings, and the optimizer's config

Everything random is drawn here, in NumPy: times (spread over each batch as in training), noise, and which conditions
are dropped. Backends draw different numbers for the same seed, so their own draws could not be compared.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_diffusion import samplers
from keras_diffusion.configs.checks import check_whole
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import check_seed, initial_noise
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.models.optimizers import portable_optimizer
from keras_diffusion.models.validation import SAMPLE_KEY, concat_channels_of, condition_keys_of, unpack_batch
from keras_diffusion.runtime.devices import run_batch
from keras_diffusion.runtime.files import atomic_path, write_json

KIND = "keras_diffusion comparison"
PROGRESS = "@progress "  # prefix of the lines of progress in a worker's output
_FORWARD_SAMPLES, _FORWARD_TIME = 2, 0.5
_CONTEXT_LENGTH = 4  # of random contexts


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is computed.

    Args:
        steps: training steps, ≥ 2: the first one compiles.
        batch_size: samples of a step, ≥ 1.
        num_samples: samples drawn, ≥ 1.
        num_steps: steps of sampling, ≥ 1.
        sampler: name of a sampler, or a dict with options.
        seed: int ≥ 0, of all random numbers.

    Raises:
        ValueError: numbers out of range, unknown samplers.
    """

    steps: int = 20
    batch_size: int = 16
    num_samples: int = 16
    num_steps: int = 20
    sampler: str | dict = "dpmpp_2m"
    seed: int = 0

    def __post_init__(self):
        for name, least in (("steps", 2), ("batch_size", 1), ("num_samples", 1), ("num_steps", 1)):
            check_whole(name, getattr(self, name), least)
        samplers.get(self.sampler)
        check_seed(self.seed)


def check_model(model):
    """Raises a ValueError unless all backends can build `model` from its config and train it on samples alone."""
    if type(model) is not DiffusionModel:
        raise ValueError(
            "Backends are compared on a plain DiffusionModel, which every process can build on its own. "
            f"Received: {type(model).__name__}. Compare a DiffusionModel of its network"
        )


def make_inputs(model, data, settings, optimizer=None, size=None):
    """Draws the inputs of all backends.

    Args:
        model: `DiffusionModel`.
        data: samples `(N, ...)`, a dict of arrays, "images" and the conditions "labels", "context" and "concat", or
            batches of these (`data.Batches`, a list …), repeated as often as needed; None: random numbers. An
            autoencoder encodes the data, here and once; random numbers are latents.
        settings: `Settings`.
        optimizer: `keras.Optimizer`, or None for Adam with a learning rate of 1e-3.
        size: of random samples, an int, for networks that take any size.

    Returns:
        (spec, arrays): the contents of spec.json and arrays.npz, dicts.

    Raises:
        ValueError: unsuitable models, data that do not fit the network, a missing `size`.
    """
    check_model(model)
    rng = np.random.default_rng([check_seed(settings.seed), 0])
    count = settings.steps * settings.batch_size
    keys = condition_keys_of(model.network)
    encoded = data is not None and model.autoencoder is not None
    rows = _random_data(model, count, size, rng) if data is None else first_rows(data, count)
    shape = (None,) * len(model.sample_shape) if encoded else model.sample_shape
    x0, conditions = unpack_batch(rows, shape, keys, getattr(model.network, "augmentation_dim", None))
    if encoded:
        x0 = _latents(model.autoencoder, ops.convert_to_numpy(x0), settings.batch_size)
    arrays = {
        **_named("train", _training(model, x0, conditions, settings.batch_size, rng)),
        **_named("sample", _sampling(model, x0, conditions, settings)),
        **_named("forward", _forward(model, x0, conditions, rng)),
    }
    spec = {
        "kind": KIND,
        "settings": dataclasses.asdict(settings),
        "optimizer": portable_optimizer(keras.saving.serialize_keras_object(optimizer or keras.optimizers.Adam(1e-3))),
        "sample_shape": list(x0.shape[1:]),
        "random_data": data is None,
    }
    return spec, arrays


def write_inputs(folder, model, spec, arrays):
    """Writes the folder that all backends read.

    Args:
        folder: `pathlib.Path`; created if missing.
        model: the `DiffusionModel` of `spec` and `arrays`.
        spec, arrays: from `make_inputs`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "spec.json", spec)
    model.save_to_preset(folder / "model", overwrite=True)
    with atomic_path(folder / "arrays.npz") as temporary:
        np.savez(temporary, **arrays)


def read_arrays(folder, group):
    """The arrays of a group in arrays.npz: "train", "sample" or "forward"; of a worker's, "layer"; a dict."""
    with np.load(folder / "arrays.npz") as arrays:
        return {name.partition("/")[2]: arrays[name] for name in arrays.files if name.startswith(f"{group}/")}


def first_rows(data, count):
    """The first `count` rows of arrays or batches, repeated if there are fewer; a dict of arrays."""
    batches = [data] if isinstance(data, dict) or hasattr(data, "shape") else data
    indexed = hasattr(batches, "__getitem__") and hasattr(batches, "__len__")
    parts, found = [], 0
    for batch in map(batches.__getitem__, range(len(batches))) if indexed else batches:
        batch = batch if isinstance(batch, dict) else {SAMPLE_KEY: batch}
        parts.append({key: np.asarray(value) for key, value in batch.items()})
        found += len(next(iter(parts[-1].values())))
        if found >= count:
            break
    if not found:
        raise ValueError("Training needs at least one sample. Received: no data")
    rows = np.arange(count) % found
    return {key: np.concatenate([part[key] for part in parts])[rows] for key in parts[0]}


def _random_data(model, count, size, rng):
    shape = model.sample_shape
    if None in shape:
        if size is None:
            raise ValueError(f"This network takes samples of any size: pass `size`, or data. Its sample shape: {shape}")
        shape = tuple(size if n is None else n for n in shape)
    keys, network = condition_keys_of(model.network), model.network
    rows = {SAMPLE_KEY: np.clip(0.5 * rng.standard_normal((count, *shape), dtype="float32"), -1.0, 1.0)}
    if "labels" in keys:
        rows["labels"] = rng.integers(0, network.num_classes, count)
    if "context" in keys:
        rows["context"] = rng.standard_normal((count, _CONTEXT_LENGTH, network.context_dim), dtype="float32")
    if "concat" in keys:
        channels = concat_channels_of(network)
        rows["concat"] = np.clip(0.5 * rng.standard_normal((count, *shape[:-1], channels), dtype="float32"), -1.0, 1.0)
    return rows


def _latents(autoencoder, samples, at_once):
    parts = [run_batch(autoencoder.encode, samples[i : i + at_once]) for i in range(0, len(samples), at_once)]
    return ops.convert_to_tensor(np.concatenate(parts), "float32")


def _training(model, x0, conditions, batch_size, rng):
    count = x0.shape[0]
    offset = np.repeat(rng.random(count // batch_size), batch_size)
    u = np.clip((offset + np.tile(np.arange(batch_size) / batch_size, count // batch_size)) % 1.0, 1e-6, 1.0 - 1e-6)
    t = model.time_distribution.quantile(ops.convert_to_tensor(u.astype("float32")), model.noise_schedule)
    eps = rng.standard_normal(tuple(x0.shape), dtype="float32")
    if conditions:
        shares = model.dropout_shares(conditions)
        drop = {key: ops.convert_to_tensor(rng.random(count) < share) for key, share in shares.items()}
        conditions = model.drop_conditions(conditions, **drop)
    return {"x0": x0, "t": t, "eps": eps, **conditions}


def _sampling(model, x0, conditions, settings):
    rows = np.arange(settings.num_samples)
    given = {key: ops.convert_to_numpy(value)[rows % len(value)] for key, value in conditions.items()}
    if "labels" in given:
        given["labels"] = (rows % model.num_classes).astype("int32")
    return {"latents": initial_noise(settings.seed, rows.tolist(), tuple(x0.shape[1:])), **given}


def _forward(model, x0, conditions, rng):
    x0, conditions = x0[:_FORWARD_SAMPLES], {key: value[:_FORWARD_SAMPLES] for key, value in conditions.items()}
    t = ops.full((x0.shape[0],), _FORWARD_TIME, "float32")
    eps = ops.convert_to_tensor(rng.standard_normal(tuple(x0.shape), dtype="float32"))
    return model.inputs_at(x0, Levels(t, *model.noise_schedule(t)), eps, conditions)


def _named(group, tensors):
    return {f"{group}/{name}": ops.convert_to_numpy(value) for name, value in tensors.items()}
