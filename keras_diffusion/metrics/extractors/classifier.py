"""A classifier of the data itself, trained in seconds: features for pictures that no published network knows.

    picture ── 3 × (convolution, group norm, swish; halved twice) ── mean ── dense ── features ── logits

For 8×8 digits, shapes or emoji, features of ImageNet say little: what tells a three from an eight is what a network
learns that has to tell them apart. The features are those of the last layer before the classes. Distances between them
compare models trained on the same data, judged by the same classifier, and nothing else.
"""

import hashlib
import io
from pathlib import Path

import keras
import numpy as np

from keras_diffusion.configs.checks import check_number, check_whole
from keras_diffusion.core.noise import check_seed
from keras_diffusion.layers.initializers import GlorotUniform
from keras_diffusion.layers.options import convolution, get_activation, normalization
from keras_diffusion.metrics.extractors.extractor import EXTRACTORS, Extractor, check_images, config_of
from keras_diffusion.metrics.extractors.preprocessing import to_floats
from keras_diffusion.runtime.files import read_bytes, write_whole

_WIDTHS = (32, 64, 64)
_LEARNING_RATE = 2e-3


@EXTRACTORS.register("classifier")
class ClassifierExtractor(Extractor):
    """A small convolutional classifier, trained on pictures with labels when it is made.

    Deterministic: the same pictures, labels and seed give the same weights on one backend and machine.

    Args:
        images: `(N, H, W, C)`, uint8, or floats in [−1, 1]: real pictures.
        labels: class ids `(N,)`; or a dict of several such arrays by name, for pictures with attributes. Logits are
            then those of the first.
        features: length of the feature vectors. Default 64.
        steps: of training. Default 400.
        batch_size: pictures at a time, in training and later. Default 128.
        seed: of the first weights and of the order of pictures. Default 0.
        cache: folder in which weights are kept, by a hash of pictures, labels, options and backend; None (default) for
            none.

    Raises:
        ValueError: pictures and labels that do not fit, NaN, fewer than two classes.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 2, 256)
    >>> images = rng.normal(0.5 * labels[:, None, None, None] - 0.25, 0.3, (256, 8, 8, 1))
    >>> extractor = kd.metrics.get_extractor("classifier", images=images, labels=labels, steps=20)
    >>> extractor(images).shape, extractor.logits(images).shape
    ((256, 64), (256, 2))

    Reference:
        Features of a classifier of the data's own domain: Borji, "Pros and cons of GAN evaluation measures: new
        developments", arXiv:2103.09396.
    """

    name = "classifier"

    def __init__(self, images, labels, features=64, steps=400, batch_size=128, seed=0, cache=None):
        images, targets = _checked(images, labels)
        for key in ("features", "steps", "batch_size"):
            check_whole(key, getattr(self, key), 1)
        check_seed(seed)
        self.images = self.labels = self._arguments.images = self._arguments.labels = None  # not kept in memory
        classes = {name: int(values.max()) + 1 for name, values in targets.items()}
        self.shape = images.shape[1:]
        self.width, self.num_classes = features, next(iter(classes.values()))
        self.network = _network(self.shape, classes, features, seed)
        key = _key(images, targets, features, steps, batch_size, seed)
        path = None if cache is None else Path(cache) / f"classifier-{key}.npz"
        if path is not None and path.is_file():
            _load(self.network, path)
            return
        _train(self.network, images, targets, steps, batch_size, seed)
        if path is not None:
            _save(self.network, path)

    def prepare(self, images):
        if images.shape[1:] != self.shape:
            raise ValueError(
                f"This classifier was trained on pictures (N, {', '.join(map(str, self.shape))}). Received: shape "
                f"{images.shape}"
            )
        return to_floats(images)

    def run(self, batch):
        found = super().run(batch)
        return {"features": found.pop("features"), "logits": next(iter(found.values()))}

    def accuracy(self, images, labels):
        """Share of pictures in which the classifier finds their label: how far its features are to be trusted.

        Args:
            images: `(N, H, W, C)`, as in a call; best held-out ones.
            labels: class ids `(N,)`.

        Returns:
            float in [0, 1].

        Raises:
            ValueError: as a call; another number of labels.
        """
        labels = np.asarray(labels)
        if labels.shape != (len(images),):
            raise ValueError(f"Each picture has a label. Received: {len(images)} pictures, labels {labels.shape}")
        return float(np.mean(self.logits(images).argmax(axis=1) == labels))

    def description(self):
        return {**super().description(), **config_of(self, "features")}


def _checked(images, labels):
    images = check_images(images)
    named = labels if isinstance(labels, dict) else {"label": labels}
    targets = {str(name): np.asarray(values) for name, values in named.items()}
    for name, values in targets.items():
        whole = values.dtype.kind in "iu" and values.shape == (len(images),) and len(values) and values.min() >= 0
        if not whole or values.max() == 0:
            raise ValueError(
                "A classifier learns from a class id ≥ 0 for each picture, of at least two classes. Received: "
                f"{len(images)} pictures, {name!r} of shape {values.shape}, dtype {values.dtype}"
            )
    if not targets:
        raise ValueError("A classifier learns from labels. Received: labels={}")
    bad = 0 if images.dtype == np.uint8 else int((~np.isfinite(images)).sum())
    if bad:
        raise ValueError(f"Pictures must be finite. Received: {bad} NaN or infinite values")
    return images, targets


def _network(shape, classes, features, seed):
    """Functional model from pictures to a dict: "features", and the logits of each set of classes."""
    seeds = iter(np.random.SeedSequence([seed, 77]).generate_state(16).tolist())
    picture = keras.Input(shape, name="picture")
    x = picture
    for i, width in enumerate(_WIDTHS):
        options = {"kernel_initializer": GlorotUniform(next(seeds)), "name": f"convolution_{i}"}
        x = convolution(2, width, 3, strides=1 if i == 0 else 2, **options)(x)
        x = normalization("group", width, 8, 1e-5, f"norm_{i}", None)(x)
        x = keras.layers.Activation(get_activation("swish"), name=f"activation_{i}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="mean", data_format="channels_last")(x)
    dense = keras.layers.Dense(features, kernel_initializer=GlorotUniform(next(seeds)), name="features")
    h = keras.layers.Activation(get_activation("swish"), name="features_activation")(dense(x))
    outputs = {"features": h}
    for i, (name, count) in enumerate(classes.items()):
        layer = keras.layers.Dense(count, kernel_initializer=GlorotUniform(next(seeds)), name=f"logits_{i}")
        outputs[f"logits/{name}"] = layer(h)
    return keras.Model(picture, outputs, name="classifier")


def _train(network, images, targets, steps, batch_size, seed):
    """Adam with a falling learning rate on batches drawn by `seed`; Keras's own step, so that every backend does it."""
    heads = [name for name in network.output if name != "features"]
    trained = keras.Model(network.inputs[0], {name: network.output[name] for name in heads})
    rate = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
    loss = {name: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for name in heads}
    trained.compile(keras.optimizers.Adam(rate), loss)
    rng = np.random.default_rng(seed)
    count = min(batch_size, len(images))
    order = np.concatenate([rng.permutation(len(images)) for _ in range(-(-steps * count // len(images)))])
    for step in range(steps):
        rows = order[step * count : (step + 1) * count]
        wanted = {f"logits/{name}": values[rows] for name, values in targets.items()}
        value = trained.train_on_batch(to_floats(images[rows]), wanted)
    check_number("loss", float(np.ravel(value)[0]), rule="Training of the classifier must stay finite")


def _key(images, targets, *options):
    digest = hashlib.sha256(repr((images.shape, images.dtype.str, options, keras.backend.backend())).encode())
    for name, values in (("images", images), *targets.items()):
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:20]


def _save(network, path):
    buffer = io.BytesIO()
    np.savez(buffer, **{f"w{i}": value for i, value in enumerate(network.get_weights())})
    write_whole(path, buffer.getvalue())


def _load(network, path):
    shapes = [tuple(variable.shape) for variable in network.weights]
    with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as arrays:
        values = [arrays[f"w{i}"] for i in range(len(shapes)) if f"w{i}" in arrays]
    if [value.shape for value in values] != shapes or not all(np.isfinite(value).all() for value in values):
        raise ValueError(f"A cached classifier has the weights of its network. Received: {str(path)!r}. Delete it")
    network.set_weights(values)
