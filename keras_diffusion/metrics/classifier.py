"""A judge for class-conditional samples: a classifier that has never seen a generated one.

    accuracy = share of samples in which the classifier finds the requested class

It is trained on real data and first evaluated on held-out real data: perfect samples would reach that accuracy, so the
two numbers belong together. The measure shows whether samples can be recognized, not whether they vary: a model that
always draws the same perfect three gets full marks, and so does one that copies its training data. `memorization`
detects the latter.

Reference: Ravuri & Vinyals, "Classification accuracy score for conditional generative models", arXiv:1905.10887 (the
converse: a classifier trained on samples and tried on real data).
"""

import numpy as np

from keras_diffusion.runtime.optional import import_optional


def train_classifier(images, labels, C=10.0):
    """A support vector classifier on pixels (radial basis functions), from scikit-learn.

    Small, deterministic, and strong where images are small: 99.7 % on held-out 8×8 digits.

    Args:
        images: `(N, ...)`, float; flattened.
        labels: class ids `(N,)`.
        C: penalty of samples on the wrong side, > 0. Default 10.

    Returns:
        `sklearn.svm.SVC`, fitted.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: arrays of different length, or NaN.

    Example:

    >>> classifier = train_classifier(train_images, train_labels)
    >>> classifier_accuracy(classifier, test_images, test_labels)
    0.997...
    """
    svm = import_optional("sklearn.svm", extra="demo", purpose="training the judging classifier")
    images, labels = _checked(images, labels)
    return svm.SVC(C=C).fit(images, labels)


def classifier_accuracy(classifier, images, labels):
    """Share of images in which the classifier finds their label.

    Args:
        classifier: object with `predict((N, features)) -> (N,)` class ids, such as that of `train_classifier`.
        images: `(N, ...)`, float; flattened.
        labels: class ids `(N,)`: of real images, or those used to generate images.

    Returns:
        float in [0, 1].

    Raises:
        ValueError: arrays of different length, no images, or NaN.
    """
    images, labels = _checked(images, labels)
    return float(np.mean(np.asarray(classifier.predict(images)) == labels))


def _checked(images, labels):
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim < 2 or labels.shape != (len(images),) or not len(images):
        raise ValueError(
            "A classifier needs images (N, ...) and one label for each, (N,), with N ≥ 1. "
            f"Received: images of shape {images.shape}, labels of shape {labels.shape}"
        )
    if not np.isfinite(images).all():
        raise ValueError(
            f"Images to classify must be finite. Received: {int((~np.isfinite(images)).sum())} NaN or infinite values"
        )
    return images.reshape(len(images), -1).astype("float64"), labels
