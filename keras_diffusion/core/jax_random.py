"""JAX's normal numbers, in NumPy: for tables that old JAX programs drew at every start and never stored.

    bits   Threefry-2x32 (20 rounds) under the key (0, seed)
             "original"        (default up to JAX 0.4)   counters 0 … n − 1, in two halves that form pairs of words
             "partitionable"   (default from JAX 0.5)    a counter (0, i) per number, its two words combined by xor
    u      23 bits as a float32 in [−1, 1)
    z      √2·erf⁻¹(u), with erf⁻¹ as a polynomial in −log(1 − u²), all in float32

"partitionable" tables are prefixes of one another; "original" ones are not, since the halves move. The exact erf⁻¹
differs from the polynomial by up to 6e-6 (relative), which frequencies of 60 amplify; with the polynomial, the numbers
equal JAX's to 2.4e-7.

References: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; M. Giles, "Approximating the erfinv
function", GPU Computing Gems 2 (2011), the single-precision version.
"""

import numpy as np

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.core.noise import threefry_2x32

JAX_STREAMS = ("partitionable", "original")

# Coefficients of erf⁻¹(u)/u, highest power first: in w − 2.5 for w < 5, in √w − 3 beyond.
_CENTRE = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 2.1858087e-04),
    *(-1.25372503e-03, -4.17768164e-03, 2.46640727e-01, 1.50140941e00),
)
_TAIL = (
    *(-2.00214257e-04, 1.00950558e-04, 1.34934322e-03, -3.67342844e-03, 5.73950773e-03),
    *(-7.6224613e-03, 9.43887047e-03, 1.00167406e00, 2.83297682e00),
)


def jax_normal(seed, size, stream="partitionable"):
    """The result of `jax.random.normal(jax.random.PRNGKey(seed), (size,))`.

    Args:
        seed: int in [0, 2³²).
        size: how many numbers.
        stream: "partitionable" (default; JAX's default from 0.5) or "original" (up to 0.4).

    Returns:
        float32 `(size,)`.

    Raises:
        ValueError: unknown stream.
    """
    check_choice("stream", stream, JAX_STREAMS, f"JAX's random numbers come in two streams: {', '.join(JAX_STREAMS)}")
    one, lowest = np.float32(1.0), np.nextafter(np.float32(-1.0), np.float32(0.0))
    unit = ((_bits(seed, size, stream) >> np.uint32(9)) | np.uint32(0x3F800000)).view("float32") - one
    u = np.maximum(lowest, unit * (one - lowest) + lowest)
    return np.float32(np.sqrt(2.0)) * _inverse_erf(u)


def _bits(seed, size, stream):
    if stream == "partitionable":
        first, second = _threefry(seed, np.zeros(size, "uint32"), np.arange(size, dtype="uint32"))
        return first ^ second
    half = (size + 1) // 2
    counter = np.arange(2 * half, dtype="uint32")
    counter[size:] = 0
    return np.concatenate(_threefry(seed, counter[:half], counter[half:]))[:size]


def _threefry(seed, x0, x1):
    """The bijection on the host, where 32-bit words wrap around."""
    key = (np.zeros(1, "uint32"), np.array([seed], "uint32"))
    rotate, wrap = lambda word, bits: (word << bits) | (word >> (32 - bits)), lambda word: word
    return threefry_2x32(key, (x0, x1), np.bitwise_xor, rotate, wrap)


def _inverse_erf(u):
    w = -np.log1p(-u * u)
    centre = w < 5
    w = np.where(centre, w - np.float32(2.5), np.sqrt(w) - np.float32(3.0))
    value = np.zeros_like(w)
    for coefficients in zip(_CENTRE, _TAIL):
        value = np.where(centre, *np.float32(coefficients)) + value * w
    return value * u
