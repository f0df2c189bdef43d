import numpy as np
import pytest

from keras_diffusion import metrics
from keras_diffusion.metrics import FeatureStatistics, frechet_distance
from keras_diffusion.metrics.frechet import extrapolated

RNG = np.random.default_rng(0)
GENERATED = RNG.standard_normal((400, 5)) @ RNG.standard_normal((5, 5)) + 0.5
REAL = RNG.standard_normal((300, 5)) @ RNG.standard_normal((5, 5))


def test_the_closed_form_of_diagonal_covariances():
    a = FeatureStatistics.from_moments([1.0, 2.0], np.diag([4.0, 9.0]))
    b = FeatureStatistics.from_moments([0.0, 0.0], np.diag([1.0, 0.0]))
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (2 - 1) ** 2 + 3**2, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(15.0, rel=1e-12)


def test_equals_the_root_of_the_product():
    from scipy.linalg import sqrtm

    product = np.cov(GENERATED, rowvar=False) @ np.cov(REAL, rowvar=False)
    traces = np.trace(np.cov(GENERATED, rowvar=False)) + np.trace(np.cov(REAL, rowvar=False))
    shift = np.sum((GENERATED.mean(axis=0) - REAL.mean(axis=0)) ** 2)
    assert frechet_distance(GENERATED, REAL) == pytest.approx(
        shift + traces - 2 * np.trace(sqrtm(product)).real, rel=1e-10
    )


def test_moving_and_turning_both_changes_nothing():
    turn = np.linalg.qr(RNG.standard_normal((5, 5)))[0]
    moved = frechet_distance(GENERATED @ turn + 100.0, REAL @ turn + 100.0)
    assert moved == pytest.approx(frechet_distance(GENERATED, REAL), rel=1e-9)


def test_a_set_is_at_no_distance_from_itself():
    assert abs(frechet_distance(REAL, REAL)) < 1e-10
    assert metrics.get("fd")(REAL, REAL).standard_error < 1e-6


def test_statistics_serve_as_the_real_side():
    whole, known = metrics.get("fd")(GENERATED, REAL), metrics.get("fd")(GENERATED, FeatureStatistics.of(REAL))
    assert known.value == whole.value and 0 < known.standard_error < whole.standard_error
    with pytest.raises(ValueError, match="needs every sample.*FeatureStatistics of 300 rows"):
        metrics.get("mind")(GENERATED, FeatureStatistics.of(REAL))


def test_as_many_features_as_samples_are_refused_unless_asked_for():
    with pytest.raises(
        ValueError, match=r"FD of 5 features needs at least 6 .*singular.*MIND.*Received: 5 generated, 300"
    ):
        metrics.get("fd")(GENERATED[:5], REAL)
    assert metrics.get("fd", allow_singular=True)(GENERATED[:5], REAL).value > 0
    with pytest.raises(ValueError, match="5 and 4 features"):
        frechet_distance(GENERATED, REAL[:, :4])


def test_fd_infinity_takes_the_bias_away():
    def mean(name):
        draws = (np.random.default_rng(seed).standard_normal((2, 3000, 6)) for seed in range(8))
        return np.mean([metrics.get(name)(generated[:300], real).value for generated, real in draws])

    assert mean("fd") > 0.05 and abs(mean("fd_infinity")) < 0.4 * mean("fd")


def test_the_end_of_a_line():
    counts = np.array([100, 200, 400, 1000])
    assert extrapolated(counts, 3.0 + 50.0 / counts) == pytest.approx((3.0, 0.0), abs=1e-9)
    noisy = 3.0 + 50.0 / counts + np.array([0.1, -0.1, 0.1, -0.1])
    _, end = np.polyfit(1.0 / counts, noisy, 1)
    assert extrapolated(counts, noisy)[0] == pytest.approx(end, rel=1e-9)
    covariance = np.polyfit(1.0 / counts, noisy, 1, cov=True)[1]
    assert extrapolated(counts, noisy)[1] == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-6)
