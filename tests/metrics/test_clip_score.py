import numpy as np
import pytest

from keras_diffusion import metrics

RNG = np.random.default_rng(0)
TEXTS = RNG.standard_normal((60, 8))
IMAGES = TEXTS + 0.8 * RNG.standard_normal((60, 8))


def test_the_score_is_the_mean_cosine_without_negative_ones():
    cosines = np.sum(IMAGES * TEXTS, axis=1) / np.linalg.norm(IMAGES, axis=1) / np.linalg.norm(TEXTS, axis=1)
    estimate = metrics.clip_score(IMAGES, TEXTS)
    assert estimate.value == pytest.approx(100 * np.mean(np.maximum(cosines, 0)), rel=1e-12)
    assert metrics.clip_score(3.0 * IMAGES, TEXTS / 7.0).value == pytest.approx(estimate.value, rel=1e-12)
    assert metrics.clip_score(TEXTS, TEXTS).value == pytest.approx(100.0)
    assert metrics.clip_score(-TEXTS, TEXTS).value == 0.0


def test_r_precision_among_all_captions_is_the_share_of_right_guesses():
    unit = TEXTS / np.linalg.norm(TEXTS, axis=1, keepdims=True)
    share = np.mean(np.argmax(IMAGES @ unit.T, axis=1) == np.arange(60))
    assert metrics.r_precision(IMAGES, TEXTS, candidates=None).value == pytest.approx(share)
    assert 0.2 < share < 0.98


def test_fewer_candidates_are_easier_and_chance_is_one_of_them():
    values = [metrics.r_precision(IMAGES, TEXTS, candidates).value for candidates in (2, 10, 60)]
    assert values[0] > values[1] > values[2] == metrics.r_precision(IMAGES, TEXTS, None).value
    noise = RNG.standard_normal((400, 2, 8))
    assert metrics.r_precision(noise[:, 0], noise[:, 1], candidates=4).value == pytest.approx(0.25, abs=0.07)


def test_the_same_caption_of_another_picture_is_no_mismatch():
    twice = np.tile(TEXTS[:10], (2, 1))
    assert metrics.r_precision(twice, twice, candidates=None).value == 1.0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\(60, 8\), texts of shape \(59, 8\)"):
        metrics.clip_score(IMAGES, TEXTS[:-1])
    with pytest.raises(ValueError, match="texts with 1 of them"):
        metrics.clip_score(IMAGES[:2], np.eye(8)[:2] * [[0.0], [1.0]])
    with pytest.raises(ValueError, match=r"among 100 captions.*Received: 60 pairs"):
        metrics.r_precision(IMAGES, TEXTS)
