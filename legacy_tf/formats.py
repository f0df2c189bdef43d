"""One model in every format in which TensorFlow 2 and Keras 2 stored it.

| file | what it holds | written by |
|---|---|---|
| `ema_weights.h5` | weights of the average | `ema_network.save_weights` |
| `ema_model.h5` | the average with its architecture | `ema_network.save` |
| `ema_model.keras` | the same in the zip of the last Keras-2 versions | `ema_network.save` |
| `tf_checkpoint/` | network, average and optimizer | `model.save_weights` |
| `train_checkpoint/` | the average, as `model` | `tf.train.Checkpoint(model=…)` |
| `sharded_checkpoint/` | the average, its tensors in two files | `save_weights` and the ops below |
| `saved_model/` | the average; of a DDIM the whole model, with its normalizer | `save(…, save_format="tf")` |
"""

import shutil
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf


def write_all(model, folder):
    """Writes `model`, a `DiffusionModel` of this package, into `folder`, which is emptied first."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    network = model.ema_network

    network.save_weights(folder / "ema_weights.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # H5 is called legacy: so it is, and therefore it is wanted here
        network.save(folder / "ema_model.h5", include_optimizer=False)
    network.save(folder / "ema_model.keras")
    model.save_weights(folder / "tf_checkpoint" / "diffusion_model", save_format="tf")
    tf.train.Checkpoint(model=network).write(str(folder / "train_checkpoint" / "ckpt"))
    # Without traces the graph stays small: only the architecture and the weights are kept, not the compiled functions.
    whole = model if hasattr(model, "normalizer") else network
    whole.save(folder / "saved_model", save_format="tf", include_optimizer=False, save_traces=False)

    single = folder / "single" / "model"
    network.save_weights(single, save_format="tf")
    shard(str(single), str(folder / "sharded_checkpoint" / "model"))
    shutil.rmtree(single.parent)


def shard(source, target, shards=2):
    """Writes the TensorFlow checkpoint `source` again as `target`, with its tensors spread over several data files."""
    reader = tf.train.load_checkpoint(source)
    names = sorted(reader.get_variable_to_shape_map())
    parts = []
    for index in range(shards):
        chosen = names[index * len(names) // shards : (index + 1) * len(names) // shards]
        parts.append(f"{target}_part-{index}")
        tf.raw_ops.SaveV2(
            prefix=parts[-1],
            tensor_names=chosen,
            shape_and_slices=[""] * len(chosen),
            tensors=[tf.constant(reader.get_tensor(name)) for name in chosen],
        )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=target)


def write_samples(folder, **arrays):
    """Writes `samples.npz`: noise, and the images that the model makes of it by 20 DDIM steps."""
    np.savez_compressed(Path(folder) / "samples.npz", **arrays)
