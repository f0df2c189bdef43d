"""Do pictures show what their captions say? From embeddings of both, such as CLIP's.

CLIP score = 100·mean over pairs of max(cos(image, text), 0)

R-precision = share of pictures whose own caption is closer to it than those of others
"""

import numpy as np

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.metrics.feature_metric import Estimate
from keras_diffusion.metrics.features import ROWS, check_features, row_blocks


def clip_score(images, texts):
    """100·mean of max(cos(image, text), 0) over pairs of a picture and its caption.

    Args:
        images: `(N, width)`, embeddings of pictures; of any length, but not 0.
        texts: `(N, width)`, of their captions.

    Returns:
        `Estimate`, with the standard error of the mean over the pairs.

    Raises:
        ValueError: unequal numbers or widths, rows of zeros, or NaN.

    Example:

    >>> kd.metrics.clip_score(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[2.0, 0.0], [-1.0, 0.0]])).value
    50.0

    Reference:
        Hessel et al., "CLIPScore: a reference-free evaluation metric for image captioning", arXiv:2104.08718, equation
        1, with 100 in place of 2.5.
    """
    images, texts = _unit_pairs(images, texts)
    scores = 100.0 * np.maximum(np.sum(images * texts, axis=1), 0.0)
    return Estimate(float(scores.mean()), float(scores.std() / np.sqrt(len(scores))))


def r_precision(images, texts, candidates=100, seed=2020):
    """Share of pictures whose own caption is the closest one among some, the others being drawn from the rest.

    Captions with the same embedding as the own one are no mismatch: they are passed over.

    Args:
        images: `(N, width)`, embeddings of pictures; of any length, but not 0.
        texts: `(N, width)`, of their captions, at least two different ones.
        candidates: number of captions to choose from, the own one among them, from 2 to N; None for all. Default 100.
        seed: of the draws, ≥ 0.

    Returns:
        `Estimate`, with the binomial standard error √(p(1 − p)/N). Chance is 1/candidates.

    Raises:
        ValueError: unequal numbers or widths, fewer captions than candidates, rows of zeros, or NaN.

    Example:

    >>> pictures = np.array([[1.0, 0.1], [0.1, 1.0], [1.0, 0.0]])
    >>> kd.metrics.r_precision(pictures, np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), candidates=None).value
    0.6666666666666666

    Reference:
        Xu et al., "AttnGAN: fine-grained text to image generation with attentional generative adversarial networks",
        arXiv:1711.10485, section 4.1; with CLIP: Park et al., "Benchmark for compositional text-to-image synthesis",
        2021.
    """
    images, texts = _unit_pairs(images, texts)
    count = len(texts)
    candidates = count if candidates is None else check_whole("candidates", candidates, 2)
    if not 2 <= candidates <= count:
        raise ValueError(
            f"R-precision among {candidates} captions needs as many pairs of a picture and a caption, and at least 2. "
            f"Received: {count} pairs; take fewer `candidates`, or None for all captions"
        )
    rng = np.random.RandomState(seed)
    hits = np.zeros(count, bool)
    for rows in row_blocks(count, min(ROWS, max(1, 10_000_000 // count))):
        cosines = images[rows] @ texts.T
        own = np.sum(images[rows] * texts[rows], axis=1)
        others = texts[rows] @ texts.T < 1.0 - 1e-9
        if candidates < count:
            keys = np.where(others, rng.random_sample(others.shape), 2.0)
            drawn = np.zeros_like(others)
            np.put_along_axis(drawn, np.argpartition(keys, candidates - 2, axis=1)[:, : candidates - 1], True, axis=1)
            others &= drawn
        hits[rows] = own > np.max(np.where(others, cosines, -np.inf), axis=1)
    share = float(hits.mean())
    return Estimate(share, float(np.sqrt(share * (1.0 - share) / count)))


def _unit_pairs(images, texts):
    images, texts = check_features("images", images), check_features("texts", texts)
    if images.shape != texts.shape:
        raise ValueError(
            "Embeddings of pictures and of their captions come in pairs, (N, width) each. Received: images of shape "
            f"{images.shape}, texts of shape {texts.shape}"
        )
    unit = []
    for name, rows in (("images", images), ("texts", texts)):
        norms = np.linalg.norm(rows.astype("float64"), axis=1, keepdims=True)
        if not norms.all():
            raise ValueError(
                f"Embeddings have a direction, which a row of zeros has not. Received: {name} with "
                f"{int(np.sum(norms == 0))} of them"
            )
        unit.append(rows / norms)
    return unit
