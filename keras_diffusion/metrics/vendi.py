"""Vendi score: how many different samples are there, in effect?

    VS = exp(−Σ λ·log λ),      λ: eigenvalues of K/N,      K_ij = x_i·x_j/(|x_i|·|x_j|)

N samples at right angles count N, N equal ones count 1. No real samples are needed; those of real data are what to
compare with. K/N and the covariance-like (1/N)·Σ x̂x̂ᵀ have the same eigenvalues: the smaller one is used.
"""

import numpy as np
import scipy.linalg

from keras_diffusion.metrics.feature_metric import FEATURE_METRICS, Estimate, FeatureMetric
from keras_diffusion.metrics.features import row_blocks, wide_blocks


@FEATURE_METRICS.register("vendi", "vendi_score")
class Vendi(FeatureMetric):
    """Vendi score, exp of the entropy of the eigenvalues of K/N with the cosine similarity as K.

    The standard error is that of the delta method, VS·√(Var(x̂ᵀ·log C·x̂)/N) with C = (1/N)·Σ x̂x̂ᵀ. More samples
    give a larger score: compare values of the same N. Time grows with the cube of the smaller one of N and width.

    Example:

    >>> round(kd.metrics.get("vendi")(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])).value, 6)
    2.0

    Reference:
        Friedman & Dieng, "The Vendi score: a diversity evaluation metric for machine learning", arXiv:2210.02410,
        definition 3.1.
    """

    name, title, better = "vendi", "Vendi", "higher"
    uses_real = False

    def measure(self, generated, real, training):
        norms = np.sqrt(np.concatenate([np.sum(block**2, axis=1) for block in wide_blocks(generated)]))
        if not norms.all():
            raise ValueError(
                "The Vendi score compares directions, and a row of zeros has none. Received: generated with "
                f"{int(np.sum(norms == 0))} of them"
            )
        eigenvalues, weights = _spectrum(generated, norms)
        used = eigenvalues > eigenvalues.max() * len(eigenvalues) * np.finfo("float64").eps
        logarithms = np.log(eigenvalues[used])
        value = np.exp(-np.sum(eigenvalues[used] * logarithms))
        spread = np.std(weights(used) @ logarithms)
        return Estimate(float(value), float(value * spread / np.sqrt(len(generated))))


def _spectrum(features, norms):
    """Eigenvalues of K/N, and a function from a mask of them to the squares (x̂·v)² of samples with eigenvectors."""
    count, width = features.shape
    if count <= width:
        unit = features.astype("float64") / norms[:, None]
        eigenvalues, vectors = scipy.linalg.eigh(unit @ unit.T / count, check_finite=False)
        # x̂_i·v = √(N·λ)·u_i, u being the eigenvector of K/N.
        return eigenvalues, lambda used: count * eigenvalues[used] * vectors[:, used] ** 2
    second = sum(block.T @ block for block in _unit_blocks(features, norms))
    eigenvalues, vectors = scipy.linalg.eigh(second / count, check_finite=False)
    return eigenvalues, lambda used: _squares(features, norms, vectors[:, used])


def _unit_blocks(features, norms):
    for rows in row_blocks(len(features)):
        yield features[rows] / norms[rows, None]


def _squares(features, norms, vectors):
    return np.concatenate([(block @ vectors) ** 2 for block in _unit_blocks(features, norms)])
