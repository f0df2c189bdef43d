import numpy as np
import pytest

from keras_diffusion import metrics

LOGITS = np.random.default_rng(0).normal(0.0, 2.0, (203, 7))


def test_is_the_formula_on_each_part():
    order = np.random.RandomState(2020).permutation(203)
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    scores = []
    for i in range(10):
        part = p[order[i * 203 // 10 : (i + 1) * 203 // 10]]
        scores.append(np.exp(np.mean(np.sum(part * np.log(part / part.mean(axis=0)), axis=1))))
    estimate = metrics.get("inception_score")(LOGITS)
    assert estimate.value == pytest.approx(np.mean(scores), rel=1e-12)
    assert estimate.standard_error == pytest.approx(np.std(scores) / 3.0, rel=1e-12)


def test_certain_and_even_is_the_number_of_classes_and_a_single_class_is_one():
    certain = 1e3 * np.eye(5)[np.arange(500) % 5]  # probabilities of 0 in float64
    assert metrics.get("inception_score", splits=2)(certain).value == pytest.approx(5.0, rel=0.02)
    assert metrics.get("inception_score")(np.tile(certain[:1], (50, 1))).value == pytest.approx(1.0)
    assert metrics.get("inception_score")(np.zeros((50, 5))).value == pytest.approx(1.0)


def test_parts_need_two_samples_each():
    with pytest.raises(ValueError, match=r"IS of 7 logits needs at least 20 samples.*fewer `splits`.*19 generated$"):
        metrics.get("inception_score")(LOGITS[:19])
