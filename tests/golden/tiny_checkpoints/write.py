"""Writes the files beside this one: one small model in every container. Needs tensorflow and tf_keras.

Run with `keras2` (tf_keras) or `keras3` (Keras 3 on JAX) as argument.
"""

import os
import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def seeded(shapes):
    """Arrays of multiples of 1/64, the same for every run."""
    generator = np.random.default_rng(0)
    return [np.round(generator.normal(size=shape) * 64) / 64 for shape in shapes]


def write_keras2():
    import tensorflow as tf
    import tf_keras as keras

    @keras.utils.register_keras_serializable("tiny")
    class Pair(keras.layers.Layer):
        """A layer with layers in it."""

        def __init__(self, **options):
            super().__init__(**options)
            self.value, self.query = keras.layers.Dense(3), keras.layers.Dense(3, use_bias=False)

        def call(self, x):
            return self.value(x) + self.query(x)

    def network(name):
        image = keras.Input((4, 4, 2))
        x = keras.layers.Lambda(lambda x: 2.0 * x)(image)
        skip = keras.layers.Conv2D(3, 1)(x)
        x = keras.layers.Conv2D(3, 3, padding="same")(x)
        x = keras.layers.BatchNormalization(scale=False)(x)
        x = Pair()(x)
        model = keras.Model(image, keras.layers.Add()([skip, x]), name=name)
        model.set_weights([array + (name == "ema_network") for array in seeded(w.shape for w in model.weights)])
        return model

    model = network("network")
    model.compile("adam", "mse")
    model.save(HERE / "model.h5")
    model.save(HERE / "model.keras")
    model.save_weights(HERE / "weights.h5")
    np.savez_compressed(HERE / "weights.npz", **{w.name.removesuffix(":0"): w.numpy() for w in model.weights})

    class Two(keras.Model):
        """A model of two networks, as in the DDIM example."""

        def __init__(self):
            super().__init__()
            self.network, self.ema_network = network("network"), network("ema_network")

        def call(self, x):
            return self.network(x) + self.ema_network(x)

    two = Two()
    two.compile("adam")
    two(tf.zeros((1, 4, 4, 2)))
    two.save_weights(HERE / "checkpoint" / "two")
    two.save(HERE / "saved_model")
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(net=network("network"), step=tf.Variable(7)), HERE / "manager", 1
    )
    manager.save()

    values = {
        "bfloat16": tf.constant([1.0, -0.375, 3e38], tf.bfloat16),
        "float16": tf.constant([[0.5], [2.0]], tf.float16),
        "float64": tf.constant(np.pi, tf.float64),
        "int64": tf.constant([-(2**40), 5], tf.int64),
        "uint8": tf.constant([[0, 255]], tf.uint8),
        "bool": tf.constant([True, False]),
        "complex64": tf.constant([1 + 2j], tf.complex64),
        "empty": tf.zeros((0, 3)),
    }
    parts = []
    for index, names in enumerate((list(values)[:4], list(values)[4:])):
        parts.append(str(HERE / f"part{index}"))
        tf.raw_ops.SaveV2(
            prefix=parts[-1], tensor_names=names, shape_and_slices=[""] * len(names), tensors=[values[n] for n in names]
        )
    (HERE / "shards").mkdir()
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(HERE / "shards" / "all"), delete_old_dirs=False
    )
    tf.raw_ops.SaveV2(
        prefix=str(HERE / "shards" / "partitioned"),
        tensor_names=["w"],
        shape_and_slices=["4 2 0,2:-"],
        tensors=[tf.ones((2, 2))],
    )
    for name in ("saved_model.pb", "fingerprint.pb", "assets"):  # no weights in them
        path = HERE / "saved_model" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_keras3():
    import keras

    def network(name):
        image = keras.Input((4, 4, 2))
        skip = keras.layers.Conv2D(3, 1)(image)
        x = keras.layers.Conv2D(3, 3, padding="same")(image)
        x = keras.layers.Dense(3, dtype="bfloat16")(keras.layers.BatchNormalization(scale=False)(x))
        model = keras.Model(image, keras.layers.Add()([skip, x]), name=name)
        model.set_weights(seeded(w.shape for w in model.weights))
        return model

    model = network("network")
    model.save(HERE / "keras3.keras")
    model.save_weights(HERE / "keras3.weights.h5")
    np.savez_compressed(HERE / "keras3.npz", **{w.path: np.asarray(w.value).astype("float32") for w in model.weights})


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    {"keras2": write_keras2, "keras3": write_keras3}[sys.argv[1]]()
