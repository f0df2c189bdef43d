"""Real samples as a measure: what generated ones are compared with, and the conditions that they follow.

    data ── an order that depends on no seed ──▶ samples ── extractor ──▶ features (M, D), kept by content
                                                    └─ labels, captions … ──▶ conditions of the generated samples

Features are kept in a folder under a hash of the samples and of the extractor, config and weights: another data set,
another size or other weights find nothing of the old ones.
"""

import hashlib
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import check_path
from keras_diffusion.core.noise import philox
from keras_diffusion.metrics.extractors.getting import get_extractor
from keras_diffusion.metrics.extractors.pixels import PixelExtractor
from keras_diffusion.metrics.real_samples import content_hash, read_samples
from keras_diffusion.metrics.result import Floor
from keras_diffusion.models.validation import SAMPLE_KEY
from keras_diffusion.runtime.arrays import read_arrays
from keras_diffusion.runtime.files import atomic_path

_AT_ONCE = 256  # samples whose features are extracted together
_HALVING = 1 << 32  # numbers of the random streams that halve, apart from that of the order
_KINDS = ("features", "logits")


class Reference:
    """Real samples and their features, computed once.

    Args:
        data: `data.Batches`, an array `(M, ...)`, a dict of arrays ("images" and conditions), or batches of these.
        extractor: as in `metrics.get_extractor`; "auto" (default) suits the data: for pictures with labels a classifier
            of them, trained in seconds; the values themselves for vectors, and for pictures without labels.
        num_samples: how many are read at most, drawn in an order that depends on no seed; None (default): all.
        cache: folder in which features are kept; None (default): only as long as this object.

    Attributes:
        samples: dict of arrays: "images" `(M, ...)`, float32 in [−1, 1], and conditions.
        extractor: the extractor.

    Raises:
        ValueError: data without samples, pictures out of range, an extractor that does not take them.

    Example:

    >>> reference = Reference(images, extractor=lambda images: images.reshape(len(images), -1))
    >>> reference.features().shape
    (64, 16)
    """

    def __init__(self, data, extractor="auto", num_samples=None, cache=None):
        self.samples = read_samples(data, num_samples)
        self.cache = None if cache is None else Path(check_path("cache", cache)).expanduser()
        self.extractor = extractor_for(extractor, self.samples, self.cache)
        self._content = None
        self._found = {}

    def __len__(self):
        return len(self.samples[SAMPLE_KEY])

    def __repr__(self):
        return f"<Reference: {len(self):,} samples, {self.extractor!r}>"

    def features(self, kind="features"):
        """What the extractor says of all samples.

        Args:
            kind: "features" (default), or "logits" of an extractor with classes.

        Returns:
            float32 array `(M, D)`.

        Raises:
            ValueError: another kind, or logits of an extractor that has none.
        """
        if kind not in self._found:
            self._found[kind] = self._kept(kind) if self.cache else extract(self.extractor, self.images, kind)
        return self._found[kind]

    @property
    def images(self):
        """The samples `(M, ...)`, float32 in [−1, 1]."""
        return self.samples[SAMPLE_KEY]

    def floor(self, metric, n, halvings=5, kind="features", training=None, matched=False):
        """A metric between two random, disjoint parts of the real samples.

        Args:
            metric: `FeatureMetric`.
            n: samples in each part; fewer where there are fewer than 2·n.
            halvings: how often, an int ≥ 0.
            kind: as in `features`.
            training: features of training data, for metrics that need them.
            matched: whether both parts have the same labels, as when samples are generated for the labels of real
                ones: such parts are nearer to each other. Default False.

        Returns:
            `Floor`, or None where the parts are too small for the metric, or `halvings` is 0.
        """
        features = self.features(kind)
        half = min(n, len(features) // 2)
        if not halvings or half < metric.minimum(features.shape[1]):
            return None
        values = []
        for i in range(halvings):
            first, second = self._halves(philox(0, _HALVING + i), half, matched)
            sides = features[first], features[second]
            values.append(float(metric(*sides, training=training).value))
        spread = float(np.std(values, ddof=1)) if halvings > 1 else None
        return Floor(float(np.mean(values)), spread, half, halvings)

    def _halves(self, rng, half, matched):
        """Places of two disjoint parts; matched: drawn as pairs of the same label, but for an odd one in a class."""
        order = rng.permutation(len(self))
        if matched:
            pairs = order[np.argsort(self.samples["labels"][order], kind="stable")][: len(order) // 2 * 2]
            order = pairs.reshape(-1, 2)[rng.permutation(len(order) // 2)].T.reshape(-1)
            return order[:half], order[len(order) // 2 :][:half]
        return order[:half], order[half : 2 * half]

    def save(self, path):
        """Writes the features, with their mean and covariance under pytorch-fid's names "mu" and "sigma".

        Args:
            path: a .npz file.

        Returns:
            the path.

        Raises:
            ValueError: no path.
        """
        features = self.features()
        wide = features.astype("float64")
        with atomic_path(check_path("path", path)) as temporary:
            np.savez(
                temporary,
                features=features,
                mu=wide.mean(axis=0),
                sigma=np.atleast_2d(np.cov(wide, rowvar=False)),
                extractor=np.array(self.extractor.fingerprint()),
            )
        return Path(path)

    def _kept(self, kind):
        """Features from the folder, or made and put there."""
        if self._content is None:
            self._content = content_hash(self.images)
        key = hashlib.sha256(f"{self._content} {self.extractor.fingerprint()} {kind}".encode()).hexdigest()[:32]
        path = self.cache / f"{kind}-{key}.npz"
        if path.is_file():
            return _stored(path, kind, len(self))
        features = extract(self.extractor, self.images, kind)
        with atomic_path(path) as temporary:
            np.savez(temporary, **{kind: features})
        return features


def extractor_for(identifier, samples, cache=None):
    """An extractor for samples.

    Args:
        identifier: as in `metrics.get_extractor`, or "auto"; "classifier" is trained on the samples and their labels.
        samples: dict of arrays, with "images" `(M, ...)` and perhaps "labels" `(M,)`.
        cache: folder for what is trained, or None.

    Returns:
        the extractor.

    Raises:
        ValueError: as `get_extractor`; a classifier for samples that it cannot be trained on.
    """
    images, labels = samples[SAMPLE_KEY], samples.get("labels")
    if identifier == "auto":
        pictures = images.ndim == 4 and images.shape[-1] in (1, 3)
        labelled = pictures and labels is not None and len(np.unique(labels)) > 1
        identifier = "classifier" if labelled else "pixels"
    if identifier in ("pixels", "values"):
        return PixelExtractor()
    options = dict(identifier) if isinstance(identifier, dict) else {"name": identifier}
    if options.get("name") != "classifier" or "images" in options:
        return get_extractor(identifier)
    if labels is None:
        raise ValueError(
            "A classifier is trained on labels. Received: extractor='classifier' for data without “labels”. Take "
            "another extractor"
        )
    return get_extractor({"cache": cache, **options}, images=images, labels=labels)


def load_features(path, extractor=None):
    """Features that `Reference.save` wrote.

    Args:
        path: the .npz file.
        extractor: the extractor that the others come from; its fingerprint must be that of the file. None (default):
            whichever.

    Returns:
        float32 array `(M, D)`.

    Raises:
        ValueError: a damaged file, one without features, or features of another extractor.
    """
    arrays = read_arrays(path)
    features = arrays.get("features")
    if features is None or features.ndim != 2 or features.dtype != np.float32:
        raise ValueError(
            f"A reference is a .npz file with float32 “features” (M, D). Received: {str(path)!r} with "
            f"{', '.join(arrays) or 'nothing'}. Write one with Reference.save"
        )
    written = str(arrays.get("extractor", ""))
    if extractor is not None and written != extractor.fingerprint():
        raise ValueError(
            "Features can be compared if one extractor made them. Received: "
            f"{str(path)!r}, made by {written or 'an unknown one'}, beside {extractor!r}, which is "
            f"{extractor.fingerprint()}"
        )
    return features


def extract(extractor, images, kind="features"):
    """What an extractor says of images, checked.

    Args:
        extractor: object with `__call__` or `logits`, a function of images.
        images: `(N, ...)`, float in [−1, 1] or uint8.
        kind: "features" or "logits".

    Returns:
        float32 array `(N, D)`.

    Raises:
        ValueError: another kind, logits of an extractor without classes, another shape, or NaN.
    """
    if kind not in _KINDS:
        raise ValueError(f"An extractor gives {' or '.join(_KINDS)}. Received: kind={kind!r}")
    function = extractor if kind == "features" else getattr(extractor, "logits", None)
    if function is None:
        raise ValueError(
            f"This metric needs logits, of an extractor with classes. Received: {extractor!r}. Take “inception” or "
            "“classifier”"
        )
    found = np.asarray(function(images), "float32")
    if found.ndim != 2 or len(found) != len(images):
        raise ValueError(
            f"An extractor makes features (N, D) of N images. Received: shape {found.shape} for {len(images)} images, "
            f"from {extractor!r}"
        )
    if not np.isfinite(found).all():
        raise ValueError(
            f"Features must be finite. Received: {int((~np.isfinite(found)).sum())} NaN or infinite values from "
            f"{extractor!r}"
        )
    return found


def _stored(path, kind, count):
    features = read_arrays(path).get(kind)
    if features is None or features.ndim != 2 or len(features) != count or features.dtype != np.float32:
        raise ValueError(f"The file {str(path)!r} does not hold the {kind} that its name says. Delete it")
    return features
