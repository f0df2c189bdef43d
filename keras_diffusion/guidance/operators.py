"""Linear operators of inverse problems: y = A·x0 + σ_y·n, n ~ N(0, I).

An operator knows A, Aᵀ and how to solve (A·Aᵀ + ρ·I)·z = r. That is all that the posterior of a Gaussian needs:

    x0 ~ N(m, v·I)    ⇒    E[x0 | y] = m + Aᵀ·(A·Aᵀ + σ_y²/v·I)⁻¹·(y − A·m)
"""

import math

import numpy as np
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_array, check_number, check_whole
from keras_diffusion.core.broadcast import expand_to_rank


class LinearOperator(ArgumentsMixin):
    """Base class: `operator(x)` is A·x, of samples `(B, ...)`.

    A subclass writes `__call__`, `transpose` and `solve`.

    Call arguments:
        x: samples `(B, ...)`.

    Returns:
        measurements A·x, `(B, ...)`.
    """

    def __call__(self, x):
        raise NotImplementedError(f"{type(self).__name__} must implement __call__(x)")

    def transpose(self, y):
        """The transposed operator, Aᵀ·y.

        Args:
            y: measurements `(B, ...)`.

        Returns:
            tensor shaped like samples.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement transpose(y)")

    def solve(self, residual, ridge):
        """Solves (A·Aᵀ + ρ·I)·z = residual; at ρ = 0 on the range of A, with 0 outside of it.

        Args:
            residual: tensor `(B, ...)` shaped like measurements.
            ridge: ρ ≥ 0, `()` or `(B,)`.

        Returns:
            z, shaped like `residual`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement solve(residual, ridge)")

    def pseudo_inverse(self, y):
        """A⁺·y: of all x with the least |y − A·x| the smallest.

        Args:
            y: measurements `(B, ...)`.

        Returns:
            samples `(B, ...)`.
        """
        return self.transpose(self.solve(y, 0.0))


class MaskOperator(LinearOperator):
    """Keeps part of a sample: A·x = mask·x.

    Args:
        mask: array of 0 and 1, broadcastable to samples `(B, ...)`.

    Raises:
        ValueError: a mask with other values.

    Example:

    >>> operator = kd.guidance.MaskOperator([1.0, 0.0])
    >>> np.asarray(operator(kd.keras.ops.ones((1, 2))))
    array([[1., 0.]], dtype=float32)
    """

    def __init__(self, mask):
        mask = check_array("mask", mask)
        if not np.isin(mask, (0, 1)).all():
            values = np.unique(mask)[:5].tolist()
            raise ValueError(
                f"A mask is 1 where the sample is measured and 0 where it is not. Received: mask with values {values}"
            )
        self.mask = mask

    def __call__(self, x):
        return ops.convert_to_tensor(self.mask, dtype=x.dtype) * x

    def transpose(self, y):
        return self(y)

    def solve(self, residual, ridge):
        return self(residual) / (1.0 + expand_to_rank(ridge, residual))  # A·Aᵀ = A


class AveragePoolOperator(LinearOperator):
    """Makes images or sequences smaller: the mean of each block of `size` positions along every axis.

    Args:
        size: positions per axis, ≥ 1; divides the sizes of the samples `(B, H, W, C)` or `(B, L, C)`.

    Call arguments:
        x: `(B, H, W, C)`.

    Returns:
        `(B, H/size, W/size, C)`.

    Raises:
        ValueError: a size below 1, or one that does not divide an axis.

    Example:

    >>> operator = kd.guidance.AveragePoolOperator(2)
    >>> tuple(operator(kd.keras.ops.ones((1, 8, 8, 3))).shape)
    (1, 4, 4, 3)
    """

    def __init__(self, size):
        self.size = check_whole("size", size, 1, rule="`size` counts positions and must be an integer of at least 1")

    def __call__(self, x):
        axes = x.shape[1:-1]
        if any(n % self.size for n in axes):
            raise ValueError(
                f"Blocks of {self.size} positions must fill every axis. Received: x of shape {tuple(x.shape)}"
            )
        blocks = [part for n in axes for part in (n // self.size, self.size)]
        total = ops.sum(ops.reshape(x, (-1, *blocks, x.shape[-1])), axis=tuple(range(2, 2 + 2 * len(axes), 2)))
        return total / self.size ** len(axes)  # Keras's mean on JAX computes in float32 whatever the type of x

    def transpose(self, y):
        for axis in range(1, len(y.shape) - 1):
            y = ops.repeat(y, self.size, axis=axis) / self.size
        return y

    def solve(self, residual, ridge):
        positions = self.size ** (len(residual.shape) - 2)
        return residual / (1.0 / positions + expand_to_rank(ridge, residual))  # A·Aᵀ = I/positions


class MatrixOperator(LinearOperator):
    """A matrix times the flattened sample.

    Args:
        matrix: `(M, N)`, finite.
        sample_shape: shape of a sample without the batch axis, of N numbers. Default `(N,)`.

    Call arguments:
        x: `(B, *sample_shape)`.

    Returns:
        `(B, M)`.

    Raises:
        ValueError: a matrix of another rank, or a shape of another size.

    Example:

    >>> operator = kd.guidance.MatrixOperator([[1.0, 1.0]])
    >>> float(operator(kd.keras.ops.ones((1, 2)))[0, 0])
    2.0
    """

    def __init__(self, matrix, sample_shape=None):
        matrix = check_array("matrix", matrix, "float64")
        if matrix.ndim != 2:
            raise ValueError(
                f"A matrix has two axes, measurements and numbers of a sample. Received: matrix of shape {matrix.shape}"
            )
        self.matrix, self.sample_shape = matrix, (matrix.shape[1],) if sample_shape is None else tuple(sample_shape)
        if math.prod(self.sample_shape) != matrix.shape[1]:
            raise ValueError(
                "The matrix has a column for every number of a sample. Received: "
                f"sample_shape={self.sample_shape}, matrix of shape {matrix.shape}"
            )
        left, values, _ = np.linalg.svd(matrix, full_matrices=False)
        in_range = values > values.max(initial=0.0) * max(matrix.shape) * np.finfo("float64").eps
        self.left, self.squares = left[:, in_range], values[in_range] ** 2  # A·Aᵀ = U·S²·Uᵀ

    def __call__(self, x):
        return ops.matmul(
            ops.reshape(x, (-1, self.matrix.shape[1])), ops.convert_to_tensor(self.matrix.T, dtype=x.dtype)
        )

    def transpose(self, y):
        return ops.reshape(ops.matmul(y, ops.convert_to_tensor(self.matrix, dtype=y.dtype)), (-1, *self.sample_shape))

    def solve(self, residual, ridge):
        left, squares = (ops.convert_to_tensor(v, dtype=residual.dtype) for v in (self.left, self.squares))
        # Outside of the range of A a ridge would leave something, which Aᵀ makes 0 in any case.
        return ops.matmul(ops.matmul(residual, left) / (squares + expand_to_rank(ridge, residual)), ops.transpose(left))


def check_problem(operator, noise_std):
    """Raises ValueError unless the operator is linear and the noise not negative."""
    if not isinstance(operator, LinearOperator):
        raise ValueError(
            "This method solves with the measurement's operator, which must be a `LinearOperator`. "
            f"Received: operator={operator!r}. Use MaskOperator, AveragePoolOperator, "
            "MatrixOperator or your own, or DPS for any function"
        )
    check_number("noise_std", noise_std, 0, rule="`noise_std` is a standard deviation and must not be negative")
