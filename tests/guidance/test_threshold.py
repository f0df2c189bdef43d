"""Static and dynamic thresholding of x0, and inpainting by replacement."""

import numpy as np
import pytest
from golden_data import array, mixture, tensor

from keras_diffusion.core.levels import Levels, Prediction
from keras_diffusion.denoisers import Denoiser
from keras_diffusion.guidance import DynamicThreshold, ReplaceKnown, StaticThreshold

RNG = np.random.default_rng(0)
X, X0 = RNG.standard_normal((2, 4, 5, 5, 2))
X0 *= np.array([0.1, 1.0, 3.0, 10.0])[:, None, None, None]
LEVEL = Levels(0.5, 0.6, 0.8)


class Given(Denoiser):
    def __call__(self, x, level):
        return Prediction(tensor(X0), tensor(0 * X0))


def check_consistent(prediction):
    np.testing.assert_allclose(0.6 * array(prediction.x0) + 0.8 * array(prediction.eps), X, atol=1e-5)


@pytest.mark.parametrize("limit", [1.0, 2.5])
def test_static_threshold(limit):
    prediction = StaticThreshold(Given(), limit)(tensor(X), LEVEL)
    np.testing.assert_allclose(array(prediction.x0), np.clip(X0, -limit, limit), atol=1e-6)
    check_consistent(prediction)


@pytest.mark.parametrize(
    ("quantile", "limit", "ceiling"), [(0.995, 1.0, None), (0.9, 1.0, None), (0.9, 0.5, 2.0), (1.0, 1.0, None)]
)
def test_dynamic_threshold_by_formula(quantile, limit, ceiling):
    prediction = DynamicThreshold(Given(), quantile, limit, ceiling)(tensor(X), LEVEL)
    s = np.quantile(np.abs(X0).reshape(4, -1), quantile, axis=1)
    s = np.clip(s, limit, np.inf if ceiling is None else ceiling)[:, None, None, None]
    np.testing.assert_allclose(array(prediction.x0), np.clip(X0, -s, s) * limit / s, atol=1e-5)
    assert np.abs(array(prediction.x0)).max() <= limit + 1e-6
    check_consistent(prediction)


def test_dynamic_threshold_leaves_samples_within_the_limit_alone():
    prediction = DynamicThreshold(Given())(tensor(X), LEVEL)
    assert np.abs(X0[0]).max() < 1
    np.testing.assert_allclose(array(prediction.x0)[0], X0[0], atol=1e-6)


@pytest.mark.parametrize("threshold", [StaticThreshold, DynamicThreshold])
def test_epsilon_may_be_kept(threshold):
    kept, derived = (threshold(Given(), keep_eps=keep)(tensor(X), LEVEL) for keep in (True, False))
    np.testing.assert_array_equal(array(kept.eps), 0 * X0)
    np.testing.assert_array_equal(array(kept.x0), array(derived.x0))


def test_replace_known():
    mask = np.zeros((1, 5, 5, 1))
    mask[:, :2] = 1.0
    known = RNG.standard_normal((4, 5, 5, 2))
    prediction = ReplaceKnown(Given(), tensor(known), tensor(mask))(tensor(X), LEVEL)
    np.testing.assert_allclose(array(prediction.x0)[:, :2], known[:, :2], atol=1e-6)
    np.testing.assert_allclose(array(prediction.x0)[:, 2:], X0[:, 2:], atol=1e-5)
    check_consistent(prediction)


def test_wrappers_compose():
    x = tensor(RNG.standard_normal((3, 2)))
    inner = mixture("gmm2")
    composed = StaticThreshold(DynamicThreshold(inner, 0.9), 0.5)(x, LEVEL)
    step = array(DynamicThreshold(inner, 0.9)(x, LEVEL).x0)
    np.testing.assert_allclose(array(composed.x0), np.clip(step, -0.5, 0.5), atol=1e-6)


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_static_limit_must_be_positive(limit):
    with pytest.raises(
        ValueError, match="`limit` is the largest magnitude of a sample and must be positive. Received: limit="
    ):
        StaticThreshold(Given(), limit)


@pytest.mark.parametrize("options", [{"quantile": 0.0}, {"quantile": 1.1}, {"limit": 0.0}, {"ceiling": 0.5}])
def test_dynamic_options(options):
    with pytest.raises(
        ValueError,
        match=r"needs a quantile in \(0, 1\], a positive limit and a ceiling not below it. Received: quantile=",
    ):
        DynamicThreshold(Given(), **options)
