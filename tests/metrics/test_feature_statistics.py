import numpy as np
import pytest

from keras_diffusion.metrics import FeatureStatistics
from keras_diffusion.runtime import limits

RNG = np.random.default_rng(0)
FEATURES = 1e3 + RNG.standard_normal((2500, 6)) @ RNG.standard_normal((6, 6))


def test_equals_numpy_however_the_rows_are_split():
    for sizes in ([2500], [1, 2, 3, 994, 1500], [500] * 5):
        statistics = FeatureStatistics()
        for batch in np.split(FEATURES, np.cumsum(sizes)[:-1]):
            statistics.update(batch)
        assert statistics.count == 2500
        np.testing.assert_allclose(statistics.mean, FEATURES.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(statistics.covariance, np.cov(FEATURES, rowvar=False), rtol=1e-10, atol=1e-10)


def test_merging_is_seeing_all_rows():
    parts = [FeatureStatistics.of(part) for part in np.split(FEATURES, [10, 1100])]
    merged = FeatureStatistics().merge(parts[0]).merge(parts[1]).merge(parts[2]).merge(FeatureStatistics())
    whole = FeatureStatistics.of(FEATURES)
    assert merged.count == 2500 and parts[1].count == 1090, "the other one is left as it is"
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-10, atol=1e-10)


def test_half_precision_does_not_add_up_in_half_precision():
    batch = np.full((5000, 1), 3.0, "float16")
    assert FeatureStatistics().update(batch).mean.tolist() == [3.0]


def test_a_saved_file_is_read_again_and_grows(tmp_path):
    path = FeatureStatistics.of(FEATURES[:2000]).save(tmp_path / "made" / "real.npz")
    with np.load(path) as file:  # as pytorch-fid reads it
        assert file["mu"].shape == (6,) and file["sigma"].shape == (6, 6)
    grown = FeatureStatistics.load(path).update(FEATURES[2000:])
    assert grown.count == 2500
    np.testing.assert_allclose(grown.covariance, np.cov(FEATURES, rowvar=False), rtol=1e-10, atol=1e-10)
    assert [p.name for p in path.parent.iterdir()] == ["real.npz"]


def test_files_of_adm_are_read_and_written(tmp_path):
    path = tmp_path / "adm.npz"
    statistics, spatial = FeatureStatistics.of(FEATURES), FeatureStatistics.of(FEATURES[:, :3])
    statistics.save(path, spatial=spatial)
    np.testing.assert_allclose(FeatureStatistics.load(path, spatial=True).covariance, spatial.covariance, rtol=1e-12)
    theirs = {name: np.load(path)[name] for name in ("mu", "sigma", "mu_s", "sigma_s")}
    pictures = np.zeros((4, 512, 512, 3), "uint8")
    np.savez_compressed(path, arr_0=pictures, **theirs)
    with limits.raised(packed_bytes=2_000, packed_ratio=1):  # the pictures are not unpacked
        read = FeatureStatistics.load(path)
    np.testing.assert_allclose(read.covariance, statistics.covariance, rtol=1e-12)
    assert read.count is None
    with pytest.raises(ValueError, match="does not say it"):
        read.update(FEATURES)


def test_objects_in_files_run_nothing(tmp_path):
    np.savez(tmp_path / "bad.npz", mu=np.array([print, 1], dtype=object), sigma=np.eye(2))
    with pytest.raises(ValueError, match="Python objects"):
        FeatureStatistics.load(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(2)}, "without sigma"),
        ({"mu": np.zeros(2), "sigma": np.zeros((3, 3))}, r"shapes \(2,\) and \(3, 3\)"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2.0], [0.0, 1.0]])}, "symmetric.*off by 2"),
        ({"mu": np.zeros(2), "sigma": np.diag([1.0, -1.0])}, "smallest variance of -1"),
        ({"mu": np.zeros(2), "sigma": np.full((2, 2), np.nan)}, "must be finite"),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "count": np.array(1)}, "count=1"),
    ],
)
def test_what_is_no_statistics_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        FeatureStatistics.load(tmp_path / "some.npz")


def test_unequal_widths_and_a_single_row_are_refused(tmp_path):
    statistics = FeatureStatistics().update(FEATURES[:1])
    with pytest.raises(ValueError, match="Received: 2 after 6"):
        statistics.update(FEATURES[:, :2])
    with pytest.raises(ValueError, match=r"at least 2 rows. Received: 1"):
        _ = statistics.covariance
    with pytest.raises(ValueError, match=r"npz files. Received: path='x.npy'"):
        FeatureStatistics.of(FEATURES).save("x.npy")
