"""Mean and covariance of features that come in batches, in float64.

A batch with n_b rows, mean m_b and scatter S_b = Σ (x − m_b)(x − m_b)ᵀ joins those that have been seen (n, m, S) by

    δ = m_b − m,    m ← m + δ·n_b/(n + n_b),    S ← S + S_b + δδᵀ·n·n_b/(n + n_b)

Nothing is subtracted from a sum of squares, so it does not matter how the rows are split into batches, nor how far they
are from 0.

Reference: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
"""

from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import check_array, check_whole
from keras_diffusion.metrics.features import check_features, wide_blocks
from keras_diffusion.runtime.arrays import read_arrays
from keras_diffusion.runtime.files import atomic_path

_SYMMETRIC = 1e-4  # float32 statistics of other tools are as symmetric as that, relative to the largest variance


class FeatureStatistics:
    """Number, mean and covariance of features. Grows by `update`, batch by batch; two of them `merge`.

    Memory is O(width²), whatever the number of rows.

    Attributes:
        count: number of rows, an int; None for statistics from a file that does not say it.
        mean: float64 `(width,)`; None before the first batch.

    Example:

    >>> statistics = kd.metrics.FeatureStatistics()
    >>> for batch in np.arange(12.0).reshape(3, 2, 2):
    ...     statistics = statistics.update(batch)
    >>> statistics.count, statistics.mean.tolist(), statistics.covariance[0].tolist()
    (6, [5.0, 6.0], [14.0, 14.0])
    """

    def __init__(self):
        self.count = 0
        self.mean = None
        self._scatter = None  # Σ (x − m)(x − m)ᵀ; for an unknown count, the covariance

    @classmethod
    def of(cls, features):
        """The statistics of an array; a `FeatureStatistics` is returned as it is.

        Args:
            features: `(N, width)`, or a `FeatureStatistics`.

        Returns:
            `FeatureStatistics`.

        Raises:
            ValueError: see `update`.
        """
        return features if isinstance(features, cls) else cls().update(features)

    @classmethod
    def from_moments(cls, mean, covariance, count=None):
        """Statistics that are known already.

        Args:
            mean: `(width,)`.
            covariance: `(width, width)`, symmetric, divided by count − 1.
            count: number of rows ≥ 2, or None (default) if it is not known: the statistics cannot grow then.

        Returns:
            `FeatureStatistics`.

        Raises:
            ValueError: shapes that do not fit, NaN, or a matrix that is no covariance.
        """
        statistics = cls()
        statistics.count = check_whole("count", count, 2, optional=True)
        statistics.mean = check_array("mean", mean, "float64").copy()
        covariance = check_array("covariance", covariance, "float64")
        width = statistics.mean.size
        if statistics.mean.ndim != 1 or covariance.shape != (width, width) or not width:
            raise ValueError(
                "Statistics are a mean (width,) and a covariance (width, width). Received: shapes "
                f"{statistics.mean.shape} and {covariance.shape}"
            )
        largest, least = np.abs(covariance.diagonal()).max(), covariance.diagonal().min()
        skew = np.abs(covariance - covariance.T).max()
        if skew > _SYMMETRIC * largest or least < -_SYMMETRIC * largest:
            raise ValueError(
                "A covariance is symmetric, with variances ≥ 0 on its diagonal. Received: a matrix of shape "
                f"{covariance.shape}, off by {skew:.3g}, with a smallest variance of {least:.3g}"
            )
        statistics._scatter = (covariance + covariance.T) / 2.0 * ((statistics.count or 2) - 1)
        return statistics

    @property
    def covariance(self):
        """float64 `(width, width)`, divided by count − 1.

        Raises:
            ValueError: fewer than two rows.
        """
        if self.count is not None and self.count < 2:
            raise ValueError(f"A covariance needs at least 2 rows. Received: {self.count}")
        return self._scatter / ((self.count or 2) - 1)

    def update(self, features):
        """Adds a batch.

        Args:
            features: `(N, width)`, finite.

        Returns:
            the object itself.

        Raises:
            ValueError: another width than before, NaN, or statistics whose count is not known.
        """
        features = check_features("features", features)
        self._check_growth(features.shape[1])
        for block in wide_blocks(features):
            mean = block.mean(axis=0)
            block -= mean
            self._join(len(block), mean, block.T @ block)
        return self

    def merge(self, other):
        """Adds all rows that another one has seen, for example in another process.

        Args:
            other: `FeatureStatistics`, which is left as it is.

        Returns:
            the object itself.

        Raises:
            ValueError: another width, or a count that is not known.
        """
        if other.count == 0:
            return self
        other._check_growth(other.mean.size)
        self._check_growth(other.mean.size)
        self._join(other.count, other.mean, other._scatter)
        return self

    def save(self, path, spatial=None):
        """Writes an .npz file that pytorch-fid, clean-fid and EDM read: `mu` and `sigma`; with `spatial` also ADM.

        Args:
            path: the file, ending in ".npz".
            spatial: `FeatureStatistics` of ADM's spatial features, written as `mu_s` and `sigma_s`, or None.

        Returns:
            the path, as `pathlib.Path`.

        Raises:
            ValueError: another ending, or fewer than two rows.
        """
        arrays = {"mu": self.mean, "sigma": self.covariance}
        if self.count is not None:
            arrays["count"] = np.array(self.count)
        if spatial is not None:
            arrays |= {"mu_s": spatial.mean, "sigma_s": spatial.covariance}
        if Path(path).suffix != ".npz":
            raise ValueError(f"Statistics are written to .npz files. Received: path={str(path)!r}")
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)
        return Path(path)

    @classmethod
    def load(cls, path, spatial=False):
        """Reads an .npz file of `save`, pytorch-fid, clean-fid, EDM or ADM. Pictures in it (`arr_0`) are passed over.

        Args:
            path: the file.
            spatial: whether ADM's spatial statistics (`mu_s`, `sigma_s`) are read instead of the others.

        Returns:
            `FeatureStatistics`; its count is None unless `save` wrote the file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a damaged file, arrays of objects, no such statistics in it.
        """
        names = ("mu_s", "sigma_s") if spatial else ("mu", "sigma")
        arrays = read_arrays(path, (*names, "count"))
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(
                f"A file of statistics holds the arrays {names[0]} and {names[1]}. Received: {str(path)!r} without "
                f"{' and '.join(missing)}. From pictures or features, make them with `update`, then `save` them"
            )
        count = arrays.get("count") if not spatial else None
        return cls.from_moments(arrays[names[0]], arrays[names[1]], None if count is None else count[()])

    def __repr__(self):
        width = "no" if self.mean is None else f"{self.mean.size:,}"
        return f"<FeatureStatistics of {'unknown' if self.count is None else f'{self.count:,}'} rows, {width} features>"

    def _check_growth(self, width):
        if self.count is None:
            raise ValueError(
                "Statistics grow if their count is known. Received: statistics of a file that does not say it; keep "
                "new rows in a FeatureStatistics of their own"
            )
        if self.mean is None:
            self.mean, self._scatter = np.zeros(width), np.zeros((width, width))
        elif self.mean.size != width:
            raise ValueError(f"All features have one width. Received: {width} after {self.mean.size}")

    def _join(self, count, mean, scatter):
        total, shift = self.count + count, mean - self.mean
        self._scatter += scatter
        self._scatter += np.outer(shift, shift * (self.count * count / total))
        self.mean += shift * (count / total)
        self.count = total
